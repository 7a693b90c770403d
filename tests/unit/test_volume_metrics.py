"""Slices and volumes against closed forms, and against the metrics of images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import norm

from scangan.config import Evaluation, Fidelity
from scangan.ct.anatomy import describe_volume, has_two_lungs, radiograph
from scangan.ct.window import to_grey
from scangan.data.volume_set import VolumeSet
from scangan.errors import DataError
from scangan.metrics import volumes as module
from scangan.metrics.copies import KINDS
from scangan.metrics.features import Features, extract
from scangan.metrics.fidelity import compare_sets, unbiased_distances
from scangan.metrics.radiomics import frechet_radiomics_distance, radiomics, standardise_within_bounds
from scangan.metrics.volumes import (
    SliceFeatures,
    compare_slices,
    compare_whole_volumes,
    compared_slices,
    consistency_scores,
    describe_volumes,
    extract_slices,
    find_copied_volumes,
    read_slice_features,
    write_slice_features,
)

FACTS = {"extractor": "efficientnet-lite0", "window": [-1000, 400], "size": 8}
EVALUATION = Evaluation(bootstrap=200)


def volume_set(volumes, name="v", spacing_mm=5.0):
    names = [f"{name}{number}" for number in range(len(volumes))]
    manifest = pd.DataFrame({"volume_id": names, "patient_id": names, "spacing_mm": spacing_mm})
    return VolumeSet.hold(np.asarray(volumes, np.int16), manifest)


def random_volumes(count, size=8, seed=0):
    return np.random.default_rng(seed).integers(-1000, 400, (count, size, size, size)).astype(np.int16)


def random_slices(count, positions=3, size=6, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(count, 3, positions, size)) + shift).astype(np.float16)
    names = tuple(f"{seed}-{number}" for number in range(count))
    radiomics = (rng.normal(size=(count, 3, positions, 4)) + shift).astype(np.float32)
    return SliceFeatures(names, np.arange(positions), features, features, radiomics, FACTS)


def chest(lungs=2, hounsfield=-850, size=48):
    """A body of water with ellipsoid lungs of half-axes 38, 60, 100 mm, at 5 mm."""
    z, y, x = (np.indices((size,) * 3) - (size - 1) / 2) * 5.0
    volume = np.full((size,) * 3, -1000, np.int16)
    volume[(x / 105) ** 2 + (y / 85) ** 2 < 1] = 0
    for side in (-1, 1)[:lungs]:
        volume[((x - 50 * side) / 38) ** 2 + (y / 60) ** 2 + (z / 100) ** 2 < 1] = hounsfield
    return volume


# Slices


def test_positions_lie_in_the_middle_of_their_shares():
    assert compared_slices(8, 8).tolist() == list(range(8))
    assert compared_slices(64, 4).tolist() == [8, 24, 40, 56]
    assert compared_slices(56, 1).tolist() == [28]
    for wrong in (0, 9):
        with pytest.raises(DataError, match=f"positions: found {wrong}, allowed: 1 to 8"):
            compared_slices(8, wrong)


def test_features_are_those_of_the_slices_whatever_is_read_at_once(monkeypatch):
    def first_row(images, extractor, weights):
        assert (extractor, weights) == ("the extractor", "weights")
        return Features(images[:, 0, 0], images[:, 0, :, 0])

    monkeypatch.setattr(module, "extract", first_row)
    volumes = random_volumes(5)
    whole = extract_slices(volume_set(volumes), 2, "the extractor", "weights")
    monkeypatch.setattr(module, "SLICES_AT_ONCE", 13)  # two volumes
    assert np.array_equal(extract_slices(volume_set(volumes), 2, "the extractor", "weights").features, whole.features)
    grey = to_grey(volumes).astype(np.float16)
    assert whole.features.dtype == np.float16
    assert whole.positions.tolist() == [2, 6]
    for number, place in enumerate((2, 6)):
        assert np.array_equal(whole.features[:, 0, number], grey[:, place, 0])  # axial: a row is along x
        assert np.array_equal(whole.features[:, 1, number], grey[:, 0, place])  # coronal: x over z
        assert np.array_equal(whole.features[:, 2, number], grey[:, 0, :, place])  # sagittal: y over z
        assert np.array_equal(whole.logits[:, 2, number], grey[:, :, 0, place])
        coronal = radiomics(to_grey(volumes)[:, None, :, place])
        assert whole.radiomics[:, 1, number] == pytest.approx(coronal, rel=1e-6)


def test_features_are_the_extractors():
    volumes = random_volumes(1, size=32)
    found = extract_slices(volume_set(volumes), 1, "efficientnet-lite0", window=(-500, 500))
    coronal = extract(to_grey(volumes[:, None, :, 16], (-500, 500)), "efficientnet-lite0")
    assert found.features[:, 1, 0] == pytest.approx(coronal.features, abs=2e-3, rel=1e-3)
    assert found.logits.shape == (1, 3, 1, 1000)
    assert found.facts == {"extractor": "efficientnet-lite0", "window": [-500, 500], "size": 32}


def test_grey_is_linear_within_the_window():
    assert to_grey(np.array([-2000, -1000, -300, 400, 3000], np.int16)).tolist() == [0, 0, 0.5, 1, 1]


def test_features_are_kept(tmp_path):
    slices = random_slices(4)
    write_slice_features(tmp_path / "slices.safetensors", slices)
    again = read_slice_features(tmp_path / "slices.safetensors")
    assert (again.volume_ids, again.facts, len(again)) == (slices.volume_ids, slices.facts, 4)
    for name in ("positions", "features", "logits", "radiomics"):
        np.testing.assert_array_equal(getattr(again, name), getattr(slices, name))
        assert getattr(again, name).dtype == getattr(slices, name).dtype


def test_lost_and_damaged_features_are_named(tmp_path):
    path = tmp_path / "slices.safetensors"
    with pytest.raises(DataError, match=r"slices.safetensors: slice features: found no such file"):
        read_slice_features(path)
    write_slice_features(path, random_slices(4))
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:20], b"", b"parquet" * 30):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"slices.safetensors: slice features: found .+, allowed: a whole file"):
            read_slice_features(path)


# Table 1


def scores_of(table, variant, column="value"):
    return table[table.variant == variant].set_index("metric")[column]


def test_equal_covariances_leave_the_squared_distance_of_the_means():
    """A position of its own shift: the mean over positions, and as the paper's deviation that of the positions."""
    train = random_slices(12)
    held_out = replace(train, features=train.features[::-1])
    shift = np.array([[1, 2, 3], [0, 0, 4], [0, 2, 2]])[None, :, :, None]  # [planes, positions]
    moved = train.features.astype(np.float64) + shift  # float16 would round
    synthetic = replace(train, features=moved)
    table = compare_slices(train, held_out, {"ct_sgan": synthetic}, Fidelity())
    assert scores_of(table, "real").filter(like="fid").to_numpy() == pytest.approx(0, abs=1e-9)
    value, plus_minus = scores_of(table, "ct_sgan"), scores_of(table, "ct_sgan", "plus_minus")
    squares = 6 * np.array([[1, 4, 9], [0, 0, 16], [0, 4, 4]])  # 6 features
    for metric, own in zip(("fid", "fid_coronal", "fid_sagittal", "fid_2.5d"), (*squares, squares), strict=True):
        assert value[metric] == pytest.approx(own.mean())
        assert plus_minus[metric] == pytest.approx(own.std(ddof=1))
    assert scores_of(table, "ct_sgan", "plane").tolist() == [*("axial", "axial", "coronal", "sagittal", "2.5d", "2.5d")]


