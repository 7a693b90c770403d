"""The adversarial engine: it can be killed at any moment, says what went wrong, and learns."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from scangan.config import ImageGan
from scangan.errors import ConfigError, TrainingError
from scangan.models import dcgan32
from scangan.training import adversarial
from scangan.training.adversarial import ShuffledBatches, make_fabric, train_gan

IMAGES = np.random.default_rng(0).random((12, 1, 32, 32), dtype=np.float32)
STEPS = 24
# With all that draws random numbers or has a state of its own.
VALUES = {
    "model": "dcgan32",
    "base_width": 2,
    "batch_size": 4,
    "epochs": 8,
    "sample_rows": 4,
    "noisy_labels": 0.1,
    "gradient_penalty": {"kind": "dragan", "weight": 1.0},
    "random_crop": [0.5, 1.0],
    "horizontal_flip": True,
    "diffaugment": {
        "kinds": ["color", "translation", "cutout"],
        "probability": 0.3,
        "adaptive_target": 0.2,
        "adaptive_images": 150,
    },
}
NO_AUGMENTATION = {"random_crop": None, "horizontal_flip": False, "diffaugment": {}}


def train(folder=None, images=IMAGES, checkpoint_seconds=0.0, validate=None, **values):
    settings = ImageGan.of_kind(VALUES | values)
    fabric = make_fabric(settings.precision, 1, "cpu")
    return train_gan(images, settings, fabric, folder, checkpoint_seconds, validate=validate)


def assert_identical(trained, other):
    """To the bit, but for the speed."""
    assert trained.steps == other.steps
    assert trained.weights.keys() == other.weights.keys()
    assert all(torch.equal(tensor, other.weights[name]) for name, tensor in trained.weights.items())
    history = [one.history.drop(columns="images_per_second") for one in (trained, other)]
    pd.testing.assert_frame_equal(*history, check_exact=True)
    np.testing.assert_array_equal(trained.samples, other.samples)


@pytest.fixture(autouse=True)
def _one_thread_and_stretches_of_three_steps(monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "HISTORY_ROWS", 8)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield train()
        torch.set_num_threads(threads)


# Training in a process of its own, which comes to a sudden end.


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_step(n):
    """The power fails after the n-th step of this process, before its checkpoint."""
    step, taken = adversarial.AdversarialTraining.step, Counter()

    def last_step(training):
        step(training)
        taken["steps"] += 1
        if taken["steps"] == n:
            kill_self()

    adversarial.AdversarialTraining.step = last_step


def kill_at(owner, name, n):
    """The power fails at the n-th call of a function."""
    function, calls = getattr(owner, name), Counter()

    def last_call(*arguments, **options):
        calls[name] += 1
        if calls[name] == n:
            kill_self()
        return function(*arguments, **options)

    setattr(owner, name, last_call)


def kill_at_replace(n):
    kill_at(os, "replace", n)


def kill_at_fsync(n):
    kill_at(os, "fsync", n)


def kill_half_way_through_a_file(n):
    save, calls = torch.save, Counter()

    def last_save(state, file):
        save(state, file)
        calls["save"] += 1
        if calls["save"] == n:
            file.file.truncate(file.file.tell() // 2)
            file.flush()
            kill_self()

    torch.save = last_save


def slow_down(seconds):
    step = adversarial.AdversarialTraining.step

    def slow_step(training):
        time.sleep(seconds)
        step(training)

    adversarial.AdversarialTraining.step = slow_step


def train_with(sabotage, argument, folder):
    torch.set_num_threads(1)
    adversarial.HISTORY_ROWS = 8
    sabotage(argument)
    train(folder)


@pytest.fixture(scope="module")
def start():
    """Starts a training that comes to a bad end, in a process forked from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()

    def start(sabotage, argument, folder):
        process = context.Process(target=train_with, args=(sabotage, argument, folder))
        process.start()
        return process

    return start


def killed(process):
    process.join(30)
    return process.exitcode == -signal.SIGKILL


def checkpoints(folder):
    return sorted(folder.glob("step-*.ckpt"))


