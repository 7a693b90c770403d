"""The detector experiment: `SqueezeNet3d` trained on arms of volumes, which may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from scangan.arms import ARMS, Arm
from scangan.config import Classifier
from scangan.data.volume_set import VolumeSet
from scangan.device import compute_device
from scangan.errors import ConfigError
from scangan.models.squeezenet3d import SqueezeNet3d
from scangan.progress import Progress
from scangan.training.supervised import (
    TrainedClassifier,
    assert_no_shared_patients,
    load_classifier,
    logits_of,
    phases_of,
    train_phases,
)

READERS = 4  # threads that decompress volumes ahead of a step


@dataclass(frozen=True)
class LabelledVolumes:
    """Volumes of a set that may be larger than memory, and targets [N] (1.0: positive), on the device of the training.

    They are read as int16, a batch ahead of its step, and mapped from the window (HU) to [0, 1] on the device.
    """

    volumes: VolumeSet
    targets: torch.Tensor
    window: tuple[float, float]
    _readers: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, READERS))
    _ahead: dict[int, Future[np.ndarray]] = field(default_factory=dict)

    @staticmethod
    def of(volume_set: VolumeSet, positive: str, window: tuple[float, float], device: torch.device) -> LabelledVolumes:
        targets = (volume_set.manifest["label"] == positive).to_numpy(np.float32, copy=True)
        return LabelledVolumes(volume_set, torch.from_numpy(targets).to(device), window)

    def and_also(self, other: LabelledVolumes) -> LabelledVolumes:
        """These volumes, then the others."""
        volumes = self.volumes.concatenate([self.volumes, other.volumes])
        return LabelledVolumes(volumes, torch.cat([self.targets, other.targets]), self.window)

    def take(self, positions: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """The volumes at these positions: [n, 1, S, S, S] in [0, 1]. The `following` ones begin to be read."""
        reading = [
            self._ahead.pop(position) if position in self._ahead else self._read(position)
            for position in positions.tolist()
        ]
        self._ahead.clear()
        self._ahead.update((position, self._read(position)) for position in following.tolist())
        device = self.targets.device
        # From pinned memory a GPU fetches them beside the step before.
        pinned = device.type == "cuda"
        hounsfield = torch.empty((len(reading), *reading[0].result().shape), dtype=torch.int16, pin_memory=pinned)
        for place, volume in zip(hounsfield.numpy(), reading, strict=True):
            place[:] = volume.result()
        return scale_volumes(hounsfield.to(device, non_blocking=True), self.window)

    def batches(self, batch_size: int) -> Iterator[torch.Tensor]:
        """All volumes, in order."""
        batches = torch.arange(len(self.targets)).split(batch_size)
        for positions, following in zip(batches, (*batches[1:], torch.tensor([])), strict=True):
            yield self.take(positions, following)

    def _read(self, position: int) -> Future[np.ndarray]:
        return self._readers.submit(lambda: self.volumes.read([position])[0])


def scale_volumes(hounsfield: torch.Tensor, window: tuple[float, float]) -> torch.Tensor:
    """int16 [N, S, S, S] in HU -> [N, 1, S, S, S], the window in [0, 1], clipped; channels last, for the detector."""
    low, high = window
    volumes = ((hounsfield[:, None].float() - low) / (high - low)).clamp(0, 1)
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def mirror(volumes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror volumes [N, 1, Z, Y, X] at random along each of their axes.

    A nodule is one whichever way round; from a few dozen volumes a network that sees them one way only learns the
    patients by heart.
    """
    chosen = torch.rand(len(volumes), 3, generator=generator) < 0.5
    turned = [
        volume.flip([axis for axis, is_chosen in zip((1, 2, 3), axes, strict=True) if is_chosen])
        for volume, axes in zip(volumes, chosen.tolist(), strict=True)
    ]
    return torch.stack(turned).contiguous(memory_format=torch.channels_last_3d)


def train_detector(
    arm: Arm,
    real_train: VolumeSet,
    validation: VolumeSet,
    added: VolumeSet | None,
    settings: Classifier,
    window: tuple[float, float],
    seed: int,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[..., Progress] = Progress,
    batch_norm: bool = True,
) -> TrainedClassifier:
    """Train `SqueezeNet3d` on one arm of volumes, with one seed, on the GPU where there is one; as `train_classifier`.

    The sets may be larger than memory: volumes are read a batch ahead, int16 in HU, and seen with the window in
    [0, 1]. arm: one `of_volumes`.
    With `settings.mirror` training volumes are mirrored at random. batch_norm: see `SqueezeNet3d`.

    Raises DataError if a patient is in both sets, a set lacks a class, volumes differ in size or cannot be read;
    ConfigError for an arm that is not of volumes; TrainingError if the loss is not finite.
    """
    if not arm.of_volumes:
        allowed = " | ".join(name for name, other in ARMS.items() if other.of_volumes)
        raise ConfigError(f"config: classifier.arms: found {arm.name}, allowed for volumes: {allowed}")
    assert_no_shared_patients(real_train, validation)
    torch.manual_seed(seed)
    device = compute_device()
    width = {} if settings.base_width is None else {"base_width": settings.base_width}
    model = SqueezeNet3d(batch_norm, settings.dropout, stem=settings.stem, **width)
    model = model.to(device, memory_format=torch.channels_last_3d)
    labelled = partial(LabelledVolumes.of, positive=settings.positive, window=window, device=device)
    others = labelled(added) if added is not None else None
    phases = phases_of(arm, labelled(real_train), others, settings)
    if settings.mirror:
        phases = [replace(phase, augment=mirror, augmented=range(len(phase.data.targets))) for phase in phases]
    name = f"detector {arm.name} seed {seed}"
    return train_phases(
        model, phases, labelled(validation), settings, seed, name, resume_folder, checkpoint_seconds, progress
    )


def read_detector(weights: Path, batch_norm: bool = True, base_width: int = 64, stem: str = "imagenet") -> nn.Module:
    """A trained detector, ready for `predict_volumes`, on the GPU where there is one.

    Raises DataError naming a weights file that is damaged or another network's.
    """
    model = SqueezeNet3d(batch_norm, base_width=base_width, stem=stem)
    return load_classifier(model.to(memory_format=torch.channels_last_3d), weights)


def predict_volumes(
    model: nn.Module, volume_set: VolumeSet, window: tuple[float, float], batch_size: int
) -> np.ndarray:
    """Probability of the positive class for every volume, float32 [N]. Leaves the model in evaluation mode.

    Volumes are read a batch ahead; the window (HU) is that of the training.
    """
    no_targets = torch.zeros(len(volume_set), device=next(model.parameters()).device)
    batches = LabelledVolumes(volume_set, no_targets, window).batches(batch_size)
    return torch.sigmoid(logits_of(model, batches)).cpu().numpy()


def predict_detector(
    model: nn.Module, parts: dict[str, VolumeSet], window: tuple[float, float], batch_size: int
) -> pd.DataFrame:
    """Predictions on several sets of volumes, each named in the column `split`.

    Returns `image_id` (the volume's id), `patient_id, label, split, diameter_mm` (of the one simulated diameter, else
    missing), `probability` (of the positive class).
    """
    columns = ["image_id", "patient_id", "label", "split", "diameter_mm", "probability"]
    tables = [
        part.manifest.assign(split=name, probability=predict_volumes(model, part, window, batch_size))
        for name, part in parts.items()
    ]
    return pd.concat(tables, ignore_index=True).rename(columns={"volume_id": "image_id"})[columns]
