"""Checkpoints under real faults: truncation, altered bytes, kills, a full disk."""

import hashlib
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from scangan.errors import TrainingError
from scangan.training.checkpoint import CheckpointStore, random_state, restore_random_state, resume_folder

SOURCE = Path(__file__).parents[2] / "src"


def state(step):
    return {"step": step, "weights": torch.full((1000,), float(step)), "name": "toy", "losses": [0.5, None]}


def steps_in(folder):
    return sorted(int(path.name[5:13]) for path in folder.glob("*.ckpt"))


def test_nothing_is_left_of_a_training_that_is_done(tmp_path):
    one, other = (CheckpointStore(resume_folder(tmp_path / "a.bin", {"epochs": epochs}, [])) for epochs in (1, 2))
    one.save(1, state(1))
    other.save(1, state(1))
    one.remove()
    assert [path.name for path in tmp_path.glob(".resume/*")] == [other.folder.name]
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_round_trip_keeps_the_newest_two(tmp_path):
    store = CheckpointStore(tmp_path / "run")
    assert store.load_latest() is None
    for step in (9, 10, 100):
        store.save(step, state(step))
    assert steps_in(store.folder) == [10, 100]
    loaded = store.load_latest()
    assert loaded["step"] == 100
    assert loaded["losses"] == [0.5, None]
    assert torch.equal(loaded["weights"], state(100)["weights"])
    store.remove()
    assert not store.folder.exists()
    store.remove()


def test_the_name_holds_the_digest(tmp_path):
    CheckpointStore(tmp_path).save(1200, state(1200))
    (path,) = tmp_path.iterdir()
    assert path.name == f"step-00001200.{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.ckpt"


def test_checkpoints_take_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    assert store.save(1, state(1), 60.0) == 60
    assert store.save(2, state(2)) == 0
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.2), sync(file)))
    assert 20 <= store.save(3, state(3), 10.0) < 200


def truncate(content):
    return content[: len(content) // 2]


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, lambda content: b""])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path, caplog, damage):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))
    store.save(2, state(2))
    newest = max(tmp_path.glob("*.ckpt"))
    newest.write_bytes(damage(newest.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="scangan"):
        assert store.load_latest()["step"] == 1
    assert len(caplog.messages) == 1
    assert str(newest) in caplog.messages[0]
    # The damaged one must not count among those kept.
    store.save(2, state(2))
    assert steps_in(tmp_path) == [1, 2]
    assert store.load_latest()["step"] == 2


def with_fitting_digest(folder, step, content):
    """A file of someone else's, which its name says is whole."""
    path = folder / f"step-{step:08d}.{hashlib.sha256(content).hexdigest()[:16]}.ckpt"
    path.write_bytes(content)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_run_and_what_is_no_state_is_passed_over(tmp_path, caplog):
    store = CheckpointStore(tmp_path / "run")
    store.save(1, state(1))
    with_fitting_digest(store.folder, 2, pickle.dumps(Harm(tmp_path / "touched"), 2))
    with_fitting_digest(store.folder, 3, b"nothing")
    torch.save([1, 2], tmp_path / "list")
    with_fitting_digest(store.folder, 4, (tmp_path / "list").read_bytes())
    with caplog.at_level(logging.WARNING, logger="scangan"):
        assert store.load_latest()["step"] == 1
    assert not (tmp_path / "touched").exists()
    assert [message.split(": damaged ")[1] for message in caplog.messages] == [
        "(no state of a training); falling back to the checkpoint before"
    ] * 3


def test_a_checkpoint_that_may_be_whole_is_kept(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))

    def too_small(*_, **__):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", too_small)
    with pytest.raises(TrainingError, match="cannot be read: CUDA out of memory; mend it, or remove"):
        store.load_latest()
    assert steps_in(tmp_path) == [1]


def test_all_damaged_starts_anew(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    assert store.load_latest() is None


def test_leftovers_of_a_write_are_ignored_and_removed(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))
    (tmp_path / "checkpoint.partial").write_bytes(b"half")
    assert store.load_latest()["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
    )


WRITER = """
import sys, torch
from scangan.training.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
for step in range(1, 100_000):
    if step == 2:
        print("one is written", flush=True)
    store.save(step, {"step": step, "weights": torch.full((8_000_000,), float(step))})
"""


def test_a_kill_in_the_middle_of_a_write_loses_nothing(tmp_path):
    """SIGKILL at several moments of writes of 32 MB, and at least one of them with a half-written file behind."""
    halves = 0
    for delay in (0.0, 0.03, 0.07, 0.0):
        with python(WRITER, tmp_path) as writer:
            try:
                writer.stdout.readline()
                time.sleep(delay)
                while not delay and not (tmp_path / "checkpoint.partial").exists():
                    time.sleep(0.0005)  # until a file is half-written
            finally:
                writer.send_signal(signal.SIGKILL)
        halves += (tmp_path / "checkpoint.partial").exists()
        loaded = CheckpointStore(tmp_path).load_latest()
        assert loaded["step"] == max(steps_in(tmp_path))
        assert (loaded["weights"] == loaded["step"]).all()
        CheckpointStore(tmp_path).remove()
    assert halves >= 1


FULL_DISK = """
import json, resource, sys, torch
from scangan.errors import TrainingError
from scangan.training.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
store.save(1, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    store.save(2, {"step": 2, "weights": torch.zeros(1_000_000)})
except TrainingError as error:
    print(json.dumps(str(error)))
print(json.dumps(store.load_latest()))
"""


def test_a_file_that_may_not_grow_keeps_the_older_checkpoints(tmp_path):
    """A real limit of the operating system, in a process of its own."""
    lines = python(FULL_DISK, tmp_path).communicate()[0].splitlines()
    message, loaded = map(json.loads, lines)
    assert message.startswith(f"{tmp_path}/checkpoint.partial: the checkpoint of step 2 cannot be written: ")
    assert "File too large" in message
    assert "\n" not in message
    assert loaded == {"step": 1}
    assert steps_in(tmp_path) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_file_and_reason(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"checkpoint\.partial: .* step 2 .*No space left on device$"):
        store.save(2, state(2))
    monkeypatch.undo()
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step-00000001"]
    assert store.load_latest()["step"] == 1


def draws():
    return (
        [random.random(), random.gauss(0, 1)],
        np.random.rand(5).tolist() + np.random.randn(3).tolist(),  # noqa: NPY002
        torch.rand(5).tolist() + torch.randn(3).tolist(),
    )


def test_random_state_round_trips_to_the_bit_through_a_file(tmp_path):
    random.gauss(0, 1)  # leaves one number of a pair behind, in Python and in NumPy
    np.random.randn()  # noqa: NPY002
    CheckpointStore(tmp_path).save(1, random_state())
    expected = draws()
    draws()
    restore_random_state(CheckpointStore(tmp_path).load_latest())
    assert draws() == expected
