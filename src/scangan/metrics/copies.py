"""Does a generator copy? Images laid over the training images, and planted copies that say what this check can find.

A copy may be moved, mirrored, blurred, noisy, or seen through another window. So images are compared as normalised
cross-correlation of a band of spatial frequencies, which noise, blur and window hardly touch, after registration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest
from torch.nn import functional as F

from scangan.data.store import ImageSet, StoredImages, radiographs
from scangan.training.augment import affine_matrices, warp

EDGE = 32  # pixels at which images are compared
BAND = (1.0, 3.0)  # the standard deviations whose difference of Gaussians is compared, in these pixels
LEAST_CONTRAST = 0.05  # below it is noise
ZOOMS = (0.9, 0.95, 1.0, 1.05, 1.1)
REFINED = ((0.0, 1.0), (0.7, 1.0), (1.2, 1.0), (0.0, 0.975), (0.0, 1.025))  # blur in pixels, zoom: of a candidate
SHIFT = 3  # the farthest, in these pixels
CANDIDATES = 3  # training images that are registered with an image
SAME = 0.999  # agreement at which two real images are one
PLANTED = 200  # training images planted, of each kind, at most
CHUNK = 256  # images compared at once
BLOCK = 4096  # images whose templates are made at once, 0.3 GB
BOOTSTRAP = 1000


class Matches(NamedTuple):
    """For each of N images: its agreement [N] with the training image that it agrees with most, -1 to 1, and which."""

    agreement: np.ndarray
    original: np.ndarray


class CopyCheck(NamedTuple):
    """The answer, for one generator.

    scores: rows `metric, value, ci_low, ci_high, images, reference`. `suspected_copies`: share of the synthetic images
    that agree with a training image more than nearly all held-out ones do, 95% Wilson interval, and the share expected
    of fresh real images. `planted_<kind>`: share of planted copies of each kind that the same check suspects.
    `leaked_held_out`: share of held-out images that are training images themselves; they set no threshold.
    `membership_auc`: probability that a training image agrees with a synthetic image more than a held-out one does,
    95% bootstrap over patients; 0.5 for a generator that tells nothing of its training images.
    threshold: agreement. leaked: the names of the held-out images that are training images.
    images: `image_id, nearest_image_id, agreement, suspected`, one row a synthetic image, the likeliest copies first.
    """

    scores: pd.DataFrame
    threshold: float
    leaked: list[str]
    images: pd.DataFrame


def exact(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images


def mirrored(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images.flip(-1)


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By two pixels, to the right and down."""
    return F.pad(images, (2, 0, 2, 0), mode="replicate")[..., : images.shape[-2], : images.shape[-1]]


def zoomed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By 8%, which is none of the zooms that are tried."""
    return _zoom(images, 1.08, mirror=False)


def blurred(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By 0.7 pixels."""
    return _gaussian(images, 0.7)


def noisy(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise of 2% of the range."""
    return (images + 0.02 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def windowed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Seen through a window of 0.1 to 0.8 of the range."""
    return ((images - 0.1) / 0.7).clamp(0, 1)


KINDS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    each.__name__: each for each in (exact, mirrored, shifted, zoomed, blurred, noisy, windowed)
}


def find_copies(
    train: ImageSet,
    held_out: ImageSet,
    synthetic: ImageSet,
    quantile: float,
    seed: int = 0,
    copied: Collection[str] = (),
    others: ImageSet | None = None,
) -> CopyCheck:
    """Synthetic images that are suspiciously like a training image, and what the same check says of planted copies.

    The images are of one size; planted copies are shifted and blurred in pixels of this size. Of volumes their
    radiographs are compared, and planted.
    The threshold is that quantile of the held-out images' agreement which a fresh real image exceeds with just the
    probability `quantile`; with m held-out images 1 / (m + 1) at least. seed: of the planted noise and the bootstrap.
    copied: ids of held-out images that are known to be copies of training images. others: images of other classes that
    the generator was trained on as well: copies of these are looked for, too; what is planted, and the membership, are
    of `train`.
    """
    if train.is_of_volumes:
        train, held_out, synthetic = map(_as_radiographs, (train, held_out, synthetic))
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    known = [train] if others is None else [train, others]
    templates = [_Templates(part) for each in known for part in _small(each.images)]
    held = _match(_small(held_out.images), templates)
    leaked = (held.agreement > SAME) | held_out.manifest["image_id"].isin(copied).to_numpy()
    strangers = held.agreement[~leaked]
    # With nothing but leaked images there is no threshold, and only what is the same image is suspected.
    threshold = float(np.quantile(strangers, 1 - quantile, method="weibull")) if len(strangers) else SAME
    expected = max(quantile, 1 / (len(strangers) + 1))
    found = _match(_small(synthetic.images), templates)
    suspected = found.agreement >= threshold
    rows = [_share("suspected_copies", suspected, expected)]
    chosen = torch.from_numpy(train.images[np.sort(rng.permutation(len(train))[:PLANTED])])
    for name, change in KINDS.items():
        planted = _match(_small(change(chosen, generator)), templates)
        rows.append(_share(f"planted_{name}", planted.agreement >= threshold, np.nan))
    strange = held_out.select(~leaked)
    real = torch.cat([part for each in (train, strange) for part in _small(each.images)])
    # Synthetic images may be any number: their templates, 50 kB an image, are made in their turn, and gone.
    member = _match([real], map(_Templates, _small(synthetic.images))).agreement
    patients = np.concatenate([each.manifest["patient_id"] for each in (train, strange)])
    rows.append(_share("leaked_held_out", leaked, 0.0))
    rows.append(_membership(member, len(train), patients, rng))
    columns = ["metric", "value", "ci_low", "ci_high", "images", "reference"]
    names = np.concatenate([each.manifest["image_id"] for each in known])
    images = pd.DataFrame(
        {
            "image_id": synthetic.manifest["image_id"].to_numpy(str),
            "nearest_image_id": names[found.original],
            "agreement": found.agreement,
            "suspected": suspected,
        }
    ).sort_values("agreement", ascending=False, kind="stable", ignore_index=True)
    copies = held_out.manifest["image_id"][leaked].tolist()
    return CopyCheck(pd.DataFrame(rows, columns=columns), threshold, copies, images)


