"""The rule edit_own_scans from end to end, without Snakemake: scans, networks and a CSV file in, other scans out.

The networks' last layers are set by hand, so that what they make is known: an injector fills with nodule, an eraser
with air.
"""

import contextlib
import logging
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import distance_transform_edt

from scangan.ct.window import AIR, to_network
from scangan.ingest.dicom import RawScan, read_series
from scangan.ingest.volume_files import read_volume_file
from scangan.models.catalogue import build, write_generator
from scangan.phantoms.chest_dicom import Storage, render_scan, write_phantom
from tests.unit.test_lungs import LUNGS_MM, SEMIAXES_MM, chest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "workflow" / "scripts" / "edit_own_scans.py"
DOCUMENT = ROOT / "docs" / "nodules.md"
SIZE, SPACING_MM, MARGIN_MM, SEED = 24, 3.0, 6.0, 100
RADIUS_MM = 10
NODULE = -20  # HU
IMAGE_SIZE, SLICE_MM = 64, 6.0
HEADER = "series,x_mm,y_mm,z_mm,diameter_mm,action\n"
MADE = {"inject": NODULE, "erase": AIR}


def write_network(folder, kind, size=SIZE, spacing_mm=SPACING_MM, told_up_to_mm=59.0):
    options = {"base_width": 2, "voi_spacing_mm": spacing_mm, "sees_inside": kind == "eraser"}
    generator, _ = build("nodule_cgan", 1, size, **options)
    generator.examples.copy_(torch.tensor([[RADIUS_MM, to_network(np.float32(NODULE))]]))
    if kind == "eraser":
        generator.to_voi.bias.data = torch.tensor([-20.0, 20.0])  # air, in place of all
    weights, description = folder / f"{kind}.safetensors", folder / f"{kind}.json"
    facts = {"model": "nodule_cgan", "channels": 1, "image_size": size, "options": options}
    facts |= {"margin_mm": MARGIN_MM, "told_up_to_mm": told_up_to_mm}
    write_generator(weights, description, generator.state_dict(), **facts)
    return {f"{kind}_weights": str(weights), f"{kind}_description": str(description)}


class Files(SimpleNamespace):
    """Named, and gone through in turn, as Snakemake hands them to a script."""

    def __iter__(self):
        return iter(vars(self).values())


def run_script(folder, root, edits, out):
    """What Snakemake does with the script."""
    job = SimpleNamespace(
        input=Files(
            **write_network(folder, "injector"),
            **write_network(folder, "eraser"),
            edits=str(edits),
            folder=str(root),
        ),
        output=Files(folder=str(out)),
        params=SimpleNamespace(settings={"seed": SEED}),
        log=[str(folder / "logs" / "edit_own_scans.log")],
        threads=None,
        resources={},
        wildcards=SimpleNamespace(),
        rule="edit_own_scans",
    )
    logger = logging.getLogger("scangan")
    handlers, level = list(logger.handlers), logger.level
    try:
        with contextlib.chdir(folder):
            runpy.run_path(str(SCRIPT), {"snakemake": job})
    finally:
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
    return Path(job.log[0])


