"""Images beside a CSV of their labels, as Kaggle's head CT set has it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pandas as pd

from scangan.config import LabelledImages
from scangan.errors import DataError
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.images import Listed, find_images, read_listed, same_id, source_of
from scangan.rejected import Rejection

Row = tuple[str, str | None]  # label and patient


def read_cohort(root: Path, settings: LabelledImages, data: str, append: Append) -> Ingested:
    """Read the images that a CSV labels, see `readers.Reader.read`; ordered by path.

    Raises DataError also if the CSV or one of its columns is missing.
    """
    listing, rejected = _list_labelled(Path(root), settings)
    return read_listed(Path(root), listing, rejected, settings, data, append)


def _list_labelled(root: Path, settings: LabelledImages) -> tuple[list[Listed], list[Rejection]]:
    """Each image of which the CSV has exactly one row that says its label, and what else there is."""
    class_of = {str(value): name for name, value in settings.classes.items()}
    listing = []
    rows_of, rejected = _match_rows(root, settings)
    for file, rows in rows_of.items():
        source = source_of(file, root)
        label, patient = rows[0]
        if len(set(rows)) > 1:
            said = " | ".join(sorted({" of patient ".join(filter(None, row)) for row in rows}))
            found = f"{said} in {settings.labels}"
            refused = Rejection(source, "rows contradict each other", found, "keep the row that is right")
            rejected += [refused] * len(rows)
            continue
        again = Rejection(source, "repeated row", f"its id again in {settings.labels}", "remove the repeated row")
        rejected += [again] * (len(rows) - 1)
        if label not in class_of:
            found = f"'{label}' in {settings.label_column}, allowed: {' | '.join(class_of)}"
            rejected.append(Rejection(source, "label of no class", found, "correct the label, or remove the row"))
        elif patient == "":
            found = f"nothing in {settings.patient_column}, allowed: the patient's name"
            rejected.append(Rejection(source, "missing patient", found, "name the patient, or remove the row"))
        else:
            listing.append(Listed(file, file.stem, class_of[label], patient or file.stem))
    return listing, rejected


def _match_rows(root: Path, settings: LabelledImages) -> tuple[dict[Path, list[Row]], list[Rejection]]:
    """The rows that name each file; rows without a file, and files without a row or with the id of another."""
    files = find_images(root)
    by_stem, by_number = defaultdict(list), defaultdict(list)
    for file in files:
        by_stem[file.stem].append(file)
        if file.stem.isdecimal():
            by_number[int(file.stem)].append(file)

    rows_of, rejected = defaultdict(list), []
    ambiguous = {}
    for image_id, label, patient in _read_labels(root, settings):
        # Kaggle's CSV says `0` where the file is `000.png`.
        named = by_stem.get(image_id) or (by_number.get(int(image_id)) if image_id.isdecimal() else None)
        if named is None:
            source, remedy = f"{settings.labels} id '{image_id}'", "add the image, or remove the row"
            rejected.append(Rejection(source, "no image file of this id", "none", remedy))
        elif len(named) > 1:
            ambiguous.update(dict.fromkeys(named, named))
        else:
            rows_of[named[0]].append((label, patient))

    for file in files:
        same = ambiguous.get(file, by_stem[file.stem])
        if len(same) > 1:
            rows_of.pop(file, None)
            rejected.append(same_id(file, same, root))
        elif file not in rows_of:
            found, remedy = f"none in {settings.labels}", "add a row, or remove the file"
            rejected.append(Rejection(source_of(file, root), "no row of this id", found, remedy))
    return rows_of, rejected


def _read_labels(root: Path, settings: LabelledImages) -> list[tuple[str, str, str | None]]:
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
