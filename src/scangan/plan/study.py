"""What every study has and ends in, of images or of volumes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from scangan.arms import Arm, Training, arm_of_folder, find_arm, sweep
from scangan.config import PRETRAINED, Classifier, Config, ImageStudy, VolumeStudy
from scangan.plan.sources import Source
from scangan.plan.values import Settings, existing, optional, plain

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
        swept = sweep(self._classifier.shares, of_volumes=isinstance(self.settings, VolumeStudy))
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
        of_gans = ("batch_size", "epochs", "model", "steps", "validations", "weights_of")
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
