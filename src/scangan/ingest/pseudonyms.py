"""Pseudonyms by keyed hashes: what leaves the ingestion names no patient, and only the key's owner can find one again.

The key stays in the user's data folder. Without it nobody can go back from a pseudonym to an id, nor try ids out.
"""

from __future__ import annotations

import csv
import hmac
import logging
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TextIO

from scangan.errors import DataError

log = logging.getLogger(__name__)

FOLDER = ".scangan"
KEY_BYTES = 32
PUBLIC_KEY = b"scangan: the ids of a public set"
# Identifiers of so many characters hide whole words only: `12` is in every tenth file's name.
SHORT, SHORT_NUMBER = 2, 4

KNOWN_ENDINGS = frozenset(
    ".dcm .dicom .ima .img .nii .gz .mha .mhd .nrrd .nhdr .raw .zraw .zip .tar .csv .xls .xlsx .txt .json .xml .pdf "
    ".png .jpg .jpeg .tif .tiff .bmp .sqlite .db .exe .inf .ini .log .md .html".split()
)
# Words of institutions, devices and studies that name nobody alone; no word that is a person's name.
SAY_NOTHING = frozenset(
    "of in at on and for the de la der und hospital clinic university medical center centre department radiology "
    "imaging institute systems image images series study slice slices scan scans scanner ct mr dcm dicom data "
    "phantom".split()
)
LARGEST_NUMBER = 9999  # a slice, a series; longer ones may be a date or a hospital's number
YEARS = range(1900, 2100)
MONTH = (
    r"(?<![a-z])(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    r"|nov(ember)?|dec(ember)?)(?![a-z])"
)
# 03.02.01, 3feb01, Feb 3; others hold a year or a long number.
DATE = re.compile(rf"(?<!\d)\d{{1,2}}[-_. ]\d{{1,2}}[-_. ]\d{{2}}(?!\d)|\d[-_., ]*{MONTH}|{MONTH}[-_., ]*\d")
LONG_NUMBER = re.compile(r"\d{6,}|\d+([-_./]\d+){2,}|\b(19|20)\d\d\b")  # ids, uids and dates within a sentence
MEASURE = re.compile(r"[(\[]?-?\d{1,4}\.\d+[,;:)\]]*")  # 0.9980234, however many digits
WORD = re.compile(r"\d+|[^\W\d_]+")
TOKEN = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Pseudonyms:
    """Stable names in place of identifiers, by HMAC-SHA256 under `key`.

    is_public: patients and scans of a public set are named under a key that everybody knows, the same at every site;
    what is hidden in paths and sentences stays under the secret one.
    """

    key: bytes
    is_public: bool = False

    def patient(self, patient_id: str) -> str:
        """`p` and 12 hexadecimal digits."""
        return "p" + self._name("patient", patient_id)

    def scan(self, series_uid: str) -> str:
        """`s` and 12 hexadecimal digits."""
        return "s" + self._name("scan", series_uid)

    def _name(self, domain: str, text: str) -> str:
        named = replace(self, key=PUBLIC_KEY) if self.is_public else self
        return named.digest(domain, text)[:12]

    def hidden(self, text: str) -> str:
        """What stands in the place of an identifying text: the same for the same text."""
        return f"[hidden-{self.digest('hidden', text)[:6]}]"

    def digest(self, domain: str, text: str) -> str:
        """64 hexadecimal digits; the same text in two domains shares nothing."""
        return hmac.digest(self.key, f"{domain}\0{text}".encode(errors="surrogateescape"), "sha256").hex()


def open_key(root: Path, fallback: Path | None = None) -> tuple[bytes, Path]:
    """The key of a data folder, made when first asked for, and the private folder that holds it.

    It is `<root>/.scangan/pseudonym.key`, for the owner's eyes only; where `root` cannot be written it is
    `pseudonym.key` in `fallback` (None: `~/.config/scangan`). Of several jobs that make it at once, one wins.
    Raises DataError if the key is damaged, if it is another user's, or if neither folder can be written.
    """
    fallback = fallback or Path.home() / ".config" / "scangan"
    private = Path(root) / FOLDER
    try:
        return _read_or_make(private), private
    except OSError as error:
        if (private / "pseudonym.key").exists():
            raise DataError(f"{private / 'pseudonym.key'}: found {error.strerror}, allowed: a readable key") from error
        log.info("%s cannot be written (%s): the key of its pseudonyms is in %s", root, error.strerror, fallback)
    try:
        return _read_or_make(fallback), fallback
    except OSError as error:
        raise DataError(f"{fallback}: found {error.strerror}, allowed: a folder for the key of pseudonyms") from error


