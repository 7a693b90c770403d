"""A change of one key reruns the jobs that depend on it, and no others."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from scangan.config import validate
from tests.workflow.conftest import ROOT, TOY, Workflow

LABELS = ("haemorrhage", "normal")
FINAL = {"compare_with_papers", "all"}
RENDER = {"render_phantom"}
INGEST = {"ingest_images"}
SPLIT = {"split_cohort"}
GANS = {f"train_gan(dcgan32, {label})" for label in LABELS}
SHARDS = {f"synthesize(dcgan32, {label}, {shard})" for label in LABELS for shard in (0, 1)}
FIDELITY = {"measure_fidelity(dcgan32)", "tabulate_fidelity"} | FINAL
GAN_FIGURES = {"plot_gan(dcgan32)"}
SCORES = {"score", "tabulate_classification"} | FINAL
REAL, CLASSICAL, PRETRAINED = (
    {f"train_classifier({arm}, 0)"} for arm in ("real", "real+classical", "synthetic-then-real")
)
CLASSIFIERS = REAL | CLASSICAL | PRETRAINED
JUDGED = SCORES | {"plot_classification"}
# What follows from new synthetic images.
FROM_SYNTHETIC = FIDELITY | GAN_FIGURES | PRETRAINED | JUDGED
FROM_GAN = GANS | SHARDS | FROM_SYNTHETIC
FROM_SPLIT = SPLIT | FROM_GAN | CLASSIFIERS
FROM_INGEST = INGEST | FROM_SPLIT
EVERYTHING = RENDER | FROM_INGEST
THIRD_SHARD = {f"synthesize(dcgan32, {label}, 2)" for label in LABELS}

# Beginning of a key (the longest counts) -> the jobs that its change must rerun.
EXPECTED = {
    "phantom": EVERYTHING,
    "data": FROM_INGEST,
    "split": FROM_SPLIT,
    "gan.dcgan32": FROM_GAN,
    "synthesis": SHARDS | FROM_SYNTHETIC,
    "synthesis.images_per_class": THIRD_SHARD | FROM_SYNTHETIC,
    "synthesis.gan": {job.replace("dcgan32", "other") for job in GANS | SHARDS} | PRETRAINED | JUDGED,
    "classifier": CLASSIFIERS | JUDGED,
    "classifier.positive": CLASSIFIERS | JUDGED,
    "classifier.arms": JUDGED,
    "classifier.seeds": {job.replace(" 0)", " 1)") for job in CLASSIFIERS} | JUDGED,
    "classifier.classical": CLASSICAL | JUDGED,
    "classifier.pretrain_share": PRETRAINED | JUDGED,
    "classifier.fine_tune_rate": PRETRAINED | JUDGED,
    "fidelity": FIDELITY,
    "evaluation": SCORES,
}
# Values where the next number, or the other one of two, will not do.
ANOTHER = {
    "data.root": "lidc",
    "data.labels": "other.csv",
    "data.id_column": "name",
    "data.label_column": "bleeding",
    "data.patient_column": "patient",
    "data.classes": {"normal": 1, "haemorrhage": 0},
    "data.channels": 3,
    "data.image_size": 64,
    "data.reader": "image_folder",
    "split.train": 23,
    "split.file": TOY,
    "phantom.renderer": None,
    "gan.dcgan32.model": None,
    "gan.dcgan32.loss": "wasserstein",
    "gan.dcgan32.gradient_penalty.kind": "r1",
    "gan.dcgan32.optimizer": "rmsprop",
    "gan.dcgan32.precision": "bf16-mixed",
    "synthesis.gan": "other",
    "synthesis.images_per_class": 10,
    "synthesis.shard_size": 5,
    "classifier.arms": ["real", "real+classical"],
    "classifier.backbone": "efficientnet-lite0",
    "classifier.positive": "normal",
    "classifier.pretrained": "efficientnet-lite0",
    "classifier.stem": "small",
    "fidelity.extractor": "inception-v3-compat",
    "fidelity.weights": TOY,
}


def toy_study() -> dict:
    demo, overlay = (yaml.safe_load((ROOT / file).read_text()) for file in ("config/config.yaml", TOY))
    study = merge(demo["studies"]["head_ct"], overlay["studies"]["head_ct"])
    return validate({"studies": {"head_ct": study}})["studies"]["head_ct"]


def merge(below: dict, above: dict) -> dict:
    return below | {
        key: merge(below[key], value) if isinstance(value, dict) and key in below else value
        for key, value in above.items()
    }


def leaves(block: dict, prefix: str = "") -> dict[str, object]:
    found = {}
    for key, value in block.items():
        if isinstance(value, dict) and key != "classes":
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


STUDY = leaves(toy_study())


def another_value(key: str, value: object) -> object:
    if key in ANOTHER:
        return ANOTHER[key]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.5 or 0.25
    raise AssertionError(f"{key}: give another value in ANOTHER")


def override(key: str, value: object, study: str = "head_ct") -> tuple[str, str]:
    block = value
    for part in reversed(key.split(".")):
        block = {part: block}
    return "--config", f"studies={json.dumps({study: block})}"


def expected(key: str) -> set[str]:
    return EXPECTED[max((prefix for prefix in EXPECTED if f"{key}.".startswith(f"{prefix}.")), key=len)]


# The only value that is allowed: there is nothing to change yet.
ONLY_VALUE = {key for key, value in ANOTHER.items() if value is None}


@pytest.mark.parametrize("key", sorted(set(STUDY) - ONLY_VALUE - {"synthesis.gan", "split.train"}))
def test_a_change_of_one_key_reruns_just_what_depends_on_it(toy: Workflow, key: str):
    assert toy.planned(*override(key, another_value(key, STUDY[key]))) == expected(key)


def test_a_change_of_the_split_spares_ingestion(toy: Workflow):
    assert toy.planned(*override("split", {"train": 22, "validation": 9, "test": 9})) == FROM_SPLIT


def test_images_of_another_network_need_that_network_only(toy: Workflow):
    study = {"gan": {"other": toy_study()["gan"]["dcgan32"]}, "synthesis": {"gan": "other"}}
    planned = toy.planned("--config", f"studies={json.dumps({'head_ct': study})}")
    of_other = {job.replace("dcgan32", "other") for job in GANS | SHARDS | GAN_FIGURES}
    assert planned == of_other | {"measure_fidelity(other)", "tabulate_fidelity"} | PRETRAINED | JUDGED


def test_nothing_runs_twice(toy: Workflow):
    assert toy.planned() == set()


def test_another_results_folder_runs_everything_and_leaves_the_first_alone(toy: Workflow):
    assert toy.planned("--config", "results=elsewhere") == EVERYTHING | CLASSIFIERS


def test_a_data_root_replaces_the_phantom(toy: Workflow, tmp_path):
    assert toy.planned("--config", f"data_roots={{head_ct: {tmp_path}}}") == FROM_INGEST
    assert toy.planned("--config", f"data_roots={{lidc: {tmp_path}}}") == set()


def test_two_swapped_learning_rates_are_seen(toy_copy: Workflow):
    one, other = {"learning_rate_generator": 1e-3}, {"learning_rate_discriminator": 5e-4}
    first = override("gan.dcgan32", one | other)
    swapped = override("gan.dcgan32", {"learning_rate_generator": 5e-4, "learning_rate_discriminator": 1e-3})
    samples = "results/head_ct/gan/dcgan32/normal/samples.png"
    assert toy_copy.snakemake(*first, target=samples).returncode == 0
    assert toy_copy.planned(*first, target=samples) == set()
    assert toy_copy.planned(*swapped, target=samples) == {"train_gan(dcgan32, normal)"}


def test_threads_cores_and_profile_rerun_nothing(toy: Workflow):
    assert toy.planned("--set-threads", "train_gan=1", "train_classifier=3") == set()
    assert toy.planned("--set-resources", "train_gan:mem_mb=9000", "train_classifier:runtime=5") == set()
    assert toy.planned("--cores", "1") == set()
    assert toy.planned("--profile", "profiles/slurm") == set()


def test_a_docstring_or_a_comment_reruns_nothing(toy_copy: Workflow):
    model = "src/scangan/models/dcgan32.py"
    toy_copy.edit(model, '"""DCGAN for 32x32 head CT', '"""A DCGAN for 32x32 head CT')
    toy_copy.edit(model, "    def forward(self, latent: Tensor) -> Tensor:\n", DOCUMENTED_FORWARD)
    toy_copy.edit("src/scangan/data/images.py", "\nimport ", "\n# A comment.\nimport ")
    assert toy_copy.planned() == set()


DOCUMENTED_FORWARD = '    def forward(self, latent: Tensor) -> Tensor:\n        """Draw."""\n\n        # A comment.\n'


def test_an_edit_of_the_generator_retrains_that_network_alone(toy_copy: Workflow):
    toy_copy.edit(
        "src/scangan/models/dcgan32.py",
        "return self.layers(self.dense(latent)",
        "return self.layers(2 * self.dense(latent)",
    )
    assert toy_copy.planned() == FROM_GAN


def test_an_edit_of_a_metric_retrains_nothing(toy_copy: Workflow):
    toy_copy.edit("src/scangan/metrics/classification.py", "THRESHOLD = 0.5", "THRESHOLD = 0.6")
    assert toy_copy.planned() == JUDGED


def test_results_of_another_config_are_replaced_and_nothing_else_is_deleted(toy_copy: Workflow):
    foreign = toy_copy.folder / "results/head_ct/gan/notes.txt"
    foreign.write_text("mine")
    weights = toy_copy.folder / "results/head_ct/gan/dcgan32/normal/generator.safetensors"
    before = weights.read_bytes()
    run = toy_copy.snakemake(*override("evaluation.bootstrap", 150))
    assert run.returncode == 0, run.stdout
    assert "train_" not in run.stdout
    assert foreign.read_text() == "mine"
    assert weights.read_bytes() == before


def test_the_driver_stays_light(toy: Workflow):
    """Planning imports neither torch nor pandas, or it would take seconds."""
    code = (
        "import sys; sys.path.insert(0, 'src'); import scangan.config, scangan.code_digest;"
        "print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=toy.folder, text=True, capture_output=True)
    assert run.stdout.strip() == "[]", run.stderr
