"""What engine, ingestion and workflow cost, each beside what a user would have instead, in one run, as ratios.

make bench          all
python benchmarks/run.py --only step
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.duplicates import compare_duplicates  # noqa: E402
from benchmarks.growing import compare_growing  # noqa: E402
from benchmarks.ingest import compare_ingestion  # noqa: E402
from benchmarks.nodules import compare_nodule_networks, time_scan  # noqa: E402
from benchmarks.projected import compare_projected  # noqa: E402
from benchmarks.volumes import compare_volumes  # noqa: E402
from scangan.config import Dcgan32  # noqa: E402
from scangan.models.catalogue import build  # noqa: E402
from scangan.training.adversarial import make_fabric, train_gan  # noqa: E402

STEPS = 40
ROUNDS = 5
IMAGES, BATCH = 72, 16


def plain_loop(images: torch.Tensor, width: int, penalised: bool, device: torch.device) -> float:
    """Seconds for STEPS steps of the plainest PyTorch loop of the same networks."""
    torch.manual_seed(0)
    generator, discriminator = (network.to(device) for network in build("dcgan32", 1, 32, base_width=width))
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (generator, discriminator)
    ]
    ones, zeros = torch.ones(BATCH, device=device), torch.zeros(BATCH, device=device)
    start = time.perf_counter()
    for _ in range(STEPS):
        real = images[torch.randint(0, len(images), (BATCH,))].to(device)
        fake = generator(torch.randn(BATCH, 100, device=device))
        loss = binary_cross_entropy_with_logits(discriminator(real), ones)
        loss = loss + binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        if penalised:
            at = torch.lerp(real, fake.detach(), torch.rand(BATCH, 1, 1, 1, device=device)).requires_grad_()
            (gradient,) = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
            loss = loss + 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        loss = binary_cross_entropy_with_logits(discriminator(fake), ones)
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def our_engine(images: torch.Tensor, width: int, penalised: bool) -> float:
    """Seconds for the same steps of the engine, with averaging, history, samples and all."""
    settings = Dcgan32(
        model="dcgan32",
        base_width=width,
        epochs=STEPS * BATCH // IMAGES + 1,
        gradient_penalty={"kind": "wgan-gp" if penalised else "none"},
    )
    fabric = make_fabric(settings.precision, devices=1)
    start = time.perf_counter()
    trained = train_gan(images.numpy() / 2 + 0.5, settings, fabric)
    return (time.perf_counter() - start) * STEPS / trained.steps


def compare_steps() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    images = torch.from_numpy(np.random.default_rng(0).random((IMAGES, 1, 32, 32), dtype=np.float32)) * 2 - 1
    print(f"training step of dcgan32, batch {BATCH}, {where}: plain PyTorch loop / our engine")
    print(f"{'width':>6} {'penalty':>8} {'plain':>10} {'ours':>10}   ratio: median (lowest to highest of {ROUNDS})")
    for width in (16, 32, 64):
        for penalised in (False, True):
            plain_loop(images, width, penalised, device)
            our_engine(images, width, penalised)
            pairs = [
                (plain_loop(images, width, penalised, device), our_engine(images, width, penalised))
                for _ in range(ROUNDS)
            ]
            ratios = sorted(plain / ours for plain, ours in pairs)
            plain, ours = (statistics.median(times) / STEPS * 1000 for times in zip(*pairs, strict=True))
            print(
                f"{width:>6} {'wgan-gp' if penalised else 'none':>8} {plain:>7.1f} ms {ours:>7.1f} ms"
                f"   {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


# The demo's jobs, all of them, each with next to nothing to compute.
EMPTY = {
    "head_ct": {
        "phantom": {"images": 200, "image_size": 64},
        "gan": {gan: {"base_width": 1, "epochs": 1, "sample_rows": 1} for gan in ("dcgan32", "projected_gan")},
        "synthesis": {"images_per_class": 2, "shard_size": 2},
        "classifier": {"steps": 1},
        "fidelity": {"resamples": 1},
        "evaluation": {"bootstrap": 100},
    }
}


def run_demo(*options: str) -> float:
    """Seconds of the default run with a results folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "head_ct",
            "--cores",
            "8",
            "--resources",
            "gpu=1",
            "--quiet",
            "all",
        ]
        start = time.perf_counter()
        subprocess.run([*command, "--config", f"results={folder}", *options], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start


def measure_overhead() -> None:
    print("share of the demo's wall time that is not computation: its jobs with next to nothing to do / the demo")
    empty = run_demo(f"studies={json.dumps(EMPTY)}")
    demo = run_demo()
    print(f"head_ct: {empty:.0f} s / {demo:.0f} s = {empty / demo:.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["step", "growing", "projected", "ingest", "duplicates", "nodules", "volumes", "overhead"]
    parser.add_argument("--only", choices=parts)
    chosen = parser.parse_args().only
    if chosen in (None, "step"):
        compare_steps()
    if chosen in (None, "growing"):
        compare_growing()
    if chosen in (None, "projected"):
        compare_projected()
    if chosen in (None, "ingest"):
        compare_ingestion()
    if chosen in (None, "duplicates"):
        compare_duplicates()
    if chosen in (None, "nodules"):
        compare_nodule_networks()
        time_scan()
    if chosen in (None, "volumes"):
        compare_volumes()
    if chosen in (None, "overhead"):
        measure_overhead()
