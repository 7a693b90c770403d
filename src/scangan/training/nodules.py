"""Trains the nodule injector and the nodule eraser (Pesaranghader et al. 2021, CT-SGAN, section 3 and appendix B).

The injector is shown a sketch of a real nodule in its surroundings, and has to make what is within it: its form is that
found in the VOI, its grey value the one that comes nearest. And it puts nodules into healthy VOIs, of forms and grey
values drawn as those of nodules that are injected: there the rim has to stay as it was, and the discriminator, which is
shown real nodules beside, judges them as they will be, grain and all.
Sketches are as sharp as the data: how far their forms are blurred is fitted first (`fit_blur`), so that nodules painted
into healthy VOIs have edges as steep as real ones.
The eraser is shown healthy VOIs with an injected nodule, and has to make the healthy VOI, which is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy.ndimage import gaussian_filter, laplace
from torch import Tensor
from torch.nn import functional as F

from scangan.config import GradientPenalty, NoduleNetwork, Rules, Voi
from scangan.ct.forms import draw_forms, form_of, paint
from scangan.ct.grain import Grain, made_up, without_grain
from scangan.ct.grids import sphere
from scangan.ct.window import VOI_WINDOW, to_network
from scangan.data.voi import VoiSet
from scangan.errors import ConfigError, DataError
from scangan.models.catalogue import build
from scangan.models.nodule_cgan import (
    EXAMPLES,
    OUTPUT_RANGE,
    dilate,
    draw_grey,
    form_mask,
    grey_of,
    put_in,
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
# An eraser is told spheres up to so many times as large as the nodule: of a long one all must lie within, and a
# reader's outline is 1.34 times as large. Told of true sizes alone, it left holes of air around smaller nodules.
ROOM = 1.35
SHAM_EVERY = 4  # with every healthy VOI, half of all, an eraser learnt in the demo's steps to leave everything as it is
# Share of a voxel, below which an injector has to keep its sketch: the form that is found in a real nodule is not
# quite the true one, and whoever learns edges from it learns to blur them.
WHOLE = 0.95
FITTED = 120  # healthy VOIs at most, into which nodules are painted to see how sharp they are
# Voxels; blurred more, an edge has no more of a Laplacian than the grain. So the blur is found to a 64th of a voxel.
MOST_BLUR, HALVINGS = 1.0, 6
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
    each voxel is nodule; None, as of an eraser: spheres. blur_mm: of the forms that it shall put there.
    """

    shown: np.ndarray
    targets: np.ndarray
    radii_mm: np.ndarray
    healthy: np.ndarray | None = None
    healthy_radii_mm: np.ndarray | None = None
    forms: np.ndarray | None = None
    blur_mm: float = 0.0

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

    form: how much of each voxel is nodule, or lies in its sphere; grain: more like that of the VOI: as the mask. grey:
    of the form in a sketch, [N].
    """

    voi: Tensor
    mask: Tensor
    radius_mm: Tensor
    target: Tensor
    form: Tensor
    grain: Tensor
    grey: Tensor | None


class NoduleTraining(AdversarialTraining):
    """The game between a generator that fills the masks of VOIs and a discriminator that judges pairs.

    A batch's conditions live from `_real_batch` to the end of the step. Of healthy VOIs, as many as of nodules join
    each batch of an injector; what it puts there is what D compares with real nodules, each with what it was told.
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
        targets = _tensor(pairs.targets)
        super().__init__(fabric, generator, discriminator, targets, OUTPUT_RANGE, settings)
        self.voi, self.edge = voi, pairs.targets.shape[-1]
        # Those of an injector are the same.
        is_same = pairs.shown is pairs.targets
        self.shown = self.images if is_same else resident(_tensor(pairs.shown), fabric.device)
        self.radii_mm = torch.tensor(pairs.radii_mm, dtype=torch.float32)
        self.forms, self.blur_mm = None, pairs.blur_mm
        self.healthy_batches = None
        if pairs.forms is not None:
            self.forms = torch.from_numpy(pairs.forms.astype(np.float32))[:, None]
            mask = form_mask(self.forms, self.radii_mm, voi.margin_mm, voi.spacing_mm)
            self.examples = _examples(self.radii_mm, grey_of(targets, mask, self.forms))
            for each in (self.generator, self.average.average):
                each.examples.copy_(torch.from_numpy(self.examples))
                each.blur_mm.fill_(pairs.blur_mm)
        # As fills would draw it: of the VOIs that are judged when they are filled.
        judged = pairs.shown if pairs.healthy is None else pairs.healthy
        self.grains = _grains(judged, voi.spacing_mm)
        if pairs.healthy is not None:
            self.healthy = resident(_tensor(pairs.healthy), fabric.device)
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
        grain = self.grains[indices] if self.healthy_batches is None else torch.zeros_like(shown_vois)
        self.batch = self._prepare(shown_vois, targets, self.radii_mm[indices], forms, grain)
        if self.healthy_batches is not None:
            indices = self.healthy_batches.batch(shown, stage.batch_size)
            healthy, radii_mm = self.healthy[indices.to(self.healthy.device)], self.healthy_radii_mm[indices]
            rng = np.random.default_rng([self.settings.seed, shown])
            forms = draw_forms(rng, radii_mm.tolist(), self.edge, self.voi.spacing_mm, self.blur_mm)
            greys = torch.tensor([draw_grey(self.examples, radius_mm, rng) for radius_mm in radii_mm.tolist()])
            each = (healthy, healthy, radii_mm, torch.from_numpy(forms)[:, None], self.grains[indices], greys)
            self.healthy_batch = self._prepare(*each)
        return self._with_told(self.batch.target, self.batch)

    def _prepare(
        self,
        voi: Tensor,
        target: Tensor,
        radius_mm: Tensor,
        form: Tensor | None,
        grain: Tensor,
        grey: Tensor | None = None,
    ) -> Batch:
        """On the device, and varied at random, all alike; the rest as for `_told`."""
        device = self.fabric.device
        voi, target, radius_mm, grain = (
            values.to(device, non_blocking=True) for values in (voi, target, radius_mm, grain)
        )
        together = torch.cat([voi, target, grain] + ([] if form is None else [form.to(device, voi.dtype)]), 1)
        largest = largest_radius(self.edge, self.voi)
        together, radius_mm = random_zoom(together, radius_mm, self.settings.zoom, largest)
        if form is None:
            radius_mm = (radius_mm * (1 + (ROOM - 1) * torch.rand(len(voi)).to(radius_mm))).clamp(max=largest)
        together = random_turn(together).contiguous(memory_format=torch.channels_last_3d)
        voi, target, grain, *forms = together.split(1, 1)
        return self._told(voi, target, radius_mm, forms[0] if forms else None, grain, grey)

    def _told(
        self,
        voi: Tensor,
        target: Tensor,
        radius_mm: Tensor,
        form: Tensor | None,
        grain: Tensor,
        grey: Tensor | None = None,
    ) -> Batch:
        """The mask and what is shown. form: None: a sphere, the eraser's. grey: None: as `grey_of` finds it."""
        edge, spacing_mm, margin_mm = self.edge, self.voi.spacing_mm, self.voi.margin_mm
        if form is None:
            mask, form = (sphere_mask(radius_mm + more, edge, spacing_mm) for more in (margin_mm, 0))
            form = form.to(voi.dtype)
        else:
            mask = form_mask(form, radius_mm, margin_mm, spacing_mm)
            grey = grey_of(voi, mask, form) if grey is None else grey.to(voi.device)
            voi = sketch(voi, mask, form, grey)
        return Batch(voi, mask, radius_mm, torch.where(mask, target, voi), form, grain, grey)

    def _generate(self, images: int) -> Tensor:
        batches = [self.batch] + ([] if self.healthy_batches is None else [self.healthy_batch])
        told = [torch.cat(each) for each in zip(*(batch[:3] for batch in batches), strict=True)]
        noise = self.generator.draw_latent(len(told[0]), torch.default_generator)
        noise = noise.to(self.fabric.device, non_blocking=True)
        with self.fabric.autocast():
            filled, replaced = self.generator.fill(*told, noise)
        self.filled = filled[:images]
        if self.healthy_batches is None:
            # Grain and all: what need not be replaced costs an eraser the grain that is drawn for it.
            self.filled = _grainy(self.filled, self.batch, replaced)
            return self._with_told(self.filled, self.batch)
        batch = self.healthy_batch
        self.put_in = put_in(batch.target, batch.mask, batch.form, batch.grey, batch.voi, filled[images:])
        return self._with_told(_grainy(self.put_in, batch, batch.form), batch)

    @staticmethod
    def _with_told(images: Tensor, batch: Batch) -> Tensor:
        """Images with what their generator was told: [N, 4, S, S, S], as `_judge` takes them."""
        radius_mm = batch.radius_mm[:, None, None, None, None].expand_as(batch.voi)
        return torch.cat([images, batch.voi, batch.mask.to(images.dtype), radius_mm], 1)

    def _judge(self, images: Tensor) -> Tensor:
        image, voi, mask, radius_mm = images.split(1, 1)
        return self.discriminator(voi, mask > 0.5, radius_mm[:, 0, 0, 0, 0], image)

    def generator_losses(self, fake: Tensor) -> dict[str, Tensor]:
        """`loss_g`, minimised, and `reconstruction`, the weighted mean absolute difference from the truth."""
        losses = super().generator_losses(fake)
        weight = torch.where(self.batch.form >= 0.5, self.settings.inside_weight, 1.0) * self.batch.mask
        truth = self.batch.target
        if self.forms is not None:
            truth = torch.where(self.batch.form >= WHOLE, truth, self.batch.voi)
        reconstruction = _difference(self.filled, truth, weight)
        if self.healthy_batches is not None:
            # A voxel on the surface is part nodule.
            margin = self.healthy_batch.mask & ~dilate(self.healthy_batch.form, 1)
            reconstruction = torch.cat([reconstruction, _difference(self.put_in, self.healthy_batch.target, margin)])
        losses["reconstruction"] = reconstruction.mean()
        losses["loss_g"] = losses["loss_g"] + self.settings.reconstruction_weight * losses["reconstruction"]
        return losses

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Add a row: the middle axial planes of the first VOIs, filled by the averaged generator, the noise fixed."""
        columns = torch.arange(SAMPLE_COLUMNS) % len(self.shown)
        forms = None if self.forms is None else self.forms[columns]
        # As they are, neither turned nor zoomed, in spheres of their size.
        shown = self.shown[columns.to(self.shown.device)].to(self.fabric.device)
        radius_mm = self.radii_mm[columns].to(self.fabric.device)
        no_grain = torch.zeros_like(shown)
        batch = self._told(shown, shown, radius_mm, None if forms is None else forms.to(shown.device), no_grain)
        filled = self.average.average(*batch[:3], self.fixed_noise.to(self.fabric.device)).float()
        low, high = OUTPUT_RANGE
        plane = filled[:, :, self.edge // 2]
        self.samples.append(((plane - low) / (high - low) * 255).round().clamp(0, 255).byte().cpu())


def _examples(radii_mm: Tensor, greys: Tensor) -> np.ndarray:
    """Sizes and grey values of nodules, [EXAMPLES, 2]: what their generator draws grey values from."""
    chosen = torch.linspace(0, len(greys) - 1, EXAMPLES).round().long()
    return torch.stack([radii_mm, greys], 1)[chosen].numpy()


def _tensor(vois: np.ndarray) -> Tensor:
    """HU [N, S, S, S] -> [N, 1, S, S, S] in [-1, 1]."""
    return torch.from_numpy(to_network(np.asarray(vois, np.float32)))[:, None]


def _grains(vois: np.ndarray, voi_spacing_mm: float) -> Tensor:
    """More grain like that of VOIs [N, S, S, S] in HU, on a network's scale: [N, 1, S, S, S]."""
    low, high = VOI_WINDOW
    drawn = [Grain.of(voi, voi_spacing_mm).draw(seed) for seed, voi in enumerate(vois)]
    return torch.from_numpy(np.stack(drawn) * np.float32(2 / (high - low)))[:, None]


