"""The sweep: shares in order, the intervals as they are, and `real` as the line they are judged against."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from scangan.arms import sweep
from scangan.data.split import draw_share
from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.classifier_metrics import metrics_of
from scangan.metrics.scores import score_arms
from scangan.report import style
from scangan.report.share_figure import accuracy_over_share, share_of, share_table
from scangan.report.tables import to_markdown

SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)
ARMS = ("real+synthetic-x4", "real", "real+synthetic-x0.5", "real+synthetic-x2", "real+synthetic-x0.25")
ARMS += ("real+synthetic-x1", "real+classical")
FACTS = Facts("brain_mr", "phantom", "demo", pretrained="none")
REAL_IMAGES = pd.Series({"tumour": 77, "healthy": 43})


def scores(arms=ARMS):
    """Scores as they come from predictions, of two seeds; more synthetic images make them worse."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3 > 0
    predictions = {}
    for arm in arms:
        noise = 0.5 * (share_of(arm) or 0)
        logits = [4 * (label - 0.5) + (1 + noise) * rng.normal(size=60) for _ in range(2)]
        table = {"image_id": [f"i{n:02}" for n in range(60)], "patient_id": [f"p{n // 2:02}" for n in range(60)]}
        table = pd.DataFrame(table | {"label": np.where(label, "tumour", "healthy"), "split": "test"})
        predictions[arm] = [table.assign(probability=1 / (1 + np.exp(-each))) for each in logits]
    return score_arms(predictions, "tumour")


@pytest.fixture
def drawn(monkeypatch):
    found = []
    savefig = style.Figure.savefig
    monkeypatch.setattr(
        style.Figure, "savefig", lambda self, *arguments: found.append(self) or savefig(self, *arguments)
    )
    return found


def test_the_share_of_real_is_zero_and_other_arms_have_none():
    arms = ("real", "real+synthetic-x0.25", "real+synthetic-x10", "synthetic-x3")
    assert [share_of(arm) for arm in arms] == [0, 0.25, 10, 3]
    assert [share_of(arm) for arm in ("synthetic", "real+synthetic", "real+classical")] == [None] * 3


def test_the_table_has_a_row_a_share_and_metric():
    found = scores()
    table = share_table(found, REAL_IMAGES, FACTS)
    assert ", ".join(table.columns) == (
        "study, share, synthetic_images, metric, value, ci_low, ci_high, seeds, cases, data, scale, pretrained"
    )
    assert list(table["share"].unique()) == [0, *SHARES]
    assert list(table["synthetic_images"].unique()) == [0, 30, 60, 120, 240, 480]  # 19 + 11, 38 + 22, ...
    assert list(table["metric"][:5]) == metrics_of("shares")
    row = found[(found["arm"] == "real+synthetic-x2") & (found["metric"] == "auc")].iloc[0]
    ours = table[(table["share"] == 2) & (table["metric"] == "auc")].iloc[0]
    for column in ("value", "ci_low", "ci_high"):
        assert ours[column] == row[column]


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 3])
def test_the_table_counts_the_images_that_are_drawn(share):
    labels = np.repeat(REAL_IMAGES.index, REAL_IMAGES)
    real = ImageSet(np.zeros((120, 1, 1, 1)), pd.DataFrame({"label": labels}))
    found = scores(("real", *(arm.name for arm in sweep([share], of_volumes=False))))
    table = share_table(found, real.manifest["label"].value_counts(), FACTS)
    drawn = draw_share(ImageSet.concatenate([real] * 4), real, share, seed=0)
    assert list(table["synthetic_images"].unique()) == [0, len(drawn)]


def test_the_table_is_printed_by_share():
    table = share_table(scores(), REAL_IMAGES, FACTS)
    lines = to_markdown(table, index="share").splitlines()
    assert lines[0] == "**brain_mr; phantom data, demo scale; 60 test images; seeds: 2; pretrained: none**"
    assert [line.split("|")[1:3] for line in lines[4:10]] == [
        [f" {share:<7} ", f" {count:<18} "]
        for share, count in zip((0.0, *SHARES), (0, 30, 60, 120, 240, 480), strict=True)
    ]
    assert lines[2].replace(" ", "") == "|share|syntheticimages|accuracy|sensitivity|specificity|f1|auc|"
    assert "p = " not in "\n".join(lines)


def test_the_figure_shows_scores_and_intervals(tmp_path, drawn):
    found = scores()
    accuracy_over_share(found, tmp_path / "share.png", FACTS)
    (path,) = tmp_path.iterdir()
    assert imread(path).std() > 0.01
    (figure,) = drawn
    assert figure.get_supxlabel() == "phantom data, demo scale; brain_mr"
    assert [ax.get_title() for ax in figure.axes] == ["accuracy", "sensitivity", "specificity"]
    for ax in figure.axes:
        of_metric = found[found["metric"] == ax.get_title()].set_index("arm")
        in_order = of_metric.loc[[f"real+synthetic-x{share:g}" for share in SHARES]]
        line, points = ax.lines
        assert set(line.get_ydata()) == {of_metric["value"]["real"]}
        assert points.get_xdata().tolist() == list(SHARES)
        assert points.get_ydata().tolist() == in_order["value"].tolist()
        band, bars = ax.collections
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == tuple(of_metric.loc["real", ["ci_low", "ci_high"]])
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        assert ends == in_order[["ci_low", "ci_high"]].to_numpy().tolist()
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.25", "0.5", "1", "2", "4"]
        assert ax.get_xscale() == "log"


def test_one_share_is_enough(tmp_path, drawn):
    accuracy_over_share(scores(("real", "real+synthetic-x1")), tmp_path / "share.pdf", FACTS)
    assert drawn[0].axes[0].lines[1].get_xdata().tolist() == [1]


@pytest.mark.parametrize("arms", [("real", "synthetic"), ("real+synthetic-x1", "real+synthetic-x2")])
def test_without_real_or_a_share_there_is_no_figure(tmp_path, arms):
    with pytest.raises(DataError, match=r"scores: arm: found .*, allowed: real and at least one real\+synthetic-x<"):
        accuracy_over_share(scores(arms), tmp_path / "share.png", FACTS)
    assert not list(tmp_path.iterdir())
