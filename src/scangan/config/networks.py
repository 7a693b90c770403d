"""The generative networks and their training, each network with the options that only it has.

A network is its file in `scangan.models` and its class here, below `ImageGan` or `VolumeGan`: whatever else there is
to say of the networks (their names, the kinds of block at `gan`) follows from these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from scangan.config.base import READ_FROM_TEXT, Fraction, Name, Positive, Rate, Section, kinds_below, union_of

EDGES = tuple(4 << level for level in range(9))  # of the images of a network that grows
CUBES = (56, 64, 80, 96, 112, 128, 160, 192, 224, 256)  # edges of volumes that `ct_sgan` can have


class GradientPenalty(Section):
    """A penalty on the discriminator's gradient with respect to its image input."""

    kind: Literal["none", "wgan-gp", "dragan", "r1"] = Field(
        "none", description="WGAN-GP (Gulrajani 2017), DRAGAN (Kodali 2017), R1 (Mescheder 2018)"
    )
    weight: Annotated[float, Field(ge=0)] = Field(10.0, description="its weight (lambda; gamma for R1)")


class DiffAugment(Section):
    """Differentiable augmentation of all that D sees (Zhao 2020), against overfitting to few images."""

    kinds: list[Literal["color", "translation", "cutout"]] = Field([], description="what is varied; none: off")
    probability: Fraction = Field(
        1.0, description="share of the images that each of them changes; with a target, where it begins"
    )
    adaptive_target: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="the probability follows D's overfitting: D's mean sign on real images is held here (ADA, Karras "
        "2020: 0.6); null: it stays",
    )
    adaptive_images: Positive = Field(500_000, description="images in which the probability can go from 0 to 1")

    @model_validator(mode="after")
    def _target_has_kinds(self) -> DiffAugment:
        if self.adaptive_target is not None and not self.kinds:
            raise ValueError("kinds: found none beside an adaptive_target, allowed: color | translation | cutout")
        return self


class ProjectedAugment(DiffAugment):
    """That of `projected_gan`: all kinds, and some images that D sees as they are.

    Where it always saw them changed, the generator learnt more slowly (docs/few_images.md).
    """

    kinds: list[Literal["color", "translation", "cutout"]] = Field(
        ["color", "translation", "cutout"], description="what is varied; none: off"
    )
    probability: Fraction = Field(
        0.5, description="share of the images that each of them changes; with a target, where it begins"
    )


class Progressive(Section):
    """How a growing network (`pggan`) passes through its resolutions, each twice as large as the one before."""

    batch_sizes: dict[int, Positive] = Field({}, description="edge: images a step at that edge; others: `batch_size`")
    shares: dict[int, Annotated[float, Field(gt=0)]] = Field(
        {}, description="edge: its part in the images of all `epochs`, beside 1 for the others"
    )
    fade: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="share of an edge's images that is shown while its layers fade in; 4x4 does not fade"
    )

    @model_validator(mode="after")
    def _edges_are_known(self) -> Progressive:
        for name in ("batch_sizes", "shares"):
            if unknown := set(getattr(self, name)) - set(EDGES):
                raise ValueError(f"{name}: found edge {min(unknown)}, allowed: {' | '.join(map(str, EDGES))}")
        return self


class Slabs(Section):
    """What `ct_sgan` is trained on, a slab of neighbouring slices of each volume at a time, and its noise."""

    depth: Annotated[int, Field(ge=2)] = Field(16, description="slices of a slab, which D_slab judges (T)")
    slices: Positive = Field(8, description="of these, how many D_slice judges, drawn anew at every step (N)")
    constant_noise: Annotated[int, Field(ge=0)] = Field(
        128, description="numbers of a volume's noise that all its slices share; 0: without it"
    )
    slice_noise: Annotated[int, Field(ge=0)] = Field(
        32,
        description="numbers of each slice's own noise, which R_v is fed with; 0: without it, and R_v knows its first "
        "state alone, and the positions if it is told them",
    )
    slice_code: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        128, description="numbers that R_v makes of it for each slice"
    )
    told_position: bool = Field(
        False, description="R_v is told each slice's position; the paper's is not, and has to count the slices"
    )

    @model_validator(mode="after")
    def _fits(self) -> Slabs:
        if self.slices > self.depth:
            raise ValueError(f"slices: found {self.slices}, allowed: {self.depth} at most (depth)")
        if self.slice_noise == 0 and not self.told_position:
            raise ValueError("slice_noise: found 0, allowed: 1 or more without told_position, for R_v needs an input")
        return self


