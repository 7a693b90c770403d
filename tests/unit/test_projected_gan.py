"""The network for few images: what stays frozen stays so, what is computed faster is the same."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from scangan.config import ImageGan
from scangan.errors import TrainingError
from scangan.models.backbones import build_classifier
from scangan.models.catalogue import build, feature_networks, network_options, read_generator, write_generator
from scangan.models.projected_gan import (
    IMAGE_SIZES,
    OUTPUT_RANGE,
    TAPS,
    Discriminator,
    EnlargingConv2d,
    FrozenFeatures,
    Generator,
    feature_head,
)
from scangan.training import adversarial
from scangan.training.adversarial import make_fabric, train_gan

IMAGES = np.random.default_rng(0).random((6, 1, 32, 32), dtype=np.float32)
VALUES = {
    "model": "projected_gan",
    "base_width": 8,
    "batch_size": 2,
    "epochs": 2,
    "sample_rows": 2,
    "horizontal_flip": True,
    "pixel_discriminator": True,
    "validations": 3,
}


def train(folder=None, validate=None, **values):
    settings = ImageGan.of_kind(VALUES | values)
    return train_gan(IMAGES, settings, make_fabric(settings.precision, 1, "cpu"), folder, validate=validate)


def brightness(images):
    """Stands for a distance: it changes from one validation to the next."""
    return float(images.mean()), 1.0, 0.0


@pytest.fixture
def networks(monkeypatch):
    """The networks of each training that a test begins."""
    found = []
    initialise = adversarial.AdversarialTraining.__init__

    def remember(training, *arguments):
        initialise(training, *arguments)
        found.append((training.generator, training.discriminator))

    monkeypatch.setattr(adversarial.AdversarialTraining, "__init__", remember)
    return found


@pytest.mark.parametrize("size", IMAGE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size(size, channels):
    torch.manual_seed(0)
    generator, discriminator = build("projected_gan", channels, size, base_width=4, pixel_discriminator=True)
    images = generator(generator.draw_latent(2, torch.Generator().manual_seed(0)))
    assert images.shape == (2, channels, size, size)
    assert OUTPUT_RANGE[0] <= images.min() < images.max() <= OUTPUT_RANGE[1]
    places = (max(96, size) // 32) ** 2
    assert discriminator(images).shape == (2, 4 * places + 16)
    assert Discriminator(channels=channels, image_size=size)(images).shape == (2, 4 * places)


def test_an_image_is_a_function_of_its_latent():
    torch.manual_seed(0)
    generator = Generator(8).eval()
    for block in generator.blocks:
        torch.nn.init.ones_(block.noise_weight)
    latent = generator.draw_latent(3, torch.Generator().manual_seed(1))
    alone = torch.cat([generator(each[None]) for each in latent])
    torch.testing.assert_close(generator(latent), alone)
    other_noise = latent.clone()
    other_noise[:, 128:] *= -1
    assert not torch.allclose(generator(other_noise), alone, atol=1e-3)


def test_the_small_map_excites_the_large_one():
    generator = Generator(8, image_size=256)
    assert list(generator.excitations) == ["64", "128", "256"]
    assert not Generator(8, image_size=32).excitations


def test_enlarging_equals_repeating_pixels_and_a_convolution():
    torch.manual_seed(0)
    layer, maps = EnlargingConv2d(5, 7).double(), torch.randn(2, 5, 6, 6, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(maps, scale_factor=2), layer.weight, padding=1)
    torch.testing.assert_close(layer(maps), expected)


# The frozen features.


@pytest.mark.parametrize("edge", [64, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_folded_features_are_those_of_the_package(edge, channels):
    images = torch.rand(2, channels, edge, edge, generator=torch.Generator().manual_seed(0))
    classifier = build_classifier("efficientnet-lite0", "imagenet", "imagenet", channels, edge, 0.0).eval()
    network, maps, expected = classifier.network, (images - classifier.mean) / classifier.std, []
    with torch.no_grad():
        maps = F.relu6(network._bn0(network._conv_stem(maps)))
        for number, block in enumerate(network._blocks):
            maps = block(maps)
            expected += [maps] if number in TAPS else []
        found = FrozenFeatures(channels)(2 * images - 1)
    assert [tuple(each.shape[1:]) for each in found] == [
        (width, edge // stride, edge // stride) for width, stride in ((24, 4), (40, 8), (112, 16), (320, 32))
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_only_the_heads_can_learn():
    discriminator = Discriminator().requires_grad_(False).requires_grad_(True)
    assert {name.split(".")[0] for name, _ in discriminator.named_parameters()} == {"heads"}
    # The projections are drawn, so they are kept; the features come from a package.
    assert {name.split(".")[0] for name in discriminator.state_dict()} == {"heads", "projections"}


def test_mode_does_not_change_what_is_seen():
    discriminator, images = Discriminator(), torch.rand(2, 1, 64, 64)
    for trained, evaluated in zip(discriminator.train().see(images), discriminator.eval().see(images), strict=True):
        assert torch.equal(trained, evaluated)


def test_gradients_reach_the_image_through_each_scale():
    discriminator, images = Discriminator(), torch.zeros(2, 1, 64, 64, requires_grad=True)
    for maps in discriminator.see(images)[:4]:
        (gradient,) = torch.autograd.grad(maps.square().sum(), images, retain_graph=True)
        assert gradient.abs().sum() > 0


# The training.


def test_only_in_one_batch_with_real_images_a_head_sees_that_others_vary_less():
    torch.manual_seed(0)
    head, real = feature_head(8, 2), torch.randn(16, 8, 16, 16)
    alike = 0.3 * real
    torch.testing.assert_close(head(alike), head(real), rtol=0, atol=1e-3)
    of_real, of_alike = head(torch.cat([real, alike])).chunk(2)
    assert (of_real - of_alike).abs().mean() > 0.1


def test_both_networks_judge_real_and_generated_images_in_one_batch(monkeypatch):
    batches, judge = [], Discriminator.judge

    def watched(discriminator, seen, one_hot=None):
        batches.append({len(maps) for maps in seen})
        return judge(discriminator, seen, one_hot)

    monkeypatch.setattr(Discriminator, "judge", watched)
    train(epochs=1)
    assert batches
    assert all(batch == {2 * VALUES["batch_size"]} for batch in batches)


def test_what_is_frozen_stays_frozen_and_the_rest_learns(networks):
    torch.manual_seed(0)
    before = Generator(8, 1, 32), Discriminator(8, 1, 32, pixel_discriminator=True)
    train(seed=0)
    for one, other in zip(before, networks[0], strict=True):
        buffers, parameters = dict(other.named_buffers()), dict(other.named_parameters())
        for name, tensor in one.named_buffers():
            if name.startswith(("features.", "projections.")):
                assert torch.equal(tensor, buffers[name]), name
        for name, tensor in one.named_parameters():
            # The last bias has no gradient while the hinge loss sees all places of both images on their slopes.
            assert name == "pixel_head.to_logits.bias" or not torch.equal(tensor, parameters[name]), name


def test_resumes_exactly(tmp_path, monkeypatch):
    whole = train(validate=brightness)
    assert whole.steps == 6
    step = adversarial.AdversarialTraining.step

    def stopped(training):
        step(training)
        if training.step_count == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(adversarial.AdversarialTraining, "step", stopped)
        with pytest.raises(TrainingError, match="stopped by a signal at step 4 of 6"):
            train(tmp_path, brightness)
    resumed = train(tmp_path, brightness)
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    histories = [each.history.drop(columns="images_per_second") for each in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    np.testing.assert_array_equal(whole.samples, resumed.samples)
    assert whole.history.validation_distance.notna().sum() == 3


def test_both_networks_learn_from_one_look_at_a_generated_image(monkeypatch):
    seen = {}
    for name in ("discriminator_losses", "generator_losses"):
        losses = getattr(adversarial.ProjectedTraining, name)

        def watched(training, *shown, name=name, losses=losses):
            seen.setdefault(name, shown)
            return losses(training, *shown)

        monkeypatch.setattr(adversarial.ProjectedTraining, name, watched)
    train(epochs=1)
    (real, fake), (fake_for_g,) = seen["discriminator_losses"], seen["generator_losses"]
    for one, other in zip(fake, fake_for_g, strict=True):
        assert torch.equal(one, other)
        assert other.requires_grad
    assert not any(maps.requires_grad for maps in (*real, *fake))


@pytest.mark.parametrize(
    "values",
    [
        {"pixel_discriminator": False},
        {"loss": "bce", "discriminator_steps": 2},
        {"precision": "bf16-mixed"},
        {"diffaugment": {"kinds": []}},
    ],
    ids=str,
)
def test_every_option_trains(values):
    trained = train(**values)
    assert np.isfinite(trained.history.to_numpy()).all()
    assert all(tensor.isfinite().all() for tensor in trained.weights.values())
    assert (trained.history.penalty > 0).all() == values.get("pixel_discriminator", True)


def test_a_trained_generator_is_read_without_its_discriminator(tmp_path, monkeypatch):
    trained, settings = train(), ImageGan.of_kind(VALUES)
    files = tmp_path / "generator.safetensors", tmp_path / "generator.json"
    facts = {"model": settings.model, "channels": 1, "image_size": 32, "options": network_options(settings)}
    write_generator(*files, trained.weights, **facts)
    monkeypatch.setattr("scangan.models.projected_gan.Discriminator", None)
    generator, _ = read_generator(*files)
    latent = generator.draw_latent(2, torch.Generator().manual_seed(0))
    assert generator(latent).shape == (2, 1, 32, 32)


def test_it_says_what_it_was_trained_against():
    assert feature_networks("projected_gan") == ["efficientnet-lite0"]
    assert feature_networks("dcgan224") == []
