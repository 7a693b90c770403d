"""Readers of 2D images: a folder with a CSV of labels, one folder a class, or the COVID-CT set."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from scangan import config
from scangan.data.store import ImageSet, fit_square, stretch_square
from scangan.errors import DataError
from scangan.ingest.covid_ct import describe_images
from scangan.rejected import Rejected

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def ingest_images(root: Path, settings: config.Images, data: str) -> tuple[ImageSet, pd.DataFrame, pd.DataFrame]:
    """Read a cohort of labelled images.

    root: folder of the data set. data: `real` or `phantom`, noted in the manifest.
    Returns the usable images, float32 [N, C, H, W] in [0, 1], made squares of `settings.image_size`, ordered by
    source; the rejected ones (columns `source, reason, remedy`); and the data set's own split of the usable ones
    (columns `image_id, split`), which is empty where there is none.
    Raises DataError if a table, its columns or a class folder is missing, if a class is left empty, and if more than
    `settings.max_rejected` of the images are rejected.
    """
    root = Path(root)
    rejected = Rejected()
    is_covid_ct = settings.reader == "covid_ct"
    read_listing = _list_labelled if settings.reader == "labelled_images" else _list_folders
    listing, parts = read_listing(root, settings, rejected), {}
    if is_covid_ct:
        listing, parts = describe_images(root, settings.classes, listing, rejected)
    make_square = {"pad": fit_square, "stretch": stretch_square}[settings.fit]
    images, rows = [], []
    for file, image_id, label, patient in sorted(listing):
        try:
            pixels = read_image(file, settings.channels, opaque=is_covid_ct)
        # Decoders meet damaged files with nearly any exception; whichever it is, this image is left out.
        except Exception as error:
            reason = " ".join(str(error).replace(str(root), "").split()) or type(error).__name__
            rejected.add(_source(file, root), f"unreadable image ({reason})", "replace the file, or remove it")
            continue
        images.append(make_square(pixels, settings.image_size))
        rows.append((image_id, patient, label, _source(file, root), data))

    _check_usable(root, settings, [label for _, _, label, _, _ in rows], rejected)
    manifest = pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "source", "data"], dtype="str")
    log.info("%s: %d images (%s)", root, len(manifest), manifest.label.value_counts().to_dict())
    official = manifest[["image_id"]].assign(split=manifest.image_id.map(parts).astype("str")).dropna()
    return ImageSet(np.stack(images), manifest.assign(spacing_mm=np.nan)), rejected.table(), official


def read_image(file: Path, channels: int, opaque: bool = False) -> np.ndarray:
    """Pixels of a PNG, JPEG, TIFF or BMP file: float32 [channels, H, W] in [0, 1].

    8 bits are scaled by 255 and 16 bits by 65535; alpha is composited on black, colour becomes luminance for one
    channel, grey is repeated for three. Pillow reads 16-bit colour at 8 bits; 16-bit grey keeps its depth.
    Raises ValueError for other depths, for several pages and, with `opaque`, for any transparent pixel; and whatever
    Pillow raises on a damaged file.
    """
    with Image.open(file, formats=FORMATS) as opened:
        if opened.format == "TIFF" and opened.n_frames > 1:
            raise ValueError(f"found {opened.n_frames} pages, allowed: 1")
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image, np.float32)[..., None] / 65535
    elif image.mode in ("I", "F"):
        raise ValueError(f"found pixels of mode {image.mode} (32 bit), allowed: 8 or 16 bit")
    else:
        # Palettes and keyed-out colours carry their transparency only into RGBA.
        has_alpha = image.has_transparency_data or image.mode == "P"
        grey = image.mode in ("1", "L")
        mode = "RGBA" if has_alpha else "L" if grey else "RGB"
        pixels = np.asarray(image.convert(mode), np.float32) / 255
        if has_alpha:
            if opaque and (see_through := (pixels[..., 3] < 1).mean()):
                raise ValueError(f"found {see_through:.1%} of the pixels transparent, allowed: none")
            pixels = pixels[..., :3] * pixels[..., 3:]
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    if channels == 1 and pixels.shape[2] == 3:
        pixels = (pixels @ LUMINANCE)[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], channels)).transpose(2, 0, 1))


def _source(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _list_labelled(root: Path, settings: config.Images, rejected: Rejected) -> list[tuple[Path, str, str, str]]:
    """File, id, class and patient of each row of the CSV that names exactly one image."""
    class_of = {str(value): name for name, value in settings.classes.items()}
    listing = []
    for file, rows in _match_rows(root, settings, rejected).items():
        source = _source(file, root)
        label, patient = rows[0]
        if len(set(rows)) > 1:
            said = " | ".join(sorted({" of patient ".join(filter(None, row)) for row in rows}))
            for _ in rows:
                reason = f"rows of {settings.labels} contradict each other: {said}"
                rejected.add(source, reason, "keep the row that is right")
            continue
        for _ in rows[1:]:
            rejected.add(source, f"{settings.labels} repeats the row of this id", "remove the repeated row")
        if label not in class_of:
            reason = f"{settings.label_column}: found '{label}', allowed: {' | '.join(class_of)}"
            rejected.add(source, reason, "correct the label, or remove the row")
        elif patient == "":
            reason = f"{settings.patient_column}: found nothing, allowed: the patient's name"
            rejected.add(source, reason, "name the patient, or remove the row")
        else:
            listing.append((file, file.stem, class_of[label], patient or file.stem))
    return listing


def _match_rows(root: Path, settings: config.Images, rejected: Rejected) -> dict[Path, list[tuple[str, str | None]]]:
    """Label and patient of every row that names a file, by file."""
    files = _image_files(root)
    by_stem, by_number = defaultdict(list), defaultdict(list)
    for file in files:
        by_stem[file.stem].append(file)
        if file.stem.isdecimal():
            by_number[int(file.stem)].append(file)

    rows_of = defaultdict(list)
    ambiguous = {}
    for image_id, label, patient in _read_labels(root, settings):
        # Kaggle's CSV says `0` where the file is `000.png`.
        found = by_stem.get(image_id) or (by_number.get(int(image_id)) if image_id.isdecimal() else None)
        if found is None:
            remedy = "add the image, or remove the row"
            rejected.add(f"{settings.labels} id '{image_id}'", "no image file of this id", remedy)
        elif len(found) > 1:
            ambiguous.update(dict.fromkeys(found, found))
        else:
            rows_of[found[0]].append((label, patient))

    for file in files:
        same = ambiguous.get(file, by_stem[file.stem])
        if len(same) > 1:
            rows_of.pop(file, None)
            _reject_same_id(file, same, root, rejected)
        elif file not in rows_of:
            reason = f"no row of {settings.labels} has this id"
            rejected.add(_source(file, root), reason, "add a row, or remove the file")
    return rows_of


def _read_labels(root: Path, settings: config.Images) -> list[tuple[str, str, str | None]]:
    """Id, label and patient (None without a column) of each row, spaces around names and values removed."""
    path = root / settings.labels
    if not path.is_file():
        raise DataError(f"{path}: labels: found no such file, allowed: a CSV of ids and labels")
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        found = " ".join(str(error).split())
        raise DataError(f"{path}: labels: found {found}, allowed: a CSV in UTF-8, divided by commas") from error
    table.columns = table.columns.str.strip()
    columns = {}
    for field in ("id_column", "label_column", "patient_column"):
        name = getattr(settings, field)
        if name is None:
            columns[field] = [None] * len(table)
        elif list(table.columns).count(name.strip()) == 1:
            # A row with too few values is filled up with NaN.
            columns[field] = table[name.strip()].fillna("").str.strip()
        else:
            raise DataError(f"{path}: {field}: found columns {', '.join(table.columns)}; allowed: one named '{name}'")
    return list(zip(*columns.values(), strict=True))


def _list_folders(root: Path, settings: config.Images, rejected: Rejected) -> list[tuple[Path, str, str, str]]:
    """File, id, class and patient of each image in the classes' folders; the id is the path without its ending."""
    by_id = defaultdict(list)
    for name, value in settings.classes.items():
        folder = root / str(value)
        if not folder.is_dir():
            found = ", ".join(sorted(path.name for path in root.glob("*/"))) or "none"
            raise DataError(f"{folder}: classes.{name}: found no such folder, allowed: one of those there: {found}")
        for file in _image_files(folder):
            by_id[file.relative_to(root).with_suffix("").as_posix()].append((file, name))
    for same in by_id.values():
        if len(same) > 1:
            for file, _ in same:
                _reject_same_id(file, [other for other, _ in same], root, rejected)
    single = {image_id: same[0] for image_id, same in by_id.items() if len(same) == 1}
    return [(file, image_id, name, image_id) for image_id, (file, name) in single.items()]


def _reject_same_id(file: Path, same: list[Path], root: Path, rejected: Rejected) -> None:
    others = ", ".join(_source(other, root) for other in same if other != file)
    rejected.add(_source(file, root), f"another file has the same id: {others}", "give each image a name of its own")


def _check_usable(root: Path, settings: config.Images, labels: list[str], rejected: Rejected) -> None:
    """Stop where too little is left; warn of what was rejected."""
    if not labels:
        raise DataError(
            f"{root}: images: found none that is usable ({len(rejected)} rejected: {rejected}), "
            f"allowed: {' '.join(SUFFIXES)}"
        )
    total = len(labels) + len(rejected)
    if len(rejected) > settings.max_rejected * total:
        raise DataError(
            f"{root}: max_rejected: found {len(rejected)} of {total} rejected ({rejected}), "
            f"allowed: {math.floor(settings.max_rejected * total)} ({settings.max_rejected:g})"
        )
    for name, value in settings.classes.items():
        if name not in labels:
            raise DataError(f"{root}: classes.{name}: found no usable image of value '{value}', allowed: at least 1")
    for row in rejected:
        log.warning("rejected: %s: %s; %s", *row)
