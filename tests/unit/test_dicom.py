"""Reading DICOM: each trap by its name, geometry against closed forms, pixels against SimpleITK and pydicom."""

import os
import shutil
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)
from scipy import ndimage

from scangan.errors import DataError
from scangan.ingest import dicom
from scangan.ingest.data_files import list_files
from scangan.ingest.dicom import find_series, read_series
from scangan.rejected import Unusable
from tests.unit.dicom_files import (
    INTERCEPT,
    compress,
    random_hounsfield,
    set_pixels,
    write_enhanced,
    write_series,
)

HOUNSFIELD = random_hounsfield()
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def only(index, **values):
    """An edit that sets values in slice `index` alone; None deletes."""

    def edit(dataset, position):
        if position == index:
            every(**values)(dataset, position)

    return edit


def every(**values):
    """An edit that sets values in all slices; None deletes."""

    def edit(dataset, _):
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return edit


def change(file: Path, **values) -> None:
    """Set values in a file that is there."""
    dataset = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)


def rejection(files, modality="CT", **settings) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read_series(files, modality, **settings)
    assert caught.value.remedy
    assert str(caught.value) == f"{caught.value.reason}: found {caught.value.found}; {caught.value.remedy}"
    return caught.value


def findings_of(root, modality="CT") -> list[tuple[str, str, bool]]:
    _, findings = find_series(list_files(root).files, root, modality)
    return [(finding.source, finding.reason, finding.counted) for finding in findings]


# A series as it should be


def test_a_series(tmp_path):
    scan = read_series(write_series(tmp_path, HOUNSFIELD))
    assert scan.voxels.dtype == np.int16
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD)
    np.testing.assert_allclose(scan.affine, [[0.7, 0, 0, -100], [0, 0.7, 0, -120], [0, 0, 2.5, 50], [0, 0, 0, 1]])
    assert scan.facts == {
        "modality": "CT",
        "manufacturer": "Scangan",
        "kernel": "B30f",
        "slice_thickness_mm": 5.0,  # but 2.5 mm apart
        "native_spacing_mm": pytest.approx((0.7, 0.7, 2.5)),
        "slices": 5,
        "tilt_degrees": 0.0,
        "duplicate_slices": 0,
    }


@pytest.mark.parametrize("spacing", [(0.5, 0.7), (0.9, 0.4)])
def test_agrees_with_simpleitk(tmp_path, spacing):
    """Positions and Hounsfield units of every voxel, on an oblique series with anisotropic pixels."""
    rotation = oblique_rotation()
    files = write_series(
        tmp_path,
        HOUNSFIELD,
        pixel_spacing=spacing,
        orientation=[*rotation[:, 0], *rotation[:, 1]],
        step=3 * rotation[:, 2],
    )
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    image = reader.Execute()
    scan = read_series(files[::-1])
    np.testing.assert_array_equal(scan.voxels, SimpleITK.GetArrayFromImage(image))
    for index in ((0, 0, 0), (7, 0, 0), (0, 5, 0), (0, 0, 4), (7, 5, 4)):
        expected = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((scan.affine @ [*index, 1])[:3], expected, atol=1e-4)


def oblique_rotation() -> np.ndarray:
    """Orthogonal axes as columns, none along an axis of the patient."""
    axes, _ = np.linalg.qr([[0.9, 0.1, 0.3], [-0.2, 0.8, 0.1], [0.1, 0.3, 0.7]])
    return axes * np.sign(np.linalg.det(axes))


# Column direction, row direction, and the slice direction that the right-hand rule gives.
ORIENTATIONS = {
    "head first": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "feet first": [(-1, 0, 0), (0, 1, 0), (0, 0, -1)],
    "prone": [(-1, 0, 0), (0, -1, 0), (0, 0, 1)],
    "sagittal": [(0, 1, 0), (0, 0, -1), (-1, 0, 0)],
    "coronal": [(1, 0, 0), (0, 0, -1), (0, 1, 0)],
    "oblique": [tuple(axis) for axis in oblique_rotation().T],
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_affine_of_orientation(tmp_path, name, backwards):
    """Whichever way slices are numbered, they come sorted along the normal."""
    column, row, slice_direction = np.array(ORIENTATIONS[name], float)
    step = slice_direction * (-2.5 if backwards else 2.5)
    files = write_series(tmp_path, HOUNSFIELD, pixel_spacing=(0.5, 0.7), orientation=[*column, *row], step=step)
    scan = read_series(files)
    origin = np.array([-100, -120, 50.0])
    expected = np.eye(4)
    expected[:3] = np.column_stack([0.7 * column, 0.5 * row, 2.5 * slice_direction, origin + 4 * step * backwards])
    np.testing.assert_allclose(scan.affine, expected, atol=1e-6)
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD[::-1] if backwards else HOUNSFIELD)
    assert scan.facts["native_spacing_mm"] == pytest.approx((0.7, 0.5, 2.5))


def test_order_of_files_does_not_matter(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    for order in (files[::-1], [files[index] for index in (3, 0, 4, 1, 2)]):
        np.testing.assert_array_equal(read_series(order).voxels, HOUNSFIELD)


def test_gantry_tilt_shears_the_slice_axis(tmp_path):
    angle = np.radians(20)
    tilted = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    scan = read_series(write_series(tmp_path, HOUNSFIELD, orientation=tilted, step=(0, 0, 2.5)))
    assert scan.facts["tilt_degrees"] == pytest.approx(20, abs=1e-3)
    assert scan.facts["native_spacing_mm"][2] == pytest.approx(2.5 * np.cos(angle))
    np.testing.assert_allclose(scan.affine[:3, 2], [0, 0, 2.5], atol=1e-9)
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD)


def test_rounded_positions_are_even(tmp_path):
    """0.625 mm, written with one decimal."""
    rounded = [round(50 + 0.625 * index, 1) for index in range(5)]
    files = write_series(tmp_path, HOUNSFIELD)
    for file, height in zip(files, rounded, strict=True):
        change(file, ImagePositionPatient=[-100, -120, height])
    assert read_series(files).affine[2, 2] == pytest.approx(0.625)


# Stored values


