"""The page that a run ends in: what it says, and that it says it honestly."""

import html
import json
import re

import pandas as pd
import pytest
import yaml
from PIL import Image

from scangan.report.page import write as page_module
from scangan.report.page.markdown import as_html
from scangan.report.page.methods import FOR_THE_AUTHOR, bibtex, checklist_of
from scangan.report.page.pictures import difference_text, embedded, forest_alt
from scangan.report.page.run import describe_run, length_of_union, software_of
from scangan.report.page.trust import summary, trust_in
from scangan.report.page.write import LARGEST, TEXTS, duration, write_page
from scangan.report.paper_comparison import COLUMNS as PAPER_COLUMNS

SENTENCE = "It cannot be told whether synthetic images help: AUC of `real+synthetic` is +0.03; <b> & 'so'."
CITATION = {
    "title": "Scangan",
    "version": "1.2",
    "authors": [{"name": "The authors"}],
    "references": [
        {
            "type": "article",
            "notes": "The study mine.",
            "title": "A",
            "authors": [{"family-names": "Li", "given-names": "B"}],
        },
        {"type": "article", "notes": "The study other.", "title": "C", "authors": [{"name": "D"}]},
    ],
}


def score(metric, value, low, high, reference, variant="dcgan/all", **others):
    row = {"variant": variant, "metric": metric, "value": value, "ci_low": low, "ci_high": high, "reference": reference}
    return row | {"reference_low": reference - 0.01, "reference_high": reference + 0.01} | others


def fidelity(*rows):
    return {"fidelity": pd.DataFrame(rows)}


NEAR = score("energy_distance", 0.01, -0.01, 0.03, 0.0)
LIKE = [score("precision", 0.8, 0.7, 0.9, 0.9), score("coverage", 0.8, 0.7, 0.9, 0.9)]
LOST = [score("precision", 0.2, 0.1, 0.4, 0.9), score("coverage", 0.1, 0.0, 0.2, 0.9)]
FAR = score("energy_distance", 0.5, 0.4, 0.6, 0.0)


@pytest.mark.parametrize(
    ("rows", "grade"),
    [
        ([NEAR, *LIKE], "like real images"),
        ([FAR, *LIKE], "learnt something"),
        ([FAR, *LOST], "did not learn"),
        # An interval that reaches half of what real images have is no proof.
        ([FAR, LOST[0], score("coverage", 0.3, 0.1, 0.5, 0.9)], "learnt something"),
        ([FAR, score("precision", 0.3, 0.1, 0.5, 0.9), LOST[1]], "learnt something"),
        # Of few images these have no interval.
        ([FAR, *(each | {"ci_low": float("nan"), "ci_high": float("nan")} for each in LOST)], "did not learn"),
        # Volumes, and networks that the extractor may not judge, have distances alone.
        ([FAR], "did not learn"),
        ([score("energy_distance", 0.3, 0.2, 0.4, 0.0)], "learnt something"),
        ([score("radiomics_distance", 0.5, 0.4, 0.6, 0.0)], "did not learn"),
        # Images of one grey: near by radiomics, and far by what tells images apart.
        (
            [score("radiomics_distance", 0.08, 0.05, 0.11, 0.0), score("encoder_distance", 0.77, 0.76, 0.79, 0.0)],
            "did not learn",
        ),
        ([NEAR | {"variant": "dcgan"}], "like real images"),
        ([NEAR | {"variant": "another/all"}], "not measured"),
    ],
)
def test_what_a_generator_is_called(rows, grade):
    assert trust_in("dcgan", fidelity(*rows)).grade == grade


