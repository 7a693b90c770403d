"""Exact columns for programs, readable cells for people, and honest verdicts beside the papers."""

import numpy as np
import pandas as pd
import pytest

from scangan.facts import Facts
from scangan.report.classification_tables import (
    calibration_table,
    classification_table,
    differences_markdown,
    write_classification,
)
from scangan.report.paper_comparison import COLUMNS, compare_with_papers, read_papers, write_comparison
from scangan.report.tables import (
    cohort_table,
    copies_note,
    duplicates_note,
    fewest_held_out,
    fidelity_table,
    judge_table,
    networks_table,
    scans_note,
    to_markdown,
    write_fidelity,
    write_table,
)

METRIC = "expected_calibration_error"


def scores(arms=("synthetic", "real")):
    metrics = ("accuracy", "sensitivity", "specificity", "f1", "auc", "brier", "expected_calibration_error")
    rows = [
        (arm, metric, 0.82, 0.75, 0.88, 3, 22, 0.21 if metric.startswith("expected") else np.nan)
        for arm in arms
        for metric in metrics
    ]
    return pd.DataFrame(
        rows, columns=["arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "if_calibrated"]
    )


def comparisons(trainings=3, generators=1):
    table = pd.DataFrame({"metric": ["accuracy", "sensitivity", "specificity", "f1", "auc"]})
    p_holm = np.where(table["metric"] == "auc", 0.031 if trainings > 1 else np.nan, np.nan)
    return table.assign(
        **{"arm": "synthetic", "against": "real", "counterpart": True, "best": True, "p_holm": p_holm},
        **{"difference": -0.05, "difference_low": -0.12, "difference_high": 0.02, "detectable": 0.09},
        **{"trainings": trainings, "against_trainings": 3, "generators": generators},
    )


def classification(data="phantom", scale="demo", pretrained="none", unconverged=None, **arguments):
    facts = Facts("head_ct", data, scale, pretrained=pretrained)
    steps = pd.DataFrame({"arm": ["real", "synthetic"], "steps": [60, 45.5], "steps_least": 60, "steps_most": 60})
    steps.loc[1, "steps_least"] = 31
    return classification_table(scores(**arguments), comparisons(), steps, unconverged or {}, facts)


def fidelity(data="phantom", scale="demo", extractor="efficientnet-lite0"):
    metrics = ["energy_distance", "kid", "fid", "inception_score", "precision", "recall"]
    metrics += ["radiomics_distance", "frd", "encoder_distance"]
    numbers = {"value": 35.123, "ci_low": 30.0, "ci_high": 40.0, "images": 28, "reference": 20.0}
    table = pd.DataFrame({"metric": metrics, **numbers, "reference_low": 18.0, "reference_high": 22.0})
    whole = table.assign(ci_low=np.nan, ci_high=np.nan, reference_low=np.nan)
    found = [("suspected_copies", 0.025, 0.004, 0.129, 40, 0.05)]
    found += [(f"planted_{kind}", share, 0.9, 1, 144, np.nan) for kind, share in (("exact", 1), ("blurred", 0.975))]
    copies = pd.DataFrame(found, columns=table.columns[:6])
    variants = {"dcgan32/haemorrhage": table, "dcgan32/all": pd.concat([whole, copies])}
    scores = pd.concat([rows.assign(variant=variant) for variant, rows in variants.items()], ignore_index=True)
    return fidelity_table(scores, Facts("head_ct", data, scale, extractor))


def judge(data="phantom", scale="demo", pretrained="none", images=100):
    shares = [("1", 0.25), ("2", 0.45), ("mean", 0.35)]
    rows = [(f"{gan}/covid", name, share) for gan in ("dcgan224", "other") for name, share in shares]
    rows += [("real/covid", "mean", 0.8), ("real/normal", "mean", 0.1)]
    table = pd.DataFrame(rows, columns=["variant", "set", "value"])
    table = table.assign(metric="judged_positive", ci_low=0.2, ci_high=0.5, images=images, seeds=3)
    table.loc[table["set"] == "mean", "images"] = 10 * images
    return judge_table(table, Facts("covid_ct", data, scale, pretrained=pretrained))


def test_classification_has_the_columns_of_the_contract_and_the_order_of_the_arms():
    table = classification()
    assert ", ".join(table.columns) == (
        "study, arm, metric, value, ci_low, ci_high, seeds, cases, difference, difference_low, difference_high, "
        "against, detectable, p_holm, steps, steps_least, steps_most, converged, data, scale, pretrained"
    )
    assert list(table["arm"].unique()) == ["real", "synthetic"]
    assert list(table["metric"].unique()) == ["accuracy", "sensitivity", "specificity", "f1", "auc"]
    calibration = calibration_table(scores(), Facts("head_ct", "phantom", "demo", pretrained="none"))
    assert ", ".join(calibration.columns) == (
        "study, arm, metric, value, ci_low, ci_high, seeds, cases, if_calibrated, data, scale, pretrained"
    )
    assert "0.820 [0.750, 0.880] (if calibrated 0.210)" in to_markdown(calibration, "arm", decimals={METRIC: 3})
    assert list(calibration["metric"].unique()) == ["brier", "expected_calibration_error"]


def test_fidelity_has_the_columns_of_the_contract_and_a_row_for_copies():
    table = fidelity()
    assert ", ".join(table.columns) == (
        "study, variant, metric, value, ci_low, ci_high, images, reference, extractor, data, scale, "
        "reference_low, reference_high, plus_minus, trainings"
    )
    copies = table[table["metric"] == "suspected_copies"]
    assert list(copies["variant"]) == ["dcgan32/all"]
    assert copies.iloc[0]["images"] == 40
    assert copies.iloc[0]["reference"] == 0.05


def test_cohort_counts_images_patients_and_rejections():
    split = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "patient_id": ["p1", "p1", "p2", "p3", "p4", "p5"],
            "label": ["normal"] * 3 + ["haemorrhage"] * 3,
            "split": ["train", "train", "test", "train", "validation", "test"],
        }
    )
    rejected = pd.DataFrame({"source": ["x", "y", "z"], "reason": ["empty", "no file", "empty"], "counted": True})
    table = cohort_table(split, rejected, Facts("head_ct", "real", "demo"))
    assert list(table.columns) == ["study", "split", "label", "images", "patients", "data", "scale"]
    counted = table.set_index(["split", "label"])[["images", "patients"]]
    assert counted.loc[("train", "normal")].tolist() == [2, 1]
    assert counted.loc[("rejected", "empty"), "images"] == 2
    assert list(table["split"].unique()) == ["train", "validation", "test", "rejected"]
    markdown = to_markdown(table, None)
    assert markdown.startswith("**head_ct; real data, demo scale**\n\n| split")
    assert "<NA>" not in markdown
    assert len(cohort_table(split, rejected[:0], Facts("head_ct", "real", "demo"))) == 5


