"""A user's own study with other patients and subgroups, and what asking for them makes anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from scangan.phantoms.head_ct import write_phantom
from tests.workflow.conftest import Workflow, run_once

TARGETS = " ".join(f"results/head_ct/tables/{table}.md" for table in ("external", "subgroups"))
STUDY = {
    "external": {"root": "other"},
    "evaluation": {"subgroups": {"column": "scanner"}},
    "classifier": {"arms": ["real", "synthetic"]},
    "synthesis": {"shard_size": 8},
}


ROOTS = {"head_ct": "data/own", "other": "data/other"}


def options(study: dict = STUDY, roots: dict = ROOTS) -> tuple[str, str, str]:
    return "--config", f"data_roots={json.dumps(roots)}", f"studies={json.dumps({'head_ct': study})}"


def write_data(data: Path) -> None:
    """Two hospitals; one image of the other is the first one's, and of every fourth patient the scanner is unknown."""
    for seed, name in enumerate(("own", "other")):
        write_phantom(data / name, images=40 - 28 * seed, image_size=64, seed=seed)
    (data / "own/labels.csv").write_text(
        "id,hemorrhage,scanner\n"
        + "".join(f"{number},{int(number < 20)},{'old' if number % 4 else ''}\n" for number in range(40))
    )
    shutil.copy2(data / "own/head_ct/003.png", data / "other/head_ct/002.png")


@pytest.fixture(scope="session")
def hospitals(shared_folder: Path) -> Workflow:
    folder = shared_folder / "hospitals"
    return run_once(folder, *options(), target=TARGETS, prepare=lambda: write_data(folder / "data"))


def test_the_classifiers_are_tested_on_images_of_other_patients_alone(hospitals: Workflow):
    results = hospitals.folder / "results/head_ct"
    table = pd.read_csv(results / "tables/external.csv")
    assert set(table.arm) == {"real", "synthetic"}
    assert table.cases.unique().tolist() == [11]
    assert table.data.unique().tolist() == ["real"]
    assert table[table.arm == "synthetic"].difference.notna().all()
    left_out = pd.read_csv(results / "external/left_out.csv")
    assert list(left_out.source) == ["head_ct/002.png"]
    assert left_out.found.str.startswith("head_ct/003.png").all()
    text = (results / "tables/external.md").read_text()
    assert "Tested on 11 images of 11 patients" in text
    assert "left out: 1 identical to one of the study's own (see results/head_ct/external/left_out.csv)" in text
    for predictions in results.glob("classifier/*/*/external.parquet"):
        assert set(pd.read_parquet(predictions).split) == {"external"}


def test_each_subgroup_of_the_test_images_is_counted(hospitals: Workflow):
    results = hospitals.folder / "results/head_ct"
    table = pd.read_csv(results / "tables/subgroups.csv")
    counts = table.drop_duplicates("subgroup").set_index("subgroup")
    assert list(counts.index) == ["old", "(missing)"]
    split = pd.read_csv(results / "split/split.csv", dtype=str)
    test = split[split.split == "test"]
    assert counts.images.sum() == len(test)
    assert counts.images["(missing)"] == (test.image_id.astype(int) % 4 == 0).sum()
    scored = table[table.subgroup == "old"]
    assert set(scored.arm) == {"real", "synthetic"}
    assert scored.value.notna().all()


def test_asking_for_more_trains_nothing(hospitals: Workflow):
    def planned(**changes: object) -> set[str]:
        return hospitals.planned(*options(STUDY | changes), target=TARGETS)

    assert planned() == set()
    subgroups = {"head_ct read_subgroups", "head_ct tabulate_subgroups"}
    assert planned(evaluation={"subgroups": {"column": "id"}}) == subgroups
    trainings = ("real, seed0", "synthetic, gan_seed0-seed0")
    tested = {f"head_ct predict_external({training})" for training in trainings} | {"head_ct tabulate_external"}
    again = {"head_ct/external ingest_images", "head_ct check_external"} | tested
    assert planned(external={"root": "other", "fit": "stretch"}) == again


def test_what_was_trained_with_them_is_what_is_trained_without(hospitals: Workflow):
    plain = {key: value for key, value in STUDY.items() if key not in ("external", "evaluation")}
    trained = [path.relative_to(hospitals.folder) for path in hospitals.folder.rglob("classifier.safetensors")]
    asked = options(plain, {"head_ct": ROOTS["head_ct"]})
    assert hospitals.planned(*asked, target=" ".join(map(str, trained))) == set()
