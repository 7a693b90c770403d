"""Where real, classically augmented and synthetic images lie: a map of them, and a number that says what the eye sees.

Han et al., "Infinite Brain MR Images: PGGAN-based Data Augmentation for Tumor Detection", section 3.5 and figure 6:
t-SNE (van der Maaten & Hinton 2008) of as many images of each of six categories, in the space of the raw images and in
that of a classifier. The distances on such a map, and the sizes of its clusters, mean little; so a two-sample test in
the space itself stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits
from torch import nn

from scangan.config import Classical
from scangan.data.store import ImageSet
from scangan.errors import ConfigError, DataError
from scangan.metrics.reading import wilson_interval
from scangan.training.augment import ClassicalAugmentation

log = logging.getLogger(__name__)

REAL, CLASSICAL, SYNTHETIC = KINDS = ("real", "classical", "synthetic")
ACCURACY = "nearest_neighbour_accuracy"
MAP_COLUMNS = ["space", "image_id", "category", "x", "y"]
SEPARATION_COLUMNS = ["space", "variant", "metric", "value", "ci_low", "ci_high", "images", "reference"]
COMPONENTS = 50  # as scikit-learn advises; van der Maaten & Hinton (2008) keep 30
LEAST_ITERATIONS = 250  # scikit-learn's t-SNE spends as many on early exaggeration


def draw_categories(real: ImageSet, synthetic: ImageSet, classical: Classical, each: int, seed: int) -> ImageSet:
    """`each` images of every category, drawn at random without replacement, category by category.

    The column `category` of the manifest says `real/<class>`, `classical/<class>` or `synthetic/<class>`. The classical
    images are random transforms of real images that are not drawn themselves, and keep their patients: a class of n
    real images gives at most n // 2 of each. A category that has fewer than `each` gives all; the log says so.

    Raises DataError if the two sets differ in their classes, or in the size or channels of their images, and if a class
    has just one real image.
    """
    labels, generated = (sorted(images.manifest["label"].unique()) for images in (real, synthetic))
    if generated != labels:
        raise DataError(f"synthetic images: label: found {', '.join(generated)}, allowed: {', '.join(labels)}")
    if synthetic.images.shape[1:] != real.images.shape[1:]:
        found, allowed = (" x ".join(map(str, images.images.shape[1:])) for images in (synthetic, real))
        raise DataError(f"synthetic images: shape: found {found}, allowed: {allowed}, as of the real ones")
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    augment = ClassicalAugmentation(classical)
    drawn = {}
    for label in labels:
        own = rng.permutation(np.flatnonzero(real.manifest["label"] == label))
        if len(own) < 2:
            raise DataError(f"real images: label: found 1 of {label}, allowed: at least 2, one of them to transform")
        shown = own[: min(each, len(own) // 2)]
        sources = real.select(own[len(shown) : 2 * len(shown)])
        transformed = augment(torch.from_numpy(np.asarray(sources.images)), generator).numpy()
        # Not the pixels that the checksum is of.
        rows = sources.manifest.drop(columns="sha256", errors="ignore")
        drawn[REAL, label] = real.select(shown)
        drawn[CLASSICAL, label] = ImageSet(transformed, rows.assign(image_id=rows["image_id"] + "-classical"))
        drawn[SYNTHETIC, label] = synthetic.select(
            rng.permutation(np.flatnonzero(synthetic.manifest["label"] == label))[:each]
        )
    sets = []
    for kind in KINDS:
        for label in labels:
            images = drawn[kind, label]
            if len(images) < each:
                log.warning("%s/%s: only %d images, %d were asked for", kind, label, len(images), each)
            sets.append(ImageSet(images.images, images.manifest.assign(category=f"{kind}/{label}")))
    return ImageSet.concatenate(sets)


def transform_one(
    real: ImageSet, classical: Classical, seed: int, versions: int = 25
) -> dict[str, dict[str, np.ndarray]]:
    """`real` and `transformed`: class -> its middle image [1, C, H, W], and so many classical transforms of that.

    After Han et al., figure 4.
    """
    generator, augment = torch.Generator().manual_seed(seed), ClassicalAugmentation(classical)
    labels = real.manifest["label"].to_numpy()
    of_class = {label: np.flatnonzero(labels == label) for label in sorted(set(labels))}
    ones = {label: real.images[members[[len(members) // 2]]] for label, members in of_class.items()}
    transformed = {
        label: augment(torch.from_numpy(image).expand(versions, -1, -1, -1), generator).numpy()
        for label, image in ones.items()
    }
    return {"real": ones, "transformed": transformed}


@torch.inference_mode()
def penultimate(model: nn.Module, images: np.ndarray, batch_size: int) -> np.ndarray:
    """What the last linear layer of a classifier is given, float32 [N, D]; its logits are a linear map of this.

    model: of `models.backbones.build_classifier`; it is left in evaluation mode, so there is no dropout.
    images: float32 [N, C, H, W] in [0, 1].
    """
    device = next(model.parameters()).device
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    features = []
    hook = last.register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0].float().cpu()))
    model.eval()
    try:
        for batch in torch.from_numpy(images).split(batch_size):
            model(batch.to(device))
    finally:
        hook.remove()
    return torch.cat(features).numpy()


def map_spaces(
    spaces: Mapping[str, np.ndarray], manifest: pd.DataFrame, perplexity: float, iterations: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The map of each space, and how well its categories can be told apart.

    spaces: name -> points [N, ...], of the same N images. manifest: theirs, as of `draw_categories`.
    Returns `MAP_COLUMNS`, a row an image and space; and `SEPARATION_COLUMNS`, see `separation`.

    Example: `map_spaces({"classifier": penultimate(model, drawn.images, 16), "raw images": drawn.images}, ...)`.
    """
    maps, separations = [], []
    for space, points in spaces.items():
        points = points.reshape(len(points), -1)
        log.info("%s: t-SNE of %d points of %d dimensions", space, *points.shape)
        x, y = embed(points, perplexity, iterations, seed).T
        maps.append(manifest[["image_id", "category"]].assign(space=space, x=x, y=y))
        separations.append(separation(points, manifest["category"], manifest["patient_id"]).assign(space=space))
    return (
        pd.concat(maps, ignore_index=True)[MAP_COLUMNS],
        pd.concat(separations, ignore_index=True)[SEPARATION_COLUMNS],
    )


