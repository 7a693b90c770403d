"""Trains one network that draws all classes of a study: `projected_gan`, told the class of each image.

Edges, textures and anatomy are the same in all classes, so images of one teach the network to draw the others: a class
of few images borrows from one of many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from scangan.config import ProjectedGan
from scangan.errors import TrainingError
from scangan.models.catalogue import build, find_model, network_options
from scangan.training.adversarial import (
    SAMPLE_COLUMNS,
    ProjectedTraining,
    ShuffledBatches,
    TrainedGan,
    Validate,
    Watch,
    check_batch_size,
    run,
)
from scangan.training.progressive import Stage


class BalancedBatches:
    """Indices of training images, as many of each class as of the others, however many images a class has.

    As many of each are drawn from the network, and validated; and what a class of few images lacks are steps: in a
    batch of all images as they come it would hardly be met. Every round has one image of each class, in an order drawn
    from (seed, round); every image of a class comes once in as many rounds as the class has images. As
    `ShuffledBatches` it is stateless: a batch is a function of the images shown before it, and with several processes
    each takes its share of it.

    classes: [N], the number of each image's class; there is at least one image of each.
    """

    def __init__(self, classes: Tensor, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.images, self.rank, self.world_size = len(classes), rank, world_size
        self._members = [(classes == number).nonzero()[:, 0] for number in range(int(classes.max()) + 1)]
        self._rounds = ShuffledBatches(len(self._members), seed, rank, world_size)
        self._of_class = [ShuffledBatches(len(members), seed) for members in self._members]

    def batch(self, shown: int, batch_size: int) -> Tensor:
        """Indices of this process's share of the batch after `shown` images: [batch_size / world_size]."""
        positions = range(shown + self.rank, shown + batch_size, self.world_size)
        drawn = []
        for position, number in zip(positions, self._rounds.batch(shown, batch_size).tolist(), strict=True):
            # One image a round: so many of the class were shown before.
            place = self._of_class[number].batch(position // len(self._members), 1)
            drawn.append(self._members[number][place])
        return torch.cat(drawn)


class ConditionalTraining(ProjectedTraining):
    """The game of `projected_gan` whose networks are told classes: images [N, C, H, W], classes [N], labels by number.

    A batch's classes live from `_real_batch` to the end of the step: the generated images are of the same classes as
    the real ones, so nothing is learnt of how frequent these are. Collapse, diversity and the distance to held-out
    images are looked at in each class; weights are kept by the mean distance over the classes.
    """

    def __init__(
        self,
        fabric: Fabric,
        generator: nn.Module,
        discriminator: nn.Module,
        images: Tensor,
        output_range: tuple[float, float],
        settings: ProjectedGan,
        classes: Tensor,
        labels: list[str],
    ) -> None:
        super().__init__(fabric, generator, discriminator, images, output_range, settings)
        self.classes, self.labels = classes, labels
        self.batches = BalancedBatches(classes, settings.seed, fabric.global_rank, fabric.world_size)
        noise = self.fixed_noise
        self.fixed_noise = torch.cat([generator.with_class(noise, number) for number in range(len(labels))])

    def _real_batch(self, shown: int, stage: Stage) -> Tensor:
        self.batch_classes = self.classes[self.batches.batch(shown, stage.batch_size)]
        one_hot = F.one_hot(self.batch_classes, len(self.labels)).float()
        self.one_hot = one_hot.to(self.fabric.device, non_blocking=True)
        return super()._real_batch(shown, stage)

    def _latent(self, images: int) -> Tensor:
        return self.generator.with_class(super()._latent(images), self.batch_classes)

    def _judge(self, seen: list[Tensor]) -> Tensor:
        one_hot = self.one_hot.repeat(len(seen[-1]) // len(self.one_hot), 1)  # of real and of generated images
        return self.discriminator.judge(seen, one_hot)

    def _judge_pixels(self, images: Tensor) -> Tensor:
        return self.discriminator.pixel_head(images, self.one_hot)

    def _spread(self, images: Tensor) -> Tensor:
        """Of each class, [classes]; 0 of one that has fewer than two images in the batch."""
        spread = torch.zeros(len(self.labels), device=images.device)
        for number in range(len(self.labels)):
            of_class = images[self.batch_classes == number]
            if len(of_class) > 1:
                spread[number] = super()._spread(of_class)
        return spread

    def _least_spread(self, spread: list[float], spread_real: list[float]) -> tuple[float, str]:
        ratios = [generated / real if real else 1.0 for generated, real in zip(spread, spread_real, strict=True)]
        least, label = min(zip(ratios, self.labels, strict=True))
        return least, f" of class {label}"

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Add a row for each class: images of the averaged generator, from the same fixed noise."""
        super().draw_samples()
        self.samples += self.samples.pop().split(SAMPLE_COLUMNS)

    @torch.no_grad()
    def validate(self, measure: Mapping[str, Validate]) -> None:
        """Measure images of each class, by the measure of the class, and keep weights by the mean distance.

        The history has the mean of both numbers, and those of each class (`validation_distance_<class>`).
        """
        noise, found = self._validation_noise(), {}
        for number, label in enumerate(self.labels):
            latent = self.generator.with_class(noise, number)
            found[label] = self._measure(measure[label], latent, f" of class {label}")
        distances, diversities, errors = np.array(list(found.values())).T
        error = float(np.sqrt((errors**2).sum()) / len(errors))
        self._keep_nearest(float(distances.mean()), float(diversities.mean()), error)
        for label, (distance, diversity, _) in found.items():
            self.history[-1] |= {f"validation_distance_{label}": distance, f"diversity_{label}": diversity}


def train_conditional_gan(
    images: Mapping[str, np.ndarray],
    settings: ProjectedGan,
    fabric: Fabric,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    description: str = "train_conditional_gan",
    validate: Mapping[str, Validate] | None = None,
    watch: Watch | None = None,
) -> TrainedGan:
    """Train one network on the images of all classes: class -> [N, C, H, W] in [0, 1], in the order of its one-hot.

    `settings.epochs` are passes over as many images as all classes have together. validate: a measure for each class,
    as `train_gan` takes one; watch: as of `train_gan`. The samples have a row for each class at each moment.
    Resumes, and raises, as `train_gan` does; TrainingError also for fewer than two classes, and for a network that is
    not conditional.
    """
    if len(images) < 2 or not settings.is_conditional:
        found = str(settings.is_conditional).lower()
        raise TrainingError(f"conditional: found {found} and {len(images)} classes, allowed: true, and at least 2")
    check_batch_size(settings.batch_size, fabric)
    torch.manual_seed(settings.seed)
    together = torch.from_numpy(np.concatenate(list(images.values())))
    classes = torch.repeat_interleave(torch.tensor([len(each) for each in images.values()]))
    _, channels, _, image_size = together.shape
    options = network_options(settings) | {"classes": len(images)}
    generator, discriminator = build(settings.model, channels, image_size, **options)
    low, high = output_range = find_model(settings.model).OUTPUT_RANGE
    scaled = together * (high - low) + low
    training = ConditionalTraining(
        fabric, generator, discriminator, scaled, output_range, settings, classes, list(images)
    )
    return run(training, resume_folder, checkpoint_seconds, description, validate, settings.validations, watch)