def test_slope_and_intercept_of_each_slice(tmp_path):
    rescales = [(1, -1024), (2, -1000), (0.5, 0), (1, -24.5), (-1, 100)]
    stored = random_hounsfield()

    def edit(dataset, index):
        set_pixels(dataset, stored[index])
        dataset.RescaleSlope, dataset.RescaleIntercept = rescales[index]

    expected = [np.rint(values * slope + shift) for values, (slope, shift) in zip(stored, rescales, strict=True)]
    np.testing.assert_array_equal(read_series(write_series(tmp_path, HOUNSFIELD, edit=edit)).voxels, expected)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_bits_stored(tmp_path, dtype, bits):
    """All values that the bits can hold; what lies in the bits above them is no part of the value."""
    # Of 16 bits, those that int16 Hounsfield units can hold.
    limits = (0, min(2**bits, 31_000)) if dtype is np.uint16 else (max(-(2 ** (bits - 1)), -31_000), 2 ** (bits - 1))
    values = np.random.default_rng(0).integers(*limits, HOUNSFIELD.shape)
    values[:, 0, :2] = limits[0], limits[1] - 1

    def edit(dataset, index):
        waste = 0xA000 if bits == 12 else 0
        set_pixels(dataset, ((values[index] & (2**bits - 1)) | waste).astype(np.uint16).view(dtype), bits)

    scan = read_series(write_series(tmp_path, HOUNSFIELD, edit=edit))
    np.testing.assert_array_equal(scan.voxels, values + INTERCEPT)


@pytest.mark.parametrize(("allocated", "dtype"), [(8, np.uint8), (32, np.int32)])
def test_bits_allocated(tmp_path, allocated, dtype):
    values = random_hounsfield().astype(dtype)

    def edit(dataset, index):
        set_pixels(dataset, values[index], allocated)
        dataset.BitsAllocated = allocated

    scan = read_series(write_series(tmp_path, HOUNSFIELD, edit=edit))
    np.testing.assert_array_equal(scan.voxels, values.astype(int) + INTERCEPT)


@pytest.mark.parametrize(
    ("dtype", "padding", "vr", "limit"),
    [
        (np.int16, -2000, "SS", None),
        (np.int16, 63536, "US", None),  # -2000, written with the other sign
        (np.int16, -32768, "SS", None),  # would leave the range of int16
        (np.uint16, 63536, "US", None),
        (np.uint16, 4000, "US", 4095),
        (np.int16, -1900, "SS", -2000),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_padding_becomes_air(tmp_path, dtype, padding, vr, limit, syntax):
    stored = random_hounsfield().clip(0).astype(dtype)
    raw = padding % 65536
    stored[:, :2] = np.array(raw, np.uint16).view(dtype)
    if limit is not None:
        stored[:, 2] = limit
        stored[:, 3] = (padding + limit) // 2

    def edit(dataset, index):
        set_pixels(dataset, stored[index])
        dataset.RescaleIntercept = -1000
        dataset.add_new("PixelPaddingValue", vr, padding)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", vr, limit)

    expected = stored.astype(int) - 1000
    expected[:, : 2 if limit is None else 4] = -1024
    np.testing.assert_array_equal(
        read_series(write_series(tmp_path, HOUNSFIELD, edit=edit, syntax=syntax)).voxels, expected
    )


def as_stored(stored, **values):
    """An edit that sets stored values, and tags as `every` does."""

    def edit(dataset, index):
        set_pixels(dataset, stored[index])
        every(**values)(dataset, index)

    return edit


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless], ids=lambda uid: uid.keyword
)
@pytest.mark.parametrize(
    ("dtype", "intercept", "paddings"),
    [
        (np.uint16, -1024, [63536]),  # -2000
        (np.uint16, -1024, [65535]),  # -1
        (np.uint16, -1024, [32768]),  # -32768, and no more than 31744 as it stands
        (np.uint16, 0, [65535]),
        (np.uint16, 0, [64512, 63536]),  # -1024 outside the field, -2000 outside the bore
        (np.int16, -1024, [-32768]),
        (np.int16, -1024, [-32768, -32000]),
    ],
)
def test_padding_without_a_tag_becomes_air(tmp_path, dtype, intercept, paddings, syntax):
    """In one slice or in all, and never a value at the other end of the scale."""
    stored = random_hounsfield(3, 32, 40).clip(0).astype(dtype)
    expected = stored.astype(int) + intercept
    for row, padding in enumerate(paddings):
        stored[1:, row] = padding
        expected[1:, row] = -1024
    files = write_series(
        tmp_path,
        random_hounsfield(3, 32, 40),
        edit=as_stored(stored, RescaleIntercept=intercept),
        syntax=ExplicitVRLittleEndian if syntax == RLELossless else syntax,
    )
    if syntax == RLELossless:
        for file in files:
            compress(file, syntax)
    np.testing.assert_array_equal(read_series(files).voxels, expected)


def test_tagged_padding_beside_padding_without_a_tag(tmp_path):
    stored = random_hounsfield().clip(0).astype(np.uint16)
    stored[:, 0], stored[:, 1], stored[2, 2] = 63536, 65436, 3
    edit = as_stored(stored, PixelPaddingValue=65436)
    expected = stored.astype(int) - 1024
    expected[:, :2] = -1024
    np.testing.assert_array_equal(read_series(write_series(tmp_path, HOUNSFIELD, edit=edit)).voxels, expected)


@pytest.mark.parametrize("intercept", [0, -24, 100])
def test_signed_values_in_a_file_without_signs(tmp_path, intercept):
    """-1000 is 64536 there. The padding among them, and values of one negative slice alone, come out right as well."""
    signed = HOUNSFIELD - np.int16(intercept)
    signed[2] = np.abs(signed[2])
    signed[2, 3, 3] = -7
    padded = signed.copy()
    padded[:, 0, :3] = -3000
    files = write_series(tmp_path, HOUNSFIELD, edit=as_stored(padded.view(np.uint16), RescaleIntercept=intercept))
    expected = signed.astype(int) + intercept
    expected[:, 0, :3] = -1024
    np.testing.assert_array_equal(read_series(files).voxels, expected)


def test_padding_in_bits_that_hold_no_value(tmp_path):
    """63536 where 12 bits are stored, whose lower 12 bits are a bone's."""
    stored = random_hounsfield().clip(0).astype(np.uint16)
    stored[:, 0] = 63536

    def edit(dataset, index):
        set_pixels(dataset, stored[index], 12)

    expected = stored.astype(int) - 1024
    expected[:, 0] = -1024
    np.testing.assert_array_equal(read_series(write_series(tmp_path, HOUNSFIELD, edit=edit)).voxels, expected)


