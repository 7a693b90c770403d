"""What is drawn, what a classifier sees, and whether the map and the two-sample test say what they should."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from scangan.config import Classical
from scangan.data.store import ImageSet
from scangan.errors import ConfigError, DataError
from scangan.metrics.embedding import draw_categories, embed, map_spaces, penultimate, separation, transform_one
from scangan.metrics.reading import wilson_interval
from scangan.models.backbones import build_classifier

NOTHING = Classical(horizontal_flip=False, rotation_degrees=0, shift=0, shear=0, zoom=0)
FLIP = Classical(horizontal_flip=False, vertical_flip=True, rotation_degrees=0, shift=0, shear=0, zoom=0)


def image_set(kind, images_by_label, size=8):
    """Images of random pixels, three of them a patient."""
    rows = [
        (f"{kind}-{label}-{number}", f"{kind}-p{number // 3}", label, "0")
        for label, count in images_by_label.items()
        for number in range(count)
    ]
    pixels = np.random.default_rng(len(kind)).random((len(rows), 1, size, size), dtype=np.float32)
    return ImageSet(pixels, pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "sha256"]))


@pytest.fixture
def real():
    return image_set("real", {"tumour": 30, "normal": 30})


@pytest.fixture
def synthetic():
    return image_set("synthetic", {"normal": 20, "tumour": 20})


def by_category(drawn):
    return {name: drawn.select(rows.index) for name, rows in drawn.manifest.groupby("category", sort=False)}


def clusters(seed=0, each=40, dimensions=6, distance=12.0):
    """Three round clusters, far apart: points [3 * each, dimensions] and the number of each one's cluster."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(3), each)
    return rng.normal(size=(3 * each, dimensions)) + distance * np.eye(3, dimensions)[number], number


def pair(real, synthetic, patients=None):
    """The row of both sides of the test of two sets of points."""
    categories = ["real/tumour"] * len(real) + ["synthetic/tumour"] * len(synthetic)
    points = np.concatenate([real, synthetic])
    both, *_ = separation(points, categories, range(len(points)) if patients is None else patients).itertuples()
    return both


def test_six_categories_of_as_many(real, synthetic):
    drawn = draw_categories(real, synthetic, FLIP, 15, 0)
    found = by_category(drawn)
    kinds = ("real", "classical", "synthetic")
    assert list(found) == [f"{kind}/{label}" for kind in kinds for label in ("normal", "tumour")]
    for name, images in found.items():
        assert len(images) == images.manifest["image_id"].nunique() == 15
        assert set(images.manifest["label"]) == {name.split("/")[1]}
    for kind, source in (("real", real), ("synthetic", synthetic)):
        own = drawn.manifest["category"].str.startswith(f"{kind}/").to_numpy()
        rows = source.manifest.set_index("image_id").index.get_indexer(drawn.manifest["image_id"][own])
        assert np.array_equal(drawn.images[own], source.images[rows])


def test_classical_images_are_transforms_of_other_real_images(real, synthetic):
    found = by_category(draw_categories(real, synthetic, FLIP, 15, 0))
    flipped = 0
    for label in ("normal", "tumour"):
        classical = found[f"classical/{label}"]
        names = classical.manifest["image_id"].str.removesuffix("-classical")
        assert not set(names) & set(found[f"real/{label}"].manifest["image_id"])
        sources = real.select(real.manifest.set_index("image_id").index.get_indexer(names))
        assert list(classical.manifest["patient_id"]) == list(sources.manifest["patient_id"])
        assert classical.manifest["sha256"].isna().all()
        for image, source in zip(classical.images, sources.images, strict=True):
            is_flipped = np.allclose(image, source[:, ::-1], atol=1e-5)
            assert is_flipped or np.allclose(image, source, atol=1e-5)
            flipped += is_flipped
    assert 5 < flipped < 25  # of 30, each with one half