def deep_in_the_lungs(scan):
    """The places (x, y, z) in LPS mm that lie deepest in the right and in the left lung of a phantom's scan."""
    depth = distance_transform_edt(scan.lungs, sampling=scan.spacing_mm[::-1])
    middle = depth.shape[2] // 2
    places = []
    for half in (slice(None, middle), slice(middle, None)):
        z, y, x = np.unravel_index(depth[:, :, half].argmax(), depth[:, :, half].shape)
        voxel = np.array([x + (half.start or 0), y, z])
        places.append(tuple(np.round(np.array(scan.origin_mm) + voxel * scan.spacing_mm, 3).tolist()))
    return places


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two series of phantoms and two NIfTI files, edited; all that the tests look at."""
    folder = tmp_path_factory.mktemp("run")
    root, out = folder / "scans", folder / "out"
    sources, asked = {}, []
    for cohort in ("lidc", "nlst"):
        write_phantom(root / cohort, cohort, 1, IMAGE_SIZE, SLICE_MM, seed=0)
        files = sorted((root / cohort).rglob("*.dcm"))
        uid = pydicom.dcmread(files[0]).SeriesInstanceUID
        right, left = deep_in_the_lungs(render_scan(cohort, IMAGE_SIZE, SLICE_MM, 0, Storage.of(0)))
        sources[uid] = files
        asked += [(uid, right, "inject"), (uid, left, "erase")]

    volume, _ = chest(4.0)
    image = sitk.GetImageFromArray(volume.hounsfield)
    image.SetSpacing((4.0, 4.0, 4.0))
    image.SetOrigin((-210.0, -170.0, -150.0))  # so that the lungs' centres lie at LUNGS_MM
    sitk.WriteImage(image, root / "chest.nii.gz")
    sources["chest.nii.gz"] = [root / "chest.nii.gz"]
    x, y, z = LUNGS_MM["right"]
    asked += [("chest.nii.gz", (x, y - 30, z - 40), "inject"), ("chest.nii.gz", (x, y - 30, z + 40), "erase")]
    knee = np.random.default_rng(0).normal(40, 30, (20, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(knee), root / "knee.nii.gz")

    lines = [f"{name},{x},{y},{z},{2 * RADIUS_MM},{action}" for name, (x, y, z), action in asked]
    lidc, (x, y, z) = asked[0][:2]
    above = SEMIAXES_MM[2] + 25  # of the lung's top only 11 mm are in the VOI: a cap of 4% of its volume
    bad = {
        f"{lidc},{x},{y},{z + 500},10,inject": ("place outside the scan", f"({x:g}, {y:g}, {z + 500:g}) mm"),
        "chest.nii.gz,0,60,0,10,inject": ("place outside the lungs", "no lung there"),
        f"{lidc},{x},{y},{z},60.5,erase": ("diameter beyond the VOI", "60.5 mm"),
        f"{lidc},{x},{y},{z},59.5,erase": ("diameter beyond the eraser's training", "59.5 mm"),
        f"chest.nii.gz,{LUNGS_MM['left'][0]},0,{above},59,erase": ("VOI without lung", None),
        "knee.nii.gz,10,10,10,10,erase": ("lung mask failed", None),
        f"1.2.3,{x},{y},{z},10,inject": ("unknown series", "no 1.2.3 among 4 scans"),
        f"{lidc},{x},{y},{z},10,paint": ("unknown action", "paint"),
    }
    # A bad row after each good one, and before the next.
    mixed = [line for pair in zip(lines, list(bad), strict=False) for line in pair] + list(bad)[len(lines) :]
    edits = folder / "edits.csv"
    edits.write_text(HEADER + "\n".join(mixed) + "\n")
    log = run_script(folder, root, edits, out)
    line_of = {line: number for number, line in enumerate(mixed, 2)}
    return SimpleNamespace(
        out=out,
        log=log.read_text(),
        sources=sources,
        asked=asked,
        lines=[line_of[line] for line in lines],
        bad=[(line_of[line], *said) for line, said in bad.items()],
    )


def test_each_bad_row_is_rejected_by_its_name_and_all_others_are_done(run):
    rejected = pd.read_csv(run.out / "edits_rejected.csv")
    assert rejected[["line", "reason"]].to_numpy().tolist() == [[line, reason] for line, reason, _ in run.bad]
    for row, (_, _, found) in zip(rejected.itertuples(), run.bad, strict=True):
        assert row.remedy
        assert found in (row.found, None)
    done = pd.read_csv(run.out / "edits_done.csv", dtype={"series": str})
    assert done.line.tolist() == run.lines
    assert done.seed.tolist() == [SEED + line for line in run.lines]
    assert done[["series", "action"]].to_numpy().tolist() == [[name, action] for name, _, action in run.asked]
    assert (done.changed_voxels > 0).all()
    assert f"6 edits done, 8 rejected (see {run.out / 'edits_rejected.csv'})" in run.log


def read(files):
    if files[0].suffix == ".dcm":
        return read_series(files)
    return RawScan(*read_volume_file(files[0]), {})


def edited_files(run, name):
    return sorted((run.out / name).glob("*.dcm")) or [run.out / name]


def test_what_was_asked_stands_in_the_files_and_nothing_else_changed(run):
    for name, source in run.sources.items():
        before, after = read(source), read(edited_files(run, name))
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
        voxels = np.indices(before.voxels.shape)[::-1].reshape(3, -1)
        places = before.affine[:3, :3] @ voxels + before.affine[:3, 3:]
        far = np.ones(before.voxels.shape, bool)
        for centre, action in [edit[1:] for edit in run.asked if edit[0] == name]:
            away = np.linalg.norm(places - np.array(centre)[:, None], axis=0).reshape(far.shape)
            # The phantoms' voxels of 6 mm are means of what they cover, so those at the rim hold some of beyond.
            within = after.voxels[away <= RADIUS_MM - 3]
            assert within.size >= 7
            # There is grain as before, a nodule's lobes leave out some of the ball, and what is brighter stays.
            if action == "erase":
                assert np.median(within) == pytest.approx(MADE[action], abs=60)
            else:
                assert (within > MADE[action] - 200).mean() > 0.7
            far &= away >= RADIUS_MM + MARGIN_MM
        np.testing.assert_array_equal(after.voxels[far], before.voxels[far])


def test_a_series_opens_in_other_programs_and_says_what_it_is(run):
    series = [name for name, source in run.sources.items() if source[0].suffix == ".dcm"]
    assert len(series) == 2
    for name in series:
        source = [pydicom.dcmread(file) for file in run.sources[name]]
        files = [pydicom.dcmread(file) for file in edited_files(run, name)]
        referenced = {file.SourceImageSequence[0].ReferencedSOPInstanceUID for file in files}
        assert referenced == {file.SOPInstanceUID for file in source}
        assert len({file.SOPInstanceUID for file in files} - referenced) == len(source)
        [new_uid] = {file.SeriesInstanceUID for file in files}
        assert new_uid != name
        for file in files:
            assert file.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
            assert file.SeriesDescription == "SYNTHETIC nodules edited"
            assert file.DerivationDescription.startswith("1 nodules injected, 1 erased by 3D conditional GANs")
            assert file.SyntheticData == "YES"
            assert (file.PatientID, file.StudyInstanceUID) == (source[0].PatientID, source[0].StudyInstanceUID)

        ours = read_series(edited_files(run, name))
        [found] = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(run.out / name))
        assert found == new_uid
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(run.out / name), found))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image).clip(min=-1024), ours.voxels.clip(min=-1024))
        np.testing.assert_allclose(image.GetOrigin(), ours.affine[:3, 3])
        np.testing.assert_allclose(image.GetSpacing(), np.linalg.norm(ours.affine[:3, :3], axis=0), rtol=1e-5)


def test_a_nifti_file_opens_in_nibabel_in_its_own_frame(run):
    ours = read([run.out / "chest.nii.gz"])
    theirs = nibabel.load(run.out / "chest.nii.gz")
    assert theirs.header["descrip"].item().decode() == "SYNTHETIC 1 nodules injected, 1 erased"
    np.testing.assert_array_equal(np.asarray(theirs.dataobj).T, ours.voxels)
    np.testing.assert_allclose(theirs.affine, np.diag([-1, -1, 1, 1]) @ ours.affine, atol=1e-4)  # RAS


def test_a_scan_of_which_nothing_was_done_is_not_written(run):
    written = {path.name for path in run.out.iterdir()}
    assert written == {*run.sources, "edits_done.csv", "edits_rejected.csv"}


def test_a_file_that_is_no_csv_of_edits_ends_the_job_with_one_line(tmp_path):
    root, edits = tmp_path / "scans", tmp_path / "edits.csv"
    root.mkdir()
    edits.write_text(HEADER.replace("_mm", ""))
    with pytest.raises(SystemExit, match="1"):
        run_script(tmp_path, root, edits, tmp_path / "out")
    [line] = (tmp_path / "logs" / "edit_own_scans.log").read_text().splitlines()
    found = "series, x, y, z, diameter, action, without x_mm"
    assert line.endswith(
        f"error: {edits}: header: found {found}, allowed: series, x_mm, y_mm, z_mm, diameter_mm, action"
    )


def test_the_documented_call(run, tmp_path, monkeypatch):
    """As it stands in docs/nodules.md, in a folder that holds what it names."""
    monkeypatch.chdir(tmp_path)
    Path("networks").mkdir()
    for kind in ("injector", "eraser"):
        write_network(Path("networks"), kind, size=64, spacing_mm=1.0, told_up_to_mm=40.0)
    [_, path], [name, (x, y, z), action] = next(iter(run.sources.items())), run.asked[0]
    Path("scans").symlink_to(path[0].parent)
    [columns] = re.findall(r"^```\n(series,.*)$", DOCUMENT.read_text(), re.MULTILINE)
    Path("edits.csv").write_text(f"{columns}\n{name},{x},{y},{z},10,{action}\n{name},{x},{y},{z},45,erase\n")
    [code] = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(code, names)
    assert names["done"][["series", "action"]].to_numpy().tolist() == [[name, action]]
    assert names["rejected"].reason.tolist() == ["diameter beyond the eraser's training"]
    assert len(list((tmp_path / "edited" / name).glob("*.dcm"))) == len(path)


def test_the_documented_refusals_read_as_they_are(run):
    """Every reason, and what was found, stand in docs/nodules.md as the program says them."""
    rows = [line.split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    documented = {reason for first, *_ in rows for reason in first.strip("| ").split(", ")}
    rejected = pd.read_csv(run.out / "edits_rejected.csv")
    assert set(rejected.reason) <= documented
    [example] = re.findall(r"^edits.csv: line 7 rejected: .*$", DOCUMENT.read_text(), re.MULTILINE)
    assert example in run.log
