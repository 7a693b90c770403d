"""Adversarial losses and gradient penalties on a discriminator's logits.

Binary cross entropy (Goodfellow et al. 2014), Wasserstein (Arjovsky et al. 2017), hinge (Lim and Ye 2017); WGAN-GP
(Gulrajani et al. 2017), DRAGAN (Kodali et al. 2017), R1 (Mescheder et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu

Loss = Literal["bce", "wasserstein", "hinge"]
Penalty = Literal["none", "wgan-gp", "dragan", "r1"]


def discriminator_loss(loss: Loss, real: Tensor, fake: Tensor, inverted: bool, noisy: float) -> Tensor:
    """Loss of D on logits `real` and `fake`, each [N], or [N, places] of one that judges places of an image.

    `inverted` swaps the targets (real = 0); `noisy` is the share of targets flipped at random (bce and hinge).
    """
    if loss == "wasserstein":
        return fake.mean() - real.mean()
    real_target = 0.0 if inverted else 1.0
    if loss == "hinge":
        real_sign, fake_sign = (
            2 * _targets(real, real_target, noisy) - 1,
            2 * _targets(fake, 1 - real_target, noisy) - 1,
        )
        return relu(1 - real_sign * real).mean() + relu(1 - fake_sign * fake).mean()
    return binary_cross_entropy_with_logits(real, _targets(real, real_target, noisy)) + (
        binary_cross_entropy_with_logits(fake, _targets(fake, 1 - real_target, noisy))
    )


def generator_loss(loss: Loss, fake: Tensor, inverted: bool) -> Tensor:
    """Loss of G on D's logits of generated images, [N] or [N, places]; non-saturating for bce."""
    if loss == "wasserstein":
        return -fake.mean()
    if loss == "hinge":
        return fake.mean() if inverted else -fake.mean()
    return binary_cross_entropy_with_logits(fake, torch.full_like(fake, 0.0 if inverted else 1.0))


def _targets(logits: Tensor, value: float, noisy: float) -> Tensor:
    target = torch.full_like(logits, value)
    if noisy:
        flipped = torch.rand_like(logits) < noisy
        target = torch.where(flipped, 1 - target, target)
    return target


def gradient_penalty(kind: Penalty, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Unweighted penalty, a scalar; `real` and `fake`: [N, ...] images, without gradient.

    WGAN-GP: mean (|g| - 1)^2 on random interpolations; DRAGAN: the same around noisy real images;
    R1: mean |g|^2 / 2 on real images. g is D's gradient with respect to its image input only.
    """
    per_image = (len(real),) + (1,) * (real.ndim - 1)
    match kind:
        case "wgan-gp":
            at = torch.lerp(real, fake, torch.rand(per_image, dtype=real.dtype, device=real.device))
        case "dragan":
            share = torch.rand(per_image, dtype=real.dtype, device=real.device)
            at = real + share * 0.5 * real.std() * torch.rand_like(real)
        case "r1":
            at = real
        case _:
            raise ValueError(f"gradient penalty: found '{kind}', allowed: wgan-gp | dragan | r1")
    at = at.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
    norm_squared = gradient.flatten(1).square().sum(1)
    if kind == "r1":
        return norm_squared.mean() / 2
    # The small term keeps the root's own gradient finite where D is flat.
    return ((norm_squared + 1e-12).sqrt() - 1).square().mean()
