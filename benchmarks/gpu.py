"""What only a GPU can show, in the order in which most is learnt; each part ends at its time, each result is a line.

python benchmarks/gpu.py A    is it right? the tests that need a GPU (tests/gpu)
python benchmarks/gpu.py B    a step of each network of the papers at the papers' scale: milliseconds and gigabytes
python benchmarks/gpu.py C    a volume of 224^3 from the generator to the disk, and the CPU work on it
python benchmarks/gpu.py D    two studies of the default configuration, and how busy the GPU is beside them

Without a GPU each part runs as well, its networks and volumes small. --json FILE keeps the results, --seconds N is the
time of each part, --only TEXT those of part B whose name holds it.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from snakemake.utils import update_config

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from scangan.config import Classifier, ImageGan, NoduleNetwork, ProjectedGan, Voi, VolumeGan  # noqa: E402
from scangan.models.backbones import build_classifier  # noqa: E402
from scangan.models.catalogue import build, find_model, network_options  # noqa: E402
from scangan.models.nodule_cgan import OUTPUT_RANGE  # noqa: E402
from scangan.models.squeezenet3d import SqueezeNet3d  # noqa: E402
from scangan.training.adversarial import (  # noqa: E402
    ImageTraining,
    ProjectedTraining,
    channels_last,
    make_fabric,
)
from scangan.training.nodules import NoduleTraining, Pairs, nodule_network_options  # noqa: E402
from scangan.training.supervised import LabelledImages, Phase, _PhaseTraining  # noqa: E402
from scangan.training.volumes import SlabTraining, VolumeTraining  # noqa: E402

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
WARM_UP, STEPS = (4, 16) if ON_GPU else (1, 1)
WINDOW = (-1000.0, 400.0)
results: list[dict[str, Any]] = []


def say(part: str, name: str, **values: Any) -> None:
    """One line, and one entry of the JSON file."""
    results.append({"part": part, "name": name} | values)
    shown = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())
    print(f"{part}  {name:<44} {'  '.join(shown)}", flush=True)


def tried(part: str, name: str, measure: Callable[[], dict[str, Any]]) -> None:
    """One result; an error is one too, and the next is measured all the same."""
    try:
        say(part, name, **measure())
    except Exception as error:
        say(part, name, error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()


def papers_settings() -> dict[str, Any]:
    """The studies of config/config.yaml under the overlay config/paper.yaml, unchecked."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
    return config["studies"]


# B: a step of each network


def image_game(values: dict[str, Any], channels: int, edge: int, precision: str) -> Any:
    """The last step's kind of a training of images; a network that grows is at its largest edge."""
    small = {} if ON_GPU else {"base_width": 8}
    settings = ImageGan.of_kind(values | {"precision": precision, "seeds": 1} | small)
    fabric = make_fabric(precision, 1)
    images = torch.rand(max(64, settings.batch_size), channels, edge, edge)
    generator, discriminator = build(settings.model, channels, edge, **network_options(settings))
    low, high = output_range = find_model(settings.model).OUTPUT_RANGE
    kind = ProjectedTraining if isinstance(settings, ProjectedGan) else ImageTraining
    training = kind(fabric, generator, discriminator, images * (high - low) + low, output_range, settings)
    if settings.model == "pggan":
        training.step_count = training.steps_in_all - WARM_UP - 2 * STEPS - 1
    return training


def volume_game(values: dict[str, Any], size: int, precision: str) -> Any:
    small = {} if ON_GPU else {"base_width": 8, "batch_size": 2}
    settings = VolumeGan.of_kind(values | {"precision": precision, "seeds": 1} | small)
    fabric = make_fabric(precision, 1)
    if settings.model == "ct_sgan":
        volumes = torch.randint(-1000, 400, (max(10, settings.batch_size), size, size, size), dtype=torch.int16)
        return SlabTraining(fabric, *build("ct_sgan", 1, size, **network_options(settings)), volumes, WINDOW, settings)
    scaled = torch.rand(max(10, settings.batch_size), 1, size, size, size) * 2 - 1
    return VolumeTraining(fabric, *build("gan3d", 1, size, **network_options(settings)), scaled, OUTPUT_RANGE, settings)


def nodule_game(values: dict[str, Any], precision: str) -> Any:
    size, small = (64, {}) if ON_GPU else (16, {"base_width": 8, "batch_size": 4})
    spacing_mm = 1.0 if ON_GPU else 2.0
    settings = NoduleNetwork.model_validate(values | {"precision": precision} | small)
    voi = Voi(size=size, spacing_mm=spacing_mm, margin_mm=4.0, diameters_mm=(4, 20))
    rng = np.random.default_rng(0)
    vois, healthy = (rng.normal(-800, 100, (n, size, size, size)).astype(np.float32) for n in (32, 32))
    radii_mm = np.full(32, 6, np.float32)
    networks = build("nodule_cgan", 1, size, **nodule_network_options("injector", settings, voi))
    pairs = Pairs(vois, vois, radii_mm, healthy, radii_mm, forms=np.ones_like(vois))
    return NoduleTraining(make_fabric(precision, 1), *networks, pairs, settings, voi)


