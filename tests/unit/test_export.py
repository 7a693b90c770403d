"""Exported volumes, opened again by pydicom, SimpleITK, nibabel and our own reader: voxels, places, headers."""

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from scangan.errors import DataError
from scangan.ingest.data_files import list_files
from scangan.ingest.dicom import find_series, read_series
from scangan.ingest.export import write_dicom_series, write_nifti
from scangan.ingest.volume_files import read_volume_file
from scangan.rejected import Unusable
from tests.unit.dicom_files import compress, random_hounsfield, set_pixels, write_enhanced, write_series

HOUNSFIELD = random_hounsfield()
TEXT = {"description": "nodules edited", "derivation": "one nodule injected by a GAN"}
CHANGED = np.s_[1:3, 2:5, 3:6]


def turn(degrees: float) -> np.ndarray:
    """About an axis that is none of the patient's."""
    axis = np.array([1.0, 2.0, 3.0]) / 14**0.5
    angle = np.deg2rad(degrees)
    cross = np.cross(np.eye(3), axis)
    return np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


UPRIGHT = np.eye(3)


def grid(rotation=UPRIGHT, spacing=(0.6640625, 0.7421875, 1.25), origin=(-171.3, -160.25, 42.5)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * spacing, origin
    return affine


GRIDS = {"axial": grid(), "oblique": grid(turn(20)), "coronal": grid(np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]))}


def edited(hounsfield=HOUNSFIELD) -> np.ndarray:
    edited = hounsfield.copy()
    edited[CHANGED] = np.arange(18).reshape(2, 3, 3)
    return edited


def headers(folder) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def ordered(headers) -> np.ndarray:
    """Hounsfield units as pydicom gives them, by height."""
    planes = sorted(headers, key=lambda header: header.ImagePositionPatient[2])
    return np.stack([pydicom.pixels.apply_rescale(header.pixel_array, header) for header in planes])


# Without a source


@pytest.mark.parametrize("affine", GRIDS.values(), ids=GRIDS)
def test_other_programs_read_the_same_series(tmp_path, affine):
    uid = write_dicom_series(tmp_path / "out", HOUNSFIELD, affine, seed=0, **TEXT)
    files = sorted((tmp_path / "out").iterdir())
    ours = read_series(files)
    np.testing.assert_array_equal(ours.voxels, HOUNSFIELD)
    np.testing.assert_allclose(ours.affine, affine, atol=1e-9)

    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(tmp_path / "out"), uid)
    reader.SetFileNames(names)
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), HOUNSFIELD)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(image.GetSpacing(), spacing, atol=1e-9)
    np.testing.assert_allclose(image.GetOrigin(), affine[:3, 3], atol=1e-9)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), affine[:3, :3] / spacing, atol=1e-9)


def test_the_header_of_a_synthetic_volume(tmp_path):
    uid = write_dicom_series(tmp_path / "out", HOUNSFIELD, GRIDS["axial"], seed=0, **TEXT)
    written = headers(tmp_path / "out")
    np.testing.assert_array_equal(ordered(written), HOUNSFIELD)
    first = written[0]
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
    assert first.SyntheticData == "YES"
    assert first.SeriesDescription == "SYNTHETIC nodules edited"
    assert first.DerivationDescription == TEXT["derivation"]
    assert first.PatientName == "SYNTHETIC"
    assert first.PatientID.startswith("SYNTHETIC-")
    assert first.PixelSpacing == [0.7421875, 0.6640625]  # between rows first
    assert first.SpacingBetweenSlices == 1.25
    assert first.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert {header.SeriesInstanceUID for header in written} == {uid}
    assert len({header.SOPInstanceUID for header in written}) == len(HOUNSFIELD)
    assert all(header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID for header in written)
    assert all(header[keyword].value is not None for header in written for keyword in ("StudyInstanceUID", "Rows"))
    # Type 1 and 2 attributes of the CT Image IOD.
    required = """
        PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime ReferringPhysicianName
        StudyID AccessionNumber Modality SeriesInstanceUID SeriesNumber FrameOfReferenceUID PositionReferenceIndicator
        Manufacturer InstanceNumber ImageType PixelSpacing ImageOrientationPatient ImagePositionPatient SliceThickness
        SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
        RescaleIntercept RescaleSlope KVP AcquisitionNumber SOPClassUID SOPInstanceUID
    """.split()
    assert [keyword for keyword in required if keyword not in first] == []


def test_a_rerun_gives_the_same_bytes_and_anything_else_new_uids(tmp_path):
    def write(name, voxels=HOUNSFIELD, affine=GRIDS["axial"], **changes):
        uid = write_dicom_series(tmp_path / name, voxels, affine, **TEXT | {"seed": 0} | changes)
        return uid, [file.read_bytes() for file in sorted((tmp_path / name).iterdir())]

    assert write("a") == write("b")
    others = {
        write("voxels", edited())[0],
        write("grid", affine=GRIDS["oblique"])[0],
        write("seed", seed=1)[0],
        write("words", derivation="another")[0],
        write("a_again")[0],
    }
    assert len(others) == 5


