"""Which networks may not judge a generator: those by whose features it was trained."""

import json
from types import SimpleNamespace

import pytest

from scangan.config import MODELS
from scangan.errors import DataError
from scangan.models import catalogue
from scangan.models.catalogue import feature_networks, trained_against


def test_a_models_file_says_by_whose_features_it_is_trained(monkeypatch):
    monkeypatch.setattr(catalogue, "find_model", lambda name: SimpleNamespace(TRAINED_AGAINST=("a", "b")))
    assert feature_networks("made_up") == ["a", "b"]


def test_where_the_discriminator_can_be_chosen_it_says_so_for_each():
    assert feature_networks("ct_sgan", discriminator="projected", slab=4) == ["efficientnet-lite0"]
    assert feature_networks("ct_sgan", discriminator="convolutional") == []


@pytest.mark.parametrize("model", MODELS)
def test_all_others_are_trained_against_none(model):
    assert feature_networks(model) == (["efficientnet-lite0"] if model == "projected_gan" else [])


def test_it_is_read_of_the_descriptions_of_all_classes(tmp_path):
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, names in zip(files, ([], ["efficientnet-lite0"]), strict=True):
        file.write_text(json.dumps({"trained_against": names}))
    assert trained_against(files) == {"efficientnet-lite0"}
    assert trained_against(files[:1]) == set()
    files[0].write_text("{}")
    with pytest.raises(DataError, match=r"0.json: description: found .*trained_against.*, allowed: that of a trained"):
        trained_against(files)
