"""Whether values are Hounsfield units: by facts of every CT scan, of whichever part of the body.

Air is at -1000, lung at -850, fat at -100, muscle at 50 HU. A scan of a head may hold little air, one of a lung little
else, and padding may be anything below air; yet no scan is without both, and none has 0 as its lowest value.
"""

from __future__ import annotations

import numpy as np

from scangan.rejected import Unusable

SAMPLE_VOXELS = 2**18  # enough for all shares below, in a few milliseconds
LEAST_VALUES = 32  # different ones; noise alone makes hundreds
PADDING_BELOW = -1000  # a lowest value below may be padding, and says nothing
AIR, TISSUE = (-1100, -400), (-200, 200)
LEAST_SHARE = 0.05  # of the voxels, that are air, lung or soft tissue

# What is added to Hounsfield units where DICOM's usual intercepts were not applied, or were applied twice.
OFFSETS = (1024, 1000, 8192, -1024)
# Soft tissue is a peak, between fewer voxels of the lungs' walls and fewer of bone; bone has no peak as narrow.
BESIDE_TISSUE = (-600, -200), (200, 600)
PEAK = 2  # how many times as many voxels
BELOW_AIR = (-1100, -50)  # where nothing is if 1000 or more was added; in a scan, air, lung, fat or noise
MOST_BELOW = 0.02
MOST_RANGE = 1000  # without a value below 0, as of a part within bone; soft tissue is so far from air
MOST_SATURATED = 0.005  # at the highest value; a window that was scaled cuts off more


def check_labels(voxels: np.ndarray) -> None:
    """Raise Unusable if int16 voxels take few values only, as labels do."""
    if (found := len(np.unique(_sample(voxels)))) < LEAST_VALUES:
        raise Unusable(
            "few different values, as of labels", f"{found}, allowed: {LEAST_VALUES} or more", "remove the file"
        )


def check_hounsfield(voxels: np.ndarray, remedy: str, offset: int = 0) -> None:
    """Raise Unusable unless int16 voxels of a CT scan, in any shape, are Hounsfield units.

    remedy: what to do where it is known what was added to them; `{}` stands for the number to add to them instead.
    offset: that was added to them before.
    """
    check_labels(voxels)
    values = _sample(voxels)
    if (lowest := values.min()) < PADDING_BELOW:
        values = values[values != lowest]
    low, high = values.min(), values.max()
    for added in OFFSETS:
        if _are_moved(values, added):
            found = f"Hounsfield units {added:+d}, as air and tissue show"
            raise Unusable("values are no Hounsfield units", found, remedy.format(offset - added))
    if low == 0 or (low > 0 and high - low > MOST_RANGE):
        found = f"{low} to {high}, allowed: values below 0, as of air and fat"
    elif (share := _share(values, AIR) + _share(values, TISSUE)) < LEAST_SHARE:
        found = f"{low} to {high}, {share:.1%} of air, lung or soft tissue, allowed: {LEAST_SHARE:.0%} or more"
    else:
        return
    raise Unusable("values are no Hounsfield units", found, "correct the rescaling, or save the unscaled volume")


def _sample(voxels: np.ndarray) -> np.ndarray:
    values = voxels.reshape(-1)
    return values[:: max(1, len(values) // SAMPLE_VOXELS) | 1]  # odd, so that no power of 2 keeps to some columns


def _share(values: np.ndarray, between: tuple[int, int], added: int = 0) -> float:
    """Of values from the one, and below the other."""
    low, high = between
    return float(np.mean((values >= low + added) & (values < high + added)))


def _are_moved(values: np.ndarray, added: int) -> bool:
    """Whether these are Hounsfield units to which a number was added."""
    tissue = _share(values, TISSUE, added)
    beside = max(_share(values, between, added) for between in BESIDE_TISSUE)
    if tissue < max(LEAST_SHARE, PEAK * beside) or np.mean(values == values.max()) > MOST_SATURATED:
        return False
    if added < 0:
        return _share(values, AIR, added) >= LEAST_SHARE and _share(values, TISSUE) < LEAST_SHARE
    if added == 1024 and -100 < values.min() < 0:  # below -1024, the lowest of most scanners: 1000 was added
        return False
    return _share(values, BELOW_AIR) < MOST_BELOW
