"""Differentiable augmentation against closed forms, and the probability that follows overfitting."""

import pytest
import torch

from scangan.training.diffaugment import AdaptiveProbability, DiffAugment, adjust_color, cut_out, translate

KINDS = ["color", "translation", "cutout"]
RANGE = (-1.0, 1.0)
SHAPES = {"2D": (4, 3, 8, 10), "2D, one channel": (4, 1, 9, 8), "3D": (3, 1, 8, 6, 9)}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def random_images(shape, dtype=torch.float64):
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype) - 1


def augment(images, kinds, probability=1.0, seed=0, output_range=RANGE):
    torch.manual_seed(seed)
    return DiffAugment(kinds, output_range)(images, probability)


def changed(images, *arguments, **options):
    return (augment(images, *arguments, **options) != images).flatten(1).any(1)


# Gradients.


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 5, 4), (2, 1, 4, 3, 5)], ids=SHAPES.keys())
@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), KINDS], ids=" ".join)
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_gradients_are_those_of_finite_differences(shape, kinds, probability):
    images = random_images(shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, kinds, probability, seed=3), images)


def test_gradients_of_gradients_exist():
    images = random_images((1, 3, 3, 3)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: augment(x, KINDS).square(), images)


# Colour.


@shapes
def test_brightness_is_added(shape):
    images = random_images(shape)
    brightness = torch.linspace(-0.5, 0.5, len(images), dtype=torch.float64)
    ones = torch.ones_like(brightness)
    for before, after, added in zip(images, adjust_color(images, brightness, ones, ones), brightness, strict=True):
        torch.testing.assert_close(after, before + added)


@shapes
def test_contrast_spreads_about_the_mean_of_an_image(shape):
    images = random_images(shape)
    contrast = torch.linspace(0.0, 1.5, len(images), dtype=torch.float64)
    zeros, ones = torch.zeros_like(contrast), torch.ones_like(contrast)
    for before, after, factor in zip(images, adjust_color(images, zeros, ones, contrast), contrast, strict=True):
        torch.testing.assert_close(after, before.mean() + factor * (before - before.mean()))


def test_saturation_spreads_about_the_mean_of_a_pixel():
    images = random_images(SHAPES["2D"])
    saturation = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    after = adjust_color(images, torch.zeros(4), saturation, torch.ones(4, dtype=torch.float64))
    grey = images.mean(1, keepdim=True).expand_as(images)
    torch.testing.assert_close(after[0], grey[0])
    torch.testing.assert_close(after[1], (grey + images)[1] / 2)
    torch.testing.assert_close(after[2], images[2])
    torch.testing.assert_close(after[3], (2 * images - grey)[3])


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 2, 4, 4), (2, 3, 4, 4, 4)])
def test_saturation_is_for_three_channels_in_two_dimensions(shape):
    images = random_images(shape)
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(adjust_color(images, 0 * one, 0 * one, one), images)


def test_colour_stays_in_the_strengths_of_the_paper():
    flat = torch.zeros(4000, 1, 2, 2)
    brightness = augment(flat, ["color"])[:, 0, 0, 0]
    assert -0.5 <= brightness.min() < -0.498
    assert 0.498 < brightness.max() < 0.5
    steps = torch.tensor([-1.0, 1.0]).expand(4000, 1, 2, 2)
    contrast = augment(steps, ["color"])[:, 0, 0].diff().squeeze() / 2
    assert 0.5 <= contrast.min() < 0.502
    assert 1.498 < contrast.max() < 1.5
    red = torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1).expand(4000, 3, 2, 2)
    spread = augment(red, ["color"]).diff(dim=1)[:, 0, 0, 0] / -2
    saturation = spread / contrast  # the draws of contrast are the same ones
    assert 0 <= saturation.min() < 0.004
    assert 1.996 < saturation.max() <= 2 + 1e-5


# Translation.


@shapes
def test_translation_is_a_roll_whose_wrapped_pixels_are_replaced(shape):
    images = random_images(shape)
    shift = torch.randint(-3, 4, (len(images), len(shape) - 2), generator=torch.Generator().manual_seed(1))
    for before, after, moved in zip(images, translate(images, shift, -7.0), shift.tolist(), strict=True):
        axes = range(1, before.ndim)
        expected = before.roll(moved, tuple(axes))
        for axis, by in zip(axes, moved, strict=True):
            first, count = (0, by) if by >= 0 else (before.shape[axis] + by, -by)
            expected.narrow(axis, first, count).fill_(-7.0)
        assert torch.equal(after, expected)


