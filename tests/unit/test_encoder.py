"""The network of one's own knows images again through changes, resumes to the bit, and judges nobody it knows."""

import numpy as np
import pandas as pd
import pytest
import torch

from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.metrics.encoder import (
    BLUR,
    EDGE,
    _blur,
    change,
    contrastive_loss,
    half_of_patients,
    read_encoder,
    train_encoder,
    write_encoder,
)
from scangan.progress import Progress


def shapes(count, first=0):
    """Images of smooth random shapes."""
    from scipy.ndimage import gaussian_filter

    noise = np.stack([np.random.default_rng(first + number).random((EDGE, EDGE)) for number in range(count)])
    smooth = gaussian_filter(noise, (0, 3, 3), mode="wrap")
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    names = [f"p{first + number}" for number in range(count)]
    images = ((smooth - low) / (high - low)).astype(np.float32)[:, None]
    return ImageSet(images, pd.DataFrame({"image_id": names, "patient_id": names}))


def weights_of(encoder):
    return torch.cat([weight.flatten() for weight in encoder.network.state_dict().values()])


def known_again(encoder, images):
    """Share of changed images whose nearest image is the one they were made of."""
    changed = change(torch.from_numpy(images.images), torch.Generator().manual_seed(1)).numpy()
    seen, other = (
        torch.nn.functional.normalize(torch.from_numpy(encoder.features(each)), dim=1)
        for each in (images, ImageSet(changed, images.manifest))
    )
    return ((other @ seen.T).argmax(1) == torch.arange(len(images))).float().mean().item()


def test_it_learns_to_know_images_again_that_it_never_saw():
    train, fresh = shapes(64), shapes(40, first=100)
    untrained, trained = (train_encoder(train, steps, seed=0) for steps in (0, 100))
    assert known_again(trained, fresh) > max(0.7, known_again(untrained, fresh) + 0.2)


def test_a_training_that_was_interrupted_ends_in_the_same_weights(tmp_path):
    class Interrupted(Progress):
        def update(self, *args, **settings):
            super().update(*args, **settings)
            if self.steps == 3:
                raise KeyboardInterrupt

    train = shapes(12)
    whole = train_encoder(train, 6, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(train, 6, seed=1, resume_folder=tmp_path, checkpoint_seconds=0, progress=Interrupted)
    assert list(tmp_path.glob("step-00000003.*"))
    resumed = train_encoder(train, 6, seed=1, resume_folder=tmp_path)
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert not torch.equal(weights_of(whole), weights_of(train_encoder(train, 6, seed=2)))


def test_it_judges_no_patient_that_it_was_trained_on():
    encoder = train_encoder(shapes(4), 0, seed=0)
    with pytest.raises(DataError, match="found 'p3' and 0 others that it was trained on"):
        encoder.features(shapes(5, first=3))
    assert encoder.features(shapes(5, first=4)).shape == (5, 128)


def test_it_is_the_same_when_it_is_read_again(tmp_path):
    encoder = train_encoder(shapes(4), 1, seed=0)
    write_encoder(tmp_path / "encoder.safetensors", encoder)
    again = read_encoder(tmp_path / "encoder.safetensors")
    assert torch.equal(weights_of(encoder), weights_of(again))
    with pytest.raises(DataError, match="found 'p3'"):
        again.features(shapes(5, first=3))
    (tmp_path / "encoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"encoder.safetensors: encoder: found .*, allowed: that of a trained one"):
        read_encoder(tmp_path / "encoder.safetensors")


def test_it_learns_of_one_half_of_the_patients_of_each_class_and_of_none_who_is_held_out():
    patients = [f"p{number // 2}" for number in range(16)]  # two images each; the first six of the class a
    manifest = pd.DataFrame({"patient_id": patients, "label": ["a"] * 12 + ["b"] * 4})
    manifest["image_id"] = [f"i{number}" for number in range(16)]
    train = ImageSet(np.zeros((16, 1, 8, 8), np.float32), manifest)
    held_out = train.select(manifest["patient_id"].isin(["p0", "p1"]))
    for seed in range(5):
        half = half_of_patients(train, held_out, seed)
        chosen = half.manifest.drop_duplicates("patient_id")
        assert not {"p0", "p1"} & set(chosen["patient_id"])
        assert chosen["label"].value_counts().to_dict() == {"a": 2, "b": 1}
        assert len(half) == 2 * len(chosen)
    drawn = {tuple(half_of_patients(train, held_out, seed).manifest["image_id"]) for seed in (0, 0, 1, 2)}
    assert 1 < len(drawn) < 4


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="found 1, allowed: at least 2"):
        train_encoder(shapes(1), 1, seed=0)


def test_the_loss_of_views_that_are_all_alike_and_of_views_that_are_known():
    assert contrastive_loss(torch.ones(8, 3)).item() == pytest.approx(np.log(7), rel=1e-5)
    apart = torch.eye(4).repeat(2, 1)
    assert contrastive_loss(apart).item() == pytest.approx(np.log(1 + 6 * np.exp(-5)), rel=1e-4)


def test_every_image_is_blurred_by_its_own_deviation():
    from scipy.ndimage import gaussian_filter

    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = _blur(images, torch.tensor([0.0, BLUR]))
    assert torch.allclose(found[0], images[0], atol=1e-6)
    assert found[1, 0].numpy() == pytest.approx(gaussian_filter(images[1, 0].numpy(), BLUR, mode="nearest"), abs=5e-3)
