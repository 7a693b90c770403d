"""What a number is of stands in its table and below its figure."""

import pandas as pd

from scangan.facts import Facts
from scangan.report.classification_tables import study_note

TABLE = pd.DataFrame({"value": [0.5, 0.7]})


def test_a_table_gets_what_is_known():
    table = Facts("head_ct", "phantom", "demo").assign(TABLE)
    assert table.to_dict("list") == {
        "value": [0.5, 0.7],
        "study": ["head_ct"] * 2,
        "data": ["phantom"] * 2,
        "scale": ["demo"] * 2,
    }
    measured = Facts("head_ct", "real", "paper", extractor="efficientnet-lite0", pretrained="none", positive="sick")
    table = measured.assign(TABLE)
    assert list(table) == ["value", "study", "data", "scale", "extractor", "pretrained"]
    assert set(table["extractor"]) == {"efficientnet-lite0"}
    assert set(table["pretrained"]) == {"none"}
    assert list(TABLE) == ["value"]


def test_the_footer_names_the_study_or_says_more():
    facts = Facts("head_ct", "phantom", "demo")
    assert facts.provenance == "phantom data, demo scale"
    assert facts.footer() == "phantom data, demo scale; head_ct"
    assert facts.footer("head_ct, dcgan32") == "phantom data, demo scale; head_ct, dcgan32"


def test_the_workflow_hands_them_on_by_name():
    params = {"data": "real", "positive": "covid", "scale": "custom", "study": "covid_ct"}
    assert Facts(**params) == Facts("covid_ct", "real", "custom", positive="covid")


def test_of_several_classes_they_say_what_is_told_apart():
    assert Facts("head_ct", "phantom", "demo", positive="sick").question == ""
    assert Facts("x", "real", "custom", positive="a", negatives=["b", "c"]).question == "a against b and c together"
    facts = Facts("x", "real", "custom", positive="a", negatives=["b", "c", "d"])
    assert facts.question == "a against b, c and d together"
    lines = study_note(facts).split()
    assert " ".join(lines[:8]) == "Positive: a against b, c and d together."
    assert "of a, b, c and d alike" in " ".join(lines)
