"""Ingestion of whole folders: what is found, what is rejected, what is written, and what must never be written."""

import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import zarr
from zarr.storage import ZipStore

from scangan.compat_pylidc import prepare_pylidc
from scangan.config import Scans
from scangan.ct.lungs import LungMask
from scangan.ct.volume import resample
from scangan.data.scan_store import (
    NODULE_TYPES,
    SCAN_TYPES,
    BatchFiles,
    gather_batches,
    read_scans,
)
from scangan.errors import DataError
from scangan.ingest import scans as module
from scangan.ingest.dicom import read_series
from scangan.ingest.scan_index import deal, index_scans
from scangan.ingest.scans import ingest_batch
from scangan.rejected import REJECTED_TYPES
from tests.unit.dicom_files import write_series
from tests.unit.test_lidc import PIXEL_MM, SLICE_MM, UPRIGHT, box, write_database

SHAPE = (12, 40, 44)


def settings(**changes) -> Scans:
    defaults = {
        "reader": "ct_slices",
        "root": "lidc",
        "annotations": "none",
        "batches": 2,
        "spacing_mm": 1.5,
        "slices_per_scan": 2,
        "image_size": 16,
        "max_rejected": 0.5,
    }
    return Scans(**defaults | changes)


def smooth_hounsfield(seed: int, shape=SHAPE) -> np.ndarray:
    z, y, x = (np.linspace(-1, 1, length) for length in shape)
    body = 1000 * np.exp(-(z[:, None, None] ** 2 + (1 + seed) * y[:, None] ** 2 + x**2) * 2) - 950
    return np.rint(body).astype(np.int16)


def write_scan(folder: Path, number: int, edit=lambda dataset, index: None, **options) -> list[Path]:
    """A series of patient `patient-<number>`, annotated as `UPRIGHT` is."""

    def edit_all(dataset, index):
        dataset.PatientID = f"patient-{number}"
        edit(dataset, index)

    options = {
        "pixel_spacing": (PIXEL_MM, PIXEL_MM),
        "origin": UPRIGHT[:3, 3],
        "step": (0, 0, SLICE_MM),
        "series_uid": f"1.2.840.99.{number}",
    } | options
    return write_series(folder, smooth_hounsfield(number), edit=edit_all, **options)


def batch_files(folder: Path, number: int) -> BatchFiles:
    names = ("volumes.zarr.zip", "scans.parquet", "nodules.parquet", "rejected.parquet")
    return BatchFiles(*(folder / f"batch{number}" / name for name in names))


def ingest(root: Path, out: Path, data="real", **changes):
    """All batches: their files, and the three tables."""
    chosen = settings(**changes)
    index, rejected = index_scans(root, chosen, data)
    batches = [batch_files(out, number) for number in range(chosen.batches)]
    for number, files in enumerate(batches):
        ingest_batch(root, index, number, chosen, files)
    return batches, *gather_batches(batches, rejected, chosen)


@pytest.fixture
def cohort(tmp_path):
    """Three scans of two patients, in folders that say nothing."""
    root = tmp_path / "root"
    for number in range(3):
        write_scan(root / "CT" / f"{number}", number, lambda dataset, _: setattr(dataset, "PatientName", "Roe^Richard"))
    for file in (root / "CT" / "2").iterdir():
        file.rename(root / f"{file.stem}")  # another layout, without endings
    return root


# The index


def test_index(cohort):
    index, rejected = index_scans(cohort, settings(batches=2), "real")
    assert index.columns.tolist() == ["scan_id", "patient_id", "files", "batch", "data", "listing"]
    assert len(index) == 3
    assert rejected.empty
    assert rejected.columns.tolist() == list(REJECTED_TYPES)
    assert index.scan_id.is_monotonic_increasing
    assert index.scan_id.str.fullmatch("s[0-9a-f]{12}").all()
    assert sorted(index.batch) in ([0, 0, 1], [0, 1, 1])
    assert sorted(place for files in index.files for place in files) == list(range(36))
    again, _ = index_scans(cohort, settings(), "real")
    pd.testing.assert_frame_equal(again, index)


def test_index_survives_parquet(cohort, tmp_path):
    index, _ = index_scans(cohort, settings(), "real")
    index.to_parquet(tmp_path / "index.parquet")
    ingest_batch(cohort, pd.read_parquet(tmp_path / "index.parquet"), 0, settings(), batch_files(tmp_path, 0))
    assert len(pd.read_parquet(batch_files(tmp_path, 0).scans)) >= 1


