"""Readers scored by hand, against the paper's own table and reference implementations; what is refused."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from scangan.errors import DataError
from scangan.metrics.reading import (
    ANSWER_COLUMNS,
    READING_COLUMNS,
    cohen_kappa,
    fleiss_kappa,
    read_reading,
    score_readers,
    sign,
    simulate_reader,
    wilson_interval,
    write_reading,
)

SET = "5e" * 32
CLASSES = ("non-tumour", "tumour")
KINDS = [(origin, label) for origin in ("real", "synthetic") for label in CLASSES]


def write_answers(path, each):
    """`each` cases of every kind, one kind after the other."""
    rows = [
        ("brain", "phantom", "demo", SET, case, f"image{case}", *KINDS[(case - 1) // each])
        for case in range(1, 4 * each + 1)
    ]
    table = pd.DataFrame(rows, columns=ANSWER_COLUMNS)
    table.to_csv(path, index=False)
    return table


def write_reader(path, answers, reader, wrong_origin=(), wrong_label=()):
    """A reading that errs in the cases named; four seconds a case, one for the first."""
    other = {"real": "synthetic", "synthetic": "real", "tumour": "non-tumour", "non-tumour": "tumour"}
    rows = []
    for row in answers.itertuples():
        origin = other[row.origin] if row.case in wrong_origin else row.origin
        label = other[row.label] if row.case in wrong_label else row.label
        rows.append((row.case, origin, label, 1 if row.case == 1 else 4))
    write_reading(path, SET, reader, rows)
    return path


@pytest.fixture
def room(tmp_path):
    """Three cases of every kind: 1-3 real non-tumour, 4-6 real tumour, 7-9 and 10-12 the synthetic ones."""
    path = tmp_path / "answers.csv"
    return path, write_answers(path, 3)


def cell(scores, reader, question, metric, group="all"):
    keys = (scores[["reader", "question", "metric", "group"]] == [reader, question, metric, group]).all(axis=1)
    (row,) = scores[keys].to_dict("records")
    return row


def test_the_papers_table_two(tmp_path):
    # Cases 1-50 real non-tumour, 51-100 real tumour, 101-150 synthetic non-tumour, 151-200 synthetic tumour.
    answers = write_answers(tmp_path / "answers.csv", 50)
    wrong_origin = {*range(1, 43), 101}  # R as S 42, S as R 1
    wrong_label = {*range(51, 56), *range(151, 164), 102}  # T as N 18 (R: 5, S: 13), N as T 1 (S: 1)
    path = write_reader(tmp_path / "expert.csv", answers, "expert", wrong_origin, wrong_label)
    scores = score_readers([path], tmp_path / "answers.csv")

    expected = {
        ("origin", "accuracy", "all"): (157, 200),
        ("origin", "real as real", "all"): (58, 100),
        ("origin", "real as synthetic", "all"): (42, 100),
        ("origin", "synthetic as real", "all"): (1, 100),
        ("origin", "synthetic as synthetic", "all"): (99, 100),
        ("label", "accuracy", "all"): (181, 200),
        ("label", "tumour as tumour", "all"): (82, 100),
        ("label", "tumour as non-tumour", "all"): (18, 100),
        ("label", "tumour as non-tumour", "real"): (5, 50),
        ("label", "tumour as non-tumour", "synthetic"): (13, 50),
        ("label", "non-tumour as tumour", "synthetic"): (1, 50),
        ("label", "non-tumour as tumour", "real"): (0, 50),
        ("origin", "real as synthetic", "tumour"): (0, 50),
        ("origin", "accuracy", "non-tumour"): (57, 100),
    }
    for (question, metric, group), (count, images) in expected.items():
        row = cell(scores, "expert", question, metric, group)
        assert (row["count"], row["images"], row["value"]) == (count, images, count / images)
        interval = binomtest(count, images).proportion_ci(method="wilson")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert cell(scores, "expert", "both", "median_seconds")["value"] == 4
    assert set(scores["reader"]) == {"expert"}
    assert scores[["study", "data", "scale"]].drop_duplicates().values.tolist() == [["brain", "phantom", "demo"]]


def test_two_readers_together(room):
    path, answers = room
    files = [
        write_reader(path.with_name("ada.csv"), answers, "Ada", wrong_origin={1, 2}),
        write_reader(path.with_name("ben.csv"), answers, "Ben", wrong_origin={2, 7, 8}, wrong_label={5}),
    ]
    scores = score_readers(files, path)
    together = cell(scores, "all", "origin", "accuracy")
    assert (together["count"], together["images"]) == (19, 24)
    # Two readings of one image are not two images: the interval is that of twelve.
    assert (together["ci_low"], together["ci_high"]) == wilson_interval(9.5, 12)

    given = [pd.read_csv(file) for file in files]
    for question in ("origin", "label"):
        kappa = cell(scores, "all", question, "cohen_kappa")
        assert kappa["value"] == pytest.approx(cohen_kappa_score(given[0][question], given[1][question]))
        assert kappa["ci_low"] < kappa["value"] <= kappa["ci_high"]


def test_three_readers_have_fleiss_kappa(room):
    path, answers = room
    files = [write_reader(path.with_name(f"{n}.csv"), answers, f"reader {n}", wrong_origin={n}) for n in (1, 2, 3)]
    scores = score_readers(files, path)
    # Three real cases with two votes of three for the truth, nine with all: P = (3/3 + 9) / 12; shares 15/36, 21/36.
    observed, expected = 10 / 12, (15**2 + 21**2) / 36**2
    row = cell(scores, "all", "origin", "fleiss_kappa")
    assert row["value"] == pytest.approx((observed - expected) / (1 - expected))
    assert cell(scores, "all", "label", "fleiss_kappa")["value"] == 1
    assert "cohen_kappa" not in set(scores["metric"])


def test_fleiss_kappa_of_a_published_example():
    # Fourteen raters, ten subjects, five categories; kappa 0.210 (the example of Wikipedia's "Fleiss' kappa").
    votes = """0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1  7 7 0 0 0  3 2 6 3 0  2 5 3 2 2  6 5 2 1 0
               0 2 2 3 7"""
    counts = np.array(votes.split(), dtype=int).reshape(10, 5)
    codes = np.stack([np.repeat(np.arange(5), row) for row in counts], axis=1)
    assert fleiss_kappa(codes, np.ones((1, 10)))[0] == pytest.approx(0.210, abs=5e-4)


def test_weights_are_repeated_images_in_both_kappas():
    rng = np.random.default_rng(1)
    codes, weights = rng.integers(3, size=(2, 20)), rng.integers(4, size=20)
    repeated = np.repeat(codes, weights, axis=1)
    for kappa in (cohen_kappa, fleiss_kappa):
        plain = kappa(repeated, np.ones((1, repeated.shape[1])))
        assert kappa(codes, weights[None].astype(float)) == pytest.approx(plain)
    assert cohen_kappa(repeated, np.ones((1, repeated.shape[1])))[0] == pytest.approx(cohen_kappa_score(*repeated))


def test_kappa_is_unknown_where_all_say_the_same():
    assert np.isnan(cohen_kappa(np.zeros((2, 5), dtype=int), np.ones((1, 5)))).all()


@pytest.mark.parametrize(("count", "cases"), [(0, 10), (10, 10), (3, 7), (1, 200)])
def test_wilson_interval(count, cases):
    expected = binomtest(count, cases).proportion_ci(method="wilson")
    assert wilson_interval(count, cases) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_simulated_reader_is_named_so_in_every_row(tmp_path):
    path = tmp_path / "answers.csv"
    answers = write_answers(path, 250)
    for number in (1, 2):
        simulate_reader(path, tmp_path / f"{number}.csv", skill=0.7, seed=3, number=number)
    scores = score_readers([tmp_path / "1.csv", tmp_path / "2.csv"], path)
    assert set(scores["reader"]) == {"simulated", "simulated 2", "all simulated"}
    for question in ("origin", "label"):
        accuracy = cell(scores, "simulated", question, "accuracy")["value"]
        assert abs(accuracy - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 1000)
        # Readers that err independently agree as often as both are right or both wrong, in two classes.
        kappa = cell(scores, "all simulated", question, "cohen_kappa")["value"]
        assert abs(kappa - 0.16) < 0.13
    person = write_reader(tmp_path / "ada.csv", answers, "Ada")
    with pytest.raises(DataError, match="reader: found simulated, Ada, allowed: people alone, or simulated ones alone"):
        score_readers([tmp_path / "1.csv", person], path)


def test_a_perfect_and_a_hopeless_simulation(room):
    path, _ = room
    for skill in (1.0, 0.0):
        simulate_reader(path, path.with_name("s.csv"), skill, seed=0)
        scores = score_readers([path.with_name("s.csv")], path)
        assert cell(scores, "simulated", "origin", "accuracy")["value"] == skill
        assert cell(scores, "simulated", "label", "accuracy")["value"] == skill


def test_a_spreadsheet_may_write_the_file_anew(room):
    path, answers = room
    original = write_reader(path.with_name("ada.csv"), answers, "Ada")
    again = path.with_name("again.csv")
    shuffled = pd.read_csv(original, dtype=str).sample(frac=1, random_state=0)
    shuffled.to_csv(again, index=False, quoting=1, lineterminator="\r\n", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_reading(again, answers.astype(str)), read_reading(original, answers.astype(str)))


def drop_last(table):
    return table.iloc[:-1]


def repeat_first(table):
    return pd.concat([table, table.iloc[:1]])


def change(column, case, value):
    return lambda table: table.assign(**{column: table[column].mask(table["case"] == case, value)})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop_last, "case: found 11 of 12, allowed: all"),
        (repeat_first, "case: found 1 more than once, allowed: once"),
        (lambda table: table.iloc[:0], "case: found none, allowed: all of 1 to 12"),
        (change("case", "12", "13"), "case: found '13', allowed: 1 to 12"),
        (change("origin", "5", "synthetic"), "signature: found .*, allowed: .*; the file was changed"),
        (change("label", "5", "non-tumour"), "signature: found .*, allowed: .*; the file was changed"),
        (change("seconds", "5", "900"), "signature: found .*, allowed: .*; the file was changed"),
        (change("seconds", "5", "4.5"), "seconds of case 5: found '4.5', allowed: a whole number"),
        (change("origin", "5", ""), "origin of case 5: found '', allowed: real, synthetic"),
        (change("label", "5", "oedema"), "label of case 5: found 'oedema', allowed: non-tumour, tumour"),
        (change("reader", "5", "Ben"), "reader: found Ada, Ben, allowed: one for all rows"),
        (lambda table: table.assign(reader="Ben"), "signature: found .*, allowed: .*; the file was changed"),
        (lambda table: table.assign(reader="=1+1"), "reader: found '=1\\+1', allowed: up to 40 letters"),
        (lambda table: table.assign(set="0" * 64), f"set: found {'0' * 64}, a reading of other images, allowed: {SET}"),
        (lambda table: table.drop(columns="seconds"), "columns: found set, reader, case, origin, label, signature"),
    ],
)
def test_what_is_refused(room, edit, message):
    path, answers = room
    good = write_reader(path.with_name("good.csv"), answers, "Good")
    bad = write_reader(path.with_name("bad.csv"), answers, "Ada")
    edit(pd.read_csv(bad, dtype=str)).to_csv(bad, index=False)
    with pytest.raises(DataError, match=f"^{bad}: {message}"):
        score_readers([good, bad], path)


def test_every_refused_file_is_named(room):
    path, answers = room
    twice = [write_reader(path.with_name(f"{n}.csv"), answers, "Ada") for n in (1, 2)]
    damaged, empty = path.with_name("damaged.csv"), path.with_name("empty.csv")
    damaged.write_bytes(b"\x00\xff\xfe\x81" * 9)
    empty.touch()
    with pytest.raises(DataError) as error:
        score_readers([*twice, damaged, empty, path.with_name("none.csv")], path)
    second, *unreadable = str(error.value).splitlines()
    assert second == f"{twice[1]}: reader: found Ada a second time, allowed: one file a reader"
    for line, name in zip(unreadable, ("damaged.csv", "empty.csv", "none.csv"), strict=True):
        assert line.startswith(f"{path.with_name(name)}: file: found ")
        assert line.endswith(f"allowed: a CSV with the columns {', '.join(READING_COLUMNS)}")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda table: table.iloc[1:], "case: found 2, 3, 4, 5, 6, ..., allowed: 1, 2, 3, ..."),
        (lambda table: table.iloc[:0], "case: found none, ..., allowed: 1, 2, 3, ..."),
        (change("scale", 3, "paper"), "scale: found demo, paper, allowed: one for all cases"),
        (change("origin", 3, "fake"), "origin: found fake, allowed: real, synthetic"),
        (lambda table: table.drop(columns="set"), "columns: found study, data, scale, case, image_id, origin, label"),
    ],
)
def test_answers_that_are_none(room, edit, message):
    path, answers = room
    reading = write_reader(path.with_name("ada.csv"), answers, "Ada")
    edit(answers).to_csv(path, index=False)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        score_readers([reading], path)


def test_the_signature_is_of_set_reader_and_rows():
    text = f"{SET}\nJürgen\n1,real,tumour,12\n2,synthetic,tumour,0\n"
    rows = [(1, "real", "tumour", 12), ("2", "synthetic", "tumour", "0")]
    assert sign(SET, "Jürgen", rows) == hashlib.sha256(text.encode()).hexdigest()
