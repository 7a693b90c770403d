"""How much main memory each job asks for, in MB: from its settings, with what `benchmarks/memory.py` measured.

Local runs start no job that would not fit beside those that run, and clusters give each what it asks for. What a job
reads of a user's own data is not known before: images stay in their files where they would take more than `HELD`, and
of scans as many are taken for granted as in the papers' cohorts, unless the settings say how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scangan.config import Classifier
from scangan.plan.images import ImagePlan
from scangan.plan.study import StudyPlan
from scangan.plan.volumes import VolumePlan
from scangan.processes import worthwhile_processes

MB = 1e6
PLAIN, TORCH = 700, 1200  # a job's libraries, without torch and with it
CUDA = 3000  # what CUDA's libraries take besides
HELD = 1100  # a set of images, or volumes, that is held at most, see `data.store` and `data.volume_set`
FEATURES = 4 * (1280 + 1000)  # bytes of an image
RADIOMICS = 10 * 8 * 93  # bytes of an image's, and what is made of them
DISTANCES = 1100  # MB, scikit-learn's, at once
TEMPLATES = 600  # MB, of the images among which copies are looked for at once
INFERENCE = 5  # a step's memory is so many times that of a forward pass
AT_ONCE = 32  # images that `embed_images` shows its classifier at once
SCANS, NODULES = 1200, 2.6  # LIDC-IDRI's are 1,018; of each
CHEST_MM = 420  # of a scan's edges, about
# Of networks at their papers' size: parameters of both, millions; bytes that live at the peak of a step, GB; for what
# edge, width and batch.
NETWORKS = {
    "dcgan32": (5.7, 0.3, 32, 64, 16),
    "simple_ct_gan": (2.5, 0.3, 40, 64, 16),
    "dcgan224": (216, 2.8, 224, 64, 16),
    "pggan": (46, 18.5, 256, 512, 16),
    "projected_gan": (60, 6.0, 256, 64, 16),
    "ct_sgan": (39, 6.2, 224, 64, 8),
    "gan3d": (29, 2.6, 128, 64, 8),
    "nodule_cgan": (85, 7.0, 64, 64, 16),
}
DETECTOR = (12.9, 224, 64, 8)  # likewise, of `squeezenet3d`
CLASSIFIER = (16.6, 224, 192)  # of `resnet50`
WORK_A_VOXEL = 30  # bytes, of a volume whose lungs and body are found
DESCRIBED = 4  # volumes that `measure_volumes` describes at once
LARGEST = 2000  # volumes whose distances are taken, as in `metrics.fidelity`
OF_IMAGES = {
    *(
        "train_gan",
        "train_conditional_gan",
        "train_classifier",
        "train_encoder",
        "judge_images",
        "judge_real_images",
        "embed_images",
    ),
    *("extract_features", "extract_real_features", "measure_fidelity", "predict_external", "check_external"),
    "screen_images",
    *("open_reading_room", "plot_gan", "plot_panel", "ingest_images", "cut_slices", "synthesize", "export_images"),
}
LOOK_AT_FEW = {"open_reading_room", "plot_gan", "plot_panel", "embed_images"}  # all others stay in their files
CLASSIFY = {"judge_images", "judge_real_images", "predict_external", "embed_images"}
OF_SCANS = {
    *("ingest_scans", "edit_scans", "edit_own_scans", "frame_scans", "free_scans"),
    *("cut_vois", "plot_scans", "plot_nodules"),
}
FILLINGS = 600  # the injector's and the eraser's weights, and what they make of a nodule
WITHOUT_TORCH = {"plot_gan", "plot_panel", "open_reading_room", "ingest_images", "cut_slices", "cut_vois"}


def job_mb(rule: str, study: StudyPlan | None, wildcards: Mapping[str, Any], threads: int, on_gpu: bool) -> int:
    """What a rule's job asks for. study: None for a rule of no study. on_gpu: whether networks are on a GPU."""
    own: float = PLAIN
    if isinstance(study, ImagePlan) and rule in OF_IMAGES:
        own = PLAIN if rule in WITHOUT_TORCH else TORCH + (CUDA if on_gpu else 0)
        own += _of_images(rule, study, wildcards, on_gpu)
    elif rule in OF_SCANS:
        own = TORCH + FILLINGS + _of_scans(study) + (CUDA if on_gpu else 0)
    elif isinstance(study, VolumePlan):
        own = _of_volumes(rule, study, wildcards, threads, on_gpu) or own
    return round(own)


def _of_images(rule: str, study: ImagePlan, wildcards: Mapping[str, Any], on_gpu: bool) -> float:
    settings: Any = study.settings
    gan = wildcards.get("gan", "")
    voxels = settings.data.image_size**settings.data.DIMENSIONS
    pixels = settings.data.channels * voxels
    drawn = 0
    if settings.synthesis is not None:
        drawn = settings.synthesis.images_per_class * len(study.labels())
    if rule == "screen_images":
        return DISTANCES + FEATURES * drawn / MB
    real = HELD if study.data == "real" else HELD / 4
    synthetic = min(HELD, 4 * drawn * pixels / MB)
    # Each set twice, for a part of it is a copy. Of those who look at few only the real ones may have to be scaled.
    need = real if rule in LOOK_AT_FEW else 2 * (real + synthetic)
    if rule == "extract_features":
        need += FEATURES * drawn / MB
    elif rule == "measure_fidelity":
        need += (FEATURES + RADIOMICS) * drawn / MB + TEMPLATES
    elif rule == "synthesize" and study.is_of_volumes:
        need += 4 * 16 * settings.synthesis.batch_size * voxels / MB  # the widest maps that are drawn at once
    elif rule in ("train_gan", "train_conditional_gan"):
        need += _network_mb(settings.gan[gan], study.image_size(gan), on_gpu)
    elif rule == "train_classifier" and study.is_of_volumes and settings.classifier is not None and not on_gpu:
        need += _detector_mb(settings.classifier, settings.data.image_size, on_gpu)
    elif settings.classifier is not None and not on_gpu and rule in ("train_classifier", *CLASSIFY):
        live, edge, batch = CLASSIFIER
        images = min(settings.classifier.batch_size, AT_ONCE if rule == "embed_images" else math.inf)
        step = live * 1000 * (settings.data.image_size / edge) ** 2 * images / batch
        step *= 16 if settings.classifier.stem == "small" else 1
        need += 600 + step if rule == "train_classifier" else step / INFERENCE
    return need


