"""Folds and a curve: studies below a study, put together."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.conftest import Workflow, run_once

TARGETS = "results/head_ct/verdict.json results/head_ct/tables/classification.md results/head_ct/tables/curve.md"
STUDY = {
    "split": {"method": "folds", "folds": 3},
    "curve": {"real": [0.5]},
    "classifier": {"arms": ["real", "synthetic"]},
    "synthesis": {"shard_size": 8},
    "gan": {"dcgan32": {"epochs": 1}},
}


def options(study: dict = STUDY) -> tuple[str, str, str]:
    return "--config", f"studies={json.dumps({'head_ct': study})}", "keep_classifiers=false"


@pytest.fixture(scope="session")
def folds(shared_folder: Path) -> Workflow:
    return run_once(shared_folder / "folds", *options(), target=TARGETS)


def test_every_patient_is_tested_once_by_networks_that_did_not_see_it(folds: Workflow):
    results = folds.folder / "results/head_ct"
    whole = pd.read_csv(results / "split/split.csv", dtype=str)
    tested = []
    for fold in range(3):
        split = pd.read_csv(results / f"fold{fold}/split/split.csv", dtype=str)
        test = set(split.image_id[split.split == "test"])
        assert test == set(whole.image_id[whole.split == f"fold{fold}"])
        predicted = pd.read_parquet(results / f"fold{fold}/classifier/real/seed0/predictions.parquet")
        assert set(predicted.image_id[predicted.split == "test"]) == test
        described = json.loads((results / f"fold{fold}/gan/dcgan32/seed0/normal/generator.json").read_text())
        trained = (split.split == "train") & (split.label == "normal")
        assert described["training_images"] == trained.sum()
        tested += test
    assert sorted(tested) == sorted(whole.image_id)


def test_the_tables_put_the_folds_together(folds: Workflow):
    results = folds.folder / "results/head_ct"
    table = pd.read_csv(results / "tables/classification.csv")
    assert set(table.cases) == {40}
    assert set(table.seeds) == {1}
    text = (results / "tables/classification.md").read_text()
    assert "3 folds: each image is tested once" in text
    verdict = json.loads((results / "verdict.json").read_text())
    assert verdict["outcome"] == "cannot be told"
    assert "3 folds" in verdict["sentence"]
    assert "40 test images of 40 patients" in verdict["sentence"]


def test_the_curve_has_fewer_patients_in_every_fold(folds: Workflow):
    results = folds.folder / "results/head_ct"
    for fold in range(3):
        whole, half = (
            pd.read_csv(results / f"{share}fold{fold}/split/split.csv", dtype=str) for share in ("", "share0.5/")
        )
        trained, fewer = (set(split.image_id[split.split == "train"]) for split in (whole, half))
        assert fewer < trained
        assert len(fewer) == pytest.approx(len(trained) / 2, abs=1)
        held_out = whole.split != "train"
        assert half.split[held_out].equals(whole.split[held_out])
    curve = pd.read_csv(results / "tables/curve.csv")
    assert list(zip(curve.share, curve.arm, strict=True)) == [
        (share, arm) for share in (0.5, 1.0) for arm in ("real", "synthetic")
    ]
    assert curve.worth.notna().tolist() == [False, True, False, True]
    assert (results / "tables/curve.md").read_text().count("- Beside ") == 2
    assert (results / "figures/curve.png").stat().st_size > 1000


def test_one_more_share_trains_that_share_alone(folds: Workflow):
    planned = folds.planned(*options(STUDY | {"curve": {"real": [0.25, 0.5]}}), target=TARGETS)
    trained = {job.split()[0] for job in planned if "train_" in job}
    assert trained == {f"head_ct/share0.25/fold{fold}" for fold in range(3)}


def test_weights_of_classifiers_go_and_nobody_misses_them(folds: Workflow):
    assert not list(folds.folder.rglob("classifier.safetensors"))
    assert folds.planned(*options(), target=TARGETS) == set()
