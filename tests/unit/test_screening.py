"""What the rule keeps and discards, what a hand overrules, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from scangan.config import Screening
from scangan.data.screened import count_screened, kept_images, read_screened
from scangan.data.store import ImageSet, write_image_set
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.feature_sets import Features, FeatureSet
from scangan.metrics.features import extract
from scangan.metrics.screening import neighbour_distance, screen
from scangan.report.screening_table import NOTE, note_of, screening_table
from scangan.report.tables import FIDELITY_COLUMNS, to_markdown, write_table

SETTINGS = Screening(neighbours=3, quantile=0.9, most_discarded=1)
FACTS = Facts("brain_mr", "phantom", "demo", extractor="efficientnet-lite0")


def feature_set(kind, **features):
    """class -> features [N] or [N, D]."""
    parts = []
    for label, values in features.items():
        flat = np.asarray(values, np.float32).reshape(len(values), -1)
        names = [f"{kind}-{label}-{number}" for number in range(len(flat))]
        parts.append(FeatureSet(Features(flat, flat), pd.DataFrame({"image_id": names, "label": label})))
    return FeatureSet.concatenate(parts)


def image_set(synthetic):
    """Images whose pixels are the features."""
    return ImageSet(synthetic.features.features[:, :, None, None], synthetic.manifest)


@pytest.fixture
def sets():
    """Tumours around 0, healthy ones around 100, five times as wide; the thresholds are 4.5 and 22.5 from 0 and 100.

    Three training images at one place: any distance is that to it. The 90% quantile of nine images is the largest.
    """
    held_out = np.arange(1, 10) / 2
    train = feature_set("t", tumour=[0] * 3, healthy=[100] * 3)
    validation = feature_set("v", tumour=held_out, healthy=100 + 5 * held_out)
    synthetic = feature_set("pggan", tumour=[4.4, -4.6, 0, 99], healthy=[78, 77, 123, 100])
    return train, validation, synthetic


def judge(sets, overrule=None, settings=SETTINGS):
    return screen(*sets, settings, overrule)


def overruling(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_images_beyond_the_threshold_of_their_own_class_are_discarded(sets):
    verdicts = judge(sets)
    assert list(verdicts.columns) == [
        "image_id",
        "label",
        "distance",
        "threshold",
        "limit",
        "expected",
        "kept",
        "decided_by",
    ]
    assert verdicts["image_id"].tolist() == sets[2].manifest["image_id"].tolist()
    assert verdicts["distance"].tolist() == pytest.approx([4.4, 4.6, 0, 99, 22, 23, 23, 0], abs=1e-4)
    assert verdicts["threshold"].tolist() == pytest.approx([4.5] * 4 + [22.5] * 4)
    assert verdicts["kept"].tolist() == [True, False, True, False, True, False, False, True]
    assert verdicts["kept"].dtype == bool
    assert (verdicts["decided_by"] == "rule").all()
    assert verdicts["expected"].tolist() == pytest.approx([0.1] * 8)


@pytest.mark.parametrize(
    ("most", "kept", "limits"),
    [
        (0, [True] * 8, [99, 23]),
        (0.25, [True, True, True, False, True, True, True, True], [4.6, 23]),
        (0.5, [True, False, True, False, True, False, False, True], [4.5, 22.5]),
        (1, [True, False, True, False, True, False, False, True], [4.5, 22.5]),
    ],
)
def test_of_a_class_at_most_a_share_is_discarded_the_farthest(sets, most, kept, limits):
    verdicts = judge(sets, settings=Screening(neighbours=3, quantile=0.9, most_discarded=most))
    assert verdicts["kept"].tolist() == kept
    assert verdicts["limit"].tolist() == pytest.approx([limits[0]] * 4 + [limits[1]] * 4)
    assert verdicts["threshold"].tolist() == pytest.approx([4.5] * 4 + [22.5] * 4)


def test_the_distance_is_that_to_the_kth_nearest():
    rng = np.random.default_rng(0)
    images, train = (rng.normal(size=(count, 6)).astype(np.float32) for count in (40, 25))
    sorted_distances = np.sort(cdist(images, train), axis=1)
    for neighbours in (1, 3, 25):
        found = neighbour_distance(images, train, neighbours)
        assert found == pytest.approx(sorted_distances[:, neighbours - 1], rel=1e-5)


def test_realistic_images_are_discarded_as_often_as_expected():
    """Also above the largest of the validation images: then `expected` is 1 / (m + 1)."""
    rng = np.random.default_rng(1)
    for quantile, expected in ((0.8, 0.2), (0.99, 1 / 20)):
        discarded = []
        for _ in range(60):
            sets = [feature_set(str(count), tumour=rng.normal(size=(count, 4))) for count in (30, 19, 40)]
            verdicts = judge(sets, settings=Screening(neighbours=3, quantile=quantile, most_discarded=1))
            assert verdicts["expected"].tolist() == pytest.approx([expected] * 40)
            discarded.append((~verdicts["kept"]).mean())
        assert np.mean(discarded) == pytest.approx(expected, abs=0.025)


def test_noise_is_discarded_and_a_fresh_image_is_kept():
    """With the features that the workflow takes."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]

    def discs(count):
        radius, level = rng.uniform(0.4, 0.9, (count, 1, 1)), rng.uniform(0.5, 0.9, (count, 1, 1))
        return level * (x**2 + y**2 < radius**2) + 0.05 * rng.random((count, 32, 32))

    def of(kind, images):
        images = images[:, None].astype(np.float32)
        return feature_set(kind, tumour=extract(images, "efficientnet-lite0", device="cpu").features)

    train, validation, fresh, noise = discs(16), discs(8), discs(4), rng.random((4, 32, 32))
    sets = of("t", train), of("v", validation), of("pggan", np.concatenate([fresh, noise]))
    verdicts = judge(sets, settings=Screening(neighbours=3, quantile=0.99, most_discarded=1))
    assert not verdicts["kept"][4:].any()
    assert verdicts["distance"][4:].min() > 1.5 * verdicts["threshold"][0]
    assert verdicts["kept"][:4].sum() >= 3


