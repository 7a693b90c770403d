"""How much main memory jobs take at four sizes of what they read, how that grows, and what it is at the papers' scale.

python benchmarks/memory.py                     all, each in a process of its own
python benchmarks/memory.py --only plot_gan

Networks are stand-ins where they do not matter for the memory: features are numbers out of thin air. What a process
has mapped from files, which the system takes back when it needs room, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

SIZES = (1, 2, 4, 8)  # shards
IMAGES, EDGE = 8192, 128  # a shard's images: half a GiB as float32
VOLUMES, CUBE, POSITIONS = 4, 224, 32
NOISE = 50  # MB, by which peaks of the same differ
MEASURED = 125  # volumes of a shard that are tabulated
PAPER_IMAGES, PAPER_VOLUMES, PAPER_SHARD = 200_000, 10_000, 500
WINDOW = (-1000.0, 400.0)


# What the jobs read


def write_images(folder: Path) -> None:
    """A shard, and a small cohort with its split."""
    from scangan.data.store import ImageSet, ImageWriter, write_image_set

    rng = np.random.default_rng(0)

    def part(first: int, number: int) -> ImageSet:
        coarse = rng.random((number, 1, EDGE // 8, EDGE // 8), np.float32).repeat(8, 2).repeat(8, 3)
        names = [f"i{place}" for place in range(first, first + number)]
        rows = pd.DataFrame({"image_id": names, "patient_id": names, "source": "s", "data": "phantom"})
        return ImageSet(coarse, rows.assign(label=np.where(np.arange(number) % 2, "a", "b")))

    with ImageWriter(folder / "shard.zarr.zip", folder / "shard.parquet", (1, EDGE, EDGE)) as writer:
        for first in range(0, IMAGES, 1024):
            images = part(first, 1024)
            writer.append(images.images, images.manifest)
    write_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet", part(0, 240))


def write_volumes(folder: Path) -> None:
    from scangan.data.volume_set import VolumeWriter

    with VolumeWriter(folder / "volumes.zarr.zip", folder / "volumes.parquet", CUBE) as writer:
        for number in range(VOLUMES):
            row = {"volume_id": f"v{number}", "patient_id": f"v{number}", "label": "none", "source": "s"}
            writer.write(chest(number), row | {"version": "free", "data": "phantom", "spacing_mm": 1.5})


def chest(seed: int) -> np.ndarray:
    """A body and two lungs, int16 [CUBE, CUBE, CUBE] in HU."""
    z, y, x = np.ogrid[-1 : 1 : CUBE * 1j, -1 : 1 : CUBE * 1j, -1 : 1 : CUBE * 1j]
    body = np.where((y / 0.7) ** 2 + (x / 0.9) ** 2 < 1, 30, -1000) + np.zeros((CUBE, 1, 1))
    for side in (-0.4, 0.4):
        body[(z / 0.8) ** 2 + (y / 0.45) ** 2 + ((x - side) / 0.3) ** 2 < 1] = -850
    return (body + np.random.default_rng(seed).normal(0, 15, body.shape)).astype(np.int16)


def shards(folder: Path, name: str, number: int) -> tuple[list[Path], list[Path]]:
    """So many shards, all of them the same file."""
    return [folder / f"{name}.zarr.zip"] * number, [folder / f"{name}.parquet"] * number


# What they do, as in the scripts of their names


def extract_features(folder: Path, number: int) -> None:
    from scangan.data.store import read_image_sets
    from scangan.metrics import features
    from scangan.metrics.feature_sets import write_features

    images = read_image_sets(*shards(folder, "shard", number))
    features.create_feature_extractor = lambda *_, **__: StandIn()
    found = features.extract(images.images, "efficientnet-lite0")
    write_features(folder / "features.safetensors", found, images.manifest.image_id.tolist())


class StandIn:
    """For a feature extractor."""

    def to(self, *_: object, **__: object) -> StandIn:
        return self

    def __call__(self, pixels: object) -> list:
        import torch

        return [torch.zeros(len(pixels), 1280), torch.zeros(len(pixels), 1000)]


def measure_fidelity(folder: Path, number: int) -> None:
    """Without radiomics, which are made image by image; features are out of thin air, and templates not changed."""
    from scangan.config import Fidelity
    from scangan.data.store import read_image_set, read_image_sets
    from scangan.metrics import copies, generators
    from scangan.metrics.feature_sets import map_tensors, read_feature_set

    copies._zoom = lambda images, *_, **__: images.clone()
    copies._gaussian = lambda images, deviation: images / (1 + deviation)
    generators.radiomics = lambda images, threads: np.random.default_rng(0).random((len(images), 93))
    drawn = read_image_sets(*shards(folder, "shard", number))
    real = read_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet")
    # Shards are all the same file.
    names = [f"{place}" for place in range(len(drawn))]
    drawn.manifest["image_id"] = names
    sets = []
    for images in (real, drawn):
        path, kinds = folder / f"{len(images)}.safetensors", {"features": 1280, "logits": 1000}
        wanted = {kind: (np.dtype(np.float32), (len(images), width)) for kind, width in kinds.items()}
        ids = json.dumps(images.manifest["image_id"].tolist())
        for values in map_tensors(path, wanted, {"image_ids": ids}).values():
            for start in range(0, len(values), 1024):
                values[start : start + 1024] = np.random.default_rng(start).random(values[start : start + 1024].shape)
        sets.append(generators.JudgedSet.of(images, read_feature_set(path, images.manifest)))
    held_out = np.arange(len(real)) % 4 // 2 == 1
    settings = Fidelity(resamples=2)
    generators.evaluate_generators(sets[0].select(~held_out), sets[0].select(held_out), sets[1], "gan", settings)


def plot_gan(folder: Path, number: int) -> None:
    from scangan.data.store import read_image_set, read_image_sets
    from scangan.facts import Facts
    from scangan.report.gan_figures import images_by_class, side_by_side

    sets = {
        "real": read_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet"),
        "synthetic": read_image_sets(*shards(folder, "shard", number), hold=False),
    }
    columns = {title: images_by_class(images) for title, images in sets.items()}
    side_by_side(columns, folder / "images.png", Facts("study", "phantom", "benchmark"))


def open_reading_room(folder: Path, number: int) -> None:
    from scangan.data.screened import read_screened
    from scangan.data.store import read_image_set
    from scangan.facts import Facts
    from scangan.report.reading_room import draw_cases, write_reading_room

    real = read_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet")
    cases = draw_cases(real, read_screened(*shards(folder, "shard", number), [], hold=False), 50, ["a", "b"], 0)
    write_reading_room(folder / "index.html", cases, Facts("study", "phantom", "benchmark"), 0, ["a", "b"])


def embed_images(folder: Path, number: int) -> None:
    from scangan.config import Classical
    from scangan.data.screened import read_screened
    from scangan.data.store import read_image_set
    from scangan.metrics.embedding import draw_categories, map_spaces

    real = read_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet")
    synthetic = read_screened(*shards(folder, "shard", number), [], hold=False)
    drawn = draw_categories(real, synthetic, Classical(), 50, 0)
    map_spaces({"raw images": drawn.images}, drawn.manifest, 10, 250, 0)


def train_classifier(folder: Path, number: int) -> None:
    from scangan.arms import find_arm
    from scangan.config import Classifier
    from scangan.data.screened import read_screened
    from scangan.data.store import read_image_set
    from scangan.training import supervised

    real = read_image_set(folder / "cohort.zarr.zip", folder / "cohort.parquet")
    halves = [real.select(np.arange(len(real)) % 4 // 2 == half) for half in (0, 1)]
    settings = Classifier(positive="a", steps=3, batch_size=16, validate_every=3)
    arm = find_arm("real+synthetic")
    supervised.train_classifier(arm, *halves, read_screened(*shards(folder, "shard", number), []), settings, 0)


def measure_volumes(folder: Path, number: int) -> None:
    from scangan.data.volume_set import read_volume_set
    from scangan.metrics import features
    from scangan.metrics import volumes as module

    features.create_feature_extractor = lambda *_, **__: StandIn()
    module.radiomics = lambda images, threads: np.zeros((len(images), 93))
    volumes = read_volume_set(*shards(folder, "volumes", number))
    module.extract_slices(volumes, POSITIONS, "efficientnet-lite0", None, WINDOW, folder / "slices.safetensors")
    module.describe_volumes(volumes, WINDOW, 2)


def tabulate_volumes(folder: Path, number: int) -> None:
    from scangan.config import Fidelity
    from scangan.metrics.feature_sets import map_tensors
    from scangan.metrics.volumes import compare_slices, compare_whole_volumes, read_slice_features

    def written(name: str, volumes: int) -> Path:
        shape, rng = (volumes, 3, POSITIONS), np.random.default_rng(0)
        half, names = np.dtype(np.float16), [f"v{place}" for place in range(volumes)]
        wanted = {"features": (half, (*shape, 1280)), "logits": (half, (*shape, 1000))}
        wanted |= {"radiomics": (np.dtype(np.float32), (*shape, 93)), "positions": (np.dtype(int), (POSITIONS,))}
        metadata = {"volume_ids": str(names).replace("'", '"'), "facts": "{}"}
        for values in map_tensors(folder / name, wanted, metadata).values():
            for row in values if values.ndim > 1 else ():
                row[:] = rng.random(row.shape, np.float32)
        return folder / name

    files = [written(name, volumes) for name, volumes in (("t", 60), ("h", 20), ("s", MEASURED * number))]
    train, held_out, drawn = map(read_slice_features, files)
    compare_whole_volumes(train, held_out, {"gan": drawn}, Fidelity(), np.arange(60), np.arange(20))
    compare_slices(train, held_out, {"gan": drawn}, Fidelity(resamples=2))


def synthesize_volumes(folder: Path, number: int) -> None:
    from functools import partial

    from scangan.config import VoiCut
    from scangan.ct.anatomy import describe_volume
    from scangan.data.volume_set import VolumeWriter
    from scangan.synthesis import volumes as module
    from scangan.synthesis.placement import PlacementSettings

    drawn = chest(0)
    facts = {"gan": "gan", "data": "phantom", "spacing_mm": 1.5, "size": CUBE}
    stand_in = SimpleNamespace(facts=facts, draw=lambda *_: drawn.copy())
    stand_in.describe = partial(module.VolumeSynthesizer.describe, stand_in)
    fill = lambda vois, *_: vois  # noqa: E731
    injection = module.Injection(
        [1, 2, 4], [10.0], fill, PlacementSettings(), VoiCut(size=64, spacing_mm=1.0, margin_mm=6.0), 0
    )
    describe = partial(describe_volume, spacing_mm=1.5, window=WINDOW)
    paths = [folder / name for name in ("made.zarr.zip", "made.parquet")]
    with VolumeWriter(*paths, CUBE, folder / "edited.parquet") as writer:
        maker = module.VolumeMaker(stand_in, injection, 1, describe)
        module.synthesize_volumes(lambda: maker, range(VOLUMES * number), writer)


def train_detector(folder: Path, number: int) -> None:
    """Its volumes' way to a step; the network's own memory is that of a batch."""
    import torch

    from scangan.data.volume_set import read_volume_set
    from scangan.training.detector import LabelledVolumes

    volumes = read_volume_set(*shards(folder, "volumes", 4 * number)).keep_in_memory()
    data = LabelledVolumes(volumes, torch.zeros(len(volumes)), WINDOW)
    for batch in data.batches(4):
        batch.mean()


OF_IMAGES = (extract_features, measure_fidelity, plot_gan, open_reading_room, embed_images, train_classifier)
OF_VOLUMES = (synthesize_volumes, measure_volumes, tabulate_volumes, train_detector)
OF_A_SHARD = {"tabulate_volumes": MEASURED, "train_detector": 4 * VOLUMES}
# A job draws one shard; distances are of so many volumes at most.
AT_PAPERS = {"synthesize_volumes": PAPER_SHARD, "tabulate_volumes": 2000}
JOBS: dict[str, Callable[[Path, int], None]] = {job.__name__: job for job in (*OF_IMAGES, *OF_VOLUMES)}


# How it is measured


def own_memory() -> float:
    """MB of this process that no file stands for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":") for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return sum(int(value.split()[0]) for value in found.values()) / 1000


