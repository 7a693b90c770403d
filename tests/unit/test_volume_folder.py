"""Volumes with classes: read from files and series of any orientation and spacing, as cubes, by folder or by table."""

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from scangan.check.folder import look, recognise
from scangan.check.proposal import as_yaml, scales_for, study_of
from scangan.config import VolumeFolder, load
from scangan.config.derived import overlay
from scangan.errors import ConfigError, DataError
from scangan.ingest.readers import READERS
from scangan.ingest.volume_files import open_volume
from scangan.ingest.volume_folder import to_cube, turn_to_patient
from scangan.memory import job_mb
from scangan.plan import Plan
from tests.unit.dicom_files import write_series
from tests.volumes import CLASSES, make_volume, write_volume_folders

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = {"reader": "volume_folder", "root": "mine", "classes": dict(zip(CLASSES, CLASSES, strict=True))}
STUDY = {
    "data": SETTINGS | {"modality": "MR", "image_size": 28},
    "gan": {"gan3d": {"model": "gan3d", "epochs": 2}},
    "synthesis": {"gan": "gan3d", "images_per_class": 4},
    "classifier": {"positive": "shell", "backbone": "squeezenet3d", "steps": 4},
}


def settings(**values):
    return VolumeFolder.model_validate(SETTINGS | {"modality": "MR", "image_size": 16} | values)


def read(root, **values):
    """Cubes [N, 1, S, S, S], manifest, and what the reader says besides."""
    parts = []
    reader = READERS["volume_folder"]
    ingested = reader.read(root, settings(**values), "real", lambda *batch: parts.append(batch))
    images, rows = zip(*parts, strict=True)
    return np.concatenate(images), pd.concat(rows, ignore_index=True), ingested


def plan_of(root, **changes):
    """The plan of a study, laid over the default as the workflow does."""
    default = yaml.safe_load((CONFIG / "config.yaml").read_text())
    own = {"data_roots": {"mine": str(root)}, "studies": {"mine": overlay(STUDY, changes)}}
    return Plan(load(overlay(default, own)), {})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_volume_folders(tmp_path_factory.mktemp("volumes"), each=4)


def test_a_folder_a_class(folders):
    cubes, rows, ingested = read(folders, image_size=28)
    assert cubes.shape == (8, 1, 28, 28, 28)
    assert cubes.dtype == np.float32
    assert rows.image_id.tolist() == [f"{label}/{label}-{number:02}" for label in CLASSES for number in range(4)]
    assert rows.label.tolist() == [label for label in CLASSES for _ in range(4)]
    assert rows.patient_id.tolist() == rows.image_id.tolist()
    assert (rows.spacing_mm == 2).all()
    assert ingested.notes == ("grey scale: MR, percentiles 0.5 to 99.5 in 8 volumes",)
    # At its own size a volume is what its file holds, x and y mirrored to the patient's left and back.
    stored = nibabel.load(folders / "ball/ball-00.nii.gz").get_fdata()[::-1, ::-1].transpose(2, 1, 0)
    low, high = np.percentile(stored, (0.5, 99.5))
    np.testing.assert_allclose(cubes[0, 0], ((stored - low) / (high - low)).clip(0, 1), atol=1e-5)


def test_patients_are_found_as_of_images(folders, tmp_path):
    assert read(folders, patient_from=r"-(\d)\d")[1].patient_id.unique().tolist() == ["0"]
    (tmp_path / "ball/sub-7").mkdir(parents=True)
    (tmp_path / "shell").symlink_to(folders / "shell")
    (tmp_path / "ball/sub-7/scan.nii.gz").write_bytes((folders / "ball/ball-00.nii.gz").read_bytes())
    assert "sub-7" in read(tmp_path)[1].patient_id.tolist()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL", "ASR", "SLA"])
