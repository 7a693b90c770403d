"""The detector: SqueezeNet in 3D on volume sets, by the engine of the classifiers."""

import itertools
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scangan.arms import find_arm
from scangan.config import Classifier
from scangan.data.split import draw_share, repeat_images
from scangan.data.volume_set import VolumeSet, VolumeWriter, read_volume_set
from scangan.errors import ConfigError, DataError
from scangan.models.catalogue import write_weights
from scangan.progress import Progress
from scangan.training import detector
from scangan.training.detector import (
    LabelledVolumes,
    mirror,
    predict_detector,
    predict_volumes,
    read_detector,
    scale_volumes,
    train_detector,
)

SIZE, WINDOW = 32, (-1000.0, 400.0)


def volume_set(volumes, name, seed):
    """Noise around -850 HU; in every second volume two bright spheres of 10 voxels."""
    random = np.random.default_rng(seed)
    hounsfield = random.normal(-850, 60, (volumes, SIZE, SIZE, SIZE))
    axis = np.arange(SIZE)
    for volume in hounsfield[::2]:
        for centre in random.uniform(6, SIZE - 7, (2, 3)):
            z, y, x = (axis - place for place in centre)
            volume[z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= 5**2] += 900
    ids = [f"{name}{number}" for number in range(volumes)]
    labels = ["nodules", "none"] * (volumes // 2)
    manifest = pd.DataFrame({"volume_id": ids, "patient_id": ids, "label": labels, "diameter_mm": np.nan})
    return VolumeSet.hold(hounsfield.round().astype(np.int16), manifest)


@pytest.fixture(scope="module")
def sets():
    return {
        "real_train": volume_set(12, "r", 0),
        "validation": volume_set(6, "v", 1),
        "added": volume_set(16, "s", 2),
    }


def settings(**values):
    plain = {"positive": "nodules", "steps": 6, "batch_size": 4, "learning_rate": 1e-3, "validate_every": 2}
    return Classifier(**plain | values)


def train(sets, arm="real", values=None, seed=0, **options):
    return train_detector(
        find_arm(arm), **sets, settings=settings(**(values or {})), window=WINDOW, seed=seed, **options
    )


class Interrupted(Exception):
    pass


def interrupted_at(step):
    class Interrupting(Progress):
        def update(self, steps, images, **losses):
            super().update(steps, images, **losses)
            if self.steps == step:
                raise Interrupted

    return Interrupting


class Watched(nn.Module):
    """A network of one weight, quickly trained; keeps the batches that it is shown in training."""

    shown: list[torch.Tensor]

    def __init__(self, *_, **__):
        super().__init__()
        self.last = nn.Linear(1, 1)

    def forward(self, volumes):
        if self.training:
            Watched.shown.append(volumes.detach())
        return self.last(volumes.mean((1, 2, 3, 4))[:, None]).squeeze(1)


@pytest.fixture
def watched(monkeypatch):
    Watched.shown = []
    monkeypatch.setattr(detector, "SqueezeNet3d", Watched)
    return Watched.shown


def assert_same(first, second):
    assert first.state_dict.keys() == second.state_dict.keys()
    for key, value in first.state_dict.items():
        assert torch.equal(value, second.state_dict[key]), key
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)


def write(volumes, folder):
    """The set as two files on the disk."""
    paths = []
    for shard, chosen in enumerate(np.array_split(np.arange(len(volumes)), 2)):
        part = volumes.select(chosen)
        paths.append((folder / f"{shard}.zarr.zip", folder / f"{shard}.parquet"))
        with VolumeWriter(*paths[-1], SIZE) as writer:
            for hounsfield, row in zip(part, part.manifest.to_dict("records"), strict=True):
                facts = {"source": "toy", "version": "mixed", "data": "phantom", "spacing_mm": 1.0}
                writer.write(hounsfield, row | facts)
    return read_volume_set(*zip(*paths, strict=True))


def test_learns_where_the_spheres_are_and_its_weights_are_read_again(sets, tmp_path):
    trained = train(sets, values={"steps": 24, "validate_every": 8})
    test = volume_set(10, "t", 3)
    probability = predict_volumes(trained.model, test, WINDOW, batch_size=4)
    assert probability.dtype == np.float32
    assert probability[::2].min() > probability[1::2].max()
    write_weights(tmp_path / "weights.safetensors", trained.state_dict)
    again = read_detector(tmp_path / "weights.safetensors")
    assert np.array_equal(predict_volumes(again, test, WINDOW, batch_size=4), probability)

    sized = VolumeSet.hold(test.read(np.arange(10)), test.manifest.assign(diameter_mm=10.0))
    table = predict_detector(again, {"test": test, "sized": sized}, WINDOW, batch_size=4)
    assert list(table) == ["image_id", "patient_id", "label", "split", "diameter_mm", "probability"]
    assert table.split.tolist() == ["test"] * 10 + ["sized"] * 10
    assert table.image_id.tolist() == test.manifest.volume_id.tolist() * 2
    assert table.diameter_mm.isna().tolist() == [True] * 10 + [False] * 10
    assert np.array_equal(table.probability[10:], probability)


