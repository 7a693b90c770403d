"""What later steps need of a split is told right after it, each with its key, what was found and what is allowed."""

import re

import numpy as np
import pandas as pd
import pytest

from scangan.config import Classical, Screening
from scangan.data.needs import check_needs
from scangan.data.split import draw_share
from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.metrics.embedding import draw_categories, embed
from scangan.metrics.screening import MIN_VALIDATION

NOTHING = {"of": "images", "classes": ["a", "b"], "least": [], "shares": [], "synthetic": 8, "remedy": "r", "map": None}
COUNTS = {"train": (10, 6), "validation": (3, 4), "test": (5, 4)}


def split_of(counts=COUNTS):
    rows = [
        (label, part)
        for part, numbers in counts.items()
        for label, number in zip("ab", numbers, strict=True)
        for _ in range(number)
    ]
    return pd.DataFrame(rows, columns=["label", "split"])


def lines_of(needs, split=None):
    with pytest.raises(DataError) as error:
        check_needs(split_of() if split is None else split, NOTHING | needs, "split")
    return str(error.value).splitlines()


def test_what_is_there_is_enough():
    met = {
        "least": [
            ("fidelity", ["train"], 2),
            ("synthesis.screening.neighbours", ["train"], 6),
            ("synthesis.screening", ["validation"], 3),
            ("reading_room.images", ["train", "validation", "test"], 14),
        ],
        "shares": [0.25, 0.5, 0.8],
        "map": {"each": 4, "perplexity": 23},
    }
    assert check_needs(split_of(), NOTHING | met, "split") is None


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (
            {"least": [("reading_room.images", ["train", "validation", "test"], 15)]},
            ["reading_room.images: found 14 images of class b in train and validation and test, allowed: at least 15"],
        ),
        (
            {"least": [("synthesis.screening", ["validation"], 4), ("synthesis.screening.neighbours", ["train"], 7)]},
            [
                "synthesis.screening: found 3 images of class a in validation, allowed: at least 4",
                "synthesis.screening.neighbours: found 6 images of class b in train, allowed: at least 7",
            ],
        ),
        (
            {"least": [("classifier", ["test"], 6)], "of": "scans"},
            [
                "classifier: found 5 scans of class a in test, allowed: at least 6",
                "classifier: found 4 scans of class b in test, allowed: at least 6",
            ],
        ),
        (
            {"shares": [0.5, 1, 2]},
            [
                f"classifier.shares: found {share}, which takes {wanted} synthetic images of class {label}, "
                "allowed: what 8 suffice for; r"
                for share, wanted, label in ((1, 10, "a"), (2, 20, "a"), (2, 12, "b"))
            ],
        ),
        # Of 8 and 8 held-out images 4 are real and 4 transformed, and 4 of each class are synthetic: 24 points.
        (
            {"map": {"each": 4, "perplexity": 24}},
            [
                "embedding.perplexity: found 24 with a 8, b 8 in validation and test, allowed: below 24, the images "
                "on the map"
            ],
        ),
        # 8 held-out images of a class are 4 pairs, whatever is asked for; of synthetic ones there are 8.
        (
            {"map": {"each": 100, "perplexity": 32.5}},
            [
                "embedding.perplexity: found 32.5 with a 8, b 8 in validation and test, allowed: below 32, the images "
                "on the map"
            ],
        ),
    ],
)
def test_each_need_that_is_not_met_is_a_line_and_the_last_counts(needs, expected):
    counts = "of each class: train a 10, b 6; validation a 3, b 4; test a 5, b 4"
    lines = [*expected, f"{needs.get('of', 'images')} {counts}"]
    assert lines_of(needs) == [f"split: {line}" for line in lines]


def test_a_class_that_is_nowhere_is_missing_everywhere():
    only = split_of({part: (count, 0) for part, (count, _) in COUNTS.items()})
    expected = "split: classifier: found 0 images of class b in test, allowed: at least 1"
    assert lines_of({"least": [("classifier", ["test"], 1)]}, only)[0] == expected


# The same bounds as what fails without them, days later.


def image_set(**classes):
    labels = [label for label, count in classes.items() for _ in range(count)]
    ids = [f"{number:03d}" for number in range(len(labels))]
    manifest = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels})
    images = np.random.default_rng(0).random((len(ids), 1, 8, 8), dtype=np.float32)
    return ImageSet(images, manifest)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.84, 0.85, 1, 2])
def test_shares_are_refused_where_they_could_not_be_drawn(share):
    needs = NOTHING | {"shares": [share]}
    try:
        draw_share(image_set(a=8, b=8), image_set(a=10, b=6), share, 0)
    except DataError:
        assert lines_of(needs)
    else:
        check_needs(split_of(), needs, "split")


@pytest.mark.parametrize(("each", "synthetic"), [(3, 8), (4, 8), (100, 8), (100, 5)])
def test_perplexity_is_refused_just_where_the_map_could_not_be_drawn(each, synthetic):
    drawn = draw_categories(image_set(a=8, b=8), image_set(a=synthetic, b=synthetic), Classical(), each, 0)
    points = len(drawn)
    with pytest.raises(Exception, match=re.escape(f"allowed: above 0 and below {points},")):
        embed(drawn.images.reshape(points, -1), points, 250, 0)
    needs = {"synthetic": synthetic, "map": {"each": each, "perplexity": points}}
    assert f"allowed: below {points}, the images on the map" in lines_of(needs)[0]
    needs["map"]["perplexity"] = points - 0.5
    check_needs(split_of(), NOTHING | needs, "split")


def test_screening_is_calibrated_on_as_many_images_as_it_is_asked_for():
    assert Screening.LEAST_VALIDATION == MIN_VALIDATION
