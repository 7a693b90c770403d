"""How a progressive training proceeds: level, fade and batch size as a pure function of the real images shown so far.

Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation", section 2 and appendix
A.1: 4x4 is trained alone; then each level of twice the edge is faded in, and trained as it is. The paper shows 800,000
images for each fade and each stable stretch; batches of 16, fewer from 256x256 on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from scangan.config import ImageGan, Pggan, VolumeGan
from scangan.errors import ConfigError
from scangan.models.pggan import IMAGE_SIZES, SMALLEST_EDGE, enlarge, halve


class Stage(NamedTuple):
    """Where a training stands: `set_progress(level, alpha)` of both networks, and the images of a batch.

    level: None for networks that do not grow.
    """

    level: int | None
    alpha: float
    batch_size: int


@dataclass(frozen=True)
class ConstantSchedule:
    """A training of networks that do not grow: every step shows so many batches of one size."""

    batch_size: int
    batches_per_step: int
    steps_in_all: int

    def at(self, images: int) -> Stage:
        """What holds after so many images: always the same."""
        return Stage(None, 1.0, self.batch_size)

    def images_at(self, step: int) -> int:
        """Images shown when so many steps are taken."""
        return step * self.batch_size * self.batches_per_step


def make_schedule(settings: ImageGan | VolumeGan, images: int, image_size: int) -> ConstantSchedule | Schedule:
    """The schedule of a training on so many images: `settings.epochs` passes over them, or `settings.steps`.

    A network that grows shares them among its resolutions as `settings.progressive` says: by default alike, half of
    each while its layers fade in, as in the paper.
    Raises ConfigError as `Schedule` does.
    """
    assert settings.weights_of is None, "settings: found weights_of, allowed: epochs | steps"
    if not isinstance(settings, Pggan):
        steps = max(1, round(settings.steps_on(images)))
        return ConstantSchedule(settings.batch_size, settings.discriminator_steps, steps)
    assert settings.epochs is not None
    shown, growth = settings.epochs * images, settings.progressive
    edges = [edge for edge in IMAGE_SIZES if edge <= image_size]
    shares = {edge: growth.shares.get(edge, 1.0) for edge in edges}
    of_edge = {edge: max(1, round(shown * share / sum(shares.values()))) for edge, share in shares.items()}
    fade = {edge: int(growth.fade * number) for edge, number in of_edge.items() if edge != SMALLEST_EDGE}
    return Schedule(
        image_size=image_size,
        fade_images=fade,
        stable_images={edge: number - fade.get(edge, 0) for edge, number in of_edge.items()},
        batch_sizes={edge: growth.batch_sizes.get(edge, settings.batch_size) for edge in edges},
    )


class _Start(NamedTuple):
    """Where a level begins, or the training ends: steps taken and images shown before."""

    step: int
    images: int


@dataclass(frozen=True)
class Schedule:
    """A training from 4x4 up to `image_size`.

    fade_images, stable_images: real images shown while a level fades in, and after that; a number for all levels, or
    one for each edge (4x4 does not fade). batch_sizes: images of a batch at each edge.
    A step shows one batch, of the size that holds when it begins, so a level may begin up to a batch late.
    Raises ConfigError naming the key that is wrong.

    >>> schedule = Schedule(image_size=8, fade_images=100, stable_images=200, batch_sizes={4: 16, 8: 10})
    >>> schedule.at(250)
    Stage(level=1, alpha=0.5, batch_size=10)
    """

    image_size: int
    fade_images: int | Mapping[int, int]
    stable_images: int | Mapping[int, int]
    batch_sizes: Mapping[int, int]

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            allowed = ", ".join(map(str, IMAGE_SIZES))
            raise ConfigError(f"config: image_size: found {self.image_size}, allowed: {allowed}")
        for name, edges, least in (
            ("fade_images", self.edges[1:], 0),
            ("stable_images", self.edges, 1),
            ("batch_sizes", self.edges, 1),
        ):
            for edge in edges:
                try:
                    number: Any = _for_edge(getattr(self, name), edge)
                except KeyError:
                    number = "nothing"
                if not (isinstance(number, int) and number >= least):
                    raise ConfigError(f"config: {name}: found {number} for {edge}x{edge}, allowed: {least} or more")

    @property
    def edges(self) -> tuple[int, ...]:
        """The images' edge at each level."""
        return IMAGE_SIZES[: IMAGE_SIZES.index(self.image_size) + 1]

    @property
    def images_in_all(self) -> int:
        """Real images to be shown; the last batch may go beyond."""
        return self._ends[-1]

    @property
    def steps_in_all(self) -> int:
        return self._starts[-1].step

    def at(self, images: int) -> Stage:
        """What holds for the batch that begins after so many images; after the last of them, what held there."""
        level = bisect_right(self._ends[:-1], images)
        batch_size = self.batch_sizes[self.edges[level]]
        if level == 0:
            return Stage(level, 1.0, batch_size)
        shown, fade = images - self._ends[level - 1], _for_edge(self.fade_images, self.edges[level])
        return Stage(level, shown / fade if shown < fade else 1.0, batch_size)

    def images_at(self, step: int) -> int:
        """Images shown when so many steps are taken: where step `step`, counted from 0, begins."""
        if not 0 <= step <= self.steps_in_all:
            raise ValueError(f"step: found {step}, allowed: 0 to {self.steps_in_all}")
        level = bisect_right([start.step for start in self._starts[:-1]], step) - 1
        start = self._starts[level]
        return start.images + (step - start.step) * self.batch_sizes[self.edges[level]]

    def step_at(self, images: int) -> int:
        """Steps after which at least so many images are shown; `images_at` the other way round."""
        if not 0 <= images <= self.images_at(self.steps_in_all):
            raise ValueError(f"images: found {images}, allowed: 0 to {self.images_at(self.steps_in_all)}")
        level = bisect_right([start.images for start in self._starts[:-1]], images) - 1
        start = self._starts[level]
        return start.step + _ceil_div(images - start.images, self.batch_sizes[self.edges[level]])

    @cached_property
    def _ends(self) -> list[int]:
        """Images to be shown up to the end of each level."""
        ends = [_for_edge(self.stable_images, SMALLEST_EDGE)]
        for edge in self.edges[1:]:
            ends.append(ends[-1] + _for_edge(self.fade_images, edge) + _for_edge(self.stable_images, edge))
        return ends

    @cached_property
    def _starts(self) -> list[_Start]:
        """Where each level begins in whole steps, and where the last one ends."""
        starts = [_Start(0, 0)]
        for edge, end in zip(self.edges, self._ends, strict=True):
            batch_size = self.batch_sizes[edge]
            # A batch larger than a level may have shown its images already.
            steps = max(0, _ceil_div(end - starts[-1].images, batch_size))
            starts.append(_Start(starts[-1].step + steps, starts[-1].images + steps * batch_size))
        return starts


def blend_real(images: Tensor, level: int, alpha: float) -> Tensor:
    """Real images as a discriminator at (level, alpha) sees them: [N, C, S, S] -> [N, C, E, E], E = 4 * 2^level.

    Averaged down to E, and blended as the generator's are: the share `alpha` as they are, the rest without the detail
    that half the edge cannot show.
    """
    edge, size = SMALLEST_EDGE << level, images.shape[-1]
    assert size % edge == 0, f"images: found {tuple(images.shape)}, allowed: edges that are multiples of {edge}"
    images = F.avg_pool2d(images, size // edge)
    if level == 0 or alpha == 1:
        return images
    return torch.lerp(enlarge(halve(images)), images, alpha)


def _for_edge(numbers: int | Mapping[int, int], edge: int) -> int:
    return numbers[edge] if isinstance(numbers, Mapping) else numbers


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
