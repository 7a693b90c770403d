"""Volumes written for other programs, marked as synthetic: DICOM series and NIfTI.

A series that derives from a scan keeps what that scan's files carry, down to the stored value of every voxel that did
not change; what makes it another series is new. All UIDs follow from content and seed, so a rerun gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from scangan.data.volume_set import VolumeSet
from scangan.errors import DataError
from scangan.facts import SYNTHETIC
from scangan.files import atomic, atomic_folder
from scangan.ingest.dicom import read_series
from scangan.rejected import Unusable

DESCRIPTION_LETTERS, NIFTI_LETTERS = 64, 79  # what DICOM's LO and NIfTI's descrip hold
SERIES_NUMBER = 1000  # added to the source's, so that viewers list the derived series behind it
SAME_MM = 0.01  # between the places of a voxel in a source and in what derives from it
PLACE_AND_RESCALE = ("ImagePositionPatient", "RescaleSlope", "RescaleIntercept")
RIGHT_ANGLE = 1e-3  # cosine between two axes that count as perpendicular
# What describes the source's file or pixels, and would be wrong in another's.
NOT_KEPT = """
    InstanceCreationDate InstanceCreationTime InstanceCreatorUID IconImageSequence DigitalSignaturesSequence
    MACParametersSequence EncryptedAttributesSequence DataSetTrailingPadding SmallestImagePixelValue
    LargestImagePixelValue SmallestPixelValueInSeries LargestPixelValueInSeries ExtendedOffsetTable
    ExtendedOffsetTableLengths
