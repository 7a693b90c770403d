"""CSV files of labels, splits, patients, and lists of names: in every encoding, form and size that a user may bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from scangan import config
from scangan.data.split import read_split
from tests.hostile.entries import NO_FILES, damaged, grey_image, ingest, rejected_lines
from tests.hostile.harness import Answer, Case, Place
from tests.unit.test_covid_ct import TINY, write_layout

# Image, label, patient.
ROWS = [("scan_1", "sick", "anna"), ("scan_2", "sick", "bert"), ("scan_3", "well", "cleo"), ("scan_4", "well", "dora")]
ROWS += [("scan_é", "well", "éva")]
PARTS = ["train", "validation", "test"] * 2
SPLIT = [(f"image_{number}", PARTS[number % 6]) for number in range(12)]


def text(header: tuple[str, ...], rows: list[tuple[str, ...]], separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in (header, *rows))


def encodings(said: str, latin: str) -> Iterator[tuple[str, bytes, str]]:
    """The same table in other encodings. latin: without what those do not have."""
    yield "utf8", said.encode(), "read"
    yield "utf8_bom", said.encode("utf-8-sig"), "read"
    yield "utf8_two_boms", b"\xef\xbb\xbf" + said.encode("utf-8-sig"), "either"
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp1252", "cp037"):
        yield name.replace("-", ""), said.encode(name), "either"
    # Other encodings of one or two bytes a letter cannot be told from Windows-1252: their names come out as others.
    yield "iso2022jp", latin.replace("anna", "花子").encode("iso2022_jp"), "either"
    yield "half_utf16", said.encode("utf-16")[:-1], "line"
    yield (
        "surrogates",
        said.replace("é", "\udce9").encode("utf-8", "surrogatepass"),
        "line" if "é" in said else "either",
    )


def forms(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[tuple[str, bytes, str]]:
    """Separators, ends of lines, quotes, and what has no place in a table."""
    said = text(header, rows)
    for name, separator in {"semicolons": ";", "tabs": "\t", "pipes": "|", "spaces": " "}.items():
        yield f"form_{name}", text(header, rows, separator).encode(), "either"
    for name, end in {"windows": "\r\n", "old_mac": "\r", "none": ""}.items():
        yield f"ends_{name}", text(header, rows, end=end).encode(), "line" if name == "none" else "read"
    yield "ends_mixed", said.replace("\n", "\r\n", 2).encode(), "read"
    yield "no_last_end", said.rstrip("\n").encode(), "read"
    yield "blank_lines", said.replace("\n", "\n\n").encode(), "either"
    yield "quoted", "".join(",".join(f'"{part}"' for part in row) + "\n" for row in (header, *rows)).encode(), "read"
    yield "quote_open", said.replace(rows[1][0], '"' + rows[1][0]).encode(), "either"
    yield (
        "single_quotes",
        "".join(",".join(f"'{part}'" for part in row) + "\n" for row in (header, *rows)).encode(),
        "either",
    )
    yield "formula", said.replace(rows[0][1], "=cmd|' /C calc'!A0").encode(), "either"
    yield "formula_at", said.replace(rows[0][0], "@SUM(1+1)*cmd|' /C calc'!A0").encode(), "either"
    yield "nul", said.replace(rows[0][0], rows[0][0] + "\0").encode(), "either"
    yield "nul_in_header", said.replace(header[0], header[0] + "\0").encode(), "either"
    yield "escapes", said.replace(rows[0][1], "\x1b[2J\x07").encode(), "either"
    yield "right_to_left", said.replace(rows[0][1], "\u202ekcis\u202c").encode(), "either"
    yield "line_in_a_field", said.replace(rows[0][1], '"si\nck"').encode(), "either"
    yield "duplicate_column", text((*header, header[0]), [(*row, row[0]) for row in rows]).encode(), "line"
    yield "duplicate_rows", text(header, rows + rows[:1]).encode(), "either"
    yield "contradicting_rows", text(header, [*rows, (rows[0][0], rows[-1][1], *rows[0][2:])]).encode(), "line"
    yield "header_twice", text(header, [header, *rows]).encode(), "either"
    yield "no_header", text(rows[0], rows[1:]).encode(), "line"
    yield "header_alone", text(header, []).encode(), "line"
    yield "one_column", text(header[:1], [row[:1] for row in rows]).encode(), "line"
    yield (
        "spaces_around",
        text(tuple(f" {name} " for name in header), [tuple(f"  {part} " for part in row) for row in rows]).encode(),
        "read",
    )
    yield "capitals", text(tuple(name.upper() for name in header), rows).encode(), "either"
    yield "long_row", text(header, [(*rows[0], *"xyz"), *rows[1:]]).encode(), "either"
    yield "short_row", text(header, [rows[0][:1], *rows[1:]]).encode(), "either"
    yield (
        "ragged",
        "".join(",".join(row * (number + 1)) + "\n" for number, row in enumerate((header, *rows))).encode(),
        "either",
    )
    yield "empty_fields", text(header, [("", *rows[0][1:]), *rows[1:]]).encode(), "line"
    yield "comment", b"# exported on Monday\n" + said.encode(), "line"
    yield "not_a_number", said.replace(rows[0][0], "NaN").replace(rows[1][0], "None").encode(), "either"
    yield "unicode_digits", said.replace(rows[0][0], "\u0661\u0662").encode(), "either"
    yield "superscript", said.replace(rows[0][0], "\u00b2").encode(), "either"
    yield "long_number", said.replace(rows[0][0], "9" * 5000).encode(), "either"
    yield "separator_line", b"sep=,\n" + said.encode(), "either"
    yield "many_columns", text((*header, *(f"c{number}" for number in range(10**5))), rows).encode(), "either"
    yield "many_other_columns", text(tuple(f"c{number}" for number in range(10**5)), []).encode(), "line"
    yield "huge_field", said.replace(rows[0][1], "x" * 2**24).encode(), "line"
    yield "huge_header", said.replace(header[0], "x" * 2**24).encode(), "line"
    yield "huge_id", said.replace(rows[0][0], "x" * 2**20).encode(), "line"
    yield (
        "many_rows",
        text(header, rows + [(f"none_{number}", *rows[0][1:]) for number in range(10**5)]).encode(),
        "either",
    )
    yield "climbs", said.replace(rows[0][0], "../../etc/passwd").encode(), "line"
    yield "spreadsheet", b"PK\x03\x04" + bytes(range(256)) * 20, "line"
    yield "old_spreadsheet", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "line"


def all_forms(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[tuple[str, bytes, str]]:
    said = text(header, rows)
    yield from encodings(said, said.replace("é", "e"))
    yield from forms(header, rows)
    yield from ((f"damaged_{name}", content, "either") for name, content in damaged(said.encode()))


# Labels


def write_labels(content: bytes | Callable[[Path], None], folder: Path) -> None:
    for number, (name, _, _) in enumerate(ROWS):
        grey_image(40 * number).save(folder / f"{name}.png")
    put(folder / "labels.csv", content)


def put(path: Path, content: bytes | Callable[[Path], None]) -> None:
    path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def read_labels(place: Place) -> Answer:
    settings = config.LabelledImages(
        reader="labelled_images", root="mine", classes={"sick": "sick", "well": "well"}, image_size=8, max_rejected=0.9,
        patient_column="patient",
    )  # fmt: skip
    manifest, _, ingested = ingest(place, settings)
    lines = rejected_lines(ingested.rejected)
    found = set(zip(manifest.image_id, manifest.label, manifest.patient_id, strict=True))
    answer = Answer(taken=not lines, lines=lines)
    if wrong := found - set(ROWS):
        answer.problems.append(f"other rows than the file's: {sorted(wrong)[:2]}")
    if not lines and found != set(ROWS):
        answer.problems.append(f"lost silently: {sorted(set(ROWS) - found)[:2]}")
    return answer


# Splits


def write_split(content: bytes | Callable[[Path], None], folder: Path) -> None:
    put(folder / "split.csv", content)


def read_own_split(place: Place) -> Answer:
    ids = [image for image, _ in SPLIT]
    labels = ["sick"] * 6 + ["well"] * 6
    manifest = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels}, dtype="str")
    table = read_split(place.input / "split.csv", manifest, rejected=["sick/lost.png"])
    table.to_csv(place.results / "split.csv", index=False)
    answer = Answer(taken=True)
    if dict(zip(table.image_id, table.split, strict=True)) != dict(SPLIT):
        answer.problems.append("another split than the file's")
    return answer


# COVID-CT's lists and tables


def write_covid(name: str, content: Callable[[bytes], bytes] | Callable[[Path], None], folder: Path) -> None:
    write_layout(folder, TINY)
    path = folder / name
    if content in NO_FILES:
        put(path, content)
    else:
        path.write_bytes(content(path.read_bytes()))


def read_covid(place: Place) -> Answer:
    settings = config.CovidCt(
        reader="covid_ct", root="covid", classes={"covid": "CT_COVID", "normal": "CT_NonCOVID"}, image_size=8,
        channels=3, fit="stretch", max_rejected=0.9,
    )  # fmt: skip
    manifest, _, ingested = ingest(place, settings)
    lines = rejected_lines(ingested.rejected)
    answer = Answer(taken=not lines, lines=lines)
    # What the lists leave out is in no part, and counted below the cohort's table.
    if not lines and not len(ingested.official) <= len(manifest) == 16 - len(TRANSPARENT):
        answer.problems.append(f"{len(manifest)} images, {len(ingested.official)} of them in the official split")
    return answer


TRANSPARENT: tuple[str, ...] = ()  # the layout's images with an alpha channel are opaque


def covid_changes() -> Iterator[tuple[str, Callable[[bytes], bytes], str]]:
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037"):
        yield encoding, partial(recode, encoding), "read" if encoding in ("utf-8-sig", "latin-1") else "either"
    yield "windows_ends", lambda said: said.replace(b"\n", b"\r\n"), "read"
    yield "old_mac_ends", lambda said: said.replace(b"\n", b"\r"), "read"
    yield "nul", lambda said: said.replace(b"2020", b"20\x0020", 1), "either"
    yield "other_bytes", lambda said: said.replace(b"2020", b"\xff\xfe2020", 1), "either"
    yield "formula", lambda said: said.replace(b"2020", b"=2020", 1), "either"
    yield "climbs", lambda said: said.replace(b"2020", b"../../2020", 1), "either"
    yield "absolute", lambda said: said.replace(b"2020", b"/etc/2020", 1), "either"
    yield "escape", lambda said: said.replace(b"2020", b"\x1b[2J2020", 1), "either"
    yield "long_line", lambda said: said + b"x" * 2**22 + b"\n", "either"
    yield "folder_named", lambda said: said + b".\n..\n", "either"
    yield "twice", lambda said: said + said, "either"
    yield "empty", lambda said: b"", "either"
    yield "page", lambda said: b"<html><title>404</title></html>\n", "either"
    yield "many", lambda said: said + b"".join(b"x%d.png\n" % number for number in range(20000)), "either"


def recode(encoding: str, said: bytes) -> bytes:
    return said.decode().encode(encoding)


def cases() -> Iterator[Case]:
    for name, content, expect in all_forms(("id", "label", "patient"), ROWS):
        yield Case(f"tables/labels/{name}", partial(write_labels, content), read_labels, expect, most_lines=10**6)
    for name, content, expect in all_forms(("image_id", "split"), SPLIT):
        yield Case(f"tables/split/{name}", partial(write_split, content), read_own_split, expect)
    for file in ("Data-split/COVID/trainCT_COVID.txt", "Info/COVID-CT-MetaInfo.csv"):
        short = "list" if file.endswith("txt") else "patients"
        for name, change, expect in covid_changes():
            build = partial(write_covid, file, change)
            yield Case(f"tables/covid_{short}/{name}", build, read_covid, expect, most_lines=10**6)
        for make in NO_FILES:
            yield Case(f"tables/covid_{short}/{make.__name__}", partial(write_covid, file, make), read_covid, "line")
    for make in NO_FILES:
        yield Case(f"tables/labels/{make.__name__}", partial(write_labels, make), read_labels, "line")
        yield Case(f"tables/split/{make.__name__}", partial(write_split, make), read_own_split, "line")
    for name, build, read in (("labels", write_labels, read_labels), ("split", write_split, read_own_split)):
        yield Case(f"tables/{name}/unreadable", partial(build, unreadable), read, "line", True)


def unreadable(path: Path) -> None:
    path.write_bytes(b"id,label,patient\n")
    path.chmod(0)


CASES = list(cases())
