"""How good a study's generators are, class by class and together: fidelity and memorisation in one table."""

from __future__ import annotations

import logging

import pandas as pd

from scangan.config import Fidelity
from scangan.data.store import ImageSet
from scangan.metrics.features import extract
from scangan.metrics.fidelity import compare_sets
from scangan.metrics.memorisation import suspected_copies

log = logging.getLogger(__name__)

ALL = "all"


def evaluate_generators(
    train: ImageSet, held_out: ImageSet, synthetic: ImageSet, gan: str, settings: Fidelity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Synthetic images of all classes against the real ones that their generators saw, and those they did not see.

    Returns the scores (`variant, metric, value, ci_low, ci_high, images, reference`; variant is `<gan>/<class>` or
    `<gan>/all`, the latter alone where there is one class) and one row an image and variant of the nearest training
    images (`variant, image_id, nearest_image_id, distance, suspected`).
    """
    kinds = {"training": train, "held-out": held_out, "synthetic": synthetic}
    features = {}
    for kind, images in kinds.items():
        log.info("features of %d %s images (%s)", len(images), kind, settings.extractor)
        features[kind] = extract(images.images, settings.extractor, settings.weights)
    scores, nearest = [], []
    labels = sorted(train.manifest.label.unique())
    for label in [*labels, ALL] if len(labels) > 1 else [ALL]:
        chosen = {
            kind: ((images.manifest.label == label) | (label == ALL)).to_numpy() for kind, images in kinds.items()
        }
        of_class = {kind: features[kind].select(mask) for kind, mask in chosen.items()}
        table = compare_sets(*of_class.values(), settings)
        copies = suspected_copies(
            *(found.features for found in of_class.values()),
            settings.copy_quantile,
            train.manifest.image_id[chosen["training"]],
            synthetic.manifest.image_id[chosen["synthetic"]],
        )
        suspected = {
            "metric": "suspected_copies",
            "value": copies.share,
            "ci_low": copies.ci_low,
            "ci_high": copies.ci_high,
            "images": len(copies.images),
            "reference": copies.expected,
        }
        table = pd.concat([table, pd.DataFrame([suspected])], ignore_index=True)
        table.insert(0, "variant", f"{gan}/{label}")
        scores.append(table)
        nearest.append(copies.images.assign(variant=f"{gan}/{label}"))
    return pd.concat(scores, ignore_index=True), pd.concat(nearest, ignore_index=True)
