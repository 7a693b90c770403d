"""The toy study from end to end; and a folder of real scans, good and bad, of which no name may come out."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import SimpleITK as sitk
import zarr
from PIL import Image
from pydicom import Dataset
from pydicom.uid import MRImageStorage, generate_uid
from zarr.storage import ZipStore

from scangan.data.scan_store import SCAN_TYPES
from scangan.data.store import read_image_set
from scangan.metrics.fidelity import METRICS as FIDELITY_METRICS
from scangan.metrics.generators import BY_RADIOMICS
from tests.unit.dicom_files import INTERCEPT, set_pixels, write_series
from tests.workflow.conftest import Workflow, run_once
from tests.workflow.test_head_ct import FIDELITY

GANS = "baseline kernel_5 adam size_64 images_76 images_32 baseline_at_64".split()
METRICS = {
    *FIDELITY_METRICS,
    *BY_RADIOMICS.values(),
    "encoder_distance",
    "suspected_copies",
    "leaked_held_out",
    "membership_auc",
}  # of networks; planted copies stand in the note
# Settings in which the networks differ, and what there was of each.
SETTINGS = {"kernel_size", "optimizer", "beta2", "image_size", "training_images", "weights_of"}
STUDY = "results/simple_ct_gan"

# The toy study


def test_the_table_of_networks_says_in_what_they_differ(toy: Workflow):
    networks = pd.read_csv(toy.folder / STUDY / "tables/networks.csv")
    assert set(networks.columns) == {"study", "network", *SETTINGS, *FIDELITY[2:]}
    assert len(networks) == len(GANS) * len(METRICS)
    assert set(zip(networks.network, networks.metric, strict=True)) == {(gan, name) for gan in GANS for name in METRICS}
    assert set(networks.data) == {"phantom"}
    assert set(networks.scale) == {"custom"}
    # Two patients are held out: too few for FID's extrapolation.
    assert networks.value[networks.metric != "fid_infinity"].notna().all()
    rows = networks[networks.metric == "fid"].set_index("network")
    assert rows.kernel_size.to_dict() == dict.fromkeys(GANS, 3) | {"kernel_5": 5}
    assert rows.optimizer.to_dict() == dict.fromkeys(GANS, "rmsprop") | {"adam": "adam"}
    assert rows.image_size.to_dict() == dict.fromkeys(GANS, 16) | {"size_64": 24, "baseline_at_64": 24}
    # As many as there were: three slices of a scan, and half of the eight scans.
    assert rows.training_images.to_dict() == dict.fromkeys(GANS, 12) | {"images_76": 8, "images_32": 4}
    assert rows.weights_of.dropna().to_dict() == {"baseline_at_64": "baseline"}


def test_the_other_tables_are_whole_and_honest(toy: Workflow):
    tables = toy.folder / STUDY / "tables"
    fidelity = pd.read_csv(tables / "fidelity.csv")
    assert list(fidelity.columns) == FIDELITY
    # One class: there is nothing to put together.
    assert set(fidelity.variant) == {f"{gan}/all" for gan in GANS}
    nodules = pd.read_csv(tables / "nodules.csv")
    kinds = nodules.groupby("source").data.unique().map(list).to_dict()
    assert kinds == {"LIDC database": ["real"], "cohort": ["phantom"]}
    counts = nodules[nodules.statistic == "n"].set_index(["source", "quantity"]).value
    assert counts["LIDC database", "nodules per scan"] == 1018
    assert counts["cohort", "nodules per scan"] == 8
    assert counts["cohort", "radius mm"] == len(pd.read_csv(toy.folder / STUDY / "scans/nodules.csv"))
    cohort = pd.read_csv(tables / "cohort.csv").set_index("split")
    assert cohort.images[["train", "validation", "test"]].tolist() == [12, 6, 6]
    assert "8 scans of 7 patients" in (tables / "cohort.md").read_text()
    for name in ("networks", "fidelity", "cohort"):
        assert "phantom data, custom scale" in (tables / f"{name}.md").read_text()
    assert not (tables / "classification.csv").exists()
    assert not (toy.folder / STUDY / "classifier").exists()


def test_the_studies_rows_stand_beside_the_papers(toy: Workflow):
    papers = pd.read_csv(toy.folder / "results/paper_comparison.csv")
    rows = papers[papers.study == "simple_ct_gan"].set_index("item")
    fidelity = pd.read_csv(toy.folder / STUDY / "tables/fidelity.csv").query("metric == 'fid'").set_index("variant")
    assert set(rows.index) == {f"{gan}/all" for gan in GANS}
    assert rows.paper.isna().all()
    assert set(rows.comparable) == {"no"}
    pd.testing.assert_series_equal(rows.ours, fidelity.value[rows.index], check_names=False)
    assert rows.why_not.str.contains("the paper prints no figure").all()
    assert rows.why_not.str.contains("phantom data; custom scale").all()


def test_figures(toy: Workflow):
    panels = {f"panels/{name}" for name in ("kernel_size", "optimizer", "image_size", "training_images")}
    of_gans = {f"{gan}/{name}" for gan in GANS for name in ("images", "training")}
    found = {path.relative_to(toy.folder / STUDY / "figures") for path in toy.folder.glob(f"{STUDY}/figures/**/*.png")}
    assert {str(path.with_suffix("")) for path in found} == {"scans", "nodules"} | panels | of_gans
    for path in found:
        with Image.open(toy.folder / STUDY / "figures" / path) as figure:
            assert min(figure.size) > 300, path


def test_weights_of_another_network_draw_images_of_another_size(toy: Workflow):
    gans = toy.folder / STUDY / "gan"
    assert sorted(path.name for path in gans.iterdir()) == sorted(set(GANS) - {"baseline_at_64"})
    drawn = {}
    for gan in ("baseline", "baseline_at_64"):
        folder = toy.folder / STUDY / "synthetic" / gan / "seed0/chest"
        drawn[gan] = read_image_set(folder / "shard0.zarr.zip", folder / "shard0.parquet").images
    assert drawn["baseline"].shape == (8, 3, 16, 16)
    assert drawn["baseline_at_64"].shape == (8, 3, 24, 24)
    assert drawn["baseline_at_64"].std() > 0


def test_no_state_of_a_finished_training_is_left(toy: Workflow):
    assert not list(toy.folder.glob("results/**/.resume"))
    assert not list(toy.folder.glob("results/**/.scans.*"))


# A folder of real scans

PERSON = "ZQX-48213"  # and the number of the patient
NAME = "Quillfeather^Zebulon"
BORN, EXAMINED = "19370914", "20190228"
UID = "1.2.826.0.1.99.31415926535"  # and more numbers
PRIVATE = "wombat-7734-lavender"
INSTITUTION = "Saint Brannock Infirmary"
ACCESSION = "ACC90210733"
PIXEL_MM, SLICE_MM = 6.0, 10.0
READ = 12
# Folder of the scan -> why it is rejected; these count, the others of OTHER_FILES do not.
BAD = {
    "gap": "missing slices",
    "duplicate": "several images at one position",
    "truncated": "truncated pixel data",
    "one": "too few slices",
    "no spacing": "missing PixelSpacing",
}
OTHER_FILES = {"notes.txt": "not DICOM", "mr": "another modality"}


def chest(seed: int) -> np.ndarray:
    """A body with two lungs in air, an arm's width of it: int16 even Hounsfield units [24, 48, 64]."""
    z, y, x = np.meshgrid(np.arange(24) * SLICE_MM, *(np.arange(size) * PIXEL_MM for size in (48, 64)), indexing="ij")
    z, y, x = z - z.mean(), y - y.mean(), x - x.mean()
    voxels = np.full(z.shape, -1000)
    voxels[(x / 165) ** 2 + (y / 115) ** 2 < 1] = 40
    for side in (-1, 1):
        voxels[((x - side * 80) / 50) ** 2 + (y / (70 + seed)) ** 2 + (z / 95) ** 2 < 1] = -850
    noise = np.random.default_rng(seed).normal(0, 20, z.shape)
    return (2 * np.rint((voxels + noise) / 2)).astype(np.int16)


