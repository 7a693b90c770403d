"""Whole cohorts in memory, as tests look at them; the workflow writes them to disk as they come."""

from pathlib import Path

from scangan.config import Brats, Images
from scangan.data.store import ImageSet
from scangan.ingest.cohort import Ingested
from scangan.ingest.readers import READERS


def read_cohort(root: Path, settings: Images | Brats, data: str) -> tuple[ImageSet, Ingested]:
    """All images of a data set at once, and what its reader says besides."""
    sets = []
    ingested = READERS[settings.reader].read(
        root, settings, data, lambda images, rows: sets.append(ImageSet(images, rows))
    )
    return ImageSet.concatenate(sets), ingested