def _grainy(filled: Tensor, batch: Batch, replaced: Tensor) -> Tensor:
    """What a batch was filled with, with grain for the share of each voxel that was replaced, as a fill has it."""
    grain = (replaced * (2 - replaced)).clamp(min=1e-6).sqrt() * batch.grain
    return torch.where(batch.mask, (filled + grain).clamp(*OUTPUT_RANGE), filled)


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


def told_up_to_mm(pairs: Pairs, settings: NoduleNetwork, voi: Voi) -> float:
    """The greatest diameter that a network is told of in its training; of larger ones nobody knows what it makes."""
    radii_mm = pairs.radii_mm if pairs.healthy_radii_mm is None else [*pairs.radii_mm, *pairs.healthy_radii_mm]
    most = 2 * float(np.max(radii_mm)) * settings.zoom * (ROOM if pairs.forms is None else 1)
    return min(most, 2 * largest_radius(voi.size, voi))


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
    """What an injector is trained on: real nodules and their forms, and healthy places; and how sharp the nodules are.

    Another scanner's sharpness is another: where the tables have a `cohort`, that of the nodules' cohorts counts.
    """
    radii_mm, healthy_radii_mm = (vois.table.equivalent_diameter_mm.to_numpy() / 2 for vois in (nodules, healthy))
    spacing_mm = float(nodules.table.spacing_mm.iloc[0])
    smooth = without_grain(nodules.voxels, spacing_mm)
    forms = np.stack([form_of(voi, spacing_mm, radius_mm) for voi, radius_mm in zip(smooth, radii_mm, strict=True)])
    alike = healthy
    if "cohort" in healthy.table:
        alike = healthy.select(healthy.table.cohort.isin(set(nodules.table.cohort)).to_numpy())
    blur_mm = fit_blur(nodules, alike if len(alike) else healthy, forms)
    blurred = np.stack([gaussian_filter(form, blur_mm / spacing_mm) for form in forms])
    return Pairs(nodules.voxels, nodules.voxels, radii_mm, healthy.voxels, healthy_radii_mm, blurred, blur_mm)


