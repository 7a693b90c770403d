"""Whole volumes: a training step, mass synthesis and kept features, each beside the plainest way to do the same.

On a GPU at the paper's 224^3, on a CPU at the smallest size; every comparison in one run, as a ratio.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from scangan.config import CtSgan, Fidelity, NoduleNetwork, Voi, VoiCut
from scangan.ct import anatomy, components, lungs
from scangan.ct.anatomy import describe_volume
from scangan.ct.grids import sphere
from scangan.ct.lungs import lung_mask
from scangan.ct.volume import Volume, resample
from scangan.data.volume_set import VolumeSet, VolumeWriter, frame_volume, read_volume_set
from scangan.metrics.volumes import compare_slices, extract_slices, read_slice_features, write_slice_features
from scangan.models.catalogue import build, network_options
from scangan.models.ct_sgan import slice_positions, to_slices
from scangan.phantoms.chest import render_chest
from scangan.synthesis.nodules import Filling
from scangan.synthesis.paste import Fill
from scangan.synthesis.placement import PlacementSettings
from scangan.synthesis.volumes import Injection, VolumeMaker, VolumeSynthesizer, find_lungs, synthesize_volumes
from scangan.training.adversarial import make_fabric, run
from scangan.training.nodules import nodule_network_options
from scangan.training.volumes import SlabTraining

ROUNDS, STEPS, WINDOW = 3, 10, (-1000.0, 400.0)
SHARD, WHOLE = 24, 10_000  # volumes
# The best published diffusion generator of chest CT, about, for a volume of 256^3.
DIFFUSION_SECONDS = 5


def settings_for(on_gpu: bool, precision: str = "32-true") -> CtSgan:
    """The paper's scale on a GPU, the demo's on a CPU, where it is the largest that trains in minutes."""
    slabs = {"depth": 16, "slices": 8} if on_gpu else {"depth": 8, "slices": 4, "slice_noise": 8, "slice_code": 32}
    return CtSgan(
        model="ct_sgan",
        base_width=None if on_gpu else 16,
        slabs=slabs,
        gradient_penalty={"kind": "dragan", "weight": 10},
        batch_size=8 if on_gpu else 4,
        epochs=1,
        precision=precision,
        sample_rows=1,
    )


def random_volumes(number: int, size: int) -> np.ndarray:
    """Smooth, as chests are for a compressor; int16 [number, size, size, size]."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(-1000, 400, (number, 1, 8, 8, 8)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")[:, 0]
    return (fine.numpy() + rng.normal(0, 15, (number, size, size, size))).astype(np.int16)


def our_step(volumes: torch.Tensor, settings: CtSgan) -> float:
    """Seconds a step of the engine: averaging, history, checkpoints' state and all."""
    torch.manual_seed(0)
    networks = build("ct_sgan", 1, volumes.shape[-1], **network_options(settings))
    training = SlabTraining(make_fabric(settings.precision, devices=1), *networks, volumes, WINDOW, settings)
    training.steps_in_all = 2
    run(training, None, 60.0, "warm-up")
    training.steps_in_all = STEPS + 2
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    start = time.perf_counter()
    while training.step_count < training.steps_in_all:
        training.step()
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    return (time.perf_counter() - start) / STEPS


