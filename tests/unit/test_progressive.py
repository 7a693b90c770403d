"""The schedule of a progressive training by hand and against a loop that counts; the blend of real images."""

import numpy as np
import pytest
import torch

from scangan.config import ImageGan
from scangan.errors import ConfigError
from scangan.models.pggan import Generator
from scangan.training.progressive import Schedule, blend_real, make_schedule

# 4x4: images 0 to 9; 8x8: 10 to 19 and 20 to 29; 16x16: 30 to 39 and 40 to 49.
BY_HAND = Schedule(16, fade_images=10, stable_images=10, batch_sizes={4: 5, 8: 4, 16: 2})


@pytest.mark.parametrize(
    ("images", "stage"),
    [
        (0, (0, 1.0, 5)),
        (9, (0, 1.0, 5)),
        (10, (1, 0.0, 4)),
        (14, (1, 0.4, 4)),
        (19, (1, 0.9, 4)),
        (20, (1, 1.0, 4)),
        (29, (1, 1.0, 4)),
        (30, (2, 0.0, 2)),
        (35, (2, 0.5, 2)),
        (40, (2, 1.0, 2)),
        (49, (2, 1.0, 2)),
        (50, (2, 1.0, 2)),
        (10**9, (2, 1.0, 2)),
    ],
)
def test_stages_by_hand(images, stage):
    assert BY_HAND.at(images) == stage


def test_steps_by_hand():
    # 2 steps of 5; 5 of 4; 10 of 2.
    assert BY_HAND.images_in_all == 50
    assert BY_HAND.steps_in_all == 17
    assert [BY_HAND.images_at(step) for step in (0, 1, 2, 3, 6, 7, 8, 16, 17)] == [0, 5, 10, 14, 26, 30, 32, 48, 50]
    assert [BY_HAND.step_at(images) for images in (0, 1, 5, 10, 11, 14, 30, 31, 50)] == [0, 1, 1, 2, 3, 3, 7, 8, 17]


@pytest.mark.parametrize(
    ("length", "images", "steps"), [({"epochs": 6}, 20, 10), ({"steps": 7}, 20, 7), ({"steps": 7}, 3, 7)]
)
def test_epochs_depend_on_the_images_and_steps_do_not(length, images, steps):
    settings = ImageGan.of_kind({"model": "dcgan32", "batch_size": 4, "discriminator_steps": 3} | length)
    schedule = make_schedule(settings, images, 32)
    assert schedule.steps_in_all == steps
    assert schedule.images_at(steps) == 12 * steps


def test_the_papers_schedule():
    """Appendix A.1: 800,000 images to fade and 800,000 more, batches of 16 up to 128x128, then 14, 6, 3."""
    batch_sizes = dict.fromkeys((4, 8, 16, 32, 64, 128), 16) | {256: 14, 512: 6, 1024: 3}
    schedule = Schedule(1024, 800_000, 800_000, batch_sizes)
    assert schedule.images_in_all == 17 * 800_000
    assert schedule.at(1_200_000) == (1, 0.5, 16)
    assert schedule.at(12_800_000 - 1)[::2] == (8, 3)
    assert schedule.at(12_800_000) == (8, 1.0, 3)


@pytest.mark.parametrize("seed", range(20))
def test_steps_as_a_loop(seed):
    """Batches that do not divide a level, that are larger than one, fades of no images; and both ways round."""
    rng = np.random.default_rng(seed)
    edges = [4, 8, 16, 32][: rng.integers(1, 5)]
    fade, stable, batch_sizes = ({edge: int(rng.integers(low, 12)) for edge in edges} for low in (0, 1, 1))
    schedule = Schedule(edges[-1], fade, stable, batch_sizes)
    assert schedule.images_in_all == sum(stable.values()) + sum(fade.values()) - fade[4]
    steps, images, before = 0, 0, (0, 0.0)
    while images < schedule.images_in_all:
        level, alpha, batch_size = schedule.at(images)
        assert batch_size == batch_sizes[4 << level]
        assert (level, alpha) >= before  # it never goes back
        assert schedule.images_at(steps) == images
        for shown in range(images + 1, images + batch_size + 1):
            assert schedule.step_at(shown) == steps + 1
        steps, images, before = steps + 1, images + batch_size, (level, alpha)
    assert schedule.steps_in_all == steps
    assert schedule.images_at(steps) == images


