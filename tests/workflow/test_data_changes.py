"""What changes in a folder of data reruns what depends on it; what only looks changed reruns nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Workflow, run_once

STUDIES = {"head_ct": "head_ct", "brain_mr": "brain_mr", "lidc": "simple_ct_gan"}  # root: the study whose data it is
ENDS = " ".join(f"results/{study}/split/split.csv" for study in STUDIES.values())
ROOTS = ("--config", f"data_roots={json.dumps({root: f'data/{root}' for root in STUDIES})}")

HEAD_CT = {"list_data(head_ct)", "head_ct ingest_images", "head_ct split_cohort"}
BRAIN_MR = {"list_data(brain_mr)", "brain_mr ingest_images", "brain_mr split_cohort"}
LIDC = {"list_data(lidc)"} | {
    f"simple_ct_gan {job}"
    for job in ("index_scans", "ingest_scans(0)", "ingest_scans(1)", "gather_scans", "cut_slices", "split_cohort")
}


@pytest.fixture(scope="session")
def own(toy: Workflow, shared_folder: Path) -> Workflow:
    """The phantoms as if they were a user's own data, read as far as the split."""
    folder = shared_folder / "own"

    def copy_data() -> None:
        for root, study in STUDIES.items():
            source = toy.folder / f"results/{study}/phantom"
            # A study that was run with its key keeps it hidden in its folder; a user's own begins without.
            shutil.copytree(source, folder / "data" / root, ignore=shutil.ignore_patterns(".scangan"))

    return run_once(folder, *ROOTS, target=ENDS, prepare=copy_data)


@pytest.fixture
def own_copy(own: Workflow, tmp_path: Path) -> Workflow:
    """The same once more, with all time stamps, to be changed at will."""
    shutil.copytree(own.folder, tmp_path / "own", symlinks=True)
    return Workflow(tmp_path / "own")


def planned(workflow: Workflow) -> set[str]:
    return workflow.planned(*ROOTS, target=ENDS)


def pick(folder: Path, pattern: str, number: int = 0) -> Path:
    return sorted(folder.rglob(pattern))[number]


def later(path: Path) -> None:
    modified = path.stat().st_mtime_ns + 5 * 10**9
    os.utime(path, ns=(modified, modified))


def correct_a_label(data: Path) -> None:
    table = data / "head_ct/labels.csv"
    row = next(line for line in table.read_text().splitlines() if line.endswith("0"))
    table.write_text(table.read_text().replace(row, f"{row[:-1]}1"))


def add_an_image(data: Path) -> None:
    shutil.copy2(pick(data / "head_ct", "*.png"), data / "head_ct/head_ct/more.png")


def remove_an_image(data: Path) -> None:
    pick(data / "head_ct", "*.png").unlink()


def replace_an_image(data: Path) -> None:
    shutil.copyfile(pick(data / "head_ct", "*.png", 1), pick(data / "head_ct", "*.png", 0))


def rename_two_folders_down(data: Path) -> None:
    image = pick(data / "brain_mr", "*seg*")
    image.rename(image.with_name(image.name.replace("_seg", "_other_seg")))


def replace_a_segmentation(data: Path) -> None:
    shutil.copyfile(pick(data / "brain_mr", "*seg*", 1), pick(data / "brain_mr", "*seg*", 0))


def add_a_slice(data: Path) -> None:
    slice_file = pick(data / "lidc", "*.dcm")
    shutil.copyfile(slice_file, slice_file.with_name("one_more.dcm"))


def edit_a_slice_in_place(data: Path) -> None:
    slice_file = pick(data / "lidc", "*.dcm")
    content = bytearray(slice_file.read_bytes())
    content[-1] ^= 1
    slice_file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "dependent"),
    [
        *((change, HEAD_CT) for change in (correct_a_label, add_an_image, remove_an_image, replace_an_image)),
        *((change, BRAIN_MR) for change in (rename_two_folders_down, replace_a_segmentation)),
        *((change, LIDC) for change in (add_a_slice, edit_a_slice_in_place)),
    ],
)
def test_a_change_reruns_what_depends_on_it(own_copy: Workflow, change: Callable[[Path], None], dependent: set[str]):
    change(own_copy.folder / "data")
    assert planned(own_copy) == dependent


def test_nothing_runs_twice(own: Workflow):
    assert planned(own) == set()


def test_touched_files_rerun_nothing_and_a_corrected_one_is_read_once(own_copy: Workflow):
    data = own_copy.folder / "data"
    for path in data.rglob("*"):
        if path.is_file():
            later(path)
    (data / "head_ct/.DS_Store").write_text("left by a system")
    assert planned(own_copy) == set()
    correct_a_label(data)
    assert planned(own_copy) == HEAD_CT
    run = own_copy.snakemake(*ROOTS, target=ENDS)
    assert run.returncode == 0, run.stdout
    assert planned(own_copy) == set()


def test_no_job_of_a_cluster_lists_the_folder_again(own_copy: Workflow):
    """A job's own process plans just that job."""
    listing = own_copy.folder / "src/scangan/ingest/listing.py"
    line = "    return walk(root)[0]"  # of the plan; a reader has its own
    assert line in listing.read_text()
    listing.write_text(listing.read_text().replace(line, f"    print('LISTED')\n{line}"))
    job = ("--target-jobs", "ingest_images:study=head_ct", "--allowed-rules", "ingest_images", "--force")
    run = own_copy.snakemake(*job, "--mode", "subprocess", *ROOTS, target="results/head_ct/cohort/manifest.parquet")
    assert run.returncode == 0, run.stdout
    assert "LISTED" not in run.stdout
    # While a plan does list it.
    assert "LISTED" in own_copy.snakemake("--dry-run", *ROOTS, target=ENDS).stdout
