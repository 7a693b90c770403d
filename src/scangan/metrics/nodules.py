"""How good the nodule eraser and injector are: nodules measured, VOIs compared with the truth and with real nodules.

Every table has a row a variant and metric: `study, variant, metric, value, ci_low, ci_high, images, data, scale`. The
intervals are 95% percentile intervals of a bootstrap over patients, each drawn with all its VOIs; `images` are VOIs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import wasserstein_distance
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic

from scangan.config import Evaluation, Fidelity
from scangan.ct.grids import sphere
from scangan.ct.window import VOI_WINDOW, to_network
from scangan.data.voi import VoiSet
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.classifier_metrics import weighted_metrics
from scangan.metrics.feature_sets import Features
from scangan.metrics.features import extract
from scangan.metrics.fidelity import compare_sets
from scangan.metrics.patients import draw_patients, interval_of, tidy_table

FINE_MM = 0.7  # VOIs are measured on a grid at least this fine
LUNG_BELOW = -500  # Hounsfield; lung, against vessels, wall and solid nodules
LEAST_LUNG = 0.02  # share of a VOI, below which it has no lung to compare with
LEAST_CONTRAST = 150  # Hounsfield above the lung; noise of coarse scans has less, ground glass more
SOFT_TISSUE = 50  # Hounsfield; a calcified nodule would set its threshold above its own rim
# As shares of the radius of the largest ball in the nodule that lies about the VOI's centre:
OPENING = 0.6  # what is thinner is a vessel
WALL = 1.25  # what holds a larger ball is the wall
REACH = 1.7  # what is farther away belongs to something else
DIRECTIONS = np.arange(0, np.pi, np.pi / 36)

BIN_HU = 5.0  # of HU histograms
GREY_LEVELS = 32  # of co-occurrence matrices, over `VOI_WINDOW`
LEAST_CROP = 3  # voxels about the centre whose texture is measured, at least
MOST_INPAINTED = 8000  # voxels at once: two seconds
FOLDS, REPEATS = 5, 3  # of the detector's cross-validation


class Diameters(NamedTuple):
    """Of one nodule, in mm, NaN where there is none.

    equivalent: of the sphere of the same volume, as a nodule table's `equivalent_diameter_mm`. axial: the greatest
    extent within an axial slice, as LIDC-IDRI's readers draw it; their outlines run through the first pixels outside of
    a nodule, so that theirs (`diameter_mm`) is more by one to two pixels of the scan.
    """

    axial: float
    equivalent: float


def segment_nodule(voi: np.ndarray, voi_spacing_mm: float) -> tuple[np.ndarray, float]:
    """The nodule at the centre of a VOI.

    voi: [S, S, S] in HU. Returns its mask, bool [T, T, T] on a finer grid about the same centre, and that grid's
    spacing in mm. The mask is empty if the VOI has no lung, or nothing at its centre that is brighter than it.

    The threshold lies half-way between the lung's median and the nodule; of part-solid nodules that is the solid part.
    From the component at the centre an opening takes vessels, and whatever holds a ball larger than the nodule's is
    taken for the wall. The nodule's size is no input, so an asked size cannot leak into the measured one.
    """
    size, empty = len(voi), np.zeros((1, 1, 1), bool)
    lung = voi[voi < LUNG_BELOW]
    if lung.size < LEAST_LUNG * voi.size:
        return empty, voi_spacing_mm
    lung = np.median(lung)
    centre_mm = max(1.01 * voi_spacing_mm, 1.5)  # the nodule may lie this far from the VOI's centre
    level = min(float(np.percentile(voi[sphere(size, voi_spacing_mm, centre_mm)], 80)), SOFT_TISSUE)
    if level - lung < LEAST_CONTRAST:
        return empty, voi_spacing_mm
    threshold = (lung + level) / 2

    # Only about the nodule, as far as its wall must be seen.
    depth_mm = ndimage.distance_transform_edt(voi > threshold, sampling=voi_spacing_mm)
    half = 3 * depth_mm[sphere(size, voi_spacing_mm, centre_mm)].max() / voi_spacing_mm + 4
    crop = slice(max(0, int(size / 2 - half)), min(size, size - int(size / 2 - half)))
    voi = voi[crop, crop, crop]
    factor = int(np.ceil(voi_spacing_mm / FINE_MM - 1e-9))
    spacing_mm, fine = voi_spacing_mm / factor, (len(voi) - 1) * factor + 1
    bright = _finer(voi, factor) > threshold

    near = sphere(fine, spacing_mm, centre_mm)
    if not (bright & near).any():
        return empty, voi_spacing_mm

    def depth() -> np.ndarray:
        return ndimage.distance_transform_edt(bright, sampling=spacing_mm)

    def within(mask: np.ndarray, distance_mm: float) -> np.ndarray:
        return ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= distance_mm

    depth_mm = depth()
    core = np.unravel_index(np.where(near, depth_mm, -1).argmax(), depth_mm.shape)
    deep = depth_mm > WALL * depth_mm[core]
    if deep.any():
        wall = within(deep, WALL * depth_mm[core])
        if not wall[core]:
            bright &= ~wall
            depth_mm = depth()
    radius_mm = depth_mm[core]
    parts, _ = ndimage.label(depth_mm > OPENING * radius_mm)
    z, y, x = np.ogrid[tuple(map(slice, bright.shape))]
    squares = (z - core[0]) ** 2 + (y - core[1]) ** 2 + (x - core[2]) ** 2
    close = squares * spacing_mm**2 <= (REACH * radius_mm) ** 2
    return within(parts == parts[core], OPENING * radius_mm) & bright & close, spacing_mm


def _finer(voi: np.ndarray, factor: int) -> np.ndarray:
    """Linear values at `factor` times as many places a voxel, from the first voxel's centre to the last one's."""
    for axis in range(3):
        ends = np.moveaxis(voi, axis, 0)
        shares = np.arange(factor, dtype=np.float32)[:, None, None] / factor
        steps = ends[:-1, None] + shares * (ends[1:] - ends[:-1])[:, None]
        finer = np.concatenate([steps.reshape(-1, *ends.shape[1:]), ends[-1:]])
        voi = np.moveaxis(finer, 0, axis)
    return voi


def measure_diameters(voi: np.ndarray, voi_spacing_mm: float) -> Diameters:
    """Both diameters of the nodule at the centre of a VOI, [S, S, S] in HU, by `segment_nodule`.

    Neither corrects for the resolution. Balls of three VOI voxels or more are measured axially to 0.4 of a voxel,
    without a bias, and by volume up to 0.55 of a voxel too small; nodules of less than three voxels of the scan come
    out too large, for they are blurred that far.
    """
    mask, spacing_mm = segment_nodule(voi, voi_spacing_mm)
    if not mask.any():
        return Diameters(np.nan, np.nan)
    z, y, x = np.nonzero(mask)
    extent = np.outer(y, np.sin(DIRECTIONS)) + np.outer(x, np.cos(DIRECTIONS))
    slices = np.flatnonzero(np.diff(z, prepend=-1))
    widest = (np.maximum.reduceat(extent, slices) - np.minimum.reduceat(extent, slices)).max() + 1
    return Diameters(float(widest * spacing_mm), float((6 / np.pi * mask.sum()) ** (1 / 3) * spacing_mm))


def with_measured_diameters(vois: VoiSet) -> VoiSet:
    """The same VOIs; their table has a column `measured_mm` besides: the equivalent diameter of each, as measured."""
    pairs = zip(vois.voxels, vois.table.spacing_mm, strict=True)
    return VoiSet(vois.voxels, vois.table.assign(measured_mm=[measure_diameters(*pair).equivalent for pair in pairs]))


def fill_lung_mean(voi: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A VOI, [S, S, S] in HU, whose mask is filled with the mean of the lung outside of it (of all, without lung)."""
    around = voi[~mask]
    lung = around[around < LUNG_BELOW]
    return np.where(mask, (lung if lung.size else around).mean(), voi).astype(np.float32)


