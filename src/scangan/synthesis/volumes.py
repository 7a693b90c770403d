"""Mass synthesis of whole CT volumes, each from a seed of its own, and nodules put into them.

Source: Pesaranghader et al., CT-SGAN, section 3: nodules in half of 10,000 synthetic volumes, their number and radii
drawn from LIDC-IDRI's distributions; here from those of the annotated cohort.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scangan.config import Placement, Voi, VoiCut
from scangan.ct.grids import Numbers
from scangan.ct.lungs import LungMask, lung_mask
from scangan.ct.volume import Volume
from scangan.data.scan_store import NODULE_TYPES
from scangan.data.volume_set import CompressedVolume, VolumeSet, VolumeWriter, compress
from scangan.device import compute_device
from scangan.errors import DataError
from scangan.progress import Progress
from scangan.rejected import REJECTED_TYPES, Rejection, log_rejected, rejected_table
from scangan.synthesis.mix import MIXED_NODULE_TYPES, WITH, WITHOUT, Edited, inject_nodules, sham_nodules
from scangan.synthesis.paste import Fill
from scangan.synthesis.placement import PlacementSettings

log = logging.getLogger(__name__)

AHEAD = 2  # volumes that wait to be written, beside those that are being made
NO_NODULES = pd.DataFrame(columns=list(NODULE_TYPES)).astype(NODULE_TYPES)


@dataclass(frozen=True)
class Drawing:
    """A volume that the device may still be working on.

    name: of its network and seed. hounsfield: int16 [S, S, S] on the CPU, once `done`. finite: bool, whether the
    network gave numbers.
    """

    name: str
    hounsfield: Tensor
    finite: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> np.ndarray:
        """int16 [S, S, S] in HU. Raises DataError if the network gave NaN or infinity."""
        if self.done:
            self.done.synchronize()
        if not self.finite:
            raise DataError(f"{self.name}: found NaN or infinity, allowed: numbers; train it again")
        return self.hounsfield.numpy()


class VolumeSynthesizer:
    """A generator of volumes at work, on a GPU if there is one.

    generator, facts: of `models.catalogue.read_generator`; of the facts `size`, `spacing_mm`, `window`, `gan`, `data`
    are used. Volumes that the generator makes smaller than `size` are enlarged trilinearly.
    """

    def __init__(self, generator: nn.Module, facts: dict[str, Any]) -> None:
        self.device = compute_device()
        self.generator, self.facts = generator.to(self.device).eval(), facts
        self.size = int(facts["size"])

    @torch.inference_mode()
    def start(self, seed: int, attempt: int = 1) -> Drawing:
        """Have a volume made; on a GPU this returns before it is. See `draw`."""
        latent = self.generator.draw_latent(1, torch.Generator().manual_seed(_own_seed(seed, attempt)))
        x = self.generator(latent.to(self.device)).float()
        if x.shape[-1] != self.size:
            x = interpolate(x, size=(self.size,) * 3, mode="trilinear", align_corners=False)
        low, high = self.facts["window"]
        hounsfield = ((x.clamp(-1, 1) + 1) * ((high - low) / 2) + low).round().to(torch.int16)
        # Copies that nobody waits for: the next volume is begun meanwhile.
        voxels, finite = (each.to("cpu", non_blocking=True) for each in (hounsfield[0, 0], x.isfinite().all()))
        done = None
        if self.device.type == "cuda":
            done = torch.cuda.Event()
            done.record()
        return Drawing(f"{self.facts['gan']}: seed {seed}", voxels, finite, done)

    def draw(self, seed: int, attempt: int = 1) -> np.ndarray:
        """The volume of a seed: int16 [S, S, S] in HU; the seed and the attempt determine it alone.

        The first attempt's noise is seeded by the seed itself, a later one's by what NumPy's `SeedSequence` makes of
        both: numbers of 64 bits, which no other seed of a set is likely to be.
        """
        return self.start(seed, attempt).wait()

    def describe(self, seed: int) -> dict[str, Any]:
        """The manifest row of a volume without nodules."""
        name = f"{self.facts['gan']}-{seed}"
        return {
            "volume_id": name,
            "patient_id": name,
            "label": WITHOUT,
            "source": self.facts["gan"],
            "version": "synthetic",
            "data": self.facts["data"],
            "spacing_mm": self.facts["spacing_mm"],
            "nodules": 0,
            "synthesis_seed": seed,
            "attempts": 1,
        }


def _own_seed(seed: int, attempt: int) -> int:
    return seed if attempt == 1 else int(np.random.SeedSequence([seed, attempt]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class Injection:
    """What nodules are put into volumes, see `mix.inject_nodules`; a volume's own random numbers come from its id.

    erase: the eraser's, with which volumes that get no nodules are edited as often (`mix.sham_nodules`); None: they are
    not.
    """

    counts: Numbers
    diameters_mm: Numbers | float
    fill: Fill
    placement: PlacementSettings
    voi: VoiCut
    seed: int
    erase: Fill | None = None

    def put_into(
        self, volume_id: str, hounsfield: np.ndarray, lungs: np.ndarray, spacing_mm: float, diameters_mm: Any = None
    ) -> Edited:
        """hounsfield: int16 [S, S, S] without nodules, lungs: bool. diameters_mm: others than the injection's own."""
        return self._edit(inject_nodules, self.fill, volume_id, hounsfield, lungs, spacing_mm, diameters_mm)

    def put_sham_into(
        self, volume_id: str, hounsfield: np.ndarray, lungs: np.ndarray, spacing_mm: float, diameters_mm: Any = None
    ) -> np.ndarray:
        """The volume edited where `put_into` puts nodules, without any; as it was, if there is no eraser."""
        if self.erase is None:
            return hounsfield
        return self._edit(sham_nodules, self.erase, volume_id, hounsfield, lungs, spacing_mm, diameters_mm).hounsfield

    def _edit(
        self,
        edit: Callable[..., Edited],
        fill: Fill,
        volume_id: str,
        hounsfield: np.ndarray,
        lungs: np.ndarray,
        spacing_mm: float,
        diameters_mm: Any,
    ) -> Edited:
        scan = {"scan_id": volume_id, "spacing_mm": spacing_mm, "lung_check": ""}
        scan |= dict.fromkeys(("origin_x_mm", "origin_y_mm", "origin_z_mm"), 0.0)
        labels = np.zeros(hounsfield.shape, np.uint8)
        diameters = self.diameters_mm if diameters_mm is None else diameters_mm
        arguments = (self.counts, diameters, fill, self.placement, self.voi, self.seed)
        return edit(scan, hounsfield, lungs, labels, NO_NODULES, *arguments)


