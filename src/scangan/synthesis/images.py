"""Mass synthesis: one shard of images from a trained generator, each image from a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from scangan.models.catalogue import find_model


@torch.inference_mode()
def synthesize(
    generator: nn.Module, facts: dict[str, Any], first_seed: int, images: int, batch_size: int
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Batches of (images [N, C, H, W] float32 in [0, 1], manifest rows), `images` in all.

    Image k is drawn from noise seeded by `first_seed` + k alone, so any one of them can be made again without the
    others: with a generator of several classes by the noise and the class. `facts` are those of
    `scangan.models.catalogue.read_generator`, asked for one label.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = generator.to(device).eval()
    low, high = find_model(facts["model"]).OUTPUT_RANGE
    for start in range(0, images, batch_size):
        seeds = range(first_seed + start, first_seed + min(start + batch_size, images))
        latent = torch.cat([generator.draw_latent(1, torch.Generator().manual_seed(seed)) for seed in seeds])
        if "classes" in facts:
            latent = generator.with_class(latent, facts["classes"].index(facts["label"]))
        drawn = (generator(latent.to(device)).float() - low) / (high - low)
        names = [f"{facts['gan']}-{facts['label']}-{seed}" for seed in seeds]
        rows = pd.DataFrame(
            {
                "image_id": names,
                "patient_id": names,
                "label": facts["label"],
                "source": f"{facts['gan']}/{facts['label']}",
                "data": facts["data"],
                "spacing_mm": np.nan,
                "synthesis_seed": pd.array(list(seeds), dtype="Int64"),
            }
        )
        yield drawn.clamp(0, 1).cpu().numpy(), rows
