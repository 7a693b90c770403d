"""The engine that trains every generative network here, and resumes exactly where it stopped.

The state is complete: both networks, the averaged generator, both optimisers, the gradient scaler, the adaptive
augmentation, the step (which is also the sampler's position), every random state, history and samples so far. So a run
that is killed and resumed gives the weights of an uninterrupted one, to the bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scangan.config import ImageGan, Pggan, ProjectedGan, Rules, Training, VolumeGan
from scangan.device import compute_device
from scangan.errors import TrainingError
from scangan.models.catalogue import build, find_model, network_options
from scangan.progress import Progress
from scangan.training.augment import random_horizontal_flip, random_resized_crop
from scangan.training.checkpoint import CheckpointStore, random_state, restore_random_state
from scangan.training.diffaugment import AdaptiveProbability, DiffAugment
from scangan.training.ema import ExponentialMovingAverage
from scangan.training.losses import discriminator_loss, generator_loss, gradient_penalty
from scangan.training.progressive import ConstantSchedule, Schedule, Stage, blend_real, make_schedule

log = logging.getLogger(__name__)

SAMPLE_COLUMNS = 8
HISTORY_ROWS = 200
# A generator has collapsed when its images differ from each other by less than this share of what real ones do,
# at as many looks in a row, after the first tenth of the training.
COLLAPSE_SHARE = 0.01
COLLAPSE_LOOKS = 3
VALIDATION_IMAGES = 128  # drawn at each validation, always from the same noise
# Before it collapses, a generator draws images that differ less from each other than this share of what real ones do.
LOW_DIVERSITY = 0.5
# It does not learn when after a quarter of the training its images are still as far from held-out ones as what the page
# calls one that did not learn, and hardly nearer than at first: distances of 0 to 1.
FAR = 0.25
HARDLY_NEARER = 0.9
DISTANCE = "validation_distance"  # in the history
WATCH_SECONDS = 60.0

# Images [N, C, H, W] in [0, 1] -> their distance to held-out real ones; how far they differ from each other, as a share
# of what real ones do; and the distance's standard error.
Validate = Callable[[np.ndarray], tuple[float, float, float]]
AS_NEAR = 2.0  # standard errors within which a later validation counts as no farther than the nearest one
# Is shown the training now and then, and, with True, when it has ended; it changes nothing.
Watch = Callable[["AdversarialTraining", bool], None]


class Batches(Protocol):
    """Which training images each batch shows: a function of the images shown before it."""

    images: int

    def batch(self, shown: int, batch_size: int) -> Tensor: ...


class ShuffledBatches:
    """Indices of training images: every image once an epoch, in an order drawn from (seed, epoch).

    Batches run on over the end of an epoch, so no image is left out. Stateless: a batch is a function of the images
    shown before it, and with several processes each takes its share of it.
    """

    def __init__(self, images: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.images, self.seed = images, seed
        self.rank, self.world_size = rank, world_size
        self._orders: dict[int, Tensor] = {}

    def batch(self, shown: int, batch_size: int) -> Tensor:
        """Indices of this process's share of the batch after `shown` images: [batch_size / world_size]."""
        positions = range(shown + self.rank, shown + batch_size, self.world_size)
        # Only the epochs that the batch spans are needed, and those after it.
        self._orders = {epoch: order for epoch, order in self._orders.items() if epoch >= shown // self.images}
        return torch.stack([self._order(p // self.images)[p % self.images] for p in positions])

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            rng = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._orders[epoch] = torch.randperm(self.images, generator=rng)
        return self._orders[epoch]


@dataclass(frozen=True)
class TrainedGan:
    """What a training leaves behind.

    `weights`: the averaged generator's state, the last, or that of the last validation that was as near to real images
    as the nearest, within its error; `history`: one row per stretch of steps, with validations also
    `validation_distance`, `diversity`, `kept` (that one);
    `samples`: uint8 [rows, SAMPLE_COLUMNS, C, H, W], the same noise at evenly spaced moments of the training; `steps`
    taken.
    """

    weights: dict[str, Tensor]
    history: pd.DataFrame
    samples: np.ndarray
    steps: int


class AdversarialTraining(ABC):
    """Two networks, their optimisers, and one step of the game between them.

    images: [N, C, H, W] or [N, C, D, H, W] in `output_range`, the generator's. Networks are changed in place.
    A study with another game overrides `discriminator_losses` and `generator_losses`; the images that these are given
    are augmented already, so the gradient penalty is on augmented images too. One whose networks are
    conditional overrides `_real_batch`, `_generate` and `_judge`.
    """

    def __init__(
        self,
        fabric: Fabric,
        generator: nn.Module,
        discriminator: nn.Module,
        images: Tensor,
        output_range: tuple[float, float],
        settings: Training,
    ) -> None:
        self.fabric, self.settings, self.output_range = fabric, settings, output_range
        # Channels last is the faster layout for convolutions, but not for D's second derivatives.
        self.generator = channels_last(fabric.to_device(generator))
        self.discriminator = fabric.to_device(discriminator)
        if self.rules.gradient_penalty.kind == "none":
            channels_last(self.discriminator)
        self.average = ExponentialMovingAverage(self.generator, settings.ema_decay)
        self.optimizer_g = fabric.setup_optimizers(
            _optimizer(self.generator, settings, self.rules, settings.learning_rate_generator)
        )
        self.optimizer_d = fabric.setup_optimizers(
            _optimizer(self.discriminator, settings, self.rules, settings.learning_rate_discriminator)
        )
        self.adaptive: AdaptiveProbability | None = None
        self.images = resident(images, fabric.device)
        self.batches: Batches = ShuffledBatches(len(images), settings.seed, fabric.global_rank, fabric.world_size)
        self.schedule = self._make_schedule(images)
        self.steps_in_all = self.schedule.steps_in_all
        self.fixed_noise = generator.draw_latent(SAMPLE_COLUMNS, torch.Generator().manual_seed(settings.seed))
        self.step_count = 0
        self.collapsed_looks = 0
        self.window: dict[str, Tensor] = {}
        self.window_steps = 0
        self.history: list[dict[str, float]] = []
        self.samples: list[Tensor] = []
        self.kept: dict[str, Any] | None = None
        self.said_not_learning = False

    @property
    @abstractmethod
    def rules(self) -> Rules:
        """The rules of the game."""

    @abstractmethod
    def _make_schedule(self, images: Tensor) -> ConstantSchedule | Schedule:
        """How many steps are taken on these images, and what each shows."""

    def step(self) -> None:
        """`discriminator_steps` updates of D, one of G."""
        # Every step draws from its own seed, so with several GPUs each resumes its own stream of random numbers
        # though only the first one's state is written.
        torch.manual_seed(
            (self.settings.seed * 1_000_003 + self.step_count) * self.fabric.world_size + self.fabric.global_rank
        )
        stage = self._grow()
        for repeat in range(self.rules.discriminator_steps):
            real = self._real_batch(self.images_shown + repeat * stage.batch_size, stage)
            fake = self._generate(len(real))
            losses = self.discriminator_losses(*self._shown_to_discriminator(real, fake))
            self._adapt(losses.pop("sign_real"))
            self._update(self.optimizer_d, self.discriminator, losses["loss_d"] + losses["penalty"])
        # D's weights need no gradient here, which spares a third of its backward pass.
        self.discriminator.requires_grad_(False)
        losses |= self.generator_losses(self._shown_to_generator(fake))
        self._update(self.optimizer_g, self.generator, losses["loss_g"])
        self.discriminator.requires_grad_(True)
        self.average.update(self.generator)
        self.step_count += 1
        if self.adaptive is not None:
            losses["augment_probability"] = self.adaptive.probability
        losses["spread"], losses["spread_real"] = self._spread(fake), self._spread(real)
        for name, value in losses.items():
            self.window[name] = self.window.get(name, 0) + value.detach()
        self.window_steps += 1

    @property
    def images_shown(self) -> int:
        """Real images that D has seen so far."""
        return self.schedule.images_at(self.step_count)

    def _grow(self) -> Stage:
        """Bring the networks to where the schedule is, if they grow; returns what holds for the coming step."""
        stage = self.schedule.at(self.images_shown)
        if stage.level is not None:
            if self.step_count and stage.level != self.generator.level:
                # As in the authors' code: the moments of the smaller network say nothing about the larger one.
                for optimizer in (self.optimizer_g, self.optimizer_d):
                    optimizer.optimizer.state.clear()
            for network in (self.generator, self.discriminator):
                network.set_progress(stage.level, stage.alpha)
        return stage

    def discriminator_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """`loss_d` and the weighted `penalty` (both minimised), D's mean logits, and their mean sign on real images."""
        with self.fabric.autocast():
            d_real, d_fake = self._judge_both(real, fake)
        d_real, d_fake = d_real.float(), d_fake.float()
        loss_d = discriminator_loss(
            self.rules.loss, d_real, d_fake, self.rules.label_inversion, self.rules.noisy_labels
        )
        penalty = torch.zeros((), device=d_real.device)
        if (wanted := self.rules.gradient_penalty).kind != "none":
            # In full precision: second derivatives overflow half precision first.
            penalty = wanted.weight * gradient_penalty(wanted.kind, self._judge, real, fake.float())
        if self.rules.drift:
            penalty = penalty + self.rules.drift * d_real.square().mean()
        return {
            "loss_d": loss_d,
            "penalty": penalty,
            "d_real": d_real.mean(),
            "d_fake": d_fake.mean(),
            "sign_real": d_real.sign().mean(),
        }

    def generator_losses(self, fake: Tensor) -> dict[str, Tensor]:
        """`loss_g`, minimised."""
        with self.fabric.autocast():
            d_fake = self._judge_for_generator(fake)
        return {"loss_g": generator_loss(self.rules.loss, d_fake.float(), self.rules.label_inversion)}

    def samples_so_far(self) -> np.ndarray:
        """`TrainedGan.samples` as they are now, with a row of this moment, which is not kept."""
        kept = list(self.samples)
        self.draw_samples()
        shown, self.samples = torch.stack(self.samples).numpy(), kept
        return shown

    @torch.no_grad()
    def draw_for_validation(self) -> np.ndarray:
        """[VALIDATION_IMAGES, C, H, W] in [0, 1], of the averaged generator."""
        return self._draw_all(self._validation_noise())

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Add one row of images of the averaged generator from the fixed noise."""
        images = self._draw(self.fixed_noise)
        # A network that grows draws smaller images at first.
        images = interpolate(images, size=self.images.shape[-2:], mode="nearest")
        self.samples.append((images * 255).round().clamp(0, 255).byte().cpu())

    @torch.no_grad()
    def validate(self, measure: Validate) -> None:
        """Measure images of the averaged generator, and keep its weights unless it was nearer to real ones before.

        What was found is added to the last row of the history; too little diversity is logged.
        """
        self._keep_nearest(*self._measure(measure, self._validation_noise()))

    def _validation_noise(self) -> Tensor:
        return self.generator.draw_latent(VALIDATION_IMAGES, torch.Generator().manual_seed(self.settings.seed))

    def _measure(self, measure: Validate, latent: Tensor, of_what: str = "") -> tuple[float, float, float]:
        """What is found of images drawn from `latent`; too little diversity is logged."""
        distance, diversity, error = measure(self._draw_all(latent))
        if self._is_late() and diversity < LOW_DIVERSITY:
            self._warn_of_collapse(f"images{of_what}", diversity)
        return distance, diversity, error

    def _draw_all(self, latent: Tensor) -> np.ndarray:
        parts = [self._draw(part).clamp(0, 1).cpu() for part in latent.split(self.settings.batch_size)]
        return torch.cat(parts).numpy()

    def say_if_not_learning(self, distances: Sequence[float]) -> None:
        """Log, once, that the generator does not learn; distances: to held-out images, of all validations so far."""
        if len(distances) < 2 or self.step_count < self.steps_in_all / 4 or self.said_not_learning:
            return
        if (nearest := min(distances)) > max(FAR, HARDLY_NEARER * distances[0]):
            said = (
                "step %d of %d: the generator does not learn: still %.2f from held-out images (0: alike), "
                "at first %.2f; see samples.png"
            )
            log.warning(said, self.step_count, self.steps_in_all, nearest, distances[0])
            self.said_not_learning = True

    def _keep_nearest(self, distance: float, diversity: float, error: float) -> None:
        # Crude images of the first moments can be as near by chance as good ones of the last, so the last are kept.
        self.history[-1] |= {DISTANCE: distance, "diversity": diversity}
        kept = self.kept or {"distance": np.inf, "as_near": np.inf}
        if distance < kept["distance"]:
            kept |= {"distance": distance, "as_near": distance + AS_NEAR * float(np.nan_to_num(error))}
        if distance <= kept["as_near"]:
            weights = {name: tensor.clone() for name, tensor in self.average.average.state_dict().items()}
            self.kept = kept | {"step": self.step_count, "weights": weights}
        self.say_if_not_learning([row[DISTANCE] for row in self.history if DISTANCE in row])

    def _warn_of_collapse(self, what: str, diversity: float) -> None:
        said = "step %d: the generator's %s differ from each other by %.0f%% of what real ones do: it may be collapsing"
        log.warning(said, self.step_count, what, 100 * diversity)

    def close_window(self, images_per_second: float) -> dict[str, float]:
        """End a stretch of steps: its mean losses become a row of the history.

        Raises TrainingError when a loss is not a number or the generator has collapsed.
        """
        # Over all processes, so that all of them come to the same verdict.
        means = {
            name: self.fabric.all_reduce(total / self.window_steps, reduce_op="mean").tolist()
            for name, total in self.window.items()
        }
        self.window, self.window_steps = {}, 0
        broken = [name for name, value in means.items() if not np.isfinite(value).all()]
        if broken:
            raise TrainingError(
                f"step {self.step_count}: {', '.join(broken)} is not a number; lower the learning rates "
                "or use precision 32-true"
            )
        spread, of_what = self._least_spread(means.pop("spread"), means.pop("spread_real"))
        self.collapsed_looks = self.collapsed_looks + 1 if self._is_late() and spread < COLLAPSE_SHARE else 0
        if self.collapsed_looks >= COLLAPSE_LOOKS:
            raise TrainingError(
                f"step {self.step_count}: the generator collapsed: its images{of_what} differ from each other by "
                f"{spread:.2%} of what real ones do; try another seed, a gradient penalty, or a lower learning rate"
            )
        epoch = self.images_shown / self.batches.images
        row = {"step": self.step_count, "epoch": epoch, **means, "images_per_second": images_per_second}
        self.history.append(row)
        return means

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.average.state_dict(),
            "average_updates": self.average.updates,
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "adaptive": self.adaptive.state_dict() if self.adaptive is not None else None,
            "step_count": self.step_count,
            "collapsed_looks": self.collapsed_looks,
            "window": self.window,
            "window_steps": self.window_steps,
            "history": self.history,
            "samples": self.samples,
            "kept": self.kept,
            "random": random_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.average.load_state_dict(state["average"])
        self.average.updates = state["average_updates"]
        self.optimizer_g.load_state_dict(state["optimizer_g"])
        self.optimizer_d.load_state_dict(state["optimizer_d"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        # A state lies in main memory: what optimisers and networks load goes where they are, the rest is brought there.
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["adaptive"])
        for name in ("step_count", "collapsed_looks", "window", "window_steps", "history", "samples", "kept"):
            setattr(self, name, state[name])
        self.window = {name: value.to(self.fabric.device) for name, value in self.window.items()}
        restore_random_state(state["random"])

    def weights(self) -> dict[str, Tensor]:
        """The averaged generator's state, of the validation that was kept if there was one."""
        if self.kept is not None:
            return self.kept["weights"]
        if self.schedule.at(self.images_shown).level is not None:
            self.average.average.set_progress(self.generator.levels - 1, 1.0)  # its last batch may have begun in a fade
        return self.average.average.state_dict()

    def _real_batch(self, shown: int, stage: Stage) -> Tensor:
        # A copy that is not awaited lets the next steps be prepared while the GPU is busy.
        indices = self.batches.batch(shown, stage.batch_size).to(self.images.device, non_blocking=True)
        return self.images[indices].to(self.fabric.device, non_blocking=True)

    def _shown(self, images: Tensor) -> Tensor:
        """What D sees of them."""
        return images

    def _shown_to_discriminator(self, real: Tensor, fake: Tensor) -> tuple[Any, Any]:
        """What `discriminator_losses` is given."""
        return self._shown(real), self._shown(fake.detach())

    def _shown_to_generator(self, fake: Tensor) -> Any:
        """What `generator_losses` is given."""
        return self._shown(fake)

    def _draw(self, noise: Tensor) -> Tensor:
        """Images of the averaged generator, which reach from 0 to 1."""
        low, high = self.output_range
        return (self.average.average(noise.to(self.fabric.device)).float() - low) / (high - low)

    def _spread(self, images: Tensor) -> Tensor:
        """How far the images of a batch differ from each other: the mean of their standard deviations."""
        images = images.detach().float()
        # On a CPU torch's own `std` over the images takes twenty times as long, a fifth of a step of CT-SGAN.
        return ((images - images.mean(0)).square().sum(0) / (len(images) - 1)).sqrt().mean()

    def _least_spread(self, spread: Any, spread_real: Any) -> tuple[float, str]:
        """Means of `_spread`, of generated and of real images -> their ratio, and of which images it is."""
        return spread / spread_real if spread_real else 1.0, ""

    def _is_late(self) -> bool:
        """Whether the first tenth of the training is over, in which a generator may draw anything."""
        return self.step_count > self.steps_in_all / 10

    def _adapt(self, sign_real: Tensor) -> None:
        if self.adaptive is None:
            return
        if self.rules.label_inversion:
            sign_real = -sign_real
        # Over all processes, so that all of them augment alike.
        self.adaptive.observe(self.fabric.all_reduce(sign_real.detach(), reduce_op="mean"), self.settings.batch_size)

    def _latent(self, images: int) -> Tensor:
        return self.generator.draw_latent(images, torch.default_generator)

    def _generate(self, images: int) -> Tensor:
        latent = self._latent(images).to(self.fabric.device, non_blocking=True)
        with self.fabric.autocast():
            return self.generator(latent)

    def _judge(self, images: Tensor) -> Tensor:
        return self.discriminator(images)

    def _judge_both(self, real: Any, fake: Any) -> tuple[Tensor, Tensor]:
        """D's logits of real and of generated images."""
        return self._judge(real), self._judge(fake)

    def _judge_for_generator(self, fake: Any) -> Tensor:
        """D's logits of generated images, from which G learns."""
        return self._judge(fake)

    def _update(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.fabric.world_size > 1:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.fabric.all_reduce(parameter.grad, reduce_op="mean")
        optimizer.step()


class GanTraining(AdversarialTraining):
    """A game whose rules and epochs are in the network's settings."""

    settings: ImageGan | VolumeGan

    @property
    def rules(self) -> Rules:
        return self.settings

    def _make_schedule(self, images: Tensor) -> ConstantSchedule | Schedule:
        return make_schedule(self.settings, len(images), images.shape[-1])


class ImageTraining(GanTraining):
    """The game between networks of images, [N, C, H, W], which are augmented and may grow."""

    settings: ImageGan

    def __init__(
        self,
        fabric: Fabric,
        generator: nn.Module,
        discriminator: nn.Module,
        images: Tensor,
        output_range: tuple[float, float],
        settings: ImageGan,
    ) -> None:
        super().__init__(fabric, generator, discriminator, images, output_range, settings)
        wanted = settings.diffaugment
        self.augment = DiffAugment(wanted.kinds, output_range) if wanted.kinds else None
        if wanted.kinds and wanted.adaptive_target is not None:
            self.adaptive = AdaptiveProbability(
                wanted.probability, wanted.adaptive_target, wanted.adaptive_images, fabric.device
            )

    def _real_batch(self, shown: int, stage: Stage) -> Tensor:
        images = super()._real_batch(shown, stage)
        if self.settings.random_crop is not None:
            images = random_resized_crop(images, self.settings.random_crop)
        if self.settings.horizontal_flip:
            images = random_horizontal_flip(images)
        return images if stage.level is None else blend_real(images, stage.level, stage.alpha)

    def _shown(self, images: Tensor) -> Tensor:
        if self.augment is None:
            return images
        probability = self.settings.diffaugment.probability if self.adaptive is None else self.adaptive.probability
        return self.augment(images.float(), probability)


class ProjectedTraining(ImageTraining):
    """The game of `projected_gan`, in which both networks learn from the frozen features of an image.

    Generated images are seen once, by both networks with the same augmentation, as in FastGAN; so of three passes
    through the frozen network one is spared, and that of real images needs no gradient.

    Real and generated images pass the heads as one batch, both networks' turn. Apart, each batch norm gives either kind
    the same mean and spread, so a head cannot see that generated images vary less (docs/few_images.md).
    """

    settings: ProjectedGan

    def _shown_to_discriminator(self, real: Tensor, fake: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        with torch.no_grad():
            self.real_seen = self._see(real)
        self.fake_seen = self._see(fake)
        return self.real_seen, [maps.detach() for maps in self.fake_seen]

    def _shown_to_generator(self, fake: Tensor) -> list[Tensor]:
        return self.fake_seen

    def _see(self, images: Tensor) -> list[Tensor]:
        with self.fabric.autocast():
            return self.discriminator.see(self._shown(images))

    def _judge(self, seen: list[Tensor]) -> Tensor:
        return self.discriminator.judge(seen)

    def _judge_both(self, real: list[Tensor], fake: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits = self._judge([torch.cat(maps) for maps in zip(real, fake, strict=True)])
        of_real, of_fake = logits.chunk(2)
        return of_real, of_fake

    def _judge_for_generator(self, fake: list[Tensor]) -> Tensor:
        return self._judge_both(self.real_seen, fake)[1]

    def _judge_pixels(self, images: Tensor) -> Tensor:
        return self.discriminator.pixel_head(images)

    def discriminator_losses(self, real: list[Tensor], fake: list[Tensor]) -> dict[str, Tensor]:
        """As the engine's, and the R1 penalty of the pixel discriminator if there is one."""
        losses = super().discriminator_losses(real, fake)
        if self.discriminator.pixel_head is not None and self.settings.pixel_r1:
            # An image's score is the mean over its places, so that the weight does not depend on their number.
            penalty = gradient_penalty("r1", lambda images: self._judge_pixels(images).mean(1), real[-1], fake[-1])
            losses["penalty"] = losses["penalty"] + self.settings.pixel_r1 * penalty
        return losses


def train_gan(
    images: np.ndarray,
    settings: ImageGan,
    fabric: Fabric,
    resume_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    description: str = "train_gan",
    validate: Validate | None = None,
    watch: Watch | None = None,
) -> TrainedGan:
    """Train the model that `settings` names on images [N, C, H, W] in [0, 1].

    validate: measures what is drawn at `settings.validations` moments; without it the last weights are kept.
    watch: is shown the training once a minute.
    Resumes from `resume_folder` where a checkpoint lies there. Raises TrainingError on NaN, on a collapsed generator,
    when asked to stop (SIGTERM, SIGINT: the state is written first), or for a network of several classes; ConfigError
    when the images do not fit.
    """
    if settings.is_conditional:
        raise TrainingError("conditional: found true, allowed: false for a network of one class")
    of_edges = settings.progressive.batch_sizes if isinstance(settings, Pggan) else {}
    for batch_size in (settings.batch_size, *of_edges.values()):
        check_batch_size(batch_size, fabric)
    torch.manual_seed(settings.seed)
    _, channels, _, image_size = images.shape
    generator, discriminator = build(settings.model, channels, image_size, **network_options(settings))
    low, high = output_range = find_model(settings.model).OUTPUT_RANGE
    scaled = torch.from_numpy(images) * (high - low) + low
    kind = ProjectedTraining if isinstance(settings, ProjectedGan) else ImageTraining
    training = kind(fabric, generator, discriminator, scaled, output_range, settings)
    return run(training, resume_folder, checkpoint_seconds, description, validate, settings.validations, watch)


def check_batch_size(batch_size: int, fabric: Fabric, in_pairs: bool = False) -> None:
    """Raises TrainingError where a batch cannot be shared by the GPUs; in_pairs: where one would get an odd number."""
    share = fabric.world_size * (2 if in_pairs else 1)
    if batch_size % share or batch_size < 2 * fabric.world_size:
        allowed = f"a multiple of the {fabric.world_size} GPUs, at least 2 for each"
        raise TrainingError(
            f"batch_size: found {batch_size}, allowed: {allowed}{', and an even number' if in_pairs else ''}"
        )


def run(
    training: AdversarialTraining,
    resume_folder: Path | None,
    checkpoint_seconds: float,
    description: str,
    validate: Validate | Mapping[str, Validate] | None = None,
    validations: int = 0,
    watch: Watch | None = None,
) -> TrainedGan:
    """Take all steps of a training, from where the newest checkpoint in `resume_folder` left it.

    It is validated `validations` times at most, at ends of stretches, the last of them at the end; and shown to `watch`
    at such ends, `WATCH_SECONDS` apart.
    Raises TrainingError as `train_gan` does.
    """
    fabric, settings, images = training.fabric, training.settings, training.batches.images
    log.info("%s: training on %d images, %d steps, on %s", description, images, training.steps_in_all, fabric.device)
    store = CheckpointStore(resume_folder) if resume_folder is not None else None
    if store is not None:
        with fabric.rank_zero_first():  # it clears damaged checkpoints away before the others look
            state = store.load_latest()
        if state is not None:
            training.load_state(state)
            log.info("%s: resumed at step %d of %d", description, training.step_count, training.steps_in_all)

    total = training.steps_in_all
    row_every = max(1, total // HISTORY_ROWS)
    validate_every = row_every * math.ceil(total / row_every / validations) if validate and validations else 0
    sample_at = {round(total * row / settings.sample_rows) for row in range(1, settings.sample_rows + 1)}

    def save() -> float:
        """Returns how long to wait for the next checkpoint."""
        if store is None or not fabric.is_global_zero:
            return checkpoint_seconds
        return store.save(training.step_count, training.state(), checkpoint_seconds)

    pause = checkpoint_seconds
    saved_at = row_at = watched_at = time.monotonic()
    shown_at = training.images_shown
    with (
        Progress(total, training.step_count, description) as progress,
        _stop_signals() as stop,
    ):
        while training.step_count < total:
            training.step()
            step = training.step_count
            if step % row_every == 0 or step == total:
                now = time.monotonic()
                stretch = row_every if step % row_every == 0 else step % row_every
                images_shown = training.images_shown
                losses = training.close_window((images_shown - shown_at) / max(now - row_at, 1e-9))
                progress.update(stretch, images_shown - shown_at, **losses)
                # The first process writes what is kept.
                if validate_every and fabric.is_global_zero and (step % validate_every == 0 or step == total):
                    training.validate(validate)
                if watch is not None and fabric.is_global_zero and now - watched_at >= WATCH_SECONDS:
                    watch(training, False)
                    watched_at = time.monotonic()
                row_at, shown_at = time.monotonic(), images_shown
            if step in sample_at:
                training.draw_samples()
            stopping, at_rest = stop.is_set(), training.window_steps == 0
            if fabric.world_size > 1:
                # All stop at the same step, and ask each other only where they wait for each other anyway.
                asked = torch.tensor(float(stopping), device=fabric.device)
                stopping = at_rest and bool(fabric.all_reduce(asked, reduce_op="max"))
            if stopping:
                if all(torch.isfinite(loss).all() for loss in training.window.values()):
                    save()
                raise TrainingError(f"stopped by a signal at step {step} of {total}; run again to resume from there")
            if time.monotonic() - saved_at >= pause and at_rest:
                # At the end of a stretch: its losses were just found finite, so no broken state is ever kept.
                pause = save()
                saved_at = time.monotonic()
    if watch is not None and fabric.is_global_zero:
        watch(training, True)
    history = pd.DataFrame(training.history)
    if training.kept is not None:
        history["kept"] = history["step"] == training.kept["step"]
    return TrainedGan(
        weights=training.weights(),
        history=history,
        samples=torch.stack(training.samples).numpy(),
        steps=total,
    )


def make_fabric(precision: str, devices: int, accelerator: str = "auto") -> Fabric:
    """Lightning Fabric on up to `devices` GPUs where CUDA is found, else on the CPU; launched.

    Raises TrainingError where the number format is not to be had on this device, or a GPU cannot be used.
    """
    if accelerator == "auto":
        accelerator = compute_device().type
        devices = min(devices, torch.cuda.device_count()) if accelerator == "cuda" else 1
    if accelerator == "cpu" and precision == "16-mixed":
        raise TrainingError("precision: found '16-mixed' without a GPU, allowed: 32-true | bf16-mixed")
    strategy = "ddp" if devices > 1 else "auto"
    # A job of the workflow is one task and starts its further processes itself, on a SLURM cluster too.
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,
        plugins=[LightningEnvironment()],
    )
    fabric.launch()
    return fabric


def channels_last(network: nn.Module) -> nn.Module:
    """The network with its convolutions' weights in channels-last order, those of 2D and of 3D ones; in place."""
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.to(memory_format=torch.channels_last if module.weight.ndim == 4 else torch.channels_last_3d)
    return network


def _optimizer(network: nn.Module, settings: Training, rules: Rules, rate: float) -> torch.optim.Optimizer:
    if rules.optimizer == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=rate, alpha=settings.beta2, weight_decay=rules.weight_decay)
    return torch.optim.Adam(
        network.parameters(),
        lr=rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=rules.weight_decay,
        fused=True,
    )


def resident(images: Tensor, device: torch.device) -> Tensor:
    """The images on the GPU where they take less than half of its free memory, else pinned in main memory."""
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    if images.nbytes < free / 2:
        return images.to(device)
    return images.pin_memory()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a job asked to stop saves its state first."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handled = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in handled]
    try:
        yield stop
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
