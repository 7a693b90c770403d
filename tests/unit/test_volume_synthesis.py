"""Mass synthesis: seeds, shards, kills, full disks and flipped bits; nodules in half of the volumes; export."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from scangan.config import VoiCut
from scangan.ct.grids import sphere
from scangan.data.volume_set import VolumeSet, VolumeWriter, read_volume_set
from scangan.errors import DataError
from scangan.ingest.export import export_volume
from scangan.jobs import check_disk, disk_need
from scangan.models.catalogue import build, write_generator
from scangan.rejected import REJECTED_TYPES
from scangan.synthesis.mix import MIXED_NODULE_TYPES
from scangan.synthesis.placement import PlacementSettings
from scangan.synthesis.volumes import (
    Injection,
    VolumeMaker,
    VolumeSynthesizer,
    find_lungs,
    inject_sized,
    injection,
    synthesize_volumes,
)

ROOT = Path(__file__).parents[2]
SIZE, SPACING = 32, 10.0
FACTS = {"size": SIZE, "spacing_mm": SPACING, "window": [-1000, 400], "gan": "toy", "data": "phantom"}
NODULE = 40


def ball(vois, radii_mm, seeds):
    inside = [sphere(len(voi), 5.0, radius) for voi, radius in zip(vois, radii_mm, strict=True)]
    return np.where(inside, np.float32(NODULE), vois)


# Nodules as large as the voxels ask for.
INJECTION = Injection(
    counts=[0, 1, 2, 2],
    diameters_mm=[30.0, 36.0],
    fill=ball,
    placement=PlacementSettings(gap_mm=1.0),
    voi=VoiCut(size=16, spacing_mm=5.0, margin_mm=4.0),
    seed=3,
)


def chest(lungs=2):
    """A body and so many lungs of 1.6 litres, int16 [SIZE, SIZE, SIZE] in HU."""
    z, y, x = (np.indices((SIZE,) * 3) - (SIZE - 1) / 2) * SPACING
    hounsfield = np.where((x / 145) ** 2 + (y / 115) ** 2 < 1, NODULE, -1000)
    for side in (-65, 65)[:lungs]:
        hounsfield[((x - side) / 50) ** 2 + (y / 70) ** 2 + (z / 110) ** 2 < 1] = -850
    return hounsfield.astype(np.int16)


class ToyGenerator(nn.Module):
    """A chest with noise that depends on the latent vector; one lung is missing where its first number is low."""

    image_size = SIZE

    def __init__(self, fails_below=-9.0):
        super().__init__()
        self.fails_below, self.drawn = fails_below, 0

    def draw_latent(self, n, rng):
        return torch.randn(n, SIZE, generator=rng)

    def forward(self, latent):
        self.drawn += 1
        lungs = 1 if latent[0, 0] < self.fails_below else 2
        x = torch.from_numpy(chest(lungs)).float() / 700 + 1000 / 700 - 1
        noise = latent[:, None, :, None, None] * latent[:, None, None, :, None]
        return (x + 0.01 * noise).clamp(-1, 1)


def shard(folder, name, first_seed, volumes, synthesizer=None):
    """What a shard's job does."""
    paths = folder / f"{name}.zarr.zip", folder / f"{name}.parquet"
    with VolumeWriter(*paths, SIZE) as writer:
        maker = VolumeMaker(synthesizer or VolumeSynthesizer(ToyGenerator(), FACTS))
        synthesize_volumes(lambda: maker, range(first_seed, first_seed + volumes), writer)
    return paths


def contents(paths):
    return [path.read_bytes() for path in paths]