@pytest.mark.parametrize(
    ("stored", "values", "found"),
    [
        (np.arange(33_000, 33_048, dtype=np.uint16), {}, "32023"),
        (np.full(48, 32_767, np.int16), {"RescaleIntercept": 10}, "32777"),
        (np.arange(-32_768, -32_720, dtype=np.int16), {}, "-33792"),
        (np.arange(48, dtype=np.int16), {"RescaleSlope": 1000}, "45976"),
        (np.arange(48, dtype=np.int16), {"RescaleSlope": "1e300"}, "4.7e+301"),
    ],
)
def test_values_that_no_ct_has(tmp_path, stored, values, found):
    pixels = np.abs(HOUNSFIELD).astype(stored.dtype)
    pixels[1] = stored.reshape(6, 8)
    files = write_series(tmp_path, HOUNSFIELD, edit=lambda *of: set_pixels(of[0], pixels[of[1]]))
    for file in files[1:2]:
        change(file, **values)
    rejected = rejection(files)
    assert rejected.reason == "values out of range"
    assert rejected.found == f"{found} in 0001.dcm, allowed: -32768 to 32767"


@pytest.mark.parametrize(
    ("stored", "values"),
    [
        (np.arange(65_488, 65_536, dtype=np.uint16), {}),
        (np.full(48, 65_535, np.uint16), {}),
        (np.full(48, 4095, np.uint16), {"RescaleSlope": 10, "RescaleIntercept": 0}),
    ],
)
def test_values_of_magnetic_resonance_beyond_int16(tmp_path, stored, values):
    """Bright, perhaps: no sign and no padding is read into them."""
    pixels = np.broadcast_to(stored.reshape(6, 8), (5, 6, 8))
    edit = as_stored(pixels, Modality="MR", SOPClassUID=MRImageStorage, RescaleSlope=1, RescaleIntercept=0)
    files = write_series(tmp_path, HOUNSFIELD, edit=edit)
    for file in files:
        change(file, **values)
    assert rejection(files, "MR").reason == "values out of range"


@pytest.mark.parametrize(
    "unit",
    [
        *("HU", "hu", "Hu", " HU ", "[HU]", "(hu)", "HU units", "Hounsfield", "HOUNSFIELD", "Hounsfield Unit"),
        *("Hounsfield Units", "Houndsfield Unit", "HOUNSFIELD_UNITS", "Hounsfield units (HU)", "US", "unspecified"),
        *("", None),
    ],
)
def test_names_of_hounsfield_units(tmp_path, unit):
    edit = every() if unit is None else every(RescaleType=unit)
    np.testing.assert_array_equal(read_series(write_series(tmp_path, HOUNSFIELD, edit=edit)).voxels, HOUNSFIELD)


@pytest.mark.parametrize(
    "unit", ["OD", "MGML", "Z_EFF", "ED", "EDW", "PCT", "HU_MOD", "HU*10", "10 HU", "MGML HU", "husk", "Bq/ml", "?"]
)
def test_units_that_are_not_hounsfield(tmp_path, unit):
    files = write_series(tmp_path, HOUNSFIELD, edit=every(RescaleType=unit))
    rejected = rejection(files)
    assert (rejected.reason, rejected.found) == ("not Hounsfield units", f"RescaleType {unit} in 0000.dcm")


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
def test_a_unit_replaces_no_scale(tmp_path, missing):
    files = write_series(tmp_path, HOUNSFIELD, edit=every(RescaleType="HU", **{missing: None}))
    assert rejection(files).reason == f"missing {missing}"


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "fact", "expected"),
    [
        ("SliceThickness", "DS", "5,0", "slice_thickness_mm", 5.0),
        ("SliceThickness", "DS", "1,25", "slice_thickness_mm", 1.25),
        ("SliceThickness", "DS", "thin", "slice_thickness_mm", np.nan),
        ("SliceThickness", "DS", "", "slice_thickness_mm", np.nan),
        ("SliceThickness", "DS", "5\\5", "slice_thickness_mm", np.nan),
        ("SliceThickness", "DS", "0", "slice_thickness_mm", np.nan),
        ("SliceThickness", "DS", "1_0", "slice_thickness_mm", np.nan),
        ("SliceThickness", "DS", "inf", "slice_thickness_mm", np.nan),
        ("SliceThickness", "FD", 5.0, "slice_thickness_mm", np.nan),
        ("SliceThickness", "SQ", [], "slice_thickness_mm", np.nan),
        ("Manufacturer", "US", 7, "manufacturer", ""),
        ("Manufacturer", "SQ", [], "manufacturer", ""),
        ("Manufacturer", "OB", b"\xff\xfe", "manufacturer", ""),
        ("Manufacturer", "LO", "two\\makers", "manufacturer", "two makers"),
        ("ConvolutionKernel", "FD", 1.5, "kernel", ""),
        ("ConvolutionKernel", "SQ", [], "kernel", ""),
        ("ConvolutionKernel", "SH", "Br40f\\3", "kernel", "Br40f 3"),
    ],
)
def test_fact_that_nothing_needs(tmp_path, keyword, vr, value, fact, expected):
    def edit(dataset, _):
        with pydicom.config.disable_value_validation():
            dataset.add_new(keyword, vr, value if vr != "DS" else None)

    files = write_series(tmp_path, HOUNSFIELD, edit=edit)
    if vr == "DS":  # as pydicom writes no such text
        for file in files:
            text = value.encode() + b" " * (len(value) % 2)
            empty = b"\x18\0\x50\0DS\0\0"
            assert file.read_bytes().count(empty) == 1
            file.write_bytes(file.read_bytes().replace(empty, empty[:6] + len(text).to_bytes(2, "little") + text))
    [series], findings = find_series(files, tmp_path)
    assert findings == []
    scan = read_series(series.files)
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD)
    np.testing.assert_equal(scan.facts[fact], expected)


