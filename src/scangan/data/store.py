"""Cohorts and synthetic sets on disk: one Zarr v3 array in a zip, and a parquet manifest with one row an image."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
import zarr
from PIL import Image
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from scangan.errors import DataError
from scangan.files import atomic, zip_folder

WHITE = 65535  # the uint16 that stands for 1.0
CHUNK_BYTES = 2**20
MANIFEST_TYPES = {
    "image_id": "str",
    "patient_id": "str",
    "label": "str",
    "source": "str",
    "data": "str",
    "spacing_mm": "float64",
    "sha256": "str",
    "synthesis_seed": "Int64",
}
OPTIONAL_COLUMNS = {"spacing_mm", "sha256", "synthesis_seed"}
# Whatever zarr, zipfile and pyarrow raise on a file that is damaged or of another kind.
UNREADABLE = (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError)


@dataclass(frozen=True)
class ImageSet:
    """Images and their manifest, in the same order.

    images: float32 [N, C, H, W] in [0, 1].
    manifest: N rows with the columns of `MANIFEST_TYPES`; `sha256` is there once the set was written.
    """

    images: np.ndarray
    manifest: pd.DataFrame

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.manifest):
            raise ValueError(f"images {self.images.shape} do not fit a manifest of {len(self.manifest)} rows")

    def __len__(self) -> int:
        return len(self.manifest)

    def select(self, mask_or_index: Any) -> ImageSet:
        """The images that a boolean mask, or an array of positions, names."""
        chosen = np.asarray(mask_or_index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(int)
        return ImageSet(self.images[chosen], self.manifest.iloc[chosen].reset_index(drop=True))

    @staticmethod
    def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
        """All images of `sets`, one set after the other."""
        images = np.concatenate([image_set.images for image_set in sets])
        return ImageSet(images, pd.concat([image_set.manifest for image_set in sets], ignore_index=True))


class ImageWriter:
    """Writes images to disk as they come, whatever their number.

    Example:
        with ImageWriter(images_path, manifest_path, shape=(1, 32, 32)) as writer:
            writer.append(images, rows)

    Both files appear under their names on clean exit only, the manifest last. The same images give the same bytes.
    """

    def __init__(self, images_path: str | Path, manifest_path: str | Path, shape: tuple[int, int, int]) -> None:
        self.images_path, self.manifest_path = Path(images_path), Path(manifest_path)
        self.shape = tuple(shape)
        self._rows = [pd.DataFrame(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)]

    def __enter__(self) -> Self:
        self.images_path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # A zip can only grow, but an appended array rewrites its last chunk: so the array grows in a folder.
            folder = stack.enter_context(TemporaryDirectory(dir=self.images_path.parent, prefix=".images."))
            self._folder = Path(folder)
            self._array = zarr.create_array(
                self._folder,
                shape=(0, *self.shape),
                chunks=(max(1, CHUNK_BYTES // (2 * int(np.prod(self.shape)))), *self.shape),
                dtype="uint16",
                compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
            )
            self._clean_up = stack.pop_all()
        return self

    def append(self, images: np.ndarray, rows: pd.DataFrame) -> None:
        """Add images, float [N, C, H, W] in [0, 1] (values outside are clipped), and their manifest rows.

        `sha256` is filled in; `spacing_mm` and `synthesis_seed` may be left out. Raises ValueError on a wrong shape,
        on a missing column, and on NaN.
        """
        if images.shape != (len(rows), *self.shape):
            raise ValueError(f"images {images.shape} are not {len(rows)} rows of {self.shape}")
        if missing := set(MANIFEST_TYPES) - OPTIONAL_COLUMNS - set(rows.columns):
            raise ValueError(f"manifest rows lack {sorted(missing)}")
        if np.isnan(images).any():
            raise ValueError("images hold NaN")
        pixels = np.rint(np.clip(images, 0, 1) * np.float32(WHITE)).astype("<u2")
        self._array.append(pixels)
        rows = rows.reindex(columns=list(MANIFEST_TYPES)).assign(sha256=[_checksum(image) for image in pixels])
        self._rows.append(rows.astype(MANIFEST_TYPES))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._clean_up:
            if kind is None:
                manifest = pd.concat(self._rows, ignore_index=True)
                with atomic(self.manifest_path) as rows, atomic(self.images_path) as images:
                    manifest.to_parquet(rows, index=False)
                    zip_folder(self._folder, images)


def _checksum(pixels: np.ndarray) -> str:
    """SHA-256 of one image's content: little-endian uint16 [C, H, W]."""
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype="<u2").tobytes()).hexdigest()


