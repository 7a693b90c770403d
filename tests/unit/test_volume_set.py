"""Sets of volumes: round trip, laziness, threads, damage of every kind, and the cube around the lungs."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import map_coordinates

from scangan.data.volume_set import VOLUME_TYPES, VolumeSet, VolumeWriter, frame_volume, read_volume_set
from scangan.errors import DataError

SOURCE = Path(__file__).parents[2] / "src"
SIZE = 20  # more than one chunk of slices, and the last one is not full
ROW = {"label": "none", "source": "ct_sgan", "version": "synthetic", "data": "phantom", "spacing_mm": 5.0}


def row(number):
    return ROW | {"volume_id": f"v{number}", "patient_id": f"p{number}", "synthesis_seed": number, "attempts": 1}


def volumes(count, first=0):
    """Air, water and noise, each volume another."""
    drawn = np.random.default_rng(first).integers(-1000, 400, (count, SIZE, SIZE, SIZE)).astype(np.int16)
    drawn[:, :4], drawn[:, 4:8] = -1000, 0
    return drawn


def write(folder, name, content, first=0):
    paths = folder / f"{name}.zarr.zip", folder / f"{name}.parquet"
    with VolumeWriter(*paths, SIZE) as writer:
        for number, volume in enumerate(content, first):
            writer.write(volume, row(number))
    return paths


def test_round_trip(tmp_path):
    content = volumes(5)
    found = read_volume_set(*write(tmp_path, "a", content), verify=True)
    assert len(found) == 5
    assert found.size == SIZE
    assert found.nbytes == content.nbytes
    assert found.manifest.dtypes.astype(str).to_dict() == VOLUME_TYPES
    assert found.manifest.volume_id.tolist() == ["v0", "v1", "v2", "v3", "v4"]
    assert found.manifest.synthesis_seed.tolist() == [0, 1, 2, 3, 4]
    assert (found.manifest.lung_check == "").all()
    assert found.manifest[["nodules", "diameter_mm", "lung_volume_ml"]].isna().all(axis=None)
    np.testing.assert_array_equal(found.read([3, 0, 3]), content[[3, 0, 3]])
    assert found.read([3]).dtype == np.int16
    assert found.read([]).shape == (0, SIZE, SIZE, SIZE)
    np.testing.assert_array_equal(list(found), content)
    chosen = found.select(found.manifest.volume_id.isin(["v1", "v4"])).select([1])
    np.testing.assert_array_equal(chosen.read(0), content[[4]])
    assert chosen.manifest.volume_id.tolist() == ["v4"]
    assert len(found.select([])) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "a.zarr.zip"]


def test_the_same_volumes_give_the_same_bytes(tmp_path):
    content = volumes(2)
    first, second = write(tmp_path, "a", content), write(tmp_path, "b", content)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_an_empty_set(tmp_path):
    empty = read_volume_set(*write(tmp_path, "a", []))
    assert (len(empty), empty.size, list(empty)) == (0, SIZE, [])


def test_what_does_not_fit_is_refused_and_nothing_appears(tmp_path):
    paths = tmp_path / "a.zarr.zip", tmp_path / "a.parquet"
    for volume, fields, said in (
        (volumes(1)[0].astype(float), row(0), "volume float64"),
        (volumes(1)[0][1:], row(0), r"volume int16 \(19, 20, 20\)"),
        (volumes(1)[0], {"volume_id": "v0"}, "lacks .*'data', 'label'"),
    ):
        with pytest.raises(ValueError, match=said), VolumeWriter(*paths, SIZE) as writer:
            writer.write(volume, fields)
        assert list(tmp_path.iterdir()) == []


# Several files, memory, threads


def test_shards_are_one_set_and_only_what_is_asked_for_is_read(tmp_path):
    content = volumes(5)
    shards = [write(tmp_path, "a", content[:3]), write(tmp_path, "b", content[3:], first=3)]
    found = read_volume_set(*zip(*shards, strict=True))
    # v4 is damaged: whoever reads it fails.
    shards[1][0].write_bytes(damage_content(shards[1][0].read_bytes(), "c/1/"))
    chosen = found.select([0, 1, 3])
    np.testing.assert_array_equal(found.read([3, 1]), content[[3, 1]])
    assert chosen.keep_in_memory(3 * content[0].nbytes - 1) is chosen
    held = chosen.keep_in_memory(3 * content[0].nbytes)
    for path, _ in shards:
        path.write_bytes(b"")
    np.testing.assert_array_equal(held.select([2]).read(0), content[[3]])
    with pytest.raises(DataError, match=r"b.zarr.zip: v3"):
        chosen.read(2)


def test_sets_are_joined_without_being_read(tmp_path):
    content = volumes(4)
    stored = read_volume_set(*write(tmp_path, "a", content[:3]))
    held = VolumeSet.hold(content[3:], pd.DataFrame([row(3)]))
    joined = VolumeSet.concatenate([held, stored.select([2, 0]), held])
    assert joined.manifest.volume_id.tolist() == ["v3", "v2", "v0", "v3"]
    np.testing.assert_array_equal(joined.read(range(4)), content[[3, 2, 0, 3]])
    small = VolumeSet.hold(np.zeros((1, 16, 16, 16), np.int16), pd.DataFrame([row(0)]))
    with pytest.raises(DataError, match=r"volumes: size: found 20 .*, 16 .*, allowed: one size for all"):
        VolumeSet.concatenate([stored, small])
    with pytest.raises(ValueError, match="do not fit a manifest of 1 rows"):
        VolumeSet.hold(content, pd.DataFrame([row(0)]))


def test_threads_read_one_set(tmp_path):
    content = volumes(4)
    found = read_volume_set(*write(tmp_path, "a", content), verify=True)
    asked = np.random.default_rng(0).integers(0, 4, 60)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda index: found.read(index)[0], asked))
    np.testing.assert_array_equal(read, content[asked])


# Damage


def damage_content(archive, name):
    """Flip a bit in the middle of the first entry whose name begins so."""
    start = archive.index(name.encode()) + 500
    return archive[:start] + bytes([archive[start] ^ 1]) + archive[start + 1 :]


def test_damaged_files_are_named(tmp_path):
    content = volumes(3)
    path, manifest = write(tmp_path, "a", content)
    whole, rows = path.read_bytes(), manifest.read_bytes()

    path.write_bytes(damage_content(whole, "c/1/"))
    found = read_volume_set(path, manifest)
    np.testing.assert_array_equal(found.read([0, 2]), content[[0, 2]])
    with pytest.raises(
        DataError, match=rf"{re.escape(str(path))}: v1: found Bad CRC-32 for file 'c/1/.*a whole volume"
    ):
        found.read([0, 1])
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{path}: volumes: found .*zip"):
        read_volume_set(path, manifest)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path}: volumes: found no such file"):
        read_volume_set(path, manifest)
    path.write_bytes(whole)
    manifest.write_bytes(rows[: len(rows) // 2])
    with pytest.raises(DataError, match=rf"{manifest}: manifest: found .*, allowed: a whole parquet"):
        read_volume_set(path, manifest)
    write(tmp_path, "b", content[:2])
    with pytest.raises(DataError, match=r"a.zarr.zip: volumes: found 3, allowed: 2, as .*b.parquet says"):
        read_volume_set(path, tmp_path / "b.parquet")
    other = tmp_path / "c.zarr.zip", tmp_path / "c.parquet"
    with VolumeWriter(*other, 16) as writer:
        writer.write(np.zeros((16, 16, 16), np.int16), row(0))
    with pytest.raises(DataError, match=r"size: found 20 .*, 16 .*c.zarr.zip"):
        read_volume_set([tmp_path / "b.zarr.zip", other[0]], [tmp_path / "b.parquet", other[1]])
    with pytest.raises(DataError, match="volumes: found no file"):
        read_volume_set([], [])


def test_a_manifest_of_other_volumes_is_found_by_its_checksums(tmp_path):
    path, _ = write(tmp_path, "a", volumes(2))
    _, manifest = write(tmp_path, "b", volumes(2, first=7))
    read_volume_set(path, manifest).read(1)
    with pytest.raises(DataError, match=r"a.zarr.zip: v1: found sha256 [0-9a-f]{64}, allowed: [0-9a-f]{64}"):
        read_volume_set(path, manifest, verify=True).read(1)


@pytest.mark.parametrize("which", ["volumes", "manifest"])
def test_no_flipped_bit_goes_unnoticed(tmp_path, which):
    """Wherever in a file: what is read is what was written, or a DataError that names the file."""
    content = volumes(2)
    path, manifest = write(tmp_path, "a", content)
    rows = read_volume_set(path, manifest).manifest
    damaged = path if which == "volumes" else manifest
    whole = damaged.read_bytes()
    rng = np.random.default_rng(0)
    # All over the file, and denser in a zip's table of contents.
    table = max(0, whole.find(b"PK\x01\x02"))
    named = 0
    for place in np.concatenate([rng.integers(0, len(whole), 60), rng.integers(table, len(whole), 100)]):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        damaged.write_bytes(flipped)
        try:
            found = read_volume_set(path, manifest)
            np.testing.assert_array_equal(found.read([0, 1]), content)
            pd.testing.assert_frame_equal(found.manifest, rows)
        except DataError as error:
            assert str(damaged) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            named += 1
    assert named > 50


FULL_DISK = """
import resource, sys
import numpy as np
from scangan.data.volume_set import VolumeWriter
from scangan.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
row = dict(volume_id="v", patient_id="p", label="none", source="s", version="free", data="phantom", spacing_mm=5.0)
noise = np.random.default_rng(0).integers(-1000, 400, (20, 20, 20)).astype(np.int16)
try:
    with VolumeWriter(f"{sys.argv[1]}/a.zarr.zip", f"{sys.argv[1]}/a.parquet", 20) as writer:
        for number in range(10):
            writer.write(noise, row)