def rows_of(markdown):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line.startswith("|")]


def test_classification_markdown(tmp_path):
    """The scores, below them the differences."""
    note = "1 of 200 images rejected: see rejected.csv\nA second line."
    table = classification(unconverged={"synthetic": 2, "real": 0})
    write_classification(table, comparisons(), tmp_path / "t.csv", tmp_path / "t.md", note)
    markdown = (tmp_path / "t.md").read_text()
    lines = markdown.splitlines()
    assert lines[0] == "**head_ct; phantom data, demo scale; 22 test images; seeds: 3; pretrained: none**"
    metrics = ["accuracy", "sensitivity", "specificity", "f1", "auc"]
    head, _, real, synthetic, pair_head, _, pair = rows_of(markdown)
    assert head == ["arm", "steps", "converged", *metrics]
    assert real == ["real", "60", "yes"] + ["0.82 [0.75, 0.88]"] * 5
    assert synthetic == ["synthetic", "46 (31 to 60)", "no"] + ["0.82 [0.75, 0.88]"] * 5
    assert pair_head == ["arm", "against", *metrics]
    difference = "-0.05 [-0.12, +0.02], could show 0.09"
    assert pair == ["synthetic", "real"] + [difference] * 4 + [f"{difference}, p = 0.031"]
    assert "Obuchowski and Rockette" in markdown
    assert "mean over trainings (least to most)" in markdown
    assert "raise classifier.steps" in markdown
    assert "single training" not in markdown
    assert markdown.endswith("\n\n1 of 200 images rejected: see rejected.csv\n\nA second line.\n")
    read = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    write_classification(classification(), comparisons(1), tmp_path / "t.csv", tmp_path / "t.md")
    markdown = (tmp_path / "t.md").read_text()
    assert "p = " not in markdown
    assert "Of an arm with a single training the interval of a difference covers the test patients alone" in markdown
    assert "raise classifier.steps" not in markdown


