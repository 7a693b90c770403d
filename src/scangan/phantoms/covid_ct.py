"""The embedded stand-in for the COVID-CT set, in its layout: axial slices of the chest phantom's patients.

Covid: hazy ground-glass opacities on both sides, mostly under the pleura and in the back, partly consolidated. The
others: healthy lungs, nodules, or one consolidation. It says nothing about patients. Sizes, file formats, scanners and
levels are drawn alike for both classes, so that none of them betrays the class.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scangan.ct.window import AIR
from scangan.files import atomic_folder
from scangan.phantoms.chest import BRONCHUS_WALL, SCANNERS, Lesion, Reconstruction, ScanGrid
from scangan.phantoms.chest_anatomy import BLOOD, COARSE_MM, CrossSection, Patient, Tubes

# The official split of the real set: train, val, test.
COUNTS = {"COVID": (191, 60, 98), "NonCOVID": (234, 58, 105)}
PARTS = ("train", "val", "test")
SLICES_PER_PATIENT, THEIR_SHARES = (1, 2, 3, 4, 5), (0.35, 0.25, 0.2, 0.12, 0.08)
FINDINGS = {"COVID": {"covid": 1.0}, "NonCOVID": {"none": 0.4, "nodules": 0.35, "focal": 0.25}}
SUFFIX_AND_MODE = ((".png", "RGBA"), (".jpg", "RGB"), (".png", "RGB"), (".jpg", "RGB"), (".png", "RGBA"), (".png", "L"))
SLICE_SPACING_MM = 2.5
SHOWN_LEVELS = (72, 178)  # from the aortic arch to the diaphragm, on the scale of a standard lung
WINDOW = (-600, 1500)  # centre and width, HU
CONSOLIDATED = 25  # HU


def write_phantom(folder: Path, images: int, image_size: int, seed: int) -> None:
    """Write a data set in COVID-CT's layout: class folders, `Data-split`, `Info`.

    images: in all, at least 24; classes and parts have the real set's proportions, and each patient is in one part.
    image_size: about the width of a slice in pixels, which varies; it is as high as the lungs. The same arguments give
    the same files. The folder must be new or empty, and appears whole or not at all.
    """
    totals = _share(images, [sum(counts) for counts in COUNTS.values()])
    with atomic_folder(folder) as root:
        for number, (name, total) in enumerate(zip(COUNTS, totals, strict=True)):
            rng = np.random.default_rng([seed, number])
            lists, pictures = root / "Data-split" / name, root / f"CT_{name}"
            for new in (lists, pictures, root / "Info"):
                new.mkdir(parents=True, exist_ok=True)
            files = iter(rng.permutation(np.arange(total) % len(SUFFIX_AND_MODE)))
            rows: list[tuple[str, int]] = []
            for part, count in zip(PARTS, _share(total, COUNTS[name]), strict=True):
                first = len(rows)
                while (left := first + count - len(rows)) > 0:
                    patient = rows[-1][1] + 1 if rows else 0
                    slices = min(left, int(rng.choice(SLICES_PER_PATIENT, p=THEIR_SHARES)))
                    finding = str(rng.choice(list(FINDINGS[name]), p=list(FINDINGS[name].values())))
                    for index, grey in enumerate(render_slices([seed, number, patient], finding, slices, image_size)):
                        suffix, mode = SUFFIX_AND_MODE[next(files)]
                        rows.append((f"{patient:03d}%{index}{suffix}", patient))
                        quality: dict[str, Any] = {"quality": int(rng.integers(75, 96))} if suffix == ".jpg" else {}
                        Image.fromarray(grey).convert(mode).save(pictures / rows[-1][0], **quality)
                names = [file for file, _ in rows[first:]]
                (lists / f"{part}CT_{name}.txt").write_text("".join(f"{file}\n" for file in names))
            _write_info(root / "Info" / f"{name}-CT-MetaInfo.csv", name, rows)


def _share(whole: int, parts: Sequence[int]) -> list[int]:
    """Divide `whole` in proportion to `parts`."""
    ends = np.rint(np.cumsum(parts) / sum(parts) * whole).astype(int)
    return np.diff(ends, prepend=0).tolist()


def _write_info(path: Path, name: str, rows: list[tuple[str, int]]) -> None:
    """Which patient each image is of; the real set's two tables differ in form, and both name patients alike here."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n" if name == "COVID" else "\r\n")
        if name == "COVID":
            writer.writerow(["File name", "Patient ID", "Captions", "", ""])
            writer.writerows([image, f"Patient {patient}", "rendered, no patient", "", ""] for image, patient in rows)
        else:
            writer.writerow(["", "image name", "patient id"])
            writer.writerows([index, image, f"Patient {patient}"] for index, (image, patient) in enumerate(rows))


