"""Volumes in files, made for tests."""

from pathlib import Path

import nibabel
import numpy as np

CLASSES = ("ball", "shell")


def make_volume(label: str, rng: np.random.Generator, shape: tuple[int, int, int] = (28, 28, 28)) -> np.ndarray:
    """A soft ball in noise, as of MR, float32 [columns, rows, slices]; a `shell` is dark within."""
    grid = np.indices(shape).astype(float)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    radius = np.sqrt(((grid - centre.reshape(3, 1, 1, 1)) ** 2).sum(0)) / (min(shape) / 2)
    values = 100 + 500 * np.exp(-((radius / 0.6) ** 4))
    if label == "shell":
        values -= 350 * np.exp(-((radius / 0.3) ** 4))
    return (values + rng.normal(0, 20, shape)).astype(np.float32)


def write_volume_folders(root: Path, each: int = 12, shape: tuple[int, int, int] = (28, 28, 28), seed: int = 0) -> Path:
    """`each` NIfTI volumes in a folder for each of `CLASSES`, 2 mm voxels."""
    rng = np.random.default_rng(seed)
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for number in range(each):
            image = nibabel.Nifti1Image(make_volume(label, rng, shape), np.diag([2.0, 2.0, 2.0, 1.0]))
            nibabel.save(image, root / label / f"{label}-{number:02}.nii.gz")
    return root
