"""How long a step of each network takes on this machine: some seconds for each, kept in a file.

A network that is too large for that is timed narrower, with fewer images a step, and scaled by the floating-point
operations of a step, which are counted on torch's device without memory.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from scangan.config import Classifier, CtSgan, Gan3d, ImageGan, NoduleNetwork, ProjectedGan, Voi, VolumeGan
from scangan.device import compute_device
from scangan.files import atomic
from scangan.forecast.paces import FILE, Pace, Paces
from scangan.models.backbones import build_classifier
from scangan.models.catalogue import build, find_model, network_options
from scangan.models.squeezenet3d import SqueezeNet3d
from scangan.training.adversarial import AdversarialTraining, ImageTraining, ProjectedTraining, make_fabric
from scangan.training.nodules import NoduleTraining, Pairs, nodule_network_options
from scangan.training.progressive import Schedule
from scangan.training.volumes import VolumeTraining, make_slab_training

log = logging.getLogger(__name__)

SECONDS, STEPS = 2.0, 20  # for each network, at most, after one step that is not counted
LARGEST = {"cpu": 2e11, "cuda": 1e15}  # operations of a step that is timed
MIDDLE = 2  # of the levels of a network that grows, 16 pixels: what is timed
WINDOW = (-1000.0, 400.0)
SHOWN = 256  # training images of a network that grows, whose number does not change the mean of its steps
# What a job loads before it begins, with networks and without.
LOADED = {
    "start": "import pandas, zarr, matplotlib.figure, scangan.data.store, scangan.report.tables",
    "start_torch": "import pandas, zarr, scangan.data.store, scangan.training.adversarial, scangan.metrics.features",
}

# How a network is made smaller until a step can be timed: the first that is small enough.
SMALLER: tuple[dict[str, int], ...] = (
    {},
    {"batch_size": 2},
    {"batch_size": 2, "base_width": 64},
    {"batch_size": 2, "base_width": 16},
)
# A training on the device of a fabric, with some settings replaced.
Make = Callable[[Any, dict[str, int]], AdversarialTraining]


class Calibration(Paces):
    """Paces on this machine; those that are not in the file are measured, and written there."""

    def __init__(self, threads: int, file: Path = FILE) -> None:
        super().__init__(file)
        self.device = compute_device()
        torch.set_num_threads(threads)
        # Another machine, another torch, another number of threads: all is measured again.
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else f"{os.cpu_count()} cores"
        machine = f"{name}, torch {torch.__version__}, {threads} threads"
        if self.machine != machine:
            self.machine, self.paces = machine, {}

    def _known(self, name: str, kind: str, *told: Any) -> Pace:
        is_new = name not in self.paces
        found = super()._known(name, kind, *told)
        if is_new:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            kept = {"machine": self.machine, "paces": {key: asdict(pace) for key, pace in self.paces.items()}}
            with atomic(self.file) as path:
                path.write_text(json.dumps(kept, indent=1))
        return found

    def _measure(self, kind: str, *told: Any) -> Pace:
        match kind:
            case "start":
                return Pace(_start_seconds(LOADED["start_torch" if told[0] else "start"]))
            case "features":
                return Pace(_feature_seconds(self.device))
            case "classifier":
                settings, channels, edge = told
                return _classifier_pace(settings, channels, edge, self.device)
            case "image_gan":
                make, precision = _image_game(*told), told[0].precision
            case "volume_gan":
                make, precision = _volume_game(*told), told[0].precision
            case _:
                make, precision = _nodule_game(*told), told[1].precision
        return _training_pace(make, precision, self.device)


def _training_pace(make: Make, precision: str, device: torch.device) -> Pace:
    """Of a training's steps; a network that grows is timed at one of its first edges."""
    wanted = _mean_operations(make)
    smaller = next((each for each in SMALLER if _first_operations(make, each) <= LARGEST[device.type]), SMALLER[-1])
    if device.type == "cpu" and precision == "16-mixed":
        precision = "32-true"
    training = make(make_fabric(precision, 1), smaller)
    _go_to_a_middle_level(training)
    with _Operations() as counter:
        training.step()
    return Pace(_seconds_of(training.step, device) * wanted / counter.total, bool(smaller))


