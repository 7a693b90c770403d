"""The chest phantom: deterministic scans with a known truth, real DICOM series, annotations that pylidc reads."""

import string

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Outline
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from scangan.compat_pylidc import prepare_pylidc
from scangan.phantoms import chest_dicom
from scangan.phantoms.chest import (
    NODULE_COUNTS,
    NODULE_DIAMETERS_MM,
    QUANTILES,
    SCANNERS,
    TEXTURES,
    Reconstruction,
    ScanGrid,
    draw_nodule_radii,
    render_chest,
)
from scangan.phantoms.chest_anatomy import Patient, Tubes, grow_tree
from scangan.phantoms.chest_dicom import PADDING, READERS, Storage, outline, render_scan, write_phantom

SIZE, SPACING, SEED = 96, 8.0, 14  # a seed with large nodules
SCANS = {"lidc": 5, "nlst": 2}


@pytest.fixture(scope="module", params=SCANS)
def cohort(request, tmp_path_factory):
    """Name, folder, and the truth of each scan."""
    folder, truth = tmp_path_factory.mktemp(request.param), []

    def render_and_keep(*arguments):
        truth.append(render_scan(*arguments))
        return truth[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chest_dicom, "render_scan", render_and_keep)
        write_phantom(folder, request.param, SCANS[request.param], SIZE, SPACING, SEED)
    return request.param, folder, truth


def series_folders(folder):
    """Of a cohort, in the order in which its scans were written."""
    folders = {path.name: path for path in folder.glob("PHANTOM-*/*/*")}
    with open_database(folder) as session:
        return [folders[scan.series_instance_uid] for scan in scans_of(session)]


def open_database(folder):
    prepare_pylidc()
    return Session(create_engine(f"sqlite:///{folder / 'annotations.sqlite'}"))


def scans_of(session):
    pylidc = prepare_pylidc()
    return session.query(pylidc.Scan).order_by(pylidc.Scan.id).all()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.dcm")}


# Rendering


@pytest.fixture(scope="module", params=["lidc", "nlst"])
def chest(request):
    return render_chest([1], request.param, 96, 8.0, radii_mm=[4.0, 12.0])


def test_anatomy_in_hounsfield(chest):
    lungs = chest.noise_free[chest.lungs]
    assert -900 < np.median(lungs) < -800
    assert 0.01 < (lungs > -500).mean() < 0.2  # vessels
    share = {
        name: ((chest.noise_free > low) & (chest.noise_free < high)).mean()
        for name, low, high in (("fat", -130, -70), ("soft", 10, 110), ("bone", 250, 1500))
    }
    assert share["fat"] > 0.04
    assert share["soft"] > 0.1
    assert 0.005 < share["bone"] < 0.06
    volume_ml = chest.lungs.sum() * np.prod(chest.spacing_mm) / 1000
    assert 2500 < volume_ml < 8000


