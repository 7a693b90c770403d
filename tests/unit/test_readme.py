"""What the README promises, where the code decides it."""

import re
from pathlib import Path

import pytest

from scangan.models.catalogue import find_model

README = (Path(__file__).parents[2] / "README.md").read_text()
SIZES = dict(re.findall(r"^\| `(\w+)` \| ((?:\d+(?:, | to )?)+.*) \|$", README, re.MULTILINE))


def sizes(text):
    """`32 to 256 in steps of 32`, or `32, 64`."""
    if found := re.fullmatch(r"(\d+) to (\d+) in steps of (\d+)", text):
        first, last, step = map(int, found.groups())
        return list(range(first, last + 1, step))
    return [int(size) for size in text.split(", ")]


def test_all_networks_of_images_have_their_sizes():
    assert set(SIZES) == {"projected_gan", "dcgan32", "dcgan224", "pggan", "simple_ct_gan"}


@pytest.mark.parametrize("model", SIZES)
def test_each_network_draws_the_sizes_that_are_said(model):
    assert list(find_model(model).IMAGE_SIZES) == sizes(SIZES[model])