@pytest.mark.parametrize(
    ("old", "new", "keyword"),
    [
        (b"-120.0", b"-120,0", "ImagePositionPatient"),
        (b"0.7\\0.7 ", b"0,7\\0,7 ", "PixelSpacing"),
        (b"-1024", b"-1,24", "RescaleIntercept"),
        (b"-1024", b"-1_24", "RescaleIntercept"),
    ],
)
def test_number_that_is_needed_and_not_plain(tmp_path, old, new, keyword):
    """A comma may part decimals or thousands."""
    files = write_series(tmp_path, HOUNSFIELD)
    for file in files:
        assert old in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(old, new))
    assert rejection(files).reason == f"invalid {keyword}"


def test_magnetic_resonance_needs_no_rescale(tmp_path):
    stored = random_hounsfield()

    def edit(dataset, index):
        dataset.Modality, dataset.SOPClassUID = "MR", pydicom.uid.MRImageStorage
        del dataset.RescaleSlope, dataset.RescaleIntercept
        set_pixels(dataset, stored[index])

    files = write_series(tmp_path, HOUNSFIELD, edit=edit)
    np.testing.assert_array_equal(read_series(files, "MR").voxels, stored)
    assert rejection(files).reason == "another modality"


# Transfer syntaxes and files of many frames


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.keyword,
)
def test_uncompressed_syntax(tmp_path, syntax):
    scan = read_series(write_series(tmp_path, HOUNSFIELD, syntax=syntax))
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD)


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword
)
def test_compressed_syntax(tmp_path, syntax):
    files = write_series(tmp_path, random_hounsfield(3, 32, 40))
    for file in files:
        compress(file, syntax)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_series(files).voxels, random_hounsfield(3, 32, 40))


@pytest.mark.parametrize("syntax", [HTJ2KLossless, MPEG2MPML], ids=lambda syntax: syntax.keyword)
def test_no_decoder(tmp_path, syntax):
    files = write_series(tmp_path, HOUNSFIELD)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(file)
    rejected = rejection(files)
    assert rejected.reason == "no decoder"
    assert syntax.name in rejected.found


def test_damaged_compressed_pixels(tmp_path):
    files = write_series(tmp_path, random_hounsfield(3, 32, 40))
    compress(files[1], JPEG2000Lossless)
    change(files[1], PixelData=pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"]))
    rejected = rejection(files)
    assert rejected.reason == "damaged pixel data"
    assert "0001.dcm" in rejected.found


def test_without_preamble(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[132:])
    [series], findings = find_series(list_files(tmp_path).files, tmp_path)
    assert findings == []
    np.testing.assert_array_equal(read_series(series.files).voxels, HOUNSFIELD)


def test_long_header(tmp_path):
    """Pixel data that begin after what is usually read of a header at first."""

    def edit(dataset, _):
        dataset.private_block(0x0009, "SCANGAN", create=True).add_new(1, "OB", bytes(100_000))

    np.testing.assert_array_equal(read_series(write_series(tmp_path, HOUNSFIELD, edit=edit)).voxels, HOUNSFIELD)


def test_enhanced_file(tmp_path):
    heights = [55, 50, 52.5, 57.5, 60]
    write_enhanced(tmp_path / "a", HOUNSFIELD, heights=heights, series_uid=generate_uid())
    [series], findings = find_series(list_files(tmp_path).files, tmp_path)
    assert findings == []
    scan = read_series(series.files)
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD[np.argsort(heights)])
    np.testing.assert_allclose(scan.affine, [[0.7, 0, 0, -100], [0, 0.5, 0, -120], [0, 0, 2.5, 50], [0, 0, 0, 1]])
    assert (scan.facts["kernel"], scan.facts["slice_thickness_mm"]) == ("Qr40", 5.0)


def test_enhanced_file_with_rescale_of_each_frame(tmp_path):
    rescales = [(1, -1024), (2, -1000), (1, 0), (4, -1024), (1, 24)]
    hounsfield = HOUNSFIELD // 4 * 4
    heights = [1, 2, 3, 4, 5]
    write_enhanced(tmp_path / "a", hounsfield, heights=heights, series_uid=generate_uid(), rescale_of_each=rescales)
    np.testing.assert_array_equal(read_series([tmp_path / "a"]).voxels, hounsfield)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_two_enhanced_files_of_one_series(tmp_path, syntax):
    hounsfield = random_hounsfield(6, 32, 40)
    uid = generate_uid()
    write_enhanced(tmp_path / "a", hounsfield[3:], heights=[4, 5, 6], series_uid=uid)
    write_enhanced(tmp_path / "b", hounsfield[:3], heights=[1, 2, 3], series_uid=uid)
    compress(tmp_path / "b", syntax)
    np.testing.assert_array_equal(read_series([tmp_path / "a", tmp_path / "b"]).voxels, hounsfield)


