"""Mass synthesis: any image can be drawn again by itself; and how a generator is kept."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from scangan.errors import DataError
from scangan.models.catalogue import build, read_generator, write_generator
from scangan.models.dcgan32 import Generator
from scangan.synthesis.images import synthesize

FACTS = {
    "model": "dcgan32",
    "options": {"base_width": 4},
    "channels": 1,
    "image_size": 32,
    "gan": "dcgan32",
    "label": "normal",
    "data": "phantom",
}
ONE_LEVEL = 1 / 65535


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(base_width=4)


def draw(generator, first_seed, images, batch_size):
    batches = list(synthesize(generator, FACTS, first_seed, images, batch_size))
    assert [len(drawn) for drawn, _ in batches[1:-1]] == [batch_size] * (len(batches) - 2)
    assert max(len(drawn) for drawn, _ in batches) <= batch_size
    drawn, rows = zip(*batches, strict=True)
    return np.concatenate(drawn), pd.concat(rows, ignore_index=True)


def test_images_are_float32_from_0_to_1(generator):
    images, _ = draw(generator, 0, 5, 2)
    assert images.shape == (5, 1, 32, 32)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    assert len(np.unique(images.reshape(5, -1), axis=0)) == 5


def test_output_range_is_mapped_to_0_to_1():
    class Extreme(Generator):
        def forward(self, latent):
            return latent[:, :4].sign().reshape(-1, 1, 2, 2)

    images, _ = draw(Extreme(base_width=2), 0, 8, 4)
    assert np.unique(images).tolist() == [0.0, 1.0]


def test_the_manifest_says_where_an_image_comes_from(generator):
    _, rows = draw(generator, 40, 3, 2)
    assert rows.columns.tolist() == [
        "image_id",
        "patient_id",
        "label",
        "source",
        "data",
        "spacing_mm",
        "synthesis_seed",
    ]
    assert rows.image_id.tolist() == ["dcgan32-normal-40", "dcgan32-normal-41", "dcgan32-normal-42"]
    assert rows.patient_id.tolist() == rows.image_id.tolist()
    assert rows.synthesis_seed.tolist() == [40, 41, 42]
    assert rows.synthesis_seed.dtype == "Int64"
    assert set(rows.label) == {"normal"}
    assert set(rows.source) == {"dcgan32/normal"}
    assert set(rows.data) == {"phantom"}
    assert rows.spacing_mm.isna().all()


def test_an_image_alone_is_the_one_of_the_batch(generator):
    together, rows = draw(generator, 100, 9, 9)
    for k, seed in enumerate(rows.synthesis_seed):
        alone, _ = draw(generator, int(seed), 1, 9)
        np.testing.assert_array_equal(alone[0], together[k])
        of_another_batch, _ = draw(generator, int(seed), 1, 1)
        np.testing.assert_allclose(of_another_batch[0], together[k], atol=ONE_LEVEL, rtol=0)


def test_shards_are_pieces_of_one_set(generator):
    whole, rows = draw(generator, 7, 10, 4)
    shards = [draw(generator, first, images, 4) for first, images in ((7, 4), (11, 4), (15, 2))]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in shards]), whole)
    pd.testing.assert_frame_equal(pd.concat([rows for _, rows in shards], ignore_index=True), rows)


def test_random_numbers_elsewhere_change_nothing(generator):
    torch.manual_seed(1)
    first, _ = draw(generator, 0, 3, 3)
    torch.manual_seed(2)
    np.testing.assert_array_equal(draw(generator, 0, 3, 3)[0], first)


@pytest.fixture
def kept(tmp_path, generator):
    paths = tmp_path / "generator.safetensors", tmp_path / "generator.json"
    write_generator(*paths, generator.state_dict(), **FACTS, steps=12)
    return paths


def test_a_generator_is_read_as_written(kept, generator):
    again, facts = read_generator(*kept)
    assert facts == FACTS | {"steps": 12}
    assert not again.training
    assert json.loads(kept[1].read_text()) == facts
    np.testing.assert_array_equal(draw(again, 0, 4, 4)[0], draw(generator, 0, 4, 4)[0])


def test_weights_in_another_memory_layout_are_written_alike(kept, generator, tmp_path):
    state = generator.to(memory_format=torch.channels_last).state_dict()
    write_generator(tmp_path / "b.safetensors", tmp_path / "b.json", state, **FACTS)
    assert (tmp_path / "b.safetensors").read_bytes() == kept[0].read_bytes()


def test_the_papers_width_is_null():
    generator, discriminator = build("dcgan32", channels=1, image_size=32)
    assert (generator.map_shape[0], discriminator.layers[0].out_channels) == (128, 128)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights_are_named(kept, share):
    content = kept[0].read_bytes()
    kept[0].write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"generator\.safetensors: weights: .*; remove the file and run") as error:
        read_generator(*kept)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_named(kept):
    kept[1].write_text(json.dumps(FACTS | {"options": {"base_width": 2}}))
    with pytest.raises(
        DataError, match=r"generator\.safetensors: dense\.0\.bias: found float32 \[1024\], allowed: float32 \[512\]"
    ) as error:
        read_generator(*kept)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", '{"model": "dcgan32", "base', '{"model": "dcgan32"}'])
def test_a_broken_description_is_named(kept, text):
    kept[1].write_text(text)
    with pytest.raises(DataError, match=r"generator\.json: description: .*; remove the file and run again$"):
        read_generator(*kept)
