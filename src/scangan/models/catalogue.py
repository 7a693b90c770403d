"""The generative networks by name, and how a trained one is written: safetensors and JSON, no pickles."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scangan.errors import DataError


def find_model(name: str) -> ModuleType:
    """The file of `scangan.models` that defines `Generator`, `Discriminator`, `OUTPUT_RANGE`, `IMAGE_SIZE`."""
    return importlib.import_module(f"scangan.models.{name}")


def build(name: str, base_width: int | None, channels: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a model; `base_width` None is the paper's width."""
    model = find_model(name)
    arguments: dict[str, Any] = {"channels": channels}
    if base_width is not None:
        arguments["base_width"] = base_width
    return model.Generator(**arguments), model.Discriminator(**arguments)


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write a network's state as safetensors."""
    save_file({name: tensor.contiguous().cpu() for name, tensor in state.items()}, path)


def write_generator(weights: Path, description: Path, state: dict[str, Tensor], **facts: Any) -> None:
    """Write a generator's weights, and beside them what it takes to build it again and where it comes from.

    `facts` must hold `model`, `base_width`, `channels`; the rest is for the reader.
    """
    write_weights(weights, state)
    description.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def read_generator(weights: Path, description: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The generator in evaluation mode, and its facts. Raises DataError naming a broken file."""
    try:
        facts = json.loads(description.read_text())
        generator, _ = build(facts["model"], facts["base_width"], facts["channels"])
    except (ValueError, KeyError) as error:
        raise DataError(f"{description}: description: {error!r}; remove the file and run again") from None
    try:
        generator.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{weights}: weights: {reason}; remove the file and run again") from None
    return generator.eval(), facts
