"""What each job takes: seconds of networks by the paces of this machine, all else by rates that were measured once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scangan.arms import arm_of_folder
from scangan.config import (
    BrainMrPhantom,
    ChestPhantom,
    Classifier,
    CovidCtPhantom,
    CtSgan,
    HeadCtPhantom,
    ImageGan,
    ImageSource,
    Pggan,
    Scans,
    VolumeGan,
    Volumes,
)
from scangan.forecast.dry_run import Job
from scangan.forecast.paces import Pace, Paces
from scangan.forecast.sizes import Sizes, images_of, scans_of, sizes_of
from scangan.jobs import disk_need
from scangan.plan import Plan
from scangan.plan.images import ImagePlan
from scangan.plan.sources import Source
from scangan.plan.study import StudyPlan
from scangan.plan.volumes import VolumePlan

# Rates, in seconds of a core. Where no other source is named they are those of the default run of November 2026 on two
# cores, without what its jobs load. Voxels are in millions (Mvoxels).
PER_JOB = 0.6  # Snakemake's own, of a job
SHOWN = 1.0  # a table or a figure
RENDER_IMAGE, RENDER_PATIENT, RENDER_SCAN, RENDER_SLICE_PIXELS = 0.012, 0.2, 0.4, 3.0 / 512**2
INDEX_SCAN, INGEST_SCAN, INGEST_MVOXEL = 0.1, 0.3, 0.03
INGEST_IMAGE = 0.006
INGEST_VOLUME, RADIOMICS_MVOXEL = 0.1, 2.0  # of volumes with classes
EDIT_SCAN, EDIT_MVOXEL = 0.05, 0.05
DRAW_SHARE = 6  # a step of both networks takes as long as so many draws of its images
WRITE_MVOXEL, INJECT_VOLUME, INJECT_MVOXEL = 0.005, 0.03, 0.05
MEASURE_VOLUME, MEASURE_MVOXEL = 0.1, 0.076
ENCODER_STEP, ENCODER_PIXEL = 0.02, 1.2e-5
FIDELITY, FIDELITY_IMAGE = 4.0, 0.01
NEIGHBOUR = 1280 * 2 / 3e10  # an image's distance to another one, by 1280 features
MEASURE_NODULES = 25.0
FORWARD = 1 / 3  # of a step: without gradients
CHEST_MM = 350  # edge of a scan's field, and height of a chest
COMPRESSED_VOLUMES, COMPRESSED_IMAGES = 0.5, 0.6  # what is left of 2 bytes a voxel, or pixel
FEATURES_BYTES = 4 * (1280 + 1000)
# Weights of a trained network at its paper's width, bytes.
WEIGHTS = {
    **{"dcgan32": 19e6, "simple_ct_gan": 2e6, "dcgan224": 462e6, "pggan": 92e6, "projected_gan": 20e6},
    **{"ct_sgan": 54e6, "gan3d": 71e6, "resnet50": 94e6, "densenet169": 50e6, "efficientnet-lite0": 14e6},
    "squeezenet3d": 7e6,
}

NODULE_WEIGHTS = 270e6

STAGES = {
    "data": (
        *("list_data", "render_phantom", "survey_lidc", "index_scans", "ingest_scans", "gather_scans", "cut_slices"),
        *("ingest_images", "split_cohort", "split_branch", "list_volumes", "read_subgroups", "check_external"),
    ),
    "generative networks": ("train_gan", "train_conditional_gan", "train_volume_gan", "train_nodule_gan"),
    "nodules and cubes of scans": ("cut_vois", "choose_mix", "edit_scans", "frame_scans", "inject_sized"),
    "synthesis": ("synthesize", "synthesize_volumes"),
    "classifiers": (
        *("train_classifier", "train_detector", "predict_external", "judge_images", "judge_real_images"),
        "embed_images",
    ),
    "measures": (
        *("extract_features", "extract_real_features", "measure_fidelity", "measure_volumes", "measure_nodules"),
        *("train_encoder", "screen_images"),
    ),
}
REST = "tables and figures"
LIGHT = {  # jobs that load no networks
    *("render_phantom", "survey_lidc", "index_scans", "gather_scans", "cut_slices", "ingest_images", "split_cohort"),
    *("split_branch", "list_volumes", "read_subgroups", "check_external", "choose_mix", "list_data"),
}


@dataclass(frozen=True)
class Work:
    """What a job takes. start, other: seconds of a core; network: of a core, or of the GPU; written: bytes that stay.

    scaled: whether the network's seconds are of a smaller one.
    """

    stage: str
    start: float
    network: float = 0.0
    other: float = 0.0
    written: float = 0.0
    scaled: bool = False


def stage_of(rule: str) -> str:
    """The stage of a rule."""
    return next((stage for stage, rules in STAGES.items() if rule in rules), REST)


def work_of(jobs: Iterable[Job], plan: Plan, paces: Paces) -> list[Work]:
    """What these jobs take, in their order."""
    sizes: dict[str, Sizes] = {}

    def size(study: StudyPlan) -> Sizes:
        if study.name not in sizes:
            sizes[study.name] = sizes_of(study)
        return sizes[study.name]

    found = []
    for job in jobs:
        stage = stage_of(job.rule)
        start = PER_JOB + paces.start(stage != REST and job.rule not in LIGHT)
        name = job.wildcards.get("study", "")
        source, study = plan.sources.get(name), plan.studies.get(name)
        if job.rule in ("render_phantom", "index_scans", "ingest_scans", "ingest_images") and source is not None:
            extra = _of_source(job, source)
        elif isinstance(study, ImagePlan):
            extra = _of_images(job, study, size(study), paces)
        elif isinstance(study, VolumePlan):
            extra = _of_volumes(job, study, size(study), paces)
        else:
            extra = _Extra()
        goes = job.rule in ("train_classifier", "train_detector") and not plan.keeps_classifiers
        found.append(Work(stage, start, extra.network, extra.other, 0 if goes else extra.written, extra.scaled))
    return found


@dataclass(frozen=True)
class _Extra:
    network: float = 0.0
    other: float = SHOWN
    written: float = 0.0
    scaled: bool = False


def _of_source(job: Job, source: Source) -> _Extra:
    scans, data, phantom = scans_of(source), source.settings.data, source.settings.phantom
    match job.rule:
        case "render_phantom":
            match phantom:
                case ChestPhantom():
                    slices = CHEST_MM / phantom.slice_spacing_mm
                    pixels = phantom.image_size**2
                    return _Extra(
                        other=scans * (RENDER_SCAN + RENDER_SLICE_PIXELS * pixels), written=scans * slices * pixels * 2
                    )
                case BrainMrPhantom():
                    return _Extra(other=scans * RENDER_PATIENT * (phantom.image_size / 64) ** 2)
                case HeadCtPhantom() | CovidCtPhantom():
                    return _Extra(other=scans * RENDER_IMAGE * (phantom.image_size / 128) ** 2)
        case "index_scans":
            return _Extra(other=scans * INDEX_SCAN)
        case "ingest_scans":
            mvoxels, batches = _scan_mvoxels(source), len(source.batches())
            each = INGEST_SCAN + INGEST_MVOXEL * mvoxels
            written = COMPRESSED_VOLUMES * 2e6 * mvoxels
            return _Extra(other=scans / batches * each, written=scans / batches * written)
        case "ingest_images" if isinstance(data, ImageSource):
            images = images_of(source)
            pixels = data.image_size**data.DIMENSIONS * getattr(data, "channels", 1)
            each = INGEST_IMAGE if data.DIMENSIONS == 2 else INGEST_VOLUME
            return _Extra(other=images * each, written=COMPRESSED_IMAGES * 2 * images * pixels)
    return _Extra()


def _of_images(job: Job, study: ImagePlan, size: Sizes, paces: Paces) -> _Extra:
    settings, classifier = study.settings, study.settings.classifier
    data, wanted = settings.data, settings.synthesis
    channels, edge = getattr(data, "channels", 1), data.image_size
    synthetic = wanted.images_per_class * size.classes
    gan = job.wildcards.get("gan", "")

    def pace_of(network: ImageGan | VolumeGan) -> Pace:
        if isinstance(network, VolumeGan):
            return paces.volume_gan(network, study.image_size(gan))
        return paces.image_gan(network, channels, study.image_size(gan))

    match job.rule:
        case "train_gan" | "train_conditional_gan":
            network = settings.gan[gan]
            pace = pace_of(network)
            images = size.train if job.rule == "train_conditional_gan" else size.train / size.classes
            images = min(images, network.training_images or images)
            steps = network.steps_on(images)
            # A growing network has a batch of its own at each edge, and is counted with one for all.
            of_edges = network.progressive.batch_sizes if isinstance(network, Pggan) else {}
            steps *= network.batch_size / max([network.batch_size, *of_edges.values()]) if of_edges else 1
            return _Extra(pace.seconds * max(1, steps), 1.0, _weights(network.model, network.base_width), pace.scaled)
        case "synthesize" | "export_images":
            network = settings.gan[study.trained_gan(gan)]
            pace = pace_of(network)
            images = min(wanted.shard_size, wanted.images_per_class)
            written = COMPRESSED_IMAGES * 2 * images * study.image_size(gan) ** data.DIMENSIONS * channels
            draw = pace.seconds / network.batch_size / DRAW_SHARE * _slabs(network, study.image_size(gan))
            return _Extra(draw * images, SHOWN, written, pace.scaled)
        case "extract_features" | "extract_real_features":
            images = synthetic if job.rule == "extract_features" else size.in_all
            slices = 3 * settings.fidelity.positions if study.is_of_volumes else 1
            return _Extra(paces.features() * images * slices, SHOWN, images * FEATURES_BYTES)
        case "measure_fidelity":
            each = FIDELITY_IMAGE + (RADIOMICS_MVOXEL * edge**3 / 1e6 if study.is_of_volumes else 0)
            return _Extra(other=FIDELITY + each * (synthetic + size.in_all))
        case "train_encoder":
            encoder = settings.fidelity.encoder
            pixels = int(job.wildcards.get("image_size", edge)) ** 2
            return _Extra(other=(encoder.steps if encoder else 0) * (ENCODER_STEP + ENCODER_PIXEL * pixels))
        case "screen_images":
            return _Extra(other=2 + NEIGHBOUR * synthetic * size.train / size.classes)
        case "cut_slices":
            return _Extra(written=COMPRESSED_IMAGES * 2 * size.in_all * edge**2 * channels)
        case "train_classifier" if classifier is not None:
            pace = paces.classifier(classifier, channels, edge)
            of_image = pace.seconds / classifier.batch_size * FORWARD
            a_pass = _images_of_arm(job, classifier, size, synthetic) / classifier.batch_size
            every = a_pass if classifier.validate_every == "pass" else classifier.validate_every
            looks = classifier.steps / max(1, every)
            seen = looks * size.validation + size.validation + size.test
            weights = _weights(classifier.network_of_images, None)
            return _Extra(pace.seconds * classifier.steps + of_image * seen, SHOWN, weights, pace.scaled)
        case "judge_images" | "judge_real_images" | "predict_external" | "embed_images" if classifier is not None:
            pace = paces.classifier(classifier, channels, edge)
            images = wanted.images_per_class if job.rule == "judge_images" else size.in_all
            return _Extra(pace.seconds / classifier.batch_size * FORWARD * images, SHOWN, 0, pace.scaled)
    return _Extra()


def _of_volumes(job: Job, study: VolumePlan, size: Sizes, paces: Paces) -> _Extra:
    settings, classifier, nodules = study.settings, study.settings.classifier, study.settings.nodules
    scans = size.in_all
    gan = job.wildcards.get("gan", "")
    batches = sum(len(source.batches()) for source in study.sources)
    scan_mvoxels = _scan_mvoxels(study.sources[0])
    each_scan = EDIT_SCAN + EDIT_MVOXEL * scan_mvoxels
    edge = settings.grid.size if settings.grid is not None else 0
    mvoxels = edge**3 / 1e6
    match job.rule:
        case "train_volume_gan":
            network = settings.gan[gan]
            pace = paces.volume_gan(network, getattr(network, "image_size", None) or edge)
            steps = network.steps_on(size.train)
            return _Extra(pace.seconds * max(1, steps), 2.0, _weights(network.model, network.base_width), pace.scaled)
        case "train_nodule_gan" if nodules is not None:
            kind = job.wildcards["network"]
            own = nodules.injector if kind == "injector" else nodules.eraser
            pace = paces.nodule_network(kind, own, nodules.voi)
            return _Extra(pace.seconds * own.steps, 1.0, NODULE_WEIGHTS * (own.base_width / 64) ** 2, pace.scaled)
        case "cut_vois" | "inject_sized":
            return _Extra(other=scans * each_scan / 4)
        case "edit_scans":
            written = COMPRESSED_VOLUMES * 2e6 * scan_mvoxels
            return _Extra(other=scans / batches * each_scan, written=scans / batches * written)
        case "frame_scans":
            written = 2 * COMPRESSED_VOLUMES * 2e6 * mvoxels
            return _Extra(other=scans / batches * each_scan, written=scans / batches * written)
        case "synthesize_volumes":
            shard = study.shard_settings(gan, job.wildcards["gan_seed"], job.wildcards["shard"])["volumes"]
            edited = shard * (study.versions(gan) - 1)
            written = COMPRESSED_VOLUMES * disk_need(shard, edge, study.versions(gan))
            other = shard * WRITE_MVOXEL * mvoxels + edited * (INJECT_VOLUME + INJECT_MVOXEL * mvoxels)
            network = settings.gan[gan]
            pace = paces.volume_gan(network, getattr(network, "image_size", None) or edge)
            draw = pace.seconds / network.batch_size / DRAW_SHARE * _slabs(network, edge)
            return _Extra(shard * draw, other, written, pace.scaled)
        case "measure_volumes":
            of = job.wildcards.get("source", "real")
            volumes = scans if of == "real" else study.volumes_of(of)
            slices = 3 * settings.fidelity.positions * volumes
            return _Extra(paces.features() * slices, volumes * (MEASURE_VOLUME + MEASURE_MVOXEL * mvoxels))
        case "measure_nodules":
            return _Extra(other=MEASURE_NODULES)
        case "train_detector" if classifier is not None:
            pace = paces.classifier(classifier, 1, edge)
            looks = 1 if classifier.validate_every == "pass" else classifier.steps / classifier.validate_every
            sized = len(nodules.test_diameters_mm) if nodules is not None else 0
            seen = looks * size.validation + size.validation + size.test * (2 + sized)
            seconds = pace.seconds * (classifier.steps + seen / classifier.batch_size * FORWARD)
            return _Extra(seconds, 2.0, _weights("squeezenet3d", classifier.base_width), pace.scaled)
    return _Extra()


def _slabs(network: ImageGan | VolumeGan, edge: int) -> float:
    """How many times a volume holds what a step draws of it."""
    return (edge - 2) / network.slabs.depth if isinstance(network, CtSgan) else 1


def _images_of_arm(job: Job, classifier: Classifier, size: Sizes, synthetic: int) -> float:
    """Images that an arm trains on in its largest phase."""
    arm = arm_of_folder(job.wildcards["arm"])
    added = synthetic if arm.synthetic_share is None else round(arm.synthetic_share * size.train)
    transformed = (classifier.classical.images_per_class or 0) * size.classes
    return max(
        sum(size.train if name == "real" else added for name in phase.reads) + transformed * phase.classical
        for phase in arm.phases
    )


def _scan_mvoxels(source: Source) -> float:
    """Of a scan at the spacing of its source."""
    data = source.settings.data
    return (CHEST_MM / data.spacing_mm) ** 3 / 1e6 if isinstance(data, Scans | Volumes) else 0.0


def _weights(model: str, base_width: int | None) -> float:
    """Bytes of a trained network; a narrower one's are few."""
    return WEIGHTS[model] if base_width is None else 2e6
