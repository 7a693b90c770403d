"""What changed since a job wrote it is seen by its size and times, by its content where these say nothing."""

import os
import time
from pathlib import Path

import pytest

from scangan import seals
from scangan.errors import DataError
from scangan.seals import begin, bring_back, changed_results, check_seals, out_of_date, seal

RESULTS = Path("results")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with two sealed results: a table, and a folder with an image."""
    monkeypatch.chdir(tmp_path)
    (RESULTS / "phantom").mkdir(parents=True)
    (RESULTS / "table.csv").write_text("a,1\n")
    (RESULTS / "phantom/1.png").write_bytes(b"12345")
    seal([RESULTS / "table.csv", RESULTS / "phantom"])


def set_time(path, seconds):
    os.utime(path, (seconds, seconds))


def alter(path, text):
    """Other content of the same size; the time of change is put back."""
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_results_as_they_were_written_are_not_changed():
    assert changed_results(RESULTS) == []
    check_seals([RESULTS / "table.csv", RESULTS / "phantom", "a/users/own.csv"])


@pytest.mark.parametrize(
    ("file", "changed"), [("table.csv", "results/table.csv"), ("phantom/1.png", "results/phantom")]
)
def test_a_change_of_the_same_size_and_time_is_seen(file, changed):
    alter(RESULTS / file, "a,2\n" if file == "table.csv" else "12346")
    assert changed_results(RESULTS) == [changed]
    with pytest.raises(DataError, match=f"{changed}: content: found changed since it was written"):
        check_seals([RESULTS / "table.csv", RESULTS / "phantom"])


def test_a_file_that_is_added_to_a_folder_is_left_alone():
    (RESULTS / "phantom/.snakemake_timestamp").touch()
    (RESULTS / "phantom/notes.txt").touch()
    assert changed_results(RESULTS) == []


def test_a_file_that_is_missing_in_a_folder_is_seen():
    (RESULTS / "phantom/1.png").unlink()
    assert changed_results(RESULTS) == ["results/phantom"]
    (RESULTS / "table.csv").unlink()  # Snakemake sees that by itself
    assert changed_results(RESULTS) == ["results/phantom"]


def test_touched_files_are_read_once_and_not_changed(monkeypatch):
    set_time(RESULTS / "table.csv", 1000)
    assert changed_results(RESULTS) == []
    monkeypatch.setattr(seals, "_hash", lambda file: pytest.fail(f"{file} is read again"))
    assert changed_results(RESULTS) == []


def test_what_a_job_found_changed_is_seen_by_the_next_plan_whatever_its_times():
    alter(RESULTS / "table.csv", "a,2\n")
    written = seals._read(seals._seal_of(RESULTS / "table.csv"))
    seals.replace(written, times=written.times_now).write()  # as a disk changes it: no time tells
    assert changed_results(RESULTS) == []
    with pytest.raises(DataError):
        check_seals([RESULTS / "table.csv"])
    assert changed_results(RESULTS) == ["results/table.csv"]


def test_other_results_and_removed_ones_are_left_alone():
    alter(RESULTS / "table.csv", "a,2\n")
    assert changed_results("results-real") == []
    (RESULTS / "table.csv").unlink()
    assert changed_results(RESULTS) == []
    (RESULTS / "phantom/1.png").unlink()
    (RESULTS / "phantom").rmdir()
    assert changed_results(RESULTS) == []


def test_an_output_whose_job_did_not_end_is_none():
    begin([RESULTS / "table.csv"])
    assert changed_results(RESULTS) == ["results/table.csv"]
    with pytest.raises(DataError, match=r"results/table.csv: content: found changed"):
        check_seals([RESULTS / "table.csv"])
    seal([RESULTS / "table.csv"])
    assert changed_results(RESULTS) == []


def test_what_was_made_of_outputs_that_were_begun_and_are_lost_is_out_of_date():
    chain = [RESULTS / name for name in ("weights", "images", "features", "fidelity.csv")]
    for file in chain:
        file.touch()
    for made_of, file in zip([RESULTS / "phantom", *chain], chain, strict=False):
        seal([file], [made_of])
    seal([RESULTS / "table.csv"], [RESULTS / "phantom", RESULTS / "images"])
    assert out_of_date(RESULTS) == []
    begin([RESULTS / "weights"])
    assert out_of_date(RESULTS) == []  # it is there, and changed: what is made of it follows
    (RESULTS / "weights").unlink()
    assert out_of_date(RESULTS) == ["results/images"]
    # Whatever is missing in between, the first that is there is made anew, and the rest follows.
    (RESULTS / "images").unlink()
    assert out_of_date(RESULTS) == ["results/features", "results/table.csv"]
    assert out_of_date("results-real") == []
    # Removed by a hand, which needs the room: what was made of it is as good as before.
    seal([RESULTS / "weights"])
    assert out_of_date(RESULTS) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 1}'])
def test_a_seal_that_is_not_whole_says_nothing(text):
    for file in seals.FOLDER.iterdir():
        file.write_text(text)
    alter(RESULTS / "table.csv", "a,2\n")
    assert changed_results(RESULTS) == []
    check_seals([RESULTS / "table.csv"])


def test_large_files_are_known_by_their_size(monkeypatch):
    monkeypatch.setattr(seals, "LARGE", 3)
    seal([RESULTS / "table.csv"])
    alter(RESULTS / "table.csv", "a,2\n")
    assert changed_results(RESULTS) == []
    (RESULTS / "table.csv").write_text("a,22\n")
    assert changed_results(RESULTS) == ["results/table.csv"]


def test_results_of_the_future_come_back_in_their_order():
    now = time.time()
    (RESULTS / "phantom/.snakemake_timestamp").touch()
    set_time(RESULTS / "phantom/.snakemake_timestamp", now + 1000)
    set_time(RESULTS / "table.csv", now + 5000)
    bring_back(RESULTS)
    table, phantom = (RESULTS / name for name in ("table.csv", "phantom/.snakemake_timestamp"))
    assert now - 1 <= table.stat().st_mtime <= time.time()
    assert table.stat().st_mtime - phantom.stat().st_mtime == pytest.approx(4000)


def test_results_of_the_past_keep_their_times():
    set_time(RESULTS / "table.csv", 1000)
    bring_back(RESULTS)
    assert (RESULTS / "table.csv").stat().st_mtime == 1000
