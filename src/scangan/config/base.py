"""What every block of the configuration is made of: the block itself, and the types of its values."""

from __future__ import annotations

import os
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

LARGEST = 2**53  # beyond it a whole number is not exact in every program that reads it


def plain_path(path: str) -> str:
    """A path as one writes it, with `~` for the home folder and spaces around it, as every program reads it."""
    return str(Path(path.strip()).expanduser()) if path.strip() else ""


def _existing_file(value: str) -> str:
    path = plain_path(value)
    if not os.path.isfile(path):
        raise ValueError(f"found '{value}', which is no file; allowed: a file, or null")
    return path


def _whole_number(value: Any) -> Any:
    """The command line hands on numbers as text, which pydantic reads for an int, but not for a Literal."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


ExistingFile = Annotated[str, AfterValidator(_existing_file)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# Of such a value pydantic's paths name the tag.
TAGS = ("[one]", "[several]")
NameOrNames = Annotated[
    Annotated[Name, Tag(TAGS[0])] | Annotated[list[Name], Field(min_length=1), Tag(TAGS[1])],
    Discriminator(lambda value: TAGS[isinstance(value, list)]),
]
READ_FROM_TEXT = BeforeValidator(_whole_number)  # of a Literal of numbers


def _kinds_of(annotation: Any) -> set[Any]:
    """All types that an annotation names."""
    return {annotation}.union(*map(_kinds_of, get_args(annotation)))


class Section(BaseModel):
    """A block of the configuration; keys it does not know are errors.

    Where a key holds blocks of several kinds, `KIND_KEY` is the key whose value tells them apart, if one does.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    KIND_KEY: ClassVar[str | None] = None

    @field_validator("*")
    @classmethod
    def _is_exact(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > LARGEST:
            digits = len(str(abs(value)))
            raise ValueError(f"found a whole number of {digits} digits, allowed: up to {LARGEST}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _forget_nulls(cls, values: Any) -> Any:
        """An overlay cannot remove a key of another kind of block from the default; it can set it to null."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None or key in cls.model_fields}

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """YAML reads an unquoted `yes` as true, which pydantic would take for 1."""
        for key, value in values.items() if isinstance(values, dict) else ():
            kinds = _kinds_of(cls.model_fields[key].annotation) if key in cls.model_fields else set()
            if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
                allowed = "a number" if float in kinds else "a whole number"
                raise ValueError(f"{key}: found {value} (bool), allowed: {allowed}")
        return values

    @classmethod
    def kind_names(cls) -> tuple[str, ...]:
        """The values of `KIND_KEY` that blocks of this kind have."""
        return get_args(cls.model_fields[cls.KIND_KEY].annotation) if cls.KIND_KEY else ()

    @classmethod
    def of_kind(cls, values: dict[str, Any]) -> Self:
        """The block of that kind of this class which the values name at `KIND_KEY`."""
        of = {kind: section for section in kinds_below(cls) or (cls,) for kind in section.kind_names()}
        return of[values[str(cls.KIND_KEY)]].model_validate(values)

    @classmethod
    def refusal(cls, key: str, value: Any) -> str | None:
        """What was found and what is allowed of a key that only another kind of this block has; None: no kind has."""
        return None


Kind = TypeVar("Kind", bound=Section)


def kinds_below(base: type[Kind]) -> tuple[type[Kind], ...]:
    """The classes derived from `base` from which nothing is derived, in the order in which they are written."""
    found: dict[type[Kind], None] = {}
    for section in base.__subclasses__():
        found |= dict.fromkeys(kinds_below(section) or (section,))
    return tuple(found)


def union_of(base: type[Section]) -> Any:
    """The type of a key that holds any of the kinds below `base`."""
    return Annotated[reduce(or_, kinds_below(base)), Field(discriminator=base.KIND_KEY)]
