"""A trained network that anybody draws from: the workflow's very images, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import scangan
from scangan.config import MODELS, VOLUME_MODELS
from scangan.data.store import ImageWriter, read_image_sets
from scangan.errors import ConfigError, DataError
from scangan.models.catalogue import build_generator, read_generator, write_generator
from scangan.synthesis.images import synthesize

SIZES = {"dcgan32": 32, "dcgan224": 32, "pggan": 16, "projected_gan": 32, "simple_ct_gan": 16}
WIDTHS = {"projected_gan": 8, "pggan": 8, "simple_ct_gan": 8}


def write_network(folder, label, model="dcgan32", channels=1, seed=0, **facts):
    """As `train_gan` leaves a generator, with random weights that draw more than black."""
    torch.manual_seed(seed)
    options = {"base_width": WIDTHS.get(model, 2)}
    described = {"model": model, "options": options, "channels": channels, "image_size": SIZES[model]}
    described |= {"gan": folder.parent.name, "label": label, "data": "phantom", "trained_against": []}
    described |= {"training_images": 72, "steps": 9, "gan_seed": int(folder.name.removeprefix("seed"))}
    generator = build_generator(model, channels, SIZES[model], **options)
    for parameter in generator.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter) + 0.3 * (parameter.ndim == 1)
    place = folder / label
    place.mkdir(parents=True)
    weights, description = place / "generator.safetensors", place / "generator.json"
    write_generator(weights, description, generator.state_dict(), **described | facts)
    return weights, description


@pytest.fixture
def trained(tmp_path):
    """The folder of a network with two trainings for two classes."""
    folder = tmp_path / "results/my_study/gan/dcgan32"
    for training in (0, 1):
        for number, label in enumerate(("healthy", "sick")):
            write_network(folder / f"seed{training}", label, seed=10 * training + number)
    return folder


def write_shards(folder, files, sizes, first_seed=0, batch_size=64):
    """As `synthesize` of the workflow writes them."""
    paths = []
    for number, images in enumerate(sizes):
        generator, facts = read_generator(*files)
        shape = (facts["channels"], facts["image_size"], facts["image_size"])
        paths.append((folder / f"shard{number}.zarr.zip", folder / f"shard{number}.parquet"))
        with ImageWriter(*paths[-1], shape) as writer:
            for drawn, rows in synthesize(generator, facts, first_seed, images, batch_size):
                writer.append(drawn, rows)
        first_seed += images
    return read_image_sets(*zip(*paths, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", sorted(set(MODELS) - set(VOLUME_MODELS)))
def test_its_images_are_the_workflows_to_the_bit(tmp_path, model, channels):
    files = write_network(tmp_path / "gan/x/seed0", "sick", model, channels)
    shards = write_shards(tmp_path, files, [10, 10, 3], first_seed=5, batch_size=8).images
    drawn = scangan.load(tmp_path / "gan/x").draw({"sick": 20}, seed=7, batch_size=8)["sick"]
    np.testing.assert_array_equal(drawn, shards[2:22])
    assert drawn.shape == (20, channels, SIZES[model], SIZES[model])
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert len(np.unique(drawn)) > 100


def test_each_class_has_its_generator_and_the_same_seeds(trained):
    network = scangan.load(trained)
    assert network.labels == ["healthy", "sick"]
    assert network.facts["sick"]["label"] == "sick"
    both = network.draw({"sick": 3, "healthy": 2}, seed=4)
    assert {label: len(images) for label, images in both.items()} == {"sick": 3, "healthy": 2}
    assert not np.array_equal(both["sick"][:2], both["healthy"])
    np.testing.assert_array_equal(network.draw({"healthy": 1}, seed=5)["healthy"][0], both["healthy"][1])


def test_the_first_training_or_one_of_the_others_or_one_class(trained):
    drawn = {
        name: scangan.load(trained / name).draw({"sick": 2})["sick"] for name in ("", "seed0", "seed1", "seed1/sick")
    }
    np.testing.assert_array_equal(drawn[""], drawn["seed0"])
    np.testing.assert_array_equal(drawn["seed1"], drawn["seed1/sick"])
    assert not np.array_equal(drawn["seed0"], drawn["seed1"])
    assert scangan.load(f"{trained}/seed1/sick").labels == ["sick"]


def test_another_size_where_weights_allow_it(tmp_path, trained):
    write_network(tmp_path / "gan/x/seed0", "chest", "simple_ct_gan")
    drawn = scangan.load(tmp_path / "gan/x", image_size=24).draw({"chest": 1})["chest"]
    assert drawn.shape == (1, 1, 24, 24)
    with pytest.raises(ConfigError, match="image_size: found 64, allowed with dcgan32: 32"):
        scangan.load(trained, image_size=64)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"images": {"ill": 2}}, r"label: found 'ill', allowed: healthy \| sick"),
        ({"images": {"sick": 0}}, "images of sick: found 0, allowed: a whole number from 1"),
        ({"images": {"sick": 2.5}}, r"images of sick: found 2\.5, allowed: a whole number from 1"),
        ({"images": {"sick": 2}, "seed": -1}, "seed: found -1, allowed: a whole number from 0"),
    ],
)
def test_what_cannot_be_drawn_is_named(trained, asked, line):
    with pytest.raises(DataError, match=line):
        scangan.load(trained).draw(**asked)


def test_a_folder_that_holds_no_network_is_named(trained, tmp_path):
    for folder in (trained.parent, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            DataError, match=f"{re.escape(str(folder))}: network: found no generator, allowed: the folder"
        ):
            scangan.load(folder)


@pytest.mark.parametrize("missing", ["generator.json", "generator.safetensors"])
def test_a_half_written_network_is_named(trained, missing):
    (trained / "seed0/sick" / missing).unlink()
    with pytest.raises(DataError, match=f"seed0/sick: generator: found no {re.escape(missing)}, allowed: both"):
        scangan.load(trained)
    assert scangan.load(trained / "seed0/healthy").labels == ["healthy"]


def test_a_class_that_is_still_trained_is_named(trained):
    for file in (trained / "seed0/sick").iterdir():
        file.unlink()
    (trained / "seed0/sick/.resume").mkdir()
    with pytest.raises(DataError, match=r"seed0/sick: generator: found no generator\.json and no generator\.safet"):
        scangan.load(trained)


def test_damaged_weights_are_named(trained):
    weights = trained / "seed0/sick/generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"seed0/sick/generator\.safetensors: weights: found"):
        scangan.load(trained)


def test_a_network_of_volumes_is_refused(tmp_path):
    folder = tmp_path / "gan/gan3d/seed0"
    folder.mkdir(parents=True)
    files = folder / "generator.safetensors", folder / "generator.json"
    generator = build_generator("gan3d", 1, 16, base_width=2)
    facts = {"model": "gan3d", "options": {"base_width": 2}, "channels": 1, "image_size": 16}
    write_generator(*files, generator.state_dict(), **facts)
    with pytest.raises(
        DataError, match="seed0: model: found gan3d, allowed: the folder of a trained network of images"
    ):
        scangan.load(tmp_path / "gan/gan3d")


# docs/images_out.md

PAGE = Path(__file__).parents[2] / "docs/images_out.md"


def test_the_pages_examples_say_what_they_print(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained = trained.rename(trained.with_name("projected_gan"))
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    exec(compile(code, PAGE.name, "exec"), {})
    promised = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(promised) >= 3
    assert capsys.readouterr().out.splitlines() == promised
    assert json.loads((trained / "seed0/sick/generator.json").read_text())["data"] == "phantom"
    assert (tmp_path / "sick.png").stat().st_size > 100
