"""Placement: never outside the lungs, whatever the mask; kinds of places; no overlaps; what has no place is named."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from scangan.data.voi import CENTRE
from scangan.errors import ConfigError, DataError
from scangan.synthesis.placement import PLACED_TYPES, RULES, PlacementSettings, annotated_sizes, place_nodules, place_of

SPACING = (2.0, 1.0, 1.5)


def lung_and_vessel() -> tuple[np.ndarray, np.ndarray]:
    """A cuboid of lung with a straight vessel of 6 mm along z through its middle: bool and int16 [40, 80, 60]."""
    lungs, hounsfield = np.zeros((40, 80, 60), bool), np.full((40, 80, 60), 40, np.int16)
    lungs[3:37, 10:70, 8:52] = True
    hounsfield[lungs] = -850
    y, x = np.mgrid[:80, :60]
    hounsfield[:, np.hypot((y - 40) * 1.0, (x - 30) * 1.5) < 3] = 40
    return lungs, hounsfield


def place(lungs, hounsfield, counts, diameters, seed=0, existing=None, spacing=SPACING, **settings):
    rng = np.random.default_rng(seed)
    return place_nodules(lungs, hounsfield, spacing, existing, counts, diameters, PlacementSettings(**settings), rng)


def away_mm(shape, spacing, centre) -> np.ndarray:
    return np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing, axis=-1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(12))
def test_no_nodule_is_outside_the_lungs_whatever_the_mask(seed, rule):
    """Random masks: blobs of any size, cut by the volume's sides; a tenth of their voxels bright."""
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.6, 3, 3)
    field = ndimage.gaussian_filter(rng.standard_normal((28, 36, 40)), rng.uniform(1, 5), mode="wrap")
    lungs = field > np.quantile(field, rng.uniform(0.2, 0.8))
    hounsfield = np.where(rng.random(lungs.shape) < 0.1, 0, -850).astype(np.int16)
    placed, rejected = place(
        lungs, hounsfield, 12, rng.uniform(2, 14, 40), seed, spacing=spacing, rule=rule, gap_mm=1.0, tries=300
    )
    assert len(placed) + len(rejected) == 12
    for row in placed.itertuples():
        centre = np.array([row.z_voxel, row.y_voxel, row.x_voxel])
        assert lungs[tuple(np.rint(centre).astype(int))]
        away = away_mm(lungs.shape, spacing, centre)
        assert lungs[away <= row.equivalent_diameter_mm / 4].all()
        reach = row.equivalent_diameter_mm / 2 / spacing
        assert ((centre - reach >= -0.5) & (centre + reach <= np.array(lungs.shape) - 0.5)).all()
        if row.place != "wall":
            assert lungs[away <= row.equivalent_diameter_mm / 2 + 1].all()
    if rule == "anywhere":
        assert len(placed) > 0


@pytest.mark.parametrize("rule", ["parenchyma", "wall", "vessel"])
def test_a_rule_decides_what_a_nodule_touches(rule):
    lungs, hounsfield = lung_and_vessel()
    placed, rejected = place(lungs, hounsfield, 5, 8.0, rule=rule, gap_mm=0.0)
    assert len(placed) == 5
    assert rejected.empty
    assert (placed.place == rule).all()
    for row in placed.itertuples():
        away = away_mm(lungs.shape, SPACING, [row.z_voxel, row.y_voxel, row.x_voxel])
        touched = away <= 4
        assert bool((~lungs[away <= 5]).any()) == (rule == "wall")
        assert (hounsfield[touched & lungs] > -500).any() == (rule == "vessel")


def test_a_place_is_told_from_another():
    lungs, hounsfield = lung_and_vessel()
    settings = PlacementSettings()

    def at(z, y, x, radius):
        return place_of(lungs, hounsfield, SPACING, (z, y, x), radius, settings)

    assert at(20, 25, 18, 4) == "parenchyma"
    assert at(20, 13, 18, 4) == "wall"
    assert at(20, 36, 30, 4) == "vessel"
    assert at(20, 40, 30, 4) == ""  # in the vessel
    assert at(20, 10, 18, 4) == ""  # half of it outside
    assert at(5, 25, 18, 13) == ""  # beyond the first slice
    assert at(20, 5, 18, 4) == ""  # outside the lungs


def test_nodules_keep_apart_from_each_other_and_from_existing_ones():
    lungs, hounsfield = lung_and_vessel()
    existing = pd.DataFrame(
        {
            "nodule": [2, 7],
            "z_voxel": [20.0, 12.0],
            "y_voxel": [25.0, 55.0],
            "x_voxel": [20.0, 40.0],
            "equivalent_diameter_mm": 20.0,
        }
    )
    placed, rejected = place(lungs, hounsfield, 150, [6.0, 10.0], existing=existing, gap_mm=3.0, tries=100)
    assert len(placed) > 20
    assert len(rejected) > 0  # there is not room for all
    both = pd.concat([existing, placed], ignore_index=True)
    centres, radii = both[CENTRE].to_numpy() * SPACING, both.equivalent_diameter_mm.to_numpy() / 2
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (distance >= radii[:, None] + radii + 3.0).all()
    assert placed.nodule.tolist() == list(range(8, 8 + len(placed)))
    assert placed.equivalent_diameter_mm.is_monotonic_decreasing


