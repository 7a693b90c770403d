"""The product's own files, damaged or made to do harm: Zarr in zips, parquet, safetensors, checkpoints, SQLite."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.hostile.entries import NO_FILES, damaged
from tests.hostile.harness import Answer, Case, Place

SIZE = 8  # of images and volumes
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 65535, (5, 1, SIZE, SIZE)).astype(np.float32) / np.float32(65535)
VOLUMES = GENERATOR.integers(-1000, 1000, (3, SIZE, SIZE, SIZE), dtype=np.int16)
FEATURES = GENERATOR.random((4, 6)).astype(np.float32)
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Store:
    """A kind of files. write: whole ones, into a folder. read: as a job does; says what differs from what was written.

    files: their names, and what they are.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], str | None]
    files: dict[str, str]


def manifest(count: int) -> pd.DataFrame:
    ids = [f"image_{number}" for number in range(count)]
    return pd.DataFrame(
        {"image_id": ids, "patient_id": ids, "label": "sick", "source": "a.png", "data": "real"}, dtype="str"
    )


def differs(found: np.ndarray, expected: np.ndarray) -> str | None:
    same = found.shape == expected.shape and np.allclose(found, expected, atol=1e-4)
    return None if same else f"other values than were written: {found.dtype} {found.shape}"


def write_images(folder: Path) -> None:
    from scangan.data.store import ImageSet, write_image_set

    write_image_set(folder / "images.zip", folder / "manifest.parquet", ImageSet(IMAGES, manifest(len(IMAGES))))


def read_images(folder: Path) -> str | None:
    from scangan.data.store import read_image_set

    found = read_image_set(folder / "images.zip", folder / "manifest.parquet")
    if found.manifest.image_id.tolist() != manifest(len(IMAGES)).image_id.tolist():
        return "other rows than were written"
    return differs(found.images, IMAGES)


def write_volumes(folder: Path) -> None:
    from scangan.data.volume_set import VolumeWriter

    row = {"label": "none", "source": "ct_sgan", "version": "synthetic", "data": "phantom", "spacing_mm": 5.0}
    with VolumeWriter(folder / "volumes.zip", folder / "manifest.parquet", SIZE) as writer:
        for number, volume in enumerate(VOLUMES):
            writer.write(volume, row | {"volume_id": f"v{number}", "patient_id": f"p{number}"})


def read_volumes(folder: Path) -> str | None:
    from scangan.data.volume_set import read_volume_set

    found = read_volume_set(folder / "volumes.zip", folder / "manifest.parquet")
    if found.manifest.volume_id.tolist() != ["v0", "v1", "v2"]:
        return "other rows than were written"
    return differs(found.read(np.arange(len(found))), VOLUMES)


def write_scans(folder: Path) -> None:
    from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES, write_parquet, write_volumes
    from scangan.rejected import REJECTED_TYPES, rejected_table

    with write_volumes(folder / "volumes.zip") as write:
        for number, volume in enumerate(VOLUMES):
            write(f"s{number}", volume, volume > 0, np.zeros(volume.shape, np.uint8))
    scans = pd.DataFrame({"scan_id": [f"s{number}" for number in range(3)], "patient_id": ["a", "b", "c"]})
    numbers = {name: 1 for name, kind in SCAN_TYPES.items() if kind != "str"}
    words = {name: "x" for name, kind in SCAN_TYPES.items() if kind == "str" and name not in scans}
    write_parquet(folder / "scans.parquet", scans.assign(**numbers, **words), SCAN_TYPES)
    write_parquet(folder / "nodules.parquet", pd.DataFrame(columns=list(NODULE_TYPES)), NODULE_TYPES)
    write_parquet(folder / "rejected.parquet", rejected_table(), REJECTED_TYPES)


def read_scans(folder: Path) -> str | None:
    from scangan.config import Gathering
    from scangan.data import scan_store
    from scangan.rejected import rejected_table

    names = ("volumes.zip", "scans.parquet", "nodules.parquet", "rejected.parquet")
    files = scan_store.BatchFiles(*(folder / name for name in names))
    scans, nodules, rejected = scan_store.gather_batches([files], rejected_table(), Gathering())
    if scans.scan_id.tolist() != ["s0", "s1", "s2"] or len(nodules) or len(rejected):
        return "other rows than were written"
    return differs(np.stack([voxels for _, voxels, _, _ in scan_store.read_scans([files.volumes], scans)]), VOLUMES)


