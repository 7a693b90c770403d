"""What cannot be used: one record, one table, one stop, and the notes that count it."""

import logging

import pandas as pd
import pytest

from scangan.errors import DataError
from scangan.rejected import (
    KEPT,
    REJECTED_TYPES,
    Rejection,
    Unusable,
    check_rejected,
    describe_rejected,
    is_kept,
    left_out_note,
    list_reasons,
    read_rejected,
    rejected_note,
    rejected_table,
)


def rejected_for(*reasons: str, counted: bool = True) -> pd.DataFrame:
    """A table with a row for each reason, its source the place in the list."""
    return rejected_table(
        Rejection(f"{place}", reason, "2 of 3", "mend it", counted) for place, reason in enumerate(reasons)
    )


def test_an_error_becomes_a_record_of_its_source():
    error = Unusable("missing slices", "2 of 3", "complete the series", counted=False)
    assert str(error) == "missing slices: found 2 of 3; complete the series"
    assert isinstance(error, DataError)
    names = frozenset({"Doe"})
    assert error.of("a/b", names) == Rejection(
        "a/b", "missing slices", "2 of 3", "complete the series", counted=False, identifiers=names
    )


def test_the_table_says_all_but_who_it_was():
    table = rejected_table([Rejection("a", "b", "c", "d", identifiers=frozenset({"Doe"}))])
    assert table.to_dict("records") == [{"source": "a", "reason": "b", "found": "c", "remedy": "d", "counted": True}]
    for each in (table, rejected_table()):
        assert {name: str(kind) for name, kind in each.dtypes.items()} == REJECTED_TYPES


def test_a_table_comes_back_from_its_file(tmp_path):
    # Words that pandas takes for missing values, and a comma.
    table = rejected_table([Rejection("NA", "null", "", "a, b", counted=False), Rejection("1", "2", "None", "x")])
    for each in (table, table[:0]):
        each.to_csv(tmp_path / "rejected.csv", index=False)
        pd.testing.assert_frame_equal(read_rejected(tmp_path / "rejected.csv"), each)


def test_most_frequent_reasons_come_first():
    rejected = rejected_for("d", "b", "b", "c", "a", "b", "a")
    assert list_reasons(rejected) == "3 b, 2 a, 1 d, 1 c"
    assert list_reasons(rejected, 3) == "3 b, 2 a, 1 d, ..."
    assert list_reasons(rejected, 4) == "3 b, 2 a, 1 d, 1 c"
    assert list_reasons(rejected[:0]) == ""
    assert describe_rejected(rejected) == " (3 b, 2 a, 1 d, ...; first 0: 2 of 3)"
    assert describe_rejected(rejected[:0]) == ""


def test_a_run_stops_where_too_little_is_left(caplog):
    rejected = rejected_for("broken", "broken", "no label")
    with caplog.at_level(logging.WARNING):
        check_rejected(rejected, 7, 0.3, "/data", "images")
    assert caplog.text.count("rejected: ") == 3
    assert "rejected: 2: no label: found 2 of 3; mend it" in caplog.text
    described = r"\(2 broken, 1 no label; first 0: 2 of 3\)"
    with pytest.raises(
        DataError, match=rf"^/data: max_rejected: found 3 of 10 images rejected {described}, allowed: 2 \("
    ):
        check_rejected(rejected, 7, 0.29, "/data", "images")
    with pytest.raises(DataError, match=rf"^/data: images: found none that is usable {described}, allowed: \.png$"):
        check_rejected(rejected, 0, 1, "/data", "images", ".png")


def test_what_does_not_count_stops_nothing(caplog):
    others = rejected_for("not DICOM", "not DICOM", counted=False)
    with caplog.at_level(logging.WARNING):
        check_rejected(others, 1, 0, "data", "scans")
    assert caplog.text == ""
    with pytest.raises(DataError, match=r"^data: scans: found none that is usable, allowed: at least 1$"):
        check_rejected(others, 0, 1, "data", "scans")


def test_notes_below_tables():
    rejected = rejected_for("empty", "no file", "empty")
    others = rejected_for("not DICOM", "not DICOM", counted=False)
    counted = "3 of 9 images rejected (2 empty, 1 no file): see r.csv"
    assert rejected_note(rejected, 6, "images", "r.csv") == counted
    both = rejected_note(pd.concat([others, rejected]), 6, "images", "r.csv")
    assert both.splitlines() == [counted, "2 other files or series left out (2 not DICOM): see r.csv"]
    assert rejected_note(rejected[:0], 6, "images", "r.csv") == ""
    assert left_out_note(rejected, "r.csv") == "left out: 2 empty, 1 no file (see r.csv)"
    assert left_out_note(rejected[:0], "r.csv") == ""


def test_what_is_kept_is_not_said_to_be_left_out():
    kept = rejected_for(f"{KEPT}identical to another image", f"{KEPT}identical to another image", counted=False)
    rejected = pd.concat([kept, rejected_for("empty")])
    assert list(is_kept(rejected)) == [True, True, False]
    assert rejected_note(rejected, 9, "images", "r.csv") == "1 of 10 images rejected (1 empty): see r.csv"
    assert rejected_note(kept, 9, "images", "r.csv") == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\r\nb\t.png", r"a\r\nb\t.png"),
        ("a\x1b[2J\u202eb", r"a\x1b[2J\u202eb"),
        ("caf\udce9", r"caf\udce9"),
        ("Lunge é \U0001fac1", "Lunge é \U0001fac1"),
    ],
)
def test_names_of_any_bytes_are_one_line_and_survive_the_file(tmp_path, name, said):
    table = rejected_table([Rejection(name, "unreadable image", f"'{name}'", "remove it")])
    assert table.loc[0, ["source", "found"]].tolist() == [said, f"'{said}'"]
    table.to_csv(tmp_path / "rejected.csv", index=False)
    pd.testing.assert_frame_equal(read_rejected(tmp_path / "rejected.csv"), table)
