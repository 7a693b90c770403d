"""A change of one key reruns the jobs that depend on it, and no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

from scangan.code_digest import script_digest
from scangan.config import MODELS, validate
from tests.workflow.conftest import ROOT, TOY, TOYS, Workflow, copy_workflow


def of(study: str, *jobs: str) -> set[str]:
    """Jobs of a study, as `Workflow.planned` writes them."""
    return {f"{study} {job}" for job in jobs}


FINAL = {"compare_with_papers", "all"}

# head_ct

LABELS = ("haemorrhage", "normal")
RENDER = of("head_ct", "render_phantom")
ASKED = ("compare_arms", "reach_verdict")
INGEST = of("head_ct", "ingest_images")
SPLIT = of("head_ct", "split_cohort", "tabulate_cohort")
GANS = of("head_ct", *(f"train_gan(dcgan32, 0, {label})" for label in LABELS))
SHARDS = of("head_ct", *(f"synthesize(dcgan32, 0, {label}, {shard})" for label in LABELS for shard in (0, 1)))
FEATURES, REAL_FEATURES = of("head_ct", "extract_features(dcgan32, 0)"), of("head_ct", "extract_real_features(32)")
ENCODER = of("head_ct", "train_encoder(32)")
FIDELITY = of("head_ct", "measure_fidelity(dcgan32, 0)", "tabulate_fidelity") | FINAL
GAN_FIGURES = of("head_ct", "plot_gan(dcgan32)")
SCORES = of("head_ct", "score", "tabulate_classification", *ASKED) | FINAL
REAL, CLASSICAL = (of("head_ct", f"train_classifier({arm}, seed0)") for arm in ("real", "real+classical"))
PRETRAINED = of("head_ct", "train_classifier(synthetic-then-real, gan_seed0-seed0)")
CLASSIFIERS = REAL | CLASSICAL | PRETRAINED
JUDGED = SCORES | of("head_ct", "plot_classification")
# What follows from new synthetic images.
FROM_SYNTHETIC = FEATURES | FIDELITY | GAN_FIGURES | PRETRAINED | JUDGED
FROM_GAN = GANS | SHARDS | FROM_SYNTHETIC
FROM_SPLIT = SPLIT | FROM_GAN | ENCODER | CLASSIFIERS
FROM_INGEST = INGEST | REAL_FEATURES | FROM_SPLIT
HEAD_CT = RENDER | FROM_INGEST
# Images of other patients: the same classifiers are tested on them.
EXTERNAL = of("head_ct/external", "render_phantom", "ingest_images") | of("head_ct", "check_external") | {"all"}
EXTERNAL |= {job.replace("train_classifier", "predict_external") for job in CLASSIFIERS}
EXTERNAL |= of("head_ct", "tabulate_external")
THIRD_SHARD = of("head_ct", *(f"synthesize(dcgan32, 0, {label}, 2)" for label in LABELS))
# Another training of the network: what its images are measured and trained on by, and nothing that shows the first's.
SECOND_GAN = {job.replace("dcgan32, 0", "dcgan32, 1") for job in GANS | SHARDS | FEATURES | FIDELITY}
SECOND_GAN |= {job.replace("gan_seed0", "gan_seed1") for job in PRETRAINED} | JUDGED

# simple_ct_gan

PANELS = {
    "kernel_size": ("baseline", "kernel_5"),
    "optimizer": ("baseline", "adam"),
    "image_size": ("baseline", "baseline_at_64", "size_64"),
    "training_images": ("images_32", "images_76", "baseline"),
}
ABLATIONS = ("baseline", "kernel_5", "adam", "size_64", "images_76", "images_32")
NETWORK_TABLES = of("simple_ct_gan", "tabulate_fidelity", "tabulate_networks") | FINAL
LIDC_FIGURES = of("simple_ct_gan", "plot_scans", "describe_nodules")


def from_drawing(*gans: str) -> set[str]:
    """What follows from new images of these networks."""
    panels = {panel for panel, shown in PANELS.items() if set(shown) & set(gans)}
    jobs = [f"{rule}({gan}, 0)" for gan in gans for rule in ("extract_features", "measure_fidelity")]
    jobs += [f"plot_gan({gan})" for gan in gans]
    return of("simple_ct_gan", *jobs, *(f"plot_panel({panel})" for panel in panels)) | NETWORK_TABLES


def drawn(shard: int, *gans: str) -> set[str]:
    return of("simple_ct_gan", *(f"synthesize({gan}, 0, chest, {shard})" for gan in gans))


def trained(*gans: str) -> set[str]:
    return of("simple_ct_gan", *(f"train_gan({gan}, 0, chest)" for gan in gans))


ALL_GANS = (*ABLATIONS, "baseline_at_64")
FROM_BASELINE = (
    trained("baseline") | drawn(0, "baseline", "baseline_at_64") | from_drawing("baseline", "baseline_at_64")
)
FROM_KERNEL_5 = trained("kernel_5") | drawn(0, "kernel_5") | from_drawing("kernel_5")
FROM_SCANS_SPLIT = (
    of("simple_ct_gan", "split_cohort", "tabulate_cohort", *(f"train_encoder({size})" for size in (16, 24)))
    | trained(*ABLATIONS)
    | drawn(0, *ALL_GANS)
    | from_drawing(*ALL_GANS)
)
FROM_SLICES = (
    of("simple_ct_gan", "cut_slices", *(f"extract_real_features({size})" for size in (16, 24))) | FROM_SCANS_SPLIT
)
FROM_GATHER = of("simple_ct_gan", "gather_scans") | FROM_SLICES | LIDC_FIGURES
FROM_BATCHES = of("simple_ct_gan", "ingest_scans(0)", "ingest_scans(1)") | FROM_GATHER
FROM_INDEX = of("simple_ct_gan", "index_scans") | FROM_BATCHES
SIMPLE_CT_GAN = of("simple_ct_gan", "render_phantom") | FROM_INDEX

# covid_ct

COVID_LABELS = ("covid", "non_covid")
COVID_GANS = ("dcgan224", "projected_gan")
COVID_SCORES = of("covid_ct", "score", "tabulate_classification", "plot_classification", *ASKED) | FINAL
COVID_REAL = of("covid_ct", *(f"train_classifier(real, seed{seed})" for seed in (0, 1)))
# Network -> its arm: in paths a further one stands behind an @.
COVID_SYNTHETIC = {
    gan: of("covid_ct", *(f"train_classifier({arm}, gan_seed0-seed{seed})" for seed in (0, 1)))
    for gan, arm in zip(COVID_GANS, ("real+synthetic", "real+synthetic@projected_gan"), strict=True)
}
COVID_ARMS = COVID_REAL.union(*COVID_SYNTHETIC.values())
COVID_JUDGED = of("covid_ct", *(f"judge_images({gan}, {seed})" for gan in COVID_GANS for seed in (0, 1)))
COVID_JUDGED |= of("covid_ct", "tabulate_judge")
COVID_TABLES = of("covid_ct", "tabulate_fidelity", "tabulate_networks", "tabulate_judge") | FINAL


def from_covid_gan(gan: str) -> set[str]:
    """What follows from another training of this network."""
    jobs = [
        f"{rule}({gan}, 0, {label}{end})"
        for rule, end in (("train_gan", ""), ("synthesize", ", 0"))
        for label in COVID_LABELS
    ]
    jobs += [f"judge_images({gan}, {seed})" for seed in (0, 1)]
    jobs += [f"{rule}({gan}, 0)" for rule in ("extract_features", "measure_fidelity")]
    jobs += [f"plot_gan({gan})", "plot_panel(diffaugment)"]
    return of("covid_ct", *jobs) | COVID_TABLES | COVID_SYNTHETIC[gan] | COVID_SCORES


FROM_COVID_SPLIT = (
    of("covid_ct", "split_cohort", "tabulate_cohort", "train_encoder(32)")
    | set().union(*map(from_covid_gan, COVID_GANS))
    | COVID_REAL
)
FROM_COVID_INGEST = of("covid_ct", "ingest_images", "extract_real_features(32)") | FROM_COVID_SPLIT
COVID_CT = of("covid_ct", "render_phantom") | FROM_COVID_INGEST

# brain_mr, whose network is trained twice

BRAIN_LABELS = ("tumour", "non_tumour")
SWEPT, BOTH = "real+synthetic-x0.5", "real+classical+synthetic"
BRAIN_GANS = of("brain_mr", *(f"train_gan(pggan, {seed}, {label})" for seed in (0, 1) for label in BRAIN_LABELS))
BRAIN_SHARDS = of("brain_mr", *(f"synthesize(pggan, {seed}, {label}, 0)" for seed in (0, 1) for label in BRAIN_LABELS))
SECOND_BRAIN_SHARDS = {job.replace(", 0)", ", 1)") for job in BRAIN_SHARDS}
BRAIN_SCORES = of("brain_mr", "score", "tabulate_classification", "plot_classification", *ASKED) | FINAL
SWEEP_SCORES = of("brain_mr", "score_shares", "tabulate_shares") | {"all"}
BRAIN_ARMS = {
    arm: of("brain_mr", *(f"train_classifier({arm}, gan_seed{seed}-seed0)" for seed in (0, 1))) for arm in (BOTH, SWEPT)
} | {"real": of("brain_mr", "train_classifier(real, seed0)")}
MAP = of("brain_mr", "embed_images", "plot_embedding") | {"all"}
READ = of("brain_mr", "simulate_reader(1)", "score_readers") | FINAL
ROOM = of("brain_mr", "open_reading_room") | READ
# What follows from other verdicts of the screening.
FROM_VERDICTS = BRAIN_ARMS[BOTH] | BRAIN_ARMS[SWEPT] | BRAIN_SCORES | SWEEP_SCORES | MAP | ROOM
FROM_SCREENING = of("brain_mr", *(f"screen_images(pggan, {seed})" for seed in (0, 1)), "tabulate_screening")
FROM_SCREENING |= FROM_VERDICTS
BRAIN_FIDELITY = of("brain_mr", *(f"measure_fidelity(pggan, {seed})" for seed in (0, 1)), "tabulate_fidelity") | FINAL
FROM_BRAIN_SHARDS = of("brain_mr", *(f"extract_features(pggan, {seed})" for seed in (0, 1)), "plot_gan(pggan)")
FROM_BRAIN_SHARDS |= BRAIN_FIDELITY | FROM_SCREENING
FROM_PGGAN = BRAIN_GANS | BRAIN_SHARDS | FROM_BRAIN_SHARDS
OF_SECOND = {job for job in FROM_PGGAN if "pggan, 1" in job or "gan_seed1" in job}
THIRD_GAN = {job.replace("pggan, 1", "pggan, 2").replace("gan_seed1", "gan_seed2") for job in OF_SECOND}
THIRD_GAN |= of("brain_mr", "tabulate_fidelity") | BRAIN_SCORES | SWEEP_SCORES
FROM_BRAIN_SPLIT = (
    of("brain_mr", "split_cohort", "tabulate_cohort", "train_encoder(32)") | FROM_PGGAN | BRAIN_ARMS["real"]
)
FROM_BRATS = of("brain_mr", "ingest_images", "tabulate_slices", "extract_real_features(32)") | FROM_BRAIN_SPLIT
BRAIN_MR = of("brain_mr", "render_phantom") | FROM_BRATS
ALL_BRAIN_ARMS = set().union(*BRAIN_ARMS.values())

# ct_sgan

CT_COHORTS = ("lidc", "nlst")
EDITED = of("ct_sgan", *(f"edit_scans(0, {cohort})" for cohort in CT_COHORTS), "tabulate_mix")
VOLUME_GANS = ("ct_sgan", "ct_sgan_js", "ct_sgan_projected", "gan3d")
FRAMED = of("ct_sgan", *(f"frame_scans(0, {cohort})" for cohort in CT_COHORTS))
SIZED = of("ct_sgan", "inject_sized")
VOLUME_TABLES = of("ct_sgan", "tabulate_volumes") | FINAL
DETECTION = (
    of("ct_sgan", "score", "tabulate_classification", "plot_classification", "tabulate_detection", *ASKED) | FINAL
)
SHARES = of("ct_sgan", "score_shares", "tabulate_shares") | {"all"}
ON_REAL = of("ct_sgan", "train_detector(real, seed0)")
ON_SYNTHETIC = of(
    "ct_sgan",
    *(f"train_detector({arm}, gan_seed0-seed0)" for arm in ("synthetic", "synthetic-then-real", "synthetic-x0.5")),
)
DETECTED = ON_REAL | ON_SYNTHETIC | DETECTION | SHARES
MEASURED_REAL = of("ct_sgan", "measure_volumes(real)") | VOLUME_TABLES


def injected(*shards: int) -> set[str]:
    """Volumes in these shards, as they were drawn and with nodules, and what follows."""
    jobs = of("ct_sgan", *(f"synthesize_volumes(ct_sgan, 0, {shard})" for shard in shards), "measure_volumes(ct_sgan)")
    shown = of("ct_sgan", "plot_volumes") if 0 in shards else set()
    return jobs | shown | ON_SYNTHETIC | DETECTION | SHARES | VOLUME_TABLES


def from_volume_drawing(*gans: str) -> set[str]:
    """What follows from other volumes of these networks; of `ct_sgan` there are two shards."""
    shards = {gan: (0, 1) if gan == "ct_sgan" else (0,) for gan in gans}
    jobs = [f"synthesize_volumes({gan}, 0, {shard})" for gan in gans for shard in shards[gan]]
    jobs += [f"measure_volumes({gan})" for gan in gans]
    return of("ct_sgan", *jobs, "plot_volumes") | VOLUME_TABLES | (injected(0, 1) if "ct_sgan" in gans else set())


def from_volume_gan(*gans: str) -> set[str]:
    return of("ct_sgan", *(f"train_volume_gan({gan}, 0)" for gan in gans)) | from_volume_drawing(*gans)


FREED = of("ct_sgan", *(f"free_scans(0, {cohort})" for cohort in CT_COHORTS))
FROM_FREED = SIZED | MEASURED_REAL | from_volume_gan(*VOLUME_GANS) | DETECTED
FROM_EDITED = EDITED | FREED | FROM_FREED
FROM_ERASER = of("ct_sgan", "train_nodule_gan(eraser)", "measure_nodules") | FROM_EDITED
FROM_INJECTOR = of("ct_sgan", "train_nodule_gan(injector)") | FROM_ERASER
FROM_VOIS = of("ct_sgan", "cut_vois") | FROM_INJECTOR
FROM_VOLUMES_SPLIT = of("ct_sgan", "split_cohort", "tabulate_cohort", "choose_mix") | FROM_INJECTOR
FROM_VOLUMES = of("ct_sgan", "list_volumes") | FROM_VOIS | FROM_VOLUMES_SPLIT


def from_ingestion(cohort: str) -> set[str]:
    """What follows from other volumes of a cohort."""
    jobs = ("ingest_scans(0)", "gather_scans")
    return of(f"ct_sgan/cohorts/{cohort}", *jobs) | of("ct_sgan", f"frame_scans(0, {cohort})") | FROM_VOLUMES


def from_index(cohort: str) -> set[str]:
    return of(f"ct_sgan/cohorts/{cohort}", "index_scans") | from_ingestion(cohort)


def from_phantom(cohort: str) -> set[str]:
    return of(f"ct_sgan/cohorts/{cohort}", "render_phantom") | from_index(cohort)


COMPARED = (("synthesize_volumes", ", 0, 1"), ("measure_volumes", ""))
SECOND_VOLUME_GAN = {
    job.replace("(ct_sgan, 0", "(ct_sgan, 1").replace("gan_seed0", "gan_seed1")
    for job in from_volume_gan("ct_sgan") - of("ct_sgan", "measure_volumes(ct_sgan)", "plot_volumes")
}
CT_SGAN = from_phantom("lidc") | from_phantom("nlst")
EVERYTHING = HEAD_CT | SIMPLE_CT_GAN | COVID_CT | BRAIN_MR | CT_SGAN | {"survey_lidc"}

# Beginning of a key (the longest counts) -> the jobs that its change must rerun.
EXPECTED = {
    "head_ct": {
        "phantom": HEAD_CT,
        "data": FROM_INGEST,
        "data.licence": set(),  # of images that leave, and nothing else
        "split": FROM_SPLIT,
        "split.file": FROM_INGEST,  # a split that is given keeps its copies
        "gan.dcgan32": FROM_GAN,
        "gan.dcgan32.seeds": SECOND_GAN,
        "synthesis": SHARDS | FROM_SYNTHETIC,
        "synthesis.images_per_class": THIRD_SHARD | FROM_SYNTHETIC,
        "classifier": CLASSIFIERS | JUDGED,
        "classifier.positive": CLASSIFIERS | JUDGED,
        "classifier.arms": JUDGED,
        "classifier.seeds": {job.replace("seed0)", "seed1)") for job in CLASSIFIERS} | JUDGED,
        "classifier.shares": of(
            "head_ct", *(f"train_classifier(real+synthetic-x{share}, gan_seed0-seed0)" for share in (0.5, 0.75))
        )
        | of("head_ct", "score_shares", "tabulate_shares")
        | {"all"},
        "classifier.classical": CLASSICAL | JUDGED,
        "classifier.pretrain_share": PRETRAINED | JUDGED,
        "classifier.fine_tune_rate": PRETRAINED | JUDGED,
        "classifier.real_share": set(),  # no arm has real and other images
        "external": EXTERNAL,
        "export": set(),  # on request alone
        "fidelity": FIDELITY,
        "fidelity.extractor": FEATURES | REAL_FEATURES | FIDELITY,
        "fidelity.weights": FEATURES | REAL_FEATURES | FIDELITY,
        "fidelity.encoder": ENCODER | FIDELITY,
        "evaluation": set(),  # the samples of judges, nodules and volumes, of which there are none
        "evaluation.primary": SCORES - of("head_ct", "score"),
        "evaluation.margin": of("head_ct", "reach_verdict") | {"all"},
    },
    "simple_ct_gan": {
        "phantom": SIMPLE_CT_GAN,
        "data.root": {"all"},  # both are phantoms, and the page names another folder to bring
        "data.scans": FROM_INDEX,
        "data.modality": FROM_INDEX,
        "data.patient_from": FROM_INDEX,
        "data.identity": FROM_INDEX,
        "data.batches": FROM_INDEX | of("simple_ct_gan", "ingest_scans(2)"),
        "data.annotations": FROM_BATCHES - of("simple_ct_gan", "describe_nodules"),
        "data.spacing_mm": FROM_BATCHES,
        "data.antialias": FROM_BATCHES,
        "data.min_slices": FROM_BATCHES,
        "data.hounsfield_offset": FROM_BATCHES,
        "data.max_rejected": FROM_GATHER,
        "data.require_nodules": FROM_GATHER,
        "data.duplicates": FROM_GATHER,
        "data.slices_per_scan": FROM_SLICES,
        "data.window": FROM_SLICES,
        "data.channels": FROM_SLICES,
        "data.image_size": FROM_SLICES,
        "data.label": {job.replace("chest", "thorax") for job in FROM_SLICES},
        "data.licence": set(),
        "split": FROM_SCANS_SPLIT,
        "gan.baseline": FROM_BASELINE,
        "gan.kernel_5": FROM_KERNEL_5,
        "gan.baseline_at_64.image_size": drawn(0, "baseline_at_64")
        | from_drawing("baseline_at_64")
        | of("simple_ct_gan", "extract_real_features(28)", "train_encoder(28)"),
        "panels.optimizer": of("simple_ct_gan", "plot_panel(optimizer)") | {"all"},
        "synthesis": drawn(0, *ALL_GANS) | from_drawing(*ALL_GANS),
        "synthesis.images_per_class": drawn(1, *ALL_GANS) | from_drawing(*ALL_GANS),
        "fidelity": of("simple_ct_gan", *(f"measure_fidelity({gan}, 0)" for gan in ALL_GANS)) | NETWORK_TABLES,
        "evaluation": set(),  # there is no classifier
    },
    "covid_ct": {
        "phantom": COVID_CT,
        "data": FROM_COVID_INGEST,
        "split": FROM_COVID_SPLIT,
        "split.method": FROM_COVID_INGEST,
        **{f"gan.{gan}": from_covid_gan(gan) for gan in COVID_GANS},
        "classifier": COVID_ARMS | COVID_SCORES | COVID_JUDGED,
        "classifier.arms": {
            job.replace("real+synthetic", "synthetic-then-real") for job in COVID_SYNTHETIC["dcgan224"] | COVID_SCORES
        },
        "judge": of("covid_ct", "tabulate_judge") | FINAL,
    },
    "brain_mr": {
        "phantom": BRAIN_MR,
        "data": FROM_BRATS,
        "data.image_size": {job.replace("(32)", "(64)") for job in FROM_BRATS},
        "data.licence": set(),
        "split": FROM_BRAIN_SPLIT,
        "gan.pggan": FROM_PGGAN,
        "gan.pggan.seeds": THIRD_GAN,
        "synthesis": BRAIN_SHARDS | FROM_BRAIN_SHARDS,
        "synthesis.images_per_class": SECOND_BRAIN_SHARDS | FROM_BRAIN_SHARDS,
        "synthesis.screening": FROM_SCREENING,
        # They are verdicts on the images that are shown.
        "synthesis.screening.overrule": FROM_SCREENING - OF_SECOND,
        "classifier": ALL_BRAIN_ARMS | BRAIN_SCORES | SWEEP_SCORES | MAP,
        "classifier.arms": of("brain_mr", "train_classifier(real+classical, seed0)") | BRAIN_SCORES,
        "classifier.shares": {job.replace("x0.5", "x0.75") for job in BRAIN_ARMS[SWEPT]} | SWEEP_SCORES,
        "classifier.classical": BRAIN_ARMS[BOTH] | BRAIN_SCORES | MAP,
        "classifier.real_share": BRAIN_ARMS[BOTH] | BRAIN_ARMS[SWEPT] | BRAIN_SCORES | SWEEP_SCORES,
        "embedding": MAP,
        "reading_room": ROOM,
        "reading_room.simulated_skill": READ,
        "reading_room.simulated_readers": of("brain_mr", "simulate_reader(2)", "score_readers") | FINAL,
        "reading_room.readers": of("brain_mr", "score_readers") | FINAL,
    },
    "ct_sgan": {
        "cohorts.lidc.phantom": from_phantom("lidc"),
        "cohorts.nlst.phantom": from_phantom("nlst"),
        "cohorts.lidc.data": from_ingestion("lidc"),
        "cohorts.nlst.data.scans": from_index("nlst"),
        "cohorts.lidc.data.identity": from_index("lidc"),
        "split": FROM_VOLUMES_SPLIT,
        "nodules.voi": FROM_VOIS,
        "nodules.injector": FROM_INJECTOR,
        "nodules.eraser": FROM_ERASER,
        "nodules.placement": FROM_EDITED,
        "nodules.sham": FROM_EDITED,
        "nodules.eraser_learns_of": FROM_ERASER,
        "nodules.mix_seed": of("ct_sgan", "choose_mix") | FROM_EDITED,
        "nodules.annotated": FROM_VOIS,
        "nodules.test_diameters_mm": SIZED | DETECTED,
        "grid": FRAMED | FROM_VOIS,
        "grid.window": FROM_FREED - SIZED,
        **{f"gan.{gan}": from_volume_gan(gan) for gan in VOLUME_GANS},
        "gan.ct_sgan.seeds": SECOND_VOLUME_GAN,
        "gan.gan3d.seeds": set(),  # its volumes are shown, and the first training's alone
        "synthesis.volumes": injected(2),
        "synthesis.compared_volumes": of(
            "ct_sgan", *(f"{rule}({gan}{end})" for rule, end in COMPARED for gan in VOLUME_GANS[1:])
        )
        | VOLUME_TABLES,
        "synthesis.attempts": injected(0, 1),
        "synthesis.seed": from_volume_drawing(*VOLUME_GANS),
        "classifier": DETECTED,
        "classifier.seeds": {job.replace("seed0)", "seed1)") for job in ON_REAL | ON_SYNTHETIC} | DETECTION | SHARES,
        "classifier.shares": of("ct_sgan", "train_detector(synthetic-x0.75, gan_seed0-seed0)") | SHARES,
        "fidelity": of("ct_sgan", "measure_nodules") | VOLUME_TABLES,
        "fidelity.positions": of(
            "ct_sgan", "measure_nodules", *(f"measure_volumes({source})" for source in ("real", *VOLUME_GANS))
        )
        | VOLUME_TABLES,
        "evaluation": of("ct_sgan", "measure_nodules", "tabulate_mix", "tabulate_detection", "tabulate_shares")
        | VOLUME_TABLES,
    },
}
# Values where the next number, or the other one of two, will not do; None: there is no other value.
ANOTHER = {
    "external": {"head_ct": {"root": "nlst"}},
    "data.root": "nlst",
    "data.labels": "other.csv",
    "data.id_column": "name",
    "data.label_column": "bleeding",
    "data.patient_column": "patient",
    "data.classes": {"head_ct": {"normal": 1, "haemorrhage": 0}, "brain_mr": None},
    "data.channels": {"head_ct": 3, "simple_ct_gan": 1, "brain_mr": 3},
    # Of head CT it is that of its network, which has one size.
    "data.image_size": {"head_ct": None, "simple_ct_gan": 64, "covid_ct": 64, "brain_mr": 64},
    "data.reader": None,  # tested below, for another has other keys
    "data.modality": "MR",
    "data.annotations": "none",
    "data.scans": 7,
    "data.patient_from": "folder",
    "data.identity": "public",
    "cohorts.lidc.data.identity": "public",
    "data.licence": "CC BY 4.0",
    "export.images": 3,
    "export.bits": 16,
    "data.bits": 12,
    "data.duplicates.identical": "allow",
    "data.duplicates.near": "allow",
    "data.window": [-1000, 300],
    "data.label": "thorax",
    "split.train": {"head_ct": 23, "simple_ct_gan": None},
    "split.validation": {"head_ct": 9, "simple_ct_gan": None},
    "split.test": {"head_ct": 9, "simple_ct_gan": None},
    "split.file": TOY,
    "split.folds": None,  # test_folds.py
    "curve": None,  # test_folds.py
    "phantom.renderer": None,
    "phantom.cohort": "nlst",
    "phantom.nodule_diameters_mm": [5, 20],
    "gan.dcgan32.model": None,
    "gan.dcgan32.weights_of": None,
    "gan.dcgan32.steps": None,  # in place of epochs
    "gan.dcgan32.image_size": None,
    "gan.baseline_at_64.image_size": 28,
    "gan.dcgan32.training_images": 5,
    "gan.dcgan32.loss": "wasserstein",
    "gan.dcgan32.gradient_penalty.kind": "r1",
    "gan.dcgan32.optimizer": "rmsprop",
    "gan.dcgan32.precision": "bf16-mixed",
    "gan.dcgan32.random_crop": [0.5, 1],
    "gan.dcgan32.diffaugment.kinds": ["color"],
    "gan.dcgan32.diffaugment.adaptive_target": None,  # not without kinds
    "gan.dcgan224.random_crop": [0.25, 1],
    "data.fit": {"head_ct": "stretch", "covid_ct": "pad"},
    "split.method": {"head_ct": None, "covid_ct": "by_patient"},
    "judge": None,
    "judge.sets": 1,
    "judge.images": 3,
    "panels.optimizer": ["adam", "baseline"],
    "data.slices": [20, 130],
    "data.brain_mm2": [4000, 26000],
    "data.tumour_mm2": [0, 400],
    "synthesis.screening": None,  # tested with brain_mr
    "synthesis.gan": None,  # tested below
    "synthesis.screening.overrule": TOY,
    "classifier.shares": [0.5, 0.75],
    "classifier.real_share": 0.5,
    "classifier.classical.images_per_class": 9,
    "classifier.weights": None,  # not without pretrained: imagenet
    "classifier.precision": "bf16-mixed",
    "judge.weights": None,
    "judge.outputs": None,
    "synthesis.screening.kept": 45,
    "classifier.centre_crop": {"head_ct": 32, "brain_mr": 30},
    "evaluation.primary": "accuracy",
    "evaluation.margin": 0.05,
    "evaluation.subgroups": None,  # tested with a user's own data, for a phantom has none
    "reading_room": None,
    "reading_room.readers": [TOY],
    "embedding": None,
    "cohorts.lidc.data.annotations": "none",
    "cohorts.nlst.data.scans": 7,
    "nodules.annotated": "nlst",
    "nodules.edits": None,  # tested on its own
    "nodules.test_diameters_mm": [20, 25],
    "grid.size": 64,
    "grid.window": [-900, 400],
    "nodules.placement.rule": "wall",
    "nodules.placement.inside_share": 0.75,
    "nodules.voi.size": 24,
    "nodules.voi.diameters_mm": [9, 30],
    "nodules.voi.inside_share": 0.25,
    "nodules.voi.margin_mm": 9,
    "nodules.voi.spacing_mm": 3.5,
    "nodules.injector.zoom": 1.2,
    "synthesis.images_per_class": {"head_ct": 10, "simple_ct_gan": 9, "brain_mr": 61},
    "synthesis.shard_size": 5,
    "classifier": {"simple_ct_gan": None},
    "classifier.mirror": {"head_ct": None, "covid_ct": None, "brain_mr": None, "ct_sgan": False},
    "data.negatives": None,  # a list of patients, whom a phantom has not
    "cohorts.lidc.data.negatives": None,
    "cohorts.nlst.data.negatives": None,
    "nodules.eraser_learns_of": "unannotated",
    "classifier.arms": {
        "head_ct": ["real", "real+classical"],
        "brain_mr": ["real", "real+classical"],
        "covid_ct": ["real", "real+synthetic", "synthetic-then-real"],
    },
    # Of volumes.
    "classifier.base_width": None,
    "fidelity.positions": {"head_ct": None, "ct_sgan": 3},
    "synthesis.volumes": 9,
    "synthesis.compared_volumes": 5,
    "synthesis.attempts": 6,
    "gan.ct_sgan.mode_seeking_weight": 1.0,
    "classifier.backbone": "efficientnet-lite0",
    "classifier.positive": "normal",
    "classifier.pretrained": "efficientnet-lite0",
    "classifier.stem": "small",
    "fidelity.extractor": "inception-v3-compat",
    "fidelity.weights": TOY,
}


def toy_study(study: str) -> dict:
    demo, overlay = (yaml.safe_load((ROOT / file).read_text()) for file in ("config/config.yaml", TOYS[study]))
    merged = merge(demo["studies"][study], overlay["studies"][study])
    return validate({"studies": {study: merged}})["studies"][study]


def merge(below: dict, above: dict) -> dict:
    return below | {
        key: merge(below[key], value) if isinstance(value, dict) and key in below else value
        for key, value in above.items()
    }


# What the studies share is tested on the first.
TESTED_ONCE = (
    *("fidelity", "synthesis", "split", "gan", "panels", "data", "external", "classifier", "evaluation", "export"),
    *("cohorts", "nodules", "grid"),
)
SCANS = toy_study("simple_ct_gan")["data"]
BUT = {
    "simple_ct_gan": {
        *(f"data.{key}" for key in SCANS),
        "evaluation.bootstrap",
        "fidelity.resamples",
        "synthesis.images_per_class",
        "synthesis.batch_size",
        "split.seed",
        "gan.baseline.epochs",
        "gan.kernel_5.base_width",
        "gan.baseline_at_64.image_size",
        "panels.optimizer",
    },
    "covid_ct": {
        "data.fit",
        "split.method",
        "gan.dcgan224.random_crop",
        "gan.projected_gan.diffaugment.probability",
        "gan.projected_gan.pixel_r1",
        "classifier.arms",
        "classifier.steps",
    },
    "ct_sgan": {
        *("cohorts.lidc.phantom.seed", "cohorts.nlst.phantom.scans", "cohorts.lidc.data.spacing_mm"),
        *("cohorts.lidc.data.annotations", "cohorts.nlst.data.scans", "split.seed", "fidelity.resamples"),
        *("evaluation.bootstrap", "nodules.mix_seed", "nodules.annotated", "nodules.test_diameters_mm"),
        *("grid.size", "grid.spacing_mm", "grid.window", "gan.ct_sgan.slabs.told_position", "gan.gan3d.seed"),
        *("gan.ct_sgan.seeds", "gan.gan3d.seeds", "gan.ct_sgan.mode_seeking_weight"),
        *(f"synthesis.{key}" for key in ("volumes", "compared_volumes", "attempts", "seed")),
        *("classifier.steps", "classifier.seeds", "classifier.shares", "classifier.mirror", "fidelity.positions"),
        *(f"nodules.placement.{key}" for key in ("rule", "gap_mm", "inside_share")),
        *("nodules.injector.steps", "nodules.injector.zoom", "nodules.eraser.seed", "nodules.sham"),
        "nodules.eraser_learns_of",
        *(f"nodules.voi.{key}" for key in toy_study("ct_sgan")["nodules"]["voi"]),
    },
    "brain_mr": {
        *(f"data.{key}" for key in toy_study("brain_mr")["data"]),
        *(f"synthesis.{key}" for key in ("images_per_class", "seed", "screening.neighbours", "screening.overrule")),
        *(f"synthesis.screening.{key}" for key in ("quantile", "most_discarded", "kept")),
        *(f"classifier.{key}" for key in ("arms", "shares", "real_share", "centre_crop", "dropout")),
        "classifier.classical.vertical_flip",
        "split.seed",
        "gan.pggan.drift",
        "gan.pggan.seeds",
        "gan.pggan.progressive.fade",
        "gan.pggan.progressive.batch_sizes.4",
    },
}


def leaves(block: dict, prefix: str = "") -> dict[str, object]:
    found = {}
    for key, value in block.items():
        if isinstance(value, dict) and key != "classes":
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def another_value(study: str, key: str, value: object) -> object:
    if key in ANOTHER:
        other = ANOTHER[key]
        return other[study] if isinstance(other, dict) and study in other else other
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.5 or 0.25
    raise AssertionError(f"{key}: give another value in ANOTHER")


def changes(study: str) -> list[tuple[str, str, object]]:
    """Each key of a study, with another value for it."""
    found = []
    for key, value in sorted(leaves(toy_study(study)).items()):
        elsewhere = study != "head_ct" and key.split(".")[0] in TESTED_ONCE and key not in BUT[study]
        if not elsewhere and (other := another_value(study, key, value)) is not None:
            found.append((study, key, other))
    return found


def rounds() -> list[list[tuple[str, str, object]]]:
    """One key of each study at a time, while it has some left: a plan takes seconds, and studies share but the end."""
    together = zip_longest(*map(changes, TOYS))
    return [[change for change in one if change is not None] for one in together]


def override(*changed: tuple[str, str, object]) -> tuple[str, str]:
    """Options that give keys of studies other values."""
    studies = {}
    for study, key, value in changed:
        block = value
        for part in reversed([study, *key.split(".")]):
            block = {part: block}
        studies = merge(studies, block)
    return "--config", f"studies={json.dumps(studies)}"


def expected(study: str, key: str) -> set[str]:
    of_study = EXPECTED[study]
    return of_study[max((prefix for prefix in of_study if f"{key}.".startswith(f"{prefix}.")), key=len)]


def name_of(changed: list[tuple[str, str, object]]) -> str:
    return " ".join(f"{study}.{key}" for study, key, _ in changed)


@pytest.mark.parametrize("changed", rounds(), ids=name_of)
def test_a_change_of_one_key_reruns_just_what_depends_on_it(toy: Workflow, changed: list[tuple[str, str, object]]):
    dependent = set().union(*(expected(study, key) for study, key, _ in changed))
    assert toy.planned(*override(*changed)) == dependent


def test_a_change_of_the_split_spares_ingestion(toy: Workflow):
    numbers, shares = {"train": 22, "validation": 9, "test": 9}, {"train": 0.6, "validation": 0.2, "test": 0.2}
    changed = (("head_ct", "split", numbers), ("simple_ct_gan", "split", shares))
    assert toy.planned(*override(*changed)) == FROM_SPLIT | FROM_SCANS_SPLIT


def test_images_of_another_network_need_that_network_only(toy: Workflow):
    study = {"gan": {"other": toy_study("head_ct")["gan"]["dcgan32"]}, "synthesis": {"gan": "other"}}
    planned = toy.planned("--config", f"studies={json.dumps({'head_ct': study})}")
    of_other = {job.replace("dcgan32", "other") for job in GANS | SHARDS | FEATURES | GAN_FIGURES}
    tables = of("head_ct", "measure_fidelity(other, 0)", "tabulate_fidelity", "tabulate_networks")
    assert planned == of_other | tables | PRETRAINED | JUDGED


def test_a_conditional_network_is_trained_once_for_all_classes(toy: Workflow):
    network = {"model": "projected_gan", "conditional": True, "epochs": 1, "seeds": 1}
    planned = toy.planned("--config", f"studies={json.dumps({'head_ct': {'gan': {'one': network}}})}")
    drawn = {job.replace("dcgan32", "one") for job in SHARDS | FEATURES | GAN_FIGURES | FIDELITY}
    assert planned == drawn | of("head_ct", "train_conditional_gan(one, 0)", "tabulate_networks")


def test_without_the_network_of_ones_own_only_fidelity_is_measured_anew(toy: Workflow):
    assert toy.planned(*override(("head_ct", "fidelity.encoder", None))) == FIDELITY


def test_images_that_leave_train_and_measure_nothing(toy: Workflow):
    changed = (("head_ct", "export.images", 3), ("head_ct", "data.licence", "CC BY 4.0"))
    planned = toy.planned(*override(*changed), target="results/head_ct/exported/dcgan32/normal")
    assert planned == of("head_ct", "export_images(dcgan32, normal)")


def test_another_reader_reads_anew(toy: Workflow):
    data = {"reader": "image_folder"} | dict.fromkeys(("labels", "id_column", "label_column", "patient_column"))
    assert toy.planned(*override(("head_ct", "data", data))) == expected("head_ct", "data.reader")


def test_nothing_runs_twice(toy: Workflow):
    assert toy.planned() == set()


def test_another_results_folder_runs_everything_and_leaves_the_first_alone(toy: Workflow):
    assert toy.planned("--config", "results=elsewhere") == EVERYTHING


def test_a_data_root_replaces_the_phantom(toy: Workflow, tmp_path):
    planned = toy.planned("--config", f"data_roots={{lidc: {tmp_path}}}")
    assert planned == FROM_INDEX | from_index("lidc") | {"list_data(lidc)"}
    others = {study: f"{tmp_path}" for study in ("head_ct", "covid_ct", "brain_mr")}
    listed = {f"list_data({study})" for study in others}
    planned = toy.planned("--config", f"data_roots={json.dumps(others)}")
    assert planned == FROM_INGEST | FROM_COVID_INGEST | FROM_BRATS | listed


def test_two_swapped_learning_rates_are_seen(toy_copy: Workflow):
    one, other = {"learning_rate_generator": 1e-3}, {"learning_rate_discriminator": 5e-4}
    first = override(("head_ct", "gan.dcgan32", one | other))
    rates = {"learning_rate_generator": 5e-4, "learning_rate_discriminator": 1e-3}
    swapped = override(("head_ct", "gan.dcgan32", rates))
    samples = "results/head_ct/gan/dcgan32/seed0/normal/samples.png"
    assert toy_copy.snakemake(*first, target=samples).returncode == 0
    assert toy_copy.planned(*first, target=samples) == set()
    assert toy_copy.planned(*swapped, target=samples) == {"head_ct train_gan(dcgan32, 0, normal)"}


def test_threads_cores_and_profile_rerun_nothing(toy: Workflow):
    resources = ("--set-resources", "train_gan:mem_mb=9000", "train_classifier:runtime=5")
    assert toy.planned("--cores", "4", "--set-threads", "train_gan=1", "train_classifier=3", *resources) == set()
    assert toy.planned("--profile", "profiles/slurm", "--config", "tensorboard=true") == set()


def test_one_job_at_a_time_more_than_there_are_cores(tmp_path: Path):
    workflow = copy_workflow(tmp_path / "toy")
    run = workflow.snakemake(target="results/head_ct/phantom", cores=1000)
    assert run.returncode == 0, run.stdout
    assert re.search(r"^Provided cores: (\d+)", workflow.last_log(), re.MULTILINE)[1] == str(os.cpu_count() + 1)


def test_a_docstring_or_a_comment_reruns_nothing(toy_copy: Workflow):
    model = "src/scangan/models/dcgan32.py"
    toy_copy.edit(model, '"""DCGAN for 32x32 head CT', '"""A DCGAN for 32x32 head CT')
    toy_copy.edit(model, "    def forward(self, latent: Tensor) -> Tensor:\n", DOCUMENTED_FORWARD)
    toy_copy.edit("src/scangan/ingest/images.py", "\nimport ", "\n# A comment.\nimport ")
    toy_copy.edit("src/scangan/training/supervised.py", "%s: resumed at step %d", "%s goes on at step %d")
    toy_copy.edit(
        "workflow/scripts/train_classifier.py", "from pathlib", "# A comment, and another time stamp.\nfrom pathlib"
    )
    toy_copy.edit("workflow/report/classification.rst", "", "Another caption. ")
    assert toy_copy.planned() == set()


DOCUMENTED_FORWARD = '    def forward(self, latent: Tensor) -> Tensor:\n        """Draw."""\n\n        # A comment.\n'


def test_an_edit_of_the_generator_retrains_that_network_alone(toy_copy: Workflow):
    toy_copy.edit(
        "src/scangan/models/dcgan32.py",
        "return self.layers(self.dense(latent)",
        "return self.layers(2 * self.dense(latent)",
    )
    assert toy_copy.planned() == FROM_GAN


def test_what_was_made_of_outputs_whose_job_failed_is_not_taken_for_up_to_date(toy_copy: Workflow):
    # Snakemake removes the outputs of a job that is to run again, or fails: nobody seems to need them then.
    edit = ("workflow/scripts/score.py", "with job(snakemake):", "with job(snakemake):\n    1 / 0\n")
    toy_copy.edit(*edit)
    assert toy_copy.snakemake(target="head_ct").returncode != 0
    toy_copy.edit(*edit[:1], *edit[:0:-1])
    page = of("head_ct", "write_study_page") | {"head_ct"}
    assert toy_copy.planned(target="head_ct") == of("head_ct", "score", "tabulate_classification") | page


def test_an_edit_of_the_reader_of_scans_spares_other_studies(toy_copy: Workflow):
    toy_copy.edit("src/scangan/ct/volume.py", "ALIGNED_VOXELS = 0.1", "ALIGNED_VOXELS = 0.2")
    assert toy_copy.planned() == FROM_BATCHES | from_ingestion("lidc") | from_ingestion("nlst")


def test_a_module_that_rules_once_left_out_is_followed(toy_copy: Workflow):
    toy_copy.edit(
        "src/scangan/synthesis/framing.py", "\n\n\ndef frame_scans", "\nA_NEW_CONSTANT = 1\n\n\ndef frame_scans"
    )
    assert toy_copy.planned() == FRAMED | FROM_VOIS


def test_every_job_carries_the_digest_of_its_own_script(toy: Workflow):
    """So that the digest's own tests, which walk all modules, say what is planned."""
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    scripts = dict(re.findall(r"^rule (\w+):.*?\"\.\./scripts/(\w+)\.py\"", rules, re.MULTILINE | re.DOTALL))
    scripts |= {"extract_real_features": "extract_features"}
    by_name = {"models": ROOT / "src/scangan/models", "phantoms": ROOT / "src/scangan/phantoms"}
    by_name |= {"ingest": ROOT / "src/scangan/ingest"}
    names = [f"scangan.{room}.{file.stem}" for room, folder in by_name.items() for file in folder.glob("[a-z]*.py")]
    seen = set()
    for file in (toy.folder / ".snakemake/metadata").rglob("*"):
        job = json.loads(file.read_text()) if file.is_file() else {}
        if job.get("rule") in scripts:
            script = toy.folder / f"workflow/scripts/{scripts[job['rule']]}.py"
            found = {each.strip("'\"") for each in job["params"]}
            if script_digest(script) not in found:
                known = [[name] for name in names] + [[f"scangan.models.{model}" for model in MODELS]]
                assert found & {script_digest(script, by_name) for by_name in known}, job["rule"]
                assert script.stem in BY_NAME, job["rule"]
            seen.add(job["rule"])
    assert len(seen) > 40