def test_one_resolution_never_fades():
    schedule = Schedule(4, 100, 20, {4: 7})
    assert schedule.images_in_all == 20
    assert schedule.steps_in_all == 3
    assert {schedule.at(images)[:2] for images in range(30)} == {(0, 1.0)}


def test_beyond_the_training_is_refused():
    for step in (-1, 18):
        with pytest.raises(ValueError, match=f"step: found {step}, allowed: 0 to 17"):
            BY_HAND.images_at(step)
    for images in (-1, 51):
        with pytest.raises(ValueError, match=f"images: found {images}, allowed: 0 to 50"):
            BY_HAND.step_at(images)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"image_size": 48}, "image_size: found 48, allowed: 4, 8, 16, 32, 64, 128, 256, 512, 1024"),
        ({"batch_sizes": {4: 16}}, "batch_sizes: found nothing for 8x8, allowed: 1 or more"),
        ({"batch_sizes": {4: 16, 8: 0}}, "batch_sizes: found 0 for 8x8, allowed: 1 or more"),
        ({"stable_images": 0}, "stable_images: found 0 for 4x4, allowed: 1 or more"),
        ({"stable_images": {8: 10}}, "stable_images: found nothing for 4x4, allowed: 1 or more"),
        ({"fade_images": {8: -1}}, "fade_images: found -1 for 8x8, allowed: 0 or more"),
        ({"fade_images": 2.5}, "fade_images: found 2.5 for 8x8, allowed: 0 or more"),
    ],
)
def test_wrong_settings_are_named(change, line):
    settings = {"image_size": 8, "fade_images": 0, "stable_images": 1, "batch_sizes": {4: 1, 8: 1}}
    assert Schedule(**settings).steps_in_all == 2
    with pytest.raises(ConfigError) as error:
        Schedule(**settings | change)
    assert str(error.value) == f"config: {line}"


def test_real_images_are_averaged_and_blended():
    images = np.arange(2 * 16 * 16, dtype=np.float64).reshape(2, 1, 16, 16) ** 1.5

    def block_means(block, array):
        *shape, edge, _ = array.shape
        return array.reshape(*shape, edge // block, block, edge // block, block).mean((-3, -1))

    whole = torch.from_numpy(images)
    assert torch.equal(blend_real(whole, 2, 1.0), whole)
    np.testing.assert_allclose(blend_real(whole, 0, 1.0), block_means(4, images))
    np.testing.assert_allclose(blend_real(whole, 0, 0.5), block_means(4, images))  # nothing smaller to blend with
    at_8 = block_means(2, images)
    at_4 = block_means(2, at_8).repeat(2, axis=-1).repeat(2, axis=-2)
    np.testing.assert_allclose(blend_real(whole, 1, 1.0), at_8)
    np.testing.assert_allclose(blend_real(whole, 1, 0.0), at_4)
    np.testing.assert_allclose(blend_real(whole, 1, 0.25), 0.75 * at_4 + 0.25 * at_8)


def test_real_and_generated_images_lack_the_same_detail():
    """While a level fades in, the share of it that half the edge cannot show is the same in both."""
    generator = Generator(4, 1, 16, 8)
    latent = generator.draw_latent(2, torch.Generator().manual_seed(0))

    def detail(images):
        coarse = images.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
        return images - coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)

    real = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        whole = detail(generator(latent))
        generator.set_progress(2, 0.25)
        torch.testing.assert_close(detail(generator(latent)), 0.25 * whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(detail(blend_real(real, 2, 0.25)), 0.25 * detail(real), rtol=1e-4, atol=1e-5)


def test_images_that_cannot_be_averaged_are_refused():
    with pytest.raises(AssertionError, match="multiples of 16"):
        blend_real(torch.zeros(1, 1, 24, 24), 2, 1.0)
