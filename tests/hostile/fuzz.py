"""Coverage-guided fuzzing of the readers by atheris: whole files, mutated towards what the parsers have not yet seen.

`python -m tests.hostile.fuzz dicom` reads a fixed number of mutations, always the same; `... dicom FILE` reads one
file again.
A reader may raise our own errors; any other, a death, 2 GB of memory or 10 seconds are faults.
"""

from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
INSTRUMENTED = ["pydicom", "PIL", "yaml", "zarr", "scangan"]
LIMITS = ["-seed=1", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=0", "-verbosity=0"]


@dataclass(frozen=True)
class Target:
    """A reader to be fuzzed.

    runs: how many files it reads. seeds: whole files, written into a folder. reader: imports what it needs, and returns
    a function of a file's content and of a folder to work in.
    """

    runs: int
    seeds: Callable[[Path], None]
    reader: Callable[[], Callable[[bytes, Path], None]]


def dicom_seeds(folder: Path) -> None:
    from pydicom.uid import JPEG2000Lossless, RLELossless

    from tests.hostile.entries import HOSTILE_SCAN, write_scan
    from tests.unit.dicom_files import compress

    for name, syntax in (("plain", None), ("rle", RLELossless), ("j2k", JPEG2000Lossless)):
        file = write_scan(folder, HOSTILE_SCAN[:1] - HOSTILE_SCAN.min(), 2)[0]
        if syntax is not None:
            compress(file, syntax)
        file.rename(folder / name)


def dicom_reader() -> Callable[[bytes, Path], None]:
    from scangan.ingest.dicom import find_series, read_series

    def read(content: bytes, folder: Path) -> None:
        files = [folder / "a.dcm", folder / "b.dcm"]
        for file in files:
            file.write_bytes(content)
        find_series(files, folder)
        read_series(files, min_slices=2)

    return read


def image_seeds(folder: Path) -> None:
    from tests.hostile.images import plain

    for suffix in ("png", "jpg", "tif", "bmp"):
        (folder / suffix).write_bytes(plain(suffix))


def image_reader() -> Callable[[bytes, Path], None]:
    from scangan.config import ImageFolder
    from scangan.ingest.image_folder import read_cohort

    settings = ImageFolder(root="mine", classes={"a": "a", "b": "b"}, image_size=8, max_rejected=1)

    def read(content: bytes, folder: Path) -> None:
        for name in "ab":
            (folder / name).mkdir(exist_ok=True)
            (folder / name / f"{name}.png").write_bytes(content)
        read_cohort(folder, settings, "real", lambda images, rows: None)

    return read


def volume_seeds(folder: Path) -> None:
    from tests.hostile.volumes import meta, nifti

    (folder / "nii").write_bytes(nifti())
    (folder / "gz").write_bytes(gzip.compress(nifti(), mtime=0))
    (folder / "mha").write_bytes(meta())


def volume_reader() -> Callable[[bytes, Path], None]:
    from scangan.ingest.volume_files import read_volume_file

    def read(content: bytes, folder: Path) -> None:
        suffix = "nii.gz" if content[:2] == b"\x1f\x8b" else "mha" if content[:3] == b"Obj" else "nii"
        file = folder / f"a.{suffix}"
        file.write_bytes(content)
        read_volume_file(file)

    return read


def split_seeds(folder: Path) -> None:
    from tests.hostile.tables import SPLIT, text

    (folder / "csv").write_text(text(("image_id", "split"), SPLIT))


def split_reader() -> Callable[[bytes, Path], None]:
    import pandas as pd

    from scangan.data.split import read_split

    ids = [f"image_{number}" for number in range(12)]
    manifest = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": ["a"] * 6 + ["b"] * 6}, dtype="str")

    def read(content: bytes, folder: Path) -> None:
        (folder / "split.csv").write_bytes(content)
        read_split(folder / "split.csv", manifest)

    return read


def config_seeds(folder: Path) -> None:
    for name in ("head_ct", "ct_sgan"):
        (folder / name).write_bytes((ROOT / f"tests/configs/{name}.yaml").read_bytes())


def config_reader() -> Callable[[bytes, Path], None]:
    import yaml

    from scangan.config import load

    def read(content: bytes, folder: Path) -> None:
        try:
            raw = yaml.safe_load(content)
        except (yaml.YAMLError, ValueError, RecursionError):  # Snakemake's to say
            return
        load(raw)

    return read


def store_seeds(folder: Path) -> None:
    from tests.hostile.stores import write_images

    write_images(folder)
    (folder / "manifest.parquet").unlink()


def store_reader() -> Callable[[bytes, Path], None]:
    from scangan.data.store import read_image_set
    from tests.hostile.stores import write_images

    def read(content: bytes, folder: Path) -> None:
        if not (folder / "manifest.parquet").exists():
            write_images(folder)
        (folder / "images.zip").write_bytes(content)
        read_image_set(folder / "images.zip", folder / "manifest.parquet")

    return read


TARGETS = {
    "dicom": Target(8000, dicom_seeds, dicom_reader),
    "images": Target(5000, image_seeds, image_reader),
    "volumes": Target(5000, volume_seeds, volume_reader),
    "split": Target(3000, split_seeds, split_reader),
    "config": Target(2000, config_seeds, config_reader),
    "store": Target(3000, store_seeds, store_reader),
}


def is_installed() -> bool:
    return find_spec("atheris") is not None


def run_target(name: str, crashes: Path) -> str:
    """Fuzz one reader in a process of its own; what went wrong, in a line, or nothing.

    crashes: the folder where the file is kept that it went wrong with.
    """
    crashes.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.hostile.fuzz", name, f"-artifact_prefix={crashes}/{name}-"]
    with TemporaryDirectory(prefix="fuzz-") as folder:
        environment = os.environ | {"TMPDIR": folder}  # libFuzzer leaves without a word, and its files behind
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or "ERROR" in line or "Exception" in line]
    kept = [line.rsplit(" ", 1)[-1] for line in lines if "Test unit written to" in line]
    # libFuzzer may fall over its own end, with all its runs done.
    if run.returncode == 0 or (not kept and lines and lines[-1].startswith("Done ")):
        return ""
    return f"{(said or lines or ['nothing'])[-1][:300]}; again: python -m tests.hostile.fuzz {name} {''.join(kept)}"


def main() -> None:
    name, *arguments = sys.argv[1:]
    target = TARGETS[name]
    logging.disable()
    warnings.simplefilter("ignore")
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        read = target.reader()
    from scangan.errors import ScanganError

    with TemporaryDirectory(prefix="fuzz-") as folder:
        work, seeds = Path(folder, "work"), Path(folder, "seeds")
        work.mkdir()
        seeds.mkdir()
        target.seeds(seeds)

        def read_one(content: bytes) -> None:
            with suppress(ScanganError):
                read(content, work)

        if arguments and Path(arguments[-1]).is_file():
            read_one(Path(arguments[-1]).read_bytes())
            return
        atheris.Setup([sys.argv[0], f"-atheris_runs={target.runs}", *LIMITS, *arguments, str(seeds)], read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
