"""Headers of NIfTI, MetaImage and NRRD: where the voxels lie, of which type, and on which grid.

They are parsed here, and checked against the files' true sizes, for libraries in native code end the whole process on
some damaged headers, or ask for more memory than there is.
"""

from __future__ import annotations

import gzip
import math
import os
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from scangan.ingest.listing import readable_name
from scangan.rejected import Unusable

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".mhd", *NRRD_SUFFIXES)
DATA_SUFFIXES = (".raw", ".zraw", ".raw.gz")  # of files that hold the voxels of a header beside them

MOST_QUATERNION = 1.01  # squared length of the three parts, with room for rounding
GZIP = b"\x1f\x8b"
MOST_INFLATED = 1032  # bytes that a byte of a deflated file can become
MOST_BYTES = 2**31  # of the voxels, as at least 32 bits each: 2,000 slices of 512x512
SPACING_MM = (0.01, 100)  # least and greatest distance of voxels
FARTHEST_MM = 1e6  # of a grid's origin
LEAST_VOLUME = 0.1  # of a voxel, as a share of what perpendicular edges would enclose: a tilt of 84 degrees
TEXT_BYTES = 2**20  # that a MetaImage's or NRRD's header may take

_NIFTI1 = {
    "sizeof_hdr": ("i4", 0),
    "dim": ("8i2", 40),
    "datatype": ("i2", 70),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("3f4", 256),
    "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280),
    "magic": ("S3", 344),
}
_NIFTI2 = {
    "sizeof_hdr": ("i4", 0),
    "magic": ("S3", 4),
    "datatype": ("i2", 12),
    "dim": ("8i8", 16),
    "pixdim": ("8f8", 104),
    "vox_offset": ("i8", 168),
    "scl_slope": ("f8", 176),
    "scl_inter": ("f8", 184),
    "qform_code": ("i4", 344),
    "sform_code": ("i4", 348),
    "quatern": ("3f8", 352),
    "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400),
    "xyzt_units": ("i4", 500),
}
NIFTI_HEADERS = {348: _NIFTI1, 540: _NIFTI2}  # by their length, with which they begin
NIFTI_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
NIFTI_COLOURS = {128: 3, 2304: 4, 32: 2, 1792: 2}  # values a voxel: RGB, RGBA, complex numbers
NIFTI_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # of metre, millimetre, micrometre in mm

METAIMAGE_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Keys that say the same, the first of which counts.
SPACING_KEYS = ("ElementSpacing", "ElementSize")
ORIGIN_KEYS = ("Offset", "Position", "Origin")
DIRECTION_KEYS = ("TransformMatrix", "Orientation", "Rotation")
BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")

# Of the format's many names of a type: those of C, and of fixed width.
NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
# Signs of x and y that bring a frame to LPS; of an unknown one, as of none, columns, rows and slices go there.
NRRD_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0)),
}
NRRD_PACKED = {"raw": "", "gzip": "zlib", "gz": "zlib"}  # zlib's reader knows gzip's form as well