def plain_step(volumes: torch.Tensor, settings: CtSgan, device: torch.device) -> float:
    """Seconds a step of the plainest loop of the same networks and losses in float32."""
    torch.manual_seed(0)
    networks = build("ct_sgan", 1, volumes.shape[-1], **network_options(settings))
    generator, discriminator = (network.to(device) for network in networks)
    optimizers = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in networks]
    places, depth = slice_positions(volumes.shape[-1], device), settings.slabs.depth
    started = 0.0
    for step in range(STEPS + 2):
        if step == 2:
            torch.cuda.synchronize() if device.type == "cuda" else None
            started = time.perf_counter()
        chosen = torch.randint(0, len(volumes), (settings.batch_size,))
        first = torch.randint(0, len(places) - depth + 1, (settings.batch_size,))
        slabs = [volumes[v, z : z + depth + 2] for v, z in zip(chosen.tolist(), first.tolist(), strict=True)]
        real = to_slices(((torch.stack(slabs).to(device).float() + 1000) / 700 - 1).clamp(-1, 1))
        latent = torch.randn(settings.batch_size, sum(generator.latent_parts), device=device)
        fake = generator.slab(latent, first.to(device), depth)
        seen = torch.randperm(depth, device=device)[: settings.slabs.slices]
        positions = places[first.to(device)[:, None] + seen].flatten()

        def judges(slices: torch.Tensor, seen=seen, positions=positions) -> list[torch.Tensor]:
            return [
                discriminator.slice(slices[:, seen].flatten(0, 1), positions),
                discriminator.slab(slices[:, None, :, 1]),
            ]

        loss = 0.0
        for d_real, d_fake in zip(judges(real), judges(fake.detach()), strict=True):
            loss = loss + binary_cross_entropy_with_logits(d_real, torch.ones_like(d_real))
            loss = loss + binary_cross_entropy_with_logits(d_fake, torch.zeros_like(d_fake))
        for see, judge in (
            (lambda x, seen=seen: x[:, seen].flatten(0, 1), lambda x, p=positions: discriminator.slice(x, p)),
            (lambda x: x[:, None, :, 1], discriminator.slab),
        ):
            at = see(real)
            at = (at + torch.rand_like(at) * 0.5 * at.std()).requires_grad_()
            (gradient,) = torch.autograd.grad(judge(at).sum(), at, create_graph=True)
            loss = loss + 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        loss = sum(binary_cross_entropy_with_logits(d, torch.ones_like(d)) for d in judges(fake))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    torch.cuda.synchronize() if device.type == "cuda" else None
    return (time.perf_counter() - started) / STEPS


def compare_volume_steps(size: int, on_gpu: bool, where: str) -> None:
    device = torch.device("cuda" if on_gpu else "cpu")
    volumes = torch.from_numpy(random_volumes(8, size))
    print(f"(a) training step of ct_sgan at {size}^3, {where}: plain float32 loop / our engine")
    for precision in ("32-true", "bf16-mixed") if on_gpu else ("32-true",):
        settings = settings_for(on_gpu, precision)
        pairs = [(plain_step(volumes, settings, device), our_step(volumes, settings)) for _ in range(ROUNDS)]
        plain, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
        report(f"{precision:>12} {plain * 1000:>7.0f} ms {ours * 1000:>7.0f} ms", [p / o for p, o in pairs])


def compare_synthesis(size: int, settings: CtSgan, on_gpu: bool, where: str) -> dict[str, float]:
    """Prints, and returns, volumes a second: of the generator alone, and made, compressed and written."""
    generator, _ = build("ct_sgan", 1, size, **network_options(settings))
    facts = {"size": size, "spacing_mm": 1.5, "window": WINDOW, "gan": "ct_sgan", "data": "none"}
    synthesizer = VolumeSynthesizer(generator, facts)
    pairs = []
    for _ in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            paths = [Path(folder) / name for name in ("shard.zarr.zip", "shard.parquet")]
            start = time.perf_counter()
            with VolumeWriter(*paths, size) as writer:
                synthesize_volumes(lambda: VolumeMaker(synthesizer), range(SHARD), writer)
            ours, written = time.perf_counter() - start, paths[0].stat().st_size
            latents = [synthesizer.generator.draw_latent(1, torch.Generator().manual_seed(k)) for k in range(SHARD)]
            start = time.perf_counter()
            for latent in latents:
                synthesizer.generator(latent.to(synthesizer.device))
            torch.cuda.synchronize() if on_gpu else None
            pairs.append((time.perf_counter() - start, ours))
    pairs = pairs[1:]  # the first also loads and tunes kernels
    forward, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    network = f"base width {settings.base_width or 'of the paper'}, {size}^3"
    print(f"(b) mass synthesis, {network}, {where}: volumes a second, pure forward / made, compressed, written")
    report(f"{'':>12} {SHARD / forward:>7.2f}    {SHARD / ours:>7.2f}   ", [f / o for f, o in pairs])
    hours, gigabytes = WHOLE * ours / SHARD / 3600, WHOLE * written / SHARD / 1e9
    print(
        f"(c) {WHOLE} volumes of {size}^3 at this rate: {hours:.2f} h, {gigabytes:.0f} GB (untrained: noise "
        f"compresses worse than chests); at 224^3 at most {2.02 * WHOLE * 224**3 / 1e9:.0f} GB for each version"
    )
    print(
        f"    (a diffusion generator at about {DIFFUSION_SECONDS} s a volume: {WHOLE * DIFFUSION_SECONDS / 3600:.0f} h)"
    )
    return {"forward_a_second": SHARD / forward, "made_a_second": SHARD / ours}