def render_slices(seed: Sequence[int], finding: str, slices: int, image_size: int) -> list[np.ndarray]:
    """Slices of one patient through the lungs in a lung window, uint8 [H, W] each.

    seed: decides everything but the finding: `covid` | `nodules` | `focal` (one consolidation) | `none`.
    image_size: about their width.
    """
    patient = Patient(np.random.default_rng([*seed, 0]))
    rng = np.random.default_rng([*seed, 1])
    field = 2 * (patient.width + rng.uniform(6, 34))
    # Published slices are cut out around the lungs.
    scanner = replace(SCANNERS[str(rng.choice(list(SCANNERS)))], field_mm=(field, field), round_field=False)
    grid = ScanGrid(patient, scanner, rng, round(image_size * rng.uniform(0.85, 1.2)), SLICE_SPACING_MM)
    levels = np.array([patient.level(depth) for depth in grid.depths.tolist()])
    numbers = np.flatnonzero((levels > SHOWN_LEVELS[0]) & (levels < SHOWN_LEVELS[1]))
    numbers = np.sort(rng.choice(numbers, slices, replace=False))
    centre, width = WINDOW[0] + rng.uniform(-70, 70), WINDOW[1] * rng.uniform(0.75, 1.1)
    margin, congestion = rng.uniform(5, 28, 2), rng.uniform(0, 140)

    findings = np.random.default_rng([*seed, 2])
    depths = grid.depths[numbers]
    opacities = OPACITIES[finding](findings, patient, depths) if finding in OPACITIES else []
    lesions = _nodules(findings, patient, depths) if finding == "nodules" else []
    tubes = [grid.fill(_near(tube, depths)) for tube in patient.tubes()]
    reconstruct = Reconstruction(scanner, rng, grid)
    pictures = []
    for number, depth in zip(numbers.tolist(), depths, strict=True):
        painted, lungs = _paint(grid, depth, opacities, congestion)
        for tube, value in zip(tubes, (BLOOD + patient.contrast, BRONCHUS_WALL, AIR), strict=True):
            # Vessels drown in consolidated lung, airways stay open in it.
            painted += tube(number) * ((painted < -60) | (value == AIR)) * (value - painted)
        for lesion in lesions:
            grid.paint_lesion(painted, lungs, lesion, depth)
        _, hounsfield = reconstruct(painted, patient.level(depth))
        rows = np.flatnonzero(lungs.any(1))
        top, bottom = rows[0] - margin[0] / grid.pixel, rows[-1] + margin[1] / grid.pixel
        shown = hounsfield[max(0, round(top)) : round(bottom) + 1]
        pictures.append(np.rint(255 * np.clip((shown - centre) / width + 0.5, 0, 1)).astype(np.uint8))
    return pictures


