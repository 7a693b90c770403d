"""The scan store: what is written is read back, damage is named, batches are gathered, slices are cut."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scangan.config import Scans
from scangan.data.scan_store import (
    NODULE_TYPES,
    SCAN_TYPES,
    BatchFiles,
    cut_slices,
    gather_batches,
    read_batch,
    read_scan_table,
    read_scans,
    write_parquet,
    write_volumes,
)
from scangan.data.store import MANIFEST_TYPES, ImageWriter, read_image_set
from scangan.errors import DataError
from scangan.ingest import lidc
from scangan.rejected import REJECTED_TYPES, rejected_table

SHAPE = (20, 6, 8)


def settings(**changes) -> Scans:
    defaults = {"reader": "ct_slices", "root": "lidc", "slices_per_scan": 2, "image_size": 16, "max_rejected": 0.5}
    return Scans(**defaults | changes)


def row(scan_id: str) -> dict:
    """A row of the scan table."""
    known = {"scan_id": scan_id, "patient_id": "p1", "data": "phantom", "spacing_mm": 1.5}
    zeros = {name: "" if kind == "str" else 0 for name, kind in SCAN_TYPES.items()}
    return zeros | known | dict(zip(("depth", "height", "width"), SHAPE, strict=True))


def arrays(scan_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hounsfield units, lungs and nodules without structure, so that no scan or array is taken for another."""
    rng = np.random.default_rng(list(scan_id.encode()))
    hounsfield = rng.integers(-1024, 2000, SHAPE, np.int16)
    return hounsfield, rng.random(SHAPE) < 0.5, rng.integers(0, 4, SHAPE, np.uint8)


def write_batch(folder: Path, scan_ids=(), rejected=()) -> BatchFiles:
    """A batch of scans, each with two nodules; rejected: (reason, counted)."""
    names = ("volumes.zarr.zip", "scans.parquet", "nodules.parquet", "rejected.parquet")
    batch = BatchFiles(*(folder / name for name in names))
    with write_volumes(batch.volumes) as write:
        for scan_id in scan_ids:
            write(scan_id, *arrays(scan_id))
    write_parquet(batch.scans, pd.DataFrame([row(scan_id) for scan_id in scan_ids]), SCAN_TYPES)
    found = [{name: 0 for name in NODULE_TYPES} | {"scan_id": each, "nodule": n} for each in scan_ids for n in (2, 1)]
    write_parquet(batch.nodules, pd.DataFrame(found), NODULE_TYPES)
    refused = [("a", reason, "12 of 13", "", counted) for reason, counted in rejected]
    write_parquet(batch.rejected, pd.DataFrame(refused, columns=list(REJECTED_TYPES)), REJECTED_TYPES)
    return batch


NOTHING_REJECTED = rejected_table()


@pytest.fixture
def batches(tmp_path):
    return [write_batch(tmp_path / "0", ["s3", "s1"]), write_batch(tmp_path / "1", ["s2"])]


@pytest.fixture
def scans(batches):
    return gather_batches(batches, NOTHING_REJECTED, settings())[0]


# Round trip


def test_scans_in_the_order_of_the_table(batches, scans):
    assert scans.scan_id.tolist() == ["s1", "s2", "s3"]
    backwards = scans.iloc[::-1].assign(diameter_mm=1.0)
    read = list(read_scans([batch.volumes for batch in batches], backwards))
    assert [facts["scan_id"] for facts, *_ in read] == ["s3", "s2", "s1"]
    for facts, hounsfield, lungs, nodules in read:
        assert facts == row(facts["scan_id"]) | {"diameter_mm": 1.0}
        assert (hounsfield.dtype, lungs.dtype, nodules.dtype) == (np.int16, bool, np.uint8)
        for found, expected in zip((hounsfield, lungs, nodules), arrays(facts["scan_id"]), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_same_scans_give_the_same_bytes(batches, tmp_path):
    assert batches[0].volumes.read_bytes() == write_batch(tmp_path / "again", ["s3", "s1"]).volumes.read_bytes()


def test_error_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="invalid literal"), write_volumes(tmp_path / "a.zip") as write:
        write("s1", "no", "array", "at all")
    assert list(tmp_path.iterdir()) == []


