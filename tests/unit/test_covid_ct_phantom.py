"""The COVID-CT phantom: the real set's layout and counts, illness where it belongs, and nothing else to tell it by."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scangan.config import CovidCt, Split
from scangan.data.split import patients_on_both_sides, split_cohort
from scangan.phantoms import covid_ct
from scangan.phantoms.chest_anatomy import Patient
from scangan.phantoms.covid_ct import OPACITIES, render_slices, write_phantom
from tests.unit.cohorts import read_cohort

SETTINGS = CovidCt(
    reader="covid_ct",
    root="covid_ct",
    classes={"covid": "CT_COVID", "normal": "CT_NonCOVID"},
    image_size=32,
    fit="stretch",
    max_rejected=0,
)


@pytest.fixture
def quick(monkeypatch):
    """Slices without an anatomy: files, names and numbers are what counts."""

    def render(seed, finding, slices, image_size):
        shape = np.random.default_rng(seed).integers(5, 9, 2)
        return [np.full(shape, 10 * number, np.uint8) for number in range(slices)]

    monkeypatch.setattr(covid_ct, "render_slices", render)


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_real_sets_counts_and_its_reader(tmp_path, quick):
    write_phantom(tmp_path, 746, 32, 0)
    image_set, ingested = read_cohort(tmp_path, SETTINGS, "phantom")
    rejected, official = ingested.rejected, ingested.official
    assert len(rejected) == 0
    split = split_cohort(image_set.manifest, Split(method="official"), 0, official)
    assert pd.crosstab(split.label, split.split).T.to_dict() == {
        "covid": {"train": 191, "validation": 60, "test": 98},
        "normal": {"train": 234, "validation": 58, "test": 105},
    }
    assert patients_on_both_sides(split) == 0
    per_patient = split.groupby("patient_id").size()
    assert per_patient.min() == 1
    assert 2 < per_patient.mean() < 2.6
    assert per_patient.max() == 5


@pytest.mark.parametrize("images", [24, 25, 61, 120])
def test_any_number_fills_every_part(tmp_path, quick, images):
    write_phantom(tmp_path, images, 32, 3)
    image_set, ingested = read_cohort(tmp_path, SETTINGS, "phantom")
    official = ingested.official
    assert len(official) == len(image_set) == images
    counts = split_cohort(image_set.manifest, Split(method="official"), 0, official).split.value_counts()
    for name, share in (("train", 425 / 746), ("validation", 118 / 746), ("test", 203 / 746)):
        assert abs(counts[name] - share * images) <= 2


def test_format_and_alpha_say_nothing_of_the_class(tmp_path, quick):
    write_phantom(tmp_path, 746, 32, 0)
    shares = {}
    for name in ("CT_COVID", "CT_NonCOVID"):
        kinds = []
        for path in sorted((tmp_path / name).iterdir()):
            with Image.open(path) as image:
                kinds.append((path.suffix, image.format, image.mode))
                if image.mode == "RGBA":
                    assert image.getextrema()[3] == (255, 255)
        shares[name] = {kind: count / len(kinds) for kind, count in Counter(kinds).items()}
    assert shares["CT_COVID"].keys() == {
        (".jpg", "JPEG", "RGB"),
        (".png", "PNG", "RGB"),
        (".png", "PNG", "RGBA"),
        (".png", "PNG", "L"),
    }
    assert shares["CT_COVID"] == pytest.approx(shares["CT_NonCOVID"], abs=1 / 349)


def test_the_same_arguments_give_the_same_files(tmp_path, quick):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_phantom(tmp_path / name, 40, 32, seed)
    first, second, other = (files_of(tmp_path / name) for name in "abc")
    assert first == second
    assert first != other


# Pictures


@pytest.fixture(scope="module")
def same_patient() -> dict[str, list[np.ndarray]]:
    return {finding: render_slices([5, 0, 3], finding, 2, 96) for finding in ("none", "covid", "nodules", "focal")}


def test_pictures_are_the_same_for_a_seed(same_patient):
    for first, second in zip(same_patient["covid"], render_slices([5, 0, 3], "covid", 2, 96), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("finding", ["covid", "nodules", "focal"])
def test_a_finding_changes_the_lungs_and_nothing_else(same_patient, finding):
    """Size, crop, level, window and scanner do not follow from the finding."""
    for healthy, ill in zip(same_patient["none"], same_patient[finding], strict=True):
        assert healthy.shape == ill.shape
        assert healthy.dtype == ill.dtype == np.uint8
        more = ill.astype(int) - healthy
        lungs = healthy < 120
        # A denser patient has slightly more noise, and the kernel rings about an edge.
        assert abs(more[~lungs]).mean() < 3
        assert more[lungs].mean() > -0.5
    assert (
        max(
            (ill.astype(int) - healthy > 40).mean()
            for healthy, ill in zip(same_patient["none"], same_patient[finding], strict=True)
        )
        > 0.003
    )


def test_covid_is_in_both_lungs(same_patient):
    for healthy, ill in zip(same_patient["none"], same_patient["covid"], strict=True):
        hazy = (healthy < 120) & (ill.astype(int) - healthy > 25)
        halves = np.array_split(hazy, 2, axis=1)
        assert min(half.sum() for half in halves) > 0.005 * hazy.size


def test_vessels_stay_visible_in_ground_glass(same_patient):
    for healthy, ill in zip(same_patient["none"], same_patient["covid"], strict=True):
        vessels = healthy > 200
        assert (ill[vessels] > 185).mean() > 0.99


def test_opacities_are_ground_glass_on_both_sides_under_the_pleura_mostly_in_the_back():
    patient = Patient(np.random.default_rng(0))
    depths = np.array([0.35, 0.6]) * patient.lung_height
    in_the_back = []
    for seed in range(30):
        covid = OPACITIES["covid"](np.random.default_rng(seed), patient, depths)
        assert len(covid) >= 4
        assert {np.sign(opacity.centre[2]) for opacity in covid} == {-1, 1}
        assert all(150 <= opacity.added <= 500 for opacity in covid)
        assert all(opacity.deep <= 12 for opacity in covid)
        assert len(OPACITIES["focal"](np.random.default_rng(seed), patient, depths)) == 1
        in_the_back += [opacity.centre[1] > 0 for opacity in covid]
    assert np.mean(in_the_back) > 0.75


def test_a_classifier_can_learn_it(tmp_path):
    write_phantom(tmp_path, 72, 64, 0)
    image_set, _ = read_cohort(tmp_path, SETTINGS, "phantom")
    greys = np.stack([np.histogram(image, 16, (0, 1))[0] for image in image_set.images])
    ill, patients = image_set.manifest.label == "covid", image_set.manifest.patient_id
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, greys, ill, groups=patients, cv=GroupKFold(6), method="decision_function")
    # Of grey values alone, without their places.
    assert roc_auc_score(ill, scores) > 0.8