def test_volumes_depend_on_their_seed_alone(tmp_path):
    whole = read_volume_set(*shard(tmp_path, "all", 4, 5))
    parts = [shard(tmp_path, "a", 4, 2), shard(tmp_path, "b", 6, 3)]
    sharded = read_volume_set(*zip(*parts, strict=True), verify=True)
    np.testing.assert_array_equal(sharded.read(range(5)), whole.read(range(5)))
    pd.testing.assert_frame_equal(sharded.manifest, whole.manifest)
    assert whole.manifest.sha256.is_unique
    assert whole.manifest.synthesis_seed.tolist() == [4, 5, 6, 7, 8]
    first = whole.manifest.iloc[0].to_dict()
    expected = {"volume_id": "toy-4", "patient_id": "toy-4", "label": "none", "source": "toy", "version": "synthetic"}
    expected |= {"data": "phantom", "spacing_mm": SPACING, "nodules": 0, "attempts": 1, "lung_check": ""}
    assert {name: first[name] for name in expected} == expected
    # The window is inverted: what the network sees as -1 to 1 is -1000 to 400 HU.
    generator = ToyGenerator()
    x = generator(generator.draw_latent(1, torch.Generator().manual_seed(4)))[0, 0].double().numpy()
    assert np.abs(whole.read(0)[0] - (700 * x - 300)).max() <= 0.51


def test_smaller_volumes_are_enlarged_trilinearly():
    """A ramp stays a ramp, but for half a voxel at its ends."""

    class Ramp(ToyGenerator):
        def forward(self, latent):
            return torch.linspace(-0.75, 0.8, 32)[:, None, None].expand(1, 1, 32, 32, 32)

    volume = VolumeSynthesizer(Ramp(), FACTS | {"size": 64}).draw(0)
    assert volume.shape == (64, 64, 64)
    old = (np.arange(64) + 0.5) / 2 - 0.5
    expected = 700 * (-0.75 + 0.05 * old.clip(0, 31)) - 300
    np.testing.assert_allclose(volume, np.broadcast_to(expected[:, None, None], volume.shape), atol=0.51)


def test_attempts_differ_and_are_repeatable():
    synthesizer = VolumeSynthesizer(ToyGenerator(), FACTS)
    drawn = [synthesizer.draw(seed, attempt) for seed in (1, 2) for attempt in (1, 2, 3)]
    assert len({volume.tobytes() for volume in drawn}) == 6
    np.testing.assert_array_equal(synthesizer.draw(2, 3), drawn[-1])


# Faults


@pytest.mark.parametrize("side", ["generator", "writer"])
def test_an_error_on_either_side_ends_both_and_nothing_appears(tmp_path, side):
    class Fails(ToyGenerator):
        def forward(self, latent):
            if self.drawn == 3 and side == "generator":
                raise RuntimeError("out of memory")
            return super().forward(latent)

    class FullWriter(VolumeWriter):
        def write(self, hounsfield, row):
            if row["synthesis_seed"] == 3 and side == "writer":
                raise RuntimeError("out of memory")
            super().write(hounsfield, row)

    generator = Fails()
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        FullWriter(tmp_path / "a.zarr.zip", tmp_path / "a.parquet", SIZE) as writer,
    ):
        synthesize_volumes(lambda: VolumeMaker(VolumeSynthesizer(generator, FACTS)), range(1000), writer)
    assert generator.drawn < 10
    assert list(tmp_path.iterdir()) == []


def test_nan_is_named(tmp_path):
    class Diverged(ToyGenerator):
        def forward(self, latent):
            return super().forward(latent) * torch.nan

    with pytest.raises(DataError, match=r"toy: seed 7: found NaN or infinity, allowed: numbers; train it again"):
        shard(tmp_path, "a", 7, 2, VolumeSynthesizer(Diverged(), FACTS))


JOB = """
import os, resource, sys, time
from pathlib import Path
from scangan.data.volume_set import VolumeWriter
from scangan.errors import DataError
from tests.unit.test_volume_synthesis import shard
folder, most_bytes = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
try:
    shard(folder, "a", 4, 6)
except DataError as error:
    print(error)
print(os.listdir(folder))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write = VolumeWriter.write
def slow(self, hounsfield, row):
    write(self, hounsfield, row)
    print(row["volume_id"], flush=True)
    time.sleep(60)
VolumeWriter.write = slow
shard(folder, "a", 4, 6)
"""