def test_scan_table_round_trip(scans, tmp_path):
    scans.loc[0, ["manufacturer", "kernel", "nodules"]] = "NA", "", pd.NA
    scans.to_csv(tmp_path / "scans.csv", index=False)
    pd.testing.assert_frame_equal(read_scan_table(tmp_path / "scans.csv"), scans, check_exact=True)
    (tmp_path / "scans.csv").write_text("something else")
    with pytest.raises(DataError, match=r"scans\.csv: scans: found .*, allowed: the table of an ingested cohort"):
        read_scan_table(tmp_path / "scans.csv")


def test_nodule_table_holds_all_measures():
    assert set(lidc.MEASURES) < set(NODULE_TYPES)


def test_images_of_a_cohort(batches, scans, tmp_path):
    with ImageWriter(tmp_path / "images.zip", tmp_path / "rows.parquet", (1, 16, 16)) as writer:
        for facts, hounsfield, lungs, _ in read_scans([batch.volumes for batch in batches], scans):
            writer.append(*cut_slices(hounsfield, lungs, facts, settings()))
    images = read_image_set(tmp_path / "images.zip", tmp_path / "rows.parquet")
    assert images.images.shape == (6, 1, 16, 16)
    assert set(images.manifest.source) == set(scans.scan_id)
    assert images.manifest.image_id.is_unique


@pytest.mark.parametrize("module", ["data.scan_store", "ingest.scan_index"])
def test_what_readers_need_is_quickly_imported(module):
    """Jobs of a second must not wait for what only the ingestion needs."""
    code = f"import sys, scangan.{module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"torch", "skimage", "scipy", "sqlalchemy", "pylidc", "matplotlib"}
    slow |= {"pydicom", "SimpleITK"} if module == "data.scan_store" else {"zarr"}
    assert "pandas" in found.stdout.split()
    assert slow.isdisjoint(found.stdout.split())


# Gathering


def test_gathered_tables(tmp_path):
    batches = [
        write_batch(tmp_path / "0", ["s3", "s1"], [("missing slices", True), ("localizer", False)]),
        write_batch(tmp_path / "1", ["s2"]),
    ]
    of_index = pd.read_parquet(write_batch(tmp_path / "2", (), [("not DICOM", False)]).rejected)
    scans, nodules, rejected = gather_batches(batches, of_index, settings())
    assert {name: str(kind) for name, kind in scans.dtypes.items()} == SCAN_TYPES
    assert list(zip(nodules.scan_id, nodules.nodule, strict=True)) == [
        (s, n) for s in ("s1", "s2", "s3") for n in (1, 2)
    ]
    assert rejected.reason.tolist() == ["not DICOM", "missing slices", "localizer"]


def test_too_many_rejected(tmp_path):
    batch = write_batch(tmp_path, ["s1", "s2"], [("missing slices", True), ("localizer", False)])
    assert len(gather_batches([batch], NOTHING_REJECTED, settings(max_rejected=0.34))[0]) == 2
    message = (
        r"^data: max_rejected: found 1 of 3 scans rejected \(1 missing slices; first a: 12 of 13\), allowed: 0 \(0\.3\)"
    )
    with pytest.raises(DataError, match=message):
        gather_batches([batch], NOTHING_REJECTED, settings(max_rejected=0.3))


def test_no_scan_left(tmp_path):
    batch = write_batch(tmp_path, (), [("missing slices", True)])
    message = r"^data: scans: found none that is usable \(1 missing slices; first a: 12 of 13\), allowed: at least 1"
    with pytest.raises(DataError, match=message):
        gather_batches([batch], NOTHING_REJECTED, settings(max_rejected=1))


# Damage


def test_truncated_store(batches, scans):
    store = batches[0].volumes
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"volumes\.zarr\.zip: scans: found .*, allowed: a whole Zarr group"):
        list(read_scans([store], scans))
    store.unlink()
    with pytest.raises(DataError, match=r"volumes\.zarr\.zip: scans: found no such file"):
        list(read_scans([store], scans))


