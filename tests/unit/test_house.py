"""The floors of the house: who may import whom, no circles, and what takes long to load stays where it is needed."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
# From the ground up; a room may import those of the floors below it, and its own.
FLOORS = [
    {"errors", "compat", "compat_compiler", "compat_pylidc", "code_digest", "facts"},
    {"files", "progress", "arms", "locks"},
    {"seals", "processes"},
    {"rejected", "jobs", "config"},
    {"ct", "models", "device"},
    {"data", "phantoms"},
    {"ingest"},
    {"training", "synthesis", "metrics"},
    {"report"},
    {"plan"},
    {"memory", "scangan"},  # the package itself, whose `load` is its door to the outside
    {"forecast"},
    {"check"},
    {"__main__"},
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
# On one floor, and yet one way: metrics use what trains, never the other way round.
ONE_WAY = {("metrics", "training")}
# Networks know neither data nor images in files: what they are given are tensors.
APART = [("models", "data"), ("models", "ct"), ("ingest", "phantoms"), ("phantoms", "data")]


@cache
def imports():
    """Module -> the modules of the package that it imports when it runs, wherever in its text."""
    files = {
        path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): path
        for path in SOURCE.glob("scangan/**/*.py")
    }
    names = {name.removesuffix(".__init__") for name in files}
    found = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text())
        for_types = {
            node
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for node in ast.walk(block)
        }
        used = set()
        for node in ast.walk(tree):
            if node in for_types:
                continue
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        found[name.removesuffix(".__init__")] = used & names - {"scangan"}
    return found


def room(name):
    return name.split(".")[1] if "." in name else name


def test_every_room_has_a_floor():
    assert {room(name) for name in imports()} == set(FLOOR)


def test_imports_go_downwards_only():
    upwards = [
        f"{name} -> {other}"
        for name, used in imports().items()
        for other in used
        if room(name) != room(other)
        and FLOOR[room(other)] >= FLOOR[room(name)]
        and (room(name), room(other)) not in ONE_WAY
    ]
    assert upwards == []


@pytest.mark.parametrize("pair", APART, ids=str)
def test_some_rooms_do_not_know_each_other(pair):
    one, other = pair
    known = [
        f"{name} -> {used}"
        for name, all_used in imports().items()
        for used in all_used
        if {room(name), room(used)} == {one, other}
    ]
    assert known == []


def circle_of(graph):
    """A circle of a graph, or nothing."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        found = next((circle for each in sorted(graph[node]) if (circle := visit(each))), [])
        path.pop()
        done.add(node)
        return found

    return next((circle for node in sorted(graph) if (circle := visit(node))), [])


def test_no_circle_of_modules():
    # A package's own __init__ gathers what its modules define.
    packages = {name for name in imports() if (SOURCE / name.replace(".", "/")).is_dir()}
    graph = {name: used - packages for name, used in imports().items() if name not in packages}
    assert circle_of(graph) == []


def test_a_circle_would_be_seen():
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_circle_of_rooms():
    graph = {each: set() for each in FLOOR}
    for name, used in imports().items():
        graph[room(name)] |= {room(other) for other in used} - {room(name)}
    assert circle_of(graph) == []


@pytest.mark.parametrize(
    ("modules", "slow"),
    [
        ("scangan.plan scangan.code_digest scangan.ingest.listing scangan.jobs", "torch pandas numpy zarr"),
        ("scangan.forecast.report", "torch pandas numpy zarr"),
        ("scangan.data.store scangan.data.split scangan.data.scan_store", "torch scipy SimpleITK pydicom"),
        ("scangan.facts scangan.arms scangan.rejected", "torch matplotlib zarr"),
        ("scangan", "torch pandas numpy pydantic"),
        ("scangan.report.tables scangan.report.style", "torch"),
    ],
)
def test_what_takes_long_to_load_stays_where_it_is_needed(modules, slow):
    code = f"import sys, {', '.join(modules.split())}; print(*sorted(set('{slow}'.split()) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    assert run.stdout.strip() == "", run.stderr
    assert run.returncode == 0, run.stderr


def test_the_library_knows_no_snakemake():
    for path in SOURCE.glob("scangan/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "snakemake" for name in names), path
