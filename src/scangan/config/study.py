"""A study of images or of volumes, and the whole configuration: what their parts need of each other."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from scangan.arms import find_arm
from scangan.config.base import Name, Section, plain_path
from scangan.config.experiment import (
    FURTHER_ARM,
    OF_CLASSES,
    SMALLEST_IMAGES,
    TORCHVISIONS,
    VOLUME_ARMS,
    Classifier,
    Curve,
    Embedding,
    Evaluation,
    Export,
    Fidelity,
    Grid,
    ImageFidelity,
    ImageSynthesis,
    Judge,
    Nodules,
    ReadingRoom,
    VolumeSynthesis,
)
from scangan.config.networks import AnyGan, AnyVolumeGan, CtSgan, Gan3d, models_of
from scangan.config.readers import (
    KNOWN_ROOTS,
    AnyImageSource,
    AnyPhantom,
    Brats,
    Cohort,
    CovidCt,
    ImageFolder,
    ImageSource,
    LabelledImages,
    Phantom,
    Scans,
    Split,
    VolumeFolder,
)

VOLUME_LABELS = ("nodules", "none")


@dataclass(frozen=True)
class External:
    """The data set of other patients that a study of images tests its classifiers on, read like one of its own.

    phantom: the study's, of another seed.
    """

    data: ImageSource
    phantom: Phantom | None


class Study(Section):
    """One study: data, split, networks, synthesis, classifier, evaluation."""

    KIND: ClassVar[str]  # of what: images | volumes
    split: Split = Split()
    classifier: Classifier | None = Field(None, description="the experiment; null: none")
    fidelity: Fidelity = Fidelity()
    evaluation: Evaluation = Evaluation()

    @classmethod
    def kind_names(cls) -> tuple[str, ...]:
        """What it is a study of."""
        return (cls.KIND,)

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What is said of a key that only a study of the other kind has."""
        is_known = any(key in study.model_fields for study in (ImageStudy, VolumeStudy))
        return f"found one, allowed: none for a study of {cls.KIND}" if is_known else None

    @field_validator("gan", mode="before", check_fields=False)
    @classmethod
    def _forget_networks(cls, gan: Any) -> Any:
        """An overlay cannot remove a network of the file below it; it can set it to null."""
        return {name: block for name, block in gan.items() if block is not None} if isinstance(gan, dict) else gan

    @property
    def sources(self) -> dict[str, ImageStudy | Cohort | External]:
        """Where its data come from, by the keys that say how they are read: `data`, `external`, `cohorts.*.data`."""
        raise NotImplementedError

    def _check_gans(self, gans: list[str], networks: Collection[str]) -> None:
        for name in gans or (None,):
            _check("synthesis.gan", name, networks)
        if len(set(gans)) < len(gans):
            raise ValueError(f"synthesis.gan: found {', '.join(gans)}, allowed: each network once")
        if self.classifier is None and len(gans) > 1:
            raise ValueError(f"synthesis.gan: found {', '.join(gans)}, allowed: one network without a classifier")

    def _settle_arms(self, gans: list[str]) -> None:
        """Arms of further networks are of those that `synthesis.gan` names; to one without any an arm is added."""
        if self.classifier is None:
            return
        further = {gan: find_arm(FURTHER_ARM).of_gan(gan).name for gan in gans[1:]}
        for arm in self.classifier.arms:
            base, _, gan = arm.partition(":")
            if gan and gan not in further:
                allowed = " | ".join([base, *(f"{base}:{each}" for each in further)])
                raise ValueError(
                    f"classifier.arms: found '{arm}', allowed: {allowed} (networks of synthesis.gan, the first without "
                    "its name)"
                )
        named = {find_arm(arm).gan for arm in self.classifier.arms}
        added = [arm for gan, arm in further.items() if gan not in named]
        self.classifier.arms = [*self.classifier.arms, *added]

    def _check_primary(self, classes: Collection[str]) -> None:
        if (primary := self.evaluation.primary) in OF_CLASSES and len(classes) < 3:
            allowed = "accuracy | sensitivity | specificity | f1 | auc"
            raise ValueError(f"evaluation.primary: found {primary}, allowed: {allowed}, of two classes")

    def _check_arm_real(self, key: str) -> None:
        if self.classifier is None or "real" not in self.classifier.arms:
            raise ValueError(f"{key}: found one, allowed: null without a classifier's arm `real`")