@dataclass(frozen=True)
class VolumeHeader:
    """What the header of a volume file says.

    shape: (slices, rows, columns). dtype: of the stored values, with their byte order. affine: float64 [4, 4],
    (column, row, slice, 1) -> LPS mm of the voxel's centre. file: that holds the voxels, from byte `start` on (of what
    it inflates to, with gzip). packed: `gzip` (the file), `zlib` (the voxels) or nothing. slope, intercept: from stored
    values to those that are meant.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: np.ndarray
    file: Path
    start: int
    packed: str
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_scaled(self) -> bool:
        """Whether stored values are not those that are meant."""
        return (self.slope, self.intercept) != (1, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> VolumeHeader:
    """The header of a NIfTI, MetaImage or NRRD file, checked.

    Raises Unusable for a name that is not UTF-8, a damaged header, colour, more or fewer than three dimensions, a grid
    that no scan has, too many voxels, voxels in several files or in a folder outside the header's, and a file that is
    too short for its voxels. Raises OSError if it cannot be read.
    """
    path = Path(path)
    _check_name(path.name)
    if not path.is_file():  # a pipe would never end
        raise unreadable("no file")
    read = _read_metaimage
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        read = _read_nifti
    elif path.name.lower().endswith(NRRD_SUFFIXES):
        read = _read_nrrd
    header = read(path)
    _check_grid(header.affine)
    _check_size(header)
    return header


def unreadable(found: str) -> Unusable:
    """A volume file that is damaged, or is none."""
    return Unusable("unreadable file", found, "replace the file, or remove it")


def truncated(found: int, needed: int) -> Unusable:
    """A file that holds fewer bytes than its header promises."""
    return unreadable(f"{found} bytes where the header promises {needed}")


def _check_name(name: str) -> None:
    if name != (readable := readable_name(name)):
        raise Unusable("name is not UTF-8", readable, "rename the file")


def _check_volume(dimensions: int, values: int) -> None:
    if dimensions != 3 or values != 1:
        found = f"{dimensions} dimensions, {values} values a voxel, allowed: 3 dimensions, 1 value"
        raise Unusable("not a volume", found, "save one volume a file")


def _check_grid(affine: np.ndarray) -> None:
    if not np.isfinite(affine).all() or abs(affine[:3, 3]).max() > FARTHEST_MM:
        raise unreadable("a grid that is nowhere, allowed: numbers")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (SPACING_MM[0] <= spacing.min() and spacing.max() <= SPACING_MM[1]):
        said = " x ".join(f"{length:.3g}" for length in spacing)
        raise unreadable(f"voxels of {said} mm, allowed: {SPACING_MM[0]:g} to {SPACING_MM[1]:g}")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < LEAST_VOLUME:
        raise unreadable("axes of one direction, allowed: three directions")


def _check_size(header: VolumeHeader) -> None:
    if math.prod(header.shape) * max(header.dtype.itemsize, 4) > MOST_BYTES:
        found = f"{' x '.join(f'{length:.6g}' for length in header.shape[::-1])} voxels, allowed: 2000 of 512 x 512"
        raise Unusable("volume too large", found, "save it at a coarser grid, or in parts")
    size, needed = header.file.stat().st_size, header.start + header.nbytes
    if (size * MOST_INFLATED if header.packed else size) < needed:
        raise truncated(size, needed)


# NIfTI


def _read_nifti(path: Path) -> VolumeHeader:
    with path.open("rb") as file:
        packed = "gzip" if file.read(2) == GZIP else ""
    with gzip.open(path) if packed else path.open("rb") as file:
        content = file.read(max(NIFTI_HEADERS))
    fields = _nifti_fields(content)
    dim, count = fields["dim"].tolist(), int(fields["dim"][0])
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise unreadable(f"dimensions {', '.join(map(str, dim[1:4]))} of {count}, allowed: 1 or more of 1 to 7")
    while count > 3 and dim[count] == 1:
        count -= 1
    datatype = int(fields["datatype"])
    _check_volume(count, NIFTI_COLOURS.get(datatype, 1))
    if datatype not in NIFTI_TYPES:
        raise unreadable(f"datatype {datatype}, allowed: {', '.join(map(str, NIFTI_TYPES))}")
    start = float(fields["vox_offset"])
    if not fields["sizeof_hdr"] <= start <= MOST_BYTES:
        raise unreadable(f"vox_offset {start:g}, allowed: {fields['sizeof_hdr']} or more")
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # the standard's way to say that nothing is scaled, and nibabel's
        slope, intercept = 1.0, 0.0
    if not math.isfinite(intercept):
        raise unreadable(f"scl_inter {intercept:g}, allowed: a number")
    dtype = np.dtype(fields["dim"].dtype.byteorder + NIFTI_TYPES[datatype])
    shape = (dim[3], dim[2], dim[1])
    return VolumeHeader(shape, dtype, _nifti_affine(fields), path, int(start), packed, slope, intercept)


def _nifti_fields(content: bytes) -> np.void:
    """The fields of a header, whatever its version and byte order."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        length = int(np.frombuffer(content[:4].ljust(4), f"{order}i4")[0])
        if length not in NIFTI_HEADERS or len(content) < length:
            continue
        formats, offsets = zip(*NIFTI_HEADERS[length].values(), strict=True)
        names = list(NIFTI_HEADERS[length])
        layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": length})
        fields = np.frombuffer(content[:length], layout.newbyteorder(order))[0]
        if fields["magic"] in (b"n+1", b"n+2"):
            return fields
        if fields["magic"] in (b"ni1", b"ni2"):
            raise unreadable("a header alone, whose voxels are in another file, allowed: one file")
    raise unreadable("no NIfTI header" if content else "an empty file")


