"""Where networks compute, and what is said when a GPU is there that torch cannot use."""

import pytest
import torch

from scangan import device
from scangan.errors import TrainingError


def test_without_a_gpu_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "has_gpu", lambda: False)
    assert device.compute_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        (None, r"found torch .*, the build for CPUs, allowed: a build for GPUs"),
        ("13.0", r"found NVRM version 535.1, which torch .* cannot use, allowed: a driver for CUDA 13.0"),
    ],
)
def test_a_gpu_that_torch_cannot_use_stops_in_one_line(tmp_path, monkeypatch, cuda, said):
    (tmp_path / "version").write_text("NVRM version 535.1\nGCC version\n")
    monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    with pytest.raises(TrainingError, match=said + "; or hide the GPU: CUDA_VISIBLE_DEVICES=-1"):
        device.compute_device()
