"""How many synthetic images the screening discarded, beside what it discards of realistic ones."""

from __future__ import annotations

import pandas as pd

from scangan.facts import Facts
from scangan.metrics.feature_sets import ALL
from scangan.metrics.reading import wilson_interval
from scangan.metrics.screening import SURPLUS, kept_by_rule
from scangan.report.tables import FIDELITY_COLUMNS

NOTE = (
    "Unrealistic: share of synthetic images farther from the training images of their class than nearly all validation "
    "images [95% Wilson interval, given the threshold]; real: the share expected of realistic images.\n"
    "Discarded: share that no arm trains on: the unrealistic ones, of a class at most `most_discarded`, the farthest; "
    "after a person's overruling.\n"
    "Overruled: share of images on which a person decided otherwise than the rule.\n"
    "The images are of each network's first training; those of others are screened alike."
)


def screening_table(verdicts: dict[str, pd.DataFrame], facts: Facts) -> pd.DataFrame:
    """`screening.csv`, in the columns of `fidelity.csv`, from network -> what `metrics.screening.screen` returns.

    variant: `<gan>/<class>` and `<gan>/all`, the latter alone where there is one class. metric: `unrealistic`, beyond
    the threshold, with its 95% Wilson interval and, as reference, the share of realistic images that are; `discarded`;
    `overruled`, the share of images on which a person decided otherwise than the rule (naming an image and agreeing is
    none). A network that was not screened, for its features helped to train the generator, has no `unrealistic`.
    """
    rows: list[tuple] = []
    for gan, judged in verdicts.items():
        classes = dict(list(judged.groupby("label")))
        for label, images in (classes | {ALL: judged} if len(classes) > 1 else {ALL: judged}).items():
            kept = images["kept"] | (images["decided_by"] == SURPLUS)
            overruled = kept != kept_by_rule(images)
            variant, count = f"{gan}/{label}", len(images)
            if images["distance"].notna().all():
                unrealistic = images["distance"] > images["threshold"]
                low, high = wilson_interval(int(unrealistic.sum()), len(kept))
                rows.append((variant, "unrealistic", unrealistic.mean(), low, high, count, images["expected"].mean()))
            rows.append((variant, "discarded", (~kept).mean(), None, None, count, None))
            rows.append((variant, "overruled", overruled.mean(), None, None, count, None))
    table = pd.DataFrame(rows, columns=FIDELITY_COLUMNS[1:8]).astype(
        dict.fromkeys(("value", "ci_low", "ci_high", "reference"), float)
    )
    return facts.assign(table)[FIDELITY_COLUMNS]


def note_of(table: pd.DataFrame) -> str:
    """How to read the table, and whose images were not screened."""
    screened = set(table.loc[table["metric"] == "unrealistic", "variant"])
    refused = [variant for variant in table["variant"].unique() if variant not in screened]
    if not refused:
        return NOTE
    extractor = table["extractor"].iloc[0]
    return (
        f"{NOTE}\n{', '.join(refused)}: not screened, for the generator was trained against {extractor}, which is no "
        "judge of it; another fidelity.extractor would screen them."
    )
