"""What the training of a generative network leaves behind in files; a grid of its images over the training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scangan.files import atomic
from scangan.models.catalogue import write_generator
from scangan.training.checkpoint import CheckpointStore

if TYPE_CHECKING:
    from scangan.training.adversarial import TrainedGan


def write_trained(trained: TrainedGan, output: Any, resume: Path, **facts: Any) -> None:
    """Write weights, their description, history and samples where a job's `output` says; then remove its checkpoints.

    facts: what `write_generator` is to say of the generator, beside the steps.
    """
    write_generator(Path(output.weights), Path(output.description), trained.weights, **facts, steps=trained.steps)
    with atomic(output.history) as path:
        trained.history.to_csv(path, index=False)
    write_sample_grid(trained.samples, Path(output.samples))
    CheckpointStore(resume).remove()


def write_sample_grid(samples: np.ndarray, path: Path, gap: int = 2, tile: int = 96) -> None:
    """Write samples, uint8 [moments, columns, C, H, W], as a PNG: time runs downwards, a column is one noise."""
    rows, columns, _, height, width = samples.shape
    scale = max(1, tile // max(height, width))
    tiles = np.moveaxis(samples, 2, -1).repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    grid = padded.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height * scale + gap), columns * (width * scale + gap), samples.shape[2]
    )
    with atomic(path) as temporary:
        Image.fromarray(grid.squeeze(-1) if grid.shape[-1] == 1 else grid).save(temporary, format="PNG")
