"""A GAN for few images: Sauer et al. 2021, "Projected GANs Converge Faster", with the light generator that they use.

That generator is FastGAN's: Liu et al. 2021, "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot
Image Synthesis". The discriminator sees images through a network that was trained on photographs (EfficientNet-Lite0,
ImageNet), which stays as it is, and frozen random projections of its maps: so it knows edges and textures from the
first step. Images from it must not be judged by the same features (`TRAINED_AGAINST`).

Both networks can be told the class of an image (`classes`: how many there are), so that one generator draws all of
them: its batch norms are of each class apart, with a gain and a shift of each class, and the heads compare an image's
features with a vector of the class (Miyato and Koyama 2018, "cGANs with Projection Discriminator").
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrizations import spectral_norm

from scangan.models.backbones import build_classifier

OUTPUT_RANGE = (-1.0, 1.0)
IMAGE_SIZES = (32, 64, 128, 256)
OPTIONS = {"pixel_discriminator": "pixel_discriminator"}
TRAINED_AGAINST = ("efficientnet-lite0",)

SMALLEST_EDGE = 4
EXCITED = 16  # an excited map has so many times the edge of the one that excites it: 64 and 4, 128 and 8
# Paper: 256; here 96 or the images' own edge, because the frozen network is the largest part of a step on a CPU.
LEAST_SEEN_EDGE = 96
STRIDE = 32  # of the coarsest map that is seen, which divides the edge of what is seen
TAPS = (2, 4, 10, 15)  # blocks of EfficientNet-Lite0 whose maps are seen, of 1/4, 1/8, 1/16, 1/32 of the edge
# Paper: 64 and twice as many at each half of the edge; here half of that, and no more than a head has.
PROJECTED = (32, 64, 128, 128)
HEAD_WIDTH = 128
# Of each head what it sees and how often it halves it: all end in maps of one edge, so that all of them weigh the same.
HEADS = tuple(zip(PROJECTED, reversed(range(len(TAPS))), strict=True))
PIXEL_WIDTH = 16


class EnlargingConv2d(nn.Conv2d):
    """A 3x3 convolution of maps whose pixels are repeated to twice the edge: [N, C, S, S] -> [N, D, 2 S, 2 S].

    Computed as the transposed 4x4 convolution that equals it, with 4/9 of the products.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        # A repeated pixel meets each kernel at two places in each direction: their weights add up.
        kernel = F.pad(self.weight.flip(2, 3), (1, 1, 1, 1))
        kernel = kernel[:, :, 1:] + kernel[:, :, :-1]
        kernel = kernel[:, :, :, 1:] + kernel[:, :, :, :-1]
        return F.conv_transpose2d(maps, kernel.transpose(0, 1), stride=2, padding=1)


class ClassNorm(nn.Module):
    """A batch norm by each class's own mean and variance, [N, C, H, W], with one gain and shift for all.

    What keeps a generator's images apart is the batch norm: whatever its weights, maps vary over a batch. With one of
    all classes together that can be the classes alone: on COVID-CT all images of a class soon were one image.
    """

    MOMENTUM, EPS = 0.1, 1e-5  # as of `nn.BatchNorm2d`

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(classes, channels))
        self.register_buffer("running_var", torch.ones(classes, channels))

    def forward(self, maps: Tensor, one_hot: Tensor) -> Tensor:
        maps, is_of = maps.float(), (one_hot > 0).float()[:, :, None]
        mean = self._of_classes(maps.mean((2, 3)), is_of, self.running_mean)
        centred = maps - mean[:, :, None, None]
        variance = self._of_classes(centred.square().mean((2, 3)), is_of, self.running_var)
        gain = self.weight * (variance + self.EPS).rsqrt()
        return torch.addcmul(self.bias[:, None, None], centred, gain[:, :, None, None])

    def _of_classes(self, values: Tensor, is_of: Tensor, running: Tensor) -> Tensor:
        """Of values [N, C] the mean over each image's class, of this batch or, when evaluated, of those before: alike.

        is_of: [N, classes, 1]. Sums, for products of matrices would be in half precision under autocast.
        """
        if not self.training:
            return (is_of * running).sum(1)
        images = is_of.sum(0)
        means = (is_of * values[:, None]).sum(0) / images.clamp(min=1)
        with torch.no_grad():  # a class that is not in the batch keeps its own
            running.lerp_(means, self.MOMENTUM * (images > 0))
        return (is_of * means).sum(1)