def test_frames_without_positions(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    change(files[0], NumberOfFrames=5, PixelData=HOUNSFIELD.tobytes())
    rejected = rejection(files[:1])
    assert rejected.reason == "frames without positions"
    assert rejected.found == "5 frames without functional groups in 0000.dcm"


# Refused by name


def test_missing_slices(tmp_path):
    files = write_series(tmp_path, random_hounsfield(9))
    rejected = rejection([file for index, file in enumerate(files) if index not in (3, 6, 7)])
    assert rejected.reason == "missing slices"
    assert rejected.found == "3 missing, the largest gap, 7.5 mm instead of 2.5, between slices 5 and 6 of 6"


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_one_missing_slice_of_five(tmp_path, missing):
    files = write_series(tmp_path, HOUNSFIELD)
    del files[missing]
    assert rejection(files).reason == "missing slices"


def test_one_missing_slice_of_many(tmp_path):
    files = write_series(tmp_path, random_hounsfield(120, 2, 2))
    del files[118]
    assert rejection(files).reason == "missing slices"


def test_uneven_spacing(tmp_path):
    edit = only(3, ImagePositionPatient=[-100, -120, 58.3])
    assert rejection(write_series(tmp_path, HOUNSFIELD, edit=edit)).reason == "uneven slice spacing"


def test_shifted_slice(tmp_path):
    edit = only(3, ImagePositionPatient=[-99, -120, 57.5])
    assert rejection(write_series(tmp_path, HOUNSFIELD, edit=edit)).reason == "shifted slices"


def test_identical_slices_at_one_position_are_kept_once(tmp_path, caplog):
    files = write_series(tmp_path, HOUNSFIELD)
    shutil.copy(files[2], tmp_path / "again.dcm")
    change(tmp_path / "again.dcm", SOPInstanceUID=generate_uid())
    scan = read_series([tmp_path / "again.dcm", *files])
    np.testing.assert_array_equal(scan.voxels, HOUNSFIELD)
    assert scan.facts["duplicate_slices"] == 1
    assert "1 identical slices left out of 6" in caplog.text


def test_differing_slices_at_one_position(tmp_path):
    uid = generate_uid()
    files = write_series(tmp_path / "a", HOUNSFIELD, series_uid=uid)
    changed = HOUNSFIELD.copy()
    changed[3, 2, 2] += 1
    rejected = rejection(files + write_series(tmp_path / "b", changed, series_uid=uid))
    assert rejected.reason == "several images at one position"
    assert "0003.dcm" in rejected.found


def anatomy(slices: int, seed: int = 0, size: int = 40) -> np.ndarray:
    """Something that changes from slice to slice as a body does: int16 Hounsfield units [slices, size, size]."""
    noise = np.random.default_rng(seed).normal(size=(slices, size, size))
    smooth = ndimage.gaussian_filter(noise, (1.5, 2, 2), mode="wrap")
    return (600 * smooth / smooth.std() + 10 * noise).clip(-1000, 2000).astype(np.int16)


PASSES = {
    "AcquisitionNumber": lambda index: 1 + index % 2,
    "TemporalPositionIdentifier": lambda index: 1 + index % 3,
    "TriggerTime": lambda index: 100 + 300 * (index % 2),
    "KVP": lambda index: (80, 140)[index % 2],
    "EchoNumbers": lambda index: 1 + index % 2,
    "ContrastBolusAgent": lambda index: ("", "agent")[index % 2],
    "AcquisitionTime": lambda index: f"1200{index // 2 + 30 * (index % 2):02d}.5",
    "ContentTime": lambda index: f"1200{index // 3 + 20 * (2 - index % 3):02d}",
}


@pytest.mark.parametrize("keyword", PASSES)
def test_passes_that_the_header_tells_apart(tmp_path, keyword):
    def edit(dataset, index):
        setattr(dataset, keyword, PASSES[keyword](index))

    rejected = rejection(write_series(tmp_path, anatomy(9), edit=edit))
    assert rejected.reason == "interleaved acquisitions"
    assert rejected.found == f"{keyword} in turn from slice to slice (0000.dcm, 0001.dcm)"
    assert rejected.remedy == "split the series (acquisitions), and keep one"


HONEST = {
    "each rotation its number": ("AcquisitionNumber", lambda index: index),
    "four slices a rotation": ("AcquisitionNumber", lambda index: index // 4),
    "two scans on end": ("AcquisitionNumber", lambda index: index // 5),
    "one slice again": ("AcquisitionNumber", lambda index: 1 + (index == 4)),
    "feet first": ("AcquisitionTime", lambda index: f"1200{20 - index:02d}"),
    "all at once": ("AcquisitionTime", lambda index: "120000"),
    "four slices at once": ("AcquisitionTime", lambda index: f"1200{index // 4:02d}"),
    "not in every slice": ("AcquisitionTime", lambda index: "" if index == 3 else f"12{index % 2:02d}00"),
}


@pytest.mark.parametrize("name", HONEST)
def test_one_acquisition_that_the_header_takes_apart(tmp_path, name):
    keyword, value = HONEST[name]

    def edit(dataset, index):
        setattr(dataset, keyword, value(index))

    hounsfield = anatomy(10)
    np.testing.assert_array_equal(read_series(write_series(tmp_path, hounsfield, edit=edit)).voxels, hounsfield)


@pytest.mark.parametrize("weaker", [0, 0.1, 0.2])
def test_magnetic_resonance_takes_every_other_slice_first(tmp_path, weaker):
    """Odd slices, then even ones, which the first have left weaker."""
    stored = (anatomy(12, size=64) + 1100).astype(np.int16)
    stored[1::2] = stored[1::2] * (1 - weaker)

    def edit(dataset, index):
        dataset.AcquisitionNumber, dataset.AcquisitionTime = 1, f"12{index % 2:02d}{index:02d}"
        as_stored(stored, Modality="MR", SOPClassUID=MRImageStorage, RescaleIntercept=0)(dataset, index)

    files = write_series(tmp_path, stored, edit=edit)
    np.testing.assert_array_equal(read_series(files, "MR").voxels, stored)


def two_passes(kind: str) -> np.ndarray:
    hounsfield = anatomy(24)
    if kind == "two bodies":
        hounsfield[1::2] = anatomy(24, seed=1)[1::2]
    elif kind == "three bodies":
        hounsfield[1::3], hounsfield[2::3] = anatomy(24, seed=1)[1::3], anatomy(24, seed=2)[2::3]
    elif kind == "body aside":
        hounsfield[1::2] = np.roll(hounsfield[1::2], 4, axis=2)
    elif kind == "another breath":
        hounsfield[1::2] = np.roll(hounsfield, 8, axis=0)[1::2]
    elif kind == "four slices":
        hounsfield = two_passes("two bodies")[:4]
    elif kind == "no change within":
        hounsfield[::2], hounsfield[1::2] = 40, 90
    return hounsfield


@pytest.mark.parametrize(
    "kind", ["two bodies", "three bodies", "body aside", "another breath", "four slices", "no change within"]
)
def test_passes_that_the_picture_tells_apart(tmp_path, kind):
    rejected = rejection(write_series(tmp_path, two_passes(kind)))
    assert rejected.reason == "interleaved acquisitions"
    assert "times as much from the next as from" in rejected.found


@pytest.mark.parametrize(
    "hounsfield",
    [
        anatomy(24),
        anatomy(24)[::4],  # thick gaps: slices that have nothing in common
        anatomy(4),
        anatomy(6) + np.random.default_rng(0).integers(-900, 900, (6, 40, 40), dtype=np.int16),
        np.random.default_rng(0).integers(-1000, 1000, (24, 40, 40), dtype=np.int16),
        np.broadcast_to(np.int16(40), (6, 40, 40)),
        np.broadcast_to(np.arange(-500, 700, 50, dtype=np.int16)[:, None, None], (24, 40, 40)),
    ],
    ids=["body", "far apart", "short", "noisy", "noise", "nothing", "gradient"],
)
def test_one_pass(tmp_path, hounsfield):
    np.testing.assert_array_equal(read_series(write_series(tmp_path, hounsfield)).voxels, hounsfield)


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("mixed orientations", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}),
        ("mixed pixel spacings", {"PixelSpacing": [0.7, 0.72]}),
        ("mixed matrix sizes", {"Rows": 8, "Columns": 6}),
        ("several series", {"SeriesInstanceUID": "1.2.3"}),
        ("localizer", {"ImageType": LOCALIZER}),
        ("another modality", {"Modality": "PT"}),
        ("another kind of object", {"SOPClassUID": SecondaryCaptureImageStorage}),
        ("colour image", {"PhotometricInterpretation": "RGB"}),
        ("colour image", {"SamplesPerPixel": 3}),
        ("missing PixelSpacing", {"PixelSpacing": None}),
        ("missing PixelSpacing", {"PixelSpacing": ""}),
        ("missing ImagePositionPatient", {"ImagePositionPatient": None}),
        ("missing ImageOrientationPatient", {"ImageOrientationPatient": None}),
        ("missing RescaleSlope", {"RescaleSlope": None}),
        ("missing RescaleIntercept", {"RescaleIntercept": None}),
        ("missing RescaleSlope", {"RescaleSlope": None, "RescaleIntercept": None}),
        ("invalid RescaleSlope", {"RescaleSlope": 0}),
        ("invalid RescaleSlope", {"RescaleSlope": "nan"}),
        ("invalid RescaleIntercept", {"RescaleIntercept": "inf"}),
        ("invalid PixelSpacing", {"PixelSpacing": [0.7, 0]}),
        ("invalid PixelSpacing", {"PixelSpacing": 0.7}),
        ("no pixel data", {"PixelData": None}),
        ("no pixel data", {"Rows": None}),
        ("missing SeriesInstanceUID", {"SeriesInstanceUID": None}),
        ("no pixel data", {"Columns": 0}),
        ("missing BitsAllocated", {"BitsAllocated": None}),
        ("missing PixelRepresentation", {"PixelRepresentation": None}),
        ("invalid BitsStored", {"HighBit": 16}),
        ("invalid BitsStored", {"BitsStored": 0}),
        ("truncated pixel data", {"PixelData": bytes(94)}),
    ],
)
def test_fault_in_one_slice(tmp_path, reason, values):
    with pydicom.config.disable_value_validation():
        files = write_series(tmp_path, HOUNSFIELD, edit=only(2, **values))
    rejected = rejection(files)
    assert rejected.reason == reason
    if reason.startswith(("missing", "invalid", "no pixel")) and reason != "missing SeriesInstanceUID":
        assert "0002.dcm" in rejected.found


