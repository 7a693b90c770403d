"""What it costs to look for copies in a cohort, beside reading it.

Compared in one run, rounds interleaved: reading 10,000 JPEG files of 224x224 pixels into an image set, and looking for
identical and near-identical images among them. Files are in the system's cache.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from scangan.config import ImageFolder
from scangan.data.duplicates import settle_images
from scangan.data.store import ImageWriter
from scangan.ingest.readers import READERS

IMAGES, SIZE = 10_000, 224
ROUNDS = 3


def write_images(root: Path) -> None:
    """Smooth random pictures of two classes."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = root / ("sick" if number % 2 else "healthy")
        folder.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8))
        small.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)


def time_round(root: Path, folder: Path) -> tuple[float, float]:
    """Seconds to read the images, and to look for copies among them."""
    settings = ImageFolder(root="bench", classes={"healthy": "healthy", "sick": "sick"}, image_size=SIZE)
    with ImageWriter(folder / "images.zarr.zip", folder / "manifest.parquet", (1, SIZE, SIZE)) as writer:
        start = time.perf_counter()
        READERS["image_folder"].read(root, settings, "real", writer.append)
        read = time.perf_counter()
        settle_images(writer.manifest, writer.images, settings.duplicates)
        return read - start, time.perf_counter() - read


def compare_duplicates() -> None:
    """Print the time of both, and the ratio."""
    print(f"copies among {IMAGES} JPEG files of {SIZE}x{SIZE} pixels: looking for them / reading the files")
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as folder:
        write_images(Path(root))
        pairs = [time_round(Path(root), Path(folder)) for _ in range(ROUNDS)]
    ratios = sorted(looked / read for read, looked in pairs)
    read, looked = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    print(
        f"{looked:.1f} s / {read:.1f} s   ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )
