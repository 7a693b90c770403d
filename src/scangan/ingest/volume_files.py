"""Volumes in one file each: NIfTI and MetaImage, with values in Hounsfield units."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scangan.rejected import Unusable

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd")
LEAST_RANGE = 16  # a fractional volume that spans less was scaled: air to water alone is 1000 Hounsfield


def read_volume_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A NIfTI or MetaImage volume: int16 [slices, rows, columns] and its affine, (column, row, slice, 1) -> LPS mm.

    Values are taken as they are (Hounsfield for CT); fractions are rounded.
    Raises Unusable for a damaged file, colour, more or fewer than three dimensions, and values that no int16 holds
    or that were scaled to a small range.
    """
    image = open_volume(path)
    values = sitk.GetArrayViewFromImage(image)
    low, high = values.min(), values.max()
    limits = np.iinfo(np.int16)
    fractional = np.issubdtype(values.dtype, np.floating)
    if not (limits.min <= low and high <= limits.max) or (fractional and high - low < LEAST_RANGE):
        raise Unusable(
            "values are no Hounsfield units",
            f"{low:g} to {high:g}, allowed: {limits.min} to {limits.max}, not scaled",
            "save the unscaled volume",
        )
    voxels = np.empty(values.shape, np.int16)
    for target, plane in zip(voxels, values, strict=True):
        target[:] = np.rint(plane) if fractional else plane
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return voxels, affine


def open_volume(path: Path, pixels: int | None = None) -> sitk.Image:
    """A NIfTI or MetaImage volume as SimpleITK has it, its voxels of the type `pixels` (None: the file's).

    Raises Unusable for a damaged file, colour, and more or fewer than three dimensions.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        found = f"{reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} values a voxel"
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            raise Unusable("not a volume", f"{found}, allowed: 3 dimensions, 1 value", "save one volume a file")
        if Path(path).name.lower().endswith((".nii", ".nii.gz")):
            _check_nifti_is_whole(Path(path), reader)
        if pixels is not None:
            reader.SetOutputPixelType(pixels)
        return reader.Execute()
    except (RuntimeError, EOFError, OSError, zlib.error) as error:
        # SimpleITK's messages name the file, and span several lines of which the last says what is wrong.
        said = (str(error).replace(str(path), "the file").strip() or type(error).__name__).splitlines()[-1]
        raise Unusable("unreadable file", said, "replace the file, or remove it") from error


def _check_nifti_is_whole(path: Path, reader: sitk.ImageFileReader) -> None:
    """Raise EOFError where voxels are missing: SimpleITK would fill them up with zeros and say nothing."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        end = sum(map(len, iter(lambda: file.read(2**20), b"")))
    needed = float(reader.GetMetaData("vox_offset")) + np.prod(reader.GetSize()) * int(reader.GetMetaData("bitpix")) / 8
    if end < needed:
        raise EOFError(f"{end} bytes where the header promises {needed:.0f}")
