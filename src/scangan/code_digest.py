"""A digest of the code that decides what a job writes, so that a change of the code reruns just these jobs."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypedDict

PACKAGE_ROOT = Path(__file__).parent.parent
# What cannot change a job's bytes: the settings' model, whose values reach a job as its settings, and whatever is
# said to people while it runs. With a package its modules.
LEFT_OUT = ("scangan", "scangan.config", "scangan.errors", "scangan.jobs", "scangan.progress", "scangan.report.watch")
# Errors that end a job: what they say stands in no output. The text of a DataError does where a reader catches it and
# writes it down as the reason of a rejection.
ENDING = {"ConfigError", "DataError", "TrainingError"}
WRITTEN_DOWN = ("scangan.ct", "scangan.ingest", "scangan.metrics.reading")
LOG_CALLS = {"debug", "info", "warning", "error", "exception"}
DATA_FILE = re.compile(r"\w+\.(html|yaml)")


def script_digest(script: str | Path, by_name: Iterable[str] = ()) -> str:
    """Digest of a script and all that it imports from the package, wherever in its text, and what that imports.

    by_name: modules that it finds by name at run time, such as a network's. Docstrings, comments, layout, imports for
    type checkers alone and what the log says are no part of it; a data file that a module names and that lies beside it
    (`papers.yaml`) is.
    Raises ModuleNotFoundError for a module by name that has no file.
    """
    code = _Code.read(Path(script), "")
    parts = [f"script={code.digest}", *(f"{name}={_module(name).digest}" for name in modules_of(script, by_name))]
    return hashlib.sha256(";".join(parts).encode()).hexdigest()[:16]


def modules_of(script: str | Path, by_name: Iterable[str] = ()) -> list[str]:
    """The modules of the package that a script runs, in order, less those in `LEFT_OUT`; see `script_digest`."""
    found: set[str] = set()
    waiting = [*_Code.read(Path(script), "").imports, *by_name]
    while waiting:
        name = waiting.pop()
        if name not in found and not _is_left_out(name):
            found.add(name)
            waiting.extend(_module(name).imports)
    return sorted(found)


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(tuple(f"{package}." for package in LEFT_OUT[1:]))


class _Code:
    """One file of Python: the modules of the package that it imports, and the digest of what it does."""

    def __init__(self, text: str, name: str, folder: Path, kept: Path | None = None) -> None:
        essence = _essence(text, name) if kept is None else _kept_essence(kept, text, name)
        # Which of the names are files changes without the text.
        self.imports = frozenset(_with_packages(essence["imports"]))
        self.digest = essence["digest"]
        for file in (folder / data for data in essence["data_files"]):
            if file.is_file():
                self.digest = hashlib.sha256(self.digest.encode() + file.read_bytes()).hexdigest()

    @staticmethod
    @cache
    def read(path: Path, name: str) -> _Code:
        kept = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.essence.json"
        return _Code(path.read_text(encoding="utf-8"), name, path.parent, kept)


class _Kept(TypedDict):
    """What parsing a file tells: digest of its tree, modules and files beside it that it may name."""

    digest: str
    imports: list[str]
    data_files: list[str]


def _essence(text: str, name: str) -> _Kept:
    tree = _Essence(name).visit(ast.parse(text))
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return {"digest": digest, "imports": sorted(_imports(tree)), "data_files": sorted(_data_files(tree))}


def _kept_essence(kept: Path, text: str, name: str) -> _Kept:
    """As `_essence`, which takes a second for all files: kept beside the compiled code, under the digest of the text.

    Where nothing can be written it is parsed each time.
    """
    key = hashlib.sha256("\n".join((_rules(), name, text)).encode()).hexdigest()
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one
        if (found := json.loads(kept.read_text(encoding="utf-8")))["key"] == key:
            return found["essence"]
    essence = _essence(text, name)
    with suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
        temporary = kept.with_name(f"{kept.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"key": key, "essence": essence}), encoding="utf-8")
        temporary.replace(kept)
    return essence


@cache
def _rules() -> str:
    """This file: what is kept is told by its rules, and by Python's own of how a tree is written."""
    return f"{sys.version}\n{Path(__file__).read_text(encoding='utf-8')}"


def _module(name: str) -> _Code:
    if not (path := _path(name)).is_file():
        raise ModuleNotFoundError(f"code_digest: found {name!r}, allowed: a module of the package (no file {path})")
    return _Code.read(path, name)


def _path(name: str) -> Path:
    stem = PACKAGE_ROOT.joinpath(*name.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


class _Essence(ast.NodeTransformer):
    """Leaves what decides bytes: no docstrings, no imports for type checkers alone, no texts of log and errors."""

    def __init__(self, name: str) -> None:
        self.ending = ENDING - ({"DataError"} if name.startswith(WRITTEN_DOWN) else set())

    def _without_docstring(self, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                node.body = rest
        return self.generic_visit(node)

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _without_docstring

    def visit_If(self, node: ast.If) -> ast.AST | None:
        match node.test:
            case ast.Name(id="TYPE_CHECKING"):
                return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        match node.exc:
            case ast.Call(func=ast.Name(id=name)) if name in self.ending:
                _silence(node.exc)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func:
            case ast.Attribute(value=ast.Name(id="log"), attr=attribute) if attribute in LOG_CALLS:
                _silence(node)
        return self.generic_visit(node)


def _silence(call: ast.Call) -> None:
    """Forget the words in a call's arguments, and keep what is computed in them."""
    for node in ast.walk(call):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""


def _imports(tree: ast.AST) -> set[str]:
    """Names in this package that are imported anywhere in a text: modules, and what stands in them."""
    named: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                named.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from package import module` names a module, `from module import function` does not.
                named.update(f"{module}.{alias.name}" for alias in names)
                named.add(module)
    return {name for name in named if name.split(".")[0] == "scangan"}


def _with_packages(named: Iterable[str]) -> set[str]:
    """The modules among the names, and the packages around them, which run too."""
    ours = {name for name in named if _path(name).is_file()}
    return ours | {package for name in ours for package in _packages(name.split("."))}


def _packages(parts: Sequence[str]) -> list[str]:
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _data_files(tree: ast.AST) -> set[str]:
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if DATA_FILE.fullmatch(text)}
