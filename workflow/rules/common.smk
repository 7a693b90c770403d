# Settings, validated once, and the few functions that several rules share.
from typing import get_args

from snakemake.exceptions import WorkflowError

from scangan.code_digest import script_digest
from scangan.config import ARMS, PRETRAINED, SHARE_ARM, VOLUME_SHARE_ARM, Classifier, Gan, scale_of, sort_keys, validate
from scangan.jobs import check_disk, disk_need
from scangan.errors import ConfigError, DataError
from scangan.jobs import has_gpu

try:
    # Sorted, because Snakemake compares parameters by their text.
    config = sort_keys(validate(config))
except ConfigError as error:
    raise WorkflowError(str(error)) from None

RESULTS = config["results"]
STUDIES = list(config["studies"])
SCALES = json.loads(Path(workflow.source_path("../../config/scales.json")).read_text())


# Networks that train on the CPUs of this machine: two at a time, for two jobs of half the threads are done sooner than
# one after the other (small networks gain little from more threads, and a job's start keeps one core busy for seconds).
ON_CPU = workflow.is_main_process and workflow.local_exec and not has_gpu()
if ON_CPU:
    workflow.register_resource("gpu", max(2, workflow.global_resources.get("gpu").value or 0))


def network_threads(wildcards):
    return max(1, min(workflow.cores, os.cpu_count()) // 2) if ON_CPU else 8


# What every reader leaves behind.
COHORT = {
    "images": f"{RESULTS}/{{study}}/cohort/images.zarr.zip",
    "manifest": f"{RESULTS}/{{study}}/cohort/manifest.parquet",
    "rejected": f"{RESULTS}/{{study}}/cohort/rejected.csv",
}
READER = {study: data["reader"] for study in STUDIES if (data := config["studies"][study]["data"]) is not None}
# Studies of volumes, and their cohorts: a cohort is read like a study, `{study}` is then `ct_sgan/cohorts/lidc`.
COHORTS = {study: list(config["studies"][study]["cohorts"]) for study in STUDIES if study not in READER}
SOURCES = {f"{study}/cohorts/{cohort}" for study, cohorts in COHORTS.items() for cohort in cohorts}
SCANS = {study for study, reader in READER.items() if reader == "ct_slices"}
BRATS = {study for study, reader in READER.items() if reader == "brats"}
IMAGES = set(READER) - SCANS - BRATS


wildcard_constraints:
    study="|".join(map(re.escape, [*STUDIES, *SOURCES])),
    cohort="[A-Za-z0-9_-]+",
    network="injector|eraser",
    arm="|".join(map(re.escape, ARMS)) + r"|(real\+)?synthetic-x[0-9.e+-]+",
    gan="[A-Za-z0-9_-]+",
    panel="[A-Za-z0-9_-]+",
    label="[A-Za-z0-9_-]+",
    seed=r"\d+",
    shard=r"\d+",
    image_size=r"\d+",
    batch=r"\d+",


def study_facts(*more):
    """What a table or figure says of itself: `phantom` or `real` data, `demo`, `paper` or `custom` scale, and more."""

    def facts(wildcards):
        study = config["studies"][wildcards.study]
        known = {
            "data": data_kind(wildcards),
            "extractor": study["fidelity"]["extractor"],
            "scale": scale_of(wildcards.study, config, SCALES),
            "study": wildcards.study,
        }
        if study["classifier"] is not None:
            classifier = Classifier.model_validate(study["classifier"])
            known |= {"positive": classifier.positive, "pretrained": classifier.pretrained_name}
        return {name: known[name] for name in sorted({"data", "scale", "study", *more})}

    return facts


def settings_at(source):
    """The settings of a study, or of a cohort of one."""
    found = config["studies"]
    for key in source.split("/"):
        found = found[key]
    return found


def sources_of(study):
    """Where a study's data come from: itself, or its cohorts."""
    return [f"{study}/cohorts/{cohort}" for cohort in COHORTS[study]] if study in COHORTS else [study]


def data_kind(wildcards):
    roots = [settings_at(source)["data"]["root"] for source in sources_of(wildcards.study)]
    kinds = {"phantom" if config["data_roots"][root] is None else "real" for root in roots}
    return " and ".join(sorted(kinds))


def only(studies):
    """The regular expression of a wildcard that stands for these studies and no others."""
    return "|".join(map(re.escape, sorted(studies))) or "(?!)"


def settings_of(section, *keys):
    """Some of a section's settings: those that a rule reads."""
    return lambda wildcards: {key: settings_at(wildcards.study)[section][key] for key in sorted(keys)}


def trained_gan(study, gan):
    """The network whose weights a network draws with: mostly its own."""
    return config["studies"][study]["gan"][gan]["weights_of"] or gan


def modules_by_name(script, wildcards):
    """The modules that a script finds by name: the rest of its code follows from its imports."""
    match Path(script).stem:
        case "train_gan" | "synthesize" | "train_volume_gan" | "synthesize_volumes" | "inject_synthetic":
            return [f"scangan.models.{config['studies'][wildcards.study]['gan'][wildcards.gan]['model']}"]
        case "compare_with_papers":
            return [f"scangan.models.{model}" for model in get_args(Gan.model_fields["model"].annotation)]
    return []


def code_of(script):
    """A digest of code, taken only where a job needs it: on a cluster every job reads the whole workflow again."""
    return lambda wildcards: script_digest(script, modules_by_name(script, wildcards))


def image_size_of(study, gan):
    """Edge of a network's images."""
    settings = config["studies"][study]
    return settings["gan"][gan]["image_size"] or settings["data"]["image_size"]


def shard_settings(wildcards):
    """Seeds and number of one shard's images: more images make more shards, and leave the others alone."""
    wanted = config["studies"][wildcards.study]["synthesis"]
    first = int(wildcards.shard) * wanted["shard_size"]
    return {
        "batch_size": wanted["batch_size"],
        "first_seed": wanted["seed"] + first,
        "image_size": image_size_of(wildcards.study, wildcards.gan),
        "images": min(wanted["shard_size"], wanted["images_per_class"] - first),
    }


def volumes_of(study, gan):
    """How many volumes are drawn from a network."""
    wanted = config["studies"][study]["synthesis"]
    compared = gan != wanted["gan"] and wanted["compared_volumes"]
    return compared or wanted["volumes"]


def volume_shard_settings(wildcards):
    """Seeds and number of one shard's volumes: more volumes make more shards, and leave the others alone."""
    wanted = config["studies"][wildcards.study]["synthesis"]
    first = int(wildcards.shard) * wanted["shard_size"]
    left = volumes_of(wildcards.study, wildcards.gan) - first
    return {"first_seed": wanted["seed"] + first, "volumes": min(wanted["shard_size"], left)}


def volumes_to_write(jobs):
    """Bytes that synthetic volumes take, with and without nodules, that these jobs will write."""
    writing = [job.wildcards for job in jobs if job.rule.name in ("synthesize_volumes", "inject_synthetic")]
    return sum(
        disk_need(volume_shard_settings(wildcards)["volumes"], settings_at(wildcards.study)["grid"]["size"])
        for wildcards in writing
    )


def classifier_settings(wildcards):
    """The settings that one arm reads, so that a change of another's retrains nothing here."""
    experiment = Classifier.model_validate(config["studies"][wildcards.study]["classifier"])
    return sort_keys(experiment.for_arm(wildcards.arm))


def judge_settings(wildcards):
    """Which classifier the judges are, and the images that they take."""
    study = config["studies"][wildcards.study]
    named = Classifier.model_validate(study["classifier"])
    keys = ("backbone", "batch_size", "centre_crop", "dropout", "pretrained", "stem")
    judge = {key: getattr(named, key) for key in keys}
    return sort_keys(judge | {"image_size": study["data"]["image_size"]})


def labels(study):
    data = config["studies"][study]["data"]
    return list(data["classes"]) if "classes" in data else [data["label"]]


def arms_and_seeds(wildcards):
    """How the files of `predictions` are ordered: arm by arm, seed by seed."""
    experiment = config["studies"][wildcards.study]["classifier"]
    return {"arms": experiment["arms"], "seeds": experiment["seeds"]}


def share_arms(study):
    """The arms of the sweep over shares of synthetic images."""
    arm = VOLUME_SHARE_ARM if study in COHORTS else SHARE_ARM
    return [arm.format(share=share) for share in config["studies"][study]["classifier"]["shares"]]


def shares_and_seeds(wildcards):
    """How the files of `share_predictions` are ordered."""
    seeds = config["studies"][wildcards.study]["classifier"]["seeds"]
    return {"arms": ["real", *share_arms(wildcards.study)], "seeds": seeds}


def embedding_settings(wildcards):
    """t-SNE's settings, the classical augmentation, and which classifier's space it is."""
    study = config["studies"][wildcards.study]
    classifier = {key: value for key, value in judge_settings(wildcards).items() if key != "image_size"}
    classical = study["classifier"]["classical"]
    return sort_keys({"embedding": study["embedding"], "classifier": classifier, "classical": classical})


def own_edit_settings(wildcards):
    """The VOIs that the networks know, and the seed of the user's own edits."""
    nodules = config["studies"][wildcards.study]["nodules"]
    voi = {key: nodules["voi"][key] for key in ("inside_share", "margin_mm", "min_readers", "size", "spacing_mm")}
    return {"seed": nodules["edits"]["seed"], "voi": voi}


def panel_gans(wildcards):
    return {"gans": config["studies"][wildcards.study]["panels"][wildcards.panel]}


def draws_nodules(study):
    return study in SCANS and config["studies"][study]["data"]["annotations"] != "none"