def fit_blur(nodules: VoiSet, healthy: VoiSet, forms: np.ndarray) -> float:
    """By how much forms must be blurred, mm, for nodules painted into healthy VOIs to be as sharp as real ones.

    Sharpness is that of `_sharpness`, its median over the VOIs; real nodules' `forms` [N, S, S, S] give grey values.
    """
    spacing_mm, size = float(nodules.table.spacing_mm.iloc[0]), nodules.voxels.shape[-1]
    radii_mm, healthy_radii_mm = (vois.table.equivalent_diameter_mm.to_numpy() / 2 for vois in (nodules, healthy))
    greys = [np.median(voi[form > 0.9 * form.max()]) for voi, form in zip(nodules.voxels, forms, strict=True)]
    real = np.median([_sharpness(*each, spacing_mm) for each in zip(nodules.voxels, radii_mm, strict=True)])
    chosen = np.unique(np.linspace(0, len(healthy) - 1, FITTED).round().astype(int))
    grains = [Grain.of(healthy.voxels[place], spacing_mm).draw(place) for place in chosen]
    examples = np.stack([radii_mm, greys], 1)

    def painted(blur_mm: float) -> float:
        found = []
        for place, grain in zip(chosen, grains, strict=True):
            voi, radius_mm, rng = healthy.voxels[place], healthy_radii_mm[place], np.random.default_rng(place)
            share = draw_forms(rng, [radius_mm], size, spacing_mm, blur_mm)[0]
            made = paint(voi, share, draw_grey(examples, radius_mm, rng)) + made_up(share) * grain
            found.append(_sharpness(made, radius_mm, spacing_mm))
        return float(np.median(found))

    low, high = 0.0, MOST_BLUR * spacing_mm
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if painted(middle) > real else (low, middle)
    return (low + high) / 2


