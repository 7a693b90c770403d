"""What a folder is taken for, what is said of it, and a study that the configuration accepts."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import scangan.__main__
from scangan.check import __main__ as command
from scangan.check.folder import look, recognise
from scangan.check.proposal import SCALES, as_yaml, choose, name_of, positive_of, scales_for, study_of
from scangan.config import load
from scangan.config.derived import overlay
from scangan.errors import DataError
from scangan.forecast.work import Work
from scangan.plan import Plan
from tests.unit.dicom_files import random_hounsfield, write_series

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def pictures(tmp_path):
    """Writes images of noise, no two alike, at these paths."""
    noise = np.random.default_rng(0)

    def write(*paths, colour=False, edge=40):
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 256, (edge, edge + 8, 3) if colour else (edge, edge + 8), np.uint8)
            Image.fromarray(pixels).save(file)
        return tmp_path

    return write


def numbered(folder, count, name="{}.png"):
    return [f"{folder}/{name.format(number)}" for number in range(count)]


def validated(seen, name, scale):
    """The plan of the study that is proposed, laid over the default as the workflow does."""
    default = yaml.safe_load((CONFIG / "config.yaml").read_text())
    config = load(overlay(default, yaml.safe_load(as_yaml(study_of(seen, name, scale)))))
    return Plan(config, json.loads((CONFIG / "scales.json").read_text())).studies[name]


def test_a_folder_a_class_wherever_it_lies(pictures):
    root = pictures(*(path for name in "abc" for path in numbered(f"archive/images/{name} x", 4)))
    kind = recognise(root)
    assert kind.root == root / "archive/images"
    assert kind.data == {"reader": "image_folder", "classes": {f"{name}_x": f"{name} x" for name in "abc"}}
    seen = look(kind)
    assert seen.images == seen.patients == {"a_x": 4, "b_x": 4, "c_x": 4}
    assert seen.edge == 40
    assert seen.data["channels"] == 1
    assert seen.lines[:2] == ["files: 12 .png; grey", "sizes: shorter edges of 40 to 40 pixels, median 40"]
    assert "patients: nothing says whose an image is; each counts as a patient of its own" in seen.lines
    scales = scales_for(seen)
    assert [scale.answers for scale in scales] == [scale.answers for scale in SCALES]
    for scale in scales:
        assert scale.image_size == 32
        study = validated(seen, "mine", scale)
        assert study.labels() == ["a_x", "b_x", "c_x"]
        assert study.settings.evaluation.primary == "macro_auc"
        assert study.settings.split.method == ("folds" if scale.answers else "by_patient")


def test_parts_patients_colours_copies_and_what_cannot_be_read(pictures):
    paths = [
        f"{part}/{name}/p{first + patient}_{number}.png"
        for part, first in (("train", 0), ("test", 10))
        for name in ("ill", "normal")
        for patient in range(4)
        for number in range(3)
    ]
    root = pictures(*paths, colour=True, edge=70)
    (root / "train/ill/p0_9.png").write_bytes((root / "train/ill/p0_1.png").read_bytes())
    (root / "train/ill/damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    kind = recognise(root)
    assert kind.name == "images in a folder a class, in parts test, train"
    seen = look(kind)
    assert seen.data["patient_from"].endswith(r"(p\d+)")
    assert seen.data["channels"] == 3
    assert seen.images == {"ill": 24, "normal": 24}
    # Of both classes: whether they are the same persons nobody knows.
    assert seen.patients == {"ill": 8, "normal": 8}
    said = "\n".join(seen.lines)
    assert "left out: 1 unreadable image\n  train/ill/damaged.png: unreadable image: found" in said
    assert "copies: 1 identical to another image" in said
    example = re.search(r"8, by their file names \((p\d+) of (\S+)\): look whether patient_from is right", said)
    assert f"/{example[1]}_" in example[2]
    # A small folder is answered in folds, and tried in one split.
    largest, smallest = scales_for(seen)[0], scales_for(seen)[-1]
    assert largest.image_size == 64
    assert study_of(seen, "mine", largest)["studies"]["mine"]["split"] == {"method": "folds", "folds": 5}
    few = replace(seen, patients={"ill": 4, "normal": 8})
    assert study_of(few, "mine", largest)["studies"]["mine"]["split"] == {"method": "folds", "folds": 4}
    study = validated(seen, "mine", smallest)
    assert study.settings.classifier.positive == "ill"
    assert study.settings.evaluation.primary == "auc"
    assert study.settings.data.channels == 3
    assert study_of(seen, "mine", smallest)["keep_classifiers"]


def test_a_few_colours_among_grey_images_are_said(pictures):
    pictures(*numbered("ill", 4), *numbered("well", 4))
    root = pictures("ill/4.png", "well/4.png", colour=True)
    seen = look(recognise(root))
    assert seen.data["channels"] == 1
    assert seen.lines[0] == "files: 10 .png; grey, but 2 of 10 looked at are in colour (`channels: 3` keeps it)"


def test_numbers_that_begin_anew_in_each_part_name_nobody(pictures):
    parts = [f"{part}/{name}" for part in ("train", "test") for name in ("no", "yes")]
    seen = look(recognise(pictures(*(path for part in parts for path in numbered(part, 4, "n_{:03}.png")))))
    assert "patient_from" not in seen.data
    assert seen.patients == {"no": 8, "yes": 8}


def test_images_beside_a_table(pictures):
    root = pictures(*numbered("pictures", 12, "{:03}.png"))
    rows = [f"{number};p{number // 2};{'yes' if number % 3 else 'no'};f" for number in range(12)]
    (root / "labels.csv").write_text("\n".join(["image;patient;diagnosis;sex", *rows[:-1], "11;p5;yes;m"]))
    kind = recognise(root)
    assert kind.data == {
        "reader": "labelled_images",
        "labels": "labels.csv",
        "id_column": "image",
        "label_column": "diagnosis",
        "patient_column": "patient",
        "classes": {"no": "no", "yes": "yes"},
    }
    assert kind.name == "images, labelled by the column diagnosis of labels.csv; other columns of few values: sex"
    seen = look(kind)
    assert seen.images == {"no": 4, "yes": 8}
    assert validated(seen, "mine", scales_for(seen)[-1]).settings.classifier.positive == "yes"


def test_labels_that_are_numbers_are_named_after_their_column(pictures):
    root = pictures(*numbered("pictures", 9))
    (root / "labels.csv").write_text("\n".join(["id,bleeding", *(f"{number},{number % 2}" for number in range(9))]))
    kind = recognise(root)
    assert kind.data["classes"] == {"bleeding_0": "0", "bleeding_1": "1"}
    assert study_of(look(kind), "mine", SCALES[-1])["studies"]["mine"]["classifier"]["positive"] == "bleeding_1"


def test_scans_become_slices_of_one_class(tmp_path):
    for name in ("a", "b"):
        write_series(
            tmp_path / "scans" / name,
            random_hounsfield(seed=ord(name)),
            edit=lambda dataset, _, name=name: setattr(dataset, "PatientID", name),
        )
    kind = recognise(tmp_path / "scans")
    assert kind.data["reader"] == "ct_slices"
    seen = look(kind)
    assert any("2 of 2 patients" in line for line in seen.lines)
    study = validated(seen, "mine", scales_for(seen)[-1])
    assert study.settings.classifier is None


def test_brats_is_known_by_its_names(tmp_path):
    for name in ("BraTS19_1", "BraTS19_2"):
        (tmp_path / name).mkdir()
        for sequence in ("t1ce", "seg", "flair"):
            (tmp_path / name / f"{name}_{sequence}.nii.gz").touch()
    assert recognise(tmp_path).data == {"reader": "brats"}


def test_a_folder_of_nothing_known_says_what_lies_there(pictures):
    root = pictures("a/0.png", "a/1.png")
    (root / "notes.docx").touch()
    with pytest.raises(DataError, match=r"data: found 2 .png, 1 .docx in 1 folders \(a\), allowed: a folder"):
        recognise(root)


def test_the_largest_scale_that_fits_is_chosen():
    hours = dict(zip(SCALES, (50, 20, 10, 2, 1, 0.5, 0.2, 0.1), strict=True))
    assert choose(SCALES, hours.get, 1.5)[0] is SCALES[4]
    assert choose(SCALES, hours.get, 100)[0] is SCALES[0]
    chosen, asked = choose(SCALES, hours.get, 0.01)
    assert chosen is SCALES[-1]
    # A scale is timed only if the one below it fits.
    assert set(asked) == {SCALES[-1], SCALES[-2]}


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("healthy", "sick"), "sick"),
        (("clear", "nodular"), "nodular"),
        (("COVID", "NonCOVID"), "COVID"),
        (("a_normal", "b_ill"), "b_ill"),
        (("one", "other"), "one"),
    ],
)
def test_the_positive_class_is_the_one_that_does_not_sound_healthy(pictures, names, positive):
    root = pictures(*(path for name in names for path in numbered(name, 3)))
    assert positive_of(look(recognise(root))) == positive


def test_a_folder_names_its_study():
    assert name_of(Path("/data/Chest X-ray (2020)")) == "my_chest_x_ray_2020"


def test_a_set_of_small_images_can_answer_and_it_is_said_that_they_are_enlarged(pictures, monkeypatch, capsys):
    root = pictures(*numbered("ill", 5), *numbered("well", 5), edge=28)

    def a_second_a_pass(config, name, cores):
        return [Work("rest", 0.0, config["studies"][name]["gan"]["projected_gan"]["epochs"])]

    monkeypatch.setattr(command, "_work_of", a_second_a_pass)
    monkeypatch.setattr("sys.argv", ["check", str(root)])
    command.main()
    said = capsys.readouterr().out
    assert "Half of the files are smaller and will be enlarged to 32 pixels, the least that the network draws" in said
    assert len(re.findall("--hours .*: 32 pixels", said)) == sum(scale.answers for scale in SCALES)


def test_the_command_says_all_and_writes_the_study(pictures, tmp_path, monkeypatch, capsys):
    root = pictures(*numbered("ill", 5), *numbered("well", 5))
    monkeypatch.setattr(command, "_work_of", lambda config, name, cores: [Work("rest", 0.0, 600.0, written=2e9)])
    monkeypatch.setattr("sys.argv", ["check", str(root), "--write", str(tmp_path / "mine.yaml"), "--name", "mine"])
    command.main()
    said = capsys.readouterr().out
    assert "images in a folder a class" in said
    assert "classes: ill 5 images of 5 patients, well 5 images of 5 patients" in said
    assert "positive: ill, by the names of the classes" in said
    assert "and 2.0 GB on this machine: 32 pixels" in said
    assert f"snakemake mine --cores {os.cpu_count()} --resources gpu=1 --configfile {tmp_path / 'mine.yaml'}" in said
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["data_roots"] == {"mine": str(root)}
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"error: .*nowhere: root: found no such folder"):
        command.main()


@pytest.mark.parametrize("arguments", [["check", "."], ["plan"]])
def test_elsewhere_a_line_says_where_to_go(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scangan", *arguments])
    with pytest.raises(SystemExit, match=f"^error: {tmp_path}: found no config/config.yaml, allowed: the folder of"):
        scangan.__main__.main()


def test_commands_are_found_by_their_names(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["scangan", "check", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"error: .*nowhere: root: found no such folder"):
        scangan.__main__.main()
    monkeypatch.setattr("sys.argv", ["scangan", "chek"])
    with pytest.raises(SystemExit, match=r"found 'chek', allowed: plan \| check"):
        scangan.__main__.main()