# What these scripts run is found by name, beside what they import.
BY_NAME = {
    *("render_phantom", "ingest_images", "train_gan", "synthesize", "export_images", "train_volume_gan"),
    *("synthesize_volumes", "compare_with_papers"),
}


def test_an_edit_of_a_metric_retrains_nothing(toy_copy: Workflow):
    toy_copy.edit("src/scangan/metrics/classifier_metrics.py", "THRESHOLD = 0.5", "THRESHOLD = 0.6")
    judged = JUDGED | COVID_SCORES | of("covid_ct", "tabulate_judge")
    # The detector of injected nodules is scored like a classifier.
    nodules = of("ct_sgan", "measure_nodules")
    assert toy_copy.planned() == judged | BRAIN_SCORES | SWEEP_SCORES | nodules | DETECTION | SHARES


def test_results_of_another_config_are_replaced_and_nothing_else_is_deleted(toy_copy: Workflow):
    foreign = toy_copy.folder / "results/head_ct/gan/notes.txt"
    foreign.write_text("mine")
    weights = toy_copy.folder / "results/head_ct/gan/dcgan32/seed0/normal/generator.safetensors"
    before = weights.read_bytes()
    run = toy_copy.snakemake(*override(("head_ct", "evaluation.primary", "accuracy")))
    assert run.returncode == 0, run.stdout
    assert "train_" not in run.stdout
    assert foreign.read_text() == "mine"
    assert weights.read_bytes() == before


def test_the_driver_stays_light(toy: Workflow):
    """Planning imports neither torch nor pandas, or it would take seconds."""
    code = (
        "import sys; sys.path.insert(0, 'src'); import scangan.config, scangan.code_digest, scangan.ingest.readers;"
        "print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=toy.folder, text=True, capture_output=True)
    assert run.stdout.strip() == "[]", run.stderr
