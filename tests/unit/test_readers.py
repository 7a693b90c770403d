"""Readers and phantoms are found by name: a job runs, and digests, the code of its own alone."""

import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest

from scangan import phantoms
from scangan.code_digest import modules_of
from scangan.config import (
    BrainMrPhantom,
    Brats,
    ChestPhantom,
    CovidCt,
    CovidCtPhantom,
    HeadCtPhantom,
    ImageFolder,
    LabelledImages,
    Split,
    VolumeFolder,
)
from scangan.errors import DataError
from scangan.ingest.foresight import check_folder
from scangan.ingest.readers import READERS

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
PHANTOMS = {
    get_args(phantom.model_fields["renderer"].annotation)[0]: phantom
    for phantom in (HeadCtPhantom, ChestPhantom, CovidCtPhantom, BrainMrPhantom)
}
# What a reader of files is made of.
SHARED = {"scangan.ingest.images", "scangan.ingest.image_folder", "scangan.ingest.volume_files"}
BUILT_ON = {"volume_folder": {"scangan.ingest.labelled_images"}}


def test_every_reader_of_images_that_the_configuration_knows_has_an_entry():
    kinds = (LabelledImages, ImageFolder, VolumeFolder, CovidCt, Brats)
    known = [name for settings in kinds for name in get_args(settings.model_fields["reader"].annotation)]
    assert sorted(READERS) == sorted(known)
    for name, reader in READERS.items():
        assert name in get_args(reader.settings.model_fields["reader"].annotation)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_offers_what_the_entry_promises(name):
    read = import_module(READERS[name].module).read_cohort
    assert list(signature(read).parameters) == ["root", "settings", "data", "append"]


@pytest.mark.parametrize("renderer", PHANTOMS)
def test_a_phantom_takes_the_settings_of_its_renderer(renderer):
    write = import_module(phantoms.module_of(renderer)).write_phantom
    settings = [name for name in PHANTOMS[renderer].model_fields if name != "renderer"]
    assert sorted(signature(write).parameters) == sorted(["folder", *settings])


@pytest.mark.parametrize("name", READERS)
def test_a_job_digests_the_code_of_its_own_reader_alone(name):
    others = (
        {reader.module for reader in READERS.values()} - {READERS[name].module} - SHARED - BUILT_ON.get(name, set())
    )
    script = SCRIPTS / "ingest_images.py"
    assert READERS[name].module in modules_of(script, [READERS[name].module])
    assert not others.intersection(modules_of(script, [READERS[name].module]))
    assert not {reader.module for reader in READERS.values()}.intersection(modules_of(script))


@pytest.mark.parametrize("renderer", PHANTOMS)
def test_a_job_digests_the_code_of_its_own_phantom_alone(renderer):
    script, own = SCRIPTS / "render_phantom.py", phantoms.module_of(renderer)
    others = {phantoms.module_of(other) for other in PHANTOMS} - {own}
    assert own in modules_of(script, [own])
    assert not others.intersection(modules_of(script, [own]))


@pytest.mark.parametrize("name", READERS)
def test_a_job_imports_the_code_of_its_own_reader_alone(name):
    others = (
        {reader.module for reader in READERS.values()} - {READERS[name].module} - SHARED - BUILT_ON.get(name, set())
    )
    code = (
        "import sys; from scangan.ingest.readers import READERS; "
        "loaded = [name for name in ('numpy', 'pandas') if name in sys.modules]; assert not loaded, loaded; "
        f"import importlib; importlib.import_module(READERS[{name!r}].module); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert not others.intersection(run.stdout.split())


def folder_of(root, **counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(b"not opened")
    return root


def settings_of(reader, **more):
    classes = {"ill": "CT_ill", "well": "CT_well"}
    return reader.settings(reader=reader.name, root="data", image_size=32, classes=classes, **more)


@pytest.mark.parametrize("name", ["image_folder", "covid_ct"])
def test_a_class_that_is_too_small_is_said_before_any_image_is_opened(name, tmp_path):
    reader = READERS[name]
    check_folder(folder_of(tmp_path / "enough", CT_ill=3, CT_well=4), reader, settings_of(reader))
    with pytest.raises(
        DataError, match=r"few: classes.well: found 2 images of value 'CT_well', allowed: at least 3, for"
    ):
        check_folder(folder_of(tmp_path / "few", CT_ill=3, CT_well=2), reader, settings_of(reader))
    with pytest.raises(
        DataError, match=r"CT_well: classes.well: found no such folder, allowed: one of those there: CT_ill"
    ):
        check_folder(folder_of(tmp_path / "none", CT_ill=3), reader, settings_of(reader))


def test_so_are_images_of_nobody_and_a_table_that_is_not_there(tmp_path):
    root = folder_of(tmp_path, CT_ill=3, CT_well=3)
    reader = READERS["image_folder"]
    with pytest.raises(
        DataError, match=r"found 0 images of value 'CT_ill' \(6 no patient in its path; first CT_ill/0.png"
    ):
        check_folder(root, reader, settings_of(reader, patient_from=r"p(\d+)"))
    labelled = READERS["labelled_images"]
    with pytest.raises(DataError, match=r"labels.csv: file: found No such file"):
        check_folder(root, labelled, settings_of(labelled))
    root.joinpath("labels.csv").write_text("id,label\n7,CT_ill\n")
    root.joinpath("7.png").write_bytes(b"not opened")
    with pytest.raises(
        DataError, match=r"classes.ill: found 1 images of value 'CT_ill' \(6 another file has the same id; first"
    ):
        check_folder(root, labelled, settings_of(labelled))
    check_folder(root, READERS["brats"], Brats(reader="brats", root="data"))


@pytest.mark.parametrize(
    ("split", "more", "line"),
    [
        ({"train": 4, "validation": 2, "test": 3}, {}, r"found 4 \+ 2 \+ 3 = 9, allowed: at most 8, the images there"),
        ({"train": 5, "validation": 1, "test": 2}, {}, r"split.validation: found 1, allowed: at least 2"),
        ({"method": "folds", "folds": 5}, {}, r"split.folds: found 5 with patients of ill 4, well 4"),
        ({"method": "official"}, {}, r"split.method: found official, but no folders train, validation, test"),
        ({}, {"patient_from": r"(p)"}, r"found 1 patient \(ill 1, well 1\), allowed: at least 3 of each class"),
        ({"train": 4, "validation": 2, "test": 2}, {}, None),
        ({"method": "folds", "folds": 4}, {}, None),
    ],
)
def test_a_split_that_cannot_be_is_said_before_any_image_is_opened(tmp_path, split, more, line):
    reader = READERS["image_folder"]
    root = folder_of(tmp_path, CT_ill=4, CT_well=4)
    with nullcontext() if line is None else pytest.raises(DataError, match=line):
        check_folder(root, reader, settings_of(reader, **more), Split(**split))


def test_files_of_no_bytes_are_no_images(tmp_path):
    reader = READERS["image_folder"]
    root = folder_of(tmp_path, CT_ill=4, CT_well=4)
    for file in sorted(root.glob("CT_ill/*"))[:2]:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"found 2 images of .* \(2 of no bytes; first CT_ill/0.png: 0 bytes"):
        check_folder(root, reader, settings_of(reader))
