"""What is written is read again; what is half written or damaged is never taken for whole."""

import hashlib
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from scangan.data import store
from scangan.data.store import (
    WHITE,
    ImageSet,
    ImageWriter,
    StoredImages,
    radiographs,
    read_image_set,
    read_image_sets,
    read_manifest,
    resize_volume,
    scale_images,
    write_image_set,
)
from scangan.errors import DataError


def make_set(count: int, shape=(1, 8, 8), seed=0) -> ImageSet:
    images = np.random.default_rng(seed).random((count, *shape), dtype=np.float32)
    names = [f"{index:03d}" for index in range(count)]
    rows = {"image_id": names, "patient_id": names, "label": "normal", "source": "a.png", "data": "real"}
    return ImageSet(images, pd.DataFrame(rows))


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "images.zarr.zip", tmp_path / "manifest.parquet"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_round_trip_keeps_images_to_half_a_step_of_16_bit(paths, shape):
    written = make_set(7, shape)
    write_image_set(*paths, written)
    read = read_image_set(*paths, verify=True)
    assert read.images.dtype == np.float32
    np.testing.assert_allclose(read.images, written.images, atol=0.51 / 65535)
    assert read.manifest.image_id.tolist() == written.manifest.image_id.tolist()
    assert read.manifest.spacing_mm.isna().all()
    assert read.manifest.synthesis_seed.dtype == "Int64"
    assert read.manifest.synthesis_seed.isna().all()


def test_second_round_trip_changes_nothing(paths, tmp_path):
    write_image_set(*paths, make_set(5))
    once = read_image_set(*paths)
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", once)
    twice = read_image_set(tmp_path / "b.zip", tmp_path / "b.parquet")
    np.testing.assert_array_equal(once.images, twice.images)
    pd.testing.assert_frame_equal(once.manifest, twice.manifest)


def test_a_large_set_stays_in_its_files(tmp_path, monkeypatch):
    shards = [[tmp_path / f"{name}{end}" for end in (".zarr.zip", ".parquet")] for name in "ab"]
    for seed, paths in enumerate(shards):
        write_image_set(*paths, make_set(300, (1, 32, 32), seed))  # several chunks
    held = ImageSet.concatenate([read_image_set(*paths) for paths in shards]).images
    monkeypatch.setattr(store, "HELD_BYTES", 100 * 4 * 32**2)
    monkeypatch.setattr(store, "READ_BYTES", 70 * 2 * 32**2)
    found = read_image_sets(*zip(*shards, strict=True))
    images = found.images
    assert isinstance(images, StoredImages)
    assert (len(images), images.shape, images.nbytes) == (600, held.shape, held.nbytes)
    np.testing.assert_array_equal(np.asarray(images), held)
    np.testing.assert_array_equal(np.stack(list(images)), held)
    scattered = np.random.default_rng(0).integers(0, 600, 90)
    for index in (5, -1, slice(290, 310), slice(0, 0), slice(None, None, -7), scattered, np.array([], int)):
        np.testing.assert_array_equal(images[index], held[index])
    np.testing.assert_array_equal(images.pixels(scattered), np.rint(held[scattered] * 65535))
    # What is small enough is read, unless few of them are looked at.
    few = read_image_sets(*zip(*shards, strict=True), hold=False).select(scattered[:5])
    assert isinstance(few.images, StoredImages)
    np.testing.assert_array_equal(np.asarray(few.images), held[scattered[:5]])
    odd = np.arange(600) % 2 == 1
    assert isinstance(found.select(odd).images, StoredImages)
    np.testing.assert_array_equal(np.asarray(found.select(odd).images), held[odd])
    assert isinstance(found.select(scattered).images, np.ndarray)
    np.testing.assert_array_equal(found.select(odd).select(scattered % 300).images, held[odd][scattered % 300])
    halves = ImageSet.concatenate([found.select(odd), found.select(~odd)])
    assert isinstance(halves.images, StoredImages)
    np.testing.assert_array_equal(halves.images[250:350], np.concatenate([held[odd], held[~odd]])[250:350])
    mixed = ImageSet.concatenate([found.select(odd), found.select(scattered)])
    np.testing.assert_array_equal(mixed.images, np.concatenate([held[odd], held[scattered]]))


