"""What the loader of configuration files passes over in silence: of a key that stands twice it takes the last."""

from __future__ import annotations

from pathlib import Path

import yaml

from scangan.errors import ConfigError


def check_config_file(path: str | Path) -> None:
    """Raise ConfigError, naming file, line and key, for every key that stands twice in a block of a YAML or JSON file.

    What is no YAML at all is left to the loader.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return
    lines = []
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # a block that an anchor repeats
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[str, int] = {}
        for key, value in node.value:
            waiting.append(value)
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in first:
                    found = f"{key.value} in lines {first[key.value]} and {line} of one block"
                    lines.append((line, f"{path}: config: found {found}, allowed: each key once"))
                first.setdefault(key.value, line)
    if lines:
        raise ConfigError("\n".join(text for _, text in sorted(lines)))
