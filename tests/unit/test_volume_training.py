"""Training on slabs of volumes: what the networks see, memory, both losses, and exact resuming."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from scangan.config import VolumeGan
from scangan.errors import ConfigError, DataError, TrainingError
from scangan.models.catalogue import build, network_options
from scangan.models.ct_sgan import slice_positions
from scangan.training import adversarial
from scangan.training.adversarial import make_fabric
from scangan.training.losses import discriminator_loss, generator_loss
from scangan.training.volumes import (
    LEAST_MISPLACED,
    SeenSlab,
    SlabTraining,
    _wrong_places,
    make_slab_training,
    to_network,
    train_volume_gan,
)

WINDOW = (-1000.0, 400.0)
SIZE, STEPS = 56, 6
SLABS = {"depth": 4, "slices": 2, "constant_noise": 3, "slice_noise": 2, "slice_code": 4}
BASE = {"base_width": 2, "batch_size": 2, "sample_rows": 2, "epochs": 3}
CT_SGAN = {"model": "ct_sgan", "slabs": SLABS, "gradient_penalty": {"kind": "dragan", "weight": 10}}
MODELS = {
    "ct_sgan": CT_SGAN,
    "projected": CT_SGAN | {"discriminator": "projected", "loss": "wasserstein"},
    "mode_seeking": CT_SGAN | {"discriminator": "projected", "mode_seeking_weight": 0.5},
    "gan3d": {"model": "gan3d", "image_size": 16},
}


def volumes(number: int = 4) -> np.ndarray:
    """Volumes whose slice z is all z - 1000 + 100 * the volume's number."""
    slices = np.arange(SIZE)[:, None, None] - 1000 + 100 * np.arange(number)[:, None, None, None]
    return np.broadcast_to(slices, (number, SIZE, SIZE, SIZE)).astype(np.int16)


def settings(model: str = "ct_sgan", **values) -> VolumeGan:
    return VolumeGan.of_kind(MODELS[model] | BASE | values)


def train(folder=None, model="ct_sgan", **values):
    wanted = settings(model, **values)
    return train_volume_gan(volumes(), WINDOW, wanted, make_fabric("32-true", 1, "cpu"), folder, 0.0)


def game(**values) -> SlabTraining:
    """A training that has not begun."""
    wanted = settings(**values)
    torch.manual_seed(0)
    networks = build("ct_sgan", 1, SIZE, **network_options(wanted))
    fabric = make_fabric("32-true", 1, "cpu")
    return make_slab_training(fabric, *networks, torch.from_numpy(volumes()), WINDOW, wanted)


@pytest.fixture(autouse=True)
def _one_thread_and_stretches_of_two_steps(monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", STEPS // 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_real_slab_is_neighbouring_slices_at_the_places_that_are_remembered():
    training = game()
    torch.manual_seed(3)
    real = training._real_batch(0, training.schedule.at(0))
    assert real.shape == (2, 4, 3, SIZE, SIZE)
    hounsfield = (real + 1) * 700 - 1000
    chosen = training.batches.batch(0, 2)
    first = hounsfield[:, 0, 0, 0, 0] + 1000 - 100 * chosen
    torch.testing.assert_close(first, training.first.float(), atol=1e-3, rtol=0)
    steps = hounsfield[:, :, :, 0, 0].diff(dim=2)
    torch.testing.assert_close(steps, torch.ones_like(steps), atol=1e-3, rtol=0)


def test_slabs_begin_everywhere_and_end_within_the_volume():
    training = game()
    firsts = torch.cat([(training._real_batch(0, training.schedule.at(0)), training.first)[1] for _ in range(300)])
    assert firsts.min() == 0
    assert firsts.max() == SIZE - 2 - SLABS["depth"]


def test_slices_are_judged_with_respect_to_their_own_positions():
    training = game()
    training._real_batch(0, training.schedule.at(0))
    asked = []
    training.discriminator.slice.forward = lambda *given: asked.append(given) or given[1]
    see, judge = training._judges()["slice"]
    # Slices that hold their own number in the volume.
    numbers = training.first[:, None] + torch.arange(SLABS["depth"])
    judge(see(numbers[:, :, None, None, None].expand(-1, -1, 3, SIZE, SIZE).float()))
    [(slices, positions)] = asked
    assert slices.shape == (2 * SLABS["slices"], 3, SIZE, SIZE)
    torch.testing.assert_close(positions, slice_positions(SIZE)[slices[:, 1, 0, 0].long()])


def test_the_slab_judge_sees_the_centre_slices():
    training = game()
    real = training._real_batch(0, training.schedule.at(0))
    see, _ = training._judges()["slab"]
    assert torch.equal(see(real), real[:, None, :, 1])


def test_the_penalty_is_on_the_image_input_and_reaches_both_discriminators():
    training = game()
    real = training._real_batch(0, training.schedule.at(0))
    fake = training._generate(2).detach()
    losses = training.discriminator_losses(real, fake)
    losses["penalty"].backward()
    for part in (training.discriminator.slice.layers[0], training.discriminator.slab.layers[0]):
        assert part.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in training.generator.parameters())


