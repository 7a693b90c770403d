"""Each generative network on a GPU beside the CPU: the first step, number formats, a training that is resumed."""

import numpy as np
import pytest
import torch

from scangan.training import adversarial
from scangan.training.adversarial import make_fabric, run
from tests.games import GAMES, begin, gradients

# Of the losses and gradients from those of the CPU: TF32 keeps 11 bits and bfloat16 8, and a network multiplies dozens
# of times.
TOLERANCES = {"32-true": 0.02, "bf16-mixed": 0.2, "16-mixed": 0.1}


@pytest.fixture(autouse=True)
def _noise_of_the_penalties_is_that_of_the_cpu(monkeypatch):
    rand = torch.rand

    def on_the_cpu(*shape, device=None, **options):
        return rand(*shape, **options).to(device)

    monkeypatch.setattr(torch, "rand", on_the_cpu)
    monkeypatch.setattr(torch, "rand_like", lambda like: on_the_cpu(like.shape, device=like.device, dtype=like.dtype))


def first_step(name, fabric, precision):
    """Losses and gradients of a game's first step."""
    training = begin(name, fabric, precision)
    training.step()
    losses = {key: float(value) for key, value in training.window.items()}
    return losses, {key: gradient.double().cpu() for key, gradient in gradients(training).items()}


def distance(found, expected):
    """The difference of two networks' gradients as a share of the expected ones' length."""
    flat = [torch.cat([each[key].flatten() for key in expected]) for each in (found, expected)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", GAMES)
def test_the_first_step_is_that_of_the_cpu(name, precision):
    expected_losses, expected = first_step(name, make_fabric("32-true", 1, "cpu"), "32-true")
    losses, found = first_step(name, make_fabric(precision, 1, "cuda"), precision)
    allowed = TOLERANCES[precision]
    assert losses == pytest.approx(expected_losses, rel=allowed, abs=allowed)
    if precision == "16-mixed":
        return  # its gradients carry the scaler's factor
    assert distance(found, expected) < TOLERANCES[precision]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", GAMES)
def test_a_training_that_was_stopped_goes_on_and_ends(tmp_path, name, precision, monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", 6)
    training = begin(name, make_fabric(precision, 1, "cuda"), precision)
    step, total = training.step, training.steps_in_all

    def fail_half_way():
        if training.step_count == total // 2 + 1:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(training, "step", fail_half_way)
    with pytest.raises(KeyboardInterrupt):
        run(training, tmp_path, 0.0, name)
    resumed = begin(name, make_fabric(precision, 1, "cuda"), precision)
    trained = run(resumed, tmp_path, 60.0, name)
    assert trained.steps == total
    assert len(trained.samples) == 2
    assert np.isfinite(trained.history.drop(columns="step").to_numpy(dtype=float)).all()
    assert all(torch.isfinite(tensor.float()).all() for tensor in trained.weights.values())
