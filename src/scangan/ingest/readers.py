"""The readers of images, and of volumes with classes: an entry each, whose module and settings say all the rest.

Scans (`ct_slices`, `ct_volumes`) are no images yet: they are found, resampled and cut by rules of their own, see
`scangan.ingest.scan_index` and `scangan.ingest.scans`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scangan.config import Brats, Classes, CovidCt, ImageFolder, LabelledImages, VolumeFolder

if TYPE_CHECKING:
    from scangan.ingest.cohort import Append, Ingested

Settings = Classes | Brats


@dataclass(frozen=True)
class Reader:
    """A reader of images.

    settings: the class of its settings. tables: those that a study of it ends in besides the tables of every study.
    """

    name: str
    settings: type[Settings]
    tables: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Where its `read_cohort` is; found by name, so that a job runs the code of its own reader alone."""
        return f"scangan.ingest.{self.name}"

    def read(self, root: Path, settings: Settings, data: str, append: Append) -> Ingested:
        """Read the data set below `root`, and hand its images to `append` as they come.

        data: `real` or `phantom`, noted in the manifest. append: takes images, float32 [n, channels, image_size,
        image_size] (volumes: with a third edge before these) in [0, 1], and their manifest rows. What cannot be used is
        rejected by name, and the rest goes on. Raises DataError if nothing is usable, if a class is left empty, and if
        more than `settings.max_rejected` is rejected; some images were handed over by then.

        Example:
            with ImageWriter(images_path, manifest_path, shape=(1, 256, 256)) as writer:
                ingested = READERS["brats"].read(root, settings, "real", writer.append)
        """
        return import_module(self.module).read_cohort(root, settings, data, append)


READERS = {
    reader.name: reader
    for reader in (
        Reader("labelled_images", LabelledImages),
        Reader("image_folder", ImageFolder),
        Reader("volume_folder", VolumeFolder),
        Reader("covid_ct", CovidCt),
        Reader("brats", Brats, tables=("slices",)),
    )
}
