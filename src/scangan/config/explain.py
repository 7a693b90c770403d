"""A configuration checked: the whole of it with every default, or a line for each mistake."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from scangan.config.base import TAGS, Section
from scangan.config.networks import MODELS, Gan
from scangan.config.study import Config
from scangan.errors import ConfigError

MOST_VALUES, DEEPEST, LONGEST = 100_000, 20, 1000  # far beyond any configuration: values, blocks in blocks, characters
SHOWN = 100  # characters of a wrong value
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# What an error line says is allowed, by pydantic's type of error.
ALLOWED = {
    "bool_parsing": "true | false",
    "bool_type": "true | false",
    "dict_type": "a block of keys",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "invalid_key": "a key of text",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_attributes_type": "a block of keys",
    "model_type": "a block of keys",
    "multiple_of": "a multiple of {multiple_of:g}",
    "string_pattern_mismatch": "a name of letters, digits, - and _",
    "string_too_short": "text",
    "string_type": "text",
    "too_short": "at least {min_length} entry",
}


def load(raw: dict[str, Any]) -> Config:
    """The configuration with every default, as objects.

    Raises ConfigError with one line a problem: the key, what was found, what is allowed.
    """
    _check_plain(raw)
    try:
        return Config.model_validate(_with_nulls(raw))
    except ValidationError as error:
        lines: dict[str, dict[str, None]] = {}
        for detail in error.errors():
            problem, _, allowed = _explain(dict(detail)).partition(", allowed: ")
            lines.setdefault(problem, {})[allowed] = None  # one for each type that a value may have
        raise ConfigError("\n".join(_line(problem, *allowed) for problem, allowed in lines.items())) from None


def validate(raw: dict[str, Any]) -> dict[str, Any]:
    """What `load` returns, as plain dicts, lists, strings and numbers."""
    return load(raw).model_dump(mode="json")


def _check_plain(raw: Any) -> None:
    """Raise ConfigError for what no configuration is, whatever its keys; YAML can say more than blocks of plain values.

    Anchors that repeat blocks that repeat others, or hold themselves, are few lines and endless values.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"config: found {_shown(raw)}, allowed: a block of keys")
    lines: list[str] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), raw)]
    values = 0
    while waiting:
        path, value = waiting.pop()
        values += 1
        if values > MOST_VALUES or len(path) > DEEPEST:
            found = f"more than {MOST_VALUES} values" if values > MOST_VALUES else f"blocks {len(path)} deep"
            where = ".".join(path[:3])
            raise ConfigError(f"config: {where}: found {found}, allowed: fewer; do anchors (&, *) repeat each other?")
        match value:
            case dict():
                for key, each in value.items():
                    if isinstance(key, bool) or not isinstance(key, str | int):
                        where = "".join(f"{part}." for part in path) + _printable(str(key))
                        lines.append(f"config: {where}: found {_shown(key)} as a key, allowed: text; quote it")
                    else:
                        waiting.append(((*path, _printable(str(key))), each))
            case list() | tuple():
                waiting += [((*path, str(place)), each) for place, each in enumerate(value)]
            case str():
                if len(value) > LONGEST:
                    found, allowed = f"text of {len(value)} characters", f"up to {LONGEST}"
                    lines.append(f"config: {'.'.join(path)}: found {found}, allowed: {allowed}")
                elif CONTROL.search(value.strip()):
                    lines.append(f"config: {'.'.join(path)}: found {_shown(value)}, allowed: text in one line")
            case bool() | int() | float() | None:
                pass
            case _:
                allowed = "text, a number, true, false or null; quote it"
                lines.append(f"config: {'.'.join(path)}: found {_shown(value)}, allowed: {allowed}")
    if lines:
        raise ConfigError("\n".join(lines))


def _shown(value: Any) -> str:
    """A wrong value and its type, in one line of bounded length."""
    if value is None:
        return "null"
    text = repr(value)
    return f"{text if len(text) <= SHOWN else text[:SHOWN] + '...'} ({type(value).__name__})"


