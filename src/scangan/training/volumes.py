"""Trains CT-SGAN on slabs of volumes (Pesaranghader et al. 2021, section 2): memory depends on the slab, not the depth.

Real and generated slabs begin at the same random places. D_slice sees some 3-channel slices of each, and where they
lie; D_slab the centre slices of the whole slab. R_v runs for the whole volume, G_slice for the slab only.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from scangan.config import CtSgan, Gan3d, VolumeGan
from scangan.ct.window import to_network
from scangan.errors import DataError
from scangan.models.catalogue import build, network_options
from scangan.models.ct_sgan import OUTPUT_RANGE, Discriminator, Generator, slice_positions, to_slices
from scangan.training.adversarial import (
    LOW_DIVERSITY,
    SAMPLE_COLUMNS,
    GanTraining,
    TrainedGan,
    Watch,
    channels_last,
    check_batch_size,
    run,
)
from scangan.training.losses import Loss, discriminator_loss, generator_loss, gradient_penalty
from scangan.training.progressive import Stage

COARSE = 4  # pixels an edge of what is compared between volumes
MISPLACED_WEIGHT = 0.5  # of real slices at wrong places, where generated ones have 1
LEAST_MISPLACED = 0.15  # how far these lie from theirs at least; the whole is 2


class VolumeTraining(GanTraining):
    """The game between a generator and a discriminator of whole volumes, [N, 1, S, S, S]."""

    settings: VolumeGan

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Add a row: the middle axial, coronal and sagittal planes of volumes of the averaged generator.

        How far they differ from each other, as a share of what real ones do, is added to the last row of the history as
        `diversity`; too little of it is logged.
        """
        low, high = OUTPUT_RANGE
        latents = self.fixed_noise[: -(-SAMPLE_COLUMNS // 3)].split(1)
        volumes = torch.cat([self.average.average(latent.to(self.fabric.device)).float() for latent in latents])
        planes = []
        for volume in volumes:
            middle = volume.shape[1] // 2
            # Upright: the head is the last slice.
            planes += [volume[:, middle], volume[:, :, middle].flip(1), volume[..., middle].flip(1)]
        shown = torch.stack(planes[:SAMPLE_COLUMNS])
        self.samples.append(((shown - low) / (high - low) * 255).round().clamp(0, 255).byte().cpu())
        diversity = (_median_difference(volumes) / _median_difference(self._real_volumes(len(volumes)))).item()
        if self.history:
            self.history[-1]["diversity"] = diversity
        if self._is_late() and diversity < LOW_DIVERSITY:
            self._warn_of_collapse("volumes", diversity)

    def _real_volumes(self, number: int) -> Tensor:
        """The first training volumes, as networks see them: [number, 1, S, S, S]."""
        return self.images[:number].to(self.fabric.device)


def _median_difference(volumes: Tensor) -> Tensor:
    """Of two of the volumes [N, 1, S, S, S], N >= 2, the mean absolute difference; the median over all pairs."""
    return torch.stack([(one - other).abs().mean() for one, other in combinations(volumes, 2)]).median()


class SlabTraining(VolumeTraining):
    """The game between R_v with G_slice, and D_slice with D_slab.

    volumes: int16 [N, S, S, S] in HU; window: HU that are -1 and 1 to the networks. What the engine calls images are
    3-channel slices of slabs here, [N, T, 3, S, S]; where they begin lives from `_real_batch` to the end of the step.
    """

    settings: CtSgan

    def __init__(
        self,
        fabric: Fabric,
        generator: Generator,
        discriminator: Discriminator,
        volumes: Tensor,
        window: tuple[float, float],
        settings: CtSgan,
    ) -> None:
        super().__init__(fabric, generator, discriminator, volumes, OUTPUT_RANGE, settings)
        self.hounsfield_window, self.slabs = window, settings.slabs
        self.positions = slice_positions(generator.depth, fabric.device)

    def _real_batch(self, shown: int, stage: Stage) -> Tensor:
        volumes = self.batches.batch(shown, stage.batch_size)
        first = self._draw_places(len(volumes))
        around = [
            self.images[volume, start : start + self.slabs.depth + 2]
            for volume, start in zip(volumes.tolist(), first.tolist(), strict=True)
        ]
        slab = torch.stack(around).to(self.fabric.device, non_blocking=True)
        self.first = first.to(self.fabric.device, non_blocking=True)
        slices = to_slices(to_network(slab.float(), self.hounsfield_window))
        if self.settings.mode_seeking_weight:
            self.real_differences = _differences_in_pairs(slices)
        return slices

    def _draw_places(self, volumes: int) -> Tensor:
        """Where the slabs of so many volumes begin, [volumes]; those that are compared, in pairs at the same places."""
        places = len(self.positions) - self.slabs.depth + 1
        if not self.settings.mode_seeking_weight:
            return torch.randint(places, (volumes,))
        return torch.randint(places, (volumes // 2,)).repeat(2)

    def _generate(self, images: int) -> Tensor:
        latent = self.generator.draw_latent(images, torch.default_generator)
        latent = latent.to(self.fabric.device, non_blocking=True)
        with self.fabric.autocast():
            return self.generator.slab(latent, self.first, self.slabs.depth)

    def _real_volumes(self, number: int) -> Tensor:
        return to_network(super()._real_volumes(number)[:, None].float(), self.hounsfield_window)

    def _choose_slices(self) -> Tensor:
        """Which of a slab's slices D_slice sees: [slices], in order."""
        return torch.randperm(self.slabs.depth)[: self.slabs.slices].sort().values.to(self.first.device)

    def _judges(self) -> dict[str, tuple]:
        """Of each discriminator: what it sees of 3-channel slices of slabs, and its call."""
        chosen = self._choose_slices()
        positions = self.positions[self.first[:, None] + chosen].flatten()
        return {
            "slice": (
                lambda slices: slices[:, chosen].flatten(0, 1),
                lambda seen: self.discriminator.slice(seen, positions),
            ),
            "slab": (lambda slices: slices[:, None, :, 1], self.discriminator.slab),
        }

    def discriminator_losses(self, real: Any, fake: Any) -> dict[str, Tensor]:
        """As the engine's; `loss_d` and `penalty` are sums over D_slice and D_slab, the logits their means.

        Paper: a sum over the slices of a slab (equation 2); here their mean, so that the number of slices does not
        change the weight of D_slice beside D_slab.
        """
        losses: dict[str, Tensor] = {}
        for see, judge in self._judges().values():
            shown, drawn = see(real), see(fake)
            with self.fabric.autocast():
                d_real, d_fake = judge(shown), judge(drawn)
            found = self._losses_of_judge(self.settings.loss, d_real.float(), d_fake.float())
            if (wanted := self.settings.gradient_penalty).kind != "none":
                # Of D's image input alone: cuDNN's RNNs, such as R_v, have no second derivative.
                penalty = gradient_penalty(wanted.kind, judge, shown, drawn.float())
                found["penalty"] = found["penalty"] + wanted.weight * penalty
            losses = _sum(losses, found)
        return losses

    def _losses_of_judge(self, loss: Loss, d_real: Tensor, d_fake: Tensor) -> dict[str, Tensor]:
        """What one of the two discriminators adds to `discriminator_losses`, but for a gradient penalty."""
        rules = self.settings
        drift = rules.drift * d_real.square().mean() if rules.drift else torch.zeros((), device=d_real.device)
        return {
            "loss_d": discriminator_loss(loss, d_real, d_fake, rules.label_inversion, rules.noisy_labels),
            "penalty": drift,
            "d_real": d_real.mean() / 2,
            "d_fake": d_fake.mean() / 2,
            "sign_real": d_real.sign().mean() / 2,
        }

    def generator_losses(self, fake: Any) -> dict[str, Tensor]:
        """`loss_g`, the sum over both discriminators, minimised; with `mode_seeking`, see there, if it has a weight."""
        loss = torch.zeros((), device=self.fabric.device)
        for see, judge in self._judges().values():
            with self.fabric.autocast():
                d_fake = judge(see(fake))
            loss = loss + generator_loss(self.settings.loss, d_fake.float(), self.settings.label_inversion)
        if not (weight := self.settings.mode_seeking_weight):
            return {"loss_g": loss}
        mode_seeking = self._mode_seeking_loss(self._slices(fake))
        return {"loss_g": loss + weight * mode_seeking, "mode_seeking": mode_seeking}

    def _slices(self, fake: Any) -> Tensor:
        """The generated slices [N, T, 3, S, S] of what `generator_losses` is given."""
        return fake

    def _mode_seeking_loss(self, fake: Tensor) -> Tensor:
        """What share of the differences of real volumes generated ones lack, as a mean over pairs; 0: nothing.

        After Mao et al. 2019 (arXiv:1903.05628), who divide the difference of two images by that of their noise, and
        want it without bounds: here by that of two real volumes at the same place, and no more than theirs.
        """
        return (1 - _differences_in_pairs(fake) / self.real_differences.clamp(min=1e-6)).clamp(min=0).mean()


def _sum(losses: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: losses.get(name, 0) + value for name, value in others.items()}


def _differences_in_pairs(slices: Tensor) -> Tensor:
    """Mean absolute difference of each slab of the first half and its like in the second: [N, T, 3, S, S] -> [N / 2].

    Of middle slices, coarsely: grain is no difference between volumes.
    """
    one, other = avg_pool2d(slices[:, :, 1], COARSE).chunk(2)
    return (one - other).abs().mean((1, 2, 3))


class SeenSlab(NamedTuple):
    """3-channel slices of slabs [N, T, 3, S, S], and what D_slice sees of those that are chosen."""

    slices: Tensor
    maps: list[Tensor]


class ProjectedSlabTraining(SlabTraining):
    """The same game where D_slice sees slices through a frozen network: hinge loss, without a penalty.

    Generated slices are seen once, by both networks, and pass D_slice's heads as one batch with the real ones, as in
    `adversarial.ProjectedTraining`; so the game is given slabs beside what D_slice has seen of them.

    D_slice learns besides that a real slice at a wrong place is none (as of captions Reed et al. 2016,
    arXiv:1605.05396): from generated ones alone, which look wrong at any place, it hardly learns to look at the place.
    """

    def _shown_to_discriminator(self, real: Tensor, fake: Tensor) -> tuple[SeenSlab, SeenSlab]:
        self.chosen = self._choose_slices()
        with torch.no_grad():
            self.real_seen = self._see(real)
        self.fake_seen = self._see(fake)
        return SeenSlab(real, self.real_seen), SeenSlab(fake.detach(), [maps.detach() for maps in self.fake_seen])

    def _shown_to_generator(self, fake: Tensor) -> SeenSlab:
        return SeenSlab(fake, self.fake_seen)

    def _see(self, slices: Tensor) -> list[Tensor]:
        with self.fabric.autocast():
            return self.discriminator.slice.see(slices[:, self.chosen].flatten(0, 1))

    def _slices(self, fake: SeenSlab) -> Tensor:
        return fake.slices

    def _judges(self) -> dict[str, tuple]:
        return {"slab": (lambda shown: shown.slices[:, None, :, 1], self.discriminator.slab)}

    def _positions(self) -> Tensor:
        """Of the slices that D_slice sees."""
        return self.positions[self.first[:, None] + self.chosen].flatten()

    def _judge_slices(self, fake: SeenSlab, *further_positions: Tensor) -> tuple[Tensor, ...]:
        """D_slice's logits of real and of generated slices, and of the real ones at other positions."""
        both = [torch.cat(maps) for maps in zip(self.real_seen, fake.maps, strict=True)]
        own = self._positions()
        with self.fabric.autocast():
            logits = self.discriminator.slice.judge(both, torch.cat([own, own, *further_positions]))
        return logits.float().split(len(own))

    def discriminator_losses(self, real: SeenSlab, fake: SeenSlab) -> dict[str, Tensor]:
        """The same, of D_slab and of D_slice."""
        d_real, d_fake, d_misplaced = self._judge_slices(fake, _wrong_places(self._positions()))
        of_slice = self._losses_of_judge("hinge", d_real, d_fake)
        of_slice["loss_d"] = of_slice["loss_d"] + MISPLACED_WEIGHT * torch.relu(1 + d_misplaced).mean()
        return _sum(super().discriminator_losses(real, fake), of_slice)

    def generator_losses(self, fake: SeenSlab) -> dict[str, Tensor]:
        """The same, of D_slab and of D_slice."""
        losses = super().generator_losses(fake)
        _, d_fake = self._judge_slices(fake)
        losses["loss_g"] = losses["loss_g"] + generator_loss("hinge", d_fake, self.settings.label_inversion)
        return losses


def _wrong_places(positions: Tensor) -> Tensor:
    """Of each position in [-1, 1] another one, at least `LEAST_MISPLACED` away; beyond one end is the other."""
    further = torch.rand(len(positions)).to(positions.device) * (2 - 2 * LEAST_MISPLACED) + LEAST_MISPLACED
    return (positions + 1 + further) % 2 - 1


def make_slab_training(
    fabric: Fabric,
    generator: Generator,
    discriminator: Discriminator,
    volumes: Tensor,
    window: tuple[float, float],
    settings: CtSgan,
) -> SlabTraining:
    """The game that fits the D_slice of these settings, see `SlabTraining`."""
    kind = SlabTraining
    if settings.discriminator == "projected":
        kind = ProjectedSlabTraining
        channels_last(discriminator.slice)  # D_slice has no penalty then, though D_slab may have
    return kind(fabric, generator, discriminator, volumes, window, settings)


def train_gan(
    volumes: np.ndarray,
    settings: VolumeGan,
    fabric: Fabric,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    description: str = "train_gan",
    validate: None = None,
    watch: Watch | None = None,
) -> TrainedGan:
    """The same as `adversarial.train_gan`, on volumes [N, 1, S, S, S] in [0, 1]; see `train_volume_gan`."""
    return train_volume_gan(
        volumes[:, 0], (0.0, 1.0), settings, fabric, resume_folder, checkpoint_seconds, description, watch
    )


def train_volume_gan(
    volumes: np.ndarray,
    window: tuple[float, float],
    settings: VolumeGan,
    fabric: Fabric,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    description: str = "train_volume_gan",
    watch: Watch | None = None,
) -> TrainedGan:
    """Train the model that `settings` names, `ct_sgan` or `gan3d`, on volumes int16 [N, S, S, S] in HU.

    `gan3d` learns them at `settings.image_size` voxels an edge. Resumes from `resume_folder` where a checkpoint lies
    there, on a CPU to the bit; watch: as of `train_gan`. Raises TrainingError as that does; ConfigError for a size that
    the model cannot have; DataError for fewer than 2 volumes.
    """
    in_pairs = isinstance(settings, CtSgan) and settings.mode_seeking_weight > 0
    check_batch_size(settings.batch_size, fabric, in_pairs)
    if len(volumes) < 2:
        raise DataError(f"{description}: volumes: found {len(volumes)}, allowed: at least 2")
    torch.manual_seed(settings.seed)
    size = (settings.image_size if isinstance(settings, Gan3d) else None) or volumes.shape[-1]
    generator, discriminator = build(settings.model, 1, size, **network_options(settings))
    known = torch.from_numpy(volumes)
    training: SlabTraining | VolumeTraining
    if isinstance(settings, CtSgan):
        training = make_slab_training(fabric, generator, discriminator, known, window, settings)
    else:
        scaled = torch.cat([_shrink(to_network(volume.float(), window), size) for volume in known])
        training = VolumeTraining(fabric, generator, discriminator, scaled, OUTPUT_RANGE, settings)
    return run(training, resume_folder, checkpoint_seconds, description, watch=watch)


def _shrink(volume: Tensor, size: int) -> Tensor:
    """[S, S, S] -> [1, 1, size, size, size]: means over what a larger voxel covers, or linear between smaller ones."""
    mode = "area" if volume.shape[-1] > size else "trilinear"
    return interpolate(volume[None, None], size=(size,) * 3, mode=mode)