def test_a_full_disk_and_a_kill_leave_no_half_a_shard(tmp_path):
    """Real faults, in a process of its own: a limit of the operating system, then SIGKILL in the middle."""
    reference = contents(shard(tmp_path / "reference", "a", 4, 6))
    folder = tmp_path / "shard"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", JOB, folder, str(len(reference[0]) // 2)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as job:
        said = [job.stdout.readline() for _ in range(3)]
        job.send_signal(signal.SIGKILL)
    assert re.fullmatch(
        rf"{folder}/a.zarr.zip: after [1-4] volumes: cannot be written: File too large; "
        "make room on the disk, and run again\n",
        said[0],
    )
    assert said[1:] == ["[]\n", "toy-4\n"]
    assert job.returncode == -signal.SIGKILL
    left = [path.name for path in folder.iterdir()]
    assert left  # it was in the middle,
    assert all(name.startswith(".") for name in left)  # and nothing has its name
    assert contents(shard(folder, "a", 4, 6)) == reference
    assert sorted(path.name for path in folder.iterdir()) == ["a.parquet", "a.zarr.zip"]


def test_a_shard_with_flipped_bits_is_named_and_made_again_alone(tmp_path):
    parts = [shard(tmp_path, name, first, 2) for name, first in (("a", 0), ("b", 2), ("c", 4))]
    before = [contents(paths) for paths in parts]
    expected = read_volume_set(*zip(*parts, strict=True)).read(range(6))
    damaged = parts[1][0]
    content = bytearray(damaged.read_bytes())
    for place in np.random.default_rng(0).integers(200, content.index(b"c/1/0/0/0") - 100, 5):
        content[place] ^= 4
    damaged.write_bytes(content)
    found = read_volume_set(*zip(*parts, strict=True))
    with pytest.raises(DataError, match=rf"{damaged}: toy-2: found .*, allowed: a whole volume"):
        list(found)
    # Only the first volume of it is lost.
    np.testing.assert_array_equal(found.read([0, 1, 3, 4, 5]), expected[[0, 1, 3, 4, 5]])
    for path in parts[1]:
        path.unlink()
    shard(tmp_path, "b", 2, 2)
    assert [contents(paths) for paths in parts] == before
    np.testing.assert_array_equal(read_volume_set(*zip(*parts, strict=True), verify=True).read(range(6)), expected)


def test_disk_need_is_enough_for_noise(tmp_path):
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (56, 56, 56)).astype(np.int16)
    paths = tmp_path / "a.zarr.zip", tmp_path / "a.parquet"
    row = VolumeSynthesizer(ToyGenerator(), FACTS).describe(0)
    with VolumeWriter(*paths, 56) as writer:
        for _ in range(3):
            writer.write(noise, row)
    raw = 3 * 2 * 56**3
    assert raw < paths[0].stat().st_size <= disk_need(3, 56) <= 1.02 * raw
    assert disk_need(3, 56, versions=2) == pytest.approx(2 * disk_need(3, 56), abs=1)


def test_too_small_a_disk_is_named(tmp_path):
    check_disk(tmp_path / "results" / "not there yet", 1000)
    with pytest.raises(
        DataError, match=r"results: disk: found [\d.]+ GB free, needed: 1000000000.0 GB; make room, or ask for fewer"
    ):
        check_disk(tmp_path / "results", 10**18)


# Nodules


def toy_maker(generator=None, injection=INJECTION, attempts=3):
    return VolumeMaker(VolumeSynthesizer(generator or ToyGenerator(), FACTS), injection, attempts, described)


