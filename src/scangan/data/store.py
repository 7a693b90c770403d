"""Cohorts and synthetic sets on disk: one Zarr v3 array in a zip, and a parquet manifest with one row an image.

An image has two dimensions, or three: [N, C, H, W] stands for [N, C, D, H, W] as well. Volumes are cubes [S, S, S]
along z to the head, y to the back, x to the patient's left.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import zarr
from PIL import Image
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from scangan.errors import DataError
from scangan.files import atomic, reading, scratch_folder, zip_folder

WHITE = 65535  # the uint16 that stands for 1.0
CHUNK_BYTES = 2**20
READ_BYTES = 16 * CHUNK_BYTES
OF_IMAGES, OF_VOLUMES = 4, 5  # dimensions of a set
HELD_BYTES = 2**30  # images that take more, as float32, stay in their files
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
# What pandas raises on a table that is damaged or of another kind.
UNREADABLE = (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError)


class StoredImages:
    """Images that stay in their files, and are read when they are asked for; float32 [N, C, H, W] in [0, 1].

    Indexed like an array (by a number, a slice, or positions), each time they are read anew; `np.asarray` reads all.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, sources: Sequence[tuple[str, zarr.Array]], places: np.ndarray, hold: bool = True) -> None:
        """sources: names of files and their arrays, uint16 [n, C, H, W]; places: int [N, 2], source and position.

        hold: whether few of them may be read at once, see `small`.
        """
        self._sources, self._places, self._hold = tuple(sources), places, hold
        self.shape = (len(places), *self._sources[0][1].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all images, read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """The images at these positions as they are kept: uint16 [n, C, H, W]."""
        places = self._places[positions]
        found = np.empty((len(places), *self.shape[1:]), np.uint16)
        for number in np.unique(places[:, 0]):
            mine = places[:, 0] == number
            name, array = self._sources[number]
            found[mine] = self._read(name, array, places[mine, 1])
        return found

    @staticmethod
    def _read(name: str, array: zarr.Array, rows: np.ndarray) -> np.ndarray:
        with reading(name, "images", "a whole Zarr array in a zip"):
            if (np.diff(rows) == 1).all():
                return array[int(rows[0]) : int(rows[-1]) + 1]
            wanted, again = np.unique(rows, return_inverse=True)  # each chunk is read but once
            return array.oindex[wanted][again]

    def __getitem__(self, index: Any) -> np.ndarray:
        positions = np.arange(len(self))[index]
        images = np.empty((np.size(positions), *self.shape[1:]), np.float32)
        step = self._step
        for start in range(0, len(images), step):
            part = np.atleast_1d(positions)[start : start + step]
            images[start : start + step] = from_pixels(self.pixels(part))
        return images if np.ndim(positions) else images[0]

    @property
    def _step(self) -> int:
        """So many images are read at once, several chunks."""
        return max(1, READ_BYTES // (2 * math.prod(self.shape[1:])))

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), self._step):
            yield from self[start : start + self._step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def select(self, chosen: np.ndarray) -> np.ndarray | StoredImages:
        """Those of a mask or of positions: read, where they take at most `HELD_BYTES`."""
        return StoredImages(self._sources, self._places[chosen], self._hold).small()

    def small(self) -> np.ndarray | StoredImages:
        """The images themselves where they take at most `HELD_BYTES`, and may be held."""
        return self[:] if self._hold and self.nbytes <= HELD_BYTES else self

    @staticmethod
    def concatenate(sets: Sequence[StoredImages]) -> StoredImages:
        """All images of `sets`, one set after the other; none is read."""
        firsts = np.cumsum([0, *(len(each._sources) for each in sets)])
        places = [each._places + np.array([first, 0]) for each, first in zip(sets, firsts, strict=False)]
        sources = [source for each in sets for source in each._sources]
        return StoredImages(sources, np.concatenate(places), all(each._hold for each in sets))


def select_images(images: np.ndarray | StoredImages, chosen: np.ndarray) -> np.ndarray | StoredImages:
    """Those of a mask or of positions, [N, C, H, W]."""
    return images.select(chosen) if isinstance(images, StoredImages) else images[chosen]


@dataclass(frozen=True)
class ImageSet:
    """Images and their manifest, in the same order.

    images: float32 [N, C, H, W] in [0, 1]; those of a large set (`HELD_BYTES`) lie in their files, and are read when
    they are asked for.
    manifest: N rows with the columns of `MANIFEST_TYPES`; `sha256` is there once the set was written.
    """

    images: np.ndarray | StoredImages
    manifest: pd.DataFrame

    def __post_init__(self) -> None:
        if self.images.ndim not in (OF_IMAGES, OF_VOLUMES) or len(self.images) != len(self.manifest):
            raise ValueError(f"images {self.images.shape} do not fit a manifest of {len(self.manifest)} rows")

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def is_of_volumes(self) -> bool:
        """Whether its images have three dimensions."""
        return self.images.ndim == OF_VOLUMES

    def select(self, mask_or_index: Any) -> ImageSet:
        """The images that a boolean mask, or an array of positions, names."""
        chosen = np.asarray(mask_or_index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(int)
        return ImageSet(select_images(self.images, chosen), self.manifest.iloc[chosen].reset_index(drop=True))

    @staticmethod
    def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
        """All images of `sets`, one set after the other."""
        manifest = pd.concat([image_set.manifest for image_set in sets], ignore_index=True)
        images = [image_set.images for image_set in sets]
        stored = [each for each in images if isinstance(each, StoredImages)]
        if len(stored) == len(images):
            return ImageSet(StoredImages.concatenate(stored), manifest)
        return ImageSet(np.concatenate(images), manifest)


class ImageWriter:
    """Writes images to disk as they come, whatever their number.

    Example:
        with ImageWriter(images_path, manifest_path, shape=(1, 32, 32)) as writer:
            writer.append(images, rows)
            writer.keep(writer.manifest[writer.manifest.label == "normal"])

    Both files appear under their names on clean exit only, the manifest last. The same images give the same bytes.
    """

    def __init__(self, images_path: str | Path, manifest_path: str | Path, shape: tuple[int, ...]) -> None:
        self.images_path, self.manifest_path = Path(images_path), Path(manifest_path)
        self.shape = tuple(shape)
        self._rows = [pd.DataFrame(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)]
        self.images: zarr.Array  # uint16 [N, C, H, W], as they are on disk so far

    def __enter__(self) -> Self:
        self.images_path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # A zip can only grow, but an appended array rewrites its last chunk: so the array grows in a folder.
            folder = stack.enter_context(scratch_folder(self.images_path))
            self._folder = Path(folder)
            self.images = zarr.create_array(
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
        pixels = to_pixels(images)
        self.images.append(pixels)
        rows = rows.reindex(columns=list(MANIFEST_TYPES)).assign(sha256=[_checksum(image) for image in pixels])
        self._rows.append(rows.astype(MANIFEST_TYPES))

    @property
    def manifest(self) -> pd.DataFrame:
        """The rows so far; the index is the place of each image."""
        if len(self._rows) > 1:
            self._rows = [pd.concat(self._rows, ignore_index=True)]
        return self._rows[0]

    def keep(self, rows: pd.DataFrame) -> None:
        """Keep the images of some rows of `manifest`, in its order, and these rows as they are now."""
        rows = rows.sort_index()
        places, step = rows.index.to_numpy(), self.images.chunks[0]
        if len(places) < self.images.shape[0]:
            # Every image moves forward, if at all: none is overwritten before it is read.
            for first in range(0, len(places), step):
                chosen = places[first : first + step]
                self.images[first : first + len(chosen)] = self.images.oindex[chosen]
            self.images[len(places) :] = 0  # beyond the end of the last chunk, too
            self.images.resize((len(places), *self.shape))
        self._rows = [rows.astype(MANIFEST_TYPES).reset_index(drop=True)]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._clean_up:
            if kind is None:
                manifest = self.manifest
                with atomic(self.manifest_path) as rows, atomic(self.images_path) as images:
                    manifest.to_parquet(rows, index=False)
                    zip_folder(self._folder, images)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as they are kept: uint16, of which WHITE stands for 1; values outside are clipped."""
    return np.rint(np.clip(images, 0, 1) * np.float32(WHITE)).astype("<u2")


def from_pixels(pixels: np.ndarray) -> np.ndarray:
    """What `to_pixels` made uint16 of, as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(WHITE)


def _checksum(pixels: np.ndarray) -> str:
    """SHA-256 of one image's content: little-endian uint16 [C, H, W]."""
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype="<u2").tobytes()).hexdigest()


def write_image_set(images_path: str | Path, manifest_path: str | Path, image_set: ImageSet) -> None:
    """Write a whole set at once, see `ImageWriter`."""
    with ImageWriter(images_path, manifest_path, image_set.images.shape[1:]) as writer:
        writer.append(np.asarray(image_set.images), image_set.manifest)


def read_manifest(path: str | Path) -> pd.DataFrame:
    """A manifest, with the columns and types of `MANIFEST_TYPES`. Raises DataError, naming the file, if it is none."""
    with reading(path, "manifest", "a whole parquet manifest"):
        rows = pd.read_parquet(path)[list(MANIFEST_TYPES)].astype(MANIFEST_TYPES)
    check_ids(path, rows["image_id"])
    return rows


def check_ids(path: str | Path, ids: pd.Series) -> None:
    """Raise DataError, naming the file, unless each of a table's rows has an id of its own."""
    if len(wrong := ids[ids.isna() | ids.duplicated()]):
        found = "none" if wrong.isna().any() else f"'{wrong.iloc[0]}' twice"
        raise DataError(f"{path}: {ids.name}: found {found}, allowed: one for each row, unlike the others")


def read_image_set(
    images_path: str | Path, manifest_path: str | Path, verify: bool = False, hold: bool = True
) -> ImageSet:
    """Read what `ImageWriter` wrote; images come as float32 [N, C, H, W] in [0, 1], or stay in their files.

    hold: False for one who looks at few of them: they stay in their files however few they are.
    Raises DataError, naming the file, if one is missing, truncated or of another kind, if they differ in length and,
    with `verify`, if an image's checksum is wrong; so, too, where chunks are missing: they were black images, or lost.
    """
    images, manifest = _open_image_set(images_path, manifest_path, verify, hold)
    return ImageSet(images.small(), manifest)


def _open_image_set(
    images_path: str | Path, manifest_path: str | Path, verify: bool = False, hold: bool = True
) -> tuple[StoredImages, pd.DataFrame]:
    """The images, none of them read, and the manifest."""
    manifest = read_manifest(manifest_path)
    with reading(images_path, "images", "a whole Zarr array in a zip"):
        store, members = open_zip(images_path)
        array = zarr.open_array(store, mode="r")
        is_set = array.ndim in (OF_IMAGES, OF_VOLUMES) and array.dtype == np.uint16
        if not is_set or array.chunks[1:] != array.shape[1:]:
            found = f"{array.dtype} {list(array.shape)} in chunks of {list(array.chunks)}"
            raise DataError(f"{images_path}: images: found {found}, allowed: uint16 [N, C, H, W] in whole images")
        if array.shape[0] != len(manifest):
            raise DataError(
                f"{images_path}: images: found {array.shape[0]}, allowed: {len(manifest)}, as {manifest_path} has rows"
            )
    places = np.column_stack([np.zeros(len(manifest), int), np.arange(len(manifest))])
    images = StoredImages([(str(images_path), array)], places, hold)
    if verify or missing_chunk(array, members):
        for start in range(0, len(manifest), array.chunks[0]):
            part = manifest[start : start + array.chunks[0]]
            for pixels, row in zip(images.pixels(part.index), part.itertuples(), strict=True):
                if (found := _checksum(pixels)) != row.sha256:
                    raise DataError(f"{images_path}: {row.image_id}: found sha256 {found}, allowed: {row.sha256}")
    return images, manifest


def read_image_sets(
    images_paths: Sequence[str | Path], manifest_paths: Sequence[str | Path], hold: bool = True
) -> ImageSet:
    """All shards of a set, in the order given, as one. hold: see `read_image_set`."""
    opened = [_open_image_set(*paths, hold=hold) for paths in zip(images_paths, manifest_paths, strict=True)]
    images = StoredImages.concatenate([each for each, _ in opened])
    return ImageSet(images.small(), pd.concat([manifest for _, manifest in opened], ignore_index=True))


def open_zip(path: str | Path) -> tuple[ZipStore, set[str]]:
    """A zip of Zarr arrays, opened for reading, and the names of its members.

    Raises ValueError for a member that the zip itself compresses: ours are not, and it may hold any number of bytes.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{member.filename} compressed by the zip")
    return ZipStore(Path(path), mode="r"), {member.filename for member in members}


def missing_chunk(array: zarr.Array, members: set[str], name: str = "") -> str | None:
    """The first chunk that is none of the members of an array's zip; Zarr takes it for one of zeros.

    name: of the array within the zip.
    """
    counts = [-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    # One more than there are members is enough to find one that is missing, whatever shape a file claims.
    for number in range(min(math.prod(counts), len(members) + 1)):
        place = map(str, np.unravel_index(number, counts))
        if (key := "/".join(filter(None, (name, "c", *place)))) not in members:
            return key
    return None


def fit_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize [C, H, W] so that the longest edge is `size`, then pad with zeros to [C, size, size], centred.

    Both sides get as many zeros, so that an image flipped or turned becomes the same square, flipped or turned. Each
    new pixel is a triangle-weighted mean of all the old ones that it covers, so nothing aliases or overshoots.
    """
    _, height, width = pixels.shape
    scale = size / max(height, width)
    top, left = (min(round((size - edge * scale) / 2), (size - 1) // 2) for edge in (height, width))
    new_height, new_width = size - 2 * top, size - 2 * left
    square = np.zeros((len(pixels), size, size), np.float32)
    for target, channel in zip(square, pixels, strict=True):
        resized = Image.fromarray(channel).resize((new_width, new_height), Image.Resampling.BILINEAR)
        target[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return square.clip(0, 1)


def stretch_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize [C, H, W] to [C, size, size] without regard to proportions, as smoothly as `fit_square`."""
    resized = [Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR) for channel in pixels]
    return np.stack([np.asarray(channel, np.float32) for channel in resized]).clip(0, 1)


def resize_volume(voxels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resize [D, H, W] to another shape, float32, as smoothly as `fit_square` along each axis."""
    depth, height, width = shape
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in voxels]
    flat = Image.fromarray(np.stack([np.asarray(plane) for plane in planes]).reshape(len(voxels), -1))
    return np.asarray(flat.resize((height * width, depth), Image.Resampling.BILINEAR)).reshape(shape)


def scale_images(image_set: ImageSet, size: int | None) -> ImageSet:
    """The same images at another size (None: as they are), see `fit_square`; their checksums stay the originals'.

    Volumes are cubes, and become larger or smaller ones.
    """
    if size is None or image_set.images.shape[-1] == size:
        return image_set
    if image_set.is_of_volumes:
        resized = [[resize_volume(voxels, (size, size, size)) for voxels in volume] for volume in image_set.images]
        return ImageSet(np.array(resized, np.float32), image_set.manifest)
    return ImageSet(np.stack([fit_square(pixels, size) for pixels in image_set.images]), image_set.manifest)


def radiographs(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """The mean from front to back of each volume [C, D, H, W]: images [N, C, D, W], the head below."""
    return np.stack([volume.mean(axis=2, dtype=np.float32) for volume in volumes])
