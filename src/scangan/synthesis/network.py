"""A trained network of images in a run's results, from which anybody draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from scangan.config import MODELS, VOLUME_MODELS
from scangan.data.store import from_pixels, to_pixels
from scangan.errors import DataError
from scangan.models.catalogue import read_generator
from scangan.synthesis.images import synthesize

FIRST = "seed0"  # the training that a study's figures show
FILES = {"generator.json", "generator.safetensors"}
NETWORK = "the folder of a trained network of images, `results/<study>/gan/<network>`, or of one of its trainings in it"


@dataclass(frozen=True)
class Network:
    """One training of a network: the generator of each class, and what is known of it.

    folder: where it was read from. generators: class -> generator in evaluation mode. facts: class -> what
    `generator.json` says, such as `data` (phantom | real), `image_size`, `channels`, `steps`.
    """

    folder: Path
    generators: dict[str, nn.Module]
    facts: dict[str, dict[str, Any]]

    @property
    def labels(self) -> list[str]:
        """The classes that it draws."""
        return list(self.generators)

    def draw(self, images: Mapping[str, int], seed: int = 0, batch_size: int = 64) -> dict[str, np.ndarray]:
        """Class -> so many images, float32 [N, C, H, W] in [0, 1]; C is 1 for grey, 3 for colour.

        Image k of a class is drawn from `seed` + k alone, and is the very image that the workflow draws from it (whose
        first one has the seed `synthesis.seed`): to the bit on the same processor, with as many threads and the same
        `batch_size` (`synthesis.batch_size`), else to within the last of its 65,536 grey levels.

        Example: `network.draw({"healthy": 100, "sick": 250})["sick"]` is [250, 1, 32, 32].
        Raises DataError for a class that it does not draw, a number that is none, a negative seed.
        """
        for label, number in images.items():
            if label not in self.generators:
                raise DataError(f"{self.folder}: label: found {label!r}, allowed: {' | '.join(self.labels)}")
            _check_number(f"images of {label}", number, 1)
        _check_number("seed", seed, 0)
        _check_number("batch_size", batch_size, 1)
        return {label: self._draw(label, seed, number, batch_size) for label, number in images.items()}

    def _draw(self, label: str, seed: int, images: int, batch_size: int) -> np.ndarray:
        facts = self.facts[label] | {"label": label}
        batches = synthesize(self.generators[label], facts, seed, images, batch_size)
        # As the workflow keeps them, which has 16 bits.
        return from_pixels(np.concatenate([to_pixels(drawn) for drawn, _ in batches]))


def load(folder: str | Path, image_size: int | None = None) -> Network:
    """Read a network that a run has trained.

    folder: `results/<study>/gan/<network>`, of which the first training is taken; or one of its trainings, `.../seed1`.
    image_size: another edge, pixels, for a network whose weights do not depend on it (as `weights_of` draws them).
    Raises DataError, naming folder or file: for none that holds a trained network of images, one that is not whole
    because its training has not ended, damaged weights; ConfigError for a size that the network cannot have.
    """
    folder = Path(folder)
    training = folder / FIRST if (folder / FIRST).is_dir() else folder
    generators, facts = {}, {}
    for place in _generators_in(training):
        generator, described = read_generator(place / "generator.safetensors", place / "generator.json", image_size)
        if described["model"] not in MODELS or described["model"] in VOLUME_MODELS:
            raise DataError(f"{place}: model: found {described['model']}, allowed: {NETWORK}")
        # One network may have learnt all classes.
        for label in described.get("classes", [described.get("label")]):
            generators[label], facts[label] = generator, described
    return Network(folder, generators, facts)


def _generators_in(training: Path) -> list[Path]:
    """The folders of a training that hold a generator each: itself, or one for each class."""
    within = sorted(each for each in training.glob("[!.]*") if each.is_dir())
    places = [training] if _files_in(training) else within
    if not any(map(_files_in, places)):
        raise DataError(f"{training}: network: found no generator, allowed: {NETWORK}")
    for place in places:
        if missing := FILES - _files_in(place):
            raise DataError(
                f"{place}: generator: found no {' and no '.join(sorted(missing))}, allowed: both, as they are when the "
                "training has ended; run the same command again"
            )
    return places


def _files_in(folder: Path) -> set[str]:
    return {name for name in FILES if (folder / name).is_file()}


def _check_number(what: str, found: Any, least: int) -> None:
    try:
        whole = index(found)
    except TypeError:
        whole = least - 1
    if whole < least:
        raise DataError(f"{what}: found {found!r}, allowed: a whole number from {least}")
