"""VOIs: closed forms of the resampling, borders, what is left out and why, healthy places, and files."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from torch.nn.functional import grid_sample

from scangan.config import VoiCut
from scangan.ct.grids import ball, blank, cut_voi, fits, outside_share, sample_box, sphere
from scangan.ct.volume import resample
from scangan.ct.window import AIR, to_hounsfield, to_network
from scangan.data.voi import CENTRE, VoiSet, VoiWriter, cut_healthy_vois, cut_nodule_vois, read_vois, write_vois
from scangan.errors import DataError

SETTINGS = VoiCut(size=16, spacing_mm=2.0, margin_mm=4.0)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 400, shape, np.int16)


def a_scan(scan_id: str = "s1", check: str = "") -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    """Two boxes of lung at 2 mm, and a nodule of 4 voxels' edge in one of them."""
    lungs, nodules = np.zeros((30, 40, 40), bool), np.zeros((30, 40, 40), np.uint8)
    lungs[4:26, 8:32, 4:18] = lungs[4:26, 8:32, 22:36] = True
    nodules[13:17, 18:22, 9:13] = 1
    row = {"scan_id": scan_id, "patient_id": f"p-{scan_id}", "data": "phantom", "spacing_mm": 2.0, "lung_check": check}
    hounsfield = np.random.default_rng(1).integers(-1000, -600, lungs.shape, np.int16)
    return row, hounsfield, lungs, nodules


def nodule(
    scan_id: str = "s1", number: int = 1, centre=(14.5, 19.5, 10.5), diameter: float = 8.0, readers: int = 4
) -> dict:
    return {"scan_id": scan_id, "nodule": number, "equivalent_diameter_mm": diameter, "readers": readers} | dict(
        zip(CENTRE, centre, strict=True)
    )


def test_a_voi_on_the_scans_own_grid_is_a_copy():
    scan = noise(20, 30, 40)
    assert (cut_voi(scan, (2, 2, 2), (9.5, 14.5, 20.5), 8, 2.0) == scan[6:14, 11:19, 17:25]).all()


@pytest.mark.parametrize(
    ("spacing", "voi_mm", "tolerance"),
    [
        ((2.5, 1.25, 0.9), 0.9, 0.0),  # interpolation keeps a linear function of the place
        ((1, 1, 1), 2.0, 0.0),  # so does the mean over twice as large a voxel
        ((1.0, 0.8, 0.7), 1.5, 0.05),  # between whole factors a sampled triangle is not quite balanced
    ],
)
def test_a_linear_ramp_is_met(spacing, voi_mm, tolerance):
    """tolerance: in voxels of the scan, the same as that of torch's anti-aliasing."""
    z, y, x = np.mgrid[:24, :60, :80]
    slope, centre = np.array([7.0, -3.0, 2.0]), np.array([11.3, 30.8, 40.1])
    voi = cut_voi(slope[0] * z + slope[1] * y + slope[2] * x, spacing, centre, 9, voi_mm)
    grid = (np.mgrid[:9, :9, :9] - 4) * voi_mm
    expected = np.tensordot(slope, centre[:, None, None, None] + grid / np.reshape(spacing, (3, 1, 1, 1)), 1)
    assert np.allclose(voi, expected, atol=1e-3 + tolerance * np.abs(slope).sum())


def test_upsampling_equals_torchs_trilinear_sampling():
    scan, centre, spacing = noise(12, 20, 24), np.array([5.2, 9.9, 13.4]), np.array([2.5, 2.0, 2.0])
    voi = cut_voi(scan, spacing, centre, 10, 1.0)
    places = np.stack(np.meshgrid(*(np.arange(10) - 4.5,) * 3, indexing="ij"), -1) / spacing + centre
    unit = torch.from_numpy((places[..., ::-1] + 0.5) * 2 / np.array(scan.shape[::-1]) - 1)
    source = torch.from_numpy(scan).double()[None, None]
    expected = grid_sample(source, unit[None], padding_mode="border", align_corners=False)[0, 0]
    assert np.allclose(voi, expected, atol=0.01)


def test_downsampling_equals_that_of_the_scan_store():
    scan = noise(40, 60, 60)
    whole = resample(scan, np.diag([0.7, 0.7, 1.0, 1.0]), 2.0).hounsfield  # [20, 21, 21]
    # The store's voxel k lies at (k + 0.5) / factor - 0.5 of the old ones.
    centre = np.array([(9.5 + 0.5) * 2 / 1 - 0.5, (10.5 + 0.5) * 2 / 0.7 - 0.5, (10.5 + 0.5) * 2 / 0.7 - 0.5])
    assert np.abs(cut_voi(scan, (1.0, 0.7, 0.7), centre, 8, 2.0) - whole[6:14, 7:15, 7:15]).max() <= 1