def test_one_position_scores_as_images_do():
    train, held_out, synthetic = (random_slices(20, positions=1, seed=seed, shift=seed) for seed in range(3))
    table = compare_slices(train, held_out, {"gan3d": synthetic}, Fidelity())
    images = [
        Features(*(part[:, 0, 0].astype(np.float32) for part in (each.features, each.logits)))
        for each in (train, held_out, synthetic)
    ]
    expected = compare_sets(*images, Fidelity()).set_index("metric")
    for metric in ("fid", "inception_score"):
        assert scores_of(table, "gan3d")[metric] == pytest.approx(expected.value[metric], rel=1e-6)
        assert scores_of(table, "real")[metric] == pytest.approx(expected.reference[metric], rel=1e-6)
        assert scores_of(table, "gan3d", "reference")[metric] == scores_of(table, "real")[metric]
    assert table.plus_minus[table.plane != "2.5d"].isna().all()
    assert scores_of(table, "real", "reference").isna().all()


def test_inception_score_of_certain_and_of_equal_logits():
    """K classes, certain and equally frequent: K. The same logits for all: 1."""
    train = random_slices(6)
    certain = np.broadcast_to(100 * np.eye(6, dtype=np.float16)[:, None, None], train.logits.shape)
    real, same = replace(train, logits=certain), replace(train, logits=np.ones_like(train.logits))
    table = compare_slices(train, real, {"same": same}, Fidelity())
    assert scores_of(table, "real")["inception_score"] == pytest.approx(6, rel=1e-5)
    assert scores_of(table, "same")["inception_score"] == pytest.approx(1, rel=1e-5)