def test_damaged_scan_in_a_store(batches, scans):
    content = bytearray(batches[0].volumes.read_bytes())
    content[content.index(b"s1/hounsfield/c/0/0/0") + 100] ^= 0xFF
    batches[0].volumes.write_bytes(content)
    with pytest.raises(DataError, match=r"volumes\.zarr\.zip: s\d: found .*, allowed: a whole scan"):
        list(read_scans([batch.volumes for batch in batches], scans))


def test_scan_that_no_store_holds(batches, scans):
    with pytest.raises(DataError, match="scans: found no s2, allowed: all of the table"):
        list(read_scans([batches[0].volumes], scans))


def test_truncated_table(batches):
    batches[0].scans.write_bytes(batches[0].scans.read_bytes()[:100])
    with pytest.raises(DataError, match=r"scans\.parquet: table: found .*, allowed: a whole parquet table"):
        gather_batches(batches, NOTHING_REJECTED, settings())


# Slices


def lungs_between(low, high, depth=50) -> np.ndarray:
    lungs = np.zeros((depth, 6, 8), bool)
    lungs[low : high + 1, 2:4, 2:4] = True
    return lungs


@pytest.mark.parametrize(
    ("count", "check", "expected"),
    [
        (1, "", [20]),
        (2, "", [12, 28]),
        (3, "", [12, 20, 28]),
        (5, "", [12, 16, 20, 24, 28]),
        (1, "no body", [24]),
        (3, "no body", [12, 24, 37]),
    ],
)
def test_slices_lie_evenly_over_the_lungs(count, check, expected):
    hounsfield = np.zeros((50, 6, 8), np.int16)
    images, rows = cut_slices(
        hounsfield, lungs_between(10, 30), row("s1") | {"lung_check": check}, settings(slices_per_scan=count)
    )
    assert rows.image_id.tolist() == [f"s1-z{z}" for z in expected]
    assert images.shape == (count, 1, 16, 16)


def test_more_slices_than_there_are():
    _, rows = cut_slices(np.zeros((50, 6, 8), np.int16), lungs_between(10, 12), row("s1"), settings(slices_per_scan=9))
    assert rows.image_id.tolist() == ["s1-z10", "s1-z11", "s1-z12"]


def test_slices_hold_the_window_and_the_orientation():
    hounsfield = np.full((50, 8, 8), -600, np.int16)
    hounsfield[20, 0] = 3000  # the front
    hounsfield[20, :, 7] = -1024  # the patient's left
    chosen = settings(window=(-1000, 0), slices_per_scan=1, channels=3, image_size=8, label="lung")
    images, rows = cut_slices(hounsfield, lungs_between(10, 30), row("s1"), chosen)
    assert images.dtype == np.float32
    assert images.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(images[0, :, 1:, :7], 0.4, atol=1e-6)
    assert (images[0, :, 0, :7] == 1).all()
    assert (images[0, :, :, 7] == 0).all()
    (made,) = rows.to_dict("records")
    assert list(made) == list(MANIFEST_TYPES)
    assert (made["label"], made["source"], made["patient_id"], made["data"]) == ("lung", "s1", "p1", "phantom")


def test_spacing_of_the_images():
    _, rows = cut_slices(np.zeros((50, 6, 8), np.int16), lungs_between(1, 9), row("s1"), settings(image_size=16))
    assert set(rows.spacing_mm) == {0.75}


@pytest.mark.parametrize(("kept", "expected"), [(["s1", "s2", "s3"], ["s3", "s1"]), (["s1"], ["s1"]), (["s2"], [])])
def test_a_batch_is_read_by_the_scans_that_its_cohort_kept(batches, scans, tmp_path, kept, expected):
    cohort = scans[scans.scan_id.isin(kept)].assign(patient_id="of a copy")
    cohort.to_csv(tmp_path / "scans.csv", index=False)
    read, nodules = read_batch(batches[0].scans, batches[0].nodules, tmp_path / "scans.csv")
    assert list(read.scan_id) == expected
    assert list(nodules.scan_id) == [name for name in expected for _ in range(2)]
    whole = pd.read_parquet(batches[0].scans).astype(SCAN_TYPES)
    whole = whole[whole.scan_id.isin(expected)].assign(patient_id="of a copy")
    pd.testing.assert_frame_equal(read, whole.reset_index(drop=True))
