"""The map of the embedding shows every image in the panel of its kind, in the colour of its class."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.image import imread

from scangan.facts import Facts
from scangan.report import style
from scangan.report.embedding_figure import embedding_map
from scangan.report.style import BLUE, VERMILION

FACTS = Facts("brain_mr", "phantom", "demo")
COUNTS = {"real": 12, "classical": 7, "synthetic": 9}


@pytest.fixture
def drawn(monkeypatch):
    """The figures drawn in a test."""
    figures = []
    savefig = style.Figure.savefig
    monkeypatch.setattr(
        style.Figure, "savefig", lambda self, *arguments: figures.append(self) or savefig(self, *arguments)
    )
    return figures


def table(labels, spaces=("classifier", "raw images")):
    rng = np.random.default_rng(0)
    rows = [
        (space, f"{kind}/{label}")
        for space in spaces
        for kind, count in COUNTS.items()
        for label in labels
        for _ in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["space", "category"])
    return frame.assign(x=rng.normal(size=len(rows)), y=rng.normal(size=len(rows)))


@pytest.mark.parametrize("labels", [("tumour", "non-tumour"), ("covid", "other")])
def test_each_panel_shows_one_kind_over_all_others(tmp_path, drawn, labels):
    points = table(labels)
    embedding_map(points, tmp_path / "map.png", FACTS)
    assert imread(tmp_path / "map.png").std() > 0.01
    (figure,) = drawn
    assert figure.get_supxlabel() == "phantom data, demo scale; brain_mr"
    assert len(figure.axes) == 6
    kinds = points["category"].str.split("/").str[0]
    for place, ax in enumerate(figure.axes):
        space, kind = ("classifier", "raw images")[place // 3], list(COUNTS)[place % 3]
        assert kind in ax.get_title(loc="left")
        assert ax.get_ylabel() == ("" if place % 3 else f"space of the {space}")
        others, *shown = ax.collections
        here = points["space"] == space
        assert others.get_offsets().tolist() == points.loc[here & (kinds != kind), ["x", "y"]].to_numpy().tolist()
        colours = {}
        for label, collection in zip(sorted(labels), shown, strict=True):
            assert collection.get_label() == f"{label}, {COUNTS[kind]}"
            own = points[here & (points["category"] == f"{kind}/{label}")]
            assert collection.get_offsets().tolist() == own[["x", "y"]].to_numpy().tolist()
            colours[label] = tuple(collection.get_facecolor()[0][:3])
        assert colours == dict(zip(sorted(labels), (to_rgba(BLUE)[:3], to_rgba(VERMILION)[:3]), strict=True))


def test_the_panels_of_a_space_have_the_same_axes(tmp_path, drawn):
    points = table(("a", "b"))
    points.loc[points["space"] == "raw images", ["x", "y"]] *= 50
    embedding_map(points, tmp_path / "map.png", Facts("brain_mr", "real", "paper"))
    limits = [(*ax.get_xlim(), *ax.get_ylim()) for ax in drawn[0].axes]
    assert len(set(limits[:3])) == len(set(limits[3:])) == 1
    assert limits[3][1] > 10 * limits[0][1]


def test_one_space_is_one_row(tmp_path, drawn):
    embedding_map(table(("a", "b"), spaces=("raw images",)), tmp_path / "map.svg", FACTS)
    assert len(drawn[0].axes) == 3


def test_long_names_of_classes_leave_the_panels_their_room(tmp_path, drawn):
    embedding_map(
        table(("suspicious-of-malignancy", "no_abnormality_found")),
        tmp_path / "map.png",
        Facts("brain_mr", "real", "paper"),
    )
    assert all(ax.get_position().width > 0.25 for ax in drawn[0].axes)
