"""Adversarial losses against closed forms, gradient penalties on discriminators whose gradient is known."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import softplus

from scangan.training.losses import discriminator_loss, generator_loss, gradient_penalty

REAL, FAKE = torch.tensor([2.0, -1.0, 0.5, 3.0]), torch.tensor([-2.0, 1.5, 0.0, -0.5])


def images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_bce_is_minus_the_log_likelihood():
    expected = -(REAL.sigmoid().log().mean() + (1 - FAKE.sigmoid()).log().mean())
    torch.testing.assert_close(discriminator_loss("bce", REAL, FAKE, False, 0), expected)
    torch.testing.assert_close(generator_loss("bce", FAKE, False), -FAKE.sigmoid().log().mean())


def test_bce_stays_finite_where_the_sigmoid_saturates():
    loss = discriminator_loss("bce", torch.tensor([-1000.0]), torch.tensor([1000.0]), False, 0)
    assert loss == 2000


def test_wasserstein_is_the_difference_of_means():
    torch.testing.assert_close(discriminator_loss("wasserstein", REAL, FAKE, False, 0), FAKE.mean() - REAL.mean())
    torch.testing.assert_close(generator_loss("wasserstein", FAKE, False), -FAKE.mean())


def test_hinge_is_what_lacks_to_a_margin_of_one():
    # Real: 2 and 3 lack nothing, -1 lacks 2, 0.5 lacks 0.5. Generated: 0, 2.5, 1, 0.5.
    torch.testing.assert_close(discriminator_loss("hinge", REAL, FAKE, False, 0), torch.tensor((2.5 + 4) / 4))
    torch.testing.assert_close(generator_loss("hinge", FAKE, False), -FAKE.mean())
    # Of places of images it is the mean as well.
    places = discriminator_loss("hinge", REAL.view(2, 2), FAKE.view(2, 2), False, 0)
    torch.testing.assert_close(places, torch.tensor((2.5 + 4) / 4))


def test_hinge_with_inverted_and_noisy_labels():
    swapped = discriminator_loss("hinge", FAKE, REAL, False, 0)
    torch.testing.assert_close(discriminator_loss("hinge", REAL, FAKE, True, 0), swapped)
    torch.testing.assert_close(generator_loss("hinge", FAKE, True), FAKE.mean())
    # A label that is flipped costs 11 here, one that is not nothing.
    torch.manual_seed(0)
    logits = torch.full((20_000,), 10.0)
    assert 0.19 < discriminator_loss("hinge", logits, -logits, False, 0.1) / 11 < 0.21


def test_inverted_labels_swap_the_two_sets():
    swapped = discriminator_loss("bce", FAKE, REAL, False, 0)
    torch.testing.assert_close(discriminator_loss("bce", REAL, FAKE, True, 0), swapped)
    # G then wants its images to be judged as real ones are: 0.
    torch.testing.assert_close(generator_loss("bce", FAKE, True), softplus(FAKE).mean())


def test_the_share_of_noisy_labels():
    # With target t, BCE on the logit a is softplus(a) - t a: so the loss tells how many targets were flipped.
    torch.manual_seed(0)
    logits = torch.full((20_000,), 10.0)
    loss = discriminator_loss("bce", logits, logits, False, 0.1)
    clean = discriminator_loss("bce", logits, logits, False, 0)
    # Flips cost 10 each among the real ones and spare 10 among the generated: they cancel on average.
    assert abs(loss - clean) < 0.1
    flipped_real = discriminator_loss("bce", logits, -logits, False, 0.1) - 2 * softplus(torch.tensor(-10.0))
    assert 0.19 < flipped_real / 10 < 0.21


@pytest.mark.parametrize("kind", ["wgan-gp", "dragan", "r1"])
def test_linear_discriminator(kind):
    weight = torch.randn(3 * 4 * 4, generator=torch.Generator().manual_seed(1))
    penalty = gradient_penalty(kind, lambda x: x.flatten(1) @ weight, images(5, 3, 4, 4), images(5, 3, 4, 4, seed=1))
    norm = weight.norm()
    torch.testing.assert_close(penalty, norm.square() / 2 if kind == "r1" else (norm - 1).square())


def test_r1_of_a_quadratic_discriminator():
    real = images(6, 1, 4, 4)
    penalty = gradient_penalty("r1", lambda x: x.flatten(1).square().sum(1) / 2, real, torch.zeros_like(real))
    torch.testing.assert_close(penalty, real.flatten(1).square().sum(1).mean() / 2)


@pytest.mark.parametrize("kind", ["wgan-gp", "dragan", "r1"])
def test_where_the_gradient_is_taken(kind):
    """WGAN-GP: between a real image and a generated one; DRAGAN: brighter than the real one; R1: on it."""
    seen = []
    real, fake = torch.full((500, 1, 2, 2), 0.25), torch.full((500, 1, 2, 2), 0.75)
    real[:250] = 0.35

    def discriminator(x):
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    gradient_penalty(kind, discriminator, real, fake)
    (at,) = seen
    if kind == "r1":
        assert torch.equal(at, real)
    elif kind == "wgan-gp":
        share = ((at - real) / (fake - real)).flatten(1)
        assert 0 <= share.min() < 0.05
        assert 0.95 < share.max() <= 1.001
        # One share for each image, not for each pixel.
        assert (share.max(1).values - share.min(1).values).max() < 1e-5
    else:
        added = (at - real) / (0.5 * real.std())
        assert 0 <= added.min() < 0.05
        assert 0.8 < added.max() <= 1.001
        assert (added.flatten(1).std(1) > 0).all()


@pytest.mark.parametrize("kind", ["wgan-gp", "dragan", "r1"])
def test_gradient_of_the_penalty_against_finite_differences(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0)).double()
    names = [name for name, _ in network.named_parameters()]
    real, fake = images(5, 1, 2, 2, dtype=torch.float64), images(5, 1, 2, 2, seed=1, dtype=torch.float64)

    def penalty(*weights):
        torch.manual_seed(3)
        named = dict(zip(names, weights, strict=True))
        return gradient_penalty(kind, lambda x: functional_call(network, named, x), real, fake)

    assert torch.autograd.gradcheck(penalty, tuple(network.parameters()))


@pytest.mark.parametrize(("kind", "value"), [("wgan-gp", 1), ("dragan", 1), ("r1", 0)])
def test_a_flat_discriminator_has_finite_gradients(kind, value):
    weight = torch.zeros(16, requires_grad=True)
    penalty = gradient_penalty(kind, lambda x: x.flatten(1) @ weight, images(4, 1, 4, 4), images(4, 1, 4, 4, seed=1))
    penalty.backward()
    torch.testing.assert_close(penalty.detach(), torch.tensor(float(value)), atol=1e-5, rtol=0)
    assert weight.grad.isfinite().all()


def test_the_penalty_does_not_reach_the_images():
    real = images(4, 1, 4, 4).requires_grad_()
    weight = torch.ones(16, requires_grad=True)
    gradient_penalty("wgan-gp", lambda x: x.flatten(1).square() @ weight, real, images(4, 1, 4, 4, seed=1)).backward()
    assert real.grad is None
    assert weight.grad is not None


@pytest.mark.parametrize("kind", ["none", "r2"])
def test_an_unknown_kind_is_named(kind):
    with pytest.raises(ValueError, match=f"found '{kind}', allowed: wgan-gp | dragan | r1"):
        gradient_penalty(kind, lambda x: x.flatten(1).sum(1), images(2, 1, 2, 2), images(2, 1, 2, 2))
