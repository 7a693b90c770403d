"""Which networks may not judge a generator: those by whose features it was trained."""

import json
from types import SimpleNamespace

import pytest

from scangan.config import MODELS
from scangan.errors import DataError
from scangan.models import catalogue
from scangan.models.catalogue import feature_networks, find_model, trained_against


@pytest.mark.parametrize(
    ("named", "expected"), [("efficientnet-lite0", ["efficientnet-lite0"]), (["b", "a"], ["a", "b"])]
)
def test_a_models_file_says_where_its_feature_networks_are_named(monkeypatch, named, expected):
    monkeypatch.setattr(catalogue, "find_model", lambda name: SimpleNamespace(TRAINED_AGAINST="critic.features"))
    settings = SimpleNamespace(model="made_up", critic=SimpleNamespace(features=named))
    assert feature_networks(settings) == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_says_nothing_was_trained_against_none(model):
    if not hasattr(find_model(model), "TRAINED_AGAINST"):
        assert feature_networks(SimpleNamespace(model=model)) == []


def test_it_is_read_of_the_descriptions_of_all_classes(tmp_path):
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, names in zip(files, ([], ["efficientnet-lite0"]), strict=True):
        file.write_text(json.dumps({"trained_against": names}))
    assert trained_against(files) == {"efficientnet-lite0"}
    assert trained_against(files[:1]) == set()
    files[0].write_text("{}")
    with pytest.raises(DataError, match=r"0.json: description: found .*trained_against.*, allowed: that of a trained"):
        trained_against(files)
