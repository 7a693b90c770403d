"""Images in files: what the readers of such sets share, from a listing of files to pixels and manifest rows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from scangan.config import Images
from scangan.data.store import fit_square, stretch_square
from scangan.errors import DataError
from scangan.ingest.cohort import OFFICIAL_COLUMNS, Append, Ingested
from scangan.ingest.listing import NOT_DATA
from scangan.rejected import Rejection, Unusable, check_rejected, rejected_table

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BATCH = 64  # images in memory at once


class Listed(NamedTuple):
    """An image to read."""

    file: Path
    image_id: str
    label: str
    patient_id: str


def read_listed(
    root: Path,
    listing: Sequence[Listed],
    rejected: Sequence[Rejection],
    settings: Images,
    data: str,
    append: Append,
    *,
    opaque: bool = False,
    parts: Mapping[str, str] | None = None,
) -> Ingested:
    """Read the images of a listing, in the order of their files, see `readers.Reader.read`.

    rejected: what was left out of the listing. Images become squares of `settings.image_size`, as `settings.fit` says;
    their spacing is unknown. opaque: whether transparent pixels make an image unusable. parts: image id -> its part in
    the data set's own split; an image that cannot be read has none.
    """
    rejected = list(rejected)
    make_square = {"pad": fit_square, "stretch": stretch_square}[settings.fit]
    labels: Counter[str] = Counter()
    in_order, official = sorted(listing), []
    for first in range(0, len(in_order), BATCH):
        images, rows = [], []
        for file, image_id, label, patient_id in in_order[first : first + BATCH]:
            source = source_of(file, root)
            try:
                pixels = read_image(file, settings.channels, opaque=opaque)
            except Unusable as error:
                rejected.append(error.of(source))
                continue
            # Decoders meet damaged files with nearly any exception; whichever it is, this image is left out.
            except Exception as error:
                found = " ".join(str(error).replace(str(root), "").split()) or type(error).__name__
                rejected.append(Rejection(source, "unreadable image", found, "replace the file, or remove it"))
                continue
            images.append(make_square(pixels, settings.image_size))
            rows.append((image_id, patient_id, label, source, data))
            labels[label] += 1
            if parts and image_id in parts:
                official.append((image_id, parts[image_id]))
        if rows:
            columns = ["image_id", "patient_id", "label", "source", "data"]
            append(np.stack(images), pd.DataFrame(rows, columns=columns, dtype="str").assign(spacing_mm=np.nan))

    table = rejected_table(rejected)
    check_rejected(table, labels.total(), settings.max_rejected, root, "images", " ".join(SUFFIXES))
    for name, value in settings.classes.items():
        if not labels[name]:
            raise DataError(f"{root}: classes.{name}: found no usable image of value '{value}', allowed: at least 1")
    log.info("%s: %d images (%s)", root, labels.total(), dict(labels.most_common()))
    return Ingested(table, pd.DataFrame(official, columns=OFFICIAL_COLUMNS, dtype="str"))


def read_image(file: Path, channels: int, opaque: bool = False) -> np.ndarray:
    """Pixels of a PNG, JPEG, TIFF or BMP file: float32 [channels, H, W] in [0, 1].

    8 bits are scaled by 255 and 16 bits by 65535; alpha is composited on black, colour becomes luminance for one
    channel, grey is repeated for three. Pillow reads 16-bit colour at 8 bits; 16-bit grey keeps its depth.
    Raises Unusable for other depths, for several pages and, with `opaque`, for any transparent pixel; and whatever
    Pillow raises on a damaged file.
    """
    with Image.open(file, formats=FORMATS) as opened:
        if isinstance(opened, TiffImageFile) and opened.n_frames > 1:
            raise Unusable("several pages", f"{opened.n_frames}, allowed: 1", "save each page as a file of its own")
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image, np.float32)[..., None] / 65535
    elif image.mode in ("I", "F"):
        found = f"mode {image.mode} (32 bit), allowed: 8 or 16 bit"
        raise Unusable("pixels of another depth", found, "save the image in 8 or 16 bit")
    else:
        # Palettes and keyed-out colours carry their transparency only into RGBA.
        has_alpha = image.has_transparency_data or image.mode == "P"
        grey = image.mode in ("1", "L")
        mode = "RGBA" if has_alpha else "L" if grey else "RGB"
        pixels = np.asarray(image.convert(mode), np.float32) / 255
        if has_alpha:
            if opaque and (see_through := (pixels[..., 3] < 1).mean()):
                found = f"{see_through:.1%} of the pixels, allowed: none"
                raise Unusable("transparent pixels", found, "replace the file, or remove it")
            pixels = pixels[..., :3] * pixels[..., 3:]
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    if channels == 1 and pixels.shape[2] == 3:
        pixels = (pixels @ LUMINANCE)[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], channels)).transpose(2, 0, 1))


def source_of(file: Path, root: Path) -> str:
    """What names a file in a manifest and among the rejected: its path below the root."""
    return file.relative_to(root).as_posix()


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, in order; what is hidden, or left by a system, is not looked at."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") or part in NOT_DATA for part in path.relative_to(folder).parts)
    )


def same_id(file: Path, same: Sequence[Path], root: Path) -> Rejection:
    """The rejection of a file because of others that have its id."""
    others = ", ".join(source_of(other, root) for other in same if other != file)
    reason, remedy = "another file has the same id", "give each image a name of its own"
    return Rejection(source_of(file, root), reason, others, remedy)