def test_position_that_is_no_number(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    files[2].write_bytes(files[2].read_bytes().replace(b"-120.0", b"-12O.0"))
    rejected = rejection(files)
    assert rejected.reason == "invalid ImagePositionPatient"
    assert rejected.found == r"-100.0\-12O.0\55.0 in 0002.dcm, allowed: 3 finite numbers"


def test_orientation_that_is_none(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD, edit=every(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))
    assert rejection(files).reason == "invalid ImageOrientationPatient"


@pytest.mark.parametrize("slices", [1, 2])
def test_too_few_slices(tmp_path, slices):
    rejected = rejection(write_series(tmp_path, random_hounsfield(slices)))
    assert rejected.reason == "too few slices"
    assert rejected.found == f"{slices} (from {slices} images), allowed: 3 or more"


def test_no_files():
    assert rejection([]).reason == "too few slices"


def test_one_slice_has_no_spacing(tmp_path):
    assert rejection(write_series(tmp_path, random_hounsfield(1)), min_slices=1).reason == "too few slices"


def test_truncated_file(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    os.truncate(files[3], files[3].stat().st_size - 20)
    rejected = rejection(files)
    assert rejected.reason == "truncated pixel data"
    assert rejected.found == "76 of 96 bytes in 0003.dcm"


@pytest.mark.parametrize("share", np.arange(0, 1, 0.07))
def test_file_cut_anywhere_is_refused(tmp_path, share):
    files = write_series(tmp_path, HOUNSFIELD)
    os.truncate(files[3], int(files[3].stat().st_size * share))
    rejection(files)
    find_series(list_files(tmp_path).files, tmp_path)


def test_compressed_pixels_that_say_they_are_not(tmp_path):
    files = write_series(tmp_path, random_hounsfield(3, 32, 40))
    compress(files[0], JPEG2000Lossless)
    content = files[0].read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0")
    files[0].write_bytes(content)
    assert rejection(files).reason == "damaged pixel data"


# Headers that lie


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "damaged file"),
        ({"Rows": 8000, "Columns": 8000}, "truncated pixel data"),
        ({"NumberOfFrames": 2**31 - 1}, "frames without positions"),
        ({"PixelPaddingValue": [1, 2]}, "invalid PixelPaddingValue"),
    ],
)
def test_header_that_claims_too_much(tmp_path, values, reason):
    assert rejection(write_series(tmp_path, HOUNSFIELD, edit=only(2, **values))).reason == reason


def test_enhanced_file_that_claims_too_many_frames(tmp_path):
    write_enhanced(tmp_path / "a", HOUNSFIELD, heights=[1, 2, 3, 4, 5], series_uid="1.2")
    change(tmp_path / "a", NumberOfFrames=2**31 - 1)
    assert rejection([tmp_path / "a"]).reason == "truncated pixel data"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_compressed_frame_of_another_size(tmp_path, syntax):
    files = write_series(tmp_path, random_hounsfield(3, 32, 40), edit=every())
    for file in files:
        compress(file, syntax)
    change(files[2], Rows=8000, Columns=8000)
    change(files[0], Rows=8000, Columns=8000)
    change(files[1], Rows=8000, Columns=8000)
    assert rejection(files).reason == "damaged pixel data"