""".split()


def write_dicom_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    description: str,
    derivation: str,
    seed: int,
    source: Sequence[Path] = (),
) -> str:
    """Write a volume as a DICOM series, one file a slice; returns its SeriesInstanceUID.

    folder: made here; must be missing or empty. It appears whole or not at all.
    voxels: int16 Hounsfield units [slices, rows, columns]. affine: [4, 4], (column, row, slice, 1) -> LPS mm.
    description: what it is, for SeriesDescription, after the word SYNTHETIC. derivation: how it was made.
    source: all files of the series it derives from, with the same grid as `read_series` gives it. With a source,
        every file has its counterpart, which keeps its header (patient, study and frame of reference among it) and its
        stored pixel values, but for those of voxels whose Hounsfield units differ. ImageType, SeriesDescription,
        DerivationDescription, SourceImageSequence, SyntheticData say what it is; series and instances have new UIDs.
        Without one, the header is a complete CT Image with a made-up patient named SYNTHETIC.

    Pixels are uncompressed (Explicit VR Little Endian). Raises DataError for a folder that holds files, a description
    that is too long, another grid than the source's; Unusable for a source that cannot be read.
    """
    mark = _mark(description, DESCRIPTION_LETTERS)
    affine = np.asarray(affine, float)
    _check_volume(voxels, affine)
    headers = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]) for file in source]
    origin = sorted({str(header.SeriesInstanceUID) for header in headers})
    content = hashlib.sha256(np.ascontiguousarray(voxels, "<i2").data).hexdigest()
    names = [*origin, content, affine.tobytes().hex(), str(voxels.shape), description, derivation, str(seed)]
    series_uid = generate_uid(entropy_srcs=["series", *names])

    common = Dataset()
    common.SeriesInstanceUID = series_uid
    common.SeriesDescription, common.DerivationDescription = mark, derivation
    common.SyntheticData, common.ContentQualification = "YES", "RESEARCH"
    # Headers of real scans break the standard here and there; they are handed on as they are.
    with atomic_folder(folder) as temporary, pydicom.config.disable_value_validation():
        if source:
            _write_derived(temporary, voxels, affine, common, source)
        else:
            _write_synthetic(temporary, voxels, affine, common)
    return series_uid


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, *, description: str) -> None:
    """Write a volume as NIfTI (`.nii` or `.nii.gz`), which appears whole or not at all.

    voxels: int16 Hounsfield units [slices, rows, columns]. affine: [4, 4], (column, row, slice, 1) -> LPS mm; the file
    says the same in its own frame, RAS. description: stands in the header after the word SYNTHETIC.
    Raises DataError for another suffix, a description that is too long, or slices that are sheared (gantry tilt).
    """
    path, affine = Path(path), np.asarray(affine, float)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: suffix: found {path.suffix or 'none'}, allowed: .nii | .nii.gz")
    mark = _mark(description, NIFTI_LETTERS)
    _check_volume(voxels, affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > RIGHT_ANGLE:
        raise DataError(f"{path}: affine: found axes that are not perpendicular, allowed: three at right angles")
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetMetaData("ITK_FileNotes", mark)
    with atomic(path) as temporary:
        sitk.WriteImage(image, temporary, useCompression=path.name.lower().endswith(".gz"))


def export_volume(volumes: VolumeSet, volume_id: str, path: str | Path) -> None:
    """Write one synthetic volume of a set as NIfTI (`.nii`, `.nii.gz`), or else as a folder with a DICOM series.

    The centre of voxel [0, 0, 0] lies at 0 mm, as the set's nodule table has it. Headers say that it is synthetic, by
    which network and from which seed it was made, and what that network learnt from.
    Raises DataError for an unknown volume and for a real one, whose files must not say synthetic; and as
    `write_dicom_series` and `write_nifti` do.
    """
    positions = np.flatnonzero(volumes.manifest.volume_id == volume_id)
    if len(positions) != 1:
        raise DataError(f"{volume_id}: volume_id: found {len(positions)} of this name, allowed: 1")
    row = volumes.manifest.iloc[positions[0]]
    if row.version != "synthetic":
        raise DataError(f"{volume_id}: version: found {row.version}, allowed: synthetic")
    [voxels] = volumes.read(positions)
    affine = np.diag([row.spacing_mm] * 3 + [1.0])
    description = f"chest CT {volume_id} from {row['data']}"
    if Path(path).name.lower().endswith((".nii", ".nii.gz")):
        write_nifti(Path(path), voxels, affine, description=description)
        return
    derivation = (
        f"Drawn by the generative network {row.source} from seed {row.synthesis_seed}, attempt {row.attempts}; "
        f"it learnt from {row['data']} scans; nodules injected: {row.nodules}"
    )
    seed = int(row.synthesis_seed)
    write_dicom_series(Path(path), voxels, affine, description=description, derivation=derivation, seed=seed)


def _mark(description: str, letters: int) -> str:
    mark = f"{SYNTHETIC} {description}"
    if len(mark) > letters:
        allowed = letters - len(SYNTHETIC) - 1
        raise DataError(f"{description}: description: found {len(description)} letters, allowed: at most {allowed}")
    return mark


def _check_volume(voxels: np.ndarray, affine: np.ndarray) -> None:
    if voxels.dtype != np.int16 or voxels.ndim != 3 or affine.shape != (4, 4):
        found = f"{voxels.dtype} {list(voxels.shape)}, affine {list(affine.shape)}"
        raise DataError(f"volume: found {found}, allowed: int16 [slices, rows, columns], affine [4, 4]")


def _write(header: Dataset, file: Path, pixels: np.ndarray) -> None:
    """pixels: stored values, of as many bits as `header.BitsAllocated`; they replace those of the header, if any."""
    dataset = header
    if header.original_encoding[1] is False:  # big endian: pydicom writes it as it came, unless told value by value
        dataset = Dataset()
        for element in header:
            dataset.add(element)
    if "PixelData" in dataset:  # as an element of its own, for it may be marked as compressed
        del dataset.PixelData
    dataset.add_new("PixelData", "OW", pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = bytes(128)
    dataset.save_as(file, enforce_file_format=True)


# Without a source


def _write_synthetic(folder: Path, voxels: np.ndarray, affine: np.ndarray, common: Dataset) -> None:
    """A CT Image, complete with what the standard asks for where nothing was measured."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :2] / spacing[:2]
    slice_mm = abs(np.cross(*directions.T) @ affine[:3, 2])
    series = common.SeriesInstanceUID
    header = Dataset()
    header.update(common)
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL", SYNTHETIC]
    header.StudyDate = header.StudyTime = header.AccessionNumber = header.StudyID = header.ReferringPhysicianName = ""
    header.Manufacturer = "Scangan"
    header.StudyDescription = SYNTHETIC
    header.PatientName, header.PatientID = SYNTHETIC, f"{SYNTHETIC}-{hashlib.sha256(series.encode()).hexdigest()[:12]}"
    header.PatientBirthDate = header.PatientSex = ""
    header.StudyInstanceUID = generate_uid(entropy_srcs=["study", series])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame of reference", series])
    header.SeriesNumber, header.AcquisitionNumber, header.KVP, header.PositionReferenceIndicator = 1, None, None, ""
    header.PatientPosition, header.BurnedInAnnotation = "HFS", "NO"
    header.ImageOrientationPatient = _decimals(directions.T.ravel())
    header.PixelSpacing = _decimals(spacing[[1, 0]])  # between rows, between columns
    header.SliceThickness, header.SpacingBetweenSlices = _decimals([slice_mm, slice_mm])
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = voxels.shape[1:]
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = 0, 1, "HU"
    header.WindowCenter, header.WindowWidth = -600, 1500
    for number, pixels in enumerate(voxels):
        header.InstanceNumber = number + 1
        header.SOPInstanceUID = generate_uid(entropy_srcs=["instance", series, str(number)])
        header.ImagePositionPatient = _decimals((affine @ [0, 0, number, 1])[:3])
        _write(header, folder / f"{number + 1:06d}.dcm", pixels)


def _decimals(numbers: Iterable[float]) -> list[str]:
    """The most exact decimal strings that DICOM allows."""
    return [format_number_as_ds(float(number)) for number in numbers]


# From a source


