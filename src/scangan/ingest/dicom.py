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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from filecmp import cmp
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import Dataset
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

from scangan.errors import DataError
from scangan.ingest.listing import NOT_DATA
from scangan.rejected import Rejection, Unusable

log = logging.getLogger(__name__)

IMAGE_CLASSES = {
    "CT": (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
    "MR": (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
}
# What a scanner writes where it measured nothing becomes air (Hounsfield units), in MR no signal.
PADDING = {"CT": -1024, "MR": 0}
HOUNSFIELD_TYPES = ("HU", "US", "")  # US: unspecified, which some scanners write for plain Hounsfield units

SAME_POSITION_MM = 0.01
# How far a slice may lie from where an even spacing puts it: along the normal, as a share of the spacing (positions
# are often rounded), and across it, in pixels. A missing slice moves its neighbours by at least half a spacing.
UNEVEN_SPACING = 0.1
SHIFTED_PIXELS = 0.5
# Half a pixel at the far end of 500 pixels.
SAME_DIRECTION = 1e-3
SAME_PIXEL_SPACING = 1e-3

INT16 = np.iinfo(np.int16)
HEADER_BYTES = 2**15
FIRST_GROUPS = (b"\x02\0", b"\0\x02", b"\x08\0", b"\0\x08")  # what a file without preamble begins with
PIXEL_DATA = (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")
EXPLICIT_TYPES = (b"OW", b"OB", b"UN")  # of pixel data
UNDEFINED_LENGTH = 0xFFFFFFFF

KIND_TAGS = "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID Modality ImageType".split()
PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}  # and how many numbers
# Where enhanced files keep, for all frames or for each, what other files have at the top.
FUNCTIONAL_GROUPS = """
    PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence
    CTReconstructionSequence
""".split()
PIXEL_TAGS = """
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
""".split()
FACT_TAGS = "RescaleType Manufacturer ConvolutionKernel SliceThickness".split()
FRAME_TAGS = """
    RescaleSlope RescaleIntercept SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
""".split()
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
READ_TAGS = [*LAYOUT_TAGS, *map(Tag, (*PLACE, *FRAME_TAGS))]
DECODER_TAGS = [*PIXEL_TAGS, "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
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


def list_files(root: Path) -> list[Path]:
    """Every file under `root`, sorted; links are followed, hidden files and folders are not, nor `NOT_DATA`.

    Raises DataError if `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: root: found no such folder, allowed: a folder of DICOM files")
    files, seen = [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_DATA)
        files += [Path(folder, name) for name in names if not name.startswith(".") and name not in NOT_DATA]
    return sorted(file for file in files if file.is_file())  # no broken links, no pipes


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
    with _quiet():
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
    decoder, colour image, frames without positions; missing or invalid (a tag), not Hounsfield units; several series,
    mixed matrix sizes, pixel spacings or orientations; too few slices, missing slices, uneven slice spacing, shifted
    slices, several images at one position.
    """
    known: dict[tuple[bytes | UID | None, ...], _Layout] = {}
    with _quiet():
        frames = [frame for file in files for frame in _read_frames(Path(file), modality, known)]
        if not frames:
            raise Unusable("too few slices", "none", "nothing to do, or complete the series")
        _check_alike(frames)
        slices = _sort_slices(frames, max(min_slices, 2))
        affine = _place_slices(slices)
        voxels = _read_voxels(slices, modality)
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
def _quiet() -> Iterator[None]:
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
def _damage_named(file: Path) -> Iterator[None]:
    """Parsers meet damaged files with nearly any exception; whichever it is, the file is refused."""
    try:
        yield
    except Unusable:
        raise
    except Exception as error:
        # Not its message: that may quote the header.
        found = f"{type(error).__name__} when reading {file.name}"
        raise Unusable("damaged file", found, "replace the file, or remove it") from error


def _read_header(file: Path, tags: list[BaseTag]) -> tuple[Dataset, bytes, int]:
    """The header of a file, the first 12 bytes of its pixel data element (tag and length), and where that begins."""
    with file.open("rb") as handle:
        # Parsing from memory is faster by a third, and a header is rarely longer than this.
        for content in (BytesIO(handle.read(HEADER_BYTES)), handle):
            try:
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


def _check_kind(dataset: Dataset, modality: str) -> None:
    """Raise Unusable unless this is an image of a scan."""
    found_class, found_modality = dataset.get("SOPClassUID"), dataset.get("Modality")
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise Unusable("no image", "a DICOMDIR", "nothing to do", counted=False)
    if found_class is None and found_modality is None:
        raise Unusable("damaged file", "no SOPClassUID", "replace the file, or remove it")
    if found_modality and found_modality != modality:
        remedy = f"nothing to do, or choose modality {found_modality}"
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
        with _damage_named(file):
            dataset, _, _ = _read_header(file, FIND_TAGS)
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
class _Layout:
    """What nearly all files of a series share: how their pixels are stored, and the facts."""

    series_uid: str
    shape: tuple[int, int]  # rows, columns
    frames: int  # in one file
    syntax: UID
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None  # lowest and highest stored value that mean padding
    facts: dict[str, Any]

    @property
    def is_plain(self) -> bool:
        """Whether pixels can be read as they lie in the file."""
        return self.syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and self.bits_allocated == 16


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


def _read_frames(file: Path, modality: str, known: dict[tuple[bytes | UID | None, ...], _Layout]) -> list[_Frame]:
    """The frames of one file. `known`: layouts by header, as converting the values anew would double the time."""
    with _damage_named(file):
        dataset, element, start = _read_header(file, READ_TAGS)
        key = (*_raw(dataset, LAYOUT_TAGS), _transfer_syntax(dataset))
        if key not in known:
            _check_kind(dataset, modality)
            known[key] = _read_layout(file, dataset, modality)
        layout = known[key]
        start += _check_pixel_data(file, element, layout)
        frames = []
        for index in range(layout.frames):
            header = _frame_header(file, dataset, index)
            place = [_numbers(file, header, keyword, count) for keyword, count in PLACE.items()]
            position, orientation, spacing = place
            slope, intercept = _read_rescale(file, header, modality)
            begin = start + 2 * index * math.prod(layout.shape)
            frames.append(_Frame(file, index, begin, layout, position, orientation, spacing, slope, intercept))
        return frames


def _raw(dataset: Dataset, tags: Sequence[BaseTag | str]) -> tuple[bytes | None, ...]:
    return tuple(getattr(dataset.get_item(tag), "value", None) for tag in tags)


def _read_layout(file: Path, dataset: Dataset, modality: str) -> _Layout:
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise _no_pixels(file)
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation"):
        if dataset.get(keyword) is None:
            raise Unusable(f"missing {keyword}", f"none in {file.name}", "export the series again")
    allocated, bits, signed = dataset.BitsAllocated, dataset.BitsStored, bool(dataset.PixelRepresentation)
    high_bit = dataset.get("HighBit", bits - 1)
    if not 0 < bits <= high_bit + 1 <= allocated:
        found = f"{bits} bits up to bit {high_bit} of {allocated} in {file.name}"
        raise Unusable("invalid BitsStored", found, "export the series again")
    colour = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if dataset.get("SamplesPerPixel", 1) != 1 or not colour.startswith("MONOCHROME"):
        raise Unusable("colour image", f"{colour} in {file.name}", "use the original series")
    header = _frame_header(file, dataset, 0)
    unit = str(header.get("RescaleType") or "")
    if modality == "CT" and unit not in HOUNSFIELD_TYPES:
        raise Unusable("not Hounsfield units", f"RescaleType {unit} in {file.name}", "use the original series")
    kernel, thickness = header.get("ConvolutionKernel") or "", header.get("SliceThickness")
    return _Layout(
        series_uid=dataset.SeriesInstanceUID,
        shape=(dataset.Rows, dataset.Columns),
        frames=int(dataset.get("NumberOfFrames") or 1),
        syntax=_transfer_syntax(dataset),
        bits_allocated=allocated,
        bits_stored=bits,
        high_bit=high_bit,
        signed=signed,
        padding=_read_padding(dataset, allocated, signed),
        facts={
            "modality": modality,
            "manufacturer": str(header.get("Manufacturer") or ""),
            "kernel": kernel if isinstance(kernel, str) else " ".join(kernel),
            "slice_thickness_mm": math.nan if thickness is None else float(thickness),
        },
    )


def _check_pixel_data(file: Path, element: bytes, layout: _Layout) -> int:
    """How many bytes tag and length of the pixel data take. Raises Unusable unless the pixels can be read."""
    # The header of a deflated file ends elsewhere: there the decoder looks.
    if element[:4] not in PIXEL_DATA and layout.syntax != DeflatedExplicitVRLittleEndian:
        raise _no_pixels(file)
    if not layout.is_plain:
        _check_decoder(layout.syntax)
        return 0
    # Seen from the element, as some files are implicit and say otherwise; as lengths, these would be odd.
    size = 12 if element[4:6] in EXPLICIT_TYPES else 8
    length = int.from_bytes(element[size - 4 : size], "little")
    if length == UNDEFINED_LENGTH:
        found = f"compressed pixel data in {file.name}, which says {layout.syntax.name}"
        raise Unusable("damaged pixel data", found, "export the series again")
    if length < (needed := 2 * layout.frames * math.prod(layout.shape)):
        raise _truncated(file, length, needed)
    return size


def _no_pixels(file: Path) -> Unusable:
    return Unusable("no pixel data", f"a header alone in {file.name}", "export the series again with its images")


def _truncated(file: Path, found: int, needed: int) -> Unusable:
    details = f"{found} of {needed} bytes in {file.name}"
    return Unusable("truncated pixel data", details, "replace the file by a whole copy")


def _transfer_syntax(dataset: Dataset) -> UID:
    is_implicit, is_little_endian = dataset.original_encoding
    plain = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return dataset.file_meta.get("TransferSyntaxUID") or (plain if is_little_endian else ExplicitVRBigEndian)


@cache
def _check_decoder(syntax: UID) -> None:
    try:
        missing = "" if get_decoder(syntax).is_available else "; ".join(get_decoder(syntax).missing_dependencies)
    except NotImplementedError:
        missing = "none is known"
    if missing:
        remedy = f"convert the series to Explicit VR Little Endian, or install a decoder ({missing})"
        raise Unusable("no decoder", f"transfer syntax {syntax.name}", remedy)


def _read_padding(dataset: Dataset, bits_allocated: int, signed: bool) -> tuple[int, int] | None:
    """The range of stored values that mean padding."""
    bounds = [dataset.get("PixelPaddingValue")]
    bounds.append(dataset.get("PixelPaddingRangeLimit", bounds[0]))
    if None in bounds:
        return None
    # Their sign is often written other than the pixels' (63536 for -2000), and unknown in implicit syntaxes.
    bounds = [value if isinstance(value, int) else int.from_bytes(value, "little") for value in bounds]
    bounds = [value % 2**bits_allocated for value in bounds]
    if signed:
        bounds = [value - 2**bits_allocated if value >= 2 ** (bits_allocated - 1) else value for value in bounds]
    return min(bounds), max(bounds)


def _frame_header(file: Path, dataset: Dataset, index: int) -> Dataset:
    """A flat header of one frame: in enhanced files, what its functional groups say on top of the file's header."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
            found = f"{frames} frames without functional groups in {file.name}"
            raise Unusable("frames without positions", found, "export the scan as single slices or as enhanced CT")
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
    [slope], [intercept] = (_numbers(file, header, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0:
        raise Unusable("invalid RescaleSlope", f"0 in {file.name}", "export the series again")
    return slope, intercept


def _numbers(file: Path, header: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """The finite numbers of a decimal string."""
    # The raw bytes: pydicom's own conversion takes ten times as long.
    text = (_raw(header, [keyword])[0] or b"").decode("ascii", "replace").strip("\0 ")
    if not text:
        raise Unusable(f"missing {keyword}", f"none in {file.name}", f"export the series again with {keyword}")
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        numbers = ()
    positive = keyword == "PixelSpacing"
    if len(numbers) != count or not all(map(math.isfinite, numbers)) or (positive and min(numbers) <= 0):
        allowed = f"{count} finite {'positive ' if positive else ''}number{'s' if count > 1 else ''}"
        raise Unusable(f"invalid {keyword}", f"{text} in {file.name}, allowed: {allowed}", "export the series again")
    return numbers


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
    voxels = np.empty((len(slices), *slices[0][0].layout.shape), np.int16)
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


def _read_into(targets: Sequence[tuple[_Frame, np.ndarray]], modality: str) -> None:
    """Read each frame into its target, file by file."""
    by_file = defaultdict(list)
    for frame, target in targets:
        by_file[frame.file].append((frame, target))
    for file, members in by_file.items():
        read = _read_plain if members[0][0].layout.is_plain else _decode
        with _damage_named(file):
            for (frame, target), pixels in zip(members, read(file, members), strict=True):
                _rescale(pixels, frame, modality, target)


def _read_plain(file: Path, members: Sequence[tuple[_Frame, np.ndarray]]) -> Iterator[np.ndarray]:
    """Stored values of uncompressed 16-bit frames, in the memory of their targets: nothing is copied."""
    with file.open("rb") as handle:
        for frame, target in members:
            handle.seek(frame.start)
            if (found := handle.readinto(target.data)) < target.nbytes:
                raise _truncated(file, found, target.nbytes)
            layout = frame.layout
            pixels = target.view(np.int16 if layout.signed else np.uint16)
            if layout.bits_stored < 16:
                # Bits that hold no value may hold anything, and the sign has to reach the top one.
                np.left_shift(pixels, 15 - layout.high_bit, out=pixels)
                np.right_shift(pixels, 16 - layout.bits_stored, out=pixels)
            yield pixels


def _decode(file: Path, members: Sequence[tuple[_Frame, np.ndarray]]) -> Iterator[np.ndarray]:
    """Stored values of frames in any other transfer syntax."""
    syntax = members[0][0].layout.syntax
    try:
        dataset = pydicom.dcmread(file, force=True, specific_tags=DECODER_TAGS)
        dataset.file_meta.TransferSyntaxUID = syntax
        for frame, _ in members:
            pixels, _ = get_decoder(syntax).as_array(dataset, index=frame.index, raw=True)
            yield pixels.astype(pixels.dtype.newbyteorder("="))
    except Exception as error:  # decoders, too, meet damage with nearly any exception
        found = f"{type(error).__name__} when decoding {file.name} ({syntax.name})"
        raise Unusable("damaged pixel data", found, "replace the file by a whole copy") from error


def _rescale(pixels: np.ndarray, frame: _Frame, modality: str, target: np.ndarray) -> None:
    """Turn stored values into Hounsfield units in int16 `target`, which `pixels` may lie in; `pixels` is changed."""
    padded = None
    if frame.layout.padding is not None:
        lowest, highest = frame.layout.padding
        padded = pixels == lowest if lowest == highest else (pixels >= lowest) & (pixels <= highest)
        pixels[padded] = 0  # so that it does not force the slow way below
    offset = int(frame.intercept)
    if (
        (frame.slope, frame.intercept) == (1, offset)
        and pixels.itemsize == 2
        and INT16.min <= offset <= INT16.max
        and INT16.min <= int(pixels.min()) + offset
        and int(pixels.max()) + offset <= INT16.max
    ):
        np.add(pixels.view(np.int16), np.int16(offset), out=target)
    else:
        values = pixels * frame.slope + frame.intercept
        np.clip(np.rint(values), INT16.min, INT16.max, out=target, casting="unsafe")
    if padded is not None:
        target[padded] = PADDING[modality]