class GatedNorm(nn.Module):
    """Batch norm and a gated linear unit: [N, 2 C, ...] -> [N, C, ...].

    With classes, of which `one_hot` [N, classes], of any length, tells each image's, the norm is of each class apart,
    and so are gain and shift: what all classes share, and what they differ in, which is nothing at the beginning.
    """

    def __init__(self, outputs: int, classes: int = 0) -> None:
        super().__init__()
        self.norm = ClassNorm(2 * outputs, classes) if classes else nn.BatchNorm2d(2 * outputs)
        self.of_class = nn.Linear(classes, 4 * outputs, bias=False) if classes else None
        if self.of_class is not None:
            nn.init.zeros_(self.of_class.weight)

    def forward(self, maps: Tensor, one_hot: Tensor | None = None) -> Tensor:
        if self.of_class is None:
            maps = self.norm(maps)
        else:
            gain, shift = self.of_class(one_hot)[:, :, None, None].chunk(2, 1)
            maps = torch.addcmul(shift, self.norm(maps, one_hot), 1 + gain)
        # On a CPU several times as fast as F.glu, which knows no channels last.
        linear, gate = maps.chunk(2, 1)
        return linear * gate.sigmoid()


class Enlarge(nn.Module):
    """Maps of twice the edge (FastGAN's upsampling block): convolution, noise [N, 1, 2 S, 2 S], norm, gate."""

    def __init__(self, inputs: int, outputs: int, classes: int = 0) -> None:
        super().__init__()
        self.convolution = EnlargingConv2d(inputs, 2 * outputs)
        self.noise_weight = nn.Parameter(torch.zeros(()))
        self.gated_norm = GatedNorm(outputs, classes)

    def forward(self, maps: Tensor, noise: Tensor, one_hot: Tensor | None = None) -> Tensor:
        return self.gated_norm(self.convolution(maps) + self.noise_weight * noise, one_hot)