def test_what_stands_beside_the_grade():
    copies = [score("suspected_copies", 0.02, 0, 0.1, 0.01), score("planted_exact", 1.0, 1, 1, 0)]
    copies.append(score("planted_shifted", 0.25, 0, 0, 0))
    screening = pd.DataFrame([score("unrealistic", 0.6, 0.5, 0.7, 0.05)])
    trust = trust_in("dcgan", fidelity(FAR, *LOST, *copies) | {"screening": screening})
    assert trust.lead == "The generator `dcgan` did not learn: the arms with its images say nothing."
    assert trust.facts == (
        "Beside held-out real images: energy distance 0.500 [0.400, 0.600] (real 0.000); precision 0.20 [0.10, 0.40] "
        "(real 0.90); coverage 0.10 [0.00, 0.20] (real 0.90).",
        "60% of its images look unrealistic (of real ones 5%).",
        "2.0% of its images are suspected to be copies of training images (of real ones 1.0% would be); the check "
        "finds planted copies that are exact, and misses shifted (25% found).",
    )
    assert trust_in("dcgan", fidelity(FAR), has_arms=False).lead.endswith("did not learn: its images say nothing.")
    assert summary([trust, trust_in("dcgan", fidelity(NEAR))]) == "did not learn: dcgan; like real images: dcgan"


def test_a_generator_of_few_kinds_of_images_is_told_before_its_arms_are_read():
    few = score("radiomics_recall", 0.08, 0.04, 0.12, 0.91)
    lead = trust_in("dcgan", fidelity(NEAR, few)).lead
    assert lead.endswith("Its images lack variety: 8% of real images lie among them (91% among other real ones).")
    # Not where the interval reaches half of what real images have, nor where the extractor's own recall says otherwise.
    for rows in ([few | {"ci_high": 0.46}], [few, score("recall", 0.7, 0.6, 0.8, 0.9)]):
        assert "variety" not in trust_in("dcgan", fidelity(NEAR, *rows)).lead


def test_markdown_becomes_a_table_with_headers_and_its_signs_stay_signs():
    found = as_html(
        "**mine; phantom data**\n\n| arm | auc |\n|:--|:--|\n| <i> | `a` |\n\nA note, **so**.", "mine: Scores"
    )
    assert "<caption>mine; phantom data</caption>" in found
    assert '<th scope="col">arm</th>' in found
    assert '<th scope="row">&lt;i&gt;</th><td><code>a</code></td>' in found
    assert "<p>A note, <strong>so</strong>.</p>" in found


def test_a_table_of_many_columns_is_laid_on_its_side_and_two_have_names_of_their_own():
    wide = "| variant | " + " | ".join("abcdefghi") + " |\n|--|\n| one | " + " | ".join("123456789") + " |"
    found = as_html(f"{wide}\n\n{wide}", "mine: Scores")
    assert '<th scope="col">variant</th><th scope="col">one</th>' in found
    assert '<th scope="row">i</th><td>9</td>' in found
    assert 'aria-label="mine: Scores"' in found
    assert 'aria-label="mine: Scores, 2"' in found


def test_time_in_which_jobs_ran_is_counted_once():
    assert length_of_union([(0, 10), (5, 12), (6, 7), (20, 21)]) == 13
    assert length_of_union([]) == 0
    assert [duration(seconds) for seconds in (12, 840, 4320)] == ["12 s", "14 min", "1 h 12 min"]


def test_the_run_is_described_from_what_it_left(tmp_path):
    (tmp_path / "mine/benchmarks").mkdir(parents=True)
    (tmp_path / "mine/benchmarks/score.tsv").write_text("s\th:m:s\n3.5\t0:00:03\n")
    run = describe_run(tmp_path, {"b": 1, "a": 2}, ["mine"], tmp_path)
    assert (run["seconds"], run["job_seconds"], run["jobs"], run["commit"]) == (3.5, 3.5, 1, None)
    assert run["config_sha256"] == describe_run(tmp_path, {"a": 2, "b": 1}, [], tmp_path)["config_sha256"]
    assert software_of(run | {"commit": "a" * 40}).startswith(f"Scangan {run['version']} (commit aaaaaaaaaaaa), torch ")


def test_who_is_cited():
    found = bibtex(CITATION, ["mine"])
    assert found.startswith(
        "@software{scangan,\n  title = {{Scangan}},\n  author = {{The authors}},\n  version = {1.2},"
    )
    assert "@article{mine,\n  title = {{A}},\n  author = {Li, B},\n}" in found
    assert "other" not in found


def test_the_checklist_says_what_is_for_the_author():
    items = [item for section in checklist_of(TEXTS["checklist"], {"aim": "To know."}) for item in section["items"]]
    told = [item["told"] for item in items]
    assert told.count("To know.") == 1
    assert told.count(FOR_THE_AUTHOR) == len(items) - 1


