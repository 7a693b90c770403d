"""Imports pylidc 0.2.3 beside today's Python, setuptools and NumPy; nothing else in the process is changed."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


class _NumPyWithAliases(ModuleType):
    """NumPy with the aliases that it dropped, for pylidc's modules alone."""

    int = int
    float = float

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)


def prepare_pylidc(dicom_root: Path | None = None) -> ModuleType:
    """Import pylidc, and return it; afterwards `import pylidc` works as well, and a second call changes nothing.

    dicom_root: where `Scan.to_volume` and its like look for `<patient id>/.../*.dcm`; without it they raise
    RuntimeError, and all that needs the annotations alone works. It takes the place of `~/.pylidcrc`, which pylidc
    would write into the home folder, by a parser that Python 3.12 dropped.
    """
    pylidc = sys.modules.get("pylidc") or _import_pylidc()
    if dicom_root is not None:
        _look_for_dicom_in(str(dicom_root))
    return pylidc


def _import_pylidc() -> ModuleType:
    # setuptools dropped `pkg_resources`; pylidc asks it for one thing, where its database lies.
    stub = find_spec("pkg_resources") is None
    if stub:
        pkg_resources: Any = ModuleType("pkg_resources")
        pkg_resources.resource_filename = _resource_filename
        sys.modules["pkg_resources"] = pkg_resources
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pylidc = import_module("pylidc")
    finally:
        if stub:
            del sys.modules["pkg_resources"]
    for name in ("Annotation", "Contour", "utils"):
        module: Any = import_module(f"pylidc.{name}")
        module.np = _NumPyWithAliases("numpy")
    _look_for_dicom_in("")
    return pylidc


def _look_for_dicom_in(root: str) -> None:
    # The package's attribute `Scan` is the class, so its module comes by name.
    module: Any = import_module("pylidc.Scan")
    module._get_dicom_file_path_from_config_file = lambda: root


def _resource_filename(package: str, name: str) -> str:
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise ModuleNotFoundError(f"found no package {package!r}")
    return str(Path(folders[0], name))