def compare_features(where: str) -> None:
    """Table 1 of one more network: with the real volumes' features kept, and with everything anew."""
    rng = np.random.default_rng(0)

    def volumes(number: int, name: str) -> VolumeSet:
        names = [f"{name}{k}" for k in range(number)]
        rows = pd.DataFrame({"volume_id": names, "patient_id": names, "spacing_mm": 5.0})
        return VolumeSet.hold(rng.integers(-1000, 400, (number, 56, 56, 56)).astype(np.int16), rows)

    train, held_out, synthetic = volumes(32, "t"), volumes(12, "h"), volumes(8, "s")
    settings = Fidelity(positions=2, resamples=5)
    with tempfile.TemporaryDirectory() as folder:
        kept = [Path(folder) / f"{name}.safetensors" for name in ("train", "held_out")]

        def everything() -> list:
            return [extract_slices(part, settings.positions, settings.extractor) for part in (train, held_out)]

        for path, slices in zip(kept, everything(), strict=True):
            write_slice_features(path, slices)
        pairs = []
        for _ in range(ROUNDS):
            times = []
            for real in (everything, lambda: [read_slice_features(path) for path in kept]):
                start = time.perf_counter()
                drawn = extract_slices(synthetic, settings.positions, settings.extractor)
                compare_slices(*real(), {"ct_sgan": drawn}, settings)
                times.append(time.perf_counter() - start)
            pairs.append(times)
    anew, with_kept = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"(d) FID of {len(synthetic)} volumes against {len(train)} + {len(held_out)} real ones, {where}: anew / kept")
    report(f"{'':>12} {anew:>7.1f} s  {with_kept:>7.1f} s  ", [a / k for a, k in pairs])


def phantom_chest(size: int) -> np.ndarray:
    """A phantom's scan, about its lungs; int16 [size, size, size] in HU, 336 mm along an edge."""
    scan, spacing_mm = render_chest([5, 0], "lidc", 256, 2.0), 336 / size
    volume = resample(scan.hounsfield, np.diag([*scan.spacing_mm, 1.0]), spacing_mm)
    found = lung_mask(volume)
    return frame_volume(volume.hounsfield, found.mask, spacing_mm, found.failure, size, spacing_mm)


class StandIn:
    """For a `VolumeSynthesizer`: a phantom's chest, as quickly as it is copied."""

    def __init__(self, chest: np.ndarray) -> None:
        self.chest, spacing_mm = chest, 336 / len(chest)
        self.facts = {"gan": "phantom", "data": "phantom", "spacing_mm": spacing_mm, "window": WINDOW}
        self.before: Callable[[int, int], object] | None = None

    def draw(self, seed: int, attempt: int = 1) -> np.ndarray:
        if self.before is not None:
            self.before(seed, attempt)
        return np.roll(self.chest, seed % 7, axis=2)

    describe = VolumeSynthesizer.describe


