"""Configurations that explode, contradict themselves, hold what is no text, or are no YAML at all."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import yaml

from scangan.config import load
from scangan.errors import ConfigError
from tests.hostile.harness import Answer, Case, Place

ROOT = Path(__file__).parents[2]
NAN, INF = float("nan"), float("inf")


@cache
def default() -> dict:
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def changed(key: str, value: object) -> dict:
    """The default configuration with another value at a dotted key."""
    raw = copy.deepcopy(default())
    *path, last = key.split(".")
    block = raw
    for part in path:
        block = block[part]
    block[last] = value
    return raw


def nested(depth: int, kind: type) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else [value]
    return value


def laughs(levels: int) -> object:
    """Anchors in anchors: ten of each in the next; a few hundred bytes of YAML."""
    value: object = ["lol"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def circular(kind: type) -> object:
    """What YAML's `&a {b: *a}` gives."""
    value: object = {} if kind is dict else []
    if isinstance(value, dict):
        value["study"] = value
    else:
        value.append(value)
    return value


EPOCHS = "studies.head_ct.gan.dcgan32.epochs"
VALUES: dict[str, tuple[str, Callable[[], object]]] = {
    "nan": (EPOCHS, lambda: NAN),
    "infinity": (EPOCHS, lambda: INF),
    "rate_nan": ("studies.head_ct.gan.dcgan32.learning_rate_generator", lambda: NAN),
    "rate_infinity": ("studies.head_ct.gan.dcgan32.learning_rate_generator", lambda: INF),
    "split_nan": ("studies.head_ct.split.train", lambda: NAN),
    "share_infinity": ("studies.head_ct.data.max_rejected", lambda: INF),
    "huge_number": (EPOCHS, lambda: 10**400),
    "huge_text_number": (EPOCHS, lambda: "9" * 5000),
    "negative": (EPOCHS, lambda: -(2**63)),
    "boolean": (EPOCHS, lambda: True),
    "null": (EPOCHS, lambda: None),
    "date": (EPOCHS, lambda: yaml.safe_load("2001-01-01")),
    "bytes": (EPOCHS, lambda: b"\xff\xfe"),
    "set": (EPOCHS, lambda: {1, 2}),
    "long_text": (EPOCHS, lambda: "x" * 10**6),
    "lines": (EPOCHS, lambda: "a\nb\r\n\x1b[2J"),
    "list_of_studies": ("studies", lambda: ["head_ct"]),
    "study_null": ("studies.head_ct", lambda: None),
    "study_text": ("studies.head_ct", lambda: "yes"),
    "study_list": ("studies.head_ct", lambda: [1, 2]),
    "study_empty": ("studies.head_ct", dict),
    "study_number_key": ("studies", lambda: {1: default()["studies"]["head_ct"]}),
    "study_boolean_key": ("studies", lambda: {True: default()["studies"]["head_ct"]}),
    "study_null_key": ("studies", lambda: {None: default()["studies"]["head_ct"]}),
    "study_tuple_key": ("studies", lambda: {(1, 2): {}}),
    "study_empty_key": ("studies", lambda: {"": {}}),
    "study_climbs": ("studies", lambda: {"../../x": default()["studies"]["head_ct"]}),
    "study_slash": ("studies", lambda: {"a/b": default()["studies"]["head_ct"]}),
    "study_lines": ("studies", lambda: {"a\nb": default()["studies"]["head_ct"]}),
    "study_long": ("studies", lambda: {"x" * 10000: default()["studies"]["head_ct"]}),
    "study_right_to_left": ("studies", lambda: {"\u202eabc": default()["studies"]["head_ct"]}),
    "study_surrogate": ("studies", lambda: {"a\udcff": default()["studies"]["head_ct"]}),
    "network_climbs": ("studies.head_ct.gan", lambda: {"../x": {"model": "dcgan32"}}),
    "number_key_inside": ("studies.head_ct.gan.dcgan32", lambda: {1: 2}),
    "model_list": ("studies.head_ct.gan.dcgan32.model", lambda: ["dcgan32"]),
    "model_dict": ("studies.head_ct.gan.dcgan32.model", dict),
    "model_path": ("studies.head_ct.gan.dcgan32.model", lambda: "../../os"),
    "model_long": ("studies.head_ct.gan.dcgan32.model", lambda: "x" * 10**6),
    "reader_list": ("studies.head_ct.data.reader", list),
    "reader_number": ("studies.head_ct.data.reader", lambda: 5),
    "root_list": ("data_roots.head_ct", list),
    "root_nul": ("data_roots.head_ct", lambda: "a\0b"),
    "root_long": ("data_roots.head_ct", lambda: "x/" * 5000),
    "root_device": ("data_roots.head_ct", lambda: "/dev/zero"),
    "root_lines": ("data_roots.head_ct", lambda: "a\nb"),
    "results_nul": ("results", lambda: "a\0b"),
    "results_empty": ("results", lambda: ""),
    "results_list": ("results", list),
    "results_long": ("results", lambda: "x" * 5000),
    "classes_lists": ("studies.head_ct.data.classes", lambda: {"a": [1], "b": [2]}),
    "classes_100000": ("studies.head_ct.data.classes", lambda: {f"c{number}": number for number in range(10**5)}),
    "keys_100000": ("studies.head_ct.classifier", lambda: {f"c{number}": number for number in range(10**5)}),
    "split_file_device": ("studies.head_ct.split.file", lambda: "/dev/zero"),
    "split_file_nul": ("studies.head_ct.split.file", lambda: "a\0b"),
    "split_file_folder": ("studies.head_ct.split.file", lambda: "/"),
    "deep_dict": ("studies.head_ct.classifier", lambda: nested(500, dict)),
    "deep_list": (EPOCHS, lambda: nested(500, list)),
    "deeper_dict": ("studies.head_ct.classifier", lambda: nested(100_000, dict)),
    "deeper_list": (EPOCHS, lambda: nested(100_000, list)),
    "laughs": (EPOCHS, lambda: laughs(8)),
    "laughs_as_classes": ("studies.head_ct.data.classes", lambda: {"a": laughs(8), "b": 1}),
    "circular_dict": ("studies", lambda: circular(dict)),
    "circular_list": (EPOCHS, lambda: circular(list)),
    "circular_study": ("studies.head_ct", lambda: circular(dict)),
    "surrogate_text": (EPOCHS, lambda: "\ud800"),
    "unknown_lines": ("a\nb", lambda: 1),
}
WHOLE: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "empty": dict,
    "text": lambda: "studies",
    "list": lambda: ["studies"],
    "number": lambda: 7,
    "number_key": lambda: {1: 2},
    "null_key": lambda: {None: {}},
}
# As YAML, read as Snakemake reads it.
TEXTS: dict[str, bytes] = {
    "python_object": b"results: !!python/object/apply:os.system ['touch climbed']\n",
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(98, 106)
    ),
    "open_bracket": b"studies: {head_ct: [\n",
    "deep": b"results: " + b"[" * 3000 + b"]" * 3000,
    "latin": "results: résultats\n".encode("latin-1"),
    "nul": b"results: a\0b\n",
    "twice": b"results: a\nresults: b\n",
    "no_block": b"- studies\n",
}