def test_translation_is_padding_and_cropping():
    images = random_images(SHAPES["2D"])
    moved = translate(images, torch.tensor([[2, -3]] * 4), -1.0)
    assert torch.equal(moved, torch.nn.functional.pad(images, (-3, 3, 2, -2), value=-1.0))


@pytest.mark.parametrize("edges", [(16, 40), (16, 8, 24)])
def test_translation_reaches_an_eighth_of_every_edge_in_both_directions(edges):
    dot = torch.full((600, 1, *edges), -1.0)
    dot[(slice(None), 0, *(edge // 2 for edge in edges))] = 1
    places = (augment(dot, ["translation"]) == 1).nonzero()
    assert len(places) == 600
    for axis, edge in enumerate(edges):
        shift, counts = (places[:, axis + 2] - edge // 2).unique(return_counts=True)
        assert shift.tolist() == list(range(-edge // 8, edge // 8 + 1))
        assert counts.min() > 600 / len(shift) / 2


# Cutout.


@shapes
def test_cutout_is_that_of_the_paper(shape):
    """The published code's way: the box's pixels, clamped to the image."""
    images = random_images(shape)
    size = [int(edge * 0.5 + 0.5) for edge in shape[2:]]
    generator = torch.Generator().manual_seed(2)
    middles = [[int(torch.randint(0, e + 1, (), generator=generator)) for e in shape[2:]] for _ in images]
    middles[0], middles[1] = [0] * len(size), list(shape[2:])
    start = torch.tensor(middles) - torch.tensor(size) // 2
    for before, after, middle in zip(images, cut_out(images, start, size, -1.0), middles, strict=True):
        expected = before.clone()
        box = [
            (torch.arange(length) + offset - length // 2).clamp(0, edge - 1)
            for edge, length, offset in zip(shape[2:], size, middle, strict=True)
        ]
        expected[(slice(None), *torch.meshgrid(*box, indexing="ij"))] = -1.0
        assert torch.equal(after, expected)


@pytest.mark.parametrize("edges", [(8, 12), (10, 8), (8, 8, 12)])
def test_cutout_takes_half_of_every_edge_less_at_the_borders(edges):
    white = torch.ones(600, 1, *edges)
    hole = augment(white, ["cutout"]) == -1
    for axis, edge in enumerate(edges):
        others = [other for other in range(1, white.ndim) if other != axis + 2]
        along = hole.any(dim=others[0]) if len(others) == 1 else hole.amax(dim=others)
        lengths = along.sum(1)
        assert lengths.max() == edge // 2
        assert lengths.min() == (edge // 2 + 1) // 2
        # A pixel is as likely to go as its mirror image, and the border least.
        share = along.float().mean(0)
        torch.testing.assert_close(share, share.flip(0), atol=0.1, rtol=0)
        assert share.argmin() in (0, edge - 1)


# Probability, draws, range.


@shapes
@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), KINDS], ids=" ".join)
def test_probability_zero_is_the_identity_and_one_changes_all(shape, kinds):
    images = random_images((16, *shape[1:]))
    assert torch.equal(augment(images, kinds, probability=0.0), images)
    assert torch.equal(augment(images, kinds, probability=torch.tensor(0.0)), images)
    assert changed(images, ["color"]).all()
    assert torch.equal(augment(images, []), images)


def test_each_kind_changes_its_own_share_of_the_images():
    images = random_images((4000, 1, 16, 16), torch.float32)
    by_kind = torch.stack([changed(images, [kind], probability=torch.tensor(0.3)) for kind in KINDS]).double()
    # A translation by nothing (1 of 25) changes nothing.
    torch.testing.assert_close(by_kind.mean(1), torch.tensor([0.3, 0.3 * 24 / 25, 0.3]).double(), atol=0.025, rtol=0)
    assert torch.corrcoef(by_kind).fill_diagonal_(0).abs().max() < 0.05


def test_one_kind_does_not_move_the_draws_of_another():
    images = random_images(SHAPES["2D"])
    one_by_one = images
    for kind in KINDS:
        one_by_one = augment(one_by_one, [kind], probability=0.7, seed=5)
    assert torch.equal(augment(images, KINDS[::-1], probability=0.7, seed=5), one_by_one)


def test_the_global_seed_decides_and_every_image_has_its_own_draw():
    images = random_images((1, 1, 16, 16)).expand(8, -1, -1, -1)
    first = augment(images, KINDS, seed=1)
    assert torch.equal(first, augment(images, KINDS, seed=1))
    assert not torch.equal(first, augment(images, KINDS, seed=2))
    assert len({image.sum().item() for image in first}) == 8


@shapes
def test_a_network_from_0_to_1_sees_the_same_as_one_from_minus_1_to_1(shape):
    images = random_images(shape)
    rescaled = augment((images + 1) / 2, KINDS, output_range=(0.0, 1.0))
    torch.testing.assert_close(2 * rescaled - 1, augment(images, KINDS))


def test_what_comes_in_and_what_is_cut_out_is_black():
    white = torch.ones(50, 1, 16, 16)
    for low in (-1.0, 0.0):
        assert augment(white, ["translation", "cutout"], output_range=(low, 1.0)).unique().tolist() == [low, 1.0]


# The adaptive probability.


def test_the_probability_moves_by_its_images_every_fourth_minibatch():
    control = AdaptiveProbability(start=0.5, target=0.6, images=1000)
    seen = []
    # The mean over four minibatches decides, each by its number of images.
    for signs in ([1, 1, 1, 1], [1, 1, 1, -1], [0.6, 0.7, 0.5, 0.9], [-1, -1, -1, -1]):
        for sign in signs:
            control.observe(torch.tensor(float(sign)), 10)
            seen.append(round(control.probability.item(), 6))
    assert seen == [*[0.5] * 3, *[0.54] * 4, *[0.5] * 4, *[0.54] * 4, 0.5]


def test_minibatches_count_by_their_images():
    control = AdaptiveProbability(start=0.5, target=0.6, images=1000)
    for sign, images in ((1.0, 90), (-1.0, 5), (-1.0, 5), (-1.0, 5)):
        control.observe(torch.tensor(sign), images)
    assert control.probability.item() == pytest.approx(0.5 + 105 / 1000)


@pytest.mark.parametrize(("sign", "end"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_probability_goes_all_the_way_in_so_many_images_and_no_further(sign, end):
    control = AdaptiveProbability(start=1 - end, target=0.6, images=800)
    for step in range(1, 101):
        control.observe(torch.tensor(sign), 20)
        gone = min(step // 4 * 4 * 20 / 800, 1)
        assert control.probability.item() == pytest.approx(abs(1 - end - gone), abs=1e-5)


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("target", [0.2, 0.6])
def test_the_target_is_held_on_a_discriminator_that_augmentation_confuses(start, target):
    """Sure of every untouched real image and wrong about every cut one: r_t = 1 - 2 p."""
    augmentation = DiffAugment(["cutout"], RANGE)
    control = AdaptiveProbability(start, target, images=10_000)
    real = torch.ones(32, 1, 8, 8)
    torch.manual_seed(0)
    signs, probabilities = [], []
    for _ in range(1200):
        logits = augmentation(real, control.probability).mean(dim=(1, 2, 3)) - 0.99
        signs.append(logits.sign().mean())
        control.observe(signs[-1], len(real))
        probabilities.append(control.probability.item())
    assert sum(signs[600:]).item() / 600 == pytest.approx(target, abs=0.02)
    assert min(probabilities[600:]) > (1 - target) / 2 - 0.08
    assert max(probabilities[600:]) < (1 - target) / 2 + 0.08


def test_the_state_resumes_between_two_moves():
    def run(control, steps):
        for step in steps:
            control.observe(torch.tensor((step * 0.37) % 2 - 1), 7)
        return control

    whole = run(AdaptiveProbability(0.5, 0.1, 500), range(30))
    half = run(AdaptiveProbability(0.5, 0.1, 500), range(14)).state_dict()
    resumed = AdaptiveProbability(0.5, 0.1, 500)
    resumed.load_state_dict(half)
    assert run(resumed, range(14, 30)).state_dict() == whole.state_dict()
