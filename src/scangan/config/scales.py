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


def study_digest(study: dict[str, Any]) -> str:
    """Digest of a study's settings, but for those that no result depends on: `export`, and the licence of its data."""
    decisive = {key: value for key, value in study.items() if key != "export"}
    for key in ("data", "external"):
        if decisive.get(key) is not None:
            decisive[key] = {name: value for name, value in decisive[key].items() if name != "licence"}
    return settings_digest(decisive)


def sort_keys(settings: Any) -> Any:
    """The same plain settings with the keys of every block in alphabetical order."""
    if isinstance(settings, dict):
        return {key: sort_keys(settings[key]) for key in sorted(settings)}
    return [sort_keys(value) for value in settings] if isinstance(settings, list) else settings


def settings_digest(settings: Any) -> str:
    """Digest of plain settings, independent of the order of keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
