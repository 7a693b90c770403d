"""What is done with the networks: synthesis, classifiers, readers, fidelity, and nodules in volumes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from scangan.arms import ARMS, find_arm
from scangan.config.base import (
    READ_FROM_TEXT,
    TAGS,
    ExistingFile,
    Fraction,
    Name,
    NameOrNames,
    Positive,
    Rate,
    Section,
    plain_path,
)
from scangan.config.networks import CUBES, NoduleNetwork

PRETRAINED = ("imagenet", "efficientnet-lite0", "none")
TORCHVISIONS = ("resnet50", "densenet169")  # networks whose ImageNet weights are torchvision's
# What a further network adds to the arms of a study that name none of its own.
FURTHER_ARM = "real+synthetic"
DEFAULT_ARMS = [name for name, arm in ARMS.items() if arm.by_default]
VOLUME_ARMS = [name for name, arm in ARMS.items() if arm.of_volumes]


def _is_an_arm(name: str) -> str:
    base, colon, gan = name.partition(":")
    if base not in ARMS or (colon and not (gan and ARMS[base].reads_synthetic)):
        allowed = f"{' | '.join(ARMS)}, those with synthetic images also as <arm>:<network>"
        raise ValueError(f"found '{name}', allowed: {allowed}")
    return name


# An editor completes the arms, and takes those of further networks.
_OF_FURTHER = "|".join(name.replace("+", r"\+") for name, arm in ARMS.items() if arm.reads_synthetic)
ArmName = Annotated[
    str,
    AfterValidator(_is_an_arm),
    WithJsonSchema(
        {"anyOf": [{"enum": list(ARMS)}, {"type": "string", "pattern": f"^({_OF_FURTHER}):[A-Za-z0-9_-]+$"}]}
    ),
]
# Least edge of what each network sees: it halves it so many times.
SMALLEST_IMAGES = {
    ("resnet50", "imagenet"): 32,
    ("resnet50", "small"): 8,
    ("densenet169", "imagenet"): 32,
    ("densenet169", "small"): 8,
    ("efficientnet-lite0", "imagenet"): 32,
    ("efficientnet-lite0", "small"): 16,
    ("squeezenet3d", "imagenet"): 17,
    ("squeezenet3d", "small"): 9,
}


# A wrong value is told as a wrong number of steps.
StepsOrPass = Annotated[
    Annotated[Positive, Tag(TAGS[0])] | Annotated[Literal["pass"], Tag(TAGS[1])],
    Discriminator(lambda value: TAGS[value == "pass"]),
]


class Screening(Section):
    """Unrealistic synthetic images are discarded before any arm trains on them."""

    LEAST_VALIDATION: ClassVar[int] = 4  # images of each class that the rule is calibrated on
    neighbours: Positive = Field(
        3, description="an image's distance is that to its n-th nearest training image of its class, in feature space"
    )
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.99, description="images farther than this quantile of the real validation images are discarded,"
    )
    most_discarded: Fraction = Field(
        0.25, description="but of a class at most this share, the farthest: of a weak network all might be"
    )
    kept: Positive | None = Field(
        None,
        description="so many images of a class are kept, the first of those that are not discarded; null: all of them",
    )
    overrule: ExistingFile | None = Field(
        None,
        description="your own verdicts on images of the network's first training: a CSV of image_id, kept; they "
        "replace the rule's",
    )


class Synthesis(Section):
    """How many images, or volumes, are drawn from which network."""

    gan: NameOrNames | None = Field(
        None,
        description="the network (a key of `gan`) whose images or volumes classifiers and readers see; null without "
        "either. Or several: readers see those of the first, and so do all arms but those that name a further one, as "
        "`real+synthetic:projected_gan`",
    )
    shard_size: Positive = Field(1024, description="images, or volumes, in one file, made by one job")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="image i of a class, or volume i, is drawn from seed + i")

    @property
    def gans(self) -> list[str]:
        """The networks that `gan` names, the study's own first."""
        if self.gan is None:
            return []
        return [self.gan] if isinstance(self.gan, str) else self.gan