def test_samples_beyond_a_volume_repeat_its_edge():
    scan = noise(5, 6, 7)
    inside = [np.clip(np.arange(-4, 12), 0, length - 1) for length in scan.shape]
    assert (sample_box(scan, [np.arange(-4, 12)] * 3) == scan[np.ix_(*inside)]).all()


def test_beyond_the_scan_is_air_and_more_than_half_of_it_is_refused():
    scan = np.full((20, 20, 20), 50, np.int16)
    voi = cut_voi(scan, (1, 1, 1), (2.5, 9.5, 9.5), 10, 1.0)
    assert (voi[:2] == AIR).all()
    assert (voi[2:] == 50).all()
    assert outside_share(scan.shape, (1, 1, 1), (2.5, 9.5, 9.5), 10, 1.0) == pytest.approx(0.2)
    assert outside_share(scan.shape, (1, 1, 1), (-0.5, 9.5, 9.5), 10, 1.0) == pytest.approx(0.5)
    cut_voi(scan, (1, 1, 1), (-0.5, 9.5, 9.5), 10, 1.0)
    top = cut_voi(scan, (1, 1, 1), (9.5, 9.5, 17.5), 10, 1.0)
    assert (top[..., 7:] == AIR).all()
    assert (top[..., :7] == 50).all()
    with pytest.raises(
        DataError, match=r"^voi: centre_voxel: found \(-0\.5, -0\.5, 9\.5\), 75% .*, allowed: at most 50%$"
    ):
        cut_voi(scan, (1, 1, 1), (-0.5, -0.5, 9.5), 10, 1.0)


@pytest.mark.parametrize(("size", "spacing"), [(16, 2.0), (33, 0.7)])
def test_a_sphere_has_its_volume(size, spacing):
    radius = 0.4 * size * spacing
    mask = sphere(size, spacing, radius)
    assert mask.sum() * spacing**3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert (mask == mask[::-1]).all()
    assert (mask == mask.transpose(2, 0, 1)).all()


def test_networks_see_the_window_and_the_mask_blanked():
    assert to_network(np.array([-2000, -1000, -300, 400, 3000], np.float32)).tolist() == [-1, -1, 0, 1, 1]
    voi = np.random.default_rng(0).uniform(-1000, 400, (2, 8, 8, 8)).astype(np.float32)
    assert to_network(voi).dtype == np.float32
    assert np.allclose(to_hounsfield(to_network(voi)), voi, atol=1e-3)
    assert torch.equal(to_network(torch.from_numpy(voi)), torch.from_numpy(to_network(voi)))
    mask = sphere(8, 1.0, 3.0)
    blanked = blank(voi, mask)
    assert blanked.dtype == np.float32
    assert (to_network(blanked[:, mask]) == -1).all()
    assert (blanked[:, ~mask] == voi[:, ~mask]).all()


def test_a_ball_holds_all_voxels_within_its_radius():
    shape, spacing, centre = (9, 14, 30), np.array([2.5, 0.7, 0.8]), np.array([1.2, 13.3, 9.9])
    everywhere = np.linalg.norm((np.moveaxis(np.mgrid[:9, :14, :30], 0, -1) - centre) * spacing, axis=-1)
    for radius in (0.1, 3.0, 50.0):
        box, away = ball(shape, spacing, centre, radius)
        assert np.allclose(away, everywhere[box])
        assert (away <= radius).sum() == (everywhere <= radius).sum()


def test_fits_is_what_the_distance_to_the_outside_says():
    mask = ndimage.binary_opening(np.random.default_rng(3).random((20, 20, 20)) < 0.93)
    spacing = (2.0, 1.0, 1.0)
    depth = ndimage.distance_transform_edt(mask, spacing)
    inner = np.zeros(mask.shape, bool)
    inner[2:-2, 4:-4, 4:-4] = True
    fitting = np.zeros(mask.shape, bool)
    for place in np.argwhere(inner):
        fitting[tuple(place)] = fits(mask, spacing, place, 2.5)
    assert (fitting[inner] == (depth > 2.5)[inner]).all()
    assert 0 < fitting.sum() < inner.sum()
    assert not fits(np.ones((5, 5, 5), bool), spacing, (2, 2, 2), 2.6)  # beyond the volume's side
    assert not fits(mask, spacing, (-3, 2, 2), 0.1)
    hole = np.arange(125).reshape(5, 5, 5) != 62  # the middle voxel
    assert not fits(hole, spacing, (2.4, 1.6, 2.3), 0.1)  # a ball between the voxels' centres