def nothing(folder: Path) -> None:
    """What is read is made in memory."""


def read_value(make: Callable[[], object], place: Place) -> Answer:
    try:
        load(make())
    except ConfigError as error:
        lines = str(error).splitlines()
        broken = [f"no line of its own: {line[:100]!r}" for line in lines if not line.startswith("config: ")]
        return Answer(lines=[(line,) for line in lines], problems=broken)
    return Answer(taken=True)


def write_yaml(content: bytes, folder: Path) -> None:
    (folder / "hostile.yaml").write_bytes(content)


def read_plan(place: Place) -> Answer:
    """A dry run of the workflow, whose last line is what a user sees."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--cores", "1", "--directory", place.results]
    command += [
        "--snakefile",
        ROOT / "Snakefile",
        "--configfile",
        ROOT / "config/config.yaml",
        place.input / "hostile.yaml",
    ]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if run.returncode == 0:
        return Answer(taken=True)
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    answer = Answer(lines=[(line.strip(),) for line in lines])
    if run.returncode < 0:
        answer.problems.append(f"died of signal {-run.returncode}")
    return answer


def cases() -> Iterator[Case]:
    may = {"root_device", "root_long", "root_lines", "results_long", "study_long", "study_empty", "huge_number"}
    for name, (key, make) in VALUES.items():
        read = partial(read_value, partial(_changed, key, make))
        yield Case(f"config/{name}", nothing, read, "either" if name in may else "line", most_lines=3)
    for name, make in WHOLE.items():
        yield Case(f"config/whole_{name}", nothing, partial(read_value, make), "either", most_lines=3)
    for name, content in TEXTS.items():
        yield Case(
            f"config/yaml_{name}",
            partial(write_yaml, content),
            read_plan,
            "either",
            most_lines=3,
            seconds=90,
            may_run=True,
        )


def _changed(key: str, make: Callable[[], object]) -> dict:
    return changed(key, make())


CASES = list(cases())
