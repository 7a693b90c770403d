"""The reading room: one HTML file in which a person says of images whether they are real, and of which class.

The Visual Turing Test of Han et al., "Infinite Brain MR Images: PGGAN-based Data Augmentation for Tumor Detection",
section 3.4, for any study. `metrics.reading` scores what the page exports.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.files import atomic
from scangan.metrics.reading import ALL, ANSWER_COLUMNS, NAME, ORIGINS, QUESTIONS

ANSWERS = "answers.csv"


def draw_cases(real: ImageSet, synthetic: ImageSet, each: int, classes: Sequence[str], seed: int) -> ImageSet:
    """`each` real and `each` synthetic images of every class, drawn without replacement; the paper has 50.

    Their manifest has one column more, `origin` (`real` or `synthetic`). Raises DataError if there are too few.
    """
    rng = np.random.default_rng([seed, 0])
    chosen = []
    for origin, image_set in zip(ORIGINS, (real, synthetic), strict=True):
        for label in classes:
            members = np.flatnonzero(image_set.manifest["label"] == label)
            if len(members) < each:
                raise DataError(
                    f"reading room: {origin} images of {label}: found {len(members)}, allowed: at least {each}"
                )
            picked = image_set.select(rng.choice(members, each, replace=False))
            chosen.append(ImageSet(picked.images, picked.manifest.assign(origin=origin)))
    return ImageSet.concatenate(chosen)


def write_reading_room(path: str | Path, cases: ImageSet, facts: Facts, seed: int, classes: Sequence[str]) -> Path:
    """Write the page, and beside it the truth, `answers.csv`, whose path is returned. Readers get the page alone.

    cases: images [N, 1 or 3, H, W] in [0, 1] and a manifest with the column `origin`, as `draw_cases` returns; they are
    shown in a random order, in 8 bits. classes: in the order in which the page offers them. The page knows numbers of
    cases only. What is bound to a reading is the digest of the images in their order: `set`.

    Raises DataError if a name has other signs than letters, digits, spaces and . ' - _, or a class is not offered.
    """
    for field, name in [("study", facts.study), *(("class", label) for label in classes)]:
        if not NAME.fullmatch(name):
            raise DataError(f"reading room: {field}: found {name!r}, allowed: letters, digits, spaces and . ' - _")
    if len(classes) > 9 or (unknown := sorted(set(cases.manifest["label"]) - set(classes))):
        found = f"{len(classes)} classes" if len(classes) > 9 else ", ".join(unknown)
        raise DataError(f"reading room: label: found {found}, allowed: up to nine, here {', '.join(classes)}")
    shuffled = cases.select(np.random.default_rng([seed, 1]).permutation(len(cases)))
    pictures = [_png(image) for image in shuffled.images]
    parts = [facts.study, *classes, *(hashlib.sha256(picture).hexdigest() for picture in pictures)]
    set_digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    room = {
        "study": facts.study,
        "data": facts.data,
        "scale": facts.scale,
        "set": set_digest,
        "classes": list(classes),
        "images": [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures],
    }
    template = Path(__file__).with_name("reading_room.html").read_text(encoding="utf-8")
    # No text may end the script element that it stands in.
    page = template.replace("{{room}}", json.dumps(room).replace("<", "\\u003c"))
    truth = facts.assign(shuffled.manifest).assign(set=set_digest, case=np.arange(1, len(shuffled) + 1))
    answers = Path(path).with_name(ANSWERS)
    with atomic(path) as html, atomic(answers) as csv:
        html.write_text(page, encoding="utf-8")
        truth[ANSWER_COLUMNS].to_csv(csv, index=False)
    return answers


def readers_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The paper's table 2 for people, from what `score_readers` returns: a row a reader, a question and a truth.

    Columns `study, reader, question, accuracy, truth, answers, agreement, data, scale`, all text, to be written by
    `report.tables.to_markdown` without an index. `answers` reads `synthetic 42 of 100 (tumour 19, non-tumour 23)`.
    """
    rows = []
    for (reader, question), own in scores[scores["question"].isin(QUESTIONS)].groupby(
        ["reader", "question"], sort=False
    ):
        whole = own[own["group"] == ALL].set_index("metric")
        kappas = [metric for metric in whole.index if metric.endswith("_kappa")]
        confusion = {metric: metric.split(" as ") for metric in whole.index if " as " in metric}
        for place, truth in enumerate(dict.fromkeys(is_ for is_, _ in confusion.values())):
            answers = [_count(own, metric, said) for metric, (is_, said) in confusion.items() if is_ == truth]
            rows.append(
                {
                    "reader": reader,
                    "question": {"origin": "real or synthetic", "label": "class"}[question],
                    "accuracy": "" if place else _percent(whole.loc["accuracy"]),
                    "truth": truth,
                    "answers": "; ".join(answers),
                    "agreement": "" if place else "; ".join(_kappa(metric, whole.loc[metric]) for metric in kappas),
                }
            )
    facts = Facts(**scores[["study", "data", "scale"]].iloc[0].to_dict())
    columns = ["study", "reader", "question", "accuracy", "truth", "answers", "agreement", "data", "scale"]
    return facts.assign(pd.DataFrame(rows))[columns]


def _count(own: pd.DataFrame, metric: str, said: str) -> str:
    """`synthetic 42 of 100 (tumour 19, non-tumour 23)`: the groups are the answers to the other question."""
    cells = own[own["metric"] == metric].set_index("group")
    groups = ", ".join(f"{group} {cell['count']}" for group, cell in cells.drop(index=ALL).iterrows())
    return f"{said} {cells.loc[ALL, 'count']} of {cells.loc[ALL, 'images']} ({groups})"


def _percent(row: pd.Series) -> str:
    return f"{row['value']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"


def _kappa(metric: str, row: pd.Series) -> str:
    name = {"cohen_kappa": "Cohen's kappa", "fleiss_kappa": "Fleiss' kappa"}[metric]
    return f"{name} {row['value']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"


def _png(image: np.ndarray) -> bytes:
    """An image [1 or 3, H, W] in [0, 1] as a PNG of 8 bits, without any metadata."""
    values = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)).save(buffer, format="PNG")
    return buffer.getvalue()
