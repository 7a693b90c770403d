"""What is CT passes, whatever part of the body; what is not is named, a known offset with the number that mends it."""

import re

import numpy as np
import pytest

from scangan.ingest.hounsfield import check_hounsfield, check_labels
from scangan.rejected import Unusable
from tests.unit.test_lungs import chest

REMEDY = "set {}"


def body(air=0.4, lung=0.2, fat=0.1, bone=0.05, noise=15, voxels=40_000):
    """Hounsfield units of a body of these shares, in any order; the rest is muscle."""
    shares = {-1000: air, -850: lung, -100: fat, 600: bone}
    tissues = np.repeat(list(shares), [round(share * voxels) for share in shares.values()])
    tissues = np.pad(tissues, (0, voxels - len(tissues)), constant_values=45)
    values = tissues + np.random.default_rng(0).normal(0, noise, voxels)
    values[tissues == 600] += np.random.default_rng(1).normal(0, 300, (tissues == 600).sum())
    return np.rint(values).clip(-1024, 3000).astype(np.int16).reshape(20, 40, 50)


def padded(value):
    hounsfield = body()
    hounsfield[:, :12] = value
    return hounsfield


REAL = {
    "chest": lambda: chest(4.0)[0].hounsfield,
    "chest without lungs": lambda: body(lung=0),
    "head with little air": lambda: body(air=0.01, lung=0, fat=0.03, bone=0.2),
    "inside of a head": lambda: body(air=0, lung=0, fat=0, bone=0),
    "bone within muscle": lambda: body(air=0, lung=0, fat=0.02, bone=0.5),
    "lung alone": lambda: body(air=0, lung=0.97, fat=0, bone=0),
    "contrast medium": lambda: np.where(body() > 400, 350, body()),
    "padded with -2000": lambda: padded(-2000),
    "padded with -3024": lambda: padded(-3024),
    "padded with -32768": lambda: padded(-32768),
    "metal": lambda: np.where(body() > 900, 30000, body()),
}


@pytest.mark.parametrize("case", REAL)
def test_ct_passes(case):
    check_hounsfield(REAL[case](), REMEDY)


@pytest.mark.parametrize("hounsfield", [body(), body(lung=0), padded(-1024), chest(4.0)[0].hounsfield])
@pytest.mark.parametrize("added", [1024, 1000, 8192, -1024])
def test_an_offset_is_named_with_the_number_that_mends_it(hounsfield, added):
    said = re.escape(f"Hounsfield units {added:+d}, as air and tissue show; set {-added}")
    with pytest.raises(Unusable, match=f"{said}$"):
        check_hounsfield(hounsfield + np.int16(added), REMEDY)
    # A wrong number was added on purpose: what to add instead.
    with pytest.raises(Unusable, match=rf"set {50 - added}$"):
        check_hounsfield(hounsfield + np.int16(added), REMEDY, offset=50)


@pytest.mark.parametrize("padding", [-2000, -1024, -3024])
def test_stored_values_whose_padding_was_spared(padding):
    """GE writes -2000 around values from 0: the intercept was applied to neither."""
    stored = body() + np.int16(1024)
    stored[:, :12] = padding
    with pytest.raises(Unusable, match=r"Hounsfield units \+1024"):
        check_hounsfield(stored, REMEDY)


SCALED = {
    "window as 8 bits": lambda values: np.interp(values, (-1000, 400), (0, 255)),
    "window as 0 to 1000": lambda values: np.interp(values, (-1000, 400), (0, 1000)),
    "window as 12 bits": lambda values: np.interp(values, (-1000, 400), (0, 4095)),
    "brain window": lambda values: np.clip(values, 0, 80),
}


@pytest.mark.parametrize("case", SCALED)
def test_scaled_values_are_refused(case):
    scaled = np.rint(SCALED[case](body())).astype(np.int16)
    with pytest.raises(Unusable, match=rf"found 0 to {scaled.max()}, allowed: values below 0, as of air and fat"):
        check_hounsfield(scaled, REMEDY)


def test_neither_air_nor_tissue():
    far = np.random.default_rng(0).integers(3000, 3900, (10, 10, 10)).astype(np.int16)
    with pytest.raises(Unusable, match=r"0\.0% of air, lung or soft tissue, allowed: 5% or more"):
        check_hounsfield(far, REMEDY)


@pytest.mark.parametrize("count", [2, 5, 31])
def test_labels_are_refused(count):
    labels = (np.arange(8000, dtype=np.int16) % count).reshape(20, 20, 20)
    for shifted in (labels, labels - np.int16(1000)):
        with pytest.raises(Unusable, match=rf"few different values, as of labels: found {count}, allowed: 32 or more"):
            check_labels(shifted)
        with pytest.raises(Unusable, match="as of labels"):
            check_hounsfield(shifted, REMEDY)
    check_labels(np.arange(32, dtype=np.int16))