def test_streaming_in_pieces_is_writing_at_once(paths, tmp_path):
    whole = make_set(600, (1, 32, 32))  # more than a chunk
    with ImageWriter(*paths, shape=(1, 32, 32)) as writer:
        for start in range(0, 600, 70):
            part = whole.select(np.arange(start, min(start + 70, 600)))
            writer.append(part.images, part.manifest)
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", whole)
    streamed, at_once = read_image_set(*paths, verify=True), read_image_set(tmp_path / "b.zip", tmp_path / "b.parquet")
    np.testing.assert_array_equal(streamed.images, at_once.images)
    pd.testing.assert_frame_equal(streamed.manifest, at_once.manifest)
    assert paths[0].read_bytes()[:4] == b"PK\x03\x04"


def test_checksum_is_of_the_content_and_not_of_the_zip(paths, tmp_path):
    one = make_set(4)
    write_image_set(*paths, one)
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", one.select([2, 3]))
    first, second = read_image_set(*paths).manifest, read_image_set(tmp_path / "b.zip", tmp_path / "b.parquet").manifest
    assert first.sha256.tolist()[2:] == second.sha256.tolist()
    pixels = np.rint(one.images[2] * np.float32(65535)).astype("<u2")
    assert second.sha256[0] == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_values_outside_are_clipped_and_seeds_kept(paths):
    image_set = make_set(2)
    image_set.images[0, 0, 0, :2] = -1, 2
    rows = image_set.manifest.assign(synthesis_seed=[7, 8], spacing_mm=0.5)
    write_image_set(*paths, ImageSet(image_set.images, rows))
    read = read_image_set(*paths)
    assert read.images[0, 0, 0, :2].tolist() == [0, 1]
    assert read.manifest.synthesis_seed.tolist() == [7, 8]
    assert read.manifest.spacing_mm.tolist() == [0.5, 0.5]


def test_empty_set_can_be_written(paths):
    write_image_set(*paths, make_set(0))
    assert read_image_set(*paths, verify=True).images.shape == (0, 1, 8, 8)


def test_an_error_in_the_middle_leaves_nothing(paths):
    image_set = make_set(3)

    def fail_after_one_append():
        with ImageWriter(*paths, shape=(1, 8, 8)) as writer:
            writer.append(image_set.images, image_set.manifest)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_append()
    assert list(paths[0].parent.iterdir()) == []


def test_an_error_keeps_what_was_there_before(paths):
    write_image_set(*paths, make_set(3))
    before = [path.read_bytes() for path in paths]
    with pytest.raises(ValueError, match="NaN"):
        write_image_set(*paths, ImageSet(np.full((1, 1, 8, 8), np.nan, np.float32), make_set(1).manifest))
    assert [path.read_bytes() for path in paths] == before
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    ("images", "rows", "message"),
    [
        (np.zeros((2, 1, 8, 8)), make_set(3).manifest, "are not 3 rows"),
        (np.zeros((3, 1, 8, 9)), make_set(3).manifest, "are not 3 rows"),
        (np.zeros((3, 1, 8, 8)), make_set(3).manifest.drop(columns="label"), r"lack \['label'\]"),
    ],
)
def test_writer_refuses_what_does_not_fit(paths, images, rows, message):
    with pytest.raises(ValueError, match=message), ImageWriter(*paths, shape=(1, 8, 8)) as writer:
        writer.append(images, rows)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("which", [0, 1])
def test_truncated_file_is_named(paths, which, kept):
    write_image_set(*paths, make_set(20))
    content = paths[which].read_bytes()
    paths[which].write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=rf"{paths[which].name}: (images|manifest): found .*, allowed: a whole"):
        read_image_set(*paths)


