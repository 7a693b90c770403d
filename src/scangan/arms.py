"""The arms of the experiment: what the same classifier is trained on, one entry each.

A new arm is one entry in `ARMS`, and its name in a study's `classifier.arms`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from scangan.errors import ConfigError

_SHARE = r"\d+(?:\.\d+)?(?:e[+-]\d+)?"  # as `{:g}` writes it
_GAN = r"[A-Za-z0-9][A-Za-z0-9_-]*"  # as the configuration names networks
TRAINING_PATTERN = r"(?:gan_seed(\d+)-)?seed(\d+)"  # of all names that `find_training` knows


@dataclass(frozen=True)
class ArmPhase:
    """A stretch of an arm's training, with one training set and one learning rate.

    name: stands in history.csv and in the log.
    reads: the sets that it trains on, together, the real images first; `copies` are of these, as many of each class as
        there are synthetic images.
    classical: whether the real images are augmented classically.
    rate: the setting of the classifier that is its learning rate.
    share: the setting that says which share of the arm's steps it has; None: all that are left.
    """

    name: str
    reads: tuple[Literal["real", "synthetic", "copies"], ...]
    classical: bool = False
    rate: Literal["learning_rate", "fine_tune_rate"] = "learning_rate"
    share: Literal["pretrain_share"] | None = None

    def __post_init__(self) -> None:
        # Augmented are so many of the first images.
        if self.classical and self.reads[0] != "real":
            raise ValueError(f"phase {self.name}: found {self.reads[0]} first, allowed with classical: real")


@dataclass(frozen=True)
class Arm:
    """What one classifier is trained on.

    name: in tables, figures, paths and the configuration.
    phases: its training, in order, each from the best weights of the one before.
    colour: its own in every figure.
    by_default: whether a study has it that does not name its arms.
    of_volumes: whether the detectors of volumes can have it: theirs has no classical augmentation.
    control: the arm with copies of real images in place of the synthetic ones: what more images alone do.
    synthetic_share: of an arm of the sweep, how many synthetic images for each real one; None: all there are.
    gan: the further network whose images it has; None: those of the study's own, the first of `synthesis.gan`.
    """

    name: str
    phases: tuple[ArmPhase, ...]
    colour: str
    by_default: bool = False
    of_volumes: bool = False
    control: str | None = None
    synthetic_share: float | None = None
    gan: str | None = None

    @property
    def folder(self) -> str:
        """Its name in paths: many file systems and archives refuse the colon of a further network."""
        return self.name.replace(":", "@")

    @property
    def reads_real(self) -> bool:
        return any("real" in phase.reads for phase in self.phases)

    @property
    def reads_synthetic(self) -> bool:
        return any("synthetic" in phase.reads for phase in self.phases)

    @property
    def reads_copies(self) -> bool:
        return any("copies" in phase.reads for phase in self.phases)

    @property
    def settings(self) -> frozenset[str]:
        """The settings of a classifier that this arm reads and another one may not."""
        found: set[str] = {phase.rate for phase in self.phases} | {phase.share for phase in self.phases if phase.share}
        found |= {"classical"} if any(phase.classical for phase in self.phases) else set()
        return frozenset(found | ({"real_share"} if any(len(phase.reads) > 1 for phase in self.phases) else set()))

    def with_share(self, share: float) -> Arm:
        """The same with so many synthetic images for each real one: `real+synthetic-x0.5`, an arm of the sweep."""
        return replace(self, name=f"{self.name}-x{share:g}", synthetic_share=share)

    def of_gan(self, gan: str) -> Arm:
        """The same with the images of a further network: `real+synthetic:projected_gan`."""
        return replace(self, name=f"{self.name}:{gan}", gan=gan)


@dataclass(frozen=True)
class Training:
    """One of an arm's trainings.

    seed: of the classifier. gan_seed: of the generator whose images it sees; None: it sees none.
    """

    seed: int
    gan_seed: int | None = None

    @property
    def name(self) -> str:
        """As in paths: `seed1`, and with synthetic images `gan_seed0-seed1`."""
        return f"seed{self.seed}" if self.gan_seed is None else f"gan_seed{self.gan_seed}-seed{self.seed}"


# In the order of the tables. Okabe and Ito's palette, told apart by colour-blind readers too.
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("real", (ArmPhase("real", ("real",)),), "#000000", by_default=True, of_volumes=True),
        Arm("real+classical", (ArmPhase("real", ("real",), classical=True),), "#E69F00", by_default=True),
        Arm("real+copies", (ArmPhase("real+copies", ("real", "copies")),), "#0072B2", of_volumes=True),
        Arm("synthetic", (ArmPhase("synthetic", ("synthetic",)),), "#56B4E9", by_default=True, of_volumes=True),
        Arm(
            "real+synthetic",
            (ArmPhase("real+synthetic", ("real", "synthetic")),),
            "#009E73",
            by_default=True,
            of_volumes=True,
            control="real+copies",
        ),
        Arm(
            "synthetic-then-real",
            (
                ArmPhase("synthetic", ("synthetic",), share="pretrain_share"),
                ArmPhase("real", ("real",), rate="fine_tune_rate"),
            ),
            "#D55E00",
            by_default=True,
            of_volumes=True,
        ),
        Arm(
            "real+classical+synthetic",
            (ArmPhase("real+classical+synthetic", ("real", "synthetic"), classical=True),),
            "#CC79A7",
        ),
    )
}
# The arms that the sweep over numbers of synthetic images varies: beside all real images; of volumes, alone.
SWEPT, SWEPT_OF_VOLUMES = "real+synthetic", "synthetic"


def find_arm(name: str) -> Arm:
    """The arm of this name: one of `ARMS`, or one with synthetic images as `real+synthetic-x0.5`, of a sweep, or as
    `real+synthetic:projected_gan`, of a further network.

    Raises ConfigError for a name that is none.
    """
    found = re.fullmatch(rf"(.+?)(?:-x({_SHARE}))?(?::({_GAN}))?", name)
    base, share, gan = found.groups() if found else (name, None, None)
    if base not in ARMS or ((share or gan) and not ARMS[base].reads_synthetic):
        raise ConfigError(
            f"arm: found '{name}', allowed: {' | '.join(ARMS)}, those with synthetic images also as <arm>-x2 and as "
            "<arm>:<network>"
        )
    arm = ARMS[base] if share is None else ARMS[base].with_share(float(share))
    return arm if gan is None else arm.of_gan(gan)


def arm_of_folder(folder: str) -> Arm:
    """The arm that has this name in paths, see `Arm.folder`."""
    return find_arm(folder.replace("@", ":"))


def place_of(name: str) -> int:
    """Where an arm stands among `ARMS`; one of a sweep or of a further network, where the one that it varies does."""
    phases = find_arm(name).phases
    return next(place for place, arm in enumerate(ARMS.values()) if arm.phases == phases)


def find_training(name: str) -> Training:
    """The training of this name. Raises ConfigError for a name that is none."""
    if found := re.fullmatch(TRAINING_PATTERN, name):
        gan_seed, seed = found.groups()
        return Training(int(seed), None if gan_seed is None else int(gan_seed))
    raise ConfigError(f"training: found '{name}', allowed: seed<number> | gan_seed<number>-seed<number>")


def arm_pattern() -> str:
    """The regular expression of all folders that `arm_of_folder` knows."""
    varied = [re.escape(name) for name, arm in ARMS.items() if arm.reads_synthetic]
    return "|".join([*map(re.escape, ARMS), rf"(?:{'|'.join(varied)})(?:-x{_SHARE})?(?:@{_GAN})?"])


def sweep(shares: Iterable[float], of_volumes: bool) -> list[Arm]:
    """The arms of the sweep over numbers of synthetic images, as multiples of the number of real ones."""
    swept = ARMS[SWEPT_OF_VOLUMES if of_volumes else SWEPT]
    return [swept.with_share(share) for share in shares]
