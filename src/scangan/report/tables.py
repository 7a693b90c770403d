"""The tidy tables that other programs read (CSV), and the wide ones that people read (Markdown)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scangan.data.duplicates import ALLOW, COPIED_IMAGE, DROP, ONE_PATIENT, count_groups, describe_divided
from scangan.data.split import FOLD, SPLITS, UNUSED, is_official, patients_on_both_sides
from scangan.facts import PUBLISHED, Facts
from scangan.files import atomic
from scangan.rejected import is_kept, rejected_note

SCORES_NOTE = (
    "Mean over trainings [95% interval, over trainings and test patients; of one training over the patients "
    "alone; none where nothing varies, or a class has a single patient]."
)
SCORE_COLUMNS = ["metric", "value", "ci_low", "ci_high", "seeds", "cases", "data", "scale", "pretrained"]
FIDELITY_COLUMNS = [
    *("study", "variant", "metric", "value", "ci_low", "ci_high", "images", "reference", "extractor", "data", "scale")
]
OVER_TRAININGS = ["plus_minus", "trainings"]  # of a network: their standard deviation, and number
BY_RADIOMICS = ["radiomics_distance", "frd", "radiomics_precision", "radiomics_recall"]
BY_ENCODER = "encoder_distance"
BY_PIXELS = ["suspected_copies", "leaked_held_out", "membership_auc"]
PLANTED = "planted_"  # metrics: the share that was found of planted copies of a kind
REFERENCE_INTERVAL = ["reference_low", "reference_high"]
TIDY_COLUMNS = {
    *SCORE_COLUMNS,
    *FIDELITY_COLUMNS,
    *REFERENCE_INTERVAL,
    *OVER_TRAININGS,
    "if_calibrated",
}  # what a wide table has in its cells
JUDGE_COLUMNS = [
    *("study", "variant", "metric", "set", "value", "ci_low", "ci_high", "images", "seeds"),
    *("data", "scale", "pretrained"),
]
SLICES_COLUMNS = ["study", "slices_are", "label_or_reason", "slices", "data", "scale"]
COHORT_COLUMNS = ["study", "split", "label", "images", "patients", "data", "scale"]
DECIMALS = {
    "fid": 1,
    "fid_coronal": 1,
    "fid_sagittal": 1,
    "fid_2.5d": 1,
    "fid_infinity": 1,
    "energy_distance": 3,
    "radiomics_distance": 3,
    BY_ENCODER: 3,
    "kid": 4,
    "suspected_copies": 3,
}


def fidelity_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`fidelity.csv` from the scores of `metrics.generators.evaluate_generators`, for all networks of a study.

    scores: of every training, one below the other. Numbers are means over the trainings, those of the interval too,
    which is that of a single one. plus_minus: standard deviation of the value over the trainings, NaN of one.
    extractor: what each row is measured by: the network that sees features, `radiomics`, `encoder`, or `pixels`.
    """
    table = facts.assign(_mean_over_trainings(scores))[[*FIDELITY_COLUMNS, *REFERENCE_INTERVAL, *OVER_TRAININGS]]
    table.loc[table["metric"].isin(BY_RADIOMICS), "extractor"] = "radiomics"
    table.loc[table["metric"] == BY_ENCODER, "extractor"] = "encoder"
    of_copies = table["metric"].isin(BY_PIXELS) | table["metric"].str.startswith(PLANTED)
    table.loc[of_copies, "extractor"] = "pixels"
    return table


def _mean_over_trainings(scores: pd.DataFrame) -> pd.DataFrame:
    groups = scores.groupby(["variant", "metric"], sort=False)
    numbers = ["value", "ci_low", "ci_high", "reference", *REFERENCE_INTERVAL]
    # A score that one of them lacks has no mean.
    table = groups[numbers].agg(lambda values: values.mean(skipna=False))
    spread = groups["value"].agg(lambda values: values.std(skipna=False))
    table = table.assign(images=groups["images"].first(), plus_minus=spread, trainings=groups.size())
    return table.reset_index()


def write_fidelity(
    tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path, copy_quantile: float, extractor: str
) -> None:
    """Write what `fidelity_table` returns; what was found of planted copies stands below the Markdown table.

    extractor: the network that sees features, which may have been refused some variants.
    """
    notes = refused_note(tidy, extractor), planted_note(tidy), copies_note(tidy, copy_quantile)
    write_hiding_planted(tidy, csv_path, md_path, "\n".join(filter(None, notes)))


