"""Resampling against closed forms in millimetres and against SimpleITK; every orientation; readers of volume files."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from scangan.ct.volume import UNSCANNED, Volume, resample
from scangan.ingest.volume_files import read_volume_file
from scangan.rejected import Unusable

CENTRE = np.array([12.0, -150.0, 700.0])  # of every scan made here, LPS mm


def affine_of(directions, spacing_mm, shape) -> np.ndarray:
    """The affine of a scan [slices, rows, columns] around CENTRE; directions: unit vectors as columns."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, float) * spacing_mm
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def scan(function, affine, shape) -> np.ndarray:
    """int16 [slices, rows, columns] of a function of LPS mm (x, y, z)."""
    slices, rows, columns = np.indices(shape)
    points = np.stack([columns, rows, slices], -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.rint(function(points)).astype(np.int16)


def truth(function, volume: Volume) -> np.ndarray:
    """The function at the centres of the volume's voxels."""
    voxels = np.indices(volume.hounsfield.shape).reshape(3, -1).T
    return function(volume.to_mm(voxels)).reshape(volume.hounsfield.shape)


def ramp(points):
    return (points - CENTRE) @ [9.0, -5.0, 7.0]


def blob(points):
    """Three axes of different width, off the centre, so that no flip or permutation goes unseen."""
    return 2000 * np.exp(-(((points - CENTRE - [5, -8, 3]) / [12, 18, 9]) ** 2).sum(-1)) - 1000


def inner(values, margin=3):
    return values[margin:-margin, margin:-margin, margin:-margin]


def rotation(axis, degrees) -> np.ndarray:
    turned = np.eye(3)
    first, second = [index for index in range(3) if index != axis]
    angle = np.radians(degrees)
    turned[[first, second], [first, second]] = np.cos(angle)
    turned[first, second], turned[second, first] = -np.sin(angle), np.sin(angle)
    return turned


# Aligned scans


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (0.9, 0.6, 0.5), (2.5, 2.0, 3.0), (0.8, 0.8, 5.0)])
@pytest.mark.parametrize("antialias", [True, False])
def test_ramp_stays_the_same_function_of_millimetres(spacing, antialias):
    shape = (30, 62, 70)
    affine = affine_of(np.eye(3), spacing, shape)
    volume = resample(scan(ramp, affine, shape), affine, 1.5, antialias)
    assert volume.spacing_mm == (1.5, 1.5, 1.5)
    assert volume.hounsfield.dtype == np.int16
    assert volume.hounsfield.shape == tuple(int(n * s / 1.5 + 1e-9) for n, s in zip(shape, spacing[::-1], strict=True))
    # Both the scan and the volume are rounded to whole Hounsfield units.
    error = inner(volume.hounsfield - truth(ramp, volume), 4)
    assert np.abs(error).max() < 1.5
    assert abs(error.mean()) < 0.1


def test_first_voxel_begins_where_the_scan_begins():
    affine = affine_of(np.eye(3), (0.7, 0.8, 1.25), (20, 30, 40))
    volume = resample(np.zeros((20, 30, 40), np.int16), affine, 1.5)
    np.testing.assert_allclose(np.array(volume.origin_mm) - 0.75, affine[:3, 3] - np.array([0.7, 0.8, 1.25]) / 2)


@pytest.mark.parametrize(("length", "native", "new", "expected"), [(100, 0.3, 0.1, 300), (30, 0.1, 0.3, 10)])
def test_whole_numbers_of_voxels_are_not_missed_by_rounding(length, native, new, expected):
    affine = affine_of(np.eye(3), (new, new, native), (length, 4, 4))
    assert len(resample(np.zeros((length, 4, 4), np.int16), affine, new).hounsfield) == expected


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (1, 1, -1), (-1, 1, 1), (-1, -1, -1)])
def test_permuted_and_flipped_orientations(order, signs):
    shape = (30, 44, 40)
    directions = np.eye(3)[:, order] * signs
    affine = affine_of(directions, (1.1, 0.9, 2.0), shape)
    volume = resample(scan(blob, affine, shape), affine, 1.5)
    assert volume.hounsfield.shape == tuple(
        int(extent / 1.5) for extent in (np.abs(affine[:3, :3]) @ shape[::-1])[::-1]
    )
    assert np.abs(inner(volume.hounsfield - truth(blob, volume), 2)).mean() < 4
    assert volume.hounsfield.flags.c_contiguous


