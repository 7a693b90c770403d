"""The classifier experiment: one network, several training sets (arms), the same budget of optimisation steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from scangan.arms import Arm
from scangan.config import Classifier
from scangan.device import compute_device
from scangan.errors import DataError, TrainingError
from scangan.files import reading
from scangan.models.backbones import OneAgainstTheRest, build_classifier, read_judge
from scangan.models.catalogue import check_weights
from scangan.progress import Progress
from scangan.training.augment import ClassicalAugmentation
from scangan.training.checkpoint import CheckpointStore, random_state, restore_random_state

if TYPE_CHECKING:
    import pandas as pd

    from scangan.data.store import ImageSet, StoredImages
    from scangan.data.volume_set import VolumeSet

log = logging.getLogger(__name__)

AT_ONCE = 256  # images on their way to a GPU
WHITE = 65535  # the pixel that stands for 1.0, as in `data.store`


@dataclass(frozen=True)
class TrainedClassifier:
    """What a training gives.

    state_dict: the weights with the lowest validation loss (of the last phase), on the CPU.
    history: one row a validation: phase, step (over all phases), training_loss, validation_loss.
    model: the network with these weights, where it was trained, ready for `predict`.
    """

    state_dict: dict[str, torch.Tensor]
    history: pd.DataFrame
    model: nn.Module


class LabelledData(Protocol):
    """What is trained on: images or volumes, and their targets [N] on the device of the training."""

    @property
    def targets(self) -> torch.Tensor:
        """[N], 1.0: positive; of three or more classes their numbers, as integers."""

    def and_also(self, other: Self) -> Self:
        """These, then the others."""

    def take(self, positions: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Those at these positions, [n, C, ...] in [0, 1], on the device; the `following` ones are asked for next."""

    def batches(self, batch_size: int) -> Iterable[torch.Tensor]:
        """All, in order."""


