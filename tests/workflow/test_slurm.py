"""Cluster execution, for real: the toy study's first half under whatever SLURM runs on this machine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from scangan.memory import CUDA

REPOSITORY = Path(__file__).parents[2]


def sinfo(columns: str) -> list[str]:
    """One line a partition and kind of node; skips the test where no SLURM answers."""
    for program in ("sbatch", "squeue", "sinfo"):
        if shutil.which(program) is None:
            pytest.skip(f"SLURM is not installed: no {program}")
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--states=idle,mixed,allocated", f"--format={columns}"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("SLURM is installed, but its controller does not answer")
    if answer.returncode:
        pytest.skip(f"SLURM is installed, but its controller does not answer: {answer.stderr.strip()}")
    if not answer.stdout.strip():
        pytest.skip("SLURM is running, but has no node up")
    return answer.stdout.splitlines()


@pytest.mark.workflow
def test_a_job_is_planned_for_the_clusters_nodes_and_not_for_this_machine(tmp_path):
    """With a GPU and what CUDA takes, whether this machine has one or not; no SLURM is needed for that."""
    target = tmp_path / "head_ct/gan/dcgan32/seed0/normal/generator.safetensors"
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--dry-run"]
    command += ["--configfile", "tests/configs/head_ct.yaml", "--config", f"results={tmp_path}", "--", str(target)]
    ran = subprocess.run(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert ran.returncode == 0, ran.stdout
    training = ran.stdout[ran.stdout.index("rule train_gan:") :]
    assert "gpu=1" in training
    assert int(re.search(r"\bmem_mb=(\d+)", training)[1]) > CUDA


@pytest.mark.workflow
def test_toy_trains_a_gan_under_slurm(tmp_path):
    nodes = sinfo("%c %G")
    smallest = min(int(line.split()[0].rstrip("+")) for line in nodes)
    target = tmp_path / "head_ct/gan/dcgan32/seed0/normal/generator.safetensors"
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm"]
    command += ["--configfile", "tests/configs/head_ct.yaml", "--config", f"results={tmp_path}"]
    # The profile asks for what a cluster has; this may be a machine with two cores and no GPU.
    command += ["--max-threads", str(smallest), "--slurm-init-seconds-before-status-checks", "3"]
    if not any("gpu" in line for line in nodes):
        command += ["--set-resources", "train_gan:gpu=0"]
    ran = subprocess.run(
        [*command, "--slurm-keep-successful-logs", "--slurm-logdir", str(tmp_path / "slurm_logs"), "--", str(target)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    # Every job went through SLURM and none through this process: phantom, cohort, split, training.
    assert ran.stderr.count("has been submitted with SLURM jobid") == 4, ran.stderr
    assert len(list((tmp_path / "slurm_logs").rglob("*.log"))) == 4
    assert target.stat().st_size > 0
    assert list(pd.read_csv(target.parent / "history.csv").step) == [1, 2, 3]
