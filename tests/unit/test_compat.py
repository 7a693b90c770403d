"""torchvision and torch-fidelity can be imported after scangan.compat, on any build of torch."""

import importlib

import torch

import scangan.compat


def test_torchvision_and_torch_fidelity_import():
    importlib.import_module("torchvision")
    importlib.import_module("torch_fidelity")
    assert hasattr(torch.ops.torchvision, "nms")


def test_a_second_preparation_changes_nothing():
    scangan.compat.prepare_torchvision()
    importlib.reload(scangan.compat)
    assert hasattr(torch.ops.torchvision, "qnms")
