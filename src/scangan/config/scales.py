"""Digests of settings, by which a shipped scale is told from any other."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def scale_of(study: str, config: dict[str, Any], scales: dict[str, dict[str, str]]) -> str:
    """`demo` or `paper` if the study's settings are exactly those shipped under that name, else `custom`.

    `scales` maps study -> scale -> digest (config/scales.json): what a table calls `paper` cannot be edited.
    """
    digest = study_digest(config["studies"][study])
    return next((scale for scale, known in scales.get(study, {}).items() if known == digest), "custom")


# Files that bring what a scale means anyway: weights that would be downloaded, the paper's judge, what persons say.
FILES = (
    *("classifier.weights", "fidelity.weights", "judge.outputs", "judge.weights", "reading_room.readers"),
    "synthesis.screening.overrule",
)


def study_digest(study: dict[str, Any]) -> str:
    """Digest of a study's settings, but for `FILES`, and what no result depends on: `export`, its data's licence."""
    decisive = {key: _without_files(value, f"{key}.") for key, value in study.items() if key != "export"}
    for key in ("data", "external"):
        if decisive.get(key) is not None:
            decisive[key] = {name: value for name, value in decisive[key].items() if name != "licence"}
    return settings_digest(decisive)


def _without_files(block: Any, prefix: str) -> Any:
    if not isinstance(block, dict):
        return block
    kept = {key: value for key, value in block.items() if f"{prefix}{key}" not in FILES}
    return {key: _without_files(value, f"{prefix}{key}.") for key, value in kept.items()}


def sort_keys(settings: Any) -> Any:
    """The same plain settings with the keys of every block in alphabetical order."""
    if isinstance(settings, dict):
        return {key: sort_keys(settings[key]) for key in sorted(settings)}
    return [sort_keys(value) for value in settings] if isinstance(settings, list) else settings


def settings_digest(settings: Any) -> str:
    """Digest of plain settings, independent of the order of keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
