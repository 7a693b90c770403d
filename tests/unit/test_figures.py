"""Figures are written whole, say where their data come from, and show what they were given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from scangan.data.store import ImageSet
from scangan.facts import Facts
from scangan.report import gan_figures, style
from scangan.report.classification_figures import reliability, roc_curves
from scangan.report.gan_figures import (
    _mosaic,
    images_by_class,
    kept_and_discarded,
    middle_planes,
    side_by_side,
    training_curves,
)
from scangan.report.judge_figure import judged_sets


@pytest.fixture
def footers(monkeypatch):
    """The footers of the figures drawn in a test."""
    found = []
    original = style.Figure.supxlabel
    monkeypatch.setattr(
        style.Figure, "supxlabel", lambda self, text, **options: found.append(text) or original(self, text, **options)
    )
    return found


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2 == 1

    def seed():
        probability = 1 / (1 + np.exp(-2 * (label - 0.5) - rng.normal(size=40)))
        names = np.where(label, "haemorrhage", "normal")
        return pd.DataFrame({"label": names, "split": "test", "probability": probability})

    return {arm: [seed() for _ in range(2)] for arm in ("real", "real+synthetic")}


def check(folder, footers, footer):
    (path,) = folder.iterdir()
    assert footers == [footer]
    assert imread(path).std() > 0.01


def test_side_by_side(tmp_path, footers):
    images = np.random.default_rng(0).random((30, 1, 16, 16), dtype=np.float32)
    sets = {"normal": images, "haemorrhage": images[:3]}
    side_by_side(
        {"real": sets, "synthetic": sets},
        tmp_path / "samples.png",
        Facts("head_ct", "phantom", "demo"),
        "head_ct, dcgan32",
    )
    check(tmp_path, footers, "phantom data, demo scale; head_ct, dcgan32")


def test_kept_images_stand_beside_discarded_ones(tmp_path, footers, monkeypatch):
    values = np.arange(6, dtype=np.float32) / 6
    manifest = pd.DataFrame({"image_id": list("abcdef"), "label": ["tumour"] * 4 + ["normal"] * 2})
    images = ImageSet(values[:, None, None, None] * np.ones((6, 1, 8, 8), np.float32), manifest)
    verdicts = pd.DataFrame({"image_id": list("fedcbaz"), "kept": [True, True, False, False, True, True, True]})
    verdicts["decided_by"] = ["rule", "rule", "surplus", "rule", "hand", "rule", "rule"]
    shown = []
    original = gan_figures.side_by_side
    monkeypatch.setattr(
        gan_figures, "side_by_side", lambda columns, *rest: shown.append(columns) or original(columns, *rest)
    )
    kept_and_discarded(images, verdicts, tmp_path / "screening.png", Facts("brain_mr", "phantom", "demo"))
    check(tmp_path, footers, "phantom data, demo scale; brain_mr")
    found = {
        (title, label): sorted(np.round(each[:, 0, 0, 0] * 6).tolist())
        for title, classes in shown[0].items()
        for label, each in classes.items()
    }
    assert found == {
        ("kept", "tumour"): [0, 1],
        ("kept", "normal"): [4, 5],
        ("discarded", "tumour"): [2],  # d is surplus
        ("discarded", "normal"): [],
    }


def test_the_mosaic_holds_the_images_in_reading_order():
    images = np.arange(3, dtype=np.float32)[:, None, None, None] / 4 * np.ones((3, 1, 8, 8), np.float32)
    picture = _mosaic(images, 2)
    assert picture.shape == (17, 17, 1)
    assert [picture[0, 0, 0], picture[0, 16, 0], picture[16, 0, 0], picture[16, 16, 0]] == [0, 0.25, 0.5, 1]


def test_images_by_class_are_shuffled_but_not_mixed():
    images = np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32) / 40
    image_set = ImageSet(images, pd.DataFrame({"label": ["haemorrhage", "normal"] * 20}))
    found = images_by_class(image_set)
    assert list(found) == ["haemorrhage", "normal"]
    assert not np.array_equal(found["normal"], images[1::2])
    assert np.array_equal(np.sort(found["normal"], axis=0), images[1::2])


def test_training_curves(tmp_path, footers):
    steps = np.arange(120.0)
    columns = ("step", "epoch", "loss_d", "loss_g", "penalty", "d_real", "d_fake", "images_per_second")
    history = pd.DataFrame(dict.fromkeys(columns, steps)).assign(penalty=0.0)
    histories = {"dcgan32/normal": history, "dcgan32/haemorrhage": history[:1]}  # one of them hardly begun
    training_curves(histories, tmp_path / "curves.png", Facts("head_ct", "real", "paper"))
    check(tmp_path, footers, "real data, paper scale; head_ct")


@pytest.mark.parametrize("draw", [roc_curves, reliability])
def test_curves_of_classifiers(tmp_path, footers, predictions, draw):
    draw(predictions, tmp_path / "figure.png", Facts("head_ct", "real", "custom", positive="haemorrhage"))
    check(tmp_path, footers, "real data, custom scale; head_ct")


def judged(gans, sets=3):
    shares = [(f"{gan}/covid", str(number + 1), (number + 1) / 10, 100) for gan in gans for number in range(sets)]
    shares += [(f"{gan}/covid", "mean", 0.2, 100 * sets) for gan in gans]
    shares += [("real/covid", "mean", 0.8, 98), ("real/other", "mean", 0.1, 105)]
    table = pd.DataFrame(shares, columns=["variant", "set", "value", "images"])
    return table.assign(ci_low=table["value"] - 0.05, ci_high=table["value"] + 0.1)


@pytest.mark.parametrize("gans", [["plain"], ["plain", "augmented"], [f"gan{number}" for number in range(7)]])
def test_judged_sets(tmp_path, footers, monkeypatch, gans):
    drawn = []
    savefig = style.Figure.savefig
    monkeypatch.setattr(
        style.Figure, "savefig", lambda self, *arguments: drawn.append(self) or savefig(self, *arguments)
    )
    judged_sets(judged(gans), tmp_path / "judge.png", Facts("covid_ct", "phantom", "demo"))
    check(tmp_path, footers, "phantom data, demo scale; covid_ct")
    (ax,) = drawn[0].axes
    points = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert list(points.pop("real covid, 98 test images: 0.80")[:, 1]) == [0.8, 0.8]
    assert list(points.pop("real other, 105 test images: 0.10")[:, 1]) == [0.1, 0.1]
    assert list(points) == [f"{gan}/covid, mean: 0.20 [0.15, 0.30]" for gan in gans]
    for each in points.values():
        assert each[:, 1].tolist() == [0.1, 0.2, 0.3]
        assert each[:, 0].round().tolist() == [1, 2, 3]
    assert len({tuple(each[:, 0]) for each in points.values()}) == len(gans)  # side by side, none hides another
    assert ax.get_xlabel() == "set of 100 synthetic images"


def test_a_failed_figure_leaves_nothing(tmp_path, predictions):
    incomplete = {"real": [predictions["real"][0].drop(columns="probability")]}
    with pytest.raises(KeyError, match="probability"):
        roc_curves(incomplete, tmp_path / "figure.png", Facts("head_ct", "real", "demo", positive="haemorrhage"))
    assert not list(tmp_path.iterdir())


def test_volumes_are_shown_by_their_middle_planes_head_up():
    volume = np.zeros((1, 4, 4, 4), np.float32)
    volume[0, 3, 2, 2] = 1  # at the head
    volume[0, 2, 0, 1] = 0.5  # in the middle axial slice, in front
    (planes,) = middle_planes([volume])
    assert planes.shape == (1, 4, 12)
    axial, coronal, sagittal = np.split(planes[0], 3, axis=1)
    assert axial[0, 1] == 0.5
    assert coronal[0, 2] == sagittal[0, 2] == 1
    assert planes.sum() == 2.5
    # Strips three times as wide as they are high stand in fewer columns, so that all is about square.
    picture = _mosaic(np.zeros((12, 1, 4, 12)), 6)
    assert picture.shape[:2] == (6 * 5 - 1, 2 * 13 - 1)
