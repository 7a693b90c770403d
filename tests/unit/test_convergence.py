"""Which trainings ended too soon."""

import pandas as pd
import pytest

from scangan.metrics.convergence import count_steps, count_unconverged, has_converged, read_histories

FLAT = [0.3] * 12


def history(validation, training=None, phase="real", first=1):
    steps = range(first, first + len(validation))
    losses = {"training_loss": training or [0.3] * len(validation), "validation_loss": validation}
    return pd.DataFrame({"phase": phase, "step": steps} | losses)


@pytest.mark.parametrize(
    ("validation", "training", "converged"),
    [
        ([0.9, 0.5, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], FLAT, True),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.2], FLAT, False),  # the last is the best
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.2, 0.3], FLAT, False),  # in its last tenth
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.2, 0.3, 0.3], FLAT, True),
        ([0.9, 0.5, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.6] * 9 + [0.5] * 3, False),  # still falls
        ([0.9, 0.5, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.6] * 9 + [0.59] * 3, True),
        ([0.9, 0.3, *[0.5] * 10], [0.6] * 9 + [0.5] * 3, True),  # patience ended it: more steps would change nothing
        ([0.5], [0.5], False),  # nothing to compare with
        ([0.5, 0.6], [0.5, 0.5], True),
    ],
)
def test_a_training_converges_before_its_last_steps(validation, training, converged):
    assert has_converged(history(validation, training), patience=10) == converged


def test_every_phase_has_to_converge():
    done, cut = [0.9, 0.3, 0.5, 0.5, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]
    for first, second, converged in ((done, done, True), (cut, done, False), (done, cut, False)):
        both = pd.concat([history(first, phase="synthetic"), history(second, first=6)], ignore_index=True)
        assert has_converged(both, patience=10) == converged


def test_trainings_are_counted_arm_by_arm(tmp_path):
    done, cut = history([0.9, 0.3, 0.5, 0.5, 0.5]), history([0.9, 0.8, 0.7, 0.6, 0.5])
    files = [str(tmp_path / f"{number}.csv") for number in range(4)]
    for file, table in zip(files, (done, done, cut, done), strict=True):
        table.to_csv(file, index=False)
    histories = read_histories(files, {"real": [None, None], "synthetic": [0, 1]})
    assert count_unconverged(histories, patience=10) == {"real": 0, "synthetic": 1}


def test_steps_are_those_of_the_last_validation():
    """A training of two phases counts on."""
    short, long = history([0.5] * 4), history([0.5] * 8)
    both = pd.concat([short.assign(phase="synthetic"), history([0.5] * 3, first=5)], ignore_index=True)
    steps = count_steps({"real": [short, long, long], "synthetic-then-real": [both]}).set_index("arm")
    assert steps.loc["real"].tolist() == pytest.approx([20 / 3, 4, 8])
    assert steps.loc["synthetic-then-real"].tolist() == [7, 7, 7]
