"""How good a study's generators are, class by class and together: fidelity and copies in one table."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scangan.config import Fidelity
from scangan.data.store import ImageSet, StoredImages, select_images
from scangan.metrics.copies import find_copies
from scangan.metrics.encoder import Encoder
from scangan.metrics.feature_sets import ALL, Features, FeatureSet
from scangan.metrics.fidelity import compare_sets, compare_unbiased
from scangan.metrics.radiomics import radiomics, standardise, standardise_within_bounds

log = logging.getLogger(__name__)

# What is told of radiomics: score of `fidelity.compare_sets` -> name.
BY_RADIOMICS = {
    "energy_distance": "radiomics_distance",
    "fid": "frd",
    "precision": "radiomics_precision",
    "recall": "radiomics_recall",
}


@dataclass(frozen=True)
class JudgedSet:
    """Images [N, C, H, W], what a network sees in them, radiomics [N, D] and manifest, in the same order."""

    manifest: pd.DataFrame
    images: np.ndarray | StoredImages
    features: Features
    radiomics: np.ndarray

    @staticmethod
    def of(images: ImageSet, seen: FeatureSet, threads: int = 1) -> JudgedSet:
        """Images and the features of the same images, which are checked to be so; radiomics are measured here."""
        if list(images.manifest["image_id"]) != list(seen.manifest["image_id"]):
            raise ValueError(f"features of {len(seen)} images are not those of the {len(images)} images")
        return JudgedSet(images.manifest, images.images, seen.features, radiomics(images.images, threads))

    def __len__(self) -> int:
        return len(self.manifest)

    def select(self, mask: np.ndarray | pd.Series) -> JudgedSet:
        """The images of a boolean mask."""
        mask = np.asarray(mask, bool)
        manifest = self.manifest[mask].reset_index(drop=True)
        images = select_images(self.images, mask)
        return JudgedSet(manifest, images, self.features.select(mask), self.radiomics[mask])

    def of_class(self, label: str) -> JudgedSet:
        """The images of a class; all of them with ALL."""
        return self if label == ALL else self.select(self.manifest["label"] == label)

    def image_set(self) -> ImageSet:
        return ImageSet(self.images, self.manifest)


def evaluate_generators(
    train: JudgedSet,
    held_out: JudgedSet,
    synthetic: JudgedSet,
    gan: str,
    settings: Fidelity,
    copied: Collection[str] = (),
    encoder: Encoder | None = None,
    refused: bool = False,
    conditional: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Synthetic images of all classes against the real ones that their generators saw, and those they did not see.

    copied: held-out images that are known to be copies of training images, near-identical ones included: they do not
    tell how near a fresh image lies to these. encoder: another referee, if there is one. refused: the network behind
    `features` helped to train the generators, and says nothing of them. conditional: one generator draws all classes;
    it has seen the training images of all of them, so copies are looked for among all.
    Returns the scores (`variant`, those of `fidelity.compare_sets` unless refused, of radiomics, of the encoder, of
    `copies.find_copies`; variant is `<gan>/<class>` or `<gan>/all`, the latter alone where there is one class) and one
    row an image and variant of the nearest training images (`variant, image_id, nearest_image_id, agreement,
    suspected`).
    """
    scores, nearest = [], []
    labels = sorted(train.manifest.label.unique())
    for label in [*labels, ALL] if len(labels) > 1 else [ALL]:
        seen, unseen, drawn = (images.of_class(label) for images in (train, held_out, synthetic))
        tables = [_compare_radiomics(seen, unseen, drawn, settings)]
        if not refused:
            patients = [images.manifest.patient_id.to_numpy() for images in (seen, unseen)]
            tables.insert(0, compare_sets(seen.features, unseen.features, drawn.features, settings, *patients))
        if encoder is not None:
            tables.append(_compare_encoded(seen, unseen, drawn, encoder, settings))
        sets = seen.image_set(), unseen.image_set(), drawn.image_set()
        others = None
        if conditional and label != ALL:
            others = train.select(train.manifest.label != label).image_set()
        copies = find_copies(*sets, settings.copy_quantile, settings.seed, copied, others)
        if copies.leaked:
            log.warning("%s: %d held-out images are training images: %s", label, len(copies.leaked), copies.leaked)
        table = pd.concat([*tables, copies.scores], ignore_index=True)
        table.insert(0, "variant", f"{gan}/{label}")
        scores.append(table)
        nearest.append(copies.images.assign(variant=f"{gan}/{label}"))
    return pd.concat(scores, ignore_index=True), pd.concat(nearest, ignore_index=True)


def _compare_radiomics(seen: JudgedSet, unseen: JudgedSet, drawn: JudgedSet, settings: Fidelity) -> pd.DataFrame:
    """`radiomics_distance`: the headline by a referee that never saw a photograph.

    Beside it, of as many images as are held out, `frd`, and precision and recall, which no generator is refused. All in
    the columns of `compare_sets`.
    """
    described = seen.radiomics, unseen.radiomics, drawn.radiomics
    patients = [images.manifest.patient_id.to_numpy() for images in (seen, unseen)]
    train, held_out, synthetic = (Features(features, features) for features in standardise(*described))
    found = compare_sets(train, held_out, synthetic, settings, *patients).set_index("metric")
    known, fresh, made = standardise_within_bounds(*described)
    bounded = compare_unbiased(known, fresh, made, settings.seed, *patients).set_index("metric")
    found.loc["energy_distance"] = bounded.loc["energy_distance"]
    rows = found.loc[list(BY_RADIOMICS)].rename(BY_RADIOMICS)
    scores = ["value", "ci_low", "ci_high", "reference", "reference_low", "reference_high"]
    # FRD is the logarithm of the distance; no distance is nothing, and has none.
    rows.loc["frd", scores] = np.log(rows.loc["frd", scores].astype(float).where(lambda distance: distance > 0))
    return rows.reset_index()


def _compare_encoded(
    seen: JudgedSet, unseen: JudgedSet, drawn: JudgedSet, encoder: Encoder, settings: Fidelity
) -> pd.DataFrame:
    """`encoder_distance`: the headline by a network of the study's own, in the columns of `compare_sets`.

    Its reference is of the training patients that the encoder never saw.
    """
    perfect = seen.select(~seen.manifest["patient_id"].isin(encoder.patients))
    real, held_out, synthetic = (encoder.features(images.image_set()) for images in (perfect, unseen, drawn))
    patients = [images.manifest["patient_id"].to_numpy() for images in (perfect, unseen)]
    rows = compare_unbiased(real, held_out, synthetic, settings.seed, *patients)
    return rows[rows["metric"] == "energy_distance"].replace({"metric": {"energy_distance": "encoder_distance"}})