def peak_of(work: Callable[[], None]) -> float:
    """MB at most, looked at a hundred times a second."""
    done, seen = threading.Event(), [own_memory()]

    def watch() -> None:
        while not done.is_set():
            seen.append(own_memory())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(seen)


def compare_memory(only: str | None = None) -> dict[str, list[float]]:
    """Prints a row a job; returns its peaks, MB."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        write_volumes(Path(folder))
        print(f"a shard: {IMAGES} images of {EDGE}^2, {VOLUMES} volumes of {CUBE}^3 ({4 * VOLUMES} for detectors), ")
        print(
            f"features of {MEASURED} volumes. Peak, MB, of {SIZES} shards; growth, MB, by a thousand; at papers' scale"
        )
        for name in JOBS:
            if only not in (None, name):
                continue
            command = [sys.executable, __file__, "--child", name, folder]
            # One thread, as where two networks share two cores: several would wait for each other.
            one = os.environ | {"OMP_NUM_THREADS": "1"}
            peaks = [float(subprocess.check_output([*command, str(number)], env=one).split()[-1]) for number in SIZES]
            found[name] = peaks
            each = IMAGES if JOBS[name] in OF_IMAGES else OF_A_SHARD.get(name, VOLUMES)
            # Of the two larger ones: smaller sets may be held in memory.
            rise = peaks[-1] - peaks[-2] if peaks[-1] - peaks[-2] > NOISE else 0.0
            growth = rise / ((SIZES[-1] - SIZES[-2]) * each)
            wanted = PAPER_IMAGES if JOBS[name] in OF_IMAGES else AT_PAPERS.get(name, PAPER_VOLUMES)
            paper = peaks[-1] + growth * (wanted - SIZES[-1] * each)
            shown = " ".join(f"{peak:>7.0f}" for peak in peaks)
            print(f"{name:<20}{shown}   {1000 * growth:>8.1f}   {paper:>8.0f}", flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, job, where, number = sys.argv
        print(peak_of(lambda: JOBS[job](Path(where), int(number))))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--only", choices=JOBS)
        compare_memory(parser.parse_args().only)
