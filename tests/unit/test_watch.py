"""What can be seen of a training while it runs."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.report import watch
from scangan.report.watch import Watch, watch_job

HISTORY = [
    {"step": step, "epoch": step / 4, "loss_d": 1.0 / step, "loss_g": 2.0, "penalty": 0.0, "images_per_second": 9.0}
    for step in (3, 6, 9)
]


class Training:
    """What a watch asks of a training."""

    def __init__(self, history=HISTORY):
        self.history, self.step_count, self.said = history, 9, []

    def samples_so_far(self):
        return np.full((2, 8, 1, 32, 32), 128, np.uint8)

    def draw_for_validation(self):
        return np.zeros((4, 1, 32, 32), np.float32)

    def say_if_not_learning(self, distances):
        self.said.append(distances)


def test_losses_and_images_appear_while_a_network_trains(tmp_path):
    seen, training = Watch(tmp_path / "resume", "sick GAN", lambda images: (0.4, 1.0)), Training()
    seen(training)
    seen(Training([*HISTORY, HISTORY[-1] | {"step": 12}]))
    table = pd.read_csv(tmp_path / "resume/history.csv")
    assert table["step"].tolist() == [3, 6, 9, 12]
    assert table["validation_distance"].fillna(-1).tolist() == [-1, -1, 0.4, 0.4]  # when somebody looked
    assert training.said == [[0.4]]
    with Image.open(tmp_path / "resume/progress.png") as progress, Image.open(tmp_path / "resume/samples.png") as grid:
        assert progress.size == (640, 540)
        assert grid.size == (8 * (96 + 2), 2 * (96 + 2))


def test_the_trainings_own_referee_is_shown(tmp_path):
    Watch(tmp_path, "sick GAN")(Training([row | {"validation_distance": 0.3} for row in HISTORY]))
    assert pd.read_csv(tmp_path / "history.csv")["validation_distance"].tolist() == [0.3] * 3


def test_pictures_that_cannot_be_written_stop_nothing(tmp_path, caplog):
    (tmp_path / "taken").write_text("no folder")
    Watch(tmp_path / "taken", "sick GAN")(Training())
    assert "taken: cannot be written: File exists" in caplog.text


def job(tmp_path, tensorboard):
    output = SimpleNamespace(weights=str(tmp_path / "mine/gan/g/seed0/sick/generator.safetensors"))
    return SimpleNamespace(config={"results": str(tmp_path), "tensorboard": tensorboard}, output=output)


class Writer:
    def __init__(self, folder):
        self.folder, self.scalars, self.images, self.closed = folder, [], [], False

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def add_images(self, name, images, step):
        self.images.append((name, images.shape, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_tensorboard_gets_every_number_once(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "has_tensorboard", lambda: True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    seen = watch_job(job(tmp_path, True), tmp_path / "resume", "sick GAN")
    assert seen.writer.folder == str(tmp_path / "tensorboard/mine/gan/g/seed0/sick")
    seen(Training(HISTORY[:2]))
    seen(Training(), True)
    assert [step for name, _, step in seen.writer.scalars if name == "loss_g"] == [3, 6, 9]
    assert seen.writer.images[0] == ("samples", (8, 1, 32, 32), 9)
    assert seen.writer.closed


@pytest.mark.parametrize("asked", [True, False])
def test_without_tensorboard_or_unasked_nothing_is_logged(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(watch, "has_tensorboard", lambda: not asked)
    assert watch_job(job(tmp_path, asked), tmp_path / "resume", "sick GAN").writer is None
