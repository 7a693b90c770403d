"""Where networks compute: on the GPU that the job was given, or on the CPU; and how exactly."""

from __future__ import annotations

from pathlib import Path

import torch

from scangan.errors import TrainingError
from scangan.jobs import has_gpu

DRIVER = Path("/proc/driver/nvidia/version")


def compute_device() -> torch.device:
    """`cuda` where the job sees a GPU, else `cpu`.

    A GPU that is there and cannot be used raises TrainingError: what was planned for hours of a GPU would take weeks.
    """
    if torch.cuda.is_available():
        # Convolutions and recurrent networks compute in TF32 by default; the few matrix products may do so too.
        torch.set_float32_matmul_precision("high")
        return torch.device("cuda")
    if has_gpu():
        if torch.version.cuda is None and torch.version.hip is None:
            found, allowed = f"torch {torch.__version__}, the build for CPUs", "a build for GPUs"
        else:
            driver = DRIVER.read_text().splitlines()[0] if DRIVER.is_file() else "no driver's version"
            found = f"{driver}, which torch {torch.__version__} cannot use"
            allowed = f"a driver for CUDA {torch.version.cuda}"
        raise TrainingError(f"GPU: found {found}, allowed: {allowed}; or hide the GPU: CUDA_VISIBLE_DEVICES=-1")
    return torch.device("cpu")
