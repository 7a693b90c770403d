"""How good a study's generators are, class by class and together: fidelity and memorisation in one table."""

from __future__ import annotations

import pandas as pd

from scangan.config import Fidelity
from scangan.metrics.feature_sets import ALL, FeatureSet
from scangan.metrics.fidelity import compare_sets
from scangan.metrics.memorisation import suspected_copies


def evaluate_generators(
    train: FeatureSet, held_out: FeatureSet, synthetic: FeatureSet, gan: str, settings: Fidelity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Synthetic images of all classes against the real ones that their generators saw, and those they did not see.

    Returns the scores (`variant, metric, value, ci_low, ci_high, images, reference`; variant is `<gan>/<class>` or
    `<gan>/all`, the latter alone where there is one class) and one row an image and variant of the nearest training
    images (`variant, image_id, nearest_image_id, distance, suspected`).
    """
    scores, nearest = [], []
    labels = sorted(train.manifest.label.unique())
    for label in [*labels, ALL] if len(labels) > 1 else [ALL]:
        seen, unseen, drawn = (images.of_class(label) for images in (train, held_out, synthetic))
        table = compare_sets(seen.features, unseen.features, drawn.features, settings)
        copies = suspected_copies(
            seen.features.features,
            unseen.features.features,
            drawn.features.features,
            settings.copy_quantile,
            seen.manifest.image_id,
            drawn.manifest.image_id,
        )
        table = pd.concat([table, pd.DataFrame([copies.score()])], ignore_index=True)
        table.insert(0, "variant", f"{gan}/{label}")
        scores.append(table)
        nearest.append(copies.images.assign(variant=f"{gan}/{label}"))
    return pd.concat(scores, ignore_index=True), pd.concat(nearest, ignore_index=True)
