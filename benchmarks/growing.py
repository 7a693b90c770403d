"""PGGAN at its full size: images a second of our engine beside the plainest loop of the same networks."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from scangan.config import Pggan
from scangan.models.catalogue import build
from scangan.training.adversarial import make_fabric, train_gan

BATCH, STEPS, ROUNDS = 16, 12, 3
# Of a well-tuned GAN at 256x256 on one V100, as published: the order of magnitude to expect.
PUBLISHED = 43


def plain_images_a_second(images: torch.Tensor, width: int | None, device: torch.device) -> float:
    """Of the plainest PyTorch loop at full size: WGAN-GP with drift, float32, nothing else."""
    size, options = images.shape[-1], {} if width is None else {"base_width": width}
    generator, discriminator = (network.to(device) for network in build("pggan", 1, size, **options))
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99)) for network in (generator, discriminator)
    ]
    started = 0.0
    for step in range(STEPS + 2):
        if step == 2:  # the first ones also load and tune kernels
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
        real = images[torch.randint(0, len(images), (BATCH,))].to(device)
        fake = generator(torch.randn(BATCH, 512, device=device))
        d_real, d_fake = discriminator(real), discriminator(fake.detach())
        at = torch.lerp(real, fake.detach(), torch.rand(BATCH, 1, 1, 1, device=device)).requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
        penalty = 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        optimizers[1].zero_grad()
        (d_fake.mean() - d_real.mean() + penalty + 0.001 * d_real.square().mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-discriminator(fake).mean()).backward()
        optimizers[0].step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return STEPS * BATCH / (time.perf_counter() - started)


def our_images_a_second(images: torch.Tensor, width: int | None, precision: str) -> float:
    """Of the engine at its largest resolution, faded in at once; averaging, history and samples as always."""
    size = images.shape[-1]
    smaller = [4 << level for level in range(size.bit_length()) if 4 << level < size]
    settings = Pggan(
        model="pggan",
        base_width=width,
        loss="wasserstein",
        gradient_penalty={"kind": "wgan-gp", "weight": 10},
        drift=0.001,
        beta1=0.0,
        beta2=0.99,
        batch_size=BATCH,
        epochs=max(1, (STEPS + len(smaller) + 4) * BATCH // len(images)),
        progressive={"shares": dict.fromkeys(smaller, 1e-6), "fade": 0.0},
        precision=precision,
        sample_rows=1,
    )
    trained = train_gan(images.numpy() / 2 + 0.5, settings, make_fabric(precision, devices=1))
    at_full_size = trained.history.images_per_second.iloc[len(smaller) + 2 :]
    return float(at_full_size.median())


def compare_growing() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    size, width, precisions = (256, None, ("32-true", "bf16-mixed")) if on_gpu else (64, 32, ("32-true",))
    images = torch.from_numpy(np.random.default_rng(0).random((64, 1, size, size), dtype=np.float32)) * 2 - 1
    print(f"pggan at {size}x{size}, batch {BATCH}, {where}: images a second, ours / plain float32 loop")
    print(f"(published, another network, 256x256 on one V100: about {PUBLISHED})")
    for precision in precisions:
        pairs = [
            (our_images_a_second(images, width, precision), plain_images_a_second(images, width, device))
            for _ in range(ROUNDS)
        ]
        ratios = sorted(ours / plain for ours, plain in pairs)
        ours, plain = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{precision:>12} {ours:>8.1f} {plain:>8.1f}   ratio: {spread}", flush=True)
