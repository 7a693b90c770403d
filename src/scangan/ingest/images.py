"""Images in files: what the readers of such sets share, from a listing of files to pixels and manifest rows."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from scangan.config import Classes, Images
from scangan.data.store import fit_square, stretch_square
from scangan.errors import DataError
from scangan.ingest.cohort import OFFICIAL_COLUMNS, Append, Ingested
from scangan.ingest.dicom_image import read_dicom_image
from scangan.ingest.patients import patient_in_path
from scangan.ingest.pseudonyms import Pseudonyms, open_key
from scangan.ingest.volume_headers import SUFFIXES as VOLUME_SUFFIXES
from scangan.rejected import Rejection, Unusable, check_rejected, printable, rejected_table

log = logging.getLogger(__name__)

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".j2k", ".pgm", ".ppm"),
    *DICOM_SUFFIXES,
)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
SNIFFED = tuple(name for name in FORMATS if name != "PPM")  # whose two letters any text may begin with
OF_PAGES = ("TIFF", "GIF", "WEBP")
MOST_PIXELS = 50_000_000  # above any radiograph; what is larger is a slide, or a bomb
BITS_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
USUAL_BITS = (10, 12, 14)  # that detectors have, and 16-bit files are filled with
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BATCH = 64  # images in memory at once
MOST_SAID = 200  # letters of what a decoder says


class Listed(NamedTuple):
    """An image to read. patient_id: None where no table, folder or name says whose it is."""

    file: Path
    image_id: str
    label: str
    patient_id: str | None


class Picture(NamedTuple):
    """What an image file, or a volume, shows.

    pixels: float32 [C, H, W], or [C, D, H, W], in [0, 1]. scale: what became white. highest: the greatest value that a
    16-bit grey image stores, 0 for others. patient_id: as a DICOM header has it, or empty. spacing_mm: NaN if unknown.
    """

    pixels: np.ndarray
    scale: str
    highest: int = 0
    patient_id: str = ""
    spacing_mm: float = np.nan


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
    their spacing is unknown. An image of nobody is the patient of its DICOM header (by a pseudonym), or one of its own.
    opaque: whether transparent pixels make an image unusable. parts: image id -> its part in the data set's own split;
    an image that cannot be read has none.
    """
    make_square = {"pad": fit_square, "stretch": stretch_square}[settings.fit]

    def read(listed: Listed) -> Picture:
        try:
            picture = read_image(listed.file, settings.channels, settings.bits, opaque=opaque)
        except Unusable as error:
            # Other kinds of DICOM files count for nothing; what is called an image was to be one.
            error.counted |= listed.file.suffix.lower() in SUFFIXES
            raise
        return picture._replace(pixels=make_square(picture.pixels, settings.image_size))

    return read_all(read, root, listing, rejected, settings, data, append, " ".join(SUFFIXES), parts=parts)