def write_scan_table(folder: Path) -> None:
    write_scans(folder)
    pd.read_parquet(folder / "scans.parquet").to_csv(folder / "scans.csv", index=False)


def read_scan_table(folder: Path) -> str | None:
    from scangan.data.scan_store import read_scan_table

    found = read_scan_table(folder / "scans.csv")
    return None if found.equals(pd.read_parquet(folder / "scans.parquet")) else "another table than was written"


def write_vois(folder: Path) -> None:
    from scangan.data.voi import VOI_TYPES, VoiSet, write_vois

    numbers = {name: 1.0 for name, kind in VOI_TYPES.items() if kind != "str"}
    table = pd.DataFrame({"voi_id": ["a", "b", "c"]}).assign(
        scan_id="s", patient_id="p", kind="nodule", data="real", **numbers
    )
    write_vois(folder / "vois.zip", folder / "vois.parquet", VoiSet(VOLUMES.astype(np.float32), table))


def read_vois(folder: Path) -> str | None:
    from scangan.data.voi import read_vois

    return differs(read_vois(folder / "vois.zip", folder / "vois.parquet").voxels, VOLUMES)


FACTS = {"model": "dcgan32", "channels": 1, "image_size": 32, "options": {"base_width": 4}, "data": "phantom"}


def write_generator(folder: Path) -> None:
    import torch

    from scangan.models.catalogue import build, write_generator

    torch.manual_seed(0)
    generator, _ = build("dcgan32", 1, 32, base_width=4)
    write_generator(folder / "generator.safetensors", folder / "generator.json", generator.state_dict(), **FACTS)


def read_generator(folder: Path) -> str | None:
    import torch

    from scangan.models.catalogue import build, read_generator

    generator, facts = read_generator(folder / "generator.safetensors", folder / "generator.json")
    torch.manual_seed(0)
    expected, _ = build("dcgan32", 1, 32, base_width=4)
    same = all(
        torch.equal(*pair) for pair in zip(generator.state_dict().values(), expected.state_dict().values(), strict=True)
    )
    return None if same and facts["data"] == "phantom" else "other weights than were written"


def write_features(folder: Path) -> None:
    from scangan.metrics.feature_sets import write_features
    from scangan.metrics.features import Features

    write_features(folder / "features.safetensors", Features(FEATURES, FEATURES), manifest(4).image_id.tolist())


def read_features(folder: Path) -> str | None:
    from scangan.metrics.feature_sets import read_feature_set

    found = read_feature_set(folder / "features.safetensors", manifest(4))
    return differs(found.features.features, FEATURES) or differs(found.features.logits, FEATURES)


def write_checkpoints(folder: Path) -> None:
    import torch

    from scangan.training.checkpoint import CheckpointStore

    store = CheckpointStore(folder / "resume")
    for step in (1, 2):
        store.save(step, {"step": step, "weights": torch.full((100,), float(step))})
    newest = next((folder / "resume").glob("step-00000002.*"))
    shutil.copy(newest, folder / "newest.ckpt")
    newest.unlink()


def read_checkpoints(folder: Path) -> str | None:
    """The newest one, or, where that is damaged, the one before: nothing but its training's last minute is lost.

    Once under the digest that it has, as someone else may write it, and once under another.
    """
    from scangan.training.checkpoint import CheckpointStore

    for digest in (sha256((folder / "newest.ckpt").read_bytes()).hexdigest()[:16], "0" * 16):
        resume = folder.parent / "results" / digest
        shutil.copytree(folder / "resume", resume)
        shutil.copy(folder / "newest.ckpt", resume / f"step-00000002.{digest}.ckpt")
        state = CheckpointStore(resume).load_latest()
        if state is None or state["step"] not in (1, 2) or (digest == "0" * 16 and state["step"] != 1):
            return f"no sound checkpoint, though there is one: {state}"
    return None


def write_annotations(folder: Path) -> None:
    from scangan.compat_pylidc import prepare_pylidc
    from tests.unit.test_lidc import box, write_database

    write_database(prepare_pylidc(), folder / "annotations.sqlite", [("1.2.3", [box((5, 9), (6, 10), (3, 5))])])


def read_annotations(folder: Path) -> str | None:
    from scangan.ingest.lidc import open_annotations, scan_nodules
    from tests.unit.test_lidc import SLICES, UPRIGHT

    with open_annotations(folder / "annotations.sqlite") as session:
        nodules = scan_nodules(session, "1.2.3", UPRIGHT, SLICES)
    return None if nodules is not None and [nodule.mask.sum() for nodule in nodules] == [75] else "other nodules"