def fill_biharmonic(voi: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A VOI, [S, S, S] in HU, whose mask is inpainted with biharmonic functions (Damelin and Hoang 2018).

    They are smooth, and the time grows with the square of the mask: one of more than 8,000 voxels is inpainted on a
    grid of half as many voxels along each axis, where known voxels count as their means, and linearly between them.
    On the chest phantom that costs 4% in MAE.
    """
    if mask.sum() <= MOST_INPAINTED:
        return np.where(mask, inpaint_biharmonic(voi.astype(np.float64), mask), voi).astype(np.float32)
    known = block_reduce(~mask, 2, np.sum)
    total = block_reduce(np.where(mask, 0, voi).astype(np.float64), 2, np.sum)
    coarse = fill_biharmonic(np.where(known, total / known.clip(min=1), 0), known == 0)
    # A coarse voxel's centre lies between two fine ones.
    filled = ndimage.map_coordinates(coarse, (np.indices(voi.shape) - 0.5) / 2, order=1, mode="nearest")
    return np.where(mask, filled, voi).astype(np.float32)


def keep(voi: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The VOI as it is: an eraser that does nothing."""
    return voi


BASELINES = {"lung_mean": fill_lung_mean, "biharmonic": fill_biharmonic, "none": keep}


def compare_with_truth(erased: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(MAE in HU inside the mask, SSIM inside the mask's bounding box) of an erased VOI.

    erased, truth: [S, S, S] in HU. mask: bool [S, S, S], at least 3 voxels wide. SSIM (Wang et al. 2004) is that of
    `VOI_WINDOW`, in windows of 7 voxels, or as large as fit.
    """
    mae = float(np.abs(erased[mask].astype(np.float64) - truth[mask]).mean())
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    one, other = (voi[box].astype(np.float64).clip(*VOI_WINDOW) for voi in (erased, truth))
    window = min(7, *one.shape)
    ssim = structural_similarity(one, other, data_range=VOI_WINDOW[1] - VOI_WINDOW[0], win_size=window - 1 + window % 2)
    return mae, float(ssim)


def eraser_table(
    injected: VoiSet,
    erased: np.ndarray,
    truth: np.ndarray,
    margin_mm: float,
    settings: Evaluation,
    facts: Facts,
    baselines: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = BASELINES,
) -> pd.DataFrame:
    """`mae_hu` and `ssim` of the eraser and of the baselines, on VOIs whose truth without the nodule is known.

    And `detector_auc` of the eraser: `detect_injected`, told to tell erased places from the truth. Goal 0.5.

    injected: VOIs with a nodule of `equivalent_diameter_mm`. erased, truth: float [N, S, S, S] in HU, of the same VOIs.
    The mask is the sphere of half the diameter and `margin_mm`. Variants: `eraser`, then those of `baselines`, which
    get a VOI and its mask. value: mean over the VOIs.
    Raises DataError if the three do not hold the same number of VOIs.
    """
    if not len(injected) == len(erased) == len(truth) > 0:
        found = f"{len(injected)}, {len(erased)}, {len(truth)}"
        raise DataError(f"eraser: vois: found {found} injected, erased, true, allowed: as many of each, at least 1")
    weights = draw_patients(injected.table.patient_id, settings)
    rows = []
    for name in ("eraser", *baselines):
        scores = []
        for voi, own, true, mask in zip(injected.voxels, erased, truth, _spheres(injected, margin_mm), strict=True):
            # A baseline's VOI is filled in its turn, and gone: all of them together may be as many GB as the images.
            filled = own if name == "eraser" else baselines[name](voi, mask)
            scores.append(compare_with_truth(filled, true, mask))
        for metric, values in zip(("mae_hu", "ssim"), np.array(scores).T, strict=True):
            rows.append((name, metric, values.mean(), *interval_of(weights @ values / weights.sum(1)), len(values)))
    detection = detect_injected(VoiSet(truth, injected.table), VoiSet(erased, injected.table), margin_mm, settings)
    rows.append(("eraser", "detector_auc", *detection))
    return tidy_table(rows, facts)


def injector_table(
    injected: VoiSet,
    real: VoiSet,
    reference: VoiSet,
    margin_mm: float,
    settings: Evaluation,
    fidelity: Fidelity,
    facts: Facts,
) -> pd.DataFrame:
    """How like real nodules the injected ones are. Variants: `injector`, and, as what can be reached, `real`.

    injected: VOIs with an injected nodule, `equivalent_diameter_mm` as asked for. real: of real nodules of held-out
    patients, that of their readers' consensus. Both `with_measured_diameters`. reference: of real nodules that the
    injector was trained on.
    What the scanner does to a VOI is not the injector's doing: inject into the cohort that the real ones come from.

    - `diameter_ratio`: median of measured / asked diameter (0 where no nodule is found).
    - `diameter_error`: median of |measured / asked - 1|. Of `real`: how far readers and measurement are apart.
    - `histogram_distance_hu`: 1-Wasserstein distance of the HU inside the nodules' spheres from the reference's.
    - `texture_contrast_difference`, `texture_homogeneity_difference`: `texture`, mean less the reference's.
    - `frechet_distance` of `voi_features` from the reference, with as many VOIs in both variants; interval over random
      sets, as in `fidelity.compare_sets`.
    - `detector_auc`: `detect_injected`; of `injector` against all real, of `real` against the reference. Goal 0.5.

    Raises DataError as `compare_sets` and `detect_injected` do.
    """
    rows = []
    region = {"injector": injected, "real": real}
    histograms = {name: _histograms(vois) for name, vois in region.items()}
    expected, expected_texture = _histograms(reference).mean(0), _textures(reference).mean(0)
    for name, vois in region.items():
        weights, count = draw_patients(vois.table.patient_id, settings), len(vois)
        asked = vois.table.equivalent_diameter_mm.to_numpy()
        ratio = vois.table.measured_mm.fillna(0).to_numpy() / asked
        for metric, values in (("diameter_ratio", ratio), ("diameter_error", np.abs(ratio - 1))):
            rows.append((name, metric, np.median(values), *interval_of(weighted_median(values, weights)), count))
        drawn = np.array([_histogram_distance(each @ histograms[name], expected) for each in weights])
        value = _histogram_distance(histograms[name].sum(0), expected)
        rows.append((name, "histogram_distance_hu", value, *interval_of(drawn), count))
        for metric, values in zip(("contrast", "homogeneity"), (_textures(vois) - expected_texture).T, strict=True):
            drawn = weights @ values / weights.sum(1)
            rows.append((name, f"texture_{metric}_difference", values.mean(), *interval_of(drawn), count))

    seen, unseen, made = (voi_features(vois.voxels, fidelity) for vois in (reference, real, injected))
    frechet = compare_sets(seen, unseen, made, fidelity).set_index("metric").loc["fid"]
    interval = (frechet.ci_low, frechet.ci_high)
    rows.append(("injector", "frechet_distance", frechet.value, *interval, int(frechet.images)))
    rows.append(("real", "frechet_distance", frechet.reference, np.nan, np.nan, int(frechet.images)))
    for name, genuine, other in (
        ("injector", VoiSet.concatenate([reference, real]), injected),
        ("real", reference, real),
    ):
        found = detect_injected(genuine, other, margin_mm, settings)
        rows.append((name, "detector_auc", *found))
    return tidy_table(rows, facts)


def voi_features(vois: np.ndarray, settings: Fidelity) -> Features:
    """What a network trained on photographs sees in VOIs [N, S, S, S] in HU: of three orthogonal central planes.

    Features [N, 3 D] are those of the planes one after the other, logits [N, K] their mean.
    """
    middle, grey = vois.shape[-1] // 2, ((to_network(vois) + 1) / 2).astype(np.float32)
    planes = np.stack([grey[:, middle], grey[:, :, middle], grey[:, :, :, middle]], axis=1)
    found = extract(planes.reshape(-1, 1, *planes.shape[2:]), settings.extractor, settings.weights)
    return Features(found.features.reshape(len(vois), -1), found.logits.reshape(len(vois), 3, -1).mean(1))


def texture(voi: np.ndarray, voi_spacing_mm: float, diameter_mm: float) -> tuple[float, float]:
    """(contrast, homogeneity) of the nodule in a VOI, [S, S, S] in HU (Haralick et al. 1973).

    Means over three orthogonal central planes, cut to the square around the nodule, and four directions; neighbours are
    1 voxel apart, `VOI_WINDOW` has 32 grey levels.
    """
    size, half = len(voi), max(LEAST_CROP, round(diameter_mm / 2 / voi_spacing_mm))
    grey = ((to_network(voi) + 1) / 2 * GREY_LEVELS).astype(int).clip(0, GREY_LEVELS - 1).astype(np.uint8)
    crop = slice(max(0, size // 2 - half), size // 2 + half + 1)
    grey = grey[crop, crop, crop]
    middle, angles = len(grey) // 2, np.arange(4) * np.pi / 4
    planes = (grey[middle], grey[:, middle], grey[:, :, middle])
    matrices = [graycomatrix(plane, [1], angles, GREY_LEVELS, symmetric=True, normed=True) for plane in planes]
    contrast, homogeneity = (
        float(np.mean([graycoprops(each, name) for each in matrices])) for name in ("contrast", "homogeneity")
    )
    return contrast, homogeneity


class Detection(NamedTuple):
    """How well a detector tells injected from real nodules: its AUC with its 95% interval, and of how many VOIs."""

    auc: float
    ci_low: float
    ci_high: float
    images: int


def detect_injected(real: VoiSet, injected: VoiSet, margin_mm: float, settings: Evaluation) -> Detection:
    """A detector trained to tell injected nodules from real ones; an AUC of 0.5 means that it cannot.

    Logistic regression on `detector_features`, cross-validated by patient in 5 folds, probabilities averaged over 3
    divisions. Among what takes seconds on a CPU it was the strongest on smoothed, noisy and rendered nodules, before
    trees, support vectors and an ImageNet network's features; a 3D network learns more where there are thousands.
    Raises DataError if either kind has VOIs of fewer than 2 patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    patients = [vois.table.patient_id.nunique() for vois in (real, injected)]
    if min(patients) < 2:
        found = f"{patients[0]} with real, {patients[1]} with injected nodules"
        raise DataError(f"detector: patients: found {found}, allowed: at least 2 of each")
    both = VoiSet.concatenate([real, injected])
    is_injected = np.arange(len(both)) >= len(real)
    features = detector_features(both, margin_mm)
    patient = pd.factorize(both.table.patient_id)[0]
    probability = np.zeros(len(both))
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(min(FOLDS, *patients), shuffle=True, random_state=settings.seed + repeat)
        for train, test in folds.split(features, is_injected, patient):
            if is_injected[train].all() or not is_injected[train].any():
                raise DataError("detector: patients: found one with all nodules of a kind, allowed: several")
            detector = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            detector.fit(features[train], is_injected[train])
            probability[test] += detector.predict_proba(features[test])[:, 1] / REPEATS

    def auc(weights: np.ndarray) -> np.ndarray:
        return weighted_metrics(probability.clip(0, 1)[None], is_injected, weights, ["auc"])["auc"][:, 0]

    weights = draw_patients(both.table.patient_id, settings)
    weights = weights[(weights @ is_injected > 0) & (weights @ ~is_injected > 0)]
    return Detection(float(auc(np.ones((1, len(both))))[0]), *interval_of(auc(weights)), len(both))


def detector_features(vois: VoiSet, margin_mm: float) -> np.ndarray:
    """[N, 48]: grey values, edges and fine grain in four shells: the nodule's inner and outer half, margin, and beyond.

    Of each shell: mean, deviation and quantiles of the HU; logarithms of the mean gradient, of the mean and median
    Laplacian, and of the deviation and quartiles of what a Gaussian of 0.7 voxels takes away.
    """
    rows = []
    for voi, row in zip(vois.voxels, vois.table.itertuples(), strict=True):
        away = np.sqrt(((np.indices(voi.shape) - (len(voi) - 1) / 2) ** 2).sum(0)) * row.spacing_mm
        radius_mm = row.equivalent_diameter_mm / 2
        edges = (radius_mm / 2, radius_mm, radius_mm + margin_mm, radius_mm + margin_mm + 4 * row.spacing_mm)
        voi = voi.clip(*VOI_WINDOW)
        laplacian, edge = np.abs(ndimage.laplace(voi)), ndimage.gaussian_gradient_magnitude(voi, 0.7)
        grain = voi - ndimage.gaussian_filter(voi, 0.7)
        values = []
        for inner, outer in zip((0, *edges), edges, strict=False):
            # Half a voxel of a small nodule holds no voxel's centre.
            shell = (away >= inner) & (away < max(outer, inner + 1.8 * row.spacing_mm))
            size = [edge[shell].mean(), laplacian[shell].mean(), np.median(laplacian[shell]), grain[shell].std()]
            size += np.percentile(np.abs(grain[shell]), [25, 75]).tolist()
            values += [voi[shell].mean(), voi[shell].std(), *np.percentile(voi[shell], [5, 25, 50, 95])]
            values += np.log1p(size).tolist()
        rows.append(values)
    return np.array(rows)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Medians [B] of values [N], each as often as its weight, whole numbers [B, N], says."""
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[:, order], axis=1)
    middle = passed[:, -1:] / 2
    lower, upper = (passed < middle).sum(1), (passed <= middle).sum(1)
    return (values[order][lower] + values[order][upper.clip(max=len(values) - 1)]) / 2


def _spheres(vois: VoiSet, margin_mm: float) -> Iterator[np.ndarray]:
    """The mask, bool [S, S, S], of each VOI's nodule with its margin."""
    size = vois.voxels.shape[-1]
    for row in vois.table.itertuples():
        yield sphere(size, row.spacing_mm, row.equivalent_diameter_mm / 2 + margin_mm)


def _histograms(vois: VoiSet) -> np.ndarray:
    """[N, bins]: shares of the HU inside each nodule's sphere."""
    edges = np.arange(VOI_WINDOW[0], VOI_WINDOW[1] + BIN_HU, BIN_HU)
    inside = [voi[mask].clip(*VOI_WINDOW) for voi, mask in zip(vois.voxels, _spheres(vois, 0.0), strict=True)]
    return np.array([np.histogram(each, edges)[0] / max(1, each.size) for each in inside])


def _histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """1-Wasserstein distance in HU of two histograms [bins], which need not be normalised."""
    places = VOI_WINDOW[0] + BIN_HU * np.arange(len(first))
    return float(wasserstein_distance(places, places, first, second))


def _textures(vois: VoiSet) -> np.ndarray:
    """[N, 2]: `texture` of each VOI."""
    rows = vois.table[["spacing_mm", "equivalent_diameter_mm"]].to_numpy()
    return np.array([texture(voi, *row) for voi, row in zip(vois.voxels, rows, strict=True)])
