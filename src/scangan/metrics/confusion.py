"""Who is called what: the confusion of three or more classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scangan.metrics.classification import align_classes, align_images

COLUMNS = ["arm", "class", "called", "images", "share"]


def count_calls(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Of every arm's test images of a class how many are called which class, that of the highest probability.

    predictions: as `metrics.scores.score_arms` takes them, of three or more classes.
    Returns the COLUMNS, one row an arm, class and name it is called by: images, mean over the trainings, and their
    share of the class.
    """
    cases, _ = align_images(predictions)
    tables = []
    for arm, classes in align_classes(predictions, cases).items():
        names, trainings = classes.names, len(classes.probability)
        called = classes.probability.argmax(axis=2)
        counts = np.zeros((len(names), len(names)))
        np.add.at(counts, (np.tile(classes.label, trainings), called.ravel()), 1 / trainings)
        places = [(actual, call) for actual in range(len(names)) for call in range(len(names))]
        rows = [
            (arm, names[actual], names[call], counts[actual, call], counts[actual, call] / counts[actual].sum())
            for actual, call in places
        ]
        tables.append(pd.DataFrame(rows, columns=COLUMNS))
    return pd.concat(tables, ignore_index=True)
