"""Progress in a log."""

import logging

import pytest
import torch

from scangan.progress import Progress


def test_a_log_gets_a_line_now_and_then(caplog):
    caplog.set_level(logging.INFO, logger="scangan")
    with Progress(total=10, initial=4, description="toy", every_seconds=0) as progress:
        for _ in range(6):
            progress.update(1, 16, loss=torch.tensor(0.25))
    lines = caplog.messages
    assert len(lines) == 7
    assert lines[0].startswith("toy: step 5/10, ")
    assert lines[0].endswith("loss 0.25")
    assert all(part in lines[0] for part in ("steps/s", "images/s", " left"))
    assert lines[-1].startswith("toy: step 10/10, ")


def test_losses_are_read_only_when_a_line_is_due(caplog):
    class Unread:
        def __float__(self):
            raise AssertionError

    caplog.set_level(logging.INFO, logger="scangan")
    with Progress(total=2, initial=0, description="toy", every_seconds=100) as progress:
        progress.update(2, 32, loss=Unread())
    assert len(caplog.messages) == 1


def test_the_rate_is_that_of_this_process(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="scangan")
    clock = iter([0.0, 2.0, 2.0])
    monkeypatch.setattr("scangan.progress.time.monotonic", lambda: next(clock))
    with Progress(total=1000, initial=500, description="toy", every_seconds=1) as progress:
        progress.update(100, 1600)
    assert caplog.messages[0] == "toy: step 600/1000, 50 steps/s, 800 images/s, 00:08 left"


def test_an_error_passes_through():
    with pytest.raises(KeyError), Progress(total=1, initial=0, description="toy"):
        raise KeyError
