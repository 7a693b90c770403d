"""The toy study of volumes: nodules, the mix that hides the scanner, synthetic volumes and detectors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from scangan.data.scan_store import read_scans
from scangan.data.voi import read_vois
from scangan.data.volume_set import VolumeSet, read_volume_set
from scangan.phantoms.chest_dicom import write_phantom
from scangan.training.nodules import ROOM
from tests.workflow.conftest import Workflow

STUDY = "results/ct_sgan"
COHORTS = ("lidc", "nlst")
GANS = ("ct_sgan", "ct_sgan_js", "ct_sgan_projected", "gan3d")
DETECTORS = ("classification", "calibration", "detection", "shares")


def test_every_table_and_figure_is_there_and_says_what_it_is(toy: Workflow):
    folder = toy.folder / STUDY
    for name in ("cohort", "eraser", "injector", "mix", "scanner", "fidelity", "consistency", *DETECTORS):
        table = pd.read_csv(folder / f"tables/{name}.csv")
        assert set(table.data) == {"phantom"}, name
        assert set(table.scale) == {"custom"}, name
        assert "phantom data, custom scale" in (folder / f"tables/{name}.md").read_text()
    for name in ("vois", "diameters", "edits", "planes", "middle", "regions", "consistency", "detection", "shares"):
        with Image.open(folder / f"figures/{name}.png") as figure:
            assert min(figure.size) > 200, name
    fidelity = pd.read_csv(folder / "tables/fidelity.csv").set_index("metric")
    for metric, missing in (("energy_distance", {"ct_sgan_projected"}), ("radiomics_distance", set())):
        assert set(fidelity.loc[metric, "variant"]) == set(GANS) - missing
        assert fidelity.loc[metric, ["value", "reference"]].notna().all(axis=None)
    of_projected = fidelity[fidelity["variant"] == "ct_sgan_projected"]
    assert of_projected["extractor"].unique().tolist() == ["radiomics"]
    assert (
        "ct_sgan_projected: refused to efficientnet-lite0, against whose features the generator was trained; judged by "
        "radiomics instead."
    ) in (folder / "tables/fidelity.md").read_text()
    planted = pd.read_csv(folder / "tables/consistency.csv").query("metric == 'planted_exact'")
    assert planted.value.tolist() == [1, 1, 1, 1]
    assert (
        "training volumes planted in gan3d, share suspected: exact 1.00"
        in (folder / "tables/consistency.md").read_text()
    )
    variants = pd.read_csv(folder / "tables/eraser.csv").variant.unique().tolist()
    assert variants == ["eraser", "lung_mean", "biharmonic", "none"]


def test_the_label_gives_the_scanner_away_before_the_mix_and_not_after(toy: Workflow):
    folder = toy.folder / STUDY
    table = pd.read_csv(folder / "tables/scanner.csv")
    scanner = table[table.metric == "scanner_balanced_accuracy"].set_index("variant").value
    assert set(scanner.index) == {"before", "after", "after, size and grain", "chance"}
    assert table[table.variant == "after"].metric.tolist() == ["scanner_balanced_accuracy", "sizes_ks", "sizes_ks_p"]
    labels = pd.read_csv(folder / "nodules/mixed/labels.csv")
    assert set(labels.scanner) == set(COHORTS)
    share = labels.assign(has=labels.label == "nodules").groupby("scanner").has.mean()
    after = labels.assign(has=labels.label_after == "nodules").groupby("scanner").has.mean()
    assert abs(after["lidc"] - after["nlst"]) < abs(share["lidc"] - share["nlst"])
    assert scanner["before"] > scanner["after"]
    mix = pd.read_csv(folder / "tables/mix.csv")
    assert mix.scans.sum() == 16
    assert mix.nodules_erased.sum() > 0
    assert mix.nodules_injected.sum() > 0
    assert mix.shams.sum() > 0
    assert set(mix.negatives) == {"rendered"}


def stores(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


@pytest.mark.parametrize("cohort", COHORTS)
def test_outside_the_edits_not_one_voxel_differs(toy: Workflow, cohort: str):
    folder = toy.folder / STUDY
    scans = pd.read_parquet(folder / f"volumes/framed/{cohort}/batch0_scans.parquet")
    done = pd.read_csv(folder / "nodules/mixed/done.csv")
    assert done.scan_id.isin(scans.scan_id).any()
    before = read_scans(stores(folder, f"volumes/framed/{cohort}/batch*.zarr.zip"), scans)
    after = read_scans(stores(folder, f"nodules/mixed/{cohort}/batch*.zarr.zip"), scans)
    for (scan, old, lungs, labels), (_, new, same_lungs, new_labels) in zip(before, after, strict=True):
        assert (lungs == same_lungs).all()
        changed = old != new
        near = np.zeros_like(changed)
        for row in done[done.scan_id == scan["scan_id"]].itertuples():
            axes = np.ogrid[tuple(slice(length) for length in old.shape)]
            centre = (row.z_voxel, row.y_voxel, row.x_voxel)
            away = sum(((axis - place) * scan["spacing_mm"]) ** 2 for axis, place in zip(axes, centre, strict=True))
            near |= away < (row.diameter_mm / 2 + 8) ** 2
            if row.action == "inject":
                assert lungs[tuple(np.rint(centre).astype(int))]
                assert new_labels[tuple(np.rint(centre).astype(int))]
        assert not changed[~near].any()
        if not near.any():
            assert (labels == new_labels).all()


def test_patients_that_a_network_was_trained_on_are_not_measured(toy: Workflow):
    folder = toy.folder / STUDY / "nodules"
    split = pd.read_csv(toy.folder / STUDY / "split/split.csv").set_index("image_id")
    healthy = read_vois(folder / "vois/healthy.zarr.zip", folder / "vois/healthy.parquet")
    parts = healthy.table.scan_id.map(split.split)
    facts = json.loads((folder / "eraser/generator.json").read_text())
    trained = (parts == "train").sum()
    # With a nodule, and a quarter of them without.
    assert facts["training_vois"] == trained + math.ceil(trained / 4)
    largest = healthy.table.equivalent_diameter_mm[parts == "train"].max()
    assert facts["told_up_to_mm"] == pytest.approx(largest * ROOM)
    table = pd.read_csv(toy.folder / STUDY / "tables/eraser.csv")
    # The detector sees each place twice, erased and as it was.
    as_often = table.metric.map({"detector_auc": 2}).fillna(1)
    assert set(table.images / as_often) == {(parts != "train").sum()}


# Volumes


def volumes_of(folder: Path, pattern: str) -> VolumeSet:
    return read_volume_set(stores(folder, f"{pattern}.zarr.zip"), stores(folder, f"{pattern}.parquet"), verify=True)


def test_networks_learn_from_training_volumes_without_nodules(toy: Workflow):
    folder = toy.folder / STUDY
    free, mixed = volumes_of(folder, "volumes/free/*/batch0"), volumes_of(folder, "volumes/mixed/*/batch0")
    labels = pd.read_csv(folder / "nodules/mixed/labels.csv").set_index("scan_id")
    assert mixed.manifest.set_index("volume_id").label.to_dict() == labels.label_after.to_dict()
    assert set(free.manifest.label) == {"none"}
    assert set(free.manifest.volume_id) <= set(mixed.manifest.volume_id)
    in_training = (free.manifest.volume_id.map(labels.split) == "train").sum()
    for gan in GANS:
        facts = json.loads((folder / f"gan/{gan}/seed0/generator.json").read_text())
        assert facts["training_volumes"] == in_training
        assert (facts["size"], facts["spacing_mm"], facts["data"]) == (56, 6.0, "phantom")


def test_half_of_the_synthetic_volumes_have_nodules_and_seeds_of_their_own(toy: Workflow):
    folder = toy.folder / STUDY / "synthetic/ct_sgan/seed0"
    rejected = pd.concat(map(pd.read_parquet, stores(folder, "nodules/shard*_rejected.parquet")))
    rows = pd.concat(map(pd.read_parquet, [folder / f"nodules/shard{shard}.parquet" for shard in (0, 1)]))
    assert len(rows) + rejected.counted.sum() == 8
    assert (rows.label.eq("nodules") == rows.synthesis_seed.mod(2).eq(0)).all()
    assert rows.nodules[rows.label == "nodules"].ge(1).all()
    plain = volumes_of(folder, "shard[01]")
    shards, edited = stores(folder, "shard[01].zarr.zip"), stores(folder, "nodules/shard[01].parquet")
    injected = read_volume_set(shards, edited, verify=True)
    assert plain.manifest.synthesis_seed.tolist() == list(range(8))
    assert plain.manifest.sha256.nunique() == 8
    first = dict(zip(plain.manifest.volume_id, plain.manifest.sha256, strict=True))
    shams = injected.manifest[(injected.manifest.label == "none") & (injected.manifest.attempts == 1)]
    assert any(sha256 != first[name] for name, sha256 in zip(shams.volume_id, shams.sha256, strict=True))


def test_table_1_and_figure_3b_stand_beside_the_papers(toy: Workflow):
    comparison = pd.read_csv(toy.folder / "results/paper_comparison.csv")
    rows = comparison[comparison.study == "ct_sgan"].set_index(["item", "metric"])
    for variant in ("real", "ct_sgan", "gan3d"):
        assert np.isfinite(rows.loc[(variant, "fid"), "ours"])
        assert np.isfinite(rows.loc[(variant, "inception_score"), "ours"])
    # The toy has other sizes of nodules than the paper's.
    assert rows.loc[("real, 14 mm", "accuracy"), "comparable"] == "no"
    sizes = pd.read_csv(toy.folder / STUDY / "tables/detection.csv")
    assert set(sizes.arm) == {"real", "synthetic", "synthetic-then-real"}
    assert set(sizes.diameter_mm.dropna()) == {20, 30}
    assert sizes[sizes.metric == "auc_sham"].diameter_mm.value_counts().to_dict() == {20: 3, 30: 3}


def test_a_lost_shard_is_made_again_alone_and_the_same(toy_copy: Workflow):
    shard = toy_copy.folder / STUDY / "synthetic/ct_sgan/seed0/shard1.zarr.zip"
    before = shard.read_bytes()
    shard.unlink()
    run = toy_copy.snakemake(target=f"{STUDY}/synthetic/ct_sgan/seed0/shard1.zarr.zip")
    assert run.returncode == 0, run.stdout
    assert toy_copy.last_log().count("Finished jobid") == 1
    assert "synthetic volumes will take up to" in run.stdout
    assert shard.read_bytes() == before


def test_a_disk_that_is_too_small_is_named_before_the_first_job(toy_copy: Workflow):
    wanted = {"ct_sgan": {"synthesis": {"volumes": 10**12, "shard_size": 10**12}}}
    target = f"{STUDY}/synthetic/ct_sgan/seed0/shard0.zarr.zip"
    run = toy_copy.snakemake("--config", f"studies={json.dumps(wanted)}", target=target)
    assert run.returncode != 0
    assert "make room, or ask for fewer or smaller volumes" in run.stdout
    assert "rule synthesize_volumes" not in toy_copy.last_log()
    assert "Traceback" not in run.stdout


def test_any_volume_becomes_files_for_other_programs(toy_copy: Workflow):
    nifti = toy_copy.folder / STUDY / "exported/ct_sgan-5.nii.gz"
    for name in ("ct_sgan-5.nii.gz", "gan3d-2"):
        run = toy_copy.snakemake(target=f"{STUDY}/exported/{name}")
        assert run.returncode == 0, run.stdout
    assert sitk.ReadImage(nifti).GetSpacing() == pytest.approx((6, 6, 6))
    files = sorted((toy_copy.folder / STUDY / "exported/gan3d-2").glob("*.dcm"))
    assert len(files) == 56
    assert "SYNTHETIC" in pydicom.dcmread(files[0]).SeriesDescription


EDITS = "series,x_mm,y_mm,z_mm,diameter_mm,action\n"


def test_a_users_own_scans_are_edited_and_bad_rows_named(toy_copy: Workflow):
    root = toy_copy.folder / "mine"
    write_phantom(root, cohort="nlst", scans=1, image_size=64, slice_spacing_mm=5, seed=5)
    series = next(root.rglob("*.dcm")) if any(root.rglob("*.dcm")) else next(f for f in root.rglob("*") if f.is_file())
    header = pydicom.dcmread(series, stop_before_pixels=True)
    uid, position = header.SeriesInstanceUID, np.array(header.ImagePositionPatient, float)
    rows = (
        f"{uid},9999,0,0,10,inject\n{uid},{position[0]},{position[1]},{position[2]},10,shrink\n1.2.3,0,0,0,10,erase\n"
    )
    (toy_copy.folder / "edits.csv").write_text(EDITS + rows)
    own = {"ct_sgan": {"nodules": {"edits": {"root": "mine", "file": "edits.csv"}}}}
    options = ("--config", f"studies={json.dumps(own)}", f"data_roots={{mine: {root}}}")
    run = toy_copy.snakemake(*options, target=f"{STUDY}/nodules/edited")
    assert run.returncode == 0, run.stdout
    rejected = pd.read_csv(toy_copy.folder / STUDY / "nodules/edited/edits_rejected.csv")
    assert rejected.reason.tolist() == ["place outside the scan", "unknown action", "unknown series"]
    assert pd.read_csv(toy_copy.folder / STUDY / "nodules/edited/edits_done.csv").empty
