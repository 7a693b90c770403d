"""The toy study from end to end, and what happens to a run when things go wrong."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

import scangan
from scangan.jobs import has_gpu
from scangan.metrics.copies import KINDS
from scangan.metrics.fidelity import METRICS
from scangan.metrics.generators import BY_RADIOMICS
from tests.workflow.conftest import TOYS, Workflow, copy_workflow

DIFFERENCE = "difference difference_low difference_high against detectable p_holm".split()
TABLE = [*"study arm metric value ci_low ci_high seeds cases".split(), *DIFFERENCE]
TABLE += "steps steps_least steps_most converged data scale pretrained".split()
FIDELITY = "study variant metric value ci_low ci_high images reference extractor data scale".split()
FIDELITY += ["reference_low", "reference_high", "plus_minus", "trainings"]
WEIGHTS = "results/head_ct/gan/dcgan32/seed0/normal/generator.safetensors"


def test_the_tables_are_whole_and_honest(toy: Workflow):
    tables = toy.folder / "results/head_ct/tables"
    scores = pd.read_csv(tables / "classification.csv")
    assert list(scores.columns) == TABLE
    assert set(scores.arm) == {"real", "real+classical", "synthetic-then-real"}
    assert set(scores.metric) == {"accuracy", "sensitivity", "specificity", "f1", "auc"}
    assert set(scores.data) == {"phantom"}
    assert set(scores.scale) == {"custom"}
    assert set(scores.cases) == {8}
    assert scores.value.between(0, 1).all()
    assert scores.difference.notna().equals(scores.arm == "synthetic-then-real")
    assert scores.p_holm.isna().all()  # of a single training
    verdict = json.loads((toy.folder / "results/head_ct/verdict.json").read_text())
    assert verdict["outcome"] == "cannot be told"
    assert "single training" in verdict["sentence"]
    assert "phantom data, custom scale" in (toy.folder / "results/head_ct/verdict.md").read_text()
    fidelity = pd.read_csv(tables / "fidelity.csv")
    assert list(fidelity.columns) == FIDELITY
    assert set(fidelity.variant) == {"dcgan32/haemorrhage", "dcgan32/normal", "dcgan32/all"}
    planted = {f"planted_{kind}" for kind in KINDS}
    assert set(fidelity.metric) == {
        *METRICS,
        *planted,
        "suspected_copies",
        "leaked_held_out",
        "membership_auc",
        *BY_RADIOMICS.values(),
        "encoder_distance",
    }
    papers = pd.read_csv(toy.folder / "results/paper_comparison.csv").query("study == 'head_ct'")
    assert (papers.comparable == "yes").equals(papers.metric == "trainable_parameters")
    assert papers.ours[papers.comparable == "yes"].equals(papers.paper[papers.comparable == "yes"])
    for name in ("classification", "calibration", "fidelity", "cohort"):
        assert "phantom data, custom scale" in (tables / f"{name}.md").read_text()


def test_a_generator_is_not_judged_by_what_it_was_trained_against(toy_copy: Workflow):
    """As a network would say of itself whose discriminator sees EfficientNet-Lite0's features."""
    asked = "feature_networks(settings.model, **network_options(settings)),"
    toy_copy.edit("workflow/scripts/train_gan.py", asked, '["efficientnet-lite0"],')
    tables = "results/head_ct/tables"
    run = toy_copy.snakemake(target=f"{tables}/fidelity.csv")
    assert run.returncode == 0, run.stdout
    fidelity = pd.read_csv(toy_copy.folder / tables / "fidelity.csv")
    assert set(fidelity.extractor) == {"radiomics", "encoder", "pixels"}
    assert not set(METRICS) & set(fidelity.metric)
    said = (toy_copy.folder / tables / "fidelity.md").read_text()
    assert (
        "dcgan32/haemorrhage, dcgan32/normal, dcgan32/all: refused to efficientnet-lite0, against whose features the "
        "generator was trained; judged by radiomics and encoder instead." in said
    )


def test_the_figures_are_there(toy: Workflow):
    for name in ("roc", "reliability", "dcgan32/images", "dcgan32/training"):
        with Image.open(toy.folder / f"results/head_ct/figures/{name}.png") as figure:
            assert min(figure.size) > 300


def test_predictions_belong_to_held_out_patients(toy: Workflow):
    split = pd.read_csv(toy.folder / "results/head_ct/split/split.csv", dtype=str).set_index("image_id").split
    for file in (toy.folder / "results/head_ct/classifier").glob("*/seed*/predictions.parquet"):
        predictions = pd.read_parquet(file)
        assert list(predictions.columns) == ["image_id", "patient_id", "label", "split", "probability"]
        assert (predictions.image_id.map(split) == predictions.split).all()
        assert set(predictions.split) == {"validation", "test"}


