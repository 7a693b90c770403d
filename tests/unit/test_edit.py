"""Editing a user's own scans: what is asked for, what is refused and why, and what stands in the files afterwards."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from scangan.config import VoiCut
from scangan.ct.grids import sphere
from scangan.ct.lungs import LungMask
from scangan.errors import DataError
from scangan.ingest.dicom import RawScan, read_series
from scangan.ingest.volume_files import read_volume_file
from scangan.rejected import Unusable
from scangan.synthesis.edit import (
    DONE_TYPES,
    EditSettings,
    ScanFiles,
    check_edits,
    edit_own_scans,
    edit_scan,
    find_scans,
    match_scans,
    patient_axes,
    read_edits,
    read_scan,
    scan_lungs,
)
from tests.unit.dicom_files import write_series
from tests.unit.test_lungs import LUNG, LUNGS_MM, TISSUE, chest

SETTINGS = EditSettings(VoiCut(size=20, spacing_mm=2.0, margin_mm=4.0), seed=100)
HEADER = "series,x_mm,y_mm,z_mm,diameter_mm,action\n"
ROTATIONS = [np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def inject(vois, radii_mm, seeds):
    """Solid spheres of the radii asked for, as sharp as scans are."""
    balls = [sphere(len(voi), 2.0, radius).astype(float) for voi, radius in zip(vois, radii_mm, strict=True)]
    weight = gaussian_filter(balls, (0, 0.7, 0.7, 0.7))
    return vois + weight * (50 - vois)


def erase(vois, radii_mm, seeds):
    return np.full_like(vois, LUNG)


RAMP = np.array([3.0, 7.0, 20.0])  # HU a mm along x, y, z


def ramp(vois, radii_mm, seeds):
    z, y, x = (np.indices(vois.shape[1:]) - (vois.shape[1] - 1) / 2) * 2.0
    return vois + RAMP[0] * x + RAMP[1] * y + RAMP[2] * z


def rows_of(*edits, line=2):
    columns = ["line", "series", "x_mm", "y_mm", "z_mm", "diameter_mm", "action"]
    return pd.DataFrame([(line + number, "s", *edit) for number, edit in enumerate(edits)], columns=columns)


def affine_of(rotation, spacing, origin=(-80.0, -70.0, 30.0)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * spacing, origin
    return affine


def place(affine, voxel):
    """Slice, row, column -> x, y, z in mm."""
    return tuple((affine @ [*voxel[::-1], 1])[:3].tolist())


def distances(scan, centre_mm):
    """mm of every voxel from a place."""
    index = np.indices(scan.voxels.shape)[::-1].reshape(3, -1)
    points = scan.affine[:3, :3] @ index + scan.affine[:3, 3:]
    return np.linalg.norm(points - np.array(centre_mm)[:, None], axis=0).reshape(scan.voxels.shape)


def noise(shape=(24, 40, 36)):
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)


# The CSV file


def test_a_file_of_edits(tmp_path):
    path = tmp_path / "edits.csv"
    path.write_text(
        "\ufeffaction, z_mm,y_mm,x_mm,diameter_mm,series,who\n"
        "erase,3,2,-1.5,10, 1.2.3 ,me\n\ninject,6,5,4e1,8,scan.nii.gz,you\n",
        encoding="utf-8",
    )
    rows, rejected = read_edits(path)
    assert rows.to_dict("split")["data"] == [
        [2, "1.2.3", -1.5, 2.0, 3.0, 10.0, "erase"],
        [4, "scan.nii.gz", 40.0, 5.0, 6.0, 8.0, "inject"],
    ]
    assert rejected.empty


@pytest.mark.parametrize(
    ("row", "reason", "found"),
    [
        (",1,2,3,4,erase", "no series", "an empty field"),
        ("s,1,2,3,4,remove", "unknown action", "remove"),
        ("s,1,2,3,4,", "unknown action", "an empty field"),
        ("s,1,two,3,4,erase", "not a number", "y_mm two"),
        ("s,1,2,3,,erase", "not a number", "diameter_mm empty"),
        ("s,nan,2,3,4,erase", "not a number", "x_mm nan"),
        ("s,1,2,inf,4,erase", "not a number", "z_mm inf"),
        ("s,1,2,3,0,erase", "no diameter", "0 mm"),
        ("s,1,2,3,-4,erase", "no diameter", "-4 mm"),
        ("s,1,2,3,4", "wrong number of fields", "5"),
        ("s,1,5,2,3,4,erase", "wrong number of fields", "7"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named_and_the_others_stay(tmp_path, row, reason, found):
    path = tmp_path / "edits.csv"
    path.write_text(f"{HEADER}a,1,2,3,4,erase\n{row}\nb,1,2,3,4,inject\n")
    rows, rejected = read_edits(path)
    assert rows.series.tolist() == ["a", "b"]
    [only] = rejected.to_dict("records")
    assert (only["line"], only["reason"], only["found"]) == (3, reason, found)
    assert only["remedy"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header: found an empty file, without series"),
        (b"series;x_mm;y_mm\n", "header: found series;x_mm;y_mm, without series"),
        (HEADER.replace(",action", "").encode(), "without action, allowed: series, x_mm, y_mm, z_mm, diameter_mm, ac"),
        (HEADER.encode() + b"\xff\xfe,1,2,3,4,erase", "allowed: a CSV file in UTF-8"),
        (HEADER.encode() + b'"s,1,2,3,4,erase', "allowed: a CSV file in UTF-8"),
        (None, "found No such file or directory"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, said):
    path = tmp_path / "edits.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_edits(path)
    assert str(path) in str(caught.value)


# Scans and their names


def test_scans_go_by_uid_folder_and_file_name(tmp_path):
    write_series(tmp_path / "anna" / "CT", noise((3, 8, 8)), series_uid="1.2.3")
    write_series(tmp_path / "bert" / "CT", noise((3, 8, 8)), series_uid="1.2.4")
    image = sitk.GetImageFromArray(noise((3, 8, 8)))
    sitk.WriteImage(image, tmp_path / "bert" / "scan.mhd")  # with its voxels in scan.raw
    scans = find_scans(tmp_path)
    assert [scan.name for scan in scans] == ["1.2.3", "1.2.4", "bert/scan.mhd"]
    names = ["1.2.3", "bert/CT", "anna/CT", "CT", "scan.mhd", "bert/scan.mhd", "scan.raw", "1.2"]
    rows = rows_of(*[(0, 0, 0, 5, "erase")] * len(names)).assign(series=names)
    matched, rejected = match_scans(rows, scans)
    assert [(scan.name, mine.line.tolist()) for scan, mine in matched] == [
        ("1.2.3", [2, 4]),
        ("1.2.4", [3]),
        ("bert/scan.mhd", [6, 7]),
    ]
    assert rejected[["line", "series", "reason"]].to_numpy().tolist() == [
        [5, "CT", "ambiguous series"],
        [8, "scan.raw", "unknown series"],
        [9, "1.2", "unknown series"],
    ]


def test_tilted_slices_are_refused(tmp_path):
    files = write_series(tmp_path, noise((4, 8, 8)), step=(0.0, 2.5 * np.tan(np.deg2rad(10)), 2.5))
    with pytest.raises(Unusable, match=r"tilted slices: found 10.0 degrees"):
        read_scan(ScanFiles("1.2.3", frozenset(), tuple(files)))


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_axes_of_a_scan_are_turned_to_the_patients(rotation):
    """Against the definition: every voxel keeps its value and its place, and all axes grow to the head, back, left."""
    tilt = affine_of(np.array([[1, 0.1, 0], [-0.1, 1, 0], [0, 0, 1]]), 1.0, (0, 0, 0))
    affine = tilt @ affine_of(rotation, (0.7, 0.8, 2.5))
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    view, turned = patient_axes(voxels, affine)
    assert np.abs(turned[:3, :3]).argmax(0).tolist() == [0, 1, 2]
    assert (np.diag(turned)[:3] > 0).all()
    for z, y, x in np.ndindex(view.shape):
        slice_row_column = np.unravel_index(view[z, y, x], voxels.shape)
        np.testing.assert_allclose(place(turned, (z, y, x)), place(affine, slice_row_column))
    view[0, 0, 0] = -1
    assert (voxels == -1).sum() == 1


def test_lungs_are_found_however_a_scan_is_stored():
    volume, truth = chest(5.0)
    coronal = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]])
    affine = affine_of(coronal, 5.0)
    voxels = np.empty(np.array(volume.hounsfield.shape)[[1, 0, 2]], np.int16)
    patient_axes(voxels, affine)[0][:] = volume.hounsfield
    found = scan_lungs(RawScan(voxels, affine, {}))
    assert found.failure == ""
    assert found.mask.shape == voxels.shape
    mask = patient_axes(found.mask, affine)[0]
    assert 2 * (mask & truth).sum() > 0.94 * (mask.sum() + truth.sum())


# What is refused


@pytest.fixture(scope="module")
def slab():
    """Lung between x = -20 and 20 mm in a scan of 144 x 160 x 144 mm around 0."""
    affine = affine_of(np.eye(3), (4, 4, 6), (-70.0, -78.0, -69.0))
    voxels = np.full((24, 40, 36), TISSUE, np.int16)
    x = affine[0, 3] + 4 * np.arange(36)
    voxels[:, :, np.abs(x) <= 20] = LUNG
    return RawScan(voxels, affine, {}), LungMask(voxels == LUNG, "", 1000.0)


def test_what_an_eraser_was_not_trained_on_it_does_not_erase(slab):
    scan, lungs = slab
    rows = rows_of((0, 0, 0, 24, "erase"), (0, 0, 0, 24.5, "erase"), (0, 0, 0, 30, "inject"))
    accepted, rejected = check_edits(rows, scan, lungs, replace(SETTINGS, erased_up_to_mm=24.0))
    assert accepted.line.tolist() == [2, 4]
    assert rejected.reason.tolist() == ["diameter beyond the eraser's training"]
    assert rejected.found.tolist() == ["24.5 mm"]


@pytest.mark.parametrize(
    ("edit", "reason", "found"),
    [
        ((0, 0, 200, 10, "inject"), "place outside the scan", "(0, 0, 200) mm"),
        ((-72.1, 0, 0, 10, "erase"), "place outside the scan", "(-72.1, 0, 0) mm"),
        ((0, 0, 0, 32.5, "inject"), "diameter beyond the VOI", "32.5 mm"),
        ((0, 0, 0, 1.5, "inject"), "diameter below a voxel of the VOI", "1.5 mm"),
        ((23, 0, 0, 10, "inject"), "place outside the lungs", "no lung there"),
        ((26, 0, 0, 10, "erase"), "place outside the lungs", "no lung there"),
        ((0, -78, -70, 10, "inject"), "VOI beyond the scan", "70% of it"),
    ],
)
def test_a_row_that_cannot_be_done_is_named_and_the_others_stay(slab, edit, reason, found):
    fine = (0, 10, -10, 10, "inject"), (0, 0, 10, 32, "erase")
    accepted, rejected = check_edits(rows_of(fine[0], edit, fine[1]), *slab, SETTINGS)
    assert accepted.line.tolist() == [2, 4]
    assert accepted.seed.tolist() == [102, 104]
    [only] = rejected.to_dict("records")
    assert (only["line"], only["series"], only["reason"], only["found"]) == (3, "s", reason, found)


def test_a_nodule_at_the_wall_is_erased_where_a_mask_leaves_it_out(slab):
    accepted, _ = check_edits(rows_of((23, 0, 0, 14, "erase"), (23, 0, 0, 14, "inject")), *slab, SETTINGS)
    assert accepted.action.tolist() == ["erase"]


def test_a_voi_without_lung(slab):
    scan, lungs = slab
    speck = np.zeros_like(lungs.mask)
    speck[11:13, 19:21, 17:19] = True
    _, rejected = check_edits(rows_of((0, 0, 0, 10, "inject")), scan, replace(lungs, mask=speck), SETTINGS)
    assert rejected.reason.tolist() == ["VOI without lung"]


def test_a_scan_whose_lung_mask_failed(slab):
    scan, lungs = slab
    rows = rows_of((0, 0, 0, 10, "inject"), (0, 0, 0, 10, "erase"))
    accepted, rejected = check_edits(rows, scan, replace(lungs, failure="one lung"), SETTINGS)
    assert accepted.empty
    assert rejected[["reason", "found"]].to_numpy().tolist() == [["lung mask failed", "one lung"]] * 2


# What is done


def accepted(scan, *edits):
    everywhere = LungMask(np.ones(scan.voxels.shape, bool), "", 1000.0)
    rows, rejected = check_edits(rows_of(*edits), scan, everywhere, SETTINGS)
    assert rejected.empty
    return rows


@pytest.mark.parametrize("rotation", ROTATIONS[::5])
@pytest.mark.parametrize("degrees", [0, 10])
def test_a_voi_lies_where_it_was_asked_and_nothing_else_changes(rotation, degrees):
    """The fill adds a ramp that differs along x, y and z, so no flip, swap or shift goes unseen."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    oblique = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    scan = RawScan(noise() // 4, affine_of(oblique @ rotation, (2.0, 1.5, 3.0)), {})
    scan.voxels[0, 0, :2] = -1024, 1000
    centre = place(scan.affine, (11.3, 21.8, 17.1))
    rows = accepted(scan, (*centre, 14, "inject"))
    np.testing.assert_allclose(rows[["z_voxel", "y_voxel", "x_voxel"]], [[11.3, 21.8, 17.1]])
    kept = scan.voxels.copy()
    edited, done = edit_scan(scan, rows, ramp, erase, SETTINGS)
    np.testing.assert_array_equal(scan.voxels, kept)
    away = distances(scan, centre)
    np.testing.assert_array_equal(edited.voxels[away >= 7 + 4], kept[away >= 7 + 4])
    slice_row_column = np.argwhere(away <= 7)
    points = slice_row_column[:, ::-1] @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    expected = kept[away <= 7] + (points - centre) @ oblique @ RAMP
    np.testing.assert_allclose(edited.voxels[away <= 7], expected, atol=1.5)  # less than 0.1 mm
    assert done.changed_voxels.tolist() == [(edited.voxels != kept).sum()]
    assert done.dtypes.astype(str).to_dict() == DONE_TYPES


