"""The toy study on the COVID-CT set's layout, from its official split to what the judges say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.phantoms.covid_ct import write_phantom
from tests.workflow.conftest import Workflow, run_once

STUDY = "results/covid_ct"
GANS = ("dcgan224", "projected_gan")
FURTHER = "real+synthetic:projected_gan"
SETS = ["1", "2", "mean"]


def test_what_the_judges_say_stands_beside_real_images(toy: Workflow):
    judged = pd.read_csv(toy.folder / STUDY / "tables/judge.csv", dtype={"set": str})
    sets = judged.groupby("variant", sort=False)["set"].agg(list).to_dict()
    assert sets == {f"{gan}/covid": SETS for gan in GANS} | {"real/covid": ["mean"], "real/non_covid": ["mean"]}
    assert judged.value.between(0, 1).all()
    assert (judged.ci_low.le(judged.value) & judged.value.le(judged.ci_high)).all()
    assert set(judged.seeds) == {2}
    rows = judged.set_index(["variant", "set"])
    for gan in GANS:
        files = (toy.folder / STUDY / f"judge/{gan}/seed{seed}.parquet" for seed in (0, 1))
        probability = np.stack([pd.read_parquet(file).sort_values("synthesis_seed").probability for file in files])
        assert rows.value[f"{gan}/covid", "2"] == pytest.approx((probability[:, 4:8] >= 0.5).mean())
    test = pd.read_csv(toy.folder / STUDY / "split/split.csv").query("split == 'test'")
    assert rows.images["real/covid", "mean"] == (test.label == "covid").sum()
    text = (toy.folder / STUDY / "tables/judge.md").read_text()
    assert "phantom data, custom scale" in text


def test_the_judges_are_the_arm_real(toy: Workflow):
    """Judged again, from the weights on disk, the test images get the probabilities that are on disk."""
    from scangan.data.split import read_parts
    from scangan.training.supervised import predict, read_classifier

    folder = toy.folder / STUDY
    test = read_parts(folder / "cohort/images.zarr.zip", folder / "cohort/manifest.parquet", folder / "split/split.csv")
    predictions = pd.read_parquet(folder / "classifier/real/seed1/predictions.parquet").query("split == 'test'")
    weights = folder / "classifier/real/seed1/classifier.safetensors"
    judge = read_classifier(weights, 3, 32, backbone="densenet169", pretrained="none", stem="imagenet", dropout=0.0)
    again = pd.Series(predict(judge, test["test"], 4), test["test"].manifest.image_id)
    assert again[predictions.image_id].to_numpy() == pytest.approx(predictions.probability.to_numpy(), abs=1e-5)


def test_the_tables_are_whole_and_honest(toy: Workflow):
    tables = toy.folder / STUDY / "tables"
    scores = pd.read_csv(tables / "classification.csv")
    assert set(scores.metric) == {"accuracy", "sensitivity", "specificity", "f1", "auc"}
    networks = pd.read_csv(tables / "networks.csv").set_index("network")
    assert networks["diffaugment.kinds"].dropna().unique().tolist() == ["color, translation, cutout"]
    assert networks["diffaugment.kinds"]["dcgan224"].isna().all()
    cohort = (tables / "cohort.md").read_text()
    assert "official split: 0 patients have images in several parts" in cohort
    papers = pd.read_csv(toy.folder / "results/paper_comparison.csv").query("study == 'covid_ct'")
    judged = papers[papers.metric == "judged_positive"].iloc[0]
    assert (judged["item"], judged.paper) == ("dcgan224/covid", 0.4)
    assert 0 <= judged.ours <= 1
    assert papers[papers["item"] == "real"].ours.notna().all()
    assert set(papers.comparable) == {"no"}
    for name in ("judge", "roc", "panels/diffaugment", "projected_gan/images"):
        with Image.open(toy.folder / STUDY / f"figures/{name}.png") as figure:
            assert min(figure.size) > 300


def test_two_networks_stand_in_one_table_and_each_has_its_verdict(toy: Workflow):
    scores = pd.read_csv(toy.folder / STUDY / "tables/classification.csv")
    assert list(scores.arm.unique()) == ["real", "real+synthetic", FURTHER]
    assert set(scores.against[scores.arm == FURTHER]) == {"real"}
    verdict = json.loads((toy.folder / STUDY / "verdict.json").read_text())
    assert {gan: own["arm"] for gan, own in verdict["networks"].items()} == {
        "dcgan224": "real+synthetic",
        "projected_gan": FURTHER,
    }
    # What it was trained against is no judge of it.
    fidelity = pd.read_csv(toy.folder / STUDY / "tables/fidelity.csv")
    judges = fidelity.groupby(fidelity.variant.str.partition("/")[0]).extractor.agg(set)
    assert judges["dcgan224"] - judges["projected_gan"] == {"efficientnet-lite0"}


def test_by_patient_instead(toy_copy: Workflow):
    override = json.dumps({"covid_ct": {"split": {"method": "by_patient"}}})
    run = toy_copy.snakemake("--config", f"studies={override}", target=f"{STUDY}/tables/cohort.csv")
    assert run.returncode == 0, run.stdout
    split = pd.read_csv(toy_copy.folder / STUDY / "split/split.csv")
    assert (split.groupby("patient_id").split.nunique() == 1).all()
    assert set(split.method) == {"by_patient"}
    assert "official split" not in (toy_copy.folder / STUDY / "tables/cohort.md").read_text()


def write_bad_set(root: Path) -> dict[str, str]:
    """The phantom's files as a user's, some of them spoilt: file -> a word of the reason."""
    write_phantom(root, 48, 64, 0)
    lists = {part: root / f"Data-split/COVID/{part}CT_COVID.txt" for part in ("train", "test")}
    names = lists["train"].read_text().split("\n")
    names = [name for name in names if name]
    corrupt, transparent, twice = (root / "CT_COVID" / name for name in names[:3])
    corrupt.write_bytes(b"no image at all")
    with Image.open(transparent) as image:
        image = image.convert("RGBA")
    image.putalpha(120)
    image.save(transparent, "PNG")
    with lists["test"].open("a") as file:
        file.write(f"{twice.name}\n")
    with lists["train"].open("a") as file:
        file.write("gone.png\n")
    reasons = {corrupt: "unreadable", transparent: "transparen", twice: "test", root / "CT_COVID/gone.png": "no image"}
    return {file.name: reason for file, reason in reasons.items()}


def test_bad_files_are_named_and_counted_and_the_run_goes_on(shared_folder: Path):
    root = shared_folder / "covid_ct_data"
    override = json.dumps({"covid_ct": {"data": {"max_rejected": 0.2}}})
    options = ("--config", f"data_roots={{covid_ct: {root}}}", f"studies={override}")
    reasons: dict[str, str] = {}
    workflow = run_once(
        shared_folder / "of_covid_ct_data",
        *options,
        target=f"{STUDY}/tables/cohort.csv",
        prepare=lambda: reasons.update(write_bad_set(root)),
    )
    rejected = pd.read_csv(workflow.folder / STUDY / "cohort/rejected.csv")
    assert len(rejected) == len(reasons), rejected
    for name, reason in reasons.items():
        (row,) = rejected[rejected.source.str.contains(name, regex=False)].itertuples()
        assert reason in f"{row.reason}: {row.found}"
    assert rejected.remedy.notna().all()
    cohort = pd.read_csv(workflow.folder / STUDY / "tables/cohort.csv")
    assert cohort.images[cohort.split == "rejected"].sum() == len(reasons)
    assert set(cohort.data) == {"real"}
