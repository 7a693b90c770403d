"""Where nodules are put into a scan: in the lungs, at a chosen kind of place, and apart from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scangan.ct.grids import DENSE, MOST_DENSE, Numbers, dense_share, fits
from scangan.data.scan_store import NODULE_TYPES
from scangan.data.voi import CENTRE
from scangan.errors import ConfigError, DataError
from scangan.rejected import Rejection, rejected_table

RULES = ("anywhere", "parenchyma", "wall", "vessel")
PLACED = ["scan_id", "nodule", "x_mm", "y_mm", "z_mm", *CENTRE, "equivalent_diameter_mm"]
PLACED_TYPES = {name: NODULE_TYPES[name] for name in PLACED} | {"place": "str", "seed": "int64"}


@dataclass(frozen=True)
class PlacementSettings:
    """Where nodules may go.

    rule: anywhere | parenchyma | wall | vessel, see `place_of`. gap_mm: least distance of two nodules' surfaces.
    inside_share: the lung mask is eroded by this share of a nodule's radius before its centre is drawn. touch_mm: a
    nodule touches the wall if its surface comes as near. vessel_hounsfield: brighter voxels of the lungs are vessels.
    vessel_share: of the nodule's ball, that vessels fill at least where it touches them. tries: random places looked at
    for each nodule.
    """

    rule: str = "anywhere"
    gap_mm: float = 5.0
    inside_share: float = 0.5
    touch_mm: float = 1.0
    vessel_hounsfield: float = DENSE
    vessel_share: float = 0.05
    tries: int = 2000

    def __post_init__(self) -> None:
        for name, fine, allowed in (
            ("rule", self.rule in RULES, " | ".join(RULES)),
            ("gap_mm", self.gap_mm >= 0, "0 or more"),
            ("inside_share", 0.5 <= self.inside_share <= 1, "0.5 to 1"),
            ("touch_mm", self.touch_mm >= 0, "0 or more"),
            ("vessel_share", 0 < self.vessel_share < MOST_DENSE, f"above 0, below {MOST_DENSE:g}"),
            ("tries", self.tries >= 1, "1 or more"),
        ):
            if not fine:
                raise ConfigError(f"placement: {name}: found {getattr(self, name)}, allowed: {allowed}")


def annotated_sizes(
    scans: pd.DataFrame, nodules: pd.DataFrame, limits_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """How many nodules the scans of a cohort have that have any, and how large they are: what injected ones are like.

    scans, nodules: tables of the annotated cohort. limits_mm: least and greatest `equivalent_diameter_mm` that counts.
    Returns counts [scans with nodules] and diameters in mm [nodules]. Raises DataError where there is none.
    """
    fitting = nodules[nodules.equivalent_diameter_mm.between(*limits_mm) & nodules.scan_id.isin(scans.scan_id)]
    if fitting.empty:
        found = f"none among {len(nodules)} nodules"
        raise DataError(f"nodules: voi.diameters_mm: found {found}, allowed: limits with a nodule between them")
    return fitting.scan_id.value_counts(sort=False).to_numpy(), fitting.equivalent_diameter_mm.to_numpy()


def place_nodules(
    lungs: np.ndarray,
    hounsfield: np.ndarray,
    spacing_mm: Numbers,
    existing: pd.DataFrame | None,
    counts: Numbers | int,
    diameters_mm: Numbers | float,
    settings: PlacementSettings,
    rng: np.random.Generator,
    *,
    scan_id: str = "",
    origin_mm: Numbers = (0.0, 0.0, 0.0),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Places for the nodules of one scan, uniformly among those that the rule allows.

    lungs: bool [Z, Y, X]; hounsfield: the same shape; spacing_mm: of their voxels, (z, y, x); origin_mm: LPS position
    (x, y, z) of the centre of voxel [0, 0, 0]. existing: a table of nodules that are there already, with `nodule`, z,
    y, x_voxel and equivalent_diameter_mm; None: none. counts, diameters_mm: what number and sizes are drawn from, such
    as `annotated_sizes` (without zeros where a scan must have a nodule), or one fixed value.

    Wherever the centre is, the ball of `inside_share` (half or more) of the radius lies in the lungs, the whole ball in
    the scan, and both apart from every other nodule. The largest is placed first.
    Returns a table with the columns of `PLACED_TYPES`: `nodule` goes on after the existing numbers, `place` is what was
    found there, whatever the rule, and `seed` is that of the nodule's own noise. And, as rows of `REJECTED_TYPES`, the
    nodules for which no place was found: they are left out, not made smaller.
    Raises DataError for a count below 0, and for a diameter that is not above 0.
    """
    spacing = np.asarray(spacing_mm, float)
    numbers, diameters = np.atleast_1d(counts), np.atleast_1d(np.asarray(diameters_mm, float))
    if not numbers.size or (numbers < 0).any():
        raise DataError(f"placement: counts: found {numbers.min() if numbers.size else 'none'}, allowed: 0 or more")
    if not diameters.size or not (diameters > 0).all():
        raise DataError(
            f"placement: diameters_mm: found {diameters.min() if diameters.size else 'none'}, allowed: above 0"
        )
    asked = np.sort(rng.choice(diameters, int(rng.choice(numbers))))[::-1]
    seeds = rng.integers(2**32, size=len(asked))

    taken, number = [], 0
    if existing is not None and len(existing):
        radii_mm = existing.equivalent_diameter_mm.fillna(0) / 2
        taken = list(zip(existing[CENTRE].to_numpy(float) * spacing, radii_mm, strict=True))
        number = int(existing.nodule.max())
    candidates = np.flatnonzero(lungs)
    placed, rejected = [], []
    for diameter, seed in zip(asked.tolist(), seeds.tolist(), strict=True):
        found = _find_place(rng, candidates, lungs, hounsfield, spacing, taken, diameter / 2, settings)
        if found is None:
            if candidates.size:
                reason, what = (
                    "no place for a nodule",
                    f"{diameter:.1f} mm, rule {settings.rule}, {settings.tries} tries",
                )
                remedy = "choose smaller or fewer nodules, a smaller gap_mm, or another rule"
            else:
                reason, what, remedy = (
                    "no lung",
                    f"{diameter:.1f} mm to place",
                    "mend the lung mask, or remove the scan",
                )
            rejected.append(Rejection(scan_id, reason, what, remedy, counted=False))
            continue
        centre, place = found
        taken.append((centre * spacing, diameter / 2))
        number += 1
        position_mm = (centre * spacing)[::-1] + origin_mm
        placed.append((scan_id, number, *position_mm, *centre, diameter, place, seed))
    return (
        pd.DataFrame(placed, columns=list(PLACED_TYPES)).astype(PLACED_TYPES),
        rejected_table(rejected),
    )