def test_differences_are_printed_as_long_as_there_are_any():
    assert differences_markdown(comparisons()[:0]) == []
    assert "[-0.12, +0.02], could show none" in differences_markdown(comparisons().assign(detectable=1.1))[0]
    assert "of one training of the generator" in differences_markdown(comparisons())[-1]
    assert "of 3 trainings of the generator" in differences_markdown(comparisons(generators=3))[-1]
    unvaried = comparisons().assign(difference_low=np.nan, difference_high=np.nan, detectable=np.nan, p_holm=np.nan)
    assert rows_of(differences_markdown(unvaried)[0])[2] == ["synthetic", "real"] + ["-0.05"] * 5


def test_fidelity_is_the_mean_over_the_trainings_of_a_network():
    once = pd.DataFrame({"variant": "dcgan32/all", "metric": ["fid", "frd"], "value": [10.0, 1.0], "images": 40})
    once = once.assign(ci_low=8.0, ci_high=12.0, reference=5.0, reference_low=4.0, reference_high=6.0)
    again = once.assign(value=[14.0, np.nan], ci_low=10.0, ci_high=18.0)
    facts = Facts("head_ct", "real", "demo", "efficientnet-lite0")
    fid, frd = fidelity_table(pd.concat([once, again]), facts).to_dict("records")
    assert (fid["value"], fid["ci_low"], fid["ci_high"]) == (12, 9, 15)
    assert fid["plus_minus"] == pytest.approx(8**0.5)
    assert (fid["images"], fid["reference"], fid["trainings"]) == (40, 5, 2)
    assert np.isnan(frd["value"])  # it is not the other training's
    other = pd.concat([once, once.assign(variant="other/all")])
    single = fidelity_table(other, facts)
    assert list(single["trainings"]) == [1] * 4
    assert single["plus_minus"].isna().all()
    pd.testing.assert_frame_equal(single[other.columns], other.reset_index(drop=True), check_like=True)


def test_fidelity_says_of_how_many_trainings_it_is():
    assert "One training of each network: no number here covers another one" in to_markdown(fidelity(), "variant")
    markdown = to_markdown(fidelity().assign(trainings=3, plus_minus=1.25), "variant")
    assert "35.1 ± 1.2 [30.0, 40.0] (real 20.0 [18.0, 22.0])" in markdown
    assert "Mean over so many trainings of a network: 3, ± their standard deviation" in markdown


def test_fidelity_markdown():
    markdown = to_markdown(fidelity(), "variant")
    assert "extractor: efficientnet-lite0" in markdown.splitlines()[0]
    assert "35.1 [30.0, 40.0] (real 20.0 [18.0, 22.0])" in markdown
    assert "35.1 (real 20.0)" in markdown  # without an interval
    assert "cannot be compared with published ones" in markdown
    assert "| dcgan32/all" in markdown
    assert "nan" not in markdown


def test_no_share_of_copies_stands_without_that_of_planted_ones(tmp_path):
    write_fidelity(fidelity(), tmp_path / "fidelity.csv", tmp_path / "fidelity.md", 0.01, "efficientnet-lite0")
    text = (tmp_path / "fidelity.md").read_text()
    assert "0.025 [0.004, 0.129] (real 0.050)" in text
    assert "Copies of 144 training images planted in dcgan32/all, share suspected: exact 1.00, blurred 0.97." in text
    assert "planted exact" not in text
    measured_by = fidelity().set_index("metric")["extractor"]
    assert set(measured_by["fid"]) == {"efficientnet-lite0"}
    assert measured_by["planted_exact"] == "pixels"
    assert set(measured_by["encoder_distance"]) == {"encoder"}
    assert {"planted_exact", "planted_blurred"} < set(pd.read_csv(tmp_path / "fidelity.csv")["metric"])


@pytest.mark.parametrize(("quantile", "fewest"), [(0.05, 19), (0.01, 99), (0.4, 2)])
def test_so_many_held_out_images_it_takes_for_a_quantile(quantile, fewest):
    assert fewest_held_out(quantile) == fewest
    assert 1 / (fewest + 1) <= quantile < 1 / fewest


