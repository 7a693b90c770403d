"""Names of files and folders that break paths, terminals, tables and other systems."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scangan import config
from tests.hostile.entries import (
    GREYS,
    HEALTHY_SCAN,
    HOSTILE_SCAN,
    SIZE,
    grey_image,
    ingest,
    read_image_folder,
    read_scan_folder,
    rejected_lines,
    write_images,
    write_scan,
)
from tests.hostile.harness import Answer, Case, Place
from tests.hostile.volumes import nifti

GREY = 200
NAMES: dict[str, str] = {
    "spaces": "  a  b  ",
    "quotes": "a'b\"c`d",
    "semicolon": "a;rm -rf x;b",
    "dollar": "$(touch climbed) ${HOME} %PATH%",
    "braces": "{wildcard} {0} {{}}",
    "percent": "100%s%d%n",
    "comma": "a,b,c",
    "formula": "=cmd|' C calc'!A0",
    "line": "a\nb",
    "carriage": "a\rb",
    "tab": "a\tb",
    "escape": "a\x1b[2J\x07b",
    "emoji": "lung\U0001fac1\U0001f469\u200d\u2695\ufe0f",
    "dashes": "--help",
    "dash": "-rf",
    "dots": "a..b..",
    "three_dots": "a...",
    "dot_end": "a.",
    "tilde": "~root",
    "star": "*?[a-z]",
    "backslash": "a\\..\\..\\b",
    "colon": "C:a",
    "pipe": "a|b>c<d&e",
    "right_to_left": "a\u202egnp.b",
    "zero_width": "a\u200b\u2060b",
    "decomposed": "e\u0301e\u0301",
    "chinese": "\u80ba\u90e8\u626b\u63cf",
    "arabic": "\u0635\u0648\u0631\u0629",
    "not_utf8": os.fsdecode(b"caf\xe9\xff"),
    "longest": "x" * 200,
    "device": "CON",
    "device_2": "aux.NUL.COM1",
    "number": "9" * 100,
    "empty_stem_like": " ",
    "hash": "#a#",
    "at": "@SUM(1)",
}


def longest(name: str, suffix: str) -> str:
    """The name with an ending, as long as file systems allow where it is to be long."""
    return ("x" * (255 - len(suffix)) if name == NAMES["longest"] else name) + suffix


def write_image(name: str, folder: Path) -> None:
    write_images(folder)
    with (folder / "sick" / longest(name, ".png")).open("wb") as file:
        grey_image(GREY).save(file, "PNG")


def write_bad_image(name: str, folder: Path) -> None:
    """An image that is refused: its name comes into the line."""
    write_images(folder)
    (folder / "sick" / longest(name, ".png")).write_bytes(b"no image")


def write_class_folder(name: str, folder: Path) -> None:
    """A class's folder of this name, below one of the healthy classes: images lie at any depth."""
    write_images(folder)
    inner = folder / "sick" / longest(name, "")
    inner.mkdir()
    grey_image(GREY).save(inner / "image.png")


def write_named_class(name: str, folder: Path) -> None:
    write_images(folder)
    (folder / "sick").rename(folder / longest(name, ""))


def read_named_class(name: str, place: Place) -> Answer:
    """The configuration names the folder."""
    settings = config.ImageFolder(
        root="mine", classes={"sick": longest(name, ""), "healthy": "healthy"}, image_size=SIZE, max_rejected=0.9
    )
    manifest, _, ingested = ingest(place, settings)
    answer = Answer(taken=len(manifest) == len(GREYS), lines=rejected_lines(ingested.rejected))
    if manifest.label.value_counts().to_dict() != {"sick": 2, "healthy": 2}:
        answer.problems.append(f"other labels: {manifest.label.tolist()}")
    return answer


def write_series_in(name: str, folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    write_scan(folder / longest(name, ""), HOSTILE_SCAN, 2)


def write_rejected_series_in(name: str, folder: Path) -> None:
    """A series that is refused: its name comes into the line."""
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    write_scan(folder / longest(name, ""), HOSTILE_SCAN, 2)[3].unlink()


def write_dicom_file(name: str, folder: Path) -> None:
    """A file of this name that is no DICOM."""
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    (folder / longest(name, ".dcm")).write_bytes(b"DICM it is not")


def write_volume(name: str, folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    (folder / longest(name, ".nii.gz")).write_bytes(gzip.compress(nifti()))


def write_bad_volume(name: str, folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)
    (folder / longest(name, ".nii")).write_bytes(nifti()[:700])


def cases() -> Iterator[Case]:
    for key, name in NAMES.items():
        yield Case(f"names/image/{key}", partial(write_image, name), partial(read_image_folder, grey=GREY))
        yield Case(f"names/refused_image/{key}", partial(write_bad_image, name), read_image_folder, "line")
        yield Case(f"names/folder/{key}", partial(write_class_folder, name), partial(read_image_folder, grey=GREY))
        yield Case(f"names/class/{key}", partial(write_named_class, name), partial(read_named_class, name))
        yield Case(f"names/series/{key}", partial(write_series_in, name), read_scan_folder, "read")
        yield Case(f"names/refused_series/{key}", partial(write_rejected_series_in, name), read_scan_folder, "line")
        yield Case(f"names/no_dicom/{key}", partial(write_dicom_file, name), read_scan_folder, "line")
        yield Case(f"names/volume/{key}", partial(write_volume, name), read_scan_folder)
        yield Case(f"names/refused_volume/{key}", partial(write_bad_volume, name), read_scan_folder, "line")


CASES = list(cases())
