"""Figures of edited nodules show the right planes, places and numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from scangan.facts import Facts
from scangan.report import nodule_edit_figures, style
from scangan.report.nodule_edit_figures import Edit, diameter_figure, find_edits, slice_figure, voi_figure

FACTS = Facts("ct_sgan", "phantom", "demo")


@pytest.fixture
def drawn(monkeypatch):
    """What a figure was given: footer, images, circles, titles, limits, points and their labels."""
    found = {}

    def spy(owner, method, kind):
        original, found[kind] = getattr(owner, method), []

        def record(self, *arguments, **options):
            found[kind].append((*arguments, options) if options else arguments)
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, method, record)

    spy(style.Figure, "supxlabel", "footer")
    for method, kind in (
        ("imshow", "image"),
        ("add_patch", "patch"),
        ("set_title", "title"),
        ("set_ylabel", "side"),
        ("set_xlim", "x"),
        ("set_ylim", "y"),
        ("scatter", "points"),
        ("fill_between", "band"),
    ):
        spy(Axes, method, kind)
    return found


def check(path, drawn, footer):
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert drawn["footer"][0][0] == footer
    assert imread(path).std() > 0.01


def test_vois_in_three_planes(tmp_path, drawn):
    z, y, x = np.indices((8, 8, 8)).astype(np.float32)
    voi = -900 + 100 * z + 10 * y + x
    rows = [(f"nodule {number}", {"before": voi, "after": voi + 100, "truth": voi}) for number in range(2)]
    voi_figure(rows, tmp_path / "vois.png", FACTS)
    check(tmp_path / "vois.png", drawn, "phantom data, demo scale; ct_sgan")
    assert len(drawn["image"]) == 6
    picture, options = drawn["image"][0]
    assert (options["vmin"], options["vmax"], picture.shape) == (-1000, 400, (8, 26))
    np.testing.assert_array_equal(picture[:, :8], voi[4])
    np.testing.assert_array_equal(picture[:, 9:17], voi[::-1, 4])  # the head is up
    np.testing.assert_array_equal(picture[:, 18:], voi[::-1, :, 4])
    assert np.isnan(picture[:, [8, 17]]).all()
    np.testing.assert_array_equal(drawn["image"][1][0], picture + 100)
    assert [title[0] for title in drawn["title"]] == ["before", "after", "truth"]
    assert [side[0] for side in drawn["side"]] == ["nodule 0", "nodule 1"]


def test_slices_with_the_place_marked(tmp_path, drawn):
    before = np.full((6, 40, 60), -850, np.int16) + np.arange(6, dtype=np.int16)[:, None, None]
    after = before + 300
    edits = [
        Edit("injected, 8.0 mm", before, after, (3.4, 20.0, 30.0), (2.5, 2.0, 1.0), 4.0),
        Edit("erased, 8.0 mm", after, before, (0.2, 2.0, 58.0), (2.5, 2.0, 1.0), 4.0),
    ]
    slice_figure(edits, tmp_path / "slices.png", Facts("ct_sgan", "real", "paper"))
    check(tmp_path / "slices.png", drawn, "real data, paper scale; ct_sgan")
    shown = [image[0][0, 0] for image in drawn["image"]]
    assert shown == [-847, -847, -547, -547, -550, -550, -850, -850]
    circles = [patch[0] for patch in drawn["patch"]]
    assert [circle.get_center() for circle in circles] == [(30, 20)] * 2 + [(58, 2)] * 2
    assert [(circle.width, circle.height) for circle in circles] == [(12, 6)] * 4  # 12 mm across, in voxels
    # 20 mm each way, moved into the scan.
    limits = {axis: [each for each in drawn[axis] if len(each) == 2] for axis in "xy"}  # those of images have options
    assert limits["x"] == [(10, 50)] * 2 + [(19.5, 59.5)] * 2
    assert limits["y"] == [(30, 10)] * 2 + [(19.5, -0.5)] * 2
    titles = [title[0] for title in drawn["title"][:4]]
    assert titles == ["before", "before, enlarged", "after", "after, enlarged"]
    assert [side[0] for side in drawn["side"]] == ["injected, 8.0 mm", "erased, 8.0 mm"]


def test_diameters_asked_and_measured(tmp_path, drawn):
    asked = np.array([6.0, 8.0, 10.0, 12.0])
    diameters = {"injected": (asked, np.array([6.6, np.nan, 11.0, 13.2])), "real": (asked, asked)}
    diameter_figure(diameters, tmp_path / "diameters.png", FACTS)
    check(tmp_path / "diameters.png", drawn, "phantom data, demo scale; ct_sgan")
    first, second = drawn["points"]
    np.testing.assert_array_equal(first[0], asked)
    np.testing.assert_array_equal(first[1], [6.6, 0, 11, 13.2])  # what was not found stands on the axis
    assert first[2]["label"] == "injected: n 4, median error 10%, 1 not found"
    assert second[2]["label"] == "real: n 4, median error 0%"
    line, low, high, _ = drawn["band"][0]
    np.testing.assert_allclose(low, 0.8 * line)
    np.testing.assert_allclose(high, 1.2 * line)
    assert line[-1] > 13.2


def test_diameters_of_nothing_found(tmp_path, drawn):
    diameter_figure({"injected": (np.array([8.0]), np.array([np.nan]))}, tmp_path / "d.png", FACTS)
    check(tmp_path / "d.png", drawn, "phantom data, demo scale; ct_sgan")
    assert drawn["points"][0][2]["label"] == "injected: n 1, median error 100%, 1 not found"


def test_the_largest_places_of_each_action_are_called_what_was_done_there(monkeypatch):
    actions = ["erase", "inject", "inject", "sham"]
    places = {f"{axis}_voxel": 1.0 for axis in "zyx"}
    done = pd.DataFrame({"scan_id": list("abcd"), "action": actions, "diameter_mm": [8.0, 6.0, 9.0, 7.0], **places})
    scans = pd.DataFrame({"scan_id": list("abcd"), "spacing_mm": 2.0})
    read = [({"scan_id": name}, np.full((3, 3, 3), number)) for number, name in enumerate("abcd")]
    monkeypatch.setattr(nodule_edit_figures, "read_scans", lambda paths, rows: read)
    edits = find_edits(done, scans, ["before"], ["after"], each=1)
    assert [edit.title for edit in edits] == [
        "erased, 8.0 mm",
        "injected, 9.0 mm",
        "sham: edited without a nodule, 7.0 mm",
    ]
    assert [int(edit.before.max()) for edit in edits] == [0, 2, 3]
