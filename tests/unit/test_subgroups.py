"""Scores in groups of the test images: those of a group as if it were the whole, and no number where it has none."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from scangan.config import Evaluation, LabelledImages
from scangan.data.subgroups import MISSING, SEVERAL, in_order, read_subgroups, subgroups_table
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.ingest.subgroups import find_subgroups
from scangan.metrics.classification import read_external
from scangan.metrics.comparison import compare_arms
from scangan.metrics.scores import score_arms
from scangan.metrics.subgroups import score_subgroups
from scangan.report import classification_tables as tables
from tests.unit.test_comparison import predictions

SETTINGS = Evaluation(bootstrap=200)
FACTS = Facts("mine", "real", "custom", pretrained="none")


def groups_of(found, name_of):
    """Image id -> group, by its number among the test images."""
    rows = found["real"][0]
    ids = rows.image_id[rows.split == "test"].reset_index(drop=True)
    return {image_id: name_of(number) for number, image_id in enumerate(ids)}


def test_a_subgroup_is_scored_as_if_it_were_all_there_is():
    found = predictions({"real": 1.0, "real+classical": 0.5, "real+synthetic": 2.0}, patients=90)
    group = groups_of(found, lambda number: "AB"[number % 2])
    scores = score_subgroups(found, group, "sick", SETTINGS)
    alone = {
        arm: [table[(table.split != "test") | (table.image_id.map(group) == "B")] for table in each]
        for arm, each in found.items()
    }
    expected = score_arms(alone, "sick")
    expected = expected[~expected.metric.isin(["brier", "expected_calibration_error"])].reset_index(drop=True)
    of_b = scores[scores.subgroup == "B"].reset_index(drop=True)
    columns = ["arm", "metric", "value", "ci_low", "ci_high", "seeds"]
    pd.testing.assert_frame_equal(of_b[columns], expected[columns], check_dtype=False)
    for seed, row in zip(alone["real"], found["real"], strict=True):
        assert len(seed) < len(row)
    auc = np.mean(
        [
            roc_auc_score(seed.label[seed.split == "test"] == "sick", seed.probability[seed.split == "test"])
            for seed in alone["real"]
        ]
    )
    assert of_b.set_index(["arm", "metric"]).value["real", "auc"] == pytest.approx(auc)
    compared = compare_arms(alone, "sick", SETTINGS)
    compared = compared[compared.counterpart].set_index("metric")
    mine = of_b[of_b.arm == "real+synthetic"].set_index("metric")
    for column in ("difference", "difference_low", "difference_high"):
        assert mine[column].to_numpy(float) == pytest.approx(compared.loc[mine.index, column].to_numpy(float))
    assert set(mine.against) == {"real"}
    assert of_b[of_b.arm != "real+synthetic"].difference.isna().all()


def test_the_subgroup_in_which_synthetic_images_help_is_found():
    """They help in A by a known amount, and nowhere else: the whole would say half of it."""
    rng = np.random.default_rng(4)
    label, in_a = np.arange(800) % 2 == 1, np.arange(800) % 4 < 2
    rows = pd.DataFrame({"image_id": [f"{number:04d}" for number in range(800)]})
    rows = rows.assign(patient_id=rows.image_id, label=np.where(label, "sick", "healthy"), split="test")

    def training(right):
        return rows.assign(probability=np.where((rng.random(800) < right) == label, 0.9, 0.1))

    found = {
        "real": [training(0.7) for _ in range(3)],
        "real+synthetic": [training(np.where(in_a, 0.9, 0.7)) for _ in range(3)],
    }
    group = dict(zip(rows.image_id, np.where(in_a, "A", "B"), strict=True))
    scores = score_subgroups(found, group, "sick", SETTINGS).set_index(["subgroup", "arm", "metric"])
    a, b = (scores.loc[name, "real+synthetic", "accuracy"] for name in "AB")
    assert 0.05 < a.difference_low <= 0.2 <= a.difference_high
    assert b.difference_low <= 0 <= b.difference_high
    assert scores.loc["A", "real", "accuracy"].ci_low <= 0.7 <= scores.loc["A", "real", "accuracy"].ci_high


def test_a_subgroup_without_enough_has_its_counts_and_a_reason():
    found = predictions({"real": 1.0, "synthetic": 1.0}, patients=60, images=2)  # every third patient is sick

    def name_of(number):
        patient = number // 2
        if patient in (0, 1, 2):
            return "one sick"
        return "healthy" if patient % 3 and patient < 10 else "rest"

    group = groups_of(found, name_of) | {"an image that trains": "elsewhere"}
    scores = score_subgroups(found, group, "sick", SETTINGS)
    counts = scores.drop_duplicates("subgroup").set_index("subgroup")
    assert list(counts.index) == ["elsewhere", "healthy", "one sick", "rest"]
    assert counts.not_scored.to_dict() == {
        "elsewhere": "no test images",
        "healthy": "one class only",
        "one sick": "fewer than 2 patients of a class",
        "rest": "",
    }
    expected = {"images": 6, "patients": 3, "positive_images": 2, "positive_patients": 1}
    assert counts.loc["one sick", list(expected)].to_dict() == expected
    assert counts.loc["one sick", ["negative_images", "negative_patients"]].tolist() == [4, 2]
    assert counts.loc["elsewhere", "images"] == 0
    unscored = scores[scores.not_scored != ""]
    assert len(unscored) == 3
    assert unscored[["arm", "metric", "value", "difference"]].isna().all(axis=None)


def test_the_table_for_people_says_whom_the_groups_have_and_tests_nothing(tmp_path):
    found = predictions({"real": 1.0, "real+synthetic": 2.0}, patients=60)
    group = groups_of(found, lambda number: "a|b" if number < 40 else MISSING if number < 58 else "few")
    table = tables.subgroups_table(score_subgroups(found, group, "sick", SETTINGS), FACTS)
    assert list(table) == tables.SUBGROUPS_COLUMNS
    tables.write_subgroups(table, "site", tmp_path / "t.csv", tmp_path / "t.md")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "t.csv", keep_default_na=True).isna()[["value"]], table.isna()[["value"]]
    )
    text = (tmp_path / "t.md").read_text()
    assert text.startswith("**mine; real data, custom scale**")
    assert all(said in text for said in (r"| a\|b ", "(missing)", "Subgroups by `site`"))
    assert not any(said in text for said in ("p =", "p <", "could show"))
    row = table[(table.subgroup == "a|b") & (table.arm == "real+synthetic") & (table.metric == "auc")].iloc[0]
    assert f"{row.value:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]" in text
    assert f"{row.difference:+.2f} [{row.difference_low:+.2f}, {row.difference_high:+.2f}]" in text
    few = table[table.subgroup == "few"]
    assert few.not_scored.item() in text


def test_a_table_of_subgroups_without_numbers(tmp_path):
    found = predictions({"real": 1.0, "synthetic": 1.0}, patients=20)
    group = groups_of(found, lambda number: f"{number:02d}")
    table = tables.subgroups_table(score_subgroups(found, group, "sick", SETTINGS), FACTS)
    tables.write_subgroups(table, "site", tmp_path / "t.csv", tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text().count("one class only") == 20


def test_subgroups_are_written_and_read_as_they_are(tmp_path):
    group = {"b": "NA", "a": "", "c": "1"}
    subgroups_table(group).to_csv(tmp_path / "t.csv", index=False)
    assert read_subgroups(tmp_path / "t.csv") == group
    assert in_order({SEVERAL, "b", MISSING, "z", "A"}) == ["A", "b", "z", MISSING, SEVERAL]


# The column


@pytest.fixture
def root(tmp_path):
    for name in ("000", "001", "002", "003", "004"):
        (tmp_path / f"{name}.png").write_bytes(b"an image, whatever it shows")
    return tmp_path


def settings(**changes):
    given = {"reader": "labelled_images", "root": "mine", "image_size": 32, "classes": {"ill": 1, "well": 0}}
    return LabelledImages.model_validate(given | changes)


def write(root, *rows):
    (root / "labels.csv").write_text("\n".join(("id,label, sex ,patient", *rows)) + "\n")


ALL = {"000", "001", "002", "003", "004"}


def test_a_column_says_in_which_subgroup_an_image_is(root):
    write(root, "0,1,F,a", "001.png,0, M ,b", "2,1,,c", "3,0,F,d", "3,0,M,d", "4,1,F,e", "4,1,,e", "9,1,X,f")
    expected = {"000": "F", "001": "M", "002": MISSING, "003": SEVERAL, "004": "F"}
    assert find_subgroups(root, settings(), "sex", ALL) == expected
    assert find_subgroups(root, settings(patient_column="patient"), " sex ", {"000"}) == {"000": "F"}


def test_a_column_that_is_not_there_is_named(root):
    write(root, "0,1,F,a")
    with pytest.raises(DataError, match=r"labels.csv: columns: found id, label, sex, patient; allowed: id, scanner"):
        find_subgroups(root, settings(), "scanner", ALL)


def test_a_column_of_numbers_is_to_be_made_bands(tmp_path):
    for number in range(13):
        (tmp_path / f"{number}.png").write_bytes(b"an image")
    (tmp_path / "labels.csv").write_text("id,label,age\n" + "".join(f"{age},1,{age + 40}\n" for age in range(13)))
    images = {f"{number}" for number in range(13)}
    with pytest.raises(DataError, match=r"labels.csv: age: found 13 different values, allowed: 12, .* such as 40-59"):
        find_subgroups(tmp_path, settings(), "age", images)
    assert len(find_subgroups(tmp_path, settings(), "age", images - {"12"})) == 12


# Other patients


def test_external_images_are_compared_like_the_test_and_the_best_arm_is_the_studys(tmp_path):
    """`real` is best on the validation images, `real+classical` on all others: the former is compared with."""
    arms = {"real": 2.0, "real+classical": 0.5, "real+synthetic": 1.5}
    own = predictions(arms, patients=90)
    others = predictions(
        {"real": 0.5, "real+classical": 4.0, "real+synthetic": 3.0}, patients=90, seed=1, parts=("external",)
    )
    files = {}
    for name, found in (("own", own), ("external", others)):
        files[name] = []
        for arm, seeds in found.items():
            for number, table in enumerate(seeds):
                files[name].append(str(tmp_path / f"{name}-{arm}-{number}.parquet"))
                table.to_parquet(files[name][-1])
    gan_seeds = {arm: [None] * 3 for arm in arms}
    joined = read_external(files["own"], files["external"], gan_seeds)
    as_test = {
        arm: [table.assign(split=table.split.replace({"external": "test"})) for table in each]
        for arm, each in others.items()
    }
    scores = score_arms(joined, "sick", gan_seeds, "external")
    pd.testing.assert_frame_equal(scores, score_arms(as_test, "sick", gan_seeds))
    compared = compare_arms(joined, "sick", SETTINGS, gan_seeds, "external")
    assert set(compared.loc[compared.best, "against"]) == {"real"}
    validated = {
        arm: [
            pd.concat([one[one.split == "validation"], other])
            for one, other in zip(own[arm], as_test[arm], strict=True)
        ]
        for arm in arms
    }
    pd.testing.assert_frame_equal(compared, compare_arms(validated, "sick", SETTINGS, gan_seeds))
    table = tables.external_table(scores, compared, FACTS)
    assert list(table) == tables.EXTERNAL_COLUMNS
    assert table["cases"].unique().tolist() == [90]
    tables.write_external(table, compared, tmp_path / "t.csv", tmp_path / "t.md", note="Tested on 90 images.")
    text = (tmp_path / "t.md").read_text()
    said = ("90 test images", ", p < 0.001", "corrected by Holm for all comparisons of this table")
    assert all(each in text for each in said)
    assert text.endswith("Tested on 90 images.\n")
