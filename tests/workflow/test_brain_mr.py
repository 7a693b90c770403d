"""The toy study on BRATS's layout: from NIfTI volumes to four arms, the sweep, the map and what readers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from scangan.data.store import read_image_set
from scangan.metrics.reading import read_answers, simulate_reader
from scangan.phantoms.brain_mr import write_phantom
from tests.workflow.conftest import ROOT, Workflow, run_once

STUDY = "results/brain_mr"
GAN = "pggan"


def test_every_table_and_figure_is_there_and_says_what_it_is(toy: Workflow):
    folder = toy.folder / STUDY
    for name in ("classification", "shares", "screening", "separation", "readers", "slices", "fidelity", "cohort"):
        table = pd.read_csv(folder / f"tables/{name}.csv")
        assert set(table.data) == {"phantom"}, name
        assert set(table.scale) == {"custom"}, name
        assert "phantom data, custom scale" in (folder / f"tables/{name}.md").read_text()
    for name in ("roc", "shares", "embedding", "classical", "screening", f"{GAN}/images", f"{GAN}/training"):
        with Image.open(folder / f"figures/{name}.png") as figure:
            assert min(figure.size) > 300, name


def test_slices_taken_and_dropped_are_counted(toy: Workflow):
    folder = toy.folder / STUDY
    slices = pd.read_csv(folder / "tables/slices.csv")
    manifest = pd.read_parquet(folder / "cohort/manifest.parquet")
    taken = slices[slices.slices_are == "taken"].set_index("label_or_reason").slices
    assert taken.to_dict() == manifest.label.value_counts().to_dict()
    # 155 slices of each of 12 patients.
    assert slices.slices.sum() == 155 * 12
    assert pd.read_csv(folder / "split/split.csv").groupby("patient_id").split.nunique().max() == 1


def test_discarded_images_are_in_no_training_set(toy: Workflow):
    folder = toy.folder / STUDY
    verdicts = pd.read_parquet(folder / f"screening/{GAN}/seed0.parquet")
    assert set(verdicts.decided_by) == {"rule"}
    assert (verdicts.kept == (verdicts.distance <= verdicts.limit)).all()
    table = pd.read_csv(folder / "tables/screening.csv").set_index(["variant", "metric"])
    assert table.value[f"{GAN}/all", "discarded"] == pytest.approx(1 - verdicts.kept.mean())
    kept = int(verdicts.kept.sum())
    split = pd.read_csv(folder / "split/split.csv")
    real = int((split.split == "train").sum())
    log = (folder / "logs/train_classifier/real+classical+synthetic/gan_seed0-seed0.log").read_text()
    assert f"on {real + kept} images" in log
    swept = pd.read_csv(folder / "tables/shares.csv")
    assert swept.share.unique().tolist() == [0, 0.5]
    synthetic = int(swept.synthetic_images.max())
    assert synthetic == pytest.approx(real / 2, abs=1)
    log = (folder / "logs/train_classifier/real+synthetic-x0.5/gan_seed0-seed0.log").read_text()
    assert f"on {real + synthetic} images" in log


def test_a_hand_overrules_the_screening(toy_copy: Workflow):
    verdicts = pd.read_parquet(toy_copy.folder / STUDY / f"screening/{GAN}/seed0.parquet")
    changed = verdicts.iloc[[0, 1]].assign(kept=lambda table: ~table.kept)
    changed[["image_id", "kept"]].to_csv(toy_copy.folder / "mine.csv", index=False)
    own = {"brain_mr": {"synthesis": {"screening": {"overrule": "mine.csv"}}}}
    options = ("--config", f"studies={json.dumps(own)}")
    run = toy_copy.snakemake(*options, target=f"{STUDY}/tables/screening.csv")
    assert run.returncode == 0, run.stdout
    again = pd.read_parquet(toy_copy.folder / STUDY / f"screening/{GAN}/seed0.parquet")
    assert (again.kept != verdicts.kept).tolist() == [True, True] + [False] * (len(verdicts) - 2)
    overruled = pd.read_csv(toy_copy.folder / STUDY / "tables/screening.csv").query("metric == 'overruled'")
    assert overruled.value[overruled.variant == f"{GAN}/all"].item() == pytest.approx(2 / len(verdicts))


def test_a_simulated_reader_is_called_so_everywhere(toy: Workflow):
    folder = toy.folder / STUDY
    readers = pd.read_csv(folder / "tables/readers.csv")
    assert set(readers.reader) == {"simulated"}
    assert "simulated" in (folder / "tables/readers.md").read_text()
    papers = pd.read_csv(toy.folder / "results/paper_comparison.csv").query("study == 'brain_mr'")
    read = papers[papers["item"] == "expert"]
    assert set(read.paper) == {0.785, 0.905}
    assert read.ours.notna().all()
    assert read.why_not.str.contains("simulated readers").all()
    both = papers[papers["item"] == "real+classical+synthetic"]
    assert both.ours.notna().all()
    assert set(papers.comparable) == {"no"}
    page = (folder / "reading_room/index.html").read_text()
    answers = read_answers(folder / "reading_room/answers.csv")
    assert len(answers) == 12
    assert answers.groupby(["origin", "label"]).size().tolist() == [3] * 4
    assert not any(image in page for image in answers.image_id)


def test_the_reading_of_a_person_takes_the_place_of_the_simulated_one(toy_copy: Workflow):
    answers = toy_copy.folder / STUDY / "reading_room/answers.csv"
    simulate_reader(answers, toy_copy.folder / "ann.csv", skill=1.0, seed=0)
    own = {"brain_mr": {"reading_room": {"readers": ["ann.csv"]}}}
    options = ("--config", f"studies={json.dumps(own)}")
    run = toy_copy.snakemake(*options, target=f"{STUDY}/tables/readers.csv")
    assert run.returncode == 0, run.stdout
    readers = pd.read_csv(toy_copy.folder / STUDY / "tables/readers.csv")
    assert set(readers[(readers.metric == "accuracy") & (readers.group == "all")].value) == {1.0}
    # Tampered with: refused by name.
    text = (toy_copy.folder / "ann.csv").read_text()
    (toy_copy.folder / "ann.csv").write_text(text.replace(",real,", ",synthetic,", 1))
    run = toy_copy.snakemake(*options, target=f"{STUDY}/tables/readers.csv")
    assert run.returncode != 0
    assert "ann.csv: signature: found" in run.stdout


def test_a_brats_folder_works_and_bad_patients_are_named(shared_folder: Path):
    root = shared_folder / "brats"

    def prepare() -> None:
        write_phantom(root, 9, 32, 0)
        first, second = sorted(path for path in root.rglob("*") if path.is_dir() and any(path.glob("*.nii*")))[:2]
        next(first.glob("*_seg.nii.gz")).unlink()
        file = next(second.glob("*_t1ce.nii.gz"))
        file.write_bytes(file.read_bytes()[:2000])

    own = {"brain_mr": {"data": {"max_rejected": 0.3}}}
    options = ("--config", f"data_roots={{brain_mr: {root}}}", f"studies={json.dumps(own)}")
    target = f"{STUDY}/tables/cohort.csv"
    workflow = run_once(shared_folder / "of_brats", *options, target=target, prepare=prepare)
    rejected = pd.read_csv(workflow.folder / STUDY / "cohort/rejected.csv")
    assert len(rejected) == 2
    assert rejected.reason.str.contains("segmentation|unreadable").all()
    cohort = pd.read_csv(workflow.folder / target)
    assert cohort.images[cohort.split == "rejected"].sum() == 2
    assert set(cohort.data) == {"real"}


# What a user writes to feed folders of JPEGs to the same study; null drops what only BRATS's reader has.
FOLDERS = """
studies:
  brain_mr:
    data:
      reader: image_folder
      classes: {tumour: 'yes', non_tumour: 'no'}
      every: null
      padded_size: null