except DataError as error:
    print(error)
"""


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    """A real limit of the operating system, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/a.zarr.zip: after [23] volumes: cannot be written: File too large; "
        "make room on the disk, and run again\n",
        done.stdout,
    )
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_job_left_is_removed(tmp_path):
    for name in (".0123abcd.a.zarr.zip", ".0123abcd.a.parquet", ".0123abcd.ba.parquet", "b.parquet"):
        (tmp_path / name).write_bytes(b"half")
    write(tmp_path, "a", volumes(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".0123abcd.ba.parquet",
        "a.parquet",
        "a.zarr.zip",
        "b.parquet",
    ]


# The cube around the lungs


def scan(shape=(30, 40, 44), lungs=(slice(6, 25), slice(8, 29), slice(10, 37))):
    """Noise, and a box of lungs."""
    mask = np.zeros(shape, bool)
    mask[lungs] = True
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16), mask


def test_a_cube_of_the_same_spacing_is_a_crop_around_the_lungs():
    hounsfield, lungs = scan()
    cube = frame_volume(hounsfield, lungs, 2.0, "", size=9, target_mm=2.0)
    # Lungs from 6 to 24, 8 to 28, 10 to 36: middles 15, 18, 23.
    np.testing.assert_array_equal(cube, hounsfield[11:20, 14:23, 19:28])
    assert cube.dtype == np.int16