class _Candidates(NamedTuple):
    """The templates that each of M images agrees with most at a coarse look.

    agreement [M, k], the best first; laid [M, k, EDGE, EDGE]: the bands of each in the variant that agrees; index
    [M, k]: which of all templates.
    """

    agreement: torch.Tensor
    laid: torch.Tensor
    index: torch.Tensor

    def best_with(self, others: _Candidates) -> _Candidates:
        """The best of both, CANDIDATES at most."""
        agreement, laid, index = (torch.cat(both, dim=1) for both in zip(self, others, strict=True))
        agreement, place = agreement.topk(min(CANDIDATES, agreement.shape[1]), dim=1)
        return _Candidates(agreement, laid[torch.arange(len(laid))[:, None], place], index.gather(1, place))


def _as_radiographs(volumes: ImageSet) -> ImageSet:
    return ImageSet(radiographs(volumes.images), volumes.manifest)


class _Templates:
    """Images, plain and mirrored, in several zooms, ready for comparison; from `_small`."""

    def __init__(self, small: torch.Tensor) -> None:
        variants = [(zoom, mirror) for mirror in (False, True) for zoom in ZOOMS]
        self.bands = torch.empty(len(variants), len(small), EDGE, EDGE)
        for bands, variant in zip(self.bands, variants, strict=True):
            bands[:] = _band(_zoom(small, *variant))
        self.coarse = _normalised(F.avg_pool2d(self.bands, 2)[..., 1:-1, 1:-1].flatten(2))  # [variants, N, pixels]

    def __len__(self) -> int:
        return self.bands.shape[1]

    def candidates(self, bands: torch.Tensor, first: int) -> _Candidates:
        """Those of bands [M, EDGE, EDGE]; first: of how many templates before these."""
        # At half the resolution a shift by one is one by two.
        shifts = _normalised(_windows(F.avg_pool2d(bands, 2), 1).flatten(2)).unbind(1)
        best = torch.full((len(bands), len(self)), -2.0)
        variant = torch.zeros_like(best, dtype=torch.long)
        for number, templates in enumerate(self.coarse):
            for shifted_images in shifts:
                agreement = shifted_images @ templates.T
                better = agreement > best
                best, variant = torch.where(better, agreement, best), torch.where(better, number, variant)
        agreement, index = best.topk(min(CANDIDATES, len(self)), dim=1)
        return _Candidates(agreement, self.bands[variant.gather(1, index), index], first + index)


def _match(images: Iterable[torch.Tensor], templates: Iterable[_Templates]) -> Matches:
    """Of images from `_small`; for each part of these all templates are gone through once."""
    matched = []
    for small in images:
        parts = _band(small).split(CHUNK)
        best: list[_Candidates] = []
        first = 0
        for some in templates:
            found = [some.candidates(bands, first) for bands in parts]
            best = [old.best_with(new) for old, new in zip(best, found, strict=True)] if first else found
            first += len(some)
        matched += [_refined(bands, candidates) for bands, candidates in zip(parts, best, strict=True)]
    agreement, index = (torch.cat(found).numpy() for found in zip(*matched, strict=True))
    return Matches(agreement.astype(np.float64), index)