def test_axes_are_turned_to_the_patients(axes):
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.normal(size=(4, 5, 6)).astype(np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
    to = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(to)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ turned.affine
    found, spacing_mm = turn_to_patient(turned.get_fdata().transpose(2, 1, 0), lps)
    np.testing.assert_array_equal(found, image.get_fdata()[::-1, ::-1].transpose(2, 1, 0))
    assert spacing_mm == (4, 3, 2)


def test_an_oblique_volume_keeps_its_own_axes():
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    voxels = np.arange(24.0).reshape(2, 3, 4)
    found, spacing_mm = turn_to_patient(voxels, affine)
    np.testing.assert_array_equal(found, voxels)
    assert spacing_mm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("values", "shown", "voxel_mm"),
    [
        # 8 mm high, 16 mm wide: the longest edge fits, the others are padded alike on both sides.
        ({"image_size": 8}, np.s_[2:6], 2),
        # At 1 mm the middle 8 mm of the width are left, and all of the height.
        ({"image_size": 8, "spacing_mm": 1}, np.s_[:], 1),
        ({"image_size": 8, "spacing_mm": 4}, np.s_[3:5, 2:6, 2:6], 4),
        ({"image_size": 8, "fit": "stretch"}, np.s_[:], np.nan),
    ],
)
def test_any_depth_and_spacing_becomes_a_cube(values, shown, voxel_mm):
    cube, found_mm = to_cube(np.ones((4, 16, 16), np.float32), (2, 1, 1), settings(**values))
    expected = np.zeros((8, 8, 8))
    expected[shown] = 1
    np.testing.assert_allclose(cube, expected, atol=1e-6)
    assert found_mm == pytest.approx(voxel_mm, nan_ok=True)


def test_a_crop_is_of_the_middle():
    ramp = np.broadcast_to(np.linspace(0, 1, 16, dtype=np.float32), (16, 16, 16))
    cube, _ = to_cube(ramp, (1, 1, 1), settings(image_size=8, spacing_mm=1))
    np.testing.assert_array_equal(cube[0, 0], ramp[0, 0, 4:12])


def test_ct_is_seen_through_its_window(tmp_path):
    rng = np.random.default_rng(0)
    for label in CLASSES:
        for number in range(2):
            folder = tmp_path / label / f"{label}{number}"
            voxels = np.where(rng.random((16, 16, 16)) < 0.5, -1000, 40) + rng.integers(-30, 30, (16, 16, 16))
            write_series(
                folder,
                voxels.astype(np.int16),
                pixel_spacing=(1, 1),
                step=(0, 0, 1),
                edit=lambda dataset, _, name=folder.name: setattr(dataset, "PatientID", name),
            )
    cubes, rows, _ = read(tmp_path, modality="CT", window=[-1100, 900])
    assert rows.image_id.tolist() == [f"{label}/{label}{number}" for label in CLASSES for number in range(2)]
    assert rows.patient_id.nunique() == 4
    assert not rows.patient_id.isin(rows.image_id).any()  # by pseudonyms of their headers
    np.testing.assert_allclose(cubes[-1, 0], (voxels + 1100) / 2000, atol=1e-6)
    # Several series in one folder are a volume each.
    for number, file in enumerate((tmp_path / "shell/shell0").glob("*")):
        file.rename(tmp_path / f"shell/shell1/more{number}.dcm")
    found = read(tmp_path, modality="CT")[1].image_id.tolist()
    assert found[2:] == ["shell/shell1/series1", "shell/shell1/series2"]


def test_labels_in_a_table(folders, tmp_path):
    names = [f"{label}-{number:02}" for label in CLASSES for number in range(3)]
    for name in names:
        (tmp_path / f"{name}.nii.gz").write_bytes((folders / name[:-3] / f"{name}.nii.gz").read_bytes())
    rows = [f"{name},{name[:-3]},p{name[-1]}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label,patient", *rows]))
    _, found, _ = read(tmp_path, labels="labels.csv", patient_column="patient")
    assert found.image_id.tolist() == names
    assert found.label.tolist() == [name[:-3] for name in names]
    assert found.patient_id.tolist() == [f"p{name[-1]}" for name in names]
    kind = recognise(tmp_path)
    assert kind.data["reader"] == "volume_folder"
    assert (kind.data["labels"], kind.data["label_column"]) == ("labels.csv", "label")


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.nii"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_a_file_holds_what_simpleitk_wrote(tmp_path, name, packed, kind):
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 200, (3, 4, 5)).astype(kind))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-3.0, 4.0, 5.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, tmp_path / name, packed)
    volume = open_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.read(), sitk.GetArrayFromImage(image))
    for index in ((0, 0, 0), (4, 3, 2), (1, 2, 0)):
        place = volume.header.affine @ [*index, 1]
        np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"NRRD", b"PRRD", "no NRRD header"),
        (b"encoding: raw", b"encoding: hex", "another encoding, allowed: raw | gzip | gz"),
        (b"type: short", b"type: block", "another type, allowed: signed char"),
        (b"sizes: 5 4 3", b"sizes: 5 4 x", "sizes that is not 3 numbers"),
        (b"dimension: 3", b"dimension: 4", "4 dimensions, 1 values a voxel"),
    ],
)
def test_a_damaged_nrrd_is_named(tmp_path, old, new, found):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), tmp_path / "a.nrrd")
    content = (tmp_path / "a.nrrd").read_bytes()
    assert old in content
    (tmp_path / "a.nrrd").write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=found.replace("|", r"\|")):
        open_volume(tmp_path / "a.nrrd")


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