def _printable(key: str) -> str:
    """A key in one line of bounded length."""
    key = key if len(key) <= SHOWN else key[:SHOWN] + "..."
    return key if key.isprintable() else ascii(key)


def _with_nulls(value: Any) -> Any:
    """`null` from Snakemake's `--config`, which reads every value as text, as None."""
    match value:
        case dict():
            return {key: _with_nulls(each) for key, each in value.items()}
        case list():
            return [_with_nulls(each) for each in value]
    return None if value == "null" else value


def _line(problem: str, *allowed: str) -> str:
    return f"config: {problem}" + (f", allowed: {' | '.join(allowed)}" if any(allowed) else "")


def _explain(detail: dict[str, Any]) -> str:
    """What one of pydantic's findings says: the key, what was found, what is allowed."""
    path, section = _follow(detail["loc"])
    key = ".".join(map(_printable, path))
    match detail["type"]:
        case "extra_forbidden":
            name = path[-1]
            if said := section.refusal(name, detail["input"]):
                return f"{key}: {said}"
            allowed = _keys_of(section)
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            return f"{key}: unknown key{hint}, allowed: {' | '.join(allowed)}"
        case "missing":
            return f"{key}: missing, but required"
        case "union_tag_not_found":
            field = detail["ctx"]["discriminator"].strip("'")
            return f"{key}.{field}: missing, but required"
        case "union_tag_invalid":
            return f"{key}.{_wrong_kind(detail)}"
        case "value_error":
            # Ours: of a block, beginning with the key in it, or of one value.
            problem = str(detail["ctx"]["error"])
            return f"{key}{': ' if problem.startswith('found') else '.'}{problem}".removeprefix(".")
        case kind:
            allowed_values = ALLOWED[kind].format(**detail.get("ctx", {})) if kind in ALLOWED else detail["msg"]
            return f"{key}: found {_shown(detail['input'])}, allowed: {allowed_values}"


def _wrong_kind(detail: dict[str, Any]) -> str:
    """Of a block that names a kind that there is not, or not in this study."""
    field = detail["ctx"]["discriminator"].strip("'")
    kind = detail["input"][field]
    allowed = detail["ctx"]["expected_tags"].replace("'", "").replace(", ", " | ")
    if field == Gan.KIND_KEY and kind in MODELS:
        _, _, study, *_ = detail["loc"]
        allowed = f"one of {study}: {allowed}"
    return f"{field}: found {'null' if kind is None else repr(kind)}, allowed: {allowed}"


def _keys_of(section: type[Section]) -> list[str]:
    """The keys of a block, first that which tells its kind."""
    return sorted(section.model_fields, key=lambda name: name != section.KIND_KEY)


def _follow(location: tuple[str | int, ...]) -> tuple[list[str], type[Section]]:
    """The keys of one of pydantic's paths, and the innermost block on it that has a model.

    Where a key holds one of several kinds of block, or a value one of several types, such a path names which; these
    are no keys.
    """
    keys: list[str] = []
    section: type[Section] = Config
    annotation: Any = Config
    for part in location:
        branches = branches_of(annotation)
        if part in branches:
            annotation = section = branches[part]
            continue
        if part in ("[key]", *TAGS) or (part in ("int", "float", "str") and not sections_of(annotation)):
            continue
        keys.append(str(part))
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            field = section.model_fields.get(str(part)) if sections_of(annotation) == [section] else None
            annotation = field.annotation if field else None
        if len(sections := sections_of(annotation)) == 1:
            (section,) = sections
    return keys, section


def sections_of(annotation: Any) -> list[type[Section]]:
    """The blocks that a key may hold: none for a plain value or a dictionary, several where there are several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [section for option in get_args(annotation) for section in sections_of(option)]


def branches_of(annotation: Any) -> dict[str | int, type[Section]]:
    """Of a key with blocks of several kinds: kind -> block."""
    sections = sections_of(annotation)
    return {kind: section for section in sections if len(sections) > 1 for kind in section.kind_names()}