def test_a_hand_overrules_the_rule(sets, tmp_path):
    text = "\ufeffimage_id, note, kept\npggan-tumour-1,fine,Yes\npggan-tumour-2,ring,0\npggan-healthy-1,no, FALSE \n"
    verdicts = judge(sets, overruling(tmp_path / "overrule.csv", text))
    assert verdicts["kept"].tolist() == [True, True, False, False, True, False, False, True]
    assert verdicts["decided_by"].tolist() == ["rule", "hand", "hand", "rule", "rule", "hand", "rule", "rule"]
    nobody = judge(sets, overruling(tmp_path / "nobody.csv", "image_id,kept\n"))
    pd.testing.assert_frame_equal(nobody, judge(sets))


def test_no_more_are_kept_than_were_asked_for(sets, tmp_path):
    text = "image_id,kept\npggan-tumour-1,1\npggan-tumour-2,0\npggan-healthy-1,0\n"
    overrule = overruling(tmp_path / "overrule.csv", text)
    verdicts = judge(sets, overrule, SETTINGS.model_copy(update={"kept": 2}))
    assert verdicts["kept"].tolist() == [True, True, False, False, True, False, False, True]
    fewer = judge(sets, overrule, SETTINGS.model_copy(update={"kept": 1}))
    assert fewer["kept"].tolist() == [True, False, False, False, True, False, False, False]
    assert fewer["decided_by"].tolist() == ["rule", "surplus", "hand", "rule", "rule", "hand", "rule", "surplus"]
    # A surplus image is not an unrealistic one.
    tables = [screening_table({"pggan": each}, FACTS) for each in (verdicts, fewer)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image_id,kept\npggan-tumour-0,1\nother-tumour-0,1\nv-tumour-0,0\n",
            r"image_id: found unknown 'other-tumour-0' \(2 in all\), allowed: ids of synthetic images, such as "
            "pggan-tumour-0",
        ),
        ("image_id,kept\npggan-tumour-0,1\npggan-tumour-0,1\n", "image_id: found twice 'pggan-tumour-0'"),
        ("image_id,kept\npggan-tumour-0,maybe\n", r"kept: found 'maybe' \(1 in all\), allowed: true \| yes \| 1"),
        ("image_id,kept\npggan-tumour-0,\n", "kept: found ''"),
        ("image_id;kept\npggan-tumour-0;1\n", "columns: found image_id;kept, allowed: image_id, kept"),
        ("", "file: found No columns to parse from file, allowed: a CSV with the columns image_id, kept"),
    ],
)
def test_a_wrong_overruling_is_refused_by_name(sets, tmp_path, text, message):
    path = overruling(tmp_path / "overrule.csv", text)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        judge(sets, path)