def _write_derived(
    folder: Path, voxels: np.ndarray, affine: np.ndarray, common: Dataset, source: Sequence[Path]
) -> None:
    before = read_series(source, min_slices=2)
    if before.voxels.shape != voxels.shape:
        found = f"{list(voxels.shape)} voxels, allowed: those of the source, {list(before.voxels.shape)}"
        raise DataError(f"{source[0].name}: grid: found {found}")
    moved = np.abs((affine - before.affine)[:3] @ [*voxels.shape[::-1], 1]).max()
    if not moved <= SAME_MM:
        raise DataError(f"{source[0].name}: grid: found voxels {moved:.3g} mm off, allowed: those of the source")
    changed = voxels != before.voxels
    del before
    to_voxels = np.linalg.inv(affine)
    for number, file in enumerate(sorted(source), 1):
        dataset = pydicom.dcmread(file, force=True)
        pixels = _stored_pixels(dataset, file)
        for index, frame in enumerate(pixels):
            header = _groups_of(dataset, index)
            [place] = np.rint(to_voxels[2:3] @ [*map(float, header.ImagePositionPatient), 1]).astype(int)
            if changed[place].any():
                _edit(frame, header, dataset, voxels[place], changed[place])
        _describe_derived(dataset, common)
        _write(dataset, folder / f"{number:06d}.dcm", pixels)


def _stored_pixels(dataset: Dataset, file: Path) -> np.ndarray:
    """Stored values [frames, rows, columns], to be changed in place."""
    if (found := dataset.get("HighBit", dataset.BitsStored - 1)) != dataset.BitsStored - 1:
        details = f"{found} in {file.name}, allowed: {dataset.BitsStored - 1}, one below BitsStored"
        raise Unusable("unusual HighBit", details, "export the series again")
    # What read_series does without, pydicom's decoders ask for.
    usual = {"HighBit": dataset.BitsStored - 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    for keyword, value in usual.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    if "TransferSyntaxUID" not in dataset.file_meta:
        plain: dict[tuple[bool | None, bool | None], UID] = {
            (True, True): ImplicitVRLittleEndian,
            (False, True): ExplicitVRLittleEndian,
        }
        dataset.file_meta.TransferSyntaxUID = plain.get(dataset.original_encoding, ExplicitVRBigEndian)
    pixels = pixel_array(dataset, raw=True)
    return pixels.reshape(-1, dataset.Rows, dataset.Columns).astype(pixels.dtype.newbyteorder("="))


def _groups_of(dataset: Dataset, index: int) -> Dataset:
    """A flat header of one frame: in enhanced files place and rescaling are in functional groups."""
    header = Dataset()
    for keyword in PLACE_AND_RESCALE:
        if keyword in dataset:
            header.add(dataset[keyword])
    shared = dataset.get("SharedFunctionalGroupsSequence", ())
    for groups in (*shared, *dataset.get("PerFrameFunctionalGroupsSequence", ())[index : index + 1]):
        for keyword in ("PlanePositionSequence", "PixelValueTransformationSequence"):
            for group in groups.get(keyword, ()):
                header.update(group)
    return header


def _edit(frame: np.ndarray, header: Dataset, dataset: Dataset, hounsfield: np.ndarray, changed: np.ndarray) -> None:
    """Put Hounsfield units [rows, columns] into a frame of stored values where they changed."""
    bits, signed = dataset.BitsStored, bool(dataset.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = (hounsfield[changed] - float(header.RescaleIntercept)) / float(header.RescaleSlope)
    frame[changed] = np.rint(stored).clip(low, high)


def _describe_derived(dataset: Dataset, common: Dataset) -> None:
    """Turn the header of a source's file into that of an image derived from it."""
    for keyword in NOT_KEPT:
        if keyword in dataset:
            delattr(dataset, keyword)
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
    dataset.SourceImageSequence = [source]
    dataset.ImageType = _derived_type(dataset.get("ImageType"))
    for groups in (
        *dataset.get("SharedFunctionalGroupsSequence", ()),
        *dataset.get("PerFrameFunctionalGroupsSequence", ()),
    ):
        for group in groups.get("CTImageFrameTypeSequence", ()):
            group.FrameType = _derived_type(group.get("FrameType"))
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code(codes.DCM.ModifyingEquipment)]
    equipment.Manufacturer = "Scangan"
    equipment.ContributionDescription = common.DerivationDescription
    dataset.ContributingEquipmentSequence = [*dataset.get("ContributingEquipmentSequence", ()), equipment]
    dataset.SeriesNumber = SERIES_NUMBER + int(dataset.get("SeriesNumber") or 0)
    dataset.SOPInstanceUID = generate_uid(
        entropy_srcs=["instance", common.SeriesInstanceUID, str(dataset.SOPInstanceUID)]
    )
    dataset.update(common)


def _derived_type(image_type: Sequence[str] | None) -> list[str]:
    """DERIVED\\SECONDARY, the source's third value (AXIAL, VOLUME), SYNTHETIC."""
    third = list(image_type or ())[2:3] or ["AXIAL"]
    return ["DERIVED", "SECONDARY", *third, SYNTHETIC]


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