class ImageStudy(Study):
    """A study of images, in two dimensions or three: volumes with classes."""

    KIND: ClassVar[str] = "images"
    # What only a study of volumes has.
    cohorts: ClassVar[dict[str, Cohort]] = {}
    nodules: ClassVar[None] = None
    grid: ClassVar[None] = None

    data: AnyImageSource = Field(description="its images")
    phantom: AnyPhantom | None = Field(
        None, description="stand-in when the data root is null; null: a root is required"
    )
    gan: dict[Name, AnyGan] = Field(description="the study's networks, by a name of your choice")
    panels: dict[Name, Annotated[list[Name], Field(min_length=1)]] = Field(
        {}, description="figures of real images beside those of some networks: name of the figure: networks"
    )
    synthesis: ImageSynthesis = Field(description="how many images are drawn")
    fidelity: ImageFidelity = ImageFidelity()
    export: Export = Export()
    curve: Curve | None = Field(
        None, description="the arms with fewer training patients: how many synthetic images are worth; null: no curve"
    )
    judge: Judge | None = Field(None, description="real classifiers judge synthetic images; null: they do not")
    embedding: Embedding | None = Field(None, description="t-SNE of the images; null: none")
    reading_room: ReadingRoom | None = Field(None, description="readers are asked; null: they are not")
    external: AnyImageSource | None = Field(
        None,
        description="a data set of other patients, on which the trained classifiers are tested as well: the keys of "
        "`data` that differ, such as `root` (without one: a phantom of another seed); null: none",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_whole(cls, study: Any) -> Any:
        """Without a kind named, a folder of images is read, and the head CT phantom rendered."""
        if not isinstance(study, dict):
            return study
        if study.get("data") is None:
            raise ValueError("data: found none, allowed: either data or cohorts")
        for key in ("gan", "synthesis"):
            if study.get(key) in (None, {}):
                raise ValueError(f"{key}: found none, allowed: one, for a study of images")
        defaults = {"data": {"reader": "image_folder"}, "phantom": {"renderer": "head_ct"}}
        study = study | {
            key: default | study[key] for key, default in defaults.items() if isinstance(study.get(key), dict)
        }
        external, data = study.get("external"), study["data"]
        if isinstance(external, dict) and isinstance(data, dict):
            own = {key: value for key, value in external.items() if (key, value) != ("root", None)}
            if (reader := own.get("reader", data["reader"])) != data["reader"]:
                raise ValueError(f"external.reader: found {reader!r}, allowed: {data['reader']}, as of data")
            study["external"] = data | own
        return study

    @property
    def sources(self) -> dict[str, ImageStudy | Cohort | External]:
        """Its own data, and those of other patients."""
        if self.external is None:
            return {"data": self}
        phantom = self.phantom and self.phantom.model_copy(update={"seed": self.phantom.seed + 1})
        return {"data": self, "external": External(self.external, phantom)}

    @model_validator(mode="after")
    def _fits(self) -> ImageStudy:
        if not self.gan:
            raise ValueError("gan: found none, allowed: one, for a study of images")
        self._check_dimensions()
        self._check_classifier()
        self._check_networks()
        if self.curve is not None and self.classifier is None:
            raise ValueError("curve: found one, allowed: null without `classifier`")
        if self.judge is not None:
            self._check_arm_real("judge")
            self._check_judge(self.judge)
        if self.embedding is not None:
            self._check_arm_real("embedding")
            most = 3 * len(self.data.class_names) * self.embedding.each
            if self.embedding.perplexity >= most:
                raise ValueError(
                    f"embedding.perplexity: found {self.embedding.perplexity:g}, allowed: below {most}, the images on "
                    f"the map (embedding.each is {self.embedding.each}: real, transformed and synthetic, of each class)"
                )
        if self.reading_room is not None and self.reading_room.images > self.synthesis.fewest_kept:
            raise ValueError(
                f"reading_room.images: found {self.reading_room.images}, allowed: {self.synthesis.fewest_kept} at most "
                "(synthesis.images_per_class, less what screening may discard)"
            )
        if self.synthesis.screening is not None and self.synthesis.gan is None:
            raise ValueError("synthesis.screening: found one, allowed: null without `synthesis.gan`")
        if self.split.method == "official" and not isinstance(self.data, CovidCt | ImageFolder | VolumeFolder):
            raise ValueError(f"split.method: found official, allowed: by_patient or folds with {self.data.reader}")
        self._check_sizes()
        if self.external is not None:
            self._check_external(self.external)
        if self.evaluation.subgroups is not None:
            self._check_subgroups(self.evaluation.subgroups.column)
        return self

    @property
    def is_of_volumes(self) -> bool:
        """Whether its images have three dimensions."""
        return self.data.DIMENSIONS == 3

    def _check_dimensions(self) -> None:
        """Networks are of images or of volumes, as the data are; some parts of a study are of images alone."""
        kind = "volumes" if self.is_of_volumes else "images"
        for name, network in self.gan.items():
            if network.DIMENSIONS != self.data.DIMENSIONS:
                allowed = " | ".join(models_of(self.data.DIMENSIONS))
                raise ValueError(f"gan.{name}.model: found '{network.model}', allowed: one of {kind}: {allowed}")
        if not self.is_of_volumes:
            return
        for key in ("phantom", "judge", "embedding", "reading_room", "external"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: found one, allowed: null with {self.data.reader}")
        if self.fidelity.encoder is not None and "encoder" in self.fidelity.model_fields_set:
            raise ValueError(f"fidelity.encoder: found one, allowed: null with {self.data.reader}")
        self.fidelity.encoder = None  # which sees images
        edge = self.data.image_size
        if self.fidelity.positions > edge:
            found = self.fidelity.positions
            raise ValueError(f"fidelity.positions: found {found}, allowed: {edge} at most (data.image_size)")
        for name, network in self.gan.items():
            if isinstance(network, CtSgan) and network.slabs.depth > edge - 2:
                raise ValueError(f"gan.{name}.slabs.depth: found {network.slabs.depth}, allowed: {edge - 2} at most")

    def _check_classifier(self) -> None:
        if self.classifier is None:
            return
        if self.is_of_volumes:
            _check("classifier.backbone", self.classifier.backbone, ["squeezenet3d"])
            _check("classifier.pretrained", self.classifier.pretrained, ["none"])
            if self.classifier.centre_crop is not None:
                raise ValueError(
                    f"classifier.centre_crop: found {self.classifier.centre_crop}, allowed: null for volumes"
                )
        elif self.classifier.backbone == "squeezenet3d":
            raise ValueError("classifier.backbone: found 'squeezenet3d', allowed: one of images")
        elif self.classifier.base_width is not None:
            raise ValueError(f"classifier.base_width: found {self.classifier.base_width}, allowed: null for images")
        if not self.classifier.mirror:
            raise ValueError("classifier.mirror: found false, allowed: true for images, see classifier.classical")
        if isinstance(self.data, Scans):
            raise ValueError(f"classifier: found one, allowed: null, as {self.data.reader} gives one class only")
        _check("classifier.positive", self.classifier.positive, self.data.class_names)
        self._check_primary(self.data.class_names)
        if (crop := self.classifier.centre_crop or 0) > self.data.image_size:
            raise ValueError(f"classifier.centre_crop: found {crop}, allowed: {self.data.image_size} at most")
        network, stem = self.classifier.network_of_images, self.classifier.stem
        smallest = SMALLEST_IMAGES[network, stem]
        if (seen := crop or self.data.image_size) < smallest:
            key = "classifier.centre_crop" if crop else "data.image_size"
            raise ValueError(f"{key}: found {seen}, allowed: at least {smallest} for {network}, stem {stem}")
        if network != "efficientnet-lite0" and stem == "small" and self.classifier.pretrained != "none":
            weights = self.classifier.pretrained
            raise ValueError(f"classifier.stem: found small, allowed: imagenet, for pretrained weights ({weights})")

    def _check_networks(self) -> None:
        gans = self.synthesis.gans
        if self.classifier is not None or self.reading_room is not None:
            self._check_gans(gans, self.gan)
        elif gans:
            raise ValueError(
                f"synthesis.gan: found '{', '.join(gans)}', allowed: null without a classifier or a reading room"
            )
        self._settle_arms(gans)
        for panel, gans in self.panels.items():
            for gan in gans:
                _check(f"panels.{panel}", gan, self.gan)
        trained = [name for name, gan in self.gan.items() if gan.weights_of is None]
        for name, network in self.gan.items():
            if network.is_conditional and len(self.data.class_names) == 1:
                raise ValueError(f"gan.{name}.conditional: found true, allowed: false for images of one class")
            if network.weights_of is not None:
                _check(f"gan.{name}.weights_of", network.weights_of, trained)
                _check(f"gan.{name}.model", network.model, [self.gan[network.weights_of].model])

    def _check_sizes(self) -> None:
        for name, network in self.gan.items():
            size, trained = self.size_of(name), self.size_of(network.weights_of or name)
            pixels = "voxels" if self.is_of_volumes else "pixels"
            origin = "data.image_size" if network.image_size is None else pixels
            if problem := network.size_problem(size, origin):
                raise ValueError(f"gan.{name}.image_size: {problem}")
            if network.HAS_ONE_SIZE and size != trained:
                allowed = f"{trained}, which {network.weights_of} is trained on"
                raise ValueError(f"gan.{name}.image_size: found {size} ({origin}), allowed: {allowed}")
            if self.classifier is not None and name in self.synthesis.gans and size != self.data.image_size:
                allowed = f"{self.data.image_size} (data.image_size), for classifiers see both"
                raise ValueError(f"gan.{name}.image_size: found {size} ({origin}), allowed: {allowed}")

    def size_of(self, gan: str) -> int:
        """Edge of a network's images, pixels."""
        return self.gan[gan].image_size or self.data.image_size

    def _check_external(self, external: ImageSource) -> None:
        """Its images are those that the classifiers can be shown, of the same classes."""
        if self.classifier is None:
            raise ValueError("external: found one, allowed: null without a classifier")
        if self.split.method == "folds":
            raise ValueError(
                "external: found one, allowed: null with split.method folds, whose classifiers are several"
            )
        for key in ("image_size", "channels", *(["classes"] if isinstance(external, Brats) else [])):
            found, allowed = getattr(external, key), getattr(self.data, key)
            if found != allowed:
                raise ValueError(f"external.{key}: found {found}, allowed: {allowed}, as of data")
        if set(external.class_names) != set(self.data.class_names):
            names, allowed = ", ".join(external.class_names), ", ".join(self.data.class_names)
            raise ValueError(
                f"external.classes: found {names}, allowed: {allowed}, as of data, each with its own value"
            )

    def _check_subgroups(self, column: str) -> None:
        if self.classifier is None:
            raise ValueError("evaluation.subgroups: found one, allowed: null without a classifier")
        if not isinstance(self.data, LabelledImages):
            raise ValueError(
                f"evaluation.subgroups: found one, allowed: null with {self.data.reader}; labelled_images alone has a "
                "CSV of labels"
            )
        if column.strip() == self.data.label_column.strip():
            raise ValueError(
                f"evaluation.subgroups.column: found '{column}', the label's; allowed: a column that is not the classes"
            )

    def _check_judge(self, judge: Judge) -> None:
        if judge.outputs is not None and self.classifier is not None:
            if self.classifier.backbone not in TORCHVISIONS:
                backbone, allowed = self.classifier.backbone, " | ".join(TORCHVISIONS)
                raise ValueError(f"classifier.backbone: found '{backbone}' with judge.weights, allowed: {allowed}")
            if (channels := getattr(self.data, "channels", 1)) != 3:
                raise ValueError(f"data.channels: found {channels} with judge.weights, allowed: 3")
            if sorted(judge.outputs) != sorted(self.data.class_names):
                found, allowed = ", ".join(judge.outputs), ", ".join(self.data.class_names)
                raise ValueError(f"judge.outputs: found {found}, allowed: {allowed}, in the order of the outputs")
        if "real" in self.gan:
            raise ValueError(
                "gan.real: found with a judge, whose table calls the test images so; allowed: another name"
            )
        if judge.sets * judge.images > self.synthesis.images_per_class:
            raise ValueError(
                f"judge: found {judge.sets} sets of {judge.images}, "
                f"allowed: {self.synthesis.images_per_class} images at most (synthesis.images_per_class)"
            )


class VolumeStudy(Study):
    """A study of volumes, from one or several cohorts; it may end with their nodules."""

    KIND: ClassVar[str] = "volumes"
    # What only a study of images has.
    data: ClassVar[None] = None
    phantom: ClassVar[None] = None
    panels: ClassVar[dict[str, list[str]]] = {}
    export: ClassVar[None] = None
    curve: ClassVar[None] = None
    judge: ClassVar[None] = None
    embedding: ClassVar[None] = None
    reading_room: ClassVar[None] = None
    external: ClassVar[None] = None

    cohorts: dict[Name, Cohort] = Field(description="its volumes, by a name of your choice for each source")
    nodules: Nodules | None = Field(None, description="nodules injected and erased in `cohorts`; null: none")
    grid: Grid | None = Field(None, description="cubes of the scans of `cohorts`, for networks of volumes; null: none")
    gan: dict[Name, AnyVolumeGan] = Field({}, description="the study's networks, by a name of your choice")
    synthesis: VolumeSynthesis | None = Field(None, description="how many volumes are drawn; null: none")

    @model_validator(mode="before")
    @classmethod
    def _has_one_kind_of_data(cls, study: Any) -> Any:
        if isinstance(study, dict) and study.get("data") is not None:
            raise ValueError("data: found both, allowed: either data or cohorts")
        return study

    @property
    def sources(self) -> dict[str, ImageStudy | Cohort | External]:
        """Its cohorts."""
        return {f"cohorts.{name}.data": cohort for name, cohort in self.cohorts.items()}

    @model_validator(mode="after")
    def _fits(self) -> VolumeStudy:
        if self.split.method != "by_patient":
            raise ValueError(f"split.method: found {self.split.method}, allowed: by_patient, for volumes")
        if self.evaluation.subgroups is not None:
            raise ValueError("evaluation.subgroups: found one, allowed: null for a study of volumes")
        parts = {"gan": self.gan, "synthesis": self.synthesis, "nodules": self.nodules, "grid": self.grid}
        if any([self.gan, self.synthesis, self.grid, self.classifier]) and not all(parts.values()):
            missing = next(name for name, part in parts.items() if not part)
            raise ValueError(f"{missing}: found none, allowed: one, for a study of volumes")
        if self.nodules is not None:
            _check("nodules.annotated", self.nodules.annotated, self.cohorts)
            if len(self.cohorts) < 2:
                raise ValueError(f"cohorts: found {len(self.cohorts)}, allowed: at least 2, whose nodules are mixed")
        if self.grid is None or self.nodules is None or self.synthesis is None:
            return self
        self._check_gans(self.synthesis.gans, self.gan)
        self._settle_arms(self.synthesis.gans)
        if self.fidelity.positions > self.grid.size:
            raise ValueError(
                f"fidelity.positions: found {self.fidelity.positions}, allowed: {self.grid.size} at most (grid.size)"
            )
        for name, gan in self.gan.items():
            own = gan.image_size if isinstance(gan, Gan3d) else None
            if problem := gan.size_problem(own or self.grid.size, "voxels" if own else "grid.size"):
                raise ValueError(f"gan.{name}.image_size: {problem}")
            if isinstance(gan, CtSgan) and gan.slabs.depth > self.grid.size - 2:
                raise ValueError(
                    f"gan.{name}.slabs.depth: found {gan.slabs.depth}, allowed: {self.grid.size - 2} at most"
                )
        largest = self.nodules.voi.size * self.nodules.voi.spacing_mm - 2 * self.nodules.voi.margin_mm
        if (most := max(self.nodules.test_diameters_mm, default=0)) > largest:
            raise ValueError(f"nodules.test_diameters_mm: found {most:g}, allowed: {largest:g} at most (nodules.voi)")
        if self.classifier is not None:
            _check("classifier.backbone", self.classifier.backbone, ["squeezenet3d"])
            _check("classifier.positive", self.classifier.positive, VOLUME_LABELS)
            _check("classifier.pretrained", self.classifier.pretrained, ["none"])
            for arm in self.classifier.arms:
                _check("classifier.arms", arm.partition(":")[0], VOLUME_ARMS)
        return self


def _check(key: str, found: str | None, allowed: Collection[str]) -> None:
    if found not in allowed:
        raise ValueError(f"{key}: found {'null' if found is None else repr(found)}, allowed: {' | '.join(allowed)}")


def _kind_of(study: Any) -> str:
    """A study of volumes has cohorts."""
    cohorts = study.get("cohorts") if isinstance(study, dict) else getattr(study, "cohorts", None)
    return VolumeStudy.KIND if cohorts else ImageStudy.KIND


class Config(Section):
    """The whole configuration."""

    results: str = Field("results", min_length=1, description="folder of all output")
    data_roots: dict[Name, Annotated[str, Field(min_length=1)] | None] = Field(
        {}, validate_default=True, description="folder of each data set; null: the embedded phantom"
    )
    keep_classifiers: bool = Field(
        True,
        description="whether the weights of classifiers stay once their predictions are written and nothing in the run "
        "needs them; without them a later external cohort, judge or embedding trains its classifiers again",
    )
    studies: dict[
        Name,
        Annotated[
            Annotated[ImageStudy, Tag(ImageStudy.KIND)] | Annotated[VolumeStudy, Tag(VolumeStudy.KIND)],
            Discriminator(_kind_of),
        ],
    ] = Field(min_length=1, description="the studies, by name")
    tensorboard: bool = Field(
        False,
        description="logs of the generative networks' trainings below `tensorboard/` in the results, for the package "
        "TensorBoard (`pip install tensorboard`); changes no result",
    )

    @field_validator("results")
    @classmethod
    def _is_a_folder_of_its_own(cls, results: str) -> str:
        """As Snakemake wants it, which takes `out` and `./out/` for two: without `.`, `..` or a slash at its end."""
        path = os.path.normpath(plain_path(results)) if results.strip() else ""
        if not path or Path.cwd().is_relative_to(os.path.abspath(path)):
            what = "holds the folder that you are in" if path else "is no name"
            raise ValueError(f"found '{results}', which {what}; allowed: a folder for the output alone")
        if marks := sorted(set("{}*?") & set(path)):
            raise ValueError(f"found '{results}', allowed: a path without {' '.join(marks)}")
        parents = (Path(path), *Path(path).parents)
        if blocked := next((str(each) for each in parents if os.path.lexists(each) and not os.path.isdir(each)), None):
            raise ValueError(f"found '{results}', but '{blocked}' is no folder; allowed: a folder, there or to be made")
        return path

    @field_validator("data_roots")
    @classmethod
    def _all_roots(cls, roots: dict[str, str | None]) -> dict[str, str | None]:
        return dict.fromkeys(KNOWN_ROOTS) | {name: folder and plain_path(folder) for name, folder in roots.items()}

    @model_validator(mode="after")
    def _roots_fit(self) -> Config:
        sources = {
            f"{name}.{key}": source for name, study in self.studies.items() for key, source in study.sources.items()
        }
        edits = {
            name: study.nodules.edits
            for name, study in self.studies.items()
            if study.nodules is not None and study.nodules.edits is not None
        }
        used = {source.data.root for source in sources.values()} | {edit.root for edit in edits.values()}
        outputs = [Path(self.results), *(Path(self.results, name) for name in self.studies)]
        for root, folder in self.data_roots.items():
            if root not in used.union(KNOWN_ROOTS):
                allowed = " | ".join(sorted(used.union(KNOWN_ROOTS)))
                raise ValueError(f"data_roots.{root}: unknown key, allowed: {allowed}")
            if folder is None or root not in used:
                continue
            if not os.path.isdir(folder):
                raise ValueError(f"data_roots.{root}: found '{folder}', which is no folder; allowed: a folder, or null")
            if Path(folder).resolve() in (output.resolve() for output in outputs):
                raise ValueError(
                    f"data_roots.{root}: found '{folder}', to which output is written (results: '{self.results}'); "
                    "allowed: a folder of data alone"
                )
        for name, edit in edits.items():
            if self.data_roots.get(edit.root) is None:
                raise ValueError(
                    f"data_roots.{edit.root}: found null, allowed: a folder, whose scans studies.{name} edits"
                )
        for name, source in sources.items():
            root = source.data.root
            if root not in self.data_roots:
                raise ValueError(f"studies.{name}.root: found '{root}', allowed: {' | '.join(self.data_roots)}")
            if self.data_roots[root] is not None:
                continue
            where = name.removesuffix(".data")
            if source.phantom is None:
                raise ValueError(
                    f"data_roots.{root}: found null, but studies.{where} has no phantom; allowed: a folder"
                )
            if source.phantom.renderer != source.data.phantom_renderer:
                raise ValueError(
                    f"studies.{where}.phantom.renderer: found '{source.phantom.renderer}', "
                    f"allowed: {source.data.phantom_renderer}"
                )
        for name, study in self.studies.items():
            self._check_beside(name, study)
        return self

    def _check_beside(self, name: str, study: ImageStudy | VolumeStudy) -> None:
        """Raise ValueError where what a study has beside its own data does not go with them, phantom or real."""
        if not isinstance(study, ImageStudy):
            return
        own = self.data_roots[study.data.root]
        if own is None and study.evaluation.subgroups is not None:
            raise ValueError(
                f"studies.{name}.evaluation.subgroups: found one, but data_roots.{study.data.root} is null, and a "
                "phantom's CSV has labels alone; allowed: null, or a folder of data"
            )
        if study.external is None:
            return
        root = study.external.root
        if (self.data_roots[root] is None) != (own is None):
            kinds = ("real", "a phantom") if own is None else ("a phantom", "real")
            raise ValueError(
                f"studies.{name}.external.root: found '{root}', which is {kinds[0]}, allowed: a key of data_roots that "
                f"is {kinds[1]}, as the study's own data ('{study.data.root}')"
            )
        if own is not None and study.external == study.data:
            raise ValueError(
                f"studies.{name}.external: found the study's own data, allowed: another root, or other folders of it"
            )
