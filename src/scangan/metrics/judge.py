"""Real classifiers judge synthetic images of the positive class: the share that they call positive, set by set.

Mann et al., "Generation of COVID-19 Chest CT Scan Images using GANs", figure 7, has ten sets of 100 images. The share
means little without the judges' own: it stands beside the shares of real test images, positive and negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scangan.config import Evaluation, Judge
from scangan.errors import DataError
from scangan.metrics.classification import align_images, read_probability
from scangan.metrics.classifier_metrics import THRESHOLD

METRIC = "judged_positive"
MEAN = "mean"  # in the column `set`: all sets together
COLUMNS = ["variant", "metric", "set", "value", "ci_low", "ci_high", "images", "seeds"]


def judge_sets(
    judgements: Sequence[pd.DataFrame],
    predictions: Sequence[pd.DataFrame],
    positive: str,
    judge: Judge,
    evaluation: Evaluation,
) -> pd.DataFrame:
    """The share of images that the judges, classifiers of the arm `real`, call positive (a probability >= 0.5).

    judgements: one table a judge: `gan, image_id, synthesis_seed, probability`, of synthetic images of the class
        `positive`. Set k of a network are its k-th `judge.images` images by synthesis_seed; those after the last set
        are not used.
    predictions: the same judges' predictions of the cohort: `image_id, patient_id, label, split, probability`.

    Returns `variant, metric, set, value, ci_low, ci_high, images, seeds`. variant: `<gan>/<positive>`, a row for each
    set (`1`, `2`, ...) and one for all of them (`mean`); then `real/<class>`, the positive one first, whose one row
    (`mean`) are the test images. value: mean over the judges (`seeds`). ci_low, ci_high: 95% percentile interval of a
    bootstrap that draws judges, and independently images, with replacement; of real images, patients with all theirs.

    Raises DataError if the judges saw different images, a network has fewer than the sets need, a class has no test
    images, or a probability is not within 0 to 1.
    """
    cases, probabilities = align_images({"real": list(predictions)})
    rows = []
    for gan, probability in _align_synthetic(judgements).items():
        used = judge.sets * judge.images
        if probability.shape[1] < used:
            raise DataError(
                f"judgements of {gan}: images: found {probability.shape[1]}, "
                f"allowed: at least {used}, {judge.sets} sets of {judge.images}"
            )
        called = probability[:, :used] >= THRESHOLD
        sets = {str(number): each for number, each in enumerate(np.split(called, judge.sets, axis=1), start=1)}
        for name, each in (sets | {MEAN: called}).items():
            rows.append((f"{gan}/{positive}", METRIC, name, *_share(each, np.arange(each.shape[1]), evaluation)))
    labels = sorted(set(cases["label"]), key=lambda label: label != positive)
    if len(labels) < 2:
        raise DataError(f"predictions: label: found only {labels} in the test set, allowed: two classes or more")
    for label in labels:
        chosen = (cases["label"] == label).to_numpy()
        patient = pd.factorize(cases["patient_id"][chosen])[0]
        called = probabilities["real"][:, chosen] >= THRESHOLD
        rows.append((f"real/{label}", METRIC, MEAN, *_share(called, patient, evaluation)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _align_synthetic(judgements: Sequence[pd.DataFrame]) -> dict[str, np.ndarray]:
    """Network -> probabilities [judges, N], in the order of the seeds that the images were drawn with."""
    probabilities = {}
    for gan in judgements[0]["gan"].unique():
        names, rows = None, []
        for seed, table in enumerate(judgements):
            own = table[table["gan"] == gan].sort_values("synthesis_seed")
            names = own["image_id"].to_numpy() if names is None else names
            if not np.array_equal(own["image_id"], names):
                raise DataError(
                    f"judgements of {gan}, seed {seed}: image_id: found {len(own)} images that are not the "
                    f"{len(names)} of the first table, allowed: the same images for every judge"
                )
            rows.append(read_probability(own, f"judgements of {gan}, seed {seed}"))
        probabilities[gan] = np.stack(rows)
    return probabilities


def _share(called: np.ndarray, group: np.ndarray, settings: Evaluation) -> tuple[float, float, float, int, int]:
    """Share of called [judges, N], bool, that is true; its interval; number of images and of judges.

    group: [N], numbered from 0: images that are drawn together.
    """
    judges, groups = len(called), group.max() + 1
    sizes = np.bincount(group)
    positives = np.stack([np.bincount(group, weights=each, minlength=groups) for each in called], axis=1)
    rng = np.random.default_rng([settings.seed, 3])
    drawn_judges = rng.multinomial(judges, np.full(judges, 1 / judges), settings.bootstrap)
    drawn_groups = rng.multinomial(groups, np.full(groups, 1 / groups), settings.bootstrap)
    shares = drawn_groups @ positives / (drawn_groups @ sizes)[:, None]
    low, high = np.percentile((shares * drawn_judges).sum(axis=1) / judges, [2.5, 97.5])
    return called.mean(), low, high, called.shape[1], judges
