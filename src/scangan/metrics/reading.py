"""The Visual Turing Test: what readers said of real and synthetic images, scored against the truth.

Han et al., "Infinite Brain MR Images: PGGAN-based Data Augmentation for Tumor Detection", section 3.4 and table 2.
A reader says of each image whether it is real or synthetic, and of which class it is. `report.reading_room` writes the
page that asks, and the truth (`answers.csv`); the page exports one CSV a reader, `READING_COLUMNS`.

The signature is a SHA-256 of the set, the reader and the rows. It shows that a file was changed after its export, or
damaged; it is no proof against somebody who computes a new one, for a page that works without a server has no secret.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd

from scangan.data.store import UNREADABLE
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.files import atomic

ORIGINS = ("real", "synthetic")
QUESTIONS = ("origin", "label")
ANSWER_COLUMNS = ["study", "data", "scale", "set", "case", "image_id", "origin", "label"]
READING_COLUMNS = ["set", "reader", "case", "origin", "label", "seconds", "signature"]
SCORE_COLUMNS = [
    *("study", "reader", "question", "group", "metric", "value", "ci_low", "ci_high", "count", "images"),
    *("data", "scale"),
]
ALL = "all"
SIMULATED = "simulated"
# No comma and no quote, so that the page needs no rules of quoting; no sign at the start that a spreadsheet computes.
NAME = re.compile(r"[^\W_][\w .'-]{0,39}")
_Z = 1.959963984540054  # of a two-sided 95% interval
_RESAMPLES = 2000


def sign(set_digest: str, reader: str, rows: Iterable[Sequence[object]]) -> str:
    """SHA-256 (hex) of a reading. rows: `case, origin, label, seconds`, in the order of the cases.

    Of the values, not of the file's bytes: a spreadsheet may write the file anew. The page computes the same.
    """
    lines = [set_digest, reader, *(",".join(map(str, row)) for row in rows)]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def read_answers(path: str | Path) -> pd.DataFrame:
    """The truth, `ANSWER_COLUMNS`, a row a case, in their order. Raises DataError if the file is not one of these."""
    table = _read_csv(path, ANSWER_COLUMNS)
    numbers = list(map(str, range(1, len(table) + 1)))
    if not numbers or list(table["case"]) != numbers:
        raise DataError(f"{path}: case: found {', '.join(table['case'][:5]) or 'none'}, ..., allowed: 1, 2, 3, ...")
    for column in ("study", "data", "scale", "set"):
        if len(found := table[column].unique()) != 1:
            raise DataError(f"{path}: {column}: found {', '.join(found)}, allowed: one for all cases")
    if wrong := sorted(set(table["origin"]) - set(ORIGINS)):
        raise DataError(f"{path}: origin: found {wrong[0]}, allowed: {', '.join(ORIGINS)}")
    return table


def read_reading(path: str | Path, answers: pd.DataFrame) -> pd.DataFrame:
    """What one reader answered, `READING_COLUMNS`, in the order of the cases; `seconds` as integers.

    Raises DataError if the file is of another kind or set, lacks cases, names one twice, has an answer that was not to
    be given, or was changed after its export.
    """
    table = _read_csv(path, READING_COLUMNS)
    if table.empty:
        raise DataError(f"{path}: case: found none, allowed: all of 1 to {len(answers)}")
    for column in ("set", "reader", "signature"):
        if len(found := table[column].unique()) != 1:
            raise DataError(f"{path}: {column}: found {', '.join(found)}, allowed: one for all rows")
    set_digest, reader, signature = table.loc[0, ["set", "reader", "signature"]]
    if set_digest != answers.loc[0, "set"]:
        raise DataError(f"{path}: set: found {set_digest}, a reading of other images, allowed: {answers.loc[0, 'set']}")
    if not NAME.fullmatch(reader):
        raise DataError(f"{path}: reader: found {reader!r}, allowed: up to 40 letters, digits, spaces, . ' - and _")
    if len(twice := table["case"][table["case"].duplicated()]):
        raise DataError(f"{path}: case: found {twice.iloc[0]} more than once, allowed: once")
    if len(unknown := table["case"][~table["case"].isin(answers["case"])]):
        raise DataError(f"{path}: case: found {unknown.iloc[0]!r}, allowed: 1 to {len(answers)}")
    if len(table) < len(answers):
        raise DataError(f"{path}: case: found {len(table)} of {len(answers)}, allowed: all, a reading must be complete")
    for column, allowed in (("origin", ORIGINS), ("label", tuple(answers["label"].unique()))):
        if len(wrong := table[~table[column].isin(allowed)]):
            case, found = wrong.iloc[0][["case", column]]
            raise DataError(f"{path}: {column} of case {case}: found {found!r}, allowed: {', '.join(allowed)}")
    if len(wrong := table[~table["seconds"].str.fullmatch(r"\d{1,7}")]):
        case, found = wrong.iloc[0][["case", "seconds"]]
        raise DataError(f"{path}: seconds of case {case}: found {found!r}, allowed: a whole number")
    table = table.set_index("case").loc[answers["case"]].reset_index()
    if (expected := sign(set_digest, reader, _signed_rows(table))) != signature:
        raise DataError(
            f"{path}: signature: found {signature}, allowed: {expected}; the file was changed after its export"
        )
    return table[READING_COLUMNS].astype({"seconds": int})


def write_reading(
    path: str | Path, set_digest: str, reader: str, rows: Sequence[tuple[int, str, str, int]]
) -> pd.DataFrame:
    """Write a signed reading as the page exports it. rows: `case, origin, label, seconds`, in the cases' order."""
    table = pd.DataFrame(rows, columns=["case", "origin", "label", "seconds"])
    table = table.assign(set=set_digest, reader=reader, signature=sign(set_digest, reader, rows))[READING_COLUMNS]
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return table


