"""Predictions of the classifiers of each arm, read and laid beside each other.

They are scored by `metrics.scores`, and arms compared by `metrics.comparison`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from scangan.errors import DataError
from scangan.metrics.classifier_metrics import Classes

CHUNK = 2**22  # numbers held at once: 32 MB
OF_CLASS = "probability:"  # columns of predictions, before the class's name; of three or more classes
Key = TypeVar("Key", bound=Hashable)


# Arm -> of each of its trainings the seed of the generator whose images it saw; None: it saw none.
GanSeeds = Mapping[str, Sequence[int | None]]


def read_predictions(files: Sequence[str], gan_seeds: GanSeeds, folds: int = 1) -> dict[str, list[pd.DataFrame]]:
    """Arm -> one table a training, from prediction files that are ordered arm by arm, training by training, by fold.

    The table of a training has the images of all folds, and in the column `fold` which one each is of.
    """
    tables = (pd.read_parquet(file) for file in files)
    return {
        arm: [
            pd.concat([next(tables).assign(fold=fold) for fold in range(folds)], ignore_index=True) for _ in trainings
        ]
        for arm, trainings in gan_seeds.items()
    }


def read_external(files: Sequence[str], external: Sequence[str], gan_seeds: GanSeeds) -> dict[str, list[pd.DataFrame]]:
    """The same, with each training's predictions on external images below those on the study's own."""
    own, others = read_predictions(files, gan_seeds), read_predictions(external, gan_seeds)
    return {
        arm: [pd.concat(pair, ignore_index=True) for pair in zip(tables, others[arm], strict=True)]
        for arm, tables in own.items()
    }


def number_generators(gan_seeds: Sequence[int | None]) -> np.ndarray:
    """The generator [trainings] that each of an arm's trainings saw images of, numbered from 0; 0 where it saw none."""
    numbers = {seed: number for number, seed in enumerate(dict.fromkeys(gan_seeds))}
    return np.array([numbers[seed] for seed in gan_seeds])


def number_replicates(generator: np.ndarray) -> np.ndarray:
    """The replicate [trainings] that each of an arm's trainings belongs to, numbered from 0.

    generator: as `number_generators` returns it. Where there are several they are the replicates, for the trainings on
    images of one share what is peculiar to it; else each training is one.
    """
    return generator if generator.max() else np.arange(len(generator))


def align_images(
    predictions: Mapping[Key, Sequence[pd.DataFrame]], part: str = "test"
) -> tuple[pd.DataFrame, dict[Key, np.ndarray]]:
    """Images of a part (`image_id, patient_id, label, fold`), and arm -> probabilities [trainings, N] in their order.

    Raises DataError if arms or trainings do not share the same images, or a probability is not within 0 to 1.
    """
    cases, probabilities = None, {}
    for arm, tables in predictions.items():
        rows = []
        for seed, table in enumerate(tables):
            rows_of_part = table[table["split"] == part].sort_values("image_id", ignore_index=True)
            if "fold" not in rows_of_part:
                rows_of_part = rows_of_part.assign(fold=0)
            if cases is None:
                cases = rows_of_part[["image_id", "patient_id", "label", "fold"]]
            if not rows_of_part[cases.columns].equals(cases):
                raise DataError(
                    f"predictions of {arm}, seed {seed}: image_id: found {len(rows_of_part)} {part} images that are "
                    f"not the {len(cases)} of the first table, allowed: the same images in every arm and seed"
                )
            rows.append(read_probability(rows_of_part, f"predictions of {arm}, seed {seed}"))
        probabilities[arm] = np.stack(rows)
    return cases, probabilities


def class_names(predictions: Mapping[Key, Sequence[pd.DataFrame]]) -> tuple[str, ...]:
    """The names of three or more classes, from the columns of their probabilities; none of two."""
    columns = next(iter(predictions.values()))[0].columns
    return tuple(column.removeprefix(OF_CLASS) for column in columns if column.startswith(OF_CLASS))


def align_classes(
    predictions: Mapping[Key, Sequence[pd.DataFrame]], cases: pd.DataFrame, part: str = "test"
) -> dict[Key, Classes]:
    """Arm -> what is predicted of three or more classes, of the images that `align_images` returns, in their order.

    Raises DataError where a class has no image.
    """
    names = class_names(predictions)
    label = cases["label"].map({name: number for number, name in enumerate(names)}).to_numpy()
    if missing := [name for name in names if name not in set(cases["label"])]:
        raise DataError(
            f"predictions: label: found none of {', '.join(missing)} in the {part} set, allowed: all classes"
        )
    columns = [f"{OF_CLASS}{name}" for name in names]
    found = {}
    for arm, tables in predictions.items():
        rows = [table[table["split"] == part].sort_values("image_id")[columns].to_numpy(float) for table in tables]
        found[arm] = Classes(names, label, np.stack(rows))
    return found


def both_classes(cases: pd.DataFrame, positive: str, part: str = "test") -> np.ndarray:
    """Which images [N] of a part are of the class `positive`. Raises DataError where all are, or none is."""
    is_positive = (cases["label"] == positive).to_numpy()
    if is_positive.all() or not is_positive.any():
        found = f"only {', '.join(sorted(set(cases['label'])))}" if len(cases) else "no images"
        raise DataError(f"predictions: label: found {found} in the {part} set, allowed: both classes")
    return is_positive


def read_probability(table: pd.DataFrame, where: str) -> np.ndarray:
    """The column `probability` [N]. Raises DataError, beginning with `where`, if a value is not within 0 to 1."""
    if not (valid := table["probability"].between(0, 1)).all():
        raise DataError(f"{where}: probability: found {table['probability'][~valid].iloc[0]}, allowed: 0 to 1")
    return table["probability"].to_numpy(dtype=float)


def labels_of(patient: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Of which classes each patient has images: bool [patients, K].

    patient: [N], numbered from 0; label: [N], numbers of classes, or whether an image is positive.
    """
    found = np.zeros((patient.max() + 1, int(label.max()) + 1), dtype=bool)
    found[patient, label.astype(int)] = True
    return found


def number_strata(labels: np.ndarray) -> np.ndarray:
    """[patients], from 0: the same number for patients with images of the same classes, `labels_of` [patients, K]."""
    return np.unique(labels[:, ::-1], axis=0, return_inverse=True)[1]