def _classifier_pace(settings: Classifier, channels: int, edge: int, device: torch.device) -> Pace:
    with _Operations() as counter:
        _classifier_step(settings, channels, edge, torch.device("meta"))()
    wanted = counter.total
    small = wanted > LARGEST[device.type]
    step = _classifier_step(settings, channels, edge, device, small)
    with _Operations() as counter:
        step()
    return Pace(_seconds_of(step, device) * wanted / counter.total, small)


def _classifier_step(
    settings: Classifier, channels: int, edge: int, where: torch.device, small: bool = False
) -> Callable[[], None]:
    """A step of a classifier, or of a smaller one, with images of zeros."""
    batch = 2 if small else settings.batch_size
    with where:
        if settings.backbone == "squeezenet3d":
            width = 16 if small else (settings.base_width or 64)
            model: nn.Module = SqueezeNet3d(True, settings.dropout, stem=settings.stem, base_width=width)
            images = torch.zeros(batch, 1, edge, edge, edge)
        else:
            known = "efficientnet-lite0" if settings.network_of_images == "efficientnet-lite0" else settings.backbone
            model = build_classifier(
                known, "none", settings.stem, channels, edge, settings.dropout, settings.centre_crop
            )
            images = torch.zeros(batch, channels, edge, edge)
    last = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    images = images.contiguous(memory_format=last)
    model = model.train().to(memory_format=last)
    optimizer = None if where.type == "meta" else torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        model(images).sum().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return step


def _first_operations(make: Make, smaller: dict[str, int]) -> int:
    """Floating-point operations of the step that would be timed."""
    with patch.object(torch.optim, "Adam", _no_adam):
        training = make(_MetaFabric(), smaller)
        _go_to_a_middle_level(training)
        with _Operations() as counter:
            training.step()
    return counter.total


def _mean_operations(make: Make) -> float:
    """Floating-point operations of a step; of a network that grows the mean over its training."""
    with patch.object(torch.optim, "Adam", _no_adam):
        training = make(_MetaFabric(), {})
        steps = {}
        for level, step in _levels(training.schedule):
            training.step_count = step
            with _Operations() as counter:
                training.step()
            steps[level] = counter.total
    if not isinstance(training.schedule, Schedule):
        return steps[None]
    ends = [*[step for _, step in _levels(training.schedule)][1:], training.steps_in_all]
    starts = [0, *ends[:-1]]
    return sum(n * (end - start) for n, start, end in zip(steps.values(), starts, ends, strict=True)) / ends[-1]


def _levels(schedule: Any) -> Iterator[tuple[int | None, int]]:
    """Each level of a network that grows, and a step at which it has it; one level, and the first step, of others."""
    if not isinstance(schedule, Schedule):
        yield None, 0
        return
    found: set[int | None] = set()
    for step in np.linspace(0, schedule.steps_in_all - 1, 400, dtype=int).tolist():
        level = schedule.at(schedule.images_at(step)).level
        if level not in found:
            found.add(level)
            yield level, step


def _go_to_a_middle_level(training: AdversarialTraining) -> None:
    levels = list(_levels(training.schedule))
    training.step_count = levels[min(MIDDLE, len(levels) - 1)][1]


