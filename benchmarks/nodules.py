"""What the nodule networks cost beside the plainest PyTorch of the same networks, and what a whole scan costs.

python benchmarks/nodules.py                      all
python benchmarks/nodules.py --only scan

VOIs a second of a training step and of inference, batch 16, in interleaved rounds, as ratios: 64^3 at 1 mm on a GPU;
on a CPU 24^3 and 32^3. Then five nodules injected into one scan of 512x512x300 voxels, DICOM in, DICOM out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.ingest import PIXEL_MM, SIZE, SLICE_MM, header  # noqa: E402
from scangan.config import NoduleNetwork, Voi, VoiCut  # noqa: E402
from scangan.ct.grids import sphere  # noqa: E402
from scangan.ct.window import to_hounsfield, to_network  # noqa: E402
from scangan.models.catalogue import build  # noqa: E402
from scangan.models.nodule_cgan import sphere_mask  # noqa: E402
from scangan.synthesis.edit import EditSettings, edit_own_scans  # noqa: E402
from scangan.synthesis.nodules import fill  # noqa: E402
from scangan.training.adversarial import make_fabric  # noqa: E402
from scangan.training.nodules import Pairs, train_nodule_gan  # noqa: E402

ROUNDS = 5
STEPS, VOIS, BATCH = 10, 64, 16
RADIUS_MM, MARGIN_MM = 6.0, 4.0
RECONSTRUCTION, INSIDE = 100.0, 2.0  # weights, as in NoduleNetwork
NODULES, SLICES = 5, 300


@dataclass(frozen=True)
class Case:
    """VOIs of `size`^3 voxels of `spacing_mm`, networks of `width`, a number format."""

    size: int
    spacing_mm: float
    width: int
    precision: str = "32-true"

    def networks(self, device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module]:
        torch.manual_seed(0)
        networks = build("nodule_cgan", 1, self.size, base_width=self.width, voi_spacing_mm=self.spacing_mm)
        return tuple(network.to(device) for network in networks)

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def vois(self) -> np.ndarray:
        """Noisy lung with a ball: [VOIS, S, S, S] in HU."""
        noise = np.random.default_rng(0).normal(-850, 30, (VOIS, *(self.size,) * 3))
        return np.where(sphere(self.size, self.spacing_mm, RADIUS_MM), 30, noise).astype(np.float32)


CPU_CASES = (Case(24, 2.0, 8), Case(32, 2.0, 8))
GPU_CASES = (Case(64, 1.0, 64), Case(64, 1.0, 64, "bf16-mixed"))


def plain_training(case: Case, vois: np.ndarray, device: torch.device) -> float:
    """Seconds for STEPS steps of the plainest loop: no averaging, no augmentation, no history."""
    generator, discriminator = case.networks(device)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (generator, discriminator)
    ]
    images = torch.from_numpy(to_network(vois))[:, None]
    radius_mm = torch.full((BATCH,), RADIUS_MM, device=device)
    mask = sphere_mask(radius_mm + MARGIN_MM, case.size, case.spacing_mm)
    weight = mask * torch.where(sphere_mask(radius_mm, case.size, case.spacing_mm), INSIDE, 1.0)
    ones, zeros = torch.ones(BATCH, device=device), torch.zeros(BATCH, device=device)
    start = time.perf_counter()
    for _ in range(STEPS):
        real = images[torch.randint(0, VOIS, (BATCH,))].to(device)
        with case.autocast(device):
            fake = generator(real, mask, radius_mm, torch.randn(real.shape, device=device))
            on_real = discriminator(real, mask, radius_mm, real).float()
            on_fake = discriminator(real, mask, radius_mm, fake.detach()).float()
        loss = binary_cross_entropy_with_logits(on_real, ones) + binary_cross_entropy_with_logits(on_fake, zeros)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        with case.autocast(device):
            on_fake = discriminator(real, mask, radius_mm, fake).float()
        difference = ((fake.float() - real).abs() * weight).sum() / weight.sum()
        loss = binary_cross_entropy_with_logits(on_fake, ones) + RECONSTRUCTION * difference
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def our_training(case: Case, vois: np.ndarray, device: torch.device) -> float:
    """Seconds for the same steps of the engine, with augmentation, averaging, history, a row of samples and all."""
    settings = NoduleNetwork(
        base_width=case.width,
        steps=STEPS,
        batch_size=BATCH,
        reconstruction_weight=RECONSTRUCTION,
        inside_weight=INSIDE,
        precision=case.precision,
        sample_rows=1,
    )
    fabric = make_fabric(settings.precision, devices=1)
    pairs = Pairs(vois, vois, np.full(VOIS, RADIUS_MM, np.float32))
    start = time.perf_counter()
    voi = Voi(size=case.size, spacing_mm=case.spacing_mm, margin_mm=MARGIN_MM)
    train_nodule_gan("injector", pairs, settings, voi, fabric)
    return time.perf_counter() - start


@torch.no_grad()
def plain_inference(case: Case, vois: np.ndarray, device: torch.device) -> float:
    """Seconds for VOIS VOIs, from HU to HU."""
    generator = case.networks(device)[0].eval()
    start = time.perf_counter()
    for first in range(0, VOIS, BATCH):
        voi = torch.from_numpy(to_network(vois[first : first + BATCH]))[:, None].to(device)
        radius_mm = torch.full((len(voi),), RADIUS_MM, device=device)
        mask = sphere_mask(radius_mm + MARGIN_MM, case.size, case.spacing_mm)
        to_hounsfield(generator(voi, mask, radius_mm, torch.randn(voi.shape, device=device))).cpu().numpy()
    return time.perf_counter() - start


def our_inference(case: Case, vois: np.ndarray, device: torch.device) -> float:
    """Seconds for the same, each VOI with noise from a seed of its own, and to the bit what it was beyond its mask."""
    generator = case.networks(device)[0]
    start = time.perf_counter()
    fill(generator, vois, [RADIUS_MM] * VOIS, MARGIN_MM, case.spacing_mm, range(VOIS), BATCH)
    return time.perf_counter() - start


def compare_nodule_networks(cases: Sequence[Case] | None = None) -> None:
    """Print VOIs a second of a training step and of inference, ours beside a plain loop's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"nodule_cgan, VOIs a second, batch {BATCH}, {where}: our engine / plain PyTorch loop")
    print(f"{'':<9} {'VOI':>5} {'width':>6} {'format':>11} {'plain':>8} {'ours':>8}", end="")
    print(f"   ratio: median (lowest to highest of {ROUNDS})")
    for case in cases or (GPU_CASES if device.type == "cuda" else CPU_CASES):
        vois = case.vois()
        compare("training", case, vois, STEPS * BATCH, (plain_training, our_training), device)
        if case.precision == "32-true":  # what `fill` works in
            compare("inference", case, vois, VOIS, (plain_inference, our_inference), device)