class ImageSynthesis(Synthesis):
    """How many images are drawn from which network."""

    images_per_class: Annotated[int, Field(ge=2)] = Field(description="synthetic images for each class")
    batch_size: Positive = Field(64, description="images generated at once")
    screening: Screening | None = Field(None, description="unrealistic images are discarded; null: none is")

    @property
    def fewest_kept(self) -> int:
        """Images of each class that the rule of screening leaves at least; of what a person says nothing is known."""
        if self.screening is None:
            return self.images_per_class
        discards = self.screening.overrule is None
        most = int(self.screening.most_discarded * self.images_per_class) if discards else 0
        return min(self.images_per_class - most, self.screening.kept or self.images_per_class)

    @model_validator(mode="after")
    def _draws_enough(self) -> ImageSynthesis:
        if self.screening is not None and self.fewest_kept < (self.screening.kept or 0):
            raise ValueError(
                f"screening.kept: found {self.screening.kept}, allowed: {self.fewest_kept} at most (images_per_class, "
                "less what screening may discard)"
            )
        return self

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What is said of a key that only the synthesis of volumes has."""
        return f"found {value}, allowed: null for images" if key in VolumeSynthesis.model_fields else None


class VolumeSynthesis(Synthesis):
    """How many volumes are drawn from which network."""

    volumes: Annotated[int, Field(ge=2)] = Field(description="synthetic volumes in all; half of them get nodules")
    compared_volumes: Annotated[int, Field(ge=2)] | None = Field(
        None, description="volumes of each network that is only compared (of no arm); null: as many"
    )
    attempts: Positive = Field(
        5, description="draws of a volume, until its lungs are found and its nodules have places; then it is left out"
    )

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What is said of a key that only the synthesis of images has."""
        if key not in ImageSynthesis.model_fields:
            return None
        return f"found {'one' if isinstance(value, dict) else value}, allowed: null for volumes"


class Export(Section):
    """Synthetic images for other programs, on request: `snakemake results/<study>/exported/<network>/<class>`."""

    images: Positive | None = Field(
        None, description="how many of the class, from `synthesis.seed` on; null: `synthesis.images_per_class`"
    )
    bits: Annotated[Literal[8, 16], READ_FROM_TEXT] = Field(
        8, description="of a grey value, or of each colour, in the PNG files"
    )


class Classical(Section):
    """Classical augmentation of real images, drawn anew at every step (arms with `+classical`)."""

    images_per_class: Positive | None = Field(
        None,
        description="so many transformed images of each class beside the real ones, which are then shown as they are; "
        "null: every real image that is shown is transformed",
    )
    horizontal_flip: bool = Field(True, description="mirror half of the images left to right")
    vertical_flip: bool = Field(False, description="mirror half of the images top to bottom")
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = Field(10.0, description="rotation up to this, degrees")
    shift: Fraction = Field(0.08, description="shift up to this share of the edge")
    shear: Fraction = Field(0.08, description="shear up to this slope")
    zoom: Annotated[float, Field(ge=0, lt=1)] = Field(0.08, description="zoom up to this share, in or out")


