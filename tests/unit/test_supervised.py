"""The classifier experiment, on a toy network unless the real one is meant."""

import logging
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scangan.arms import ARMS, find_arm
from scangan.config import Classifier
from scangan.data import store
from scangan.data.split import repeat_images
from scangan.data.store import ImageSet, StoredImages, read_image_set, write_image_set
from scangan.errors import DataError, TrainingError
from scangan.progress import Progress
from scangan.training import supervised
from scangan.training.checkpoint import CheckpointStore
from scangan.training.supervised import (
    LabelledImages,
    class_weights,
    order_with_share,
    pixels_on,
    predict,
    train_classifier,
)


def image_set(positives, negatives, name, seed=0, size=16):
    """Positive images are bright, negative ones dark, both noisy."""
    random = np.random.default_rng(seed)
    labels = ["haemorrhage"] * positives + ["normal"] * negatives
    level = np.where(np.array(labels) == "haemorrhage", 0.65, 0.35)[:, None, None, None]
    images = np.clip(level + random.normal(0, 0.1, (len(labels), 1, size, size)), 0, 1).astype(np.float32)
    ids = [f"{name}{number}" for number in range(len(labels))]
    return ImageSet(images, pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels}))


REAL, VALIDATION, SYNTHETIC = image_set(13, 8, "r"), image_set(6, 6, "v", 1), image_set(20, 24, "s", 2)


@pytest.fixture
def toy(monkeypatch):
    """A small network with all that has a state: batch norm's statistics and dropout's random numbers."""

    def build(*_):
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(4, 1), nn.Flatten(0))

    monkeypatch.setattr(supervised, "build_classifier", build)


def settings(**values):
    return Classifier(
        **{"positive": "haemorrhage", "steps": 24, "batch_size": 4, "learning_rate": 0.01, "validate_every": 5} | values
    )


def train(arm="real", values=None, **options):
    options = {"real_train": REAL, "validation": VALIDATION, "added": SYNTHETIC, "seed": 0} | options
    return train_classifier(find_arm(arm), settings=settings(**(values or {})), **options)


class Interrupted(Exception):
    pass


def interrupted_at(step):
    """A progress that ends the training like a power cut, after `step` steps and before their checkpoint."""

    class Interrupting(Progress):
        def update(self, steps, images, **losses):
            super().update(steps, images, **losses)
            if self.steps == step:
                raise Interrupted

    return Interrupting


class Counting(Progress):
    counts: list[int]

    def update(self, steps, images, **losses):
        super().update(steps, images, **losses)
        Counting.counts.append(images)


def assert_same(first, second):
    assert first.state_dict.keys() == second.state_dict.keys()
    for key, value in first.state_dict.items():
        assert torch.equal(value, second.state_dict[key]), key
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)


def test_learns_what_is_separable_and_gives_the_probability_of_the_positive_class(toy):
    trained = train(values={"steps": 200, "learning_rate": 0.05})
    test = image_set(10, 10, "t", 3)
    probability = predict(trained.model, test, batch_size=7)
    assert probability.dtype == np.float32
    assert (probability[:10] > 0.9).all()
    assert (probability[10:] < 0.1).all()
    assert np.allclose(probability, predict(trained.model, test, batch_size=20), atol=1e-6)


def stored(folder, name, images):
    """The same set, to half a step of 16 bit, as it is read."""
    paths = folder / f"{name}.zarr.zip", folder / f"{name}.parquet"
    write_image_set(*paths, ImageSet(images.images, images.manifest.assign(source="", data="phantom")))
    return read_image_set(*paths)


@pytest.mark.parametrize("arm", ["real+classical+synthetic", "synthetic-then-real"])
def test_images_that_stay_in_their_files_train_the_same(toy, tmp_path, monkeypatch, arm):
    sets = {"real_train": REAL, "validation": VALIDATION, "added": SYNTHETIC}
    held = {name: stored(tmp_path, name, images) for name, images in sets.items()}
    monkeypatch.setattr(store, "HELD_BYTES", 0)
    lazy = {name: stored(tmp_path, name, images) for name, images in sets.items()}
    assert isinstance(lazy["added"].images, StoredImages)
    trained, again = train(arm, **held), train(arm, **lazy)
    assert_same(trained, again)
    np.testing.assert_array_equal(*(predict(trained.model, each["validation"], 5) for each in (held, lazy)))
    # What a GPU would hold: pixels, which become the same images.
    pixels = pixels_on(lazy["added"].images, torch.device("cpu"))
    assert pixels.dtype == torch.int16
    positions = torch.tensor([3, 0, 40, 3])
    taken = LabelledImages((torch.from_numpy(held["real_train"].images), pixels), torch.zeros(65)).take(
        torch.cat([positions + 21, positions % 21]), positions
    )
    expected = [held["added"].images[positions], held["real_train"].images[positions % 21]]
    np.testing.assert_array_equal(taken, np.concatenate(expected))