def comparison(difference, low, high, best=True, p=1.0):
    row = {"arm": "real+synthetic", "against": "real", "difference": difference, "best": best, "p_holm": p}
    return row | {"difference_low": low, "difference_high": high}


def test_a_difference_in_words():
    assert difference_text(comparison(0.03, -0.1, 0.16, p=0.5)) == "+0.03 [-0.10, +0.16], p = 0.500"
    narrow = comparison(0.0014, -0.002, 0.0049, p=0.32)  # two decimals would show no interval
    assert difference_text(narrow) == "+0.001 [-0.002, +0.005], p = 0.320"
    assert difference_text(comparison(0.03, None, None, p=None)) == "+0.03"
    assert "real+synthetic minus real: +0.03 [-0.10, +0.16], p = 1.000." in forest_alt(
        [comparison(0.03, -0.1, 0.16)], 0.02, "auc"
    )


def test_a_picture_is_made_smaller_and_never_larger(tmp_path):
    Image.new("RGB", (800, 200)).save(tmp_path / "a.png")
    assert embedded(tmp_path / "a.png", 400)[1:] == (400, 100)
    assert embedded(tmp_path / "a.png", 2000)[1:] == (800, 200)


STUDY = {
    "data": "phantom",
    "figures": ["dcgan/images", "roc"],
    "folds": [],
    "gans": ["dcgan"],
    "gans_of_arms": ["dcgan"],
    "method": {
        "classifier": {
            "arms": ["real"],
            "backbone": "resnet50",
            "batch_size": 4,
            "seeds": 2,
            "steps": 10,
            "margin": 0.02,
            "primary": "auc",
            "weights": "x",
        },
        "external": False,
        "extractor": "efficientnet-lite0",
        "gan": {
            "dcgan": {
                "batch_size": 4,
                "epochs": 3,
                "steps": None,
                "model": "dcgan32",
                "trainings": 1,
                "validations": 2,
                "weights_of": None,
            }
        },
        "labels": ["ill", "well"],
        "roots": ["mine"],
        "size": "32 x 32 pixels",
        "split": "by_patient",
        "synthetic": "8 synthetic images of each class",
    },
    "scale": "demo",
    "sources": ["mine"],
    "tables": ["cohort", "fidelity", "classification"],
    "exported": "dcgan/ill",
    "volumes": False,
}
RUN = {"version": "1.2", "commit": None, "changed": False, "written": "today", "seconds": 60, "jobs": 3}
RUN |= {"job_seconds": 90, "software": "Scangan 1.2."}


@pytest.fixture
def results(tmp_path):
    """A small study's folder of results."""
    tables = tmp_path / "mine/tables"
    (tmp_path / "mine/figures/dcgan").mkdir(parents=True)
    tables.mkdir()
    for name in STUDY["figures"]:
        Image.effect_noise((300, 200), 90).save(tmp_path / f"mine/figures/{name}.png")
    cohort = {"split": ["train", "rejected"], "label": ["ill", "broken"], "images": [9, 1], "patients": [9, None]}
    written = {
        "cohort": pd.DataFrame(cohort),
        "fidelity": pd.DataFrame([FAR, *LOST]),
        "classification": pd.DataFrame([score("auc", 0.7, 0.6, 0.8, 0, arm="real")]),
    }
    for name, table in written.items():
        table.to_csv(tables / f"{name}.csv", index=False)
        (tables / f"{name}.md").write_text(f"**mine**\n\n{table.to_markdown(index=False)}\n")
    verdict = {"outcome": "cannot be told", "sentence": SENTENCE, "folds": 1, "primary": "auc", "margin": 0.02}
    verdict |= {"arm": "real+synthetic", "against": "real", "unconverged": {"real": 2}, "networks": {}}
    verdict["comparisons"] = [comparison(0.03, -0.1, 0.16), comparison(0.5, -1.0, 1.0, best=False)]
    (tmp_path / "mine/verdict.json").write_text(json.dumps(verdict))
    return tmp_path