class Classifier(Section):
    """The experiment: the same network trained on each arm, for several seeds, with the same number of steps."""

    positive: Name = Field(description="the class that counts as positive (sensitivity)")
    backbone: Literal["resnet50", "densenet169", "efficientnet-lite0", "squeezenet3d"] = Field(
        "resnet50", description="the network; of volumes: `squeezenet3d`"
    )
    base_width: Positive | None = Field(
        None, description="`squeezenet3d`: maps of its first layer, the others in proportion; null: the paper's 64"
    )
    pretrained: str = Field(
        "none",
        description="`imagenet` (torchvision's weights: downloaded, or a file), `efficientnet-lite0` (ImageNet weights "
        "carried by a package; the network is then EfficientNet-Lite0), `none`, or the path of a weights file",
    )
    weights: ExistingFile | None = Field(
        None, description="`pretrained: imagenet`: torchvision's weights file; null: downloaded"
    )
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="`imagenet`: 7x7 stride 2 and max pooling; `small`: 3x3 stride 1, no pooling, for images of 32 "
        "pixels (sixteen times the work); of `squeezenet3d`: no pooling after the first convolution",
    )
    arms: list[ArmName] = Field(
        DEFAULT_ARMS,
        min_length=1,
        description="training sets that are compared; those with synthetic images also of a further network of "
        "`synthesis.gan`, as `real+synthetic:projected_gan`, which is added for one that has no other arm",
    )
    shares: list[Annotated[float, Field(gt=0)]] = Field(
        [],
        description="sweep: numbers of synthetic images beside all real ones, as multiples of the latter; of volumes, "
        "of synthetic ones alone; none: no",
    )
    centre_crop: Annotated[int, Field(ge=8)] | None = Field(
        None, description="edge of the middle of every image that the classifier sees, pixels; null: the whole"
    )
    seeds: Positive = Field(3, description="independent trainings of each arm, on the images of each generator")
    steps: Positive = Field(description="optimisation steps, the same for every arm")
    pretrain_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the steps spent on synthetic images in `synthetic-then-real`"
    )
    real_share: Annotated[float, Field(ge=0.01, le=0.99)] | None = Field(
        None,
        description="share of real images in the batches of arms with real and other images (0.5: half of each); "
        "null: that of all their images",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="images a step")
    learning_rate: Rate = Field(1e-3, description="Adam's learning rate")
    fine_tune_rate: Rate = Field(1e-4, description="learning rate of the second half of `synthetic-then-real`")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout before the last layer")
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="number format of training; predictions are always made in the full one"
    )
    validate_every: StepsOrPass = Field(
        20, description="steps between two validations; `pass`: one after each pass over the images of the arm"
    )
    patience: Positive = Field(10, description="validations without a better loss after which training stops")
    classical: Classical = Field(Classical(), description="classical augmentation")
    mirror: bool = Field(
        True, description="of `cohorts`: training volumes are mirrored at random along each axis, in every arm"
    )

    @field_validator("pretrained")
    @classmethod
    def _known_or_file(cls, pretrained: str) -> str:
        if pretrained in PRETRAINED:
            return pretrained
        path = plain_path(pretrained)
        if not os.path.isfile(path):
            raise ValueError(f"found '{pretrained}', allowed: {' | '.join(PRETRAINED)} | an existing file")
        return path

    @model_validator(mode="after")
    def _weights_are_imagenets(self) -> Classifier:
        if self.weights is not None and (self.pretrained != "imagenet" or self.backbone not in TORCHVISIONS):
            raise ValueError(
                "weights: found a file, allowed: null, or pretrained: imagenet and backbone: "
                f"{' | '.join(TORCHVISIONS)}"
            )
        return self

    @property
    def network_of_images(self) -> str:
        """The backbone, but with the weights of the package of EfficientNet-Lite0 that one."""
        return "efficientnet-lite0" if self.pretrained == "efficientnet-lite0" else self.backbone

    @property
    def pretrained_name(self) -> str:
        """What the tables call the weights: none | imagenet | efficientnet-lite0 | file:<name of the file>."""
        if self.pretrained not in PRETRAINED:
            return f"file:{Path(self.pretrained).name}"
        carried = self.backbone == "efficientnet-lite0" and self.pretrained == "imagenet"
        return "efficientnet-lite0" if carried else self.pretrained

    def for_arm(self, name: str) -> dict[str, Any]:
        """Just the settings that one arm's training reads, as plain values: a change of others retrains nothing."""
        of_some = {setting for arm in ARMS.values() for setting in arm.settings}
        unread = {"arms", "seeds", "shares"} | (of_some - find_arm(name).settings)
        return self.model_dump(mode="json", exclude=unread)


class Embedding(Section):
    """t-SNE of real, classically augmented and synthetic images: a map of the distributions."""

    each: Annotated[int, Field(ge=2)] = Field(300, description="images of each class of each of the three kinds")
    perplexity: Annotated[float, Field(gt=1)] = Field(100.0, description="t-SNE's effective number of neighbours")
    iterations: Annotated[int, Field(ge=250)] = Field(1000, description="t-SNE's steps")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the choice and of the augmentation")


class ReadingRoom(Section):
    """A page in which readers say of images whether they are real, and of which class (Visual Turing Test)."""

    images: Positive = Field(50, description="real and as many synthetic images of each class")
    readers: list[ExistingFile] = Field(
        [], description="CSV files that readers exported; none: simulated readers stand in, and are named so"
    )
    simulated_readers: Positive = Field(1, description="how many, where there are no others")
    simulated_skill: Fraction = Field(0.8, description="their probability of a right answer to each question")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the choice, the order and the simulated answers")