STORES = {
    "images": Store(write_images, read_images, {"images.zip": "zip", "manifest.parquet": "parquet"}),
    "volumes": Store(write_volumes, read_volumes, {"volumes.zip": "zip", "manifest.parquet": "parquet"}),
    "scans": Store(write_scans, read_scans, {"volumes.zip": "zip", "scans.parquet": "parquet"}),
    "scan_table": Store(write_scan_table, read_scan_table, {"scans.csv": "csv"}),
    "vois": Store(write_vois, read_vois, {"vois.zip": "zip", "vois.parquet": "parquet"}),
    "generator": Store(
        write_generator, read_generator, {"generator.safetensors": "safetensors", "generator.json": "json"}
    ),
    "features": Store(write_features, read_features, {"features.safetensors": "safetensors"}),
    "checkpoints": Store(write_checkpoints, read_checkpoints, {"newest.ckpt": "checkpoint"}),
    "annotations": Store(write_annotations, read_annotations, {"annotations.sqlite": "sqlite"}),
}


# Changes: of a zip


def repack(change: Callable[[dict[str, bytes]], None], path: Path) -> None:
    """The zip with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def add(name: str, path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name.replace("ROOT", str(path.parent.parent.parent))), b"climbed")


def add_link(path: Path) -> None:
    link = zipfile.ZipInfo("c/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, b"/etc/passwd")


def an_array(members: dict[str, bytes]) -> str:
    """The description of the array, or of the first one."""
    return next(name for name in sorted(members) if name.endswith("zarr.json") and b'"array"' in members[name])


def a_chunk(members: dict[str, bytes]) -> str:
    return next(
        name for name in sorted(members) if not name.endswith("zarr.json") and "hounsfield" in name + "hounsfield"
    )


def drop(which: Callable[[dict[str, bytes]], str], members: dict[str, bytes]) -> None:
    del members[which(members)]


def replace_chunk(content: bytes, members: dict[str, bytes]) -> None:
    members[a_chunk(members)] = content


def describe(edit: Callable[[dict[str, Any]], None], members: dict[str, bytes]) -> None:
    name = an_array(members)
    description = json.loads(members[name])
    edit(description)
    members[name] = json.dumps(description).encode()


def raw_description(content: bytes, members: dict[str, bytes]) -> None:
    members[an_array(members)] = content


def twice(path: Path) -> None:
    """A second description, which says something else."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("zarr.json"), b"{}")