def write_scan(
    folder: Path, number: int, edit: Callable[[Dataset, int], None] = lambda dataset, index: None, **options
) -> list[Path]:
    """A series of patient `number`, whose headers hold all that must not come out."""

    def plant(dataset: Dataset, index: int) -> None:
        dataset.PatientName = NAME
        dataset.PatientID = f"{PERSON}-{number:02}"
        dataset.PatientBirthDate = BORN
        dataset.StudyDate = dataset.SeriesDate = EXAMINED
        dataset.AccessionNumber = ACCESSION
        dataset.InstitutionName = INSTITUTION
        dataset.StudyInstanceUID = f"{UID}.1.{number}"
        dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{index}"
        dataset.private_block(0x0099, "BRANNOCK PRIVATE", create=True).add_new(1, "LO", PRIVATE)
        edit(dataset, index)

    options = {
        "hounsfield": chest(number),
        "pixel_spacing": (PIXEL_MM, PIXEL_MM),
        "origin": (-192.0, -144.0, 50.0),
        "step": (0, 0, SLICE_MM),
        "series_uid": f"{UID}.2.{number}",
    } | options
    return write_series(folder, edit=plant, **options)


def write_archive(root: Path) -> None:
    """Four patients as the archive's downloader lays them, two volume files, and a folder for each trap."""
    for number in range(4):
        study = f"{EXAMINED[4:6]}-{EXAMINED[6:]}-{EXAMINED[:4]}-NA-NA-30178"
        files = write_scan(root / f"{PERSON}-{number:02}" / study / "3000566.000000-NA-03192", number)
        for place, file in enumerate(files, 1):
            file.rename(file.with_name(f"1-{place:03}.dcm"))

    # Those that are read.
    write_scan(root / "gantry", 4, step=(0, 2.5, SLICE_MM))
    # Patient 0 once more, upside down and with a slope in every slice: the same content under other headers.
    top = (-192.0, -144.0, 50.0 + 23 * SLICE_MM)
    write_scan(
        root / "reversed",
        0,
        hounsfield=chest(0)[::-1],
        origin=top,
        step=(0, 0, -SLICE_MM),
        series_uid=f"{UID}.3.1",
    )
    write_scan(root / "slopes", 0, of_slope, series_uid=f"{UID}.3.2")
    for number in (5, 6):
        for file in write_scan(root / NAME / f"part{number}", number):
            file.rename(root / NAME / f"{number}{file.name}")
    write_scan(root / "wide", 7, pixel_spacing=(PIXEL_MM, PIXEL_MM + 1))
    for name in ("first.nii.gz", "second.mhd"):
        image = sitk.GetImageFromArray(chest(8))
        image.SetSpacing((PIXEL_MM, PIXEL_MM, SLICE_MM))
        sitk.WriteImage(image, root / name)

    # Those that are not.
    write_scan(root / "gap", 10)[9].unlink()
    files = write_scan(root / "duplicate", 11)
    write_scan(root / "other", 11, in_the_place_of_slice_5, hounsfield=chest(12)[:1])[0].rename(
        files[5].with_suffix("")
    )
    last = write_scan(root / f"{PERSON}-13" / "truncated", 13)[-1]
    last.write_bytes(last.read_bytes()[:-1000])
    write_scan(root / "one", 14, hounsfield=chest(14)[:1])
    write_scan(root / "no spacing", 15, lambda dataset, index: dataset.pop("PixelSpacing"))
    write_scan(root / "mr", 16, of_mr, hounsfield=chest(16)[:4])
    (root / "notes.txt").write_text(f"{NAME}, born {BORN}")