def test_half_precision_is_for_training_alone(toy, monkeypatch):
    seen = []
    build = supervised.build_classifier

    def watched(*arguments):
        model = build(*arguments)
        model[0].register_forward_hook(lambda layer, inputs, output: seen.append((layer.training, output.dtype)))
        return model

    monkeypatch.setattr(supervised, "build_classifier", watched)
    trained = train(values={"precision": "bf16-mixed", "steps": 200, "learning_rate": 0.05})
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert all(weights.dtype != torch.bfloat16 for weights in trained.state_dict.values())
    probability = predict(trained.model, image_set(10, 10, "t", 3), batch_size=7)
    assert (probability[:10] > 0.9).all()
    assert (probability[10:] < 0.1).all()


def test_the_weights_are_those_of_the_model(toy):
    trained = train()
    for key, value in trained.model.state_dict().items():
        assert torch.equal(value.cpu(), trained.state_dict[key])


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_the_same_steps(toy, arm):
    Counting.counts = []
    history = train(arm, {"patience": 100}, progress=Counting).history
    assert Counting.counts == [4] * 24
    assert history["step"].iloc[-1] == 24
    name = "real" if arm == "real+classical" else arm
    phases = ["synthetic", "real"] if arm == "synthetic-then-real" else [name]
    assert list(history["phase"].unique()) == phases


def test_the_arms_differ_and_the_seed_repeats_them(toy):
    copies = repeat_images(REAL, {"haemorrhage": 20, "normal": 24}, 0)
    added = {arm: copies if ARMS[arm].reads_copies else SYNTHETIC for arm in ARMS}
    weights = {arm: train(arm, added=added[arm]).state_dict["0.weight"] for arm in ARMS}
    for arm in ARMS:
        assert torch.equal(train(arm, added=added[arm]).state_dict["0.weight"], weights[arm])
    assert len({tuple(value.flatten().tolist()) for value in weights.values()}) == len(ARMS)
    assert not torch.equal(train(seed=1).state_dict["0.weight"], weights["real"])


def test_fine_tuning_has_its_own_rate_and_a_fresh_optimiser(toy, monkeypatch):
    made = []

    class Adam(torch.optim.Adam):
        def __init__(self, parameters, **options):
            super().__init__(parameters, **options)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    train("synthetic-then-real", {"pretrain_share": 0.25, "fine_tune_rate": 1e-4})
    assert [(adam.defaults["lr"], next(iter(adam.state.values()))["step"].item()) for adam in made] == [
        (0.01, 6),
        (1e-4, 18),
    ]


def test_early_stopping_keeps_the_best_weights(toy, monkeypatch):
    seen = []
    true_logits = supervised.logits_of

    def worse_after_the_second(model, *arguments):
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return true_logits(model, *arguments) * 0 + (len(seen) - 2) ** 2  # balanced: any constant but 0 is worse

    monkeypatch.setattr(supervised, "logits_of", worse_after_the_second)
    trained = train(values={"steps": 1000, "patience": 3})
    assert trained.history["step"].tolist() == [5, 10, 15, 20, 25]
    assert trained.history["validation_loss"].idxmin() == 1
    assert trained.history["validation_loss"].min() == pytest.approx(math.log(2))
    for key, value in trained.state_dict.items():
        assert torch.equal(value, seen[1][key])
    assert not torch.equal(seen[4]["0.weight"], seen[1]["0.weight"])


def test_history_holds_the_mean_training_loss(toy, monkeypatch):
    losses = []

    class Recording(Progress):
        def update(self, steps, images, **shown):
            losses.append(shown["loss"].item())

    history = train(values={"steps": 12}, progress=Recording).history
    expected = [np.mean(losses[:5]), np.mean(losses[5:10]), np.mean(losses[10:])]
    assert history["training_loss"].tolist() == pytest.approx(expected)


def test_class_weights_closed_form():
    weights = class_weights(torch.tensor([1.0, 0, 0, 0]), "toy")
    assert weights.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert weights.mean() == pytest.approx(1)