def inject(folder, first_seed, volumes, generator=None, attempts=3, injected=INJECTION, processes=1):
    """Returns volumes as they were drawn, as they are with nodules, and the tables."""
    path, manifest, edited = (folder / f"injected{end}" for end in (".zarr.zip", ".parquet", "_nodules.parquet"))
    seeds, open_maker = range(first_seed, first_seed + volumes), partial(toy_maker, generator, injected, attempts)
    with VolumeWriter(path, manifest, SIZE, edited) as writer:
        tables = synthesize_volumes(open_maker, seeds, writer, processes=processes)
    assert list(tables["nodules"].columns) == list(MIXED_NODULE_TYPES)
    assert list(tables["rejected"].columns) == list(REJECTED_TYPES)
    return *(read_volume_set(path, each, verify=True) for each in (manifest, edited)), tables


def described(hounsfield, lungs):
    return {"mean": hounsfield.mean(), "lung_check": lungs.failure}


def test_nodules_are_in_the_lungs_of_every_second_volume(tmp_path):
    generator = ToyGenerator()
    free, found, tables = inject(tmp_path, 5, 6, generator)
    nodules = tables["nodules"]
    assert generator.drawn == 6
    assert not tables["rejected"].counted.any()
    plain = read_volume_set(*shard(tmp_path, "free", 5, 6))
    pd.testing.assert_frame_equal(free.manifest, plain.manifest)
    # Those without nodules are in the file but once.
    places = [pd.read_parquet(tmp_path / f"injected{name}.parquet") for name in ("", "_nodules")]
    assert [rows.place.tolist() for rows in places] == [[0, 1, 3, 4, 6, 7], [0, 2, 3, 5, 6, 8]]
    assert set(places[0].file_volumes) == {6 + 3}
    expected = [described(volume, find_lungs(volume, SPACING)) for volume in free]
    names = free.manifest[["volume_id", "patient_id"]]
    pd.testing.assert_frame_equal(tables["described"], pd.concat([names, pd.DataFrame(expected)], axis=1))
    assert found.manifest.volume_id.tolist() == free.manifest.volume_id.tolist()
    assert found.manifest.label.tolist() == ["none", "nodules"] * 3
    assert (found.manifest.attempts == 1).all()
    assert (
        found.manifest.nodules.to_dict()
        == nodules.groupby("scan_id")
        .size()
        .reindex(found.manifest.volume_id, fill_value=0)
        .reset_index(drop=True)
        .to_dict()
    )
    assert set(nodules.equivalent_diameter_mm) <= {30.0, 36.0}
    assert (nodules.source == "injected").all()
    for row, before, after in zip(found.manifest.to_dict("records"), free, found, strict=True):
        lungs = find_lungs(before, SPACING)
        assert row["lung_volume_ml"] == lungs.volume_ml == lungs.mask.sum()
        reach = np.zeros(before.shape, bool)
        for nodule in nodules[nodules.scan_id == row["volume_id"]].itertuples():
            centre = np.array([nodule.z_voxel, nodule.y_voxel, nodule.x_voxel])
            np.testing.assert_allclose([nodule.z_mm, nodule.y_mm, nodule.x_mm], centre * SPACING)
            assert lungs.mask[tuple(np.rint(centre).astype(int))]
            away_mm = np.linalg.norm((np.moveaxis(np.indices(before.shape), 0, -1) - centre) * SPACING, axis=-1)
            assert after[away_mm < 8].mean() > -100
            reach |= away_mm <= nodule.equivalent_diameter_mm / 2 + INJECTION.voi.margin_mm
        np.testing.assert_array_equal(before[~reach], after[~reach])
        assert (before != after).any() == (row["label"] == "nodules")


