"""The averaged network against the closed form of its recursion."""

import pytest
import torch
from torch import nn

from scangan.training.ema import ExponentialMovingAverage


class Scalar(nn.Module):
    """One weight, and the two kinds of buffers that batch norm has."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        self.register_buffer("statistic", torch.tensor(value, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float, count: int) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
        self.statistic.fill_(value)
        self.count.fill_(count)


def followed(values, decay):
    """The average after the model took these values, one after the other."""
    model = Scalar(values[0])
    average = ExponentialMovingAverage(model, decay)
    for count, value in enumerate(values[1:], 1):
        model.set(value, count)
        average.update(model)
    return average.average


def test_constant_weights_are_their_own_average():
    average = followed([3.7] * 20, 0.9)
    assert average.weight.item() == pytest.approx(3.7, rel=1e-12)


@pytest.mark.parametrize("decay", [0.999, 0.5, 0.9])
def test_the_closed_form_of_the_sum_with_its_warm_up(decay):
    values = [float(value) for value in torch.randn(60, generator=torch.Generator().manual_seed(0))]
    decays = [min(decay, (1 + update) / (10 + update)) for update in range(1, 60)]
    # The value of update t keeps the share (1 - d_t) times all later decays, the first value all decays.
    shares = [1.0, *(1 - d for d in decays)]
    remaining = torch.tensor([*decays, 1.0], dtype=torch.float64).flip(0).cumprod(0).flip(0)
    expected = sum(value * share * left for value, share, left in zip(values, shares, remaining.tolist(), strict=True))
    average = followed(values, decay)
    assert average.weight.item() == pytest.approx(expected, rel=1e-12)
    assert average.statistic.item() == pytest.approx(expected, rel=1e-12)


def test_buffers_that_count_are_copied():
    assert followed([0.0, 1.0, 2.0], 0.9).count == 2


def test_without_decay_it_is_the_model_itself():
    assert followed([0.1, 0.2, 0.7], 0.0).weight.item() == 0.7


def test_the_average_is_no_part_of_the_training():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(model, 0.9)
    assert not average.average.training
    assert not any(parameter.requires_grad for parameter in average.average.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    average.update(model)
    assert not any(
        mine.data_ptr() == theirs.data_ptr()
        for mine, theirs in zip(average.average.parameters(), model.parameters(), strict=True)
    )
