"""The listing of a data folder: what is a change, what is none, and how little is read to know it."""

import os
import shutil

import pytest

from scangan.errors import DataError
from scangan.ingest import listing
from scangan.ingest.listing import data_state, list_data, record_data


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for name in ("a/1.png", "a/2.png", "b/deeper/3.png", "labels.csv"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return root


class Folder:
    """A data folder with its record, as the workflow keeps them."""

    def __init__(self, root):
        self.root, self.record, self.results = root, root.parent / "record.json", root.parent / "results"

    def state(self):
        return data_state(self.root, self.results, self.record)

    def read(self):
        return record_data(self.root, self.results, self.record)


@pytest.fixture
def folder(data):
    folder = Folder(data)
    folder.first = folder.state()
    folder.read()
    assert folder.state() == folder.first
    return folder


def later(path, seconds=7):
    modified = path.stat().st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(modified, modified))


def add(root):
    (root / "b/deeper/4.png").write_text("new")


def remove(root):
    (root / "a/2.png").unlink()


def rename(root):
    (root / "b/deeper/3.png").rename(root / "b/deeper/4.png")


def rename_folder(root):
    (root / "b/deeper").rename(root / "b/other")


def replace(root):
    (root / "a/1.png").write_text("something else, of another size")


def correct(root):
    path = root / "labels.csv"
    path.write_text(path.read_text().replace("content", "CONTENT"))  # the same size
    later(path)


def swap(root):
    one, other = root / "a/1.png", root / "a/2.png"
    one.rename(root / "x"), other.rename(one), (root / "x").rename(other)


CHANGES = [add, remove, rename, rename_folder, replace, correct, swap]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_once_read_is_no_change_any_more(folder, change):
    change(folder.root)
    changed = folder.state()
    assert changed != folder.first
    assert folder.state() == changed
    folder.read()
    assert folder.state() == changed


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_before_anything_was_read(data, change):
    folder = Folder(data)
    before = folder.state()
    change(data)
    assert folder.state() != before
    assert not folder.record.exists()


def test_touching_every_file_is_no_change(folder, monkeypatch):
    for path in folder.root.rglob("*.*"):
        later(path)
    assert folder.state() == folder.first
    # And the next plan reads nothing.
    monkeypatch.setattr(listing, "_hash", lambda path: 1 / 0)
    assert folder.state() == folder.first


def test_touched_and_read_again_is_no_change(folder):
    later(folder.root / "a/1.png")
    folder.read()
    assert folder.state() == folder.first


def test_a_copy_without_times_is_no_change(folder, tmp_path):
    shutil.move(folder.root, tmp_path / "old")
    shutil.copytree(tmp_path / "old", folder.root, copy_function=shutil.copyfile)
    assert folder.state() == folder.first


def test_a_change_taken_back_is_none(folder):
    path = folder.root / "labels.csv"
    before = path.read_text()
    correct(folder.root)
    assert folder.state() != folder.first
    path.write_text(before)
    later(path, 20)
    assert folder.state() == folder.first


def test_only_what_changed_is_read(folder, monkeypatch):
    hashed = []

    def watch(path, original=listing._hash):
        hashed.append(path.relative_to(folder.root).as_posix())
        return original(path)

    monkeypatch.setattr(listing, "_hash", watch)
    folder.read()
    assert hashed == []
    later(folder.root / "a/2.png")
    add(folder.root)
    replace(folder.root)
    folder.state()
    assert hashed == ["a/2.png"]  # another time; of another size, or new, is enough
    folder.read()
    assert sorted(hashed[1:]) == ["a/1.png", "b/deeper/4.png"]


def test_an_unreadable_file_stays_as_it_is_and_touched_counts_as_changed(folder, monkeypatch):
    monkeypatch.setattr(listing, "_hash", lambda path: "")
    folder.record.unlink()
    folder.read()
    state = folder.state()
    assert folder.state() == state
    later(folder.root / "a/1.png")
    assert folder.state() != state


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "{}", lambda text: "[1]"])
def test_a_damaged_record_is_as_good_as_none(folder, damage):
    folder.record.write_text(damage(folder.record.read_text()))
    assert folder.state() == folder.first


def test_the_record_names_no_file_and_is_for_its_owner_alone(folder):
    text = folder.record.read_text()
    assert not any(part in text for part in ("png", "labels", "deeper"))
    assert folder.record.stat().st_mode & 0o077 == 0


def test_what_is_hidden_left_by_systems_or_our_own_is_not_listed(folder):
    for name in (".DS_Store", "a/._1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png", "a/Thumbs.db"):
        path = folder.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("not data")
    folder.results = folder.root / "results"
    (folder.results / "head_ct").mkdir(parents=True)
    (folder.results / "head_ct/table.csv").write_text("a result")
    assert folder.state() == folder.first


def test_links_are_followed_loops_and_broken_ones_are_not(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "5.png").write_text("five")
    (folder.root / "linked").symlink_to(elsewhere)
    (folder.root / "a/loop").symlink_to(folder.root)
    (folder.root / "broken.png").symlink_to(tmp_path / "nowhere")
    paths = [file.path for file in list_data(folder.root, folder.results)]
    assert paths == ["a/1.png", "a/2.png", "b/deeper/3.png", "labels.csv", "linked/5.png"]
    state = folder.state()
    (elsewhere / "5.png").write_text("another five")
    assert folder.state() != state


def test_names_of_any_bytes(folder):
    (folder.root / os.fsdecode(b"caf\xe9.png")).write_text("latin-1")
    assert folder.state() != folder.first
    folder.read()


def test_no_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="root: found no such folder"):
        list_data(tmp_path / "nowhere", tmp_path)


def test_a_summary_says_how_much_there_is(folder):
    summary = folder.read()
    assert summary["files"] == 4
    assert summary["bytes"] == sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    content = summary["content"]
    later(folder.root / "a/1.png")
    assert folder.read()["content"] == content
    replace(folder.root)
    assert folder.read()["content"] != content