def embed(points: np.ndarray, perplexity: float, iterations: int, seed: int) -> np.ndarray:
    """Places of points [N, D] in a plane, float64 [N, 2], by scikit-learn's t-SNE (Barnes-Hut).

    As is usual, more than 50 dimensions are first reduced to 50 by PCA, and the map starts from the first two principal
    components. On one thread, whatever the machine has: the same points and seed give the same map, to the bit.

    Raises ConfigError if perplexity is not below N or there are fewer than 250 iterations; DataError if all points are
    the same.
    """
    if not 0 < perplexity < len(points):
        raise ConfigError(
            f"config: embedding.perplexity: found {perplexity:g}, "
            f"allowed: above 0 and below {len(points)}, the number of images"
        )
    if iterations < LEAST_ITERATIONS:
        raise ConfigError(f"config: embedding.iterations: found {iterations}, allowed: at least {LEAST_ITERATIONS}")
    if (points == points[0]).all():
        raise DataError(f"embedding: points: found the same for all {len(points)} images, allowed: different ones")
    with threadpool_limits(1):
        if points.shape[1] > COMPONENTS:
            points = PCA(min(COMPONENTS, len(points)), random_state=seed).fit_transform(points)
        tsne = TSNE(perplexity=perplexity, max_iter=iterations, init="pca", random_state=seed, n_jobs=1)
        return tsne.fit_transform(points).astype(np.float64)


def separation(points: np.ndarray, categories: Sequence[str], patients: Sequence[str]) -> pd.DataFrame:
    """Can classical and synthetic images be told from real ones of their class? A two-sample test of each.

    Every image is called real or not as its nearest neighbour is (Euclidean, among points [N, D]); the share of right
    calls is about 0.5 if the two cannot be told apart, 1 if they lie apart, and well below 0.5 if they are copies of
    each other (the leave-one-out 1-nearest-neighbour test of Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample
    tests"). The shares of each side tell more (Xu et al. 2018, "An empirical study on evaluation metrics of GANs"):
    blurred images, or those of few kinds, are nearest to real and synthetic ones alike; then no real image is
    called right and every synthetic one is, and the share of both sides is 0.5 too. Images of the same patient are no
    neighbours: slices of one head resemble each other, and would set real images apart even from perfect synthetic
    ones.

    categories, patients: of each point; categories as of `draw_categories`. Of the larger category the first points
    are taken, so that both sides are as many.

    Returns `variant, metric, value, ci_low, ci_high, images, reference`, three rows a category that is not real.
    variant: the category. metric: `nearest_neighbour_accuracy`, of all images, and with `_real` and `_variant`, of
    either side. images: that are called. reference: the expected value if any allowed neighbour were as likely to be
    the nearest. The interval is Wilson's (95%), as if the calls were independent, which they are not quite.

    Raises DataError if an image has no possible neighbour, as when all are of one patient.
    """
    named, patient = pd.Series(list(categories)), pd.factorize(np.asarray(patients, dtype=str))[0]
    rows = []
    for variant in named.unique():
        kind, _, label = variant.partition("/")
        if kind == REAL:
            continue
        sides = [np.flatnonzero(named == category) for category in (f"{REAL}/{label}", variant)]
        count = min(map(len, sides))
        chosen = np.concatenate([side[:count] for side in sides])
        is_real = np.arange(2 * count) < count
        allowed = patient[chosen, None] != patient[None, chosen]
        if not allowed.any(axis=1).all():
            raise DataError(f"{variant}: patient_id: found one patient in all of its images, allowed: at least 2")
        distance = np.where(allowed, euclidean_distances(points[chosen]), np.inf)
        right = is_real[distance.argmin(axis=1)] == is_real
        by_chance = (allowed & (is_real[:, None] == is_real)).sum(axis=1) / allowed.sum(axis=1)
        everywhere = np.full(2 * count, True)
        for metric, side in ((ACCURACY, everywhere), (f"{ACCURACY}_real", is_real), (f"{ACCURACY}_variant", ~is_real)):
            interval = wilson_interval(int(right[side].sum()), int(side.sum()))
            rows.append((variant, metric, right[side].mean(), *interval, int(side.sum()), by_chance[side].mean()))
    return pd.DataFrame(rows, columns=SEPARATION_COLUMNS[1:])
