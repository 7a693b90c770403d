"""The BRATS reader: naming, orientation and shapes of the real releases, the choice of slices, and what is refused."""

import gzip
import logging
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from scangan.config import Brats
from scangan.data.store import ImageWriter, read_image_set
from scangan.errors import DataError
from scangan.ingest.brats import (
    AMBIGUOUS,
    BOUNDARY,
    LARGE,
    OUTSIDE,
    SKIPPED,
    SMALL,
    TAKEN,
    find_visits,
    judge_slices,
)
from scangan.ingest.data_files import list_files
from scangan.ingest.readers import READERS
from scangan.rejected import REJECTED_TYPES
from tests.unit.cohorts import read_cohort


def settings_of(**values) -> Brats:
    return Brats(reader="brats", root="brain_mr", **values)


# As in the headers of BRATS: nibabel's frame is RAS, so the arrays' axes go to the left, to the back and upwards.
BRATS_AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
SHAPE = (20, 24, 40)  # columns, rows, slices
SMALL_SETTINGS = settings_of(
    slices=(5, 35), brain_mm2=(50, 400), tumour_mm2=(0, 10), boundary_slices=2, padded_size=28, image_size=28
)


def head(shape=SHAPE, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """A block of brain, brighter to the left, to the back and upwards, and a block of tumour; [column, row, slice]."""
    columns, rows, slices = shape
    left, back, up = np.meshgrid(*(np.linspace(0, 1, length) for length in shape), indexing="ij")
    t1c = np.zeros(shape, np.int16)
    inside = np.s_[columns // 5 : -columns // 5, rows // 6 : -rows // 6]
    t1c[inside] = (300 + seed + 100 * left + 200 * back + 50 * up)[inside]
    labels = np.zeros(shape, np.uint8)
    tumour = np.s_[columns // 4 : columns // 2, rows // 4 : rows // 2]
    labels[*tumour, slices // 2 : -slices // 5] = 2
    labels[*tumour, slices // 2 + 2 : -slices // 4] = 4
    return t1c, labels


def save(path, values, affine=BRATS_AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def write_patient(folder, t1c=None, labels=None, affine=BRATS_AFFINE, seed=0) -> None:
    plain, plain_labels = head(seed=seed)
    save(folder / f"{folder.name}_t1ce.nii.gz", plain if t1c is None else t1c, affine)
    save(folder / f"{folder.name}_seg.nii.gz", plain_labels if labels is None else labels, affine)


def write_mha(path, values) -> None:
    """[column, row, slice], axes as in BRATS 2016."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values.T), path, useCompression=True)


# Real naming, orientation and shape


def test_brats_as_released(tmp_path):
    """240 x 240 x 155 at 1 mm: the paper's slices, padded to 256."""
    t1c, labels = head((240, 240, 155))
    name = "BraTS19_CBICA_AAB_1"
    write_patient(tmp_path / "HGG" / name, t1c, labels)
    for other in ("t1", "t2", "flair"):
        save(tmp_path / "HGG" / name / f"{name}_{other}.nii.gz", np.zeros((2, 2, 2), np.int16))
    image_set, ingested = read_cohort(tmp_path, settings_of(), "real")
    rejected, dropped = ingested.rejected, ingested.dropped
    assert rejected.empty
    # The tumour fills slices 77 to 123, 60 x 60 pixels; three slices on both sides of each end are dropped.
    chosen = [*range(30, 74), *range(80, 121), *range(127, 131)]
    rows = image_set.manifest
    assert rows.image_id.tolist() == [f"{name}-z{z:03d}" for z in chosen]
    assert rows.label.tolist() == ["tumour" if 77 <= z < 124 else "non_tumour" for z in chosen]
    assert set(rows.patient_id) == {name}
    assert set(rows.source) == {f"HGG/{name}"}
    assert set(rows.data) == {"real"}
    assert set(rows.spacing_mm) == {1.0}
    assert dict(dropped.values) == {OUTSIDE: 54, SKIPPED: 0, SMALL: 0, LARGE: 0, AMBIGUOUS: 0, BOUNDARY: 12}
    assert dropped.slices.sum() + len(image_set) == 155

    assert image_set.images.dtype == np.float32
    assert image_set.images.shape == (89, 1, 256, 256)
    # In BRATS's own arrays rows go to the back and columns to the left: no turn, 8 zeros around.
    white = np.percentile(t1c[t1c > 0], 99.5)
    expected = np.clip(t1c[..., chosen].transpose(2, 1, 0) / white, 0, 1)
    np.testing.assert_allclose(image_set.images[:, 0, 8:-8, 8:-8], expected, atol=1e-6)
    border = image_set.images.copy()
    border[..., 8:-8, 8:-8] = 0
    assert not border.any()


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SPL"])
def test_any_orientation_gives_the_same_images(tmp_path, axes):
    write_patient(tmp_path / "plain" / "P1")
    for name, values in zip(("t1ce", "seg"), head(), strict=True):
        image = nibabel.Nifti1Image(values, BRATS_AFFINE)
        codes = nibabel.orientations.axcodes2ornt(axes)
        turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(BRATS_AFFINE), codes))
        assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
        save(tmp_path / "turned" / "P1" / f"P1_{name}.nii.gz", np.asarray(turned.dataobj), turned.affine)
    plain, _ = read_cohort(tmp_path / "plain", SMALL_SETTINGS, "real")
    turned, _ = read_cohort(tmp_path / "turned", SMALL_SETTINGS, "real")
    np.testing.assert_array_equal(turned.images, plain.images)
    # Brighter to the back, below, and to the patient's left, on the right.
    inside = plain.images[0, 0, 8:20, 8:20]
    assert (np.diff(inside, axis=0) > 0).all()
    assert (np.diff(inside, axis=1) > 0).all()


LAYOUTS = {
    "2016": (
        "HGG/{}/VSD.Brain.XX.O.MR_T1c.54514/VSD.Brain.XX.O.MR_T1c.54514.mha",
        "HGG/{}/VSD.Brain_3more.XX.O.OT.54517/VSD.Brain_3more.XX.O.OT.54517.mha",
        "HGG/{}/VSD.Brain.XX.O.MR_T1.54513/VSD.Brain.XX.O.MR_T1.54513.mha",
    ),
    "2020": (
        "{}/{}_t1ce.nii",
        "{}/W39_1998.09.19_Segm.nii",
        "{}/{}_t1.nii",
    ),  # the misnamed segmentation of patient 355
    "2021 unpacked": ("{}/{}_t1ce.nii/brain_t1ce.nii", "{}/{}_seg.nii/final_seg.nii", "{}/{}_t1.nii/brain_t1.nii"),
    "2023": ("{}/{}-t1c.nii.gz", "{}/{}-seg.nii.gz", "{}/{}-t1n.nii.gz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    name = {"2016": "brats_tcia_pat117_0002", "2023": "BraTS-GLI-00008-101"}.get(layout, "BraTS20_Training_355")
    t1c, labels = head()
    for path, values in zip(LAYOUTS[layout], (t1c, labels, t1c * 0), strict=True):
        path = tmp_path / path.replace("{}", name)
        if path.suffix == ".mha":
            write_mha(path, values)
        else:
            save(path, values)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x_t1ce.nii").write_bytes(b"hidden")
    image_set, ingested = read_cohort(tmp_path, SMALL_SETTINGS, "real")
    rejected = ingested.rejected
    assert rejected.empty
    assert set(image_set.manifest.label) == {"tumour", "non_tumour"}
    assert image_set.images.max() > 0.9  # not the empty T1
    # Visits of one patient must not come into different parts of a split.
    patient = {"2016": "brats_tcia_pat117", "2023": "BraTS-GLI-00008"}.get(layout, name)
    assert set(image_set.manifest.patient_id) == {patient}
    assert image_set.manifest.image_id.str.startswith(f"{name}-z").all()


def test_patients_in_order_wherever_they_lie(tmp_path):
    for place in ("b/P2", "a/deep/P3", "P1"):
        write_patient(tmp_path / place)
    assert [folder.name for folder in find_visits(list_files(tmp_path).files, tmp_path)] == ["P1", "P3", "P2"]
    image_set, _ = read_cohort(tmp_path, SMALL_SETTINGS, "phantom")
    assert image_set.manifest.patient_id.unique().tolist() == ["P1", "P3", "P2"]
    assert set(image_set.manifest.data) == {"phantom"}
    assert image_set.manifest.image_id.is_unique
    for _, rows in image_set.manifest.groupby("patient_id"):
        assert rows.image_id.is_monotonic_increasing


# The choice of slices


def test_every_reason_by_hand():
    settings = settings_of(slices=(2, 19), every=1, brain_mm2=(100, 900), tumour_mm2=(5, 50), boundary_slices=2)
    tumour = np.array([0, 0, 0, 0, 0, 5, 0, 0, 6, 49, 60, 50, 50, 50, 90, 0, 0, 0, 0, 0, 0])
    brain = np.full(21, 500)
    brain[3], brain[12] = 99, 901
    expected = [OUTSIDE, OUTSIDE, TAKEN, SMALL, TAKEN, TAKEN, BOUNDARY, BOUNDARY, AMBIGUOUS, AMBIGUOUS, TAKEN, TAKEN]
    expected += [LARGE, BOUNDARY, BOUNDARY, BOUNDARY, BOUNDARY, TAKEN, TAKEN, TAKEN, OUTSIDE]
    assert judge_slices(tumour, brain, settings).tolist() == expected


def test_every_other_slice():
    none = judge_slices(np.zeros(10), np.full(10, 500), settings_of(slices=(1, 7), every=3, brain_mm2=(100, 900)))
    assert np.flatnonzero(none == TAKEN).tolist() == [1, 4, 7]
    assert np.flatnonzero(none == SKIPPED).tolist() == [2, 3, 5, 6]


def test_boundary_beyond_the_range_counts():
    tumour = np.array([80, 80, 0, 0, 0, 0])
    fates = judge_slices(tumour, np.full(6, 500), settings_of(slices=(2, 5), brain_mm2=(1, 900), boundary_slices=2))
    assert fates.tolist() == [OUTSIDE, OUTSIDE, BOUNDARY, BOUNDARY, TAKEN, TAKEN]


def test_areas_are_in_square_millimetres(tmp_path):
    """The same voxels twice as wide have four times the area."""
    wide = BRATS_AFFINE @ np.diag([2, 2, 1, 1])
    for name, affine in (("fine", BRATS_AFFINE), ("wide", wide)):
        write_patient(tmp_path / name / "P1", affine=affine)
    enough = {"slices": (5, 35), "boundary_slices": 0, "padded_size": 24, "image_size": 12}
    _, ingested = read_cohort(tmp_path / "fine", settings_of(brain_mm2=(0, 192), tumour_mm2=(0, 30), **enough), "real")
    fine = ingested.dropped
    image_set, ingested = read_cohort(
        tmp_path / "wide", settings_of(brain_mm2=(0, 768), tumour_mm2=(0, 120), **enough), "real"
    )
    dropped = ingested.dropped
    assert dict(fine.values)[LARGE] == dict(dropped.values)[LARGE] == 0
    assert dict(fine.values)[AMBIGUOUS] == dict(dropped.values)[AMBIGUOUS] == 0
    # 24 padded pixels of 2 mm became 12.
    assert set(image_set.manifest.spacing_mm) == {4.0}
    with pytest.raises(DataError, match=f"{tmp_path}/wide: slices: found none of class 'tumour'"):
        read_cohort(tmp_path / "wide", settings_of(brain_mm2=(0, 768), tumour_mm2=(0, 121), **enough), "real")


# The images


def test_intensity_goes_by_the_volume_alone(tmp_path):
    t1c, labels = head()
    t1c[8, 8, 20] = 30000  # one bright voxel
    write_patient(tmp_path / "P1", t1c, labels)
    write_patient(tmp_path / "P2", t1c.astype(np.float32) / 1000, labels)  # a scanner with another scale
    write_patient(tmp_path / "P3", np.where(t1c > 0, t1c, 0).astype(np.float64), labels.astype(np.float32))
    image_set, ingested = read_cohort(tmp_path, SMALL_SETTINGS, "real")
    rejected = ingested.rejected
    assert rejected.empty
    first, second, third = np.split(image_set.images, 3)
    np.testing.assert_allclose(second, first, atol=1e-6)
    np.testing.assert_array_equal(third, first)
    white = np.percentile(t1c[t1c > 0], 99.5)
    assert first.max() == 1
    assert np.median(first[first > 0]) == pytest.approx(np.median(t1c[t1c > 0]) / white, abs=0.03)


def test_channels_and_scaling(tmp_path):
    write_patient(tmp_path / "P1")
    settings = SMALL_SETTINGS.model_copy(update={"image_size": 14, "channels": 3})
    small, _ = read_cohort(tmp_path, settings, "real")
    large, _ = read_cohort(tmp_path, SMALL_SETTINGS, "real")
    assert small.images.shape == (len(large), 3, 14, 14)
    np.testing.assert_array_equal(small.images[:, 0], small.images[:, 2])
    means = large.images.reshape(-1, 14, 2, 14, 2).mean((2, 4))
    assert np.abs(small.images[:, 0] - means)[:, 4:10, 5:9].max() < 0.01
    assert set(small.manifest.spacing_mm) == {2.0}


def test_slices_go_to_disk_as_they_come(tmp_path):
    for number in range(3):
        write_patient(tmp_path / "root" / f"P{number}", seed=number)
    files = tmp_path / "cohort.zarr.zip", tmp_path / "cohort.parquet"
    with ImageWriter(*files, shape=(1, 28, 28)) as writer:
        ingested = READERS["brats"].read(tmp_path / "root", SMALL_SETTINGS, "real", writer.append)
    whole, of_whole = read_cohort(tmp_path / "root", SMALL_SETTINGS, "real")
    assert ingested.rejected.equals(of_whole.rejected)
    assert ingested.dropped.equals(of_whole.dropped)
    written = read_image_set(*files)
    np.testing.assert_allclose(written.images, whole.images, atol=1 / 65535)
    assert written.manifest.image_id.tolist() == whole.manifest.image_id.tolist()


# What is refused


def spoil(change):
    """A patient whose volumes `change(t1c, labels)` has changed."""

    def write(folder):
        write_patient(folder, *change(*head()))

    return write


def without(kind):
    def write(folder):
        write_patient(folder)
        (folder / f"{folder.name}_{kind}.nii.gz").unlink()
        save(folder / f"{folder.name}_flair.nii.gz", head()[0])

    return write


def damage(kind, content):
    def write(folder):
        write_patient(folder)
        path = folder / f"{folder.name}_{kind}.nii.gz"
        path.write_bytes(content if content is not None else gzip.compress(gzip.decompress(path.read_bytes())[:-900]))

    return write


def twice(folder):
    write_patient(folder)
    for name in ("new", "old"):
        save(folder / f"{name}_t1ce.nii.gz", head()[0])
    (folder / f"{folder.name}_t1ce.nii.gz").unlink()


def not_a_number(folder):
    write_patient(folder)
    (folder / f"{folder.name}_t1ce.nii.gz").unlink()
    t1c = head()[0].astype(np.float32)
    t1c[9, 9, 9] = np.nan
    save(folder / f"{folder.name}_t1ce.nii.gz", t1c)


def elsewhere(affine):
    def write(folder):
        write_patient(folder)
        save(folder / f"{folder.name}_seg.nii.gz", head()[1], affine)

    return write


REFUSED = {
    "no segmentation": (without("seg"), "no file is the segmentation: found BAD_flair.*allowed: one .*_seg.nii.gz"),
    "no t1ce": (without("t1ce"), "no file is the T1 after contrast: found BAD_flair.nii.gz, BAD_seg.nii.gz; allowed"),
    "two t1ce": (twice, "several files are the T1 after contrast: found new_t1ce.nii.gz, old_t1ce.nii.gz"),
    "shape": (spoil(lambda t, s: (t, s[1:])), "shapes of seg.* differ: found 19 x 24 x 40 and 20 x 24 x 40"),
    "spacing": (elsewhere(BRATS_AFFINE @ np.diag([1, 1, 2, 1])), "spacings .* differ: found 1 x 1 x 2 and 1 x 1 x 1"),
    "tilt": (
        elsewhere(BRATS_AFFINE @ np.array([[1, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1]])),
        "directions of segmentation and T1 after contrast differ",
    ),
    "empty file": (damage("t1ce", b""), r"unreadable file: found .*\(BAD_t1ce.nii.gz\)$"),
    "no volume": (damage("seg", b"<html>404</html>"), r"unreadable file: found .*\(BAD_seg.nii.gz\)$"),
    "truncated": (
        damage("t1ce", None),
        r"unreadable file: found .* bytes where the header promises .* \(BAD_t1ce.nii.gz\)$",
    ),
    "four dimensions": (
        spoil(lambda t, s: (np.stack([t, t], -1), s)),
        r"not a volume: found 4 dimensions.* \(BAD_t1ce.nii.gz\)$",
    ),
    "few slices": (spoil(lambda t, s: (t[..., :35], s[..., :35])), "too few slices: found 35, allowed: 36 or more"),
    "large planes": (
        spoil(lambda t, s: tuple(np.pad(v, ((5, 5), (0, 0), (0, 0))) for v in (t, s))),
        "planes too large: found 30x24, allowed: 28 or less",
    ),
    "blank": (spoil(lambda t, s: (t * 0, s)), "the T1 after contrast is empty"),
    "not a number": (not_a_number, "values are not all numbers: found 1 voxels of NaN or infinity inside the body"),
    "normalised": (
        spoil(lambda t, s: (((t - 400.0) / 80 * (t > 0)).astype(np.float32), s)),
        "intensities were normalised before: found .*% of the brain below 0, allowed: 5%",
    ),
    "probabilities": (spoil(lambda t, s: (t, (s / 5).astype(np.float32))), "holds no labels of BRATS: found 0 to 0.8"),
    "labels of another set": (spoil(lambda t, s: (t, s * 5)), "holds no labels of BRATS: found 0 to 20, allowed"),
    "no tumour": (spoil(lambda t, s: (t, s * 0)), "the segmentation is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_patient_is_rejected_by_name_and_the_others_go_on(tmp_path, case):
    write_bad, reason = REFUSED[case]
    write_patient(tmp_path / "GOOD")
    write_bad(tmp_path / "BAD")
    settings = SMALL_SETTINGS.model_copy(update={"max_rejected": 0.5})
    image_set, ingested = read_cohort(tmp_path, settings, "real")
    rejected, dropped = ingested.rejected, ingested.dropped
    assert rejected.columns.tolist() == list(REJECTED_TYPES)
    [(source, why, found, remedy, counted)] = rejected.values.tolist()
    assert source == "BAD"
    assert counted
    assert re.search(reason, f"{why}: found {found}")
    assert "BAD" not in why
    assert remedy
    assert "\n" not in found
    assert str(tmp_path) not in found
    assert set(image_set.manifest.patient_id) == {"GOOD"}
    assert dropped.slices.sum() + len(image_set) == SHAPE[2]  # of the good one alone


def test_oblong_pixels(tmp_path):
    write_patient(tmp_path / "P1", affine=BRATS_AFFINE @ np.diag([1, 2, 1, 1]))
    with pytest.raises(DataError, match=r"found none that is usable \(1 pixels are not square; first P1: 1 x 2 mm\)"):
        read_cohort(tmp_path, SMALL_SETTINGS, "real")


def test_two_folders_of_one_name(tmp_path):
    for place in ("a/P1", "b/P1", "P2", "P3"):
        write_patient(tmp_path / place)
    image_set, ingested = read_cohort(tmp_path, SMALL_SETTINGS.model_copy(update={"max_rejected": 0.5}), "real")
    rejected = ingested.rejected
    assert rejected.source.tolist() == ["a/P1", "b/P1"]
    assert set(image_set.manifest.patient_id) == {"P2", "P3"}


def write_visit(folder, stem):
    """A patient's folder with files of another name than its own."""
    for kind, values in zip(("t1ce", "seg"), head(), strict=True):
        save(folder / f"{stem}_{kind}.nii.gz", values)


def test_visits_of_one_patient(tmp_path):
    for patient, visit in (("A", 1), ("A", 2), ("B", 1)):
        write_visit(tmp_path / "plain" / patient / f"ses-{visit}", "x")
        stem = f"sub-{patient}_ses-{visit}"
        write_visit(tmp_path / "bids" / f"sub-{patient}" / f"ses-{visit}" / "anat", stem)
    for name, prefix in (("plain", ""), ("bids", "sub-")):
        image_set, ingested = read_cohort(tmp_path / name, SMALL_SETTINGS, "real")
        assert ingested.rejected.empty
        rows = image_set.manifest
        assert rows.groupby("patient_id").source.nunique().to_dict() == {f"{prefix}A": 2, f"{prefix}B": 1}
        assert rows.image_id.is_unique
    assert rows.image_id[0].startswith("sub-A_ses-1_anat-z")


def test_patients_by_their_paths(tmp_path):
    for place in ("a/P1", "b/P1", "b/P2"):
        write_patient(tmp_path / place)
    read = {}
    for patient_from in ("folder", r"/(P\d)/", "b/P."):
        settings = SMALL_SETTINGS.model_copy(update={"patient_from": patient_from, "max_rejected": 0.5})
        image_set, ingested = read_cohort(tmp_path, settings, "real")
        rows = image_set.manifest
        assert rows.image_id.is_unique
        read[patient_from] = rows.groupby("patient_id").source.nunique().to_dict(), ingested.rejected.source.tolist()
    assert read == {
        "folder": ({"a": 1, "b": 2}, []),
        r"/(P\d)/": ({"P1": 2, "P2": 1}, []),
        "b/P.": ({"b/P1": 1, "b/P2": 1}, ["a/P1"]),
    }


@pytest.mark.parametrize("other", ["P1_seg_old.nii.gz", "other_seg.nii.gz", "P1_2_seg.nii.gz"])
def test_of_two_segmentations_the_one_named_like_the_patient_is_taken(tmp_path, caplog, other):
    write_patient(tmp_path / "P1")
    save(tmp_path / "P1" / other, head()[1] * 0)
    with caplog.at_level(logging.WARNING):
        image_set, ingested = read_cohort(tmp_path, SMALL_SETTINGS, "real")
    assert ingested.rejected.empty
    assert set(image_set.manifest.label) == {"tumour", "non_tumour"}
    assert f"P1: P1_seg.nii.gz is the segmentation, not {other}" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_outside_the_brain_is_0(tmp_path, value):
    write_patient(tmp_path / "plain" / "P1")
    t1c, labels = head()
    holed = t1c.astype(np.float32)
    holed[0, :5] = holed[3, 3, 3] = value
    write_patient(tmp_path / "holed" / "P1", holed, labels)
    plain, _ = read_cohort(tmp_path / "plain", SMALL_SETTINGS, "real")
    found, _ = read_cohort(tmp_path / "holed", SMALL_SETTINGS, "real")
    np.testing.assert_array_equal(found.images, plain.images)


def test_links_are_followed(tmp_path):
    write_patient(tmp_path / "elsewhere" / "P1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "P1").symlink_to(tmp_path / "elsewhere" / "P1")
    image_set, _ = read_cohort(tmp_path / "root", SMALL_SETTINGS, "real")
    assert set(image_set.manifest.patient_id) == {"P1"}


def test_too_many_rejected(tmp_path, caplog):
    write_patient(tmp_path / "GOOD")
    without("seg")(tmp_path / "BAD")
    message = r"found 1 of 2 patients rejected \(1 no file is the segmentation; first BAD: .*\), allowed: 0 \(0.1\)"
    with pytest.raises(DataError, match=rf"max_rejected: {message}"):
        read_cohort(tmp_path, SMALL_SETTINGS, "real")
    with caplog.at_level(logging.WARNING):
        read_cohort(tmp_path, SMALL_SETTINGS.model_copy(update={"max_rejected": 0.5}), "real")
    assert "rejected: BAD: no file is the segmentation: found BAD_flair.nii.gz" in caplog.text


def test_an_empty_root(tmp_path):
    with pytest.raises(
        DataError, match=f"^{tmp_path}: patients: found none that is usable, allowed: at least 1, a folder"
    ):
        read_cohort(tmp_path, SMALL_SETTINGS, "real")


def test_a_patient_all_of_whose_slices_are_dropped_is_no_error(tmp_path, caplog):
    write_patient(tmp_path / "P1")
    tiny = head()[0]
    tiny[6:] = 0
    write_patient(tmp_path / "P2", tiny)
    with caplog.at_level(logging.WARNING):
        image_set, ingested = read_cohort(tmp_path, SMALL_SETTINGS, "real")
        rejected, dropped = ingested.rejected, ingested.dropped
    assert rejected.empty
    assert set(image_set.manifest.patient_id) == {"P1"}
    assert dict(dropped.values)[SMALL] == 31
    assert "P2: no slice of this patient is taken" in caplog.text