def test_a_missing_overruling_is_refused_by_name(sets, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: file: found .*No such file"):
        judge(sets, tmp_path / "none.csv")


def test_classes_with_too_few_images_are_named(sets):
    train, validation, synthetic = sets
    few = train.select(np.arange(6) < 5)
    with pytest.raises(DataError, match=r"training images of class healthy: found 2, allowed: at least 3$"):
        judge((few, validation, synthetic))
    tumours = validation.select(np.arange(18) < 9)
    with pytest.raises(DataError, match=r"validation images of class healthy: found 0, allowed: at least 4$"):
        judge((train, tumours, synthetic))
    with pytest.raises(DataError, match="synthetic images: found 0, allowed: at least 1"):
        judge((train, validation, synthetic.select(np.zeros(8, bool))))


def test_a_quantile_that_so_few_images_cannot_give_is_logged(sets, caplog):
    judge(sets)
    assert not caplog.records
    judge(sets, settings=Screening(neighbours=3, quantile=0.99))
    line = "tumour: with 9 validation images about 0.100 of realistic images are discarded, not 0.010"
    assert [record.getMessage() for record in caplog.records].count(line) == 1


def test_a_class_that_has_no_synthetic_images_is_not_looked_at(sets):
    train, validation, synthetic = sets
    tumours = synthetic.select(np.arange(8) < 4)
    verdicts = judge((train.select(np.arange(6) < 3), validation, tumours))
    assert verdicts["kept"].tolist() == [True, False, True, False]


def test_kept_images_are_in_order(sets):
    verdicts, synthetic = judge(sets), image_set(sets[2])
    kept = kept_images(synthetic, verdicts[::-1])
    names = ["pggan-tumour-0", "pggan-tumour-2", "pggan-healthy-0", "pggan-healthy-3"]
    assert kept.manifest["image_id"].tolist() == names
    assert kept.images.ravel().tolist() == pytest.approx([4.4, 0, 78, 100])


def test_images_are_counted_without_being_read(sets, tmp_path):
    verdicts, synthetic = judge(sets), image_set(sets[2])
    rows = synthetic.manifest.assign(patient_id="", source="pggan", data="phantom")
    write_image_set(tmp_path / "s.zarr.zip", tmp_path / "s.parquet", ImageSet(synthetic.images, rows))
    verdicts.to_parquet(tmp_path / "verdicts.parquet")
    for files, left in (([], 4), ([tmp_path / "verdicts.parquet"], 2)):
        expected = {"tumour": left, "healthy": left}
        read = read_screened([tmp_path / "s.zarr.zip"], [tmp_path / "s.parquet"], files)
        assert read.manifest["label"].value_counts().to_dict() == expected
        assert count_screened([tmp_path / "s.parquet"], files) == expected


def test_foreign_verdicts_and_an_emptied_class_are_refused(sets):
    verdicts, synthetic = judge(sets), image_set(sets[2])
    with pytest.raises(
        DataError, match="found verdicts on 7 images for 8 synthetic ones, the first in one alone: pggan"
    ):
        kept_images(synthetic, verdicts[1:])
    renamed = verdicts.replace("pggan-tumour-0", "other-tumour-0")
    with pytest.raises(DataError, match=r"verdicts on 8 images .* alone: other-tumour-0, allowed: one on each"):
        kept_images(synthetic, renamed)
    with pytest.raises(DataError, match="verdicts on 9 images for 8"):
        kept_images(synthetic, pd.concat([verdicts, verdicts[:1]]))
    emptied = verdicts.assign(kept=verdicts["label"] == "tumour")
    with pytest.raises(DataError, match="kept: found none of 4 images of class healthy, allowed: at least 1"):
        kept_images(synthetic, emptied)


def test_the_table_counts_what_was_discarded_and_overruled(sets, tmp_path):
    text = "image_id,kept\npggan-tumour-1,yes\npggan-tumour-2,yes\n"  # the second agrees with the rule
    verdicts = judge(sets, overruling(tmp_path / "overrule.csv", text))
    table = screening_table({"pggan": verdicts}, FACTS)
    assert list(table.columns) == FIDELITY_COLUMNS
    rows = table.set_index(["variant", "metric"])
    assert list(rows.index.unique("variant")) == ["pggan/healthy", "pggan/tumour", "pggan/all"]
    discarded = rows.xs("discarded", level="metric")
    assert discarded["value"].tolist() == [0.5, 0.25, 0.375]
    assert discarded["images"].tolist() == [4, 4, 8]
    unrealistic = rows.xs("unrealistic", level="metric")
    assert unrealistic["value"].tolist() == [0.5, 0.5, 0.5]
    assert unrealistic["reference"].tolist() == pytest.approx([0.1] * 3)
    interval = binomtest(4, 8).proportion_ci(method="wilson")
    assert (unrealistic["ci_low"].iloc[-1], unrealistic["ci_high"].iloc[-1]) == pytest.approx(interval)
    assert rows.xs("overruled", level="metric")["value"].tolist() == [0, 0.25, 0.125]
    markdown = to_markdown(table, index="variant", note=NOTE)
    (line,) = (line for line in markdown.splitlines() if line.startswith("| pggan/all"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["8", "0.50 [0.22, 0.78] (real 0.10)", "0.38", "0.12"]
    assert "extractor: efficientnet-lite0" in markdown


def test_features_that_a_generator_was_trained_against_screen_nothing(sets, tmp_path):
    overrule = overruling(tmp_path / "overrule.csv", "image_id,kept\npggan-tumour-1,no\n")
    refused = screen(*sets, SETTINGS, overrule, refused=True)
    assert refused["image_id"][~refused["kept"]].tolist() == ["pggan-tumour-1"]  # a person may
    assert refused[["distance", "threshold", "limit", "expected"]].isna().all(axis=None)
    table = screening_table({"pggan": judge(sets), "projected": refused}, FACTS)
    rows = table[table["variant"] == "projected/all"].set_index("metric")["value"]
    assert rows.to_dict() == {"discarded": 1 / 8, "overruled": 1 / 8}
    assert note_of(table).splitlines()[-1] == (
        "projected/healthy, projected/tumour, projected/all: not screened, for the generator was trained against "
        "efficientnet-lite0, which is no judge of it; another fidelity.extractor would screen them."
    )
    assert note_of(table[table["variant"].str.startswith("pggan")]) == NOTE
    assert "| projected/all |" in to_markdown(table, index="variant", note=note_of(table)).replace("  ", "")


def test_the_table_of_one_class_has_one_variant_and_survives_files(sets, tmp_path):
    verdicts = judge(sets)
    verdicts.to_csv(tmp_path / "verdicts.csv", index=False)
    read = pd.read_csv(tmp_path / "verdicts.csv")
    ours, again = (screening_table({"a": each, "b": each[:4]}, FACTS) for each in (verdicts, read))
    pd.testing.assert_frame_equal(ours, again)
    assert list(ours["variant"].unique()) == ["a/healthy", "a/tumour", "a/all", "b/all"]
    write_table(ours, tmp_path / "t.csv", tmp_path / "t.md", index="variant", note=NOTE)
    assert pd.read_csv(tmp_path / "t.csv").shape == ours.shape
    assert (kept_images(image_set(sets[2]), read).images == kept_images(image_set(sets[2]), verdicts).images).all()
