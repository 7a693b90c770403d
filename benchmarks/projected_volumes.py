"""CT-SGAN with a projected D_slice beside the paper's, trained for equal processor seconds on one core.

python benchmarks/projected_volumes.py results/ct_sgan --seconds 300 --out benchmark
    after a run of the study `ct_sgan`, whose volumes free of nodules and whose split it uses

Of each network: steps, distances to held-out volumes by radiomics, beside those of the training volumes; how far slices
lie from where they belong along the axis; differences of neighbouring slices; a picture of three planes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from scangan.config import CtSgan, Fidelity, VolumeGan
from scangan.ct.window import to_grey
from scangan.data.volume_set import VolumeSet, read_volume_set, split_volumes
from scangan.facts import Facts
from scangan.metrics.volumes import (
    compare_slices,
    compare_whole_volumes,
    describe_volumes,
    extract_slices,
)
from scangan.models.catalogue import build, feature_networks, network_options
from scangan.report.volume_figures import planes_figure
from scangan.synthesis.volumes import VolumeSynthesizer
from scangan.training.adversarial import make_fabric
from scangan.training.volumes import make_slab_training

WINDOW, DRAWN, POSITIONS = (-1000.0, 400.0), 24, 4
EXTRACTOR = "efficientnet-lite0"
CONFIG = Path(__file__).parents[1] / "config/config.yaml"
NETWORKS = ("ct_sgan", "ct_sgan_projected")


def train(volumes: np.ndarray, settings: CtSgan, seconds: float) -> tuple[torch.nn.Module, int]:
    """The averaged generator after so many processor seconds, and its steps."""
    torch.manual_seed(settings.seed)
    networks = build(settings.model, 1, volumes.shape[-1], **network_options(settings))
    training = make_slab_training(
        make_fabric(settings.precision, devices=1), *networks, torch.from_numpy(volumes), WINDOW, settings
    )
    start = time.process_time()
    while time.process_time() - start < seconds:
        training.step()
    return training.average.average, training.step_count


def draw(generator: torch.nn.Module, size: int, spacing_mm: float, name: str) -> VolumeSet:
    """DRAWN volumes of a generator, from seeds 0, 1, ..."""
    facts = {"size": size, "spacing_mm": spacing_mm, "window": WINDOW, "gan": name, "data": "phantom"}
    synthesizer = VolumeSynthesizer(generator, facts)
    rows = pd.DataFrame([synthesizer.describe(seed) | {"patient_id": f"{name}-{seed}"} for seed in range(DRAWN)])
    return VolumeSet.hold(np.stack([synthesizer.draw(seed) for seed in range(DRAWN)]), rows)


def misplaced(volumes: np.ndarray, template: np.ndarray) -> float:
    """Mean distance, in slices, of each axial slice's place from that of the template's slice which is most like it."""
    rows, columns = (
        (each - each.mean((-2, -1), keepdims=True)).reshape(*each.shape[:-2], -1) for each in (volumes, template)
    )
    rows, columns = (each / np.linalg.norm(each, axis=-1, keepdims=True).clip(1e-9) for each in (rows, columns))
    best = (rows @ columns.T).argmax(-1)
    return float(np.abs(best - np.arange(len(template))).mean())


def compare(folder: Path, seconds: float, out: Path, seeds: int) -> None:
    """Train each of the networks for each seed, and print what its volumes are like."""
    torch.set_num_threads(1)
    stems = sorted((folder / "volumes/free").glob("*/batch*.zarr.zip"))
    manifests = [stem.with_name(stem.name.replace(".zarr.zip", ".parquet")) for stem in stems]
    parts = split_volumes(read_volume_set(stems, manifests), folder / "split/split.csv")
    train_set = parts["train"]
    held_out = VolumeSet.concatenate([parts["validation"], parts["test"]])
    known, unseen = (each.read(range(len(each))) for each in (train_set, held_out))
    spacing_mm = float(train_set.manifest.spacing_mm.iloc[0])
    real = [extract_slices(each, POSITIONS, EXTRACTOR, window=WINDOW) for each in (train_set, held_out)]
    patients = [each.manifest.patient_id.to_numpy() for each in (train_set, held_out)]
    template = to_grey(known, WINDOW).mean(0)
    print(
        f"{len(train_set)} training, {len(held_out)} held-out volumes of {train_set.size}^3, {seconds:g} s of one core"
    )
    print(f"real: misplaced {misplaced(to_grey(unseen, WINDOW), template):.2f} slices")
    blocks = yaml.safe_load(CONFIG.read_text())["studies"]["ct_sgan"]["gan"]
    shown = {"real": unseen[0]}
    for name in NETWORKS:
        for seed in range(seeds):
            settings = VolumeGan.of_kind(blocks[name] | {"seed": seed, "epochs": 10**6})
            generator, steps = train(known, settings, seconds)
            drawn = draw(generator, train_set.size, spacing_mm, name)
            volumes = drawn.read(range(DRAWN))
            shown.setdefault(name, volumes[0])
            slices = {name: extract_slices(drawn, POSITIONS, EXTRACTOR, window=WINDOW)}
            against = feature_networks(settings.model, **network_options(settings))
            refused = [name] if EXTRACTOR in against else []
            whole = compare_whole_volumes(*real, slices, Fidelity(), *patients, refused)
            frd = compare_slices(*real, slices, Fidelity(), refused).query("metric == 'frd' and variant != 'real'")
            said = describe_volumes(drawn, WINDOW)
            print(f"{name}, seed {seed}: {steps} steps")
            for row in [*whole.itertuples(), *frd.itertuples()]:
                print(
                    f"    {row.metric}: {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}] "
                    f"(real {row.reference:.3f})"
                )
            print(f"    misplaced {misplaced(to_grey(volumes, WINDOW), template):.2f} slices")
            print(f"    differences, HU: {said.filter(like='difference_').median().round(1).to_dict()}")
            print(f"    two lungs: {said.two_lungs.mean():.2f}", flush=True)
    planes_figure(shown, out.with_suffix(".png"), Facts("ct_sgan", "phantom", "benchmark"), WINDOW)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results of the study ct_sgan")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("planes"))
    given = parser.parse_args()
    compare(given.folder, given.seconds, given.out, given.seeds)