@pytest.mark.parametrize(("arm", "moment"), [("real", 5), ("synthetic-then-real", 3), ("synthetic-then-real", 4)])
def test_a_killed_training_goes_on_to_the_bit(sets, tmp_path, arm, moment):
    """Moments: within an epoch, the last step of the pre-training, the first after it."""
    whole = train(sets, arm)
    with pytest.raises(Interrupted):
        train(sets, arm, resume_folder=tmp_path, checkpoint_seconds=0, progress=interrupted_at(moment))
    torch.rand(100)  # another process would have other random numbers
    assert_same(train(sets, arm, resume_folder=tmp_path, checkpoint_seconds=0), whole)


def test_volumes_read_from_the_disk_give_the_weights_of_those_in_memory(sets, tmp_path):
    on_disk = {}
    for name, volumes in sets.items():
        (tmp_path / name).mkdir()
        on_disk[name] = write(volumes, tmp_path / name)
    values = {"dropout": 0.2}
    assert_same(train(on_disk, "real+synthetic", values), train(sets, "real+synthetic", values))


def test_every_arm_sees_its_own_volumes_and_all_of_them(sets, watched):
    whole = {name: scale_volumes(torch.from_numpy(volumes.read(np.arange(len(volumes)))), WINDOW)
             for name, volumes in sets.items()}  # fmt: skip
    expected = {
        "real": [*whole["real_train"]],
        "synthetic": [*whole["added"]],
        "synthetic-x2": [*whole["added"]],
        "real+synthetic": [*whole["real_train"], *whole["added"]],
    }
    for arm, volumes in expected.items():
        watched.clear()
        train(sets, arm, {"steps": len(volumes) // 4, "validate_every": 100, "mirror": False})
        sums = sorted(float(volume.double().sum()) for batch in watched for volume in batch)
        assert sums == sorted(float(volume.double().sum()) for volume in volumes), arm  # an epoch: each of them once


def test_half_of_each_batch_of_volumes_is_real_where_it_is_asked_for(sets, watched):
    """And copies are real volumes, so many of each class as were asked for."""
    real = {
        float(v.double().sum()) for v in scale_volumes(torch.from_numpy(sets["real_train"].read(range(12))), WINDOW)
    }
    values = {"steps": 6, "real_share": 0.5}
    train(sets, "real+synthetic", values | {"mirror": False})
    batches = [[float(volume.double().sum()) for volume in batch] for batch in watched]
    assert [sum(each in real for each in batch) for batch in batches] == [2] * 6
    assert {each for batch in batches for each in batch} > real
    watched.clear()
    copies = repeat_images(sets["real_train"], {"nodules": 8, "none": 8}, 0)
    assert copies.manifest["label"].value_counts().to_dict() == {"nodules": 8, "none": 8}
    train(sets | {"added": copies}, "real+copies", {"steps": 7, "mirror": False})
    assert {float(volume.double().sum()) for batch in watched for volume in batch} == real


def test_training_volumes_are_mirrored_along_every_axis_and_nothing_else(sets, watched):
    plain = {float(v.sum()): v for v in scale_volumes(torch.from_numpy(sets["real_train"].read(range(12))), WINDOW)}
    train(sets, values={"steps": 60, "validate_every": 60, "patience": 1})
    ways = [axes for number in range(4) for axes in itertools.combinations((1, 2, 3), number)]
    seen = dict.fromkeys(ways, 0)
    for volume in torch.cat(watched):
        original = plain[min(plain, key=lambda total: abs(total - float(volume.sum())))]
        [way] = [axes for axes in ways if torch.equal(volume, original.flip(axes))]
        seen[way] += 1
    assert sum(seen.values()) == 240
    assert min(seen.values()) > 10  # 30 each; standard deviation 5


def test_the_seed_decides_the_mirroring():
    volumes = torch.arange(2 * 4**3, dtype=torch.float32).view(2, 1, 4, 4, 4)
    for seed in range(8):
        chosen = torch.rand(2, 3, generator=torch.Generator().manual_seed(seed)) < 0.5
        seen = mirror(volumes, torch.Generator().manual_seed(seed))
        for volume, original, axes in zip(seen, volumes, chosen, strict=True):
            assert torch.equal(volume, original.flip((axes.nonzero().flatten() + 1).tolist()))


def test_the_window_becomes_0_to_1():
    hounsfield = torch.tensor([-2000, -1000, -300, 400, 3000], dtype=torch.int16)[:, None, None, None]
    assert scale_volumes(hounsfield, WINDOW).flatten().tolist() == [0, 0, 0.5, 1, 1]


def test_a_batch_is_read_once_and_in_another_thread_while_the_one_before_is_used(sets):
    class Recording:
        manifest, concatenate = sets["real_train"].manifest, VolumeSet.concatenate

        def __init__(self):
            self.read_at = []
            self.arrived = threading.Semaphore(0)

        def read(self, positions):
            self.read_at.append((positions[0], threading.current_thread() is threading.main_thread()))
            self.arrived.release()
            return sets["real_train"].read(positions)

    recording = Recording()
    data = LabelledVolumes.of(recording, "nodules", WINDOW, torch.device("cpu"))
    data.take(torch.tensor([3, 1]), following=torch.tensor([5, 3]))
    for _ in range(4):
        assert recording.arrived.acquire(timeout=5)  # the following two arrive without being asked for
    assert sorted(recording.read_at) == [(1, False), (3, False), (3, False), (5, False)]
    taken = data.take(torch.tensor([5, 3]), following=torch.tensor([]))
    assert len(recording.read_at) == 4
    expected = scale_volumes(torch.from_numpy(sets["real_train"].read([5, 3])), WINDOW)
    assert torch.equal(taken, expected)
    assert torch.equal(
        torch.cat([*data.batches(5)]), scale_volumes(torch.from_numpy(sets["real_train"].read(range(12))), WINDOW)
    )


def test_a_damaged_file_ends_the_training_in_a_line_that_names_it(sets, tmp_path):
    damaged = write(sets["real_train"], tmp_path)
    path = tmp_path / "1.zarr.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1\.zarr\.zip: r\d+: found"):
        train(sets | {"real_train": damaged}, values={"steps": 3})


def test_a_patient_in_both_sets_is_refused(sets):
    shared = sets["validation"].select(np.arange(6))
    shared.manifest.loc[2, "patient_id"] = "r7"
    with pytest.raises(DataError, match="patient_id: found 'r7' in training and validation"):
        train(sets | {"validation": shared})


def test_a_set_without_a_class_is_refused(sets):
    one_class = sets["real_train"].select(np.arange(0, 12, 2))
    with pytest.raises(DataError, match="detector real seed 0: real: label: found 6 positive and 0 negative"):
        train(sets | {"real_train": one_class})


def test_volumes_of_another_size_are_refused(sets):
    small = VolumeSet.hold(sets["added"].read(range(16))[:, :17, :17, :17], sets["added"].manifest)
    with pytest.raises(DataError, match=r"size: found 32 .*, 17 .*, allowed: one size"):
        train(sets | {"added": small}, "real+synthetic")


def test_classical_augmentation_and_missing_synthetic_volumes_are_refused(sets):
    with pytest.raises(ConfigError, match=r"arms: found real\+classical, allowed for volumes"):
        train(sets, "real+classical")
    with pytest.raises(DataError, match="arm synthetic: found no synthetic"):
        train(sets | {"added": None}, "synthetic")


def test_weights_of_another_network_are_refused(sets, tmp_path):
    save_file({"a": torch.zeros(1)}, path := tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match=r"weights\.safetensors: a: found float32 \[1\], allowed: none; .*run again$"):
        read_detector(path)


def test_a_share_of_volumes_is_balanced_like_the_real_ones_and_more_hold_the_fewer(sets):
    half, whole = (draw_share(sets["added"], sets["real_train"], share, seed=5) for share in (0.5, 1))
    assert half.manifest.label.value_counts().to_dict() == {"nodules": 3, "none": 3}
    assert whole.manifest.label.value_counts().to_dict() == {"nodules": 6, "none": 6}
    assert set(half.manifest.volume_id) < set(whole.manifest.volume_id)
    place = sets["added"].manifest.volume_id.tolist().index(half.manifest.volume_id[4])
    assert np.array_equal(half.read([4]), sets["added"].read([place]))
    with pytest.raises(DataError, match="takes 12 synthetic images of class nodules; allowed: what 8 suffice for"):
        draw_share(sets["added"], sets["real_train"], 2, seed=5)