def deflate_chunk(path: Path) -> None:
    """A chunk of 3 GB of zeros, in a few megabytes of zip."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    bomb = a_chunk(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name != bomb:
                archive.writestr(zipfile.ZipInfo(name), content)
        with archive.open(zipfile.ZipInfo(bomb), "w") as entry:
            entry._compress_type = zipfile.ZIP_STORED
            entry.write(b"")
    _write_bomb_member(path, bomb)


def _write_bomb_member(path: Path, name: str) -> None:
    information = zipfile.ZipInfo(name + ".large")
    information.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist() if each != name}
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(zipfile.ZipInfo(each), content)
        information.filename = name
        with archive.open(information, "w", force_zip64=True) as entry:
            for _ in range(3000):
                entry.write(bytes(2**20))


def flag_encrypted(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(signature, place + 4)
    path.write_bytes(content)


def lie_in_directory(path: Path) -> None:
    """Sizes of 4 GB in the table of contents."""
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 20 : place + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
        place = content.find(b"PK\x01\x02", place + 4)
    path.write_bytes(content)


def set_shape(shape: list[int], description: dict[str, Any]) -> None:
    description["shape"] = shape


def set_chunks(shape: list[int], description: dict[str, Any]) -> None:
    description["chunk_grid"]["configuration"]["chunk_shape"] = shape


def set_field(name: str, value: Any, description: dict[str, Any]) -> None:
    description[name] = value


def more_images(factor: int, description: dict[str, Any]) -> None:
    description["shape"][0] *= factor


def other_edge(length: int, description: dict[str, Any]) -> None:
    description["shape"][1:] = [length] * len(description["shape"][1:])


BLOSC_LIE = bytes([2, 1, 0x21, 2]) + struct.pack("<III", 2**31 - 1, 2**31 - 1, 2**31 - 1) + bytes(64)
ZIP_CHANGES: dict[str, Change] = {
    "climbing": partial(add, "../../../climbed"),
    "absolute": partial(add, "ROOT/climbed"),
    "windows_path": partial(add, "..\\..\\climbed"),
    "drive": partial(add, "C:\\climbed"),
    "link": add_link,
    "surrogate_name": partial(add, "c/caf\u00e9\u202e"),
    "second_description": twice,
    "no_description": partial(repack, partial(drop, an_array)),
    "no_chunk": partial(repack, partial(drop, a_chunk)),
    "no_members": partial(repack, dict.clear),
    "chunk_empty": partial(repack, partial(replace_chunk, b"")),
    "chunk_of_text": partial(repack, partial(replace_chunk, b"hello" * 100)),
    "chunk_lies": partial(repack, partial(replace_chunk, BLOSC_LIE)),
    "chunk_of_3_gb": deflate_chunk,
    "encrypted": flag_encrypted,
    "directory_lies": lie_in_directory,
    "description_no_json": partial(repack, partial(raw_description, b"{")),
    "description_list": partial(repack, partial(raw_description, b"[]")),
    "description_null": partial(repack, partial(raw_description, b"null")),
    "description_latin": partial(repack, partial(raw_description, b'{"caf\xe9": 1}')),
    "description_deep": partial(repack, partial(raw_description, b"[" * 10**5 + b"]" * 10**5)),
    "shape_huge": partial(repack, partial(describe, partial(more_images, 10**9))),
    "shape_longer": partial(repack, partial(describe, partial(more_images, 2))),
    "shape_edge": partial(repack, partial(describe, partial(other_edge, 10**6))),
    "shape_narrow": partial(repack, partial(describe, partial(other_edge, SIZE - 1))),
    "shape_negative": partial(repack, partial(describe, partial(set_shape, [-1, 1, 8, 8]))),
    "shape_of_words": partial(repack, partial(describe, partial(set_shape, ["a"]))),
    "shape_short": partial(repack, partial(describe, partial(set_shape, [5]))),
    "shape_null": partial(repack, partial(describe, partial(set_shape, None))),
    "chunks_none": partial(repack, partial(describe, partial(set_chunks, [0, 0, 0, 0]))),
    "chunks_huge": partial(repack, partial(describe, partial(set_chunks, [10**6, 10**6, 10**6, 10**6]))),
    "chunks_small": partial(repack, partial(describe, partial(set_chunks, [1, 1, 1, 1]))),
    "type_float": partial(repack, partial(describe, partial(set_field, "data_type", "float64"))),
    "type_bytes": partial(repack, partial(describe, partial(set_field, "data_type", "int8"))),
    "type_text": partial(repack, partial(describe, partial(set_field, "data_type", "string"))),
    "type_unknown": partial(repack, partial(describe, partial(set_field, "data_type", "banana"))),
    "codec_unknown": partial(repack, partial(describe, partial(set_field, "codecs", [{"name": "banana"}]))),
    "codec_pickle": partial(repack, partial(describe, partial(set_field, "codecs", [{"name": "numcodecs.pickle"}]))),
    "codecs_none": partial(repack, partial(describe, partial(set_field, "codecs", []))),
    "codecs_text": partial(repack, partial(describe, partial(set_field, "codecs", "x"))),
    "format_2": partial(repack, partial(describe, partial(set_field, "zarr_format", 2))),
    "a_group": partial(repack, partial(describe, partial(set_field, "node_type", "group"))),
    "fill_text": partial(repack, partial(describe, partial(set_field, "fill_value", "x"))),
    "must_understand": partial(repack, partial(describe, partial(set_field, "extra", {"must_understand": True}))),
}

# Of a table


def edit_table(edit: Callable[[pd.DataFrame], pd.DataFrame], path: Path) -> None:
    edit(pd.read_parquet(path)).to_parquet(path, index=False)


def other_column(values: Callable[[int], list[Any]], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{table.columns[0]: values(len(table))})


def number_column(values: Any, table: pd.DataFrame) -> pd.DataFrame:
    name = next(each for each in table.columns if each == "spacing_mm")
    return table.assign(**{name: values})


def first_column_away(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=table.columns[0])


def longer(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(**{table.columns[0]: [f"more_{number}" for number in range(len(table))]})])


PARQUET_CHANGES: dict[str, Change] = {
    "rows_fewer": partial(edit_table, lambda table: table.iloc[:-1]),
    "rows_none": partial(edit_table, lambda table: table.iloc[:0]),
    "rows_more": partial(edit_table, longer),
    "column_away": partial(edit_table, first_column_away),
    "column_more": partial(edit_table, lambda table: table.assign(extra="=1+1")),
    "column_of_nulls": partial(edit_table, partial(other_column, lambda count: [None] * count)),
    "column_of_lists": partial(edit_table, partial(other_column, lambda count: [[1, 2]] * count)),
    "column_of_bytes": partial(edit_table, partial(other_column, lambda count: [b"\xff\xfe"] * count)),
    "ids_alike": partial(edit_table, partial(other_column, lambda count: ["same"] * count)),
    "number_of_words": partial(edit_table, partial(number_column, "wide")),
    "number_of_dates": partial(edit_table, partial(number_column, pd.Timestamp("2001-02-03"))),
    "as_json": lambda path: path.write_text("{}"),
}

# Of weights, and their descriptions


def tensors(edit: Callable[[dict[str, Any]], None], path: Path) -> None:
    """The file with another header; the numbers stay."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    edit(header)
    said = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(said)) + said + content[8 + length :])