# From a source


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "source", HOUNSFIELD, pixel_spacing=(0.9, 0.4))


def derive(tmp_path, files, voxels=None, name="out"):
    before = read_series(files)
    voxels = edited(before.voxels) if voxels is None else voxels
    uid = write_dicom_series(tmp_path / name, voxels, before.affine, source=files, seed=0, **TEXT)
    after = read_series(list_files(tmp_path / name).files)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-9)
    return uid, after.voxels


def test_the_header_of_a_derived_series(tmp_path):
    def edit(dataset, index):
        dataset.SeriesNumber, dataset.SeriesDescription, dataset.InstanceCreationDate = 4, "Lung 1.0", "20010203"
        dataset.FrameOfReferenceUID = "1.2.3.4"
        dataset.add_new((0x0009, 0x0010), "LO", "VENDOR")
        dataset.add_new((0x0009, 0x1001), "LO", f"private {index}")
        dataset.IconImageSequence = [Dataset()]

    files = write_series(tmp_path / "source", HOUNSFIELD, edit=edit)
    uid, _ = derive(tmp_path, files)
    for before, after in zip(map(pydicom.dcmread, files), headers(tmp_path / "out"), strict=True):
        assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
        assert after.SyntheticData == "YES"
        assert after.SeriesDescription == "SYNTHETIC nodules edited"
        assert after.SeriesInstanceUID == uid != before.SeriesInstanceUID
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert after.SeriesNumber == 1004
        [reference] = after.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert after.ContributingEquipmentSequence[0].ContributionDescription == TEXT["derivation"]
        assert "IconImageSequence" not in after
        assert "InstanceCreationDate" not in after
        # All that was not named above is as it was.
        new = {element.keyword for element in after if before.get(element.tag) != element}
        assert new == {
            *("ImageType", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
            *("SyntheticData", "ContentQualification", "DerivationDescription", "SourceImageSequence"),
            *("ContributingEquipmentSequence", "PixelData"),
        } - ({"PixelData"} if before.PixelData == after.PixelData else set())
    series, _ = find_series(list_files(tmp_path / "out").files, tmp_path / "out")
    assert [each.patient_id for each in series] == ["patient-7"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_value_that_breaks_the_standard_is_handed_on(tmp_path, syntax):
    def edit(dataset, _):
        dataset.ReconstructionDiameter = "12345678"

    files = write_series(tmp_path / "source", HOUNSFIELD, edit=edit, syntax=syntax)
    for file in files:
        file.write_bytes(file.read_bytes().replace(b"12345678", b"3,5 mm  "))
    derive(tmp_path, files)
    for file in (tmp_path / "out").iterdir():
        assert b"3,5 mm" in file.read_bytes()


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEGLSLossless,
        RLELossless,
    ],
)
def test_from_every_transfer_syntax(tmp_path, syntax):
    plain = not (compressed := syntax in (JPEGLSLossless, RLELossless))
    files = write_series(tmp_path / "source", HOUNSFIELD, syntax=syntax if plain else ExplicitVRLittleEndian)
    if compressed:
        for file in files:
            compress(file, syntax)
    _, after = derive(tmp_path, files)
    np.testing.assert_array_equal(after, edited())
    np.testing.assert_array_equal(ordered(headers(tmp_path / "out")), edited())


def test_stored_values_outside_of_the_edit_stay(tmp_path):
    """12 bits, padding and a slope: all but the edit is as it was stored, and the edit is rounded and clipped."""
    stored = np.random.default_rng(1).integers(0, 4096, HOUNSFIELD.shape).astype(np.uint16)
    stored[:, 0] = 4000

    def edit(dataset, index):
        set_pixels(dataset, stored[index], bits_stored=12)
        dataset.PixelPaddingValue, dataset.RescaleSlope, dataset.RescaleIntercept = 4000, 2, -1000.5

    files = write_series(tmp_path / "source", HOUNSFIELD, edit=edit)
    before = read_series(files).voxels
    assert (before[:, 0] == -1024).all()
    asked = before.copy()
    asked[CHANGED] = [[[-900, -3000, 40]]]
    derive(tmp_path, files, asked)
    after = np.stack([header.pixel_array for header in headers(tmp_path / "out")])
    changed = np.zeros(stored.shape, bool)
    changed[CHANGED] = True
    np.testing.assert_array_equal(after[~changed], stored[~changed])
    np.testing.assert_array_equal(after[CHANGED], np.broadcast_to([50, 0, 520], (2, 3, 3)))


