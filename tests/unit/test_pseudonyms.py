"""Pseudonyms, their key, and paths that identify nobody."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import pytest

from scangan.errors import DataError
from scangan.ingest import pseudonyms as module
from scangan.ingest.pseudonyms import Pseudonyms, hide, hide_text, open_key, write_lookup

NAMES = Pseudonyms(bytes(range(32)))
OTHERS = Pseudonyms(bytes(32))
IDENTIFIERS = frozenset(
    {
        "DOE^JANE",
        "MRN-00417",
        "7",
        "0815",
        "X1",
        "Müller^Hans",
        "Lu",
        "1.2.840.113704.1.111.2804",
        "Medical Center Kernighan",
    }
)


# Pseudonyms


def test_stable_and_different():
    assert NAMES.patient("a") == Pseudonyms(NAMES.key).patient("a")
    pseudonyms = [NAMES.patient("a"), NAMES.patient("b"), NAMES.scan("a"), OTHERS.patient("a")]
    assert len({pseudonym[1:] for pseudonym in pseudonyms}) == 4
    assert [pseudonym[0] for pseudonym in pseudonyms] == list("ppsp")
    assert all(len(pseudonym) == 13 and int(pseudonym[1:], 16) >= 0 for pseudonym in pseudonyms)


def test_any_text_has_a_pseudonym():
    assert NAMES.patient("Mü\udcffller") != NAMES.patient("Mü\udcfeller")


# The key


def test_key_is_made_once_and_private(tmp_path):
    key, folder = open_key(tmp_path)
    assert open_key(tmp_path) == (key, folder) == (key, tmp_path / ".scangan")
    assert len(key) == 32
    assert [file.name for file in folder.iterdir()] == ["pseudonym.key"]
    assert stat.S_IMODE((folder / "pseudonym.key").stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert open_key(tmp_path / "other")[0] != key


def test_jobs_that_race_get_the_same_key(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: open_key(tmp_path)[0], range(64)))
    assert len(keys) == 1
    assert [file.name for file in (tmp_path / ".scangan").iterdir()] == ["pseudonym.key"]


def test_key_of_a_folder_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    root, home = tmp_path / "root", tmp_path / "home"
    root.mkdir()
    mkdir = Path.mkdir

    def refuse(path, *arguments, **options):  # a mode would not stop a test that runs as root
        if path == root / ".scangan":
            raise PermissionError(13, "Permission denied")
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with caplog.at_level("INFO"):
        key, folder = open_key(root, home / "scangan")
    assert folder == home / "scangan"
    assert open_key(root, home / "scangan")[0] == key
    assert "cannot be written (Permission denied)" in caplog.text
    assert list(root.iterdir()) == []
    monkeypatch.setattr(Path, "home", lambda: home)
    assert open_key(root)[1] == home / ".config" / "scangan"


def test_key_that_may_not_be_read(tmp_path, monkeypatch):
    open_key(tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(DataError, match=r"pseudonym\.key: found denied, allowed: a readable key"):
        open_key(tmp_path, tmp_path / "home")


@pytest.mark.parametrize("content", ["", "00ff", "g" * 64, "0" * 65])
def test_damaged_key(tmp_path, content):
    open_key(tmp_path)
    (tmp_path / ".scangan" / "pseudonym.key").write_text(content)
    with pytest.raises(DataError, match=r"pseudonym\.key: key: found \d+ characters, allowed: 64 hexadecimal digits"):
        open_key(tmp_path)


# Paths


NAMED = "doe_jane|Jane-Doe|JANEDOE|xx jane 1|mrn00417|MRN 00417|00417-MRN|hans_muller|MÜLLER|report of jane|Kernighan"
NUMBERED = "1.2.840.113704.1.111.2804|0417332|12345|7|CT 7|x1|scan-X1|Lu|0815|P0815|LIDC-IDRI-12345|012345"
DATED = (
    "20010203|2001-02-03|01-02-2001|03.02.2001|03.02.01|3-2-01|2001|CT20010203|2001_scan|3feb01|Feb 3|2-March-01|10203"
)


@pytest.mark.parametrize("part", [*NAMED.split("|"), *NUMBERED.split("|"), *DATED.split("|"), "M\udcfcller", "a\nb"])
def test_hidden_parts(part):
    hidden = NAMES.hidden(part)
    assert hide(PurePath(part, "CT", f"{part}.dcm"), IDENTIFIERS, NAMES) == f"{hidden}/CT/{hidden}.dcm"


@pytest.mark.parametrize(
    "path",
    [
        "000123.dcm",
        "IM-0001",
        "DICOM/ST000001/SE000002/IM000017",
        "CT/1-017.dcm",
        "scan 12/slice_0003.DCM",
        "a.nii.gz",
        "gap/truncated.dcm",
        "Medical Center/lung.flute",
        "IM-00815.dcm",
        "march/decoy 8b",
        "Schmidt",  # whom no header names
        ".",
    ],
)
def test_other_paths_stay_readable(path):
    assert hide(PurePath(path), IDENTIFIERS, NAMES) == path


def test_endings():
    assert hide(PurePath("Jane.nii.gz"), IDENTIFIERS, NAMES).endswith("].nii.gz")
    assert hide(PurePath("IM-0001.Jane"), IDENTIFIERS, NAMES) == NAMES.hidden("IM-0001.Jane")
    assert hide(PurePath("CT.20010203"), frozenset(), NAMES) == NAMES.hidden("CT.20010203")


def test_hash_is_stable_keyed_and_short():
    jane = frozenset({"Jane"})
    assert hide(PurePath("Jane"), jane, NAMES) == hide(PurePath("Jane"), IDENTIFIERS, NAMES)
    assert hide(PurePath("Jane"), jane, NAMES) != hide(PurePath("Jane"), jane, OTHERS)
    assert len(hide(PurePath("Jane"), jane, NAMES)) == len("[hidden-1a2b3c]")


def test_sentences():
    shown = hide_text(
        "found 3 of 17 slices of 2.5 mm, Jane_1.dcm on 03.02.2001, 1.2.840.113 in 512 rows", IDENTIFIERS, NAMES
    )
    assert shown.startswith("found 3 of 17 slices of 2.5 mm, [hidden-")
    assert shown.endswith("] in 512 rows")
    assert not any(secret in shown for secret in ("Jane", "03.02", "840"))
    measures = "directions (0.9980234, -0.0000012, 1.0) and 1024.5 mm"
    assert hide_text(measures, IDENTIFIERS, NAMES) == measures
    assert "[hidden-" in hide_text("17.20010203.5", IDENTIFIERS, NAMES)
    institution = frozenset({"Hospital of the North"})
    assert hide_text("found 3 of the files", institution, NAMES) == "found 3 of the files"


# The private table


def test_lookup_grows_without_repeats(tmp_path):
    write_lookup(tmp_path, {"[hidden-1]": "Jane, Doe"})
    write_lookup(tmp_path, {"[hidden-1]": "Jane, Doe", "[hidden-2]": "J\udcff"})
    file = tmp_path / "rejected.csv"
    assert file.read_bytes() == b'[hidden-1],"Jane, Doe"\r\n[hidden-2],J\xff\r\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_lookup_that_cannot_be_written_only_warns(tmp_path, caplog):
    os.rmdir(tmp_path)
    write_lookup(tmp_path, {"[hidden-1]": "Jane"})
    assert "hidden paths cannot be looked up" in caplog.text
    assert module.FOLDER == ".scangan"


def test_public_names_rest_on_no_key_and_hidden_texts_on_the_secret_one():
    one, other = (Pseudonyms(key, is_public=True) for key in (b"one", b"other"))
    assert (
        one.patient("LIDC-IDRI-0001") == other.patient("LIDC-IDRI-0001") != Pseudonyms(b"one").patient("LIDC-IDRI-0001")
    )
    assert one.scan("1.2.3") == other.scan("1.2.3")
    assert one.scan("1.2.3")[1:] != one.patient("1.2.3")[1:]
    assert one.hidden("Roe") == Pseudonyms(b"one").hidden("Roe") != other.hidden("Roe")