class Excitation(nn.Module):
    """Weights of a large map's channels, in [0, 1], from a small map (FastGAN's skip-layer excitation)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(inputs, outputs, 4, bias=False),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, small: Tensor) -> Tensor:
        return self.layers(small)


class Generator(nn.Module):
    """z: [N, latent_size + noise], standard normal -> x: [N, channels, S, S], in [-1, 1]. S: image_size.

    The noise that is added to the maps is part of the latent, so an image is a function of its latent alone. So is the
    class of one that has classes: z is then [N, classes + latent_size + noise], see `with_class`.
    smallest_edge: of the first map; each block doubles it, until it is S.
    """

    def __init__(
        self,
        base_width: int = 128,
        channels: int = 1,
        image_size: int = 64,
        latent_size: int = 128,
        pixel_discriminator: bool = False,
        classes: int = 0,
        smallest_edge: int = SMALLEST_EDGE,
    ) -> None:
        super().__init__()
        self.classes = classes
        edges = [smallest_edge << level for level in range((image_size // smallest_edge).bit_length())]
        # Paper: up to 16 times the width that maps of 128 pixels have; here up to 8 times, as images are small.
        # That of maps of 28 or 20 pixels is that of 32: widths that a processor's vectors divide.
        rounded = [1 << (edge - 1).bit_length() for edge in edges]
        widths = [max(1, base_width // 8, min(base_width, 16 * base_width // edge)) for edge in rounded]
        self.latent_parts = (latent_size, *(edge**2 for edge in edges[1:]))
        # Paper: spectral norm of every convolution; here none, as the batch norm behind it takes any factor out again,
        # and averaged weights would not fit averaged singular vectors.
        self.first = nn.Sequential(
            nn.ConvTranspose2d(latent_size, 2 * widths[0], smallest_edge, bias=False),
            GatedNorm(widths[0], classes),
        )
        self.blocks = nn.ModuleList(Enlarge(before, after, classes) for before, after in pairwise(widths))
        self.excitations = nn.ModuleDict(
            {
                str(edge): Excitation(widths[edges.index(edge // EXCITED)], width)
                for edge, width in zip(edges, widths, strict=True)
                if edge // EXCITED in edges
            }
        )
        self.to_image = nn.Sequential(nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)  # as in the authors' code

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for so many images: [images, numbers], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(images, sum(self.latent_parts), generator=rng)

    def with_class(self, noise: Tensor, label: Tensor | int) -> Tensor:
        """The latent of images of a class, from what `draw_latent` returns; label: a class's number, or [N] of them.

        The class is a one-hot vector as long as the noise is in the mean, sqrt(latent_size), so that gains and shifts
        soon differ: with one of length 1 both classes of COVID-CT were drawn nearly alike for hundreds of steps.
        """
        labels = torch.as_tensor(label, device=noise.device).expand(len(noise))
        length = math.sqrt(self.latent_parts[0])
        return torch.cat([length * F.one_hot(labels, self.classes).to(noise), noise], 1)

    def forward(self, latent: Tensor) -> Tensor:
        one_hot = latent[:, : self.classes] if self.classes else None
        latent, *noises = latent[:, self.classes :].split(self.latent_parts, 1)
        convolution, gated_norm = self.first
        maps = gated_norm(convolution(latent[:, :, None, None]), one_hot)
        small = {maps.shape[-1]: maps}
        for block, noise in zip(self.blocks, noises, strict=True):
            edge = 2 * maps.shape[-1]
            maps = block(maps, noise.view(-1, 1, edge, edge), one_hot)
            if str(edge) in self.excitations:
                maps = maps * self.excitations[str(edge)](small[edge // EXCITED])
            small[edge] = maps
        return self.to_image(maps)


class FrozenFeatures(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights: x: [N, C, S, S] in [-1, 1] -> its maps at `TAPS`, fine to coarse.

    Its batch norms are folded into its convolutions, and its weights are buffers that no state holds: so no optimiser
    finds them, nothing turns their gradients on, and no checkpoint grows by them. S: a multiple of 32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        classifier = build_classifier("efficientnet-lite0", "imagenet", "imagenet", channels, LEAST_SEEN_EDGE, 0.0)
        network = classifier.network
        self.register_buffer("mean", classifier.mean, persistent=False)
        self.register_buffer("std", classifier.std, persistent=False)
        self.stem = nn.Sequential(*_folded(network._conv_stem, network._bn0), nn.ReLU6())
        self.blocks = nn.ModuleList(_FrozenBlock(block) for block in network._blocks[: TAPS[-1] + 1])
        freeze(self, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.stem(((images + 1) / 2 - self.mean) / self.std)
        seen = []
        for number, block in enumerate(self.blocks):
            maps = block(maps)
            if number in TAPS:
                seen.append(maps)
        return seen


class _FrozenBlock(nn.Module):
    """A block of the package's EfficientNet-Lite0 in evaluation mode, its batch norms folded."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if block._block_args.expand_ratio != 1:
            layers += [*_folded(block._expand_conv, block._bn0), nn.ReLU6()]
        layers += [*_folded(block._depthwise_conv, block._bn1), nn.ReLU6()]
        layers += _folded(block._project_conv, block._bn2)
        self.layers = nn.Sequential(*layers)
        arguments = block._block_args
        self.skips = arguments.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps) if self.skips else self.layers(maps)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> list[nn.Module]:
    """One convolution in place of these two, padded as TensorFlow's "same" pads maps of an even edge."""
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    outputs, _, kernel, _ = weight.shape
    (stride, _), groups = convolution.stride, convolution.groups
    padding = (kernel - stride) // 2
    folded = nn.Conv2d(convolution.in_channels, outputs, kernel, stride, padding if stride == 1 else 0, groups=groups)
    folded.weight, folded.bias = weight, bias
    if stride == 1:
        return [folded]
    after = kernel - stride - padding
    return [nn.ZeroPad2d((padding, after, padding, after)), folded]


def freeze(network: nn.Module, persistent: bool) -> None:
    """Make buffers of all parameters; persistent: whether a state holds them."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach(), persistent=persistent)


class Projections(nn.Module):
    """Frozen random projections of maps (section 3.2), across channels and then across scales, coarse to fine.

    Of each tap a 1x1 convolution; to each is added the next coarser one, by a 3x3 convolution and enlarged.
    """

    def __init__(self, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.across_channels = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1, bias=False) for inputs, outputs in zip(taps, PROJECTED, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(coarse, fine, 3, padding=1, bias=False) for fine, coarse in pairwise(PROJECTED)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        freeze(self, persistent=True)

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        maps = [project(tap) for project, tap in zip(self.across_channels, taps, strict=True)]
        for level, mix in reversed(list(enumerate(self.across_scales))):
            coarse = F.interpolate(mix(maps[level + 1]), scale_factor=2, mode="bilinear")
            maps[level] = maps[level] + coarse
        return maps


class FeatureDiscriminator(nn.Module):
    """What all discriminators have that look at images [N, channels, S, S], in [-1, 1], through the frozen network.

    They are enlarged to the next edge that `STRIDE` divides, and at least to `least_edge`.
    """

    def __init__(self, channels: int, image_size: int, least_edge: int = LEAST_SEEN_EDGE) -> None:
        super().__init__()
        self.seen_edge = max(least_edge, -(-image_size // STRIDE) * STRIDE)
        self.features = FrozenFeatures(channels)
        self.projections = Projections(tuple(_outputs(self.features.blocks[tap]) for tap in TAPS))

    def see(self, images: Tensor) -> list[Tensor]:
        """The frozen network's projected maps, fine to coarse."""
        if images.shape[-1] != self.seen_edge:
            images = F.interpolate(images, size=(self.seen_edge,) * 2, mode="bilinear")
        return self.projections(self.features(images))


