"""Classifier scores of each arm with their uncertainty.

The metrics themselves are entries of `metrics.classifier_metrics.METRICS`; their intervals are by the model by which
`metrics.comparison` compares arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scangan.metrics.classification import GanSeeds, align_images, class_names
from scangan.metrics.classifier_metrics import find_metric, metric_names
from scangan.metrics.comparison import replicates_of_arms, score_between, smaller_classes


def score_arms(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    positive: str,
    gan_seeds: GanSeeds | None = None,
    part: str = "test",
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Scores of every arm on the test images.

    predictions: arm -> one table a training: `image_id, patient_id, label, split, probability` (of the class
    `positive`), of three or more classes `probability:<class>` of each, and `fold` if there are any. gan_seeds: the
    generators behind them, with as many trainings each; None: one. part: the `split` of the test images. metrics: some;
    None: all that there are of so many classes.
    Returns `arm, metric, value, ci_low, ci_high, seeds, cases, if_calibrated`, one row an arm and metric:

    - value: mean over the trainings; a probability >= 0.5 is positive; seeds: trainings; cases: test images.
    - ci_low, ci_high: 95% interval over replicates (see `number_replicates`) and test patients with all their images,
      see `comparison.score_between`.
    - if_calibrated: what perfectly calibrated probabilities would give (NaN where a metric is none of calibration).

    Raises DataError if arms or trainings do not share the same test images, or a probability is not within 0 to 1, or
    a class has no test image.
    """
    cases, probabilities = align_images(predictions, part)
    chosen = metric_names(class_names(predictions)) if metrics is None else metrics
    replicates = replicates_of_arms(predictions, positive, chosen, gan_seeds, part)
    smaller = smaller_classes(predictions, positive, chosen, part)
    rows = []
    for arm, probability in probabilities.items():
        for name in chosen:
            found, if_calibrated = replicates[arm][name], find_metric(name).if_calibrated
            low, high = score_between(found, smaller[name])
            calibrated = if_calibrated(probability).mean() if if_calibrated else np.nan
            rows.append((arm, name, found.value.mean(), low, high, len(probability), len(cases), calibrated))
    columns = ["arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "if_calibrated"]
    return pd.DataFrame(rows, columns=columns)
