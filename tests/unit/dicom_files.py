"""Small DICOM series, written for tests: one call a series, with any header changed by the test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gdcm
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)  # feet to head where slices follow the normal, x to the left, y to the back
INTERCEPT = -1024


def random_hounsfield(slices: int = 5, rows: int = 6, columns: int = 8, seed: int = 0) -> np.ndarray:
    """Noise without structure, so that no flip, swap or shift goes unseen: int16 [slices, rows, columns]."""
    return np.random.default_rng(seed).integers(-1000, 2000, (slices, rows, columns), dtype=np.int16)


def write_series(
    folder: Path,
    hounsfield: np.ndarray,
    *,
    pixel_spacing: Sequence[float] = (0.7, 0.7),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-100.0, -120.0, 50.0),
    step: Sequence[float] = (0.0, 0.0, 2.5),
    syntax: UID = ExplicitVRLittleEndian,
    series_uid: str | None = None,
    edit: Callable[[Dataset, int], None] = lambda dataset, index: None,
) -> list[Path]:
    """Write `hounsfield` int16 [slices, rows, columns] as one CT file a slice, in order; returns the files.

    pixel_spacing: between rows, between columns, as DICOM has it. Slice i lies at origin + i * step (mm, LPS).
    edit: changes the dataset of slice i just before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series_uid = series_uid or generate_uid()
    files = []
    for index, pixels in enumerate(hounsfield):
        dataset = ct_header(pixels.shape, series_uid)
        dataset.InstanceNumber = index + 1
        dataset.PixelSpacing = list(pixel_spacing)
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [float(start + index * move) for start, move in zip(origin, step, strict=True)]
        set_pixels(dataset, pixels - INTERCEPT)
        edit(dataset, index)
        files.append(folder / f"{index:04d}.dcm")
        save(dataset, files[-1], syntax)
    return files


def ct_header(shape: tuple[int, int], series_uid: str) -> Dataset:
    """What every CT file here has, but for geometry and pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = series_uid
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study of", series_uid])
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "patient-7"
    dataset.StudyDate = "20010203"
    dataset.Manufacturer = "Scangan"
    dataset.ConvolutionKernel = "B30f"
    dataset.SliceThickness = 5.0  # not the spacing, on purpose
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
    return dataset


def set_pixels(dataset: Dataset, stored: np.ndarray, bits_stored: int = 16) -> None:
    """Set the stored values and the tags that tell how many bits they have."""
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def save(dataset: Dataset, file: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    """Write a dataset as a DICOM file; big endian turns its pixels round."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_little_endian and "PixelData" in dataset:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    dataset.save_as(file, enforce_file_format=True)


def compress(file: Path, syntax: UID) -> None:
    """Encode the pixels of a file anew, without loss."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def write_enhanced(
    file: Path,
    hounsfield: np.ndarray,
    *,
    heights: Sequence[float],
    series_uid: str,
    rescale_of_each: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Write `hounsfield` int16 [frames, rows, columns] as one enhanced CT file, frame i at `heights[i]` mm.

    Rescale is shared, or `rescale_of_each` frame; `hounsfield` must be a whole number of slopes above the intercept.
    """
    dataset = ct_header(hounsfield.shape[1:], series_uid)
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = len(hounsfield)
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.SliceThickness, dataset.ConvolutionKernel
    shared = Dataset()
    shared.PixelMeasuresSequence = [_group(PixelSpacing=[0.5, 0.7], SliceThickness=5.0)]
    shared.PlaneOrientationSequence = [_group(ImageOrientationPatient=list(AXIAL))]
    shared.CTReconstructionSequence = [_group(ConvolutionKernel="Qr40")]
    if rescale_of_each is None:
        shared.PixelValueTransformationSequence = [_rescale_group(1, INTERCEPT)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    rescales = rescale_of_each or [(1, INTERCEPT)] * len(hounsfield)
    for height, rescale in zip(heights, rescales, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = [_group(ImagePositionPatient=[-100.0, -120.0, float(height)])]
        if rescale_of_each is not None:
            frame.PixelValueTransformationSequence = [_rescale_group(*rescale)]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    stored = [(frame - intercept) / slope for frame, (slope, intercept) in zip(hounsfield, rescales, strict=True)]
    set_pixels(dataset, np.array(stored).astype(np.int16))
    save(dataset, file)


def _rescale_group(slope: float, intercept: float) -> Dataset:
    return _group(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")


def _group(**elements: object) -> Dataset:
    group = Dataset()
    for keyword, value in elements.items():
        setattr(group, keyword, value)
    return group
