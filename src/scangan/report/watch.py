"""What a generative network is doing while it trains: pictures once a minute, and TensorBoard's logs on request.

Nothing here changes a training, so no code of it is part of what decides a job's results (`code_digest.LEFT_OUT`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scangan.files import atomic
from scangan.report.samples import write_sample_grid

if TYPE_CHECKING:
    from scangan.training.adversarial import AdversarialTraining

log = logging.getLogger(__name__)

DISTANCE = "validation_distance"  # the referee's, in a history, as in `training.adversarial`


class Watch:
    """Call with a training, once a minute, and with `last` when it has ended.

    folder: gets `samples.png`, `history.csv` and `progress.png`, each time anew; it goes with the checkpoints that lie
    there. measure: the referee, where the training itself asks none: images [N, C, H, W] in [0, 1] -> their distance to
    held-out ones, and their diversity. logs: folder of TensorBoard's logs, written anew; None: none.
    """

    def __init__(
        self,
        folder: Path,
        description: str,
        measure: Callable[[np.ndarray], tuple[float, float]] | None = None,
        logs: Path | None = None,
    ) -> None:
        self.folder, self.description, self.measure = folder, description, measure
        self.measured: dict[float, float] = {}  # step -> distance
        self.logged = 0
        self.writer: Any = _tensorboard_writer(logs) if logs is not None else None
        log.info("%s: once a minute its losses and images: %s", description, folder / "progress.png")

    def __call__(self, training: AdversarialTraining, last: bool = False) -> None:
        history = pd.DataFrame(training.history)
        if history.empty:
            return
        if not last:
            if self.measure is not None:
                distance, *_ = self.measure(training.draw_for_validation())
                self.measured[history["step"].iloc[-1]] = distance
                training.say_if_not_learning(list(self.measured.values()))
            history[DISTANCE] = history.get(DISTANCE, history["step"].map(self.measured))
            try:
                self._draw(history, training.samples_so_far())
            except OSError as error:  # pictures are not worth a training
                log.warning("%s: %s: cannot be written: %s", self.description, self.folder, error.strerror)
        if self.writer is not None:
            self._log(history, training, last)

    def _draw(self, history: pd.DataFrame, samples: np.ndarray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / "history.csv") as path:
            history.to_csv(path, index=False)
        write_sample_grid(samples, self.folder / "samples.png")
        draw_progress(history, self.folder / "progress.png", self.description)

    def _log(self, history: pd.DataFrame, training: AdversarialTraining, last: bool) -> None:
        for row in history.iloc[self.logged :].to_dict("records"):
            for name, value in row.items():
                if name != "step" and np.isfinite(value):
                    self.writer.add_scalar(name, value, int(row["step"]))
        self.logged = len(history)
        images = np.concatenate(list(training.samples_so_far()[-1:]))
        self.writer.add_images("samples", images[:, :3] if images.shape[1] >= 3 else images[:, :1], training.step_count)
        self.writer.flush()
        if last:
            self.writer.close()


def watch_job(snakemake: Any, resume: Path, description: str, measure: Any = None) -> Watch:
    """Of a job that writes `output.weights` and keeps its checkpoints in `resume`."""
    results, logs = Path(snakemake.config["results"]), None
    if snakemake.config["tensorboard"]:
        logs = results / "tensorboard" / Path(snakemake.output.weights).parent.relative_to(results)
    return Watch(resume, description, measure, logs)


def draw_progress(history: pd.DataFrame, path: Path, description: str) -> None:
    """Losses over the epochs, and below them the referee's distance, where there is one.

    history: `step`, `epoch`, losses as columns that begin with `loss` or `penalty`, and `validation_distance`.
    """
    # Short trainings are over before anything is drawn, and need none of it.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from scangan.report.style import BLUE, STYLE, VERMILION

    losses = [name for name in history if name.startswith(("loss", "penalty")) and history[name].any()]
    distance = history[["epoch", DISTANCE]].dropna()
    colours = {"loss_d": BLUE, "loss_g": VERMILION}
    with rc_context(STYLE | {"savefig.dpi": 100}):
        figure = Figure(figsize=(6.4, 5.4))
        upper, lower = figure.subplots(2, 1, sharex=True)
        for name in losses:
            upper.plot(history["epoch"], history[name], label=name, color=colours.get(name), linewidth=1)
        upper.set_ylabel("loss")
        upper.legend(loc="upper right")
        upper.set_title(f"{description}, step {history['step'].iloc[-1]:,.0f}")
        lower.plot(distance["epoch"], distance[DISTANCE], "o-", color="0.2", markersize=3)
        lower.set(xlabel="epoch", ylabel="distance to held-out images", ylim=(0, None))
        if distance.empty:
            lower.text(0.5, 0.5, "not measured", transform=lower.transAxes, ha="center", color="0.35")
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png")


def has_tensorboard() -> bool:
    return find_spec("tensorboard") is not None


def _tensorboard_writer(logs: Path) -> Any:
    """Of a folder whose older logs are removed: the whole history is logged again. None without the package."""
    if not has_tensorboard():
        return None
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(logs, ignore_errors=True)
    return SummaryWriter(str(logs))
