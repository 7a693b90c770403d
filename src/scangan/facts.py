"""What a number is of: which study, of which data, at which scale, and by which networks it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = "published"  # weights of a judge that is not trained here
SYNTHETIC = "SYNTHETIC"  # stands in every file that leaves for other programs


@dataclass(frozen=True)
class Facts:
    """What stands beside every number of a study, in its tables and below its figures.

    data: phantom | real | phantom and real. scale: demo | paper | custom.
    extractor: of the features behind the number. pretrained: with which weights the classifiers began. positive: their
    positive class. None where it is not of this number. negatives: the other classes, where there are several.
    folds: put together in it.
    """

    study: str
    data: str
    scale: str
    extractor: str | None = None
    pretrained: str | None = None
    positive: str | None = None
    negatives: tuple[str, ...] | list[str] = ()
    folds: int = 1

    @property
    def provenance(self) -> str:
        """`phantom data, demo scale`, and how many folds."""
        folds = f", {self.folds} folds" if self.folds > 1 else ""
        return f"{self.data} data, {self.scale} scale{folds}"

    @property
    def question(self) -> str:
        """What a classifier of several classes tells apart: `a against b, c and d together`; empty of two classes."""
        if not self.negatives:
            return ""
        return f"{self.positive} against {', '.join(self.negatives[:-1])} and {self.negatives[-1]} together"

    @property
    def all_classes(self) -> str:
        """What metrics of three or more classes are of: `a, b, c and d alike`."""
        return f"{', '.join([self.positive or '', *self.negatives[:-1]])} and {self.negatives[-1]} alike"

    def assign(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the columns `study, data, scale`, and `extractor`, `pretrained` where they are known."""
        known = {"study": self.study, "data": self.data, "scale": self.scale}
        measured = {"extractor": self.extractor, "pretrained": self.pretrained}
        return table.assign(**known, **{name: value for name, value in measured.items() if value is not None})

    def footer(self, caption: str = "") -> str:
        """The line below a figure: `phantom data, demo scale; head_ct`, or a caption in place of the study's name."""
        return f"{self.provenance}; {caption or self.study}"
