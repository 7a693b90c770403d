"""One DICOM image as a picture: radiographs and the like, one file each, as class folders hold them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_windowing
from pydicom.tag import Tag

from scangan.ingest.dicom import (
    PIXEL_TAGS,
    check_decodable,
    check_object,
    damage_named,
    decode,
    numbers,
    quiet,
    read_header,
    read_stored,
    split_padding,
    text,
    transfer_syntax,
)
from scangan.rejected import Unusable

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
SAMPLES = {
    **dict.fromkeys((*GREY, PALETTE), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3),
}
PALETTE_TAGS = [
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]
SCALE_TAGS = """
    ModalityLUTSequence RescaleSlope RescaleIntercept VOILUTSequence WindowCenter WindowWidth VOILUTFunction
""".split()
OBJECT_TAGS = "SOPClassUID Modality PatientID".split()
IMAGE_TAGS = [Tag(keyword) for keyword in (*OBJECT_TAGS, *PIXEL_TAGS, *SCALE_TAGS, *PALETTE_TAGS)]


@dataclass(frozen=True)
class DicomImage:
    """A DICOM image as it is to be looked at.

    pixels: float32 [1 or 3, H, W] in [0, 1], white is 1. patient_id: PatientID as written, or "".
    scale: what became black and white: "own window" (of the file), "full range" (of its values), "colour" (as stored).
    """

    pixels: np.ndarray
    patient_id: str
    scale: str


def read_dicom_image(file: Path) -> DicomImage:
    """Read a DICOM file of one frame, of any kind that has pixels.

    Grey values go through the file's modality table or rescale, then through its first VOI table or window (DICOM
    PS3.3 C.11.2); without one that can be used, their full range becomes [0, 1]. MONOCHROME1 is inverted, padding is
    black, an image of one value without a window as well. Colours become RGB.
    Raises Unusable, whose reasons are: not DICOM, no image, damaged file, no pixel data, several frames, no decoder,
    damaged pixel data, colours of another kind, missing or invalid (a tag).
    """
    with quiet(), damage_named(file):
        dataset, element, _ = read_header(file, IMAGE_TAGS)
        check_object(dataset)
        stored = read_stored(file, dataset)
        if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
            found = f"{frames} in {file.name}, allowed: 1"
            raise Unusable("several frames", found, "save each frame as a file of its own")
        colours = dataset.get("PhotometricInterpretation", "MONOCHROME2")
        if (samples := dataset.get("SamplesPerPixel", 1)) != SAMPLES.get(colours):
            found = f"{colours} of {samples} in {file.name}, allowed: {' | '.join(SAMPLES)}"
            raise Unusable("colours of another kind", found, "convert the image to RGB or MONOCHROME2")
        syntax = transfer_syntax(dataset)
        check_decodable(file, element, syntax)
        [pixels] = decode(file, syntax, [0])
        if colours in GREY:
            pixels, padded = split_padding(pixels, stored)
            grey, scale = _grey(file, dataset, pixels, padded)
            pixels = grey[..., None]
        else:
            scale = "colour"
            if colours == PALETTE:
                pixels = apply_color_lut(pixels, dataset)
                white = np.iinfo(pixels.dtype).max
            else:
                white = 2**stored.bits_stored - 1
            pixels = np.clip(pixels / np.float32(white), 0, 1)
        picture = np.ascontiguousarray(np.moveaxis(pixels, -1, 0), np.float32)
        return DicomImage(picture, text(dataset, "PatientID"), scale)


def _grey(file: Path, dataset: Dataset, pixels: np.ndarray, padded: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Grey in [0, 1] of stored values, all [H, W], and the scale it has."""
    if tables := dataset.get("ModalityLUTSequence"):
        values = _look_up(pixels, tables[0], dataset)
    else:
        slope, intercept = (
            numbers(file, dataset, keyword, 1)[0] if getattr(dataset.get_item(keyword), "value", None) else default
            for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
        )
        values = pixels * slope + intercept
    grey, scale = _own_window(dataset, values), "own window"
    is_inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    if grey is None:
        shown = values if padded is None else values[~padded]
        lowest, highest = (shown.min(), shown.max()) if shown.size else (0, 0)
        scale = "full range"
        if lowest == highest:  # no range, and black either way
            return np.zeros_like(values), scale
        grey = np.clip((values - lowest) / (highest - lowest), 0, 1)
    if is_inverted:
        grey = 1 - grey
    if padded is not None:
        grey[padded] = 0
    return grey, scale


def _own_window(dataset: Dataset, values: np.ndarray) -> np.ndarray | None:
    """Grey in [0, 1] by the file's first table or else window; None without one that can be used."""
    with suppress(Exception):  # a table or window that is damaged is none
        table = dataset.VOILUTSequence[0]
        return _look_up(values, table, dataset) / _entries(table, dataset).max()
    with suppress(Exception):
        window = Dataset()
        window.PhotometricInterpretation = "MONOCHROME2"
        window.PixelRepresentation, window.BitsStored = 0, 1  # for pydicom, black is then 0 and white 1
        window.VOILUTFunction = text(dataset, "VOILUTFunction") or "LINEAR"
        for keyword in ("WindowCenter", "WindowWidth"):
            setattr(window, keyword, float(np.atleast_1d(dataset[keyword].value)[0]))
        grey = apply_windowing(values, window)
        return grey if np.isfinite(grey).all() else None
    return None


def _look_up(values: np.ndarray, table: Dataset, dataset: Dataset) -> np.ndarray:
    """Values through a table; those beyond its ends take its first or last entry."""
    # Not pydicom's: it counts entries in the width of the table's values, and 8 bits are too few.
    entries = _entries(table, dataset)
    first = table.LUTDescriptor[1]
    return entries[np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)]


def _entries(table: Dataset, dataset: Dataset) -> np.ndarray:
    count, data = table.LUTDescriptor[0] or 2**16, table.LUTData
    if isinstance(data, bytes):
        _, is_little_endian = dataset.original_encoding
        data = np.frombuffer(data, "u1" if len(data) == count else "<u2" if is_little_endian else ">u2")
    return np.asarray(data[:count], float)
