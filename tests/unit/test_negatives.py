"""NLST's table of abnormalities: who has a nodule, however the table was saved; and scans without one left out."""

import pytest

from scangan.errors import DataError
from scangan.ingest.negatives import patients_with_nodules

HEADER = "pid,study_yr,sct_ab_num,sct_ab_desc,sct_long_dia\n"


def table(folder, *rows, header=HEADER):
    path = folder / "sct_abnormalities.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def test_nodules_of_any_kind_and_year_count_and_other_findings_do_not(tmp_path):
    rows = ("100001,0,1,59,", "100001,2,1,51,7", "100002,1,1,52,", "100003,0,1,53.0,", "100004,0,1,62,4")
    others = ("100005,0,1,54,", "100006,0,1,.M,", "100007,1,1,,", "100008,1,1,65,")
    found = patients_with_nodules(table(tmp_path, *rows, *others))
    assert found == {"100001", "100002", "100003", "100004"}


def test_semicolons_and_another_order_of_columns_are_read(tmp_path):
    path = table(tmp_path, "51;100001.0", "59;100002", header="sct_ab_desc;pid\n")
    assert patients_with_nodules(path) == {"100001"}


def test_another_table_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"abnormalities\.csv: columns: found pid, age; allowed: pid, sct_ab_desc"):
        patients_with_nodules(table(tmp_path, "1,60", header="pid,age\n"))
    with pytest.raises(DataError, match=r"sct_ab_desc: found 12 in row 3, allowed: 51 to 65, or empty"):
        patients_with_nodules(table(tmp_path, "1,0,1,51,4", "2,0,1,12,4"))
    with pytest.raises(DataError, match="found yes in row 2"):
        patients_with_nodules(table(tmp_path, "1,0,1,yes,4"))