class Training(Section):
    """What every training of a generator against a discriminator is told."""

    learning_rate_generator: Rate = Field(2e-4, description="learning rate of G")
    learning_rate_discriminator: Rate = Field(2e-4, description="learning rate of D")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first moment")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second moment; RMSProp's smoothing")
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="images, volumes or VOIs a step, over all GPUs")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999, description="decay a step of the averaged generator, from which images are drawn; 0: no averaging"
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="number format of training")
    sample_rows: Positive = Field(8, description="rows of the grid of samples over time")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of weights, order and noise")


class Rules(Section):
    """The rules by which a generator and a discriminator are trained against each other."""

    loss: Literal["bce", "wasserstein", "hinge"] = Field("bce", description="adversarial loss")
    gradient_penalty: GradientPenalty = Field(GradientPenalty(), description="penalty on the discriminator")
    drift: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the mean square of D's output for real images, which keeps it near 0 (PGGAN: 0.001)"
    )
    discriminator_steps: Positive = Field(1, description="discriminator updates for each generator update")
    optimizer: Literal["adam", "rmsprop"] = Field("adam", description="optimiser of both networks")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on both networks' weights")
    label_inversion: bool = Field(False, description="train D with real = 0 and generated = 1")
    noisy_labels: Annotated[float, Field(ge=0, lt=0.5)] = Field(0.0, description="share of D's labels that are flipped")


class Gan(Rules, Training):
    """One generative network and its training."""

    KIND_KEY: ClassVar[str] = "model"
    DIMENSIONS: ClassVar[int] = 2  # of what it draws: images, or volumes
    TRAINING: ClassVar[str] = "scangan.training.adversarial"  # the module whose `train_gan` trains it
    # Of the keys that only this network has: what is said to another that is given one.
    REFUSED: ClassVar[dict[str, str]] = {}
    # Keys that say how long it is trained: one of them.
    LENGTHS: ClassVar[tuple[str, ...]] = ("epochs", "steps")
    # Edges of the images or volumes that it can have; those of its file in `scangan.models`, which takes long to load.
    IMAGE_SIZES: ClassVar[Sequence[int]]
    model: str = Field(description="the network, named after its file in `scangan.models`")
    base_width: Positive | None = Field(None, description="width of the network; null: the paper's")
    epochs: Positive | None = Field(
        None,
        description="passes over the training images or volumes of the class, or of all classes of a network that "
        "draws them all; required unless `steps` or, for images, `weights_of`",
    )
    steps: Positive | None = Field(
        None,
        description="in place of `epochs`, updates of the generator: as many for a class of few images, in every fold, "
        "and with a share of the patients",
    )
    seeds: Positive = Field(
        3,
        description="independent trainings, seeded by `seed`, `seed` + 1, ...; classifiers are trained on the images "
        "of each; figures, readers and judges see those of the first",
    )

    def for_seed(self, gan_seed: int) -> dict[str, Any]:
        """Just the settings that one of its trainings reads, as plain values: their number retrains nothing."""
        return self.model_dump(mode="json", exclude={"seeds"}) | {"seed": self.seed + gan_seed}

    def steps_on(self, images: float) -> float:
        """Updates of the generator on so many training images or volumes."""
        if self.steps is not None:
            return self.steps
        return (self.epochs or 0) * images / (self.batch_size * self.discriminator_steps)

    @model_validator(mode="after")
    def _has_one_length(self) -> Gan:
        given = [key for key in self.LENGTHS if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"epochs: found {found}, allowed: one of {' | '.join(self.LENGTHS)}")
        return self

    @classmethod
    def size_problem(cls, size: int, origin: str) -> str | None:
        """What was found and what is allowed, for an edge that this network cannot have; origin: the key it is from."""
        if size in cls.IMAGE_SIZES:
            return None
        sizes = [str(each) for each in cls.IMAGE_SIZES]
        if isinstance(cls.IMAGE_SIZES, range):
            sizes[2:-1] = ["..."]
        return f"found {size} ({origin}), allowed: {' | '.join(sizes)} for {cls.kind_names()[0]}"

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What is said of a key that only other networks have."""
        owner = next((network for network in kinds_below(Gan) if key in network.model_fields), None)
        if owner is None:
            return None
        said = owner.REFUSED.get(key, "found one, allowed: none for {model}")
        return said.format(found=value, model=cls.kind_names()[0])


class ImageGan(Gan):
    """A network of images; one such network is trained for each class, unless one is told to draw all of them."""

    HAS_ONE_SIZE: ClassVar[bool] = True  # its weights draw images of the size alone that it was trained on
    LENGTHS: ClassVar[tuple[str, ...]] = ("epochs", "steps", "weights_of")

    weights_of: Name | None = Field(
        None,
        description="no training: images are drawn with the weights of the network of this name, at another "
        "`image_size`, which a fully convolutional generator allows; its `seeds` are that one's",
    )
    image_size: Annotated[int, Field(ge=8)] | None = Field(
        None, description="edge of its images, pixels; the cohort's are scaled to it; null: `data.image_size`"
    )
    training_images: Annotated[int, Field(ge=2)] | None = Field(
        None, description="training images of a class that are used, drawn with `seed` (more hold the fewer); null: all"
    )
    random_crop: tuple[Fraction, Fraction] | None = Field(
        None,
        description="least and greatest share of its area that a random resized crop keeps of a real image; null: none",
    )
    horizontal_flip: bool = Field(False, description="mirror half of the real images left to right")
    validations: Annotated[int, Field(ge=0)] = Field(
        0,
        description="moments of the training at which its images are compared with validation images of their class; "
        "the last weights that are as near as the nearest are kept; 0: the last weights",
    )
    diffaugment: DiffAugment = Field(DiffAugment(), description="differentiable augmentation")

    @property
    def is_conditional(self) -> bool:
        """Whether one network draws all classes."""
        return False

    @model_validator(mode="after")
    def _fits(self) -> ImageGan:
        if self.random_crop is not None and not 0 < self.random_crop[0] <= self.random_crop[1]:
            found = ", ".join(f"{share:g}" for share in self.random_crop)
            raise ValueError(f"random_crop: found {found}, allowed: a share above 0, and one at least as large")
        if self.diffaugment.adaptive_target is not None and self.loss == "wasserstein":
            raise ValueError(
                "diffaugment.adaptive_target: found one, allowed: null with loss wasserstein, which has no sign"
            )
        return self


class Dcgan32(ImageGan):
    """DCGAN for images of 32 pixels."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = (32,)
    model: Literal["dcgan32"]