PAPERS = pd.DataFrame(
    [
        ["mine", "Li: table 1", "real", "auc", 0.7, None, 0.7, 0.6, 0.8, "real", "paper", "yes", ""],
        ["mine", "Li: table 2", "real", "f1", 0.6, None, None, None, None, "phantom", "demo", "no", "phantom data"],
    ],
    columns=PAPER_COLUMNS,
)


def written(results, path="index.html", study=STUDY):
    write_page(results / path, results, {"mine": study}, PAPERS, RUN, CITATION)
    return (results / path).read_text()


def words(page):
    """What a reader sees, without marks."""
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def test_the_page_is_honest_and_in_order(results):
    page = written(results)
    said = words(page)
    order = [
        "Phantom data, demo scale.",
        "The generator dcgan did not learn: the arms with its images say nothing.",
        SENTENCE,
        "Real and synthetic, side by side",
        "Who was in",
        "Beside the paper",
        "Not comparable (1): phantom data",
        "--config results=results-real data_roots='{mine: path/to/mine}'",
        "studies: {mine: {gan: {dcgan: {epochs: 15}}}}",
        "studies: {mine: {classifier: {steps: 50}}}",
        "snakemake results/mine/exported/dcgan/ill",
        "mine: Phantom data (mine), demo scale.",
        "the weights of dcgan were chosen by validation data",
    ]
    places = [said.find(each) for each in order]
    assert -1 not in places
    assert places == sorted(places)
    assert said.index("9 train") < said.index("1 rejected (broken)")
    assert 'alt="Receiver operating characteristic' in page
    assert "auc of real 0.70 [0.60, 0.80]" in page
    assert all(yaml.safe_load(line) for line in re.findall(r"studies: \{.*", said))


def test_folds_are_judged_together_and_the_first_is_shown(results):
    folds = ["mine/fold0", "mine/fold1"]
    for fold, rows in zip(folds, ([FAR, *LOST], [FAR, *LIKE]), strict=True):
        (results / fold / "tables").mkdir(parents=True)
        (results / fold / "figures/dcgan").mkdir(parents=True)
        pd.DataFrame(rows).to_csv(results / fold / "tables/fidelity.csv", index=False)
        Image.new("RGB", (30, 20)).save(results / fold / "figures/dcgan/images.png")
    page = written(results, study=STUDY | {"folds": folds, "figures": ["roc"], "tables": ["cohort", "classification"]})
    assert "Means over 2 folds" in page
    assert "The generator dcgan learnt something" in words(page)  # in one fold
    assert "precision 0.50 [0.10, 0.90] (real 0.90)" in page
    assert "./mine/fold0/figures/dcgan/images.png" in page


def test_a_figure_and_a_table_without_words_have_their_names(results):
    for file in ("figures/a_new_one.png", "tables/another.csv", "tables/another.md"):
        old = {"png": "figures/roc.png", "csv": "tables/cohort.csv", "md": "tables/cohort.md"}[file.partition(".")[2]]
        (results / "mine" / file).write_bytes((results / "mine" / old).read_bytes())
    page = written(results, study=STUDY | {"figures": ["a_new_one"], "tables": [*STUDY["tables"], "another"]})
    assert 'alt="a new one."' in page
    assert "<summary>another</summary>" in page


def test_real_data_are_called_real(results):
    said = words(written(results, study=STUDY | {"data": "real", "scale": "paper"}))
    assert "Real data, paper scale." in said
    assert "Phantom" not in said
    assert "results-real" not in said


def test_nothing_is_asked_of_a_network_and_all_links_lead_somewhere(results):
    for path in ("index.html", "mine/index.html"):
        page = written(results, path)
        assert not re.findall(r"<(?:script|link|iframe)|url\(|@import", page)
        assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
        links = [link for link in re.findall(r'href="([^"]*)"', page) if not link.startswith("#")]
        missing = [link for link in links if not (results / path).parent.joinpath(link).exists()]
        assert set(missing) == {"run.json", f"{'.' if path == 'index.html' else '..'}/mine/cohort/rejected.csv"}


def test_the_page_stays_small(results, monkeypatch):
    whole = len(written(results))
    assert whole < LARGEST
    monkeypatch.setattr(page_module, "LARGEST", whole - 1000)
    assert len(written(results)) <= whole - 1000
