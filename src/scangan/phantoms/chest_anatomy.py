"""The anatomy of the chest phantom's patients, painted level by level in Hounsfield units.

Everything is a smooth implicit shape in mm around the patient's middle, so it looks the same on every grid; vessels and
airways are trees that grow into the lungs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.ndimage import distance_transform_edt

from scangan.ct.window import AIR

FAT, MUSCLE, BLOOD, LIVER, CARTILAGE = -100, 55, 42, 62, 110
MARROW, CORTEX = 190, 900
LEVELS = 250  # of a standard lung, from its apex (0) down; levels of anatomy are given on this scale
ABOVE_MM, BELOW_MM = 22, 18  # what a scan shows beyond the lungs
BOX_MM = ((-70, 360), (-190, 190), (-240, 240))  # of random fields: z, y, x
COARSE_MM = 6.0  # grid on which lungs are searched for places
ARTERIES, VEINS, TWIG_MM = 1300, 900, 0.55  # twigs of each lung, and their radius


class Field:
    """A random field of mean 0 and variance 1, smooth over `scale_mm`; the same on every grid."""

    def __init__(self, rng: np.random.Generator, scale_mm: float) -> None:
        self.scale = scale_mm
        shape = [int((high - low) / scale_mm) + 4 for low, high in BOX_MM]
        self.lattice = rng.standard_normal(shape, np.float32)

    def on(self, y: np.ndarray, x: np.ndarray) -> FieldOnGrid:
        return FieldOnGrid(self, self.weights(y, 1), self.weights(x, 2).T)

    def weights(self, positions: np.ndarray | float, axis: int) -> np.ndarray:
        """Of the lattice's planes at positions in mm, [N, planes]: quadratic B-splines, scaled to variance 1."""
        place = (np.atleast_1d(positions) - BOX_MM[axis][0]) / self.scale
        away = abs(place[:, None] - np.arange(self.lattice.shape[axis]) + 1)
        spline = np.where(away < 0.5, 0.75 - away**2, 0.5 * np.clip(1.5 - away, 0, None) ** 2)
        return (spline / np.sqrt((spline**2).sum(1, keepdims=True)).clip(1e-6)).astype(np.float32)


@dataclass(frozen=True)
class FieldOnGrid:
    field: Field
    rows: np.ndarray
    columns: np.ndarray

    def at(self, depth: float) -> np.ndarray:
        """The field at one level, [Y, X]."""
        [weights] = self.field.weights(depth, 0)
        planes = np.flatnonzero(weights)
        plane = np.tensordot(weights[planes], self.field.lattice[planes], 1)
        return self.rows @ plane @ self.columns


