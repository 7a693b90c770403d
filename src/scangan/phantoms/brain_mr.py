"""The embedded stand-in for BRATS: skull-stripped, contrast-enhanced T1 volumes with segmentations, as NIfTI.

Each head is painted in three dimensions from simple shapes: folded cortex, white matter, deep nuclei, ventricles,
cerebellum and brain stem, and one tumour with an enhancing rim, a necrotic core and oedema around it. It resembles such
MR as far as a pipeline needs that; it says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from scangan.files import atomic_folder

SLICES, FIELD_MM = 155, 240.0  # of BRATS: 155 slices of 1 mm, 240 mm wide
ORIGIN_MM = (0.0, -239.0, 0.0)  # of BRATS, in LPS
MIDDLE = 70  # the slice through the basal ganglia, where z is 0
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4  # BRATS's labels
# Brightness in a T1-weighted image after contrast; 1: enhancing tumour.
CSF, GREY, WHITE, BASAL, STEM, VESSEL, FALX = 0.15, 0.49, 0.66, 0.53, 0.62, 1.05, 0.72
CORTEX_MM = 3.2
README = """A PHANTOM, not patients: {patients} rendered brains (seed {seed}) in BRATS's layout.
<patient>/<patient>_t1ce.nii.gz: T1 with contrast. <patient>/<patient>_seg.nii.gz: 1 necrosis, 2 oedema, 4 enhancing.
Whatever is measured on them says that the pipeline works, and nothing about medicine.
"""


def write_phantom(folder: Path, patients: int, image_size: int, seed: int) -> None:
    """Write `patients` brains: `folder/PHANTOM-000/PHANTOM-000_t1ce.nii.gz` and `_seg.nii.gz`, and so on.

    Volumes have 155 slices of 1 mm, image_size x image_size pixels (240 as in BRATS: 1 mm) and BRATS's orientation;
    every patient has a tumour. The same arguments give the same files, and a larger cohort begins with the smaller
    one's. The folder must be new or empty, and appears whole or not at all.
    """
    with atomic_folder(folder) as new:
        for number in range(patients):
            name = f"PHANTOM-{number:03d}"
            (new / name).mkdir()
            for kind, voxels in zip(("t1ce", "seg"), render_brain([seed, number], image_size), strict=True):
                image = sitk.GetImageFromArray(voxels)
                image.SetOrigin(ORIGIN_MM)
                image.SetSpacing((FIELD_MM / image_size, FIELD_MM / image_size, 1.0))
                sitk.WriteImage(image, new / name / f"{name}_{kind}.nii.gz", useCompression=True)
        (new / "README.txt").write_text(README.format(patients=patients, seed=seed), encoding="utf-8")


def render_brain(seed: Sequence[int], image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """One patient: T1 with contrast, int16, 0 outside the brain, and its labels, uint8; both [155, Y, X] in LPS."""
    rng = np.random.default_rng(seed)
    brain = Brain(rng, image_size)
    brain.paint_cerebrum()
    brain.paint_hindbrain()
    brain.paint_nuclei()
    brain.paint_midline()
    brain.paint_ventricles()
    brain.paint_tumour()
    voxels = brain.scan()
    margins = [(0, 0), *(((image_size - length) // 2,) * 2 for length in voxels.shape[1:])]
    return np.pad(voxels, margins), np.pad(brain.labels, margins)


class Brain:
    """One brain while it is painted.

    x, y, z: float32 [Z, Y, X], mm to the left, to the back and upwards from the middle between the basal ganglia.
    depth: [Z, Y, X], about how far a voxel lies inside the brain, mm, negative outside.
    brightness: [Z, Y, X]; labels: uint8 [Z, Y, X].
    """

    def __init__(self, rng: np.random.Generator, image_size: int) -> None:
        self.rng = rng
        self.pixel = FIELD_MM / image_size
        self.soft = max(self.pixel, 1.0)  # width of an edge, mm
        across = (np.arange(image_size) + 0.5) * self.pixel - FIELD_MM / 2
        # No brain reaches farther than this; the rest of the field is left out until the end.
        back, side = across[abs(across) < 104], across[abs(across) < 84]
        self.axes = [np.asarray(axis, np.float32) for axis in (np.arange(SLICES) - MIDDLE, back, side)]
        z, y, x = np.meshgrid(*self.axes, indexing="ij", sparse=True)
        turn, size = np.float32(rng.normal(0, 0.04)), rng.normal(1, 0.03, 3).clip(0.94, 1.06).astype(np.float32)
        self.z = z / size[0] + 2 * self.noise(30)
        self.y = (y * np.cos(turn) + x * np.sin(turn)) / size[1] + 2.5 * self.noise(30)
        self.x = (x * np.cos(turn) - y * np.sin(turn)) / size[2] + 2.5 * self.noise(30)
        self.age = rng.uniform(0, 1)  # widens sulci and ventricles
        self._place_tumour()
        self.brightness = np.full(self.x.shape, WHITE, np.float32)
        self.csf = np.zeros_like(self.brightness)
        self.labels = np.zeros(self.x.shape, np.uint8)

    # Geometry

    def noise(self, size_mm: float) -> np.ndarray:
        """A smooth random field of variance 1, float32 [Z, Y, X]: white noise under a Gaussian of that sigma."""
        weights = []
        for axis in self.axes:
            knots = np.arange(axis[0] - 2 * size_mm, axis[-1] + 2 * size_mm + 1, size_mm)
            kernel = np.exp(-0.5 * ((axis[:, None] - knots) / size_mm) ** 2)
            kernel[kernel < 1e-6] = 0  # denormal numbers are slow
            weights.append((kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32))
        field = self.rng.standard_normal([kernel.shape[1] for kernel in weights], dtype=np.float32)
        for kernel in reversed(weights):  # each turn puts its own axis first
            field = np.moveaxis(field @ kernel.T, -1, 0)
        return np.ascontiguousarray(field)

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Share of a voxel that lies inside, where `distance` says how far inside its centre is, mm."""
        return np.clip(0.5 + distance / self.soft, 0, 1)

    def paint(self, share: np.ndarray, value: np.ndarray | float, where: tuple[Any, ...] = (...,)) -> None:
        self.brightness[where] += share * (value - self.brightness[where])

    def near(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, ...]:
        """The part of the grid about a box (x, y, z), mm, with room for what bends the brain."""
        ranges = zip(self.axes, low[::-1], high[::-1], strict=True)
        return tuple(slice(*np.searchsorted(axis, (start - 16, end + 16))) for axis, start, end in ranges)

    def ellipsoid(self, centre: Sequence[float], half: Sequence[float], power: float = 2.0) -> np.ndarray:
        """About how far each voxel lies inside an ellipsoid, or inside one of two where centre[0] is not 0."""
        x = abs(self.x) if centre[0] else self.x
        parts = [
            abs((axis - middle) / extent) ** np.float32(power)
            for axis, middle, extent in zip((x, self.y, self.z), centre, half, strict=True)
        ]
        return (1 - sum(parts) ** np.float32(1 / power)) * np.float32(np.mean(half))

    def tube(
        self, points: Sequence[Sequence[float]], radii: Sequence[float] | np.ndarray, flat: float = 1.0
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """A tube on either side through points (|x|, y, z), flatter in x by `flat`: its part of the grid, its share."""
        line, reach = np.asarray(points, np.float32), max(radii)
        low, high = line.min(0) - reach, line.max(0) + reach
        where = self.near((-high[0], *low[1:]), high)
        place = np.stack([abs(self.inner[2][where]) * flat, self.inner[1][where], self.inner[0][where]], -1)
        line = line * np.array([flat, 1, 1], np.float32)
        distance = np.full(place.shape[:-1], -np.inf, np.float32)
        for start, end, first, last in zip(line, line[1:], radii, radii[1:], strict=False):
            way = end - start
            along = np.clip((place - start) @ way / (way @ way), 0, 1)
            away = np.linalg.norm(place - start - along[..., None] * way, axis=-1)
            distance = np.maximum(distance, np.float32(first) + along * np.float32(last - first) - away)
        return where, self.inside(distance)

    # Anatomy

    def paint_cerebrum(self) -> None:
        """Cortex and white matter of both hemispheres; the cortex is folded along a random field's zeros."""
        narrow = 1 - 0.1 * np.clip(-self.y / 84, 0, 1) ** 2  # in front
        wide = self.x
        self.x = wide / narrow
        whole = self.ellipsoid((0, 2, 14), (66, 84, 61), 2.2)
        self.x = wide
        # Frontal lobes end at the skull's floor, occipital lobes at the tentorium, which rises to the middle.
        frontal = self.z + 14 + 0.2 * (self.y + 84)
        behind = self.z + 20 - 0.28 * (60 - abs(self.x)).clip(0)
        floor = frontal + np.clip((self.y + 32) / 28, 0, 1) * (behind - frontal)
        temporal = self.ellipsoid((38, -2, -22), (25, 44, 23))
        cerebrum = np.maximum(np.minimum(whole, floor), temporal)
        cerebrum += 1.0 * self.noise(5)
        self.depth = cerebrum

        radius = 1 - whole / np.float32(np.mean((66, 84, 61)))
        folds = self._folds(radius)
        deep = np.clip(18 + 5 * self.noise(9), 5, 30)
        # The base has none that point at the brain's middle.
        sulcus = np.hypot(folds, np.clip(np.maximum(cerebrum, whole - 4) - deep, 0, None))
        width = (0.25 + 0.9 * self.age) * np.clip(1 + 0.5 * self.noise(14), 0.2, 2)
        outer = np.clip(cerebrum, 0, None)
        cortex = self.inside(CORTEX_MM + 0.5 * self.noise(6) - np.minimum(sulcus - width, outer))
        self.paint(cortex, GREY)
        self.csf = self.inside(width - sulcus) * self.inside(cerebrum + 2)
        # Veins run in the sulci.
        veins = self.csf * np.clip(self.noise(3) - 1.2, 0, 1) * 1.6
        self.veins = np.clip(veins, 0, 1)

    def _folds(self, radius: np.ndarray) -> np.ndarray:
        """About how far each voxel is from the middle of a sulcus, mm, whatever its depth: sulci point inwards."""
        step, size = 2.0, 3.0
        shape = [int(2 * extent / step) for extent in (100, 110, 90)]
        field = gaussian_filter(self.rng.standard_normal(shape, dtype=np.float32), size / step, mode="wrap")
        field /= field.std()
        stretch = np.clip(radius, 0.2, 1.5) ** np.float32(-0.7)
        places = [
            (axis * stretch) / step + length / 2 for axis, length in zip((self.z, self.y, self.x), shape, strict=True)
        ]
        # A Gaussian field of this sigma changes by 1.2 standard deviations per sigma.
        return abs(map_coordinates(field, places, order=1, mode="grid-wrap")) * np.float32(size / 1.2)

    def paint_hindbrain(self) -> None:
        """Cerebellum with its folia, and brain stem; dark cisterns between them and the cerebrum."""
        rng = self.rng
        cerebellum = np.maximum(self.ellipsoid((22, 42, -34), (32, 29, 25)), self.ellipsoid((0, 43, -30), (13, 25, 27)))
        bend = np.hypot(self.y - 12, 1.5 * (self.z + 36)) + 0.12 * abs(self.x) + 1.2 * self.noise(9)
        folia = 0.5 + 0.5 * np.sin(bend * np.float32(2 * np.pi / 4.6))
        core = self.inside(cerebellum - 12 - 4 * self.noise(5))
        folded = GREY + 0.02 - 0.14 * folia * (1 - core) * self.inside(14 - cerebellum) + core * 0.75 * (WHITE - GREY)
        behind = self.inside(cerebellum) * self.inside(cerebellum - self.depth)
        self.paint(behind, folded)
        lean = 0.22 * (self.z + 20)
        radius = np.where(self.z > -22, 13 + 0.35 * (self.z + 22).clip(0, 14), 13 - 0.12 * (-22 - self.z))
        stem = radius - np.hypot(self.x, (self.y - 12 + lean) * 1.05)
        stem = np.minimum(stem, 6 - self.z)
        # The pons bulges forwards.
        stem = np.maximum(stem, self.ellipsoid((0, 4, -34), (16, 13, 13)))
        tentorium = abs(self.depth - np.maximum(cerebellum, stem))
        gap = (
            self.inside(1.6 + self.age - tentorium)
            * self.inside(self.depth + 3)
            * self.inside(np.maximum(cerebellum, stem) + 3)
        )
        self.csf = np.maximum(self.csf * (1 - behind), gap * (self.z < 2))
        self.paint(self.inside(stem), STEM + rng.normal(0, 0.01))
        self.csf *= 1 - self.inside(stem)
        self.veins *= 1 - np.maximum(behind, self.inside(stem))
        tissue = np.maximum(self.depth, np.maximum(cerebellum, stem))
        cistern = self.ellipsoid((0, 8, -20), (28, 32, 17))
        self.csf = np.maximum(self.csf, self.inside(cistern) * self.inside(-tissue))
        self.depth = np.maximum(tissue, cistern)

    def paint_nuclei(self) -> None:
        """Thalamus, caudate, putamen, and the insula behind the Sylvian fissure."""
        for points, radii in (
            ([(11, 4, 2), (13, 18, 4)], [8.5, 9]),  # thalamus
            ([(13, -26, 4), (15, -14, 14), (19, 8, 22)], [5.5, 5, 2.5]),  # caudate
            ([(25, -16, -2), (27, 4, 4)], [6, 5.5]),  # putamen
        ):
            where, share = self.tube(points, radii)
            self.paint(0.85 * share, BASAL + self.rng.normal(0, 0.01), where)
        where, share = self.tube([(38, -24, -4), (40, 10, 6)], [4, 4], flat=1.6)  # insular cortex
        self.paint(0.9 * share, GREY, where)
        wide = 0.8 + 2.2 * self.age
        for points in (
            [(66, -26, -10), (50, -20, -4), (43, -6, 0), (43, 18, 12)],
            [(30, -22, -16), (43, -18, -6)],
        ):
            where, share = self.tube(points, [wide] * len(points), flat=1.3)
            self.csf[where] = np.maximum(self.csf[where], share)
        where, share = self.tube(
            [(12, -16, -17), (30, -20, -15), (44, -16, -4)], [1.4, 1.5, 0.9]
        )  # middle cerebral artery
        self.veins[where] = np.maximum(self.veins[where], share)

    def paint_midline(self) -> None:
        """The fissure between the hemispheres, its cortex and falx; the corpus callosum stays white."""
        x, y, z = self.inner[2], self.inner[1], self.inner[0]
        side = abs(x + 1.0 * self.noise(12))
        # Above the corpus callosum, before and behind it.
        open_ = self.ellipsoid((0, 2, 14), (66, 84, 61), 2.2)
        callosum = (1 - np.sqrt(((y - 2) / 44) ** 2 + ((z - 2) / 27) ** 2)) * 33
        free = self.inside(-callosum) * self.inside(open_ + 3) * (z > -22)
        self.paint(free * self.inside(CORTEX_MM + 1 - side), GREY)
        gap = free * self.inside(0.4 + 1.0 * self.age - side)
        self.csf = np.maximum(self.csf, gap)
        falx = free * self.inside(0.1 - side) * np.clip((-callosum - 12) / 8, 0, 1)
        self.veins = np.maximum(self.veins, 0.45 * falx)
        band = self.inside(5 + callosum) * self.inside(1 - callosum) * self.inside(18 - side)
        self.paint(0.8 * band * (z > 0), WHITE + 0.02)

    def paint_ventricles(self) -> None:
        """Lateral, third and fourth ventricle, with bright choroid plexus; and all other fluid."""
        wide = 0.8 + 0.9 * self.age
        for points, radii, flat in (
            ([(5, -34, 2), (9, -24, 10), (11, -4, 20), (16, 20, 18), (21, 32, 10)], [2.5, 4.2, 4.2, 5, 6], 1.0),
            ([(21, 32, 10), (24, 48, 8), (23, 62, 8)], [6, 4, 1.2], 1.0),  # occipital horn
            ([(23, 32, 8), (31, 16, -12), (33, -6, -22)], [5, 2, 1.6], 1.0),  # temporal horn
            ([(0, -12, -4), (0, 14, 2)], [4.5, 4.5], 3.2),  # third ventricle
            ([(0, 26, -28), (0, 29, -40)], [4.5, 3], 1.0),  # fourth ventricle
        ):
            where, share = self.tube(points, np.multiply(radii, wide), flat)
            self.csf[where] = np.maximum(self.csf[where], share)
        where, share = self.tube([(15, 14, 15), (20, 31, 10), (21, 36, 6)], [1.0, 2.2, 1.6])
        plexus = share * np.clip(0.8 + 0.4 * self.noise(3)[where], 0, 1)
        self.csf_only = np.clip(self.csf, 0, 1)
        self.paint(self.csf_only, CSF)
        self.paint(plexus, 0.85, where)
        self.paint(self.veins * self.inside(self.depth - 0.5), VESSEL * self.rng.uniform(0.85, 1.1))

    # Tumour

    def _place_tumour(self) -> None:
        """Draw where the tumour is and how large, and by how much it pushes what lies inside the brain."""
        rng = self.rng
        side = rng.choice([-1, 1])
        angle, away = rng.uniform(-np.pi, np.pi), rng.uniform(0.25, 1)
        height = rng.uniform(-28, 50)
        along = 46 if height > -12 else 20  # lower down, only the temporal lobe
        # z, y, x
        self.centre = np.array([height, 2 + along * away * np.cos(angle), side * (34 + 12 * np.sin(angle))], np.float32)
        self.core_mm = rng.uniform(8, 23)
        self.halo_mm = rng.uniform(5, 17)
        place = [axis - middle for axis, middle in zip((self.z, self.y, self.x), self.centre, strict=True)]
        self.away = np.sqrt(sum(part**2 for part in place))
        push = rng.uniform(0.1, 0.35) * self.core_mm * np.exp(-((self.away / 42) ** 2)) / np.maximum(self.away, 1)
        self.inner = [axis - push * part for axis, part in zip((self.z, self.y, self.x), place, strict=True)]

    def paint_tumour(self) -> None:
        """Necrotic core, enhancing rim, oedema that follows the white matter; small tumours may be solid."""
        rng = self.rng
        stretch = rng.uniform(0.8, 1.25, 3)
        parts = zip((self.z, self.y, self.x), self.centre, stretch, strict=True)
        away = np.sqrt(sum(((axis - middle) * np.float32(by)) ** 2 for axis, middle, by in parts))
        if rng.random() < 0.25:  # a second focus
            other = self.centre + rng.normal(0, 0.9, 3) * self.core_mm
            beside = np.sqrt(sum((axis - at) ** 2 for axis, at in zip((self.z, self.y, self.x), other, strict=True)))
            away = np.minimum(away, beside + 0.4 * self.core_mm)
        rough = self.noise(7)
        edge = self.core_mm * (1 + 0.13 * rough) - away
        rim = np.clip(rng.uniform(2.2, 5) * (1 + 0.45 * self.noise(5)), 0.8, None)
        within = edge - rim - (100 if self.core_mm < 12 and rng.random() < 0.6 else 0)
        brain, fluid = self.inside(self.depth - 1), 1 - self.csf_only * self.inside(1 - edge)
        # Oedema spares the cortex and does not cross the fluid.
        white = np.clip((self.brightness - GREY) / (WHITE - GREY), 0, 1)
        spread = edge + self.halo_mm * (1 + 0.5 * rough + 0.5 * self.noise(11)) + 5 * (white - 0.8)
        oedema = np.clip(0.5 + spread / 6, 0, 1) * brain * (1 - self.csf_only)
        self.paint(oedema * rng.uniform(0.75, 0.95), rng.uniform(0.4, 0.47))
        tumour = self.inside(edge) * brain * fluid
        bright = rng.uniform(0.88, 1.1) * (1 + 0.09 * self.noise(3.5))
        self.paint(tumour, bright)
        core = self.inside(within) * brain
        self.paint(core, rng.uniform(0.24, 0.36) * (1 + 0.15 * self.noise(4)))
        self.labels[oedema > 0.5] = OEDEMA
        self.labels[tumour > 0.5] = ENHANCING
        self.labels[core > 0.5] = NECROSIS

    # Scanner

    def scan(self) -> np.ndarray:
        """Texture, uneven coil, blur, noise, a scale of the scanner's own; 0 outside the brain."""
        rng = self.rng
        image = self.brightness * (1 + 0.02 * self.noise(1.6) + 0.02 * self.noise(6))
        image *= 1 + 0.05 * self.noise(70)
        image = gaussian_filter(image, (0.5, 0.35, 0.35))
        noise = rng.uniform(0.012, 0.03)
        real, imaginary = (noise * rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
        magnitude = np.hypot(image + real, imaginary)  # Rician
        stripped = self.depth > 0.6 * self.noise(4)
        scale = rng.uniform(350, 1400)
        # What was stripped is exactly 0, and nothing else is.
        voxels = np.where(stripped, np.maximum(np.rint(scale * magnitude), 1), 0).astype(np.int16)
        self.labels[~stripped] = 0
        return voxels