@pytest.mark.parametrize("step", [1, 3, 4, 13, STEPS])
def test_killed_after_a_step(start, uninterrupted, tmp_path, step):
    assert killed(start(kill_after_step, step, tmp_path))
    assert len(checkpoints(tmp_path)) == min(2, (step - 1) // 3)
    assert_identical(train(tmp_path), uninterrupted)


@pytest.mark.parametrize(
    ("sabotage", "call"),
    [
        (kill_at_replace, 1),
        (kill_at_replace, 3),
        (kill_at_fsync, 1),
        (kill_at_fsync, 2),
        (kill_at_fsync, 5),
        (kill_half_way_through_a_file, 1),
        (kill_half_way_through_a_file, 3),
    ],
)
def test_killed_inside_a_checkpoint(start, uninterrupted, tmp_path, sabotage, call):
    assert killed(start(sabotage, call, tmp_path))
    assert_identical(train(tmp_path), uninterrupted)
    assert not (tmp_path / "checkpoint.partial").exists()


def test_killed_from_outside_at_any_moment(start, uninterrupted, tmp_path):
    process = start(slow_down, 0.02, tmp_path)
    deadline = time.monotonic() + 30
    while len(checkpoints(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    assert killed(process)
    assert_identical(train(tmp_path), uninterrupted)


def test_killed_again_and_again(start, uninterrupted, tmp_path):
    lives = [killed(start(kill_after_step, 7, tmp_path)) for _ in range(3)]
    assert all(lives)
    assert [path.name[:13] for path in checkpoints(tmp_path)] == ["step-00000015", "step-00000018"]
    assert_identical(train(tmp_path), uninterrupted)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(start, uninterrupted, tmp_path, caplog):
    assert killed(start(kill_after_step, 13, tmp_path))
    newest = checkpoints(tmp_path)[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    assert_identical(train(tmp_path), uninterrupted)
    assert f"{newest}: damaged" in caplog.text


# Stopping and resuming in one process.


def call_in_step(monkeypatch, n, action):
    """Do something during the n-th step."""
    step = adversarial.AdversarialTraining.step

    def watched(training):
        step(training)
        if training.step_count == n:
            action(training)

    monkeypatch.setattr(adversarial.AdversarialTraining, "step", watched)


VARIANTS = {
    "plain": {"gradient_penalty": {"kind": "none"}},
    "rmsprop": {"optimizer": "rmsprop"},
    "two discriminator steps": {"discriminator_steps": 2, "epochs": 16},
    "wasserstein": {
        "loss": "wasserstein",
        "gradient_penalty": {"kind": "wgan-gp"},
        "noisy_labels": 0.0,
        "diffaugment": VALUES["diffaugment"] | {"adaptive_target": None},  # a critic's output has no sign
    },
    "r1, inverted labels": {"gradient_penalty": {"kind": "r1"}, "label_inversion": True},
    "no average": {"ema_decay": 0.0},
    "weight decay": {"weight_decay": 0.01},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "no augmentation": NO_AUGMENTATION,
    "augmentation of one probability": {"diffaugment": {"kinds": ["translation"], "probability": 0.5}},
    "adaptive, inverted labels": {"label_inversion": True},
    "adaptive, two discriminator steps": {"discriminator_steps": 2, "epochs": 16},
}


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [5, 6, STEPS])
def test_a_signal_writes_the_state_and_says_the_step(uninterrupted, tmp_path, monkeypatch, step, signal_number):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        call_in_step(patch, step, lambda _: os.kill(os.getpid(), signal_number))
        with pytest.raises(TrainingError, match=f"stopped by a signal at step {step} of {STEPS}; run again to resume"):
            train(tmp_path, checkpoint_seconds=1000)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert [path.name[:13] for path in checkpoints(tmp_path)] == [f"step-{step:08d}"]
    assert_identical(train(tmp_path), uninterrupted)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_setting_trains_and_resumes_exactly(tmp_path, monkeypatch, values):
    whole = train(**values)
    assert whole.steps == STEPS
    assert np.isfinite(whole.history.to_numpy()).all()
    assert all(tensor.isfinite().all() for tensor in whole.weights.values())
    with monkeypatch.context() as patch:
        call_in_step(patch, 11, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(TrainingError, match="stopped"):
            train(tmp_path, **values)
    assert_identical(train(tmp_path, **values), whole)


def test_random_numbers_elsewhere_do_not_matter(uninterrupted):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert_identical(train(), uninterrupted)


def test_the_seed_matters(uninterrupted):
    assert not torch.equal(train(seed=1).weights["dense.0.weight"], uninterrupted.weights["dense.0.weight"])


# What a training leaves behind.


def test_history_samples_and_steps(uninterrupted):
    history = uninterrupted.history
    assert history.columns.tolist() == [
        "step",
        "epoch",
        "loss_d",
        "penalty",
        "d_real",
        "d_fake",
        "loss_g",
        "augment_probability",
        "images_per_second",
    ]
    assert history.augment_probability.between(0, 1).all()
    assert history.augment_probability.nunique() > 2
    assert history.step.tolist() == list(range(3, STEPS + 1, 3))
    assert history.epoch.tolist() == list(range(1, 9))
    assert (history.images_per_second > 0).all()
    assert uninterrupted.samples.shape == (4, adversarial.SAMPLE_COLUMNS, 1, 32, 32)
    assert uninterrupted.samples.dtype == np.uint8


def test_the_last_stretch_may_be_shorter():
    trained = train(epochs=9, batch_size=5)  # 108 / 5 -> 22 steps, in stretches of 2; then 26 in stretches of 3
    assert trained.history.step.tolist() == list(range(2, 23, 2))
    assert train(epochs=11, batch_size=5).history.step.tolist() == [*range(3, 25, 3), 26]


def test_an_epoch_is_a_pass_over_the_images_whatever_the_discriminators_steps():
    trained = train(discriminator_steps=3, epochs=3)
    assert trained.steps == 3
    assert trained.history.epoch.iloc[-1] == 3


def test_a_cohort_smaller_than_a_batch():
    trained = train(images=IMAGES[:3], batch_size=8, epochs=8, sample_rows=8)
    assert trained.steps == 3
    assert len(trained.samples) == 3  # moments that fall together are drawn once


def test_the_generator_learns_the_shape_of_the_data():
    images = np.full((16, 1, 32, 32), 0.8, np.float32)
    images[:, :, 8:20, 10:22] = 0.1
    images += np.random.default_rng(0).normal(0, 0.02, images.shape).astype(np.float32)
    trained = train(
        **NO_AUGMENTATION,
        images=images.clip(0, 1),
        base_width=4,
        batch_size=8,
        epochs=40,
        sample_rows=8,
        learning_rate_generator=1e-2,
        learning_rate_discriminator=5e-3,
        gradient_penalty={"kind": "r1", "weight": 1.0},
        noisy_labels=0,
        ema_decay=0.9,
    )
    mean_images = trained.samples.mean(axis=1).reshape(8, -1)
    likeness = [np.corrcoef(mean_image, images.mean(axis=0).ravel())[0, 1] for mean_image in mean_images]
    assert likeness[0] < 0.3
    assert likeness[-1] > 0.6


# Augmentation.

WHITE = np.ones((12, 1, 32, 32), np.float32)


def images_shown(monkeypatch, images=WHITE, **values):
    """What the losses of D (real, fake) and of G (fake) are given at the first step."""
    shown = {}
    for name in ("discriminator_losses", "generator_losses"):
        whole = getattr(adversarial.AdversarialTraining, name)

        def watched(training, *images, name=name, whole=whole):
            shown.setdefault(name, images)
            return whole(training, *images)

        monkeypatch.setattr(adversarial.AdversarialTraining, name, watched)
    train(images=images, **NO_AUGMENTATION | {"epochs": 1} | values)
    return *shown["discriminator_losses"], *shown["generator_losses"]


def test_without_augmentation_the_images_are_shown_as_they_are(monkeypatch):
    low, high = dcgan32.OUTPUT_RANGE
    real, fake, fake_for_g = images_shown(monkeypatch, IMAGES)
    expected = torch.from_numpy(IMAGES)[ShuffledBatches(12, seed=0).batch(0, 4)] * (high - low) + low
    assert torch.equal(real, expected)
    assert torch.equal(fake, fake_for_g)


def test_real_and_generated_images_are_augmented_for_both_networks(monkeypatch):
    low, _ = dcgan32.OUTPUT_RANGE
    shown = images_shown(monkeypatch, diffaugment={"kinds": ["cutout"]})
    for images in shown:
        removed = (images == low).sum(dim=(1, 2, 3))
        assert ((removed >= 8 * 8) & (removed <= 16 * 16)).all()
    _, fake, fake_for_g = shown
    assert not torch.equal(fake, fake_for_g)
    assert fake_for_g.requires_grad
    assert not fake.requires_grad


def test_a_probability_of_nothing_shows_the_images_as_they_are(monkeypatch):
    real, *_ = images_shown(monkeypatch, diffaugment={"kinds": ["cutout", "color", "translation"], "probability": 0})
    assert (real == dcgan32.OUTPUT_RANGE[1]).all()


def test_crop_and_flip_are_of_the_real_images(monkeypatch):
    ramp = np.linspace(0, 1, 32, dtype=np.float32) * WHITE
    slope = 2 / 31
    real, *_ = images_shown(monkeypatch, ramp, batch_size=12, random_crop=[0.25, 0.5], horizontal_flip=True)
    slopes = real[:, 0, 16, 5:-5].diff().mean(1)
    # A rectangle of this area is between sqrt(0.25 * 3/4) and sqrt(0.5 * 4/3) of the edge wide.
    assert (slopes.abs() > slope * 0.43).all()
    assert (slopes.abs() < slope * 0.82).all()
    assert slopes.min() < 0 < slopes.max()


@pytest.mark.parametrize(("sign", "inverted", "rises"), [(1, False, True), (1, True, False), (-1, True, True)])
def test_the_probability_rises_when_d_knows_its_training_images(monkeypatch, sign, inverted, rises):
    whole = adversarial.AdversarialTraining.discriminator_losses

    def always_sure(training, real, fake):
        return whole(training, real, fake) | {"sign_real": torch.tensor(float(sign))}

    monkeypatch.setattr(adversarial.AdversarialTraining, "discriminator_losses", always_sure)
    adaptive = {"kinds": ["cutout"], "probability": 0.5, "adaptive_target": 0.6, "adaptive_images": 400}
    history = train(label_inversion=inverted, diffaugment=adaptive).history
    # By 4 minibatches of 4 images of 400 at a time, and a row is the mean of three steps.
    moved = np.array([step // 4 * 16 / 400 for step in range(1, STEPS + 1)]).reshape(-1, 3).mean(1)
    np.testing.assert_allclose(history.augment_probability, 0.5 + moved if rises else 0.5 - moved, atol=1e-6)


def test_only_an_adaptive_probability_is_in_the_history():
    assert "augment_probability" not in train(epochs=1, diffaugment={"kinds": ["color"]}).history


# What goes wrong.


def test_a_loss_that_runs_away_is_named_and_the_last_good_state_kept(tmp_path, monkeypatch):
    whole = adversarial.AdversarialTraining.generator_losses

    def runs_away(training, fake):
        losses = whole(training, fake)
        return losses if training.step_count < 9 else {"loss_g": losses["loss_g"] * torch.inf}

    monkeypatch.setattr(adversarial.AdversarialTraining, "generator_losses", runs_away)
    with pytest.raises(TrainingError, match=r"^step 12: .*loss_g.* is not a number; lower the learning rates"):
        train(tmp_path)
    assert [path.name[:13] for path in checkpoints(tmp_path)] == ["step-00000006", "step-00000009"]


def test_nan_in_the_images_is_named_and_no_such_state_kept(tmp_path):
    images = IMAGES.copy()
    images[7, 0, 3, 3] = np.nan
    with pytest.raises(TrainingError, match=r"^step 3: .*loss_d.* is not a number") as error:
        train(tmp_path, images)
    assert "\n" not in str(error.value)
    assert not checkpoints(tmp_path)


def test_a_signal_keeps_no_broken_state(tmp_path, monkeypatch):
    images = IMAGES.copy()
    images[:] = np.nan
    call_in_step(monkeypatch, 2, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingError, match="stopped by a signal"):
        train(tmp_path, images)
    assert not checkpoints(tmp_path)


def test_a_collapsed_generator_is_told(monkeypatch):
    whole = dcgan32.Generator.forward
    monkeypatch.setattr(
        dcgan32.Generator, "forward", lambda self, latent: whole(self, latent)[:1].expand(len(latent), -1, -1, -1)
    )
    with pytest.raises(TrainingError, match=r"^step 9: the generator collapsed: .* differ .* by 0\.00% .*try another"):
        train()


def test_a_generator_that_recovers_has_not_collapsed(monkeypatch):
    whole, looks = dcgan32.Generator.forward, Counter()

    def forward(self, latent):
        images = whole(self, latent)
        if not self.training:
            return images
        looks["steps"] += 1
        return images if looks["steps"] % 9 == 0 else images[:1].expand(len(latent), -1, -1, -1)

    monkeypatch.setattr(dcgan32.Generator, "forward", forward)
    assert train().steps == STEPS


def test_images_all_alike_are_no_collapse():
    train(images=np.full((12, 1, 32, 32), 0.5, np.float32))


# Validation: which weights are kept.


def measured(distances, diversity=1.0, error=0.0):
    """A measure that finds these distances, one after the other, and the numbers of images that it was shown."""
    shown, waiting = [], iter(distances)

    def measure(images):
        assert images.min() >= 0
        assert images.max() <= 1
        shown.append(images.shape)
        return next(waiting), diversity, error

    return measure, shown


def averages(monkeypatch):
    """Step -> the averaged generator's weights after it."""
    found, step = {}, adversarial.AdversarialTraining.step

    def watched(training):
        step(training)
        found[training.step_count] = {name: each.clone() for name, each in training.weights().items()}

    monkeypatch.setattr(adversarial.AdversarialTraining, "step", watched)
    return found


@pytest.mark.parametrize(
    ("distances", "error", "best"),
    [
        ((0.4, 0.2, 0.3, 0.25), 0.0, 12),
        ((4, 3, 2, 1), 0.0, STEPS),
        ((1, 2, 3, 4), 0.0, 6),
        ((0.4, 0.2, 0.3, 0.2), 0.0, STEPS),  # as near, and later
        ((0.4, 0.2, 0.29, 0.35), 0.05, 18),  # not told from the nearest
        ((0.2, 0.29, 0.35, 0.45), 0.05, 12),  # from the nearest, not from the one before
        ((0.2, 0.5, 0.1, 0.5), np.nan, 18),  # whose error is not known
    ],
)
def test_the_last_weights_as_near_as_the_nearest_are_kept(monkeypatch, distances, error, best):
    after = averages(monkeypatch)
    train()
    last_weights = after[best]
    measure, shown = measured(distances, error=error)
    trained = train(validate=measure, validations=4)
    assert all(torch.equal(tensor, last_weights[name]) for name, tensor in trained.weights.items())
    assert shown == 4 * [(adversarial.VALIDATION_IMAGES, 1, 32, 32)]
    history = trained.history.set_index("step")
    assert history.validation_distance.dropna().to_dict() == dict(zip((6, 12, 18, 24), distances, strict=True))
    assert history.diversity.notna().tolist() == history.validation_distance.notna().tolist()
    assert history.index[history.kept].tolist() == [best]


def test_validation_changes_nothing_of_the_training(uninterrupted):
    trained = train(validate=measured((4, 3, 2, 1))[0], validations=4)
    assert all(torch.equal(tensor, uninterrupted.weights[name]) for name, tensor in trained.weights.items())
    history = trained.history[uninterrupted.history.columns].drop(columns="images_per_second")
    pd.testing.assert_frame_equal(history, uninterrupted.history.drop(columns="images_per_second"), check_exact=True)


def test_what_was_kept_before_a_stop_is_kept(tmp_path, monkeypatch):
    whole = train(validate=measured((0.4, 0.1, 0.3, 0.2))[0], validations=4)
    with monkeypatch.context() as patch:
        call_in_step(patch, 16, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(TrainingError, match="stopped"):
            train(tmp_path, validate=measured((0.4, 0.1))[0], validations=4)
    assert_identical(train(tmp_path, validate=measured((0.3, 0.2))[0], validations=4), whole)


def test_the_last_stretch_is_validated():
    measure, shown = measured((0.4, 0.3, 0.2, 0.1))
    trained = train(validate=measure, validations=3, epochs=11, batch_size=5)  # 26 steps, in stretches of 3
    assert len(shown) == 3
    assert trained.history.step[trained.history.validation_distance.notna()].tolist() == [9, 18, 26]


@pytest.mark.parametrize(("diversity", "warned"), [(0.3, [12, 18, 24]), (0.6, [])])
def test_a_generator_that_may_be_collapsing_is_told_early(caplog, monkeypatch, diversity, warned):
    monkeypatch.setattr(adversarial.AdversarialTraining, "_is_late", lambda training: training.step_count > 6)
    train(validate=measured((1, 2, 3, 4), diversity)[0], validations=4)
    told = [record.getMessage() for record in caplog.records if "collapsing" in record.getMessage()]
    expected = "the generator's images differ from each other by 30% of what real ones do: it may be collapsing"
    assert told == [f"step {step}: {expected}" for step in warned]


def test_images_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"^config: image_size: found 16, allowed with dcgan32: 32$"):
        train(images=IMAGES[:, :, :16, :16])


@pytest.mark.parametrize(("batch_size", "gpus"), [(4, 3), (4, 4)])
def test_a_batch_that_cannot_be_shared_is_refused(batch_size, gpus):
    fabric = SimpleNamespace(world_size=gpus)
    expected = f"batch_size: found {batch_size}, allowed: a multiple of the {gpus} GPUs, at least 2 for each"
    with pytest.raises(TrainingError, match=f"^{re.escape(expected)}$"):
        train_gan(IMAGES, ImageGan.of_kind(VALUES | {"batch_size": batch_size}), fabric)


def test_half_precision_without_a_gpu_is_refused():
    expected = "precision: found '16-mixed' without a GPU, allowed: 32-true | bf16-mixed"
    with pytest.raises(TrainingError, match=f"^{re.escape(expected)}$"):
        make_fabric("16-mixed", 1, "cpu")


# A network that grows: 12 images, 30 epochs, 120 images for each of 4, 8 and 16 pixels, half of them in a fade.

GROWING = NO_AUGMENTATION | {
    "model": "pggan",
    "base_width": 4,
    "loss": "wasserstein",
    "gradient_penalty": {"kind": "wgan-gp", "weight": 10.0},
    "drift": 0.001,
    "beta1": 0.0,
    "beta2": 0.99,
    "epochs": 30,
    "noisy_labels": 0.0,
    "progressive": {"batch_sizes": {4: 12, 8: 6}},
}
SMALL = IMAGES[:, :, ::2, ::2].copy()


@pytest.fixture(scope="module")
def grown():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "HISTORY_ROWS", 8)
        yield train(images=SMALL, **GROWING)


def test_a_growing_network_passes_through_its_resolutions(monkeypatch, grown):
    seen = []
    step = adversarial.AdversarialTraining.discriminator_losses

    def look(training, real, fake):
        assert real.shape == fake.shape
        seen.append((*real.shape[::3], training.generator.alpha, training.discriminator.alpha))
        return step(training, real, fake)

    monkeypatch.setattr(adversarial.AdversarialTraining, "discriminator_losses", look)
    trained = train(images=SMALL, **GROWING)
    # Edge, images of a batch: 10 steps of 12, 20 of 6, 30 of 4.
    assert Counter((edge, batch) for batch, edge, *_ in seen) == {(4, 12): 10, (8, 6): 20, (16, 4): 30}
    assert trained.steps == len(seen) == 60
    fade = [alpha for _, edge, alpha, _ in seen if edge == 16]
    assert fade == pytest.approx([4 * k / 60 for k in range(15)] + [1.0] * 15)
    assert all(of_g == of_d for *_, of_g, of_d in seen)
    assert trained.history.epoch.iloc[-1] == pytest.approx(30)
    # Rows of samples of smaller images are shown as large as the others.
    assert trained.samples.shape == (4, 8, 1, 16, 16)
    first = trained.samples[0].reshape(8, 1, 8, 2, 8, 2)  # of step 15
    assert (first == first[:, :, :, :1, :, :1]).all()
    assert_identical(trained, grown)


# After the 10th step 8 pixels begin, after the 30th 16; the 13th and 37th lie in fades.
@pytest.mark.parametrize("step", [10, 13, 20, 30, 37])
def test_resumes_exactly_in_the_middle_of_a_fade(tmp_path, grown, step):
    with pytest.MonkeyPatch.context() as patch:
        take, taken = adversarial.AdversarialTraining.step, Counter()

        def stop_after(training):
            take(training)
            taken["steps"] += 1
            if taken["steps"] == step:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(adversarial.AdversarialTraining, "step", stop_after)
        with pytest.raises(TrainingError, match=f"step {step} of 60"):
            train(tmp_path, images=SMALL, **GROWING)
    assert_identical(train(tmp_path, images=SMALL, **GROWING), grown)


def test_a_new_resolution_begins_with_a_fresh_optimiser(monkeypatch):
    first_moments = {}
    step = adversarial.AdversarialTraining.step

    def look(training):
        before = [len(optimizer.optimizer.state) for optimizer in (training.optimizer_g, training.optimizer_d)]
        level = training.generator.level
        step(training)
        steps = {int(state["step"]) for state in training.optimizer_g.optimizer.state.values()}
        first_moments[training.step_count] = (level != training.generator.level, min(before), max(steps))

    monkeypatch.setattr(adversarial.AdversarialTraining, "step", look)
    train(images=SMALL, **GROWING)
    assert [first_moments[step][2] for step in (10, 11, 30, 31, 60)] == [10, 1, 20, 1, 30]


def test_the_weights_of_a_growing_network_draw_at_full_size(grown):
    from scangan.models.pggan import Generator

    generator = Generator(base_width=4, channels=1, image_size=16)
    generator.load_state_dict(grown.weights)
    assert (generator.level, generator.alpha) == (2, 1.0)
    drawn = generator(generator.draw_latent(2, torch.Generator().manual_seed(0)))
    assert drawn.shape == (2, 1, 16, 16)


def test_drift_is_the_mean_square_of_real_scores(monkeypatch):
    shown = []
    losses = adversarial.AdversarialTraining.discriminator_losses

    def keep(training, real, fake):
        found = losses(training, real, fake)
        with torch.no_grad():
            shown.append((found["penalty"].item(), training.discriminator(real).square().mean().item()))
        return found

    monkeypatch.setattr(adversarial.AdversarialTraining, "discriminator_losses", keep)
    train(images=SMALL, **GROWING | {"gradient_penalty": {}, "drift": 0.5, "epochs": 3})
    for penalty, square in shown:
        assert penalty == pytest.approx(0.5 * square, rel=1e-4)


# The order of the images.


def order(batches, batch_size, count):
    return torch.cat([batches.batch(k * batch_size, batch_size) for k in range(count)]).tolist()


@pytest.mark.parametrize(("images", "batch_size"), [(12, 4), (10, 4), (7, 3), (3, 8), (1, 2), (5, 23)])
def test_each_image_once_an_epoch(images, batch_size):
    drawn = order(ShuffledBatches(images, seed=0), batch_size, images)
    epochs = [drawn[start : start + images] for start in range(0, len(drawn), images)]
    assert len(epochs) == batch_size
    assert all(sorted(epoch) == list(range(images)) for epoch in epochs)
    if images > 4:
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_is_a_function_of_the_images_shown_before():
    batches = ShuffledBatches(10, seed=3)
    in_order = [batches.batch(4 * k, 4) for k in range(40)]
    for k in (39, 0, 17, 5):
        assert torch.equal(batches.batch(4 * k, 4), in_order[k])
        assert torch.equal(ShuffledBatches(10, seed=3).batch(4 * k, 4), in_order[k])
    assert order(ShuffledBatches(10, seed=4), 4, 5) != order(ShuffledBatches(10, seed=3), 4, 5)


def test_batches_of_another_size_go_on_in_the_same_order():
    small = order(ShuffledBatches(10, seed=0), 3, 8)
    batches = ShuffledBatches(10, seed=0)
    assert torch.cat([batches.batch(0, 4), batches.batch(4, 4), batches.batch(8, 16)]).tolist() == small


@pytest.mark.parametrize(("images", "world_size"), [(10, 2), (10, 4), (3, 4)])
def test_processes_share_a_batch(images, world_size):
    whole = ShuffledBatches(images, seed=0)
    ranks = [ShuffledBatches(images, 0, rank, world_size) for rank in range(world_size)]
    for k in range(0, 48, 8):
        shares = [rank.batch(k, 8) for rank in ranks]
        assert all(len(share) == 8 // world_size for share in shares)
        assert torch.equal(torch.stack(shares, 1).flatten(), whole.batch(k, 8))


# Several processes, each with a share of every batch.

TWO_PROCESSES = """
import os, signal, sys
from pathlib import Path

import torch

from test_adversarial import IMAGES, VALUES, ImageGan, call_in_step
from scangan.errors import TrainingError
from scangan.training import adversarial
from scangan.training.adversarial import AdversarialTraining, make_fabric, train_gan

torch.set_num_threads(1)
adversarial.HISTORY_ROWS = 8
folder, trainings = Path(sys.argv[1]), []
fabric = make_fabric("32-true", devices=2, accelerator="cpu")
initialise = AdversarialTraining.__init__


def remember(self, *arguments):
    initialise(self, *arguments)
    trainings.append(self)


AdversarialTraining.__init__ = remember
settings = ImageGan.of_kind(VALUES)
whole = train_gan(IMAGES, settings, fabric)
step = AdversarialTraining.step


def stopped(training):
    step(training)
    if training.step_count == 10 and fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)


AdversarialTraining.step = stopped
try:
    train_gan(IMAGES, settings, fabric, folder / "resume")
except TrainingError as error:
    message = str(error)
AdversarialTraining.step = step
for path in [path for path in (folder / "resume").glob("step-*12.*") if fabric.global_rank == 0]:
    os.truncate(path, 1000)
fabric.barrier()
resumed = train_gan(IMAGES, settings, fabric, folder / "resume")
torch.save(
    {
        "networks": [dict(one.named_parameters()) for one in (trainings[0].generator, trainings[0].discriminator)],
        "message": message,
        "whole": [whole.weights, whole.history.to_dict("list")],
        "resumed": [resumed.weights, resumed.history.to_dict("list")],
    },
    folder / f"rank{fabric.global_rank}.pt",
)
"""


def test_two_processes_train_one_network_and_resume_it(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    for mine, theirs in zip(first["networks"], second["networks"], strict=True):
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    # Rank 1 was asked to stop within a stretch; both did at its end, and fell back from a damaged checkpoint.
    assert first["message"] == second["message"]
    assert "stopped by a signal at step 12" in first["message"]
    (weights, history), (weights_resumed, history_resumed) = first["whole"], first["resumed"]
    assert all(torch.equal(tensor, weights_resumed[name]) for name, tensor in weights.items())
    for name in ("loss_d", "loss_g", "penalty", "augment_probability"):
        assert np.isfinite(history[name]).all()
        assert history[name] == history_resumed[name] == second["whole"][1][name]


def test_who_watches_a_training_changes_nothing(uninterrupted, monkeypatch):
    monkeypatch.setattr(adversarial, "WATCH_SECONDS", 0.0)
    seen = []

    def watch(training, last):
        drawn, samples = training.draw_for_validation(), training.samples_so_far()
        seen.append((training.step_count, last, drawn.shape[1:], len(samples) - len(training.samples)))

    settings = ImageGan.of_kind(VALUES)
    assert_identical(train_gan(IMAGES, settings, make_fabric("32-true", 1, "cpu"), watch=watch), uninterrupted)
    assert seen == [*((step, False, (1, 32, 32), 1) for step in range(3, STEPS + 1, 3)), (STEPS, True, (1, 32, 32), 1)]


@pytest.mark.parametrize(
    ("distances", "is_said"),
    [
        ([0.8] * 8, True),  # as far as at first
        ([0.8, 0.6, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3], False),  # still far, but nearer and nearer
        ([0.2] * 8, False),  # near from the first
        ([0.8, 0.75, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1], True),  # late: at a quarter it had not learnt
    ],
)
def test_a_generator_that_does_not_learn_is_said_once_and_early(distances, is_said, caplog):
    found = iter(distances)
    train(validate=lambda images: (next(found), 1.0, 0.0), validations=8)
    said = [record.getMessage() for record in caplog.records if "does not learn" in record.getMessage()]
    assert [message.split(":")[0] for message in said] == ["step 6 of 24"] * is_said