@contextmanager
def plain_masks() -> Iterator[None]:
    """Lungs and body by SciPy alone: pieces by its labels, balls by distance transforms, holes slice by slice."""
    in_slice = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]

    def grow(mask: np.ndarray, radius_mm: float, spacing: np.ndarray) -> np.ndarray:
        return ndimage.distance_transform_edt(~mask, spacing) <= radius_mm if mask.any() else mask

    def fill_slices(mask: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])

    def enlarge(coarse: np.ndarray, factors: list[int], shape: tuple[int, ...]) -> np.ndarray:
        size = (np.array(coarse.shape) * factors).tolist()
        smooth = interpolate(torch.from_numpy(coarse)[None, None].float(), size=size, mode="trilinear")
        return (smooth[0, 0] > 0.5).numpy()[tuple(map(slice, shape))]

    def label_pieces(mask: np.ndarray) -> np.ndarray:
        return ndimage.label(mask)[0]

    def label_slice_pieces(mask: np.ndarray) -> np.ndarray:
        return ndimage.label(mask, in_slice)[0]

    plain = {(lungs, "grow"): grow, (lungs, "fill_slices"): fill_slices, (lungs, "_enlarge"): enlarge}
    plain |= {(anatomy, "fill_slices"): fill_slices, (lungs, "label_slice_pieces"): label_slice_pieces}
    plain |= {(module, "label_pieces"): label_pieces for module in (lungs, components)}
    before = {(module, name): getattr(module, name) for module, name in plain}
    for (module, name), function in plain.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