def test_what_a_generator_was_trained_against_is_refused_by_name(tmp_path):
    table = fidelity()
    own = table["extractor"].isin(["radiomics", "encoder", "pixels"])
    refused = table[own | (table["variant"] != "dcgan32/all")]
    for rows, said in ((table, False), (refused, True)):
        write_fidelity(rows, tmp_path / "fidelity.csv", tmp_path / "fidelity.md", 0.01, "efficientnet-lite0")
        line = (
            "dcgan32/all: refused to efficientnet-lite0, against whose features the generator was trained; judged by "
            "radiomics and encoder instead."
        )
        assert (line in (tmp_path / "fidelity.md").read_text().splitlines()) == said
    none_left = refused[refused["variant"] == "dcgan32/all"]
    assert "Encoder distance: the headline by a small network" in to_markdown(none_left, "variant")


def test_judge_markdown():
    table = judge()
    assert ", ".join(table.columns) == (
        "study, variant, metric, set, value, ci_low, ci_high, images, seeds, data, scale, pretrained"
    )
    lines = to_markdown(table, "variant", "a note").splitlines()
    assert lines[0] == ("**covid_ct; phantom data, demo scale; judges: the arm `real`, seeds: 3; pretrained: none**")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[2], *lines[4:8])]
    assert cells == [
        ["variant", "judged positive", "lowest set", "highest set", "images"],
        ["dcgan224/covid", "0.35 [0.20, 0.50]", "0.25", "0.45", "1000"],
        ["other/covid", "0.35 [0.20, 0.50]", "0.25", "0.45", "1000"],
        ["real/covid", "0.80 [0.20, 0.50]", "", "", "1000"],
        ["real/normal", "0.10 [0.20, 0.50]", "", "", "1000"],
    ]
    assert "0.5: mean over seeds [95% interval" in lines[9]
    assert lines[-1] == "a note"