class Supervised:
    """Steps of a classifier's, or detector's, training on data that lie on the device."""

    def __init__(self, model: torch.nn.Module, images: torch.Tensor, batch_size: int, precision: str) -> None:
        settings = Classifier(
            positive="b", steps=1000, batch_size=batch_size, learning_rate=1e-4, validate_every=100, seeds=1
        )
        targets = (torch.arange(len(images)) % 2).float().to(DEVICE)
        data = LabelledImages((images.to(DEVICE),), targets)
        self.model = model.to(DEVICE)
        self.training = _PhaseTraining(self.model, Phase("real", data, 1000, 1e-4), data, settings, 0, "benchmark")
        self.precision = precision
        self.discriminator = self.model  # what `channels_last` is asked for

    def step(self) -> None:
        is_half = self.precision == "bf16-mixed"
        with torch.autocast(DEVICE.type, torch.bfloat16) if is_half else nullcontext():
            self.training.advance()


def resnet50(precision: str) -> Supervised:
    batch, edge = (192, 224) if ON_GPU else (4, 32)
    model = build_classifier("resnet50", "none", "imagenet", 1, edge, 0.5)
    return Supervised(model, torch.rand(2 * batch, 1, edge, edge), batch, precision)


def densenet169(precision: str) -> Supervised:
    batch, edge = (16, 224) if ON_GPU else (4, 32)
    model = build_classifier("densenet169", "none", "imagenet", 3, edge, 0.0)
    return Supervised(model, torch.rand(4 * batch, 3, edge, edge), batch, precision)


def resnet50_small(precision: str) -> Supervised:
    model = build_classifier("resnet50", "none", "small", 1, 32, 0.0)
    return Supervised(model, torch.rand(64, 1, 32, 32), 16, precision)


def squeezenet3d(precision: str) -> Supervised:
    batch, edge = (8, 224) if ON_GPU else (2, 56)
    model = SqueezeNet3d(True, 0.5, stem="imagenet")
    volumes = torch.rand(2 * batch, 1, edge, edge, edge)
    return Supervised(model, volumes, batch, precision)