def place_of(
    lungs: np.ndarray,
    hounsfield: np.ndarray,
    spacing_mm: Numbers,
    centre_voxel_zyx: Numbers,
    radius_mm: float,
    settings: PlacementSettings,
) -> str:
    """What a nodule at this place would touch: `wall`, else `vessel`, else `parenchyma`; empty where none can be.

    Arguments as for `place_nodules`. None can be where the ball leaves the scan, its inner part (`inside_share` of the
    radius) leaves the lungs, or more than half of it is as bright as vessels. The wall is where the lung mask ends,
    also towards the mediastinum. Any ball of some size holds a few thin vessels, hence `vessel_share`.
    """
    spacing, centre = np.asarray(spacing_mm, float), np.asarray(centre_voxel_zyx, float)
    reach = radius_mm / spacing
    if (centre - reach < -0.5).any() or (centre + reach > np.array(lungs.shape) - 0.5).any():
        return ""
    if not fits(lungs, spacing, centre, settings.inside_share * radius_mm):
        return ""
    dense = dense_share(lungs, hounsfield, spacing, centre, radius_mm, settings.vessel_hounsfield)
    if dense > MOST_DENSE:
        return ""
    if not fits(lungs, spacing, centre, radius_mm + settings.touch_mm):
        return "wall"
    return "vessel" if dense >= settings.vessel_share else "parenchyma"


def _find_place(
    rng: np.random.Generator,
    candidates: np.ndarray,
    lungs: np.ndarray,
    hounsfield: np.ndarray,
    spacing: np.ndarray,
    taken: list[tuple[np.ndarray, float]],
    radius_mm: float,
    settings: PlacementSettings,
) -> tuple[np.ndarray, str] | None:
    """A centre (z, y, x) in voxels and what it touches; None if there is none among the tries."""
    # Single voxels are looked at instead of eroding the whole mask, which takes minutes for a scan of 512 x 512 x 300.
    for flat in rng.choice(candidates, settings.tries) if candidates.size else ():
        # Nodules do not sit on the grid.
        centre = np.array(np.unravel_index(flat, lungs.shape)) + rng.uniform(-0.5, 0.5, 3)
        if any(
            np.linalg.norm(other - centre * spacing) < radius + radius_mm + settings.gap_mm for other, radius in taken
        ):
            continue
        place = place_of(lungs, hounsfield, spacing, centre, radius_mm, settings)
        if place and settings.rule in ("anywhere", place):
            return centre, place
    return None