def test_tables_are_written_whole(tmp_path):
    table = classification()
    write_table(
        table, tmp_path / "tables" / "classification.csv", tmp_path / "tables" / "classification.md", "arm", "note"
    )
    read = pd.read_csv(tmp_path / "tables" / "classification.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert (tmp_path / "tables" / "classification.md").read_text() == to_markdown(table, "arm", "note")
    assert len(list((tmp_path / "tables").iterdir())) == 2


def test_head_ct_prints_no_figure():
    comparison = compare_with_papers({"head_ct": {"classification": classification(), "fidelity": fidelity()}})
    assert list(comparison.columns) == COLUMNS
    assert set(comparison["study"]) == {"head_ct"}
    real = comparison.set_index(["item", "metric"]).loc[("real", "accuracy")]
    assert np.isnan(real["paper"])
    assert real["ours"] == 0.82
    assert real["why_not"] == "the paper prints no figure; ours is the first; phantom data; demo scale"
    parameters = comparison[comparison["metric"] == "trainable_parameters"]
    assert sorted(parameters["paper"]) == [791169, 4870785]
    assert parameters["ours"].equals(parameters["paper"])
    assert set(parameters["comparable"]) == {"yes"}
    assert set(comparison["comparable"][comparison["metric"] != "trainable_parameters"]) == {"no"}


def test_the_comparison_is_written_in_plain_numbers(tmp_path):
    comparison = compare_with_papers({"head_ct": {"classification": classification(), "fidelity": fidelity()}})
    write_comparison(comparison, tmp_path / "comparison.csv", tmp_path / "comparison.md")
    markdown = (tmp_path / "comparison.md").read_text()
    assert " 4870785 " in markdown
    assert "phantom" in markdown
    assert "nan" not in markdown
    assert list(pd.read_csv(tmp_path / "comparison.csv").columns) == COLUMNS
    write_comparison(compare_with_papers({}), tmp_path / "empty.csv", tmp_path / "empty.md")
    assert list(pd.read_csv(tmp_path / "empty.csv").columns) == COLUMNS


@pytest.mark.parametrize(
    ("data", "scale", "pretrained", "why_not"),
    [
        ("real", "paper", "imagenet", ""),
        ("phantom", "demo", "imagenet", "phantom data; demo scale"),
        ("real", "custom", "none", "custom scale; another pretrained: none, the paper's imagenet"),
    ],
)
def test_what_makes_a_classifier_comparable(data, scale, pretrained, why_not):
    ours = classification(data, scale, pretrained).assign(study="brain_mr")
    comparison = compare_with_papers({"brain_mr": {"classification": ours}}).set_index(["item", "metric"])
    row = comparison.loc[("real", "accuracy")]
    assert (row["paper"], row["ours"], row["ci_low"]) == (0.9006, 0.82, 0.75)
    assert (row["comparable"], row["why_not"]) == ("no" if why_not else "yes", why_not)
    assert comparison.loc[("real+classical", "accuracy"), "why_not"] == "not measured in this run"


def test_fidelity_is_compared_only_with_its_own_extractor():
    ours = fidelity("real", "paper").assign(study="ct_sgan", variant="ct_sgan")
    row = compare_with_papers({"ct_sgan": {"fidelity": ours}}).set_index(["item", "metric"]).loc[("ct_sgan", "fid")]
    assert (row["paper"], row["paper_plus_minus"]) == (145.18, 25.97)
    assert "another extractor: efficientnet-lite0, the paper's inception-v3-compat" in row["why_not"]
    assert "another number of images" not in row["why_not"]  # the paper prints none
    by_inception = compare_with_papers({"ct_sgan": {"fidelity": ours.assign(extractor="inception-v3-compat")}})
    row = by_inception.set_index(["item", "metric"]).loc[("ct_sgan", "fid")]
    assert (row["comparable"], row["why_not"]) == ("yes", "")


def test_a_cohorts_images_stand_beside_the_papers():
    rows = [("train", "tumour", 5036), ("test", "tumour", 1500), ("rejected", "tumour", 3), ("rejected", "no file", 2)]
    cohort = pd.DataFrame(rows, columns=["split", "label", "images"]).assign(data="real", scale="paper")
    found = compare_with_papers({"brain_mr": {"cohort": cohort}}).set_index("item")
    assert found.loc["train/tumour", ["paper", "ours", "comparable"]].tolist() == [5036, 5036, "yes"]
    assert found.loc["test/tumour", ["paper", "ours"]].tolist() == [1575, 1500]
    assert found.loc["test/non_tumour", "why_not"] == "not measured in this run"
    covid = pd.DataFrame([("train", "covid", 300), ("unused", "covid", 49)], columns=["split", "label", "images"])
    found = compare_with_papers({"covid_ct": {"cohort": covid.assign(data="real", scale="paper")}}).set_index("item")
    assert found.loc["all/covid", ["paper", "ours"]].tolist() == [349, 349]


def test_the_judges_share_is_found_in_the_row_of_all_sets(tmp_path):
    judge("real", "paper").to_csv(tmp_path / "judge.csv", index=False)
    read = pd.read_csv(tmp_path / "judge.csv")
    row = compare_with_papers({"covid_ct": {"judge": read}}).set_index(["item", "metric"])
    found = row.loc[("dcgan224/covid", "judged_positive")]
    assert (found["paper"], found["ours"], found["ci_low"], found["data"]) == (0.4, 0.35, 0.2, "real")
    published = "another judge: the paper's is the one that the data set's authors published"
    assert (found["comparable"], found["why_not"]) == ("no", published)
    asked = compare_with_papers({"covid_ct": {"judge": read.assign(pretrained="published")}}).set_index("metric")
    assert asked.loc["judged_positive", "comparable"] == "yes"
    fewer = compare_with_papers({"covid_ct": {"judge": judge(images=30)}}).set_index("metric").loc["judged_positive"]
    assert fewer["why_not"] == f"phantom data; demo scale; {published}; another number of images"


def test_covid_cts_judge_stands_beside_that_of_the_sets_authors():
    ours = classification("real", "paper").assign(study="covid_ct")
    rows = compare_with_papers({"covid_ct": {"classification": ours}}).set_index(["item", "metric"])
    for metric, paper in (("accuracy", 0.89), ("f1", 0.85), ("auc", 0.94)):
        row = rows.loc[("real", metric)]
        assert (row["paper"], row["ours"], row["comparable"]) == (paper, 0.82, "no")
        assert row["why_not"].startswith("another training: theirs ")


def test_what_the_covid_ct_paper_claims_and_what_its_widths_give():
    rows = compare_with_papers({"covid_ct": {}})
    rows = rows[rows["metric"] == "trainable_parameters"].set_index("item")
    assert rows.loc["dcgan224 generator", ["paper", "ours"]].tolist() == [30_000_000, 115_497_411]
    assert rows.loc["dcgan224 discriminator", ["paper", "ours"]].tolist() == [5_000_000, 100_447_681]
    assert set(rows["comparable"]) == {"no"}
    assert set(rows["why_not"]) == {"the widths that the paper prints do not give the number that it claims"}


def test_only_the_studies_passed_in_appear():
    assert compare_with_papers({}).empty
    assert compare_with_papers({"mine": {"classification": classification()}}).empty
    both = compare_with_papers({study: {"classification": classification()} for study in ("head_ct", "covid_ct")})
    assert list(both["study"].unique()) == ["head_ct", "covid_ct"]


def test_every_printed_figure_names_its_source():
    papers = read_papers()
    assert set(papers) == {"head_ct", "brain_mr", "covid_ct", "ct_sgan", "simple_ct_gan"}
    for paper in papers.values():
        for figure in paper["figures"]:
            assert {"source", "metric", "value"} <= set(figure)
            optional = {"arm", "diameter_mm", "variant", "plus_minus", "images", "note", "why_not", "judge"}
            optional |= {"part", "label"}
            assert set(figure) <= {"source", "metric", "value"} | optional
            assert len({"arm", "variant", "part"} & set(figure)) == 1


def test_networks_show_the_settings_in_which_they_differ():
    own = {"model": "m", "weights_of": None, "kernel_size": 3, "image_size": 40, "training_images": 129, "epochs": 20}
    penalty = {"gradient_penalty": {"kind": "none"}}
    settings = {
        "baseline": own | penalty,
        "kernel_5": own | penalty | {"kernel_size": 5, "epochs": 9},
        "at_64": own | {"gradient_penalty": {"kind": "r1"}, "weights_of": "baseline", "image_size": 64},
    }
    facts = {"image_size": 40, "training_images": 100, "steps": 7}
    described = {"baseline": facts, "kernel_5": facts | {"steps": 9}, "at_64": facts}
    variants = [f"{gan}/{label}" for gan in settings for label in ("all", "chest")]
    rows = [(name, "fid", float(number), 1.0, 2.0, 10, 3.0) for number, name in enumerate(variants)]
    columns = ["variant", "metric", "value", "ci_low", "ci_high", "images", "reference"]
    fidelity = fidelity_table(
        pd.DataFrame(rows, columns=columns).assign(reference_low=0, reference_high=2),
        Facts("simple_ct_gan", "real", "paper", "x"),
    )
    table = networks_table(fidelity, settings, described)
    assert list(table.columns[:6]) == ["study", "network", "weights_of", "kernel_size", "image_size", "steps"]
    assert table.columns[6] == "metric"
    assert list(table["network"]) == list(settings)
    assert list(table["value"]) == [0, 2, 4]
    assert list(table["kernel_size"]) == [3, 5, 3]
    assert list(table["image_size"]) == [40, 40, 64]
    assert list(table["steps"]) == [7, 9, 7]
    text = to_markdown(table, "network")
    assert "| network" in text
    assert "kernel size" in text
    assert "real data, paper scale" in text


def test_scans_that_are_left_out_are_told_from_those_rejected():
    rejected = pd.DataFrame(
        {
            "source": ["a", "b", "c"],
            "reason": ["missing slices", "not DICOM", "not DICOM"],
            "remedy": "x",
            "counted": [True, False, False],
        }
    )
    split = pd.DataFrame({"image_id": ["1"], "patient_id": ["p"], "label": ["chest"], "split": ["train"]})
    table = cohort_table(split, rejected, Facts("s", "real", "demo"))
    assert table[["split", "label", "images"]].to_numpy().tolist() == [
        ["train", "chest", 1],
        ["rejected", "missing slices", 1],
        ["left out", "not DICOM", 2],
    ]
    scans = pd.DataFrame({"patient_id": ["p", "p", "q"], "lung_check": ["", "one lung only", ""]})
    assert scans_note(scans, rejected, "rejected.csv").splitlines() == [
        "3 scans of 2 patients",
        "1 of 4 scans rejected (1 missing slices): see rejected.csv",
        "2 other files or series left out (2 not DICOM): see rejected.csv",
        "lung mask failed in 1 of 3 scans; their slices are from the volume's middle",
    ]
    # Slices that are copies are no scans.
    slices = ("identical to another image", "near-identical to images of another class")
    copies = pd.DataFrame({"source": "z", "reason": slices, "remedy": "x", "counted": True})
    with_copies = pd.concat([rejected, copies], ignore_index=True)
    assert scans_note(scans, with_copies, "rejected.csv") == scans_note(scans, rejected, "rejected.csv")


def duplicates_of(rows):
    columns = ["kind", "what", "group", "image_id", "patient_id", "label", "action"]
    return pd.DataFrame([(kind, what, *rest) for kind, what, *rest in rows], columns=columns)


IDENTICAL, NEAR = ("identical", "images"), ("near-identical", "images")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no identical or near-identical images among 9 (compared at 32x32, threshold 0.95)"),
        (
            [
                *((*IDENTICAL, "a", name, f"p{name}", "x", "kept" if name == "a" else "dropped") for name in "abc"),
                *((*IDENTICAL, "d", name, "p", "x", "kept" if name == "d" else "dropped") for name in "de"),
                *((*NEAR, "f", name, f"p{name}", "x", "one patient") for name in "fg"),
            ],
            "2 groups of identical images (5): 3 dropped, 1 of them within a patient; "
            "1 group of near-identical images (2): kept as one patient each: see d.csv",
        ),
        (
            [
                *((*IDENTICAL, "a", name, f"p{name}", f"x{name}", "dropped") for name in "ab"),
                *((*IDENTICAL, "c", name, f"p{name}", "x", "kept" if name == "c" else "dropped") for name in "cd"),
            ],
            "1 group of identical images (2): in several classes, none kept; "
            "1 group of identical images (2): 1 dropped: see d.csv",
        ),
        (
            [(*IDENTICAL, "a", name, f"p{name}", "x", "allowed") for name in "ah"],
            "1 group of identical images (2): all kept: see d.csv\n"
            "in several parts: 1 group of identical images, first a (train) and h (test)",
        ),
    ],
)
def test_what_is_said_of_copies(rows, said):
    split = pd.DataFrame({"image_id": list("abcdefgh"), "split": ["train"] * 7 + ["test"]})
    assert duplicates_note(duplicates_of(rows), split, 9, "d.csv", image_size=32, threshold=0.95) == said


