"""The chest phantom on disk: DICOM series in the archive's layout, and the readers' annotations in pylidc's schema."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy.ndimage import binary_dilation, binary_fill_holes, label

from scangan.compat_pylidc import prepare_pylidc
from scangan.files import atomic_folder
from scangan.phantoms.chest import SCANNERS, Chest, Nodule, render_chest

READERS = 4
PADDING = -2000  # stored outside of a round field of view
SECOND_VISITS, REVERSED, FEET_FIRST = (10, 1), (4, 2), (8, 3)  # (n, k): scan k of every n
README = """A PHANTOM, not patients: {scans} rendered chest CT scans like those of {cohort} (seed {seed}).
<patient>/<study>/<series>/*.dcm: the scans. annotations.sqlite: what four made-up readers marked, in pylidc's schema.
.scangan/pseudonym.key: a fixed key, so that pseudonyms are the same in every run; a key of real data is secret.
Whatever is measured on them says that the pipeline works, and nothing about medicine.
"""


@dataclass(frozen=True)
class Storage:
    """How a scan lies in its files. feet_first: columns run to the patient's right, not to the left."""

    number: int
    patient: int
    reversed_order: bool
    feet_first: bool

    @classmethod
    def of(cls, number: int) -> Storage:
        """Of the `number`-th scan of a cohort, however many there are."""
        second, is_reversed, feet_first = (
            number % every == which for every, which in (SECOND_VISITS, REVERSED, FEET_FIRST)
        )
        return cls(number, number - second, is_reversed, feet_first)


@dataclass(frozen=True)
class Annotation:
    """What one reader says of one nodule: pylidc's nine characteristics, and contours (z in mm, coordinates)."""

    subtlety: int
    internalStructure: int
    calcification: int
    sphericity: int
    margin: int
    lobulation: int
    spiculation: int
    texture: int
    malignancy: int
    contours: tuple[tuple[float, str], ...]


def write_phantom(
    folder: Path,
    cohort: str,
    scans: int,
    image_size: int,
    slice_spacing_mm: float,
    seed: int,
    nodule_diameters_mm: tuple[float, float] | None = None,
) -> None:
    """Render a cohort: `folder/<patient id>/<study>/<series>/000001.dcm`, ..., `folder/annotations.sqlite`.

    cohort: `lidc` (with nodules) | `nlst` (without), each from a scanner of its own. image_size: rows and columns.
    slice_spacing_mm: about; the scanner's own spacing is a fixed share of it. nodule_diameters_mm: least and greatest;
    None: all of LIDC-IDRI's. The same arguments give the same scans, and a larger cohort begins with the smaller one's.
    Some patients have two scans, some series are stored from the head down, some feet first. The folder must be new
    or empty, and appears whole or not at all.
    """
    read: list[tuple[Dataset, list[float], list[Annotation]]] = []
    with atomic_folder(folder) as new:
        for number in range(scans):
            storage = Storage.of(number)
            chest = render_scan(cohort, image_size, slice_spacing_mm, seed, storage, nodule_diameters_mm)
            header = describe_series(chest, cohort, slice_spacing_mm, seed, storage)
            write_series(new, chest, header, storage)
            rng = np.random.default_rng([seed, list(SCANNERS).index(cohort), number, 3])
            read.append((header, slice_heights_mm(chest), read_nodules(rng, chest, storage)))
        write_annotations(new / "annotations.sqlite", read)
        private = new / ".scangan"
        private.mkdir()
        key = hashlib.sha256(f"scangan phantom {cohort} {seed}".encode()).hexdigest()
        (private / "pseudonym.key").write_text(key, encoding="ascii")
        readme = README.format(scans=scans, cohort=cohort.upper(), seed=seed)
        (private / "README.txt").write_text(readme, encoding="utf-8")


def render_scan(
    cohort: str,
    image_size: int,
    slice_spacing_mm: float,
    seed: int,
    storage: Storage,
    nodule_diameters_mm: tuple[float, float] | None = None,
) -> Chest:
    """The scan that `write_phantom` writes, and its truth."""
    patient_seed = [seed, list(SCANNERS).index(cohort), storage.patient]
    return render_chest(
        patient_seed,
        cohort,
        image_size,
        slice_spacing_mm,
        radii_mm=None if cohort == "lidc" else (),
        visit=storage.number - storage.patient,
        diameters_mm=nodule_diameters_mm,
    )


# DICOM


def make_uid(*names: object) -> str:
    """A valid UID that is the same for the same names: a UUID of our own name space, under DICOM's root for UUIDs."""
    return f"2.25.{uuid5(NAMESPACE_URL, '/'.join(['scangan', 'phantom', *map(str, names)])).int}"


def slice_heights_mm(chest: Chest) -> list[float]:
    """z in mm of each slice of `chest.hounsfield`, as its file says it."""
    return [round(chest.origin_mm[2] + number * chest.spacing_mm[2], 4) for number in range(len(chest.hounsfield))]


def describe_series(chest: Chest, cohort: str, slice_spacing_mm: float, seed: int, storage: Storage) -> Dataset:
    """What the headers of all files of a series have in common."""
    scanner, (columns_mm, rows_mm, _) = SCANNERS[cohort], chest.spacing_mm
    patient_id = f"PHANTOM-{cohort.upper()}-{storage.patient + 1:04d}"
    names = (cohort, seed, *chest.hounsfield.shape, storage.number)
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    header.StudyDate = header.SeriesDate = header.ContentDate = "20000101"
    header.StudyTime = header.SeriesTime = header.ContentTime = "120000"
    header.Modality = "CT"
    header.AccessionNumber = header.ReferringPhysicianName = header.StudyID = ""
    header.Manufacturer, header.ManufacturerModelName = scanner.manufacturer, scanner.model
    header.StudyDescription = header.SeriesDescription = "synthetic phantom"
    header.PatientName, header.PatientID = "PHANTOM^CHEST", patient_id
    header.PatientBirthDate = header.PatientSex = ""
    header.BodyPartExamined = "CHEST"
    header.ImageComments = "Rendered by Scangan; not a patient"
    header.StudyInstanceUID, header.SeriesInstanceUID = make_uid(*names, "study"), make_uid(*names, "series")
    header.FrameOfReferenceUID = make_uid(*names, "frame")
    header.SeriesNumber, header.AcquisitionNumber, header.PositionReferenceIndicator = 2, 1, ""
    header.KVP, header.ConvolutionKernel, header.TableHeight = scanner.kvp, scanner.kernel, scanner.table_height_mm
    # Not the slice spacing: whoever takes it for that finds a body too long or too short.
    header.SliceThickness = round(slice_spacing_mm * scanner.thickness, 4)
    header.ReconstructionDiameter = round(columns_mm * chest.hounsfield.shape[2], 4)
    header.GantryDetectorTilt = 0
    header.PatientPosition = "FFS" if storage.feet_first else "HFS"
    header.ImageOrientationPatient = [-1 if storage.feet_first else 1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [rows_mm, columns_mm]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = chest.hounsfield.shape[1:]
    header.BitsAllocated = 16
    header.RescaleSlope, header.RescaleType = 1, "HU"
    header.WindowCenter, header.WindowWidth = -600, 1500
    if scanner.round_field:
        header.BitsStored, header.HighBit, header.PixelRepresentation, header.RescaleIntercept = 16, 15, 1, 0
        header.PixelPaddingValue = PADDING
    else:
        header.BitsStored, header.HighBit, header.PixelRepresentation, header.RescaleIntercept = 12, 11, 0, -1024
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return header


def write_series(folder: Path, chest: Chest, header: Dataset, storage: Storage) -> None:
    """One file a slice, numbered from the feet up, or from the head down."""
    series = folder / header.PatientID / header.StudyInstanceUID / header.SeriesInstanceUID
    series.mkdir(parents=True, exist_ok=True)
    positions = slice_heights_mm(chest)
    order = range(len(positions))
    x, y, _ = chest.origin_mm
    x += storage.feet_first * chest.spacing_mm[0] * (chest.hounsfield.shape[2] - 1)
    for instance, number in enumerate(reversed(order) if storage.reversed_order else order, 1):
        pixels = chest.hounsfield[number].astype(np.int16)
        if "PixelPaddingValue" in header:
            pixels = np.where(chest.outside, PADDING, pixels).astype("<i2")
        else:
            pixels = (pixels - int(header.RescaleIntercept)).astype("<u2")
        header.PixelData = (pixels[:, ::-1] if storage.feet_first else pixels).tobytes()
        header.InstanceNumber = instance
        header.ImagePositionPatient = [round(x, 4), round(y, 4), positions[number]]
        header.SliceLocation = positions[number]
        header.SOPInstanceUID = make_uid(header.SeriesInstanceUID, instance)
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(series / f"{instance:06d}.dcm", enforce_file_format=True)


# Readers


def read_nodules(rng: np.random.Generator, chest: Chest, storage: Storage) -> list[Annotation]:
    """What four readers mark: larger nodules are seen by more of them, and no two draw or rate quite alike."""
    annotations = []
    for nodule in chest.nodules:
        diameter = 2.8 * nodule.radius_mm  # as its outlines are wide
        # Of the readers of LIDC-IDRI about half mark a nodule of 5 mm and four in five one of 15 mm.
        for _ in range(READERS):
            if rng.random() < np.clip(0.2 + 0.055 * diameter, 0.3, 0.95):
                ratings = rate(rng, nodule)
                annotations.append(Annotation(**ratings, contours=tuple(draw_contours(rng, nodule, chest, storage))))
    return annotations


def rate(rng: np.random.Generator, nodule: Nodule) -> dict[str, int]:
    """The nine characteristics, around a nodule's truth."""
    # As the outlines are wide, by which the numbers below were chosen.
    diameter, solid = 2.8 * nodule.radius_mm, nodule.texture == "solid"
    around = {
        "subtlety": 3.0 + 0.09 * diameter - 0.6 * (not solid),
        "sphericity": 4.0,
        "margin": 4.3 if solid else 2.6,
        "lobulation": 1.2 + 0.05 * diameter,
        "spiculation": 1.1 + 0.06 * diameter,
        "texture": {"ground-glass": 1.3, "part-solid": 3.0, "solid": 4.9}[nodule.texture],
        "malignancy": 1.6 + 0.12 * diameter,
    }
    ratings = {name: int(np.clip(np.rint(rng.normal(mean, 0.6)), 1, 5)) for name, mean in around.items()}
    return ratings | {"internalStructure": 1, "calcification": 6}  # soft tissue, none


def draw_contours(
    rng: np.random.Generator, nodule: Nodule, chest: Chest, storage: Storage
) -> Iterator[tuple[float, str]]:
    """One reader's outlines of a nodule: z in mm, and `column,row` lines as LIDC-IDRI has them.

    As there, an outline runs through the first pixels outside of the nodule, and ends where it began.
    """
    pixel, positions = chest.spacing_mm[0], np.array(slice_heights_mm(chest))
    radius = nodule.radius_mm * np.clip(rng.normal(1, 0.05), 0.8, 1.2)
    centre = np.array(nodule.centre_mm) + rng.normal(0, 0.05 * radius, 3) * (1, 1, 0)
    column, row = (centre[:2] - chest.origin_mm[:2]) / pixel
    if storage.feet_first:
        column = chest.hounsfield.shape[2] - 1 - column
    nearest = np.argmin(abs(positions - centre[2]))
    longest = nodule.form.longest * radius
    rows, columns = (
        np.arange(max(0, round(place - longest / pixel) - 2), min(length, round(place + longest / pixel) + 3))
        for place, length in zip((row, column), chest.outside.shape, strict=True)
    )
    across = (columns - column) * pixel * (-1 if storage.feet_first else 1)
    for number in np.flatnonzero((abs(positions - centre[2]) < longest) | (np.arange(len(positions)) == nearest)):
        away_mm = np.meshgrid(centre[2] - positions[number], (rows - row) * pixel, across, indexing="ij")
        [inside] = nodule.form.depth_mm(np.stack(away_mm, -1), radius * rng.normal(1, 0.03)) > 0
        if not inside.any():
            if number != nearest:
                continue
            inside[round(row) - rows[0], round(column) - columns[0]] = True
        # A section beside the centre may fall into pieces.
        parts, _ = label(inside)
        mask = np.zeros(chest.outside.shape, bool)
        mask[np.ix_(rows, columns)] = binary_fill_holes(parts == np.bincount(parts[inside]).argmax())
        yield positions[number].item(), outline(mask)


def outline(mask: np.ndarray) -> str:
    """The pixels around a round mask, as `column,row` lines that go around it once."""
    around = np.argwhere(binary_dilation(mask) & ~mask)
    down, right = (around - np.argwhere(mask).mean(0)).T
    around = around[np.argsort(np.arctan2(down, right))]
    return "\n".join(f"{column},{row}" for row, column in [*around, around[0]])


def write_annotations(path: Path, scans: list[tuple[Dataset, list[float], list[Annotation]]]) -> None:
    """An SQLite database in pylidc's schema: header, slice positions and annotations of each scan."""
    from sqlalchemy import create_engine

    pylidc = prepare_pylidc()
    tables: dict[str, list[dict[str, Any]]] = {"scans": [], "zvals": [], "annotations": [], "contours": []}

    def insert(table: str, **values: object) -> int:
        tables[table].append({"id": len(tables[table]) + 1, **values})
        return len(tables[table])

    for header, positions, marked in scans:
        scan = insert(
            "scans",
            study_instance_uid=header.StudyInstanceUID,
            series_instance_uid=header.SeriesInstanceUID,
            patient_id=header.PatientID,
            slice_thickness=float(header.SliceThickness),
            pixel_spacing=float(header.PixelSpacing[0]),
            contrast_used=False,
            is_from_initial=False,
            sorted_dicom_file_names="",
        )
        for position in positions:
            insert("zvals", scan_id=scan, val=position)
        for annotation in marked:
            ratings = {each.name: getattr(annotation, each.name) for each in fields(annotation)[:-1]}
            number = insert("annotations", scan_id=scan, _nodule_id=str(len(tables["annotations"])), **ratings)
            for position, coordinates in annotation.contours:
                insert(
                    "contours",
                    annotation_id=number,
                    inclusion=True,
                    image_z_position=position,
                    dicom_file_name="",
                    coords=coordinates,
                )
    engine = create_engine(f"sqlite:///{path}")
    pylidc.Scan.metadata.create_all(engine)
    with engine.begin() as connection:
        for name, rows in tables.items():
            if rows:
                connection.execute(pylidc.Scan.metadata.tables[name].insert(), rows)
    engine.dispose()
