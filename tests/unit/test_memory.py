"""What jobs ask for: enough of the papers' scale, little of the demo's, and what the settings say."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from scangan.config import load
from scangan.memory import HELD, job_mb
from scangan.plan import Plan

ROOT = Path(__file__).parents[2]
SCALES = json.loads((ROOT / "config/scales.json").read_text())
DEMO, PAPER = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("config", "paper"))


def merged(settings, other):
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(settings.get(key), dict)
        settings[key] = merged(settings[key], value) if both else value
    return settings


def asked(rule, study, *overlays, threads=8, on_gpu=True, **wildcards):
    raw = copy.deepcopy(DEMO)
    for overlay in overlays:
        merged(raw, copy.deepcopy(overlay))
    plan = Plan(load(raw), SCALES).studies[study]
    return job_mb(rule, plan, wildcards, threads, on_gpu)


@pytest.mark.parametrize(
    ("rule", "most"),
    {
        **dict.fromkeys(["extract_features", "train_classifier", "measure_fidelity", "judge_images"], 16_000),
        **dict.fromkeys(["embed_images", "plot_gan", "open_reading_room"], 4_000),
    }.items(),
)
def test_images_at_the_papers_scale_take_16_gb_at_most_and_what_looks_at_few_of_them_4(rule, most):
    own = {"data_roots": {"brain_mr": str(ROOT)}}
    assert asked(rule, "brain_mr", PAPER, own, on_gpu=most > 4_000) <= most
    assert asked(rule, "brain_mr", on_gpu=False) <= 4_000


@pytest.mark.parametrize("rule", ["tabulate_volumes", "measure_volumes", "cut_vois"])
def test_volumes_at_the_papers_scale_take_4_gb_at_most(rule):
    own = {"data_roots": {"lidc": str(ROOT), "nlst": str(ROOT)}}
    assert asked(rule, "ct_sgan", PAPER, own, on_gpu=False) <= 4_000


def test_nodule_networks_hold_all_vois():
    """1,200 scans, of each 12 healthy places and some nodules, 64^3 in float32; three quarters are trained on."""
    vois = 0.75 * 1200 * 14.6 * 4 * 64**3 / 1e6
    assert 2.9 < asked("train_nodule_gan", "ct_sgan", PAPER, network="injector") / vois < 3.4
    # Of an eraser a quarter of the healthy places once more.
    assert 3.5 < asked("train_nodule_gan", "ct_sgan", PAPER, network="eraser") / vois < 4.0
    # Of a quarter the healthy places four times over, and all nodules once.
    held_out = 1200 * (0.25 * 4 * 12 + 2.6) * 4 * 64**3 / 1e6
    assert asked("measure_nodules", "ct_sgan", PAPER, on_gpu=False) == pytest.approx(held_out + 1200 + 600, abs=2)


def test_more_images_take_no_more_than_what_is_held_of_a_set():
    more = {"studies": {"brain_mr": {"synthesis": {"images_per_class": 10**6}}}}
    most = {"studies": {"brain_mr": {"synthesis": {"images_per_class": 10**7}}}}
    assert asked("train_classifier", "brain_mr", PAPER, more) == asked("train_classifier", "brain_mr", PAPER, most)
    # But for features, which are numbers of every image.
    few, many = (asked("extract_features", "brain_mr", PAPER, each) for each in (more, most))
    assert many - few == pytest.approx(9 * 10**6 * 2 * 4 * 2280 / 1e6, rel=1e-6)


def test_volumes_follow_their_settings():
    whole = asked("tabulate_volumes", "ct_sgan", PAPER)
    assert 2_000 < whole <= 4_000
    fewer = asked("tabulate_volumes", "ct_sgan", PAPER, {"studies": {"ct_sgan": {"fidelity": {"positions": 16}}}})
    assert whole - 1200 == pytest.approx(2 * (fewer - 1200), abs=2)
    # All training volumes: 900 of 224^3, int16.
    volumes = 2 * 900 * 224**3 / 1e6
    assert 1.0 < asked("train_volume_gan", "ct_sgan", PAPER, gan="ct_sgan") / volumes < 1.3
    # Each process has its own libraries and networks, and works on a volume.
    shard = {"gan": "ct_sgan", "gan_seed": "0", "shard": "0"}
    pools = [asked("synthesize_volumes", "ct_sgan", PAPER, threads=threads, **shard) for threads in (2, 8)]
    assert pools[1] - pools[0] == pytest.approx(6 * (1200 + 600 + 30 * 224**3 / 1e6), rel=0.01)
    demo = [asked("synthesize_volumes", "ct_sgan", threads=threads, **shard) for threads in (2, 8)]
    assert demo[0] == demo[1]  # of so few one process makes all


def test_a_gpu_spares_main_memory():
    for rule, study, wildcards in (
        ("train_gan", "brain_mr", {"gan": "pggan"}),
        ("train_nodule_gan", "ct_sgan", {"network": "injector"}),
        ("train_detector", "ct_sgan", {}),
    ):
        gpu, cpu = (asked(rule, study, PAPER, on_gpu=on_gpu, **wildcards) for on_gpu in (True, False))
        assert gpu < cpu, rule


def test_what_only_makes_tables_takes_little():
    assert asked("score", "head_ct") == job_mb("compare_with_papers", None, {}, 1, False) <= 1000
    real = {"data_roots": {"brain_mr": str(ROOT)}}
    assert asked("plot_gan", "brain_mr", real) - asked("plot_gan", "brain_mr") == pytest.approx(0.75 * HELD, abs=1)
