"""A digest of the code that decides what a job writes, so that a change of the code reruns just these jobs."""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

PACKAGE_ROOT = Path(__file__).parent.parent
# What they decide reaches a job through its settings, or not at all.
DATA_FILE = re.compile(r"\w+\.(html|yaml)")
LEFT_OUT = {"scangan.config", "scangan.errors", "scangan.jobs", "scangan.training.progress"}


def code_digest(*modules: str) -> str:
    """Digest of these modules of the package and all that they import from it, docstrings and comments left out.

    A data file that a module names and that lies beside it (`papers.yaml`) is part of it.

    Imports are read, not run: `importlib.import_module(name)` is not followed, so a module found by name
    (a network of the catalogue) must be given. Raises ModuleNotFoundError for a module that has no file.
    """
    digests = "".join(f"{name}={_digest(name)};" for name in sorted(_reachable(modules)))
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def _reachable(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found | LEFT_OUT:
            found.add(name)
            waiting.extend(_imports(name))
    return found


@cache
def _tree(name: str) -> ast.Module:
    if not (path := _path(name)).is_file():
        raise ModuleNotFoundError(f"code_digest: found {name!r}, allowed: a module of the package (no file {path})")
    return ast.parse(path.read_text())


def _path(name: str) -> Path:
    stem = PACKAGE_ROOT.joinpath(*name.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


@cache
def _imports(name: str) -> frozenset[str]:
    """Modules of this package that a module imports anywhere in its text."""
    imported = set()
    for node in ast.walk(_tree(name)):
        match node:
            case ast.Import(names=names):
                imported.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from package import module` names a module, `from module import function` does not.
                imported.update(f"{module}.{alias.name}" for alias in names)
                imported.add(module)
    package = name.split(".")[0]
    return frozenset(one for one in imported if one.split(".")[0] == package and _path(one).is_file())


@cache
def _digest(name: str) -> str:
    tree = _tree(name)
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=[ast.Expr(value=ast.Constant(value=str())), *rest]) | (
                ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.AsyncFunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
            ):
                node.body = rest
    digest = hashlib.sha256(ast.dump(tree).encode())
    for file in sorted(_data_files(name, tree)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _data_files(name: str, tree: ast.Module) -> set[Path]:
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    folder = _path(name).parent
    return {folder / text for text in texts if DATA_FILE.fullmatch(text) and (folder / text).is_file()}