def read_all(
    read: Callable[[Listed], Picture],
    root: Path,
    listing: Sequence[Listed],
    rejected: Sequence[Rejection],
    settings: Classes,
    data: str,
    append: Append,
    allowed: str,
    *,
    parts: Mapping[str, str] | None = None,
    at_once: int = BATCH,
) -> Ingested:
    """The same with another way to read one of them, which raises Unusable, or anything else on a damaged file.

    allowed: what a usable one would have been. at_once: so many are in memory.
    """
    rejected = list(rejected)
    labels: Counter[str] = Counter()
    scales: Counter[str] = Counter()
    highest: dict[str, int] = defaultdict(int)
    pseudonyms = cache(lambda: Pseudonyms(open_key(root)[0]))
    what = "volumes" if settings.DIMENSIONS == 3 else "images"
    in_order, official = sorted(listing, key=lambda listed: listed.file), []
    for first in range(0, len(in_order), at_once):
        images, rows = [], []
        for listed in in_order[first : first + at_once]:
            file, image_id, label, patient_id = listed
            source = source_of(file, root)
            try:
                picture = read(listed)
            except Unusable as error:
                rejected.append(error.of(source))
                continue
            # Decoders meet damaged files with nearly any exception; whichever it is, this image is left out.
            except Exception as error:
                said = str(error).replace(str(file), "the file").replace(str(root), "")
                found = " ".join(said.split())[:MOST_SAID] or "a damaged file"
                rejected.append(Rejection(source, "unreadable image", found, "replace the file, or remove it"))
                continue
            if patient_id is None:
                patient_id = pseudonyms().patient(picture.patient_id) if picture.patient_id else image_id
            images.append(picture.pixels)
            rows.append((image_id, patient_id, label, source, data, picture.spacing_mm))
            labels[label] += 1
            scales[picture.scale] += 1
            highest[picture.scale] = max(highest[picture.scale], picture.highest)
            if parts and image_id in parts:
                official.append((image_id, parts[image_id]))
        if rows:
            columns = ["image_id", "patient_id", "label", "source", "data", "spacing_mm"]
            types = dict.fromkeys(columns[:-1], "str")
            append(np.stack(images), pd.DataFrame(rows, columns=columns).astype(types))

    table = rejected_table(rejected)
    check_rejected(table, labels.total(), settings.max_rejected, root, what, allowed)
    for name, value in settings.classes.items():
        if not labels[name]:
            raise DataError(
                f"{root}: classes.{name}: found no usable {what.removesuffix('s')} of value '{printable(str(value))}', "
                "allowed: at least 1"
            )
    log.info("%s: %d %s (%s)", root, labels.total(), what, dict(labels.most_common()))
    notes = [
        "grey scale: "
        + ", ".join(f"{scale} in {count} {what[: None if count > 1 else -1]}" for scale, count in scales.most_common())
    ]
    notes += [dark for scale in scales if (dark := _too_dark(scale, highest[scale]))]
    for note in notes[1:]:
        log.warning("%s: %s", root, note)
    official_table = pd.DataFrame(official, columns=OFFICIAL_COLUMNS, dtype="str")
    return Ingested(table, official_table, notes=tuple(notes))


def _too_dark(scale: str, highest: int) -> str:
    """What to say of 16-bit images of which none comes near white."""
    bits = next((bits for bits in USUAL_BITS if highest < 2**bits), 0)
    if not (scale.startswith("16 bit") and bits):
        return ""
    return (
        f"the 16-bit images stay below {2**bits} (highest value {highest}), {(highest + 1) / 2**16:.0%} of white; "
        f"if they hold {bits} bits, set `bits: {bits}`"
    )


def read_image(file: Path, channels: int, bits: int = 16, opaque: bool = False) -> Picture:
    """The picture in a file of one of `FORMATS`, or in a DICOM file of one frame, as `channels` channels.

    8 bits are scaled by 255 and 16-bit grey by 2^bits - 1, or by what a TIFF of fewer bits says of itself; DICOM as
    `dicom_image.read_dicom_image` says. Where a TIFF says that white is zero, it is. Alpha is composited on black,
    colour becomes luminance for one channel, grey is repeated for three. Pillow reads 16-bit colour at 8 bits.
    Raises Unusable for other depths, values beyond `bits`, several pages, too many pixels and, with `opaque`, for any
    transparent pixel; and whatever Pillow raises on a damaged file.
    """
    if _is_dicom(file):
        dicom = read_dicom_image(file)
        return Picture(
            _to_channels(dicom.pixels.transpose(1, 2, 0), channels), f"DICOM ({dicom.scale})", 0, dicom.patient_id
        )
    with Image.open(file, formats=FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            found = f"{opened.width} x {opened.height}, allowed: {MOST_PIXELS} in all"
            raise Unusable("too many pixels", found, "save a smaller image")
        pages = getattr(opened, "n_frames", 1) if opened.format in OF_PAGES else 1
        if pages > 1:
            raise Unusable("several pages", f"{pages}, allowed: 1", "save each page as a file of its own")
        tags = getattr(opened, "tag_v2", {})
        image = ImageOps.exif_transpose(opened)
    highest, scale = 0, "8 bit (white: 255)"
    if image.mode.startswith("I;16") or (image.mode == "I" and opened.format == "PPM"):
        stored = np.asarray(image, np.float32)[..., None]
        own = tags.get(BITS_SAMPLE, (16,))[0]
        used = bits if own == 16 else own
        white = 2**used - 1
        if (highest := int(stored.max())) > white:
            raise Unusable("values beyond `bits`", f"{highest}, allowed: {white} ({used} bits)", "raise `bits`")
        pixels, scale = stored / white, f"{used} bit (white: {white})"
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns 8 bits over, and no more
            pixels = 1 - pixels
    elif image.mode in ("I", "F"):
        found = f"mode {image.mode} (32 bit, or signed), allowed: 8 or 16 bit"
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
    return Picture(_to_channels(pixels, channels), scale, highest)


def _to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """[H, W, 1 or 3] -> [channels, H, W]."""
    if channels == 1 and pixels.shape[2] == 3:
        pixels = (pixels @ LUMINANCE)[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], channels)).transpose(2, 0, 1))


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in DICOM_SUFFIXES:
        return True
    if file.suffix.lower() in SUFFIXES:
        return False
    with file.open("rb") as opened:
        return opened.read(132).endswith(b"DICM")


