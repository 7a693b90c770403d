"""A referee of one's own: a small network that learns, without labels, to know an image again through changes.

SimCLR (Chen et al. 2020) on one half of the training patients, with the changes that an image may undergo and stay
the same: shift, mirroring, zoom, window, noise, blur. It knows grey images of the study's kind and no photographs. What
it was trained on it must not judge: it knows these images by heart. The other half stands for a perfect generator.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from scangan.data.store import ImageSet
from scangan.errors import DataError, TrainingError
from scangan.files import atomic, reading
from scangan.models.catalogue import check_weights
from scangan.progress import Progress
from scangan.training.augment import affine_matrices, warp
from scangan.training.checkpoint import CheckpointStore

log = logging.getLogger(__name__)
EDGE = 32  # pixels of the images that it sees
FEATURES = 128
PROJECTED = 64
BATCH = 128
TEMPERATURE = 0.2
LEARNING_RATE = 1e-3
SHIFT, ZOOM, NOISE, BLUR = 0.1, 0.1, 0.03, 1.2  # the largest: of the edge, of the edge, of the range, pixels


class EncoderNetwork(nn.Module):
    """Images [N, 1, EDGE, EDGE] in [0, 1] -> features [N, FEATURES]; `project` is for the training alone."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, FEATURES)):
            blocks += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
        self.body = nn.Sequential(*blocks, nn.Conv2d(FEATURES, FEATURES, 3, padding=1), nn.AdaptiveAvgPool2d(1))
        self.project = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, PROJECTED))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images).flatten(1)


@dataclass(frozen=True)
class Encoder:
    """A trained network, and the patients whose images it was trained on."""

    network: EncoderNetwork
    patients: frozenset[str]

    @torch.inference_mode()
    def features(self, images: ImageSet) -> np.ndarray:
        """Features [N, FEATURES] of images that it never saw.

        Raises DataError, naming the patient, for images of a patient that it was trained on.
        """
        if known := sorted(self.patients & set(images.manifest["patient_id"])):
            raise DataError(
                f"encoder: patient_id: found '{known[0]}' and {len(known) - 1} others that it was trained on, "
                "allowed: patients that it never saw"
            )
        network = self.network.eval()
        return torch.cat([network(part) for part in _small(images)]).numpy()


def half_of_patients(train: ImageSet, held_out: ImageSet, seed: int) -> ImageSet:
    """The images of a random half of the training patients of each class, rounded up: those that an encoder learns of.

    A patient counts for the class of the first image. Patients of whom images are held out, as in some official splits,
    are none of them.
    """
    strangers = ~train.manifest["patient_id"].isin(held_out.manifest["patient_id"])
    patients = train.manifest[strangers].drop_duplicates("patient_id").sample(frac=1, random_state=seed)
    chosen = patients.sort_values("label", kind="stable")["patient_id"].iloc[::2]
    return train.select(train.manifest["patient_id"].isin(chosen))


def write_encoder(path: str | Path, encoder: Encoder) -> None:
    """Write the weights as safetensors, with the patients in the file's metadata."""
    with atomic(path) as temporary:
        save_file(encoder.network.state_dict(), temporary, {"patients": json.dumps(sorted(encoder.patients))})


def read_encoder(path: str | Path) -> Encoder:
    """What `write_encoder` wrote. Raises DataError, naming the file, if it is missing, damaged or of another kind."""
    with reading(path, "encoder", "that of a trained one; remove the file and run again"):
        with safe_open(path, "pt") as file:
            patients = frozenset(map(str, json.loads(file.metadata()["patients"])))
        state = load_file(path)
    network = EncoderNetwork()
    check_weights(Path(path), state, network)
    network.load_state_dict(state)
    return Encoder(network.eval(), patients)


def train_encoder(
    train: ImageSet,
    steps: int,
    seed: int,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[..., Progress] = Progress,
) -> Encoder:
    """Train on the training images, on the CPU, for so many steps of at most BATCH images.

    With a `resume_folder` the whole state is kept there every `checkpoint_seconds`; a training that was interrupted
    goes on from it, to the bit. The caller removes the folder once the results are written.
    Raises DataError for fewer than 2 images; TrainingError if the loss is not finite.
    """
    if len(train) < 2:
        raise DataError(f"encoder: images: found {len(train)}, allowed: at least 2 to tell apart")
    images = torch.cat(list(_small(train)))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EncoderNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    store = CheckpointStore(resume_folder) if resume_folder else None
    step = 0
    if store and (state := store.load_latest()):
        step = state["step"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        log.info("encoder: resumed at step %d", step)
    saved = time.monotonic()
    with progress(total=steps, initial=step, description="encoder") as shown:
        while step < steps:
            batch = images[torch.randperm(len(images), generator=generator)[:BATCH]]
            views = torch.cat([change(batch, generator), change(batch, generator)])
            loss = contrastive_loss(network.project(network(views)))
            if not math.isfinite(loss.item()):
                raise TrainingError(f"encoder: loss {loss.item()} at step {step}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if store and time.monotonic() - saved >= checkpoint_seconds:
                state = {"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
                store.save(step, state | {"generator": generator.get_state()})
                saved = time.monotonic()
            shown.update(steps=1, images=len(batch), loss=loss.item())
    return Encoder(network.eval(), frozenset(train.manifest["patient_id"]))


def contrastive_loss(projected: torch.Tensor) -> torch.Tensor:
    """NT-Xent of two views of N images, [2 N, D]: each must know its other view among all others."""
    vectors = F.normalize(projected, dim=1)
    similarity = (vectors @ vectors.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(vectors)).roll(len(vectors) // 2))


def change(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every image [N, 1, S, S] as a copy of it may look: shifted, mirrored, zoomed, windowed, blurred, noisy."""
    count = len(images)
    flip, shift_x, shift_y, zoom, low, high, blur, noise = 2 * torch.rand(8, count, generator=generator) - 1
    none = torch.zeros(count)
    matrices = affine_matrices(flip < 0, none > 0, none, SHIFT * shift_x, SHIFT * shift_y, none, 1 + ZOOM * zoom)
    changed = warp(images, matrices, padding="border")
    changed = _blur(changed, BLUR * blur.clamp(min=0))
    low, high = 0.1 * low.clamp(min=0), 1 - 0.3 * high.clamp(min=0)
    changed = (changed - low.reshape(-1, 1, 1, 1)) / (high - low).reshape(-1, 1, 1, 1)
    amount = NOISE * noise.clamp(min=0).reshape(-1, 1, 1, 1)
    return (changed + amount * torch.randn(changed.shape, generator=generator)).clamp(0, 1)


def _blur(images: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Each image [N, 1, S, S] by a Gaussian of its own deviation [N], in pixels."""
    reach = math.ceil(3 * BLUR)
    place = torch.arange(-reach, reach + 1.0)
    weights = torch.exp(-0.5 * (place / deviation.clamp(min=1e-3)[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True))[:, None]  # [N, 1, taps]
    padded = F.pad(images, (reach,) * 4, mode="replicate")[None, :, 0]
    across = F.conv2d(padded, weights[:, :, None], groups=len(images))
    return F.conv2d(across, weights[:, :, :, None], groups=len(images))[0][:, None]


def _small(images: ImageSet) -> Iterator[torch.Tensor]:
    """[n, 1, EDGE, EDGE], grey; part by part, for the images themselves may fill half of the memory."""
    for start in range(0, len(images), BATCH):
        grey = torch.from_numpy(images.images[start : start + BATCH]).float().mean(dim=1, keepdim=True)
        yield F.interpolate(grey, size=(EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)
