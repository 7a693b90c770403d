"""Does a generator copy? Images laid over the training images, and planted copies that say what this check can find.

A copy may be moved, mirrored, blurred, noisy, or seen through another window. So images are compared as normalised
cross-correlation of a band of spatial frequencies, which noise, blur and window hardly touch, after registration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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
CHUNK = 256
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
    seen, unseen = (torch.from_numpy(np.asarray(each.images)) for each in (train, held_out))
    drawn = synthetic.images
    known = train if others is None else ImageSet.concatenate([train, others])
    templates = _Templates(known.images)
    held = templates.match(unseen)
    leaked = (held.agreement > SAME) | held_out.manifest["image_id"].isin(copied).to_numpy()
    strangers = held.agreement[~leaked]
    # With nothing but leaked images there is no threshold, and only what is the same image is suspected.
    threshold = float(np.quantile(strangers, 1 - quantile, method="weibull")) if len(strangers) else SAME
    expected = max(quantile, 1 / (len(strangers) + 1))
    found = templates.match(drawn)
    suspected = found.agreement >= threshold
    rows = [_share("suspected_copies", suspected, expected)]
    chosen = torch.from_numpy(np.sort(rng.permutation(len(seen))[:PLANTED]))
    for name, change in KINDS.items():
        planted = templates.match(change(seen[chosen], generator))
        rows.append(_share(f"planted_{name}", planted.agreement >= threshold, np.nan))
    member, stranger = _Templates(drawn).match(torch.cat([seen, unseen[~leaked]])).agreement, ~leaked
    patients = np.concatenate([train.manifest["patient_id"], held_out.manifest["patient_id"][stranger]])
    rows.append(_share("leaked_held_out", leaked, 0.0))
    rows.append(_membership(member, len(seen), patients, rng))
    columns = ["metric", "value", "ci_low", "ci_high", "images", "reference"]
    images = pd.DataFrame(
        {
            "image_id": synthetic.manifest["image_id"].to_numpy(str),
            "nearest_image_id": known.manifest["image_id"].to_numpy(str)[found.original],
            "agreement": found.agreement,
            "suspected": suspected,
        }
    ).sort_values("agreement", ascending=False, kind="stable", ignore_index=True)
    names = held_out.manifest["image_id"][leaked].tolist()
    return CopyCheck(pd.DataFrame(rows, columns=columns), threshold, names, images)


def _as_radiographs(volumes: ImageSet) -> ImageSet:
    return ImageSet(radiographs(volumes.images), volumes.manifest)


class _Templates:
    """Training images, plain and mirrored, in several zooms, ready for comparison."""

    def __init__(self, images: np.ndarray | StoredImages) -> None:
        small = torch.cat([_small(part) for part in _parts(images)])
        self.bands = torch.stack([_band(_zoom(small, zoom, mirror)) for mirror in (False, True) for zoom in ZOOMS])
        self.coarse = _normalised(F.avg_pool2d(self.bands, 2)[..., 1:-1, 1:-1].flatten(2))  # [variants, N, pixels]

    def match(self, images: torch.Tensor | np.ndarray | StoredImages) -> Matches:
        """Of images [M, C, S, S]."""
        parts = [self._match(_band(_small(part))) for part in _parts(images)]
        agreement, index = (torch.cat(found).numpy() for found in zip(*parts, strict=True))
        return Matches(agreement.astype(np.float64), index)

    def _match(self, bands: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Agreement [M] and index [M]: a coarse look at all training images, a close one at the best candidates."""
        # At half the resolution a shift by one is one by two.
        shifts = _normalised(_windows(F.avg_pool2d(bands, 2), 1).flatten(2)).unbind(1)
        best = torch.full((len(bands), self.coarse.shape[1]), -2.0)
        variant = torch.zeros_like(best, dtype=torch.long)
        for number, templates in enumerate(self.coarse):
            for shifted_images in shifts:
                agreement = shifted_images @ templates.T
                better = agreement > best
                best, variant = torch.where(better, agreement, best), torch.where(better, number, variant)
        candidates = best.topk(min(CANDIDATES, best.shape[1]), dim=1).indices
        own = _normalised(bands[:, SHIFT:-SHIFT, SHIFT:-SHIFT].flatten(1)).reshape(-1, *[EDGE - 2 * SHIFT] * 2)
        close = []
        for index in candidates.unbind(1):
            laid = self.bands[variant.gather(1, index[:, None])[:, 0], index]
            refined = [_zoom(_gaussian(laid, blur)[:, None], zoom, mirror=False)[:, 0] for blur, zoom in REFINED]
            close.append(torch.stack([_registered(own, each) for each in refined]).amax(0))
        close = torch.stack(close, dim=1)
        agreement, place = close.max(dim=1)
        return agreement, candidates.gather(1, place[:, None])[:, 0]


def _parts(images: torch.Tensor | np.ndarray | StoredImages) -> Iterator[torch.Tensor]:
    return (torch.as_tensor(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK))


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


def _small(images: torch.Tensor) -> torch.Tensor:
    """[N, 1, EDGE, EDGE], grey."""
    grey = images.float().mean(dim=1, keepdim=True)
    return F.interpolate(grey, size=(EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)


def _band(small: torch.Tensor) -> torch.Tensor:
    """[N, EDGE, EDGE]: what lies between the two scales of BAND, over its local contrast, lest bone outweigh all."""
    fine, coarse = (_gaussian(small, deviation) for deviation in BAND)
    band = (fine - coarse)[:, 0]
    return band / (_gaussian(band**2, BAND[1]).sqrt() + LEAST_CONTRAST)


def _gaussian(images: torch.Tensor, deviation: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(images.numpy(), deviation, mode="nearest", axes=(-2, -1)))


def _zoom(images: torch.Tensor, zoom: float, mirror: bool) -> torch.Tensor:
    none = torch.zeros(len(images))
    matrices = affine_matrices(none > 0, none > 0, none, none, none, none, none + zoom)
    zoomed_images = warp(images, matrices, padding="border")
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