def test_every_variant_has_the_same_number_of_volumes_and_random_sets_give_intervals():
    train, held_out = random_slices(30, seed=1), random_slices(9, seed=2)
    networks = {"near": random_slices(40, seed=3), "far": random_slices(40, seed=4, shift=2.0)}
    table = compare_slices(train, held_out, networks, Fidelity(resamples=8))
    assert (table.images == 9).all()
    assert table[["value", "plus_minus"]].notna().all(axis=None)
    # All held-out volumes are taken, so their Inception Score does not vary; their FID does, with the training ones.
    fixed = (table.variant == "real") & (table.metric == "inception_score")
    assert table[fixed][["ci_low", "ci_high"]].isna().all(axis=None)
    assert (table.ci_low <= table.value)[~fixed].all()
    assert (table.value <= table.ci_high)[~fixed].all()
    assert (table.ci_low < table.ci_high)[~fixed].all()
    assert scores_of(table, "far")["fid"] > 2 * scores_of(table, "real")["fid"]
    # Drawn alike, near lies as far from the training volumes as real ones do.
    assert scores_of(table, "near")["fid"] == pytest.approx(scores_of(table, "real")["fid"], rel=0.35)
    alone = compare_slices(train, held_out, {"near": networks["near"]}, Fidelity(resamples=8))
    pd.testing.assert_frame_equal(alone, table[table.variant != "far"])
    assert not alone.equals(compare_slices(train, held_out, {"near": networks["near"]}, Fidelity(resamples=8, seed=1)))


def test_nothing_is_drawn_from_sets_of_one_size():
    sets = [random_slices(5, seed=seed) for seed in range(3)]
    table = compare_slices(sets[0], sets[1], {"gan3d": sets[2]}, Fidelity())
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)
    assert table.value.notna().all()


def test_half_the_precision_is_enough():
    rng = np.random.default_rng(0)
    features = [rng.gamma(0.3, size=(20, 3, 1, 50)) for _ in range(3)]
    tables = []
    for kind in (np.float16, np.float64):
        sets = [
            SliceFeatures(("v",) * 20, np.arange(1), *[each.astype(kind)] * 2, each.astype(np.float32), FACTS)
            for each in features
        ]
        tables.append(compare_slices(sets[0], sets[1], {"gan": sets[2]}, Fidelity()))
    assert tables[0].value.to_numpy() == pytest.approx(tables[1].value.to_numpy(), rel=1e-3)


