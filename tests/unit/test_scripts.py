"""Scripts of tables, figures and files load no torch, which takes longer than their work."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
WITH_TORCH = {
    *("train_gan", "train_conditional_gan", "train_nodule_gan", "train_classifier"),
    *(
        "synthesize",
        "extract_features",
        "measure_fidelity",
        "measure_nodules",
        "judge_images",
        "judge_real_images",
        "predict_external",
        "embed_images",
        "export_images",
        "screen_images",
    ),
    *(
        "ingest_scans",
        "edit_scans",
        "edit_own_scans",
        "frame_scans",
        "free_scans",
        "inject_sized",
    ),  # which resample volumes
    *("train_volume_gan", "synthesize_volumes", "train_detector"),
    "train_encoder",
    *("measure_volumes", "tabulate_volumes"),  # the latter for torch-fidelity's scores
}


def imports_of(script: Path) -> list[str]:
    nodes = ast.walk(ast.parse(script.read_text()))
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def test_no_other_script_loads_torch():
    scripts = {script.stem: script for script in sorted(SCRIPTS.glob("*.py"))}
    assert set(scripts) >= WITH_TORCH
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT / 'src')!r})"]
    for name, script in scripts.items():
        if name not in WITH_TORCH:
            lines += [*imports_of(script), f"assert 'torch' not in sys.modules, {name!r}"]
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], text=True, stderr=subprocess.PIPE)
    assert run.returncode == 0, run.stderr