@pytest.mark.parametrize("which", [0, 1])
def test_missing_file_is_named(paths, which):
    write_image_set(*paths, make_set(2))
    paths[which].unlink()
    with pytest.raises(DataError, match=rf"{paths[which].name}: .*no such file"):
        read_image_set(*paths)


def test_different_lengths_are_named(paths, tmp_path):
    write_image_set(*paths, make_set(4))
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", make_set(3))
    with pytest.raises(DataError, match=r"b\.zip: images: found 3, allowed: 4"):
        read_image_set(tmp_path / "b.zip", paths[1])


def test_wrong_checksum_is_found_by_verify(paths, tmp_path):
    write_image_set(*paths, make_set(4))
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", make_set(4, seed=1))
    assert len(read_image_set(tmp_path / "b.zip", paths[1])) == 4
    with pytest.raises(DataError, match=r"b\.zip: 000: found sha256 \w{64}, allowed: \w{64}"):
        read_image_set(tmp_path / "b.zip", paths[1], verify=True)


def test_damaged_bytes_are_found(paths):
    write_image_set(*paths, make_set(50))
    content = bytearray(paths[0].read_bytes())
    content[300] ^= 0xFF
    paths[0].write_bytes(content)
    with pytest.raises(DataError, match=r"images\.zarr\.zip: images: found"):
        read_image_set(*paths)