def _paint(
    grid: ScanGrid, depth: float, opacities: Sequence[Opacity], congestion: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units [Y, X] of one level but for the trees in the lungs, and where the lungs are, bool [Y, X]."""
    section = CrossSection(grid.patient, depth, grid.y, grid.x, grid.fields)
    hounsfield = section.render(grid.scanner.table)
    deep = section.lungs()
    # In anybody who lies on the back, the lung is a little denser there.
    added = congestion * np.exp(-deep.clip(0) / 9) * np.clip(section.y / 60, 0, 1)
    solid = np.zeros_like(hounsfield)
    for opacity in opacities:
        inside, core = opacity.shares(section, deep)
        added = np.maximum(added, inside * opacity.added)
        solid = np.maximum(solid, core)
    # Thickened septa between the lobules, and what they enclose: crazy paving.
    lobules, fine = section.field("lobules"), section.field("fat")
    grain = 0.92 + 0.12 * fine + 0.1 * lobules + 0.4 * np.exp(-((lobules / 0.22) ** 2))
    hounsfield += section.lung_share * added * grain.clip(0.4, 1.7)
    section.paint(section.lung_share * solid, CONSOLIDATED + 12 * fine)
    return hounsfield, section.lung_share > 0.5


def _near(tubes: Tubes, depths: np.ndarray) -> Tubes:
    """The pieces of tube that come near one of the slices: to fill them all takes longer than all else."""
    reach = tubes.radius.max(1) + SLICE_SPACING_MM
    low, high = tubes.ends[:, :, 0].min(1) - reach, tubes.ends[:, :, 0].max(1) + reach
    near = ((low[:, None] < depths) & (depths < high[:, None])).any(1)
    return Tubes(tubes.ends[near], tubes.radius[near])


@dataclass(frozen=True)
class Opacity:
    """A hazy patch of lung.

    centre: (depth, y, x) in mm. deep: how far its centre lies under the lung's surface. added: Hounsfield units that it
    adds to the lung, which leaves the vessels visible. soft: width of its edge, mm. solid: share of its radius within
    which the lung is consolidated. flat: by how much it keeps to the surface.
    """

    centre: np.ndarray
    deep: float
    radius: float
    added: float
    soft: float
    solid: float
    flat: float

    def shares(self, section: CrossSection, deep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How hazy and how consolidated each place of a section is, 0 to 1; deep: how far it lies in the lung, mm."""
        depth, y, x = self.centre.tolist()
        away = np.sqrt((section.depth - depth) ** 2 + (section.y - y) ** 2 + (section.x - x) ** 2)
        # Other lung lies across the fissures and the mediastinum.
        away = np.hypot(away, self.flat * (deep - self.deep).clip(0))
        away -= self.radius * (0.28 * section.field("fascia") + 0.14 * section.field("lobules"))
        inside, core = self.radius - away, self.solid * self.radius - away
        return 0.5 + 0.5 * np.tanh(inside / self.soft), 0.5 + 0.5 * np.tanh(core / 2.5)


def _place(
    rng: np.random.Generator, patient: Patient, depth: float, side: int, deepest: float
) -> tuple[np.ndarray, float]:
    """A place (depth, y, x) in one lung about a level, at most so deep in it, mostly in the back; and how deep."""
    places, inside = patient.coarse_lungs
    here = np.flatnonzero((abs(places[:, 0] - depth) < COARSE_MM) & (np.sign(places[:, 2]) == side))
    shallow = here[inside[here] <= deepest]
    here = shallow if len(shallow) else here
    weight = np.exp(places[here, 1] / 30 + abs(places[here, 2]) / 60)
    chosen = rng.choice(here, p=weight / weight.sum())
    return places[chosen] + rng.uniform(-0.5, 0.5, 3) * COARSE_MM, float(inside[chosen])


def _covid(rng: np.random.Generator, patient: Patient, depths: np.ndarray) -> list[Opacity]:
    """Opacities in both lungs about every level; as many and as dense as this patient's illness is grave."""
    severity, opacities = rng.uniform(0, 1), []
    for depth in depths:
        for side in (-1, 1):
            for _ in range(2 + rng.poisson(0.5 + 3 * severity)):
                place, deep = _place(rng, patient, depth + rng.normal(0, 5), side, 2 * COARSE_MM)
                radius = np.exp(rng.uniform(np.log(12), np.log(24 + 20 * severity)))
                solid = rng.uniform(0.4, 0.8) if rng.random() < 0.15 + 0.35 * severity else -1.0
                added = rng.uniform(220, 360 + 140 * severity)
                opacities.append(Opacity(place, deep, radius, added, rng.uniform(1.5, 5), solid, 0.8))
    return opacities


def _focal(rng: np.random.Generator, patient: Patient, depths: np.ndarray) -> list[Opacity]:
    """One consolidation, in one lung, that all levels show if they lie near each other."""
    place, deep = _place(rng, patient, rng.choice(depths), int(rng.choice([-1, 1])), np.inf)
    return [Opacity(place, deep, rng.uniform(14, 30), rng.uniform(250, 500), rng.uniform(1.5, 4), 0.85, 0.2)]


def _nodules(rng: np.random.Generator, patient: Patient, depths: np.ndarray) -> list[Lesion]:
    lesions = []
    for depth in depths:
        place, _ = _place(rng, patient, depth, int(rng.choice([-1, 1])), np.inf)
        lesions.append(Lesion(rng, place, np.exp(rng.uniform(np.log(3.5), np.log(15))), "solid", "parenchyma"))
    return lesions


OPACITIES = {"covid": _covid, "focal": _focal}