@pytest.mark.parametrize("rotation", ROTATIONS[::5])
@pytest.mark.parametrize("degrees", [0, 10])
def test_a_fill_that_changes_nothing_changes_not_one_voxel(rotation, degrees):
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    oblique = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    shear = np.array([[1, 0, 0], [0, 1, np.sin(np.deg2rad(1.9))], [0, 0, 1]])
    scan = RawScan(noise(), affine_of(oblique @ shear @ rotation, (2.0, 1.5, 3.0)), {})
    places = np.random.default_rng(0).uniform(8, [16, 36, 28], (8, 3))
    rows = accepted(scan, *((*place(scan.affine, each), 14, "erase") for each in places))
    edited, done = edit_scan(scan, rows, inject, lambda vois, *_: vois, SETTINGS)
    np.testing.assert_array_equal(edited.voxels, scan.voxels)
    assert (done.changed_voxels == 0).all()


def test_edits_are_done_in_their_order():
    scan = RawScan(np.full_like(noise(), LUNG), affine_of(np.eye(3), (2.0, 2.0, 2.0)), {})
    scan.voxels[0, 0, :2] = -1024, 400
    centre = place(scan.affine, (12, 20, 18))
    there = distances(scan, centre) < 4
    for last, value in (("inject", 50), ("erase", LUNG)):
        first = {"inject": "erase", "erase": "inject"}[last]
        rows = accepted(scan, (*centre, 14, first), (*centre, 14, last))
        edited, _ = edit_scan(scan, rows, inject, erase, SETTINGS)
        assert edited.voxels[there].mean() == pytest.approx(value, abs=40)