def write_hiding_planted(tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path, note: str) -> None:
    """Write a table a row a variant; what was found of planted copies is in the CSV alone."""
    shown = tidy[~tidy["metric"].str.startswith(PLANTED)]
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        markdown.write_text(to_markdown(shown, "variant", note), encoding="utf-8")


def refused_note(fidelity: pd.DataFrame, extractor: str) -> str:
    """The line that names the variants which the extractor may not judge, and by whom they are judged instead."""
    judged = fidelity.groupby("variant", sort=False)["extractor"].agg(set)
    refused = [variant for variant, judges in judged.items() if extractor not in judges]
    if not refused:
        return ""
    others = " and ".join(name for name in ("radiomics", "encoder") if name in set(fidelity["extractor"]))
    return (
        f"{', '.join(refused)}: refused to {extractor}, against whose features the generator was trained; judged by "
        f"{others} instead."
    )


def planted_note(fidelity: pd.DataFrame, what: str = "images") -> str:
    """A line a variant: the share found of training images that were planted among the synthetic ones, by kind.

    what: images, or volumes.
    """
    planted = fidelity[fidelity["metric"].str.startswith(PLANTED)]
    lines = []
    for variant, rows in planted.groupby("variant", sort=False):
        shares = (f"{row.metric.removeprefix(PLANTED)} {row.value:.2f}" for row in rows.itertuples())
        count = rows["images"].iloc[0]
        lines.append(f"Copies of {count} training {what} planted in {variant}, share suspected: {', '.join(shares)}.")
    return "\n".join(lines)


def copies_note(scores: pd.DataFrame, quantile: float) -> str:
    """The line below a table of fidelity that names the variants with too few held-out images for the copy check.

    scores: `fidelity.csv` (`variant, metric, value, reference`).
    """
    copies = scores[scores["metric"] == "suspected_copies"]
    few = copies["variant"][copies["reference"] > quantile]
    if few.empty:
        return ""
    return (
        f"Suspected copies of {', '.join(few)}: fewer than {fewest_held_out(quantile)} held-out images that are no "
        f"copies themselves, too few for the quantile {quantile:g}; the nearest of them is the threshold."
    )


def fewest_held_out(quantile: float) -> int:
    """How many held-out images it takes for a threshold at a quantile of them: m with 1 / (m + 1) at most that."""
    return math.ceil(1 / quantile - 1e-9) - 1


