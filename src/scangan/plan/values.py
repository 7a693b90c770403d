"""What every part of a plan says things in: files, and settings as the parameters of a rule."""

from __future__ import annotations

from typing import Any, TypeVar

from scangan.config import sort_keys

Files = dict[str, list[str]]
Settings = dict[str, Any]
Part = TypeVar("Part")


def existing(part: Part | None) -> Part:
    """A part of the settings that not every study has, asked for by rules that run only for those that have it."""
    assert part is not None
    return part


def optional(file: str | None) -> list[str]:
    return [] if file is None else [file]


def plain(settings: Settings) -> Settings:
    """As the parameters of a rule: plain values, sorted, because Snakemake compares them by their text."""
    in_order: Settings = sort_keys(settings)
    return in_order


def shards_for(wanted: int, shard_size: int) -> range:
    """The numbers of the shards that so many images make."""
    return range(-(-wanted // shard_size))
