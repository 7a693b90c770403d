"""How much main memory each job asks for, in MB: from its settings, with what `benchmarks/memory.py` measured.

Local runs start no job that would not fit beside those that run, and clusters give each what it asks for. What a job
reads of a user's own data is not known before: images stay in their files where they would take more than `HELD`, and
of scans as many are taken for granted as in the papers' cohorts, unless the settings say how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scangan.config import Classifier
from scangan.plan import ImagePlan, StudyPlan, VolumePlan

MB = 1e6
PLAIN, TORCH = 700, 1200  # a job's libraries, without torch and with it
CUDA = 3000  # what CUDA's libraries take besides
HELD = 1100  # a set of images, or volumes, that is held at most, see `data.store` and `data.volume_set`
FEATURES = 1280 + 1000  # numbers of an image, float32
BANDS = 50e3  # bytes of an image among which copies are looked for
SCANS = 1200  # LIDC-IDRI's are 1,018
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
    *("open_reading_room", "plot_gan", "plot_panel", "ingest_images", "cut_slices", "synthesize", "export_images"),
}
OF_SCANS = {"ingest_scans", "edit_scans", "edit_own_scans", "frame_scans", "cut_vois", "plot_scans", "plot_nodules"}
WITHOUT_TORCH = {"plot_gan", "plot_panel", "open_reading_room", "ingest_images", "cut_slices", "cut_vois"}


def job_mb(rule: str, study: StudyPlan | None, wildcards: Mapping[str, Any], threads: int, on_gpu: bool) -> int:
    """What a rule's job asks for. study: None for a rule of no study. on_gpu: whether networks are on a GPU."""
    own: float = PLAIN
    if isinstance(study, ImagePlan) and rule in OF_IMAGES:
        own = (PLAIN if rule in WITHOUT_TORCH else TORCH) + _of_images(rule, study, wildcards, on_gpu)
    elif rule in OF_SCANS:
        own = TORCH + _of_scans(study)
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
    # Each set twice, for a part of it is a copy.
    need = 2 * (HELD if study.data == "real" else HELD / 4) + 2 * min(HELD, 4 * drawn * pixels / MB)
    if rule == "extract_features":
        need += 2 * 4 * FEATURES * drawn / MB
    elif rule == "measure_fidelity":
        need += (2 * 4 * FEATURES + BANDS) * drawn / MB
    elif rule == "synthesize" and study.is_of_volumes:
        need += 4 * 16 * settings.synthesis.batch_size * voxels / MB  # the widest maps that are drawn at once
    elif rule in ("train_gan", "train_conditional_gan"):
        need += _network_mb(settings.gan[gan], study.image_size(gan), on_gpu)
    elif rule == "train_classifier" and settings.classifier is not None:
        if study.is_of_volumes:
            return need + _detector_mb(settings.classifier, settings.data.image_size, on_gpu)
        live, edge, batch = CLASSIFIER
        full = live * 1000 * (settings.data.image_size / edge) ** 2 * settings.classifier.batch_size / batch
        stem = 16 if settings.classifier.stem == "small" else 1
        need += CUDA if on_gpu else 600 + full * stem
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
    if rule == "train_nodule_gan" and settings.nodules is not None:
        network = getattr(settings.nodules, wildcards["network"])
        return TORCH + 2 * HELD + _network_mb(network, settings.nodules.voi.size, on_gpu, "nodule_cgan")
    if settings.grid is None or settings.synthesis is None:
        return None
    voxels = settings.grid.size**3 / MB
    library = TORCH + (CUDA if on_gpu else 0)
    match rule:
        case "train_volume_gan":
            gan = settings.gan[wildcards["gan"]]
            edge = getattr(gan, "image_size", None) or settings.grid.size
            held = 2 * _training_scans(study) * voxels
            return TORCH + held + _network_mb(gan, edge, on_gpu)
        case "synthesize_volumes" | "measure_volumes":
            return library + (threads + 2) * WORK_A_VOXEL * voxels
        case "inject_sized":
            return library + HELD + 2 * WORK_A_VOXEL * voxels
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
    if split.is_counts:
        return split.train
    scans = 0
    for source in study.sources:
        cohort: Any = source.settings
        scans += cohort.data.scans or (SCANS if source.data == "real" else cohort.phantom.scans)
    return scans * split.train


def _network_mb(settings: Any, edge: int, on_gpu: bool, model: str | None = None) -> float:
    """Of a training besides its images: on a CPU weights, gradients, moments, average, and what a step makes."""
    if on_gpu:
        return CUDA
    parameters, live, full_edge, full_width, batch = NETWORKS[model or settings.model]
    width = (getattr(settings, "base_width", None) or full_width) / full_width
    dimensions = 3 if (model or settings.model) in ("ct_sgan", "gan3d", "nodule_cgan") else 2
    share = (edge / full_edge) ** dimensions * settings.batch_size / batch
    return 6 * 4 * parameters * width**2 + 1000 * live * width * share
