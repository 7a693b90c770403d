"""Figures of volumes show the right slices and numbers; tables have their columns; the GIF opens and is small."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from PIL import Image

from scangan.arms import ARMS
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.report import style
from scangan.report.classification_tables import sizes_table
from scangan.report.tables import FIDELITY_COLUMNS, REFERENCE_INTERVAL
from scangan.report.volume_figures import (
    MIDDLE,
    REGIONS,
    consistency_figure,
    detection_figure,
    middle_figure,
    planes_figure,
    regions_figure,
    scroll_gif,
)
from scangan.report.volume_tables import consistency_table, volume_fidelity_note, volume_fidelity_table

FACTS = Facts("ct_sgan", "phantom", "demo")
SHOWN = ("real", "synthetic", "synthetic-then-real")


@pytest.fixture
def drawn(monkeypatch):
    found = []
    savefig = style.Figure.savefig
    monkeypatch.setattr(
        style.Figure, "savefig", lambda self, *arguments: found.append(self) or savefig(self, *arguments)
    )
    return found


def volume(offset=0, size=20):
    """Each voxel tells its place."""
    z, y, x = np.indices((size,) * 3)
    return (20 * z + 5 * y + x + offset - 900).astype(np.int16)


def check(path, drawn, footer):
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert imread(path).std() > 0.01
    assert drawn[0].get_supxlabel() == footer


def picture(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def test_three_planes_of_each_source(tmp_path, drawn):
    sources = {"real": volume(), "ct_sgan": volume(50), "gan3d": volume(90)}
    planes_figure(sources, tmp_path / "planes.png", FACTS, window=(-900, 100))
    check(tmp_path / "planes.png", drawn, "phantom data, demo scale; ct_sgan")
    axes = np.array(drawn[0].axes).reshape(3, 3)
    assert [ax.get_title() for ax in axes[0]] == list(sources)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["axial", "coronal", "sagittal"]
    for column, own in zip(axes.T, sources.values(), strict=True):
        np.testing.assert_array_equal(picture(column[0]), own[10])
        np.testing.assert_array_equal(picture(column[1]), own[::-1, 10])  # the head is up
        np.testing.assert_array_equal(picture(column[2]), own[::-1, :, 10])
        assert {ax.images[0].get_clim() for ax in column} == {(-900, 100)}


@pytest.mark.parametrize(
    ("figure", "places"),
    [(middle_figure, [int(20 * height) for height in MIDDLE]), (regions_figure, [int(20 * part) for part in REGIONS])],
)
def test_mosaics_show_the_same_heights_of_each_source(tmp_path, drawn, figure, places):
    sources = {name: [volume(300 * n + offset) for n in range(2)] for offset, name in enumerate(("real", "a", "b"))}
    figure(sources, tmp_path / "mosaic.png", Facts("ct_sgan", "real", "paper"))
    assert drawn[0].get_supxlabel().startswith("real data, paper scale; rows: ")
    assert drawn[0].get_supxlabel().endswith("; ct_sgan")
    assert [ax.get_title() for ax in drawn[0].axes] == ["real", "a", "b", ""]
    for ax, own in zip(drawn[0].axes, sources.values(), strict=False):
        tiles = [
            picture(ax)[top : top + 20, left : left + 20]
            for top, left in np.ndindex(picture(ax).shape)
            if top % 22 == left % 22 == 0
        ]
        order = (
            [(n, z) for z in places for n in range(2)]
            if figure is middle_figure
            else [(n, z) for n in range(2) for z in places]
        )
        assert len(tiles) == len(order)
        for tile, (n, z) in zip(tiles, order, strict=True):
            np.testing.assert_array_equal(tile, own[n][z])
        assert np.isnan(picture(ax)[20:22]).all()
    assert places == sorted(places, reverse=True)  # the head first


def descriptions(rng, count, difference, check=""):
    profile = rng.normal(difference, 1, (count, 11))
    profile[:, 0] = np.nan
    return pd.DataFrame(
        {
            "difference_axial_hu": np.nanmean(profile, axis=1),
            "axial_differences_hu": profile.tolist(),
            "lung_volume_ml": rng.normal(5000, 500, count),
            "lung_check": check,
            "two_lungs": np.arange(count) % 4 < 3,
        }
    )


def test_distributions_and_profiles_of_each_source(tmp_path, drawn):
    rng = np.random.default_rng(0)
    sources = {"real": descriptions(rng, 8, 30), "ct_sgan": descriptions(rng, 12, 33)}
    sources["real"].to_parquet(kept := tmp_path.with_suffix(".parquet"))
    sources["real"] = pd.read_parquet(kept)
    consistency_figure(sources, tmp_path / "consistency.png", FACTS)
    check(tmp_path / "consistency.png", drawn, "phantom data, demo scale; ct_sgan")
    differences, lungs, profiles = drawn[0].axes
    for number, rows in enumerate(sources.values()):
        for ax, values in ((differences, rows.difference_axial_hu), (lungs, rows.lung_volume_ml / 1000)):
            x, y = ax.lines[number].get_data()
            np.testing.assert_allclose(x[1:], np.sort(values))
            np.testing.assert_allclose(y[1:], np.arange(1, len(values) + 1) / len(values))
        x, y = profiles.lines[number].get_data()
        np.testing.assert_allclose(x, np.arange(1, 12) / 12)
        np.testing.assert_allclose(y, np.median(np.array(rows.axial_differences_hu.tolist()), axis=0))
        assert np.isnan(y).tolist() == [True] + [False] * 10  # the lowest pair shows no body
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["real (8 volumes, 75% with two lungs)", "ct_sgan (12 volumes, 75% with two lungs)"]


def test_a_network_without_lungs_or_body_is_drawn_as_far_as_it_goes(tmp_path, drawn):
    rng = np.random.default_rng(0)
    nothing = descriptions(rng, 3, 0, check="no body").assign(
        difference_axial_hu=np.nan, axial_differences_hu=[[np.nan] * 11] * 3
    )
    sources = {"real": descriptions(rng, 4, 30), "noise": nothing}
    consistency_figure(sources, tmp_path / "consistency.png", FACTS)
    assert [len(ax.lines) for ax in drawn[0].axes] == [1, 1, 2]


def scores(arms=SHOWN, diameters=(np.nan, 6.0, 8.0, 16.0), cases=40):
    metrics = ("accuracy", "sensitivity", "specificity", "f1", "auc", "brier")
    rows = [
        (diameter, arm, metric, value := 0.5 + 0.01 * n + 0.02 * m, value - 0.1, value + 0.1, 3, cases)
        for m, diameter in enumerate(diameters)
        for n, arm in enumerate(arms)
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns="diameter_mm arm metric value ci_low ci_high seeds cases".split())


def test_accuracy_over_diameter_with_intervals(tmp_path, drawn):
    found = scores((*SHOWN, "synthetic-x0.5"))
    detection_figure(found, tmp_path / "detection.png", FACTS)
    check(tmp_path / "detection.png", drawn, "phantom data, demo scale; ct_sgan")
    (ax,) = drawn[0].axes
    chance, *lines = ax.lines
    assert set(chance.get_ydata()) == {0.5}
    assert [line.get_label() for line in lines] == list(SHOWN)
    assert "40 volumes" in ax.get_title(loc="left")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["6", "8", "16"]
    shown = found[(found.metric == "accuracy") & found.diameter_mm.notna()]
    for arm, line, bars in zip(SHOWN, lines, ax.collections, strict=True):
        rows = shown[shown.arm == arm]
        assert line.get_ydata().tolist() == rows.value.tolist()
        assert line.get_color() == ARMS[arm].colour
        assert np.abs(line.get_xdata() - rows.diameter_mm).max() < 1  # of two between 6 and 8
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        assert ends == rows[["ci_low", "ci_high"]].to_numpy().tolist()
        assert [segment[0, 0] for segment in bars.get_segments()] == line.get_xdata().tolist()
    places = np.array([line.get_xdata() for line in lines])
    assert (np.diff(places, axis=0) > 0).all()  # apart


def test_one_diameter_is_enough_and_none_is_refused(tmp_path, drawn):
    detection_figure(scores(diameters=(10.0,)), tmp_path / "detection.png", Facts("ct_sgan", "real", "paper"))
    assert len(drawn[0].axes[0].lines) == 4
    with pytest.raises(DataError, match="scores: diameter_mm: found none"):
        detection_figure(scores(diameters=(np.nan,)), tmp_path / "none.png", Facts("ct_sgan", "real", "paper"))
    assert not (tmp_path / "none.png").exists()


def test_the_gif_goes_through_the_slices(tmp_path):
    scroll_gif(volume(), tmp_path / "scroll.gif", "synthetic volume, seed 7", window=(-900, -350))
    with Image.open(tmp_path / "scroll.gif") as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 20, (20, 20))
        assert gif.info["comment"] == b"synthetic volume, seed 7"
        assert gif.info["loop"] == 0  # for ever
        for place in range(20):
            gif.seek(place)
            expected = ((volume()[place] + 900) / 550).clip(0, 1) * 255
            assert np.abs(np.asarray(gif.convert("L")) - expected).max() < 255 / 31  # 32 greys


def test_the_gif_of_a_large_volume_is_small(tmp_path):
    """Noise is the worst case."""
    noise = np.random.default_rng(0).integers(-1000, 400, (128,) * 3).astype(np.int16)
    scroll_gif(noise, tmp_path / "scroll.gif", "synthetic")
    with Image.open(tmp_path / "scroll.gif") as gif:
        assert (gif.n_frames, gif.size) == (64, (128, 128))
    assert (tmp_path / "scroll.gif").stat().st_size < 1_000_000


def test_tables_have_their_columns(tmp_path):
    sizes = sizes_table(scores(), FACTS)
    assert ", ".join(sizes.columns) == (
        "study, arm, diameter_mm, metric, value, ci_low, ci_high, seeds, cases, data, scale"
    )
    assert sizes.metric.unique().tolist() == ["accuracy", "sensitivity", "specificity", "auc"]
    assert sizes.arm.drop_duplicates().tolist() == list(SHOWN)
    assert sizes[sizes.arm == "real"].diameter_mm.drop_duplicates().tolist()[1:] == [6, 8, 16]
    row = dict(variant="gan3d", metric="fid", value=9.0, plus_minus=2.0, ci_low=8.0, ci_high=10.0, images=5)
    facts = Facts("ct_sgan", "phantom", "demo", extractor="efficientnet-lite0")
    reference = {"reference": 3.0, "reference_low": np.nan, "reference_high": np.nan}
    table = volume_fidelity_table(pd.DataFrame([row | reference | {"plane": "axial"}]), facts)
    assert [name for name in table.columns if name != "plus_minus"] == [*FIDELITY_COLUMNS, *REFERENCE_INTERVAL]
    frd = row | reference | {"plane": "2.5d", "metric": "frd", "variant": "ct_sgan_projected"}
    table = volume_fidelity_table(pd.DataFrame([row | reference, frd]), facts)
    assert table["extractor"].tolist() == ["efficientnet-lite0", "radiomics"]
    note = volume_fidelity_note(table, "efficientnet-lite0")
    assert "slice position by slice position, of 5 volumes" in note
    assert note.endswith(
        "ct_sgan_projected: refused to efficientnet-lite0, against whose features the generator was trained; judged by "
        "radiomics instead."
    )
    assert "refused" not in volume_fidelity_note(table[:1], "efficientnet-lite0")
    assert table.iloc[0][["study", "plus_minus", "extractor", "scale"]].tolist() == [
        "ct_sgan",
        2.0,
        "efficientnet-lite0",
        "demo",
    ]
    copies = pd.DataFrame([row | {"metric": "two_lungs", "reference": 1.0}])
    assert consistency_table(copies, Facts("ct_sgan", "real", "paper")).iloc[0].tolist() == [
        *("ct_sgan", "gan3d", "two_lungs", 9.0, 8.0, 10.0, 5, 1.0, "real", "paper")
    ]