def test_class_weights_are_of_what_is_drawn():
    """A quarter of the draws is of 2 positive images, the rest of 6 of which a third is positive: half in all."""
    targets = torch.tensor([1.0, 1, 1, 0, 0, 1, 0, 0])
    weights = class_weights(targets, "toy", real=2, real_share=0.25)
    assert weights.tolist() == pytest.approx([1] * 8)
    weights = class_weights(targets, "toy", real=2, real_share=0.7)  # 0.7 + 0.3 / 3 = 0.8 of the draws are positive
    assert weights.tolist() == pytest.approx([1 / 1.6 if target else 1 / 0.4 for target in targets])
    drawn = torch.tensor([0.7 / 2] * 2 + [0.3 / 6] * 6, dtype=torch.float64)
    assert (weights * drawn).sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("real", "others", "share", "batch_size"),
    [(8, 8, 0.5, 4), (5, 40, 0.5, 4), (40, 5, 0.5, 16), (7, 13, 0.3, 5), (1, 9, 0.25, 2), (3, 100, 0.99, 8)],
)
def test_batches_have_their_share_of_real_images(real, others, share, batch_size):
    order = order_with_share(real, others, share, batch_size, torch.Generator().manual_seed(3))
    batches = max(math.ceil(real / share / batch_size), math.ceil(others / (1 - share) / batch_size))
    assert len(order) == batches * batch_size
    found = (order.reshape(batches, batch_size) < real).sum(1)
    assert ((found - share * batch_size).abs() <= 1).all()
    assert abs(int(found.sum()) - share * len(order)) <= 0.5
    for first, images in ((0, real), (real, others)):
        of_part = order[(order >= first) & (order < first + images)] - first
        whole = len(of_part) // images
        # Each time all of them, once, before one comes again: all are in an epoch.
        assert whole >= 1
        for turn in of_part[: whole * images].reshape(whole, images):
            assert sorted(turn.tolist()) == list(range(images))
        assert len(set(of_part[whole * images :].tolist())) == len(of_part) % images


def test_half_of_each_batch_is_real_where_it_is_asked_for(toy, monkeypatch):
    """Real images are whole numbers below, the others above 1000."""
    shown = []
    monkeypatch.setattr(supervised, "build_classifier", lambda *_: Watched(shown))
    sets = [image_set(13, 8, "r"), image_set(200, 240, "s", 2)]
    for each, level in zip(sets, (0, 1000), strict=True):
        each.images[:] = (level + np.arange(len(each)))[:, None, None, None]
    train("real+synthetic", {"steps": 30, "real_share": 0.5, "learning_rate": 1e-9}, real_train=sets[0], added=sets[1])
    levels = torch.stack([images.mean((1, 2, 3)) for images in shown])
    assert ((levels < 1000).sum(1) == 2).all()
    real = levels[levels < 1000].tolist()
    assert sorted(real[:21]) == sorted(real[21:42]) == list(range(21))
    shown.clear()
    train("real", {"steps": 30, "real_share": 0.5, "learning_rate": 1e-9}, real_train=sets[0])  # no union
    alone = torch.stack([images.mean((1, 2, 3)) for images in shown])
    shown.clear()
    train("real", {"steps": 30, "learning_rate": 1e-9}, real_train=sets[0])
    assert torch.equal(torch.stack([images.mean((1, 2, 3)) for images in shown]), alone)