@pytest.mark.parametrize("lungs", ["failed", "none"])
def test_without_a_mask_the_cube_is_around_the_scan(lungs):
    hounsfield, mask = scan(shape=(31, 41, 45))
    check = "one lung" if lungs == "failed" else ""
    cube = frame_volume(hounsfield, mask & (lungs == "failed"), 2.0, check, size=9, target_mm=2.0)
    np.testing.assert_array_equal(cube, hounsfield[11:20, 16:25, 18:27])


@pytest.mark.parametrize("target_mm", [1.3, 2.0])
def test_finer_cubes_are_trilinear(target_mm):
    hounsfield, lungs = scan()
    cube = frame_volume(hounsfield, lungs, 2.0, "", size=12, target_mm=target_mm)
    away = (np.arange(12) - 5.5) * target_mm / 2.0
    middle = np.array([15, 18, 23])
    if target_mm == 2.0:  # the scan's own voxels, not between them
        middle = np.array([14.5, 18.5, 22.5])
    grid = np.meshgrid(*(place + away for place in middle), indexing="ij")
    expected = map_coordinates(hounsfield.astype(float), grid, order=1)
    np.testing.assert_allclose(cube, expected, atol=0.51)


def test_a_coarser_cube_is_a_mean_and_not_a_sample():
    """White noise: the triangle-weighted mean over three voxels along each axis leaves (19 / 81)^3 of its variance."""
    noise = np.random.default_rng(0).normal(0, 1000, (60, 60, 60)).astype(np.int16)
    cube = frame_volume(noise, np.ones(noise.shape, bool), 1.0, "", size=18, target_mm=3.0)
    assert cube.var() == pytest.approx(1e6 * (19 / 81) ** 3, rel=0.1)


def test_beyond_the_scan_is_air_to_the_sides_and_the_last_slice_along_z():
    hounsfield, lungs = scan()
    cube = frame_volume(hounsfield, lungs, 2.0, "", size=51, target_mm=2.0)
    first = 15 - 25, 18 - 25, 23 - 25
    z, y, x = (np.arange(51) + start for start in first)
    inside = ((y >= 0) & (y < 40))[:, None] & ((x >= 0) & (x < 44))
    assert (cube[:, ~inside] == -1000).all()
    expected = hounsfield[z.clip(0, 29)][:, y[(y >= 0) & (y < 40)]][:, :, x[(x >= 0) & (x < 44)]]
    np.testing.assert_array_equal(cube[:, inside], expected.reshape(51, -1))
