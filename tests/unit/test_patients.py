"""The patient that a path names."""

from pathlib import PurePosixPath

import pytest

from scangan.ingest.patients import no_patient, patient_in_path


@pytest.mark.parametrize(
    ("path", "patient_from", "patient"),
    [
        # BIDS is seen without being asked for.
        ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", None, "sub-01"),
        ("rawdata/sub-A7/ses-2/ct.nii.gz", None, "sub-A7"),
        ("sub-03_ct.nii.gz", None, "sub-03"),
        ("sub-04.png", None, "sub-04"),
        ("person/ses-1/ct.nii.gz", None, None),
        ("mysub-01/ct.nii.gz", None, None),
        ("ct.nii.gz", None, None),
        # The topmost folder.
        ("P1/ses-1/ct.nii.gz", "folder", "P1"),
        ("P2/ses-1.nii.gz", "folder", "P2"),
        ("sub-01/sub-02.nii.gz", "folder", "sub-01"),
        ("ct.nii.gz", "folder", None),
        # An expression: its group, or all of it.
        ("scans/patientA_1.nii.gz", r"patient[A-Z]+", "patientA"),
        ("scans/patientA_2.nii.gz", r"/(patient[A-Z]+)_\d", "patientA"),
        ("hospital/12/ses-1/ct.mha", r"hospital/(\d+)/", "12"),
        ("scans/other_1.nii.gz", r"patient[A-Z]+", None),
        ("scans/x_1.nii.gz", r"scans/(p\d+)?", None),
    ],
)
def test_patient_in_path(path, patient_from, patient):
    assert patient_in_path(PurePosixPath(path), patient_from) == patient


def test_no_patient():
    refused = no_patient("a/ct.nii.gz")
    assert (refused.reason, refused.remedy) == ("no patient in its path", "correct patient_from, or rename the file")
    assert refused.found == "a/ct.nii.gz, allowed: a path in which patient_from finds one"