def networks() -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Each network of the papers at their scale, smallest first; and `projected_gan`."""
    studies = papers_settings()
    gans = {study: studies[study]["gan"] for study in ("head_ct", "simple_ct_gan", "covid_ct", "brain_mr", "ct_sgan")}
    yield "dcgan32 32^2 b16", partial(image_game, gans["head_ct"]["dcgan32"], 1, 32)
    yield "resnet50 small 32^2 b16", resnet50_small
    yield "simple_ct_gan 40^2 b16", partial(image_game, gans["simple_ct_gan"]["baseline"], 3, 40)
    projected = {"model": "projected_gan", "epochs": 200, "batch_size": 16}
    for edge in (64, 128, 256):
        yield f"projected_gan {edge}^2 b16", partial(image_game, projected, 1, edge)
    yield "squeezenet3d 224^3 b8", squeezenet3d
    yield "resnet50 224^2 b192", resnet50
    yield "densenet169 224^2 b16", densenet169
    size = 224 if ON_GPU else 56
    yield "ct_sgan 224^3 b8", partial(volume_game, gans["ct_sgan"]["ct_sgan"], size)
    yield "gan3d 128^3 b8", partial(volume_game, gans["ct_sgan"]["gan3d"], 128 if ON_GPU else 16)
    yield "nodule_cgan 64^3 b16", partial(nodule_game, studies["ct_sgan"]["nodules"]["injector"])
    yield "dcgan224 224^2 b16", partial(image_game, gans["covid_ct"]["dcgan224"], 3, 224 if ON_GPU else 64)
    edge = 256 if ON_GPU else 32
    yield "pggan 256^2 b16", partial(image_game, gans["brain_mr"]["pggan"], 1, edge)


def time_steps(make: Callable[[str], Any], precision: str, last: bool, tuned: bool) -> dict[str, Any]:
    """Of a step: milliseconds until it is enqueued, and until it is done (medians), and the peak of memory.

    last: channels last for the discriminator, or classifier, too. tuned: cuDNN tries its kernels first.
    """
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    training = make(precision)
    if last:
        channels_last(training.discriminator)
    with torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=False):
        for _ in range(WARM_UP):
            training.step()
        enqueued, done = [], []
        for _ in range(STEPS):
            if ON_GPU:
                torch.cuda.synchronize()
            start = time.perf_counter()
            training.step()
            enqueued.append(time.perf_counter() - start)
            if ON_GPU:
                torch.cuda.synchronize()
            done.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(STEPS):
            training.step()
        if ON_GPU:
            torch.cuda.synchronize()
        together = (time.perf_counter() - start) / STEPS
    return {
        "ms": 1000 * together,
        "ms_alone": 1000 * statistics.median(done),
        "ms_enqueue": 1000 * statistics.median(enqueued),
        "gb": torch.cuda.max_memory_allocated() / 1e9 if ON_GPU else float("nan"),
    }


def part_b(end: float, only: str) -> None:
    for name, make in networks():
        if only not in name:
            continue
        for precision in ("32-true", "bf16-mixed"):
            for last, tuned in ((False, False), (True, True), (False, True)) if ON_GPU else ((False, False),):
                if time.monotonic() > end:
                    say("B", "the time is over", missing=name)
                    return
                how = f"{precision} {'nhwc' if last else 'as is'} {'tuned' if tuned else ''}"
                tried("B", f"{name} {how}", partial(time_steps, make, precision, last, tuned))


# A


def part_a(end: float) -> None:
    say(
        "A",
        "versions",
        torch=torch.__version__,
        cuda=str(torch.version.cuda),
        cudnn=str(torch.backends.cudnn.version()),
    )
    if ON_GPU:
        tried("A", "copy and bf16 product", ceilings)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/gpu",
        "--override-ini=addopts=",
        "--no-header",
        "--disable-warnings",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=line",
        "-rf",
    ]
    done = subprocess.run(
        command, cwd=ROOT, timeout=max(1, end - time.monotonic()), check=False, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        print("\n".join(line[:300] for line in lines[-200:]))
    # How many passed, and how many were skipped because there is no GPU.
    say("A", "tests/gpu", status=done.returncode, said=lines[-1] if lines else "nothing")


def ceilings() -> dict[str, float]:
    """Terabytes a second of a copy, read and written, and TFLOP/s of a bfloat16 matrix product."""
    block = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    matrix = torch.randn(8192, 8192, dtype=torch.bfloat16, device=DEVICE)
    seconds = []
    for work in (lambda: block.clone(), lambda: matrix @ matrix):
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            work()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / 10)
    return {"tb_s": 2 * 2**30 / seconds[0] / 1e12, "tflop_s": 2 * 8192**3 / seconds[1] / 1e12}


# C


def part_c(end: float) -> None:
    from benchmarks.volumes import compare_synthesis, settings_for, time_mass_synthesis

    size = 224 if ON_GPU else 56
    where = torch.cuda.get_device_name() if ON_GPU else "CPU"
    for processes in (8, 16, 4, 1) if ON_GPU else (2, 1):
        if time.monotonic() < end:
            measure = partial(time_mass_synthesis, size, processes, ON_GPU)
            tried("C", f"all of it, {size}^3, {processes} processes", measure)
    if time.monotonic() < end:
        tried("C", "generator and writer", partial(compare_synthesis, size, settings_for(ON_GPU), ON_GPU, where))


# D


def part_d(end: float) -> None:
    """The workflow: seconds, and the share of them in which the GPU worked."""
    for study in ("head_ct", "covid_ct"):
        if time.monotonic() < end:
            tried("D", study, partial(run_study, study, end))


def run_study(study: str, end: float) -> dict[str, Any]:
    busy: list[float] = []
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(busy, stop))
    with tempfile.TemporaryDirectory() as folder:
        # Four jobs at once on the card: each of these trainings leaves it idle while Python prepares the next step.
        command = [sys.executable, "-m", "snakemake", study, "--cores", "16", "--resources", "gpu=4"]
        command += ["--scheduler", "greedy"]
        start = time.perf_counter()
        watcher.start()
        done = subprocess.run(
            [*command, "--config", f"results={folder}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=max(1, end - time.monotonic()),
            check=False,
        )
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
        verdict = Path(folder) / study / "verdict.md"
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-6000:])
        said = verdict.read_text().strip().splitlines()[-1] if verdict.is_file() else ""
        tables = len(list(Path(folder).glob(f"{study}/tables/*.csv")))
    return {
        "status": done.returncode,
        "seconds": seconds,
        "tables": tables,
        "gpu_busy": statistics.mean(busy) / 100 if busy else float("nan"),
        "verdict": said[:160],
    }


def watch(busy: list[float], stop: threading.Event) -> None:
    """The GPU's load in percent, twice a second, where NVIDIA's tool is."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500"]
    try:
        tool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return
    assert tool.stdout
    for line in tool.stdout:
        busy.append(float(line.split()[0]))
        if stop.is_set():
            break
    tool.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices="ABCD")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    parts = {"A": part_a, "B": partial(part_b, only=chosen.only), "C": part_c, "D": part_d}
    for name in chosen.parts:
        tried(name, "ended", partial(whole, parts[name], chosen.seconds))
        if chosen.json:
            chosen.json.write_text(json.dumps(results, indent=1) + "\n")


def whole(part: Callable[[float], None], seconds: float) -> dict[str, Any]:
    start = time.monotonic()
    part(start + seconds)
    return {"minutes": (time.monotonic() - start) / 60}


if __name__ == "__main__":
    main()