def test_the_first_scans_by_pseudonym_are_taken(cohort):
    everything, _ = index_scans(cohort, settings(), "real")
    some, _ = index_scans(cohort, settings(scans=2, batches=1), "real")
    assert some.scan_id.tolist() == everything.scan_id.tolist()[:2]


def test_batches_are_balanced_by_files():
    sizes = [100, 10, 10, 30, 50, 100]
    dealt = np.array(deal(sizes, 3))
    assert sorted(np.bincount(dealt, sizes)) == [100, 100, 100]
    assert deal([5], 3) == [0]


def test_of_a_public_set_every_site_gets_the_same_scans_in_the_same_order(cohort, tmp_path):
    """Another key, other folders, other names of files."""
    there = tmp_path / "there"
    for number, file in enumerate(sorted(cohort.rglob("*"), reverse=True)):
        if file.is_file() and ".scangan" not in file.parts:
            (there / str(number % 7)).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, there / str(number % 7) / f"{number:03d}.dcm")
    public = settings(identity="public", scans=2)
    here, other = (index_scans(root, public, "real")[0] for root in (cohort, there))
    assert (cohort / ".scangan/pseudonym.key").read_text() != (there / ".scangan/pseudonym.key").read_text()
    for column in ("scan_id", "patient_id", "batch"):
        assert here[column].tolist() == other[column].tolist()
    keyed = index_scans(cohort, settings(), "real")[0]
    assert set(keyed.scan_id).isdisjoint(here.scan_id)
    # The next file that is ingested knows its pseudonym from the index alone, whatever the key.
    tables = [ingest(root, tmp_path / f"out-{root.name}", identity="public")[1:3] for root in (cohort, there)]
    for first, second in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(first, second)


def test_pseudonyms_rest_on_the_key_in_the_folder(cohort, tmp_path):
    first, _ = index_scans(cohort, settings(), "phantom")
    moved = shutil.copytree(cohort, tmp_path / "moved")
    pd.testing.assert_frame_equal(index_scans(moved, settings(), "phantom")[0], first)
    (moved / ".scangan" / "pseudonym.key").unlink()
    other, _ = index_scans(moved, settings(), "phantom")
    assert set(other.scan_id).isdisjoint(first.scan_id)
    assert set(other.patient_id).isdisjoint(first.patient_id)


