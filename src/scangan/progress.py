"""Progress of a training: steps, rates, time left and losses, a line now and then in the job's log.

What a terminal shows is the last line of that log, see `snakemake_logger_plugin_scangan`.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Progress:
    """Shows how far a training is; a context manager.

    total: steps in all. initial: steps done before this process, by a run that was interrupted. unit: what a step is.
    every_seconds: between two lines.

    Example:
        with Progress(total=1000, initial=0, description="classifier real") as progress:
            progress.update(steps=1, images=16, loss=loss)
    """

    def __init__(
        self, total: int, initial: int, description: str, every_seconds: float = 5.0, unit: str = "step"
    ) -> None:
        self.total, self.unit = total, unit
        self.initial = initial
        self.description = description
        self.steps = initial
        self.images = 0
        self._interval = every_seconds
        self._started = self._shown = time.monotonic()

    def update(self, steps: int, images: int = 0, **losses: float | torch.Tensor) -> None:
        """Count `steps` more steps over `images` more images.

        A loss may be a tensor on a GPU: it is read only when a line is due, so that no step waits for it.
        """
        self.steps += steps
        self.images += images
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        shown = {name: f"{float(value):.4g}" for name, value in losses.items()}
        left = (self.total - self.steps) * (now - self._started) / max(self.steps - self.initial, 1)
        ending = "".join(f", {name} {value}" for name, value in shown.items())
        log.info("%s, %s left%s", self._rates(now), tqdm.format_interval(left), ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        log.info("%s in %s", self._rates(now), tqdm.format_interval(now - self._started))

    def _rates(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        rates = f"{(self.steps - self.initial) / seconds:.3g} {self.unit}s/s"
        if self.images:
            rates += f", {self.images / seconds:.3g} images/s"
        return f"{self.description}: {self.unit} {self.steps}/{self.total}, {rates}"