def test_two_networks_train_at_a_time_without_a_gpu(toy: Workflow):
    at_a_time = re.search(r"^Provided resources: gpu=\D*(\d+)", toy.last_log(), re.MULTILINE)
    assert int(at_a_time[1]) == (1 if has_gpu() else 2)


def test_no_state_of_a_finished_training_is_left(toy: Workflow):
    assert not list(toy.folder.glob("results/**/.resume"))


def test_a_gan_stopped_in_the_middle_goes_on_to_the_same_weights(toy_copy: Workflow):
    """SIGTERM to the job, as a cluster sends before it kills; the second call resumes, to the bit."""
    longer = ("--config", f"studies={json.dumps({'head_ct': {'gan': {'dcgan32': {'epochs': 400}}}})}")
    command = [sys.executable, "-m", "snakemake", WEIGHTS, "--cores", "1", "--resources", "gpu=1"]
    command += ["--configfile", *TOYS.values()]
    log = toy_copy.folder / "results/head_ct/logs/train_gan/dcgan32/seed0/normal.log"
    log.unlink()
    with subprocess.Popen(
        [*command, *longer], cwd=toy_copy.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ):
        os.kill(wait_for_training(toy_copy.folder), signal.SIGTERM)
    assert "error: stopped by a signal at step" in log.read_text()
    assert not (toy_copy.folder / WEIGHTS).exists()

    assert subprocess.run([*command, *longer], cwd=toy_copy.folder, capture_output=True).returncode == 0
    assert "resumed at step" in log.read_text()
    resumed = load_file(toy_copy.folder / WEIGHTS)
    (toy_copy.folder / WEIGHTS).unlink()
    assert subprocess.run([*command, *longer], cwd=toy_copy.folder, capture_output=True).returncode == 0
    assert "resumed" not in log.read_text()
    uninterrupted = load_file(toy_copy.folder / WEIGHTS)
    assert all(np.array_equal(resumed[name], uninterrupted[name]) for name in uninterrupted)


def wait_for_training(folder: Path) -> int:
    """The process id of the job's script, once its networks have begun to train."""
    log = folder / "results/head_ct/logs/train_gan/dcgan32/seed0/normal.log"
    for _ in range(600):
        time.sleep(0.1)
        if log.exists() and "training on" in log.read_text():
            time.sleep(0.5)
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command = (process / "cmdline").read_text()
                except OSError:
                    continue
                if ".train_gan.py" in command and str(folder) in command and not command.startswith("/bin/"):
                    return int(process.name)
    raise AssertionError("the training did not begin")


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A workflow in which nothing has run yet."""
    return copy_workflow(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--config", "result=elsewhere"), "config: result: unknown key (did you mean results?)"),
        (
            ("--config", "studies={head_ct: {classifier: {steps: many}}}"),
            "config: studies.head_ct.classifier.steps: found 'many' (str), allowed: a whole number",
        ),
        (("--config", "data_roots={head_ct: nowhere}"), "config: data_roots.head_ct: found 'nowhere'"),
    ],
)
def test_a_wrong_config_stops_before_any_job(fresh: Workflow, options: tuple[str, ...], line: str):
    run = fresh.snakemake(*options)
    assert run.returncode != 0
    assert line in run.stdout
    assert not (fresh.folder / "results").exists()


SIXTH_STUDY = """
data_roots: {mine: data}
studies:
  my_study:
    data: {root: mine, classes: {healthy: healthy, sick: sick}, image_size: 32}
    gan: {projected_gan: {model: projected_gan, seeds: 1, base_width: 4, epochs: 1, validations: 1}}
    synthesis: {gan: projected_gan, images_per_class: 2}
    classifier: {positive: sick, steps: 2, arms: [real, synthetic], seeds: 1, batch_size: 8}
    evaluation: {bootstrap: 100}
