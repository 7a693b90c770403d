"""Sets of whole CT volumes on disk, real and synthetic: one Zarr v3 array in a zip, and a parquet manifest.

A volume is a cube, int16 [S, S, S] in Hounsfield units, its axes z, y, x (LPS: z to the head, y to the back, x to the
patient's left), with one spacing along all of them. A set may be larger than memory: volumes are read one by one.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from scangan.ct.grids import on_voxels, sample_box
from scangan.ct.window import AIR
from scangan.data.scan_store import CHUNK_SLICES
from scangan.data.split import SPLITS, assert_patients_apart, parts_of
from scangan.data.store import check_ids, missing_chunk, open_zip
from scangan.errors import DataError
from scangan.files import atomic, reading, said

VOLUME_TYPES = {
    "volume_id": "str",
    "patient_id": "str",
    "label": "str",
    "source": "str",
    "version": "str",
    "data": "str",
    "spacing_mm": "float64",
    "diameter_mm": "float64",
    "nodules": "Int64",
    "lung_volume_ml": "float64",
    "lung_check": "str",
    "synthesis_seed": "Int64",
    "attempts": "Int64",
    "sha256": "str",
}
# In a manifest's file besides: the volume's place in its set's file, and how many volumes that file holds.
PLACE_TYPES = {"place": "int64", "file_volumes": "int64"}
OPTIONAL_COLUMNS = {
    "diameter_mm",
    "nodules",
    "lung_volume_ml",
    "lung_check",
    "synthesis_seed",
    "attempts",
    "sha256",
}

HELD_BYTES = 2**30  # a set that is smaller may be held in memory


@dataclass(frozen=True)
class CompressedVolume:
    """A volume as its file holds it, made by `compress` in any thread. files: name in a set of one volume -> bytes."""

    size: int
    files: dict[str, bytes]
    sha256: str


def compress(hounsfield: np.ndarray) -> CompressedVolume:
    """Compress a volume, int16 [S, S, S] in HU. Raises ValueError on another shape or type."""
    size = len(hounsfield)
    if hounsfield.shape != (size,) * 3 or hounsfield.dtype != np.int16:
        raise ValueError(f"volume {hounsfield.dtype} {hounsfield.shape} is not an int16 cube")
    files: dict[str, Any] = {}
    _create_array(files, volumes=1, size=size)[0] = hounsfield
    chunks = {name: files[name].to_bytes() for name in sorted(set(files) - {"zarr.json"})}
    return CompressedVolume(size, chunks, checksum(hounsfield))


class VolumeWriter:
    """Writes volumes to disk as they come, whatever their number; each is compressed and on the disk at once.

    Example:
        with VolumeWriter(volumes_path, manifest_path, size=64) as writer:
            writer.write(hounsfield, row)

    All files appear under their names on clean exit only, the manifest last. The same volumes give the same bytes.
    edited_path: a second manifest, of the same volumes after an edit: those that it left alone are kept but once.
    Raises DataError, naming the file, if the disk is full or cannot be written.
    """

    def __init__(
        self,
        volumes_path: str | Path,
        manifest_path: str | Path,
        size: int,
        edited_path: str | Path | None = None,
    ) -> None:
        self.volumes_path, self.size = Path(volumes_path), size
        self._rows: dict[Path, list[dict[str, Any]]] = {Path(manifest_path): []}
        if edited_path is not None:
            self._rows[Path(edited_path)] = []
        self._checksums: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for path in (*self._rows, self.volumes_path):
                _remove_leftovers(path)
            self._manifests = {path: stack.enter_context(atomic(path)) for path in self._rows}
            # A chunk holds nothing of a second volume, so the zip only grows, and takes the disk's space but once.
            self._archive = zipfile.ZipFile(stack.enter_context(atomic(self.volumes_path)), "w", zipfile.ZIP_STORED)
            self._clean_up = stack.pop_all()
        return self

    def write(self, volume: np.ndarray | CompressedVolume, row: dict[str, Any]) -> int:
        """Add a volume, int16 [S, S, S] in HU, and its manifest row; what is not in `VOLUME_TYPES` is left out.

        `sha256` is filled in. Returns the volume's place, for `write_edited`. Raises ValueError on another shape or
        type, and on a missing field.
        """
        self._check_row(row)
        place = self._store(volume)
        self._list(next(iter(self._rows)), row, place)
        return place

    def write_edited(self, volume: CompressedVolume | int, row: dict[str, Any]) -> None:
        """Add a volume to the second manifest: an edited one, or the place of one that is as it was."""
        self._check_row(row)
        _, path = self._rows
        self._list(path, row, volume if isinstance(volume, int) else self._store(volume))

    def _check_row(self, row: dict[str, Any]) -> None:
        if missing := set(VOLUME_TYPES) - OPTIONAL_COLUMNS - set(row):
            raise ValueError(f"the row of a volume lacks {sorted(missing)}")

    def _store(self, volume: np.ndarray | CompressedVolume) -> int:
        compressed = volume if isinstance(volume, CompressedVolume) else compress(volume)
        if compressed.size != self.size:
            raise ValueError(f"volume of {compressed.size}^3 among those of {self.size}^3")
        place = len(self._checksums)
        try:
            for name, content in compressed.files.items():
                self._add(name.replace("c/0/", f"c/{place}/", 1), content)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._checksums.append(compressed.sha256)
        return place

    def _list(self, path: Path, row: dict[str, Any], place: int) -> None:
        self._rows[path].append({"lung_check": "", **row, "sha256": self._checksums[place], "place": place})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._abandon(error)
            return
        try:
            description: dict[str, Any] = {}
            _create_array(description, len(self._checksums), self.size)
            self._add("zarr.json", description["zarr.json"].to_bytes())
            self._archive.close()
            for path, rows in self._rows.items():
                types = VOLUME_TYPES | PLACE_TYPES
                table = pd.DataFrame(rows, columns=list(types)).assign(file_volumes=len(self._checksums))
                table.astype(types).to_parquet(self._manifests[path], index=False, write_page_checksum=True)
            self._clean_up.close()
        except OSError as full:
            failure = self._cannot_write(full)
            self._abandon(failure)
            raise failure from full

    def _cannot_write(self, error: OSError) -> DataError:
        where = f"{self.volumes_path}: after {len(self._checksums)} volumes"
        return DataError(f"{where}: cannot be written: {error.strerror or error}; make room on the disk, and run again")

    def _abandon(self, error: BaseException) -> None:
        """Remove what was written."""
        with suppress(OSError, ValueError):  # a full disk has no room for a zip's table of contents either
            self._archive.close()
        self._clean_up.__exit__(type(error), error, error.__traceback__)

    def _add(self, name: str, content: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(name), content)  # without a time stamp


def _remove_leftovers(path: Path) -> None:
    """Temporary files of `atomic` that a killed job left beside the file: many gigabytes, with time."""
    for leftover in path.parent.glob(f".????????.{path.name}"):
        leftover.unlink(missing_ok=True)


def _create_array(files: dict[str, Any], volumes: int, size: int) -> zarr.Array:
    return zarr.create_array(
        MemoryStore(files),
        shape=(volumes, size, size, size),
        chunks=(1, min(CHUNK_SLICES, size), size, size),
        dtype="int16",
        # Three times as fast as zstd's level 2, and twice as fast to read, for 5% more bytes: what is left is noise.
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
        config={"write_empty_chunks": True},  # a chunk that is missing was lost, and does not stand for zeros
    )


def checksum(hounsfield: np.ndarray) -> str:
    """SHA-256 of a volume's content: little-endian int16 [S, S, S]."""
    return hashlib.sha256(np.ascontiguousarray(hounsfield, dtype="<i2").data).hexdigest()


