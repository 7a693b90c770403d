"""How many images and scans the parts of a study have: by its split, or, before there is one, by its settings."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scangan.config import (
    BrainMrPhantom,
    Brats,
    ChestPhantom,
    CovidCtPhantom,
    HeadCtPhantom,
    Scans,
    Split,
    VolumeFolder,
)
from scangan.ingest.listing import list_data
from scangan.plan.images import ImagePlan
from scangan.plan.sources import Source
from scangan.plan.study import StudyPlan

# Of the sets that the studies are named after.
PUBLISHED = {"head_ct": 200, "covid_ct": 746, "brain_mr": 220, "lidc": 1018, "nlst": 600}
KEPT_SLICES = 0.6  # of BRATS's slices, by the thresholds of config.yaml: the paper's 12,979 of 22,220


@dataclass(frozen=True)
class Sizes:
    """Images, or scans, of each part of a study, of all classes. counted: whether they are there already."""

    train: int
    validation: int
    test: int
    classes: int
    counted: bool

    @property
    def in_all(self) -> int:
        return self.train + self.validation + self.test


def sizes_of(study: StudyPlan) -> Sizes:
    """As the split says, or as the settings let expect."""
    classes = len(study.labels()) if isinstance(study, ImagePlan) else 2
    split = Path(study.folder, "split/split.csv")
    if split.is_file():
        with split.open() as file:
            found = Counter(row["split"] for row in csv.DictReader(file))
        return Sizes(found["train"], found["validation"], found["test"], classes, counted=True)
    in_all = sum(images_of(source) for source in study.sources if not source.name.endswith("/external"))
    train, validation, test = (round(share * in_all) for share in _shares(study.settings.split))
    return Sizes(train, validation, test, classes, counted=False)


def scans_of(source: Source) -> int:
    """Scans, patients or images in the files of a source."""
    settings = source.settings
    most = getattr(settings.data, "scans", None)
    match settings.phantom if source.data_root is None else None:
        case HeadCtPhantom() | CovidCtPhantom() as phantom:
            found = phantom.images
        case BrainMrPhantom() as phantom:
            found = phantom.patients
        case ChestPhantom() as phantom:
            found = phantom.scans
        case _ if isinstance(settings.data, VolumeFolder):
            found = _volumes_in(source.data_root or ".")
        case _:
            found = PUBLISHED.get(source.root) or len(list_data(source.data_root or "."))
    return min(found, most or found)


def _volumes_in(root: str) -> int:
    """Files of volumes, and folders of other files, which are taken for a series each."""
    from scangan.ingest.volume_headers import DATA_SUFFIXES, SUFFIXES  # NumPy, for those who ask

    paths = [file.path for file in list_data(root) if not file.path.lower().endswith(DATA_SUFFIXES)]
    return len({path if path.lower().endswith(SUFFIXES) else path.rpartition("/")[0] for path in paths})


def images_of(source: Source) -> int:
    """Images that a source becomes; of one of volumes its scans."""
    scans, data = scans_of(source), source.settings.data
    if isinstance(data, Brats):
        return round(KEPT_SLICES * scans * ((data.slices[1] - data.slices[0]) // data.every + 1))
    return scans * data.slices_per_scan if isinstance(data, Scans) else scans


def _shares(split: Split) -> list[float]:
    if split.fold_count > 1:
        return [1 - 2 / split.fold_count, 1 / split.fold_count, 1 / split.fold_count]
    parts = [split.train, split.validation, split.test]
    return [part / sum(parts) for part in parts]
