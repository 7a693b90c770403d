"""How long a step of each network takes on this machine, as far as it has been timed (`calibration`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scangan.config import Classifier, ImageGan, NoduleNetwork, Voi, VolumeGan, settings_digest

FILE = Path(".snakemake/scangan/calibration.json")  # beside what Snakemake knows of a run, and under no result
# Settings that do not change the time of a step.
SAME_TIME = {
    *("beta1", "beta2", "drift", "ema_decay", "epochs", "image_size", "label_inversion", "learning_rate_discriminator"),
    *("learning_rate_generator", "loss", "noisy_labels", "reconstruction_weight", "inside_weight", "sample_rows"),
    *("seed", "seeds", "steps", "training_images", "validations", "weight_decay"),
}
OF_CLASSIFIERS = ("backbone", "pretrained_name", "stem", "batch_size", "centre_crop", "base_width")


@dataclass(frozen=True)
class Pace:
    """Seconds of a step, of one core or of the GPU; scaled: not of the network itself, but of a smaller one."""

    seconds: float
    scaled: bool = False


class Paces:
    """Those that a file holds; others as a subclass says."""

    def __init__(self, file: Path = FILE) -> None:
        self.file = file
        kept = json.loads(file.read_text()) if file.is_file() else {}
        self.machine = kept.get("machine", "")
        self.paces = {name: Pace(**pace) for name, pace in kept.get("paces", {}).items()}

    def start(self, loads_torch: bool) -> float:
        """Seconds of a core until a job has loaded what it needs."""
        return self._known("start_torch" if loads_torch else "start", "start", loads_torch).seconds

    def features(self) -> float:
        """Seconds for the features of an image."""
        return self._known("features", "features").seconds

    def image_gan(self, settings: ImageGan, channels: int, edge: int) -> Pace:
        """A step of a network of images; of one that grows the mean over its training."""
        return self._known(_name(settings, channels=channels, edge=edge), "image_gan", settings, channels, edge)

    def volume_gan(self, settings: VolumeGan, edge: int) -> Pace:
        """A step of a network of volumes."""
        return self._known(_name(settings, edge=edge), "volume_gan", settings, edge)

    def nodule_network(self, kind: str, settings: NoduleNetwork, voi: Voi) -> Pace:
        """A step of the injector's or the eraser's training."""
        name = _name(settings, kind=kind, voi=voi.model_dump(mode="json"))
        return self._known(name, "nodule_network", kind, settings, voi)

    def classifier(self, settings: Classifier, channels: int, edge: int) -> Pace:
        """A step of a classifier, or detector."""
        facts = {key: getattr(settings, key) for key in OF_CLASSIFIERS} | {"channels": channels, "edge": edge}
        return self._known(settings_digest(facts), "classifier", settings, channels, edge)

    def _known(self, name: str, kind: str, *told: Any) -> Pace:
        if name not in self.paces:
            self.paces[name] = self._measure(kind, *told)
        return self.paces[name]

    def _measure(self, kind: str, *told: Any) -> Pace:
        raise NotImplementedError


def _name(settings: ImageGan | VolumeGan | NoduleNetwork, **facts: Any) -> str:
    return settings_digest(settings.model_dump(mode="json", exclude=SAME_TIME) | facts)