def _refined(bands: torch.Tensor, candidates: _Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    """Agreement [M] and index [M]: a close look at the candidates of bands [M, EDGE, EDGE]."""
    own = _normalised(bands[:, SHIFT:-SHIFT, SHIFT:-SHIFT].flatten(1)).reshape(-1, *[EDGE - 2 * SHIFT] * 2)
    close = []
    for laid in candidates.laid.unbind(1):
        refined = [_zoom(_gaussian(laid, blur)[:, None], zoom, mirror=False)[:, 0] for blur, zoom in REFINED]
        close.append(torch.stack([_registered(own, each) for each in refined]).amax(0))
    agreement, place = torch.stack(close, dim=1).max(dim=1)
    return agreement, candidates.index.gather(1, place[:, None])[:, 0]


def _registered(own: torch.Tensor, laid: torch.Tensor) -> torch.Tensor:
    """Correlation [M] of pictures [M, s, s], of zero mean and unit length, with the best shift of [M, S, S]."""
    products = F.conv2d(laid[None], own[:, None], groups=len(own))[0]
    total, squares = (_box_sums(values.double(), own.shape[-1]) for values in (laid, laid**2))
    length = (squares - total**2 / own[0].numel()).clamp(min=1e-6).sqrt()
    return (products / length).flatten(1).amax(1).float()


def _box_sums(values: torch.Tensor, edge: int) -> torch.Tensor:
    """Sums over all squares of this edge in [M, S, S]: [M, S - edge + 1, S - edge + 1]."""
    sums = F.pad(values.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    return sums[:, edge:, edge:] - sums[:, :-edge, edge:] - sums[:, edge:, :-edge] + sums[:, :-edge, :-edge]


def _small(images: torch.Tensor | np.ndarray | StoredImages) -> Iterator[torch.Tensor]:
    """Images [N, C, S, S] as [n, 1, EDGE, EDGE], grey, n of BLOCK at most; few are read at a time."""
    for first in range(0, len(images), BLOCK):
        starts = range(first, min(first + BLOCK, len(images)), CHUNK)
        parts = (torch.as_tensor(images[start : min(start + CHUNK, first + BLOCK)]) for start in starts)
        yield torch.cat([_shrunk(part.float().mean(dim=1, keepdim=True)) for part in parts])


def _shrunk(grey: torch.Tensor) -> torch.Tensor:
    return F.interpolate(grey, size=(EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)


def _band(small: torch.Tensor) -> torch.Tensor:
    """[N, EDGE, EDGE]: what lies between the two scales of BAND, over its local contrast, lest bone outweigh all."""
    fine, coarse = (_gaussian(small, deviation) for deviation in BAND)
    band = (fine - coarse)[:, 0]
    return band / (_gaussian(band**2, BAND[1]).sqrt() + LEAST_CONTRAST)


def _gaussian(images: torch.Tensor, deviation: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(images.numpy(), deviation, mode="nearest", axes=(-2, -1)))


def _zoom(images: torch.Tensor, zoom: float, mirror: bool) -> torch.Tensor:
    none = torch.zeros(1)
    matrix = affine_matrices(none > 0, none > 0, none, none, none, none, none + zoom)
    # All of them are resampled alike, as channels of one image.
    zoomed_images = warp(images.flatten(0, 1)[None], matrix, padding="border").reshape(images.shape)
    return zoomed_images.flip(-1) if mirror else zoomed_images


def _windows(bands: torch.Tensor, shift: int) -> torch.Tensor:
    """[..., (2 shift + 1)^2, S - 2 shift, S - 2 shift]: the inner parts of [..., S, S] under each shift."""
    inner = bands.shape[-1] - 2 * shift
    return bands.unfold(-2, inner, 1).unfold(-2, inner, 1).flatten(-4, -3)


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit length along the last axis; nothing but zeros where there is no contrast."""
    return F.normalize(vectors - vectors.mean(dim=-1, keepdim=True), dim=-1, eps=1e-6)


def _share(metric: str, found: np.ndarray, reference: float) -> tuple:
    interval = binomtest(int(found.sum()), len(found)).proportion_ci(confidence_level=0.95, method="wilson")
    return metric, found.mean(), interval.low, interval.high, len(found), reference


def _membership(agreement: np.ndarray, members: int, patients: np.ndarray, rng: np.random.Generator) -> tuple:
    """agreement, patients: [N], of `members` training images and of held-out ones."""
    is_member = np.arange(len(agreement)) < members
    if is_member.all():
        return "membership_auc", np.nan, np.nan, np.nan, members, 0.5
    nearer = agreement[is_member][:, None], agreement[~is_member]
    nearer = (nearer[0] > nearer[1]) + 0.5 * (nearer[0] == nearer[1])  # [members, others]
    weights = [_draw_patients(patients[each], rng) for each in (is_member, ~is_member)]
    drawn = ((weights[0] @ nearer) * weights[1]).sum(1) / (weights[0].sum(1) * weights[1].sum(1))
    return "membership_auc", nearer.mean(), *np.percentile(drawn, [2.5, 97.5]), members, 0.5


def _draw_patients(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[BOOTSTRAP, N]: how often each bootstrap sample drew an image's patient."""
    found, index = np.unique(patients, return_inverse=True)
    return rng.multinomial(len(found), np.full(len(found), 1 / len(found)), BOOTSTRAP)[:, index]