def _read_or_make(folder: Path) -> bytes:
    file = folder / "pseudonym.key"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f".{secrets.token_hex(8)}.key"
        try:
            with _open_private(temporary) as opened:
                opened.write(secrets.token_hex(KEY_BYTES) + "\n")
            os.link(temporary, file)  # whole or not at all, and never over another job's key
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    text = file.read_text(errors="replace").strip()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise DataError(f"{file}: key: found {len(text)} characters, allowed: {2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(text)


def _open_private(file: Path) -> TextIO:
    """Open for writing at the end, made for the owner's eyes only."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return open(descriptor, "a+", newline="", encoding="utf-8", errors="surrogateescape")


def hide(path: PurePath, identifiers: frozenset[str], pseudonyms: Pseudonyms) -> str:
    """A relative path without what identifies: `[hidden-1a2b3c]/IM-0001.dcm` for `Doe_Jane/IM-0001.dcm`.

    A part is replaced by a hash of its own if it holds one of the identifiers or a word of one (in any case, accents
    and punctuation), if it looks like a date or a year, if it holds a number above 9999 (`000123` is not), and if it
    cannot be printed. A known file ending is kept. All other parts stay, so that a bad file can be found.

    What may stay: the name of a person whom no header names, in the headers' spelling; a small number that is a
    hospital's; a date in another language's words, or of six digits in the year 2000. `rejected.csv` of the results is
    therefore to be read before it is passed on.
    """
    parts = []
    for part in path.parts:
        stem, ending = part, ""
        while (suffix := PurePath(stem).suffix).lower() in KNOWN_ENDINGS:
            stem, ending = stem.removesuffix(suffix), suffix + ending
        identifies = _names(stem, identifiers) or _is_suspicious(stem)
        parts.append((pseudonyms.hidden(stem) if identifies else stem) + ending)
    return "/".join(parts) or "."


def hide_text(text: str, identifiers: frozenset[str], pseudonyms: Pseudonyms) -> str:
    """A sentence in which every word that holds an identifier, a date or a long number is replaced, as in `hide`."""

    def identifies(word: str) -> bool:
        looks_so = LONG_NUMBER.search(word) and not MEASURE.fullmatch(word)
        return bool(looks_so) or _names(word, identifiers)

    words = re.split(r"(\s+)", text)
    return "".join(pseudonyms.hidden(word) if identifies(word) else word for word in words)


def write_lookup(folder: Path, true_paths: Mapping[str, str]) -> None:
    """Add to `rejected.csv` in the key's folder which file a hidden path stands for; for the owner's eyes only."""
    if not true_paths:
        return
    file = folder / "rejected.csv"
    try:
        with _open_private(file) as opened:
            opened.seek(0)
            known = {tuple(row) for row in csv.reader(opened)}
            csv.writer(opened).writerows(row for row in true_paths.items() if row not in known)
    except OSError as error:
        log.warning("%s cannot be written (%s): hidden paths cannot be looked up", file, error.strerror)


def _is_suspicious(name: str) -> bool:
    """Whether it looks like a date or a long number, or cannot be printed (undecodable bytes, line breaks)."""
    plain = _plain(name)
    numbers = [word for word in WORD.findall(plain) if word.isdecimal()]
    return (
        not name.isprintable()
        or bool(DATE.search(plain))
        or any(int(number) > LARGEST_NUMBER or (len(number) == 4 and int(number) in YEARS) for number in numbers)
    )


def _names(text: str, identifiers: frozenset[str]) -> bool:
    """Whether a text holds an identifier, or one of the words of it (`jane` of `DOE^JANE`)."""
    plain = _plain(text)
    words = WORD.findall(plain)
    joined = "".join(words)
    whole, within = _wanted(identifiers)
    return not whole.isdisjoint([*words, *TOKEN.findall(plain), joined]) or any(word in joined for word in within)


@lru_cache(maxsize=256)
def _wanted(identifiers: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Words that identify where they stand alone, and those of them that do so within others."""
    whole = set()
    for identifier in identifiers:
        parts = WORD.findall(_plain(identifier))
        # Numbers within an identifier, such as a uid's, say nothing alone, nor does an initial.
        whole |= {"".join(parts), *(part for part in parts if len(part) > 1 and not part.isdecimal())}
    whole -= SAY_NOTHING
    within = {word for word in whole if len(word) > (SHORT_NUMBER if word.isdecimal() else SHORT)}
    return frozenset(whole - {""}), frozenset(within)


def _plain(text: str) -> str:
    """Lower case without accents: `Müller` and `MULLER` are one."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
