"""Images of other patients: none that the study has itself is tested on, and all that it has not."""

import numpy as np
import pandas as pd
import pytest

from scangan.data.external import TESTED_COLUMNS, describe_tested, leave_out_known, select_tested
from scangan.data.store import ImageSet
from scangan.errors import DataError
from tests.unit.test_duplicates import eight_bits, manifest_of, picture, squares


def image_set(pictures, prefix, labels=("ill", "well"), patients=None):
    images = squares(pictures)
    rows = manifest_of(images, [labels[number % len(labels)] for number in range(len(images))], patients)
    return ImageSet(images, rows.assign(source=[f"{prefix}/{name}" for name in rows.source]))


def pictures(first, number):
    return [picture(seed) for seed in range(first, first + number)]


def left_out(others, own, same_folder=False, **changes):
    tested, rejected = leave_out_known(others, own, threshold=0.95, same_folder=same_folder, **changes)
    return list(tested.image_id), rejected


def test_all_images_of_other_patients_are_tested_on():
    own, others = image_set(pictures(0, 30), "own"), image_set(pictures(100, 10), "other")
    tested, rejected = leave_out_known(others, own, threshold=0.95, same_folder=False)
    assert list(tested) == TESTED_COLUMNS
    assert list(tested.image_id) == list(others.manifest.image_id)
    assert set(tested.split) == {"external"}
    assert rejected.empty


def test_an_image_that_the_study_has_is_left_out_by_name():
    own = image_set(pictures(0, 30), "own")
    copied = [picture(7), np.fliplr(picture(8)), eight_bits(0.9 * picture(9) + 0.05), *pictures(100, 7)]
    kept, rejected = left_out(image_set(copied, "other"), own)
    assert kept == [f"{number:03d}" for number in range(3, 10)]
    assert list(rejected.source) == ["other/000.png", "other/001.png", "other/002.png"]
    assert list(rejected.reason) == [
        "identical to one of the study's own",
        *["near-identical to one of the study's own"] * 2,
    ]
    assert rejected.found.iloc[0] == "own/007.png"
    assert [found.split()[0] for found in rejected.found[1:]] == ["own/008.png", "own/009.png"]
    assert rejected.counted.all()


def test_copies_within_the_external_set_are_no_matter_here():
    own = image_set(pictures(0, 30), "own")
    again = [*pictures(100, 4), np.fliplr(picture(100))]
    assert len(left_out(image_set(again, "other"), own)[0]) == 5


def test_the_name_of_a_patient_says_who_it_is_within_one_folder_alone():
    own = image_set(pictures(0, 4), "own", patients=["a", "b", "c", "d"])
    others = image_set(pictures(100, 4), "other", patients=["b", "x", "y", "z"])
    assert len(left_out(others, own)[0]) == 4
    kept, rejected = left_out(others, own, same_folder=True)
    assert kept == ["001", "002", "003"]
    assert (rejected.reason.item(), rejected.found.item()) == ("of a patient of the study's own", "b")


def test_a_class_without_images_is_an_error():
    own = image_set(pictures(0, 10), "own")
    others = image_set([picture(0), picture(100), picture(2), picture(101)], "other")
    with pytest.raises(DataError, match=r"^external: ill: found no image that the study does not have itself \(2 of 4"):
        left_out(others, own)


def test_the_images_that_are_tested_on_are_chosen_and_counted():
    others = image_set(pictures(100, 5), "other", patients=["p", "p", "q", "q", "r"])
    tested = pd.DataFrame({"image_id": ["000", "001", "004"], "patient_id": ["p", "p", "r"], "label": list("aba")})
    chosen = select_tested(others, tested)
    assert list(chosen.manifest.image_id) == ["000", "001", "004"]
    assert (chosen.images[2] == others.images[4]).all()
    assert describe_tested(tested) == ("3 images of 2 patients (2 images of 2 patients a, 1 images of 1 patients b)")