def test_the_table_gives_mm_and_voxels_and_a_seed_for_each():
    lungs, hounsfield = lung_and_vessel()
    settings, origin = PlacementSettings(), np.array([-120.0, 30.5, 800.0])
    placed, _ = place_nodules(
        lungs, hounsfield, SPACING, None, 6, 7.0, settings, np.random.default_rng(1), scan_id="s9", origin_mm=origin
    )
    assert (
        placed.dtypes.astype(str).to_dict()
        == pd.DataFrame(columns=list(PLACED_TYPES)).astype(PLACED_TYPES).dtypes.astype(str).to_dict()
    )
    assert (placed.scan_id == "s9").all()
    expected = placed[["x_voxel", "y_voxel", "z_voxel"]].to_numpy() * SPACING[::-1] + origin
    assert np.allclose(placed[["x_mm", "y_mm", "z_mm"]], expected)
    assert placed.seed.nunique() == 6


def test_the_same_generator_gives_the_same_nodules():
    lungs, hounsfield = lung_and_vessel()
    first, again, other = (place(lungs, hounsfield, [3, 4], [5.0, 8.0], seed)[0] for seed in (4, 4, 5))
    pd.testing.assert_frame_equal(first, again)
    assert first.seed.tolist() != other.seed.tolist()


def test_number_and_diameters_follow_what_they_are_drawn_from():
    lungs, hounsfield = np.ones((20, 20, 20), bool), np.full((20, 20, 20), -850, np.int16)
    rng, numbers, diameters = np.random.default_rng(0), [], []
    for _ in range(200):
        placed, rejected = place_nodules(
            lungs, hounsfield, (3, 3, 3), None, [0, 1, 1, 2], [4.0, 4.0, 4.0, 9.0], PlacementSettings(), rng
        )
        assert rejected.empty
        numbers.append(len(placed))
        diameters += placed.equivalent_diameter_mm.tolist()
    assert np.allclose(np.bincount(numbers) / 200, [0.25, 0.5, 0.25], atol=0.09)
    assert np.mean(np.array(diameters) == 4.0) == pytest.approx(0.75, abs=0.09)
    assert set(diameters) == {4.0, 9.0}


def test_places_are_uniform_over_the_lungs():
    lungs, hounsfield = np.ones((40, 20, 20), bool), np.full((40, 20, 20), -850, np.int16)
    # So small that they are hardly in each other's way.
    placed, _ = place(lungs, hounsfield, 400, 0.1, spacing=(1, 1, 1), gap_mm=0.0)
    for axis, length in zip(CENTRE, lungs.shape, strict=True):
        share = np.histogram(placed[axis], 4, (-0.5, length - 0.5))[0] / 400
        assert np.allclose(share, 0.25, atol=0.07)


def test_nodules_without_a_place_are_left_out_and_named():
    lungs, hounsfield = lung_and_vessel()
    placed, rejected = place(lungs, hounsfield, 2, [150.0, 6.0], seed=1, tries=50)
    assert placed.equivalent_diameter_mm.tolist() == [6.0]
    assert rejected.reason.tolist() == ["no place for a nodule"]
    assert rejected.found.tolist() == ["150.0 mm, rule anywhere, 50 tries"]
    placed, rejected = place(np.zeros_like(lungs), hounsfield, 1, 6.0)
    assert placed.empty
    assert list(placed.columns) == list(PLACED_TYPES)
    assert rejected.reason.tolist() == ["no lung"]
    assert place(lungs, hounsfield, 0, 6.0)[0].empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "hilum"}, r"^placement: rule: found hilum, allowed: anywhere \| parenchyma \| wall \| vessel$"),
        ({"gap_mm": -1}, "^placement: gap_mm: found -1, allowed: 0 or more$"),
        ({"inside_share": 0.2}, r"^placement: inside_share: found 0\.2, allowed: 0\.5 to 1$"),
        ({"vessel_share": 0.6}, r"^placement: vessel_share: found 0\.6, allowed: above 0, below 0\.5$"),
        ({"tries": 0}, "^placement: tries: found 0, allowed: 1 or more$"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        PlacementSettings(**change)


def test_wrong_distributions_are_named():
    lungs, hounsfield = lung_and_vessel()
    with pytest.raises(DataError, match=r"^placement: counts: found -1, allowed: 0 or more$"):
        place(lungs, hounsfield, [1, -1], 5.0)
    with pytest.raises(DataError, match=r"^placement: diameters_mm: found 0\.0, allowed: above 0$"):
        place(lungs, hounsfield, 1, [5.0, 0.0])
    with pytest.raises(DataError, match=r"^placement: diameters_mm: found none, allowed: above 0$"):
        place(lungs, hounsfield, 1, [])


def test_sizes_and_numbers_are_those_of_the_annotated_scans():
    scans = pd.DataFrame({"scan_id": ["a", "b", "c"]})
    nodules = pd.DataFrame({"scan_id": ["a", "a", "b", "b", "gone"], "equivalent_diameter_mm": [5.0, 6, 7, 40, 6]})
    counts, diameters = annotated_sizes(scans, nodules, (4, 30))
    assert sorted(counts) == [1, 2]
    assert diameters.tolist() == [5, 6, 7]
    with pytest.raises(DataError, match=r"voi\.diameters_mm: found none among 5 nodules, allowed: limits with"):
        annotated_sizes(scans, nodules, (50, 60))