def injection(counts: Numbers, diameters_mm: Numbers, fill: Fill, erase: Fill, settings: dict[str, Any]) -> Injection:
    """What a configuration asks for. settings: `mix_seed`, `placement`, `sham`, `voi` of `nodules`."""
    placement = Placement.model_validate(settings["placement"])
    return Injection(
        counts=np.asarray(counts),
        diameters_mm=np.asarray(diameters_mm, float),
        fill=fill,
        placement=PlacementSettings(**placement.model_dump()),
        voi=Voi.model_validate(settings["voi"]),
        seed=settings["mix_seed"],
        erase=erase if settings["sham"] else None,
    )


def find_lungs(hounsfield: np.ndarray, spacing_mm: float) -> LungMask:
    """The lungs of a volume, int16 [S, S, S] in HU; see `lungs.lung_mask`."""
    return lung_mask(Volume(hounsfield, (spacing_mm,) * 3, (0.0, 0.0, 0.0)))


@dataclass(frozen=True)
class Made:
    """What becomes of one seed. nodules, rejected: rows of `MIXED_NODULE_TYPES` and `REJECTED_TYPES`.

    drawn: as the network drew it, with its manifest row. described: see `synthesize_volumes`. edited_row: after the
    injection; None: left out, or there was none. edited: where it is another volume than the one drawn.
    """

    drawn: CompressedVolume
    row: dict[str, Any]
    described: dict[str, Any] | None = None
    edited: CompressedVolume | None = None
    edited_row: dict[str, Any] | None = None
    nodules: pd.DataFrame | None = None
    rejected: pd.DataFrame | None = None