def test_sets_that_cannot_be_compared_are_refused():
    train = random_slices(5)
    with pytest.raises(DataError, match="slices of gan: volumes: found 1, allowed: at least 2"):
        compare_slices(train, train, {"gan": random_slices(1)}, Fidelity())
    with pytest.raises(DataError, match=r"slices of real: facts: found .*4 positions, allowed: .*3 positions"):
        compare_slices(train, random_slices(5, positions=4), {}, Fidelity())
    other = replace(train, facts=FACTS | {"size": 16})
    with pytest.raises(DataError, match=r"slices of gan: facts: found .*16.*, allowed: .*8"):
        compare_slices(train, train, {"gan": other}, Fidelity())


def test_frd_is_the_mean_over_slices_of_all_planes():
    train, held_out, synthetic = (random_slices(9, seed=seed, shift=seed) for seed in range(3))
    row = (
        compare_slices(train, held_out, {"gan": synthetic}, Fidelity())
        .set_index(["variant", "metric"])
        .loc["gan", "frd"]
    )
    each = [
        frechet_radiomics_distance(train.radiomics[:, plane, position], synthetic.radiomics[:, plane, position])
        for plane, position in np.ndindex(3, 3)
    ]
    assert (row["value"], row["plus_minus"]) == pytest.approx((np.mean(each), np.std(each, ddof=1)))


def test_features_are_written_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLICES_AT_ONCE", 6)  # of two volumes
    volumes = volume_set(random_volumes(3, size=16))
    held = extract_slices(volumes, 1, "efficientnet-lite0")
    extract_slices(volumes, 1, "efficientnet-lite0", path=tmp_path / "slices.safetensors")
    found = read_slice_features(tmp_path / "slices.safetensors")
    assert (found.volume_ids, found.facts) == (held.volume_ids, held.facts)
    for name in module.ARRAYS:
        assert getattr(found, name).dtype == getattr(held, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(held, name))
    assert isinstance(found.features, np.memmap)
    tensors = load_file(tmp_path / "slices.safetensors")  # of the library itself
    np.testing.assert_array_equal(tensors["logits"], held.logits)
    content = (tmp_path / "slices.safetensors").read_bytes()
    (tmp_path / "slices.safetensors").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"slice features: found .*, allowed: a whole file; make it again"):
        read_slice_features(tmp_path / "slices.safetensors")


def test_features_say_nothing_of_a_network_that_was_trained_against_them():
    train, held_out, drawn = (random_slices(9, seed=seed) for seed in range(3))
    networks = {"refused": drawn, "other": drawn}
    patients = np.arange(9), np.arange(9)
    for compare, more in ((compare_slices, ()), (compare_whole_volumes, patients)):
        table = compare(train, held_out, networks, Fidelity(), *more, refused=["refused"])
        by_radiomics = table["metric"].isin(["radiomics_distance", "frd"])
        assert by_radiomics[table["variant"] == "refused"].all()
        # The others lose nothing.
        whole = compare(train, held_out, networks, Fidelity(), *more)
        pd.testing.assert_frame_equal(
            *(each[each["variant"] != "refused"].reset_index(drop=True) for each in (table, whole))
        )


# Consistency


def test_differences_of_neighbours_are_those_of_the_body():
    volume = np.full((12, 12, 12), -1000, np.int16)
    ramp = 10 * np.arange(10)[:, None, None] + 3 * np.arange(8)[:, None] + np.zeros(6)
    volume[1:11, 2:10, 3:9] = ramp
    found = describe_volume(volume, 5.0)
    assert found["difference_axial_hu"] == pytest.approx(10)
    assert found["difference_coronal_hu"] == pytest.approx(3)
    assert found["difference_sagittal_hu"] == pytest.approx(0)
    assert found["body_share"] == pytest.approx(10 * 8 * 6 / 12**3)
    profile = np.array(found["axial_differences_hu"])
    assert profile.shape == (11,)
    assert profile[1:10] == pytest.approx(10)
    assert np.isnan(profile[[0, 10]]).all()
    assert describe_volume(volume, 5.0, window=(-1000, 0))["difference_axial_hu"] == 0