def test_the_same_seeds_give_the_same_nodules_in_any_shard_and_of_any_process(tmp_path):
    _, whole, tables = inject(tmp_path, 0, 6)
    everything = contents([tmp_path / "injected.zarr.zip", tmp_path / "injected_nodules.parquet"])
    first = whole.read([2, 3, 4])
    _, part, of_part = inject(tmp_path, 2, 3)
    np.testing.assert_array_equal(part.read([0, 1, 2]), first)
    for name in ("toy-2", "toy-4"):
        nodules = (each["nodules"] for each in (tables, of_part))
        pd.testing.assert_frame_equal(*(each[each.scan_id == name].reset_index(drop=True) for each in nodules))
    _, other, _ = inject(tmp_path, 0, 6, injected=replace(INJECTION, seed=4))
    assert (other.manifest.sha256 != whole.manifest.sha256).tolist() == [True, False] * 3
    inject(tmp_path, 0, 6, processes=2)
    assert contents([tmp_path / "injected.zarr.zip", tmp_path / "injected_nodules.parquet"]) == everything


def write_network(folder, name, model, image_size, options, **facts):
    torch.manual_seed(0)
    generator, _ = build(model, 1, image_size, **options)
    if name == "injector":
        generator.examples[:, 0] = torch.linspace(5, 20, len(generator.examples))
    files = folder / f"{name}.safetensors", folder / f"{name}.json"
    facts |= {"model": model, "channels": 1, "image_size": image_size, "options": options}
    write_generator(*files, generator.state_dict(), **facts)
    return files


def test_processes_open_the_networks_of_a_job_for_themselves(tmp_path):
    """An untrained network draws no lungs, so each volume is left out; the same ones, whoever drew them."""
    slabs = {"constant_noise": 8, "slice_noise": 2, "slice_code": 8}
    volumes = write_network(tmp_path, "toy", "ct_sgan", 56, {"base_width": 2, **slabs}, **FACTS | {"size": 56})
    voi = {"size": 16, "spacing_mm": 5.0, "margin_mm": 10.0, "healthy_per_scan": 1, "diameters_mm": [10, 40]}
    injector, eraser = (
        write_network(
            tmp_path,
            kind,
            "nodule_cgan",
            16,
            {"base_width": 2, "voi_spacing_mm": 5.0, "sees_inside": kind == "eraser"},
            margin_mm=10.0,
            told_up_to_mm=40.0,
        )
        for kind in ("injector", "eraser")
    )
    settings = {"mix_seed": 3, "placement": {"rule": "anywhere", "gap_mm": 1.0}, "sham": True, "voi": voi}
    injected = partial(injection, np.array([1, 2]), np.array([30.0, 36.0]), settings=settings)
    open_maker = partial(VolumeMaker.open, volumes, "ours", True, injector, eraser, injected, attempts=2)
    made = {}
    for processes in (1, 2):
        folder = tmp_path / f"{processes}"
        folder.mkdir()
        paths = [folder / name for name in ("a.zip", "a.parquet", "b.parquet")]
        with VolumeWriter(paths[0], paths[1], 56, paths[2]) as writer:
            made[processes] = synthesize_volumes(open_maker, range(5, 9), writer, processes=processes)
    assert contents(sorted((tmp_path / "1").iterdir())) == contents(sorted((tmp_path / "2").iterdir()))
    for name, table in made[1].items():
        pd.testing.assert_frame_equal(made[2][name], table)
    assert made[1]["described"].volume_id.tolist() == [f"ours-{seed}" for seed in range(5, 9)]
    assert made[1]["rejected"].reason.tolist() == ["no volume in 2 attempts"] * 4


