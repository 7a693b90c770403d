"""What a folder of data is: which reader takes it, with which settings, and what that reader makes of it."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydicom
from PIL import Image

from scangan.config import Duplicates, Scans
from scangan.data.duplicates import settle_images
from scangan.data.patient_guess import guess_patients
from scangan.data.store import ImageWriter
from scangan.data.user_table import SEPARATORS, read_text
from scangan.errors import DataError
from scangan.ingest.brats import SEGMENTATION, T1C, find_visits
from scangan.ingest.covid_ct import PREFIX
from scangan.ingest.data_files import list_files
from scangan.ingest.image_folder import PARTS
from scangan.ingest.images import DICOM_SUFFIXES, FORMATS, find_images
from scangan.ingest.labelled_images import id_of
from scangan.ingest.readers import READERS
from scangan.ingest.scan_index import index_scans
from scangan.ingest.volume_files import read_volume_file
from scangan.ingest.volume_headers import SUFFIXES as VOLUME_SUFFIXES
from scangan.ingest.volume_headers import read_header

Settings = dict[str, Any]

TABLES = (".csv", ".tsv", ".txt")
LABEL_COLUMNS = re.compile(r"label|class|target|diagnos|finding|disease|category|hemorrh|haemorrh", re.IGNORECASE)
PATIENT_COLUMNS = re.compile(r"patient|subject|person", re.IGNORECASE)
MOST_CLASSES = 10
FEWEST_IN_CLASS = 3  # a folder with fewer is none: training, validation and test need one each
LEAST_NAMED = 0.5  # share of the images that a table must name
LOOKED_AT = 200  # files whose headers are read, spread over all
COLOURED, COLOURED_PIXELS = 24, 0.02  # grey levels between channels; share of pixels
SLICES = 8  # of a scan
VOLUMES_READ = 5  # of them, to know Hounsfield units,
AIR = -300  # of which a hundredth lies below this
SHOWN = 3  # of the files that are left out
READ_AT = 32  # edge at which all images are read once, pixels
SEEN_IN_VOLUMES = ("CT", "MR", "PT")
SIZE_TAGS = ["Rows", "Columns", "SamplesPerPixel"]


@dataclass(frozen=True)
class Kind:
    """What a folder was taken for.

    name: in words. data: settings of its reader, without root and image_size. split: what they suggest, or nothing.
    root: the folder that the reader is given, which may lie below the one that was looked at.
    """

    name: str
    root: Path
    data: Settings
    split: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What the reader makes of a folder.

    images, patients: of each class. edge: median of the shorter edges of the images, pixels; None where unknown.
    lines: what there is to say. data, split: the settings, with what was seen.
    """

    kind: Kind
    data: Settings
    split: Settings
    images: Mapping[str, int]
    patients: Mapping[str, int]
    edge: int | None
    lines: Sequence[str]


def recognise(folder: Path) -> Kind:
    """What a folder is. Raises DataError, with what lies there, if no reader takes it."""
    files = list_files(folder).files
    for of_kind in (_brats, _covid_ct, _volume_folder, _scans, _labelled_images, _image_folder):
        if (kind := of_kind(folder, files)) is not None:
            return kind
    endings = Counter("".join(file.suffixes[-2:]) or "no ending" for file in files).most_common(6)
    found = ", ".join(f"{count} {ending}" for ending, count in endings) or "no file"
    folders = sorted(path.name for path in folder.glob("*/"))
    within = f" in {len(folders)} folders ({', '.join(folders[:6])})" if folders else ""
    allowed = (
        f"a folder of at least {FEWEST_IN_CLASS} images or volumes for each of 2 to {MOST_CLASSES} classes; images or "
        "volumes and a CSV of their labels; CT in DICOM, NIfTI, MetaImage or NRRD; BraTS; COVID-CT"
    )
    raise DataError(f"{folder}: data: found {found}{within}, allowed: {allowed}")


def look(kind: Kind) -> Seen:
    """Read the folder once, as the workflow would. Raises DataError where the workflow would stop."""
    match kind.data["reader"]:
        case "ct_slices":
            return _look_at_scans(kind)
        case "volume_folder":
            return _look_at_volumes(kind)
    return _look_at_images(kind)


