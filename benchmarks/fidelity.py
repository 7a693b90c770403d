"""What the measures of synthetic images can tell at which number of images, and what the check for copies finds.

python benchmarks/fidelity.py                       all
python benchmarks/fidelity.py --only headline       how often a perfect generator is ranked first
python benchmarks/fidelity.py --only referees       which faults of a generator each referee sees
python benchmarks/fidelity.py --only copies         planted copies found, of phantom images and those of --images
python benchmarks/fidelity.py --only cost           10,000 synthetic beside 5,000 training images
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from scangan.config import Fidelity  # noqa: E402
from scangan.data.store import ImageSet, fit_square  # noqa: E402
from scangan.ingest.images import find_images, read_image  # noqa: E402
from scangan.metrics.copies import KINDS, find_copies  # noqa: E402
from scangan.metrics.encoder import Encoder, train_encoder  # noqa: E402
from scangan.metrics.feature_sets import Features  # noqa: E402
from scangan.metrics.features import extract  # noqa: E402
from scangan.metrics.fidelity import compare_sets, compare_unbiased  # noqa: E402
from scangan.metrics.radiomics import radiomics, standardise  # noqa: E402
from scangan.phantoms.head_ct import render_slice  # noqa: E402

ROUNDS = 20
MEASURES = ["energy_distance", "kid", "fid_infinity", "fid"]
EDGE, PHANTOMS = 32, 904
ENCODER_STEPS = 150


def generators(seen: np.ndarray, fresh: np.ndarray, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What a perfect generator draws, one of a quarter of the variance, one that copies ten training images."""
    ten = seen[rng.choice(len(seen), 10, replace=False)]
    narrow = fresh.mean(axis=0) + (fresh - fresh.mean(axis=0)) / 2
    return {"perfect": fresh, "quarter": narrow, "ten copies": ten[rng.integers(0, 10, count)]}


def rank(name: str, draw, count: int) -> None:
    """In how many rounds the perfect generator scores better than each of the others."""
    better = {(measure, other): 0 for measure in MEASURES for other in ("quarter", "ten copies")}
    for number in range(ROUNDS):
        rng = np.random.default_rng(number)
        seen, unseen, fresh = draw(rng, max(count, 144), count)
        values = {}
        for each, images in generators(seen, fresh, count, rng).items():
            sets = (Features(x.astype(np.float32), x[:, :2].astype(np.float32)) for x in (seen, unseen, images))
            values[each] = compare_sets(*sets, Fidelity(resamples=4)).set_index("metric")["value"]
        for measure, other in better:
            better[measure, other] += values["perfect"][measure] < values[other][measure]
    for measure in MEASURES:
        shares = " | ".join(f"{better[measure, other] / ROUNDS:.2f}" for other in ("quarter", "ten copies"))
        print(f"| {name} | {count} | {measure} | {shares} |", flush=True)


def gaussian(size: int):
    """Gaussian features with long tails of small variances, as those of networks."""
    deviations = 1 / np.sqrt(np.arange(1, size + 1))
    return lambda rng, train, count: [rng.normal(size=(n, size)) * deviations for n in (train, count, count)]


def of_pool(pool: np.ndarray):
    """Random parts of the features of a pool of images."""

    def draw(rng: np.random.Generator, train: int, count: int) -> list[np.ndarray]:
        order = rng.permutation(len(pool))
        parts = np.split(order[: train + 2 * count], [train, train + count])
        return standardise(*(pool[part] for part in parts))

    return draw


def phantom() -> np.ndarray:
    films = (render_slice(np.random.default_rng([0, number]), 128, number % 2 == 0) for number in range(PHANTOMS))
    return np.stack([fit_square(np.asarray(film.convert("L"), np.float32)[None] / 255, EDGE) for film in films])


