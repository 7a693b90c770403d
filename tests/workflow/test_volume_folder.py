"""A user's volumes with classes: the rules of images plan them, and say what cannot end well before any job."""

import pytest
import yaml

from tests.volumes import write_volume_folders
from tests.workflow.conftest import Workflow, copy_workflow

STUDY = {
    "data": {
        "reader": "volume_folder",
        "root": "mine",
        "classes": {"ball": "ball", "shell": "shell"},
        "modality": "MR",
    },
    "gan": {"gan3d": {"model": "gan3d", "epochs": 1, "seeds": 1}},
    "synthesis": {"gan": "gan3d", "images_per_class": 4},
    "classifier": {
        "positive": "shell",
        "backbone": "squeezenet3d",
        "stem": "small",
        "arms": ["real", "real+synthetic"],
        "steps": 2,
    },
}
STUDY["data"]["image_size"], STUDY["classifier"]["seeds"] = 16, 1


@pytest.fixture
def mine(tmp_path) -> Workflow:
    write_volume_folders(tmp_path / "volumes", each=3, shape=(16, 16, 16))
    workflow = copy_workflow(tmp_path / "workflow")
    config = {"data_roots": {"mine": str(tmp_path / "volumes")}, "studies": {"mine": STUDY}}
    (workflow.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return workflow


def test_volumes_are_planned_as_images_are(mine, tmp_path):
    jobs = mine.planned("--configfile", "mine.yaml", target="mine")
    of_mine = {job.removeprefix("mine ") for job in jobs if job.startswith("mine ")}
    assert {"train_gan(gan3d, 0, ball)", "synthesize(gan3d, 0, shell, 0)", "extract_real_features(16)"} <= of_mine
    assert {"train_classifier(real, seed0)", "train_classifier(real+synthetic, gan_seed0-seed0)"} <= of_mine
    assert {"reach_verdict", "measure_fidelity(gan3d, 0)", "plot_gan(gan3d)", "write_study_page"} <= of_mine
    assert not {job for job in of_mine if "encoder" in job}
    for file in (tmp_path / "volumes/ball").iterdir():
        file.unlink()
    run = mine.snakemake("--dry-run", "--configfile", "mine.yaml", target="mine")
    assert run.returncode
    assert "classes.ball: found 0 volumes of value 'ball', allowed: at least 3" in run.stdout
