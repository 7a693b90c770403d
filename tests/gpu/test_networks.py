"""Each generative network on a GPU beside the CPU: the first step, number formats, a training that is resumed."""

import numpy as np
import pytest
import torch

from scangan.training import adversarial
from scangan.training.adversarial import make_fabric, run
from tests.games import GAMES, SAMPLES, begin, gradients

# Of the losses, and of the gradients as a share of their length. TF32 keeps 11 bits and bfloat16 8; dozens of products
# in a row, with batch norms of small maps between them, leave of bfloat16's gradients their direction at most.
ALLOWED = {
    "float32": (1e-3, 1e-2),
    "tf32": (0.03, 0.2),
    "bf16-mixed": (0.2, 0.9),
}


@pytest.fixture(autouse=True)
def _noise_of_the_penalties_is_that_of_the_cpu(monkeypatch):
    rand = torch.rand

    def on_the_cpu(*shape, device=None, **options):
        return rand(*shape, **options).to(device)

    monkeypatch.setattr(torch, "rand", on_the_cpu)
    monkeypatch.setattr(torch, "rand_like", lambda like: on_the_cpu(like.shape, device=like.device, dtype=like.dtype))


def first_step(name, fabric, precision):
    """Losses and gradients of a game's first step, on the CPU; without dropout, which draws where it computes."""
    training = begin(name, fabric, precision)
    for network in (training.generator, training.discriminator):
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    training.step()
    losses = {key: float(value) for key, value in training.window.items()}
    return losses, {key: gradient.double().cpu() for key, gradient in gradients(training).items()}


def distance(found, expected, network):
    """The difference of a network's gradients as a share of the expected ones' length."""
    names = [name for name in expected if name.startswith(network)]
    found, expected = (torch.cat([each[name].flatten() for name in names]) for each in (found, expected))
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("numbers", ALLOWED)
@pytest.mark.parametrize("name", GAMES)
def test_the_first_step_is_that_of_the_cpu(name, numbers):
    expected_losses, expected = first_step(name, make_fabric("32-true", 1, "cpu"), "32-true")
    precision = "bf16-mixed" if numbers == "bf16-mixed" else "32-true"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=numbers != "float32"):
        torch.set_float32_matmul_precision("highest" if numbers == "float32" else "high")
        losses, found = first_step(name, make_fabric(precision, 1, "cuda"), precision)
    of_losses, of_gradients = ALLOWED[numbers]
    assert losses == pytest.approx(expected_losses, rel=of_losses, abs=of_losses)
    distances = {network: distance(found, expected, network) for network in ("generator", "discriminator")}
    assert max(distances.values()) < of_gradients, distances


# Once on the CPU as well, so that it is known everywhere whether the test itself is right.
@pytest.mark.parametrize(
    ("device", "precision"),
    [("cpu", "32-true"), ("cuda", "32-true"), ("cuda", "bf16-mixed"), ("cuda", "16-mixed")],
)
@pytest.mark.parametrize("name", GAMES)
def test_a_training_that_was_stopped_goes_on_and_ends(tmp_path, name, device, precision, monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", 6)
    training = begin(name, make_fabric(precision, 1, device), precision)
    step, total = training.step, training.steps_in_all

    def fail_half_way():
        if training.step_count == total // 2 + 1:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(training, "step", fail_half_way)
    with pytest.raises(KeyboardInterrupt):
        run(training, tmp_path, 0.0, name)
    resumed = begin(name, make_fabric(precision, 1, device), precision)
    trained = run(resumed, tmp_path, 60.0, name)
    assert trained.steps == total
    assert len(trained.samples) == SAMPLES * (2 if name.endswith("of two classes") else 1)
    # The diversity of volumes is not measured in every row.
    losses = trained.history.drop(columns=["step", "diversity"], errors="ignore")
    assert np.isfinite(losses.to_numpy(dtype=float)).all()
    assert all(torch.isfinite(tensor.float()).all() for tensor in trained.weights.values())