def test_two_lungs_of_known_volume():
    found = describe_volume(chest(), 5.0)
    assert found["lung_check"] == ""
    assert found["two_lungs"]
    assert found["lung_volume_ml"] == pytest.approx(2 * 4 / 3 * np.pi * 3.8 * 6 * 10, rel=0.06)
    assert found["difference_axial_hu"] > 0


def test_a_mask_that_failed_is_not_two_lungs():
    dense = describe_volume(chest(hounsfield=-450), 5.0)
    assert "lungs of -450 HU" in dense["lung_check"]
    assert dense["lung_volume_ml"] > 1000
    assert not dense["two_lungs"]


def test_one_lung_and_no_body():
    one, none = describe_volume(chest(lungs=1), 5.0), describe_volume(np.full((16,) * 3, -1000, np.int16), 5.0)
    assert "one lung" in one["lung_check"]
    assert none["lung_check"] == "no body"
    assert (one["two_lungs"], none["two_lungs"], none["body_share"]) == (False, False, 0)
    assert np.isnan(none["difference_axial_hu"])
    assert np.isnan(none["axial_differences_hu"]).all()


def test_shuffled_slices_are_told_from_a_chest():
    volume = chest()
    shuffled = np.random.default_rng(0).permutation(volume)
    table = describe_volumes(volume_set([volume, shuffled]))
    assert table.volume_id.tolist() == ["v0", "v1"]
    assert table.difference_axial_hu[1] > 5 * table.difference_axial_hu[0]
    assert table.difference_coronal_hu[1] == pytest.approx(table.difference_coronal_hu[0], rel=0.01)


def boxes(*parts, shape=(20, 20, 40)):
    mask = np.zeros(shape, bool)
    for part in parts:
        mask[part] = True
    return mask


RIGHT, LEFT = np.s_[2:18, 3:17, 4:16], np.s_[2:18, 3:17, 24:36]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (boxes(RIGHT, LEFT), True),
        (boxes(RIGHT, LEFT, np.s_[5:15, 5:8, 16:24]), True),  # they touch in front of the heart
        (boxes(np.s_[2:18, 3:17, 4:36]), False),  # one bag of air
        (boxes(RIGHT, LEFT, np.s_[2:18, 3:13, 16:24]), False),  # with a waist
        (boxes(RIGHT), False),
        (boxes(RIGHT, np.s_[2:9, 3:17, 24:36], np.s_[12:18, 3:17, 24:36]), False),  # the left lung in two pieces
        (boxes(RIGHT, LEFT, np.s_[0:1, 0:2, 30:33]), True),  # a crumb
        (boxes(RIGHT, np.s_[9:12, 9:12, 28:32]), False),  # a bubble is no lung
        (boxes(), False),
    ],
)
def test_lungs_are_two_pieces_with_a_valley_between(mask, expected):
    assert has_two_lungs(mask) is expected
    assert has_two_lungs(mask[:, :, ::-1]) is expected


def descriptions(axial, litres=(5.0, 5.0, 5.0, 5.0), two=(1, 1, 1, 1), check=("", "", "", "")):
    return pd.DataFrame(
        {
            "difference_axial_hu": axial,
            "difference_coronal_hu": axial,
            "difference_sagittal_hu": axial,
            "lung_volume_ml": 1000 * np.array(litres),
            "lung_check": check,
            "two_lungs": np.array(two, bool),
        }
    )


