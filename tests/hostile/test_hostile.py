"""The campaign's short form, an input of each kind; and that its harness sees every fault."""

import os

import pytest

from tests.hostile import faulty
from tests.hostile.catalogue import CASES
from tests.hostile.harness import run_all, run_one


def run_faulty(name):
    return run_one(faulty.CASES[name], module=faulty.__name__)


@pytest.mark.parametrize(("reader", "said"), faulty.FAULTS.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_every_fault_is_seen(reader, said):
    verdict = run_faulty(reader.__name__)
    assert verdict.kind == "fault"
    assert said in verdict.said


def test_what_is_right_is_no_fault():
    assert run_faulty("take").kind == "read right"
    verdict = run_faulty("refuse")
    assert (verdict.kind, verdict.said) == ("one clear line", "input.txt: rows: found none, allowed: at least 1")


def test_expectations_are_held_to():
    assert "taken for what it is not" in run_faulty("taken_for_what_it_is_not").said
    assert "refused, though it can be read" in run_faulty("refused_though_whole").said


def test_ids_are_unlike_and_many():
    assert len(CASES) > 250
    assert all(case_id == case.id for case_id, case in CASES.items())


# An input of each kind, none of which takes long.
SHORT = """
    dicom/tags/Rows_missing dicom/tags/PixelSpacing_2 dicom/tags/PatientName_missing dicom/cut/within_PixelData
    dicom/lengths/PixelSpacing_7fffffff dicom/nested/500_closed dicom/encapsulated/RLE_Lossless_cut
    dicom/no_file/broken_link volumes/whole/nii.gz volumes/damaged/nii.gz_cut_50 volumes/nifti/dim_3
    volumes/meta/singular volumes/brats/cut_50 images/bombs/huge_and_empty.png images/bombs/huge.jpg
    images/liars/strip_beyond_the_end.tif images/damaged/png_cut_50 images/whole/jpg images/no_file/unreadable
    tables/labels/utf8_bom tables/labels/quoted tables/split/quoted tables/split/ends_windows
    tables/covid_list/utf-16 config/study_list config/study_number_key config/nan stores/images/images_zip/climbing
    stores/images/images_zip/no_chunk stores/volumes/volumes_zip/description_deep stores/scans/scans_parquet/column_away
    stores/generator/generator_json/model_3 stores/checkpoints/newest_checkpoint/pickle
    stores/annotations/annotations_sqlite/coordinates_wide names/image/emoji names/series/not_utf8
""".split()


def test_one_of_each_kind():
    assert {CASES[each].family for each in SHORT} == {case.family for case in CASES.values()}
    verdicts = run_all([CASES[each] for each in SHORT], os.cpu_count() or 1)
    assert [f"{verdict.id}: {verdict.said}" for verdict in verdicts if verdict.kind == "fault"] == []
