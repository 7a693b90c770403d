"""Tests that only a GPU can pass: skipped, and said so, where torch sees none."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "tests/gpu" in str(item.path) and item.callspec.params.get("device") != "cpu":
            item.add_marker(pytest.mark.skip(reason="no GPU that torch can use"))
