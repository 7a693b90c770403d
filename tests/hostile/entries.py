"""The library's readers, called as the workflow's jobs call them, and what is to come out of the healthy files."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator
from os import mkfifo, symlink
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from scangan import config
from scangan.data.scan_store import BatchFiles, gather_batches, read_scans
from scangan.data.store import ImageWriter, read_image_set
from scangan.ingest.cohort import Ingested
from scangan.ingest.readers import READERS
from scangan.rejected import read_rejected
from tests.hostile.harness import Answer, Place
from tests.unit.dicom_files import write_series

SIZE = 8  # of images
CLASSES = {"sick": "sick", "healthy": "healthy"}
# Grey values of the healthy images, by class folder and name.
GREYS = {"sick/a": 40, "sick/b": 80, "healthy/c": 120, "healthy/d": 160}
SCAN_SHAPE, SPACING_MM = (6, 16, 20), 2.5


def rejected_lines(rejected: pd.DataFrame) -> list[tuple[str, ...]]:
    """A table of rejections as lines."""
    return list(rejected[["source", "reason", "found", "remedy"]].itertuples(index=False, name=None))


def grey_image(grey: int) -> Image.Image:
    return Image.new("L", (SIZE, SIZE), grey)


def write_images(folder: Path) -> None:
    """The healthy images of two classes."""
    for name, grey in GREYS.items():
        file = folder / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        grey_image(grey).save(file)


def ingest(place: Place, settings: config.Images | config.Brats) -> tuple[pd.DataFrame, np.ndarray, Ingested]:
    """As the rule `ingest_images` does it: everything is written, and read again. Manifest, images, tables."""
    shape = (settings.channels, settings.image_size, settings.image_size)
    files = place.results / "images.zarr.zip", place.results / "manifest.parquet"
    with ImageWriter(*files, shape) as writer:
        ingested = READERS[settings.reader].read(place.input, settings, "real", writer.append)
    for name in ("rejected", "official", "dropped"):
        getattr(ingested, name).to_csv(place.results / f"{name}.csv", index=False)
    read_rejected(place.results / "rejected.csv")
    cohort = read_image_set(*files, verify=True)
    return cohort.manifest, cohort.images, ingested


def read_image_folder(place: Place, grey: int | None = None, classes: dict[str, str] | None = None) -> Answer:
    """Healthy images and a hostile one. grey: what it shows, if it can be read right."""
    settings = config.ImageFolder(root="mine", classes=classes or CLASSES, image_size=SIZE, max_rejected=0.9)
    manifest, images, ingested = ingest(place, settings)
    answer = Answer(lines=rejected_lines(ingested.rejected))
    found = dict(zip(manifest.image_id, images, strict=True))
    for name, healthy in GREYS.items():
        _check_grey(answer, name, found.pop(name, None), healthy)
    answer.taken = bool(found)
    for name, image in found.items() if grey is not None else ():
        _check_grey(answer, name, image, grey)
    return answer


def _check_grey(answer: Answer, name: str, image: np.ndarray | None, grey: int) -> None:
    if image is None:
        answer.problems.append(f"a healthy image is lost: {name}")
    elif np.abs(image - grey / 255).max() > 3 / 255:  # JPEG keeps grey to a step or two
        answer.problems.append(f"{name}: {image.mean() * 255:.0f} where the file has {grey}")


def hounsfield(seed: int) -> np.ndarray:
    """A scan without structure, so that nothing is confused: int16 of `SCAN_SHAPE`."""
    return np.random.default_rng(seed).integers(-1000, 2000, SCAN_SHAPE, dtype=np.int16)


HEALTHY_SCAN, HOSTILE_SCAN = hounsfield(1), hounsfield(2)


def write_scan(folder: Path, values: np.ndarray, number: int, edit: Callable = lambda dataset, index: None, **options):
    """A series on the grid that the ingestion asks for, so that its voxels come out as they are. Returns the files."""

    def edit_all(dataset, index):
        dataset.PatientID, dataset.PatientName = f"patient-{number}", "Roe^Richard"
        dataset.SOPInstanceUID = f"1.2.840.99.{number}.{index + 1}"
        edit(dataset, index)

    uid = f"1.2.840.99.{number}"
    placed = {"pixel_spacing": (SPACING_MM,) * 2, "step": (0, 0, SPACING_MM), "series_uid": uid, "edit": edit_all}
    return write_series(folder, values, **placed | options)


def read_scan_folder(place: Place, exact: bool = True) -> Answer:
    """A healthy series and a hostile scan. exact: what is read of that must be `HOSTILE_SCAN`."""
    index, listed = index_all(place)
    files = BatchFiles(*(place.results / name for name in ("volumes.zip", "scans", "nodules", "rejected")))
    from scangan.ingest.scans import ingest_batch

    settings = config.Ingestion(annotations="none", spacing_mm=SPACING_MM)
    ingest_batch(place.input, index, 0, settings, files)
    scans, _, rejected = gather_batches([files], listed, config.Gathering(max_rejected=0.99))
    rejected.to_csv(place.results / "rejected.csv", index=False)
    answer = Answer(lines=rejected_lines(read_rejected(place.results / "rejected.csv")))
    volumes = [voxels for _, voxels, _, _ in read_scans([files.volumes], scans)]
    others = [voxels for voxels in volumes if not np.array_equal(voxels, HEALTHY_SCAN)]
    if len(others) == len(volumes):
        answer.problems.append("the healthy scan is lost")
    answer.taken = bool(others)
    if exact and any(not np.array_equal(voxels, HOSTILE_SCAN) for voxels in others):
        answer.problems.append("other voxels than the files hold")
    return answer


def index_all(place: Place) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As the rule `index_scans` does it."""
    from scangan.ingest.scan_index import index_scans

    tables = index_scans(place.input, config.Indexing(batches=1), "real")
    for table, name in zip(tables, ("index.parquet", "index_rejected.parquet"), strict=True):
        table.to_parquet(place.results / name, index=False)
    return tuple(pd.read_parquet(place.results / name) for name in ("index.parquet", "index_rejected.parquet"))


# What lies where a file is expected


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def broken_link(path: Path) -> None:
    symlink("nowhere", path)


def link_to_itself(path: Path) -> None:
    symlink(path.name, path)


def fifo(path: Path) -> None:
    mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path.relative_to(Path.cwd())))  # such names are short


def link_to_device(path: Path) -> None:
    symlink("/dev/zero", path)


def link_to_parent(path: Path) -> None:
    symlink("..", path)


NO_FILES = (folder, broken_link, link_to_itself, fifo, unix_socket, link_to_device, link_to_parent)

# Bytes that lie


def zeros_deflated(megabytes: int, window_bits: int = 15) -> bytes:
    """A zlib (or, with -15, raw) stream of zeros, made at once: a block after a full flush is always the same."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    million = bytes(2**20)
    first = packer.compress(million) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(million) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1) + packer.flush()


def damaged(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Ways in which a file is damaged: cut, flipped, emptied, exchanged."""
    size = len(whole)
    yield "empty", b""
    yield "one_byte", whole[:1]
    for share in (0.1, 0.5, 0.9):
        yield f"cut_{share:.0%}".rstrip("%"), whole[: int(size * share)]
    yield "cut_last_byte", whole[:-1]
    for share in (0.02, 0.25, 0.5, 0.75, 0.98):
        place = int(size * share)
        yield f"flip_{share:.0%}".rstrip("%"), whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    yield "zeros", bytes(size)
    yield "text", b"<!DOCTYPE html><title>404 Not Found</title>\n" * 3
    yield "doubled", whole + whole