def a_tensor(header: dict[str, Any]) -> dict[str, Any]:
    return header[next(name for name in sorted(header) if name != "__metadata__")]


def flip_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:20] + bytes([content[20] ^ 0xFF]) + content[21:])


def header_length(length: int, path: Path) -> None:
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])


SAFETENSORS_CHANGES: dict[str, Change] = {
    "header_flipped": flip_header,
    "header_of_0": partial(header_length, 0),
    "header_of_exabytes": partial(header_length, 2**63),
    "header_beyond": partial(header_length, 10**8),
    "no_tensors": partial(tensors, dict.clear),
    "tensor_away": partial(
        tensors, lambda header: header.pop(next(name for name in sorted(header) if name != "__metadata__"))
    ),
    "tensor_more": partial(
        tensors, lambda header: header.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    ),
    "no_metadata": partial(tensors, lambda header: header.pop("__metadata__", None)),
    "metadata_no_json": partial(
        tensors, lambda header: header.update(__metadata__={"image_ids": "[", "volume_ids": "["})
    ),
    "metadata_null": partial(tensors, lambda header: header.update(__metadata__={"image_ids": "null"})),
    "metadata_number": partial(tensors, lambda header: header.update(__metadata__={"image_ids": "5"})),
    "metadata_deep": partial(tensors, lambda header: header.update(__metadata__={"image_ids": "[" * 10**5})),
    "shape_huge": partial(tensors, lambda header: a_tensor(header).update(shape=[2**40, 2**40])),
    "shape_negative": partial(tensors, lambda header: a_tensor(header).update(shape=[-1])),
    "type_unknown": partial(tensors, lambda header: a_tensor(header).update(dtype="F7")),
    "type_other": partial(tensors, lambda header: a_tensor(header).update(dtype="I32")),
    "offsets_swapped": partial(tensors, lambda header: a_tensor(header)["data_offsets"].reverse()),
    "offsets_beyond": partial(tensors, lambda header: a_tensor(header).update(data_offsets=[0, 2**40])),
}