def test_volumes_without_lungs_are_drawn_again_and_left_out_in_the_end(tmp_path):
    """About half of all draws fail, whichever half of the set they are for."""
    generator = ToyGenerator(fails_below=0.0)
    synthesizer = VolumeSynthesizer(generator, FACTS)
    fails = {
        (seed, attempt): bool(find_lungs(synthesizer.draw(seed, attempt), SPACING).failure)
        for seed in range(12)
        for attempt in (1, 2)
    }
    generator.drawn = 0
    free, found, tables = inject(tmp_path, 0, 12, generator, attempts=2)
    rejected = tables["rejected"]
    first, second = ([fails[seed, attempt] for seed in range(12)] for attempt in (1, 2))
    assert generator.drawn == 12 + sum(first)
    assert (tables["described"].lung_check != "").tolist() == first
    assert free.manifest.synthesis_seed.tolist() == list(range(12))
    kept = [seed for seed in range(12) if not (first[seed] and second[seed])]
    assert 0 < len(kept) < 12
    assert found.manifest.synthesis_seed.tolist() == kept
    assert found.manifest.attempts.tolist() == [1 + first[seed] for seed in kept]
    assert set(found.manifest.attempts) == {1, 2}
    assert (found.manifest.label == np.where(np.array(kept) % 2, "none", "nodules")).all()
    counted = rejected[rejected.counted]
    assert counted.source.tolist() == [f"toy-{seed}" for seed in range(12) if seed not in kept]
    assert (counted.reason == "no volume in 2 attempts").all()
    assert counted.found.str.fullmatch(r"(lung mask failed: one lung: 100 %.*; ?){1}lung mask failed: one lung.*").all()
    redrawn = next(number for number, seed in enumerate(kept) if first[seed] and seed % 2)
    np.testing.assert_array_equal(found.read(redrawn)[0], synthesizer.draw(kept[redrawn], 2))


def test_a_volume_in_which_no_nodule_finds_a_place_is_a_failed_draw(tmp_path):
    nowhere = replace(INJECTION, placement=PlacementSettings(rule="vessel", vessel_hounsfield=3000, tries=20))
    _, found, tables = inject(tmp_path, 0, 2, injected=nowhere, attempts=2)
    assert found.manifest.label.tolist() == ["none"]
    assert tables["nodules"].empty
    rejected = tables["rejected"]
    assert rejected[rejected.counted].source.tolist() == ["toy-0"]
    assert rejected.found.iloc[-1].count("without a place (no place for a nodule)") == 2


def test_sized_copies_differ_in_the_diameter_alone(tmp_path):
    rows = pd.DataFrame(
        [
            {"volume_id": name, "patient_id": f"p-{name}", "label": "none", "source": "lidc", "version": "free"}
            | {"data": "phantom", "spacing_mm": SPACING, "sha256": "", "nodules": pd.NA, "synthesis_seed": pd.NA}
            for name in ("s1", "s2", "s3")
        ]
    )
    free = VolumeSet.hold(np.stack([chest(), chest(), chest(lungs=1)]), rows)
    paths = tmp_path / "sized.zarr.zip", tmp_path / "sized.parquet"
    with VolumeWriter(*paths, SIZE) as writer:
        nodules, rejected = inject_sized(free, [24, 36.5], INJECTION, writer)
    sized = read_volume_set(*paths, verify=True)
    manifest = sized.manifest
    assert manifest.volume_id.tolist() == ["s1-24mm", "s1-36.5mm", "s2-24mm", "s2-36.5mm"]
    assert manifest.patient_id.tolist() == ["p-s1", "p-s1", "p-s2", "p-s2"]
    assert manifest.diameter_mm.tolist() == [24, 36.5, 24, 36.5]
    assert (manifest.version == "sized").all()
    assert (manifest.label == "nodules").all()
    assert manifest.nodules.tolist() == nodules.groupby("scan_id").size()[manifest.volume_id].tolist()
    assert (nodules.scan_id.map(manifest.set_index("volume_id").diameter_mm) == nodules.equivalent_diameter_mm).all()
    # As many are asked for at each diameter.
    asked = pd.concat([nodules.scan_id, rejected[~rejected.counted].source]).value_counts()
    assert asked["s1-24mm"] == asked["s1-36.5mm"]
    assert asked["s2-24mm"] == asked["s2-36.5mm"]
    left_out = rejected[rejected.counted]
    assert left_out.source.tolist() == ["s3-24mm", "s3-36.5mm"]
    assert (left_out.reason == "lung mask failed").all()
    larger = [(after != chest()).sum() for after in sized]
    assert larger[0] < larger[1]
    with pytest.raises(DataError, match="diameters_mm: found 80 to 80 mm, allowed: one from 5 to 72 mm"):
        inject_sized(free, [80], INJECTION, VolumeWriter(*paths, SIZE))