def of_slope(dataset: Dataset, index: int) -> None:
    slope = 1 + index % 2
    dataset.RescaleSlope = slope
    set_pixels(dataset, np.frombuffer(dataset.PixelData, np.int16).reshape(48, 64) // slope)
    assert INTERCEPT % 2 == 0


def in_the_place_of_slice_5(dataset: Dataset, _: int) -> None:
    dataset.SOPInstanceUID = generate_uid()
    dataset.ImagePositionPatient = [-192.0, -144.0, 50.0 + 5 * SLICE_MM]


def of_mr(dataset: Dataset, _: int) -> None:
    dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage


@pytest.fixture(scope="session")
def archive(shared_folder: Path) -> tuple[Workflow, Path]:
    """A folder of scans, ingested and split; shared by the test processes, and not to be changed."""
    root = shared_folder / "archive"
    workflow = shared_folder / "of_archive"
    options = ("--config", *config_of(root, 0.5))
    return run_once(workflow, *options, target=f"{STUDY}/tables/cohort.csv", prepare=lambda: write_archive(root)), root


def config_of(root: Path, max_rejected: float) -> tuple[str, str]:
    # Scans in other forms have the same voxels.
    data = f"{{duplicates: allow, max_rejected: {max_rejected}}}"
    return f"data_roots={{lidc: {root}}}", f"studies={{simple_ct_gan: {{data: {data}}}}}"


def test_what_can_be_read_is_read(archive: tuple[Workflow, Path]):
    workflow, _ = archive
    scans = pd.read_csv(workflow.folder / STUDY / "scans/scans.csv", keep_default_na=False)
    assert list(scans.columns) == list(SCAN_TYPES)
    assert len(scans) == scans.scan_id.nunique() == READ
    assert set(scans.lung_check) == {""}
    assert set(scans.data) == {"real"}
    # Upside down or with slopes, the content is the same; the patient of all three as well.
    same = scans.groupby("sha256").filter(lambda rows: len(rows) == 3)
    assert len(same) == 3
    assert same.patient_id.nunique() == 1
    assert scans.patient_id.nunique() == READ - 2
    wide = scans[scans.native_spacing_x_mm != PIXEL_MM]
    assert wide[["native_spacing_x_mm", "native_spacing_y_mm"]].to_numpy().tolist() == [[PIXEL_MM + 1, PIXEL_MM]]
    assert (scans.spacing_mm == 6).all()
    assert (scans.manufacturer == "").sum() == 2  # the volume files
    manifest = pd.read_parquet(workflow.folder / STUDY / "cohort/manifest.parquet")
    assert len(manifest) == 3 * READ
    assert set(manifest.data) == {"real"}


def test_what_cannot_is_listed_with_reason_and_remedy(archive: tuple[Workflow, Path]):
    workflow, root = archive
    rejected = pd.read_csv(workflow.folder / STUDY / "cohort/rejected.csv")
    kept = rejected.reason.str.startswith("kept: ")
    assert "kept: identical to another scan, allowed" in set(rejected.reason[kept])
    assert rejected.reason[kept].str.endswith(", allowed").all()
    rejected = rejected[~kept].reset_index(drop=True)
    true_paths = pd.read_csv(root / ".scangan/rejected.csv", names=["source", "path"]).set_index("source").path
    rejected["folder"] = [re.sub(r"/\d+\.dcm$", "", true_paths[source]).split("/")[-1] for source in rejected.source]
    counted = rejected[rejected.counted]
    found = {folder.removesuffix(".dcm"): reason for folder, reason in zip(counted.folder, counted.reason, strict=True)}
    assert found == BAD
    assert len(counted) == len(BAD)
    others = rejected[~rejected.counted]
    assert dict(zip(others.folder, others.reason, strict=True)) == OTHER_FILES
    assert len(others) == 4 + 1
    assert rejected[["found", "remedy"]].notna().all(axis=None)


def test_the_count_of_the_rejected_stands_in_the_tables(archive: tuple[Workflow, Path]):
    workflow, _ = archive
    cohort = pd.read_csv(workflow.folder / STUDY / "tables/cohort.csv")
    rejected = cohort[cohort.split == "rejected"]
    assert dict(zip(rejected.label, rejected.images, strict=True)) == dict.fromkeys(BAD.values(), 1)
    assert set(cohort.data) == {"real"}
    text = (workflow.folder / STUDY / "tables/cohort.md").read_text()
    assert f"{READ} scans of {READ - 2} patients" in text
    assert f"{len(BAD)} of {READ + len(BAD)} scans rejected" in text
    assert "1 missing slices" in text


def test_ingestion_runs_once(archive: tuple[Workflow, Path]):
    workflow, root = archive
    options = ("--config", *config_of(root, 0.5))
    assert workflow.planned(*options, target=f"{STUDY}/tables/cohort.csv") == set()


def test_too_many_rejected_scans_stop_the_run(archive: tuple[Workflow, Path], tmp_path: Path):
    workflow, root = archive
    shutil.copytree(workflow.folder, tmp_path / "copy", symlinks=True)
    options = ("--config", *config_of(root, 0.2))
    run = Workflow(tmp_path / "copy").snakemake(*options, target=f"{STUDY}/tables/cohort.csv")
    assert run.returncode != 0
    lines = (tmp_path / "copy" / STUDY / "logs/gather_scans.log").read_text().splitlines()
    (line,) = [line for line in lines if "error: " in line]
    assert f"max_rejected: found {len(BAD)} of {READ + len(BAD)} scans rejected" in line
    assert "Traceback" not in "\n".join(lines)
    assert not (tmp_path / "copy" / STUDY / "scans/scans.csv").exists()


def test_a_cohort_as_large_as_the_archives_is_planned_without_reading_it(toy: Workflow, tmp_path: Path):
    """With a job for each of 1,200 scans."""
    for number in range(1200):
        (tmp_path / f"LIDC-IDRI-{number:04}").mkdir()
        (tmp_path / f"LIDC-IDRI-{number:04}" / "1-001.dcm").touch()
    batches = "studies={simple_ct_gan: {data: {batches: 1200}}}"
    planned = toy.planned("--config", f"data_roots={{lidc: {tmp_path}}}", batches)
    assert len([job for job in planned if job.startswith("simple_ct_gan ingest_scans")]) == 1200
    assert "simple_ct_gan index_scans" in planned
    assert not [job for job in planned if "render_phantom" in job]


# What must not come out


def secrets(root: Path) -> set[str]:
    """What was planted, in all forms that a date may be written in, and the key itself."""
    dates = {
        separator.join(parts)
        for date in (BORN, EXAMINED)
        for parts in permutations((date[:4], date[4:6], date[6:]))
        for separator in ("", "-", "_", ".", "/", " ")
    }
    months = {"14 Sep 1937", "Sep 14, 1937", "28 Feb 2019", "Feb 28, 2019", "28-Feb-2019", "14-Sep-1937"}
    names = {*NAME.split("^"), PERSON, PERSON.replace("-", ""), INSTITUTION, "Brannock", PRIVATE, "wombat", ACCESSION}
    return dates | months | names | {UID, UID.split(".")[-1], (root / ".scangan/pseudonym.key").read_text().strip()}


def contents(file: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they hold when unpacked: members of a zip, arrays, columns, pictures' texts."""
    yield file.read_bytes()
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
        with ZipStore(file, mode="r") as store:
            opened = zarr.open(store, mode="r")
            members = opened.members(max_depth=None) if isinstance(opened, zarr.Group) else ()
            for name, member in [("", opened), *members]:
                yield f"{name} {dict(member.attrs)}".encode()
                if isinstance(member, zarr.Array):
                    yield member[:].tobytes()
    elif file.suffix == ".parquet":
        table = pyarrow.parquet.read_table(file)
        yield str(table.schema.metadata).encode()
        yield table.to_pandas().to_csv(index=True).encode()
    elif file.suffix == ".png":
        with Image.open(file) as picture:
            yield str(picture.info).encode()


def leaks(folder: Path, wanted: set[str]) -> set[tuple[str, str]]:
    """Which files hold, or are named by, which of the texts, whatever the case and the encoding."""
    forms = {
        text: [text.lower().encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")] for text in wanted
    }
    found = set()
    for file in filter(Path.is_file, folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        for content in (name.encode(), *contents(file)):
            found |= {
                (name, text) for text, encoded in forms.items() if any(form in content.lower() for form in encoded)
            }
    return found


def test_nothing_that_identifies_comes_out(archive: tuple[Workflow, Path]):
    workflow, root = archive
    files = [path for path in (workflow.folder / "results").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".zip", ".parquet", ".csv", ".md", ".log", ".tsv"}
    assert leaks(workflow.folder / "results", secrets(root)) == set()
    # They are all there to be found.
    assert {text for _, text in leaks(root, {NAME, f"{PERSON}-02", BORN, EXAMINED, UID, PRIVATE, INSTITUTION})} == {
        *(NAME, f"{PERSON}-02", BORN, EXAMINED, UID, PRIVATE, INSTITUTION)
    }


def test_the_search_looks_into_every_kind_of_file(tmp_path: Path):
    pd.DataFrame({"column": ["Quillfeather"] * 99}).to_parquet(tmp_path / "column.parquet")
    with ZipStore(tmp_path / "store.zarr.zip", mode="w") as store:
        group = zarr.create_group(store)
        group.create_array("attribute", data=np.zeros(1), attributes={"date": EXAMINED})
        group.create_array("array", data=np.frombuffer(1000 * NAME.encode("utf-16-le"), np.uint8))
    (tmp_path / f"{BORN}.log").write_text(PRIVATE.upper())
    assert leaks(tmp_path, {"Quillfeather", EXAMINED, BORN, PRIVATE}) == {
        ("column.parquet", "Quillfeather"),
        ("store.zarr.zip", "Quillfeather"),
        ("store.zarr.zip", EXAMINED),
        (f"{BORN}.log", BORN),
        (f"{BORN}.log", PRIVATE),
    }
