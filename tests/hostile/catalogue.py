"""All inputs by their ids."""

from __future__ import annotations

from tests.hostile import configs, dicom, images, names, stores, tables, volumes
from tests.hostile.harness import Case

CASES: dict[str, Case] = {
    case.id: case for module in (dicom, volumes, images, tables, configs, stores, names) for case in module.CASES
}


def find(case_id: str) -> Case:
    return CASES[case_id]
