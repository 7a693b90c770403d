"""Synthetic images written for other programs, each marked as synthetic: PNG files, a table of them, and a card."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL.PngImagePlugin import putchunk

from scangan.data.store import WHITE, to_pixels
from scangan.facts import SYNTHETIC, Facts
from scangan.files import atomic_folder
from scangan.metrics.feature_sets import ALL
from scangan.report.tables import BY_ENCODER, PLANTED

COLUMNS = "file label seed origin data network weights_sha256 sha256 agreement suspected".split()
GREY, COLOUR = 0, 2  # of a PNG's header
UP = 2  # the filter of a PNG's rows: differences to the row above
MORE = 1000  # images of the examples on the card


@dataclass(frozen=True)
class Origin:
    """What is known of the generator that images are drawn from, and of such images.

    network: facts as `synthesize` takes them. trained_gan: the network whose weights it draws with, mostly itself.
    weights_sha256: of their file. study: with `extractor`. licence: of the data set; None: not said. scores, copies:
    what `metrics.generators.evaluate_generators` returns of that training.
    """

    network: dict[str, Any]
    trained_gan: str
    weights_sha256: str
    study: Facts
    licence: str | None
    scores: pd.DataFrame
    copies: pd.DataFrame

    def of_class(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of scores or copies that are about the generator's class."""
        gan, label = self.network["gan"], self.network["label"]
        own = table["variant"] == f"{gan}/{label}"
        # With one class there are rows of all alone.
        return table[own if own.any() else table["variant"] == f"{gan}/{ALL}"]


def export_images(folder: Path, drawn: Iterable[tuple[np.ndarray, pd.DataFrame]], bits: int, origin: Origin) -> None:
    """Write a folder of PNG files, `metadata.csv` and a card, `README.md`; it appears whole or not at all.

    folder: made here; must be missing or empty. drawn: batches as `synthesize` gives them. bits: 8 or 16.
    The table has a row an image: `COLUMNS`. sha256: of the file. agreement: with the training image that it agrees with
    most, -1 to 1, and whether it is a suspected copy (`metrics.copies`); both empty where the study did not check it.
    Raises DataError for a folder that holds files.
    """
    with atomic_folder(folder) as temporary:
        written = []
        for images, rows in drawn:
            for pixels, row in zip(_levels(images, bits), rows.to_dict("records"), strict=True):
                file, content = f"{row['image_id']}.png", png(pixels, _marks(row, origin))
                (temporary / file).write_bytes(content)
                written.append(row | {"file": file, "sha256": hashlib.sha256(content).hexdigest()})
        table = pd.DataFrame(written).rename(columns={"synthesis_seed": "seed"})
        table = table.assign(origin=SYNTHETIC, network=origin.network["gan"], weights_sha256=origin.weights_sha256)
        checked = origin.of_class(origin.copies)[["image_id", "agreement", "suspected"]].astype(
            {"suspected": "boolean"}
        )
        table = table.merge(checked, how="left", on="image_id", validate="one_to_one")[COLUMNS]
        table.to_csv(temporary / "metadata.csv", index=False)
        (temporary / "README.md").write_text(card(folder, table, bits, origin), encoding="utf-8")


def _levels(images: np.ndarray, bits: int) -> np.ndarray:
    """Images [N, C, H, W] in [0, 1] as uint8 or uint16 [N, H, W, C]; of 16 bits those of the synthetic shards."""
    pixels = np.moveaxis(to_pixels(images), 1, -1)
    return pixels if bits == 16 else np.rint(pixels / (WHITE / 255)).astype(np.uint8)


def png(pixels: np.ndarray, texts: Mapping[str, str]) -> bytes:
    """A PNG file with text chunks, keyword -> text in Latin-1; no library writes both these and colours of 16 bits.

    pixels: uint8 or uint16 [H, W, 1 or 3].
    """
    height, width, channels = pixels.shape
    kind = GREY if channels == 1 else COLOUR
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.insert(np.diff(rows, axis=0, prepend=np.uint8(0)), 0, UP, axis=1)
    file = io.BytesIO(b"")
    file.write(b"\x89PNG\r\n\x1a\n")
    putchunk(file, b"IHDR", struct.pack(">2I5B", width, height, 8 * pixels.itemsize, kind, 0, 0, 0))
    for keyword, text in texts.items():
        putchunk(file, b"tEXt", f"{keyword}\0{text}".encode("latin-1"))
    putchunk(file, b"IDAT", zlib.compress(filtered.tobytes()))
    putchunk(file, b"IEND", b"")
    return file.getvalue()


def _marks(row: Mapping[Any, Any], origin: Origin) -> dict[str, str]:
    """What an image says of itself, by the keywords that the PNG standard knows."""
    drawn = f"drawn by the generative network {row['source']} from seed {row['synthesis_seed']}"
    return {
        "Title": f"{SYNTHETIC} {row['image_id']}",
        "Description": f"{SYNTHETIC} image, {drawn}; it learnt from {row['data']} images ({origin.study.study})",
        "Disclaimer": f"{SYNTHETIC}: shows no patient; for research, not for diagnosis",
        "Software": "Scangan",
    }


# The card