def test_identity_changes_nothing():
    voxels = np.random.default_rng(0).integers(-1024, 3000, (7, 9, 11), np.int16)
    affine = affine_of(np.eye(3), (1.5, 1.5, 1.5), voxels.shape)
    volume = resample(voxels, affine, 1.5)
    np.testing.assert_array_equal(volume.hounsfield, voxels)
    np.testing.assert_allclose(volume.origin_mm, affine[:3, 3])


def test_a_hair_of_rotation_counts_as_aligned():
    shape = (20, 40, 40)
    affine = affine_of(rotation(2, 0.1), (1, 1, 2), shape)
    volume = resample(scan(blob, affine, shape), affine, 1.5)
    assert volume.hounsfield.min() > UNSCANNED  # the box is not filled up
    assert np.abs(inner(volume.hounsfield - truth(blob, volume), 2)).mean() < 4


@pytest.mark.parametrize("spacing", [0.5, 0.25])
def test_fine_checkerboard_does_not_alias(spacing):
    board = (np.indices((24, 48, 48)).sum(0) % 2 * 1000).astype(np.int16)
    affine = affine_of(np.eye(3), (spacing,) * 3, board.shape)
    filtered = inner(resample(board, affine, 1.3 * spacing * 3).hounsfield, 1)
    np.testing.assert_allclose(filtered, 500, atol=20)
    assert np.ptp(inner(resample(board, affine, 1.3 * spacing * 3, antialias=False).hounsfield, 1)) > 300


def test_thinner_than_a_voxel_is_refused():
    affine = affine_of(np.eye(3), (0.5, 0.5, 0.2), (3, 20, 20))
    with pytest.raises(Unusable, match=r"10 x 10 x 0\.6 mm, allowed: at least 1\.5 mm"):
        resample(np.zeros((3, 20, 20), np.int16), affine, 1.5)


# Oblique and sheared scans


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    "directions",
    [rotation(0, 20), rotation(1, -35) @ rotation(2, 50), [[1, 0, 0], [0, 1, 0.3], [0, 0, 0.954]]],
    ids=["rotated", "oblique", "gantry tilt"],
)
def test_oblique_scan_of_a_known_shape(directions, antialias):
    shape = (36, 66, 60)
    affine = affine_of(directions, (0.9, 0.9, 1.8), shape)
    volume = resample(scan(blob, affine, shape), affine, 1.4, antialias)
    seen = volume.hounsfield != UNSCANNED
    error = np.abs(volume.hounsfield - truth(blob, volume))[seen]
    assert error.mean() < 5
    assert np.quantile(error, 0.999) < 60
    # The box holds the whole scan: as many millimetres of it are seen as were scanned.
    scanned = np.prod(shape) * abs(np.linalg.det(affine[:3, :3]))
    assert seen.sum() * 1.4**3 == pytest.approx(scanned, rel=0.03)


def test_oblique_box_is_filled_with_air_or_what_is_asked():
    affine = affine_of(rotation(2, 45), (1, 1, 2), (10, 30, 30))
    voxels = np.full((10, 30, 30), 70, np.int16)
    for outside in (UNSCANNED, 0):
        volume = resample(voxels, affine, 1.5, outside=outside)
        assert set(np.unique(volume.hounsfield)) == {outside, 70}
        assert volume.hounsfield[:, 0, 0].tolist() == [outside] * len(volume.hounsfield)


# Against SimpleITK


def sitk_resample(voxels, affine, volume: Volume) -> np.ndarray:
    image = sitk.GetImageFromArray(voxels)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    chosen = sitk.ResampleImageFilter()
    chosen.SetInterpolator(sitk.sitkLinear)
    chosen.SetDefaultPixelValue(UNSCANNED)
    chosen.SetSize(volume.hounsfield.shape[::-1])
    chosen.SetOutputSpacing(volume.spacing_mm)
    chosen.SetOutputOrigin(volume.origin_mm)
    return sitk.GetArrayFromImage(chosen.Execute(image))


