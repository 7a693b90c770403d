"""What a run will take: the jobs of a dry run, their work by hand, and paces that are kept."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from scangan.config import ImageGan, NoduleNetwork, Voi, load
from scangan.config.derived import overlay
from scangan.forecast.calibration import (
    LARGEST,
    Calibration,
    _classifier_step,
    _image_game,
    _mean_operations,
    _Operations,
    _volume_game,
)
from scangan.forecast.counted import _speed_of_products, operations_of
from scangan.forecast.dry_run import Job, read_jobs
from scangan.forecast.paces import Pace
from scangan.forecast.report import BUSY, announce, describe, hours_of
from scangan.forecast.sizes import images_of, scans_of, sizes_of
from scangan.forecast.work import DRAW_SHARE, FORWARD, PER_JOB, REST, STAGES, Work, stage_of, work_of
from scangan.plan import Plan

ROOT = Path(__file__).parents[2]
DEMO = yaml.safe_load((ROOT / "config/config.yaml").read_text())
PAPER = overlay(DEMO, yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
DRY_RUN = """
[Thu Nov 26 15:16:46 2026]
rule train_gan:
    input: a, b
    output: results/head_ct/gan/dcgan32/seed0/normal/generator.safetensors
    jobid: 3
    wildcards: study=head_ct, gan=dcgan32, gan_seed=0, label=normal
    threads: 2
    resources: tmpdir=/tmp, gpu=1, mem_mb=8000
[Thu Nov 26 15:16:46 2026]
rule survey_lidc:
    output: results/lidc/nodules.csv
    resources: tmpdir=<TBD>
[Thu Nov 26 15:16:46 2026]
rule all:
    input: results/head_ct/tables/fidelity.csv
    jobid: 0
