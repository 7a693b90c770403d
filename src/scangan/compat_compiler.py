"""torch's compiler, which no job uses, is loaded where something asks for it, and not at each job's start.

torch's optimizers, torchvision and Lightning Fabric import `torch._dynamo` only to say what it must leave alone. That
takes more than a second a process, half of all that a job of the demo needs to load. In its place stand the four names
that they ask for, which do what the compiler does where nothing is compiled: nothing. Any other name
loads the compiler.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "torch._dynamo"


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of each module, as by `inspect`, which wants nothing of this one
            raise AttributeError(name)
        _load_compiler()
        return getattr(importlib.import_module(self.__name__), name)


class _Finder(MetaPathFinder, Loader):
    """Finds the compiler's own modules: they are imported as soon as the stand-in is out of their way."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.startswith(f"{_PACKAGE}.") and _load_compiler():
            return ModuleSpec(name, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It has run."""


def _load_compiler() -> bool:
    """Replace the stand-in by the compiler; whether it was there."""
    if not isinstance(sys.modules.get(_PACKAGE), _StandIn):
        return False
    for module in (_PACKAGE, f"{_PACKAGE}.utils"):
        sys.modules.pop(module)
    importlib.import_module(_PACKAGE)
    return True


class OptimizedModule:
    """No module is one."""


def leave_out_compiler() -> None:
    """Put the stand-in in the compiler's place, unless it is loaded already; call before anything imports torch."""
    if _PACKAGE in sys.modules:
        return
    package, utils = _StandIn(_PACKAGE), _StandIn(f"{_PACKAGE}.utils")
    stands_for = {"disable": _as_it_is, "graph_break": _nothing, "OptimizedModule": OptimizedModule, "utils": utils}
    vars(package).update(stands_for, __path__=[])  # a package: `_Finder` knows its modules
    vars(utils).update(is_compile_supported=_never)
    sys.modules.update({_PACKAGE: package, utils.__name__: utils})
    sys.meta_path.insert(0, _Finder())


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    return function


def _nothing() -> None:
    pass


def _never(device: Any) -> bool:
    return False