def test_what_cannot_be_used_is_set_aside_by_name(tmp_path):
    write_volume_folders(tmp_path, each=3, shape=(16, 16, 16))
    rng = np.random.default_rng(1)
    save(tmp_path / "ball/a_slice.nii", make_volume("ball", rng, (16, 16, 3))[..., :1])
    save(tmp_path / "ball/mask.nii", rng.integers(0, 2, (16, 16, 16), np.uint8))
    (tmp_path / "shell/damaged.nii.gz").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("of no class")
    _, rows, ingested = read(tmp_path, max_rejected=0.5)
    assert len(rows) == 6
    said = ingested.rejected.set_index("source")
    assert said.reason["ball/a_slice.nii"] == "too few slices"
    assert said.found["ball/a_slice.nii"] == "16 x 16 x 1 voxels, allowed: 3 or more along each edge"
    assert said.reason["ball/mask.nii"] == "few different values, as of labels"
    assert said.reason["shell/damaged.nii.gz"] == "unreadable file"
    assert not said.counted["notes.txt"]
    with pytest.raises(DataError, match="max_rejected: found 3 of 9 volumes rejected"):
        read(tmp_path)


def test_folders_that_cannot_end_well_are_told_before_any_job(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    write_volume_folders(tmp_path, each=3, shape=(16, 16, 16))
    plan_of(tmp_path).sources["mine"].check()
    for file in (tmp_path / "ball").glob("*"):
        file.rename(tmp_path / file.name)
    with pytest.raises(DataError, match=r"classes.ball: found 0 volumes of value 'ball', allowed: at least 3"):
        plan_of(tmp_path).sources["mine"].check()
    for number in range(3):
        save(tmp_path / f"ball/{number}.nii", np.zeros((16, 16, 1), np.float32))
    with pytest.raises(DataError, match=r"found 0 volumes of value 'ball' \(3 too few slices; first ball/0.nii: 16 x"):
        plan_of(tmp_path).sources["mine"].check()
    with pytest.raises(
        DataError, match=r"cube: classes.shell: found no such folder, allowed: one of those there: ball"
    ):
        plan_of(tmp_path, data={"classes": {"ball": "ball", "shell": "cube"}}).sources["mine"].check()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"gan": {"gan3d": {"model": "dcgan32"}}},
            "gan.gan3d.model: found 'dcgan32', allowed: one of volumes: ct_sgan",
        ),
        ({"data": {"image_size": 30}}, r"gan.gan3d.image_size: found 30 (data.image_size), allowed: 16 | 20 | 24"),
        (
            {"gan": {"gan3d": {"image_size": 32}}},
            "found 32 (voxels), allowed: 28 (data.image_size), for classi",
        ),
        ({"classifier": {"backbone": "resnet50"}}, "classifier.backbone: found 'resnet50', allowed: squeezenet3d"),
        ({"classifier": {"pretrained": "imagenet"}}, "classifier.pretrained: found 'imagenet', allowed: none"),
        ({"classifier": {"centre_crop": 16}}, "classifier.centre_crop: found 16, allowed: null for volumes"),
        ({"fidelity": {"positions": 29}}, "fidelity.positions: found 29, allowed: 28 at most (data.image_size)"),
        ({"fidelity": {"encoder": {}}}, "fidelity.encoder: found one, allowed: null with volume_folder"),
        ({"judge": {"sets": 1, "images": 2}}, "judge: found one, allowed: null with volume_folder"),
        ({"reading_room": {"images": 2}}, "reading_room: found one, allowed: null with volume_folder"),
        ({"external": {"root": "lidc"}}, "external: found one, allowed: null with volume_folder"),
        ({"phantom": {"renderer": "head_ct"}}, "phantom: found one, allowed: null with volume_folder"),
        ({"data": {"window": [3, 1]}}, "data.window: found 3, 1, allowed: a lower and a higher value"),
        ({"data": {"percentiles": [0, 101]}}, "data.percentiles: found 0, 101, allowed: two of 0 to 100"),
        ({"data": {"fit": "stretch", "spacing_mm": 1}}, "data.spacing_mm: found 1, allowed: null with fit stretch"),
    ],
)
def test_a_study_of_volumes_is_told_what_it_cannot_have(tmp_path, changes, said):
    with pytest.raises(ConfigError) as error:
        plan_of(tmp_path, **changes)
    assert said in str(error.value)