def judge_table(shares: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`judge.csv` from what `metrics.judge.judge_sets` returns.

    facts: `pretrained` is of the judges; `published`: a judge that is not trained here.
    """
    return facts.assign(shares)[JUDGE_COLUMNS]


def networks_table(
    fidelity: pd.DataFrame, settings: dict[str, dict[str, Any]], described: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    """`networks.csv`: the fidelity of each network, all classes together, with the settings in which they differ.

    fidelity: `fidelity.csv`. settings: network -> its block of the configuration; described: network -> what was
    written beside the weights it draws with (`write_generator`), from which come the steps and the number of training
    images that there really were. A network without a training of its own has the settings of the other one.
    """
    rows = []
    for gan, own in settings.items():
        trained = settings[own["weights_of"]] if own["weights_of"] else own
        found = {name: described[gan][name] for name in ("image_size", "training_images", "steps")}
        given = {name: own[name] for name in ("weights_of", "image_size") if own[name] is not None}
        rows.append(trained | found | given)
    # The number of epochs means little beside the steps where the number of images differs.
    table = pd.json_normalize(rows).set_axis(list(settings)).drop(columns="epochs")
    table = table.map(lambda value: ", ".join(map(str, value)) if isinstance(value, list) else value)
    differ = table.columns[table.nunique(dropna=False) > 1]
    scores = fidelity[fidelity["variant"].isin([f"{gan}/all" for gan in settings])]
    scores = scores[~scores["metric"].str.startswith(PLANTED)]
    scores = scores.assign(network=scores["variant"].str.removesuffix("/all")).drop(columns="variant")
    joined = scores.merge(table[differ].rename_axis("network").reset_index(), on="network")
    return joined[["study", "network", *differ, *FIDELITY_COLUMNS[2:], *REFERENCE_INTERVAL, *OVER_TRAININGS]]


def cohort_table(split: pd.DataFrame, rejected: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Images and patients of each split and class, then a row for each reason of rejection (split `rejected`).

    split: `image_id, patient_id, label, split`; rejected: `reason, counted`: what is not counted (another modality, a
    file of another kind) is named `left out`; what is kept has no row. Patients of a rejected image are unknown (NA); a
    rejected scan or file counts as one.
    """
    parts = split.groupby(["split", "label"], as_index=False).agg(
        images=("image_id", "size"), patients=("patient_id", "nunique")
    )
    folds = sorted(set(parts["split"]) - {*SPLITS, UNUSED}, key=lambda name: int(name.removeprefix(FOLD.format(""))))
    parts["split"] = pd.Categorical(parts["split"], [*SPLITS, *folds, UNUSED])
    rejected = rejected[~is_kept(rejected)]
    fate = rejected["counted"].map({True: "rejected", False: "left out"})
    named = rejected.assign(split=fate, label=rejected["reason"])
    reasons = named.groupby(["split", "label"], as_index=False).size().rename(columns={"size": "images"})
    reasons = reasons.sort_values(["split", "label"], ascending=[False, True])
    table = pd.concat([parts.sort_values(["split", "label"]), reasons], ignore_index=True)
    return facts.assign(table).astype({"images": int, "patients": "Int64"})[COHORT_COLUMNS]


def slices_table(dropped: pd.DataFrame, manifest: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Slices of volumes: those taken, by class, then those dropped, by the first reason that held.

    dropped: `reason, slices`; manifest: `label` of those taken. Columns `study, slices_are, label_or_reason, slices,
    data, scale`.
    """
    taken = manifest.label.value_counts().sort_index()
    rows = [("taken", label, number) for label, number in taken.items()]
    rows += [("dropped", reason, number) for reason, number in dropped.itertuples(index=False)]
    table = pd.DataFrame(rows, columns=["slices_are", "label_or_reason", "slices"])
    return facts.assign(table)[SLICES_COLUMNS]


def split_note(split: pd.DataFrame, images: int) -> str:
    """The line below a table that says of a data set's own split whose patients it divides, and what it leaves out.

    images: of the cohort.
    """
    if not is_official(split):
        return ""
    line = f"official split: {patients_on_both_sides(split)} patients have images in several parts"
    if left_out := images - len(split):
        line += f"; {left_out} of {images} images are in no part, and left out (see the log of split_cohort)"
    return line


def duplicates_note(
    duplicates: pd.DataFrame,
    split: pd.DataFrame,
    images: int,
    path: str | Path,
    image_size: int | None = None,
    threshold: float | None = None,
) -> str:
    """The lines below a table that say which copies there were, what became of them, and where they are listed.

    duplicates: as `data.duplicates.Settled`; split: `image_id, split`; images: that are kept. image_size, threshold:
    with which images were compared; None: scans, of which only identical ones are looked for.
    """
    if duplicates.empty and image_size is None:
        return f"no identical scans among {images}"
    if duplicates.empty:
        compared = f"compared at {image_size}x{image_size}, threshold {threshold:g}"
        return f"no identical or near-identical images among {images} ({compared})"
    groups = duplicates.assign(dropped=duplicates["action"] == DROP).groupby(["kind", "what", "group"], sort=False)
    groups = groups.agg(
        images=("image_id", "size"),
        patients=("patient_id", "nunique"),
        dropped=("dropped", "sum"),
        action=("action", "last"),
    )
    # Of a group in several classes, and of no other one, even the first is dropped.
    groups["action"] = groups["action"].mask(groups["dropped"] == groups["images"], "none kept")
    said = []
    for (kind, what, action), some in groups.groupby(["kind", "what", "action"], sort=False):
        dropped, of_one_patient = some["dropped"].sum(), some.loc[some["patients"] == 1, "dropped"].sum()
        fate = {
            DROP: f"{dropped} dropped" + (f", {of_one_patient} of them within a patient" if of_one_patient else ""),
            ONE_PATIENT: "kept as one patient each",
            ALLOW: "all kept",
            "none kept": "in several classes, none kept",
        }[action]
        said.append(f"{count_groups(len(some))} of {kind} {what} ({some['images'].sum()}): {fate}")
    return "\n".join([f"{'; '.join(said)}: see {path}", *describe_divided(duplicates, split)])


def scans_note(scans: pd.DataFrame, rejected: pd.DataFrame, path: str | Path) -> str:
    """The lines below a table that say how many scans were left out or lack a lung mask, and where they are listed.

    scans: a row a scan (`lung_check`: why the lung mask failed, or nothing); rejected: `reason`, `counted`, of which
    slices that are copies are no scans.
    """
    lines = [f"{len(scans)} scans of {scans['patient_id'].nunique()} patients"]
    rejected = rejected[~rejected["reason"].str.contains(COPIED_IMAGE)]
    lines += rejected_note(rejected, len(scans), "scans", path).splitlines()
    if failed := (scans["lung_check"] != "").sum():
        lines.append(f"lung mask failed in {failed} of {len(scans)} scans; their slices are from the volume's middle")
    return "\n".join(lines)


def to_markdown(
    tidy: pd.DataFrame, index: str | list[str] | None, note: str = "", decimals: Mapping[str, int] = DECIMALS
) -> str:
    """A wide table for people: a row for each value of `index` (`arm` or `variant`, or several), a column a metric.

    A cell reads `0.82 [0.75, 0.88]`, with `± 0.04` where there is a deviation, `(real 0.70)` where there is a
    reference, `(if calibrated 0.20)` where perfect calibration has a value; decimals: of the metrics whose numbers do
    not have 2.
    Without an index the rows are printed as they are. Of sets of images (`judge.csv`) the row `mean` is printed, beside
    it the lowest and the highest set. The heading names study, data and scale, and what else the rows share (cases,
    seeds, pretraining, extractor); below stand how to read it and the lines of `note`.
    """
    if "set" in tidy:
        wide = _means_of_sets(tidy, decimals)
    elif index is not None:
        keys = [index] if isinstance(index, str) else index
        cells = tidy.assign(cell=[_cell(row, decimals) for row in tidy.to_dict("records")])
        if len(keys) > 1:
            cells[keys] = cells[keys].astype(object).fillna("").map(_plain)
        rows = pd.MultiIndex.from_frame(cells[keys].drop_duplicates())
        wide = cells.set_index([*keys, "metric"])["cell"].unstack("metric")
        wide = wide.reindex(columns=tidy["metric"].unique()).fillna("")
        described = [column for column in tidy if column not in {*keys, *TIDY_COLUMNS}]
        for place, column in enumerate(described + ["images"] * ("images" in tidy)):
            wide.insert(place, column, cells.groupby(keys)[column].first().astype(object).fillna(""))
        wide = wide.loc[rows if len(keys) > 1 else rows.get_level_values(0)].reset_index()
    else:
        shared = [name for name in ("study", "data", "scale") if tidy[name].nunique() == 1]
        wide = tidy.drop(columns=shared).astype(object).fillna("").map(_plain)
    wide.columns = [name.replace("_", " ") for name in wide.columns]
    paragraphs = [
        f"**{_heading(tidy)}**",
        wide.to_markdown(index=False, disable_numparse=True),
        *_reading(tidy),
        *note.splitlines(),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def write_table(
    tidy: pd.DataFrame,
    csv_path: str | Path,
    md_path: str | Path,
    index: str | list[str] | None,
    note: str = "",
    decimals: Mapping[str, int] = DECIMALS,
) -> None:
    """Write a tidy table as CSV, and as Markdown by `to_markdown`; neither file is ever seen half-written."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        markdown.write_text(to_markdown(tidy, index, note, decimals), encoding="utf-8")


def _means_of_sets(judged: pd.DataFrame, decimals: Mapping[str, int]) -> pd.DataFrame:
    """A row for each variant of `judge.csv`: its mean, its lowest and highest set, and its images."""
    rows = []
    for variant, shares in judged.groupby("variant", sort=False):
        is_mean = shares["set"] == "mean"
        (mean,) = shares[is_mean].to_dict("records")
        sets = shares.loc[~is_mean, "value"].agg(["min", "max"])
        lowest, highest = ("" if pd.isna(value) else f"{value:.2f}" for value in sets)
        rows.append((variant, _cell(mean, decimals), lowest, highest, mean["images"]))
    (metric,) = judged["metric"].unique()
    return pd.DataFrame(rows, columns=["variant", metric, "lowest_set", "highest_set", "images"])


def _cell(row: dict, decimals: Mapping[str, int]) -> str:
    if pd.isna(row["value"]):
        return ""
    number = f"{{:.{decimals.get(row['metric'], 2)}f}}".format
    cell = number(row["value"])
    if pd.notna(row.get("plus_minus")):
        cell += f" ± {number(row['plus_minus'])}"
    if pd.notna(row["ci_low"]):
        cell += f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    if pd.notna(row.get("if_calibrated")):
        cell += f" (if calibrated {number(row['if_calibrated'])})"
    if pd.notna(row.get("reference")):
        cell += f" (real {number(row['reference'])}"
        if pd.notna(row.get("reference_low")):
            cell += f" [{number(row['reference_low'])}, {number(row['reference_high'])}]"
        cell += ")"
    return cell


def _plain(value: object) -> object:
    """Numbers as people write them: 4870785, 0.9006."""
    if not isinstance(value, float):
        return value
    return f"{value:.0f}" if value.is_integer() else f"{value:.5g}"


def _heading(tidy: pd.DataFrame) -> str:
    def values(column: str) -> str:
        return ", ".join(str(value) for value in tidy[column].unique())

    parts = [values("study"), f"{values('data')} data, {values('scale')} scale"]
    if "cases" in tidy:
        parts += [f"{values('cases')} test images", f"seeds: {values('seeds')}"]
        parts += [f"pretrained: {values('pretrained')}"] if "pretrained" in tidy else []
    if "set" in tidy:
        parts += (
            ["judge: published"]
            if set(tidy["pretrained"]) == {PUBLISHED}
            else [f"judges: the arm `real`, seeds: {values('seeds')}", f"pretrained: {values('pretrained')}"]
        )
    if "extractor" in tidy:
        parts.append(f"extractor: {values('extractor')}")
    return "; ".join(parts)


def _reading(tidy: pd.DataFrame) -> list[str]:
    """How the numbers of a table are to be read."""
    if "cases" in tidy:
        return [SCORES_NOTE]
    if "set" in tidy:
        return [
            "Share of images that classifiers trained on real images call positive, with a probability of at least "
            "0.5: mean over seeds [95% interval: bootstrap over seeds and images, real ones by patient]. Synthetic "
            "images are of each network's first training.",
            "Rows of `real`: the same classifiers on real test images of each class; what they say of synthetic images "
            "can only be read beside what they say of these.",
        ]
    if "extractor" in tidy and "radiomics_distance" in set(tidy["metric"]) and "trainings" in tidy:
        counts = ", ".join(map(str, sorted(tidy.loc[tidy["metric"] == "frd", "images"].unique())))
        by_encoder = [
            "Encoder distance: the headline by a small network that learnt of one half of the training patients; real: "
            "of the other half, which it never saw."
        ]
        return [
            _trainings_note(tidy),
            "Energy distance (0: the same distribution; at most 1) and KID: to held-out real images, unbiased at any "
            "number of images, so that they may be negative [95%: bootstrap over images and patients]; real: of the "
            "training images, which stand for a perfect generator.",
            f"The others: to the training images, from {counts} images [95%: random halves]; real: of held-out real "
            "images. The number of images and the extractor are part of such a score: these cannot be compared with "
            "published ones. FID infinity extrapolates to infinitely many images: trust it, and FID, only with more "
            "images than the extractor has features; with fewer, FID prefers a generator that lacks variety.",
            "Radiomics distance: the same headline by a referee that never saw a photograph: grey values, pairs, runs, "
            "zones and neighbourhoods; FRD: the logarithm of their Frechet distance, biased for small sets as FID; "
            "precision and recall by the same numbers.",
            *(by_encoder if BY_ENCODER in set(tidy["metric"]) else []),
            "Suspected copies: share of synthetic images that, laid over a training image, agree with it more than "
            "nearly all held-out real ones do [95% Wilson interval]; real: the share expected of real images. Leaked "
            "held-out: share of held-out images that are training images themselves; they set no threshold.",
            "Membership AUC: probability that a training image is nearer to the synthetic ones than a held-out one is "
            "[95%: bootstrap over patients]; 0.5: nothing is told of the training images.",
        ]
    return []


def _trainings_note(fidelity: pd.DataFrame) -> str:
    """Whether a table of fidelity speaks of one training of each network, or of several."""
    counts = fidelity["trainings"].unique()
    if counts.max() == 1:
        return "One training of each network: no number here covers another one (gan.*.seeds)."
    said = ", ".join(map(str, sorted(counts)))
    return (
        f"Mean over so many trainings of a network: {said}, ± their standard deviation; an interval is that of one "
        "training, on average."
    )
