"""The listing of a data folder: what is a change, what is none, and how little is read to know it."""

import os
import shutil

import pytest

from scangan.errors import DataError
from scangan.ingest import data_record
from scangan.ingest.data_files import list_files
from scangan.ingest.data_record import data_state, record_data
from scangan.ingest.listing import list_data, mark_results


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
        self.root, self.record = root, root.parent / "record.json"

    def state(self):
        return data_state(self.root, self.record)

    def read(self):
        return record_data(self.root, self.record)


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
    monkeypatch.setattr(data_record, "_hash", lambda path: 1 / 0)
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

    def watch(path, original=data_record._hash):
        hashed.append(path.relative_to(folder.root).as_posix())
        return original(path)

    monkeypatch.setattr(data_record, "_hash", watch)
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
    monkeypatch.setattr(data_record, "_hash", lambda path: "")
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
    assert folder.state() == folder.first


@pytest.mark.parametrize("where", ["results", "a/results", "b/deeper/older runs"])
def test_results_are_no_data_wherever_they_lie(folder, tmp_path, where):
    results = folder.root / where
    mark_results(results)
    (results / "head_ct").mkdir()
    (results / "head_ct/7.png").write_text("a result")
    assert folder.state() == folder.first
    # A link to results elsewhere, too.
    mark_results(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/8.png").write_text("a result")
    (folder.root / "link").symlink_to(tmp_path / "elsewhere")
    assert folder.state() == folder.first
    # But whoever names a folder of results as data gets it.
    assert [file.path for file in list_data(results)] == ["head_ct/7.png"]


def test_links_are_followed_loops_and_broken_ones_are_not(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "5.png").write_text("five")
    (folder.root / "linked").symlink_to(elsewhere)
    (folder.root / "a/loop").symlink_to(folder.root)
    (folder.root / "broken.png").symlink_to(tmp_path / "nowhere")
    paths = [file.path for file in list_data(folder.root)]
    assert paths == ["a/1.png", "a/2.png", "b/deeper/3.png", "labels.csv", "linked/5.png"]
    state = folder.state()
    (elsewhere / "5.png").write_text("another five")
    assert folder.state() != state


def test_names_of_any_bytes(folder):
    (folder.root / os.fsdecode(b"caf\xe9.png")).write_text("latin-1")
    assert folder.state() != folder.first
    folder.read()


def test_readers_get_what_can_be_opened_and_the_rest_by_name(folder, tmp_path):
    for name in (b"caf\xe9.png", b"\x83\x65 2.nii", b"a/\xff\xfe.dcm"):
        (folder.root / os.fsdecode(name)).write_text("a name of another encoding")
    (folder.root / "broken.png").symlink_to(tmp_path / "nowhere")
    (folder.root / "circle.png").symlink_to("circle.png")
    os.mkfifo(folder.root / "pipe.png")
    (folder.root / "device.png").symlink_to("/dev/zero")
    odd = ["a 'quoted'; name.png", "new\nline.png", "caf\u00e9.png", "-rf.png", "\u202egnp.exe"]
    for name in odd:
        (folder.root / name).write_text("any name of UTF-8 is fine")
    files, rejected = list_files(folder.root)
    known = ["a/1.png", "a/2.png", "b/deeper/3.png", "labels.csv"]
    assert sorted(str(file.relative_to(folder.root)) for file in files) == sorted([*known, *odd])
    assert files == sorted(files)
    assert {each.source: each.reason for each in rejected} == {
        "broken.png": "broken link",
        "circle.png": "broken link",
        "device.png": "broken link",
        "pipe.png": "not a file",
        r"\x83e 2.nii": "name is not UTF-8",
        r"a/\xff\xfe.dcm": "name is not UTF-8",
        r"caf\xe9.png": "name is not UTF-8",
    }


def test_no_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="root: found no such folder"):
        list_data(tmp_path / "nowhere")


def test_a_summary_says_how_much_there_is(folder):
    summary = folder.read()
    assert summary["files"] == 4
    assert summary["bytes"] == sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    content = summary["content"]
    later(folder.root / "a/1.png")
    assert folder.read()["content"] == content
    replace(folder.root)
    assert folder.read()["content"] != content