def referees(name: str, images: np.ndarray) -> None:
    """In how many rounds each referee ranks fresh images before worse ones: the same, changed, or copies of ten.

    A quarter of the images trains the encoder, the others are drawn from in each round: one half is held out.
    """
    order = np.random.default_rng(0).permutation(len(images))
    known, pool = np.split(images[order], [len(images) // 4])
    encoder, count = train_encoder(image_set(known, "k"), ENCODER_STEPS, seed=0), len(pool) // 2
    judges = {
        "EfficientNet-Lite0": lambda x: extract(x, "efficientnet-lite0").features,
        "radiomics": radiomics,
        "encoder": lambda x: encoder.features(image_set(x, "x")),
    }
    torch_pool, generator = torch.from_numpy(pool), torch.Generator().manual_seed(0)
    faults = {kind: KINDS[kind](torch_pool, generator).numpy() for kind in ("blurred", "noisy", "windowed")}
    faults["half way to the mean image"] = (pool + pool.mean(axis=0)) / 2
    for judge, see in judges.items():
        fresh, *faulty = standardise(*(see(each) for each in (pool, *faults.values())))
        better = dict.fromkeys([*faults, "ten copies"], 0)
        for number in range(ROUNDS):
            held_out, drawn = np.split(np.random.default_rng(number).permutation(len(pool)), [count])
            ten = fresh[drawn[:10]].repeat(-(-len(drawn) // 10), axis=0)[: len(drawn)]
            worse = dict(zip(faults, (each[drawn] for each in faulty), strict=True)) | {"ten copies": ten}
            for fault, features in worse.items():
                table = compare_unbiased(fresh[drawn], fresh[held_out], features, number).set_index("metric")
                better[fault] += table.loc["energy_distance", "reference"] < table.loc["energy_distance", "value"]
        shares = ", ".join(f"{fault} {number / ROUNDS:.2f}" for fault, number in better.items())
        print(f"{name}, {count} images, {judge}: {shares}", flush=True)


def image_set(images: np.ndarray, prefix: str) -> ImageSet:
    names = [f"{prefix}{number}" for number in range(len(images))]
    return ImageSet(images, pd.DataFrame({"image_id": names, "patient_id": names}))


def headline(images: np.ndarray) -> None:
    print("\n| features | images | measure | better than quarter | better than ten copies |\n|---|---|---|---|---|")
    for count in (28, 300):
        for size in (16, 1280):
            rank(f"Gaussian, {size}", gaussian(size), count)
    features = radiomics(images)
    for count in (28, 300):
        rank("radiomics of phantom images", of_pool(features), count)


def copies(name: str, images: np.ndarray) -> None:
    """Half of the images are training images, a quarter each sets the threshold and tests the false alarms."""
    for number in range(3):
        order = np.random.default_rng(number).permutation(len(images))
        train, held_out, fresh = np.split(order, [len(order) // 2, 3 * len(order) // 4])
        sets = (image_set(images[part], prefix) for part, prefix in ((train, "t"), (held_out, "h"), (fresh, "f")))
        check = find_copies(*sets, quantile=0.01)
        found = check.scores.set_index("metric")["value"]
        print(f"{name}, split {number}: " + ", ".join(f"{key} {value:.2f}" for key, value in found.items()), flush=True)
        encoder = train_encoder(image_set(images[train], "t"), ENCODER_STEPS, seed=0)
        held_out = held_out[[f"h{place}" not in check.leaked for place in range(len(held_out))]]
        copies_by_encoder(
            f"{name}, split {number}, encoder", encoder, *(images[part] for part in (train, held_out, fresh))
        )


def copies_by_encoder(name: str, encoder: Encoder, train: np.ndarray, held_out: np.ndarray, fresh: np.ndarray) -> None:
    """The same by the cosine of features, of an encoder that was trained on all training images."""

    def see(images: np.ndarray) -> np.ndarray:
        features = encoder.features(image_set(images, "x"))
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    seen, generator = see(train), torch.Generator().manual_seed(0)
    threshold = np.quantile((see(held_out) @ seen.T).max(axis=1), 0.99, method="weibull")
    shares = {"fresh": ((see(fresh) @ seen.T).max(axis=1) >= threshold).mean()}
    for kind, change in KINDS.items():
        planted = see(change(torch.from_numpy(train), generator).numpy())
        shares[kind] = ((planted @ seen.T).max(axis=1) >= threshold).mean()
    print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in shares.items()), flush=True)


def cost(images: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    drawn = [images[rng.integers(0, len(images), count)] for count in (5000, 500, 10_000)]
    noisy = [(each + 0.1 * rng.normal(size=each.shape)).clip(0, 1).astype(np.float32) for each in drawn]
    start = time.perf_counter()
    find_copies(*(image_set(each, prefix) for each, prefix in zip(noisy, "ths", strict=True)), quantile=0.01)
    print(f"10,000 beside 5,000 images: {time.perf_counter() - start:.0f} s, {torch.get_num_threads()} threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["headline", "referees", "copies", "cost"])
    parser.add_argument("--images", type=Path, help="a folder of images of your own, for `referees` and `copies`")
    given = parser.parse_args()
    images = phantom()
    if given.only in (None, "headline"):
        headline(images)
    sets = {"phantom": images[:400]}
    if given.images:
        files, _ = find_images(filter(Path.is_file, sorted(given.images.rglob("*"))), given.images)
        sets[given.images.name] = np.stack([fit_square(read_image(file, 1).pixels, EDGE) for file in files])
    for name, own in sets.items():
        if given.only in (None, "referees"):
            referees(name, own)
        if given.only in (None, "copies"):
            copies(name, own)
    if given.only in (None, "cost"):
        cost(images)


if __name__ == "__main__":
    main()
