"""Single DICOM images as pictures: closed forms of every scale, colours against Pillow's, and files that lie."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from scangan.ingest.dicom_image import read_dicom_image
from scangan.rejected import Unusable
from tests.unit.dicom_files import compress, ct_header, save, set_pixels

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def write_image(folder, stored=RAMP, bits=12, syntax=ExplicitVRLittleEndian, **values) -> Path:
    """A radiograph of one frame; None deletes a tag."""
    dataset = ct_header(stored.shape[:2], generate_uid())
    dataset.SOPClassUID, dataset.Modality = DigitalXRayImageStorageForPresentation, "DX"
    del dataset.RescaleSlope, dataset.RescaleIntercept
    set_pixels(dataset, stored, bits)
    if stored.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    if stored.itemsize == 1:
        dataset.BitsAllocated = 8
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        save(dataset, folder / "image.dcm", syntax)
    return folder / "image.dcm"


def table(entries, first=0, bits=16) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return [item]


def rejection(file) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read_dicom_image(file)
    return caught.value


@pytest.mark.parametrize(
    "syntax",
    [
        *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian),
        *(DeflatedExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1),
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_full_range(tmp_path, syntax):
    is_compressed = syntax in (RLELossless, JPEGLosslessSV1)
    file = write_image(tmp_path, syntax=ExplicitVRLittleEndian if is_compressed else syntax, PatientID=" p-7 ")
    if is_compressed:
        compress(file, syntax)
    image = read_dicom_image(file)
    assert (image.pixels.dtype, image.pixels.shape) == (np.float32, (1, 64, 64))
    assert (image.patient_id, image.scale) == ("p-7", "full range")
    np.testing.assert_allclose(image.pixels[0], RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3
        ({}, (RAMP - 1999.5) / 999 + 0.5),
        ({"VOILUTFunction": "LINEAR"}, (RAMP - 1999.5) / 999 + 0.5),
        ({"VOILUTFunction": "LINEAR_EXACT"}, (RAMP - 2000.0) / 1000 + 0.5),
        ({"VOILUTFunction": "SIGMOID"}, 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000}, (2.0 * RAMP - 1000 - 1999.5) / 999 + 0.5),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 0.5 - (RAMP - 1999.5) / 999),
        ({"WindowCenter": [2000, 40], "WindowWidth": [1000, 80]}, (RAMP - 1999.5) / 999 + 0.5),
    ],
)
def test_own_window(tmp_path, values, expected):
    image = read_dicom_image(write_image(tmp_path, **({"WindowCenter": 2000, "WindowWidth": 1000} | values)))
    assert image.scale == "own window"
    np.testing.assert_allclose(image.pixels[0], np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"WindowCenter": 2000},
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": 2000, "WindowWidth": ""},
        {"WindowCenter": 2000, "WindowWidth": 500, "VOILUTFunction": "CUBIC"},
        {"VOILUTSequence": []},
        {"RescaleSlope": "", "RescaleIntercept": ""},
    ],
)
def test_window_that_is_none(tmp_path, values):
    image = read_dicom_image(write_image(tmp_path, **values))
    assert image.scale == "full range"
    np.testing.assert_allclose(image.pixels[0], RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_table_of_grey_values(tmp_path, bits):
    """It goes before a window; values beyond its ends take its first and last entry."""
    entries = np.linspace(2**bits - 1, 0, 2000).astype(int)
    file = write_image(tmp_path, VOILUTSequence=table(entries, 1000, bits), WindowCenter=5, WindowWidth=10)
    image = read_dicom_image(file)
    assert image.scale == "own window"
    expected = entries[np.clip(RAMP.astype(int) - 1000, 0, 1999)] / (2**bits - 1)
    np.testing.assert_allclose(image.pixels[0], expected, atol=1e-6)


def test_table_of_the_modality(tmp_path):
    entries = np.arange(4096)[::-1] * 3
    image = read_dicom_image(write_image(tmp_path, ModalityLUTSequence=table(entries)))
    np.testing.assert_allclose(image.pixels[0], 1 - RAMP / 4095, atol=1e-6)


def test_inverted(tmp_path):
    image = read_dicom_image(write_image(tmp_path, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(image.pixels[0], 1 - RAMP / 4095, atol=1e-6)


def test_signed_values(tmp_path):
    stored = np.arange(-32_768, 32_768, 16, dtype=np.int16).reshape(64, 64)
    image = read_dicom_image(write_image(tmp_path, stored, 16))
    np.testing.assert_allclose(image.pixels[0], (stored + 32_768.0) / 65_520, atol=1e-6)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_no_part_of_the_range(tmp_path, interpretation):
    stored = RAMP // 2 + 100
    stored[0] = 4095
    file = write_image(tmp_path, stored, PixelPaddingValue=4095, PhotometricInterpretation=interpretation)
    lowest, highest = stored[1:].min(), stored[1:].max()
    expected = (stored - float(lowest)) / (highest - lowest)
    if interpretation == "MONOCHROME1":
        expected = 1 - expected
    expected[0] = 0
    np.testing.assert_allclose(read_dicom_image(file).pixels[0], expected, atol=1e-6)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("values", [{}, {"PixelPaddingValue": 7}])
def test_one_value(tmp_path, interpretation, values):
    file = write_image(tmp_path, np.full_like(RAMP, 7), PhotometricInterpretation=interpretation, **values)
    np.testing.assert_array_equal(read_dicom_image(file).pixels, np.zeros((1, 64, 64)))


COLOURS = np.random.default_rng(0).integers(0, 256, (16, 18, 3), dtype=np.uint8)


@pytest.mark.parametrize(("planar", "is_compressed"), [(0, False), (1, False), (0, True)])
def test_colours(tmp_path, planar, is_compressed):
    pixels = COLOURS.transpose(2, 0, 1) if planar else COLOURS
    file = write_image(tmp_path, COLOURS, 8, PlanarConfiguration=planar, PixelData=pixels.tobytes())
    if is_compressed:
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    image = read_dicom_image(file)
    assert image.scale == "colour"
    np.testing.assert_allclose(image.pixels, COLOURS.transpose(2, 0, 1) / 255, atol=1e-6)


def test_luminance_and_chroma(tmp_path):
    """Grey has no chroma (128); ITU-R BT.601 for one red."""
    stored = np.full((16, 18, 3), 128, np.uint8)
    stored[..., 0] = np.arange(18) * 10
    stored[0, 0] = 76, 85, 255
    image = read_dicom_image(write_image(tmp_path, stored, 8, PhotometricInterpretation="YBR_FULL"))
    grey = np.broadcast_to(np.arange(18) / 25.5, (3, 15, 18))
    np.testing.assert_allclose(image.pixels[:, 1:], grey, atol=1 / 255)
    np.testing.assert_allclose(image.pixels[:, 0, 0], [1, 0, 0], atol=1.5 / 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(tmp_path, bits):
    stored = (RAMP % 256).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 2**bits, (3, 256)).astype(f"<u{bits // 8}")
    palette = {}
    for name, entries in zip(("Red", "Green", "Blue"), colours, strict=True):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        palette[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    file = write_image(tmp_path, stored, 8, PhotometricInterpretation="PALETTE COLOR", **palette)
    np.testing.assert_allclose(read_dicom_image(file).pixels, colours[:, stored] / (2**bits - 1), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": None}, "no pixel data"),
        ({"NumberOfFrames": 3}, "several frames"),
        ({"NumberOfFrames": 2**31 - 1}, "several frames"),
        ({"Rows": 65535, "Columns": 65535}, "damaged file"),
        ({"Rows": 8000, "Columns": 8000}, "damaged pixel data"),
        ({"PixelData": bytes(100)}, "damaged pixel data"),
        ({"PhotometricInterpretation": "CMYK"}, "colours of another kind"),
        ({"PhotometricInterpretation": "RGB"}, "colours of another kind"),
        ({"SamplesPerPixel": 4}, "colours of another kind"),
        ({"BitsStored": 0}, "invalid BitsStored"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, "invalid RescaleSlope"),
    ],
)
def test_image_that_is_none(tmp_path, values, reason):
    rejected = rejection(write_image(tmp_path, **values))
    assert rejected.reason == reason
    assert "image.dcm" in rejected.found


def test_file_that_is_no_image(tmp_path):
    (tmp_path / "notes.dcm").write_text("Patient came twice.\n" * 20)
    assert rejection(tmp_path / "notes.dcm").reason == "not DICOM"
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    assert rejection(tmp_path / "broken.dcm").reason == "damaged file"
    assert rejection(TEST_FILES / "dicomdirtests" / "DICOMDIR").reason == "no image"


def test_no_decoder(tmp_path):
    file = write_image(tmp_path)
    dataset = pydicom.dcmread(file)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.save_as(file)
    assert rejection(file).reason == "no decoder"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_of_pydicom():
    """Every one is a picture or refused by name."""
    read = 0
    for file in sorted(TEST_FILES.glob("*.dcm")):
        try:
            pixels = read_dicom_image(file).pixels
        except Unusable:
            continue
        read += 1
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0, file
        assert pixels.max() <= 1, file
    assert read > 40