def test_from_slices_in_any_order_some_of_them_twice(tmp_path):
    voxels = HOUNSFIELD[[0, 3, 1, 4, 2, 2]]

    def edit(dataset, index):
        dataset.ImagePositionPatient = [-100, -120, 50 + 2.5 * [0, 3, 1, 4, 2, 2][index]]

    files = write_series(tmp_path / "source", voxels, edit=edit)
    _, after = derive(tmp_path, files[::-1])
    np.testing.assert_array_equal(after, edited())
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize("rescale_of_each", [None, [(1, -1024), (1, -1000), (1, -1024), (1, -900), (1, -1024)]])
def test_from_an_enhanced_file(tmp_path, rescale_of_each):
    file = tmp_path / "enhanced.dcm"
    heights = (0.0, 5.0, 2.5, 7.5, 10.0)
    options = {"heights": heights, "series_uid": "1.2.3", "rescale_of_each": rescale_of_each}
    write_enhanced(file, HOUNSFIELD[[0, 2, 1, 3, 4]], **options)
    _, after = derive(tmp_path, [file])
    np.testing.assert_array_equal(after, edited())
    [header] = headers(tmp_path / "out")
    assert header.NumberOfFrames == 5
    assert header.ImageType[0] == "DERIVED"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda voxels, affine: (voxels[:-1], affine), r"grid: found \[4, 6, 8\] voxels"),
        (lambda voxels, affine: (voxels, affine + np.eye(4)[:, [3, 0, 1, 2]] * 0.02), "grid: found voxels .* mm off"),
        (lambda voxels, affine: (voxels.astype(float), affine), "volume: found float64"),
    ],
)
def test_only_what_fits_its_source(tmp_path, source, change, said):
    before = read_series(source)
    voxels, affine = change(before.voxels, before.affine)
    with pytest.raises(DataError, match=said):
        write_dicom_series(tmp_path / "out", voxels, affine, source=source, seed=0, **TEXT)
    assert not (tmp_path / "out").exists()


def test_bits_at_an_unusual_place_are_refused(tmp_path):
    def edit(dataset, _):
        set_pixels(dataset, np.zeros(HOUNSFIELD.shape[1:], np.uint16), bits_stored=12)
        dataset.HighBit = 15

    with pytest.raises(Unusable, match=r"unusual HighBit: found 15 in 0000.dcm, allowed: 11"):
        derive(tmp_path, write_series(tmp_path / "source", HOUNSFIELD, edit=edit))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_cut_short(tmp_path, source):
    with pytest.raises(DataError, match="found files, allowed: a new or an empty folder"):
        derive(tmp_path, source, name="source")
    (tmp_path / "empty").mkdir()
    derive(tmp_path, source, name="empty")
    with pytest.raises(DataError, match="found 60 letters, allowed: at most 54"):
        write_dicom_series(tmp_path / "out", HOUNSFIELD, grid(), description="x" * 60, derivation="", seed=0)


# NIfTI


@pytest.mark.parametrize("affine", [*GRIDS.values(), grid(np.diag([-1, 1, 1]))], ids=[*GRIDS, "left-handed"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_nifti(tmp_path, affine, name):
    path = tmp_path / name
    write_nifti(path, HOUNSFIELD, affine, description="nodules edited")
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.get_fdata().transpose(2, 1, 0), HOUNSFIELD)
    assert image.get_data_dtype() == np.int16
    to_ras = np.diag([-1, -1, 1, 1])
    np.testing.assert_allclose(image.affine, to_ras @ affine, atol=1e-4)
    np.testing.assert_allclose(image.header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), atol=1e-6)
    assert image.header["descrip"].item().decode() == "SYNTHETIC nodules edited"
    voxels, ours = read_volume_file(path)
    np.testing.assert_array_equal(voxels, HOUNSFIELD)
    np.testing.assert_allclose(ours, affine, atol=1e-4)
    first = path.read_bytes()
    write_nifti(path, HOUNSFIELD, affine, description="nodules edited")
    assert path.read_bytes() == first


def test_what_nifti_cannot_hold(tmp_path):
    sheared = grid()
    sheared[1, 2] = 0.3
    with pytest.raises(DataError, match="affine: found axes that are not perpendicular"):
        write_nifti(tmp_path / "scan.nii", HOUNSFIELD, sheared, description="")
    with pytest.raises(DataError, match=r"suffix: found .mha, allowed: .nii \| .nii.gz"):
        write_nifti(tmp_path / "scan.mha", HOUNSFIELD, grid(), description="")
    with pytest.raises(DataError, match="found 70 letters, allowed: at most 69"):
        write_nifti(tmp_path / "scan.nii", HOUNSFIELD, grid(), description="x" * 70)
    assert list(tmp_path.iterdir()) == []