def test_medians_distances_and_shares():
    base = np.array([20.0, 30.0, 40.0, 60.0])
    sources = {
        "train": descriptions(base),
        "real": descriptions(base + 1),
        "gan": descriptions(base + 7, litres=(3.0, 4.0, 1.0, 0.1), two=(1, 1, 1, 0), check=("", "", "", "no body")),
    }
    table = consistency_scores(sources, EVALUATION)
    assert list(table.columns) == ["variant", "metric", "value", "ci_low", "ci_high", "images", "reference"]
    assert list(table.variant.unique()) == ["real", "gan"]
    value, reference = scores_of(table, "gan"), scores_of(table, "gan", "reference")
    assert value["difference_axial_hu"] == 42
    assert reference["difference_axial_hu"] == 36
    # A shifted distribution lies as far away as it was shifted.
    assert value["difference_axial_hu_distance"] == pytest.approx(7)
    assert reference["difference_axial_hu_distance"] == pytest.approx(1)
    # The failed mask has no volume.
    assert (value["lung_volume_ml"], scores_of(table, "gan", "images")["lung_volume_ml"]) == (3000, 3)
    assert value["lung_volume_ml_distance"] > 1000 * (2 + 1 + 4) / 3 - 1
    # Wilson's interval, from its formula.
    share, z = 0.75, norm.ppf(0.975)
    half = z * np.sqrt(share * (1 - share) / 4 + z**2 / 64) / (1 + z**2 / 4)
    centre = (share + z**2 / 8) / (1 + z**2 / 4)
    two = table[(table.variant == "gan") & (table.metric == "two_lungs")].iloc[0]
    assert (two.value, two.ci_low, two.ci_high) == pytest.approx((share, centre - half, centre + half))
    assert scores_of(table, "real", "reference").isna().all()
    pd.testing.assert_frame_equal(table, consistency_scores(sources, EVALUATION))


def test_large_sets_are_measured_in_sets_as_small_as_the_real_ones():
    """From one distribution: the distance is that of the held-out volumes, however many the network made."""
    rng = np.random.default_rng(0)

    def draw(count):
        return descriptions(rng.normal(50, 10, count), np.full(count, 5.0), np.ones(count), [""] * count)

    train = draw(400)
    ours, real = [], []
    for _ in range(25):
        table = consistency_scores({"train": train, "real": draw(10), "gan": draw(300)}, EVALUATION)
        row = table[(table.variant == "gan") & (table.metric == "difference_axial_hu_distance")].iloc[0]
        assert row.images == 10
        assert row.ci_low <= row.value <= row.ci_high
        ours.append(row.value)
        real.append(row.reference)
    assert np.mean(ours) == pytest.approx(np.mean(real), abs=3 * np.std(real, ddof=1) / np.sqrt(len(real)))


def test_volumes_without_any_lung_have_no_lung_volume_and_sources_must_be_there():
    failed = descriptions(np.full(4, np.nan), two=(0, 0, 0, 0), check=("no body",) * 4)
    sources = {"train": descriptions(np.arange(4.0)), "real": descriptions(np.arange(4.0)), "noise": failed}
    table = consistency_scores(sources, EVALUATION)
    value = scores_of(table, "noise")
    assert value.drop("two_lungs").isna().all()
    assert value["two_lungs"] == 0
    del sources["train"]
    with pytest.raises(DataError, match="consistency: train: found no volume"):
        consistency_scores(sources, EVALUATION)


# Copies


def test_a_radiograph_is_the_mean_from_front_to_back():
    volumes = random_volumes(2, size=32)
    for volume, expected in zip(volumes, to_grey(volumes).mean(axis=2), strict=True):
        np.testing.assert_allclose(radiograph(volume), expected, atol=1e-6)
    small = to_grey(random_volumes(1, size=128)[0]).mean(axis=1).reshape(64, 2, 64, 2).mean((1, 3))
    np.testing.assert_allclose(radiograph(random_volumes(1, size=128)[0]), small, atol=1e-6)


def patient(seed):
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((32, 32, 32)) / 31 - 0.5
    waves = sum(np.cos(2 * np.pi * (rng.uniform(-3, 3, 3) @ [z.ravel(), y.ravel(), x.ravel()])) for _ in range(6))
    return (100 * waves.reshape(z.shape) - 300).astype(np.int16)


