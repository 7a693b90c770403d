"""How long classifiers were trained, and whether that was enough, from what their trainings wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from scangan.metrics.classification import GanSeeds

LAST = 0.1  # of a phase: a best validation loss there says that a longer one may have been better
FALL = 0.02  # of the training loss from one quarter of a phase to the next, in nats: it still falls


def read_histories(files: Sequence[str], gan_seeds: GanSeeds, folds: int = 1) -> dict[str, list[pd.DataFrame]]:
    """Arm -> the histories of its trainings in all folds, from files in the order of `read_predictions`."""
    tables = (pd.read_csv(file) for file in files)
    return {arm: [next(tables) for _ in range(folds * len(trainings))] for arm, trainings in gan_seeds.items()}


def count_unconverged(histories: Mapping[str, Sequence[pd.DataFrame]], patience: int) -> dict[str, int]:
    """Arm -> how many of its trainings had not converged; see `has_converged`."""
    return {arm: sum(not has_converged(each, patience) for each in found) for arm, found in histories.items()}


def count_steps(histories: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """`arm, steps, steps_least, steps_most`: mean, least and most optimisation steps of each arm's trainings.

    A phase ends with its steps, or after `patience` validations without a better loss: so arms may have different ones.
    """
    steps = {arm: pd.Series([each["step"].iloc[-1] for each in found]) for arm, found in histories.items()}
    rows = [(arm, each.mean(), each.min(), each.max()) for arm, each in steps.items()]
    return pd.DataFrame(rows, columns=["arm", "steps", "steps_least", "steps_most"])


def has_converged(history: pd.DataFrame, patience: int) -> bool:
    """Whether more steps would have changed nothing, in every phase of a training.

    history: a row a validation: `phase, step, training_loss, validation_loss`, as `training.supervised` writes it.
    patience: validations without a better loss after which a phase ends: one that ended so has converged. Another one
    ended with its steps, and has converged unless its best validation loss is in the last tenth of its validations (the
    last one at least), or its training loss still falls.
    """
    return all(_phase_converged(phase, patience) for _, phase in history.groupby("phase", sort=False))


def _phase_converged(phase: pd.DataFrame, patience: int) -> bool:
    since_best = len(phase) - 1 - int(phase["validation_loss"].to_numpy().argmin())
    if since_best >= patience:
        return True
    quarter = max(1, len(phase) // 4)
    loss = phase["training_loss"]
    falls = loss[-2 * quarter : -quarter].mean() - loss[-quarter:].mean() > FALL
    return since_best >= max(1, LAST * len(phase)) and not falls