def write_image_set(images_path: str | Path, manifest_path: str | Path, image_set: ImageSet) -> None:
    """Write a whole set at once, see `ImageWriter`."""
    with ImageWriter(images_path, manifest_path, image_set.images.shape[1:]) as writer:
        writer.append(image_set.images, image_set.manifest)


def read_manifest(path: str | Path) -> pd.DataFrame:
    """A manifest, with the columns and types of `MANIFEST_TYPES`. Raises DataError, naming the file, if it is none."""
    try:
        return pd.read_parquet(path).astype(MANIFEST_TYPES)
    except UNREADABLE as error:
        raise unreadable(path, "manifest", error, "a whole parquet manifest") from error


def read_image_set(images_path: str | Path, manifest_path: str | Path, verify: bool = False) -> ImageSet:
    """Read what `ImageWriter` wrote; images come as float32 [N, C, H, W] in [0, 1].

    Raises DataError, naming the file, if one is missing, truncated or of another kind, if they differ in length and,
    with `verify`, if an image's checksum is wrong.
    """
    manifest = read_manifest(manifest_path)
    try:
        # Not a `with`: closing a ZipStore that could not be opened fails with an error of its own.
        store = ZipStore(Path(images_path), mode="r")
        pixels = zarr.open_array(store, mode="r")[:]
        store.close()
    except UNREADABLE as error:
        raise unreadable(images_path, "images", error, "a whole Zarr array in a zip") from error
    if len(pixels) != len(manifest):
        raise DataError(
            f"{images_path}: images: found {len(pixels)}, allowed: {len(manifest)}, as {manifest_path} has rows"
        )
    if verify:
        for image, row in zip(pixels, manifest.itertuples(), strict=True):
            if (found := _checksum(image)) != row.sha256:
                raise DataError(f"{images_path}: {row.image_id}: found sha256 {found}, allowed: {row.sha256}")
    return ImageSet(pixels.astype(np.float32) / np.float32(WHITE), manifest)


def read_image_sets(images_paths: Sequence[str | Path], manifest_paths: Sequence[str | Path]) -> ImageSet:
    """All shards of a set, in the order given, as one."""
    return ImageSet.concatenate([read_image_set(*paths) for paths in zip(images_paths, manifest_paths, strict=True)])


def unreadable(path: str | Path, field: str, error: Exception, allowed: str) -> DataError:
    """The error to raise for a file that is missing, or whose reading failed: one line that names it."""
    found = "no such file" if not Path(path).exists() else " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: {field}: found {found}, allowed: {allowed}")


def fit_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize [C, H, W] so that the longest edge is `size`, then pad with zeros to [C, size, size], centred.

    Each new pixel is a triangle-weighted mean of all the old ones that it covers, so nothing aliases or overshoots.
    """
    _, height, width = pixels.shape
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = np.zeros((len(pixels), size, size), np.float32)
    for target, channel in zip(square, pixels, strict=True):
        resized = Image.fromarray(channel).resize((new_width, new_height), Image.Resampling.BILINEAR)
        target[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return square.clip(0, 1)


def stretch_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize [C, H, W] to [C, size, size] without regard to proportions, as smoothly as `fit_square`."""
    resized = [Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR) for channel in pixels]
    return np.stack([np.asarray(channel, np.float32) for channel in resized]).clip(0, 1)


def scale_images(image_set: ImageSet, size: int | None) -> ImageSet:
    """The same images at another size (None: as they are), see `fit_square`; their checksums stay the originals'."""
    if size is None or image_set.images.shape[-1] == size:
        return image_set
    return ImageSet(np.stack([fit_square(pixels, size) for pixels in image_set.images]), image_set.manifest)
