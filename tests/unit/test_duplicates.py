"""Copies are found whatever was done to them, different pictures are not taken for copies, and each meets its fate."""

import io
import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from scangan.config import Duplicates, ImageFolder
from scangan.data import duplicates as module
from scangan.data.duplicates import (
    DUPLICATE_TYPES,
    copies_of,
    describe_divided,
    image_features,
    log_divided,
    read_duplicates,
    settle_images,
    settle_scans,
    similar_pairs,
    whiten,
)
from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES
from scangan.data.store import fit_square
from scangan.errors import DataError
from tests.unit.cohorts import read_cohort

ASK = Duplicates()


def picture(seed, height=150, width=150):
    """A smooth random picture of 8 bits in [0, 1]: float32 [H, W]."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = sum(weight * gaussian_filter(noise, sigma) * sigma for sigma, weight in ((3, 1), (8, 2), (20, 3)))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return eight_bits(0.1 + 0.7 * smooth)


def eight_bits(pixels):
    return np.rint(pixels.clip(0, 1) * 255).astype(np.float32) / 255


def squares(pictures, size=64):
    return np.stack([fit_square(np.ascontiguousarray(pixels, np.float32)[None], size) for pixels in pictures])


def manifest_of(images, labels=None, patients=None):
    """Rows of images a, b, c, ..., each a patient of its own, whose checksum is of their pixels."""
    ids = [f"{number:03d}" for number in range(len(images))]
    rows = {"image_id": ids, "patient_id": patients or ids, "label": labels or "normal"}
    rows["source"] = [f"{name}.png" for name in ids]
    rows["sha256"] = [str(hash(image.tobytes())) for image in images]
    return pd.DataFrame(rows)


def settle(pictures, labels=None, patients=None, size=64, **settings):
    images = squares(pictures, size)
    return settle_images(manifest_of(images, labels, patients), images, Duplicates(**settings))


def partners(table):
    return dict(zip(table.image_id, table.partner, strict=True))


# What is found


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / 255


def resized(pixels, factor):
    size = tuple(round(edge * factor) for edge in reversed(pixels.shape))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


CHANGES = {
    "flipped": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda pixels: pixels[::-1, ::-1],
    "transposed": lambda pixels: pixels.T,
    "half the size": lambda pixels: resized(pixels, 0.5),
    "twice the size": lambda pixels: resized(pixels, 2),
    "JPEG 95": lambda pixels: jpeg(pixels, 95),
    "JPEG 50": lambda pixels: jpeg(pixels, 50),
    "brighter": lambda pixels: eight_bits(1.2 * pixels),
    "darker": lambda pixels: eight_bits(0.8 * pixels),
    "more contrast": lambda pixels: eight_bits((pixels - 0.5) * 1.3 + 0.5),
    "less contrast": lambda pixels: eight_bits((pixels - 0.5) * 0.7 + 0.5),
    "gamma": lambda pixels: eight_bits(pixels**0.8),
    "all at once": lambda pixels: jpeg(eight_bits(resized(np.rot90(pixels), 0.7) ** 0.9), 75),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(("others", "shape"), [(1, (150, 150)), (20, (150, 150)), (20, (150, 119))], ids=str)
def test_a_changed_picture_is_near_identical(change, others, shape):
    originals = [picture(seed, *shape) for seed in range(others)]
    found = settle([*originals, change(originals[0])], near="drop", size=128)
    last = f"{others:03d}"
    assert partners(found.duplicates) == {"000": last, last: "000"}
    assert list(found.duplicates.kind) == ["near-identical"] * 2
    assert found.duplicates.similarity.between(0.95, 1 + 1e-6).all()


@pytest.mark.parametrize("images", [2, 20, 150])
def test_different_pictures_are_no_copies(images):
    found = settle([picture(seed) for seed in range(images)])
    assert len(found.duplicates) == len(found.rejected) == 0
    assert list(found.duplicates) == list(DUPLICATE_TYPES)
    assert len(found.manifest) == images


def test_a_shift_is_no_copy_of_an_unlike_picture_but_a_whole_turn_is():
    one = picture(0)
    found = settle([one, np.rot90(one, 2), np.roll(one, 40, axis=1), 1 - one])
    assert partners(found.duplicates) == {"000": "001", "001": "000"}


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_an_image_without_contrast_is_like_no_other(level):
    flat = np.full((40, 40), level, np.float32)
    barely = flat.copy()
    barely[:20] = abs(level - 1 / 255)
    found = settle([flat, barely, np.rot90(barely), picture(0)])
    assert found.duplicates.empty
    assert (image_features(squares([flat, barely])) == 0).all()
    again = settle([flat, picture(0), flat])
    assert partners(again.duplicates) == {"000": "002", "002": "000"}
    assert set(again.duplicates.kind) == {"identical"}


@pytest.mark.parametrize("size", [8, 15, 32])
def test_small_images_have_as_many_features_as_pixels(size):
    features = image_features(squares([picture(0), picture(1)], size))
    assert features.shape == (2, min(size, 16), min(size, 16))
    assert (features[:, 0, 0] == 0).all()
    if size < 16:  # all of them: Parseval
        spread = squares([picture(0), picture(1)], size).std((1, 2, 3))
        np.testing.assert_allclose(np.sqrt((features**2).sum((1, 2))), spread, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_features_do_not_depend_on_the_type_of_numbers(dtype):
    images = squares([picture(seed) for seed in range(3)]).repeat(3, 1)
    white = np.iinfo(dtype).max if dtype != np.float32 else 1
    stored = (np.rint(images * 255) / 255 * white).astype(dtype)
    np.testing.assert_allclose(image_features(stored), image_features(images), atol=2e-3)


def test_similar_pairs_are_those_of_all_flips_and_turns_one_by_one(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    images = squares([*(picture(seed) for seed in range(30)), *(CHANGES["all at once"](picture(s)) for s in (3, 29))])
    features = whiten(image_features(images))
    best = np.full((32, 32), -1.0)
    for sign in np.ndindex(2, 2):
        signs = (1 - 2 * sign[0]) ** np.arange(16)[:, None] * (1 - 2 * sign[1]) ** np.arange(16)[None]
        for other in (features * signs, features.transpose(0, 2, 1) * signs):
            best = np.maximum(best, features.reshape(32, -1) @ other.reshape(32, -1).T)
    for threshold in (0.2, 0.5, 0.95):
        found = {
            (row, column): value
            for rows, columns, alike in similar_pairs(features, threshold)
            for row, column, value in zip(rows, columns, alike, strict=True)
        }
        assert set(found) == {(row, column) for row, column in np.argwhere(best >= threshold) if row < column}
        assert list(found.values()) == pytest.approx([best[pair] for pair in found], abs=1e-5)
    assert set(found) == {(3, 30), (29, 31)}


@pytest.mark.parametrize("suffix", ["tif", "bmp", "png"])
def test_the_same_picture_in_another_format_is_identical(tmp_path, suffix):
    for name in ("sick", "healthy"):
        (tmp_path / name).mkdir()
    for name, seed in (("sick/a.png", 0), (f"sick/b.{suffix}", 0), ("healthy/c.png", 1)):
        pixels = Image.fromarray(np.rint(picture(seed) * 255).astype(np.uint8))
        (pixels.convert("RGB") if suffix == "png" else pixels).save(tmp_path / name)
    settings = ImageFolder(root="mine", classes={"s": "sick", "h": "healthy"}, image_size=32)
    cohort, _ = read_cohort(tmp_path, settings, "real")
    stored = np.rint(cohort.images * 65535).astype("<u2")
    manifest = cohort.manifest.assign(sha256=[hash(image.tobytes()) for image in stored])
    found = settle_images(manifest, stored, settings.duplicates)
    assert partners(found.duplicates) == {"sick/a": "sick/b", "sick/b": "sick/a"}
    [row] = found.rejected.itertuples()
    assert (row.source, row.reason, row.found) == (f"sick/b.{suffix}", "identical to another image", "sick/a.png")
    assert row.counted


# What becomes of them

ONE, TWO, THREE = picture(1), picture(2), picture(3)
NEAR_ONE, OF_BOTH = ONE[::-1], [ONE, TWO, ONE, THREE, ONE[::-1]]


@pytest.mark.parametrize(
    ("settings", "kept", "patients", "actions"),
    [
        ({}, ["000", "001", "003", "004"], ["000", "001", "003", "000"], "kept dropped one|patient one|patient"),
        ({"near": "drop"}, ["000", "001", "003"], ["000", "001", "003"], "kept dropped kept dropped"),
        (
            {"identical": "group"},
            ["000", "001", "002", "003", "004"],
            ["000", "001", "000", "003", "000"],
            "one|patient one|patient one|patient one|patient one|patient",
        ),
        (
            {"identical": "allow", "near": "allow"},
            ["000", "001", "002", "003", "004"],
            ["000", "001", "002", "003", "004"],
            "allowed allowed allowed allowed allowed",
        ),
    ],
)
def test_copies_are_dropped_or_grouped_or_allowed(settings, kept, patients, actions):
    found = settle(OF_BOTH, **settings)
    assert list(found.manifest.image_id) == kept
    assert list(found.manifest.patient_id) == patients
    assert list(found.manifest.index) == [int(name) for name in kept]
    assert list(found.duplicates.action) == [action.replace("|", " ") for action in actions.split()]
    listed = found.rejected.set_index("source").counted
    dropped = {f"{name:03d}.png" for name in range(5)} - {f"{name}.png" for name in kept}
    assert set(listed.index[listed]) == dropped
    assert found.rejected.reason[~found.rejected.counted].str.startswith("kept: ").all()
    assert "001.png" not in listed.index


def test_the_first_is_that_of_the_first_id_in_whatever_order_they_come():
    images = squares(OF_BOTH)
    manifest = manifest_of(images)
    order = [4, 2, 3, 1, 0]
    found = settle_images(manifest.iloc[order].reset_index(drop=True), images[order], ASK)
    assert sorted(found.manifest.image_id) == ["000", "001", "003", "004"]
    assert found.manifest.set_index("image_id").patient_id["004"] == "000"
    pd.testing.assert_frame_equal(found.duplicates, settle(OF_BOTH).duplicates)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, ["001", "003"]),
        ({"identical": "group"}, ["001", "003"]),
        ({"identical": "allow", "near": "allow"}, ["000", "001", "002", "003", "004"]),
    ],
)
def test_of_copies_in_several_classes_none_is_kept(settings, kept):
    found = settle([ONE, TWO, ONE, THREE, ONE], ["sick", "sick", "well", "well", "sick"], **settings)
    assert list(found.manifest.image_id) == kept
    assert len(found.rejected) == 3
    assert set(found.rejected.counted) == {len(kept) == 2}
    if len(kept) == 2:
        assert set(found.rejected.reason) == {"identical to images of another class"}
        said = "002.png, in a group of several classes (this one: sick, the other: well)"
        assert found.rejected.found.tolist()[::2] == [said, said]
        assert found.rejected.remedy[0] == "correct the labels, or remove all but one"


@pytest.mark.parametrize("near", ["drop", "group"])
def test_a_class_that_is_lost_is_an_error(near):
    with pytest.raises(DataError, match=r"duplicates: well: found no image that is not a copy .*, allowed: at least 1"):
        settle([ONE, TWO, NEAR_ONE], ["sick", "sick", "well"], near=near)


def test_patients_become_one_through_any_of_their_images():
    pictures = [picture(seed) for seed in range(4)]
    pictures += [pictures[0][::-1], pictures[1].T, picture(9)]
    patients = ["p", "p", "q", "r", "s", "q", "r"]  # p = s and p = q
    found = settle(pictures, patients=patients)
    assert list(found.manifest.patient_id) == ["p", "p", "p", "r", "p", "p", "r"]
    assert list(found.duplicates.patient_id) == ["p", "s", "p", "q"]


def test_within_a_patient_only_identical_images_are_copies():
    pictures = [ONE, ONE[::-1], TWO, TWO]
    found = settle(pictures, patients=["p"] * 4)
    assert list(found.manifest.image_id) == ["000", "001", "002"]
    assert partners(found.duplicates) == {"002": "003", "003": "002"}


def test_a_chain_is_one_group():
    chain = [ONE, eight_bits(ONE**0.8), eight_bits(ONE**0.6), TWO]
    found = settle(chain, near="drop", threshold=0.94)
    assert list(found.manifest.image_id) == ["000", "003"]
    assert set(found.duplicates.group) == {"000"}


def test_slices_of_one_source_are_called_by_their_ids():
    images = squares([ONE, TWO, ONE])
    found = settle_images(manifest_of(images).assign(source=["p", "p", "q"]), images, ASK)
    assert found.rejected[["source", "found"]].to_numpy().tolist() == [["q", "000"]]


# Scans


def scan_tables(checksums, patients):
    names = [f"s{number}" for number in range(len(checksums))]
    scans = pd.DataFrame({"scan_id": names, "patient_id": patients, "sha256": checksums, "data": "real"})
    scans = scans.reindex(columns=list(SCAN_TYPES)).fillna({"depth": 1, "height": 1, "width": 1, "native_slices": 1})
    nodules = pd.DataFrame({"scan_id": [names[0], names[-1], names[-1]], "nodule": [1, 1, 2], "readers": 4})
    return scans.astype(SCAN_TYPES), nodules.reindex(columns=list(NODULE_TYPES)).astype(NODULE_TYPES)


@pytest.mark.parametrize(
    ("fate", "kept", "patients", "nodules"),
    [
        ("drop", ["s0", "s1"], ["p", "q"], ["s0"]),
        ("group", ["s0", "s1", "s2"], ["p", "q", "p"], ["s0", "s2", "s2"]),
        ("allow", ["s0", "s1", "s2"], ["p", "q", "r"], ["s0", "s2", "s2"]),
    ],
)
def test_identical_scans_meet_the_same_fates_and_their_nodules_with_them(fate, kept, patients, nodules):
    tables = scan_tables(["x", "y", "x"], ["p", "q", "r"])
    scans, left, found = settle_scans(*tables, Duplicates(identical=fate))
    assert list(scans.scan_id) == kept
    assert list(scans.patient_id) == patients
    assert list(left.scan_id) == nodules
    assert list(scans) == list(SCAN_TYPES)
    assert set(found.duplicates.what) == {"scans"}
    assert found.rejected.reason.str.endswith(("identical to another scan", "one patient", "allowed")).all()


# What is said of them


def test_a_table_is_read_as_it_was_written(tmp_path):
    found = settle(OF_BOTH).duplicates
    found.to_csv(tmp_path / "d.csv", index=False)
    pd.testing.assert_frame_equal(read_duplicates(tmp_path / "d.csv"), found)
    settle([ONE, TWO]).duplicates.to_csv(tmp_path / "d.csv", index=False)
    assert read_duplicates(tmp_path / "d.csv").empty


def test_copies_that_a_split_divides_are_named(caplog):
    found = settle(OF_BOTH, identical="allow", near="allow").duplicates
    split = pd.DataFrame({"image_id": ["000", "001", "002", "003", "004"]})
    apart = split.assign(split=["train", "train", "test", "train", "train"])
    assert describe_divided(found, apart) == [
        "in several parts: 1 group of identical images, first 000 (train) and 002 (test)",
        "in several parts: 1 group of near-identical images, first 000 (train) and 002 (test)",
    ]
    assert describe_divided(found, split.assign(split="train")) == []
    assert describe_divided(found, apart[1:2]) == []  # an official split may leave images out
    with caplog.at_level(logging.WARNING):
        log_divided(found, apart)
    assert caplog.text.count("split: in several parts: 1 group") == 2


@pytest.mark.parametrize(("ids", "copies"), [(["000"], ["000", "002", "004"]), (["001"], []), (["001", "004"], 3)])
def test_copies_of_images(ids, copies):
    found = settle(OF_BOTH, identical="allow", near="allow").duplicates
    assert sorted(copies_of(ids, found)) == (copies if isinstance(copies, list) else ["000", "002", "004"])


def test_copies_among_volumes_are_found_by_their_radiographs():
    rng = np.random.default_rng(0)
    volumes = gaussian_filter(rng.normal(size=(8, 1, 24, 24, 24)), (0, 0, 2, 2, 2))
    volumes = (volumes - volumes.min()) / np.ptp(volumes)
    volumes[6], volumes[7] = volumes[1], 0.9 * volumes[2] + 0.05
    names = list("abcdefgh")
    sums = [volume.tobytes().hex() for volume in volumes]
    manifest = pd.DataFrame({"image_id": names, "patient_id": names, "label": "x", "source": names, "sha256": sums})
    settled = settle_images(manifest, volumes.astype(np.float32), Duplicates())
    assert settled.manifest.image_id.tolist() == list("abcdefh")
    assert settled.manifest.set_index("image_id").patient_id.to_dict() == {**{n: n for n in "abcdef"}, "h": "c"}
    assert settled.duplicates.kind.value_counts().to_dict() == {"identical": 2, "near-identical": 2}