def test_nodules_are_in_the_centre_and_those_without_a_voi_are_named():
    table = pd.DataFrame(
        [
            nodule(),
            nodule(number=2, diameter=24.1),
            nodule(number=3, diameter=np.nan),
            nodule(number=4, readers=1),
            nodule(number=5, centre=(0, 0, 20)),
            nodule(number=6, diameter=24.0),
            nodule("other"),
        ]
    )
    scan = a_scan()
    vois, rejected = cut_nodule_vois([scan], table, VoiCut(size=16, spacing_mm=2.0, margin_mm=4.0, min_readers=2))
    assert vois.table.voi_id.tolist() == ["s1-n1", "s1-n6"]
    assert vois.table.iloc[0].drop("voi_id").to_dict() == {
        **{"scan_id": "s1", "patient_id": "p-s1", "kind": "nodule", "equivalent_diameter_mm": 8.0, "data": "phantom"},
        **{"z_voxel": 14.5, "y_voxel": 19.5, "x_voxel": 10.5, "spacing_mm": 2.0},
    }
    assert vois.voxels.dtype == np.float32
    assert (vois.voxels[0] == scan[1][7:23, 12:28, 3:19]).all()
    assert dict(zip(rejected.source, rejected.reason, strict=True)) == {
        "s1-n2": "nodule larger than the VOI",
        "s1-n3": "nodule without a diameter",
        "s1-n4": "nodule of too few readers",
        "s1-n5": "nodule at the border of the scan",
    }
    assert rejected.found[0] == "24.1 mm"
    assert rejected.remedy[0].endswith("allowed: 24 mm")


def test_healthy_places_lie_in_the_lungs_away_from_every_nodule():
    row, hounsfield, lungs, labels = a_scan()
    hounsfield[20:, :22, :18] = 40  # the mask took in some wall
    # One nodule is drawn, another one is in the table alone.
    table = pd.DataFrame([nodule(centre=(14.5, 19.5, 28.5), diameter=10.0)])
    settings = VoiCut(size=16, spacing_mm=2.0, margin_mm=4.0, inside_share=1.0)
    vois, rejected = cut_healthy_vois(
        [(row, hounsfield, lungs, labels)], table, settings, 120, [5.0, 9.0, 100.0], seed=3
    )
    assert len(vois) == 120
    assert rejected.empty
    assert set(vois.table.equivalent_diameter_mm) == {5.0, 9.0}
    assert set(vois.table.kind) == {"healthy"}
    centres, radii = vois.table[CENTRE].to_numpy(), vois.table.equivalent_diameter_mm.to_numpy() / 2
    to_label = ndimage.distance_transform_edt(labels == 0, 2.0)
    depth = ndimage.distance_transform_edt(np.pad(lungs, 1), 2.0)[1:-1, 1:-1, 1:-1]
    nearest = tuple(np.rint(centres).astype(int).T)
    half_a_voxel = np.sqrt(3)  # mm, between a place and its voxel's centre
    assert (to_label[nearest] >= radii + 4 - half_a_voxel).all()
    assert (depth[nearest] >= radii - half_a_voxel).all()
    assert (np.linalg.norm((centres - [14.5, 19.5, 28.5]) * 2, axis=1) >= radii + 5 + 4).all()
    assert (np.abs(centres - np.rint(centres)) > 0.01).any()
    assert not ((centres[:, 0] > 21) & (centres[:, 1] < 20) & (centres[:, 2] < 16)).any()
    for voi, centre in zip(vois.voxels, centres, strict=True):
        on_voxels = np.floor(centre) + 0.5
        assert (voi == cut_voi(hounsfield, (2, 2, 2), on_voxels, 16, 2.0)).all()


def test_healthy_places_depend_on_seed_and_scan_alone():
    table = pd.DataFrame([nodule("none")])

    def places(scans, seed):
        return cut_healthy_vois(scans, table, SETTINGS, 3, [6.0], seed)[0].table

    alone, second = places([a_scan("s2")], 1), places([a_scan("s1"), a_scan("s2")], 1)
    pd.testing.assert_frame_equal(alone, second[second.scan_id == "s2"].reset_index(drop=True))
    assert (second[CENTRE][:3].to_numpy() != second[CENTRE][3:].to_numpy()).all()
    assert (places([a_scan("s2")], 2)[CENTRE] != alone[CENTRE]).all(axis=None)