def simulate_reader(answers: str | Path, path: str | Path, skill: float, seed: int, number: int = 1) -> None:
    """Write the reading of nobody, to try the way from page to table: its reader is named `simulated`.

    skill: probability of the right answer to each question, both drawn independently; else one of the wrong ones is
    drawn. number: of several, the second is named `simulated 2`, and so on. Raises DataError as `read_answers` does.
    """
    if not 0 <= skill <= 1:
        raise ValueError(f"skill: found {skill}, allowed: 0 to 1")
    truth = read_answers(answers)
    rng = np.random.default_rng([seed, number])
    given = {}
    for question in QUESTIONS:
        options = np.array(_options(truth, question))
        right = pd.Index(options).get_indexer(truth[question])
        wrong = (right + rng.integers(1, max(2, len(options)), size=len(truth))) % len(options)
        given[question] = options[np.where(rng.random(len(truth)) < skill, right, wrong)].tolist()
    rows = [(case, *both, 0) for case, both in enumerate(zip(*given.values(), strict=True), start=1)]
    write_reading(path, truth.loc[0, "set"], SIMULATED if number == 1 else f"{SIMULATED} {number}", rows)


def score_readers(files: Sequence[str | Path], answers: str | Path) -> pd.DataFrame:
    """Table 2 in tidy form, `SCORE_COLUMNS`, from the CSV files of one or many readers and the truth.

    question: `origin` (real or synthetic) or `label` (which class). group: the images it is asked of: `all`, or those
    of one answer to the other question (`T as N 18 (R: 5, S: 13)` in the paper). metric:

    - `accuracy`; `<truth> as <answer>` (`real as synthetic`), the share of the images of that truth. value is
      count / images; ci_low, ci_high: 95% Wilson interval.
    - `cohen_kappa` with two readers, `fleiss_kappa` with more: agreement beyond chance; interval: percentiles of a
      bootstrap over images. NaN where everybody gave one answer to all.
    - `median_seconds` an image, of question `both`.

    Rows of all readers together (reader `all`) are there from two readers on. Their count is over readers and images,
    but their interval is as wide as one reader's: readings of one image are not independent. Simulated readers are
    named `simulated...`, all of them together `all simulated`, and cannot be mixed with people.

    Raises DataError, a line for each file that is refused.
    """
    truth = read_answers(answers)
    readings, refused = {}, []
    for path in files:
        try:
            reading = read_reading(path, truth)
            reader = reading.loc[0, "reader"]
            if reader in readings:
                raise DataError(f"{path}: reader: found {reader} a second time, allowed: one file a reader")
            readings[reader] = reading
        except DataError as error:
            refused.append(str(error))
    if refused:
        raise DataError("\n".join(refused))
    if not readings:
        raise DataError(f"{answers}: readings: found no file, allowed: one or more")
    if len({is_simulated(reader) for reader in readings}) == 2:
        raise DataError(
            f"readings: reader: found {', '.join(readings)}, allowed: people alone, or simulated ones alone"
        )
    rows = [row for reader, reading in readings.items() for row in _rows(reader, [reading], truth)]
    if len(readings) > 1:
        everybody = f"{ALL} {SIMULATED}" if is_simulated(next(iter(readings))) else ALL
        rows += _rows(everybody, list(readings.values()), truth)
    facts = Facts(**truth.loc[0, ["study", "data", "scale"]].to_dict())
    table = facts.assign(pd.DataFrame(rows, columns=SCORE_COLUMNS[1:-2]))
    return table[SCORE_COLUMNS].astype({"count": "Int64"})


def is_simulated(reader: str) -> bool:
    """Whether a reader's name is kept for simulated ones; the page does not take such a name from a person."""
    return reader.lower().startswith(SIMULATED)


