"""Trains the nodule injector and the nodule eraser (Pesaranghader et al. 2021, CT-SGAN, section 3 and appendix B).

The injector is shown a sketch of a real nodule in its surroundings, and has to make the nodule: its form is that found
in the VOI, its grey value the mean there, and zooming fills the gaps between the data's radii.
Healthy VOIs join it where a part of the truth is known: beside the form asked for, the place looks as it did. So the
injector meets many more surroundings than there are nodules, and the other scanner too; what the form holds there
is judged by nobody. Its forms and grey values are drawn as those of nodules that are injected.
The eraser is shown healthy VOIs with an injected nodule, and has to make the healthy VOI, which is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from scangan.config import GradientPenalty, NoduleNetwork, Rules, Voi
from scangan.ct.forms import draw_forms, form_of
from scangan.ct.grain import without_grain
from scangan.ct.window import to_network
from scangan.data.voi import VoiSet
from scangan.errors import ConfigError, DataError
from scangan.models.catalogue import build
from scangan.models.nodule_cgan import (
    EXAMPLES,
    OUTPUT_RANGE,
    dilate,
    draw_grey,
    form_mask,
    sketch,
    sphere_mask,
)
from scangan.training.adversarial import (
    SAMPLE_COLUMNS,
    AdversarialTraining,
    ShuffledBatches,
    TrainedGan,
    Watch,
    check_batch_size,
    resident,
    run,
)
from scangan.training.progressive import ConstantSchedule, Stage

KINDS = ("injector", "eraser")
# Beside the weighted difference from the truth.
RULES = Rules(
    loss="bce",
    gradient_penalty=GradientPenalty(kind="none"),
    drift=0,
    discriminator_steps=1,
    optimizer="adam",
    weight_decay=0,
    label_inversion=False,
    noisy_labels=0,
)


@dataclass(frozen=True)
class Pairs:
    """What a network is shown, and what it has to make: float32 [N, S, S, S] in HU, alike outside the masks.

    radii_mm: [N], of the nodules. Of an injector both are the VOIs of real nodules, and there may be healthy VOIs,
    [M, S, S, S], and the radii [M] of the nodules that it shall put there. forms: [N, S, S, S], how much of
    each voxel is nodule; None, as of an eraser: spheres.
    """

    shown: np.ndarray
    targets: np.ndarray
    radii_mm: np.ndarray
    healthy: np.ndarray | None = None
    healthy_radii_mm: np.ndarray | None = None
    forms: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.shown.ndim != 4 or self.shown.shape != self.targets.shape or len(self.radii_mm) != len(self.shown):
            shapes = f"{self.shown.shape}, {self.targets.shape} and {len(self.radii_mm)} radii"
            raise ValueError(f"pairs: {shapes} do not fit")
        if self.forms is not None and self.forms.shape != self.targets.shape:
            raise ValueError(f"pairs: {self.targets.shape} and forms {self.forms.shape} do not fit")
        if self.healthy is None:
            return
        radii = 0 if self.healthy_radii_mm is None else len(self.healthy_radii_mm)
        if self.healthy.shape[1:] != self.targets.shape[1:] or not len(self.healthy) == radii > 0:
            raise ValueError(f"pairs: {self.targets.shape}, healthy {self.healthy.shape} and {radii} radii do not fit")

    def __len__(self) -> int:
        return len(self.radii_mm)

    def digests(self) -> list[str]:
        """Of the content, so that a training resumes on the same pairs only."""
        arrays = (self.shown, self.targets, self.radii_mm, self.healthy, self.healthy_radii_mm, self.forms)
        return [hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for array in arrays if array is not None]


class Batch(NamedTuple):
    """What a generator is told of N VOIs, and what it shall make: voi, mask, target [N, 1, S, S, S]; radius_mm [N].

    form: how much of each voxel is nodule, or lies in its sphere: as the mask.
    """

    voi: Tensor
    mask: Tensor
    radius_mm: Tensor
    target: Tensor
    form: Tensor


class NoduleTraining(AdversarialTraining):
    """The game between a generator that fills the masks of VOIs and a discriminator that judges pairs.

    A batch's conditions live from `_real_batch` to the end of the step. Of healthy VOIs, half as many as of nodules
    join each batch of the generator; D does not see them.
    """

    settings: NoduleNetwork

    def __init__(
        self,
        fabric: Fabric,
        generator: torch.nn.Module,
        discriminator: torch.nn.Module,
        pairs: Pairs,
        settings: NoduleNetwork,
        voi: Voi,
    ) -> None:
        targets = _tensor(pairs.targets, voi.spacing_mm)
        super().__init__(fabric, generator, discriminator, targets, OUTPUT_RANGE, settings)
        self.voi, self.edge = voi, pairs.targets.shape[-1]
        # Those of an injector are the same.
        is_same = pairs.shown is pairs.targets
        self.shown = self.images if is_same else resident(_tensor(pairs.shown, voi.spacing_mm), fabric.device)
        self.radii_mm = torch.tensor(pairs.radii_mm, dtype=torch.float32)
        self.forms = None
        if pairs.forms is not None:
            self.forms = torch.from_numpy(pairs.forms)[:, None]
            self.examples = _examples(pairs.radii_mm, targets[:, 0].numpy(), pairs.forms)
            for each in (self.generator, self.average.average):
                each.examples.copy_(torch.from_numpy(self.examples))
        self.healthy_batches = None
        if pairs.healthy is not None:
            self.healthy = resident(_tensor(pairs.healthy, voi.spacing_mm), fabric.device)
            self.healthy_radii_mm = torch.tensor(pairs.healthy_radii_mm, dtype=torch.float32)
            self.healthy_batches = ShuffledBatches(
                len(self.healthy), settings.seed + 1, fabric.global_rank, fabric.world_size
            )

    @property
    def rules(self) -> Rules:
        """The paper's."""
        return RULES

    def _make_schedule(self, images: Tensor) -> ConstantSchedule:
        return ConstantSchedule(self.settings.batch_size, 1, self.settings.steps)

    def _real_batch(self, shown: int, stage: Stage) -> Tensor:
        indices = self.batches.batch(shown, stage.batch_size)
        shown_vois, targets = (vois[indices.to(vois.device)] for vois in (self.shown, self.images))
        forms = None if self.forms is None else self.forms[indices]
        self.batch = self._prepare(shown_vois, targets, self.radii_mm[indices], forms)
        if self.healthy_batches is not None:
            indices = self.healthy_batches.batch(shown // 2, stage.batch_size // 2)
            healthy, radii_mm = self.healthy[indices.to(self.healthy.device)], self.healthy_radii_mm[indices]
            rng = np.random.default_rng([self.settings.seed, shown])
            forms = torch.from_numpy(draw_forms(rng, radii_mm.tolist(), self.edge, self.voi.spacing_mm))[:, None]
            greys = torch.tensor([draw_grey(self.examples, radius_mm, rng) for radius_mm in radii_mm.tolist()])
            self.healthy_batch = self._prepare(healthy, healthy, radii_mm, forms, greys)
        return self.batch.target

    def _prepare(
        self, voi: Tensor, target: Tensor, radius_mm: Tensor, form: Tensor | None, grey: Tensor | None = None
    ) -> Batch:
        """On the device, and varied at random, all alike; the rest as for `_told`."""
        device = self.fabric.device
        voi, target, radius_mm = (values.to(device, non_blocking=True) for values in (voi, target, radius_mm))
        together = torch.cat([voi, target] + ([] if form is None else [form.to(device, voi.dtype)]), 1)
        together, radius_mm = random_zoom(together, radius_mm, self.settings.zoom, largest_radius(self.edge, self.voi))
        together = random_turn(together).contiguous(memory_format=torch.channels_last_3d)
        return self._told(together[:, :1], together[:, 1:2], radius_mm, None if form is None else together[:, 2:], grey)

    def _told(
        self, voi: Tensor, target: Tensor, radius_mm: Tensor, form: Tensor | None, grey: Tensor | None = None
    ) -> Batch:
        """The mask and what is shown. form: None: a sphere, the eraser's. grey: None: the mean of the target's form."""
        edge, spacing_mm, margin_mm = self.edge, self.voi.spacing_mm, self.voi.margin_mm
        if form is None:
            mask, form = (sphere_mask(radius_mm + more, edge, spacing_mm) for more in (margin_mm, 0))
            form = form.to(voi.dtype)
        else:
            mask = form_mask(form, radius_mm, margin_mm, spacing_mm)
            if grey is None:
                axes = (1, 2, 3, 4)
                grey = (target * form).sum(axes) / form.sum(axes)
            voi = sketch(voi, mask, form, grey.to(voi.device))
        return Batch(voi, mask, radius_mm, torch.where(mask, target, voi), form)

    def _generate(self, images: int) -> Tensor:
        told: Sequence[Tensor] = self.batch[:3]
        if self.healthy_batches is not None:
            told = [torch.cat(both) for both in zip(told, self.healthy_batch[:3], strict=True)]
        noise = self.generator.draw_latent(len(told[0]), torch.default_generator)
        noise = noise.to(self.fabric.device, non_blocking=True)
        with self.fabric.autocast():
            filled = self.generator(*told, noise)
        self.healthy_filled = filled[images:]
        return filled[:images]

    def _judge(self, images: Tensor) -> Tensor:
        return self.discriminator(*self.batch[:3], images)

    def generator_losses(self, fake: Tensor) -> dict[str, Tensor]:
        """`loss_g`, minimised, and `reconstruction`, the weighted mean absolute difference from the truth."""
        losses = super().generator_losses(fake)
        weight = torch.where(self.batch.form >= 0.5, self.settings.inside_weight, 1.0) * self.batch.mask
        reconstruction = _difference(fake, self.batch.target, weight)
        if self.healthy_batches is not None:
            # A voxel on the surface is part nodule.
            margin = self.healthy_batch.mask & ~dilate(self.healthy_batch.form, 1)
            reconstruction = torch.cat(
                [reconstruction, _difference(self.healthy_filled, self.healthy_batch.target, margin)]
            )
        losses["reconstruction"] = reconstruction.mean()
        losses["loss_g"] = losses["loss_g"] + self.settings.reconstruction_weight * losses["reconstruction"]
        return losses

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Add a row: the middle axial planes of the first VOIs, filled by the averaged generator, the noise fixed."""
        columns = torch.arange(SAMPLE_COLUMNS) % len(self.shown)
        forms = None if self.forms is None else self.forms[columns]
        # As they are, neither turned nor zoomed.
        shown = self.shown[columns.to(self.shown.device)].to(self.fabric.device)
        radius_mm = self.radii_mm[columns].to(self.fabric.device)
        batch = self._told(shown, shown, radius_mm, None if forms is None else forms.to(shown.device))
        filled = self.average.average(*batch[:3], self.fixed_noise.to(self.fabric.device)).float()
        low, high = OUTPUT_RANGE
        plane = filled[:, :, self.edge // 2]
        self.samples.append(((plane - low) / (high - low) * 255).round().clamp(0, 255).byte().cpu())


def _examples(radii_mm: np.ndarray, vois: np.ndarray, forms: np.ndarray) -> np.ndarray:
    """Sizes and grey values of nodules, [EXAMPLES, 2]: what their generator draws grey values from."""
    greys = [(voi * form).sum() / form.sum() for voi, form in zip(vois, forms, strict=True)]
    chosen = torch.linspace(0, len(greys) - 1, EXAMPLES).round().long().numpy()
    return np.stack([radii_mm, greys], 1).astype(np.float32)[chosen]


def _tensor(vois: np.ndarray, voi_spacing_mm: float) -> Tensor:
    """HU [N, S, S, S] -> [N, 1, S, S, S] in [-1, 1], without their grain, as `synthesis.nodules.fill` shows them."""
    return torch.from_numpy(to_network(without_grain(vois, voi_spacing_mm)))[:, None]


def _difference(filled: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute difference of each VOI, [N]: each counts alike, whatever its nodule's size.

    Of the values, and of their steps to the next voxel along each axis: a blurred edge is nearly right in its values.
    """
    axes, difference = (1, 2, 3, 4), (filled - target).float()
    total = (difference.abs() * weight).sum(axes)
    for axis in (2, 3, 4):
        steps = difference.diff(dim=axis).abs()
        total = total + (steps * weight.narrow(axis, 1, steps.shape[axis])).sum(axes)
    return total / weight.sum(axes)


def largest_radius(edge: int, voi: Voi) -> float:
    """In mm, of a nodule whose mask is whole within a VOI of so many voxels an edge."""
    return edge * voi.spacing_mm / 2 - voi.margin_mm


def nodule_network_options(kind: str, settings: NoduleNetwork, voi: Voi) -> dict[str, Any]:
    """What both networks are built with beside the VOIs' edge, as `models.catalogue.build` takes it.

    kind: `injector` | `eraser`; the eraser sees what lies inside the mask. Raises ConfigError for another.
    """
    if kind not in KINDS:
        raise ConfigError(f"nodule_gan: kind: found {kind}, allowed: {' | '.join(KINDS)}")
    return {
        "base_width": settings.base_width,
        "voi_spacing_mm": voi.spacing_mm,
        "sees_inside": kind == "eraser",
    }


def train_nodule_gan(
    kind: str,
    pairs: Pairs,
    settings: NoduleNetwork,
    voi: Voi,
    fabric: Fabric,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    description: str = "train_nodule_gan",
    watch: Watch | None = None,
) -> TrainedGan:
    """Train an `injector` or an `eraser` on pairs; the samples are uint8 [rows, SAMPLE_COLUMNS, 1, S, S].

    Resumes from `resume_folder` where a checkpoint lies there, on a CPU to the bit; watch: as of `train_gan`. Raises
    TrainingError as that does, ConfigError for a VOI that the network cannot have, DataError for no pairs, or a nodule
    beyond its VOI.
    """
    check_batch_size(settings.batch_size, fabric)
    if not len(pairs):
        raise DataError(f"{description}: pairs: found none, allowed: at least 1")
    edge = pairs.targets.shape[-1]
    largest = largest_radius(edge, voi)
    for name in ("radii_mm", "healthy_radii_mm"):
        radii_mm = getattr(pairs, name)
        if radii_mm is not None and not (radii_mm.min() > 0 and radii_mm.max() <= largest):
            found = f"{radii_mm.min():g} to {radii_mm.max():g}"
            raise DataError(f"{description}: {name}: found {found}, allowed: above 0, up to {largest:g}")
    torch.manual_seed(settings.seed)
    generator, discriminator = build("nodule_cgan", 1, edge, **nodule_network_options(kind, settings, voi))
    training = NoduleTraining(fabric, generator, discriminator, pairs, settings, voi)
    return run(training, resume_folder, checkpoint_seconds, description, watch=watch)


def random_turn(vois: Tensor) -> Tensor:
    """Each VOI mirrored along any of its axes, and turned by quarters about z, at random: [N, C, S, S, S]."""
    turns, mirrored = torch.randint(4, (len(vois),)).tolist(), (torch.rand(len(vois), 3) < 0.5).tolist()
    turned = []
    for voi, turn, mirror in zip(vois, turns, mirrored, strict=True):
        axes = [axis for axis, chosen in zip((1, 2, 3), mirror, strict=True) if chosen]
        turned.append(torch.rot90(voi, turn, (2, 3)).flip(axes))
    return torch.stack(turned)


def random_zoom(vois: Tensor, radius_mm: Tensor, most: float, largest_mm: float) -> tuple[Tensor, Tensor]:
    """Each VOI zoomed about its centre by a random factor from 1 / most to most: [N, C, S, S, S], and its radius [N].

    The factor's logarithm is uniform; no radius becomes larger than `largest_mm`. What lies beyond a shrunk VOI is its
    reflection.
    """
    if most == 1:
        return vois, radius_mm
    factor = most ** (2 * torch.rand(len(vois)).to(radius_mm) - 1)
    factor = torch.minimum(factor, largest_mm / radius_mm)
    matrix = torch.zeros(len(vois), 3, 4, device=vois.device)
    matrix[:, range(3), range(3)] = 1 / factor[:, None]
    grid = F.affine_grid(matrix, list(vois.shape), align_corners=False)
    return F.grid_sample(vois, grid, padding_mode="reflection", align_corners=False), radius_mm * factor


def injector_pairs(nodules: VoiSet, healthy: VoiSet) -> Pairs:
    """What an injector is trained on: real nodules and their forms, and healthy places."""
    radii_mm, healthy_radii_mm = (vois.table.equivalent_diameter_mm.to_numpy() / 2 for vois in (nodules, healthy))
    each = zip(nodules.voxels, nodules.table.spacing_mm, radii_mm, strict=True)
    forms = [
        form_of(without_grain(voi[None], spacing_mm)[0], spacing_mm, radius_mm) for voi, spacing_mm, radius_mm in each
    ]
    return Pairs(nodules.voxels, nodules.voxels, radii_mm, healthy.voxels, healthy_radii_mm, np.stack(forms))


def eraser_pairs(injected: VoiSet, healthy: VoiSet) -> Pairs:
    """What an eraser is trained on: healthy VOIs with a nodule injected, and the same without it."""
    return Pairs(injected.voxels, healthy.voxels, healthy.table.equivalent_diameter_mm.to_numpy() / 2)