def test_a_study_of_images_has_no_network_of_volumes(tmp_path):
    data = {"reader": "image_folder", "modality": None, "image_size": 32}
    with pytest.raises(ConfigError, match="found 'gan3d', allowed: one of images: dcgan32"):
        plan_of(tmp_path, data=data, classifier={"backbone": "resnet50"})


def test_slabs_fit_into_the_volumes(tmp_path):
    block = {"model": "ct_sgan", "epochs": 1, "slabs": {"depth": 60}}
    with pytest.raises(ConfigError, match=r"gan.gan3d.slabs.depth: found 60, allowed: 54 at most"):
        plan_of(tmp_path, data={"image_size": 56}, gan={"gan3d": block})


def test_its_plan_is_that_of_images(folders):
    plan = plan_of(folders)
    study = plan.studies["mine"]
    assert "mine" in plan.images
    assert study.tables() == ["cohort", "fidelity", "classification", "calibration"]
    assert study.figures() == ["gan3d/images", "gan3d/training", "roc", "reliability"]
    assert study.feature_settings() == {"extractor": "efficientnet-lite0", "positions": 8}
    assert study.encoder("gan3d") == []
    trained = {"study": "mine", "gan": "gan3d"}
    assert plan.modules_by_name("train_gan", trained) == ["scangan.models.gan3d", "scangan.training.volumes"]
    assert plan.modules_by_name("train_classifier", {"study": "mine"}) == ["scangan.models.squeezenet3d"]
    assert study.page_settings()["method"]["size"] == "28 x 28 x 28 voxels"
    with pytest.raises(DataError, match="exported/gan3d/ball: study: found volumes, allowed: a study of images"):
        study.exported("gan3d", "ball")
    for rule in ("train_gan", "train_classifier", "synthesize", "measure_fidelity"):
        wildcards = {"study": "mine", "gan": "gan3d", "arm": "real"}
        large = plan_of(folders, data={"image_size": 112}).studies["mine"]
        assert job_mb(rule, large, wildcards, 1, False) > job_mb(rule, study, wildcards, 1, False)


def test_check_proposes_a_study_that_validates(folders):
    seen = look(recognise(folders))
    assert seen.data["modality"] == "MR"
    assert seen.images == seen.patients == {"ball": 4, "shell": 4}
    assert seen.lines[:2] == ["files: 8 .nii.gz", "sizes: 28 x 28 x 28 to 28 x 28 x 28 voxels"]
    default = yaml.safe_load((CONFIG / "config.yaml").read_text())
    for scale in scales_for(seen):
        proposed = yaml.safe_load(as_yaml(study_of(seen, "mine", scale)))
        study = load(overlay(default, proposed)).studies["mine"]
        assert study.data.image_size == 28
        assert study.gan["gan3d"].model == "gan3d"
    assert json.dumps(scales_for(seen)[-1].describe()).startswith('"28 voxels, 80 steps')


def test_larger_volumes_are_given_ct_sgan(tmp_path):
    rng = np.random.default_rng(0)
    for label in CLASSES:
        for number in range(3):
            save(tmp_path / label / f"{number}.nii", rng.normal(100, 10, (70, 66, 60)).astype(np.float32))
    seen = look(recognise(tmp_path))
    assert [scale.image_size for scale in scales_for(seen)][:2] == [64, 32]
    default = yaml.safe_load((CONFIG / "config.yaml").read_text())
    study = load(overlay(default, study_of(seen, "mine", scales_for(seen)[0]))).studies["mine"]
    assert study.gan["ct_sgan"].slabs.depth == 8


def test_hounsfield_units_are_known_by_air(tmp_path):
    rng = np.random.default_rng(0)
    for label in CLASSES:
        for number in range(3):
            voxels = np.where(rng.random((16, 16, 16)) < 0.3, -1000, 40) + rng.integers(-30, 30, (16, 16, 16))
            save(tmp_path / label / f"{number}.nii.gz", voxels.astype(np.int16))
    assert recognise(tmp_path).data["modality"] == "CT"
