"""Writes what is derived from the configuration's model: schema, list of keys, digests of the shipped scales.

Run `python -m scangan.config.derived` after a change of `scangan.config` or of the files in config/.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import get_annotations
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from scangan.config import Config, Section, sections_of, sort_keys, study_digest, validate
from scangan.config.overlay_schema import overlay_schema
from scangan.files import atomic

INTRODUCTION = """# The configuration

`config.yaml` is the default (demo scale, embedded phantom data), `paper.yaml` an overlay with the papers' sizes,
`schema.json` the schema for an editor, `overlay_schema.json` that of overlays, which leave out what they do not change.
A key that is not listed here is an error, told before any job runs.
Where something runs (threads, memory, GPUs) is no part of it: see `profiles/`.

A file of your own is laid over the default: `snakemake --configfile mine.yaml ...`; so is a single value:
`--config results=results-real data_roots='{head_ct: path/to/head-ct}'`. An editor completes and checks its keys if it
begins with `# yaml-language-server: $schema=path/to/config/overlay_schema.json`.

This page is written from the code by `make docs`. `*` stands for a name of your choice.

| key | meaning | type | default |
|---|---|---|---|
"""


REPEATED = {"external"}  # keys whose blocks have the keys of another one, where these are listed


def main() -> None:
    """Write config/schema.json, overlay_schema.json, README.md and scales.json of this checkout."""
    folder = Path(__file__).parents[3] / "config"
    for name, text in derived_files(folder).items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text)


def derived_files(folder: Path) -> dict[str, str]:
    """Name -> content of the files derived from the model and from the configurations in `folder`."""
    schema = Config.model_json_schema()
    return {
        "schema.json": json.dumps(schema, indent=2) + "\n",
        "overlay_schema.json": json.dumps(overlay_schema(schema), indent=2) + "\n",
        "README.md": INTRODUCTION + "".join(f"{row}\n" for row in _rows([Config], "")),
        "scales.json": json.dumps(_scales(folder), indent=2, sort_keys=True) + "\n",
    }


def _scales(folder: Path) -> dict[str, dict[str, str]]:
    demo = yaml.safe_load((folder / "config.yaml").read_text())
    paper = overlay(demo, yaml.safe_load((folder / "paper.yaml").read_text()))
    scales: dict[str, dict[str, str]] = {}
    for scale, raw in (("demo", demo), ("paper", paper)):
        for study, settings in sort_keys(validate(raw))["studies"].items():
            scales.setdefault(study, {})[scale] = study_digest(settings)
    return scales


def overlay(below: Any, above: Any) -> Any:
    """Blocks are merged, everything else is replaced, as Snakemake does with several configuration files."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: overlay(below.get(key), value) for key, value in above.items()}
    return above


def _rows(sections: Sequence[type[Section]], prefix: str) -> list[str]:
    """A row a key of a block: of several kinds of block first the keys that all have, then those of some, or of one."""
    kind_key = sections[0].KIND_KEY if len(sections) > 1 else None
    rows = [_kind_row(sections, prefix, kind_key)] if kind_key else []
    groups: dict[tuple[type[Section], ...], list[str]] = {tuple(sections): []}
    for name in dict.fromkeys(name for section in sections for name in section.model_fields):
        if name != kind_key:
            for group in _alike([section for section in sections if name in section.model_fields], name):
                groups.setdefault(group, []).append(name)
    for group, names in sorted(groups.items(), key=lambda item: (-len(item[0]), sections.index(item[0][0]))):
        if len(group) < len(sections):
            rows.append(_heading(group, prefix, kind_key))
        for name in names:
            rows += _key_rows(group, name, prefix)
    return rows


def _alike(sections: list[type[Section]], name: str) -> list[tuple[type[Section], ...]]:
    """Those that have a key from the same class, or as a block, together."""
    if any(_blocks_of(section, name) for section in sections):
        return [tuple(sections)]
    groups: dict[type, list[type[Section]]] = {}
    for section in sections:
        owner = next(base for base in section.__mro__ if name in get_annotations(base))
        groups.setdefault(owner, []).append(section)
    return [tuple(group) for group in groups.values()]


def _heading(group: Sequence[type[Section]], prefix: str, kind_key: str | None) -> str:
    kinds = " or ".join(kind for section in group for kind in section.kind_names())
    return f"| **`{prefix[:-1]}`** | {_summary(group)}{f' ({kind_key}: {kinds})' if kind_key else ''} | block | |"


def _kind_row(sections: Sequence[type[Section]], prefix: str, kind_key: str) -> str:
    meanings = dict.fromkeys(_description(section, kind_key) for section in sections)
    values = ", ".join(f"`{kind}`" for section in sections for kind in section.kind_names())
    return f"| `{prefix}{kind_key}` | {'; '.join(meanings)} | {values} | required |"


def _key_rows(group: Sequence[type[Section]], name: str, prefix: str) -> list[str]:
    field, key = group[0].model_fields[name], f"{prefix}{name}"
    if blocks := list(dict.fromkeys(block for section in group for block in _blocks_of(section, name))):
        key += ".*" if get_origin(field.annotation) is dict else ""
        if name in REPEATED:
            return [f"| **`{key}`** | {field.description} | block | {_default(field)} |"]
        meanings = {section.model_fields[name].description for section in group}
        meaning = field.description if field.description and len(meanings) == 1 else _summary(blocks)
        return [f"| **`{key}`** | {meaning} | block | |", *_rows(blocks, f"{key}.")]
    return [f"| `{key}` | {_description(group[0], name)} | {_type(group[0], name)} | {_default(field)} |"]


def _blocks_of(section: type[Section], name: str) -> list[type[Section]]:
    """The blocks that a key holds, itself or by names of your choice."""
    annotation = section.model_fields[name].annotation
    return sections_of(get_args(annotation)[1] if get_origin(annotation) is dict else annotation)


def _description(section: type[Section], name: str) -> str:
    """Of a key, in its class or in the one that is narrowed there."""
    fields = [base.model_fields.get(name) for base in section.__mro__ if issubclass(base, Section)]
    return next((field.description for field in fields if field and field.description), "")


def _summary(sections: Sequence[type[Section]]) -> str:
    """The first line of what is said of them all."""
    common = next(base for base in sections[0].__mro__ if all(issubclass(section, base) for section in sections))
    return (common.__doc__ or "").splitlines()[0].rstrip(".")


def _type(model: type[BaseModel], name: str) -> str:
    """The type and range of a key, in words, from its schema."""
    return _words(model.model_json_schema()["properties"][name])


def _words(schema: dict[str, Any]) -> str:
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_words, options))
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
