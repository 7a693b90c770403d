"""Files and folders appear under their names only when they are whole."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from scangan.errors import DataError
from scangan.files import atomic, atomic_folder, reading, said
from scangan.models import catalogue
from scangan.report.samples import write_sample_grid


def test_atomic_replaces_on_success_only(tmp_path):
    target = tmp_path / "new folder" / "table.csv"
    with atomic(target) as temporary:
        temporary.write_text("one")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        assert not target.exists()
    assert target.read_text() == "one"

    def interrupted():
        with atomic(target) as temporary:
            temporary.write_text("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "one"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "new" / "folder"
    with atomic_folder(target) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("one")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert (target / "inner" / "file").read_text() == "one"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("one")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with atomic_folder(target) as temporary:
        (temporary / "file").write_text("one")
    assert [path.name for path in target.iterdir()] == ["file"]
    for taken in (target, target / "file"):
        with pytest.raises(DataError, match="folder: found files, allowed: a new or an empty folder"):
            atomic_folder(taken).__enter__()
    assert (target / "file").read_text() == "one"


def test_a_full_disk_in_the_middle_of_weights_leaves_nothing(tmp_path, monkeypatch):
    def fill_up(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(catalogue, "save_file", fill_up)
    weights, description = tmp_path / "weights.safetensors", tmp_path / "generator.json"
    with pytest.raises(OSError, match="No space left"):
        catalogue.write_weights(weights, {"weight": torch.ones(1)})
    with pytest.raises(OSError, match="No space left"):
        catalogue.write_generator(weights, description, {"weight": torch.ones(1)}, model="dcgan32")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_grid_of_samples_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "samples.png"
    path.write_text("old")

    def fill_up(self, target, **options):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fill_up)
    with pytest.raises(OSError, match="No space left"):
        write_sample_grid(np.zeros((1, 2, 1, 4, 4), np.uint8), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def line_of(path, error):
    """What `reading` makes of an exception."""
    with pytest.raises(DataError) as raised, reading(path, "table", "a whole one"):
        raise error
    return str(raised.value)


def test_whatever_goes_wrong_in_a_file_is_one_line_that_names_it(tmp_path):
    path = tmp_path / "table"
    path.touch()
    ends = ", allowed: a whole one"
    assert line_of(path, ValueError("no\n table")) == f"{path}: table: found no table{ends}"
    assert line_of(path, KeyError("rows")) == f"{path}: table: found damaged content (KeyError 'rows'){ends}"
    assert line_of(path, EOFError()) == f"{path}: table: found damaged content (EOFError){ends}"
    assert line_of(path, MemoryError("of 9 GB")) == f"{path}: table: found more than fits into memory{ends}"
    assert line_of(path, TypeError("Expected dict, got <class 'str'>")) == (
        f"{path}: table: found Expected dict, got str{ends}"
    )
    assert line_of(path, DataError("ours")) == "ours"


def test_what_is_said_is_printable_and_short():
    assert said(ValueError("a\x1b[2J\u202eb")) == "a?[2J?b"
    assert said(ValueError("x" * 1000)) == "x" * 200 + "..."


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (lambda path: path.symlink_to(path), "no such file"),
    ],
)
def test_what_is_no_file_is_not_opened(tmp_path, make, found):
    make(tmp_path / "table")
    assert line_of(tmp_path / "table", AssertionError("opened")).endswith(f"table: found {found}, allowed: a whole one")