def synthesize_volumes(
    synthesizer: VolumeSynthesizer,
    first_seed: int,
    volumes: int,
    writer: VolumeWriter,
    injection: Injection | None = None,
    attempts: int = 1,
    describe: Callable[..., dict[str, Any]] | None = None,
    threads: int = 1,
) -> dict[str, pd.DataFrame]:
    """Write volumes of the seeds `first_seed`, `first_seed` + 1, ...: the same seed gives the same in any shard.

    With an injection the writer's second manifest has the same volumes, of which those of even seed have nodules: half
    of them, in any shard of even length. The others are edited as often, see `Injection`. A volume of either half is
    drawn again if no plausible lungs are found in it, or else the label would tell how good the volume is; and one in
    which no nodule finds a place. After `attempts` draws, the first included, it is left out.

    All that is done to a volume is done at once, its lungs found but once, by one of `threads` threads, of one core
    each; volumes are drawn in one more, one at a time. Few volumes are ahead of the one that is written, so memory does
    not grow; what fails anywhere ends all.

    Returns the tables `described` (`volume_id, patient_id`, and what `describe(hounsfield, lungs=...)` says of each
    volume as it was drawn), `nodules` (`mix.MIXED_NODULE_TYPES`; `scan_id` is the volume's) and `rejected`
    (`REJECTED_TYPES`): what was left out (counted), and single nodules that found no place (not counted).
    """
    tables: dict[str, list[Any]] = {"described": [], "nodules": [], "rejected": []}
    torch_threads = torch.get_num_threads()

    def finish(future: Future[Made]) -> None:
        made = future.result()
        place = writer.write(made.drawn, made.row)
        if made.edited_row is not None:
            writer.write_edited(place if made.edited is None else made.edited, made.edited_row)
        for name, rows in tables.items():
            if getattr(made, name) is not None:
                rows.append(getattr(made, name))
        progress.update(steps=1)

    with (
        Progress(volumes, 0, synthesizer.facts["gan"], unit="volume") as progress,
        ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch_threads,)) as drawing,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers,
    ):
        work = _Work(synthesizer, drawing, injection, attempts, describe)
        waiting: deque[Future[Made]] = deque()
        for seed in range(first_seed, first_seed + volumes):
            waiting.append(workers.submit(work.make, seed))
            if len(waiting) == threads + AHEAD:
                finish(waiting.popleft())
        for each in waiting:
            finish(each)
    return {
        "described": pd.DataFrame(tables["described"]),
        "nodules": _join(tables["nodules"], MIXED_NODULE_TYPES),
        "rejected": _report(_join(tables["rejected"], REJECTED_TYPES), volumes),
    }


@dataclass(frozen=True)
class _Work:
    """What is done to one volume after the other, in any thread; the volumes' generator has a thread of its own."""

    synthesizer: VolumeSynthesizer
    drawing: ThreadPoolExecutor
    injection: Injection | None
    attempts: int
    describe: Callable[..., dict[str, Any]] | None

    def make(self, seed: int) -> Made:
        hounsfield, row = self._draw(seed, 1), self.synthesizer.describe(seed)
        made = Made(compress(hounsfield), row)
        if self.describe is None and self.injection is None:
            return made
        lungs = find_lungs(hounsfield, row["spacing_mm"])
        if self.describe is not None:
            named = {name: row[name] for name in ("volume_id", "patient_id")}
            made = replace(made, described=named | self.describe(hounsfield, lungs=lungs))
        return made if self.injection is None else self._inject(self.injection, made, hounsfield, lungs)

    def _inject(self, injection: Injection, made: Made, hounsfield: np.ndarray, lungs: LungMask) -> Made:
        seed, name, spacing_mm = (made.row[key] for key in ("synthesis_seed", "volume_id", "spacing_mm"))
        failures = []
        for attempt in range(1, self.attempts + 1):
            if attempt > 1:
                hounsfield = self._draw(seed, attempt)
                lungs = find_lungs(hounsfield, spacing_mm)
            if lungs.failure:
                failures.append(f"lung mask failed: {lungs.failure}")
                continue
            row = made.row | {"lung_volume_ml": lungs.volume_ml, "attempts": attempt}
            if seed % 2:
                sham = injection.put_sham_into(name, hounsfield, lungs.mask, spacing_mm)
                unchanged = attempt == 1 and sham is hounsfield
                return replace(made, edited=None if unchanged else compress(sham), edited_row=row)
            edited = injection.put_into(name, hounsfield, lungs.mask, spacing_mm)
            if edited.has_nodules:
                row |= {"label": WITH, "nodules": len(edited.table)}
                return replace(
                    made,
                    edited=compress(edited.hounsfield),
                    edited_row=row,
                    nodules=edited.table,
                    rejected=edited.rejected,
                )
            failures.append(_no_place(edited))
        remedy = "train the generator longer, or allow more attempts"
        return replace(
            made, rejected=_refuse(name, f"no volume in {self.attempts} attempts", "; ".join(failures), remedy)
        )

    def _draw(self, seed: int, attempt: int) -> np.ndarray:
        return self.drawing.submit(self.synthesizer.start, seed, attempt).result().wait()


