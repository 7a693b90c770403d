"""Nodules injected into volumes of interest, and erased from them, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scangan.config import VoiCut
from scangan.ct.forms import draw_forms, paint
from scangan.ct.grain import Grain
from scangan.ct.window import to_hounsfield, to_network
from scangan.data.voi import VoiSet
from scangan.device import compute_device
from scangan.errors import ConfigError
from scangan.files import reading
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
    A network says how much of each voxel it replaces, and by what, without grain; grain as the place has it is drawn
    for that share (`ct.grain`). An injector's nodule has a form drawn from the prior of `ct.forms` and the density of a
    nodule of its size that the injector learnt from; what lies beside it in the sphere stays, and so does what an
    eraser takes for no nodule. Outside the sphere not one voxel changes.
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
        shown = to_network(filled[batch])
        radius_mm = torch.tensor(np.asarray(radii_mm[batch]), dtype=torch.float32, device=device)
        noise = torch.cat(
            [generator.draw_latent(1, torch.Generator().manual_seed(int(seed))) for seed in seeds[batch]]
        ).to(device)
        voi = torch.from_numpy(shown)[:, None].to(device)
        if generator.sees_inside:
            painted, mask = filled[batch].copy(), sphere_mask(radius_mm + margin_mm, voi.shape[-1], voi_spacing_mm)
            made, replaced = generator.fill(voi, mask, radius_mm, noise)
        else:
            forms, greys = _draw_sketches(generator, radius_mm, seeds[batch])
            sketched = zip(filled[batch], forms, to_hounsfield(greys), strict=True)
            painted = np.stack([paint(*one) for one in sketched])
            replaced = torch.from_numpy(forms)[:, None].to(device)
            mask = form_mask(replaced, radius_mm, margin_mm, voi_spacing_mm)
            voi = sketch(voi, mask, replaced, torch.from_numpy(greys).to(device))
            made = generator(voi, mask, radius_mm, noise)
        # What the network changed, not what it saw: beyond its window, too, what is not replaced stays.
        painted += (to_hounsfield(made.float()) - to_hounsfield(voi)).squeeze(1).cpu().numpy()
        shares, inside = (values.squeeze(1).cpu().numpy() for values in (replaced, mask))
        each = zip(filled[batch], painted, shares, inside, seeds[batch], strict=True)
        for target, new, share, where, seed in each:
            grain = Grain.of(target, voi_spacing_mm).draw_over(share, int(seed))
            np.copyto(target, new + grain, where=where)
    return filled


def _draw_sketches(
    generator: nn.Module, radius_mm: torch.Tensor, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What an injector is asked for: forms float32 [N, S, S, S] and grey values [N], each from its own seed."""
    forms, greys, size, spacing_mm = [], [], generator.image_size, generator.voi_spacing_mm
    blur_mm = float(generator.blur_mm)
    for each, seed in zip(radius_mm.tolist(), seeds, strict=True):
        rng = np.random.default_rng(int(seed))
        forms.append(draw_forms(rng, [each], size, spacing_mm, blur_mm)[0])
        greys.append(generator.draw_grey(each, rng))
    return np.stack(forms), np.array(greys, np.float32)


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
    """An injector or an eraser at work: what `fill` and `blend` make with one network.

    told_up_to_mm: the greatest diameter that its training told it of; what it makes of larger ones nobody knows.
    """

    def __init__(self, generator: nn.Module, margin_mm: float, told_up_to_mm: float) -> None:
        self.generator, self.margin_mm, self.told_up_to_mm = generator, margin_mm, told_up_to_mm

    @staticmethod
    def read(weights: Path, description: Path) -> Filling:
        """A network as its training wrote it. Raises DataError naming a broken file."""
        generator, facts = read_generator(weights, description)
        with reading(description, "description", "that of a trained network; remove the file and run again"):
            return Filling(generator, *(float(facts[name]) for name in ("margin_mm", "told_up_to_mm")))

    @property
    def voi(self) -> VoiCut:
        """The VOIs that the network was trained on."""
        generator = self.generator
        return VoiCut(size=generator.image_size, spacing_mm=generator.voi_spacing_mm, margin_mm=self.margin_mm)

    def fill(self, vois: np.ndarray, radii_mm: Sequence[float], seeds: Sequence[int]) -> np.ndarray:
        """See `fill`."""
        return fill(self.generator, vois, radii_mm, self.margin_mm, self.generator.voi_spacing_mm, seeds)

    def paste_into_vois(self, vois: VoiSet, seed: int) -> VoiSet:
        """The same VOIs with a nodule of their size put in, or taken out; the k-th from the seed `seed` + k."""
        radii_mm = vois.table.equivalent_diameter_mm.to_numpy() / 2
        filled = self.fill(vois.voxels, radii_mm, range(seed, seed + len(vois)))
        voxels = blend(vois.voxels, filled, radii_mm, self.margin_mm, self.generator.voi_spacing_mm)
        return VoiSet(voxels, vois.table)