def test_what_is_said_of_copies_of_scans():
    split = pd.DataFrame({"image_id": list("ab"), "split": "train"})
    assert duplicates_note(duplicates_of([]), split, 2, "d.csv") == "no identical scans among 2"
    rows = [("identical", "scans", "a", name, name, "", action) for name, action in (("a", "kept"), ("b", "dropped"))]
    assert duplicates_note(duplicates_of(rows), split, 2, "d.csv") == (
        "1 group of identical scans (2): 1 dropped: see d.csv"
    )


def test_what_is_kept_is_not_among_the_rejected():
    split = pd.DataFrame({"image_id": ["1"], "patient_id": ["p"], "label": ["chest"], "split": ["train"]})
    reasons = ["identical to another image", "kept: near-identical to another image, one patient"]
    rejected = pd.DataFrame({"reason": reasons, "counted": [True, False]})
    table = cohort_table(split, rejected, Facts("s", "real", "demo"))
    assert table[["split", "label", "images"]].to_numpy().tolist() == [
        ["train", "chest", 1],
        ["rejected", "identical to another image", 1],
    ]


@pytest.mark.parametrize(("references", "named"), [((0.01, 0.01), ""), ((0.05, 0.01), "a"), ((0.05, 0.02), "a, b")])
def test_too_few_held_out_images_are_named_below_the_table(references, named):
    scores = pd.DataFrame({"variant": list("ab"), "metric": "suspected_copies", "reference": references})
    scores = pd.concat([scores, scores.assign(metric="fid", reference=9.0)])
    note = copies_note(scores, 0.01)
    assert note.startswith(f"Suspected copies of {named}: fewer than 99 held-out images") == bool(named)
    assert bool(note) == bool(named)