def test_volume_files_are_scans_and_patients(tmp_path):
    image = sitk.GetImageFromArray(smooth_hounsfield(0))
    image.SetSpacing((0.7, 0.7, 2.5))
    for name in ("a/one.nii.gz", "a/two.mha", "b/ct.mhd", "c/ct.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, tmp_path / name)
    assert (tmp_path / "b" / "ct.raw").exists()
    _, scans, nodules, rejected = ingest(tmp_path, tmp_path / ".out", annotations="pylidc")
    assert len(scans) == scans.scan_id.nunique() == scans.patient_id.nunique() == 4
    assert scans.sha256.nunique() == 1
    assert scans.native_spacing_z_mm.tolist() == [2.5] * 4
    assert scans.nodules.isna().all()
    assert nodules.empty
    assert rejected.empty


def write_volume(path, values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(smooth_hounsfield(0) if values is None else values)
    image.SetSpacing((0.7, 0.7, 2.5))
    sitk.WriteImage(image, path)


def patients_of(root, **changes):
    """How many scans each patient has, most first; and the rejections."""
    index, rejected = index_scans(root, settings(**changes), "real")
    return index.patient_id.value_counts().tolist(), rejected


def test_visits_of_bids_are_one_patient(tmp_path):
    for subject, session in (("01", 1), ("01", 2), ("02", 1)):
        name = f"sub-{subject}/ses-{session}/ct/sub-{subject}_ses-{session}_ct.nii.gz"
        write_volume(tmp_path / name)
    assert patients_of(tmp_path)[0] == [2, 1]


def test_patients_by_their_paths(tmp_path):
    for name in ("A/ses-1.nii.gz", "A/ses-2.nii.gz", "B/ses-1.nii.gz", "B/x/patientA_1.mha", "patientA_2.mha"):
        write_volume(tmp_path / name)
    assert patients_of(tmp_path)[0] == [1] * 5
    counts, rejected = patients_of(tmp_path, patient_from="folder")
    assert counts == [2, 2]
    assert rejected[["source", "reason", "remedy", "counted"]].to_numpy().tolist() == [
        ["patientA_2.mha", "no patient in its path", "correct patient_from, or rename the file", True]
    ]
    counts, rejected = patients_of(tmp_path, patient_from=r"(patient[A-Z])_\d")
    assert counts == [2]
    assert rejected.source.tolist() == ["A/ses-1.nii.gz", "A/ses-2.nii.gz", "B/ses-1.nii.gz"]
    index, _ = index_scans(tmp_path, settings(patient_from=r"(patient[A-Z])_\d"), "real")
    assert "patient" not in index.to_csv(index=False).replace("patient_id", "")


@pytest.mark.parametrize("shared", ["ANONYMOUS", ""])
def test_a_patient_id_that_tells_nobody_apart(tmp_path, caplog, shared):
    for number, folder in enumerate(("P1/a", "P1/b", "P2/a")):
        write_scan(tmp_path / folder, number, lambda dataset, _: setattr(dataset, "PatientID", shared))
    with caplog.at_level("WARNING"):
        counts, _ = patients_of(tmp_path)
    assert counts == ([3] if shared else [1, 1, 1])
    said = "all 3 series have one PatientID" if shared else "3 of 3 series have no PatientID"
    assert said in caplog.text
    assert "set patient_from" in caplog.text
    assert patients_of(tmp_path, patient_from="folder")[0] == [2, 1]
    _, rejected = patients_of(tmp_path, patient_from="P2")
    assert rejected.source.tolist() == ["P1/a", "P1/b"]


def test_a_patient_id_that_tells_patients_apart_stays(cohort, caplog):
    counts, rejected = patients_of(cohort, patient_from="folder")
    assert (counts, len(rejected)) == ([1, 1, 1], 0)
    assert "patient_from" not in caplog.text


@pytest.mark.parametrize("name", [b"Caf\xe9.nii.gz", b"\xff\xfe.mha", b"J\xfcrgen.nii"])
def test_a_name_that_is_not_utf8_is_rejected_and_stays_hidden(tmp_path, name):
    write_volume(tmp_path / "good.nii.gz")
    write_volume(tmp_path / f"bad{name.decode('latin-1')[name.index(b'.') :]}")
    [bad] = tmp_path.glob("bad.*")
    bad.rename(tmp_path / os.fsdecode(name))
    _, scans, _, rejected = ingest(tmp_path, tmp_path / ".out")
    assert len(scans) == 1
    [(source, reason, found, remedy, _)] = rejected.to_numpy().tolist()
    assert (reason, remedy) == ("name is not UTF-8", "rename the file")
    assert found.startswith("[hidden-")
    assert re.fullmatch(r"\[hidden-[0-9a-f]{6}\]\.(nii\.gz|mha|nii)", source)
    assert name in (tmp_path / ".scangan/rejected.csv").read_bytes()


def muscle_in_air():
    hounsfield = np.random.default_rng(0).normal(-1000, 15, SHAPE)
    hounsfield[:, 10:30, 10:30] += 1040
    return np.rint(hounsfield).clip(-1024).astype(np.int16)


def test_an_offset_is_named_and_mended(tmp_path):
    hounsfield = muscle_in_air()
    write_volume(tmp_path / "moved.nii.gz", (hounsfield + 1024).astype(np.uint16))
    with pytest.raises(DataError, match=r"values are no Hounsfield units; first moved.nii.gz: Hounsfield units \+1024"):
        ingest(tmp_path, tmp_path / ".out")
    _, scans, _, _ = ingest(tmp_path, tmp_path / ".out", hounsfield_offset=-1024)
    write_volume(tmp_path / "moved.nii.gz", hounsfield)
    _, expected, _, _ = ingest(tmp_path, tmp_path / ".out")
    assert scans.sha256.tolist() == expected.sha256.tolist()


def test_a_series_whose_rescaling_is_wrong(tmp_path):
    write_scan(tmp_path / "a", 1)
    write_series(tmp_path / "b", muscle_in_air(), edit=lambda dataset, _: setattr(dataset, "RescaleIntercept", 0))
    _, scans, _, rejected = ingest(tmp_path, tmp_path / ".out")
    assert len(scans) == 1
    assert rejected[["source", "reason", "remedy"]].to_numpy().tolist() == [
        ["b", "values are no Hounsfield units", "correct RescaleIntercept in the headers"]
    ]


def test_a_scan_that_no_memory_holds(tmp_path):
    write_scan(tmp_path / "a", 1)
    write_scan(tmp_path / "b", 2, pixel_spacing=(300, 300))
    _, _, _, rejected = ingest(tmp_path, tmp_path / ".out", spacing_mm=0.5)
    assert rejected.reason.tolist() == ["scan too large"]
    assert rejected.found[0].startswith("13200 x 12000 x")


def test_nothing_found(tmp_path):
    (tmp_path / "notes.txt").write_text("no scans yet")
    with pytest.raises(
        DataError,
        match=r"scans: found none \(1 not DICOM; first notes\.txt: no DICOM header\), allowed: at least 1 CT series",
    ):
        index_scans(tmp_path, settings(), "real")
    with pytest.raises(DataError, match="no such folder"):
        index_scans(tmp_path / "missing", settings(), "real")
    assert not (tmp_path / "missing").exists()


# Batches


def test_scans_as_they_were(cohort, tmp_path):
    batches, scans, nodules, rejected = ingest(cohort, tmp_path / "out")
    assert {name: str(kind) for name, kind in scans.dtypes.items()} == SCAN_TYPES
    assert nodules.columns.tolist() == list(NODULE_TYPES)
    assert len(scans) == 3
    assert rejected.empty
    assert scans.nodules.isna().all()
    expected = {}
    for number in range(3):
        files = list((cohort / "CT" / f"{number}").iterdir()) or [path for path in cohort.iterdir() if path.is_file()]
        raw = read_series(files)
        volume = resample(raw.voxels, raw.affine, 1.5)
        expected[volume.hounsfield.tobytes()] = volume
    for row, hounsfield, lungs, found_nodules in read_scans([files.volumes for files in batches], scans):
        volume = expected.pop(hounsfield.tobytes())
        assert (row["origin_x_mm"], row["origin_y_mm"], row["origin_z_mm"]) == volume.origin_mm
        assert (row["depth"], row["height"], row["width"]) == hounsfield.shape == lungs.shape == found_nodules.shape
        assert (row["manufacturer"], row["kernel"], row["native_slices"]) == ("Scangan", "B30f", 12)
        assert (row["native_spacing_x_mm"], row["native_spacing_z_mm"]) == pytest.approx((PIXEL_MM, SLICE_MM))
        assert (lungs.dtype, found_nodules.dtype) == (bool, np.uint8)
        assert not found_nodules.any()
    assert not expected


def test_the_same_scans_give_the_same_bytes(cohort, tmp_path):
    for folder in ("first", "second"):
        ingest(cohort, tmp_path / folder)
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()]
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_more_batches_than_scans(cohort, tmp_path):
    batches, scans, _, _ = ingest(cohort, tmp_path, batches=5)
    assert len(scans) == 3
    assert sum(len(pd.read_parquet(files.scans)) == 0 for files in batches) == 2
    assert len(list(read_scans([files.volumes for files in batches], scans))) == 3


def test_files_that_were_added_are_seen(cohort, tmp_path):
    index, _ = index_scans(cohort, settings(), "real")
    (cohort / "CT" / "new").write_bytes(b"x")
    with pytest.raises(DataError, match=r"files: found other files than when .*run the rule index_scans again"):
        ingest_batch(cohort, index, 0, settings(), batch_files(tmp_path, 0))


def test_values_below_air_become_air(tmp_path):
    """Untagged padding outside the round field would darken its edge."""

    def pad(value):
        def edit(dataset, _):
            stored = np.frombuffer(dataset.PixelData, np.int16).reshape(SHAPE[1:]).copy()
            stored[:, :9] = value + 1024
            dataset.PixelData = stored.tobytes()

        return edit

    for number, value in ((1, -1024), (2, -3024)):
        write_scan(tmp_path / f"{value}", 1, pad(value), series_uid=f"1.2.{number}")
    batches, scans, _, _ = ingest(tmp_path, tmp_path / ".out")
    (_, first, _, _), (_, second, _, _) = read_scans([files.volumes for files in batches], scans)
    assert first.min() == second.min() == -1024
    np.testing.assert_array_equal(first, second)


def test_antialiasing_is_chosen(cohort, tmp_path):
    _, averaged, _, _ = ingest(cohort, tmp_path / "a", spacing_mm=3)
    _, interpolated, _, _ = ingest(cohort, tmp_path / "b", spacing_mm=3, antialias=False)
    raw = read_series(list((cohort / "CT" / "0").iterdir()))
    checksums = {
        antialias: hashlib.sha256(resample(raw.voxels, raw.affine, 3, antialias).hounsfield).hexdigest()
        for antialias in (True, False)
    }
    assert checksums[True] in set(averaged.sha256) - set(interpolated.sha256)
    assert checksums[False] in set(interpolated.sha256) - set(averaged.sha256)


def test_magnetic_resonance(tmp_path):
    write_scan(tmp_path / "mr", 1, as_magnetic_resonance)
    _, scans, _, _ = ingest(tmp_path, tmp_path / ".out", modality="MR", window=(-1000, 500))
    assert scans.modality.tolist() == ["MR"]
    assert scans.lung_check.tolist() == ["MR: not sought"]
    write_scan(tmp_path / "ct", 2)
    _, rejected = index_scans(tmp_path, settings(), "real")
    assert rejected.counted.tolist() == [False] * 12


def as_magnetic_resonance(dataset, _):
    dataset.Modality = "MR"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def test_progress(cohort, tmp_path, caplog):
    with caplog.at_level("INFO"):
        ingest(cohort, tmp_path, batches=1)
    assert "batch 0: 3 of 3 scans," in caplog.text
    assert "0 s left" in caplog.text


# Nodules


def test_nodules_in_millimetres_and_voxels(tmp_path):
    root = tmp_path / "root"
    write_scan(root / "a", 1)
    write_scan(root / "b", 2)
    readers = [box(rows=(14, 23), columns=(20, 29), slices=(3, 6), malignancy=rating) for rating in (2, 3, 5)]
    write_database(prepare_pylidc(), tmp_path / "annotations.sqlite", [("1.2.840.99.1", readers)])
    batches, scans, nodules, _ = ingest(root, tmp_path / "out", annotations=str(tmp_path / "annotations.sqlite"))
    # One series is in the database, the other is not: nobody looked for nodules there.
    assert sorted(scans.nodules.fillna(-1)) == [-1, 1]
    (nodule,) = nodules.to_dict("records")
    centre = UPRIGHT @ [24.5, 18.5, 4.5, 1]
    assert (nodule["x_mm"], nodule["y_mm"], nodule["z_mm"]) == pytest.approx(tuple(centre[:3]))
    assert (nodule["readers"], nodule["malignancy"], nodule["nodule"]) == (3, 3, 1)
    [(row, _, _, labels)] = [
        each
        for each in read_scans([files.volumes for files in batches], scans)
        if each[0]["scan_id"] == nodule["scan_id"]
    ]
    assert set(np.unique(labels)) == {0, 1}
    voxel = (nodule["z_voxel"], nodule["y_voxel"], nodule["x_voxel"])
    np.testing.assert_allclose(np.argwhere(labels).mean(0), voxel, atol=0.5)
    origin = np.array([row["origin_z_mm"], row["origin_y_mm"], row["origin_x_mm"]])
    np.testing.assert_allclose(origin + 1.5 * np.array(voxel), centre[2::-1])
    assert labels.astype(bool).sum() * 1.5**3 == pytest.approx(nodule["volume_mm3"], rel=0.2)


def test_phantom_brings_its_own_annotations(tmp_path):
    root = tmp_path / "root"
    write_scan(root / "a", 1)
    annotation = box(rows=(14, 23), columns=(20, 29), slices=(3, 6))
    write_database(prepare_pylidc(), root / "annotations.sqlite", [("1.2.840.99.1", [annotation])])
    _, _, nodules, rejected = ingest(root, tmp_path / "out", data="phantom", annotations="pylidc")
    assert len(nodules) == 1
    assert rejected.empty


def test_annotations_of_another_scan_of_this_name_are_refused(tmp_path):
    write_scan(tmp_path / "root" / "a", 1, origin=(0, 0, 500))
    write_scan(tmp_path / "root" / "b", 2)
    annotation = box(rows=(14, 23), columns=(20, 29), slices=(3, 6))
    database = write_database(prepare_pylidc(), tmp_path / "annotations.sqlite", [("1.2.840.99.1", [annotation])])
    _, scans, _, rejected = ingest(tmp_path / "root", tmp_path / "out", annotations=str(database))
    assert len(scans) == 1
    assert rejected.reason.tolist() == ["annotations do not fit"]


# Rejected scans


def test_bad_scans_are_listed_and_the_others_go_on(tmp_path):
    root = tmp_path / "root"
    write_scan(root / "DICOM" / "1", 1)
    write_scan(root / "DICOM" / "2", 2)
    write_scan(root / "DICOM" / "3", 3)[5].unlink()
    write_scan(root / "Doe_Jane" / "gap" / "4", 4)[2].write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    files = write_scan(root / "Doe_Jane", 5)
    files[7].write_bytes(files[7].read_bytes()[:-50])
    (root / "DICOM" / "notes.txt").write_text("not DICOM")
    _, scans, _, rejected = ingest(root, tmp_path / "out", max_rejected=0.7)
    assert len(scans) == 2
    assert {name: str(kind) for name, kind in rejected.dtypes.items()} == REJECTED_TYPES
    by_source = {row.source: row for row in rejected.itertuples()}
    assert by_source["DICOM/3"].reason == "missing slices"
    assert "1 missing" in by_source["DICOM/3"].found
    [hidden] = [source for source in by_source if source.startswith("[hidden-") and "/" not in source]
    assert by_source[hidden].reason == "truncated pixel data"
    assert by_source[f"{hidden}/gap/4"].reason == "missing slices"
    [text] = [row for row in by_source.values() if row.reason == "not DICOM"]
    assert not text.counted
    assert "Jane" not in rejected.to_csv()
    lookup = pd.read_csv(root / ".scangan" / "rejected.csv", header=None, index_col=0)[1]
    assert lookup[hidden] == "Doe_Jane"
    assert set(rejected.source) <= set(lookup.index)


def test_names_are_hidden_wherever_they_stand(tmp_path):
    """What a damaged file's folder gives away, only another file's header can tell."""

    def anonymous(dataset, _):
        dataset.PatientName = dataset.StudyDate = ""

    root = tmp_path / "root"
    write_scan(root / "a", 1)
    gap, cut = write_scan(root / "Doe_Jane" / "gap", 2, anonymous), write_scan(root / "Doe_Jane" / "cut", 3, anonymous)
    gap[4].write_bytes(b"truncated")
    cut[4].write_bytes(cut[4].read_bytes()[:-9])
    (root / os.fsdecode(b"M\xfcller.txt")).write_text("not DICOM")
    _, rejected = index_scans(root, settings(), "real")
    _, scans, _, all_rejected = ingest(root, tmp_path / "out", max_rejected=1)
    assert len(scans) == 1
    assert rejected.reason.tolist() == ["not DICOM", "not DICOM"]
    hidden = rejected.source[0].split("/")[0]
    assert hidden.startswith("[hidden-")
    assert rejected.source[0] == f"{hidden}/gap/0004.dcm"
    assert rejected.source[1].startswith("[hidden-")
    assert sorted(all_rejected.source[2:]) == [f"{hidden}/cut", f"{hidden}/gap"]
    assert "[hidden" not in all_rejected.found.str.cat()
    assert "0004.dcm" in all_rejected.found.str.cat()


def test_facts_name_nobody(tmp_path):
    def edit(dataset, _):
        dataset.PatientName = "Doe^Jane^F"
        dataset.Manufacturer, dataset.ConvolutionKernel = "Medical Systems of DOE", "B30f 20010203"

    write_scan(tmp_path, 1, edit)
    _, scans, _, _ = ingest(tmp_path, tmp_path / ".out")
    assert re.fullmatch(r"Medical Systems of \[hidden-[0-9a-f]{6}\]", scans.manufacturer[0])
    assert re.fullmatch(r"B30f \[hidden-[0-9a-f]{6}\]", scans.kernel[0])


def test_too_many_rejected(cohort, tmp_path):
    next((cohort / "CT" / "0").glob("0005*")).unlink()
    _, _, _, rejected = ingest(cohort, tmp_path / "a", max_rejected=0.34)
    assert len(rejected) == 1
    message = (
        r"data: max_rejected: found 1 of 3 scans rejected \(1 missing slices; first CT/0: .*\), allowed: 0 \(0\.3\)"
    )
    with pytest.raises(DataError, match=message):
        ingest(cohort, tmp_path / "b", max_rejected=0.3)


def test_files_that_are_no_scan_do_not_count(cohort, tmp_path):
    for number in range(10):
        (cohort / f"notes{number}.txt").write_text("not DICOM")
    _, scans, _, rejected = ingest(cohort, tmp_path, max_rejected=0)
    assert len(scans) == 3
    assert len(rejected) == 10


def test_no_scan_left(tmp_path):
    write_scan(tmp_path / "a", 1)[5].unlink()
    message = r"scans: found none that is usable \(1 missing slices; first a: .*\), allowed: at least 1"
    with pytest.raises(DataError, match=message):
        ingest(tmp_path, tmp_path / ".out", max_rejected=1)


# De-identification

SECRETS = {
    "PatientName": "Zyxwvut^Querty",
    "PatientID": "MRN-8675309",
    "PatientBirthDate": "19470615",
    "StudyDate": "20130827",
    "SeriesDate": "20130828",
    "AccessionNumber": "ACC4711X",
    "StudyID": "STUDY99Q",
    "InstitutionName": "Kernighan Memorial",
    "ReferringPhysicianName": "Plugh^Xyzzy",
    "StudyInstanceUID": "1.2.826.0.77001.5550123",
    "SeriesInstanceUID": "1.2.826.0.77001.5550124",
}


def plant(dataset, _):
    for keyword, value in SECRETS.items():
        setattr(dataset, keyword, value)
    block = dataset.private_block(0x0099, "SECRETIVE MAKER", create=True)
    block.add_new(1, "LO", "Frobozz-private")


def secret_bytes() -> list[bytes]:
    words = {*SECRETS.values(), "Zyxwvut", "Querty", "Plugh", "Xyzzy", "8675309", "Frobozz", "SECRETIVE", "Kernighan"}
    words |= {"2013-08-27", "08-27-2013", "27.08.2013", "1947-06-15", "06-15-1947"}
    return [word.lower().encode() for word in words]


def everything_in(folder: Path) -> bytes:
    """All bytes and names of files; arrays in zips decompressed, with their attributes."""
    content = b""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content += os.fsencode(file.relative_to(folder)) + file.read_bytes()
        if file.suffix == ".zip":
            node = zarr.open(ZipStore(file, mode="r"), mode="r")
            members = [each for _, each in node.members(max_depth=None)] if isinstance(node, zarr.Group) else [node]
            for member in members:
                content += repr((member.path, dict(member.attrs))).encode()
                content += member[...].tobytes() if isinstance(member, zarr.Array) else b""
        if file.suffix == ".parquet":
            content += pd.read_parquet(file).to_csv().encode()
    return content.lower()


def test_nothing_planted_leaves_the_ingestion(tmp_path, caplog):
    root, out = tmp_path / "root", tmp_path / "out"
    # The archive's layout: patient / date of the study / series / slices; one whole scan, one with a gap, some files.
    patient = root / "MRN-8675309" / "08-27-2013-NA-CT CHEST-99"
    write_scan(patient / "Zyxwvut^Querty-1", 1, plant, series_uid=SECRETS["SeriesInstanceUID"])
    broken = write_scan(patient / "Zyxwvut^Querty-2", 2, plant_all_but_uid, series_uid="1.2.826.0.77001.5550125")
    broken[4].unlink()
    cut = write_scan(root / "20130827" / "Plugh", 3, plant_all_but_uid, series_uid="1.2.9")
    for file in cut:
        named = file.rename(file.with_name(f"querty {file.name}"))
    named.write_bytes(named.read_bytes()[:-9])
    (root / "Zyxwvut report 20130827.pdf").write_bytes(b"%PDF Zyxwvut")
    (root / "MRN-8675309" / "DICOMDIR").write_bytes(b"Zyxwvut")
    with caplog.at_level("DEBUG"):
        index, rejected = index_scans(root, settings(), "real")
        batches, scans, nodules, all_rejected = ingest(root, out, max_rejected=0.9)
    index.to_parquet(out / "index.parquet")
    rejected.to_csv(out / "index_rejected.csv")
    for name, table in {"scans": scans, "nodules": nodules, "rejected": all_rejected}.items():
        table.to_csv(out / f"{name}.csv")
    assert len(scans) == 1
    assert sorted(all_rejected.reason) == ["missing slices", "not DICOM", "not DICOM", "truncated pixel data"]
    written = everything_in(out)
    assert scans.scan_id[0].encode() in written
    assert len(batches) == 2
    for secret in secret_bytes():
        assert secret not in written, secret
        # The root's own name is the user's to choose.
        assert secret not in caplog.text.replace(str(root), "").lower().encode(), secret


def plant_all_but_uid(dataset, _):
    uids = dataset.SeriesInstanceUID, dataset.StudyInstanceUID
    plant(dataset, 0)
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uids


def test_secrets_would_be_found(tmp_path):
    """The search above sees into what it searches."""
    group = zarr.create_group(ZipStore(tmp_path / "a.zip", mode="w"))
    group.create_array("x", data=np.frombuffer(b"Zyxwvut", np.uint8), attributes={"id": "MRN-8675309"})
    group.store.close()
    pd.DataFrame({"a": ["Frobozz"] * 100}).to_parquet(tmp_path / "a.parquet")
    written = everything_in(tmp_path)
    assert all(secret in written for secret in (b"zyxwvut", b"mrn-8675309", b"frobozz"))


def test_the_number_of_batches_changes_nothing(cohort, tmp_path):
    found = []
    for count in (1, 3):
        batches, scans, nodules, rejected = ingest(cohort, tmp_path / f"{count}", batches=count)
        backwards = scans.iloc[::-1]
        read = read_scans([files.volumes for files in batches], backwards)
        assert [row["scan_id"] for row, *_ in read] == backwards.scan_id.tolist()
        found.append((scans, nodules, rejected))
    for one, other in zip(*found, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_failed_batch_leaves_nothing(cohort, tmp_path, monkeypatch):
    index, _ = index_scans(cohort, settings(batches=1), "real")
    monkeypatch.setattr(module, "lung_mask", lambda volume: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest_batch(cohort, index, 0, settings(batches=1), batch_files(tmp_path, 0))
    assert list((tmp_path / "batch0").iterdir()) == []


def test_lungs_are_stored(cohort, tmp_path, monkeypatch):
    def lower_half(volume):
        mask = np.zeros(volume.hounsfield.shape, bool)
        mask[: len(mask) // 2] = True
        return LungMask(mask, "", 12.5)

    monkeypatch.setattr(module, "lung_mask", lower_half)
    batches, scans, _, _ = ingest(cohort, tmp_path)
    assert scans.lung_volume_ml.tolist() == [12.5] * 3
    for _, _, lungs, _ in read_scans([files.volumes for files in batches], scans):
        assert lungs[: len(lungs) // 2].all()
        assert not lungs[len(lungs) // 2 :].any()


def test_patients_with_a_nodule_in_the_list_are_left_out_by_name(cohort, tmp_path):
    negatives = tmp_path / "abnormalities.csv"
    negatives.write_text("pid,study_yr,sct_ab_desc\npatient-1,2,51\npatient-0,0,59\n")
    everything, _ = index_scans(cohort, settings(), "real")
    index, rejected = index_scans(cohort, settings(negatives=str(negatives)), "real")
    assert len(index) == len(everything) - 1
    assert rejected[["reason", "found", "counted"]].to_numpy().tolist() == [
        ["nodule known", "in the list of abnormalities", False]
    ]
    assert "patient-1" not in rejected.to_csv()


def test_scans_without_nodules_are_left_out_where_nodules_are_required(cohort, tmp_path):
    batches, scans, _, _ = ingest(cohort, tmp_path / "out", annotations="none")
    assert len(scans) == 3
    rejected = pd.DataFrame(columns=list(REJECTED_TYPES)).astype(REJECTED_TYPES)
    with pytest.raises(DataError, match="data: require_nodules: found no nodule in 3 scans, allowed: one in some"):
        gather_batches(batches, rejected, settings(require_nodules=True))
    table = pd.read_parquet(batches[0].scans)
    kept = table.scan_id.iloc[0]
    table.assign(nodules=(table.scan_id == kept).astype("Int64")).to_parquet(batches[0].scans)
    found, _, refused = gather_batches(batches, rejected, settings(require_nodules=True))
    assert found.scan_id.tolist() == [kept]
    assert (refused.reason == "no nodule").all()
    assert len(refused) == 2
    assert not refused.counted.any()
