"""Prepares torchvision on CPU-only torch: import this module before torchvision, torch_fidelity or lightning.

The regular torchvision wheel is built for CUDA. Beside CPU torch its C++ operators cannot be loaded, and its import
fails because it describes two of them, `nms` and `qnms`, without asking whether they exist. Nothing here calls them, so
their schemas are enough.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library  # the definitions live as long as this object


def prepare_torchvision() -> None:
    """Define the schemas of `nms` and `qnms` where torchvision cannot bring its own; a second call changes nothing."""
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms") or _loads_operators():
        return
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _library.define(name + _NMS)


def _loads_operators() -> bool:
    """Whether torchvision was built for this torch (its CPU wheels, macOS): then it defines the operators itself."""
    torchvision = find_spec("torchvision")
    if torchvision is None or torchvision.origin is None:
        return False
    try:
        for library in Path(torchvision.origin).parent.glob("_C.*"):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")


prepare_torchvision()