def compare(
    name: str,
    case: Case,
    vois: np.ndarray,
    done: int,
    ways: tuple[Callable[..., float], Callable[..., float]],
    device: torch.device,
) -> None:
    """Print a row. done: VOIs that a way deals with in the seconds that it returns; one round is not counted."""
    rounds = [[way(case, vois, device) for way in ways] for _ in range(ROUNDS + 1)][1:]
    ratios = sorted(plain / ours for plain, ours in rounds)
    plain, ours = (done / statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    print(
        f"{name:<9} {case.size:>3}^3 {case.width:>6} {case.precision:>11} {plain:>8.1f} {ours:>8.1f}"
        f"   {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


# A whole scan


def write_scan(root: Path, slices: int) -> None:
    """Uncompressed slices of 512x512 with about 100 tags each: a body with two lungs."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    root.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40.0, -1000.0)
    lungs = (((np.abs(x) - 0.36) / 0.26) ** 2 + (y / 0.42) ** 2) < 1
    for number in range(slices):
        shown = np.where(lungs & (0.1 < number / slices < 0.9), -850, body) + rng.normal(0, 25, body.shape)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword, value in header(number).items():
            setattr(dataset, keyword, value)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{dataset.SeriesInstanceUID}.{number}"
        dataset.PixelData = (shown + 1024).clip(0, 4095).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(root / f"{number:06d}.dcm", enforce_file_format=True)


def write_edits(path: Path, root: Path, slices: int) -> None:
    """Five nodules of 12 mm, one above the other, in the lung on the image's left."""
    x, y, z = header(0)["ImagePositionPatient"]
    x += (1 - 0.36) / 2 * PIXEL_MM * (SIZE - 1)
    y += PIXEL_MM * (SIZE - 1) / 2
    lines = ["series,x_mm,y_mm,z_mm,diameter_mm,action"]
    for share in np.linspace(0.2, 0.8, NODULES):
        lines.append(f"{root.name},{x:.2f},{y:.2f},{z + share * slices * SLICE_MM:.2f},{2 * RADIUS_MM},inject")
    path.write_text("\n".join(lines) + "\n")


def time_scan(slices: int = SLICES) -> None:
    """Print the seconds that five nodules in one scan take, with a network of the paper's size, untrained."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    case = GPU_CASES[0]
    generator, _ = case.networks(device)
    settings = EditSettings(VoiCut(size=case.size, spacing_mm=case.spacing_mm, margin_mm=MARGIN_MM))
    totals, networks = [], []

    def inject(vois: np.ndarray, radii_mm: Sequence[float], seeds: Sequence[int]) -> np.ndarray:
        start = time.perf_counter()
        filled = fill(generator, vois, radii_mm, MARGIN_MM, case.spacing_mm, seeds)
        networks[-1] += time.perf_counter() - start
        return filled

    with tempfile.TemporaryDirectory() as folder:
        scans, edits = Path(folder, "scans"), Path(folder, "edits.csv")
        scans.mkdir()
        write_scan(scans / "scan", slices)
        write_edits(edits, scans / "scan", slices)
        for number in range(ROUNDS):
            networks.append(0.0)
            start = time.perf_counter()
            done, rejected = edit_own_scans(scans, edits, Path(folder, str(number)), inject, inject, settings)
            totals.append(time.perf_counter() - start)
            if len(done) != NODULES:
                raise SystemExit(f"error: {len(done)} of {NODULES} nodules injected: {rejected.reason.tolist()}")
    print(
        f"{NODULES} nodules injected into {SIZE}x{SIZE}x{slices} voxels, DICOM in, DICOM out, {where}; VOIs of "
        f"{case.size}^3, width {case.width}: {statistics.median(totals):.1f} s ({min(totals):.1f} to "
        f"{max(totals):.1f} of {ROUNDS}), of these the network {statistics.median(networks):.1f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["networks", "scan"])
    chosen = parser.parse_args().only
    if chosen in (None, "networks"):
        compare_nodule_networks()
    if chosen in (None, "scan"):
        time_scan()