def test_the_seed_decides_the_draw(real, synthetic):
    first, again, other = (draw_categories(real, synthetic, Classical(), 10, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.images, again.images)
    pd.testing.assert_frame_equal(first.manifest, again.manifest)
    assert list(first.manifest["image_id"]) != list(other.manifest["image_id"])


def test_small_classes_give_all_and_the_log_says_so(synthetic, caplog):
    with caplog.at_level(logging.WARNING):
        drawn = draw_categories(image_set("real", {"normal": 40, "tumour": 9}), synthetic, FLIP, 20, 0)
    assert drawn.manifest["category"].value_counts().to_dict() == {
        "real/normal": 20,
        "real/tumour": 4,
        "classical/normal": 20,
        "classical/tumour": 4,
        "synthetic/normal": 20,
        "synthetic/tumour": 20,
    }
    assert [record.getMessage() for record in caplog.records] == [
        "real/tumour: only 4 images, 20 were asked for",
        "classical/tumour: only 4 images, 20 were asked for",
    ]


def test_sets_that_cannot_be_drawn_from_are_named(real, synthetic):
    with pytest.raises(DataError, match="synthetic images: label: found normal, allowed: normal, tumour"):
        draw_categories(real, synthetic.select(synthetic.manifest["label"] == "normal"), FLIP, 5, 0)
    with pytest.raises(DataError, match="synthetic images: shape: found 1 x 16 x 16, allowed: 1 x 8 x 8"):
        draw_categories(real, image_set("synthetic", {"normal": 3, "tumour": 3}, size=16), FLIP, 5, 0)
    with pytest.raises(DataError, match="real images: label: found 1 of tumour, allowed: at least 2"):
        draw_categories(image_set("real", {"normal": 4, "tumour": 1}), synthetic, FLIP, 5, 0)


@pytest.mark.parametrize(
    ("backbone", "width"), [("resnet50", 2048), ("densenet169", 1664), ("efficientnet-lite0", 1280)]
)
def test_penultimate_features_are_what_the_last_layer_is_given(backbone, width):
    torch.manual_seed(0)
    model = build_classifier(backbone, "none", "imagenet", 1, 32, dropout=0.5)
    images = np.random.default_rng(0).random((3, 1, 32, 32), dtype=np.float32)
    found = penultimate(model.train(), images, batch_size=2)
    assert found.shape == (3, width)
    assert found.dtype == np.float32
    assert not model.training
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
        logits = last(torch.from_numpy(found)).squeeze(1).numpy()
    assert logits == pytest.approx(expected, abs=1e-4)
    assert not last._forward_pre_hooks


def test_the_map_keeps_clusters_apart():
    points, number = clusters()
    found = embed(points, perplexity=20, iterations=300, seed=0)
    assert found.shape == (120, 2)
    assert found.dtype == np.float64
    assert KNeighborsClassifier(5).fit(found, number).score(found, number) == 1


def test_the_map_is_scikit_learns():
    points, _ = clusters()
    with threadpool_limits(1):
        tsne = TSNE(perplexity=15, max_iter=260, init="pca", random_state=3, method="barnes_hut", n_jobs=1)
        expected = tsne.fit_transform(points)
    assert np.array_equal(embed(points, 15, 260, 3), expected.astype(np.float64))


def test_high_dimensions_are_reduced_to_fifty_first():
    """Points that lie in 40 of 2000 dimensions keep their distances in PCA's 50, and so their neighbours."""
    rng = np.random.default_rng(1)
    points, number = clusters(dimensions=40)
    basis, _ = np.linalg.qr(rng.normal(size=(2000, 40)))
    found = embed((points @ basis.T).astype(np.float32), perplexity=20, iterations=300, seed=0)
    assert KNeighborsClassifier(5).fit(found, number).score(found, number) == 1
    noise = rng.normal(size=(30, 2000))
    assert embed(noise, perplexity=5, iterations=250, seed=0).shape == (30, 2)  # fewer points than components


def test_the_same_seed_gives_the_same_map_on_any_number_of_threads():
    points, _ = clusters(dimensions=80)
    maps = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            maps.append(embed(points, 20, 250, 0))
    assert np.array_equal(*maps)


def test_settings_that_do_not_fit_are_named():
    points, _ = clusters(each=4)
    for perplexity in (12, 100, 0):
        with pytest.raises(ConfigError, match=rf"config: embedding\.perplexity: found {perplexity}, .* below 12,"):
            embed(points, perplexity, 300, 0)
    with pytest.raises(ConfigError, match=r"config: embedding\.iterations: found 249, allowed: at least 250"):
        embed(points, 5, 249, 0)
    with pytest.raises(DataError, match="points: found the same for all 9 images"):
        embed(np.ones((9, 3)), 5, 300, 0)


def test_separation_of_sets_far_apart_and_of_copies():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(50, 8))
    apart, copies = pair(real, real + 100), pair(real, real[::-1] + 1e-6)
    assert (apart.value, copies.value) == (1, 0)
    assert (apart.ci_low, apart.ci_high) == wilson_interval(100, 100)
    assert apart.variant == "synthetic/tumour"
    assert apart.metric == "nearest_neighbour_accuracy"
    assert apart.images == 100
    assert apart.reference == pytest.approx(49 / 99)  # the image itself is no neighbour


def test_separation_by_hand():
    """On a line: r r s r s s. Neighbours: r's r (right), r's r, s's r (wrong), r's s (wrong), s's s, s's s."""
    points = np.array([0.0, 1.0, 4.4, 2.9, 6.0, 6.9])[:, None]
    rows = separation(points, ["real/a"] * 3 + ["classical/a"] * 3, range(6))
    name = "nearest_neighbour_accuracy"
    assert list(rows["metric"]) == [name, f"{name}_real", f"{name}_variant"]
    assert list(rows["value"]) == [4 / 6, 2 / 3, 2 / 3]
    assert list(rows["images"]) == [6, 3, 3]
    assert rows["reference"].tolist() == pytest.approx([2 / 5] * 3)
    assert list(zip(rows["ci_low"], rows["ci_high"], strict=True)) == [
        wilson_interval(4, 6),
        wilson_interval(2, 3),
        wilson_interval(2, 3),
    ]