"""


class FixedPaces:
    """A second for everything."""

    def start(self, loads_torch):
        return 3.0 if loads_torch else 1.0

    def features(self):
        return 1.0

    def image_gan(self, settings, channels, edge):
        return Pace(1.0)

    def volume_gan(self, settings, edge):
        return Pace(1.0, scaled=True)

    def nodule_network(self, kind, settings, voi):
        return Pace(1.0)

    def classifier(self, settings, channels, edge):
        return Pace(1.0)


def plan_of(raw, **roots):
    return Plan(load(overlay(raw, {"data_roots": roots})), json.loads((ROOT / "config/scales.json").read_text()))


def work(rule, raw=DEMO, **wildcards):
    return work_of([Job(rule, wildcards)], plan_of(raw), FixedPaces())[0]


def test_jobs_are_read_from_a_dry_run():
    wildcards = {"study": "head_ct", "gan": "dcgan32", "gan_seed": "0", "label": "normal"}
    assert read_jobs(DRY_RUN) == [Job("train_gan", wildcards, 8000), Job("survey_lidc")]


def test_each_rule_has_a_stage():
    files = (ROOT / "workflow/rules").glob("*.smk")
    rules = {
        name for file in files for name in re.findall(r"^rule (\w+):|^use rule \w+ as (\w+)", file.read_text(), re.M)
    }
    rules = {one or other for one, other in rules}
    assert set().union(*STAGES.values()) <= rules
    assert {rule for rule in rules if stage_of(rule) == REST and rule.startswith(("train", "synth", "ingest"))} == set()


def test_sizes_before_there_is_a_split():
    studies = plan_of(DEMO).studies
    head_ct = sizes_of(studies["head_ct"])
    assert (head_ct.train, head_ct.validation, head_ct.test, head_ct.counted) == (144, 34, 22, False)
    assert sizes_of(studies["ct_sgan"]).in_all == 96
    paper = plan_of(PAPER)
    assert images_of(paper.sources["simple_ct_gan"]) == 267
    # The paper's 12,979 images of 220 patients.
    assert images_of(paper.sources["brain_mr"]) == pytest.approx(12_979, rel=0.03)


def test_sizes_of_real_data(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    published = plan_of(DEMO, covid_ct=str(tmp_path)).sources["covid_ct"]
    assert scans_of(published) == 746
    mine = {"data_roots": {"mine": str(tmp_path)}, "studies": {"head_ct": {"data": {"root": "mine"}}}}
    assert scans_of(plan_of(overlay(DEMO, mine)).sources["head_ct"]) == 2


def test_a_split_that_is_there_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split = tmp_path / "results/head_ct/split/split.csv"
    split.parent.mkdir(parents=True)
    split.write_text("image_id,split\na,train\nb,train\nc,validation\nd,unused\n")
    found = sizes_of(plan_of(DEMO).studies["head_ct"])
    assert (found.train, found.validation, found.test, found.counted) == (2, 1, 0, True)


def test_work_by_hand():
    trained = work("train_gan", study="head_ct", gan="dcgan32", gan_seed="0", label="normal")
    assert trained.network == 100 * 72 / 16  # epochs, images of a class, images a step
    assert trained.start == PER_JOB + 3
    few = work("train_gan", study="simple_ct_gan", gan="images_32", gan_seed="0", label="chest")
    assert few.network == 48 * 32 / 16
    drawn = work("synthesize", study="head_ct", gan="dcgan32", gan_seed="0", label="normal", shard="0")
    assert drawn.network == pytest.approx(144 / 16 / DRAW_SHARE)
    judged = work("train_classifier", study="head_ct", arm="real", training="seed0")
    assert judged.network == pytest.approx(40 + (40 / 10 * 34 + 34 + 22) / 16 * FORWARD)
    kept = work("train_classifier", DEMO | {"keep_classifiers": True}, study="head_ct", arm="real", training="seed0")
    assert judged.written == 0 < kept.written
    volumes = work("train_volume_gan", study="ct_sgan", gan="ct_sgan", gan_seed="0")
    assert (volumes.network, volumes.scaled) == (24 * round(0.6 * 96) / 4, True)
    assert work("train_nodule_gan", study="ct_sgan", network="eraser").network == 180
    table = work("tabulate_fidelity", study="head_ct")
    assert (table.stage, table.start, table.network) == (REST, PER_JOB + 1, 0)


def test_passes_are_as_long_as_an_arm_is_large():
    real, both = (
        work("train_classifier", PAPER, study="brain_mr", arm=arm, training="gan_seed0-seed0")
        for arm in ("real", "real+synthetic")
    )
    assert real.network > both.network > 20_000  # which validates more seldom


def test_the_papers_volumes_take_a_quarter_of_a_terabyte():
    jobs = [
        Job("synthesize_volumes", {"study": "ct_sgan", "gan": "ct_sgan", "gan_seed": "0", "shard": f"{shard}"})
        for shard in range(20)
    ]
    written = sum(each.written for each in work_of(jobs, plan_of(PAPER), FixedPaces()))
    assert written == pytest.approx(455e9 / 2, rel=0.02)  # docs/volumes.md


def test_hours():
    two = [Work("data", start=1800, other=1800 * BUSY), Work("synthesis", start=0, network=3600 * BUSY * 2)]
    assert hours_of(two, 2, on_gpu=False) == pytest.approx((1800 + 1800 * BUSY + 7200 * BUSY) / 2 / BUSY / 3600)
    # Of a GPU's job the start takes its turn, too; the cores' work goes on beside it.
    both = [Work("classifiers", start=10, network=3590), Work("data", start=0, other=100)]
    assert hours_of(both, 8, on_gpu=True) == 1
    assert hours_of([Work("data", start=0, other=8 * BUSY * 7200), both[0]], 8, on_gpu=True) == pytest.approx(
        2, rel=1e-2
    )


def test_the_text_says_what_it_does_not_know():
    jobs = [Job("train_gan", mem_mb=8000), Job("score")]
    done = [Work("generative networks", 4, 7200 * BUSY, scaled=True, written=2e9), Work(REST, 1)]
    text = describe(jobs, done, 2, False, "2 cores, torch 2", ["head_ct"])
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["generative", "networks", "1", "1.00", "8.0", "2.0"]
    assert lines[3][:4] == ["in", "all", "2", "1.00"]
    assert "About 1.0 h on 2 cores, if nothing else runs there: 0.7 to 1.5 h, a range that one run bears out" in text
    assert "100% of the networks' time is of networks too large" in text
    assert text.endswith("how many images or scans there are in head_ct.")
    assert "not said" in describe([Job("score")], done[1:], 2, False, "", [])


def test_a_dry_run_ends_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(DEMO)
    jobs = [
        Job("tabulate_fidelity", {"study": "head_ct"}),
        Job("simulate_reader", {"study": "brain_mr", "number": "1"}),
    ]
    counted = (
        "2 jobs, about 0.0 h by counted operations, within a factor of 3, 0.0 GB of disk; `python -m scangan plan` "
        "times the steps"
    )
    assert announce(jobs, plan, 2, False) == counted
    kept = {"machine": "this one", "paces": {"start": {"seconds": 3600 * BUSY, "scaled": False}}}
    file = tmp_path / ".snakemake/scangan/calibration.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(kept))
    known = "2 jobs, about 1.0 h, 0.0 GB of disk; `python -m scangan plan` says more"
    assert announce(jobs, plan, 2, False) == known
    trained = Job("train_nodule_gan", {"study": "ct_sgan", "network": "eraser"})
    assert "about 1.0 h by counted operations" in announce([*jobs, trained], plan, 2, False)
    assert " h on a GPU like an H100 by counted operations" in announce([trained], plan, 2, True)


# By another width, or edge, than that of the law.
@pytest.mark.parametrize(
    ("raw", "study", "gan"),
    [
        (DEMO, "head_ct", "dcgan32"),
        (DEMO, "simple_ct_gan", "kernel_5"),
        (DEMO, "covid_ct", "dcgan224"),
        (DEMO, "brain_mr", "pggan"),
        (DEMO, "ct_sgan", "ct_sgan"),
        (DEMO, "ct_sgan", "gan3d"),
        (PAPER, "simple_ct_gan", "size_64"),
        (DEMO, "head_ct", "projected_gan"),
    ],
)
def test_laws_foretell_what_is_counted(raw, study, gan):
    planned = plan_of(raw).studies[study]
    settings = planned.settings.gan[gan]
    if isinstance(settings, ImageGan):
        told = ("image_gan", settings, planned.settings.data.channels, planned.image_size(gan))
        counted = _mean_operations(_image_game(*told[1:]))
    else:
        told = ("volume_gan", settings, getattr(settings, "image_size", None) or planned.settings.grid.size)
        counted = _mean_operations(_volume_game(*told[1:]))
    assert 0.5 < operations_of(*told) / counted < 2


@pytest.mark.parametrize(("raw", "study"), [(DEMO, "head_ct"), (DEMO, "ct_sgan"), (PAPER, "head_ct")])
def test_laws_of_classifiers(raw, study):
    planned = plan_of(raw).studies[study]
    edge = planned.settings.grid.size if study == "ct_sgan" else planned.settings.data.image_size
    told = (planned.settings.classifier, 1, edge)
    with _Operations() as counted:
        _classifier_step(*told, torch.device("meta"))()
    assert 0.5 < operations_of("classifier", *told) / counted.total < 2


def test_a_speed_is_measured_in_little_time():
    assert 1e9 < _speed_of_products() < 1e12


def test_operations_are_counted_through_a_penalty():
    layer = nn.Linear(3, 5, bias=False)
    images = torch.zeros(2, 3, requires_grad=True)
    with _Operations() as forward:
        layer(images)
    assert forward.total == 2 * 2 * 3 * 5
    with _Operations() as twice:
        (gradient,) = torch.autograd.grad(layer(images).sum(), images, create_graph=True)
        gradient.square().sum().backward()
    assert twice.total == 3 * forward.total  # the images' gradient, and that of the weights


def test_a_growing_network_is_counted_over_its_levels():
    settings = {"model": "pggan", "epochs": 4, "base_width": 4, "loss": "wasserstein", "batch_size": 4}
    small, large = (_mean_operations(_image_game(ImageGan.of_kind(settings), 1, edge)) for edge in (4, 16))
    assert 0 < 3 * small < large


def test_paces_are_kept_for_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("scangan.forecast.calibration.SECONDS", 0.0)
    settings = ImageGan.of_kind({"model": "dcgan32", "epochs": 1, "base_width": 2, "batch_size": 2})
    file = tmp_path / "calibration.json"
    threads = torch.get_num_threads()
    first = Calibration(threads, file)
    pace = first.image_gan(settings, 1, 32)
    assert pace.seconds > 0
    assert not pace.scaled
    nodules = NoduleNetwork(base_width=2, batch_size=2)
    voi = Voi(size=16, spacing_mm=2, margin_mm=4, diameters_mm=(4, 24))
    assert first.nodule_network("injector", nodules, voi).seconds > 0
    again = Calibration(threads, file)
    assert again.image_gan(settings.model_copy(update={"epochs": 9, "seed": 3}), 1, 32) == pace
    assert len(again.paces) == 2
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"machine": "another"}))
    assert Calibration(threads, file).paces == {}


def test_a_network_that_is_too_large_is_timed_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("scangan.forecast.calibration.SECONDS", 0.0)
    monkeypatch.setitem(LARGEST, "cpu", 3e7)
    settings = ImageGan.of_kind({"model": "dcgan32", "epochs": 1, "base_width": 8, "batch_size": 8})
    assert Calibration(torch.get_num_threads(), tmp_path / "paces.json").image_gan(settings, 1, 32).scaled
