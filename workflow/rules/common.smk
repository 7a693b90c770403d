# Settings, validated once, and the few functions that several rules share.
from snakemake.exceptions import WorkflowError

from scangan.code_digest import code_digest
from scangan.config import ARMS, PRETRAINED, Classifier, scale_of, sort_keys, validate
from scangan.errors import ConfigError

try:
    # Sorted, because Snakemake compares parameters by their text.
    config = sort_keys(validate(config))
except ConfigError as error:
    raise WorkflowError(str(error)) from None

RESULTS = config["results"]
STUDIES = list(config["studies"])
SCALES = json.loads(Path(workflow.source_path("../../config/scales.json")).read_text())


wildcard_constraints:
    study="|".join(map(re.escape, STUDIES)),
    arm="|".join(map(re.escape, ARMS)),
    gan="[A-Za-z0-9_-]+",
    label="[A-Za-z0-9_-]+",
    seed=r"\d+",
    shard=r"\d+",


def data_folder(wildcards):
    """Folder of the raw images: the user's, or that of the phantom rendered for this study."""
    root = config["data_roots"][config["studies"][wildcards.study]["data"]["root"]]
    return root if root is not None else f"{RESULTS}/{wildcards.study}/phantom"


def study_facts(*more):
    """What a table or figure says of itself: `phantom` or `real` data, `demo`, `paper` or `custom` scale, and more."""

    def facts(wildcards):
        study = config["studies"][wildcards.study]
        classifier = Classifier.model_validate(study["classifier"])
        known = {
            "data": data_kind(wildcards),
            "extractor": study["fidelity"]["extractor"],
            "positive": classifier.positive,
            "pretrained": classifier.pretrained_name,
            "scale": scale_of(wildcards.study, config, SCALES),
            "study": wildcards.study,
        }
        return {name: known[name] for name in sorted({"data", "scale", "study", *more})}

    return facts


def data_kind(wildcards):
    root = config["studies"][wildcards.study]["data"]["root"]
    return "phantom" if config["data_roots"][root] is None else "real"


def own_file(section, key):
    """A file of the user's that a study's settings name, if they do."""

    def file(wildcards):
        named = config["studies"][wildcards.study][section][key]
        return [named] if named is not None else []

    return file


def pretrained_file(wildcards):
    """The user's own weights for the classifier, if `pretrained` names a file."""
    pretrained = config["studies"][wildcards.study]["classifier"]["pretrained"]
    return [] if pretrained in PRETRAINED else [pretrained]


def gan_code(wildcards):
    model = config["studies"][wildcards.study]["gan"][wildcards.gan]["model"]
    return code_digest("scangan.training.adversarial", "scangan.data.split", f"scangan.models.{model}")


def shard_settings(wildcards):
    """Seeds and number of one shard's images: more images make more shards, and leave the others alone."""
    wanted = config["studies"][wildcards.study]["synthesis"]
    first = int(wildcards.shard) * wanted["shard_size"]
    return {
        "batch_size": wanted["batch_size"],
        "first_seed": wanted["seed"] + first,
        "images": min(wanted["shard_size"], wanted["images_per_class"] - first),
    }


def classifier_settings(wildcards):
    """The settings that one arm reads, so that a change of another's retrains nothing here."""
    experiment = Classifier.model_validate(config["studies"][wildcards.study]["classifier"])
    return sort_keys(experiment.for_arm(wildcards.arm))


def labels(study):
    return list(config["studies"][study]["data"]["classes"])


def synthetic_sets(study, gan):
    """Images and manifests of all shards of a network, of both classes."""
    wanted = config["studies"][study]["synthesis"]
    shards = range(-(-wanted["images_per_class"] // wanted["shard_size"]))
    stem = f"{RESULTS}/{study}/synthetic/{gan}/{{label}}/shard{{shard}}"
    return {
        "synthetic_images": expand(f"{stem}.zarr.zip", label=labels(study), shard=shards),
        "synthetic_manifests": expand(f"{stem}.parquet", label=labels(study), shard=shards),
    }


def arm_inputs(wildcards):
    """The synthetic images that an arm trains on, if any."""
    if "synthetic" not in wildcards.arm:
        return {}
    return synthetic_sets(wildcards.study, config["studies"][wildcards.study]["synthesis"]["gan"])


def predictions(study):
    experiment = config["studies"][study]["classifier"]
    return expand(
        f"{RESULTS}/{study}/classifier/{{arm}}/seed{{seed}}/predictions.parquet",
        arm=experiment["arms"],
        seed=range(experiment["seeds"]),
    )


def arms_and_seeds(wildcards):
    """How the files of `predictions` are ordered: arm by arm, seed by seed."""
    experiment = config["studies"][wildcards.study]["classifier"]
    return {"arms": experiment["arms"], "seeds": experiment["seeds"]}


def of_every_gan(file, study):
    return expand(f"{RESULTS}/{study}/{file}", gan=config["studies"][study]["gan"])


def report_table(name):
    """A table as CSV for programs and Markdown for people; the latter stands in the report."""
    stem = f"{RESULTS}/{{study}}/tables/{name}"
    markdown = report(f"{stem}.md", caption=f"../report/{name}.rst", category="{study}", subcategory="tables")
    return [f"{stem}.csv", markdown]


def report_figure(name, folder="figures"):
    path = f"{RESULTS}/{{study}}/{folder}/{name}.png"
    return report(path, caption=f"../report/{name}.rst", category="{study}", subcategory="figures")


def study_targets(study):
    """The final tables and figures of a study."""
    folder = f"{RESULTS}/{study}"
    return [
        *expand(
            f"{folder}/tables/{{table}}.{{ending}}",
            table=["classification", "calibration", "fidelity", "cohort"],
            ending=["csv", "md"],
        ),
        *of_every_gan("figures/{gan}/images.png", study),
        *of_every_gan("figures/{gan}/training.png", study),
        f"{folder}/figures/roc.png",
        f"{folder}/figures/reliability.png",
    ]