def test_an_edit_sees_what_the_one_before_left_and_its_own_seed():
    scan = RawScan(noise(), affine_of(np.eye(3), (2.0, 2.0, 2.0)), {})
    centre = place(scan.affine, (12.5, 20.5, 17.5))
    seen = []

    def watch(vois, radii_mm, seeds):
        seen.append((vois.dtype, vois.shape, vois[0, 10, 10, 10], radii_mm, seeds))
        return inject(vois, radii_mm, seeds)

    edit_scan(scan, accepted(scan, (*centre, 14, "erase"), (*centre, 10, "inject")), watch, erase, SETTINGS)
    assert seen == [(np.float32, (1, 20, 20, 20), LUNG, [5.0], [103])]


# Whole folders


def write_chest(root):
    """A chest as a series that was stored feet first, and as a NIfTI file; returns a place in its right lung."""
    volume, _ = chest(4.0, noise=10)
    hounsfield = volume.hounsfield[::2]
    first, *rest = origin = (-210.0, -170.0, -150.0)
    feet_first = {"orientation": (-1, 0, 0, 0, 1, 0), "origin": (first + 4.0 * (hounsfield.shape[2] - 1), *rest)}
    options = {"pixel_spacing": (4.0, 4.0), "step": (0, 0, 8.0), "series_uid": "1.2.3"} | feet_first
    write_series(root / "CT", hounsfield[:, :, ::-1], **options)
    image = sitk.GetImageFromArray(hounsfield)
    image.SetSpacing((4.0, 4.0, 8.0))
    image.SetOrigin(origin)
    sitk.WriteImage(image, root / "scan.mha")
    return tuple(np.add(LUNGS_MM["right"], (10, -30, -40)).tolist())