def _nifti_affine(fields: np.void) -> np.ndarray:
    """The grid: by the sform, else by the qform; without any, columns, rows and slices go to the left, back and head.

    NIfTI's own frame is RAS (x to the right, y to the front). The last case is as SimpleITK has it.
    """
    units = NIFTI_UNITS.get(int(fields["xyzt_units"]) & 7, 1.0)
    pixdim = fields["pixdim"].astype(float)
    affine = np.eye(4)
    if fields["sform_code"] <= 0 and not (pixdim[1:4] > 0).all():
        raise unreadable("pixdim of 0 or less, allowed: above 0")
    if fields["sform_code"] > 0:
        affine[:3] = fields["srow"]
    elif fields["qform_code"] > 0:
        b, c, d = quatern = fields["quatern"].astype(float)
        if not quatern @ quatern < MOST_QUATERNION:
            raise unreadable("a quaternion of no rotation, allowed: a length of 1 or less")
        a = math.sqrt(max(0.0, 1 - float(quatern @ quatern)))
        flipped = -1 if pixdim[0] < 0 else 1
        from scipy.spatial.transform import Rotation  # slow to load, for what few headers need

        affine[:3, :3] = Rotation.from_quat([b, c, d, a]).as_matrix() * pixdim[1:4] * [1, 1, flipped]
        affine[:3, 3] = fields["qoffset"]
    else:
        affine[:3, :3] = np.diag(pixdim[1:4] * [-1, -1, 1])
    affine[:3] *= units
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


# MetaImage


def _read_metaimage(path: Path) -> VolumeHeader:
    fields, end = _metaimage_fields(path)
    if fields.get("ObjectType", "Image") != "Image":
        raise unreadable("another ObjectType, allowed: Image")
    [dimensions] = _numbers(fields, ("NDims",), 1, default=[3.0])
    [values] = _numbers(fields, ("ElementNumberOfChannels",), 1, default=[1.0])
    _check_volume(int(dimensions), int(values))
    numbers = _numbers(fields, ("DimSize",), 3)
    if not all(length >= 1 and length.is_integer() for length in numbers):
        raise unreadable("DimSize that is not 3 whole numbers above 0")
    size = [int(length) for length in numbers]
    kind = fields.get("ElementType", "")
    if kind not in METAIMAGE_TYPES:
        raise unreadable(f"another ElementType, allowed: {', '.join(METAIMAGE_TYPES)}")
    if not _is_true(fields, ("BinaryData",), default=True):
        raise unreadable("voxels as text, allowed: BinaryData = True")
    dtype = np.dtype(METAIMAGE_TYPES[kind]).newbyteorder(">" if _is_true(fields, BYTE_ORDER_KEYS) else "<")
    affine = np.eye(4)
    # Each row of the matrix is the direction of an axis.
    direction = np.reshape(_numbers(fields, DIRECTION_KEYS, 9, default=np.eye(3).ravel().tolist()), (3, 3)).T
    spacing = _numbers(fields, SPACING_KEYS, 3, default=[1.0] * 3)
    if min(spacing) <= 0:
        raise unreadable("ElementSpacing of 0 or less, allowed: above 0")
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = _numbers(fields, ORIGIN_KEYS, 3, default=[0.0] * 3)
    slope = _numbers(fields, ("ElementToIntensityFunctionSlope",), 1, default=[1.0])
    intercept = _numbers(fields, ("ElementToIntensityFunctionOffset",), 1, default=[0.0])
    file, start = _metaimage_data(path, fields["ElementDataFile"], end)
    [skipped] = _numbers(fields, ("HeaderSize",), 1, default=[0.0])
    if skipped > 0:
        start = int(skipped)
    elif skipped < 0:  # the voxels are at the end
        start = file.stat().st_size - math.prod(size) * dtype.itemsize
        if start < 0:
            raise truncated(file.stat().st_size, math.prod(size) * dtype.itemsize)
    packed = "zlib" if _is_true(fields, ("CompressedData",)) else ""
    return VolumeHeader((size[2], size[1], size[0]), dtype, affine, file, start, packed, slope[0], intercept[0])


