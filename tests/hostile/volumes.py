"""NIfTI and MetaImage files whose headers lie, that are bombs, damaged, or no files at all; as scans, and in BRATS."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import nibabel
import numpy as np

from scangan import config
from tests.hostile.entries import (
    HEALTHY_SCAN,
    HOSTILE_SCAN,
    NO_FILES,
    SPACING_MM,
    damaged,
    ingest,
    read_scan_folder,
    rejected_lines,
    write_scan,
    zeros_deflated,
)
from tests.hostile.harness import Answer, Case, Place

# Where a NIfTI-1 header keeps what, and as what.
FIELDS = {"sizeof_hdr": (0, "i"), "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f")}
FIELDS |= {"vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"), "qform_code": (252, "h")}
FIELDS |= {"sform_code": (254, "h"), "srow_x": (280, "4f"), "magic": (344, "4s")}
NAN, INF = float("nan"), float("inf")
LIES: dict[str, list[tuple]] = {
    "sizeof_hdr": [(0,), (540,), (-1,), (2**31 - 1,)],
    "dim": [
        (0, 20, 16, 6, 1, 1, 1, 1),
        (3, 0, 16, 6, 1, 1, 1, 1),
        (3, -20, 16, 6, 1, 1, 1, 1),
        (3, 32767, 32767, 32767, 1, 1, 1, 1),
        (3, 20, 16, 7, 1, 1, 1, 1),
        (3, 20, 16, 5, 1, 1, 1, 1),
        (7, 2, 2, 2, 2, 2, 2, 2),
        (4, 20, 16, 3, 2, 1, 1, 1),
        (8, 20, 16, 6, 1, 1, 1, 1),
        (2, 20, 16, 6, 1, 1, 1, 1),
        (-3, 20, 16, 6, 1, 1, 1, 1),
    ],
    "datatype": [(0,), (1,), (128,), (32,), (2,), (64,), (1536,), (9999,), (-1,)],
    "bitpix": [(0,), (8,), (64,), (-16,)],
    "pixdim": [(0, 0, 0, 0, 0, 0, 0, 0), (1, NAN, NAN, NAN, 0, 0, 0, 0), (1, INF, 1, 1, 0, 0, 0, 0),
               (1, -1, -1, -1, 0, 0, 0, 0)],
    "vox_offset": [(0,), (NAN,), (-352,), (1e30,), (351.5,), (1000,)],
    "scl_slope": [(NAN,), (INF,), (0,), (1e30,), (-1,)],
    "scl_inter": [(NAN,), (1e30,)],
    "sform_code": [(-1,), (99,)],
    "srow_x": [(0, 0, 0, 0), (NAN, 0, 0, 0), (1e38, 0, 0, 0), (0, 1, 0, 0)],
    "magic": [(b"\0\0\0\0",), (b"n+2\0",), (b"ni1\0",)],
}  # fmt: skip
# Both forms of orientation are kept beside these; what they say may be used where these are no numbers.
OTHER_VOXELS = ("scl", "pixdim", "sform", "srow", "dim", "vox", "datatype", "bitpix")


@cache
def nifti(values: bytes = HOSTILE_SCAN.tobytes()) -> bytes:
    """The hostile scan, whole and right, on the grid that the ingestion asks for."""
    array = np.frombuffer(values, np.int16).reshape(HOSTILE_SCAN.shape)
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1]))
    return image.to_bytes()


def lie(field: str, values: tuple) -> bytes:
    place, form = FIELDS[field]
    packed = struct.pack("<" + form, *values)
    whole = nifti()
    return whole[:place] + packed + whole[place + len(packed) :]


def gz_bomb(shape: tuple[int, int, int], megabytes: int) -> bytes:
    """A header of a volume of this shape, and gigabytes of zeros."""
    head = lie("dim", (3, *shape, 1, 1, 1, 1))[:352]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed + zeros_deflated(megabytes, -15) + struct.pack("<II", 0, 0)


def meta(data: str = "LOCAL", **fields: object) -> bytes:
    """The hostile scan as MetaImage, with other fields in its header (None: without)."""
    depth, height, width = HOSTILE_SCAN.shape
    said: dict[str, object] = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
    }
    said |= {"CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0"}
    said |= {"ElementSpacing": f"{SPACING_MM} " * 3, "DimSize": f"{width} {height} {depth}", "ElementType": "MET_SHORT"}
    said |= fields | {"ElementDataFile": data}
    lines = "".join(f"{name} = {value}\n" for name, value in said.items() if value is not None)
    return lines.encode() + (HOSTILE_SCAN.tobytes() if data == "LOCAL" else b"")


META_LIES: dict[str, dict[str, object]] = {
    "no_dimensions": {"NDims": 0},
    "many_dimensions": {"NDims": 11},
    "negative_dimensions": {"NDims": -3},
    "no_size": {"DimSize": None},
    "huge": {"DimSize": "60000 60000 60000"},
    "overflow": {"DimSize": "4294967296 4294967296 4294967296"},
    "negative_size": {"DimSize": "-20 16 6"},
    "one_slice_more": {"DimSize": "20 16 7"},
    "size_of_words": {"DimSize": "a b c"},
    "unknown_type": {"ElementType": "MET_BANANA"},
    "array_type": {"ElementType": "MET_DOUBLE"},
    "no_spacing": {"ElementSpacing": "0 0 0"},
    "spacing_nan": {"ElementSpacing": "nan nan nan"},
    "singular": {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
    "sheared": {"TransformMatrix": "1 1 0 0 1 0 0 0 1"},
    "origin_nan": {"Offset": "nan 0 0"},
    "channels": {"ElementNumberOfChannels": "100000"},
    "compressed_it_says": {"CompressedData": "True"},
    "text_it_says": {"BinaryData": "False"},
    "header_size": {"HeaderSize": "-2"},
    "header_size_beyond": {"HeaderSize": str(2**40)},
    "long_line": {"Comment": "x" * 10**6},
    "no_object": {"ObjectType": None},
    "another_object": {"ObjectType": "Mesh"},
}


# Where else than in its own file a MetaImage header may say that its voxels are.
ELSEWHERE = {"climbs": "../secret.raw", "absolute": "OUTSIDE", "missing": "none.raw", "device": "/dev/zero"}
ELSEWHERE |= {"list": "LIST", "pattern": "%s%s%n.raw 1 6 1", "itself": "hostile.mhd", "folder": "good"}


def meta_bomb() -> bytes:
    packed = zeros_deflated(3000)
    head = meta("X", DimSize="1200 1200 1092", CompressedData="True", CompressedDataSize=len(packed))
    return head.replace(b"= X\n", b"= LOCAL\n") + packed


def write(name: str, content: bytes | Callable[[], bytes], folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content())


def write_no_file(make: Callable[[Path], None], folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    make(folder / "hostile.nii.gz")


def unreadable(path: Path) -> None:
    path.write_bytes(gzip.compress(nifti()))
    path.chmod(0)


def write_header_and_secret(data: str, folder: Path) -> None:
    """A MetaImage header whose voxels are to be taken from a file that is none of its own."""
    (folder.parent / "secret.raw").write_bytes(HOSTILE_SCAN.tobytes())
    write("hostile.mhd", meta(data.replace("OUTSIDE", str(folder.parent / "secret.raw"))), folder)


# BRATS


def brats_patient(folder: Path, seed: int, change: Callable[[Path], None] = lambda path: None) -> None:
    """A head of 24 slices with a tumour in half of them, in files as BRATS has them."""
    generator = np.random.default_rng(seed)
    t1c = np.zeros((20, 24, 24), np.int16)
    t1c[4:16, 4:20] = generator.integers(200, 600, (12, 16, 24))
    labels = np.zeros(t1c.shape, np.uint8)
    labels[6:10, 6:12, 12:] = 1
    folder.mkdir()
    for name, values in (("t1ce", t1c), ("seg", labels)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1, 1, 1])), folder / f"{folder.name}_{name}.nii.gz")
    change(folder / f"{folder.name}_t1ce.nii.gz")


def write_brats(content: bytes | Callable[[], bytes], folder: Path) -> None:
    brats_patient(folder / "BraTS19_good_1_1", 1)
    brats_patient(
        folder / "BraTS19_bad_1_1",
        2,
        lambda path: path.write_bytes(content if isinstance(content, bytes) else content()),
    )


def write_brats_changed(change: Callable[[Path], None], folder: Path) -> None:
    brats_patient(folder / "BraTS19_good_1_1", 1)
    brats_patient(folder / "BraTS19_bad_1_1", 2, change)


def remove(path: Path) -> None:
    path.unlink()


def second_sequence(path: Path) -> None:
    path.with_name("other_t1ce.nii.gz").write_bytes(path.read_bytes())


def instead(make: Callable[[Path], None], path: Path) -> None:
    path.unlink()
    make(path)


def read_brats(place: Place) -> Answer:
    settings = config.Brats(
        reader="brats", root="brain", slices=(1, 23), brain_mm2=(50, 400), tumour_mm2=(0, 10), boundary_slices=1,
        padded_size=32, image_size=32, max_rejected=0.9,
    )  # fmt: skip
    manifest, _, ingested = ingest(place, settings)
    answer = Answer(lines=rejected_lines(ingested.rejected))
    patients = set(manifest.patient_id)
    if "BraTS19_good_1_1" not in patients:
        answer.problems.append("the healthy patient is lost")
    answer.taken = len(patients) > 1
    return answer


def cases() -> Iterator[Case]:
    for suffix, content in (("nii", nifti()), ("nii.gz", gzip.compress(nifti(), mtime=0)), ("mha", meta())):
        yield Case(f"volumes/whole/{suffix}", partial(write, f"hostile.{suffix}", content), read_scan_folder, "read")
        for name, bad in damaged(content):
            # Flipped voxels are other voxels.
            read = partial(read_scan_folder, exact=not name.startswith("flip"))
            yield Case(f"volumes/damaged/{suffix}_{name}", partial(write, f"hostile.{suffix}", bad), read)
    for field, values in LIES.items():
        for number, value in enumerate(values):
            read = partial(read_scan_folder, exact=not field.startswith(OTHER_VOXELS))
            yield Case(f"volumes/nifti/{field}_{number}", partial(write, "hostile.nii", lie(field, value)), read)
    yield Case(
        "volumes/bombs/gz_header_too",
        partial(write, "bomb.nii.gz", partial(gz_bomb, (1200, 1200, 1092), 3000)),
        partial(read_scan_folder, exact=False),
        "line",
    )
    yield Case(
        "volumes/bombs/gz_of_a_small_volume",
        partial(write, "bomb.nii.gz", partial(gz_bomb, (20, 16, 6), 6000)),
        partial(read_scan_folder, exact=False),
    )
    yield Case(
        "volumes/bombs/mha", partial(write, "bomb.mha", meta_bomb), partial(read_scan_folder, exact=False), "line"
    )
    for name, fields in META_LIES.items():
        read = partial(read_scan_folder, exact=False)
        yield Case(f"volumes/meta/{name}", partial(write, "hostile.mha", meta(**fields)), read)
    for name, data in ELSEWHERE.items():
        may = "either" if name in ("itself",) else "line"
        yield Case(
            f"volumes/meta/data_{name}",
            partial(write_header_and_secret, data),
            partial(read_scan_folder, exact=False),
            may,
        )
    for make in NO_FILES[1:]:  # an empty folder is no input
        yield Case(f"volumes/no_file/{make.__name__}", partial(write_no_file, make), read_scan_folder)
    yield Case("volumes/no_file/unreadable", partial(write_no_file, unreadable), read_scan_folder, "line", True)

    packed = gzip.compress(nifti(), mtime=0)
    for name, content in damaged(packed):
        yield Case(f"volumes/brats/{name}", partial(write_brats, content), read_brats)
    yield Case(
        "volumes/brats/bomb", partial(write_brats, partial(gz_bomb, (1200, 1200, 1092), 3000)), read_brats, "line"
    )
    for change, may in ((remove, "line"), (second_sequence, "read")):
        yield Case(f"volumes/brats/{change.__name__}", partial(write_brats_changed, change), read_brats, may)
    for make in NO_FILES:
        change = partial(write_brats_changed, partial(instead, make))
        yield Case(f"volumes/brats/{make.__name__}", change, read_brats, "line")


CASES = list(cases())
