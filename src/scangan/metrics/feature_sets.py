"""Features of images beside their manifest, and how they are kept: safetensors with the images' names, no pickles.

`metrics.features` makes them. This module does without torch, so whoever only reads them is quick to start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from safetensors import safe_open

from scangan.errors import DataError
from scangan.files import atomic, reading

ALL = "all"  # the classes together
TENSOR_TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
}  # safetensors' names


@dataclass(frozen=True)
class Features:
    """What a network sees in N images: features [N, D] and class logits [N, K], float32."""

    features: np.ndarray
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: np.ndarray) -> Features:
        """The images of an index or mask."""
        return Features(self.features[index], self.logits[index])


@dataclass(frozen=True)
class FeatureSet:
    """Features of images and the images' manifest, in the same order."""

    features: Features
    manifest: pd.DataFrame

    def __post_init__(self) -> None:
        if len(self.features) != len(self.manifest):
            raise ValueError(f"features of {len(self.features)} images do not fit a manifest of {len(self.manifest)}")

    def __len__(self) -> int:
        return len(self.manifest)

    def select(self, mask: np.ndarray | pd.Series) -> FeatureSet:
        """The images of a boolean mask."""
        mask = np.asarray(mask, bool)
        return FeatureSet(self.features.select(mask), self.manifest[mask].reset_index(drop=True))

    def of_class(self, label: str) -> FeatureSet:
        """The images of a class; all of them with ALL."""
        return self if label == ALL else self.select(self.manifest["label"] == label)

    @staticmethod
    def concatenate(sets: Sequence[FeatureSet]) -> FeatureSet:
        """All images of `sets`, one set after the other."""
        features = np.concatenate([each.features.features for each in sets])
        logits = np.concatenate([each.features.logits for each in sets])
        manifest = pd.concat([each.manifest for each in sets], ignore_index=True)
        return FeatureSet(Features(features, logits), manifest)


def write_features(path: str | Path, features: Features, image_ids: Sequence[str]) -> None:
    """Write the features of images, which `image_ids` names in their order."""
    if len(features) != len(image_ids):
        raise ValueError(f"features of {len(features)} images do not fit {len(image_ids)} names")
    tensors = {"features": features.features, "logits": features.logits}
    with atomic(path) as temporary:
        # One key, as the order of several would change from file to file.
        metadata = {"image_ids": json.dumps(list(image_ids))}
        # In place: `save_file` would hold all of it once more.
        written = map_tensors(temporary, {name: (each.dtype, each.shape) for name, each in tensors.items()}, metadata)
        for name, values in tensors.items():
            written[name][:] = values
            written[name].flush()


def read_feature_set(path: str | Path, manifest: pd.DataFrame) -> FeatureSet:
    """The features of a manifest's images, of those that `write_features` wrote.

    Those of the whole file, in its order, stay in it, and are read when they are looked at.
    Raises DataError, naming the file, if it is missing, damaged or of another kind, or lacks an image.
    """
    with reading(path, "features", "a whole safetensors file of features"):
        tensors, metadata = open_tensors(path)
        features = Features(tensors["features"], tensors["logits"])
        image_ids = [str(name) for name in json.loads(metadata["image_ids"])]
        for name in ("features", "logits"):
            values = getattr(features, name)
            if values.ndim != 2 or values.dtype != np.float32 or len(values) != len(image_ids):
                found = f"{name} {values.dtype} {list(values.shape)}"
                raise DataError(f"{path}: features: found {found}, allowed: float32 [{len(image_ids)}, width]")
    rows = pd.Index(image_ids).get_indexer(manifest["image_id"])
    if (rows < 0).any():
        first, *more = manifest["image_id"][rows < 0]
        raise DataError(f"{path}: image_id: found no {first} and {len(more)} others, allowed: every image of the set")
    if not np.array_equal(rows, np.arange(len(features))):
        features = features.select(rows)
    return FeatureSet(features, manifest.reset_index(drop=True))


def map_tensors(
    path: str | Path, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: dict[str, str]
) -> dict[str, Any]:
    """A new safetensors file of these types and shapes, whose tensors are filled in place: it may exceed the memory."""
    names = {dtype: name for name, dtype in TENSOR_TYPES.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    # The widest numbers first, so that each tensor begins at a multiple of its numbers' size.
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: -item[1][0].itemsize):
        start, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return _map(path, header, 8 + len(text), "r+")


def open_tensors(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors of a safetensors file, which stay in it, and its metadata; what is written to them stays in memory.

    Raises what safetensors raises where the file is damaged.
    """
    with safe_open(path, "np") as file:  # checks the header, and the file's length
        metadata = file.metadata()
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return _map(path, header, 8 + length, "c"), metadata


def _map(path: str | Path, header: dict[str, Any], first: int, mode: Literal["c", "r+"]) -> dict[str, Any]:
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            dtype: np.dtype[Any] = TENSOR_TYPES[tensor["dtype"]]
            found[name] = np.memmap(path, dtype, mode, first + tensor["data_offsets"][0], tuple(tensor["shape"]))
    return found
