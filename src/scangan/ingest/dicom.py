"""CT and MR scans from DICOM: series found by their tags in any folder tree, and read as volumes with a geometry.

Nothing is taken from names or folders. What cannot be used is refused by name, with what was found and what to do.
Positions are millimetres in the patient's frame of DICOM (LPS: x to the left, y to the back, z to the head).
"""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from filecmp import cmp
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
)

from scangan.ingest.frame_decoder import DecoderError, decode_frames
from scangan.rejected import Rejection, Unusable

log = logging.getLogger(__name__)

IMAGE_CLASSES = {
    "CT": (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
    "MR": (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
}
# What a scanner writes where it measured nothing becomes air (Hounsfield units), in MR no signal.
PADDING = {"CT": -1024, "MR": 0}
# What scanners write for Hounsfield units (RescaleType); US: unspecified, which some write for plain Hounsfield units.
HOUNSFIELD_TYPE = re.compile(
    r"""[\s\[("']* (hu | us | unspecified | houn[ds]*fi?e?i?ld(['’]?s)?) ([\s_-]*units?)? ([\s_-]*[\[(]hu[\])])?
    [\s\])"'.]*""",
    re.IGNORECASE | re.VERBOSE,
)
# No tissue and no metal measures more: the top of the scanners' extended scale. More than this in a file without signs
# are values that were stored with a sign (63536 for -2000).
MOST_HOUNSFIELD = 30_710
# What was stored with a sign in a file without is padding where it is less than any noise in air, or nothing else has
# a sign. Padding is one value, or two (outside the field, outside the bore).
LEAST_MEASURED = -2048
PADDING_VALUES = 2

SAME_POSITION_MM = 0.01
# How far a slice may lie from where an even spacing puts it: along the normal, as a share of the spacing (positions
# are often rounded), and across it, in pixels. A missing slice moves its neighbours by at least half a spacing.
UNEVEN_SPACING = 0.1
SHIFTED_PIXELS = 0.5
# Half a pixel at the far end of 500 pixels.
SAME_DIRECTION = 1e-3
SAME_PIXEL_SPACING = 1e-3

# Two passes of a scanner, one half a spacing further on, are no volume. Slices of a volume differ less from their
# neighbours than from those further off: 0.5 to 0.79 times as much in chest CT of 2 to 20 mm and brain MR of 1 to 5 mm,
# any five slices of them; 1.0 in pure noise. Of two passes they differ more: 1.35 times with the body 4 mm aside, 1.4
# with the breath 10 mm off, 5 times with two patients. Passes in one breath that differ in contrast alone stay below 1:
# these the headers tell.
TURNED_ABOUT = 1.2
PASSES = (2, 3)
COMPARED_PIXELS = 32  # at least, along rows and along columns of larger slices
COMPARED_BY_CHANCE = 4  # noise of n pixels strays by up to 3.3 / sqrt(n)

INT16 = np.iinfo(np.int16)
HEADER_BYTES = 2**15
# More than any slice, radiograph or deflated scan has; what claims more is damaged, and would fill the memory.
FRAME_PIXELS = 2**26
INFLATED_BYTES = 2**28
FIRST_GROUPS = (b"\x02\0", b"\0\x02", b"\x08\0", b"\0\x08")  # what a file without preamble begins with
PIXEL_DATA = (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")
EXPLICIT_TYPES = (b"OW", b"OB", b"UN")  # of pixel data
UNDEFINED_LENGTH = 0xFFFFFFFF

KIND_TAGS = "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID Modality ImageType".split()
PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}  # and how many numbers
# Where enhanced files keep, for all frames or for each, what other files have at the top.
FUNCTIONAL_GROUPS = """
    FrameContentSequence PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence
    PixelValueTransformationSequence CTReconstructionSequence
""".split()
PIXEL_TAGS = """
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
""".split()
FACT_TAGS = "RescaleType Manufacturer ConvolutionKernel SliceThickness".split()
FRAME_TAGS = """
    RescaleSlope RescaleIntercept SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
""".split()
# What slices of one acquisition share, or have each for itself.
ACQUISITION = """
    AcquisitionNumber FrameAcquisitionNumber TemporalPositionIdentifier TemporalPositionIndex TriggerTime EchoNumbers
    KVP ContrastBolusAgent
""".split()
TIMES = "FrameAcquisitionDateTime AcquisitionDateTime AcquisitionTime ContentTime".split()
IDENTIFYING = """
    PatientName OtherPatientNames PatientBirthName PatientMotherBirthName PatientID OtherPatientIDs PatientBirthDate
    PatientAddress PatientTelephoneNumbers ResponsiblePerson AccessionNumber StudyID PerformedProcedureStepID
    StudyDate SeriesDate AcquisitionDate AcquisitionDateTime ContentDate InstanceCreationDate
    PerformedProcedureStepStartDate InstitutionName InstitutionAddress InstitutionalDepartmentName StationName
    DeviceSerialNumber ReferringPhysicianName PerformingPhysicianName PhysiciansOfRecord RequestingPhysician
    NameOfPhysiciansReadingStudy OperatorsName StudyInstanceUID SeriesInstanceUID
""".split()
IDENTIFYING_TAGS = [Tag(keyword) for keyword in IDENTIFYING]
FIND_TAGS = [*map(Tag, KIND_TAGS), *IDENTIFYING_TAGS]
LAYOUT_TAGS = [Tag(keyword) for keyword in (*PIXEL_TAGS, *FACT_TAGS, *KIND_TAGS) if keyword != "SOPInstanceUID"]
ACQUISITION_TAGS, TIME_TAGS = [Tag(keyword) for keyword in ACQUISITION], [Tag(keyword) for keyword in TIMES]
READ_TAGS = [*LAYOUT_TAGS, *map(Tag, (*PLACE, *FRAME_TAGS)), *ACQUISITION_TAGS, *TIME_TAGS]
DATE_FORMS = ("%Y%m%d", "%y%m%d", "%Y-%m-%d", "%m-%d-%Y", "%d-%m-%Y", "%Y_%m_%d", "%m_%d_%Y", "%d_%m_%Y", "%d.%m.%Y")


@dataclass(frozen=True)
class Series:
    """What the headers say of the files of one series.

    patient_id: as written, or the StudyInstanceUID where there is none.
    identifiers: values that name a person, place, date or examination, as they may appear in paths.
    """

    series_uid: str
    patient_id: str
    files: tuple[Path, ...]
    identifiers: frozenset[str]


@dataclass(frozen=True)
class RawScan:
    """A scan as it was measured.

    voxels: int16 Hounsfield units (MR: rescaled values) [slices, rows, columns], sorted along the slice normal.
    affine: float64 [4, 4], (column, row, slice, 1) -> LPS mm of the voxel's centre. Not orthogonal after gantry tilt.
    facts: modality, manufacturer, kernel, native_spacing_mm (between columns, rows, slices), slices,
        slice_thickness_mm (NaN if not given), tilt_degrees (between the slice normal and the way from slice to slice),
        duplicate_slices (left out). Nothing that identifies.
    """

    voxels: np.ndarray
    affine: np.ndarray
    facts: dict[str, Any]


def find_series(files: Sequence[Path], root: Path, modality: str = "CT") -> tuple[list[Series], list[Rejection]]:
    """Group files by SeriesInstanceUID, from their headers alone.

    files: all below `root`. modality: `CT` or `MR`. Returns the series, ordered by uid, and, ordered by source, the
    files that belong to none: no DICOM, damaged, of another modality or kind, localizers, copies of a file, several
    patients in a series.
    """

    def reject(header: _Header, rejected: Unusable) -> None:
        findings.append(rejected.of(header.file.relative_to(root).as_posix(), header.identifiers))

    findings, by_series = [], defaultdict(list)
    known: dict[tuple[bytes | None, ...], frozenset[str]] = {}
    with quiet():
        for header in (_inspect(file, modality, known) for file in files):
            if header.rejected:
                reject(header, header.rejected)
            else:
                by_series[header.series_uid].append(header)

    series = []
    for uid, headers in sorted(by_series.items()):
        identifiers = frozenset().union(*(header.identifiers for header in headers))
        if others := [header for header in headers if header.patient_id != headers[0].patient_id]:
            source = Path(os.path.commonpath([header.file for header in headers])).relative_to(root).as_posix()
            names = f"{others[0].file.name} than in {headers[0].file.name}"
            found = f"another PatientID in {names} ({len(headers)} files)"
            refused = Unusable("several patients in one series", found, "correct the headers")
            findings.append(refused.of(source, identifiers))
            continue
        originals: dict[str, _Header] = {}
        for header in headers:
            original = originals.setdefault(header.instance_uid, header)
            if original is not header and cmp(original.file, header.file, shallow=False):
                found = f"the content of {original.file.name}"
                reject(header, Unusable("copy of another file", found, "nothing to do", counted=False))
                headers = [other for other in headers if other is not header]
        series.append(Series(uid, headers[0].patient_id, tuple(header.file for header in headers), identifiers))
    return series, sorted(findings, key=lambda finding: finding.source)


def identifiers_of(found: Iterable[Series | Rejection]) -> frozenset[str]:
    """All that identifies someone in any of these."""
    return frozenset().union(*(each.identifiers for each in found))


def read_series(files: Sequence[Path], modality: str = "CT", min_slices: int = 3) -> RawScan:
    """Read the files of one series as a volume.

    files: in any order. modality: `CT` (Hounsfield units) or `MR`. min_slices: at least 2, as the spacing comes from
    positions alone. Padding becomes air, identical slices at one position are kept once.
    Raises Unusable, whose reasons are: those of find_series; no pixel data, truncated or damaged pixel data, no
    decoder, colour image, frames without positions; missing or invalid (a tag), not Hounsfield units, values out of
    range; several series, mixed matrix sizes, pixel spacings or orientations; too few slices, missing slices, uneven
    slice spacing, shifted slices, several images at one position, interleaved acquisitions.
    """
    known: dict[tuple[bytes | UID | None, ...], _Layout] = {}
    with quiet():
        frames = [frame for file in files for frame in _read_frames(Path(file), modality, known)]
        if not frames:
            raise Unusable("too few slices", "none", "nothing to do, or complete the series")
        _check_alike(frames)
        slices = _sort_slices(frames, max(min_slices, 2))
        affine = _place_slices(slices)
        _check_acquisitions([frames[0] for frames in slices], modality)
        voxels = _read_voxels(slices, modality)
        _check_neighbours(voxels, modality)
    first, step = frames[0], affine[:3, 2]
    spacing = float(step @ _normal(first))
    if len(slices) < len(frames):
        log.warning("%d identical slices left out of %d", len(frames) - len(slices), len(frames))
    return RawScan(
        voxels,
        affine,
        {
            **first.layout.facts,
            "native_spacing_mm": (first.pixel_spacing[1], first.pixel_spacing[0], spacing),
            "slices": len(slices),
            "tilt_degrees": round(math.degrees(math.acos(min(1, spacing / float(np.linalg.norm(step))))), 3),
            "duplicate_slices": len(frames) - len(slices),
        },
    )


# Headers


@dataclass(frozen=True)
class _Header:
    """What find_series takes from one file; `rejected` says why the file belongs to no series."""

    file: Path
    series_uid: str = ""
    instance_uid: str = ""
    patient_id: str = ""
    identifiers: frozenset[str] = frozenset()
    rejected: Unusable | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings of values that break the standard: those that matter are refused here by name."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
        logger.setLevel(logging.ERROR)  # each warning is logged as well
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def damage_named(file: Path) -> Iterator[None]:
    """Parsers meet damaged files with nearly any exception; whichever it is, the file is refused."""
    try:
        yield
    except Unusable:
        raise
    except Exception as error:
        # Not its message: that may quote the header.
        found = f"{type(error).__name__} when reading {file.name}"
        raise Unusable("damaged file", found, "replace the file, or remove it") from error


def read_header(file: Path, tags: list[BaseTag]) -> tuple[Dataset, bytes, int]:
    """The header of a file, the first 12 bytes of its pixel data element (tag and length), and where that begins."""
    with file.open("rb") as handle:
        # Parsing from memory is faster by a third, and a header is rarely longer than this.
        for content in (BytesIO(handle.read(HEADER_BYTES)), handle):
            try:
                if content is handle:
                    _check_inflated(handle)
                dataset = _parse(content, tags)
                element = content.read(12)
            except Exception:
                if content is handle:
                    raise
                continue
            if len(element) == 12:
                break
        return dataset, element, content.tell() - len(element)


def _parse(content: BinaryIO, tags: list[BaseTag]) -> Dataset:
    """The header in `content`, which is left at the pixel data element, or at the end where there is none."""
    content.seek(0)
    start = content.read(132)
    content.seek(0)
    has_preamble = start.endswith(b"DICM")
    try:
        if has_preamble or start.startswith(FIRST_GROUPS):
            dataset = pydicom.dcmread(content, stop_before_pixels=True, force=True, specific_tags=tags)
            if has_preamble or "SOPClassUID" in dataset or "SeriesInstanceUID" in dataset:
                return dataset
    except Exception:
        if has_preamble:
            raise
    found = "no DICOM header" if start else "an empty file"
    raise Unusable("not DICOM", found, "nothing to do, or convert it to DICOM", counted=False)


def _check_inflated(content: BinaryIO) -> None:
    """Raise Unusable if a deflated file holds more than `INFLATED_BYTES`: its parser would inflate it at once."""
    content.seek(0)
    try:
        read_preamble(content, force=True)
        meta = read_dataset(content, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        syntax = meta.get("TransferSyntaxUID")
    except Exception:  # neither is this deflated for the parser
        return
    if syntax != DeflatedExplicitVRLittleEndian:
        return
    inflate, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while inflated <= INFLATED_BYTES and (chunk := content.read(2**12)):  # which inflate to 4 MiB at most
        inflated += len(inflate.decompress(chunk))
    if inflated > INFLATED_BYTES:
        found = f"more than {INFLATED_BYTES} bytes when inflated"
        raise Unusable("damaged file", found, "replace the file, or convert it to Explicit VR Little Endian")


def check_object(dataset: Dataset) -> None:
    """Raise Unusable unless the header says what kind of object this is, and it is no index of others."""
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise Unusable("no image", "a DICOMDIR", "nothing to do", counted=False)
    if dataset.get("SOPClassUID") is None and dataset.get("Modality") is None:
        raise Unusable("damaged file", "no SOPClassUID", "replace the file, or remove it")


def _check_kind(dataset: Dataset, modality: str) -> None:
    """Raise Unusable unless this is an image of a scan."""
    check_object(dataset)
    found_class, found_modality = dataset.get("SOPClassUID"), dataset.get("Modality")
    if found_modality and found_modality != modality:
        choice = f", or choose modality {found_modality}" if found_modality in IMAGE_CLASSES else ""
        remedy = f"nothing to do{choice}"
        raise Unusable("another modality", f"{found_modality}, allowed: {modality}", remedy, counted=False)
    if found_class and found_class not in IMAGE_CLASSES[modality]:
        found = f"{found_class.name}, allowed: {' | '.join(allowed.name for allowed in IMAGE_CLASSES[modality])}"
        raise Unusable("another kind of object", found, "nothing to do", counted=False)
    if "LOCALIZER" in (dataset.get("ImageType") or ()):
        raise Unusable("localizer", "ImageType LOCALIZER", "nothing to do", counted=False)
    if not dataset.get("SeriesInstanceUID"):
        raise Unusable("missing SeriesInstanceUID", "none", "export the scan again")


def _inspect(file: Path, modality: str, known: dict[tuple[bytes | None, ...], frozenset[str]]) -> _Header:
    """What find_series needs of a file. `known`: identifiers by header, as the files of a series share them."""
    identifiers: frozenset[str] = frozenset()
    try:
        with damage_named(file):
            dataset, _, _ = read_header(file, FIND_TAGS)
            key = _raw(dataset, IDENTIFYING_TAGS)
            if key not in known:
                known[key] = _identifiers(dataset)
            identifiers = known[key]
            _check_kind(dataset, modality)
            patient_id = str(dataset.get("PatientID") or "").strip() or str(dataset.get("StudyInstanceUID"))
            uids = (str(dataset.SeriesInstanceUID), str(dataset.get("SOPInstanceUID")))
    except Unusable as rejected:
        return _Header(file, identifiers=identifiers, rejected=rejected)
    return _Header(file, *uids, patient_id, identifiers)


def _identifiers(dataset: Dataset) -> frozenset[str]:
    """Identifying values of a header: names whole and in parts, dates in the forms that paths write them."""
    values = set()
    for element in dataset:
        if element.tag not in IDENTIFYING_TAGS:
            continue
        for value in map(str, element.value if isinstance(element.value, MultiValue) else [element.value or ""]):
            values.add(value.strip())
            if element.VR == "PN":
                values.update(re.split(r"[\^=,\s]+", value))
            elif element.VR in ("DA", "DT"):
                with suppress(ValueError):
                    values.update(datetime.strptime(value[:8], "%Y%m%d").strftime(form) for form in DATE_FORMS)
    return frozenset(value for value in values if len(value) > 1)


# Frames: what read_series takes from the headers


@dataclass(frozen=True)
class Stored:
    """What stored values mean.

    padding: lowest and highest value of each range that means padding.
    """

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[tuple[int, int], ...]

    def with_sign(self, padding: tuple[tuple[int, int], ...]) -> Stored:
        """The same values, read with a sign; `padding` is added."""
        tagged = self.padding if self.signed else _signed(self.padding, self.bits_allocated)
        return replace(self, signed=True, padding=tagged + padding)


@dataclass(frozen=True)
class _Layout:
    """What nearly all files of a series share: how their pixels are stored, and the facts."""

    series_uid: str
    shape: tuple[int, int]  # rows, columns
    frames: int  # in one file
    syntax: UID
    stored: Stored
    facts: dict[str, Any]

    @property
    def is_plain(self) -> bool:
        """Whether pixels can be read as they lie in the file."""
        return self.syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and self.stored.bits_allocated == 16


@dataclass(frozen=True)
class _Frame:
    """One slice: where its pixels are, where it lies, and what turns stored values into Hounsfield units."""

    file: Path
    index: int  # among the frames of the file
    start: int  # byte of the file where plain pixels begin
    layout: _Layout
    position: tuple[float, ...]  # (x, y, z) mm of the first pixel's centre
    orientation: tuple[float, ...]  # directions of growing column, then of growing row
    pixel_spacing: tuple[float, ...]  # mm between rows, between columns
    slope: float
    intercept: float
    acquisition: tuple[Any, ...]  # of ACQUISITION_TAGS, as written
    times: tuple[Any, ...]  # of TIME_TAGS, as written


def _read_frames(file: Path, modality: str, known: dict[tuple[bytes | UID | None, ...], _Layout]) -> list[_Frame]:
    """The frames of one file. `known`: layouts by header, as converting the values anew would double the time."""
    with damage_named(file):
        dataset, element, start = read_header(file, READ_TAGS)
        key = (*_raw(dataset, LAYOUT_TAGS), transfer_syntax(dataset))
        if key not in known:
            _check_kind(dataset, modality)
            known[key] = _read_layout(file, dataset, modality)
        layout = known[key]
        start += _check_pixel_data(file, element, start, layout)
        frames = []
        for index in range(layout.frames):
            header = _frame_header(file, dataset, index)
            place = [numbers(file, header, keyword, count) for keyword, count in PLACE.items()]
            position, orientation, spacing = place
            slope, intercept = _read_rescale(file, header, modality)
            begin = start + 2 * index * math.prod(layout.shape)
            passes = (_raw(header, ACQUISITION_TAGS), _raw(header, TIME_TAGS))
            frames.append(_Frame(file, index, begin, layout, position, orientation, spacing, slope, intercept, *passes))
        return frames


def _raw(dataset: Dataset, tags: Sequence[BaseTag | str]) -> tuple[bytes | None, ...]:
    return tuple(getattr(dataset.get_item(tag), "value", None) for tag in tags)


def _read_layout(file: Path, dataset: Dataset, modality: str) -> _Layout:
    stored = read_stored(file, dataset)
    colour = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if dataset.get("SamplesPerPixel", 1) != 1 or not colour.startswith("MONOCHROME"):
        raise Unusable("colour image", f"{colour} in {file.name}", "use the original series")
    header = _frame_header(file, dataset, 0)
    unit = text(header, "RescaleType")
    if modality == "CT" and unit and not HOUNSFIELD_TYPE.fullmatch(unit):
        raise Unusable("not Hounsfield units", f"RescaleType {unit} in {file.name}", "use the original series")
    return _Layout(
        series_uid=dataset.SeriesInstanceUID,
        shape=(dataset.Rows, dataset.Columns),
        frames=int(dataset.get("NumberOfFrames") or 1),
        syntax=transfer_syntax(dataset),
        stored=stored,
        facts={
            "modality": modality,
            "manufacturer": text(header, "Manufacturer"),
            "kernel": text(header, "ConvolutionKernel"),
            "slice_thickness_mm": _thickness(header),
        },
    )


def read_stored(file: Path, dataset: Dataset) -> Stored:
    """What the stored values of a file mean. Raises Unusable if it says too little of them, or has none."""
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise no_pixels(file)
    if dataset.Rows * dataset.Columns > FRAME_PIXELS:
        found = f"{dataset.Rows} x {dataset.Columns} pixels in {file.name}, allowed: {FRAME_PIXELS} at most"
        raise Unusable("damaged file", found, "replace the file, or remove it")
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation"):
        if dataset.get(keyword) is None:
            raise Unusable(f"missing {keyword}", f"none in {file.name}", "export the series again")
    allocated, bits, signed = dataset.BitsAllocated, dataset.BitsStored, bool(dataset.PixelRepresentation)
    high_bit = dataset.get("HighBit", bits - 1)
    if not 0 < bits <= high_bit + 1 <= allocated:
        found = f"{bits} bits up to bit {high_bit} of {allocated} in {file.name}"
        raise Unusable("invalid BitsStored", found, "export the series again")
    return Stored(allocated, bits, high_bit, signed, _read_padding(file, dataset, allocated, signed))


def text(header: Dataset, keyword: str) -> str:
    """What a tag says, in one line; nothing where it holds no text: nothing needs it."""
    with suppress(Exception):
        value = header.get(keyword)
        values = value if isinstance(value, MultiValue) else [value]
        if all(isinstance(each, str) for each in values):
            return " ".join(" ".join(values).replace("\0", " ").split())
    return ""


def _thickness(header: Dataset) -> float:
    """SliceThickness in mm; NaN where that is not one positive number: nothing needs it."""
    with suppress(ValueError, AttributeError):  # no number, and no text
        written = (_raw(header, ["SliceThickness"])[0] or b"").decode("ascii").strip("\0 ")
        thickness = _number(written.replace(",", "."))
        return thickness if 0 < thickness < math.inf else math.nan
    return math.nan


def _check_pixel_data(file: Path, element: bytes, start: int, layout: _Layout) -> int:
    """How many bytes tag and length of the pixel data take. Raises Unusable unless the pixels can be read."""
    check_decodable(file, element, layout.syntax)
    if not layout.is_plain:
        return 0
    # Seen from the element, as some files are implicit and say otherwise; as lengths, these would be odd.
    size = 12 if element[4:6] in EXPLICIT_TYPES else 8
    length = int.from_bytes(element[size - 4 : size], "little")
    if length == UNDEFINED_LENGTH:
        found = f"compressed pixel data in {file.name}, which says {layout.syntax.name}"
        raise Unusable("damaged pixel data", found, "export the series again")
    needed = 2 * layout.frames * math.prod(layout.shape)
    if (whole := min(length, file.stat().st_size - start - size)) < needed:
        raise _truncated(file, whole, needed)
    return size


def check_decodable(file: Path, element: bytes, syntax: UID) -> None:
    """Raise Unusable unless `element`, the first bytes behind a header, begins pixels that can be decoded."""
    # The header of a deflated file ends elsewhere: there the decoder looks.
    if element[:4] not in PIXEL_DATA and syntax != DeflatedExplicitVRLittleEndian:
        raise no_pixels(file)
    _check_decoder(syntax)


def no_pixels(file: Path) -> Unusable:
    return Unusable("no pixel data", f"a header alone in {file.name}", "export the series again with its images")


def _truncated(file: Path, found: int, needed: int) -> Unusable:
    details = f"{found} of {needed} bytes in {file.name}"
    return Unusable("truncated pixel data", details, "replace the file by a whole copy")


def transfer_syntax(dataset: Dataset) -> UID:
    is_implicit, is_little_endian = dataset.original_encoding
    plain = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return dataset.file_meta.get("TransferSyntaxUID") or (plain if is_little_endian else ExplicitVRBigEndian)


@cache
def _check_decoder(syntax: UID) -> None:
    remedy = "convert the series to Explicit VR Little Endian"
    try:
        decoder = get_decoder(syntax)
        if decoder.is_available:
            return
        remedy += f", or install a decoder ({'; '.join(decoder.missing_dependencies)})"
    except NotImplementedError:  # none is known
        pass
    raise Unusable("no decoder", f"transfer syntax {syntax.name}", remedy)


def _read_padding(file: Path, dataset: Dataset, bits_allocated: int, signed: bool) -> tuple[tuple[int, int], ...]:
    """The ranges of stored values that mean padding."""
    bounds = [dataset.get("PixelPaddingValue")]
    bounds.append(dataset.get("PixelPaddingRangeLimit", bounds[0]))
    if None in bounds:
        return ()
    # Their sign is often written other than the pixels' (63536 for -2000), and unknown in implicit syntaxes.
    bounds = [int.from_bytes(value, "little") if isinstance(value, bytes) else value for value in bounds]
    if not all(isinstance(value, int) for value in bounds):
        found = f"{bounds[0]} in {file.name}, allowed: one whole number"
        raise Unusable("invalid PixelPaddingValue", found, "export the series again")
    bounds = [value % 2**bits_allocated for value in bounds]
    ranges = ((min(bounds), max(bounds)),)
    return _signed(ranges, bits_allocated) if signed else ranges


def _signed(ranges: Iterable[tuple[int, int]], bits: int) -> tuple[tuple[int, int], ...]:
    """Ranges of stored values, read with a sign."""
    bounds = [[value - 2**bits if value >= 2 ** (bits - 1) else value for value in bounds] for bounds in ranges]
    return tuple((min(one), max(one)) for one in bounds)


def _frame_header(file: Path, dataset: Dataset, index: int) -> Dataset:
    """A flat header of one frame: in enhanced files, what its functional groups say on top of the file's header."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
            found = f"{frames} frames without functional groups in {file.name}"
            raise Unusable("frames without positions", found, "export the scan as single slices")
        return dataset
    header = Dataset()
    header.update(dataset)
    for groups in (*dataset.get("SharedFunctionalGroupsSequence", ()), dataset.PerFrameFunctionalGroupsSequence[index]):
        for keyword in FUNCTIONAL_GROUPS:
            for group in groups.get(keyword, ()):
                header.update(group)
    return header


def _read_rescale(file: Path, header: Dataset, modality: str) -> tuple[float, float]:
    if modality == "MR" and "RescaleSlope" not in header and "RescaleIntercept" not in header:
        return 1.0, 0.0
    # Nothing is assumed for CT: values without them may be anything.
    [slope], [intercept] = (numbers(file, header, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0:
        raise Unusable("invalid RescaleSlope", f"0 in {file.name}", "export the series again")
    return slope, intercept


def numbers(file: Path, header: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """The finite numbers of a decimal string."""
    # The raw bytes: pydicom's own conversion takes ten times as long.
    written = (_raw(header, [keyword])[0] or b"").decode("ascii", "replace").strip("\0 ")
    if not written:
        raise Unusable(f"missing {keyword}", f"none in {file.name}", f"export the series again with {keyword}")
    try:
        values = tuple(map(_number, written.split("\\")))
    except ValueError:
        values = ()
    positive = keyword == "PixelSpacing"
    if len(values) != count or not all(map(math.isfinite, values)) or (positive and min(values) <= 0):
        allowed = f"{count} finite {'positive ' if positive else ''}number{'s' if count > 1 else ''}"
        raise Unusable(f"invalid {keyword}", f"{written} in {file.name}, allowed: {allowed}", "export the series again")
    return values


def _number(text: str) -> float:
    if "_" in text:  # which float takes for a mark between thousands
        raise ValueError
    return float(text)


# Geometry


def _check_alike(frames: Sequence[_Frame]) -> None:
    """Raise Unusable unless all frames share series, matrix, pixel spacing and orientation."""
    first = frames[0]
    axes = np.reshape(first.orientation, (2, 3))
    if not np.allclose(axes @ axes.T, np.eye(2), atol=SAME_DIRECTION):
        found = f"{first.orientation} in {first.file.name}, allowed: two unit vectors at right angles"
        raise Unusable("invalid ImageOrientationPatient", found, "export the series again")
    for frame in frames:
        if frame.layout.series_uid != first.layout.series_uid:
            reason, found = "several series", "two SeriesInstanceUIDs"
        elif frame.layout.shape != first.layout.shape:
            reason, found = "mixed matrix sizes", f"{first.layout.shape} and {frame.layout.shape}"
        elif math.dist(frame.pixel_spacing, first.pixel_spacing) > SAME_PIXEL_SPACING * min(first.pixel_spacing):
            reason, found = "mixed pixel spacings", f"{first.pixel_spacing} and {frame.pixel_spacing} mm"
        elif math.dist(frame.orientation, first.orientation) > SAME_DIRECTION:
            reason, found = "mixed orientations", f"{first.orientation} and {frame.orientation}"
        else:
            continue
        files = f"({first.file.name}, {frame.file.name})"
        raise Unusable(reason, f"{found} {files}", "split the series, and keep the part that is the scan")


def _normal(frame: _Frame) -> np.ndarray:
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal / np.linalg.norm(normal)


def _sort_slices(frames: Sequence[_Frame], min_slices: int) -> list[list[_Frame]]:
    """Frames sorted along the normal, those at the same position together."""
    heights = np.array([frame.position for frame in frames]) @ _normal(frames[0])
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_POSITION_MM) + 1
    slices = [[frames[index] for index in group] for group in np.split(order, starts)]
    if len(slices) < min_slices:
        found = f"{len(slices)} (from {len(frames)} images), allowed: {min_slices} or more"
        raise Unusable("too few slices", found, "nothing to do, or complete the series")
    return slices


def _place_slices(slices: Sequence[Sequence[_Frame]]) -> np.ndarray:
    """The affine of sorted slices. Raises Unusable unless they are evenly spaced on a line."""
    first = slices[0][0]
    normal = _normal(first)
    positions = np.array([frames[0].position for frames in slices])
    steps = len(slices) - 1
    step = (positions[-1] - positions[0]) / steps
    spacing = step @ normal
    off = positions - positions[0] - np.outer(np.arange(steps + 1), step)
    along = off @ normal
    across = np.linalg.norm(off - np.outer(along, normal), axis=1)
    if np.abs(along).max() > UNEVEN_SPACING * spacing:
        raise _uneven(np.diff(positions @ normal))
    if across.max() > SHIFTED_PIXELS * min(first.pixel_spacing):
        found = f"a slice {across.max():.3g} mm beside the others"
        raise Unusable("shifted slices", found, "export the series again from one acquisition")
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.pixel_spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return affine


def _check_acquisitions(frames: Sequence[_Frame], modality: str) -> None:
    """Raise Unusable if sorted slices belong to several acquisitions in turn."""

    def refuse(keyword: str) -> Unusable:
        return _interleaved(f"{keyword} in turn from slice to slice ({frames[0].file.name}, {frames[1].file.name})")

    for keyword, *values in zip(ACQUISITION, *(frame.acquisition for frame in frames), strict=True):
        passes = len(set(values))
        # Each slice may have its own, and each block of slices.
        if 1 < passes <= (len(frames) + 1) // 2 and values[passes:] == values[:-passes]:
            raise refuse(keyword)
    if modality != "CT":  # MR takes the slices of one acquisition in any order
        return
    for keyword, *times in zip(TIMES, *(frame.times for frame in frames), strict=True):
        if not all(times):
            continue
        for passes in PASSES:
            spans = sorted((min(times[start::passes]), max(times[start::passes])) for start in range(passes))
            is_apart = all(before[1] < after[0] for before, after in pairwise(spans))
            if is_apart and len(frames) >= 2 * passes:
                raise refuse(keyword)
        return


def _interleaved(found: str) -> Unusable:
    return Unusable("interleaved acquisitions", found, "split the series (acquisitions), and keep one")


def _uneven(gaps: np.ndarray) -> Unusable:
    """Why slices with these gaps (mm) are refused."""
    usual = np.median(gaps)
    missing = np.rint(gaps / usual) - 1
    worst = np.argmax(np.abs(gaps - usual))
    where = f"between slices {worst + 1} and {worst + 2} of {len(gaps) + 1}"
    if (missing >= 0).all() and (np.abs(gaps / usual - 1 - missing) <= UNEVEN_SPACING).all():
        found = f"{missing.sum():.0f} missing, the largest gap, {gaps[worst]:.4g} mm instead of {usual:.4g}, {where}"
        return Unusable("missing slices", found, "complete the series")
    found = f"gaps of {gaps.min():.4g} to {gaps.max():.4g} mm, most unlike the median of {usual:.4g} {where}"
    return Unusable("uneven slice spacing", found, "export the series again with one spacing")


# Pixels


def _read_voxels(slices: Sequence[Sequence[_Frame]], modality: str) -> np.ndarray:
    """Hounsfield units int16 [slices, rows, columns]. Raises Unusable if frames at one position differ."""
    shape = (len(slices), *slices[0][0].layout.shape)
    try:
        voxels = np.empty(shape, np.int16)
    except MemoryError as error:
        raise Unusable("damaged file", f"{shape} voxels, more than the memory", "replace the files") from error
    _read_into([(frames[0], target) for frames, target in zip(slices, voxels, strict=True)], modality)
    spare = np.empty_like(voxels[0])
    for frames, kept in zip(slices, voxels, strict=True):
        for copy in frames[1:]:
            _read_into([(copy, spare)], modality)
            if not np.array_equal(spare, kept):
                found = f"{len(frames)} at one position ({frames[0].file.name}, {copy.file.name})"
                remedy = "split the series (phases, echoes or reconstructions), and keep one"
                raise Unusable("several images at one position", found, remedy)
    return voxels


def _check_neighbours(voxels: np.ndarray, modality: str) -> None:
    """Raise Unusable if slices differ more from the next than from those two or three slices on."""
    rows, columns = (max(1, size // COMPARED_PIXELS) for size in voxels.shape[1:])
    sample = voxels[:, ::rows, ::columns].reshape(len(voxels), -1).astype(np.float32)
    if modality == "CT":
        np.maximum(sample, PADDING["CT"], out=sample)  # what is not tagged as padding
    else:  # where slices of one acquisition, taken in turn, weaken each other
        sample /= np.abs(sample).mean(axis=1, keepdims=True) + 1
    near = np.abs(np.diff(sample, axis=0)).mean(axis=1)
    most = max(TURNED_ABOUT, 1 + COMPARED_BY_CHANCE / math.sqrt(sample.shape[1]))
    for passes in PASSES:
        if len(sample) < 2 * passes:
            return
        far = np.abs(sample[passes:] - sample[:-passes]).mean(axis=1)
        between = np.convolve(near, np.full(passes, 1 / passes), "valid")
        if np.mean(between > most * far) > 0.5:
            ratio = np.median(between / np.maximum(far, 1e-6))
            found = f"slices that differ {ratio:.2g} times as much from the next as from the {passes} slices on"
            raise _interleaved(f"{found}, allowed: {most:.2g} at most")


def _read_into(targets: Sequence[tuple[_Frame, np.ndarray]], modality: str) -> None:
    """Read each frame into its target. Raises Unusable where values leave the range that the modality has."""
    if beyond := _read_frames_into(targets, modality):
        frame, _, value = beyond[0]
        untagged = _tag_padding([(frame, target) for frame, target, _ in beyond]) if modality == "CT" else None
        if untagged is None or _read_frames_into(untagged, modality):
            found = f"{value:g} in {frame.file.name}, allowed: {INT16.min} to {INT16.max}"
            raise Unusable("values out of range", found, "use the original series, or export it again")


def _read_frames_into(
    targets: Sequence[tuple[_Frame, np.ndarray]], modality: str
) -> list[tuple[_Frame, np.ndarray, float]]:
    """Read each frame into its target. Returns those whose values leave the range, with such a value."""
    read = (
        (frame, target, _rescale(pixels, padded, frame, modality, target))
        for frame, target, pixels, padded in _stored_values(targets)
    )
    return [(frame, target, value) for frame, target, value in read if value is not None]


def _tag_padding(targets: Sequence[tuple[_Frame, np.ndarray]]) -> list[tuple[_Frame, np.ndarray]] | None:
    """CT frames whose values leave the range, with the padding and the sign that would explain it; None without."""
    hounsfield: dict[int, float] = {}  # of stored values that are less than they can be
    for frame, _, pixels, padded in _stored_values(targets):
        values = np.unique(pixels if padded is None else pixels[~padded])
        values = values.view(f"i{values.itemsize}")
        measured = values * frame.slope + frame.intercept
        odd = measured < INT16.min if frame.layout.stored.signed else values < 0
        hounsfield.update(zip(values[odd].tolist(), measured[odd].tolist(), strict=True))
    padding = list(hounsfield)
    if len(padding) > PADDING_VALUES:  # of a file with many values below zero, these are measured, too
        padding = [value for value in padding if hounsfield[value] < LEAST_MEASURED]
    if len(padding) > PADDING_VALUES:
        return None
    added = tuple((value, value) for value in padding)
    return [
        (replace(frame, layout=replace(frame.layout, stored=frame.layout.stored.with_sign(added))), target)
        for frame, target in targets
    ]


def _stored_values(
    targets: Sequence[tuple[_Frame, np.ndarray]],
) -> Iterator[tuple[_Frame, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Frame, target, stored values and where they are padding, file by file; the values may lie in the target."""
    by_file = defaultdict(list)
    for frame, target in targets:
        by_file[frame.file].append((frame, target))
    for file, members in by_file.items():
        read = _read_plain if members[0][0].layout.is_plain else _decode_members
        with damage_named(file):
            for (frame, target), pixels in zip(members, read(file, members), strict=True):
                yield frame, target, *split_padding(pixels, frame.layout.stored)


def _read_plain(file: Path, members: Sequence[tuple[_Frame, np.ndarray]]) -> Iterator[np.ndarray]:
    """Uncompressed 16-bit frames, in the memory of their targets: nothing is copied."""
    with file.open("rb") as handle:
        for frame, target in members:
            handle.seek(frame.start)
            if (found := handle.readinto(target.data)) < target.nbytes:
                raise _truncated(file, found, target.nbytes)
            yield target


def _decode_members(file: Path, members: Sequence[tuple[_Frame, np.ndarray]]) -> Iterator[np.ndarray]:
    """Frames in any other transfer syntax."""
    yield from decode(file, members[0][0].layout.syntax, [frame.index for frame, _ in members])


def decode(file: Path, syntax: UID, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """As `decode_frames`. Raises Unusable for damaged frames."""
    try:
        yield from decode_frames(file, syntax, indices)
    except DecoderError as error:
        found = f"{error} when decoding {file.name} ({syntax.name})"
        raise Unusable("damaged pixel data", found, "replace the file by a whole copy") from error


def split_padding(pixels: np.ndarray, stored: Stored) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values, in the memory of `pixels`, and where they are padding: bool, of their shape; None for nowhere."""
    pixels = pixels.view(f"{'i' if stored.signed else 'u'}{pixels.itemsize}")
    masks = []
    unused = 8 * pixels.itemsize - stored.bits_stored
    if unused > 0:
        limits = np.iinfo(pixels.dtype)
        lowest, highest = limits.min >> unused, limits.max >> unused
        if stored.high_bit != stored.bits_stored - 1 or pixels.min() < lowest or pixels.max() > highest:
            # Bits that hold no value may hold anything (overlays), but padding as well: a value below zero or two.
            whole = pixels.view(f"i{pixels.itemsize}")
            beyond = (whole < 0) & ((pixels < lowest) | (pixels > highest))
            if 0 < len(np.unique(whole[beyond])) <= PADDING_VALUES:
                masks.append(beyond)
            # The sign has to reach the top bit.
            np.left_shift(pixels, 8 * pixels.itemsize - 1 - stored.high_bit, out=pixels)
            np.right_shift(pixels, unused, out=pixels)
    for lowest, highest in stored.padding:
        masks.append(pixels == lowest if lowest == highest else (pixels >= lowest) & (pixels <= highest))
    return pixels, np.logical_or.reduce(masks) if masks else None


def _rescale(
    pixels: np.ndarray, padded: np.ndarray | None, frame: _Frame, modality: str, target: np.ndarray
) -> float | None:
    """Turn stored values into Hounsfield units in int16 `target`, which `pixels` may lie in; `pixels` is changed.

    Returns a value that leaves the range, in which case the target holds nothing of use.
    """
    if padded is not None:
        pixels[padded] = 0  # so that it does not leave the range
    lowest, highest = int(pixels.min()), int(pixels.max())
    least, most = sorted(value * frame.slope + frame.intercept for value in (lowest, highest))
    may_miss_sign = modality == "CT" and not frame.layout.stored.signed and highest >= 2 ** (8 * pixels.itemsize - 1)
    if least < INT16.min - 0.5:
        return least
    if most > (MOST_HOUNSFIELD if may_miss_sign else INT16.max + 0.5):
        return most
    offset = int(frame.intercept)
    if (frame.slope, frame.intercept) == (1, offset) and pixels.itemsize == 2 and INT16.min <= offset <= INT16.max:
        np.add(pixels.view(np.int16), np.int16(offset), out=target)
    else:
        np.rint(pixels * frame.slope + frame.intercept, out=target, casting="unsafe")
    if padded is not None:
        target[padded] = PADDING[modality]
    return None