def test_copies_are_found_though_noisy_mirrored_and_shifted():
    rng = np.random.default_rng(0)
    train, held_out = ([patient(seed) for seed in range(first, first + 12)] for first in (0, 20))
    noisy = train[3] + rng.normal(0, 40, train[3].shape).astype(np.int16)
    hidden = {"noisy": (noisy, 3), "mirrored": (train[4][:, :, ::-1], 4), "shifted": (np.roll(train[5], 2, axis=2), 5)}
    synthetic = [*(patient(seed) for seed in range(40, 46)), *(volume for volume, _ in hidden.values())]
    described = [
        describe_volumes(volume_set(volumes, name))
        for volumes, name in ((train, "t"), (held_out, "h"), (synthetic, "s"))
    ]
    scores, nearest = find_copied_volumes(*described, "ct_sgan", Fidelity())
    assert set(scores["variant"]) == {"ct_sgan"}
    row = scores.set_index("metric").loc["suspected_copies"]
    assert (row["value"], row["images"]) == (nearest["suspected"].mean(), 9)
    assert row["reference"] == pytest.approx(1 / 13)  # of each of the six fresh ones
    planted = {f"planted_{kind}" for kind in KINDS}
    assert set(scores["metric"]) == {"suspected_copies", "leaked_held_out", "membership_auc", *planted}
    assert nearest.columns.tolist() == ["variant", "image_id", "nearest_image_id", "agreement", "suspected"]
    images = nearest.set_index("image_id")
    for number, (_, original) in enumerate(hidden.values()):
        assert images.loc[f"s{6 + number}", ["nearest_image_id", "suspected"]].tolist() == [f"t{original}", True]
    assert images.loc[[f"s{number}" for number in range(6)], "suspected"].sum() <= 1


# The headline


def test_volumes_are_compared_whole_and_by_patient():
    train, held_out, near, far = (
        random_slices(count, seed=seed, shift=shift)
        for count, seed, shift in ((20, 0, 0), (12, 1, 0), (16, 2, 0), (16, 3, 2))
    )
    patients = np.arange(20) // 2, np.arange(12)
    table = compare_whole_volumes(train, held_out, {"near": near, "far": far}, Fidelity(), *patients)
    assert table["metric"].tolist() == ["energy_distance", "radiomics_distance"] * 2
    rows = table[table["metric"] == "energy_distance"].set_index("variant")
    assert rows.loc["near", "ci_low"] < 0 < rows.loc["near", "ci_high"]
    assert rows.loc["far", "ci_low"] > 0.2
    assert rows["images"].tolist() == [16, 16]
    whole = [slices.features.reshape(len(slices), -1) for slices in (train, held_out, far)]
    expected = unbiased_distances(whole[2], whole[1], np.arange(16), patients[1], np.random.default_rng(0))
    assert rows.loc["far", "value"] == pytest.approx(expected["energy_distance"].value)
    expected = unbiased_distances(*whole[:2], *patients, np.random.default_rng(0))
    assert rows.loc["far", "reference"] == pytest.approx(expected["energy_distance"].value)
    by_radiomics = table[table["metric"] == "radiomics_distance"].set_index("variant")
    whole = standardise_within_bounds(*(slices.radiomics.reshape(len(slices), -1) for slices in (train, held_out, far)))
    expected = unbiased_distances(whole[2], whole[1], np.arange(16), patients[1], np.random.default_rng(0))
    assert by_radiomics.loc["far", "value"] == pytest.approx(expected["energy_distance"].value)
    assert by_radiomics.loc["near", "ci_low"] < 0 < by_radiomics.loc["near", "ci_high"]
    other = replace(far, facts=FACTS | {"size": 9})
    with pytest.raises(DataError, match="slices of far: facts"):
        compare_whole_volumes(train, held_out, {"far": other}, Fidelity(), *patients)