"""


def test_ones_own_data_are_a_sixth_study(fresh: Workflow):
    random = np.random.default_rng(0)
    for name in ("healthy", "sick"):
        (fresh.folder / "data" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 2**16, (50, 40), dtype=np.uint16)
            Image.fromarray(pixels).save(fresh.folder / "data" / name / f"{name}{number}.tif")
    (fresh.folder / "mine.yaml").write_text(SIXTH_STUDY)
    run = fresh.snakemake("--configfile", "mine.yaml", target="my_study")
    assert run.returncode == 0, run.stdout
    scores = pd.read_csv(fresh.folder / "results/my_study/tables/classification.csv")
    assert set(scores.data) == {"real"}
    assert set(scores.scale) == {"custom"}
    assert set(scores.arm) == {"real", "synthetic"}
    assert set(scores.cases) == {6}
    page = (fresh.folder / "results/my_study/index.html").read_text()
    assert "Real data, custom scale." in page
    verdict = json.loads((fresh.folder / "results/my_study/verdict.json").read_text())
    assert html.escape(verdict["sentence"], quote=False) in page
    assert run.stdout.rstrip().endswith("All of it on one page: results/my_study/index.html")
    check_export(fresh)


def check_export(fresh: Workflow):
    """The commands of docs/images_out.md, one after the other in a folder with its study."""
    page = (Path(__file__).parents[2] / "docs/images_out.md").read_text()
    default, other = re.findall(r"^snakemake (.*)$", page.replace("\\\n", ""), re.MULTILINE)
    for command, options in ((default, ["--dry-run"]), (other, [])):
        arguments = [sys.executable, "-m", "snakemake", *shlex.split(command), *options]
        run = subprocess.run(arguments, cwd=fresh.folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "train_gan" not in run.stdout + run.stderr
    folder = fresh.folder / "results/my_study/exported/projected_gan/sick"
    table = pd.read_csv(folder / "metadata.csv")
    assert len(table) == 100
    assert table["suspected"].notna().sum() == 2  # as many as the study drew
    assert set(table["data"]) == {"real"}
    drawn = scangan.load(fresh.folder / "results/my_study/gan/projected_gan").draw({"sick": 100})["sick"][:, 0]
    for file, image in zip(table["file"], drawn, strict=True):
        with Image.open(folder / file) as exported:
            np.testing.assert_allclose(np.asarray(exported) / 65535, image, atol=1 / 65535)  # of other threads
    assert "SYNTHETIC" in (folder / "README.md").read_text()


def real_layout(folder: Path, images: int) -> Path:
    """A folder in the layout of the real set."""
    (folder / "head_ct").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(images):
        pixels = random.integers(0, 255, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "head_ct" / f"{number:03}.png")
    labels = "".join(f"{number},{number % 2}\n" for number in range(images))
    (folder / "labels.csv").write_text("id, hemorrhage\n" + labels)
    return folder


def test_a_bad_image_is_listed_and_counted_and_the_run_goes_on(fresh: Workflow, tmp_path: Path):
    data = real_layout(tmp_path / "data", 40)
    (data / "head_ct" / "007.png").write_bytes(b"")
    split = "results/head_ct/split/split.csv"
    run = fresh.snakemake("--config", f"data_roots={{head_ct: {data}}}", target=split)
    assert run.returncode == 0, run.stdout
    rejected = pd.read_csv(fresh.folder / "results/head_ct/cohort/rejected.csv")
    assert rejected.source.tolist() == ["head_ct/007.png"]
    assert len(pd.read_csv(fresh.folder / split)) == 39
    assert set(pd.read_parquet(fresh.folder / "results/head_ct/cohort/manifest.parquet").data) == {"real"}


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (None, "labels.csv: file: found No such file or directory, allowed: a CSV with columns id, hemorrhage"),
        ("name,bleeding\n0,1\n", "labels.csv: columns: found name, bleeding; allowed: id, hemorrhage"),
    ],
)
def test_what_a_table_lacks_is_said_while_the_run_is_planned(fresh: Workflow, tmp_path: Path, table, line: str):
    data = real_layout(tmp_path / "data", 40)
    (data / "labels.csv").unlink()
    if table:
        (data / "labels.csv").write_text(table)
    run = fresh.snakemake("-n", "--config", f"data_roots={{head_ct: {data}}}", target="results/head_ct/split/split.csv")
    assert run.returncode != 0
    assert line in run.stdout
    assert not (fresh.folder / "results/head_ct").exists()


def test_bad_data_ends_in_one_clear_line(fresh: Workflow, tmp_path: Path):
    data = real_layout(tmp_path / "data", 40)
    for file in (data / "head_ct").glob("01*.png"):
        file.write_bytes(b"")
    run = fresh.snakemake("--config", f"data_roots={{head_ct: {data}}}", target="results/head_ct/split/split.csv")
    log = (fresh.folder / "results/head_ct/logs/ingest_images.log").read_text()
    assert run.returncode != 0
    assert "error: " in log
    assert "rejected" in log
    assert len([text for text in log.splitlines() if "error: " in text]) == 1
    assert "Traceback" not in log
    assert not (fresh.folder / "results/head_ct/cohort/manifest.parquet").exists()