@pytest.mark.parametrize(
    "directions",
    [np.eye(3), np.diag([1, -1, -1]), rotation(1, 90), rotation(0, 25)],
    ids=["head first", "feet first", "sagittal", "oblique"],
)
def test_same_as_simpleitk(directions):
    voxels = np.random.default_rng(0).integers(-1024, 2000, (20, 40, 50), np.int16)
    affine = affine_of(directions, (0.7, 0.8, 1.25), voxels.shape)
    volume = resample(voxels, affine, 1.1, antialias=False)
    reference = sitk_resample(voxels, affine, volume)
    # SimpleITK cuts fractions off where we round.
    assert np.abs(volume.hounsfield - reference.astype(int)).mean() < 0.6
    assert np.quantile(np.abs(volume.hounsfield - reference.astype(int)), 0.99) <= 1


@pytest.mark.parametrize("directions", [np.eye(3), rotation(0, 25)], ids=["aligned", "oblique"])
def test_close_to_simpleitk_with_antialiasing(directions):
    shape = (40, 90, 90)
    affine = affine_of(directions, (0.7, 0.7, 1.25), shape)
    voxels = scan(blob, affine, shape)
    volume = resample(voxels, affine, 1.5)
    reference = sitk_resample(voxels, affine, volume)
    inside = (reference != UNSCANNED) & (volume.hounsfield != UNSCANNED)
    assert np.abs(volume.hounsfield - reference.astype(int))[inside].mean() < 5


def test_millimetres_and_voxels():
    volume = Volume(np.zeros((2, 3, 4), np.int16), (0.5, 1.0, 2.0), (10.0, 20.0, 30.0))
    np.testing.assert_allclose(volume.to_voxels(np.array([[11.0, 23.0, 32.0]])), [[1, 3, 2]])
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(volume.to_mm(volume.to_voxels(points)), points)


# Volume files


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(-1024, 2000, (5, 6, 7), np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, 20, 300))
    image.SetDirection(rotation(0, 10).ravel().tolist())
    return image


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkFloat32, sitk.sitkInt32])
def test_volume_file_round_trip(tmp_path, image, suffix, kind):
    sitk.WriteImage(sitk.Cast(image, kind), tmp_path / f"a{suffix}")
    voxels, affine = read_volume_file(tmp_path / f"a{suffix}")
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(affine[:3, :3], rotation(0, 10) * [0.7, 0.8, 2.5], atol=1e-6)
    np.testing.assert_allclose(affine[:3, 3], [-10, 20, 300], atol=1e-5)


def test_nifti_of_another_library(tmp_path):
    """NIfTI's own frame is RAS: nibabel's affine differs from ours by the signs of x and y."""
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3, -126], [0, 2, 0, -72], [0, 0, 0, 1]])
    values = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    voxels, found = read_volume_file(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(voxels, values.T)
    np.testing.assert_allclose(found, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-5)


def write(path, values, **options):
    sitk.WriteImage(sitk.GetImageFromArray(values, **options), path)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 3, 4, 5), np.int16), {"isVector": False}, "not a volume: .*4 dimensions, 1 values a voxel, allo"),
        (np.zeros((3, 4), np.int16), {}, "not a volume: .*2 dimensions"),
        (np.zeros((3, 4, 5, 3), np.uint8), {"isVector": True}, "not a volume: .*3 values a voxel"),
        (np.full((3, 4, 5), 40000, np.uint16), {}, "no Hounsfield units: .*40000 to 40000, allowed: -32768 to 32767"),
        (np.random.default_rng(0).random((3, 4, 5)), {}, "no Hounsfield units: .*not scaled"),
        (np.full((3, 4, 5), np.nan), {}, "values are not all numbers: found NaN or infinity alone"),
    ],
    ids=["4D", "2D", "colour", "too large", "scaled", "nan"],
)
def test_volume_files_refused_by_name(tmp_path, values, options, message):
    path = tmp_path / "a.mha"
    write(path, values, **options)
    with pytest.raises(Unusable, match=message):
        read_volume_file(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("content", [b"", b"no volume", None], ids=["empty", "text", "truncated"])
def test_damaged_volume_file(tmp_path, image, suffix, content):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, path)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(Unusable, match="unreadable file") as error:
        read_volume_file(path)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