@dataclass(frozen=True)
class _Source:
    """What volumes are read from: a file's array, or one in memory; [N, S, S, S]."""

    name: str
    array: zarr.Array | np.ndarray

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.array[index]


class VolumeSet:
    """Volumes and their manifest, in the same order; made by `read_volume_set` or `VolumeSet.hold`.

    manifest: N rows with the columns of `VOLUME_TYPES`. size: voxels along an edge. Volumes are read and decompressed
    when they are asked for, in any thread, by several at once. Errors are DataErrors that name file and volume.
    """

    def __init__(self, manifest: pd.DataFrame, sources: Sequence[_Source], places: np.ndarray, verify: bool) -> None:
        """places: int [N, 2], the source of each volume and its position there."""
        self.manifest, self._sources, self._places, self._verify = manifest, tuple(sources), places, verify
        self.size = int(self._sources[0].array.shape[-1])

    @staticmethod
    def hold(volumes: np.ndarray, manifest: pd.DataFrame) -> VolumeSet:
        """A set of volumes that are in memory already: int16 [N, S, S, S] in HU."""
        if volumes.shape != (len(manifest), *volumes.shape[-1:] * 3) or volumes.dtype != np.int16:
            raise ValueError(f"volumes {volumes.dtype} {volumes.shape} do not fit a manifest of {len(manifest)} rows")
        places = np.column_stack([np.zeros(len(manifest), int), np.arange(len(manifest))])
        return VolumeSet(manifest.reset_index(drop=True), [_Source("memory", volumes)], places, verify=False)

    @staticmethod
    def concatenate(sets: Sequence[VolumeSet]) -> VolumeSet:
        """All volumes of `sets`, one set after the other; none is read. Raises DataError if their sizes differ."""
        sources = [source for each in sets for source in each._sources]
        _check_sizes(sources)
        firsts = np.cumsum([0, *(len(each._sources) for each in sets)])
        places = [each._places + np.array([first, 0]) for each, first in zip(sets, firsts[:-1], strict=True)]
        manifest = pd.concat([each.manifest for each in sets], ignore_index=True)
        return VolumeSet(manifest, sources, np.concatenate(places), any(each._verify for each in sets))

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def nbytes(self) -> int:
        """Bytes of all volumes, decompressed."""
        return 2 * len(self) * self.size**3

    def select(self, mask_or_index: Any) -> VolumeSet:
        """The volumes that a boolean mask, or an array of positions, names; none is read or copied."""
        chosen = np.asarray(mask_or_index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(int)
        manifest = self.manifest.iloc[chosen].reset_index(drop=True)
        return VolumeSet(manifest, self._sources, self._places[chosen], self._verify)

    def read(self, indices: Any) -> np.ndarray:
        """The volumes at these positions: int16 [n, S, S, S] in HU."""
        indices = np.atleast_1d(np.asarray(indices, int))
        volumes = np.empty((len(indices), *(self.size,) * 3), np.int16)
        for target, index in zip(volumes, indices, strict=True):
            target[:] = self._read_one(index)
        return volumes

    def __iter__(self) -> Iterator[np.ndarray]:
        """Volumes one at a time: int16 [S, S, S] in HU."""
        return map(self._read_one, range(len(self)))

    def keep_in_memory(self, most_bytes: int = HELD_BYTES) -> VolumeSet:
        """The same set, decompressed once and held, where that takes at most `most_bytes`; else the set as it is."""
        return VolumeSet.hold(self.read(np.arange(len(self))), self.manifest) if self.nbytes <= most_bytes else self

    def _read_one(self, index: int) -> np.ndarray:
        source, position = self._places[index]
        try:
            volume = self._sources[source][int(position)]
        except Exception as error:  # as in `files.reading`, but the set's files are open for as long as it is
            raise DataError(f"{self._name(index)}: found {said(error)}, allowed: a whole volume") from error
        if self._verify and (found := checksum(volume)) != (expected := self.manifest.sha256.iloc[index]):
            raise DataError(f"{self._name(index)}: found sha256 {found}, allowed: {expected}")
        return volume

    def _name(self, index: int) -> str:
        return f"{self._sources[self._places[index][0]].name}: {self.manifest.volume_id.iloc[index]}"


def read_volume_set(
    volumes_paths: str | Path | Sequence[str | Path],
    manifest_paths: str | Path | Sequence[str | Path],
    verify: bool = False,
) -> VolumeSet:
    """What `VolumeWriter` wrote, several files (shards) as one set in the order given; volumes are read when asked for.

    manifest_paths: of each file one, of its volumes or of the edited ones.
    verify: compare each volume that is read whole with its checksum.
    Raises DataError, naming the file, if one is missing, truncated or of another kind, if a file and its manifest
    differ in length, and if the files differ in size; and on reading a volume that is damaged.
    """
    volumes_paths, manifest_paths = (
        [paths] if isinstance(paths, str | Path) else list(paths) for paths in (volumes_paths, manifest_paths)
    )
    if not volumes_paths:
        raise DataError("volumes: found no file, allowed: at least 1")
    manifests, sources, places = [], [], []
    for number, (volumes_path, manifest_path) in enumerate(zip(volumes_paths, manifest_paths, strict=True)):
        manifests.append(rows := _read_manifest(manifest_path))
        sources.append(_open_source(volumes_path, manifest_path, rows))
        places.append(np.column_stack([np.full(len(rows), number), rows.place]))
    _check_sizes(sources)
    manifest = pd.concat(manifests, ignore_index=True)[list(VOLUME_TYPES)]
    return VolumeSet(manifest, sources, np.concatenate(places), verify)


def _read_manifest(path: str | Path) -> pd.DataFrame:
    with reading(path, "manifest", "a whole parquet manifest of volumes"):
        types = VOLUME_TYPES | PLACE_TYPES
        rows = pd.read_parquet(path, page_checksum_verification=True)[list(types)].astype(types)
    check_ids(path, rows["volume_id"])
    wrong = rows.place[rows.place.duplicated() | ~rows.place.between(0, rows.file_volumes - 1)]
    if len(wrong):
        raise DataError(f"{path}: place: found {wrong.iloc[0]}, allowed: one of its own in the file for each row")
    return rows


def count_volumes(manifest_paths: Sequence[str | Path]) -> dict[str, int]:
    """Class -> how many volumes `read_volume_set` gives; no volume is opened."""
    return pd.concat(map(_read_manifest, manifest_paths))["label"].value_counts().to_dict()


def _open_source(path: str | Path, manifest_path: str | Path, rows: pd.DataFrame) -> _Source:
    with reading(path, "volumes", "a whole Zarr array in a zip"):
        # Stays open as long as the set: every read would have to go through the zip's table of contents again.
        store, members = open_zip(path)
        array = zarr.open_array(store, mode="r")
    if array.ndim != 4 or array.dtype != np.int16 or len(set(array.shape[1:])) != 1:
        raise DataError(f"{path}: volumes: found {array.dtype} {list(array.shape)}, allowed: int16 [N, S, S, S]")
    if len(rows) and array.shape[0] != (expected := rows.file_volumes.iloc[0]):
        raise DataError(f"{path}: volumes: found {array.shape[0]}, allowed: {expected}, as {manifest_path} says")
    if array.chunks != (wanted := (1, min(CHUNK_SLICES, size := array.shape[-1]), size, size)):
        raise DataError(f"{path}: volumes: found chunks of {list(array.chunks)}, allowed: {list(wanted)}")
    # Zarr takes a missing chunk for one of zeros, which is water.
    if missing := missing_chunk(array, members):
        raise DataError(f"{path}: volumes: found no {missing}, allowed: all chunks of {array.shape[0]} volumes")
    return _Source(str(path), array)


def _check_sizes(sources: Sequence[_Source]) -> None:
    sizes = {source.array.shape[-1]: source.name for source in sources}
    if len(sizes) > 1:
        found = ", ".join(f"{size} ({name})" for size, name in sizes.items())
        raise DataError(f"volumes: size: found {found}, allowed: one size for all")


def split_volumes(volumes: VolumeSet, split_path: str | Path) -> dict[str, VolumeSet]:
    """Real volumes by part (train, validation, test), as the split of their scans says.

    Raises DataError for a volume whose scan has no part, and for a patient with volumes in two.
    """
    parts = parts_of(volumes.manifest.volume_id, split_path)
    assert_patients_apart(volumes.manifest.assign(split=parts), str(split_path))
    return {name: volumes.select(parts == name) for name in SPLITS}


def frame_volume(
    hounsfield: np.ndarray, lungs: np.ndarray, spacing_mm: float, lung_check: str, size: int, target_mm: float
) -> np.ndarray:
    """The cube around the lungs of a scan: int16 [size, size, size] in HU, with a spacing of `target_mm`.

    hounsfield: int16 [Z, Y, X], with the same spacing along all axes. lungs: bool, the same shape. lung_check: why the
    lung mask failed; empty if it did not.
    Its middle is that of the lungs' bounding box; that of the scan, where the mask failed. Where its voxels are as
    large as those of the scan, they are the scan's own (`ct.grids.on_voxels`). Interpolation is trilinear, with the
    scan store's anti-aliasing where the cube is coarser.
    Beyond the scan is air (-1000) to the sides. Along z its last slice is repeated: a scan ends where the lungs do, not
    where the body does, and a network would learn to end bodies there.
    """
    positions = cube_positions(lungs, spacing_mm, lung_check, size, target_mm)
    cube = np.rint(sample_box(hounsfield, positions, (target_mm / spacing_mm,) * 3)).astype(np.int16)
    for axis in (1, 2):
        length = hounsfield.shape[axis]
        beyond = (positions[axis] < -0.5) | (positions[axis] > length - 0.5)
        np.moveaxis(cube, axis, 0)[beyond] = AIR
    return cube


def cube_positions(
    lungs: np.ndarray, spacing_mm: float, lung_check: str, size: int, target_mm: float
) -> list[np.ndarray]:
    """Where the voxels of `frame_volume`'s cube lie along z, y, x, in the scan's voxels: [size] each."""
    middle = (np.array(lungs.shape) - 1) / 2
    if not lung_check and lungs.any():
        middle = np.array([np.flatnonzero(lungs.any(others))[[0, -1]].mean() for others in ((1, 2), (0, 2), (0, 1))])
    middle = on_voxels(middle, (spacing_mm,) * 3, size, target_mm)
    away = (np.arange(size) - (size - 1) / 2) * (target_mm / spacing_mm)
    return [centre + away for centre in middle]
