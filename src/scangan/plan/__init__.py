"""What a study has and what it ends in: its files, the settings that each of its jobs reads, its tables and figures.

The rules of the workflow ask a study, and look nothing up: `plan.studies["head_ct"].predictions()`. Paths lie below the
folder of results. Nothing here knows Snakemake, or takes long to load.
"""

from __future__ import annotations

from collections.abc import Mapping

from scangan.config import MODELS, Config, VolumeStudy, scale_of
from scangan.ingest.readers import READERS
from scangan.plan.images import ImagePlan
from scangan.plan.study import Branch
from scangan.plan.volumes import VolumePlan

# The tables that are set beside the papers' figures.
COMPARED_TABLES = ("cohort", "classification", "detection", "fidelity", "judge", "readers")


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
