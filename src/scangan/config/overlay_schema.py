"""The schema of an overlay: a file that is laid over another one names a few keys, and so may lack required ones."""

from __future__ import annotations

from typing import Any

# Which kind a block is may stand in the file below: any kind that has the keys will do.
OF_ONE_KIND = {"required", "discriminator"}


def overlay_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of overlays of what `schema` describes: the same keys and values, none of them required.

    A block that becomes one of another kind takes leave of the old kind's keys by null, so an unknown key may be null;
    so may a network, which is then left out.
    """
    relaxed: dict[str, Any] = _relax(schema)
    return relaxed


def _relax(node: Any) -> Any:
    match node:
        case {"properties": dict() as properties, **rest}:
            # Its keys are names of the configuration's, such as `required`, not words of the schema.
            return {"properties": {name: _relax(value) for name, value in properties.items()}, **_relax(rest)}
        case dict():
            relaxed = {
                "anyOf" if word == "oneOf" else word: _relax(value)
                for word, value in node.items()
                if word not in OF_ONE_KIND
            }
            if relaxed.get("additionalProperties") is False:
                relaxed["additionalProperties"] = {"type": "null"}
            for name, block in node.get("patternProperties", {}).items():
                if "discriminator" in block:
                    relaxed["patternProperties"][name]["anyOf"].append({"type": "null"})
            return relaxed
        case list():
            return [_relax(each) for each in node]
    return node