def cpu_seconds(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ball(vois: np.ndarray, radii_mm: list[float], seeds: list[int]) -> np.ndarray:
    """For an injector's or an eraser's network."""
    inside = [sphere(len(voi), 1.0, radius) for voi, radius in zip(vois, radii_mm, strict=True)]
    return np.where(inside, np.float32(30), vois)


def phantom_maker(size: int, kind: str = "") -> VolumeMaker:
    """All that mass synthesis does to a volume, which is a phantom's chest.

    kind: whose networks work besides, untrained, so that what their generator draws is replaced by the chest: `paper`,
    `demo`, or none: stand-ins that take next to no time.
    """
    synthesizer, spacing_mm = StandIn(phantom_chest(size)), 336 / size
    inject = erase = ball
    if kind:
        generator, _ = build("ct_sgan", 1, size, **network_options(settings_for(kind == "paper")))
        drawing = VolumeSynthesizer(generator, synthesizer.facts | {"size": size})
        synthesizer.before = drawing.draw
        inject, erase = (untrained_filling(each, kind) for each in ("injector", "eraser"))
    voi = VoiCut(size=64, spacing_mm=1.0, margin_mm=6.0)
    sizes = [1, 2, 3, 4, 8], np.linspace(4, 30, 50)
    injection = Injection(*sizes, inject, PlacementSettings(), voi, 0, erase if kind else None)
    describe = partial(describe_volume, spacing_mm=spacing_mm, window=WINDOW)
    return VolumeMaker(synthesizer, injection, 5, describe)


def untrained_filling(network: str, kind: str) -> Fill:
    voi = Voi(size=64, spacing_mm=1.0, margin_mm=6.0, diameters_mm=(4, 30))
    settings = NoduleNetwork(**({} if kind == "paper" else {"base_width": 4}), steps=1, batch_size=16)
    generator, _ = build("nodule_cgan", 1, 64, **nodule_network_options(network, settings, voi))
    if network == "injector":
        generator.examples[:, 0] = torch.linspace(2, 15, len(generator.examples))
    return Filling(generator, voi.margin_mm, told_up_to_mm=voi.diameters_mm[1]).fill


def time_mass_synthesis(size: int, processes: int, on_gpu: bool) -> dict[str, float]:
    """Seconds a volume by so many processes beside each other, and those that they take to start."""
    open_maker = partial(phantom_maker, size, "paper" if on_gpu else "demo")
    numbers, seconds = (4 * processes, 12 * processes), []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.zip", "a.parquet", "b.parquet")]
        for number in numbers:
            start = time.perf_counter()
            with VolumeWriter(paths[0], paths[1], size, paths[2]) as writer:
                synthesize_volumes(open_maker, range(number), writer, processes=processes)
            seconds.append(time.perf_counter() - start)
    each = (seconds[1] - seconds[0]) / (numbers[1] - numbers[0])
    return {"seconds_a_volume": each, "seconds_to_start": seconds[0] - numbers[0] * each}


def compare_mass_synthesis(size: int, volumes: int) -> dict[str, float]:
    """Prints, and returns, CPU seconds a volume: step by step, each reading what the one before wrote; in one pass."""
    maker = phantom_maker(size)
    stand_in, injection, describe = maker.synthesizer, maker.injection, maker.describe
    chest, spacing_mm = stand_in.chest, 336 / size
    whole = Volume(chest, (spacing_mm,) * 3, (0.0,) * 3)

    def in_one_pass(folder: Path) -> None:
        with VolumeWriter(folder / "a.zip", folder / "a.parquet", size, folder / "b.parquet") as writer:
            synthesize_volumes(lambda: maker, range(volumes), writer)

    def step_by_step(folder: Path) -> None:
        with VolumeWriter(folder / "c.zip", folder / "c.parquet", size) as writer:
            synthesize_volumes(lambda: VolumeMaker(stand_in), range(volumes), writer)
        drawn = read_volume_set(folder / "c.zip", folder / "c.parquet")
        with VolumeWriter(folder / "d.zip", folder / "d.parquet", size) as writer:
            for row, hounsfield in zip(drawn.manifest.to_dict("records"), drawn, strict=True):
                mask = find_lungs(hounsfield, spacing_mm).mask
                if row["synthesis_seed"] % 2 == 0:
                    hounsfield = injection.put_into(row["volume_id"], hounsfield, mask, spacing_mm).hounsfield
                writer.write(hounsfield, row)
        for hounsfield in drawn:
            describe(hounsfield)

    masks, passes = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            new, one_pass = cpu_seconds(lambda: lung_mask(whole)), cpu_seconds(lambda: in_one_pass(Path(folder)))
            ours = lung_mask(whole).mask
            with plain_masks():
                old, steps = cpu_seconds(lambda: lung_mask(whole)), cpu_seconds(lambda: step_by_step(Path(folder)))
                assert np.array_equal(lung_mask(whole).mask, ours)
            pairs = (("a.zip", "b.parquet"), ("d.zip", "d.parquet"))
            made = [read_volume_set(*(Path(folder) / name for name in pair)).manifest for pair in pairs]
            assert made[0].sha256.tolist() == made[1].sha256.tolist()
        masks.append((old, new))
        passes.append((steps / volumes, one_pass / volumes))
    print(f"(e) phantoms of {size}^3, CPU seconds a volume without a generator's: plain ways, step by step / ours")
    found = {}
    for name, pairs in (("lung mask", masks), ("mass synthesis", passes)):
        before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
        report(f"{name:>15} {before:>6.3f} s {after:>6.3f} s", [b / a for b, a in pairs])
        found[name.replace(" ", "_")] = after
    return found


def report(line: str, ratios: list[float]) -> None:
    ratios = sorted(ratios)
    print(f"{line}   ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


def compare_processes(on_gpu: bool, where: str) -> None:
    """Prints seconds a volume of 224^3, everything included, by one process and by one for each core."""
    cores = min(8, os.cpu_count() or 1)
    pairs = [
        tuple(time_mass_synthesis(224, number, on_gpu)["seconds_a_volume"] for number in (1, cores))
        for _ in range(ROUNDS)
    ]
    alone, together = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(
        f"(f) mass synthesis of 224^3 with untrained networks, {where}: seconds a volume, 1 process / {cores} processes"
    )
    report(f"{'':>12} {alone:>6.2f} s {together:>6.2f} s", [one / many for one, many in pairs])


def compare_volumes() -> None:
    on_gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    size = 224 if on_gpu else 56
    compare_volume_steps(size, on_gpu, where)
    compare_synthesis(size, settings_for(on_gpu), on_gpu, where)
    if not on_gpu:
        # Of the paper's width too, for the wider the network, the less the writing counts.
        compare_synthesis(size, settings_for(on_gpu=True), on_gpu, where)
    compare_features(where)
    compare_mass_synthesis(224, volumes=4)
    compare_processes(on_gpu, where)