@dataclass(frozen=True)
class LabelledImages:
    """Images in one or several parts, one after the other, and targets [N], on one device.

    parts: float32 [n, C, H, W] in [0, 1] on the device; of a large set its pixels, int16 that stand for uint16, on a
    GPU, or on a CPU its files, which are read when they are asked for.
    """

    parts: tuple[torch.Tensor | StoredImages, ...]
    targets: torch.Tensor

    @staticmethod
    def of(image_set: ImageSet, positive: str, device: torch.device, classes: Sequence[str] = ()) -> LabelledImages:
        """classes: the names of three or more; none of two."""
        label = image_set.manifest["label"]
        if classes:
            targets = torch.from_numpy(label.map(list(classes).index).to_numpy(np.int64, copy=True))
        else:
            targets = torch.from_numpy((label == positive).to_numpy(np.float32, copy=True))
        images: Any = image_set.images
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images).to(device)
        elif device.type != "cpu":
            images = pixels_on(images, device)
        return LabelledImages((images,), targets.to(device))

    def and_also(self, other: LabelledImages) -> LabelledImages:
        """These images, then the others; none is copied."""
        return LabelledImages(self.parts + other.parts, torch.cat([self.targets, other.targets]))

    def take(self, positions: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """The images at these positions, on the CPU: [n, C, H, W]. The `following` ones are at hand already."""
        device = self.targets.device
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        numbers = torch.bucketize(positions, ends, right=True)
        images = torch.empty(len(positions), *self.parts[0].shape[1:], device=device)
        for number, part in enumerate(self.parts):
            (mine,) = (numbers == number).nonzero(as_tuple=True)
            first = int(ends[number]) - len(part)
            images[mine.to(device)] = _read_images(part, positions[mine] - first).to(device)
        return images

    def batches(self, batch_size: int) -> Iterable[torch.Tensor]:
        """All images, in order."""
        for positions in torch.arange(len(self.targets)).split(batch_size):
            yield self.take(positions, positions[:0])


def pixels_on(images: StoredImages, device: torch.device) -> torch.Tensor:
    """The pixels of images on a device, half the size of the images: int16 [N, C, H, W] that stand for uint16."""
    pixels = torch.empty(images.shape, dtype=torch.int16, device=device)
    for positions in np.array_split(np.arange(len(images)), -(-len(images) // AT_ONCE)):
        pixels[positions[0] : positions[-1] + 1] = torch.from_numpy(images.pixels(positions).view(np.int16)).to(device)
    return pixels


def _read_images(part: torch.Tensor | StoredImages, positions: torch.Tensor) -> torch.Tensor:
    """Images of one part of `LabelledImages`: float32, where they lie."""
    if not isinstance(part, torch.Tensor):
        return torch.from_numpy(part[positions.numpy()])
    found = part[positions.to(part.device)]
    return found if found.is_floating_point() else (found.int() & WHITE).float() / WHITE


@dataclass(frozen=True)
class Chosen:
    """Images of other data, by their places in it: [N], some of them several times, and none of them copied."""

    data: LabelledData
    places: torch.Tensor

    @cached_property
    def targets(self) -> torch.Tensor:  # asked for at every step
        return self.data.targets[self.places.to(self.data.targets.device)]

    def and_also(self, other: LabelledData) -> Chosen:
        """These images, then the others."""
        more = len(self.data.targets) + torch.arange(len(other.targets))
        return Chosen(self.data.and_also(other), torch.cat([self.places, more]))

    def take(self, positions: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return self.data.take(self.places[positions], self.places[following])

    def batches(self, batch_size: int) -> Iterable[torch.Tensor]:
        """All images, in order."""
        for positions in torch.arange(len(self.places)).split(batch_size):
            yield self.take(positions, positions[:0])


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one training set, one learning rate and one fresh optimiser.

    augmented: the positions of the data's images that are augmented by `augment`.
    real, real_share: so many of the data's first images are real, and a batch has this share of them; None: that of all
    images.
    """

    name: str
    data: LabelledData
    steps: int
    learning_rate: float
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None
    augmented: range = range(0)
    real: int = 0
    real_share: float | None = None


def train_classifier(
    arm: Arm,
    real_train: ImageSet,
    validation: ImageSet,
    added: ImageSet | None,
    settings: Classifier,
    seed: int,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[..., Progress] = Progress,
    classes: Sequence[str] = (),
) -> TrainedClassifier:
    """Train on one arm, with one seed, on the GPU where there is one.

    Every arm has the same budget of `settings.steps` optimisation steps, and is judged on the same real validation
    images every `settings.validate_every` steps, or after each pass over the arm's images (loss with all
    classes weighted alike); training stops after `settings.patience` validations without a better loss, and the best
    weights are kept. An arm of several phases does so in each, from the best weights of the one before:
    `synthetic-then-real` on the synthetic images, then on the real
    ones. Classical augmentation is of real images only.

    added: the synthetic images; for an arm of the sweep (`real+synthetic-x2`) those that its caller draws
    (`data.split.draw_share`), for one with copies these (`data.split.repeat_images`). classes: the names of three or
    more, which the network tells apart; none of two.

    With a `resume_folder` the whole state is kept there every `checkpoint_seconds` (less often where that takes more
    than a hundredth of the time), and a training that was interrupted
    goes on from it; on a CPU the weights are then identical to the bit. The caller removes the folder
    (`CheckpointStore(folder).remove()`) once the results are written.

    Raises DataError if a patient is in both sets, or a set lacks a class; TrainingError if the loss is not finite.
    """
    assert_no_shared_patients(real_train, validation)
    torch.manual_seed(seed)
    device = compute_device()
    channels, image_size = real_train.images.shape[1:3]
    model = build_classifier(
        settings.backbone,
        settings.pretrained,
        settings.stem,
        channels,
        image_size,
        settings.dropout,
        settings.centre_crop,
        settings.weights,
        settings.base_width,
        outputs_for(classes),
    ).to(device)
    if not real_train.is_of_volumes:  # whose network has a layout of its own
        model = model.to(memory_format=torch.channels_last)
    labelled = partial(LabelledImages.of, positive=settings.positive, device=device, classes=classes)
    others = labelled(added) if added is not None else None
    phases = phases_of(arm, labelled(real_train), others, settings)
    name = f"classifier {arm.name} seed {seed}"
    return train_phases(
        model, phases, labelled(validation), settings, seed, name, resume_folder, checkpoint_seconds, progress
    )


def train_phases(
    model: nn.Module,
    phases: list[Phase],
    held_out: LabelledData,
    settings: Classifier,
    seed: int,
    name: str,
    resume_folder: Path | None,
    checkpoint_seconds: float,
    progress: Callable[..., Progress],
) -> TrainedClassifier:
    """The phases, one after the other, each from the best weights of the one before.

    A history's steps are those that were done, over all phases: what a phase that ended early had left is not counted.
    On a GPU cuDNN looks for its quickest kernels: the same training does not give the same bits there.
    """
    store = CheckpointStore(resume_folder) if resume_folder else None
    resumed = store.load_latest() if store else None
    first_phase = resumed["phase"] if resumed else 0
    history: list[dict[str, Any]] = resumed["history"] if resumed else []
    done = resumed["done"] if resumed else 0  # steps of the phases that have ended
    initial = done + (resumed["training"]["step"] if resumed else 0)
    if resumed:
        log.info("%s: resumed at step %d", name, initial)
    saved, pause = time.monotonic(), checkpoint_seconds
    with (
        progress(total=settings.steps, initial=initial, description=name) as shown,
        torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False),
    ):
        for index, phase in enumerate(phases[first_phase:], start=first_phase):
            training = _PhaseTraining(model, phase, held_out, settings, seed, name)
            if resumed and index == first_phase:
                training.load_state_dict(resumed["training"])
                restore_random_state(resumed["random"])
            while not training.finished:
                loss = training.advance()
                if training.validation_due:
                    history.append({"phase": phase.name, "step": done + training.step} | training.validate())
                shown.update(steps=1, images=training.batch_size, loss=loss, best_validation=training.best_loss)
                if store and time.monotonic() - saved >= pause:
                    state = {"phase": index, "done": done, "training": training.state_dict(), "history": history}
                    pause = store.save(done + training.step, state | {"random": random_state()}, checkpoint_seconds)
                    saved = time.monotonic()
            model.load_state_dict(training.best_weights)
            log.info(
                "%s: %s: best validation loss %.4f at step %d", name, phase.name, training.best_loss, training.best_step
            )
            done += training.step

    import pandas as pd

    weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    return TrainedClassifier(weights, pd.DataFrame(history), model.eval())


def read_classifier(
    weights: Path,
    channels: int,
    image_size: int,
    backbone: str,
    pretrained: str,
    stem: str,
    dropout: float,
    centre_crop: int | None = None,
    base_width: int | None = None,
    classes: Sequence[str] = (),
) -> nn.Module:
    """A trained classifier, ready for `predict`, on the GPU where there is one; see `build_classifier`.

    classes: the names of three or more that it tells apart; none of two.

    Raises DataError naming a weights file that is damaged or another network's.
    """
    # Its own weights replace the pretrained ones: only the network that they mean is needed.
    pretrained = pretrained if pretrained == "efficientnet-lite0" else "none"
    model = build_classifier(
        backbone,
        pretrained,
        stem,
        channels,
        image_size,
        dropout,
        centre_crop,
        base_width=base_width,
        outputs=outputs_for(classes),
    )
    return load_classifier(model, weights)


def outputs_for(classes: Sequence[str]) -> int:
    """The logits of a classifier of three or more classes of these names, or of two (none named)."""
    return len(classes) or 1


def read_published_judge(
    weights: Path, image_size: int, backbone: str, outputs: Sequence[str], positive: str
) -> nn.Module:
    """A published classifier with its own last layer, ready for `predict`; see `models.backbones.read_judge`."""
    return read_judge(backbone, weights, outputs, positive, image_size).to(compute_device()).eval()


def load_classifier(model: nn.Module, weights: Path) -> nn.Module:
    with reading(weights, "weights", "those of a trained classifier; remove the file and run again"):
        state = load_file(weights)
        check_weights(weights, state, model)
        model.load_state_dict(state)
    return model.to(compute_device()).eval()


def predict(model: nn.Module, image_set: ImageSet, batch_size: int) -> np.ndarray:
    """Probability of the positive class for every image, float32 [N]; of three or more classes of each, [N, K].

    Leaves the model in evaluation mode.
    """
    device = next(model.parameters()).device
    images = image_set.images
    starts = range(0, len(images), batch_size)
    batches = (torch.from_numpy(images[start : start + batch_size]).to(device) for start in starts)
    logits = logits_of(model, batches)
    return (torch.sigmoid(logits) if logits.ndim == 1 else logits.softmax(1)).cpu().numpy()


def against_the_rest(model: nn.Module, classes: Sequence[str], positive: str) -> nn.Module:
    """The same classifier of three or more classes with the logit of one of them against all others together, [N]."""
    return nn.Sequential(model, OneAgainstTheRest(list(classes).index(positive), len(classes)), nn.Flatten(0)).eval()


def predict_parts(
    model: nn.Module, parts: dict[str, ImageSet], batch_size: int, positive: str = "", classes: Sequence[str] = ()
) -> pd.DataFrame:
    """Predictions on several parts of a cohort: `image_id, patient_id, label, split, probability` (of the positive).

    Of three or more classes also `probability:<class>` of each.
    """
    import pandas as pd

    columns, tables = ["image_id", "patient_id", "label"], []
    for name, part in parts.items():
        found, table = predict(model, part, batch_size), part.manifest[columns].assign(split=name)
        if classes:
            table["probability"] = found[:, list(classes).index(positive)]
            table = table.assign(**{f"probability:{each}": found[:, place] for place, each in enumerate(classes)})
        else:
            table["probability"] = found
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def class_weights(targets: torch.Tensor, where: str, real: int = 0, real_share: float | None = None) -> torch.Tensor:
    """Weight of every image, [N]: N / (K N_class). All K classes then weigh the same, and the mean weight is 1.

    With a `real_share`, that of the first `real` images in a batch, N_class is what is drawn of a class in N draws.

    Raises DataError, beginning with `where`, if a class is missing.
    """
    if not targets.is_floating_point():
        return _weights_of_classes(targets, where, real, real_share)
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        raise DataError(
            f"{where}: label: found {positives} positive and {negatives} negative images, allowed: some of both"
        )
    drawn = positives
    if real_share is not None:
        positive_of_real, positive_of_others = targets[:real].mean().item(), targets[real:].mean().item()
        drawn = len(targets) * (real_share * positive_of_real + (1 - real_share) * positive_of_others)
    return torch.where(targets == 1, len(targets) / (2 * drawn), len(targets) / (2 * (len(targets) - drawn)))


def _weights_of_classes(targets: torch.Tensor, where: str, real: int, real_share: float | None) -> torch.Tensor:
    """The same of three or more classes, numbered from 0; the largest number is there."""
    counts = targets.bincount().double()
    if not counts.all():
        missing = ", ".join(str(int(number)) for number in (counts == 0).nonzero())
        raise DataError(f"{where}: label: found no images of class {missing}, allowed: some of every class")
    if real_share is not None:
        shares = [part.bincount(minlength=len(counts)) / len(part) for part in (targets[:real], targets[real:])]
        counts = len(targets) * (real_share * shares[0] + (1 - real_share) * shares[1]).double()
    return (len(targets) / (len(counts) * counts))[targets].float()


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of the images' weighted cross-entropies: binary for logits [N], of three or more classes for [N, K]."""
    if logits.ndim == 1:
        return F.binary_cross_entropy_with_logits(logits, targets, weight=weights)
    return (F.cross_entropy(logits, targets, reduction="none") * weights).mean()


def order_with_share(real: int, others: int, share: float, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """An epoch's order of a union, positions of whole batches: of the first `real` images, and of the `others` behind.

    Of each batch `share` are real, to within one image, and of the epoch to within half of one. Every image is there;
    none of the real ones comes again before all of them have come, and none of the others either.
    """
    batches = math.ceil(max(real / share, others / (1 - share)) / batch_size)
    ends = (torch.arange(batches * batch_size + 1, dtype=torch.float64) * share + 0.5).floor()
    is_real = ends.diff() == 1
    order = torch.empty(len(is_real), dtype=torch.long)
    for places, first, images in ((is_real, 0, real), (~is_real, real, others)):
        wanted = int(places.sum())
        again = [torch.randperm(images, generator=generator) for _ in range(-(-wanted // images))]
        order[places] = first + torch.cat(again)[:wanted]
    return order


def phases_of(
    arm: Arm,
    real: LabelledData,
    added: LabelledData | None,
    settings: Classifier,
) -> list[Phase]:
    """The arm's training, in order; the steps of its phases add up to `settings.steps`.

    Raises DataError for an arm with synthetic images, or copies, without any.
    """
    sets = {"real": real}
    if added is not None:
        sets["copies" if arm.reads_copies else "synthetic"] = added
    elif arm.reads_copies or arm.reads_synthetic:
        missing = "copies" if arm.reads_copies else "synthetic images"
        raise DataError(f"arm {arm.name}: found no {missing}, allowed: some of both classes")
    classical = ClassicalAugmentation(settings.classical)
    phases, left = [], settings.steps
    for phase in arm.phases:
        steps = left if phase.share is None else round(getattr(settings, phase.share) * settings.steps)
        left -= steps
        if steps:
            first, augment, augmented = real, None, range(0)
            if phase.classical:
                augment, augmented = classical, range(len(real.targets))
                if each := settings.classical.images_per_class:
                    first = with_repeats(real, each)
                    augmented = range(len(real.targets), len(first.targets))
            parts = [first if name == "real" else sets[name] for name in phase.reads]
            data = reduce(lambda these, others: these.and_also(others), parts)
            share = settings.real_share if len(phase.reads) > 1 else None
            rate = getattr(settings, phase.rate)
            phases.append(Phase(phase.name, data, steps, rate, augment, augmented, len(first.targets), share))
    return phases


def with_repeats(real: LabelledData, each: int) -> Chosen:
    """The real images, then of each class so many of them again, all as often as the others to within once."""
    of_class = [(real.targets == value).nonzero().squeeze(1).cpu() for value in real.targets.unique().flip(0)]
    again = [own[torch.arange(each) % len(own)] for own in of_class]
    return Chosen(real, torch.cat([torch.arange(len(real.targets)), *again]))


def _describe_classes(targets: torch.Tensor, weights: torch.Tensor) -> str:
    """How many images of each class there are, and what each weighs."""
    values = targets.unique().flip(0)
    counts = [(int((targets == value).sum()), weights[targets == value][0]) for value in values]
    if targets.is_floating_point():
        (positives, heavy), (negatives, light) = counts
        return f"{positives} positive (weight in the loss {heavy:.3f}) and {negatives} negative ({light:.3f})"
    said = ", ".join(f"{count} ({weight:.3f})" for count, weight in reversed(counts))
    return f"of each class (weight in the loss): {said}"


class _PhaseTraining:
    """One phase of one training, step by step, with all that must be kept to go on later."""

    _PLAIN = ("order", "losses", "step", "stale", "best_loss", "best_step", "best_weights")  # kept as they are

    def __init__(
        self,
        model: nn.Module,
        phase: Phase,
        held_out: LabelledData,
        settings: Classifier,
        seed: int,
        name: str,
    ) -> None:
        self.model = model
        self.phase = phase
        self.held_out = held_out
        self.settings = settings
        self.name = name
        device = phase.data.targets.device
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=phase.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.batch_size = min(settings.batch_size, len(phase.data.targets))
        self.weights = class_weights(phase.data.targets, f"{name}: {phase.name}", phase.real, phase.real_share)
        self.held_out_weights = class_weights(held_out.targets, f"{name}: validation")
        log.info(
            "%s: %s: up to %d steps on %d images, %s",
            *(name, phase.name, phase.steps, len(self.weights), _describe_classes(phase.data.targets, self.weights)),
        )
        # On the CPU, so that every device sees the same order and the same augmentation.
        self.order_generator = torch.Generator().manual_seed(2 * seed)
        self.augment_generator = torch.Generator().manual_seed(2 * seed + 1)
        self.order = self._new_order()
        a_pass = len(self.order) // self.batch_size
        self.validate_every = a_pass if settings.validate_every == "pass" else settings.validate_every
        self.losses = torch.zeros(self.validate_every, device=device)
        self.step = 0
        self.stale = 0
        self.best_loss = math.inf
        self.best_step = 0
        self.best_weights: dict[str, torch.Tensor] = {}

    @property
    def validation_due(self) -> bool:
        return self.step % self.validate_every == 0 or self.step == self.phase.steps

    @property
    def finished(self) -> bool:
        return self.step == self.phase.steps or self.stale == self.settings.patience

    def advance(self) -> torch.Tensor:
        """One optimisation step; returns its loss, still on the device."""
        batch = self._next_batch()
        images = self.phase.data.take(batch, following=self.order[: self.batch_size])
        batch = batch.to(self.losses.device)
        if self.phase.augment:
            changed = self.phase.augmented
            is_augmented = ((batch >= changed.start) & (batch < changed.stop)).reshape(-1, *[1] * (images.ndim - 1))
            images = torch.where(is_augmented, self.phase.augment(images, self.augment_generator), images)
        self.model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16-mixed"):
            logits = self.model(images)
        loss = weighted_loss(logits.float(), self.phase.data.targets[batch], self.weights[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # Looked at only when a validation is due: reading every loss would make a GPU wait.
        self.losses[self.step % self.validate_every] = loss.detach()
        self.step += 1
        return loss.detach()

    def validate(self) -> dict[str, float]:
        """The mean training loss since the last validation, and the validation loss; keeps the best weights."""
        recent = self.losses[: (self.step - 1) % self.validate_every + 1].tolist()
        for step, value in enumerate(recent, start=self.step - len(recent) + 1):
            self._assert_finite("training", value, step)
        logits = logits_of(self.model, self.held_out.batches(self.settings.batch_size))
        loss = weighted_loss(logits, self.held_out.targets, self.held_out_weights).item()
        self._assert_finite("validation", loss, self.step)
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.stale = loss, self.step, 0
            self.best_weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        else:
            self.stale += 1
        return {"training_loss": sum(recent) / len(recent), "validation_loss": loss}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order_generator": self.order_generator.get_state(),
            "augment_generator": self.augment_generator.get_state(),
        } | {name: getattr(self, name) for name in self._PLAIN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order_generator.set_state(state["order_generator"])
        self.augment_generator.set_state(state["augment_generator"])
        for name in self._PLAIN:
            setattr(self, name, state[name])
        self.losses = self.losses.to(self.phase.data.targets.device)

    def _next_batch(self) -> torch.Tensor:
        """Indices [batch_size]: every epoch in a new order, without replacement, its incomplete last batch dropped."""
        batch, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        if len(self.order) < self.batch_size:
            self.order = self._new_order()  # now, and not when it is needed: volumes are read a batch ahead
        return batch

    def _new_order(self) -> torch.Tensor:
        images, real, share = len(self.phase.data.targets), self.phase.real, self.phase.real_share
        if share is None:
            return torch.randperm(images, generator=self.order_generator)
        return order_with_share(real, images - real, share, self.batch_size, self.order_generator)

    def _assert_finite(self, kind: str, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"{self.name}: {self.phase.name}: {kind} loss {loss} at step {step}; try a lower rate")


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Logits [N], or [N, K] of three or more classes, in evaluation mode, of batches on the model's device."""
    model.eval()
    return torch.cat([model(batch) for batch in batches])


def assert_no_shared_patients(real_train: ImageSet | VolumeSet, validation: ImageSet | VolumeSet) -> None:
    # In the data set's own split patients may be in several parts: `select_split` marks it, and the log counts them.
    if all("official" in set(part.manifest.get("split_method", ())) for part in (real_train, validation)):
        return
    shared = sorted(set(real_train.manifest["patient_id"]) & set(validation.manifest["patient_id"]))
    if shared:
        raise DataError(f"split: patient_id: found '{shared[0]}' in training and validation, allowed: one of them")