def test_scans_and_spheres_without_a_healthy_place_are_named():
    row, hounsfield, lungs, labels = a_scan("full")
    full = (row, hounsfield, lungs, np.ones_like(labels))
    failed = a_scan("failed", check="one lung only")
    none = ({**row, "scan_id": "none"}, hounsfield, np.zeros_like(lungs), labels)
    vois, rejected = cut_healthy_vois([full, failed, none], pd.DataFrame([nodule("x")]), SETTINGS, 1, [6.0], seed=1)
    assert vois.voxels.shape == (0, 16, 16, 16)
    assert list(zip(rejected.source, rejected.reason, rejected.found, strict=True)) == [
        ("full-h1", "no healthy place", "none of 6.0 mm in 1000 tries"),
        ("failed", "lung mask failed", "one lung only"),
        ("none", "lung mask failed", "no lung"),
    ]
    with pytest.raises(DataError, match=r"^voi: diameters_mm: found 25 mm at least, allowed: one up to 24 mm$"):
        cut_healthy_vois([full], pd.DataFrame([nodule("x")]), SETTINGS, 1, [25.0, 30.0], seed=1)


def test_what_is_written_is_read_back(tmp_path):
    vois, _ = cut_nodule_vois([a_scan()], pd.DataFrame([nodule(), nodule(number=2, centre=(14.2, 9, 9))]), SETTINGS)
    write_vois(tmp_path / "a.zarr.zip", tmp_path / "a.parquet", vois)
    back = read_vois(tmp_path / "a.zarr.zip", tmp_path / "a.parquet")
    assert back.voxels.dtype == np.float32
    assert (back.voxels == np.rint(vois.voxels)).all()
    pd.testing.assert_frame_equal(back.table, vois.table)
    write_vois(tmp_path / "b.zarr.zip", tmp_path / "b.parquet", back)
    assert (tmp_path / "a.zarr.zip").read_bytes() == (tmp_path / "b.zarr.zip").read_bytes()
    with VoiWriter(tmp_path / "d.zarr.zip", tmp_path / "d.parquet", 16) as writer:
        for place in (0, 1):
            writer.append(vois.select([place]))
    for suffix in ("zarr.zip", "parquet"):
        assert (tmp_path / f"d.{suffix}").read_bytes() == (tmp_path / f"a.{suffix}").read_bytes()
    both = VoiSet.concatenate([back, back.select([1])])
    assert both.table.voi_id.tolist() == ["s1-n1", "s1-n2", "s1-n2"]
    empty = back.select([])
    write_vois(tmp_path / "c.zarr.zip", tmp_path / "c.parquet", empty)
    assert read_vois(tmp_path / "c.zarr.zip", tmp_path / "c.parquet").voxels.shape == (0, 16, 16, 16)


def test_damaged_files_are_named(tmp_path):
    vois, _ = cut_nodule_vois([a_scan()], pd.DataFrame([nodule(), nodule(number=2)]), SETTINGS)
    voxels, table = tmp_path / "v.zarr.zip", tmp_path / "v.parquet"
    with pytest.raises(DataError, match=r"v\.parquet: table: found no such file, allowed"):
        read_vois(voxels, table)
    write_vois(voxels, table, vois)
    write_vois(tmp_path / "one.zarr.zip", tmp_path / "one.parquet", vois.select([0]))
    with pytest.raises(
        DataError, match=r"one\.zarr\.zip: voxels: found int16 \[1, 16, 16, 16\], allowed: int16 \[2, S, S, S\]"
    ):
        read_vois(tmp_path / "one.zarr.zip", table)
    voxels.write_bytes(voxels.read_bytes()[:500])
    with pytest.raises(DataError, match=r"v\.zarr\.zip: voxels: found .*, allowed: a whole Zarr array in a zip"):
        read_vois(voxels, table)
    with pytest.raises(ValueError, match="NaN"):
        write_vois(voxels, table, VoiSet(np.full((2, 4, 4, 4), np.nan, np.float32), vois.table))
    with pytest.raises(ValueError, match=r"lacks \['kind'\]"):
        write_vois(voxels, table, VoiSet(vois.voxels, vois.table.drop(columns="kind")))


@pytest.mark.parametrize(("name", "value"), [("size", 4), ("spacing_mm", 0), ("margin_mm", 0), ("inside_share", 1.5)])
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValidationError, match=rf"^1 validation error for VoiCut\n{name}\n.*input_value={value}"):
        VoiCut(**{name: value})