class Curve(Section):
    """All arms again with fewer training patients, generators and all: how many patients synthetic images are worth."""

    real: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.25, 0.5, 1], description="shares of the training patients; 1, the study itself, is there in any case"
    )

    @property
    def smaller_shares(self) -> list[float]:
        """Those below 1, ascending, each once."""
        return sorted({share for share in self.real if share < 1})

    @model_validator(mode="after")
    def _is_a_curve(self) -> Curve:
        if not self.smaller_shares:
            raise ValueError(
                f"real: found {', '.join(f'{share:g}' for share in self.real) or 'none'}, allowed: shares "
                "of which one at least is below 1"
            )
        return self


class Judge(Section):
    """What the classifiers of the arm `real` say of synthetic images of the positive class."""

    sets: Positive = Field(10, description="sets of synthetic images, of each network")
    images: Positive = Field(100, description="images in a set")
    weights: ExistingFile | None = Field(
        None,
        description="a published judge, with its last layer: the state dict of `classifier.backbone`, trained with "
        "ImageNet's mean and deviation; null: the classifiers of the arm `real`",
    )
    outputs: Annotated[list[Name], Field(min_length=2)] | None = Field(
        None, description="with `weights`: the classes of its first outputs, in order; others are ignored"
    )

    @model_validator(mode="after")
    def _says_its_outputs(self) -> Judge:
        if (self.weights is None) != (self.outputs is None):
            found = "none" if self.outputs is None else ", ".join(self.outputs)
            allowed = "the classes of the outputs of weights" if self.weights else "null without weights"
            raise ValueError(f"outputs: found {found}, allowed: {allowed}")
        return self


class Fidelity(Section):
    """How close synthetic images are to real ones, and whether they are copies."""

    extractor: Literal["efficientnet-lite0", "inception-v3-compat"] = Field(
        "efficientnet-lite0", description="features; scores of different extractors cannot be compared"
    )
    weights: ExistingFile | None = Field(None, description="`inception-v3-compat`: its weights file; null: downloaded")
    resamples: Positive = Field(20, description="random sets of images behind each interval")
    positions: Positive = Field(8, description="slices of a volume that are compared, in each of the three planes")
    copy_quantile: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01,
        description="a synthetic image nearer to a training image than this quantile of held-out real images "
        "counts as a suspected copy",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the random sets")

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What is said of a key that only the fidelity of images has."""
        return "found one, allowed: null for volumes" if key in ImageFidelity.model_fields else None


class Encoder(Section):
    """A second referee, which knows no photographs: a small network that learns of one half of the training patients,
    without labels. The other half stands for a perfect generator."""

    steps: Positive = Field(150, description="optimisation steps, of 128 images at most")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the halves, weights, order and changes")


class ImageFidelity(Fidelity):
    """Of images, not of volumes: a second referee."""

    encoder: Encoder | None = Field(
        Encoder(), description="a small network trained on the study's own images judges, too; null: none"
    )


class Subgroups(Section):
    """Groups of the test images in which the classifiers are scored on their own."""

    column: Annotated[str, Field(min_length=1)] = Field(
        description="column of the CSV of `labelled_images` (sex, scanner, site, a band of ages): a subgroup for each "
        "of its values, 12 at most"
    )


OF_CLASSES = ("accuracy_of_classes", "balanced_accuracy", "macro_f1", "macro_auc")  # of three or more


class Evaluation(Section):
    """Intervals of the classifiers' scores, and the comparison of arms with and without synthetic images."""

    primary: Literal[
        "accuracy",
        "sensitivity",
        "specificity",
        "f1",
        "auc",
        "accuracy_of_classes",
        "balanced_accuracy",
        "macro_f1",
        "macro_auc",
    ] = Field(
        "auc",
        description="the metric that the verdict is about, and the only one that is tested; of three or more classes "
        "the first five are of `classifier.positive` against all others together, the last four of all classes alike",
    )
    margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.02, description="the largest difference of the primary metric that does not matter to you"
    )
    bootstrap: Annotated[int, Field(ge=100)] = Field(2000, description="samples of judges, nodules and volumes")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the bootstrap")
    subgroups: Subgroups | None = Field(None, description="scores in groups of the test images; null: none")