def test_epochs_are_without_replacement_and_drop_the_incomplete_batch(toy):
    phase = supervised.Phase(
        "real", supervised.LabelledImages((torch.zeros(10, 1, 8, 8),), torch.arange(10) % 2.0), 9, 0.1
    )
    training = supervised._PhaseTraining(nn.Linear(1, 1), phase, phase.data, settings(), 0, "toy")
    epochs = [torch.cat([training._next_batch(), training._next_batch()]).tolist() for _ in range(3)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_set_smaller_than_a_batch_is_one_batch(toy):
    Counting.counts = []
    train(values={"batch_size": 64, "steps": 3}, progress=Counting)
    assert Counting.counts == [21] * 3


@pytest.mark.parametrize("arm", ["real+classical", "synthetic-then-real"])
@pytest.mark.parametrize("moment", [1, 5, 12, 13, 18, 24])
def test_an_interrupted_training_goes_on_to_the_bit(toy, tmp_path, arm, moment):
    """Moments: the first step, a validation, the last step of the pre-training, the first after it, the last of all."""
    whole = train(arm)
    with pytest.raises(Interrupted):
        train(arm, resume_folder=tmp_path, checkpoint_seconds=0, progress=interrupted_at(moment))
    torch.rand(100)  # another process would have other random numbers
    assert_same(train(arm, resume_folder=tmp_path, checkpoint_seconds=0), whole)
    assert_same(train(arm, resume_folder=tmp_path, checkpoint_seconds=0), whole)  # nothing left to do


@pytest.mark.parametrize("moment", [1, 13, 18, 24])
def test_batches_with_a_share_go_on_to_the_bit(toy, tmp_path, moment):
    """An epoch is 22 steps: 44 images of 2 a batch. So the last moment is in the second one."""
    values = {"real_share": 0.5, "batch_size": 4}
    whole = train("real+synthetic", values)
    with pytest.raises(Interrupted):
        train("real+synthetic", values, resume_folder=tmp_path, checkpoint_seconds=0, progress=interrupted_at(moment))
    assert_same(train("real+synthetic", values, resume_folder=tmp_path, checkpoint_seconds=0), whole)
    assert not torch.equal(whole.state_dict["0.weight"], train("real+synthetic").state_dict["0.weight"])


def test_steps_of_a_phase_that_ends_early_are_not_counted(toy, tmp_path):
    """Of 60 steps the first phase may have 30, but its loss rises from the start."""
    values = {"steps": 60, "learning_rate": 0.5, "validate_every": 1, "patience": 2}
    Counting.counts = []
    whole = train("synthetic-then-real", values, progress=Counting)
    first = whole.history["phase"] == "synthetic"
    assert first.sum() < 30
    assert whole.history["step"].tolist() == list(range(1, len(Counting.counts) + 1))
    options = {"resume_folder": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(Interrupted):
        train("synthetic-then-real", values, progress=interrupted_at(int(first.sum()) + 2), **options)
    assert_same(train("synthetic-then-real", values, **options), whole)


def test_early_stopping_can_count_passes(toy):
    """One validation after each pass over what the arm has, whatever its number of images."""
    values = {"steps": 30, "validate_every": "pass", "patience": 100}
    for arm, images in (("real", REAL), ("synthetic", SYNTHETIC)):
        a_pass = len(images.manifest) // 4
        steps = train(arm, values).history["step"].tolist()
        assert steps == [*range(a_pass, 30, a_pass), 30], arm


def test_a_damaged_checkpoint_goes_on_from_the_one_before(toy, tmp_path):
    whole = train()
    with pytest.raises(Interrupted):
        train(resume_folder=tmp_path, checkpoint_seconds=0, progress=interrupted_at(17))
    newest = max(tmp_path.glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    assert_same(train(resume_folder=tmp_path), whole)


def test_early_stopping_is_resumed_too(toy, tmp_path):
    values = {"steps": 60, "learning_rate": 0.5, "validate_every": 1, "patience": 2}
    whole = train(values=values)
    assert len(whole.history) < 60
    options = {"resume_folder": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(Interrupted):
        train(values=values, progress=interrupted_at(len(whole.history) - 1), **options)
    assert_same(train(values=values, **options), whole)
    assert_same(train(values=values, **options), whole)


def test_resnet50_is_resumed_to_the_bit(tmp_path):
    sets = {"real_train": image_set(3, 3, "r", size=32), "validation": image_set(2, 2, "v", size=32)}
    values = {"steps": 4, "validate_every": 2, "learning_rate": 0.001, "dropout": 0.5}
    whole = train("real+classical", values, **sets)
    with pytest.raises(Interrupted):
        train(
            "real+classical",
            values,
            **sets,
            resume_folder=tmp_path,
            checkpoint_seconds=0,
            progress=interrupted_at(3),
        )
    assert CheckpointStore(tmp_path).load_latest()["training"]["step"] == 2
    assert_same(train("real+classical", values, **sets, resume_folder=tmp_path, checkpoint_seconds=100), whole)


def test_no_checkpoint_before_its_time(toy, tmp_path):
    train(resume_folder=tmp_path / "resume", checkpoint_seconds=1000)
    assert not (tmp_path / "resume").exists()


def test_a_loss_that_is_no_number_ends_in_one_line(toy):
    broken = image_set(13, 8, "r")
    broken.images[:] = np.nan
    with pytest.raises(TrainingError, match=r"^classifier real seed 3: real: training loss nan at step 1; [^\n]*$"):
        train(real_train=broken, seed=3)


def test_a_patient_in_both_sets_is_refused(toy):
    shared = ImageSet(
        VALIDATION.images, VALIDATION.manifest.assign(patient_id=["r5", *VALIDATION.manifest["patient_id"][1:]])
    )
    with pytest.raises(DataError, match="patient_id: found 'r5' in training and validation"):
        train(validation=shared)


def test_a_set_without_a_class_is_refused(toy):
    with pytest.raises(DataError, match="real seed 0: real: label: found 5 positive and 0 negative images"):
        train(real_train=image_set(5, 0, "r"))
    with pytest.raises(DataError, match="validation: label: found 0 positive"):
        train(validation=image_set(0, 5, "v"))


def test_an_arm_without_its_synthetic_images_is_refused(toy):
    with pytest.raises(DataError, match=r"arm real\+synthetic: found no synthetic images"):
        train("real+synthetic", added=None)
    with pytest.raises(DataError, match=r"arm real\+copies: found no copies, allowed: some of both classes"):
        train("real+copies", added=None)


def test_the_weights_of_the_classes_are_logged(toy, caplog):
    with caplog.at_level(logging.INFO, logger="scangan"):
        train()
    assert "21 images, 13 positive (weight in the loss 0.808) and 8 negative (1.312)" in caplog.text


def test_of_real_and_synthetic_images_only_the_real_ones_are_augmented(toy, monkeypatch):
    """Augmentation that blackens: in the arm with both, what is not black is synthetic."""
    seen = []
    monkeypatch.setattr(supervised.ClassicalAugmentation, "__call__", lambda self, images, generator: 0 * images)
    advance = supervised._PhaseTraining.advance

    def watch(training):
        loss = advance(training)
        seen.append(training.phase)
        return loss

    monkeypatch.setattr(supervised._PhaseTraining, "advance", watch)
    shown = []
    monkeypatch.setattr(supervised, "build_classifier", lambda *_: Watched(shown))
    train("real+classical+synthetic", {"steps": 16, "validate_every": 16})
    phase = seen[0]
    assert (phase.name, phase.augmented) == ("real+classical+synthetic", range(len(REAL.manifest)))
    assert len(phase.data.targets) == len(REAL.manifest) + len(SYNTHETIC.manifest)
    first = phase.data.take(torch.arange(phase.augmented.stop), torch.arange(0))
    assert torch.equal(first, torch.from_numpy(REAL.images))
    black = torch.cat([images.flatten(1).amax(1) == 0 for images in shown[:16]])
    # 16 batches of 4: nearly all of the 65 images once.
    assert 15 <= int(black.sum()) <= len(phase.augmented)
    assert len(black) == 64


@pytest.mark.parametrize(("arm", "others"), [("real+classical", 0), ("real+classical+synthetic", 44)])
def test_transformed_images_can_stand_beside_the_real_ones(toy, arm, others):
    """As many of each class as are asked for, after the real ones, which stay as they are."""
    to_data = partial(supervised.LabelledImages.of, positive="haemorrhage", device=torch.device("cpu"))
    chosen = settings(classical={"images_per_class": 30})
    real = to_data(REAL)
    (phase,) = supervised.phases_of(find_arm(arm), real, to_data(SYNTHETIC) if others else None, chosen)
    assert len(phase.data.targets) == 21 + 60 + others
    assert (phase.augmented, phase.real) == (range(21, 81), 81)
    assert phase.data.targets[21:81].sum() == 30
    places = torch.arange(len(phase.data.targets))
    shown = phase.data.take(places, places[:0])
    torch.testing.assert_close(shown[:21], torch.from_numpy(REAL.images))
    torch.testing.assert_close(torch.cat(list(phase.data.batches(7))), shown)
    torch.testing.assert_close(shown[81:], torch.from_numpy(SYNTHETIC.images)[: others or 0])
    # Each real image of a class is there as often as any other, to within once: 30 of 13, and 30 of 8.
    alike = (shown[21:81].flatten(1)[:, None] == shown[:21].flatten(1)[None]).all(2).sum(0)
    assert sorted(set(alike[:13].tolist())) == [2, 3]
    assert sorted(set(alike[13:].tolist())) == [3, 4]


class Watched(nn.Module):
    """Keeps the batches that it is shown in training."""

    def __init__(self, shown):
        super().__init__()
        self.shown, self.last = shown, nn.Linear(1, 1)

    def forward(self, images):
        if self.training:
            self.shown.append(images.detach())
        return self.last(images.mean((1, 2, 3), keepdim=False)[:, None]).squeeze(1)


def test_an_arm_of_the_sweep_is_real_and_synthetic(toy):
    assert_same(train("real+synthetic-x2"), train("real+synthetic"))