def test_lungs_lie_on_both_sides_below_the_top_and_above_the_bottom(chest):
    per_slice = chest.lungs.sum((1, 2))
    assert per_slice[0] == per_slice[-1] == 0
    left, right = chest.lungs[..., 48:].sum(), chest.lungs[..., :48].sum()
    assert 0.6 < left / right < 1.3
    # The patient's front is up: the spine, the only bone on the middle line low in the chest, lies behind the lungs.
    third = chest.noise_free[len(per_slice) // 3, :, 46:50]
    assert np.flatnonzero((third > 250).any(1)).mean() > np.flatnonzero(chest.lungs.any((0, 2))).mean()


def test_nodules_lie_in_the_lungs_apart_from_each_other():
    chest = render_chest([2], "lidc", 96, 6.0, radii_mm=[25, 12, 9, 6, 5, 5, 4, 4, 3, 3, 2.5, 2])
    assert sorted(nodule.radius_mm for nodule in chest.nodules) == [2, 2.5, 3, 3, 4, 4, 5, 5, 6, 9, 12, 25]
    for nodule in chest.nodules:
        column, row, number = np.rint((np.array(nodule.centre_mm) - chest.origin_mm) / chest.spacing_mm).astype(int)
        assert chest.lungs[number, row, column]
        if nodule.radius_mm > 6:
            assert chest.noise_free[number, row, column] > -150
    for index, one in enumerate(chest.nodules):
        for other in chest.nodules[:index]:
            apart = np.linalg.norm(np.subtract(one.centre_mm, other.centre_mm))
            assert apart > one.radius_mm + other.radius_mm + 5


def test_every_texture_and_place_occurs_and_each_texture_is_as_dense_as_it_should_be():
    chest = render_chest([6], "lidc", 96, 6.0, radii_mm=[11.0] * 40)
    assert {nodule.place for nodule in chest.nodules} == {"parenchyma", "wall", "vessel"}
    grid = np.indices(chest.lungs.shape)[::-1].T.reshape(-1, 3) * chest.spacing_mm + chest.origin_mm
    halo, middle = ({name: [] for name in TEXTURES} for _ in range(2))
    for nodule in chest.nodules:
        away = np.linalg.norm(grid - nodule.centre_mm, axis=1).reshape(chest.lungs.shape[::-1]).T
        halo[nodule.texture].append(np.median(chest.noise_free[(away > 6) & (away < 8) & chest.lungs]))
        middle[nodule.texture].append(np.median(chest.noise_free[(away < 4) & chest.lungs]))
    assert np.median(halo["solid"]) > -150
    assert np.median(halo["part-solid"] + halo["ground-glass"]) < -450
    assert min(middle["part-solid"] + middle["solid"]) > -300 > -450 > max(middle["ground-glass"])


def test_a_patient_does_not_depend_on_the_matrix():
    small, large = (render_chest([3], "lidc", size, 8.0, radii_mm=[8.0]) for size in (64, 128))
    assert small.nodules == large.nodules
    assert small.hounsfield.shape[0] == large.hounsfield.shape[0]
    pooled = large.noise_free.reshape(len(large.lungs), 64, 2, 64, 2).mean((2, 4))
    assert np.median(abs(pooled - small.noise_free)) < 20
    pooled = large.lungs.reshape(len(large.lungs), 64, 2, 64, 2).mean((2, 4)) > 0.5
    assert (pooled != small.lungs).mean() < 0.01


def test_seed_decides_the_patient_and_the_visit_the_noise():
    first, again, visit, other = (
        render_chest(seed, "lidc", 64, 12.0, (), number) for seed, number in (([1], 0), ([1], 0), ([1], 1), ([2], 0))
    )
    np.testing.assert_array_equal(first.hounsfield, again.hounsfield)
    assert (first.hounsfield != visit.hounsfield).mean() > 0.5
    assert abs(first.lungs.sum() / visit.lungs.sum() - 1) < 0.02
    assert abs(first.lungs.sum() / other.lungs.sum() - 1) > 0.02


def test_scanners_differ_in_noise_spacing_and_field():
    chests = {name: render_chest([1], name, 128, 8.0, ()) for name in SCANNERS}
    noise = {name: (chest.hounsfield - chest.noise_free)[5:-5, 40:80, 40:80] for name, chest in chests.items()}
    assert noise["nlst"].std() > 1.3 * noise["lidc"].std()
    # Neighbours in the softer kernel's noise are alike, in the sharper kernel's they are not.
    grain = {name: np.corrcoef(each[..., 1:].ravel(), each[..., :-1].ravel())[0, 1] for name, each in noise.items()}
    assert grain["lidc"] > grain["nlst"] + 0.2
    assert chests["lidc"].spacing_mm[2] == 8.0
    assert chests["nlst"].spacing_mm[2] == 7.2
    assert chests["lidc"].spacing_mm[0] < chests["nlst"].spacing_mm[0]
    assert not chests["lidc"].outside.any()
    assert chests["nlst"].outside[0, 0]
    assert (chests["nlst"].hounsfield[:, chests["nlst"].outside] == -1024).all()


def test_a_sharper_kernel_overshoots():
    step = np.where(np.arange(64) < 32, -500.0, 0.0) + np.zeros((64, 1))
    highest = {}
    for name, scanner in SCANNERS.items():
        rng = np.random.default_rng(0)
        grid = ScanGrid(Patient(rng), scanner, rng, 64, 5.0)
        clean, _ = Reconstruction(scanner, rng, grid)(step, level=100.0)
        highest[name] = clean[32].max()
    assert highest["nlst"] > highest["lidc"] + 10


def test_counts_and_radii_follow_the_quantiles():
    rng = np.random.default_rng(0)
    drawn = [draw_nodule_radii(rng) for _ in range(4000)]
    counts, diameters = [len(radii) for radii in drawn], 2 * np.concatenate(drawn)
    chosen = np.isin(QUANTILES, [0.05, 0.25, 0.5, 0.75, 0.95])
    wanted = np.array(NODULE_DIAMETERS_MM)[chosen]
    np.testing.assert_allclose(np.quantile(diameters, np.array(QUANTILES)[chosen]), wanted, rtol=0.06)
    assert abs(np.quantile(counts, np.array(QUANTILES)[chosen]) - np.array(NODULE_COUNTS)[chosen]).max() <= 1
    assert 2.2 < np.mean(counts) < 2.9  # 2.6 in the database


def test_vessels_taper_and_fill_their_volume():
    tree = grow_tree(np.zeros(3), np.random.default_rng(0).uniform(-50, 50, (300, 3)), leaf_mm=0.5)
    assert tree.radius[:, 1].min() == pytest.approx(0.5)
    assert tree.radius.max() > 2.5
    tube = Tubes(np.array([[[0.0, 0, 0], [20, 0, 0]]]), np.array([[3.0, 3.0]]))
    points, volume = tube.fill(0.5)
    assert volume.sum() == pytest.approx(np.pi * 9 * 20)
    assert np.hypot(points[:, 1], points[:, 2]).max() <= 3
    assert np.hypot(points[:, 1], points[:, 2]).mean() == pytest.approx(2, rel=0.02)


def test_patients_differ():
    volumes = [len(Patient(np.random.default_rng(seed)).coarse_lungs[0]) for seed in range(6)]
    assert max(volumes) > 1.15 * min(volumes)


# DICOM


def test_folder_is_whole(cohort):
    name, folder, truth = cohort
    assert "PHANTOM" in (folder / ".scangan/README.txt").read_text()
    key = (folder / ".scangan" / "pseudonym.key").read_text()
    assert len(key) == 64
    assert set(key) <= set(string.hexdigits)
    assert len(series_folders(folder)) == SCANS[name]
    for path, chest in zip(series_folders(folder), truth, strict=True):
        assert sorted(file.name for file in path.iterdir()) == [
            f"{number:06d}.dcm" for number in range(1, len(chest.hounsfield) + 1)
        ]


def test_tags_and_uids(cohort):
    name, folder, _ = cohort
    seen = set()
    bits = {"lidc": (12, 0, -1024), "nlst": (16, 1, 0)}
    for path in series_folders(folder):
        headers = [pydicom.dcmread(file) for file in sorted(path.iterdir())]
        for header in headers:
            assert header.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
            assert header.SOPClassUID == pydicom.uid.CTImageStorage
            for field in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
                assert header[field].value.is_valid
                assert header[field].value.startswith("2.25.")
            assert header.SOPInstanceUID not in seen
            seen.add(header.SOPInstanceUID)
            assert header.PatientName == "PHANTOM^CHEST"
            assert header.PatientID == path.parts[-3]
            assert header.PatientID.startswith(f"PHANTOM-{name.upper()}-0")
            assert header.Manufacturer == SCANNERS[name].manufacturer
            assert header.SliceThickness != SPACING * SCANNERS[name].spacing
        assert [header.InstanceNumber for header in headers] == list(range(1, len(headers) + 1))
        first = headers[0]
        assert (first.BitsStored, first.PixelRepresentation, first.RescaleIntercept) == bits[name]
        if name == "nlst":
            assert first.PixelPaddingValue == PADDING == first.pixel_array[0, 0]


def test_simpleitk_reads_the_truth(cohort):
    _, folder, truth = cohort
    for path, chest in zip(series_folders(folder), truth, strict=True):
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
        image = sitk.DICOMOrient(image, "LPS")
        hounsfield = sitk.GetArrayFromImage(image)
        hounsfield = np.where(chest.outside, chest.hounsfield, hounsfield)
        np.testing.assert_array_equal(hounsfield, chest.hounsfield)
        np.testing.assert_allclose(image.GetSpacing(), chest.spacing_mm, atol=1e-4)
        np.testing.assert_allclose(image.GetOrigin(), chest.origin_mm, atol=1e-3)


def test_patients_with_two_scans_reversed_and_feet_first_series(cohort):
    name, folder, truth = cohort
    if name == "nlst":
        pytest.skip("too few scans")
    paths = series_folders(folder)
    assert paths[0].parts[-3] == paths[1].parts[-3]
    assert paths[0].parts[-2] != paths[1].parts[-2]
    assert len({path.parts[-3] for path in paths}) == len(paths) - 1
    first = [pydicom.dcmread(path / "000001.dcm") for path in paths]
    last_z = [pydicom.dcmread(max(path.iterdir())).ImagePositionPatient[2] for path in paths]
    upwards = [last > header.ImagePositionPatient[2] for header, last in zip(first, last_z, strict=True)]
    assert upwards == [True, True, False, True, True]
    assert [header.PatientPosition for header in first] == ["HFS", "HFS", "HFS", "FFS", "HFS"]
    assert [header.ImageOrientationPatient[0] for header in first] == [1, 1, 1, -1, 1]
    # The two scans show the same person, lying elsewhere.
    radii = [[nodule.radius_mm for nodule in chest.nodules] for chest in truth]
    assert radii[0] == radii[1] != radii[2]
    assert truth[0].origin_mm != truth[1].origin_mm


def test_a_larger_cohort_begins_with_the_smaller_one(cohort, tmp_path):
    name, folder, _ = cohort
    write_phantom(tmp_path, name, 1, SIZE, SPACING, SEED)
    small, large = contents(tmp_path), contents(folder)
    assert small
    assert {path: large[path] for path in small} == small
    assert (tmp_path / ".scangan/pseudonym.key").read_text() == (folder / ".scangan/pseudonym.key").read_text()


def test_an_interrupted_phantom_leaves_nothing_and_begins_anew(tmp_path, monkeypatch):
    write_phantom(tmp_path / "whole", "nlst", 1, 64, 30.0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(chest_dicom, "write_annotations", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_phantom(tmp_path / "again", "nlst", 2, 64, 30.0, 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "whole"]
    write_phantom(tmp_path / "again", "nlst", 1, 64, 30.0, 0)
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


# Readers


def test_pylidc_finds_the_truth_again(cohort):
    name, folder, truth = cohort
    from pylidc.utils import consensus

    with open_database(folder) as session:
        scans = scans_of(session)
        assert len(scans) == SCANS[name]
        ratios = []
        for number, (scan, chest) in enumerate(zip(scans, truth, strict=True)):
            spacing, shape = np.array(chest.spacing_mm), chest.hounsfield.shape
            assert scan.slice_thickness == SPACING * SCANNERS[name].thickness
            np.testing.assert_allclose(scan.spacings, spacing[[1, 0, 2]])
            np.testing.assert_allclose(scan.slice_zvals, chest.origin_mm[2] + spacing[2] * np.arange(shape[0]))
            clusters = scan.cluster_annotations(verbose=False)
            assert len(clusters) <= len(chest.nodules)
            assert all(1 <= len(cluster) <= READERS for cluster in clusters)
            found = []
            for cluster in clusters:
                mask, box, _ = consensus(cluster, 0.5)
                row, column, slice_number = np.argwhere(mask).mean(0) + [side.start for side in box]
                if Storage.of(number).feet_first:
                    column = shape[2] - 1 - column
                places = [(np.array(nodule.centre_mm) - chest.origin_mm) / spacing for nodule in chest.nodules]
                away = [abs(place - [column, row, slice_number]).max() for place in places]
                assert min(away) < 1
                found.append(int(np.argmin(away)))
                nodule = chest.nodules[found[-1]]
                if 2 * nodule.radius_mm >= 3 * spacing[0]:
                    diameter = (6 / np.pi * mask.sum() * spacing.prod()) ** (1 / 3)
                    ratios.append(diameter / (2 * nodule.radius_mm))
            assert len(set(found)) == len(found)
        assert (name == "nlst") == (not ratios)
        if ratios:
            assert 0.85 < np.median(ratios) < 1.15


def test_readers_disagree_and_see_large_nodules_more_often():
    small, large = (render_chest([7], "lidc", 64, 10.0, radii_mm=[radius] * 6) for radius in (2.4, 12.0))
    storage = Storage.of(0)
    seen = {}
    for name, chest in (("small", small), ("large", large)):
        drawn = [chest_dicom.read_nodules(np.random.default_rng(seed), chest, storage) for seed in range(4)]
        seen[name] = [annotation for each in drawn for annotation in each]
    assert len(seen["small"]) < 0.65 * 96 < 0.85 * 96 < len(seen["large"])
    malignancy = {name: np.mean([each.malignancy for each in marked]) for name, marked in seen.items()}
    assert malignancy["large"] > malignancy["small"] + 1.5
    assert len({annotation.contours for annotation in seen["large"]}) > 0.7 * len(seen["large"])
    for annotation in seen["small"] + seen["large"]:
        assert 1 <= annotation.subtlety <= 5
        assert annotation.calcification == 6
        assert annotation.contours


@pytest.mark.parametrize("reach", [0.4, 0.8, 1.2, 2.0, 3.3, 5.7, 9.1])
@pytest.mark.parametrize("centre", [(15.0, 15.0), (14.6, 15.3)])
def test_an_outline_encloses_exactly_its_pixels(reach, centre):
    mask = np.hypot(*(np.indices((31, 31)) - np.array(centre)[:, None, None])) < reach
    mask[15, 15] = True
    points = np.array([line.split(",") for line in outline(mask).splitlines()], int)
    assert (points[0] == points[-1]).all()
    rows, columns = np.indices(mask.shape).reshape(2, -1)
    inside = Outline(points, closed=True).contains_points(np.stack([columns, rows], 1)).reshape(mask.shape)
    inside[points[:, 1], points[:, 0]] = False
    np.testing.assert_array_equal(inside, mask)


def test_no_reader_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(chest_dicom, "READERS", 0)
    write_phantom(tmp_path, "lidc", 1, 64, 30.0, SEED)
    pylidc = prepare_pylidc()
    with open_database(tmp_path) as session:
        assert [len(scan.annotations) for scan in scans_of(session)] == [0]
        assert session.query(pylidc.Annotation).count() == session.query(pylidc.Contour).count() == 0