def inject_sized(
    volumes: VolumeSet, diameters_mm: Sequence[float], injection: Injection, writer: VolumeWriter
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write each volume for every diameter, with nodules of just that diameter, and with shams: the test set of
    figure 3(b).

    volumes: free of nodules. A place is looked for as many of them in each copy of a volume, drawn from
    `injection.counts`, so that a curve over the diameter does not show their number. Volume v's copy is `v-8mm`, and
    where there is an eraser `v-8mm-sham`, edited at the same places without a nodule.
    Returns nodules and rejected as `synthesize_volumes` does; copies without a nodule are left out and counted.
    """
    nodules, rejected = [], []
    with Progress(len(volumes) * len(diameters_mm), 0, "nodules by size", unit="volume") as progress:
        for row, hounsfield in zip(volumes.manifest.to_dict("records"), volumes, strict=True):
            lungs = find_lungs(hounsfield, row["spacing_mm"])
            for diameter in diameters_mm:
                progress.update(steps=1)
                name = f"{row['volume_id']}-{diameter:g}mm"
                if lungs.failure:
                    remedy = "remove the scan, or mend its mask"
                    rejected.append(_refuse(name, "lung mask failed", lungs.failure, remedy))
                    continue
                edited = injection.put_into(row["volume_id"], hounsfield, lungs.mask, row["spacing_mm"], diameter)
                rejected.append(edited.rejected.assign(source=name))
                if not edited.has_nodules:
                    remedy = "choose smaller diameters, or another placement"
                    rejected.append(_refuse(name, "no place for any nodule", _no_place(edited), remedy))
                    continue
                made = {"volume_id": name, "label": WITH, "version": "sized", "diameter_mm": diameter}
                made |= {"nodules": len(edited.table), "lung_volume_ml": lungs.volume_ml}
                writer.write(edited.hounsfield, row | made)
                nodules.append(edited.table.assign(scan_id=name))
                if injection.erase is not None:
                    sham = injection.put_sham_into(
                        row["volume_id"], hounsfield, lungs.mask, row["spacing_mm"], diameter
                    )
                    writer.write(sham, row | made | {"volume_id": f"{name}-sham", "label": WITHOUT, "nodules": 0})
    asked = len(volumes) * len(diameters_mm)
    return _join(nodules, MIXED_NODULE_TYPES), _report(_join(rejected, REJECTED_TYPES), asked)


def _no_place(edited: Edited) -> str:
    reasons = edited.rejected.reason.unique()
    return f"{len(edited.rejected)} nodules without a place ({', '.join(reasons)})"


def _refuse(name: str, reason: str, found: str, remedy: str) -> pd.DataFrame:
    return rejected_table([Rejection(name, reason, found, remedy)])


def _join(tables: Iterable[pd.DataFrame], types: dict[str, str]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)] or [pd.DataFrame(columns=list(types))]
    return pd.concat(filled, ignore_index=True).astype(types)


def _report(rejected: pd.DataFrame, asked: int) -> pd.DataFrame:
    log.info("left out: %d of %d volumes", rejected.counted.sum(), asked)
    log_rejected(rejected)
    return rejected
