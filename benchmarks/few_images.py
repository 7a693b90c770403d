"""Networks for images of one class after equal processor seconds of one core, by a measure that has learnt nothing.

python benchmarks/few_images.py results/covid_ct --label covid --seconds 600 --seeds 3
    after a run of the study, whose images and split it uses: `snakemake results/covid_ct/split/split.csv` is enough

`dcgan224`, the same with differentiable augmentation, `projected_gan`, and its generator alone, against a
discriminator that sees pixels: what the frozen features are good for. Each with its own rates and its last weights.
Of each: steps, and by radiomics the distance to held-out images, precision and recall, beside those of real images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from scangan.config import Fidelity, Gan, ImageGan
from scangan.data.split import read_parts
from scangan.data.store import ImageSet
from scangan.metrics.feature_sets import Features
from scangan.metrics.fidelity import compare_sets, compare_unbiased
from scangan.metrics.radiomics import radiomics, standardise, standardise_within_bounds
from scangan.models.catalogue import build, find_model, network_options
from scangan.training.adversarial import ImageTraining, ProjectedTraining, make_fabric

DRAWN = 1000
SHOWN = ("energy_distance", "precision", "recall")
ALL_KINDS = ["color", "translation", "cutout"]
# As in config/cpu.yaml; by steps, of which there are as many as the seconds allow.
DCGAN = {
    "model": "dcgan224",
    "base_width": 24,
    "learning_rate_generator": 2e-4,
    "learning_rate_discriminator": 2e-4,
    "ema_decay": 0.999,
    "horizontal_flip": True,
}
PROJECTED = {"model": "projected_gan", "horizontal_flip": True}
NETWORKS = {
    "dcgan224": DCGAN,
    "diffaugment": DCGAN | {"diffaugment": {"kinds": ALL_KINDS}},
    "light generator": PROJECTED | {"diffaugment": {"kinds": ALL_KINDS, "probability": 1}},
    "projected_gan": PROJECTED,
}


def settings_of(name: str, seed: int) -> ImageGan:
    return Gan.of_kind(NETWORKS[name] | {"seed": seed, "steps": 10**6})


def networks_of(name: str, settings: ImageGan, channels: int, size: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    generator, discriminator = build(settings.model, channels, size, **network_options(settings))
    if name == "light generator":
        _, discriminator = build("dcgan224", channels, size, base_width=DCGAN["base_width"])
    return generator, discriminator


def train(name: str, images: np.ndarray, seed: int, seconds: float) -> tuple[Callable[[int], np.ndarray], int]:
    """After so many processor seconds: what draws images of the averaged generator, and the steps."""
    torch.manual_seed(seed)
    settings = settings_of(name, seed)
    generator, discriminator = networks_of(name, settings, images.shape[1], images.shape[-1])
    low, high = output_range = find_model(settings.model).OUTPUT_RANGE
    scaled = torch.from_numpy(images) * (high - low) + low
    kind = ProjectedTraining if name == "projected_gan" else ImageTraining
    training = kind(make_fabric(settings.precision, 1, "cpu"), generator, discriminator, scaled, output_range, settings)
    start = time.process_time()
    while time.process_time() - start < seconds:
        training.step()

    @torch.no_grad()
    def draw(count: int) -> np.ndarray:
        noise = generator.draw_latent(count, torch.Generator().manual_seed(seed))
        parts = [training.average.average(part) for part in noise.split(settings.batch_size)]
        return ((torch.cat(parts).numpy() - low) / (high - low)).clip(0, 1)

    return draw, training.step_count


def as_features(described: np.ndarray) -> Features:
    return Features(described.astype(np.float32), np.zeros((len(described), 2), np.float32))


def compare(parts: dict[str, ImageSet], label: str, seconds: float, seeds: int, networks: list[str]) -> None:
    """Train each of the networks for each seed, and print what its images are like."""
    torch.set_num_threads(1)
    parts = {name: images.select(images.manifest.label == label) for name, images in parts.items()}
    held_out = ImageSet.concatenate([parts["validation"], parts["test"]])
    known = np.asarray(parts["train"].images, np.float32)
    patients = [each.manifest.patient_id.to_numpy() for each in (parts["train"], held_out)]
    described = radiomics(known), radiomics(held_out.images)
    size = known.shape[-1]
    print(
        f"{label}: {len(known)} training, {len(held_out)} held-out images of {size}^2; {seconds:g} s of one core each"
    )
    for seed in range(seeds):
        for name in networks:
            draw, steps = train(name, known, seed, seconds)
            sets = *described, radiomics(draw(DRAWN))
            found = compare_sets(*map(as_features, standardise(*sets)), Fidelity(), *patients).set_index("metric")
            bounded = compare_unbiased(*standardise_within_bounds(*sets), seed, *patients).set_index("metric")
            found.loc["energy_distance"] = bounded.loc["energy_distance"]
            print(f"{name}, seed {seed}: {steps} steps")
            for metric in SHOWN:
                row = found.loc[metric]
                interval = f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
                print(f"    {metric}: {interval} (real {row.reference:.3f})", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results of a study of images")
    parser.add_argument("--label", required=True, help="the class")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="some of the networks")
    given = parser.parse_args()
    files = ("cohort/images.zarr.zip", "cohort/manifest.parquet", "split/split.csv")
    parts = read_parts(*(given.folder / file for file in files))
    compare(parts, given.label, given.seconds, given.seeds, given.only)