def test_images_in_the_middle_of_all_are_everyones_neighbours():
    """A generator of the mean image: 0.5 of both sides hides that each side is told apart perfectly, or not at all."""
    rng = np.random.default_rng(6)
    real, means = rng.normal(size=(50, 100)), 0.01 * rng.normal(size=(50, 100))
    rows = separation(np.concatenate([real, means]), ["real/a"] * 50 + ["synthetic/a"] * 50, range(100))
    assert list(rows["value"]) == [0.5, 0, 1]


def test_sets_that_are_alike_score_a_half():
    rng = np.random.default_rng(2)
    rows = [pair(rng.normal(size=(60, 5)), rng.normal(size=(60, 5))) for _ in range(40)]
    values = [row.value for row in rows]
    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(rows[0].reference, abs=3 * standard_error)


def test_slices_of_one_patient_are_no_neighbours():
    """Ten nearly identical slices a patient: taken as strangers they set real apart from perfect synthetic images."""
    rng = np.random.default_rng(3)
    naive, by_patient = [], []
    for _ in range(40):
        heads = rng.normal(size=(12, 5))
        slices = np.repeat(heads, 10, axis=0) + 1e-3 * rng.normal(size=(120, 5))
        synthetic = rng.normal(size=(120, 5))
        patients = [*np.repeat(np.arange(12), 10), *range(100, 220)]
        naive.append(pair(slices, synthetic).value)
        by_patient.append(pair(slices, synthetic, patients))
    assert np.mean(naive) > 0.85
    assert np.mean([row.value for row in by_patient]) == pytest.approx(0.5, abs=0.03)
    # 120 of 239 for a synthetic image, 110 of 230 for a real one
    assert by_patient[0].reference == pytest.approx((119 / 239 + 110 / 230) / 2)


def test_both_sides_are_as_many():
    rng = np.random.default_rng(4)
    real, synthetic = rng.normal(size=(20, 3)), rng.normal(size=(60, 3))
    assert pair(real, synthetic) == pair(real, synthetic[:20])
    assert pair(real, synthetic).images == 40


def test_one_patient_alone_is_refused():
    points = np.random.default_rng(5).normal(size=(6, 2))
    with pytest.raises(DataError, match="synthetic/tumour: patient_id: found one patient in all of its images"):
        pair(points[:3], points[3:], patients=["p"] * 6)


def test_every_space_is_mapped_and_tested(real, synthetic):
    drawn = draw_categories(real, synthetic, FLIP, 10, 0)
    is_synthetic = drawn.manifest["category"].str.startswith("synthetic").to_numpy()
    apart = drawn.images[:, 0, 0, :3] + 100 * is_synthetic[:, None]
    spaces = {"classifier": apart, "raw images": drawn.images}
    maps, separations = map_spaces(spaces, drawn.manifest, perplexity=10, iterations=250, seed=0)
    assert list(maps.columns) == ["space", "image_id", "category", "x", "y"]
    assert list(maps["space"]) == ["classifier"] * 60 + ["raw images"] * 60
    assert list(maps["category"]) == list(drawn.manifest["category"]) * 2
    assert maps[["x", "y"]].to_numpy()[60:].tolist() == embed(drawn.images.reshape(60, -1), 10, 250, 0).tolist()
    expected = ["space", "variant", "metric", "value", "ci_low", "ci_high", "images", "reference"]
    assert list(separations.columns) == expected
    variants = [f"{kind}/{label}" for kind in ("classical", "synthetic") for label in ("normal", "tumour")]
    both = separations[separations["metric"] == "nearest_neighbour_accuracy"]
    assert list(both["variant"]) == variants * 2
    values = both.set_index(["space", "variant"])["value"]
    assert (values["classifier"][2:] == 1).all()
    assert (both["images"] == 20).all()
    for found, again in zip(
        (maps, separations), map_spaces(spaces, drawn.manifest, perplexity=10, iterations=250, seed=0), strict=True
    ):
        pd.testing.assert_frame_equal(found, again, check_exact=True)


def test_one_image_of_each_class_is_transformed(real):
    same = transform_one(real, NOTHING, seed=0, versions=3)
    middle = {label: real.images[(real.manifest["label"] == label).to_numpy()][15] for label in ("tumour", "normal")}
    for label, image in middle.items():
        np.testing.assert_array_equal(same["real"][label], image[None])
        np.testing.assert_allclose(same["transformed"][label], np.stack([image] * 3), atol=1e-5)
    flipped = transform_one(real, FLIP, seed=0, versions=20)["transformed"]["tumour"]
    ways = {bool(np.allclose(version, middle["tumour"][:, ::-1], atol=1e-5)) for version in flipped}
    assert ways == {True, False}