class Dcgan224(ImageGan):
    """DCGAN for images of 64 to 256 pixels."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = range(32, 257, 32)
    model: Literal["dcgan224"]


class Pggan(ImageGan):
    """A network that grows."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = EDGES
    REFUSED: ClassVar[dict[str, str]] = {
        "progressive": "found one, allowed: none for {model}, which does not grow",
    }
    model: Literal["pggan"]
    progressive: Progressive = Field(Progressive(), description="growth of the network")

    @model_validator(mode="after")
    def _counts_images(self) -> Pggan:
        if self.steps is not None:
            raise ValueError(
                f"steps: found {self.steps}, allowed: null for pggan, whose batches may differ; it has epochs"
            )
        return self

    @model_validator(mode="after")
    def _trains_each_once(self) -> Pggan:
        if self.discriminator_steps != 1:
            raise ValueError(f"discriminator_steps: found {self.discriminator_steps}, allowed: 1 for pggan")
        return self

    @model_validator(mode="after")
    def _keeps_the_last(self) -> Pggan:
        if self.validations:
            raise ValueError(f"validations: found {self.validations}, allowed: 0 for pggan, which grows")
        return self


class ProjectedGan(ImageGan):
    """A network for few images, whose discriminator looks through one that was trained on photographs."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = (32, 64, 128, 256)
    REFUSED: ClassVar[dict[str, str]] = {
        "pixel_discriminator": "found {found}, allowed: none for {model}, whose discriminator sees pixels",
        "pixel_r1": "found {found}, allowed: none for {model}; it has gradient_penalty",
    }
    model: Literal["projected_gan"]
    loss: Literal["bce", "wasserstein", "hinge"] = "hinge"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    validations: Annotated[int, Field(ge=0)] = 20
    diffaugment: ProjectedAugment = Field(ProjectedAugment(), description="differentiable augmentation")
    conditional: bool = Field(
        False,
        description="one network for all classes, told which to draw, so that a class of few images borrows from the "
        "others; false: one for each class",
    )
    pixel_discriminator: bool = Field(
        True, description="a thin discriminator of pixels beside those of features, which hardly know grey levels"
    )
    pixel_r1: Annotated[float, Field(ge=0)] = Field(
        1.0, description="with `pixel_discriminator`: weight of its R1 penalty (Mescheder 2018)"
    )

    @property
    def is_conditional(self) -> bool:
        return self.conditional

    @model_validator(mode="after")
    def _has_its_own_penalty(self) -> ProjectedGan:
        if (kind := self.gradient_penalty.kind) != "none":
            raise ValueError(f"gradient_penalty.kind: found {kind}, allowed: none for projected_gan; it has pixel_r1")
        return self


class SimpleCtGan(ImageGan):
    """A small fully convolutional network."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = range(8, 513, 4)
    HAS_ONE_SIZE: ClassVar[bool] = False
    REFUSED: ClassVar[dict[str, str]] = {"kernel_size": "found {found}, allowed: null for {model}"}
    model: Literal["simple_ct_gan"]
    kernel_size: Annotated[Literal[3, 5], READ_FROM_TEXT] | None = Field(
        None, description="edge of all kernels; null: the paper's 3"
    )


