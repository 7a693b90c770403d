"""The generative networks by name, and how a trained one is written: safetensors and JSON, no pickles."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor, device, nn

from scangan.errors import ConfigError, DataError
from scangan.files import atomic, reading

if TYPE_CHECKING:
    from scangan.config import Gan


def find_model(name: str) -> ModuleType:
    """The file of `scangan.models` that defines `Generator`, `Discriminator`, `OUTPUT_RANGE`, `IMAGE_SIZES`.

    It may define `OPTIONS` as well, see `network_options`, `TRAINED_AGAINST`, see `feature_networks`, and `DIMENSIONS`
    of its images, if they are three.
    """
    return importlib.import_module(f"scangan.models.{name}")


def image_shape(name: str, channels: int, image_size: int) -> tuple[int, ...]:
    """Of an image that a model draws: [channels, image_size, image_size], or a cube of channels."""
    return (channels, *[image_size] * getattr(find_model(name), "DIMENSIONS", 2))


def build(name: str, channels: int, image_size: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a model for images [channels, image_size, image_size].

    options: `base_width`, and what else a model's paper varies (`network_options`); left out, they are the paper's.
    `classes`: how many a network is told apart that draws several.
    Raises ConfigError for a size that the model cannot have.
    """
    generator = build_generator(name, channels, image_size, **options)
    return generator, find_model(name).Discriminator(channels=channels, image_size=image_size, **options)


def build_generator(name: str, channels: int, image_size: int, **options: Any) -> nn.Module:
    """The generator alone, see `build`: to draw images takes no discriminator."""
    model = find_model(name)
    if image_size not in model.IMAGE_SIZES:
        allowed = ", ".join(map(str, model.IMAGE_SIZES))
        if isinstance(sizes := model.IMAGE_SIZES, range):
            allowed = f"{sizes[0]}, {sizes[1]}, ... {sizes[-1]}"
        raise ConfigError(f"config: image_size: found {image_size}, allowed with {name}: {allowed}")
    return model.Generator(channels=channels, image_size=image_size, **options)


def network_options(settings: Gan) -> dict[str, Any]:
    """What the network that `settings` names is built with (see `build`); what is null there is left to the paper.

    Beside `base_width` the model's file names them, if there are any: `OPTIONS`, argument of `Generator` and
    `Discriminator` -> key of the settings.
    """
    keys = {"base_width": "base_width"} | getattr(find_model(settings.model), "OPTIONS", {})
    options = {name: attrgetter(key)(settings) for name, key in keys.items()}
    return {name: value for name, value in options.items() if value is not None}


def feature_networks(name: str, **options: Any) -> list[str]:
    """The networks by whose features a model's generator is trained: none of them may judge it.

    They are named as `fidelity.extractor` names them; the model's file says which, if it uses any: `TRAINED_AGAINST`,
    for each value of its option `discriminator` where it has one. options: see `build`.
    """
    named = getattr(find_model(name), "TRAINED_AGAINST", ())
    if isinstance(named, dict):
        named = named.get(options.get("discriminator"), ())
    return list(named)


def is_conditional(description: str | Path) -> bool:
    """Whether a generator draws the images of several classes, by what `write_generator` wrote beside it.

    Raises DataError naming a broken file.
    """
    with reading(description, "description", "that of a trained network; remove the file and run again"):
        return "classes" in json.loads(Path(description).read_text())


def trained_against(descriptions: Iterable[str | Path]) -> set[str]:
    """The feature networks that helped to train generators, by what `write_generator` wrote beside them.

    Raises DataError naming a broken file.
    """
    found: set[str] = set()
    for path in descriptions:
        with reading(path, "description", "that of a trained network; remove the file and run again"):
            found.update(map(str, json.loads(Path(path).read_text())["trained_against"]))
    return found


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write a network's state as safetensors."""
    with atomic(path) as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in state.items()}, temporary)


def write_generator(weights: Path, description: Path, state: dict[str, Tensor], **facts: Any) -> None:
    """Write a generator's weights, and beside them what it takes to build it again and where it comes from.

    `facts` must hold `model`, `channels`, `image_size`, `options` (see `build`), and the `label` whose images it draws,
    or `classes`, those of one that is told the class, in the order of its numbers; the rest is for the reader.
    """
    with atomic(description) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        write_weights(weights, state)


def read_generator(
    weights: Path, description: Path, image_size: int | None = None, label: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The generator in evaluation mode, and its facts. Raises DataError naming a broken file.

    image_size: another edge than it was trained for, where its weights do not depend on it. label: the class that is to
    be drawn, which the facts then name; it must be the generator's, or one of its `classes`.
    """
    with reading(description, "description", "that of a trained network; remove the file and run again"):
        facts = json.loads(description.read_text())
        facts["image_size"] = image_size or facts["image_size"]
        arguments = (facts["model"], facts["channels"], facts["image_size"])
        options = facts["options"] | ({"classes": len(facts["classes"])} if "classes" in facts else {})
        with device("meta"):  # takes no memory, whatever sizes are said
            expected = build_generator(*arguments, **options)
        if label is not None:
            classes = facts["classes"] if "classes" in facts else [facts["label"]]
            if label not in classes:
                raise DataError(f"{description}: label: found '{label}', allowed: {' | '.join(classes)}")
            facts["label"] = label
    with reading(weights, "weights", "those of a trained network; remove the file and run again"):
        state = load_file(weights)
        check_weights(weights, state, expected)
        generator = build_generator(*arguments, **options)
        generator.load_state_dict(state)
    return generator.eval(), facts


def check_weights(path: Path, state: dict[str, Tensor], network: nn.Module) -> None:
    """Raise DataError, naming the first tensor that differs, unless these are a network's weights."""
    found, expected = (
        {name: f"{str(each.dtype).removeprefix('torch.')} {list(each.shape)}" for name, each in tensors.items()}
        for tensors in (state, network.state_dict())
    )
    for name in sorted(found.keys() | expected.keys()):
        if (has := found.get(name, "none")) != (needs := expected.get(name, "none")):
            raise DataError(f"{path}: {name}: found {has}, allowed: {needs}; remove the file and run again")