class Grid(Section):
    """The cubes that networks learn of scans: about the middle of the lungs, of one size for all."""

    size: int = Field(224, description=f"voxels along an edge: {', '.join(map(str, CUBES))}")
    spacing_mm: Annotated[float, Field(ge=0.2, le=20)] = Field(1.5, description="voxel size, mm")
    window: tuple[float, float] = Field((-1000.0, 400.0), description="Hounsfield units that networks see as -1 and 1")

    @model_validator(mode="after")
    def _fits(self) -> Grid:
        if self.size not in CUBES:
            raise ValueError(f"size: found {self.size}, allowed: {' | '.join(map(str, CUBES))}")
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: found {self.window[0]:g}, {self.window[1]:g}, allowed: a lower and a higher one")
        return self


class VoiCut(Section):
    """How volumes of interest are cut: the cubes in which nodules are made and taken away."""

    size: Annotated[int, Field(ge=8)] = Field(64, description="voxels along an edge")
    spacing_mm: Annotated[float, Field(ge=0.2, le=10)] = Field(1.0, description="voxel size, mm")
    margin_mm: Annotated[float, Field(gt=0)] = Field(
        4.0, description="from a nodule's surface to where nothing changes any more, mm; 2 voxels at least"
    )
    min_readers: Positive = Field(1, description="nodules that fewer readers marked are left out")
    inside_share: Fraction = Field(
        0.5, description="a healthy place has lung all around it to this share of its radius"
    )


class Voi(VoiCut):
    """Volumes of interest: the cubes in which nodules are made and taken away."""

    # Just the sizes that the networks can have.
    size: Annotated[Literal[16, 24, 32, 48, 64], READ_FROM_TEXT] = Field(64, description="voxels along an edge")
    healthy_per_scan: Positive = Field(12, description="healthy VOIs cut from each scan")
    diameters_mm: tuple[float, float] = Field(
        (4.0, 30.0),
        description="least and greatest diameter of nodules that are made; drawn from "
        "the annotated cohort's in between",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of places, diameters and noise")

    @model_validator(mode="after")
    def _fits(self) -> Voi:
        if self.margin_mm < 2 * self.spacing_mm:
            raise ValueError(
                f"margin_mm: found {self.margin_mm:g}, allowed: {2 * self.spacing_mm:g} or more (2 voxels)"
            )
        largest = self.size * self.spacing_mm - 2 * self.margin_mm
        least, most = self.diameters_mm
        if not 0 < least < most <= largest:
            raise ValueError(
                f"diameters_mm: found {least:g}, {most:g}, allowed: a smaller and a larger one, up to {largest:g} "
                "(the edge less two margins)"
            )
        return self


class Placement(Section):
    """Where nodules are put in a scan."""

    rule: Literal["anywhere", "parenchyma", "wall", "vessel"] = Field(
        "anywhere", description="what a place must touch: nothing, the lung's wall, a vessel, or just not matter"
    )
    gap_mm: Annotated[float, Field(ge=0)] = Field(5.0, description="least distance between two nodules' surfaces")
    inside_share: Annotated[float, Field(ge=0.5, le=1)] = Field(
        0.5, description="share of its radius to which a nodule has lung all around its centre"
    )


class OwnEdits(Section):
    """Nodules put into a user's own scans, or taken out of them."""

    root: Name = Field(description="key of `data_roots` that holds the scans")
    file: ExistingFile = Field(description="CSV of series, x_mm, y_mm, z_mm, diameter_mm, action (erase or inject)")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="a row's noise is drawn from this + its line")


class Nodules(Section):
    """Nodule injector and eraser, and the cohorts mixed by them so that no label tells the scanner."""

    annotated: Name = Field(description="the cohort whose nodules are known (a key of `cohorts`)")
    voi: Voi = Voi()
    injector: NoduleNetwork = NoduleNetwork()
    eraser: NoduleNetwork = NoduleNetwork()
    placement: Placement = Placement()
    eraser_learns_of: Literal["all", "unannotated"] = Field(
        "all",
        description="cohorts in whose healthy places the eraser is trained: `all`, or as in the paper those without "
        "annotations alone",
    )
    sham: bool = Field(
        True,
        description="whether scans and volumes that neither get nor lose nodules are edited as often, at healthy "
        "places by the eraser: so no trace of an edit tells the label",
    )
    mix_seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the choice of patients, and of their nodules")
    test_diameters_mm: list[Annotated[float, Field(gt=0)]] = Field(
        [6, 8, 10, 12, 14, 16],
        description="the detector is tested on nodules of each of these diameters, put into all test scans",
    )
    edits: OwnEdits | None = Field(None, description="edits of your own scans; null: none")
