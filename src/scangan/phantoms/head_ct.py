"""The embedded head CT phantom: rendered slices in the layout of the Kaggle head CT set.

Each slice is painted in Hounsfield units from simple shapes (the usual values: air -1000, CSF 6, white matter 28, grey
matter 37, fresh blood 50 to 80, bone 1000), then blurred, made noisy and windowed like a film. It resembles head CT as
far as a pipeline needs that; it says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates

from scangan.ct.window import AIR
from scangan.files import atomic_folder

FAT, CSF, WHITE_MATTER, GREY_MATTER, SOFT_TISSUE, FALX, BONE = -70, 6, 28, 37, 35, 50, 1000
LEVELS = {"base": 0.12, "nuclei": 0.38, "ventricles": 0.3, "vertex": 0.2}  # height of the slice: its share
HAEMORRHAGES = {  # kind: its share
    "intraparenchymal": 0.64,
    "subdural": 0.14,
    "epidural": 0.08,
    "subarachnoid": 0.05,
    "intraventricular": 0.09,
}
README = """A PHANTOM, not patients: {images} rendered head CT slices (seed {seed}) in the Kaggle set's layout.
labels.csv: id (head_ct/<id, three digits>.png), hemorrhage (1: yes, 0: no).
Whatever is measured on them says that the pipeline works, and nothing about medicine.
"""


def write_phantom(folder: Path, images: int, image_size: int, seed: int) -> None:
    """Render `images` head CT slices: `folder/head_ct/000.png`, ..., `labels.csv` (`id, hemorrhage`), `README.txt`.

    The first half bleeds, the rest is normal, as in the real set. image_size: height of a typical slice in pixels;
    sizes and proportions vary around it. Slices are 8-bit RGB, some RGBA. The same arguments give the same pixels.
    The folder must be new or empty, and appears whole or not at all.
    """
    bleeding = [index < images // 2 for index in range(images)]
    rows = [f"{index},{int(bleeds)}\n" for index, bleeds in enumerate(bleeding)]
    with atomic_folder(folder) as new:
        (new / "head_ct").mkdir()
        for index, bleeds in enumerate(bleeding):
            film = render_slice(np.random.default_rng([seed, index]), image_size, bleeds)
            film.save(new / "head_ct" / f"{index:03d}.png")
        (new / "labels.csv").write_text("id, hemorrhage\n" + "".join(rows), encoding="utf-8")
        (new / "README.txt").write_text(README.format(images=images, seed=seed), encoding="utf-8")


def render_slice(rng: np.random.Generator, image_size: int, bleeds: bool) -> Image.Image:
    """One slice as a film: 8-bit RGB, or RGBA."""
    head = Head(rng, image_size, bleeds)
    if rng.random() < (0.5 if bleeds else 0.2):
        head.shift_midline()
    head.paint_skull()
    head.paint_brain()
    head.paint_confounders()
    if bleeds:
        haemorrhage = rng.choice(list(HAEMORRHAGES), p=list(HAEMORRHAGES.values()))
        getattr(head, f"paint_{haemorrhage}")()
    return head.expose()


class Head:
    """One slice while it is painted.

    hounsfield: [H, W]. x, y: [H, W], position in the head, front at y = -1, back at y = 1, sides at x = -1 and 1.
    depth: [H, W], way from the skull's inner face inwards, 1 at the centre, negative in the skull and outside.
    """

    def __init__(self, rng: np.random.Generator, image_size: int, bleeds: bool) -> None:
        self.rng = rng
        self.level = rng.choice(list(LEVELS), p=list(LEVELS.values()))
        # 0: young, full brain; 1: wide sulci and ventricles. Those who bleed are older.
        self.atrophy = rng.beta(2.2, 2.3) if bleeds else rng.beta(1.3, 4)
        height = round(image_size * np.clip(rng.normal(0.95, 0.2), 0.5, 1.4))
        aspect = np.clip(rng.normal(0.82, 0.05), 0.68, 1.02)
        width = round(height * np.clip(aspect + rng.normal(0, 0.03), 0.66, 1.04))
        half = height / 2 * rng.uniform(0.92, 0.98)
        self.pixel = 1 / half
        self.hounsfield = np.full((height, width), AIR)

        rows, columns = np.mgrid[:height, :width]
        down = (rows - height / 2 + rng.normal(0, 0.012) * height) / half
        right = (columns - width / 2 + rng.normal(0, 0.012) * width) / half
        tilt = np.deg2rad(rng.normal(0, 4))
        self.y = down * np.cos(tilt) - right * np.sin(tilt)
        # The back of the head is wider than the forehead.
        widening = 1 + rng.uniform(0, 0.09) * self.y
        self.x = (right * np.cos(tilt) + down * np.sin(tilt)) / (aspect * 0.97 * widening)
        self.angle = np.arctan2(self.x, -self.y)
        bumps = sum(rng.normal(0, 0.025 / k) * np.cos(k * self.angle + rng.uniform(0, 0.6)) for k in (2, 3, 4, 6))
        self.radius = np.hypot(self.x, self.y) / (1 + bumps)
        thickness = rng.uniform(0.11, 0.2) if self.level == "vertex" else rng.uniform(0.055, 0.11)
        self.thickness = thickness * (1 + 0.15 * np.cos(2 * self.angle) + 0.08 * np.cos(self.angle + rng.uniform(0, 6)))
        self.depth = 1 - self.radius / (1 - self.thickness)
        # From here on x and y are those of the brain, bent a little as no brain is symmetrical.
        self.x = self.x / (1 - thickness) + 0.018 * self.smooth_noise(0.25)
        self.y = self.y / (1 - thickness) + 0.018 * self.smooth_noise(0.25)
        self.ventricles = np.zeros_like(self.x)
        self.cisterns = np.zeros_like(self.x)

    # Tools

    def smooth_noise(self, scale: float) -> np.ndarray:
        """Random field of mean 0 and variance 1, smooth over `scale`."""
        noise = gaussian_filter(self.rng.standard_normal(self.hounsfield.shape), scale / self.pixel, mode="wrap")
        return (noise - noise.mean()) / noise.std()

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Mask, 0 to 1, of where a signed distance is positive, with an edge of one pixel."""
        return np.clip(0.5 + distance / self.pixel, 0, 1)

    def paint(self, mask: np.ndarray, hounsfield: float | np.ndarray) -> None:
        self.hounsfield += mask * (hounsfield - self.hounsfield)

    def blob(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0, rough: float = 0.0) -> np.ndarray:
        """Signed distance (about) to the edge of an ellipse, roughened by noise."""
        dx, dy = self.x - x, self.y - y
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        distance = 1 - np.hypot(along / rx, across / ry)
        if rough:
            distance += rough * self.smooth_noise(0.3 * min(rx, ry))
        return distance * min(rx, ry)

    def stroke(self, points: Sequence[tuple[float, float]], radii: Sequence[float] | np.ndarray) -> np.ndarray:
        """Signed distance to the edge of a line through `points`, whose half width runs through `radii`."""
        distance = np.full_like(self.x, -np.inf)
        for (x0, y0), (x1, y1), r0, r1 in zip(points, points[1:], radii, radii[1:], strict=False):
            dx, dy = x1 - x0, y1 - y0
            share = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            reach = r0 + (r1 - r0) * share - np.hypot(self.x - x0 - share * dx, self.y - y0 - share * dy)
            distance = np.maximum(distance, reach)
        return distance

    def paint_both_sides(
        self, points: Sequence[tuple[float, float]], radii: Sequence[float] | np.ndarray
    ) -> np.ndarray:
        """Mask of a stroke and of its mirror image, neither quite like the other."""
        masks = []
        for side in (-1, 1):
            moved = [(side * x + self.rng.normal(0, 0.012), y + self.rng.normal(0, 0.015)) for x, y in points]
            masks.append(self.inside(self.stroke(moved, np.multiply(radii, self.rng.uniform(0.8, 1.25)))))
        return np.maximum(*masks)

    # Anatomy

    def shift_midline(self) -> None:
        """Push the midline aside, most in the middle of the brain."""
        push = self.rng.choice([-1, 1]) * self.rng.uniform(0.02, 0.12)
        self.x += push * np.exp(-((self.y - self.rng.uniform(-0.3, 0.3)) ** 2) / 0.25) * np.clip(self.depth, 0, 1)

    def paint_skull(self) -> None:
        rng = self.rng
        scalp = rng.uniform(0.03, 0.09) * (1 + 0.3 * np.cos(self.angle + rng.uniform(0, 6)))
        self.paint(self.inside(1 + scalp - self.radius), FAT + 25 * self.smooth_noise(0.03))
        self.paint(self.inside(0.012 - abs(1 + scalp - self.radius)), SOFT_TISSUE)
        if rng.random() < 0.35:  # the headrest
            rest = abs(np.hypot(self.x, self.y + 0.4) - rng.uniform(1.62, 1.72))
            self.paint(self.inside(0.012 - rest) * (self.y > 0.3), rng.uniform(50, 300))
        self.paint(self.inside(1 - self.radius), BONE)

    def paint_brain(self) -> None:
        rng = self.rng
        white, grey = WHITE_MATTER + rng.normal(0, 1.2), GREY_MATTER + rng.normal(0, 1.2)
        self.paint(self.inside(self.depth), white + 1.2 * self.smooth_noise(0.08))

        sulci, reach = self.find_sulci()
        cortex = np.maximum(0.075 + 0.02 * self.smooth_noise(0.06) - self.depth, (0.045 - sulci) * (reach > -0.04))
        self.paint(gaussian_filter(self.inside(cortex) * self.inside(self.depth), 0.6), grey)
        width = 0.004 + 0.024 * self.atrophy * rng.uniform(0.6, 1.2)
        self.cisterns = self.inside(width - sulci) * self.inside(reach) * self.inside(self.depth)
        rim = self.inside(0.01 + 0.04 * self.atrophy + 0.01 * self.smooth_noise(0.1) - self.depth)
        self.cisterns = np.maximum(self.cisterns, rim * self.inside(self.depth))

        getattr(self, f"_paint_{self.level}")(grey)
        self.paint(self.cisterns, CSF)
        self.paint(self.ventricles, CSF)
        # Beam hardening: brighter under the bone.
        hardening = rng.uniform(2, 9) * np.exp(-np.clip(self.depth, 0, 1) / rng.uniform(0.08, 0.2))
        self.hounsfield += np.where(self.depth > 0, hardening, 0)

    def find_sulci(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the nearest sulcus, and how far a place lies within the sulci's reach from the surface."""
        rng = self.rng
        around = int(rng.integers(44, 64))
        grid = rng.standard_normal((5, around))
        # Stretched from the surface inwards, the zero lines of a random field wind like sulci.
        place = [4 * np.clip(self.depth, 0, 1), (self.angle / (2 * np.pi)) % 1 * around]
        field = map_coordinates(grid, place, order=3, mode="grid-wrap")
        deep = rng.uniform(0.3, 0.6) if self.level == "vertex" else rng.uniform(0.08, 0.2) + 0.15 * self.atrophy
        reach = deep * (1 + 0.5 * self.smooth_noise(0.12)) - self.depth
        return abs(field) * 2 * np.pi / around * np.clip(1 - self.depth, 0.2, 1), reach

    def add_ventricles(self, points: Sequence[tuple[float, float]], radii: Sequence[float]) -> None:
        size = 0.55 + 1.3 * self.atrophy
        self.ventricles = np.maximum(self.ventricles, self.paint_both_sides(points, np.multiply(radii, size)))

    def _paint_midline(self, front: float, back: float) -> None:
        """Fissure and falx, in front down to y = `front`, behind from y = `back` on."""
        rng = self.rng
        wide = 0.006 + 0.025 * self.atrophy
        fissure = self.inside(self.stroke([(0, -1), (0, front)], [wide, wide / 2])) * self.inside(self.depth)
        self.cisterns = np.maximum(self.cisterns, fissure)
        falx = np.maximum(
            self.stroke([(0, -1), (0, front - 0.12)], [0.012, 0.004]), self.stroke([(0, back), (0, 1)], [0.004, 0.016])
        )
        visible = self.inside(falx + rng.uniform(0, 0.006)) * self.inside(self.depth)
        self.cisterns *= 1 - visible
        self.paint(visible, FALX + rng.normal(4, 5))

    def _paint_nuclei(self, grey: float) -> None:
        """The level of the basal ganglia: frontal horns, third ventricle, Sylvian fissures."""
        for points, radii in (
            ([(0.14, 0.0), (0.12, 0.14)], [0.1, 0.11]),  # thalamus
            ([(0.34, -0.24), (0.3, 0.06)], [0.05, 0.055]),  # putamen
            ([(0.15, -0.36), (0.17, -0.2)], [0.05, 0.04]),  # caudate
            ([(0.52, -0.2), (0.5, 0.14)], [0.035, 0.035]),  # insula
        ):
            self.paint(0.85 * gaussian_filter(self.paint_both_sides(points, radii), 0.8), grey)
        sylvian = 0.008 + 0.04 * self.atrophy * self.rng.uniform(0.5, 1.3)
        self.cisterns = np.maximum(
            self.cisterns,
            self.paint_both_sides(
                [(0.9, -0.26), (0.68, -0.2), (0.59, -0.06), (0.6, 0.14)], [0.5 * sylvian, sylvian, sylvian, 0.004]
            ),
        )
        self.add_ventricles([(0.03, -0.13), (0.07, -0.28), (0.15, -0.45)], [0.012, 0.06, 0.03])
        self.add_ventricles([(0.2, 0.3), (0.27, 0.4), (0.26, 0.54)], [0.015, 0.04, 0.015])
        self.add_ventricles([(0, -0.04), (0, 0.14)], [0.012, 0.014])
        quadrigeminal = self.stroke([(-0.13, 0.32), (0, 0.25), (0.13, 0.32)], [0.008, 0.02, 0.008])
        self.cisterns = np.maximum(self.cisterns, self.inside(quadrigeminal))
        self._paint_midline(-0.5, 0.45)

    def _paint_ventricles(self, grey: float) -> None:
        """The level of the lateral ventricles' bodies."""
        self.paint(0.85 * gaussian_filter(self.paint_both_sides([(0.17, -0.3), (0.2, 0.1)], [0.045, 0.03]), 0.8), grey)
        self.add_ventricles([(0.12, -0.44), (0.06, -0.2), (0.08, 0.08), (0.21, 0.38)], [0.03, 0.055, 0.055, 0.05])
        self._paint_midline(-0.5, 0.4)

    def _paint_vertex(self, grey: float) -> None:
        """Above the ventricles: two hemispheres, deep sulci."""
        self._paint_midline(0.0, 0.0)

    def _paint_base(self, grey: float) -> None:
        """The level of the petrous bones: temporal lobes, brain stem, cerebellum, fourth ventricle, air cells."""
        rng = self.rng
        self.paint(self.inside(self.blob(0, 0.48, 0.66, 0.42)), grey - 3 + 2 * np.sin(38 * np.hypot(self.x, self.y)))
        self.paint(self.inside(self.blob(0, 0.16, 0.17, 0.16)), WHITE_MATTER + 3)
        for x, y in ((-0.22, -0.2), (0.22, -0.2), (0, -0.26), (-0.17, 0.08), (0.17, 0.08)):
            star = self.stroke([(0, -0.06), (x, y)], [0.06, 0.015 + 0.02 * self.atrophy])
            self.cisterns = np.maximum(self.cisterns, self.inside(star))
        self.ventricles = self.inside(self.blob(0, 0.4, 0.06 + 0.05 * self.atrophy, 0.05))
        self.paint(self.inside(self.blob(0, 0.3, 0.03, 0.06)), WHITE_MATTER + 3)
        self._paint_midline(-0.4, 0.85)
        streaks = np.exp(-((self.y - 0.1) ** 2) / 0.01) * (self.depth > 0)
        self.hounsfield -= rng.uniform(4, 14) * streaks * (1 + 0.4 * self.smooth_noise(0.1))
        petrous = np.maximum(
            self.paint_both_sides([(1.05, 0.22), (0.4, 0.02)], [0.17, 0.03]),
            self.paint_both_sides([(1.0, -0.38), (0.62, -0.22), (0.35, -0.3)], [0.06, 0.012, 0.012]),
        ) * self.inside(self.depth + 0.06)
        self.cisterns *= 1 - petrous
        cells = self.paint_both_sides([(0.95, 0.2), (0.7, 0.13)], [0.14, 0.07])
        self.paint(petrous, BONE * (0.6 + 0.4 * self.smooth_noise(0.05)))
        self.paint(cells * self.inside(0.03 * (self.smooth_noise(0.035) - 0.5)) * self.inside(self.depth + 0.12), AIR)
        if rng.random() < 0.6:
            self.paint(self.inside(self.blob(rng.normal(0, 0.05), -1.02, rng.uniform(0.1, 0.3), 0.05, rough=0.2)), AIR)

    def paint_confounders(self) -> None:
        """Bright or dark spots that are no haemorrhage."""
        rng = self.rng
        if self.level in ("nuclei", "ventricles"):
            if rng.random() < 0.5:  # calcified choroid plexus
                for side in (-1, 1):
                    spot = self.blob(side * rng.normal(0.25, 0.02), rng.normal(0.4, 0.03), *rng.uniform(0.015, 0.05, 2))
                    self.paint(self.inside(spot), rng.uniform(60, 250))
            if rng.random() < 0.5:  # calcified pineal gland
                self.paint(self.inside(self.blob(0, 0.22, *rng.uniform(0.015, 0.035, 2))), rng.uniform(70, 250))
            if rng.random() < 0.15:  # calcified basal ganglia
                for side in (-1, 1):
                    spot = self.blob(side * 0.26, -0.1, 0.03, rng.uniform(0.03, 0.07), side * 0.3, rough=0.2)
                    self.paint(0.7 * self.inside(spot), rng.uniform(60, 120))
        if rng.random() < 0.35:  # falx, thick or calcified
            place = rng.uniform(0.6, 0.9) * rng.choice([-1, 1])
            spot = self.blob(0, place, rng.uniform(0.015, 0.04), rng.uniform(0.05, 0.16))
            self.paint(self.inside(spot) * self.inside(self.depth), rng.uniform(55, 130))
        if rng.random() < 0.15:  # bone of the next slice, averaged into this one
            angle, size = rng.uniform(-np.pi, np.pi), rng.uniform(0.04, 0.12)
            bump = self.blob(0.99 * np.sin(angle), -0.99 * np.cos(angle), size * rng.uniform(1, 2.5), size, angle, 0.1)
            averaged = gaussian_filter(self.inside(bump), 0.04 / self.pixel)
            self.paint(averaged * self.inside(self.depth), rng.uniform(45, 90))
        if rng.random() < 0.1:  # an old infarct
            (x, y), (rx, ry) = self._place_in_brain(0.3, 0.9), rng.uniform(0.08, 0.25, 2)
            spot = self.blob(x, y, rx, ry, rng.uniform(0, 3), 0.25)
            self.paint(0.8 * self.inside(spot) * self.inside(self.depth), rng.uniform(8, 20))

    # Haemorrhages

    def _blood(self) -> np.ndarray:
        """Hounsfield units of clotting blood: fresh and bright, or days old and hardly so."""
        return self.rng.uniform(60, 95) + 4 * self.smooth_noise(0.04)

    def _place_in_brain(self, nearest: float, farthest: float) -> tuple[float, float]:
        angle, radius = self.rng.uniform(-np.pi, np.pi), self.rng.uniform(nearest, farthest)
        return radius * np.sin(angle), radius * np.cos(angle)

    def paint_intraparenchymal(self) -> None:
        rng = self.rng
        # Mostly in the deep nuclei, as with high blood pressure; else anywhere.
        deep = rng.choice([-1, 1]) * rng.normal(0.32, 0.07), rng.normal(-0.02, 0.14)
        x, y = deep if rng.random() < 0.7 else self._place_in_brain(0.2, 0.75)
        size = np.exp(rng.uniform(np.log(0.13), np.log(0.46)))
        clot = self.blob(x, y, size, size * rng.uniform(0.6, 1.0), rng.uniform(0, np.pi), rng.uniform(0.1, 0.35))
        brain = self.inside(self.depth)
        if rng.random() < 0.6:  # oedema around it
            self.paint(
                0.7 * gaussian_filter(self.inside(clot + rng.uniform(0.02, 0.12)), 1) * brain, rng.uniform(16, 26)
            )
        self.paint(gaussian_filter(self.inside(clot), 0.5) * brain, self._blood())

    def paint_subdural(self) -> None:
        self._paint_under_skull(width=self.rng.uniform(0.6, 1.2), thickness=self.rng.uniform(0.06, 0.18))

    def paint_epidural(self) -> None:
        self._paint_under_skull(width=self.rng.uniform(0.25, 0.45), thickness=self.rng.uniform(0.1, 0.28))

    def _paint_under_skull(self, width: float, thickness: float) -> None:
        """A layer under the skull, thickest in its middle; width: half of it, radians."""
        middle = self.rng.choice([-1, 1]) * self.rng.uniform(0.4, 2.6)
        away = (self.angle - middle + np.pi) % (2 * np.pi) - np.pi
        layer = thickness * (1 - (away / width) ** 2) * (1 + 0.12 * self.smooth_noise(0.1)) - self.depth
        self.paint(self.inside(layer) * self.inside(self.depth), self._blood())

    def paint_subarachnoid(self) -> None:
        place = self._place_in_brain(0.0, 0.8)
        region = np.exp(-((self.x - place[0]) ** 2 + (self.y - place[1]) ** 2) / self.rng.uniform(0.2, 0.7))
        around = np.clip(gaussian_filter(self.cisterns, 0.02 / self.pixel) * 2.5, 0, 1)
        self.paint(np.clip(1.6 * region, 0, 1) * around * self.inside(self.depth), self._blood())

    def paint_intraventricular(self) -> None:
        """Blood that sinks to the back of the ventricles, or casts one side."""
        if not self.ventricles.any():
            return self.paint_intraparenchymal()
        if self.rng.random() < 0.6:
            filled = self.inside(self.y - self.rng.uniform(0.2, 0.4))
        else:
            filled = self.inside(self.x * self.rng.choice([-1, 1]))
        self.paint(np.clip(gaussian_filter(self.ventricles, 0.6) * 1.5, 0, 1) * filled, self._blood())

    # Film

    def expose(self) -> Image.Image:
        """Blur, noise and window; then the film's own marks."""
        rng = self.rng
        noise = gaussian_filter(rng.standard_normal(self.hounsfield.shape), rng.uniform(0.3, 0.8))
        hounsfield = gaussian_filter(self.hounsfield, rng.uniform(0.3, 0.8))
        hounsfield += (
            noise / noise.std() * rng.uniform(1.5, 5.5) + rng.normal(0, 2) * self.x + rng.normal(0, 2) * self.y
        )
        window, centre = rng.uniform(72, 105), rng.uniform(37, 43)
        film = np.clip((hounsfield - centre) / window + 0.5, 0, 1)
        film = film ** rng.uniform(0.85, 1.18)
        floor = rng.uniform(0.04, 0.14) if rng.random() < 0.25 else 0.0
        grey = Image.fromarray(np.rint((floor + (1 - floor) * film) * 255).astype(np.uint8))
        if rng.random() < 0.2:
            mark = (round(rng.uniform(0, 0.06) * grey.width), round(rng.choice([0.0, 0.88]) * grey.height))
            ImageDraw.Draw(grey).text(
                mark, rng.choice(list("ABCDRL")), fill=235, font=ImageFont.load_default_imagefont()
            )
        return grey.convert("RGBA" if rng.random() < 0.06 else "RGB")