class Discriminator(FeatureDiscriminator):
    """x: [N, channels, S, S], in [-1, 1] -> logits: [N, places], of all heads and places in the image.

    It is `judge` of what `see` returns: the training sees an image once, though both networks learn from it.
    pixel_discriminator: a thin head of the image itself besides. With classes it judges whether an image is a real one
    of its class, which `one_hot` [N, classes] tells.
    """

    def __init__(
        self,
        base_width: int = 128,
        channels: int = 1,
        image_size: int = 64,
        pixel_discriminator: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__(channels, image_size)
        self.heads = nn.ModuleList(
            feature_head(width, halvings, _of_class(classes, HEAD_WIDTH)) for width, halvings in HEADS
        )
        self.pixel_head = _pixel_head(channels, image_size, classes) if pixel_discriminator else None

    def see(self, images: Tensor) -> list[Tensor]:
        """The frozen network's projected maps, fine to coarse, and the images themselves."""
        return [*super().see(images), images]

    def judge(self, seen: list[Tensor], one_hot: Tensor | None = None) -> Tensor:
        """Logits [N, places] of what `see` returned."""
        *maps, images = seen
        logits = [head(each, one_hot) for head, each in zip(self.heads, maps, strict=True)]
        if self.pixel_head is not None:
            logits.append(self.pixel_head(images, one_hot))
        return torch.cat(logits, 1)

    def forward(self, images: Tensor, one_hot: Tensor | None = None) -> Tensor:
        return self.judge(self.see(images), one_hot)


def _outputs(block: nn.Module) -> int:
    return block.layers[-1].out_channels


class Head(nn.Module):
    """Maps [N, C, S, S] -> logits [N, places], by the features that `layers` make of them.

    embedding: makes a vector of what is told of an image, `condition` [N, ...] such as its class as one-hot, whose
    inner product with the features is added to each logit: at each place, as in the authors' code, for what tells
    classes apart may be small. None: nothing is told.
    """

    def __init__(self, layers: list[nn.Module], to_logits: nn.Module, embedding: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.to_logits = to_logits
        self.embedding = embedding

    def forward(self, maps: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.logits(self.layers(maps), condition)

    def logits(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits [N, places] of what `layers` made of the maps."""
        logits = self.to_logits(features)
        if self.embedding is not None:
            logits = logits + (features * self.embedding(condition)[:, :, None, None]).sum(1, keepdim=True)
        return logits.flatten(1)


def feature_head(inputs: int, halvings: int, embedding: nn.Module | None = None) -> Head:
    """Maps [N, inputs, S, S] -> logits [N, (S / 2^halvings)^2]; embedding: condition -> [N, HEAD_WIDTH]."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [nn.Conv2d(inputs, HEAD_WIDTH, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(HEAD_WIDTH)]
        layers += [nn.LeakyReLU(0.2)]
        inputs = HEAD_WIDTH
    layers += [nn.Conv2d(inputs, HEAD_WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(HEAD_WIDTH), nn.LeakyReLU(0.2)]
    # Paper: spectral norm of every convolution; here where no batch norm behind it takes the factor out again.
    return Head(layers, spectral_norm(nn.Conv2d(HEAD_WIDTH, 1, 3, padding=1)), embedding)


def _of_class(classes: int, width: int) -> nn.Module | None:
    return spectral_norm(nn.Linear(classes, width, bias=False)) if classes else None


def _pixel_head(channels: int, image_size: int, classes: int = 0) -> Head:
    """Images -> logits [N, 16]: thin, without batch norm, which R1 would see through."""
    layers: list[nn.Module] = []
    width = channels
    for _ in range((image_size // SMALLEST_EDGE).bit_length() - 1):
        outputs = min(4 * PIXEL_WIDTH, 2 * width if layers else PIXEL_WIDTH)
        layers += [nn.Conv2d(width, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = outputs
    embedding = nn.Linear(classes, width, bias=False) if classes else None
    return Head(layers, nn.Conv2d(width, 1, 3, padding=1), embedding)
