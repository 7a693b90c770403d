"""Tables that people wrote: CSV in whatever encoding and with whatever separator their programs saved it."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scangan.errors import DataError
from scangan.rejected import printable

SEPARATORS = (",", ";", "\t")
UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")
SHOWN = 6  # columns of a wrong table
MOST_SHOWN = 100  # letters of a value
SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def read_user_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """The columns asked for, as text without spaces around it; a missing field is empty, other columns are ignored.

    Read are UTF-8, UTF-16 with a byte order mark, and else Windows-1252, as Excel saves a plain CSV; fields divided by
    commas, semicolons or tabs.
    Raises DataError, naming the file and what was found, if it cannot be read, is empty or no text, lacks one of the
    columns or has it twice, has no rows, or if a row has more fields than there are columns.
    """
    asked = f"a CSV with columns {', '.join(columns)}"
    text = read_text(path, asked)
    if not text.strip():
        raise DataError(f"{path}: file: found nothing in it, allowed: {asked}")
    # The separator is the one that makes the names of the columns; with none of them, the names are wrong.
    header, rows = max(
        (_divide(path, text, separator) for separator in SEPARATORS),
        key=lambda table: len(set(columns) & set(table[0])),
    )
    for name in columns:
        if header.count(name) != 1:
            found = ", ".join(map(shown, header[:SHOWN])) + (", ..." if len(header) > SHOWN else "")
            once = "" if name not in header else ", each once"
            raise DataError(f"{path}: columns: found {found}; allowed: {', '.join(columns)}{once}")
    if not rows:
        raise DataError(f"{path}: file: found no rows below the names of the columns, allowed: {asked}")
    table = pd.DataFrame(rows, columns=range(len(header)), dtype="str")
    return table[[header.index(name) for name in columns]].set_axis(list(columns), axis=1)


def read_text(path: str | Path, asked: str) -> str:
    """A text file in UTF-8, UTF-16 with a byte order mark, or else Windows-1252, without such marks.

    asked: what it should be, for the error's line. Raises DataError if it is no file, cannot be read, or holds no text.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end, nor would a device
            raise DataError(f"{path}: file: found a folder, pipe or device, allowed: {asked}")
        text = _decode(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: file: found {error.strerror}, allowed: {asked}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path}: file: found no text, allowed: {asked}, in UTF-8")
    return text


def shown(value: str) -> str:
    """What stood in a table, in one line of bounded length."""
    return str(printable(value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}..."))


def _decode(data: bytes) -> str:
    if data.startswith(UTF_16_BOMS):
        return data.decode("utf-16")
    while data.startswith(codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Not from the bytes of UTF-8's own: a half surrogate is a damaged file, and no text of Windows.
        if SURROGATE.search(data):
            raise
        return data.decode("cp1252")


def _divide(path: str | Path, text: str, separator: str) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows as long as there are names; lines without any text are left out."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    rows = []
    try:
        for line in lines:
            fields = [field.strip() for field in line]
            if not any(fields):
                continue
            if not header:
                header = fields
            elif any(fields[len(header) :]):
                found = f"{len(fields)} fields in line {lines.line_num}"
                raise DataError(f"{path}: file: found {found}, allowed: {len(header)}, as there are columns")
            else:
                rows.append([*fields, *[""] * len(header)][: len(header)])
    except csv.Error as error:
        raise DataError(f"{path}: file: found {error} in line {lines.line_num}, allowed: a CSV") from None
    return header, rows
