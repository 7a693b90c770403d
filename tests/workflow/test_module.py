"""Another workflow uses this one as a module."""

import os
import subprocess
import sys
from pathlib import Path

from tests.workflow.conftest import ROOT

SNAKEFILE = f"""
module scangan:
    snakefile: "{ROOT}/workflow/Snakefile"

rule theirs:
    input: "results/head_ct/tables/fidelity.csv"
    output: "{{study}}.txt"
    script: "theirs.py"

use rule * from scangan as scangan_*
"""


def test_a_module_runs_its_own_code_and_leaves_other_rules_alone(tmp_path: Path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "theirs.py").write_text("")
    other = tmp_path / "installed/scangan"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('the installed one')")
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "theirs.txt"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(other.parent)},
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    assert "scangan_train_gan" in run.stdout + run.stderr
