"""Mass synthesis of whole CT volumes, each from a seed of its own, and nodules put into them.

Source: Pesaranghader et al., CT-SGAN, section 3: nodules in half of 10,000 synthetic volumes, their number and radii
drawn from LIDC-IDRI's distributions; here from those of the annotated cohort.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import interpolate

from scangan.config import Placement, Voi, VoiCut
from scangan.ct.anatomy import describe_volume
from scangan.ct.grids import Numbers
from scangan.ct.lungs import LungMask, lung_mask
from scangan.ct.volume import Volume
from scangan.data.scan_store import NODULE_TYPES
from scangan.data.volume_set import CompressedVolume, VolumeSet, VolumeWriter, compress
from scangan.device import compute_device
from scangan.errors import DataError
from scangan.models.catalogue import read_generator
from scangan.processes import work_through
from scangan.progress import Progress
from scangan.rejected import REJECTED_TYPES, Rejection, log_rejected, rejected_table
from scangan.synthesis.mix import MIXED_NODULE_TYPES, WITH, WITHOUT, Edited, inject_nodules, sham_nodules
from scangan.synthesis.nodules import Filling
from scangan.synthesis.paste import Fill
from scangan.synthesis.placement import PlacementSettings

log = logging.getLogger(__name__)

NO_NODULES = pd.DataFrame(columns=list(NODULE_TYPES)).astype(NODULE_TYPES)


Network = tuple[Path, Path]  # the weights and the description of a network, as its training wrote them


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
    def draw(self, seed: int, attempt: int = 1) -> np.ndarray:
        """The volume of a seed: int16 [S, S, S] in HU; the seed and the attempt determine it alone.

        The first attempt's noise is seeded by the seed itself, a later one's by what NumPy's `SeedSequence` makes of
        both: numbers of 64 bits, which no other seed of a set is likely to be. Raises DataError if the network gave NaN
        or infinity.
        """
        latent = self.generator.draw_latent(1, torch.Generator().manual_seed(_own_seed(seed, attempt)))
        x = self.generator(latent.to(self.device)).float()
        if not x.isfinite().all():
            raise DataError(
                f"{self.facts['gan']}: seed {seed}: found NaN or infinity, allowed: numbers; train it again"
            )
        if x.shape[-1] != self.size:
            x = interpolate(x, size=(self.size,) * 3, mode="trilinear", align_corners=False)
        low, high = self.facts["window"]
        hounsfield = ((x.clamp(-1, 1) + 1) * ((high - low) / 2) + low).round().to(torch.int16)
        return hounsfield[0, 0].cpu().numpy()

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


@dataclass(frozen=True)
class VolumeMaker:
    """What is done to one volume after the other: drawn, its lungs found once, described, edited, compressed.

    injection: None: nothing is put into them. attempts: draws of a volume at most, the first included. describe: what
    `describe(hounsfield, lungs=...)` says of each volume as it was drawn is tabled; None: nothing is.
    """

    synthesizer: VolumeSynthesizer
    injection: Injection | None = None
    attempts: int = 1
    describe: Callable[..., dict[str, Any]] | None = None

    @staticmethod
    def open(
        generator: Network,
        gan: str,
        described: bool = False,
        injector: Network | None = None,
        eraser: Network | None = None,
        injected: Callable[[Fill, Fill], Injection] | None = None,
        attempts: int = 1,
    ) -> VolumeMaker:
        """A maker with networks as their trainings wrote them. gan: the name that the volumes bear.

        injected: makes the injection of the fillings of injector and eraser. Raises DataError naming a broken file.
        """
        network, facts = read_generator(*generator)
        describe = partial(describe_volume, spacing_mm=facts["spacing_mm"], window=tuple(facts["window"]))
        injection = None
        if injector and eraser and injected:
            injection = injected(Filling.read(*injector).fill, Filling.read(*eraser).fill)
        synthesizer = VolumeSynthesizer(network, facts | {"gan": gan})
        return VolumeMaker(synthesizer, injection, attempts, describe if described else None)

    def make(self, seed: int) -> Made:
        """What becomes of a seed, see `synthesize_volumes`."""
        hounsfield, row = self.synthesizer.draw(seed), self.synthesizer.describe(seed)
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
                hounsfield = self.synthesizer.draw(seed, attempt)
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


def synthesize_volumes(
    open_maker: Callable[[], VolumeMaker], seeds: range, writer: VolumeWriter, name: str = "volumes", processes: int = 1
) -> dict[str, pd.DataFrame]:
    """Write volumes of these seeds: the same seed gives the same in any shard, and with any number of processes.

    With an injection the writer's second manifest has the same volumes, of which those of even seed have nodules: half
    of them, in any shard of even length. The others are edited as often, see `Injection`. A volume of either half is
    drawn again if no plausible lungs are found in it, or else the label would tell how good the volume is; and one in
    which no nodule finds a place. After as many draws as the maker attempts it is left out.

    open_maker: called once in each process, see `processes.work_through`. name: of the progress.

    Returns the tables `described` (`volume_id, patient_id`, and what is said of each volume), `nodules`
    (`mix.MIXED_NODULE_TYPES`; `scan_id` is the volume's) and `rejected` (`REJECTED_TYPES`): what was left out
    (counted), and single nodules that found no place (not counted).
    """
    tables: dict[str, list[Any]] = {"described": [], "nodules": [], "rejected": []}
    with Progress(len(seeds), 0, name, unit="volume") as progress:
        for made in work_through(seeds, partial(_open, open_maker), processes):
            place = writer.write(made.drawn, made.row)
            if made.edited_row is not None:
                writer.write_edited(place if made.edited is None else made.edited, made.edited_row)
            for table, rows in tables.items():
                if getattr(made, table) is not None:
                    rows.append(getattr(made, table))
            progress.update(steps=1)
    return {
        "described": pd.DataFrame(tables["described"]),
        "nodules": _join(tables["nodules"], MIXED_NODULE_TYPES),
        "rejected": _report(_join(tables["rejected"], REJECTED_TYPES), len(seeds)),
    }


def _open(open_maker: Callable[[], VolumeMaker]) -> Callable[[int], Made]:
    return open_maker().make


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