def _sharpness(voi: np.ndarray, radius_mm: float, spacing_mm: float) -> float:
    """Of a VOI, [S, S, S] in HU, the Laplacian by the gradient, in the sphere of a nodule and a voxel around.

    So the contrast does not count, and what else there is has the same sharpness.
    """
    inside, voi = sphere(len(voi), spacing_mm, radius_mm + spacing_mm), voi.clip(*VOI_WINDOW)
    gradient = np.linalg.norm(np.gradient(voi), axis=0)
    return float(np.abs(laplace(voi))[inside].sum() / gradient[inside].sum())


def eraser_pairs(injected: VoiSet, healthy: VoiSet) -> Pairs:
    """What an eraser is trained on: healthy VOIs with a nodule injected, and the same without it.

    Every `SHAM_EVERY`-th healthy VOI is shown as it is besides, and shall stay so: an eraser that has met nodules alone
    takes whatever is bright for one where there is none, as at the places of shams.
    """
    radii_mm, shams = healthy.table.equivalent_diameter_mm.to_numpy() / 2, slice(None, None, SHAM_EVERY)
    shown, targets = (np.concatenate([each, healthy.voxels[shams]]) for each in (injected.voxels, healthy.voxels))
    return Pairs(shown, targets, np.concatenate([radii_mm, radii_mm[shams]]))