def wilson_interval(count: float, cases: int) -> tuple[float, float]:
    """95% interval of a share count / cases (Wilson 1927); NaN without cases."""
    if cases == 0:
        return np.nan, np.nan
    share, spread = count / cases, _Z**2 / cases
    centre = share + spread / 2
    half = sqrt(spread * (share * (1 - share) + spread / 4))
    # At a share of 0 or 1 the end is exact; the rounding of the sum is not.
    low = 0.0 if count == 0 else (centre - half) / (1 + spread)
    high = 1.0 if count == cases else (centre + half) / (1 + spread)
    return low, high


def cohen_kappa(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa [B] of two readers (Cohen 1960). codes: int [2, N]; weights: of the images [B, N]."""
    categories = codes.max() + 1
    first, second = np.eye(categories)[codes]
    total = weights.sum(axis=1)
    observed = (weights * (codes[0] == codes[1])).sum(axis=1) / total
    expected = ((weights @ first) * (weights @ second)).sum(axis=1) / total**2
    return _beyond_chance(observed, expected)


def fleiss_kappa(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fleiss' kappa [B] of readers who all read all images (Fleiss 1971). codes: int [R, N]; weights [B, N]."""
    readers = len(codes)
    votes = np.eye(codes.max() + 1)[codes].sum(axis=0)  # [N, categories]
    total = weights.sum(axis=1)
    pairs = (votes * (votes - 1)).sum(axis=1) / (readers * (readers - 1))
    shares = weights @ votes / (total[:, None] * readers)
    return _beyond_chance(weights @ pairs / total, (shares**2).sum(axis=1))


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    room = 1 - expected
    return np.divide(observed - expected, room, out=np.full_like(room, np.nan), where=room > 1e-12)


def _rows(reader: str, readings: list[pd.DataFrame], truth: pd.DataFrame) -> list[tuple]:
    """`reader, question, group, metric, value, ci_low, ci_high, count, images` of one reader, or of several as one."""
    rows: list[tuple] = []
    for question, other in (QUESTIONS, QUESTIONS[::-1]):
        options = _options(truth, question)
        given = np.array([reading[question] for reading in readings])  # [readers, cases]
        true = truth[question].to_numpy()
        for group in (ALL, *_options(truth, other)):
            asked = np.ones(len(truth), dtype=bool) if group == ALL else (truth[other] == group).to_numpy()
            rows.append((reader, question, group, "accuracy", *_share((given == true)[:, asked])))
            for is_ in options:
                chosen = asked & (true == is_)
                for said in options:
                    rows.append((reader, question, group, f"{is_} as {said}", *_share(given[:, chosen] == said)))
        if len(readings) > 1:
            rows.append((reader, question, ALL, *_agreement(given, options)))
    seconds = float(np.median([reading["seconds"] for reading in readings]))
    rows.append((reader, "both", ALL, "median_seconds", seconds, np.nan, np.nan, pd.NA, len(truth)))
    return rows


def _share(hits: np.ndarray) -> tuple[float, float, float, int, int]:
    """`value, ci_low, ci_high, count, images` of hits [readers, images]."""
    readers, images = hits.shape
    count = int(hits.sum())
    value = count / hits.size if hits.size else np.nan
    return value, *wilson_interval(count / readers, images), count, images * readers


def _agreement(given: np.ndarray, options: tuple[str, ...]) -> tuple[str, float, float, float, object, int]:
    """`metric, value, ci_low, ci_high, count, images` of the answers [readers, images]."""
    codes = pd.Index(options).get_indexer(given.ravel()).reshape(given.shape)
    name, kappa = ("cohen_kappa", cohen_kappa) if len(given) == 2 else ("fleiss_kappa", fleiss_kappa)
    images = given.shape[1]
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=_RESAMPLES)
    resampled = kappa(codes, drawn.astype(float))
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [0.025, 0.975]) if len(resampled) else (np.nan, np.nan)
    return name, kappa(codes, np.ones((1, images)))[0], low, high, pd.NA, images


def _options(truth: pd.DataFrame, question: str) -> tuple[str, ...]:
    """The possible answers to a question; classes in the order of the alphabet."""
    return ORIGINS if question == "origin" else tuple(sorted(truth["label"].unique()))


def _signed_rows(table: pd.DataFrame) -> Iterable[Sequence[str]]:
    return table[["case", "origin", "label", "seconds"]].itertuples(index=False)


def _read_csv(path: str | Path, columns: list[str]) -> pd.DataFrame:
    """A CSV as text, whatever program saved it last. Raises DataError if it is unreadable or has other columns."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except UNREADABLE as error:
        found = "no such file" if not Path(path).exists() else " ".join(str(error).split())
        raise DataError(f"{path}: file: found {found}, allowed: a CSV with the columns {', '.join(columns)}") from error
    if list(table.columns) != columns:
        raise DataError(f"{path}: columns: found {', '.join(table.columns)}, allowed: {', '.join(columns)}")
    return table
