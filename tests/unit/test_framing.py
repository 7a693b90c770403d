"""Scans as cubes: as the mix left them, and without any nodule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scangan.config import VoiCut
from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES, read_scans, write_volumes
from scangan.data.volume_set import frame_volume, read_volume_set
from scangan.synthesis.framing import frame_scans, free_scans
from scangan.synthesis.mix import MIXED_NODULE_TYPES
from tests.unit.test_lungs import chest

VOI = VoiCut(size=16, spacing_mm=2, margin_mm=4)
LUNG, NODULE = -850, 40
SHAM = {("after", "a"): 7}  # what the mix did to a scan without nodules


def scan(scan_id: str) -> dict:
    values = {"scan_id": scan_id, "patient_id": f"p{scan_id}", "data": "phantom", "spacing_mm": 2.0, "lung_check": ""}
    return dict.fromkeys(SCAN_TYPES, 0) | values | {"modality": "CT", "manufacturer": "", "kernel": "", "sha256": ""}


def lungs_with(diameter_mm: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hounsfield units, lungs and labels of a block of lung with a ball in its middle, or without."""
    hounsfield = np.full((32, 32, 32), LUNG, np.int16)
    lungs, labels = np.ones((32, 32, 32), bool), np.zeros((32, 32, 32), np.uint8)
    if diameter_mm is not None:
        z, y, x = np.indices(hounsfield.shape) - 15.5
        labels[z**2 + y**2 + x**2 <= (diameter_mm / 4) ** 2] = 1
        hounsfield[labels == 1] = NODULE
    return hounsfield, lungs, labels


def nodule(scan_id: str, diameter_mm: float) -> dict:
    centre = {"z_voxel": 15.5, "y_voxel": 15.5, "x_voxel": 15.5}
    return {"scan_id": scan_id, "nodule": 1, "diameter_mm": diameter_mm, "equivalent_diameter_mm": diameter_mm} | centre


def erase(vois: np.ndarray, radii_mm, seeds) -> np.ndarray:
    return np.full_like(vois, LUNG)


@pytest.fixture
def freed(tmp_path: Path):
    """Four scans: never a nodule; one erased by the mix; one that keeps its own; one injected, and one too large."""
    before = {"a": None, "b": 8.0, "c": 8.0, "d": None, "e": 40.0}
    after = {"a": None, "b": None, "c": 8.0, "d": 8.0, "e": 40.0}
    paths = {}
    for name, diameters in (("before", before), ("after", after)):
        paths[name] = tmp_path / f"{name}.zarr.zip"
        with write_volumes(paths[name]) as write:
            for scan_id, diameter in diameters.items():
                hounsfield, *others = lungs_with(diameter)
                hounsfield[0, 0, 0] = SHAM.get((name, scan_id), LUNG)
                write(scan_id, hounsfield, *others)
    scans = pd.DataFrame([scan(name) for name in before])
    own = pd.DataFrame([nodule(name, size) for name, size in before.items() if size]).reindex(columns=NODULE_TYPES)
    left = pd.DataFrame([nodule(name, size) for name, size in after.items() if size]).reindex(
        columns=MIXED_NODULE_TYPES
    )
    files = {name: (tmp_path / f"{name}.zarr.zip", tmp_path / f"{name}.parquet") for name in ("free", "mixed")}
    settings = {"size": 32, "erase": erase, "voi": VOI, "seed": 0}
    rejected = free_scans("lidc", paths["before"], paths["after"], scans, own, left, *files.values(), **settings)
    return {name: read_volume_set([volumes], [rows]) for name, (volumes, rows) in files.items()}, rejected


def test_the_mixed_version_has_the_labels_and_voxels_of_the_mix(freed):
    mixed = freed[0]["mixed"]
    rows = mixed.manifest.set_index("volume_id")
    assert rows.label.to_dict() == {"a": "none", "b": "none", "c": "nodules", "d": "nodules", "e": "nodules"}
    assert set(rows.version) == {"mixed"}
    assert set(rows.source) == {"lidc"}
    assert rows.patient_id["c"] == "pc"
    np.testing.assert_array_equal(mixed.read([2])[0], lungs_with(8.0)[0])
    assert mixed.read([0])[0, 0, 0, 0] == 7


def test_the_free_version_holds_no_nodule_whoever_had_one(freed):
    free = freed[0]["free"]
    assert free.manifest.volume_id.tolist() == ["a", "b", "c", "d"]
    assert set(free.manifest.label) == {"none"}
    assert set(free.manifest.version) == {"free"}
    assert free.read([0])[0, 0, 0, 0] == LUNG
    for volume in free:
        assert volume.max() < LUNG + 300  # the trace of an edge as sharp as this one


def test_a_scan_whose_nodule_stays_is_left_out_by_name_and_counted(freed):
    rejected = freed[1]
    assert rejected.source.tolist() == ["e"]
    assert rejected.reason.tolist() == ["nodule larger than the VOI"]
    assert rejected.counted.all()


def test_a_framed_scan_is_its_cube_with_lungs_nodules_and_places_of_its_own(tmp_path):
    body, lungs = chest(4.0)
    labels = np.zeros(lungs.shape, np.uint8)
    labels[40, 41:43, 33:35] = 1  # seen in the cube
    nodules = pd.DataFrame(
        [
            nodule("a", 8.0) | {"z_voxel": 40, "y_voxel": 41.5, "x_voxel": 33.5},
            nodule("a", 3.0) | {"nodule": 2, "z_voxel": 37.2, "y_voxel": 40.0, "x_voxel": 70.0},  # without a voxel
            nodule("a", 8.0) | {"nodule": 3, "z_voxel": 37, "y_voxel": 42.0, "x_voxel": -30.0},
        ]
    ).assign(readers=4)
    rows = pd.DataFrame([scan("a") | {"spacing_mm": 4.0, "origin_x_mm": -100.0, "nodules": 3}])
    with write_volumes(tmp_path / "scans.zarr.zip") as write:
        write("a", body.hounsfield, lungs, labels)
    out = tmp_path / "cubes.zarr.zip"
    scans, framed, rejected = frame_scans(
        tmp_path / "scans.zarr.zip", rows, nodules.reindex(columns=NODULE_TYPES), out, size=56, spacing_mm=6.0
    )
    [(row, cube, found, marked)] = read_scans([out], scans)
    np.testing.assert_array_equal(cube, frame_volume(body.hounsfield, lungs, 4.0, "", 56, 6.0))
    assert (row["spacing_mm"], row["depth"], row["nodules"], row["lung_check"]) == (6.0, 56, 2, "")
    assert found.sum() * 6**3 / 1000 == pytest.approx(row["lung_volume_ml"])
    assert row["lung_volume_ml"] == pytest.approx(lungs.sum() * 4**3 / 1000, rel=0.1)
    assert rejected[["source", "reason", "counted"]].to_numpy().tolist() == [["a-n3", "nodule beyond the cube", False]]
    assert framed.nodule.tolist() == [1, 2]
    # The same place in the patient, whether told by the scan's voxels or by the cube's.
    for axis in "zyx":
        origin = row[f"origin_{axis}_mm"] - rows[f"origin_{axis}_mm"][0]
        np.testing.assert_allclose(origin + 6 * framed[f"{axis}_voxel"], 4 * nodules[f"{axis}_voxel"][:2])
    for each in framed.itertuples():
        assert marked[round(each.z_voxel), round(each.y_voxel), round(each.x_voxel)] == each.nodule
    assert set(np.unique(marked)) == {0, 1, 2}
