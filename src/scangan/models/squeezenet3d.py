"""SqueezeNet for volumes: the nodule detector of CT-SGAN (Pesaranghader et al. 2021, section 4.2: "3D-SqueezeNet").

CT-SGAN prints no layers. These are those of SqueezeNet 1.1 (Iandola et al. 2016, and the authors' repository) with
k x k x k for k x k: 1.0 begins with 7 x 7, which would be 343 values a kernel in 3D, and most of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

SMALLEST = 17  # a smaller edge vanishes in the last pool


class Pointwise(nn.Conv3d):
    """A 1x1x1 convolution, computed as the product of matrices that it is: [N, inputs, ...] -> [N, outputs, ...].

    On one thread of a CPU torch would bring all maps of a small batch into another layout for it, and back.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def _initialised(convolution: nn.Conv3d) -> nn.Conv3d:
    """As in torchvision's SqueezeNet."""
    nn.init.kaiming_uniform_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _activation(maps: int, batch_norm: bool) -> list[nn.Module]:
    """ReLU; with batch norm before it, which has the bias of the convolution."""
    # PyTorch: 0.1; a training of a few dozen steps would be over before the running statistics are true.
    norm = [nn.BatchNorm3d(maps, momentum=0.3)] if batch_norm else []
    return [*norm, nn.ReLU(inplace=True)]


def _pool() -> nn.MaxPool3d:
    return nn.MaxPool3d(3, stride=2, ceil_mode=True)


class Fire(nn.Module):
    """A squeeze by 1x1x1, then 1x1x1 and 3x3x3 side by side: [N, inputs, ...] -> [N, 2 * expand, ...]."""

    def __init__(self, inputs: int, squeeze: int, expand: int, batch_norm: bool) -> None:
        super().__init__()
        bias = not batch_norm
        self.squeeze = nn.Sequential(
            _initialised(Pointwise(inputs, squeeze, bias=bias)), *_activation(squeeze, batch_norm)
        )
        self.expand1x1x1 = _initialised(Pointwise(squeeze, expand, bias=bias))
        self.expand3x3x3 = _initialised(nn.Conv3d(squeeze, expand, 3, padding=1, bias=bias))
        self.activation = nn.Sequential(*_activation(2 * expand, batch_norm))

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return self.activation(torch.cat([self.expand1x1x1(squeezed), self.expand3x3x3(squeezed)], 1))


class SqueezeNet3d(nn.Module):
    """x: [N, 1, S, S, S], in [0, 1] -> logit of the positive class: [N]. S: 17 or more.

    outputs: of three or more classes their number: the logits are then [N, outputs].

    batch_norm: after every convolution but the last; none of these then has a bias.
    dropout: before the last convolution (SqueezeNet: 0.5). base_width: maps of the first layer, the others in
    proportion. stem: imagenet, or small: without the pooling after the first convolution, for nodules that are a few
    voxels across (eight times the work in most layers).

    At S = 224, without batch norm (with it 2,944 parameters more):

    | layer | output | parameters |
    |---|---|---|
    | Conv 3x3x3, stride 2 | 64 x 111^3 | 1,792 |
    | max pool 3x3x3, stride 2 | 64 x 55^3 | |
    | Fire, squeeze 16, expand 64 + 64 | 128 x 55^3 | 29,840 |
    | Fire, 16, 64 + 64 | 128 x 55^3 | 30,864 |
    | max pool | 128 x 27^3 | |
    | Fire, 32, 128 + 128 | 256 x 27^3 | 119,072 |
    | Fire, 32, 128 + 128 | 256 x 27^3 | 123,168 |
    | max pool | 256 x 13^3 | |
    | Fire, 48, 192 + 192 | 384 x 13^3 | 270,768 |
    | Fire, 48, 192 + 192 | 384 x 13^3 | 276,912 |
    | Fire, 64, 256 + 256 | 512 x 13^3 | 483,904 |
    | Fire, 64, 256 + 256 | 512 x 13^3 | 492,096 |
    | Conv 1x1x1, average | 1 | 513 |
    | all | | 1,828,929 |
    """

    def __init__(
        self,
        batch_norm: bool = True,
        dropout: float = 0.5,
        base_width: int = 64,
        stem: str = "imagenet",
        outputs: int = 1,
    ) -> None:
        super().__init__()

        def maps(number: int) -> int:
            return max(1, round(number * base_width / 64))

        def fire(inputs: int, squeeze: int, expand: int) -> Fire:
            return Fire(2 * maps(inputs // 2), maps(squeeze), maps(expand), batch_norm)

        # Paper: SqueezeNet has no batch norm; here it has, because a training from scratch is several times as short.
        self.features = nn.Sequential(
            _initialised(nn.Conv3d(1, 2 * maps(32), 3, stride=2, bias=not batch_norm)),
            *_activation(2 * maps(32), batch_norm),
            _pool() if stem == "imagenet" else nn.Identity(),
            fire(64, 16, 64),
            fire(128, 16, 64),
            _pool(),
            fire(128, 32, 128),
            fire(256, 32, 128),
            _pool(),
            fire(256, 48, 192),
            fire(384, 48, 192),
            fire(384, 64, 256),
            fire(512, 64, 256),
        )
        last = Pointwise(2 * maps(256), outputs)
        # torchvision: a deviation of 0.01, so that for dozens of steps hardly a gradient comes through; here PyTorch's.
        # Paper: a ReLU before the average; a single logit has to be able to be negative.
        flat = nn.Flatten(0 if outputs == 1 else 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.AdaptiveAvgPool3d(1), flat)

    def forward(self, x: Tensor) -> Tensor:
        edge = x.shape[-1]
        assert x.shape[1:] == (1, edge, edge, edge), f"x: found {tuple(x.shape)}, allowed: [N, 1, S, S, S]"
        return self.classifier(self.features(x))
