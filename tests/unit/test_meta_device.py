"""A whole step of each network on torch's device without memory, which stands for a GPU.

It raises where a step reads a number back, for which a GPU would have to wait, and where a tensor of the CPU meets one
of the device.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from scangan.training import adversarial, nodules
from scangan.training.adversarial import make_fabric
from scangan.training.checkpoint import CheckpointStore
from tests.games import GAMES, begin


class MetaFabric:
    """What the engine asks of Lightning's Fabric, on the device `meta`."""

    device = torch.device("meta")
    global_rank, world_size, is_global_zero = 0, 1, True
    strategy = SimpleNamespace(precision=SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None))

    def to_device(self, network):
        return network.to(self.device)

    def setup_optimizers(self, optimizer):
        return optimizer

    def autocast(self):
        return nullcontext()

    def backward(self, loss):
        loss.backward()

    def all_reduce(self, value, reduce_op):
        return value


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    """What is trained on lies on the device; but no fused kernel of Adam is made for `meta`."""
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *arguments, fused, **options: adam(*arguments, **options))
    for module in (adversarial, nodules):
        monkeypatch.setattr(module, "resident", lambda images, device: images.to(device))


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("name", GAMES)
def test_a_training_resumes_on_its_device_and_a_step_reads_nothing_back(tmp_path, name):
    before = begin(name, make_fabric("32-true", 1, "cpu"))
    before.step()
    CheckpointStore(tmp_path).save(1, before.state())
    training = begin(name, MetaFabric())
    training.load_state(CheckpointStore(tmp_path).load_latest())
    training.step()
    assert training.step_count == 2
    assert all(total.device.type == "meta" for total in training.window.values())
    with pytest.raises(RuntimeError, match="meta"):
        training.window["loss_g"].item()  # as it would within the step