def test_a_folder_of_scans(tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    x, y, z = write_chest(root)
    write_series(root / "few", noise((2, 8, 8)), series_uid="1.2.9")
    write_series(root / "knee", noise((12, 20, 20)), series_uid="1.2.8")
    edits = tmp_path / "edits.csv"
    lines = [
        f"CT,{x},{y},{z},16,inject",
        f"scan.mha,{x},{y},{z},16,inject",
        f"1.2.3,{x + 300},{y},{z},16,inject",
        f"nobody,{x},{y},{z},16,inject",
        f"1.2.3,{x},{y + 30},{z},16,erase",
        f"few,{x},{y},{z},16,erase",
        "knee,-95,-115,60,16,erase",
        f"CT,{x},{y},{z},16,paint",
    ]
    edits.write_text(HEADER + "\n".join(lines))
    done, rejected = edit_own_scans(root, edits, out, inject, erase, SETTINGS)
    assert rejected[["line", "series", "reason"]].to_numpy().tolist() == [
        [4, "1.2.3", "place outside the scan"],
        [5, "nobody", "unknown series"],
        [7, "few", "too few slices"],
        [8, "knee", "lung mask failed"],
        [9, "CT", "unknown action"],
    ]
    assert done[["line", "action", "seed"]].to_numpy().tolist() == [
        [2, "inject", 102],
        [3, "inject", 103],
        [6, "erase", 106],
    ]
    pd.testing.assert_frame_equal(pd.read_csv(out / "edits_done.csv").astype(DONE_TYPES), done)
    assert pd.read_csv(out / "edits_rejected.csv").line.tolist() == rejected.line.tolist()
    assert sorted(path.name for path in out.iterdir()) == [
        "1.2.3",
        "edits_done.csv",
        "edits_rejected.csv",
        "scan.mha.nii.gz",
    ]

    before, after = read_series(list((root / "CT").iterdir())), read_series(list((out / "1.2.3").iterdir()))
    np.testing.assert_array_equal(before.affine, after.affine)
    injected, erased = distances(before, (x, y, z)), distances(before, (x, y + 30, z))
    far = (injected >= 12) & (erased >= 12)
    np.testing.assert_array_equal(after.voxels[far], before.voxels[far])
    assert after.voxels[injected < 4].mean() > -100
    assert before.voxels[injected < 4].mean() < -700
    voxel = tuple(np.rint(done.loc[0, ["z_voxel", "y_voxel", "x_voxel"]].astype(float)).astype(int))
    assert injected[voxel] < 6  # within a voxel of 4 x 4 x 8 mm
    header = pydicom.dcmread(next((out / "1.2.3").iterdir()))
    assert header.DerivationDescription == (
        "1 nodules injected, 1 erased by 3D conditional GANs of Scangan, seed 100; places: edits_done.csv"
    )
    assert header.SyntheticData == "YES"

    voxels, affine = read_volume_file(out / "scan.mha.nii.gz")
    volume = RawScan(voxels, affine, {})
    assert voxels[distances(volume, (x, y, z)) < 4].mean() > -100
    assert voxels[distances(volume, (x, y + 30, z)) < 8].mean() < -700


def test_a_rerun_gives_the_same_files(tmp_path):
    root, edits = tmp_path / "data", tmp_path / "edits.csv"
    x, y, z = write_chest(root)
    edits.write_text(f"{HEADER}CT,{x},{y},{z},16,inject\nscan.mha,{x},{y},{z},16,inject\n")

    def run(name):
        edit_own_scans(root, edits, tmp_path / name, inject, erase, SETTINGS)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {path.relative_to(tmp_path / name): path.read_bytes() for path in files}

    assert run("one") == run("two")


def test_where_the_results_may_not_lie(tmp_path):
    root, edits = tmp_path / "data", tmp_path / "edits.csv"
    write_series(root / "CT", noise((3, 8, 8)))
    edits.write_text(HEADER)
    with pytest.raises(DataError, match="out: found a folder within the data folder"):
        edit_own_scans(root, edits, root / "out", inject, erase, SETTINGS)
    with pytest.raises(DataError, match="folder: found files, allowed: a new or an empty folder"):
        edit_own_scans(root, edits, tmp_path, inject, erase, SETTINGS)
    done, rejected = edit_own_scans(root, edits, tmp_path / "out", inject, erase, SETTINGS)
    assert done.empty
    assert rejected.empty


def test_a_uid_is_no_path(tmp_path):
    root, edits = tmp_path / "data", tmp_path / "edits.csv"
    x, y, z = write_chest(root)
    for file in (root / "CT").iterdir():
        file.write_bytes(file.read_bytes().replace(b"1.2.3\0", b"../../"))
    edits.write_text(f"{HEADER}CT,{x},{y},{z},16,inject\n")
    done, rejected = edit_own_scans(root, edits, tmp_path / "out", inject, erase, SETTINGS)
    assert done.empty
    assert rejected.reason.tolist() == ["invalid SeriesInstanceUID"]