# Kinds


def _brats(folder: Path, files: Sequence[Path]) -> Kind | None:
    visits = map(_names, find_visits(files, folder).values())
    if not any(all(any(map(part.search, names)) for part in (T1C, SEGMENTATION)) for names in visits):
        return None
    return Kind("BraTS: MR of patients with a segmentation each", folder, {"reader": "brats"})


def _names(files: Sequence[Path]) -> list[str]:
    # A sequence is named by its file or, until 2016, by its folder.
    return [name for file in files for name in (file.name, file.parent.name)]


def _covid_ct(folder: Path, files: Sequence[Path]) -> Kind | None:
    classes = sorted(path.name for path in folder.glob(f"{PREFIX}*/"))
    if len(classes) < 2 or not (folder / "Info").is_dir():
        return None
    data = {"reader": "covid_ct", "classes": {_name_of(name.removeprefix(PREFIX)): name for name in classes}}
    split = {"method": "official"} if (folder / "Data-split").is_dir() else {}
    return Kind("COVID-CT, with its patients", folder, data, split)


def _volume_folder(folder: Path, files: Sequence[Path]) -> Kind | None:
    """Volumes in folders of classes, or beside a table of labels; a folder of DICOM files is taken for a volume."""
    volumes, slices, modalities = _scans_in(files)
    if not volumes and not _are_scans(modalities):
        return None
    paths = sorted({*volumes, *(file.parent for file in slices if _are_scans(modalities))})
    modality = _modality_of(volumes, modalities)
    said = {"CT": "CT", "MR": "MR, or of other units than Hounsfield's"}[modality]
    if (labelled := _label_table(folder, files, {id_of(path) for path in paths})) is not None:
        data, name = {"reader": "volume_folder", **labelled[0], "modality": modality}, labelled[1]
        return Kind(f"volumes ({said}), {name}", folder, data)
    if (found := _class_folders(folder, paths)) is not None:
        root, named, in_parts = found
        data = {"reader": "volume_folder", "classes": named, "modality": modality}
        return Kind(f"volumes ({said}) in a folder a class{in_parts}", root, data)
    return None


def _scans_in(files: Sequence[Path]) -> tuple[list[Path], list[Path], Counter[str]]:
    """Files of volumes, those that may be slices, and how many of some of these are of each modality."""
    volumes = [file for file in files if file.name.lower().endswith(VOLUME_SUFFIXES)]
    slices = [file for file in files if file.suffix.lower() in (*DICOM_SUFFIXES, "")]
    return volumes, slices, Counter(filter(None, map(_modality, _spread(slices))))


def _are_scans(modalities: Counter[str]) -> bool:
    return sum(modalities[modality] for modality in SEEN_IN_VOLUMES) > modalities.total() / 2