ELEMENTS = {
    "sequences without end": b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 5000,
    "a length beyond the file": b"\x08\0\x50\0UN\0\0\xfe\xff\xff\xff",
    "a length without end": b"\x08\0\x50\0UN\0\0\xff\xff\xff\xff",
    "a text of 2 GB": b"\x08\0\x50\0UT\0\0\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_element_that_lies(tmp_path, name):
    files = write_series(tmp_path, HOUNSFIELD, edit=every(SOPInstanceUID="1.2"))
    content = files[2].read_bytes()
    place = content.index(b"\x08\0\x60\0CS")  # Modality
    files[2].write_bytes(content[:place] + ELEMENTS[name] + content[place:])
    rejection(files)
    assert [finding.source for finding in find_series(files, tmp_path)[1]] == ["0002.dcm"]


def test_pixels_beyond_the_file(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    content = files[2].read_bytes()
    place = content.index(b"\xe0\x7f\x10\0OW\0\0") + 8
    files[2].write_bytes(content[:place] + b"\xfe\xff\xff\xff" + content[place + 4 : -20])
    assert rejection(files).found == "76 of 96 bytes in 0002.dcm"


def test_file_that_inflates_without_end(tmp_path, monkeypatch):
    files = write_series(tmp_path, HOUNSFIELD, syntax=DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(files[2].read_bytes()[140:144], "little")
    noise = np.random.default_rng(0).bytes(60_000)  # so that more is read than a header
    element = b"\xfc\xff\xfc\xffOB\0\0" + (60_000 + 2**21).to_bytes(4, "little")
    whole = zlib.decompress(files[2].read_bytes()[start:], -15) + element + noise + bytes(2**21)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    files[2].write_bytes(files[2].read_bytes()[:start] + squeeze.compress(whole) + squeeze.flush())
    np.testing.assert_array_equal(read_series(files).voxels, HOUNSFIELD)
    monkeypatch.setattr(dicom, "INFLATED_BYTES", 2**21)
    rejected = rejection(files)
    assert (rejected.reason, rejected.found) == ("damaged file", "more than 2097152 bytes when inflated")
    assert [finding.reason for finding in find_series(files, tmp_path)[1]] == ["damaged file"]


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_flipped_and_cut_frames(tmp_path, syntax):
    """Whatever the decoder does, this process lives, and reads the next file."""
    hounsfield = anatomy(3, size=32)
    files = write_series(tmp_path, hounsfield)
    for file in files:
        compress(file, syntax)
    content = files[1].read_bytes()
    start = content.index(b"\xe0\x7f\x10\0") + 28
    random = np.random.default_rng(0)
    for trial in range(3):
        damaged = bytearray(content)
        places = random.integers(start, start + (80 if trial % 2 else len(content) - start), 20)
        for place in places.clip(0, len(content) - 1):
            damaged[place] = random.integers(256)
        files[1].write_bytes(damaged[: random.integers(start, len(content))] if trial % 3 == 0 else damaged)
        with suppress(Unusable):
            read_series(files)
    files[1].write_bytes(content)
    np.testing.assert_array_equal(read_series(files).voxels, hounsfield)


# Finding series


def test_two_series_in_a_folder(tmp_path):
    write_series(tmp_path / "all", HOUNSFIELD, series_uid="1.2")
    others = write_series(tmp_path / "more", random_hounsfield(4), series_uid="1.1", edit=every(PatientID="other"))
    for file in others:
        file.rename(tmp_path / "all" / f"x{file.stem}")
    series, findings = find_series(list_files(tmp_path).files, tmp_path)
    assert findings == []
    assert [(one.series_uid, one.patient_id, len(one.files)) for one in series] == [
        ("1.1", "other", 4),
        ("1.2", "patient-7", 5),
    ]
    np.testing.assert_array_equal(read_series(series[1].files).voxels, HOUNSFIELD)


def test_one_series_in_two_folders(tmp_path):
    files = write_series(tmp_path / "a", HOUNSFIELD)
    (tmp_path / "b").mkdir()
    files[1].rename(tmp_path / "b" / "picture.jpg")
    [series], _ = find_series(list_files(tmp_path).files, tmp_path)
    np.testing.assert_array_equal(read_series(series.files).voxels, HOUNSFIELD)


def test_what_is_no_scan(tmp_path):
    write_series(tmp_path / "ct", HOUNSFIELD, edit=only(0, ImageType=LOCALIZER))
    write_series(tmp_path / "pet", HOUNSFIELD[:1], edit=every(Modality="PT"))
    write_series(tmp_path / "report", HOUNSFIELD[:1], edit=every(SOPClassUID=SecondaryCaptureImageStorage))
    shutil.copy(tmp_path / "ct" / "0003.dcm", tmp_path / "copy.dcm")
    shutil.copy(TEST_FILES / "dicomdirtests" / "DICOMDIR", tmp_path)
    (tmp_path / "notes.txt").write_text("Patient came twice.\n" * 20)
    (tmp_path / "empty").touch()
    (tmp_path / "numbers.raw").write_bytes(np.arange(8, 9000, dtype=np.int16).tobytes())  # begins as DICOM may
    (tmp_path / "more.raw").write_bytes(b"\x08\0\x40\x11\xff\xff\xff\xff" + b"abcd" * 10)  # on which pydicom stumbles
    (tmp_path / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    [series], findings = find_series(list_files(tmp_path).files, tmp_path)
    assert len(series.files) == 4
    assert findings_of(tmp_path) == [
        ("DICOMDIR", "no image", False),
        ("broken", "damaged file", True),
        ("ct/0000.dcm", "localizer", False),
        ("ct/0003.dcm", "copy of another file", False),
        ("empty", "not DICOM", False),
        ("more.raw", "not DICOM", False),
        ("notes.txt", "not DICOM", False),
        ("numbers.raw", "not DICOM", False),
        ("pet/0000.dcm", "another modality", False),
        ("report/0000.dcm", "another kind of object", False),
    ]
    found = {finding.source: finding.found for finding in findings}
    assert found["pet/0000.dcm"] == "PT, allowed: CT"
    assert found["empty"] == "an empty file"


@pytest.mark.parametrize(
    ("modality", "remedy"),
    [
        ("MR", "nothing to do, or choose modality MR"),
        ("SEG", "nothing to do"),
        ("PT", "nothing to do"),
        ("mr", "nothing to do"),
    ],
)
def test_only_modalities_that_exist_are_offered(tmp_path, modality, remedy):
    with pydicom.config.disable_value_validation():
        write_series(tmp_path, HOUNSFIELD[:1], edit=every(Modality=modality, SOPClassUID=SegmentationStorage))
    _, [finding] = find_series(list_files(tmp_path).files, tmp_path)
    assert (finding.reason, finding.remedy) == ("another modality", remedy)


def test_modality_is_chosen(tmp_path):
    write_series(tmp_path, HOUNSFIELD)
    assert findings_of(tmp_path, "MR") == [(f"000{index}.dcm", "another modality", False) for index in range(5)]


def test_several_patients_in_one_series(tmp_path):
    write_series(tmp_path, HOUNSFIELD, edit=only(0, PatientID="another"))
    write_series(tmp_path / "mixed", HOUNSFIELD, edit=only(2, PatientID="another"))
    assert findings_of(tmp_path) == [
        (".", "several patients in one series", True),
        ("mixed", "several patients in one series", True),
    ]
    (_, finding) = find_series(list_files(tmp_path).files, tmp_path)[1]
    assert finding.found == "another PatientID in 0002.dcm than in 0000.dcm (5 files)"
    assert {"patient-7", "another"} <= finding.identifiers


def test_patient_without_an_id(tmp_path):
    write_series(tmp_path, HOUNSFIELD, series_uid="1.2", edit=every(PatientID=""))
    [series], _ = find_series(list_files(tmp_path).files, tmp_path)
    assert series.patient_id == pydicom.dcmread(series.files[0]).StudyInstanceUID


def test_identifiers(tmp_path):
    edit = every(InstitutionName="St Elsewhere", AccessionNumber="A77", PatientBirthDate="19500607")
    write_series(tmp_path / "ct", HOUNSFIELD, edit=edit, series_uid="1.2")
    write_series(tmp_path / "pet", HOUNSFIELD[:1], edit=every(Modality="PT", PatientName="Roe^Richard"))
    [series], [finding] = find_series(list_files(tmp_path).files, tmp_path)
    assert series.identifiers >= {
        *("Doe^Jane", "Doe", "Jane", "patient-7", "St Elsewhere", "A77", "1.2"),
        *("19500607", "06-07-1950", "1950-06-07", "20010203", "02-03-2001"),
    }
    assert "" not in series.identifiers
    assert {"Roe", "Richard"} <= finding.identifiers


def test_list_files(tmp_path):
    for name in ("b/2", "a", "b/.hidden", ".cache/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / ".cache")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert list_files(tmp_path).files == [tmp_path / "a", tmp_path / "b" / "2", tmp_path / "c" / "3"]
    with pytest.raises(DataError, match="nowhere: root: found no such folder"):
        list_files(tmp_path / "nowhere")


# Files of others: pydicom's own


def image_files(modality: str) -> list[Path]:
    """Every file of this modality among those that come with pydicom, found by another way than ours."""
    files = []
    for file in sorted(path for path in TEST_FILES.rglob("*") if path.is_file()):
        with suppress(Exception), warnings.catch_warnings(action="ignore"):
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            if dataset.get("Modality") == modality:
                files.append(file)
    return files


def name_of(file: Path) -> str:
    return file.relative_to(TEST_FILES).as_posix()


OTHERS = [pytest.param(file, modality, id=name_of(file)) for modality in ("CT", "MR") for file in image_files(modality)]
DAMAGED = {"MR_truncated.dcm": "truncated pixel data"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("file", "modality"), OTHERS)
def test_file_of_pydicom_is_read_or_refused(tmp_path, file, modality):
    """Alone it has too few slices; as three slices of one series, its pixels are those that pydicom reads."""
    reason = rejection([file], modality).reason
    dataset = pydicom.dcmread(file, force=True)
    if reason != "too few slices" and file.name not in DAMAGED:
        expected = "localizer" if "LOCALIZER" in dataset.get("ImageType", ()) else "no pixel data"
        assert reason == expected
        assert (expected == "localizer") or "PixelData" not in dataset
        return
    files = [tmp_path / str(index) for index in range(3)]
    normal = np.cross(dataset.ImageOrientationPatient[:3], dataset.ImageOrientationPatient[3:])
    origin = np.array(dataset.ImagePositionPatient, float)
    for index, target in enumerate(files):
        dataset.ImagePositionPatient = [f"{number:.8g}" for number in origin + 2 * index * normal]
        dataset.save_as(target)
    if file.name in DAMAGED:
        assert rejection(files, modality).reason == DAMAGED[file.name]
        return
    stored = dataset.pixel_array.astype(float)
    expected = np.rint(stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0)))
    if "PixelPaddingValue" in dataset:
        expected[stored == dataset.PixelPaddingValue] = -1024
    scan = read_series(files, modality)
    np.testing.assert_array_equal(scan.voxels, np.stack([expected] * 3))
    assert scan.facts["native_spacing_mm"][2] == pytest.approx(2, rel=1e-4)


def test_series_of_pydicom():
    """All CT series among them, by reason or by number of slices."""
    folder = TEST_FILES / "dicomdirtests"
    series, findings = find_series(list_files(folder).files, folder)
    outcome = {}
    for one in series:
        try:
            outcome[one.files[0].parent.name] = read_series(one.files).facts["slices"]
        except Unusable as rejected:
            outcome[one.files[0].parent.name] = rejected.reason
    assert outcome == {"CT5N": 5, "CT2": "missing slices", "SE000000": "no pixel data"}
    assert {finding.reason for finding in findings} == {"no image", "another modality", "localizer", "not DICOM"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_files_of_pydicom_are_sorted_without_an_exception():
    files = list_files(TEST_FILES).files
    series, findings = find_series(files, TEST_FILES)
    assert sum(len(one.files) for one in series) + len(findings) == len(files)
    for one in series:
        with suppress(Unusable):
            read_series(one.files)


def test_breaks_of_the_standard_are_met_in_silence(tmp_path, recwarn, caplog):
    """Implicit files that say they are explicit, with an id that is too long and an uid that is none."""
    with pydicom.config.disable_value_validation():
        edit = every(PatientID="x" * 100, SeriesInstanceUID="no.uid")
        files = write_series(tmp_path, HOUNSFIELD, edit=edit, syntax=ImplicitVRLittleEndian)
    for file in files:
        implicit, explicit = b"UI\x12\x001.2.840.10008.1.2\0", b"UI\x14\x001.2.840.10008.1.2.1\0"
        file.write_bytes(file.read_bytes().replace(implicit, explicit))
    with pytest.warns(UserWarning, match="found implicit VR"):
        pydicom.dcmread(files[0])
    recwarn.clear()
    caplog.clear()
    [series], _ = find_series(files, tmp_path)
    np.testing.assert_array_equal(read_series(series.files).voxels, HOUNSFIELD)
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.text == ""
