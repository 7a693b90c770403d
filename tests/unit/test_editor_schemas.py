"""Each shipped YAML names its schema, so that editors complete and check keys, and is valid by it."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from scangan.config.overlay_schema import overlay_schema

ROOT = Path(__file__).parents[2]
FILES = [*sorted(ROOT.glob("config/*.yaml")), *sorted(ROOT.glob("tests/configs/*.yaml"))]
OVERLAY = json.loads((ROOT / "config/overlay_schema.json").read_text())


def errors_of(raw, schema) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(raw)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_file_names_a_schema_that_it_fits(file):
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text())
    assert named
    schema = json.loads((file.parent / named[1]).read_text())
    assert schema["title"] == "Config"
    assert errors_of(yaml.safe_load(file.read_text()), schema) == []


def test_an_overlay_names_what_it_changes_and_no_more():
    assert errors_of({"studies": {"head_ct": {"gan": {"dcgan32": {"epochs": 3}}}}}, OVERLAY) == []
    assert errors_of({"studies": {"head_ct": {"data": {"reader": "image_folder", "every": None}}}}, OVERLAY) == []
    assert errors_of({"studies": {"head_ct": {"gan": {"dcgan32": None}}}}, OVERLAY) == []


@pytest.mark.parametrize(
    "study",
    [{"gan": {"dcgan32": {"epoch": 3}}}, {"gan": {"dcgan32": {"epochs": "many"}}}, {"classifier": {"steps": -1}}],
)
def test_an_editor_still_finds_what_is_wrong(study):
    assert errors_of({"studies": {"head_ct": study}}, OVERLAY) != []


def test_keys_are_not_taken_for_words_of_the_schema():
    schema = {
        "type": "object",
        "properties": {"required": {"oneOf": [{"type": "null"}, {"type": "string"}]}, "discriminator": {}},
        "required": ["required"],
        "additionalProperties": False,
    }
    assert overlay_schema(schema) == {
        "properties": {"required": {"anyOf": [{"type": "null"}, {"type": "string"}]}, "discriminator": {}},
        "type": "object",
        "additionalProperties": {"type": "null"},
    }