CARD = """\
# {SYNTHETIC}: {label} ({study})

**A generative network drew these images; none shows a patient.** `metadata.csv` has a row an image, and each file says
the same in its text chunks.

{facts}

## How good they are

Energy distance to real images of this class that the network did not learn from, of {measured} images that it drew [95%
interval]: 0 for the same distribution, at most 1. Beside it that of the training images, which stand for a perfect
generator.

{fidelity}

{warnings}

## Copies of training images

{copies}

## Intended use

Research: to train beside real images, where the study's `verdict.md` says that it helps; to test software; to teach.
Not for diagnosis, not as evidence about patients, and not in place of real images in a test.

## Limits

The class is what the network was told to draw; no person has confirmed it. What is rare among its training images is
rarer here, or missing; what is wrong with them, such as a scanner that goes with a class, may be here, too. A network
can repeat what it was shown, and no check excludes that.

## More of them

```
snakemake {folder} --cores 2 --resources gpu=1 --config studies='{{{whole}: {{export: {{images: {more}}}}}}}'
```

with the study's own `--configfile`, if it has one; or in Python:

```python
import scangan

network = scangan.load("{gan_folder}"{edge})
images = network.draw({{"{label}": {more}}}, seed={seed})["{label}"]  # float32 {shape} in [0, 1]
```
"""


def card(folder: Path, table: pd.DataFrame, bits: int, origin: Origin) -> str:
    """What whoever gets the folder has to know of its images, as Markdown. table: that of `export_images`."""
    network, study = origin.network, origin.study
    scores = origin.of_class(origin.scores).set_index("metric")
    folder, results = _without_machine(folder, study)
    size = network["image_size"]
    return CARD.format(
        SYNTHETIC=SYNTHETIC,
        label=network["label"],
        study=study.study,
        whole=study.study.split("/")[0],
        facts=_rows(("what", "here"), _facts(table, bits, origin).items()),
        measured=int(scores.loc["radiomics_distance", "images"]),
        fidelity=_rows(("referee", "synthetic images", "training images"), _fidelity(scores, study.extractor)),
        warnings="\n\n".join(_warnings(origin)),
        copies="\n\n".join(_copies(scores, table)),
        folder=folder,
        gan_folder=results / "gan" / origin.trained_gan,
        edge="" if origin.trained_gan == network["gan"] else f", image_size={size}",
        seed=table["seed"].min(),
        shape=[MORE, network["channels"], size, size],
        more=MORE,
    )


def _rows(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows))


def _without_machine(folder: Path, study: Facts) -> tuple[Path, Path]:
    """The folder of exported images, and its study's, as whoever made them calls them: not where they lie on a disk."""
    below = [*study.study.split("/"), *folder.parts[-3:]]
    if folder.is_absolute():
        folder = Path(*folder.parts[-len(below) - 1 :])
    return folder, folder.parents[2]


def _facts(table: pd.DataFrame, bits: int, origin: Origin) -> dict[str, str]:
    network, study = origin.network, origin.study
    size, colour = network["image_size"], {1: "grey", 3: "colour"}[network["channels"]]
    shown = f"{network['training_images']} images of {'all its classes' if 'classes' in network else 'this class'}"
    licence = origin.licence or "not said (`data.licence`): ask whoever the data are from"
    return {
        "images": f"{len(table)}, {size} x {size} pixels, {colour}, PNG of {bits} bits (white: {2**bits - 1})",
        "class": network["label"],
        "learnt from": f"{study.data} data, {shown}",
        "licence of the data": "none: Scangan renders this phantom" if study.data == "phantom" else licence,
        "scale": study.scale,
        "network": f"{network['gan']} ({network['model']}), {network['steps']} steps",
        "weights": f"SHA-256 {origin.weights_sha256}",
    }


def _fidelity(scores: pd.DataFrame, extractor: str | None) -> list[list[str]]:
    """The headline by each referee that may judge."""
    referees = {"energy_distance": extractor, "radiomics_distance": "radiomics", BY_ENCODER: "encoder"}
    return [
        [str(referee), _interval(scores.loc[metric]), _interval(scores.loc[metric], "reference", "reference_")]
        for metric, referee in referees.items()
        if metric in scores.index
    ]


def _interval(score: pd.Series, value: str = "value", bounds: str = "ci_") -> str:
    numbers = (score[name] for name in (value, f"{bounds}low", f"{bounds}high"))
    return "{:z.3f} [{:z.3f}, {:z.3f}]".format(*numbers)


def _warnings(origin: Origin) -> Iterator[str]:
    """What must be known to read these numbers."""
    if against := origin.network["trained_against"]:
        yield f"It was trained against the features of {', '.join(against)}, which therefore must not judge it."
    if origin.study.data == "phantom":
        yield "**Numbers from phantom data say that the pipeline works, and nothing about medicine.**"


def _copies(scores: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """What the check found of this network, how much it can find, and what it says of the images that are here."""
    suspected = scores.loc["suspected_copies"]
    yield (
        f"Share of {suspected['images']:.0f} images of this network that are suspiciously like a training image: "
        f"{_interval(suspected)}; expected of fresh real images: {suspected['reference']:.3f}. Of training images that "
        f"were changed and planted, the same check suspects: {', '.join(_planted(scores))}."
    )
    yield (
        "Probability that a training image is nearer to the synthetic ones than a real one that was not learnt from: "
        f"{_interval(scores.loc['membership_auc'])}; 0.5 tells nothing of the training images."
    )
    checked = table["suspected"].notna()
    yield (
        f"Of the {len(table)} images here {checked.sum()} were checked, and {table['suspected'].sum()} of them are "
        "suspected: columns `suspected` and `agreement` (with the training image that is most alike, at most 1) of "
        "`metadata.csv`."
    )


def _planted(scores: pd.DataFrame) -> Iterator[str]:
    for metric, value in scores["value"].items():
        if str(metric).startswith(PLANTED):
            yield f"{str(metric).removeprefix(PLANTED)} {value:.2f}"
