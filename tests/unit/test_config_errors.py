"""Each wrong configuration is answered with the lines that stand beside it in `config_errors.yaml`."""

import copy
from pathlib import Path

import pytest
import yaml

from scangan.config import validate
from scangan.errors import ConfigError

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())
GROUPS = yaml.safe_load((Path(__file__).parent / "config_errors.yaml").read_text())
STAND_INS = {
    "A FILE": str(ROOT / "config/config.yaml"),
    "COHORTS": DEFAULT["studies"]["ct_sgan"]["cohorts"],
    "DATA": DEFAULT["studies"]["head_ct"]["data"],
    "NETWORK": DEFAULT["studies"]["head_ct"]["gan"]["dcgan32"],
    "STUDY": DEFAULT["studies"]["head_ct"],
}


def filled_in(value):
    """A value with what its stand-ins stand for, wherever they are in it."""
    match value:
        case dict():
            return {key: filled_in(each) for key, each in value.items()}
        case list():
            return [filled_in(each) for each in value]
        case str():
            return copy.deepcopy(STAND_INS.get(value, value))
    return value


def wrong_configuration(case):
    """The default configuration with other values at dotted keys (`set`), and without some (`without`)."""
    config = copy.deepcopy(DEFAULT)
    for key, value in case.get("set", {}).items():
        *path, last = key.split(".")
        block = config
        for part in path:
            block = block[part] if block.get(part) is not None else block.setdefault(part, {})
        block[last] = filled_in(value)
    for key in case.get("without", []):
        *path, last = key.split(".")
        block = config
        for part in path:
            block = block[part]
        del block[last]
    return config


def name_of(case):
    return ", ".join([f"{key}={value}" for key, value in case.get("set", {}).items()] + case.get("without", []))


CASES = [pytest.param(case, id=f"{group}: {name_of(case)}") for group, cases in GROUPS.items() for case in cases]


def test_there_are_wrong_configurations_of_every_kind():
    assert len(CASES) > 60
    assert all(GROUPS.values())


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_configuration_is_answered_with_its_lines(case):
    with pytest.raises(ConfigError) as error:
        validate(wrong_configuration(case))
    assert str(error.value).splitlines() == case["lines"]
