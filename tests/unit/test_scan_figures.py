"""The contact sheet shows the right slice with its outlines; distributions are drawn and tabulated as they are."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from scangan.facts import Facts
from scangan.report import style
from scangan.report.scan_figures import COUNT, OUTLINE, RADIUS, contact_sheet, distribution_table, nodule_distributions

FACTS = Facts("simple_ct_gan", "phantom", "demo")
KINDS = {"LIDC database": "real", "cohort": "phantom"}
SOURCES = {
    "LIDC database": {
        COUNT: np.array([0, 1, 1, 2, 6]),
        RADIUS: np.linspace(2, 12, 10),
        OUTLINE: np.linspace(3, 16, 10),
    },
    "cohort": {COUNT: np.array([3]), RADIUS: np.array([2.0, 4.0, 9.0]), OUTLINE: np.array([3.0, 5.0, 12.0])},
}


def scan(number=0, nodules=(), check="", lungs=True):
    """Lungs that are widest in slice 4, each slice as bright as its number; nodules: (slice, half their edge)."""
    hounsfield = np.full((10, 40, 50), -1000, np.int16) + 100 * np.arange(10, dtype=np.int16)[:, None, None]
    mask, labels = np.zeros(hounsfield.shape, np.uint8), np.zeros(hounsfield.shape, np.uint8)
    if lungs:
        for height in range(1, 8):
            mask[height, 10:30, 20 - 4 + abs(4 - height) : 30 + 4 - abs(4 - height)] = 1
    for label, (height, edge) in enumerate(nodules, 1):
        labels[height, 20 - edge : 20 + edge, 25 - edge : 25 + edge] = label
    diameter = 2.0 * max((edge for _, edge in nodules), default=np.nan)
    row = {
        "scan_id": f"scan-{number}",
        "nodules": len(nodules),
        "lung_check": check,
        "equivalent_diameter_mm": diameter,
    }
    return row, hounsfield, mask, labels


@pytest.fixture
def drawn(monkeypatch):
    """What a figure was given: footer, images, outlines, titles and texts."""
    found = {"footer": [], "image": [], "outline": [], "title": [], "text": []}

    def spy(owner, method, kind, pick):
        original = getattr(owner, method)

        def record(self, *arguments, **options):
            found[kind].append(arguments[pick])
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, method, record)

    spy(style.Figure, "supxlabel", "footer", 0)
    spy(Axes, "imshow", "image", 0)
    spy(Axes, "contour", "outline", 0)
    spy(Axes, "set_title", "title", 0)
    spy(Axes, "text", "text", 2)
    return found


def check(path, drawn, footer):
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert drawn["footer"] == [footer]
    assert imread(path).std() > 0.01


def test_each_scan_shows_its_largest_nodule_or_its_widest_lungs(tmp_path, drawn):
    scans = [scan(0, nodules=[(2, 2), (6, 5)]), scan(1), scan(2, lungs=False), scan(3, nodules=[(7, 1)])]
    contact_sheet(iter(scans), tmp_path / "scans.png", FACTS)
    check(tmp_path / "scans.png", drawn, "phantom data, demo scale; simple_ct_gan")
    assert [image[0, 0] for image in drawn["image"]] == [-400, -600, -500, -300]
    assert drawn["title"] == [
        "scan-0\n2 nodules, 10.0 mm",
        "scan-1\nno nodule",
        "scan-2\nno nodule",
        "scan-3\n1 nodule, 2.0 mm",
    ]
    # Lungs and nodule; lungs alone; neither; both.
    assert [outline.sum() for outline in drawn["outline"]] == [20 * 14, 100, 20 * 18, 20 * 12, 4]
    assert drawn["text"] == []


def test_failed_masks_and_scans_without_annotations_are_named(tmp_path, drawn):
    failed = scan(0, check="one lung: 100 % of the volume on one side of the body")
    unknown = scan(1)
    unknown[0]["nodules"] = np.nan
    contact_sheet([failed, unknown], tmp_path / "scans.png", Facts("simple_ct_gan", "real", "paper"))
    assert [text.replace("\n", " ") for text in drawn["text"]] == [
        "lung mask failed: one lung: 100 % of the volume on one side of the body"
    ]
    assert drawn["title"] == ["scan-0\nno nodule", "scan-1\nnot annotated"]


def test_a_long_cohort_is_read_no_further_than_shown(tmp_path, drawn):
    def scans():
        for number in range(9):
            yield scan(number)
        raise AssertionError("one scan too many was read")

    contact_sheet(scans(), tmp_path / "scans.png", FACTS, most=8)
    assert len(drawn["image"]) == 8


def test_distributions(tmp_path, drawn, monkeypatch):
    bars = []
    original = Axes.hist

    def hist(self, *arguments, **options):
        heights, edges, patches = original(self, *arguments, **options)
        bars.append((options["label"], heights, edges))
        return heights, edges, patches

    monkeypatch.setattr(Axes, "hist", hist)
    nodule_distributions(SOURCES, KINDS, tmp_path / "nodules.png", FACTS)
    check(tmp_path / "nodules.png", drawn, "real and phantom data, demo scale; simple_ct_gan")
    labels = [label for label, _, _ in bars]
    assert labels == [
        "LIDC database, real (5 scans)",
        "cohort, phantom (1 scans)",
        *2 * ["LIDC database, real (10 nodules)", "cohort, phantom (3 nodules)"],
    ]
    for _, heights, _ in bars:
        assert heights.sum() == pytest.approx(100)
    _, heights, edges = bars[0]
    np.testing.assert_allclose(heights, [20, 40, 20, 0, 0, 0, 20])
    np.testing.assert_allclose(edges, np.arange(-0.5, 7))


def test_distributions_of_a_cohort_without_nodules(tmp_path, drawn):
    empty = {COUNT: np.array([0, 0]), RADIUS: np.array([]), OUTLINE: np.array([])}
    sources = {**SOURCES, "cohort": empty}
    nodule_distributions(sources, KINDS, tmp_path / "nodules.png", FACTS)
    check(tmp_path / "nodules.png", drawn, "real and phantom data, demo scale; simple_ct_gan")
    table = distribution_table(sources, KINDS, FACTS)
    radius = table[(table.source == "cohort") & (table.quantity == RADIUS)].set_index("statistic").value
    assert radius["n"] == 0
    assert radius.drop("n").isna().all()


def test_the_table_has_the_numbers_behind_the_figure():
    table = distribution_table(SOURCES, KINDS, FACTS)
    assert table.columns.tolist() == ["study", "source", "quantity", "statistic", "value", "data", "scale"]
    assert len(table) == 2 * 3 * 8
    assert set(table.study) == {"simple_ct_gan"}
    assert set(zip(table.source, table.data, strict=True)) == {("LIDC database", "real"), ("cohort", "phantom")}
    values = table.set_index(["source", "quantity", "statistic"]).value
    assert values["LIDC database", COUNT, "n"] == 5
    assert values["LIDC database", COUNT, "mean"] == 2
    assert values["LIDC database", COUNT, "sd"] == pytest.approx(np.sqrt(22 / 4))
    assert values["LIDC database", RADIUS, "median"] == pytest.approx(7)
    assert values["LIDC database", RADIUS, "q05"] == pytest.approx(2.5)
    assert values["cohort", RADIUS, "q95"] == pytest.approx(8.5)
    assert pd.isna(values["cohort", COUNT, "sd"])
