"""Volumes in one file each: NIfTI, MetaImage and NRRD."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from scangan.ingest.hounsfield import check_hounsfield, check_labels
from scangan.ingest.volume_headers import VolumeHeader, read_header, truncated, unreadable
from scangan.rejected import Unusable

LEAST_RANGE = 16  # a fractional volume that spans less was scaled: air to water alone is 1000 Hounsfield
# What a hole outside of the body is filled with, and the highest mean of the voxels around one.
OUTSIDE = {"CT": (-1024, -900), "MR": (0, 0)}
PIECE_BYTES = 2**16


@dataclass(frozen=True)
class StoredVolume:
    """A volume as its file holds it. header: of the file."""

    header: VolumeHeader

    def planes(self) -> Iterator[np.ndarray]:
        """The slices [rows, columns], one after the other, scaled as the header says.

        Raises Unusable for a damaged file.
        """
        header, (slices, *shape) = self.header, self.header.shape
        with _damage_named(), header.file.open("rb") as stored, _unpacked(stored, header) as file:
            for number in range(slices):
                plane = np.empty(shape, header.dtype)
                if (found := file.readinto(plane.data.cast("B"))) < plane.nbytes:
                    raise truncated(header.start + number * plane.nbytes + found, header.start + header.nbytes)
                yield plane * header.slope + header.intercept if header.is_scaled else plane
            if header.packed == "gzip":
                file.read(1)  # where the file ends here, its checksum is compared

    def read(self) -> np.ndarray:
        """All voxels, float32 [slices, rows, columns]. Raises Unusable for a damaged file."""
        voxels = np.empty(self.header.shape, np.float32)
        with np.errstate(over="ignore"):
            for target, plane in zip(voxels, self.planes(), strict=True):
                target[:] = plane
        return voxels


def open_volume(path: Path) -> StoredVolume:
    """A NIfTI, MetaImage or NRRD volume, of which the header was read and checked.

    Raises Unusable for a name that is not UTF-8, a damaged file, colour, and more or fewer than three dimensions, see
    `read_header`.
    """
    with _damage_named():
        return StoredVolume(read_header(path))


def read_volume_file(
    path: Path, modality: str = "CT", hounsfield_offset: int | None = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A NIfTI, MetaImage or NRRD volume: int16 [slices, rows, columns], and its affine as a header has it.

    Values are taken as they are, plus `hounsfield_offset` (None: no key sets it); fractions are rounded. NaN and
    infinity outside of the body become padding. modality: `CT`, whose values have to be Hounsfield units, or `MR`.
    Raises Unusable for a damaged file, colour, more or fewer than three dimensions, labels, values that no int16 holds,
    that were scaled to a small range or, of CT, are not Hounsfield units, and for NaN inside the body.
    """
    volume = open_volume(path)
    voxels = np.empty(volume.header.shape, np.int16)
    unknown = np.zeros(0, bool)
    low, high, fractional = np.inf, -np.inf, False
    for number, plane in enumerate(volume.planes()):
        if fractional := np.issubdtype(plane.dtype, np.floating):
            known = np.isfinite(plane)
            if not known.all():
                unknown = unknown if unknown.size else np.zeros(voxels.shape, bool)
                unknown[number] = ~known
                plane = np.where(known, plane, plane[known][:1] if known.any() else 0)
        if hounsfield_offset:
            plane = plane.astype(np.float64) + hounsfield_offset
        low, high = min(low, plane.min()), max(high, plane.max())
        _check_range(low, high)
        voxels[number] = np.rint(plane) if fractional else plane
    if unknown.size:
        fill_unknown(voxels, unknown, modality)
    if fractional and high - low < LEAST_RANGE:
        raise _not_hounsfield(low, high, "not scaled")
    if modality == "CT":
        key = "" if hounsfield_offset is None else "set hounsfield_offset: {}, or "
        check_hounsfield(voxels, f"{key}save the volume in Hounsfield units", hounsfield_offset or 0)
        if volume.header.dtype.itemsize == 1 and not volume.header.is_scaled:
            raise _not_hounsfield(low, high, "values of more than 8 bits")
    else:
        check_labels(voxels)
    return voxels, volume.header.affine


def fill_unknown(voxels: np.ndarray, unknown: np.ndarray, modality: str) -> None:
    """Write padding into the voxels that are unknown, if they lie outside of the body.

    voxels: [slices, rows, columns]. unknown: bool, where they are NaN or infinite. Outside is what touches the volume's
    border, and what has air around it (MR: 0). Raises Unusable if others are unknown.
    """
    padding, most_around = OUTSIDE[modality]
    if unknown.all():
        raise Unusable("values are not all numbers", "NaN or infinity alone", "replace the file")
    labels, count = ndimage.label(unknown)
    outside = np.zeros(count + 1, bool)
    for axis in range(3):
        outside[labels.take((0, -1), axis)] = True
    # The faces of each hole, to the known voxels beside them.
    beside = np.where(unknown, 0, ndimage.grey_dilation(labels, footprint=ndimage.generate_binary_structure(3, 1)))
    numbers = np.arange(1, count + 1)
    faces = np.bincount(beside.ravel(), minlength=count + 1)[1:]
    sums = ndimage.sum_labels(voxels, beside, numbers)
    outside[1:] |= (faces > 0) & (sums <= most_around * faces)
    if inside := int(np.count_nonzero(unknown & ~outside[labels])):
        found = f"{inside} voxels of NaN or infinity inside the body"
        raise Unusable("values are not all numbers", found, "replace the file, or fill these voxels")
    voxels[unknown] = padding


def _check_range(low: float, high: float) -> None:
    limits = np.iinfo(np.int16)
    if not (limits.min <= low and high <= limits.max):
        raise _not_hounsfield(low, high, f"{limits.min} to {limits.max}")


def _not_hounsfield(low: float, high: float, allowed: str) -> Unusable:
    found = f"{low:g} to {high:g}, allowed: {allowed}"
    return Unusable("values are no Hounsfield units", found, "save the unscaled volume")


@contextmanager
def _damage_named() -> Iterator[None]:
    """What a damaged file makes the system or a decoder say, as a rejection."""
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        # Not the whole message of a system: that quotes the path.
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise unreadable((said or type(error).__name__).splitlines()[-1]) from error


@contextmanager
def _unpacked(stored: io.BufferedIOBase, header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    """A file from the first voxel on, inflated."""
    if header.packed == "gzip":
        with gzip.GzipFile(fileobj=stored) as file:
            skip = header.start
            while skip and (piece := file.read(min(skip, PIECE_BYTES))):
                skip -= len(piece)
            yield file
        return
    stored.seek(header.start)
    yield io.BufferedReader(_Inflated(stored), PIECE_BYTES) if header.packed else stored


class _Inflated(io.RawIOBase):
    """What a file's zlib stream inflates to."""

    def __init__(self, stored: io.BufferedIOBase) -> None:
        self.stored, self.inflater = stored, zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip's form as well

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self.inflater.eof:
            packed = self.inflater.unconsumed_tail or self.stored.read(PIECE_BYTES)
            piece = self.inflater.decompress(packed, len(target))
            if piece or not packed:
                target[: len(piece)] = piece
                return len(piece)
        return 0
