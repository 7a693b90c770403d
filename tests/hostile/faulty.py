"""Readers with every fault that there is, and two without: the harness must tell them apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from scangan.errors import DataError
from tests.hostile.harness import Answer, Case, Place


def write_file(folder: Path) -> None:
    (folder / "input.txt").write_text("whole")


def hang(place: Place) -> Answer:
    time.sleep(60)
    return Answer(taken=True)


def die(place: Place) -> Answer:
    os.abort()


def leave(place: Place) -> Answer:
    sys.exit(3)


def eat_memory(place: Place) -> Answer:
    content = [b"x" * 2**24 for _ in range(2**30)]
    return Answer(taken=bool(content))


def write_outside(place: Place) -> Answer:
    (place.input.parent / "climbed").write_text("x")
    return Answer(taken=True)


def write_without_python(place: Place) -> Answer:
    """As a library in C does it: only the folder tells."""
    import numpy as np

    np.zeros(3).tofile(place.results / "array")
    os.utime(place.input / "input.txt", (1, 1))
    return Answer(taken=True)


def remove_input(place: Place) -> Answer:
    (place.input / "input.txt").unlink()
    return Answer(taken=True)


def start_process(place: Place) -> Answer:
    subprocess.run(["true"], check=True)
    return Answer(taken=True)


def unpickle(place: Place) -> Answer:
    import pickle

    pickle.loads(pickle.dumps(Path))
    return Answer(taken=True)


def raise_key_error(place: Place) -> Answer:
    raise KeyError("Rows")


def say_key_error(place: Place) -> Answer:
    raise DataError("KeyError('Rows')")


def say_key_error_as_found(place: Place) -> Answer:
    raise DataError("input.txt: rows: found KeyError, allowed: a number")


def say_two_lines(place: Place) -> Answer:
    return Answer(lines=[("input.txt", "bad\nfile", "nothing", "remove it")])


def say_much(place: Place) -> Answer:
    return Answer(lines=[("input.txt", "bad file", "x" * 1000, "remove it")])


def say_no_remedy(place: Place) -> Answer:
    return Answer(lines=[("input.txt", "bad file", "nothing", "")])


def say_twice(place: Place) -> Answer:
    return Answer(lines=[("input.txt", "bad file", "nothing", "remove it")] * 2)


def say_nothing(place: Place) -> Answer:
    return Answer()


def lose_healthy(place: Place) -> Answer:
    return Answer(taken=True, problems=["a healthy file is lost"])


def take(place: Place) -> Answer:
    (place.results / "table.csv").write_text((place.input / "input.txt").read_text())
    return Answer(taken=True)


def refuse(place: Place) -> Answer:
    raise DataError("input.txt: rows: found none, allowed: at least 1")


FAULTS = {
    hang: "a hang",
    die: "died with code -6",
    leave: "SystemExit",
    eat_memory: "2 GB of memory",
    write_outside: "touched outside the results",
    write_without_python: "touched outside the results: deep/run/input/input.txt",
    remove_input: "touched outside the results",
    start_process: "subprocess.Popen",
    unpickle: "pickle.find_class",
    raise_key_error: "KeyError: 'Rows' (faulty.py",
    say_key_error: "an exception's name",
    say_key_error_as_found: "an exception's name",
    say_two_lines: "not one printable line",
    say_much: "letters",
    say_no_remedy: "an empty part",
    say_twice: "2 lines",
    say_nothing: "dropped silently",
    lose_healthy: "a healthy file is lost",
}
CASES = {reader.__name__: Case(reader.__name__, write_file, reader, seconds=3) for reader in (*FAULTS, take, refuse)}
CASES["eat_memory"] = replace(CASES["eat_memory"], seconds=30)
CASES["taken_for_what_it_is_not"] = Case("taken_for_what_it_is_not", write_file, take, "line")
CASES["refused_though_whole"] = Case("refused_though_whole", write_file, refuse, "read")


def find(case_id: str) -> Case:
    return CASES[case_id]