# Export


@pytest.fixture(scope="module")
def injected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    _, volumes, tables = inject(folder, 0, 2)
    return volumes, tables["nodules"]


def test_a_volume_as_dicom(tmp_path, injected):
    volumes, nodules = injected
    export_volume(volumes, "toy-0", tmp_path / "series")
    headers = [pydicom.dcmread(file) for file in sorted((tmp_path / "series").iterdir())]
    assert len(headers) == SIZE
    for header in headers:
        assert list(header.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
        assert header.SeriesDescription == "SYNTHETIC chest CT toy-0 from phantom"
        assert header.SyntheticData == "YES"
        assert header.PatientName == "SYNTHETIC"
        assert header.DerivationDescription == (
            "Drawn by the generative network toy from seed 0, attempt 1; it learnt from phantom scans; "
            f"nodules injected: {len(nodules)}"
        )
        assert header.PixelSpacing == [SPACING, SPACING]
        assert header.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volumes.read(0)[0])
    assert image.GetSpacing() == (SPACING,) * 3
    # The nodule table's mm lead to its nodules.
    nodule = nodules.iloc[0]
    place = image.TransformPhysicalPointToIndex([nodule.x_mm, nodule.y_mm, nodule.z_mm])
    np.testing.assert_allclose(place, nodule[["x_voxel", "y_voxel", "z_voxel"]].to_numpy(float), atol=0.501)
    assert image.GetPixel(place) > -100


def test_a_volume_as_nifti(tmp_path, injected):
    volumes, _ = injected
    path = tmp_path / "volume.nii.gz"
    export_volume(volumes, "toy-1", path)
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.get_fdata().transpose(2, 1, 0), volumes.read(1)[0])
    np.testing.assert_allclose(image.affine, np.diag([-SPACING, -SPACING, SPACING, 1]))
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header["descrip"].item().decode() == "SYNTHETIC chest CT toy-1 from phantom"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), volumes.read(1)[0])


def test_what_is_not_exported(tmp_path, injected):
    volumes, _ = injected
    with pytest.raises(DataError, match="toy-9: volume_id: found 0 of this name, allowed: 1"):
        export_volume(volumes, "toy-9", tmp_path / "series")
    real = VolumeSet.hold(volumes.read([0]), volumes.manifest[:1].assign(version="free"))
    with pytest.raises(DataError, match="toy-0: version: found free, allowed: synthetic"):
        export_volume(real, "toy-0", tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


def test_a_sized_copy_has_a_sham_edited_at_the_same_places(tmp_path):
    row = {"volume_id": "s1", "patient_id": "p-s1", "label": "none", "source": "lidc", "version": "free"}
    row |= {"data": "phantom", "spacing_mm": SPACING, "sha256": "", "nodules": pd.NA, "synthesis_seed": pd.NA}
    free = VolumeSet.hold(chest()[None], pd.DataFrame([row]))
    injection = Injection(**{**vars(INJECTION), "erase": lambda vois, *_: vois + 40})
    paths = tmp_path / "sized.zarr.zip", tmp_path / "sized.parquet"
    with VolumeWriter(*paths, SIZE) as writer:
        inject_sized(free, [30], injection, writer)
    sized = read_volume_set(*paths)
    assert sized.manifest.volume_id.tolist() == ["s1-30mm", "s1-30mm-sham"]
    assert sized.manifest.label.tolist() == ["nodules", "none"]
    assert sized.manifest.diameter_mm.tolist() == [30, 30]
    nodules, sham = ((np.abs(volume - chest()) > 30) for volume in sized)
    assert sham.any()
    # Within the radius both change, and the margin as well where only the sham does.
    assert (sham & nodules).sum() > 0.8 * nodules.sum()
