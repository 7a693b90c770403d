"""Images beside a CSV of their labels, as Kaggle's head CT set has it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from scangan.config import LabelledImages, VolumeFolder
from scangan.data.user_table import read_user_table, shown
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.data_files import list_files
from scangan.ingest.images import (
    Listed,
    find_images,
    name_patients,
    read_listed,
    same_id,
    source_of,
    without_ending,
)
from scangan.rejected import Rejection

log = logging.getLogger(__name__)

LONGEST_NUMBER = 20  # digits
Row = tuple[str, str | None]  # label and patient


def read_cohort(root: Path, settings: LabelledImages, data: str, append: Append) -> Ingested:
    """Read the images that a CSV labels, see `readers.Reader.read`; ordered by path.

    Raises DataError also if the CSV or one of its columns is missing.
    """
    listing, rejected = list_cohort(Path(root), settings)
    return read_listed(Path(root), listing, rejected, settings, data, append)


def list_cohort(root: Path, settings: LabelledImages) -> tuple[list[Listed], list[Rejection]]:
    """Each image of which the CSV has exactly one row that says its label, and what else there is."""
    images, others = find_labelled(root, settings)
    listing, rejected = list_rows(root, settings, images)
    return listing, others + rejected


def list_rows(
    root: Path, settings: LabelledImages | VolumeFolder, files: Sequence[Path]
) -> tuple[list[Listed], list[Rejection]]:
    """The same of these files, or folders of a series each, all below the root."""
    class_of = {str(value): name for name, value in settings.classes.items()}
    listing = []
    rows_of, rejected = match_rows(root, settings, files)
    for file, rows in rows_of.items():
        source = source_of(file, root)
        label, patient = rows[0]
        if len(set(rows)) > 1:
            said = " | ".join(sorted({" of patient ".join(filter(None, row)) for row in rows}))
            found = f"{said} in {settings.labels}"
            refused = Rejection(source, "rows contradict each other", found, "keep the row that is right")
            rejected.append(refused)
            continue
        if len(rows) > 1:
            found = f"its id {len(rows)} times in {settings.labels}"
            rejected.append(Rejection(source, "repeated row", found, "remove the repeated rows", counted=False))
        if label not in class_of:
            found = f"'{shown(label)}' in {settings.label_column}, allowed: {' | '.join(class_of)}"
            rejected.append(Rejection(source, "label of no class", found, "correct the label, or remove the row"))
        elif patient == "":
            found = f"nothing in {settings.patient_column}, allowed: the patient's name"
            rejected.append(Rejection(source, "missing patient", found, "name the patient, or remove the row"))
        else:
            listing.append(Listed(file, id_of(file), class_of[label], patient))
    if settings.patient_column is None:
        listing, nobodys = name_patients(listing, root, settings.patient_from)
        rejected += nobodys
    return listing, rejected


def find_labelled(root: Path, settings: LabelledImages) -> tuple[list[Path], list[Rejection]]:
    """The images below the root, and what else lies there beside the CSV."""
    files, rejected = list_files(root)
    images, others = find_images((file for file in files if file != root / settings.labels), root)
    return images, rejected + others


def match_rows(
    root: Path, settings: LabelledImages | VolumeFolder, files: Sequence[Path]
) -> tuple[dict[Path, list[Row]], list[Rejection]]:
    """Label and patient in the rows that name each file; rows without a file, files without a row or an own id."""
    rejected: list[Rejection] = []
    by_id, by_number, by_path = defaultdict(list), defaultdict(list), defaultdict(list)
    for file in files:
        by_id[id_of(file)].append(file)
        if _is_number(id_of(file)):
            by_number[int(id_of(file))].append(file)
        # An id may be written with its ending, with its folder, or with both.
        for written in {file.name, source_of(file, root), without_ending(file.relative_to(root))} - {id_of(file)}:
            by_path[written].append(file)

    rows_of, longer = defaultdict(list), []
    # Files of one id, and a file whose row names it wrongly, are said once.
    ambiguous, misnamed = {}, set()
    for image_id, label, patient in _read_labels(root, settings):
        # Kaggle's CSV says `0` where the file is `000.png`.
        named = by_id.get(image_id) or (by_number.get(int(image_id)) if _is_number(image_id) else None)
        if named is None and (named := by_path.get(image_id.replace("\\", "/").removeprefix("./"))):
            longer.append((image_id, id_of(named[0])))
        if named is None:
            source, meant = f"{settings.labels} id '{shown(image_id)}'", id_of(Path(image_id.replace("\\", "/")))
            remedy = "add the image, or remove the row"
            if meant != image_id and len(same := by_id.get(meant, [])) == 1:
                misnamed.add(same[0])
                remedy = f"write the id without its folder and ending, '{meant}'"
            rejected.append(Rejection(source, "no image file of this id", "none", remedy))
        elif len(named) > 1:
            ambiguous.update(dict.fromkeys(named, named))
        else:
            rows_of[named[0]].append((label, patient))
    if longer:
        (written, meant), ending = longer[0], Path(longer[0][0]).suffix
        log.info(
            "%s: %d ids are written with their folder or ending, such as '%s': each is read as the id without %s: '%s'",
            *(settings.labels, len(longer), written, ending or "its folder", meant),
        )

    for file in files:
        same = ambiguous.get(file, by_id[id_of(file)])
        if len(same) > 1:
            rows_of.pop(file, None)
            rejected.append(same_id(file, same, root))
        elif file not in rows_of and file not in misnamed:
            found, remedy = f"none in {settings.labels}", "add a row, or remove the file"
            rejected.append(Rejection(source_of(file, root), "no row of this id", found, remedy))
    return rows_of, rejected


def _is_number(image_id: str) -> bool:
    """Whether an id is a number of a length that some people write with zeros in front."""
    return image_id.isdecimal() and len(image_id) <= LONGEST_NUMBER


def id_of(file: Path) -> str:
    """What an image file is called in a cohort."""
    return without_ending(PurePath(file.name))


def _read_labels(root: Path, settings: LabelledImages | VolumeFolder) -> list[tuple[str, str, str | None]]:
    """Id, label and patient (None without a column) of each row, spaces around names and values removed."""
    fields = (settings.id_column, settings.label_column, settings.patient_column)
    named = [name.strip() for name in fields if name is not None]
    table = read_user_table(root / str(settings.labels), list(dict.fromkeys(named)))
    columns = [[None] * len(table) if name is None else table[name.strip()] for name in fields]
    return list(zip(*columns, strict=True))