def _seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Of one core, or of the GPU: the mean of some steps."""
    clock = time.process_time if device.type == "cpu" else _gpu_time
    began, steps = clock(), 0
    while steps < STEPS and (steps == 0 or clock() - began < SECONDS):
        step()
        steps += 1
    return (clock() - began) / steps


def _gpu_time() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _start_seconds(imports: str) -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", imports], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (used.ru_utime + used.ru_stime)


def _feature_seconds(device: torch.device) -> float:
    from scangan.metrics.features import extract

    images = np.zeros((16, 1, 64, 64), np.float32)
    # The network is built anew for each call: the difference of two is that of their images.
    of_four = _seconds_of(lambda: extract(images[:4], "efficientnet-lite0"), device)
    of_all = _seconds_of(lambda: extract(images, "efficientnet-lite0"), device)
    return max(of_all - of_four, 1e-4) / (len(images) - 4)


# Networks


def _image_game(settings: ImageGan, channels: int, edge: int) -> Make:
    def make(fabric: Any, smaller: dict[str, int]) -> AdversarialTraining:
        told = _with(settings, smaller)
        generator, discriminator = build(told.model, channels, edge, **network_options(told))
        kind = ProjectedTraining if isinstance(told, ProjectedGan) else ImageTraining
        # Pixels of no value: what they hold decides nothing of the time.
        shown = torch.zeros(1, channels, edge, edge).expand(max(SHOWN, told.batch_size), -1, -1, -1)
        return kind(fabric, generator, discriminator, shown, find_model(told.model).OUTPUT_RANGE, told)

    return make


def _volume_game(settings: VolumeGan, edge: int) -> Make:
    def make(fabric: Any, smaller: dict[str, int]) -> AdversarialTraining:
        told = _with(settings, smaller)
        networks = build(told.model, 1, edge, **network_options(told))
        if isinstance(told, CtSgan):
            volumes = torch.zeros(1, edge, edge, edge, dtype=torch.int16).expand(told.batch_size, -1, -1, -1)
            return make_slab_training(fabric, *networks, volumes, WINDOW, told)
        assert isinstance(told, Gan3d)
        shown = torch.zeros(1, 1, edge, edge, edge).expand(told.batch_size, -1, -1, -1, -1)
        return VolumeTraining(fabric, *networks, shown, find_model(told.model).OUTPUT_RANGE, told)

    return make


def _nodule_game(kind: str, settings: NoduleNetwork, voi: Voi) -> Make:
    def make(fabric: Any, smaller: dict[str, int]) -> AdversarialTraining:
        told = _with(settings, smaller)
        networks = build("nodule_cgan", 1, voi.size, **nodule_network_options(kind, told, voi))
        vois = np.zeros((told.batch_size, *[voi.size] * 3), np.float32)
        radii_mm = np.full(len(vois), sum(voi.diameters_mm) / 4, np.float32)
        healthy = (vois, radii_mm, np.ones_like(vois)) if kind == "injector" else ()
        return NoduleTraining(fabric, *networks, Pairs(vois, vois, radii_mm, *healthy), told, voi)

    return make


def _with(settings: Any, smaller: dict[str, int]) -> Any:
    """The settings with fewer images a step, and a narrower network."""
    least = {key: min(value, getattr(settings, key) or value) for key, value in smaller.items()}
    return settings.model_copy(update=least)


class _Operations(TorchDispatchMode):
    """Counts floating-point operations; torch's own counter cannot see through the gradients of a penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **kwargs, out_val=found)
        return found


class _MetaFabric:
    """What the engine asks of Lightning's Fabric, on the device without memory."""

    device = torch.device("meta")
    global_rank, world_size, is_global_zero = 0, 1, True
    strategy = SimpleNamespace(precision=SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None))

    def to_device(self, network: nn.Module) -> nn.Module:
        return network.to(self.device)

    def setup_optimizers(self, optimizer: Any) -> Any:
        optimizer.optimizer = optimizer
        return optimizer

    def autocast(self) -> Any:
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def all_reduce(self, value: Any, reduce_op: str) -> Any:
        return value


def _no_adam(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """There is no fused kernel for the device without memory, and an update's operations are few."""
    return torch.optim.SGD(parameters, lr=0.0)
