"""Writes what is derived from the configuration's model: schema, list of keys, digests of the shipped scales.

Run `python -m scangan.config.derived` after a change of `scangan.config` or of the files in config/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from scangan.config import Config, branches_of, sections_of, settings_digest, sort_keys, validate

INTRODUCTION = """# The configuration

`config.yaml` is the default (demo scale, embedded phantom data), `paper.yaml` an overlay with the papers' sizes,
`schema.json` the schema for an editor. A key that is not listed here is an error, told before any job runs.
Where something runs (threads, memory, GPUs) is no part of it: see `profiles/`.

A file of your own is laid over the default: `snakemake --configfile mine.yaml ...`; so is a single value:
`--config results=results-real data_roots='{head_ct: path/to/head-ct}'`.

This page is written from the code by `make docs`. `*` stands for a name of your choice.

| key | meaning | type | default |
|---|---|---|---|
"""


def main() -> None:
    """Write config/schema.json, config/README.md and config/scales.json of this checkout."""
    folder = Path(__file__).parents[2] / "config"
    for name, text in derived_files(folder).items():
        (folder / name).write_text(text)


def derived_files(folder: Path) -> dict[str, str]:
    """Name -> content of the files derived from the model and from the configurations in `folder`."""
    return {
        "schema.json": json.dumps(Config.model_json_schema(), indent=2) + "\n",
        "README.md": INTRODUCTION + "".join(f"{row}\n" for row in _rows(Config, "")),
        "scales.json": json.dumps(_scales(folder), indent=2, sort_keys=True) + "\n",
    }


def _scales(folder: Path) -> dict[str, dict[str, str]]:
    demo = yaml.safe_load((folder / "config.yaml").read_text())
    paper = _overlay(demo, yaml.safe_load((folder / "paper.yaml").read_text()))
    scales: dict[str, dict[str, str]] = {}
    for scale, raw in (("demo", demo), ("paper", paper)):
        for study, settings in sort_keys(validate(raw))["studies"].items():
            scales.setdefault(study, {})[scale] = settings_digest(settings)
    return scales


def _overlay(below: Any, above: Any) -> Any:
    """Blocks are merged, everything else is replaced, as Snakemake does with several configuration files."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _overlay(below.get(key), value) for key, value in above.items()}
    return above


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{name}", field.annotation
        if get_origin(annotation) is dict and sections_of(get_args(annotation)[1]):
            key, annotation = f"{key}.*", get_args(annotation)[1]
        branches = branches_of(annotation)
        for section in sections_of(annotation):
            kinds = [kind for kind, branch in branches.items() if branch is section]
            meaning = (section.__doc__ or "").splitlines()[0].rstrip(".")
            if kinds:
                meaning += f" ({next(iter(section.model_fields))}: {' or '.join(kinds)})"
            else:
                meaning = field.description or meaning
            rows.append(f"| **`{key}`** | {meaning} | block | |")
            rows += _rows(section, f"{key}.")
        if not sections_of(annotation):
            rows.append(f"| `{key}` | {field.description} | {_type(model, name)} | {_default(field)} |")
    return rows


def _type(model: type[BaseModel], name: str) -> str:
    """The type and range of a key, in words, from its schema."""
    schema = model.model_json_schema()["properties"][name]
    return " or ".join(_words(option) for option in schema.get("anyOf", [schema]))


def _words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = {"integer": "whole number", "boolean": "true, false", "object": "block", "array": "list"}
    words = kind.get(schema.get("type", ""), schema.get("type", ""))
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    return " ".join([words, *(f"{sign} {schema[bound]:g}" for bound, sign in bounds if bound in schema)])


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = json.dumps(field.default)
    return f"`{value}`"


if __name__ == "__main__":
    main()