def _metaimage_fields(path: Path) -> tuple[dict[str, str], int]:
    """The lines `key = value` down to ElementDataFile, which is the last, and the byte where they end."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        content = file.read(TEXT_BYTES)
    end = 0
    for line in BytesIO(content):
        end += len(line)
        key, _, value = os.fsdecode(line).partition("=")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields, end
    raise unreadable("no ElementDataFile in the header" if fields.get("ObjectType") else "no MetaImage header")


def _metaimage_data(path: Path, name: str, end: int) -> tuple[Path, int]:
    """The file that holds the voxels, and the byte where they begin if HeaderSize says nothing else."""
    if name in ("LOCAL", "local", "Local"):
        return path, end
    parts = PurePosixPath(name)
    if name == "LIST" or name.startswith("LIST ") or "%" in name:
        raise unreadable("voxels in several files, allowed: one")
    if not name or parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise unreadable("ElementDataFile outside the header's folder, allowed: a file beside it")
    for part in parts.parts:
        _check_name(part)
    file = path.parent / parts
    if not file.is_file():
        raise unreadable("no ElementDataFile of that name, allowed: a file beside the header")
    return file, 0


# NRRD


def _read_nrrd(path: Path) -> VolumeHeader:
    fields, start = _nrrd_fields(path)
    [dimensions] = _numbers(fields, ("dimension",), 1)
    _check_volume(int(dimensions), 1)
    sizes = _numbers(fields, ("sizes",), 3)
    if not all(length >= 1 and length.is_integer() for length in sizes):
        raise unreadable("sizes that are not 3 whole numbers above 0")
    columns, rows, slices = (int(length) for length in sizes)
    if (kind := fields.get("type", "").lower()) not in NRRD_TYPES:
        raise unreadable(f"another type, allowed: {', '.join(NRRD_TYPES)}")
    if (encoding := fields.get("encoding", "").lower()) not in NRRD_PACKED:
        raise unreadable(f"another encoding, allowed: {' | '.join(NRRD_PACKED)}")
    if any(_numbers(fields, (key,), 1, default=[0.0]) != [0.0] for key in ("line skip", "byte skip")):
        raise unreadable("a skip before the voxels, allowed: none")
    dtype = np.dtype(NRRD_TYPES[kind]).newbyteorder(">" if fields.get("endian", "").lower() == "big" else "<")
    file = path
    if name := fields.get("data file", fields.get("datafile")):
        file, start = _metaimage_data(path, name.removeprefix("./"), 0)
    return VolumeHeader((slices, rows, columns), dtype, _nrrd_affine(fields), file, start, NRRD_PACKED[encoding])


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """The lines `key: value` down to an empty one, keys in small letters, and the byte where they end."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        content = file.read(TEXT_BYTES)
    if not content.startswith(b"NRRD000"):
        raise unreadable("no NRRD header" if content else "an empty file")
    end = 0
    for line in BytesIO(content):
        end += len(line)
        if not (text := os.fsdecode(line).strip()):
            break
        key, colon, value = text.partition(": ")
        if colon and not text.startswith("#"):
            fields[key.strip().lower()] = value.strip()
    return fields, end


def _nrrd_affine(fields: dict[str, str]) -> np.ndarray:
    affine = np.eye(4)
    if "space directions" in fields:
        across, down = NRRD_SPACES.get(fields.get("space", "").lower(), (1.0, 1.0))
        plain = {key: re.sub("[(),]", " ", fields.get(key, "")) for key in ("space directions", "space origin")}
        directions = _numbers(plain, ("space directions",), 9)
        origin = _numbers(plain, ("space origin",), 3) if plain["space origin"] else [0.0] * 3
        affine[:3, :3] = np.reshape(directions, (3, 3)).T
        affine[:3, 3] = origin
        return np.diag([across, down, 1.0, 1.0]) @ affine
    spacings = _numbers(fields, ("spacings",), 3, default=[1.0] * 3)
    if min(spacings) <= 0:
        raise unreadable("spacings of 0 or less, allowed: above 0")
    affine[:3, :3] = np.diag(spacings)
    return affine


def _numbers(
    fields: dict[str, str], keys: tuple[str, ...], count: int, default: list[float] | None = None
) -> list[float]:
    """The numbers of the first of these keys that is there."""
    text = next((fields[key] for key in keys if key in fields), None)
    if text is None and default is not None:
        return default
    try:
        numbers = [float(word) for word in (text or "").split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise unreadable(f"{keys[0]} that is not {count} number{'s' * (count > 1)}")
    return numbers


def _is_true(fields: dict[str, str], keys: tuple[str, ...], default: bool = False) -> bool:
    text = next((fields[key] for key in keys if key in fields), str(default))
    return text[:1].lower() in ("t", "1", "y")