class Patient:
    """The random anatomy of one person. Lengths in mm; x to the left, y to the back, depth down from the lungs' top."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lung_height = rng.uniform(222, 268)
        self.width = rng.uniform(116, 136)  # half of the rib cage's inside, at its widest
        self.depth = rng.uniform(82, 98)
        self.squareness = rng.uniform(0.05, 0.1)
        self.fat = float(np.clip(rng.lognormal(2.45, 0.45), 5, 32))
        self.muscle = rng.uniform(13, 21)
        self.heart = rng.uniform(0.88, 1.12)
        self.dome = rng.uniform(172, 190), rng.uniform(184, 204)  # levels of the diaphragm's right and left top
        self.recess = rng.uniform(52, 70)
        self.twist = rng.normal(0, 3, 2).tolist()
        self.aorta = rng.uniform(11, 15)
        self.mediastinum = rng.uniform(0.85, 1.2)
        self.rib_pitch = rng.uniform(23, 26) * self.lung_height / LEVELS
        self.rib_phase = rng.uniform(0, self.rib_pitch)
        self.parenchyma = rng.uniform(-885, -850)
        self.gravity = rng.uniform(15, 45)
        self.contrast = float(rng.choice([0, 0, 130]) * rng.uniform(0.7, 1.2))
        self.fields = {
            name: Field(rng, scale)
            for name, scale in (("shape", 42), ("fascia", 17), ("fat", 5), ("lobules", 7), ("lobes", 32), ("bone", 4))
        }
        self.rng = rng.spawn(1)[0]

    @property
    def half_width(self) -> float:
        """From the middle to the skin of the sides."""
        return self.width + 1.35 * self.muscle + 1.05 * self.fat + 8

    @property
    def half_depth(self) -> float:
        """From the middle to the skin of the back."""
        return self.depth + self.muscle + 0.8 * self.fat + 8

    @property
    def depths(self) -> tuple[float, float]:
        """The first and the last level that a scan shows."""
        return -ABOVE_MM, self.lung_height + BELOW_MM

    def level(self, depth: float) -> float:
        """A depth on the scale of a standard lung."""
        return depth * LEVELS / self.lung_height

    @cached_property
    def coarse_lungs(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (depth, y, x) in the lungs, [N, 3], and how deep they lie in them, [N]."""
        axes = [np.arange(low, high, COARSE_MM) for low, high in ((-6, self.lung_height + 6), (-114, 115), (-156, 157))]
        inside = np.stack([CrossSection(self, depth, axes[1], axes[2]).lungs() > 0 for depth in axes[0]])
        distance = distance_transform_edt(inside) * COARSE_MM
        places = np.argwhere(inside)
        return np.stack([axis[index] for axis, index in zip(axes, places.T, strict=True)], 1), distance[inside]

    @cached_property
    def trees(self) -> tuple[Tubes, Tubes]:
        """Blood vessels and airways."""
        places, inside = self.coarse_lungs
        vessels, airways = [], [self._windpipe()]
        level = self.lung_height / LEVELS
        for side in (-1, 1):
            own = places[(np.sign(places[:, 2]) == side) & (inside > COARSE_MM)]
            tips = own[self.rng.choice(len(own), ARTERIES + VEINS)]
            tips = tips + self.rng.uniform(-0.5, 0.5, tips.shape) * COARSE_MM
            arteries = grow_tree(np.array([112 * level, 6, side * 36]), tips[:ARTERIES], TWIG_MM)
            veins = grow_tree(np.array([134 * level, 8, side * 32]), tips[ARTERIES:], TWIG_MM)
            vessels += [arteries, veins]
            airways.append(self._bronchi(arteries, side))
        return Tubes.join(vessels), Tubes.join(airways)

    def tubes(self) -> tuple[Tubes, Tubes, Tubes]:
        """What fills the lungs, in the order of painting: blood, the walls of airways, the air in them."""
        vessels, airways = self.trees
        return vessels, Tubes(airways.ends, 1.12 * airways.radius + 0.3), airways

    def _bronchi(self, arteries: Tubes, side: int) -> Tubes:
        """The airways that run beside the arteries down to a few generations."""
        wide = arteries.radius.min(1) > 1.5
        offset = arteries.radius[wide, :, None] * np.array([0.6, 1.2, 1.4 * side])
        return Tubes(arteries.ends[wide] + offset, 0.75 * arteries.radius[wide])

    def _windpipe(self) -> Tubes:
        level = self.lung_height / LEVELS
        carina = np.array([98 * level, 14, 1])
        points = [[-80, -4, 0], [0, 2, 0], [50 * level, 8, 0], carina]
        ends = [np.array([a, b]) for a, b in pairwise(points)]
        ends += [np.array([carina, [118 * level, 17, side * (34 if side < 0 else 40)]]) for side in (-1, 1)]
        radius = [[8.5, 8.5]] * 3 + [[7, 5.2]] * 2
        return Tubes(np.array(ends, float), np.array(radius))


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tube. ends: [N, 2, 3] (depth, y, x) in mm; radius: [N, 2] at both ends."""

    ends: np.ndarray
    radius: np.ndarray

    @classmethod
    def join(cls, tubes: Sequence[Tubes]) -> Tubes:
        return cls(np.concatenate([each.ends for each in tubes]), np.concatenate([each.radius for each in tubes]))

    def fill(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 3] spread evenly through the tubes about every `step`, and the volume each one stands for."""
        axis = self.ends[:, 1] - self.ends[:, 0]
        length = np.linalg.norm(axis, axis=1)
        along = np.ceil(length / step).astype(int)
        piece = np.repeat(np.arange(len(along)), along)
        share = (np.arange(len(piece)) - np.repeat(np.cumsum(along) - along, along) + 0.5) / along[piece]
        radius = self.radius[piece, 0] + share * (self.radius[piece, 1] - self.radius[piece, 0])
        across = np.ceil(np.pi * (radius / step) ** 2).astype(int)
        disc = np.repeat(np.arange(len(across)), across)
        number = np.arange(len(disc)) - np.repeat(np.cumsum(across) - across, across)
        # A sunflower's seeds cover a disc evenly; each disc is turned against its neighbours.
        angle = np.pi * (1 + 5**0.5) * number + disc
        reach = radius[disc] * np.sqrt((number + 0.5) / across[disc])
        direction = axis / length[:, None]
        helper = np.where(abs(direction[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
        first = np.cross(direction, helper)
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(direction, first)
        of = piece[disc]
        points = self.ends[of, 0] + share[disc, None] * axis[of]
        points += (reach * np.cos(angle))[:, None] * first[of] + (reach * np.sin(angle))[:, None] * second[of]
        return points, np.pi * radius[disc] ** 2 * (length / along)[of] / across[disc]


def grow_tree(root: np.ndarray, places: np.ndarray, leaf_mm: float) -> Tubes:
    """A tree from `root` that reaches all `places`, [N, 3]; radii by Murray's law from `leaf_mm` at the tips.

    Each place, the nearest first, joins the node that makes its own way and the way to the root short.
    """
    nodes = np.concatenate([root[None], places[np.argsort(np.linalg.norm(places - root, axis=1))]])
    parents = np.zeros(len(nodes), int)
    way = np.zeros(len(nodes))
    for number in range(1, len(nodes)):
        away = nodes[:number] - nodes[number]
        distance = np.sqrt(np.einsum("ij,ij->i", away, away))
        parents[number] = np.argmin(distance + 0.45 * way[:number])
        way[number] = way[parents[number]] + distance[parents[number]]
    flow = np.full(len(nodes), leaf_mm**2.7)
    for number in range(len(nodes) - 1, 0, -1):
        flow[parents[number]] += flow[number]
    radius = flow ** (1 / 2.7)
    start, end = nodes[parents[1:]], nodes[1:]
    # Twigs bend: two halves each, over a middle that keeps on in the parent's direction.
    onward = start - nodes[parents[parents[1:]]]
    onward /= np.linalg.norm(onward, axis=1, keepdims=True).clip(1)
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    middle = (start + end) / 2 + 0.12 * length * onward
    first = np.minimum(radius[parents[1:]], 1.3 * radius[1:])
    ends = np.concatenate([np.stack([start, middle], 1), np.stack([middle, end], 1)])
    return Tubes(ends, np.concatenate([np.stack([first, radius[1:]], 1), np.stack([radius[1:]] * 2, 1)]))


class CrossSection:
    """One axial level of a patient while it is painted.

    y, x: positions of rows and columns in mm. fields: the patient's random fields on them; without, only the shapes can
    be had, not the painting. Methods that name a shape return signed distances in mm (about), positive
    inside, [Y, X].
    """

    def __init__(self, patient: Patient, depth: float, y: np.ndarray, x: np.ndarray, fields: dict | None = None):
        self.patient, self.depth = patient, depth
        self.pixel = float(x[1] - x[0])
        fields = fields or {"shape": patient.fields["shape"].on(y, x)}
        self.fields = fields
        self.drawn: dict[str, np.ndarray] = {}
        self.flat_y, self.flat_x = y[:, None].astype(np.float32), x[None].astype(np.float32)
        # Nobody is symmetrical: bend the place by a smooth field.
        bend = self.field("shape")
        self.x = self.flat_x + 1.8 * bend
        self.y = self.flat_y - 1.2 * bend
        self.level = float(patient.level(depth))
        self.arch()

    # Tools

    def field(self, name: str) -> np.ndarray:
        """A random field at this level, [Y, X]."""
        if name not in self.drawn:
            self.drawn[name] = self.fields[name].at(self.depth)
        return self.drawn[name]

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Mask, 0 to 1, of where a signed distance is positive, with an edge of one pixel."""
        return np.clip(0.5 + distance / self.pixel, 0, 1)

    def paint(self, mask: np.ndarray, hounsfield: float | np.ndarray) -> None:
        self.hounsfield += mask * (hounsfield - self.hounsfield)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        # Here and below: Python's numbers keep the arrays float32, NumPy's would not.
        across, deep = (self.x - float(x)) * (1 / float(rx)), (self.y - float(y)) * (1 / float(ry))
        return (1 - np.sqrt(across * across + deep * deep)) * float(min(rx, ry))

    def stroke(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> np.ndarray:
        x0, y0, dx, dy = float(x0), float(y0), float(x1 - x0), float(y1 - y0)
        right, down = self.x - x0, self.y - y0
        share = np.clip((right * dx + down * dy) * (1 / (dx * dx + dy * dy)), 0, 1)
        right, down = right - share * dx, down - share * dy
        return float(radius) - np.sqrt(right * right + down * down)

    def ball(self, level: float, radius: float) -> float:
        """The radius of a ball's section at this level; 0 or less outside."""
        away = (self.level - level) / radius
        return radius * np.sqrt(1 - away * away) if abs(away) < 1 else -1.0

    # The frame: rib cage, skin, spine

    def arch(self) -> None:
        """Lay out the rib cage: `cage` is the distance to its inner face, `spine` the middle of the vertebra."""
        patient, level = self.patient, self.level
        rise = float(np.sin(np.pi / 2 * np.clip((level + 42) / 190, 0, 1)))
        self.half_width = patient.width * (0.27 + 0.73 * rise)
        self.half_depth = patient.depth * (0.42 + 0.58 * rise)
        self.middle = 0.55 * (patient.depth - self.half_depth) + 4 * float(np.sin(level / 50))
        across, deep = self.x / self.half_width, (self.y - self.middle) / self.half_depth
        square = across * across + deep * deep + 1e-6
        corner = 4 * (across * deep) ** 2 / (square * square)
        radius = np.sqrt(square) * (1 - patient.squareness * corner)
        self.from_centre = np.hypot(self.x, self.y - self.middle)
        self.cage = self.from_centre * (1 / radius - 1)
        self.spine = 0.0, self.middle + self.half_depth - 31
        # 0 in the back, 1 in front.
        self.turn = 0.5 - 0.5 * (self.y - self.middle) / (self.from_centre + 1e-3)

    def skin(self) -> np.ndarray:
        """Distance to the skin."""
        patient, level = self.patient, self.level
        shoulder = float(np.exp(-(((level + 25) / 55) ** 2)))
        half_width = patient.half_width + 6 * shoulder
        half_depth = patient.half_depth - 16 * shoulder
        half_depth *= 1 - 0.06 * max(level - 170, 0) / 100
        across, deep = self.x / half_width, (self.y - 2 - 10 * shoulder) / half_depth
        square = across * across + deep * deep + 1e-6
        corner = 4 * (across * deep) ** 2 / (square * square)
        # The back is flat where it lies on the table.
        radius = np.sqrt(square) * (1 - (0.075 + 0.05 * (deep > 0)) * corner)
        return np.hypot(self.x, self.y) * (1 / radius - 1)

    # What lies between the lungs

    @cached_property
    def mediastinum(self) -> list[tuple[np.ndarray, float, float]]:
        """Organs: signed distance, Hounsfield units, and by how much the lung keeps away from it."""
        patient, level = self.patient, self.level
        contrast = patient.contrast
        blood, organs = BLOOD + contrast, []

        def add(distance: np.ndarray, hounsfield: float, margin: float) -> None:
            organs.append((distance, hounsfield, margin))

        _, spine_y = self.spine
        # The lower the level, the nearer the aorta lies to the middle.
        aorta = patient.aorta
        aorta_x, aorta_y = 23 - 13 * np.clip((level - 90) / 170, 0, 1), spine_y - 22 + 6 * np.clip(level / 250, 0, 1)
        if level > 74:
            add(self.ellipse(aorta_x, aorta_y, aorta, aorta), blood, 2)
        tube = self.ball(72, 1.1 * aorta)
        if tube > 0:
            add(self.stroke(-10, -22, 14, 4, tube), blood, 3)
            add(self.stroke(14, 4, aorta_x, aorta_y, tube), blood, 2)
        if 70 < level < 150:
            rise = np.clip((level - 70) / 70, 0, 1)
            add(self.ellipse(-14 + 12 * rise, -24 + 4 * rise, 1.2 * aorta, 1.2 * aorta), blood, 4)
        if level < 62:
            up = np.clip((62 - level) / 80, 0, 1)
            for x, y, radius in ((-14 - 8 * up, -14, 6.5), (10 + 6 * up, -10, 4.8), (22 + 8 * up, 6, 5.5)):
                add(self.ellipse(x, y + 10 * up, radius, radius), blood, 4)
        vein = self.ball(46, 17)
        if vein > 0:
            add(self.stroke(-24, -20, 26, -26, 0.38 * vein), blood, 4)
        if 45 < level < 150:
            add(self.ellipse(-29, -14 + 6 * (level - 45) / 105, 9, 8), blood + contrast, 3)
        if 94 < level < 128:
            trunk = self.ball(112, 20) * 0.7
            add(self.stroke(20, -34, 14, -8, trunk), blood, 3)
        for side, centre, start, end in ((-1, 116, (12, -4), (-37, 6)), (1, 106, (16, -8), (41, 12))):
            trunk = self.ball(centre, 13)
            if trunk > 0:
                add(self.stroke(*start, *end, trunk), blood, 1)
            hilum = self.ball(centre + 8, 26)
            if hilum > 0:
                add(self.ellipse(side * 34, 9, 0.55 * hilum, 0.75 * hilum), 20, 0)
        if level > -40:
            add(self.ellipse(4, spine_y - 25, 8, 5.5), 35, 3)
        heart = self.ball(166, 57)
        if heart > 0:
            size = heart / 57 * patient.heart
            shift = 0.16 * (level - 166)
            right, left = (
                self.ellipse(-6, -16, 46 * size, 44 * size),
                self.ellipse(26 + shift, -24, 54 * size, 43 * size),
            )
            whole = np.maximum(right, left)
            if level < 152:
                whole = np.maximum(whole, self.ellipse(4, 8, 34 * size, 22 * size))
            add(whole, BLOOD + 4, 5)
            if contrast:
                add(self.ellipse(30 + shift, -20, 30 * size, 22 * size), blood, -99)
                add(self.ellipse(-12, -24, 28 * size, 26 * size), blood, -99)
        return organs

    def lungs(self) -> np.ndarray:
        """Distance to the lungs' surface."""
        patient, level = self.patient, self.level
        if not -5 < self.depth < patient.lung_height + 5:
            return np.full_like(self.x, -9.0)
        side = np.abs(self.x)
        right = self.x < 0
        # The apex is a dome of its own on each side.
        away = ((side - 46) / 44) ** 2 + ((self.y - self.middle - 6) / 52) ** 2
        ceiling = 78 * (1 - np.exp(-away * (0.42 + 0.4 * away)))
        lungs = np.minimum(self.cage, 0.8 * (level - ceiling))
        # The diaphragm: a dome that falls to the recess along the chest wall, deepest in the back.
        top = np.where(right, *np.array(patient.dome, np.float32))
        out = ((side - 62) / (0.55 * patient.width)) ** 2 + ((self.y - self.middle + 12) / (0.98 * patient.depth)) ** 2
        steep = patient.recess * (0.72 + 0.34 * np.clip((self.y + 20) / 70, -0.6, 1))
        floor = np.minimum(top + steep * out**1.3, LEVELS + np.clip(0.2 * self.y, -4, 5))
        lungs = np.minimum(lungs, 0.75 * (floor - level))
        # Between the lungs: a band, narrow behind the breastbone, and the organs.
        wide = patient.mediastinum
        upper = float(np.clip(1 - level / 90, 0, 1))
        flare = 16 * np.exp(-(((self.y - self.middle + self.half_depth) / 16) ** 2))
        band = (5 + 9 * upper) * wide + (16 + 6 * upper) * wide * np.exp(-(((self.y + 4) / 34) ** 2)) + flare
        lungs = np.minimum(lungs, side - band)
        spine_x, spine_y = self.spine
        lungs = np.minimum(lungs, -self.ellipse(spine_x, spine_y, 22, 19))
        lungs = np.minimum(lungs, -self.ellipse(spine_x, spine_y + 26, 19, 24))
        for distance, _, margin in self.mediastinum:
            if margin > -9:
                lungs = np.minimum(lungs, -distance - margin)
        return lungs

    # Painting

    def render(self, table: str) -> np.ndarray:
        """Hounsfield units of everything but the trees in the lungs and the nodules."""
        self.hounsfield = np.full(self.x.shape, AIR, np.float32)
        self.paint_table(table)
        self.paint_wall()
        self.paint_ribs()
        self.paint_belly()
        self.paint_mediastinum()
        self.paint_spine()
        self.paint_front_bones()
        self.paint_lungs()
        return self.hounsfield

    def paint_table(self, table: str) -> None:
        y = self.flat_y - self.patient.half_depth - 2
        if table == "cradle":
            y = y - 5 + self.flat_x**2 / 620
            wide, thick, shell = 196, 17, 1.2
        else:
            y = y - 9
            wide, thick, shell = 212, 42, 2.2
            self.paint(self.inside(np.minimum(9 - abs(y + 5), 185 - abs(self.flat_x))), -955)
        box = np.minimum(thick / 2 - abs(y - thick / 2), wide - abs(self.flat_x))
        self.paint(self.inside(box), -250)
        self.paint(self.inside(box - 2 * shell), -945)

    def paint_wall(self) -> None:
        """Skin, fat and the muscles around the rib cage."""
        patient, level = self.patient, self.level
        skin, fascia = self.skin(), self.field("fascia")
        fat = FAT - 4 + 9 * self.field("fat")
        self.paint(self.inside(skin), 10)
        self.paint(self.inside(skin - 1.8), fat)
        front = np.clip(2 * self.turn - 1.1, 0, 1)
        layer = patient.fat * (0.75 + 0.5 * front * (level > 60)) + 1.5 * fascia
        # Fewer muscles low in front: what is left of the wall there is fat.
        thin = float(np.clip((level - 150) / 80, 0, 1)) * front
        high = float(np.clip(1 - level / 170, 0, 1))
        strong = (0.75 + 2.2 * high - 0.7 * thin) * patient.muscle
        muscles = np.minimum(skin - layer, self.cage + 10 + strong + 2 * fascia)
        tissue = MUSCLE + 5 * self.field("fat")
        # The zero lines of a smooth field wind like the fat between muscles.
        between = skin + self.cage + 1.3 * patient.muscle + 5 * fascia
        sheets = np.minimum(abs(between) / 1.7, abs(fascia - 0.9) * 9 + 0.5 * (level > 110))
        gaps = np.clip(1.4 - sheets, 0, 1) * (self.cage < -13)
        self.paint(self.inside(muscles), tissue + gaps * (fat - tissue))
        # Beside the spine, and between the ribs.
        for side in (-1, 1):
            erector = self.ellipse(side * 27, self.spine[1] + 40, 22, 13)
            self.paint(self.inside(erector), MUSCLE + 6 * self.field("fat"))
        self.paint(self.inside(self.cage + 13), MUSCLE - 5 + 12 * fascia)

    def bone(self, distance: np.ndarray, shell: float, marrow: float = MARROW, cortex: float = CORTEX) -> None:
        """A bone with a dense shell around its marrow."""
        core = self.inside(distance - shell)
        grain = 1 + 0.18 * self.field("bone")
        self.paint(self.inside(distance), cortex + core * (marrow * grain - cortex))

    def paint_ribs(self) -> None:
        patient = self.patient
        height, thickness = 6.8, 4.3
        # Each rib falls from the spine to the front, so that a section cuts it at a slant.
        drop = 82 * np.clip(self.turn, 0, 1) ** 0.85
        place = (self.depth - drop - patient.rib_phase) / patient.rib_pitch
        number = np.round(place)
        away = (place - number) * patient.rib_pitch * 0.93 / height
        across = (self.cage + 6.8) / thickness
        rib = (1 - np.sqrt(away * away + across * across)) * thickness * 1.1
        rib[(number < -2) | (number > 9) | (self.turn < 0.012)] = -9
        # In front ribs end in cartilage.
        shell = self.inside(rib - 1.5)
        bone = 820 + shell * (150 * (1 + 0.18 * self.field("bone")) - 820)
        self.paint(self.inside(rib), np.where(self.turn > 0.86, CARTILAGE, bone))

    def paint_belly(self) -> None:
        """Inside the rib cage: fat, and under the diaphragm liver, spleen and stomach."""
        patient, level = self.patient, self.level
        fat = FAT + 6 * self.field("fat")
        self.paint(self.inside(self.cage + 1), fat)
        if level < 165:
            return
        lobes = self.field("lobes")
        under = self.inside(self.cage - 2.5)
        veins = np.clip(0.75 - 7 * abs(lobes + 0.3), 0, 1)
        contrast = 0.35 * patient.contrast
        top = float(np.clip((level - 165) / 60, 0, 1))
        liver = np.minimum(self.cage - 3, 18 + 45 * top - self.x - 0.25 * self.y)
        self.paint(self.inside(liver) * under, LIVER + contrast + 2 * lobes - (14 - contrast) * veins)
        spleen = self.ellipse(0.62 * patient.width, self.spine[1] - 14, 34, 34)
        self.paint(self.inside(np.minimum(spleen, self.cage - 4)) * under, LIVER - 10 + contrast)
        size = self.ball(patient.dome[1] + 44, 38)
        if size > 0:
            stomach = self.ellipse(0.46 * patient.width, -16, 1.05 * size, size)
            self.paint(self.inside(stomach) * under, 40 + 6 * lobes)
            gas = np.minimum(stomach - 3.5, 2 * patient.twist[0] - 24 - self.y)
            self.paint(self.inside(gas) * under, AIR + 20)

    def paint_mediastinum(self) -> None:
        texture = 3 * self.field("fat")
        for distance, hounsfield, _ in self.mediastinum:
            self.paint(self.inside(distance), hounsfield + texture)
        # Glands and small vessels in the fat.
        if self.level < 150:
            nodes = np.clip(2.2 * (self.field("lobules") - 1.5), 0, 1) * self.inside(40 - self.from_centre)
            self.paint(nodes * (self.hounsfield < -50), 35)

    def paint_spine(self) -> None:
        patient = self.patient
        x, y = self.spine
        pitch = patient.rib_pitch
        place = float((self.depth - patient.rib_phase) / pitch) % 1
        body = np.minimum(self.ellipse(x, y, 17.5, 15), y + 11.5 - self.y)
        muscles = np.maximum(self.ellipse(x, y + 22, 24, 20), body + 4)
        self.paint(self.inside(muscles), MUSCLE - 5)
        # Pedicles and laminae ring the canal; the processes reach back and aside, fading between the vertebrae.
        arch = 3.2 - abs(np.hypot((self.x - x) / 1.12, self.y - y - 20) - 12)
        solid = float(np.clip(1.6 - 3.4 * abs(place - 0.55), 0, 1))
        spinous = self.stroke(x, y + 34, x + 0.4 * patient.twist[1], y + 34 + 20 * solid, 3.2)
        self.bone(np.maximum(arch - 2.2 * (1 - solid), spinous), 1.2, marrow=260, cortex=780)
        if abs(place - 0.3) < 0.2:
            reach = 1 - abs(place - 0.3) / 0.2
            for side in (-1, 1):
                process = self.stroke(side * 13, y + 22, side * (16 + 22 * reach), y + 27, 2 + 2.5 * reach)
                self.bone(process, 1.4, marrow=220)
        self.paint(self.inside(self.ellipse(x, y + 20, 10, 9)), 0)
        self.paint(self.inside(self.ellipse(x, y + 20, 6.5, 5)), 40)
        if place < 0.17:
            self.paint(self.inside(body + 1), 85 + 8 * self.field("fat"))
            rim = 1 - abs(place / 0.085 - 1)
            self.paint(self.inside(body) * (1 - rim) * 0.7, 420)
        else:
            self.bone(body, 1.6, marrow=185, cortex=560)

    def paint_front_bones(self) -> None:
        """Breastbone, collarbones, shoulder blades, heads of the raised arms."""
        patient, level = self.patient, self.level
        front = self.middle - self.half_depth
        if 38 < level < 185:
            wide = 26 if level < 68 else 16 + 3 * np.sin(level / 9)
            self.bone(self.ellipse(0, front - 5, wide, 6.5), 1.4, marrow=120, cortex=480)
        if -30 < level < 44:
            share = (level + 30) / 74
            for side in (-1, 1):
                x, y = side * (122 - 96 * share), front + 2 - 16 * np.sin(np.pi * share)
                self.bone(self.stroke(x - 16, y + 3 * side, x + 16, y - 3 * side, 5.2), 2, marrow=220)
        if -45 < level < 118:
            share = (level + 45) / 163
            for side in (-1, 1):
                inner = side * (0.66 + 0.08 * share) * patient.width, self.middle + 0.93 * patient.depth
                outer = (
                    side * (1.14 - 0.06 * share) * patient.width,
                    self.middle + (0.08 + 0.42 * share) * patient.depth,
                )
                middle = side * 1.04 * patient.width, self.middle + 0.74 * patient.depth
                blade = np.maximum(
                    self.stroke(*inner, *middle, 2.4), self.stroke(*middle, *outer, 2.4 + 4 * (1 - share) ** 2)
                )
                self.bone(blade, 1.6, marrow=350)
        joint = self.ball(-42, 32)
        if joint > 0:
            for side in (-1, 1):
                self.bone(self.ellipse(side * 1.18 * patient.width, 6, 0.8 * joint, 0.8 * joint), 2.2)

    def paint_lungs(self) -> None:
        patient = self.patient
        self.lung_share = self.inside(self.lungs())
        air = patient.parenchyma + patient.gravity * self.flat_y / 80 + 15 * self.field("lobes")
        air = air + 17 * self.field("lobules") + 11 * self.field("fat")
        # The great fissures: a thin sheet from high in the back to low in front.
        bend = self.field("shape")
        for side, steep in ((-1, 1.25), (1, 1.4)):
            plane = (self.level - 118 + steep * (self.y - 8) + 0.25 * abs(self.x) + 5 * bend) / 1.8
            air = air + 95 * np.exp(-(plane**2) / 1.4) * (np.sign(self.flat_x) == side)
        self.paint(self.lung_share, air)
