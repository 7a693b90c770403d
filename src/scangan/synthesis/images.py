"""Mass synthesis: one shard of images from a trained generator, each image from a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from scangan.device import compute_device
from scangan.models.catalogue import find_model


@torch.inference_mode()
def synthesize(
    generator: nn.Module, facts: dict[str, Any], first_seed: int, images: int, batch_size: int
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Batches of (images [N, C, H, W] float32 in [0, 1], manifest rows), `images` in all.

    Image k is drawn from noise seeded by `first_seed` + k alone, so any one of them can be made again without the
    others: to the bit on the same processor, with as many threads and the same `batch_size`; with a generator of
    several classes by the noise and the class. `facts` are those of `scangan.models.catalogue.read_generator`, asked
    for one label.
    """
    device = compute_device()
    generator = generator.to(device).eval()
    low, high = find_model(facts["model"]).OUTPUT_RANGE
    end = first_seed + images
    for start in range(first_seed - first_seed % batch_size, end, batch_size):
        # A whole batch, and always of the same seeds: an image's last bits depend on its place among the others.
        together = range(start, start + batch_size)
        latent = torch.cat([generator.draw_latent(1, torch.Generator().manual_seed(seed)) for seed in together])
        if "classes" in facts:
            latent = generator.with_class(latent, facts["classes"].index(facts["label"]))
        wanted = slice(max(first_seed - start, 0), end - start)
        seeds = together[wanted]
        drawn = (generator(latent.to(device))[wanted].float() - low) / (high - low)
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
