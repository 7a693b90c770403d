"""Whatever the package and the scripts write goes to a temporary path first: no file is seen before it is whole."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What gives a temporary path, or something in memory.
TEMPORARY = {"atomic", "atomic_folder", "TemporaryDirectory", "scratch_folder", "io.BytesIO"}
# Calls that write to a path, and where it stands: what a method is called on, or the first or second argument.
ON_PATH = {"write_text", "write_bytes", "touch"}
FIRST = {"to_csv", "to_parquet", "to_json", "to_html", "to_pickle", "save", "savez", "save_as", "savefig", "tofile"}
SECOND = {"save_file", "WriteImage", "torch.save", "copy", "copy2", "copyfile", "copytree", "move", "dump"}
# Functions that write to a path as it is given: into the temporary folder, or file, of their caller.
GIVEN = {"zip_folder", "write_series", "_write_info", "_write", "map_tensors"}
# Those with ways of their own: the name of a checkpoint holds the digest of its content; the key of pseudonyms must
# not replace another job's, and rows are added to the table beside it.
# A file that is locked stays in its place. What is kept of a file's code is renamed there, on a floor without `atomic`.
OWN_WAYS = {"_kept_essence", "CheckpointStore.save", "_open_private", "hold", "hold_job", "hold_run"}


def raw_writes(text: str) -> list[str]:
    """The calls in a file of Python that write to a path that is not temporary."""
    parts = functions_of(ast.parse(text))
    # An attribute is set in one method and used in another.
    shared = {name for nodes in parts.values() for name in temporary_names(nodes, set()) if name.startswith("self.")}
    found = []
    for name, nodes in parts.items():
        temporary = temporary_names(nodes, shared)
        for node in nodes if name not in GIVEN | OWN_WAYS else []:
            if isinstance(node, ast.Call) and (path := written_path(node)) and not is_temporary(path, temporary):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def functions_of(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """The nodes of each function and method, by name, and those outside of them."""
    parts: dict[str, list[ast.AST]] = {"": []}
    for statement in tree.body:
        methods = statement.body if isinstance(statement, ast.ClassDef) else [statement]
        for method in methods:
            name = getattr(method, "name", "") if isinstance(method, ast.FunctionDef) else ""
            if isinstance(statement, ast.ClassDef):
                name = f"{statement.name}.{name}"
            parts.setdefault(name, []).extend(ast.walk(method))
    return parts


def temporary_names(nodes: list[ast.AST], known: set[str]) -> set[str]:
    """The names and attributes that stand for a temporary path, or for one below it."""
    names = set(known)
    for _ in range(3):  # one derives from another
        for node in nodes:
            match node:
                case ast.withitem(context_expr=value, optional_vars=ast.AST() as target):
                    pairs = [(target, value)]
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                    pairs = zip(targets, values, strict=True)
                case ast.Assign(targets=[target], value=value) | ast.For(target=target, iter=value):
                    pairs = [(target, value)]
                case _:
                    continue
            for target, value in pairs:
                if is_temporary(value, names):
                    bound = (each for each in ast.walk(target) if isinstance(each, ast.Name | ast.Attribute))
                    names.update(map(ast.unparse, bound))
    return names - {"self"}


def is_temporary(value: ast.AST, names: set[str]) -> bool:
    return any(
        ast.unparse(node) in names or (isinstance(node, ast.Call) and ast.unparse(node.func) in TEMPORARY)
        for node in ast.walk(value)
        if isinstance(node, ast.Name | ast.Attribute | ast.Call)
    )


def written_path(call: ast.Call) -> ast.AST | None:
    """The path that a call writes to; None if it writes to none."""
    whole = ast.unparse(call.func)
    on, name = (call.func.value, call.func.attr) if isinstance(call.func, ast.Attribute) else (None, whole)
    arguments = dict(enumerate(call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("open", "ZipFile"):
        path, mode = (on, arguments.get(0)) if name == "open" and on else (arguments.get(0), arguments.get(1))
        mode = arguments.get("mode", mode)
        return path if isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") else None
    if name in ON_PATH:
        return on
    if {name, whole} & SECOND:
        return arguments.get(1)
    # `store.save(step, state)` is a CheckpointStore's.
    return arguments.get(0) if name in FIRST and whole != "store.save" else None


@pytest.mark.parametrize("folder", ["src/scangan", "workflow/scripts"])
def test_nothing_is_written_under_its_final_name(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    found = {file.relative_to(ROOT).as_posix(): raw_writes(file.read_text()) for file in files}
    assert {name: writes for name, writes in found.items() if writes} == {}


@pytest.mark.parametrize(
    ("text", "is_raw"),
    [
        ("table.to_csv(snakemake.output[0], index=False)", True),
        ("with atomic(path) as temporary:\n    table.to_csv(temporary)", False),
        ("with atomic(path) as temporary:\n    table.to_csv(path)", True),
        ("with atomic(a) as one, atomic(b) as two:\n    two.write_text('')\n    one.write_bytes(b'')", False),
        ("def write(path):\n    with path.open('w') as file:\n        file.write('')", True),
        ("def read(path):\n    with path.open('rb') as file:\n        return file.read()", False),
        ("with atomic_folder(path) as new:\n    lists = new / 'lists'\n    (lists / 'a.txt').write_text('')", False),
        ("figure.savefig(path)", True),
        ("save_file(tensors, path)", True),
        (
            "def keep(path):\n    with atomic(path) as path:\n        pass\ndef other(path):\n    path.touch()",
            True,
        ),
    ],
)
def test_a_raw_write_is_found(text, is_raw):
    assert bool(raw_writes(text)) == is_raw
