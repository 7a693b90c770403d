"""Arms are entries of one collection: their names, what they read, and that a new one costs its entry alone."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scangan.arms import (
    ARMS,
    Arm,
    ArmPhase,
    Training,
    arm_of_folder,
    arm_pattern,
    find_arm,
    find_training,
    place_of,
    sweep,
)
from scangan.config import Classifier, Evaluation
from scangan.data.store import ImageSet
from scangan.errors import ConfigError
from scangan.facts import Facts
from scangan.metrics.comparison import compare_arms
from scangan.metrics.convergence import count_steps
from scangan.metrics.scores import score_arms
from scangan.report import style
from scangan.report.classification_figures import roc_curves
from scangan.report.classification_tables import classification_table
from scangan.report.volume_figures import detection_figure
from scangan.training import supervised
from scangan.training.supervised import LabelledImages, phases_of, train_classifier

NEW = Arm(
    "real-then-both",
    (
        ArmPhase("real", ("real",), classical=True, share="pretrain_share"),
        ArmPhase("both", ("real", "synthetic"), rate="fine_tune_rate"),
    ),
    "#123456",
    of_volumes=True,
)
FACTS = Facts("head_ct", "phantom", "demo", pretrained="none", positive="sick")


@pytest.fixture
def new_arm():
    """A temporary arm, put between others."""
    arms = dict(ARMS)
    ARMS.clear()
    for name, arm in arms.items():
        ARMS[name] = arm
        if name == "real+classical":
            ARMS[NEW.name] = NEW
    yield NEW
    ARMS.clear()
    ARMS.update(arms)


def image_set(count, name, seed):
    random = np.random.default_rng(seed)
    labels = np.resize(["sick", "healthy"], count)
    images = random.random((count, 1, 16, 16), dtype=np.float32)
    ids = [f"{name}{number}" for number in range(count)]
    return ImageSet(images, pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels}))


def settings(**values):
    given = {"positive": "sick", "steps": 10, "batch_size": 4, "validate_every": 5, "patience": 100}
    return Classifier(**given | values)


def test_names_of_the_sweep_are_the_arm_that_it_varies_with_a_share():
    assert [arm.name for arm in sweep([0.25, 1, 2.0], of_volumes=False)] == [
        "real+synthetic-x0.25",
        "real+synthetic-x1",
        "real+synthetic-x2",
    ]
    assert [arm.name for arm in sweep([0.5], of_volumes=True)] == ["synthetic-x0.5"]
    for share in (0.125, 3.0, 1e-5, 1e7, 1.5e20):
        for of_volumes in (False, True):
            (arm,) = sweep([share], of_volumes)
            assert find_arm(arm.name) == arm
            assert re.fullmatch(arm_pattern(), arm.name)
            assert arm.synthetic_share == share
            assert arm.phases == ARMS["synthetic" if of_volumes else "real+synthetic"].phases


def test_every_arm_is_found_by_its_name():
    for name, arm in ARMS.items():
        assert find_arm(name) is arm
        assert arm.name == name
        assert arm.synthetic_share is None
        assert re.fullmatch(arm_pattern(), name)


@pytest.mark.parametrize("gan", ["projected_gan", "then-real", "net-x2", "0"])
def test_an_arm_of_a_further_network_is_the_same_with_its_images(gan):
    for name, arm in ARMS.items():
        if not arm.reads_synthetic:
            continue
        for varied in (arm, arm.with_share(0.5)):
            further = varied.of_gan(gan)
            assert further.name == f"{varied.name}:{gan}"
            assert find_arm(further.name) == arm_of_folder(further.folder) == further
            assert (further.gan, further.phases, further.synthetic_share) == (gan, arm.phases, varied.synthetic_share)
            assert (further.settings, further.control) == (arm.settings, arm.control)
            assert place_of(further.name) == place_of(name) == list(ARMS).index(name)
            # In paths without the colon, which file systems of other machines refuse.
            assert re.fullmatch(arm_pattern(), further.folder)
            assert ":" not in further.folder
            with pytest.raises(ConfigError, match="arm: found"):
                find_arm(further.folder)


@pytest.mark.parametrize(
    "name",
    [
        *("fake", "", "real+synthetic-x", "real+synthetic-xx1", "real+synthetic-x-1", "real-x2", "fake-x2"),
        *("real:gan", "real+copies:gan", "real+synthetic:", "real+synthetic:a:b", "real+synthetic:a/b"),
        "real+synthetic:gan-x0.5x:",
    ],
)
def test_a_name_that_is_no_arms_is_refused(name):
    with pytest.raises(ConfigError, match=re.escape(f"arm: found '{name}', allowed: real | real+classical | ")):
        find_arm(name)
    assert not re.fullmatch(arm_pattern(), name)


def test_what_arms_read():
    assert [name for name, arm in ARMS.items() if not arm.reads_synthetic] == ["real", "real+classical", "real+copies"]
    assert [name for name, arm in ARMS.items() if not arm.reads_real] == ["synthetic"]
    assert [name for name, arm in ARMS.items() if "classical" in arm.settings] == [
        "real+classical",
        "real+classical+synthetic",
    ]
    assert {name for name, arm in ARMS.items() if "real_share" in arm.settings} == {
        *("real+copies", "real+synthetic", "real+classical+synthetic")
    }
    assert [(name, arm.control) for name, arm in ARMS.items() if arm.control] == [("real+synthetic", "real+copies")]
    assert [name for name, arm in ARMS.items() if arm.reads_copies] == ["real+copies"]
    assert {name for name, arm in ARMS.items() if {"pretrain_share", "fine_tune_rate"} & arm.settings} == {
        "synthetic-then-real"
    }
    # The detectors of volumes have no classical augmentation.
    assert not [name for name, arm in ARMS.items() if arm.of_volumes and "classical" in arm.settings]
    assert len({arm.colour for arm in ARMS.values()}) == len(ARMS)


def test_classical_augmentation_is_of_real_images():
    with pytest.raises(ValueError, match="phase odd: found synthetic first, allowed with classical: real"):
        ArmPhase("odd", ("synthetic", "real"), classical=True)


def test_phases_read_their_sets_and_share_the_steps(new_arm):
    device = torch.device("cpu")
    real, generated = (LabelledImages.of(image_set(*of), "sick", device) for of in ((6, "r", 0), (8, "s", 1)))
    first, second = phases_of(new_arm, real, generated, settings(pretrain_share=0.3, fine_tune_rate=0.002))
    assert (first.name, first.steps, first.learning_rate, first.augmented) == ("real", 3, 0.001, range(6))
    assert (second.name, second.steps, second.learning_rate, second.augmented) == ("both", 7, 0.002, range(0))
    assert first.augment is not None
    assert second.augment is None
    of_real, of_both = (torch.cat(list(phase.data.batches(5))) for phase in (first, second))
    assert torch.equal(of_real, torch.cat(list(real.batches(6))))
    assert torch.equal(of_both, torch.cat([of_real, *generated.batches(8)]))


def test_a_new_arm_is_trained(new_arm, monkeypatch):
    monkeypatch.setattr(
        supervised, "build_classifier", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    )
    sets = {"real_train": image_set(8, "r", 0), "validation": image_set(6, "v", 1), "added": image_set(8, "s", 2)}
    trained = train_classifier(new_arm, **sets, settings=settings(), seed=0)
    assert list(trained.history["phase"]) == ["real", "both"]
    kept = settings().for_arm(new_arm.name)
    assert {"classical", "pretrain_share", "fine_tune_rate"} <= set(kept)


def predictions(arms):
    random = np.random.default_rng(0)
    label = np.arange(40) % 2 == 1
    names = [f"i{number:02}" for number in range(40)]
    table = {"image_id": names, "patient_id": names, "label": np.where(label, "sick", "healthy"), "split": "test"}
    return {arm: [pd.DataFrame(table | {"probability": random.random(40)}) for _ in range(2)] for arm in arms}


@pytest.fixture
def drawn(monkeypatch):
    found = []
    savefig = style.Figure.savefig
    monkeypatch.setattr(
        style.Figure, "savefig", lambda self, *arguments: found.append(self) or savefig(self, *arguments)
    )
    return found


def test_a_new_arm_stands_in_tables_and_figures(new_arm, drawn, tmp_path):
    found = predictions(["synthetic", new_arm.name, "real+classical", "real"])
    scores = score_arms(found, "sick")
    validation = {arm: [pd.concat([each, each.assign(split="validation")]) for each in found[arm]] for arm in found}
    comparisons = compare_arms(validation, "sick", Evaluation())
    steps = count_steps({arm: [pd.DataFrame({"step": [5, 10]})] for arm in found})
    table = classification_table(scores, comparisons, steps, {}, FACTS)
    assert list(table["arm"].unique()) == ["real", "real+classical", new_arm.name, "synthetic"]
    against = table.dropna(subset="difference").groupby("arm")["against"].unique().map(list).to_dict()
    assert against == {"synthetic": ["real"], new_arm.name: ["real+classical"]}  # it augments its real images
    roc_curves(found, tmp_path / "roc.png", FACTS)
    colours = {line.get_label().partition(",")[0]: line.get_color() for line in drawn[0].axes[0].lines}
    assert colours[new_arm.name] == new_arm.colour
    detection_figure(scores.assign(diameter_mm=8.0), tmp_path / "detection.png", FACTS)
    colours = {line.get_label(): line.get_color() for line in drawn[1].axes[0].lines}
    assert colours[new_arm.name] == new_arm.colour


def test_a_study_asks_for_a_new_arm_by_its_name():
    """In a process of its own, for the configuration's model is made when it is imported."""
    code = f"""
from scangan.arms import ARMS, Arm, ArmPhase
ARMS[{NEW.name!r}] = {NEW!r}
from scangan.config import VOLUME_ARMS, Classifier
assert {NEW.name!r} in VOLUME_ARMS
assert {NEW.name!r} not in Classifier(positive="sick", steps=1).arms
assert Classifier(positive="sick", steps=1, arms=["real", {NEW.name!r}]).arms == ["real", {NEW.name!r}]
"""
    run = subprocess.run([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE)
    assert run.returncode == 0, run.stderr


def test_an_arm_of_a_further_network_stands_beside_its_like_and_is_dashed(drawn, tmp_path):
    further = "real+synthetic:projected_gan"
    found = predictions(["synthetic-then-real", "synthetic", "real+synthetic", further, "real"])
    scores = score_arms(found, "sick")
    comparisons = compare_arms(found, "sick", Evaluation())
    steps = count_steps({arm: [pd.DataFrame({"step": [5, 10]})] for arm in found})
    table = classification_table(scores, comparisons, steps, {further: 1}, FACTS)
    assert list(table["arm"].unique()) == ["real", "synthetic", "real+synthetic", further, "synthetic-then-real"]
    assert set(table.loc[table["arm"] == further, "against"]) == {"real"}
    assert table.loc[table["converged"] == "no", "arm"].unique() == [further]
    roc_curves(found, tmp_path / "roc.png", FACTS)
    lines = {line.get_label().partition(", AUC")[0]: line for line in drawn[0].axes[0].lines}
    assert lines[further].get_color() == lines["real+synthetic"].get_color() == ARMS["real+synthetic"].colour
    assert (lines[further].get_linestyle(), lines["real+synthetic"].get_linestyle()) == ("--", "-")


@pytest.mark.parametrize(
    ("training", "name"), [(Training(0), "seed0"), (Training(12), "seed12"), (Training(1, 10), "gan_seed10-seed1")]
)
def test_a_training_is_found_by_its_name(training, name):
    assert training.name == name
    assert find_training(name) == training


@pytest.mark.parametrize("name", ["seed", "seed1x", "gan_seed1", "gan_seed1-seed", "seed1-gan_seed1", ""])
def test_other_names_are_no_trainings(name):
    with pytest.raises(ConfigError, match=f"training: found '{name}', allowed: seed<number>"):
        find_training(name)