@pytest.mark.parametrize("loss", ["bce", "wasserstein"])
def test_both_losses_are_sums_over_both_judges(loss: str):
    training = game(loss=loss, gradient_penalty={"kind": "none"})
    real = training._real_batch(0, training.schedule.at(0))
    # A judge that says 2 of everything: log-loss of the real log(1 + e^-2), of the fake log(1 + e^2); or 2 - 2.
    training._judges = lambda: {name: (lambda x: x, lambda x: x.new_full((2,), 2.0)) for name in ("slice", "slab")}
    losses = training.discriminator_losses(real, real)
    wanted = 2 * (np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) if loss == "bce" else 0.0
    assert losses["loss_d"].item() == pytest.approx(wanted, abs=1e-6)
    assert losses["d_real"].item() == pytest.approx(2.0)
    wanted = 2 * np.log1p(np.exp(-2)) if loss == "bce" else -4.0
    assert training.generator_losses(real)["loss_g"].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("model", list(MODELS))
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path, monkeypatch, model):
    whole = train(model=model)
    assert whole.steps == STEPS
    step = adversarial.AdversarialTraining.step

    def power_fails(training):
        if training.step_count == 3:
            raise KeyboardInterrupt
        step(training)

    with monkeypatch.context() as patch:
        patch.setattr(adversarial.AdversarialTraining, "step", power_fails)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, model)
    assert list(tmp_path.iterdir())
    torch.manual_seed(99)
    resumed = train(tmp_path, model)
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    histories = [one.history.drop(columns="images_per_second") for one in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    np.testing.assert_array_equal(whole.samples, resumed.samples)


def test_slabs_that_are_compared_begin_in_pairs():
    training = game(mode_seeking_weight=1.0, batch_size=4)
    torch.manual_seed(3)
    training._real_batch(0, training.schedule.at(0))
    assert training.first.shape == (4,)
    assert training.first[:2].tolist() == training.first[2:].tolist()
    assert training.first[0] != training.first[1]
    wanted = settings(mode_seeking_weight=1.0, batch_size=6)
    with pytest.raises(TrainingError, match=r"batch_size: found 6, allowed: .* 2 GPUs, .* an even number"):
        train_volume_gan(volumes(), WINDOW, wanted, SimpleNamespace(world_size=2))
    with pytest.raises(ValueError, match="batch_size: found 3, allowed with mode_seeking_weight: an even number"):
        settings(mode_seeking_weight=1.0, batch_size=3)


@pytest.mark.parametrize("discriminator", ["convolutional", "projected"])
def test_what_generated_volumes_lack_of_real_differences_is_a_loss(discriminator):
    """Real volumes differ by 100 HU times their numbers, a seventh of the networks' unit."""
    training = game(mode_seeking_weight=3.0, batch_size=4, discriminator=discriminator)
    torch.manual_seed(3)
    real = training._real_batch(0, training.schedule.at(0))
    numbers = training.batches.batch(0, 4)
    apart = (numbers[:2] - numbers[2:]).abs()
    torch.testing.assert_close(training.real_differences, apart / 7, atol=1e-5, rtol=0)
    same = torch.zeros(4, 4, 3, SIZE, SIZE)
    half, more = (share * real for share in (0.5, 1.5))
    assert [training._mode_seeking_loss(each).item() for each in (same, half, real, more)] == pytest.approx(
        [1, 0.5, 0, 0], abs=1e-5
    )
    grain = same + 0.1 * torch.tensor([1.0, -1.0]).repeat(SIZE // 2)
    grain[2:] *= -1
    assert training._mode_seeking_loss(grain).item() == pytest.approx(1, abs=1e-5)
    # Where two real volumes are one, nothing is lacking, and the gradient is a number.
    training.real_differences = torch.zeros(2)
    fake = torch.rand(4, 4, 3, SIZE, SIZE, requires_grad=True)
    training._mode_seeking_loss(fake).backward()
    assert fake.grad.abs().max() == 0


def test_the_weight_says_how_much_of_it_the_generator_learns():
    steps = [game(mode_seeking_weight=weight, batch_size=2) for weight in (1e-9, 3.0)]
    losses = []
    for training in steps:
        torch.manual_seed(3)
        fake = training._real_batch(0, training.schedule.at(0)).flip(0) * 0.5
        losses.append(training.generator_losses(fake))
    assert losses[0]["mode_seeking"] == losses[1]["mode_seeking"] == pytest.approx(0.5, abs=1e-5)
    difference = losses[1]["loss_g"] - losses[0]["loss_g"]
    assert difference.item() == pytest.approx(1.5, abs=1e-3)
    without = game()
    without.first = training.first
    assert set(without.generator_losses(fake)) == {"loss_g"}


def test_the_projected_judge_of_slices_has_hinge_loss_and_that_of_slabs_its_own(monkeypatch):
    """To the former real slices at wrong places are half as wrong as generated ones."""
    monkeypatch.setattr("scangan.training.volumes._wrong_places", lambda positions: -positions)
    training = game(model="projected")
    training.discriminator.eval()  # spectral norms stay as they are
    torch.manual_seed(3)
    real = training._real_batch(0, training.schedule.at(0))
    fake = training._generate(2)
    shown, drawn = training._shown_to_discriminator(real, fake)
    losses = training.discriminator_losses(shown, drawn)
    chosen = training.chosen
    assert len(chosen) == SLABS["slices"]
    positions = slice_positions(SIZE)[training.first[:, None] + chosen].flatten()
    judged = [training.discriminator.slice(each[:, chosen].flatten(0, 1), positions) for each in (real, fake.detach())]
    slabs = [training.discriminator.slab(each[:, None, :, 1]) for each in (real, fake.detach())]
    misplaced = training.discriminator.slice(real[:, chosen].flatten(0, 1), -positions)
    expected = discriminator_loss("hinge", *judged, False, 0.0) + discriminator_loss("wasserstein", *slabs, False, 0.0)
    expected = expected + 0.5 * torch.relu(1 + misplaced).mean()
    torch.testing.assert_close(losses["loss_d"], expected, rtol=1e-4, atol=1e-5)
    # DRAGAN of the slabs alone.
    losses["penalty"].backward()
    assert all(parameter.grad is None for parameter in training.discriminator.slice.parameters())
    assert training.discriminator.slab.layers[0].weight.grad.abs().sum() > 0
    expected = generator_loss("hinge", judged[1], False) + generator_loss("wasserstein", slabs[1], False)
    found = training.generator_losses(training._shown_to_generator(fake))["loss_g"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_real_and_generated_slices_pass_the_projected_judge_as_one_batch(monkeypatch):
    """Apart, a batch norm gives either kind the same mean and spread: then a head cannot see how much slices vary."""
    training, batches = game(model="projected"), []
    judge = training.discriminator.slice.judge
    monkeypatch.setattr(
        training.discriminator.slice,
        "judge",
        lambda maps, places: batches.append((maps, places)) or judge(maps, places),
    )
    training.step()
    slices = 2 * SLABS["slices"]
    (of_discriminator, with_wrong), (of_generator, places) = batches
    assert {len(maps) for maps in of_discriminator + of_generator} == {2 * slices}
    assert all(
        torch.equal(one[:slices], other[:slices]) for one, other in zip(of_discriminator, of_generator, strict=True)
    )
    assert not any(maps.requires_grad for maps in of_discriminator)
    assert all(maps.requires_grad for maps in of_generator)
    own, drawn, wrong = with_wrong.split(slices)
    assert torch.equal(own, drawn)
    assert torch.equal(places, torch.cat([own, own]))
    assert (own - wrong).abs().min() > 0.1


def test_wrong_places_are_anywhere_else():
    torch.manual_seed(0)
    positions = torch.linspace(-0.98, 0.98, 20_000)
    wrong = _wrong_places(positions)
    apart = (wrong - positions).abs()
    assert wrong.abs().max() <= 1
    assert torch.minimum(apart, 2 - apart).min() >= LEAST_MISPLACED - 1e-5
    # As often before as behind, and uniformly over what is left: a quarter within the next quarter of it.
    further = (wrong - positions) % 2 - LEAST_MISPLACED
    shares = torch.histc(further / (2 - 2 * LEAST_MISPLACED), 4, 0, 1) / len(positions)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.015, rtol=0)
    # The same seed, the same places: a training resumes to the bit.
    torch.manual_seed(0)
    assert torch.equal(_wrong_places(positions), wrong)


def test_the_projected_judge_learns_where_a_slice_belongs():
    """Slices that look alike but for their grey level, which goes with the place; generated ones are as real ones."""
    training = game(model="projected", batch_size=4)
    first, chosen = torch.arange(4) * 13, torch.arange(SLABS["slices"])
    slices = torch.linspace(-1, 1, SIZE)[first[:, None] + torch.arange(SLABS["depth"])]
    slices = slices[:, :, None, None, None].expand(-1, -1, 3, SIZE, SIZE).contiguous()
    training.first, training.chosen = first, chosen
    training.real_seen = training._see(slices)
    optimizer = torch.optim.Adam(training.discriminator.slice.heads.parameters(), 2e-3)
    shown = SeenSlab(slices, training.real_seen)
    for _ in range(40):
        optimizer.zero_grad()
        training.discriminator_losses(shown, shown)["loss_d"].backward()
        optimizer.step()
    d_real, _, d_misplaced = training._judge_slices(shown, -training._positions())
    assert (d_real - d_misplaced).mean() > 0.5


def test_generated_slices_are_seen_once_and_real_ones_without_gradient(monkeypatch):
    training, seen = game(model="projected"), []
    see = training.discriminator.slice.see
    monkeypatch.setattr(training.discriminator.slice, "see", lambda slices: seen.append(slices) or see(slices))
    before = {name: tensor.clone() for name, tensor in training.discriminator.slice.state_dict().items()}
    training.step()
    real, fake = seen
    assert not real.requires_grad
    assert fake.requires_grad
    learnt = {
        name
        for name, tensor in training.discriminator.slice.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert {name.split(".")[0] for name in learnt} == {"heads"}
    assert all(parameter.grad.abs().sum() > 0 for parameter in training.generator.slice_codes.lstm.parameters())


@pytest.mark.parametrize(("model", "edge"), [("ct_sgan", SIZE), ("gan3d", 16)])
def test_samples_are_the_middle_planes_of_volumes(model: str, edge: int):
    trained = train(model=model)
    assert trained.samples.shape == (2, adversarial.SAMPLE_COLUMNS, 1, edge, edge)
    assert trained.samples.dtype == np.uint8


def test_volumes_that_are_all_alike_are_logged(caplog, monkeypatch):
    training = game()
    training.history = [{}]
    training.step_count = training.steps_in_all
    # Of three pairs the median: two volumes differ by a fiftieth, and by 1; real ones by a seventh.
    monkeypatch.setattr(
        training.average, "average", lambda latent: torch.full((1, 1, 8, 8, 8), float(drawn.pop(0)) / 50)
    )
    for drawn, is_logged in (([0, 1, 2], True), ([0, 50, 100], False)):
        caplog.clear()
        expected = (drawn[1] - drawn[0]) / 50 / (100 / 700)
        training.draw_samples()
        assert training.history[-1]["diversity"] == pytest.approx(expected, rel=1e-4)
        said = f"volumes differ from each other by {100 * expected:.0f}% of what real ones do: it may be collapsing"
        assert (said in caplog.text) == is_logged


def test_hounsfield_and_network_values():
    values = to_network(torch.tensor([-3000, -1000, -300, 400, 3000], dtype=torch.int16), WINDOW)
    torch.testing.assert_close(values, torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0]))


def test_one_volume_and_a_wrong_size_are_refused():
    fabric = make_fabric("32-true", 1, "cpu")
    with pytest.raises(DataError, match="volumes: found 1, allowed: at least 2"):
        train_volume_gan(volumes(1), WINDOW, settings(), fabric)
    with pytest.raises(ConfigError, match="image_size: found 15, allowed with gan3d"):
        train_volume_gan(volumes(), WINDOW, settings("gan3d", image_size=15), fabric)


PEAK = """
import sys
from types import SimpleNamespace
import torch
from scangan.config import CtSgan
from scangan.models.catalogue import network_options
from scangan.models.ct_sgan import Discriminator, Generator
from scangan.training.adversarial import make_fabric
from scangan.training.volumes import SlabTraining

def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

depth = int(sys.argv[1])
torch.set_num_threads(1)
slabs = {"depth": 8, "slices": 4, "constant_noise": 16, "slice_noise": 8, "slice_code": 16}
penalty = {"kind": "dragan", "weight": 10}
settings = CtSgan(model="ct_sgan", base_width=16, batch_size=4, epochs=1, slabs=slabs, gradient_penalty=penalty)
options = network_options(settings)
networks = Generator(image_size=56, depth=depth, **options), Discriminator(image_size=56, **options)
volumes = torch.randint(-1000, 400, (4, depth, 56, 56), dtype=torch.int16)
training = SlabTraining(make_fabric("32-true", 1, "cpu"), *networks, volumes, (-1000.0, 400.0), settings)
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here
training.step()
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is read from /proc")
def test_a_steps_peak_memory_does_not_grow_with_the_depth():
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, str(depth)], check=True, capture_output=True).stdout)
        for depth in (56, 224)
    ]
    assert peaks[0] > 30_000  # kB: enough to tell
    assert peaks[1] == pytest.approx(peaks[0], rel=0.15)