def source_of(file: Path, root: Path) -> str:
    """What names a file in a manifest and among the rejected: its path below the root."""
    return file.relative_to(root).as_posix()


def without_ending(path: PurePath) -> str:
    """A path without the ending of an image or volume: all of it where it has none, as in `1.2.840.113`."""
    text = path.as_posix()
    longest = max((len(ending) for ending in (*SUFFIXES, *VOLUME_SUFFIXES) if text.lower().endswith(ending)), default=0)
    return text[: len(text) - longest] if longest < len(path.name) else text


def find_images(files: Iterable[Path], root: Path) -> tuple[list[Path], list[Rejection]]:
    """The images among files, in their order, and the others, which count for nothing.

    An image is known by its ending or, where that is none of `SUFFIXES`, by what it holds.
    """
    images, others = [], []
    for file in files:
        if file.suffix.lower() in SUFFIXES or _holds_image(file):
            images.append(file)
        else:
            found = f"the ending '{file.suffix}'" if file.suffix else "no ending"
            remedy = "nothing to do, or convert it to one of " + " ".join(SUFFIXES)
            others.append(Rejection(source_of(file, root), "not an image", found, remedy, counted=False))
    return images, others


def _holds_image(file: Path) -> bool:
    try:
        if _is_dicom(file):
            return True
        with Image.open(file, formats=SNIFFED):
            return True
    # Whatever Pillow makes of a file of any kind, it is none that it knows.
    except Exception:
        return False


def name_patients(
    listing: Iterable[Listed], root: Path, patient_from: str | None, folders: Iterable[str] = ()
) -> tuple[list[Listed], list[Rejection]]:
    """Say whose each image is, by its path, see `patient_in_path`; and reject those of which it should say it.

    folders: those of the classes; a path begins below them.
    """
    named, rejected = [], []
    for listed in listing:
        path = listed.file.relative_to(root)
        below = next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), path)
        patient = patient_in_path(below, patient_from)
        if patient is None and patient_from is not None:
            remedy = "correct `patient_from`, or rename the file"
            rejected.append(Rejection(source_of(listed.file, root), "no patient in its path", below.as_posix(), remedy))
        else:
            named.append(listed._replace(patient_id=patient))
    return named, rejected


def same_id(file: Path, same: Sequence[Path], root: Path) -> Rejection:
    """The rejection of a file because of others that have its id."""
    others = ", ".join(source_of(other, root) for other in same if other != file)
    reason, remedy = "another file has the same id", "give each image a name of its own"
    return Rejection(source_of(file, root), reason, others, remedy)