"""


def test_folders_of_jpegs_feed_the_same_study(shared_folder: Path):
    root = shared_folder / "yes_no"

    def prepare() -> None:
        rng = np.random.default_rng(0)
        for folder, level in (("yes", 150), ("no", 60)):
            (root / folder).mkdir(parents=True)
            for number in range(16):
                pixels = rng.integers(0, level, (40, 36), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{folder}{number}.jpg")
        (shared_folder / "folders.yaml").write_text(FOLDERS)

    prepare_once = prepare if not root.exists() else lambda: None
    options = ("--config", f"data_roots={{brain_mr: {root}}}", "--configfile")
    files = (*(f"{ROOT}/tests/configs/{name}" for name in ("brain_mr.yaml",)), f"{shared_folder}/folders.yaml")
    target = f"{STUDY}/tables/classification.csv"
    workflow = run_once(shared_folder / "of_yes_no", *options, *files, target=target, prepare=prepare_once)
    cohort = read_image_set(workflow.folder / STUDY / "cohort/images.zarr.zip", _manifest(workflow))
    assert cohort.images.shape == (32, 1, 32, 32)
    scores = pd.read_csv(workflow.folder / target)
    assert set(scores.arm) == set(
        yaml.safe_load((ROOT / files[0]).read_text())["studies"]["brain_mr"]["classifier"]["arms"]
    )
    assert set(scores.data) == {"real"}


def _manifest(workflow: Workflow) -> Path:
    return workflow.folder / STUDY / "cohort/manifest.parquet"