def repack(path, change, compression=zipfile.ZIP_STORED):
    """The same zip with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_missing_chunk_is_a_black_image_or_lost(paths):
    black = make_set(3)
    black.images[:] = 0
    write_image_set(*paths, black)
    with zipfile.ZipFile(paths[0]) as archive:
        assert archive.namelist() == ["zarr.json"]  # Zarr leaves chunks of zeros out
    assert (read_image_set(*paths).images == 0).all()
    write_image_set(*paths, make_set(3))
    repack(paths[0], lambda members: members.pop("c/0/0/0/0"))
    with pytest.raises(DataError, match=r"images\.zarr\.zip: 000: found sha256 \w{64}, allowed: \w{64}"):
        read_image_set(*paths)


def test_a_zip_that_compresses_may_hold_anything(paths):
    write_image_set(*paths, make_set(3))
    repack(paths[0], lambda members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"images\.zarr\.zip: images: found .* compressed by the zip, allowed"):
        read_image_set(*paths)


@pytest.mark.parametrize(("field", "value"), [("data_type", "float32"), ("shape", [3, 1, 8, 7]), ("shape", [3, 64])])
def test_arrays_of_another_form_are_named(paths, field, value):
    def describe(members):
        members["zarr.json"] = json.dumps(json.loads(members["zarr.json"]) | {field: value}).encode()

    write_image_set(*paths, make_set(3))
    repack(paths[0], describe)
    with pytest.raises(DataError, match=r"images\.zarr\.zip: images: found "):
        read_image_set(*paths)


@pytest.mark.parametrize(("names", "found"), [(["a", "b", "a"], "'a' twice"), (["a", None, "b"], "none")])
def test_each_row_has_an_id_of_its_own(paths, names, found):
    write_image_set(*paths, make_set(3))
    pd.read_parquet(paths[1]).assign(image_id=names).to_parquet(paths[1], index=False)
    with pytest.raises(DataError, match=rf"manifest\.parquet: image_id: found {found}, allowed: one for each row"):
        read_image_set(*paths)


def test_select_and_concatenate():
    image_set = make_set(5)
    image_set.manifest["label"] = list("abbab")
    chosen = image_set.select(image_set.manifest.label == "a")
    assert chosen.manifest.image_id.tolist() == ["000", "003"]
    assert chosen.manifest.index.tolist() == [0, 1]
    np.testing.assert_array_equal(chosen.images, image_set.images[[0, 3]])
    both = ImageSet.concatenate([chosen, image_set.select([4, 4]), image_set.select([])])
    assert both.manifest.image_id.tolist() == ["000", "003", "004", "004"]
    assert len(both) == 4
    with pytest.raises(ValueError, match="do not fit"):
        ImageSet(image_set.images, image_set.manifest[:2])


@pytest.mark.parametrize("kept", [[], [599], [0, 2, 3], list(range(0, 600, 2)), list(range(600))], ids=len)
def test_kept_images_are_those_that_would_have_been_written_alone(paths, tmp_path, kept):
    whole = make_set(600, (1, 32, 32))  # more than a chunk
    with ImageWriter(*paths, shape=(1, 32, 32)) as writer:
        for start in range(0, 600, 250):
            part = whole.select(np.arange(start, min(start + 250, 600)))
            writer.append(part.images, part.manifest)
        assert writer.images.shape == (600, 1, 32, 32)
        writer.keep(writer.manifest.iloc[kept].assign(patient_id="p"))
    alone = whole.select(kept)
    alone.manifest["patient_id"] = "p"
    write_image_set(tmp_path / "b.zip", tmp_path / "b.parquet", alone)
    assert paths[0].read_bytes() == (tmp_path / "b.zip").read_bytes()
    pd.testing.assert_frame_equal(read_image_set(*paths, verify=True).manifest, read_manifest(tmp_path / "b.parquet"))


def test_more_images_follow_those_that_were_kept(paths):
    image_set = make_set(5)
    with ImageWriter(*paths, shape=(1, 8, 8)) as writer:
        writer.append(image_set.images, image_set.manifest)
        writer.keep(writer.manifest[writer.manifest.image_id > "002"])
        writer.append(image_set.images[:1], image_set.manifest[:1])
    assert read_image_set(*paths, verify=True).manifest.image_id.tolist() == ["003", "004", "000"]


def test_a_set_of_volumes_is_kept_as_one_of_images(paths):
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, WHITE + 1, (3, 1, 4, 4, 4)).astype(np.float32) / np.float32(WHITE)
    rows = pd.DataFrame(
        {"image_id": list("abc"), "patient_id": list("abc"), "label": "x", "source": "", "data": "real"}
    )
    write_image_set(*paths, ImageSet(volumes, rows))
    found = read_image_set(*paths, verify=True)
    assert found.is_of_volumes
    np.testing.assert_array_equal(found.images, volumes)
    assert found.select([2, 0]).images.shape == (2, 1, 4, 4, 4)


def test_volumes_are_resized_along_each_axis_alike():
    ramp = np.arange(8, dtype=np.float32) / 8
    volume = ramp[:, None, None] + 2 * ramp[:, None] + 4 * ramp
    halved = resize_volume(volume, (4, 4, 4))
    for axis in range(3):
        turned = resize_volume(np.moveaxis(volume, 0, axis).copy(), (4, 4, 4))
        np.testing.assert_allclose(turned, np.moveaxis(halved, 0, axis), atol=1e-5)
    # Within, a triangle-weighted mean of a ramp is the ramp.
    middles = (np.arange(4) * 2 + 0.5) / 8
    expected = middles[:, None, None] + 2 * middles[:, None] + 4 * middles
    np.testing.assert_allclose(halved[1:3, 1:3, 1:3], expected[1:3, 1:3, 1:3], atol=1e-5)
    np.testing.assert_array_equal(resize_volume(volume, (8, 8, 8)), volume)
    both = scale_images(ImageSet(np.stack([volume, volume])[:, None] / 8, pd.DataFrame({"image_id": ["a", "b"]})), 4)
    np.testing.assert_allclose(both.images[1, 0], halved / 8, atol=1e-6)


def test_a_radiograph_is_the_mean_from_front_to_back():
    volumes = np.random.default_rng(0).random((2, 1, 3, 4, 5), np.float32)
    np.testing.assert_allclose(radiographs(volumes), volumes.mean(axis=3), atol=1e-6)