def _of_scans(study: StudyPlan | None) -> float:
    """A scan as it is read, on its new grid, and its masks."""
    spacing_mm = 1.0
    if study is not None:
        found = (getattr(source.settings.data, "spacing_mm", None) for source in study.sources)
        spacing_mm = min((each for each in found if each), default=1.0)
    return 24 * (CHEST_MM / spacing_mm) ** 3 / MB


def _of_volumes(rule: str, study: VolumePlan, wildcards: Mapping[str, Any], threads: int, on_gpu: bool) -> float | None:
    settings = study.settings
    if rule in ("train_nodule_gan", "measure_nodules") and settings.nodules is not None:
        voi = settings.nodules.voi
        healthy, nodules = (_scans(study) * each * 4 * voi.size**3 / MB for each in (voi.healthy_per_scan, NODULES))
        own = TORCH + (CUDA if on_gpu else 0)
        if rule == "measure_nodules":
            # Healthy ones that are held out: as they are, injected, erased, and filled before that is blended in.
            return own + FILLINGS + 4 * (1 - _share(study)) * healthy + nodules
        network = getattr(settings.nodules, wildcards["network"])
        if wildcards["network"] == "eraser":
            healthy *= 1.25  # some are shown as they are besides
        # What is shown, what shall be made of it, and both as tensors.
        return own + 3 * _share(study) * (healthy + nodules) + _network_mb(network, voi.size, on_gpu, "nodule_cgan")
    if settings.grid is None or settings.synthesis is None:
        return None
    voxels = settings.grid.size**3 / MB
    library = TORCH + (CUDA if on_gpu else 0)
    match rule:
        case "train_volume_gan":
            gan = settings.gan[wildcards["gan"]]
            edge = getattr(gan, "image_size", None) or settings.grid.size
            held = 2 * _training_scans(study) * voxels
            return library + held + _network_mb(gan, edge, on_gpu)
        case "measure_volumes":
            return library + (min(threads, DESCRIBED) + 2) * WORK_A_VOXEL * voxels
        case "synthesize_volumes":
            shard = study.shard_settings(wildcards["gan"], wildcards["gan_seed"], wildcards["shard"])
            processes = worthwhile_processes(shard["volumes"], shard["size"], threads)
            # What CUDA's libraries take is theirs together; of several processes one more hands them their seeds.
            each = TORCH + FILLINGS + WORK_A_VOXEL * voxels
            return library - TORCH + processes * each + (PLAIN if processes > 1 else 0) + 2 * WORK_A_VOXEL * voxels
        case "inject_sized":
            return library + FILLINGS + HELD + 2 * WORK_A_VOXEL * voxels
        case "tabulate_volumes":
            points = 3 * settings.fidelity.positions * 1280 * min(LARGEST, settings.synthesis.volumes)
            return TORCH + 1.2 * 8 * points / MB  # in double precision
        case "train_detector" if settings.classifier is not None:
            # Sets that are held, and batches on their way.
            held = 4 * HELD + 16 * settings.classifier.batch_size * voxels
            return TORCH + held + _detector_mb(settings.classifier, settings.grid.size, on_gpu)
    return None


def _detector_mb(classifier: Classifier, size: int, on_gpu: bool) -> float:
    """What a step of `squeezenet3d` on cubes of this size takes."""
    if on_gpu:
        return CUDA
    live, edge, width, batch = DETECTOR
    share = (size / edge) ** 3 * (classifier.base_width or width) / width
    return live * 1000 * share * classifier.batch_size / batch * (4 if classifier.stem == "small" else 1)


def _training_scans(study: VolumePlan) -> float:
    """Those that are trained on, of all cohorts."""
    split = study.settings.split
    return split.train if split.is_counts else _scans(study) * split.train


def _share(study: VolumePlan) -> float:
    """Of the scans, those that are trained on."""
    return min(1.0, _training_scans(study) / _scans(study))


def _scans(study: VolumePlan) -> float:
    """Of all cohorts."""
    scans = 0
    for source in study.sources:
        cohort: Any = source.settings
        scans += cohort.data.scans or (SCANS if source.data == "real" else cohort.phantom.scans)
    return scans


def _network_mb(settings: Any, edge: int, on_gpu: bool, model: str | None = None) -> float:
    """Of a training besides its images: on a CPU weights, gradients, moments, average, and what a step makes."""
    if on_gpu:
        return 0
    parameters, live, full_edge, full_width, batch = NETWORKS[model or settings.model]
    width = (getattr(settings, "base_width", None) or full_width) / full_width
    dimensions = 3 if (model or settings.model) in ("ct_sgan", "gan3d", "nodule_cgan") else 2
    share = (edge / full_edge) ** dimensions * settings.batch_size / batch
    return 6 * 4 * parameters * width**2 + 1000 * live * width * share