def _modality_of(volumes: Sequence[Path], modalities: Counter[str]) -> str:
    """`CT`, where most of what is looked at holds Hounsfield units, else `MR`."""
    if modalities.total() > len(volumes):
        return "MR" if modalities["MR"] + modalities["PT"] > modalities["CT"] else "CT"
    few = _spread(volumes)[:: max(1, min(len(volumes), LOOKED_AT) // VOLUMES_READ)]
    return "CT" if sum(map(_is_ct, few)) > len(few) / 2 else "MR"


def _is_ct(file: Path) -> bool:
    """Whether a file holds Hounsfield units, and air: other units may look like those of soft tissue."""
    try:
        voxels, _ = read_volume_file(file, "CT", None)
    except (DataError, OSError):
        return False
    return bool(np.percentile(voxels, 1) < AIR)


def _scans(folder: Path, files: Sequence[Path]) -> Kind | None:
    volumes, _, modalities = _scans_in(files)
    if not volumes and not _are_scans(modalities):
        return None
    if modalities["MR"] + modalities["PT"] > modalities["CT"]:
        found = ", ".join(f"{count} {modality}" for modality, count in modalities.most_common())
        raise DataError(
            f"{folder}: data: found {found} files, allowed: CT; MR as BraTS has it, or in folders of classes"
        )
    name = "CT scans, of which slices become images of one class"
    return Kind(name, folder, {"reader": "ct_slices", "annotations": "none"})


def _modality(file: Path) -> str | None:
    try:
        header = pydicom.dcmread(file, specific_tags=["Modality"], stop_before_pixels=True)
        return str(header.get("Modality", "")) or None
    except Exception:  # no DICOM file, or a damaged one: it says nothing of the others
        return None


def _labelled_images(folder: Path, files: Sequence[Path]) -> Kind | None:
    found = _label_table(folder, files, {id_of(file) for file in _images_of(files, folder)})
    return found and Kind(f"images, {found[1]}", folder, {"reader": "labelled_images", **found[0]})


def _label_table(folder: Path, files: Sequence[Path], images: set[str]) -> tuple[Settings, str] | None:
    """The settings of a table that names most of the images and has a column of few values, and what it is in words.

    images: their ids.
    """
    for file in files if images else ():
        if file.suffix.lower() in TABLES and (columns := _columns_of(file)) is not None:
            named = {name: sum(_names_one(value, images) for value in values) for name, values in columns.items()}
            id_column = max(named, key=lambda name: named[name])
            rows = len(columns[id_column])
            labels = {name: Counter(filter(None, values)) for name, values in columns.items() if name != id_column}
            most = min(MOST_CLASSES, rows // FEWEST_IN_CLASS)
            few = [name for name, values in labels.items() if 2 <= len(values) <= most]
            if named[id_column] < LEAST_NAMED * rows or not few:
                continue
            label, *others = sorted(few, key=lambda name: not LABEL_COLUMNS.search(name))
            data: Settings = {"labels": file.relative_to(folder).as_posix()}
            data |= {"id_column": id_column, "label_column": label}
            for name, values in labels.items():
                if PATIENT_COLUMNS.search(name) and name != label and len(values) > 1:
                    data["patient_column"] = name
            data["classes"] = {_name_of(value, label): value for value in sorted(labels[label])}
            others = [name for name in others if name != data.get("patient_column")]
            beside = f"; other columns of few values: {', '.join(others)}" if others else ""
            return data, f"labelled by the column {label} of {data['labels']}{beside}"
    return None


def _images_of(files: Sequence[Path], folder: Path) -> list[Path]:
    return find_images([file for file in files if file.suffix.lower() not in TABLES], folder)[0]


def _names_one(value: str, images: set[str]) -> bool:
    """Whether a value names an image: its id, its file, or a number that files write with zeros in front."""
    value = id_of(Path(value.replace("\\", "/")))
    return value in images or (value.isdecimal() and any(value.zfill(digits) in images for digits in range(2, 7)))


def _columns_of(file: Path) -> dict[str, list[str]] | None:
    """The columns of a table, by name, as its separator makes most of them; None if it is none."""
    try:
        text = read_text(file, "a table")
    except DataError:
        return None
    tables = [list(csv.reader(io.StringIO(text), delimiter=separator)) for separator in SEPARATORS]
    header, *rows = max(tables, key=lambda rows: len(rows[0]) if rows else 0) or [[]]
    rows = [row for row in rows if len(row) == len(header)]
    if len(header) < 2 or not rows or len(set(header)) < len(header):
        return None
    return {name.strip(): [row[column].strip() for row in rows] for column, name in enumerate(header)}


def _image_folder(folder: Path, files: Sequence[Path]) -> Kind | None:
    found = _class_folders(folder, _images_of(files, folder))
    if found is None:
        return None
    root, named, in_parts = found
    return Kind(f"images in a folder a class{in_parts}", root, {"reader": "image_folder", "classes": named})


def _class_folders(folder: Path, images: Sequence[Path]) -> tuple[Path, dict[str, str], str] | None:
    """The folder in which the folders of classes lie, these by a name for each class, and in which parts they are."""
    paths = [image.relative_to(folder).parts for image in images]
    depth = 0
    # Archives often hold one folder that holds all.
    while paths and len({path[0] for path in paths}) == 1 and all(len(path) > 2 for path in paths):
        paths, depth = [path[1:] for path in paths], depth + 1
    root = images[0].parents[len(images[0].relative_to(folder).parts) - depth - 1] if images else folder
    tops = Counter(path[0] for path in paths if len(path) > 1)
    parts = {top for top in tops if any(top.casefold() in names for names in PARTS.values())}
    in_parts = len(parts) > 1 and parts == set(tops)
    counts = Counter(path[1] for path in paths if len(path) > 2) if in_parts else tops
    classes = {name: count for name, count in counts.items() if count >= FEWEST_IN_CLASS}
    if not 2 <= len(classes) <= MOST_CLASSES or sum(classes.values()) < LEAST_NAMED * len(images):
        return None
    named = {_name_of(value): value for value in sorted(classes)}
    return root, named, f", in parts {', '.join(sorted(parts))}" if in_parts else ""


def _name_of(value: str, column: str = "") -> str:
    """A folder's name, or a label, as the name of a class."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("_")
    return name if name and not name.isdecimal() else f"{_name_of(column) if column else 'class'}_{name}".strip("_")


# What the readers make of them


def _look_at_images(kind: Kind) -> Seen:
    data, lines, edge = dict(kind.data), [], None
    if data["reader"] != "brats":
        images = _images_of(list_files(kind.root).files, kind.root)
        edges, coloured = zip(*map(_edge_and_colour, _spread(images)), strict=True)
        data["channels"] = 3 if np.mean(coloured) > 0.5 else 1
        endings = Counter(image.suffix.lower() or "no ending" for image in images).most_common()
        said = ", ".join(f"{count} {ending}" for ending, count in endings)
        lines.append(f"files: {said}; {_colours(coloured)}")
        if known := [each for each in edges if each]:
            edge = int(np.median(known))
            lines.append(f"sizes: shorter edges of {min(known)} to {max(known)} pixels, median {edge}")
    return _count(kind, data, lines, edge)


def _look_at_volumes(kind: Kind) -> Seen:
    data = dict(kind.data)
    volumes = [file for file in list_files(kind.root).files if file.name.lower().endswith(VOLUME_SUFFIXES)]
    endings = Counter("".join(file.suffixes[-2:] if file.suffix == ".gz" else file.suffix) for file in volumes)
    said = ", ".join(f"{count} {ending}" for ending, count in endings.most_common()) or "DICOM series"
    shapes = [shape for shape in map(_shape_of, _spread(volumes)) if shape is not None]
    edge = int(np.median([max(shape) for shape in shapes])) if shapes else None
    lines = [f"files: {said}"]
    if shapes:
        smallest, largest = (
            " x ".join(map(str, each[::-1])) for each in (min(shapes, key=np.prod), max(shapes, key=np.prod))
        )
        lines.append(f"sizes: {smallest} to {largest} voxels")
    return _count(kind, data, lines, edge)


def _shape_of(file: Path) -> tuple[int, int, int] | None:
    try:
        return read_header(file).shape
    except (DataError, OSError):  # the reader names the file, and the reason
        return None


def _count(kind: Kind, data: Settings, lines: list[str], edge: int | None) -> Seen:
    """The same with what the reader reads. lines: what was said so far."""
    read = _read(kind, data)
    lines += read.notes
    patients, how = _patients(read.listed, data)
    # Near copies become one patient's.
    patients = patients.where(patients != read.listed.image_id, read.listed.image_id.map(read.owner))
    lines.append(f"patients: {how}")
    counted = read.listed.assign(patient=patients)[read.listed.image_id.isin(read.owner.index)].groupby("label")
    for what, table in (("left out", read.left_out), ("copies", read.copies)):
        if len(table):
            lines.append(f"{what}: " + ", ".join(f"{n} {reason}" for reason, n in table.reason.value_counts().items()))
            lines += [f"  {row.source}: {row.reason}: found {row.found}" for row in table.head(SHOWN).itertuples()]
    images, patients_of = counted.size().to_dict(), counted.patient.nunique().to_dict()
    return Seen(kind, data, dict(kind.split), images, patients_of, edge, lines)


class Read(NamedTuple):
    """What the reader read: manifest, rejections, those of copies, the patient of each image that is kept, and more."""

    listed: pd.DataFrame
    left_out: pd.DataFrame
    copies: pd.DataFrame
    owner: pd.Series
    notes: list[str]


def _read(kind: Kind, data: Settings) -> Read:
    reader = READERS[data["reader"]]
    settings = reader.settings.model_validate(data | {"root": "data", "image_size": READ_AT, "max_rejected": 1.0})
    shape = (data.get("channels", 1), *[READ_AT] * settings.DIMENSIONS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        ImageWriter(Path(scratch, "images.zarr.zip"), Path(scratch, "manifest.parquet"), shape) as writer,
    ):
        ingested = reader.read(kind.root, settings, "real", writer.append)
        listed = writer.manifest
        settled = settle_images(listed, writer.images, Duplicates())
        writer.keep(settled.manifest)
    owner = settled.manifest.set_index("image_id").patient_id
    return Read(listed, ingested.rejected, settled.rejected, owner, list(ingested.notes))


def _patients(manifest: pd.DataFrame, data: Settings) -> tuple[pd.Series, str]:
    """The patient of each image, and how they were recognised; sets `patient_from` where names look like patients."""
    if not (manifest.patient_id == manifest.image_id).all():
        return manifest.patient_id, f"{manifest.patient_id.nunique()}, as the data say"
    guess = guess_patients(manifest.source.tolist(), manifest.label.tolist())
    # Numbers that begin anew in each class, or part, name nobody.
    part = manifest.source.map(_part_of)
    if (
        guess is None
        or not manifest.assign(patient=guess.patients, part=part).duplicated(["label", "patient", "part"]).any()
    ):
        return manifest.patient_id, "nothing says whose an image is; each counts as a patient of its own"
    data["patient_from"] = guess.patient_from
    patients = pd.Series(guess.patients, index=manifest.index).fillna(manifest.patient_id)
    patient, source = next(each for each in zip(guess.patients, manifest.source, strict=True) if each[0] is not None)
    example = f"{patient} of {source}"
    return patients, f"{patients.nunique()}, by their {guess.by} ({example}): look whether patient_from is right"


def _part_of(source: str) -> str:
    """The folder of a part of an owner's split that a file lies in, or nothing."""
    top = source.partition("/")[0]
    return top if any(top.casefold() in names for names in PARTS.values()) else ""


def _colours(coloured: Sequence[bool]) -> str:
    """Of the images that are looked at whether they show colours; most of them decide."""
    shown, looked_at = sum(coloured), len(coloured)
    if shown > looked_at / 2:
        return "colour" if shown == looked_at else f"colour, but {looked_at - shown} of {looked_at} looked at are grey"
    return "grey" if not shown else f"grey, but {shown} of {looked_at} looked at are in colour (`channels: 3` keeps it)"


def _edge_and_colour(file: Path) -> tuple[int | None, bool]:
    """The shorter edge of an image, pixels, and whether it shows colours; what cannot be read tells neither."""
    try:
        if file.suffix.lower() in DICOM_SUFFIXES:
            header = pydicom.dcmread(file, specific_tags=SIZE_TAGS, stop_before_pixels=True)
            return min(header.Rows, header.Columns), header.get("SamplesPerPixel", 1) == 3
        with Image.open(file, formats=FORMATS) as image:
            edge = min(image.size)
            if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16"):
                return edge, False
            pixels = np.asarray(image.convert("RGB").resize((64, 64)), np.int16)
            return edge, bool((np.ptp(pixels, axis=2) > COLOURED).mean() > COLOURED_PIXELS)
    except Exception:  # the reader names the file, and the reason
        return None, False


def _look_at_scans(kind: Kind) -> Seen:
    settings = Scans.model_validate(kind.data | {"root": "data", "image_size": READ_AT})
    index, rejected = index_scans(kind.root, settings, "real")
    patients = index.patient_id.nunique()
    lines = [f"scans: {len(index)} of {patients} patients, by their headers; taken for CT in Hounsfield units"]
    if len(rejected):
        lines.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in rejected.reason.value_counts().items()))
    data = kind.data | {"slices_per_scan": SLICES}
    return Seen(kind, data, {}, {settings.label: SLICES * len(index)}, {settings.label: patients}, None, lines)


def _spread(files: Sequence[Path]) -> list[Path]:
    """At most `LOOKED_AT` files, evenly from all."""
    return [files[place] for place in np.unique(np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT), dtype=int))]