class VolumeGan(Gan):
    """A network of volumes."""

    DIMENSIONS: ClassVar[int] = 3
    TRAINING: ClassVar[str] = "scangan.training.volumes"
    # What only a network of images can be told.
    HAS_ONE_SIZE: ClassVar[bool] = True
    is_conditional: ClassVar[bool] = False
    weights_of: ClassVar[None] = None
    training_images: ClassVar[None] = None
    validations: ClassVar[int] = 0


class CtSgan(VolumeGan):
    """CT-SGAN, trained on slabs of volumes as they are."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = CUBES
    REFUSED: ClassVar[dict[str, str]] = {
        "discriminator": "found {found}, allowed: none for {model}, which has no D_slice",
        "slabs": "found some, allowed: none for {model}, which is trained on the whole",
    }
    image_size: ClassVar[None] = None
    model: Literal["ct_sgan"]
    discriminator: Literal["convolutional", "projected"] = Field(
        "convolutional",
        description="D_slice: the paper's; or `projected`, for few volumes, which sees slices through a network that "
        "was trained on photographs, against a light G_slice; its loss is then hinge, and `loss` and "
        "`gradient_penalty` are of D_slab alone",
    )
    slabs: Slabs = Field(Slabs(), description="slabs and noise")
    mode_seeking_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="of what generated volumes lack of the differences that real ones have at the same place, in the "
        "generator's loss (after Mao et al. 2019); slabs then begin at one place in pairs; 0: without it",
    )

    @model_validator(mode="after")
    def _has_pairs(self) -> CtSgan:
        if self.mode_seeking_weight and self.batch_size % 2:
            raise ValueError(f"batch_size: found {self.batch_size}, allowed with mode_seeking_weight: an even number")
        return self


class Gan3d(VolumeGan):
    """A 3D DCGAN of whole volumes, the comparison."""

    IMAGE_SIZES: ClassVar[Sequence[int]] = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
    model: Literal["gan3d"]
    image_size: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="voxels along an edge of its volumes; the cohort's are scaled to it; null: `grid.size` or "
        "`data.image_size`",
    )


class NoduleNetwork(Training):
    """The injector's or the eraser's network and training."""

    base_width: Positive = Field(64, description="width of both of its networks")
    steps: Positive = Field(20_000, description="updates of the generator")
    reconstruction_weight: Annotated[float, Field(ge=0)] = Field(
        100.0, description="of the difference from the truth in the mask, beside the adversarial loss"
    )
    inside_weight: Annotated[float, Field(gt=0)] = Field(
        2.0, description="of the nodule in it, beside 1 for the margin"
    )
    zoom: Annotated[float, Field(ge=1)] = Field(1.0, description="training VOIs are zoomed by at most this; 1: not")


if TYPE_CHECKING:
    AnyGan = ImageGan | CtSgan | Gan3d
    AnyVolumeGan = VolumeGan
else:
    AnyGan = union_of(Gan)
    AnyVolumeGan = union_of(VolumeGan)

# Names of all networks, and of those of volumes.
MODELS = tuple(network.kind_names()[0] for network in kinds_below(Gan))
VOLUME_MODELS = tuple(network.kind_names()[0] for network in kinds_below(VolumeGan))


def models_of(dimensions: int) -> tuple[str, ...]:
    """Names of the networks whose images have so many dimensions."""
    return tuple(network.kind_names()[0] for network in kinds_below(Gan) if dimensions == network.DIMENSIONS)