def fact(name: str, value: Any, path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


def content_of(content: bytes, path: Path) -> None:
    path.write_bytes(content)


JSON_CHANGES: dict[str, Change] = {
    **{f"content_{name}": partial(content_of, content) for name, content in {
        "list": b"[]", "null": b"null", "number": b"7", "text": b'"x"', "object": b"{}", "latin": b'{"caf\xe9": 1}',
        "bom": b"\xef\xbb\xbf{}", "utf16": "{}".encode("utf-16"), "deep": b"[" * 10**5, "digits": b"9" * 10**5,
    }.items()},
    **{f"{name}_{number}": partial(fact, name, value) for name, values in {
        "model": [None, "banana", "../../os", "os", "catalogue", "", "a.b", 5, [], "x" * 10**5, "pggan", "a\nb"],
        "channels": [None, 0, -1, "one", 1.5, 10**9, [], True],
        "image_size": [None, 0, -32, 33, "32", 10**9, 32.0, [], {}],
        "options": [None, [], {"banana": 1}, {"base_width": 0}, {"base_width": -4}, {"base_width": "x"},
                    {"base_width": 10**6},
                    {"base_width": 1.5}, {"latent_size": 10**10}, {"channels": 3}, {"device": "meta"}],
    }.items() for number, value in enumerate(values)},
}  # fmt: skip

# Of checkpoints: with a digest that fits, as `read_checkpoints` gives each content its own.


def pickled(path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self):
            import os

            return os.system, (f"touch {path.parent / 'climbed'}",)

    path.write_bytes(pickle.dumps(Harm()))


def other_state(value: Any, path: Path) -> None:
    import torch

    torch.save(value, path)


CHECKPOINT_CHANGES: dict[str, Change] = {
    "pickle": pickled,
    "a_list": partial(other_state, [1, 2]),
    "nothing": partial(other_state, None),
    "a_function": partial(other_state, print),
}

# Of the annotations


def sql(statement: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


SQLITE_CHANGES: dict[str, Change] = {
    "no_contours": partial(sql, "DROP TABLE contours"),
    "no_column": partial(sql, "ALTER TABLE annotations DROP COLUMN texture"),
    "coordinates_of_words": partial(sql, "UPDATE contours SET coords = 'a,b'"),
    "coordinates_odd": partial(sql, "UPDATE contours SET coords = '1,2\n3'"),
    "coordinates_empty": partial(sql, "UPDATE contours SET coords = ''"),
    "coordinates_null": partial(sql, "UPDATE contours SET coords = NULL"),
    "coordinates_far": partial(sql, "UPDATE contours SET coords = '0,0\n900000000,900000000'"),
    "coordinates_negative": partial(sql, "UPDATE contours SET coords = '-5,-5\n-9,-9'"),
    "coordinates_wide": partial(sql, "UPDATE contours SET coords = '0,0\n30000,0\n30000,30000\n0,30000'"),
    "coordinates_huge": partial(sql, "UPDATE contours SET coords = '99999999999999999999,1'"),
    "place_null": partial(sql, "UPDATE contours SET image_z_position = NULL"),
    "place_far": partial(sql, "UPDATE contours SET image_z_position = 1e300"),
    "place_infinite": partial(sql, "UPDATE contours SET image_z_position = 9e999"),
    "place_words": partial(sql, "UPDATE contours SET image_z_position = 'high'"),
    "rating_null": partial(sql, "UPDATE annotations SET malignancy = NULL"),
    "rating_words": partial(sql, "UPDATE annotations SET malignancy = 'bad'"),
    "thickness_null": partial(sql, "UPDATE scans SET slice_thickness = NULL"),
    "thickness_negative": partial(sql, "UPDATE scans SET slice_thickness = -1"),
    "series_twice": partial(sql, "INSERT INTO scans (series_instance_uid) VALUES ('1.2.3')"),
    "a_view_without_end": partial(
        sql,
        "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    ),
}

CHANGES = {
    "zip": ZIP_CHANGES,
    "parquet": PARQUET_CHANGES,
    "safetensors": SAFETENSORS_CHANGES,
    "json": JSON_CHANGES,
    "checkpoint": CHECKPOINT_CHANGES,
    "sqlite": SQLITE_CHANGES,
    "csv": {},
}


def build(store: Store, file: str, change: Change, folder: Path) -> None:
    store.write(folder)
    change(folder / file)


def put_damaged(name: str, path: Path) -> None:
    path.write_bytes(dict(damaged(path.read_bytes()))[name])


def instead(make: Change, path: Path) -> None:
    path.unlink()
    make(path)


def unreadable(path: Path) -> None:
    path.chmod(0)


def read(store: Store, place: Place) -> Answer:
    problem = store.read(place.input)
    return Answer(taken=True, problems=[problem] if problem else [])


def cases() -> Iterator[Case]:
    for name, store in STORES.items():
        reader = partial(read, store)
        for file, kind in store.files.items():
            where = f"stores/{name}/{file.partition('.')[0]}_{kind}"
            changes = {f"damaged_{each}": partial(put_damaged, each) for each, _ in damaged(b"x" * 100)}
            if kind in ("safetensors", "sqlite"):  # numbers without a checksum: others of them cannot be known
                changes = {each: change for each, change in changes.items() if "flip" not in each}
            if kind != "checkpoint":
                changes |= {make.__name__: partial(instead, make) for make in NO_FILES}
                changes["missing"] = Path.unlink
            for each, change in (changes | CHANGES[kind]).items():
                yield Case(f"{where}/{each}", partial(build, store, file, change), reader)
            if kind != "checkpoint":
                yield Case(f"{where}/unreadable", partial(build, store, file, unreadable), reader, "line", True)


CASES = list(cases())
