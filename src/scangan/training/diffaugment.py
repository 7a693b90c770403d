"""Differentiable augmentation of all that a discriminator sees, and a probability that follows its overfitting.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training": colour, translation and cutout, for
images [N, C, H, W] and volumes [N, C, D, H, W]. Karras et al. 2020, "Training Generative Adversarial Networks with
Limited Data" (ADA): the adaptive probability.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

# The paper's strengths. Brightness is in a network's units where these run from -1 to 1.
BRIGHTNESS = 0.5
CONTRAST = 0.5
SATURATION = 1.0
SHIFT = 1 / 8
CUTOUT = 1 / 2


class DiffAugment:
    """Call with images and a probability: each kind changes each image with that probability, by its own draw.

    kinds: of `color`, `translation`, `cutout`, applied in this order. output_range: the least and greatest value of
    the images, which a generator's output has. What a translation brings in and what a cutout removes has the least:
    black. (The paper's zero, in images from -1 to 1, is a grey that is tissue in a CT.)

    Gradients reach the images. All random numbers come from torch's global generator on the CPU, so they are the same
    on every device, and always as many, so that one kind does not move the draws of another.
    """

    def __init__(self, kinds: Collection[str], output_range: tuple[float, float]) -> None:
        self.kinds = kinds
        self.low, high = output_range
        self.unit = (high - self.low) / 2

    def __call__(self, images: Tensor, probability: Tensor | float = 1.0) -> Tensor:
        """images: [N, C, H, W] or [N, C, D, H, W], floating point; probability: a number or a scalar tensor."""
        edges = torch.tensor(images.shape[2:])
        draws = torch.rand(6 + 2 * len(edges), len(images))
        gates, color, *places = draws.split([3, 3, len(edges), len(edges)])
        gates = gates.to(images.device, non_blocking=True) < probability
        in_color, in_translation, in_cutout = gates.reshape(3, -1, *[1] * (images.ndim - 1))
        if "color" in self.kinds:
            brightness, saturation, contrast = (2 * color - 1).to(images, non_blocking=True)
            coloured = adjust_color(
                images, BRIGHTNESS * self.unit * brightness, 1 + SATURATION * saturation, 1 + CONTRAST * contrast
            )
            images = torch.where(in_color, coloured, images)
        if "translation" in self.kinds:
            most = _rounded(edges * SHIFT)
            shift = (places[0].T * (2 * most + 1)).long() - most
            shift = shift.to(images.device, non_blocking=True)
            images = torch.where(in_translation, translate(images, shift, self.low), images)
        if "cutout" in self.kinds:
            size = _rounded(edges * CUTOUT)
            # A box of even size has its middle between two pixels or on a border, one of odd size in a pixel.
            start = (places[1].T * (edges + 1 - size % 2)).long() - size // 2
            start = start.to(images.device, non_blocking=True)
            images = torch.where(in_cutout, cut_out(images, start, size.tolist(), self.low), images)
        return images


def adjust_color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Images [N, C, ...] with `brightness` added, then spread about their means; every argument is [N].

    saturation: factor on the difference from a pixel's mean over its channels, for [N, 3, H, W] only. contrast:
    factor on the difference from an image's mean. Values may leave the images' range, as in the paper.
    """
    brightness, saturation, contrast = (
        factor.reshape(-1, *[1] * (images.ndim - 1)) for factor in (brightness, saturation, contrast)
    )
    images = images + brightness
    if images.ndim == 4 and images.shape[1] == 3:
        images = torch.lerp(images.mean(1, keepdim=True), images, saturation)
    return torch.lerp(images.flatten(1).mean(1).reshape_as(contrast), images, contrast)


def translate(images: Tensor, shift: Tensor, fill: float) -> Tensor:
    """Images [N, C, ...] moved by whole pixels `shift` [N, axes], towards higher indices; `fill` is what comes in."""
    for axis, edge in enumerate(images.shape[2:]):
        along = [-1 if other == axis + 2 else 1 for other in range(1, images.ndim)]
        source = torch.arange(edge, device=images.device) - shift[:, axis, None]
        inside = ((source >= 0) & (source < edge)).reshape(len(images), *along)
        source = source.clamp(0, edge - 1).reshape(len(images), *along).expand_as(images)
        images = torch.where(inside, images.gather(axis + 2, source), fill)
    return images


def cut_out(images: Tensor, start: Tensor, size: list[int], fill: float) -> Tensor:
    """Images [N, C, ...] with a box of `size` [axes], from pixel `start` [N, axes], set to `fill`.

    The box may begin before an image and end behind it.
    """
    hole = torch.ones(len(images), *[1] * (images.ndim - 1), dtype=torch.bool, device=images.device)
    for axis, edge in enumerate(images.shape[2:]):
        along = [-1 if other == axis + 2 else 1 for other in range(1, images.ndim)]
        place = torch.arange(edge, device=images.device) - start[:, axis, None]
        hole = hole & ((place >= 0) & (place < size[axis])).reshape(len(images), *along)
    return images.masked_fill(hole, fill)


class AdaptiveProbability:
    """ADA's control (section 3): holds r_t = E[sign(D(real))], a sign of overfitting, at `target`.

    r_t is 0 where D does not know its training images from others and 1 where it is sure of each. Every `INTERVAL`
    minibatches the probability moves towards where r_t is `target`, so fast that it can go from 0 to 1 in `images`
    images. It lies in [0, 1], as a scalar tensor on `device`, so that no step waits for a GPU.
    """

    INTERVAL = 4

    def __init__(self, start: float, target: float, images: int, device: torch.device | str = "cpu") -> None:
        self.target, self.images = target, images
        self.probability = torch.tensor(float(start), device=device)
        self._signs = torch.zeros((), device=device)
        self._images = 0
        self._minibatches = 0

    def observe(self, mean_sign: Tensor, images: int) -> None:
        """Count a minibatch of `images` real images, on which the mean of D's signs was `mean_sign`, a scalar."""
        self._signs = self._signs + mean_sign.detach() * images
        self._images += images
        self._minibatches += 1
        if self._minibatches == self.INTERVAL:
            direction = torch.sign(self._signs / self._images - self.target)
            self.probability = (self.probability + direction * self._images / self.images).clamp(0, 1)
            self._signs, self._images, self._minibatches = torch.zeros_like(self._signs), 0, 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "probability": self.probability,
            "signs": self._signs,
            "images": self._images,
            "minibatches": self._minibatches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.probability.device
        self.probability, self._signs = state["probability"].to(device), state["signs"].to(device)
        self._images, self._minibatches = state["images"], state["minibatches"]


def _rounded(lengths: Tensor) -> Tensor:
    return (lengths + 0.5).long()
