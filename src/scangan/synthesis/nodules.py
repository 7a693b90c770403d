"""Nodules injected into volumes of interest, and erased from them, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scangan.ct.forms import draw_forms
from scangan.ct.grain import Grain
from scangan.ct.window import to_hounsfield, to_network
from scangan.data.voi import VoiSet
from scangan.device import compute_device
from scangan.errors import ConfigError
from scangan.models.catalogue import read_generator
from scangan.models.nodule_cgan import form_mask, sketch, sphere_mask
from scangan.synthesis.paste import paste_into

CT_RANGE = (-1024, 3071)  # what 12 bits hold


@torch.inference_mode()
def fill(
    generator: nn.Module,
    vois: np.ndarray,
    radii_mm: Sequence[float],
    margin_mm: float,
    voi_spacing_mm: float,
    seeds: Sequence[int],
    batch_size: int = 16,
) -> np.ndarray:
    """VOIs whose central sphere, of radius + margin, is made anew: float32 [N, S, S, S] in HU.

    generator: an injector or eraser (`nodule_cgan.Generator`) for VOIs of this edge and spacing. vois: [N, S, S, S] in
    HU. radii_mm: of the nodule to be made, or to be taken away. seeds: of each VOI's noise; the same VOI, radius and
    seed give the same result, but for rounding, in whatever batch.
    The network sees the VOIs without their grain, see `ct.grain`, which is added again to what it makes: values in
    `VOI_WINDOW`, and grain as the place had it. An injector's nodule has a form drawn from the prior of `ct.forms` and
    the density of a nodule of its size that the injector learnt from; what lies beside it in the sphere stays.
    Outside the sphere not one voxel changes.
    """
    expected = (generator.image_size,) * 3
    if vois.shape[1:] != expected or voi_spacing_mm != generator.voi_spacing_mm:
        raise ConfigError(
            f"vois: found {vois.shape} at {voi_spacing_mm:g} mm, "
            f"allowed: [N, {', '.join(map(str, expected))}] at {generator.voi_spacing_mm:g} mm"
        )
    if not len(vois) == len(radii_mm) == len(seeds):
        raise ValueError(
            f"vois: found {len(vois)} VOIs, {len(radii_mm)} radii and {len(seeds)} seeds, allowed: as many"
        )
    device = compute_device()
    generator = generator.to(device, memory_format=torch.channels_last_3d).eval()
    filled = np.array(vois, np.float32)
    for start in range(0, len(vois), batch_size):
        batch = slice(start, start + batch_size)
        grains = [Grain.of(voi, voi_spacing_mm) for voi in filled[batch]]
        shown = to_network(filled[batch] - [grain.own for grain in grains])
        radius_mm = torch.tensor(np.asarray(radii_mm[batch]), dtype=torch.float32, device=device)
        noise = torch.cat(
            [generator.draw_latent(1, torch.Generator().manual_seed(int(seed))) for seed in seeds[batch]]
        ).to(device)
        voi = torch.from_numpy(shown)[:, None].to(device)
        if generator.sees_inside:
            mask = sphere_mask(radius_mm + margin_mm, len(filled[0]), voi_spacing_mm)
        else:
            voi, mask = _sketched(generator, voi, radius_mm, margin_mm, seeds[batch])
        made = to_hounsfield(generator(voi, mask, radius_mm, noise).float()).squeeze(1).cpu().numpy()
        each = zip(grains, made, to_hounsfield(shown), seeds[batch], strict=True)
        grainy = [grain.added_to(new, old, int(seed)) for grain, new, old, seed in each]
        np.copyto(filled[batch], np.stack(grainy), where=mask.squeeze(1).cpu().numpy())
    return filled


def _sketched(
    generator: nn.Module, voi: torch.Tensor, radius_mm: torch.Tensor, margin_mm: float, seeds: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an injector is shown, and its mask: each VOI's form and grey value from its own seed."""
    forms, greys, spacing_mm = [], [], generator.voi_spacing_mm
    for each, seed in zip(radius_mm.tolist(), seeds, strict=True):
        rng = np.random.default_rng(int(seed))
        forms.append(draw_forms(rng, [each], voi.shape[-1], spacing_mm))
        greys.append(generator.draw_grey(each, rng))
    form = torch.from_numpy(np.stack(forms)).to(voi.device)
    mask = form_mask(form, radius_mm, margin_mm, spacing_mm)
    return sketch(voi, mask, form, torch.tensor(greys, device=voi.device)), mask


def blend(
    vois: np.ndarray, filled: np.ndarray, radii_mm: Sequence[float], margin_mm: float, voi_spacing_mm: float
) -> np.ndarray:
    """VOIs with what `fill` made of them pasted in as it would be into a scan: float32 [N, S, S, S], in whole HU.

    So an eraser is trained on what it will meet: the margin's blend of old and new is part of it.
    """
    blended = np.rint(vois).astype(np.int16)
    middle = ((vois.shape[-1] - 1) / 2,) * 3
    for target, voi, new, radius_mm in zip(blended, vois, filled, radii_mm, strict=True):
        paste_into(target, (voi_spacing_mm,) * 3, middle, voi, new, voi_spacing_mm, radius_mm, margin_mm, CT_RANGE)
    return blended.astype(np.float32)


class Filling:
    """An injector or an eraser at work: what `fill` and `blend` make with one network."""

    def __init__(self, generator: nn.Module, margin_mm: float) -> None:
        self.generator, self.margin_mm = generator, margin_mm

    @staticmethod
    def read(weights: Path, description: Path) -> Filling:
        """A network as its training wrote it. Raises DataError naming a broken file."""
        generator, facts = read_generator(weights, description)
        return Filling(generator, facts["margin_mm"])

    def fill(self, vois: np.ndarray, radii_mm: Sequence[float], seeds: Sequence[int]) -> np.ndarray:
        """See `fill`."""
        return fill(self.generator, vois, radii_mm, self.margin_mm, self.generator.voi_spacing_mm, seeds)

    def paste_into_vois(self, vois: VoiSet, seed: int) -> VoiSet:
        """The same VOIs with a nodule of their size put in, or taken out; the k-th from the seed `seed` + k."""
        radii_mm = vois.table.equivalent_diameter_mm.to_numpy() / 2
        filled = self.fill(vois.voxels, radii_mm, range(seed, seed + len(vois)))
        voxels = blend(vois.voxels, filled, radii_mm, self.margin_mm, self.generator.voi_spacing_mm)
        return VoiSet(voxels, vois.table)
