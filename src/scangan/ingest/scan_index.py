"""Which scans a folder holds: found by their headers, named by pseudonyms, dealt to batches.

Nothing written here holds a path, name, id, uid or date: see `scangan.ingest.pseudonyms`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path, PurePath

import pandas as pd

from scangan import config
from scangan.errors import DataError
from scangan.ingest.dicom import find_series, identifiers_of, list_files
from scangan.ingest.pseudonyms import Pseudonyms, hide, hide_text, open_key, write_lookup
from scangan.ingest.volume_files import SUFFIXES
from scangan.rejected import Rejection, describe_rejected, rejected_table

log = logging.getLogger(__name__)

PHANTOM_ANNOTATIONS = "annotations.sqlite"  # in the phantom's folder


@dataclass(frozen=True)
class ScanFolder:
    """A data folder, its files in order, and what hides them."""

    root: Path
    files: list[Path]
    pseudonyms: Pseudonyms
    private: Path  # the key's folder

    @property
    def listing(self) -> str:
        """Digest of the names of all files."""
        names = "\n".join(file.relative_to(self.root).as_posix() for file in self.files)
        return self.pseudonyms.digest("listing", names)

    @cached_property
    def names(self) -> set[str]:
        """The names of all files."""
        return {file.name for file in self.files}

    def reject(self, findings: Sequence[Rejection], identifiers: frozenset[str]) -> pd.DataFrame:
        """The table of rejections (`REJECTED_TYPES`); what it hides is noted in the key's folder.

        identifiers: of all that is known of the folder, because a damaged file says nothing of whom its path names.
        """
        hidden, true_paths = [], {}
        for finding in findings:
            path = PurePath(finding.source)
            source = hide(path, identifiers, self.pseudonyms)
            # The sentence quotes the file's own header at most; a stranger's id may be one of its numbers.
            found = hide_text(self._hide_names(finding.found, identifiers), finding.identifiers, self.pseudonyms)
            hidden.append(replace(finding, source=source, found=found))
            true_paths[source] = path.as_posix()
        write_lookup(self.private, true_paths)
        return rejected_table(hidden)

    def _hide_names(self, found: str, identifiers: frozenset[str]) -> str:
        """A sentence whose names of files, which may have spaces, identify nobody."""
        words = found.split(" ")
        spans = [" ".join(words[first:last]) for first, last in combinations(range(len(words) + 1), 2)]
        for name in sorted({span.strip("(),;:'") for span in spans} & self.names, key=len, reverse=True):
            found = found.replace(name, hide(PurePath(name), identifiers, self.pseudonyms))
        return found


def open_scan_folder(root: Path) -> ScanFolder:
    """The files of a data folder as they are now, and its key, see `open_key`.

    Raises DataError if the folder is missing or the key unusable.
    """
    files = [file for file in list_files(root) if file != Path(root, PHANTOM_ANNOTATIONS)]
    key, private = open_key(root)
    return ScanFolder(Path(root), files, Pseudonyms(key), private)


def index_scans(root: Path, settings: config.Indexing, data: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the scans of a folder and deal them to batches.

    root: folder of DICOM series and volume files in any order. data: `real` or `phantom`.
    Returns the index, one row a scan (`scan_id, patient_id, data, batch, files, listing`), and the files that belong to
    no scan (`REJECTED_TYPES`). A file is its place in the sorted listing of the folder, whose digest is `listing`: the
    index holds neither paths nor uids. A volume file is a scan of its own, and a patient by its name, or by its path
    where several share the name. At most `settings.scans` are taken, the first in the order of their pseudonyms.
    Raises DataError if the folder is missing or holds no scan.
    """
    cohort = open_scan_folder(root)
    place = {file: number for number, file in enumerate(cohort.files)}
    volumes = [file for file in cohort.files if file.name.lower().endswith(SUFFIXES)]
    # A MetaImage header may keep its voxels in a file beside it.
    parts = {file.with_suffix(suffix) for file in volumes for suffix in (".raw", ".zraw")} | set(volumes)
    series, findings = find_series([file for file in cohort.files if file not in parts], cohort.root, settings.modality)

    name, pseudonyms = cohort.pseudonyms.scan, cohort.pseudonyms
    rows = [
        (name(each.series_uid), pseudonyms.patient(each.patient_id), [place[file] for file in each.files])
        for each in series
    ]
    stem = {file: file.name.split(".")[0] for file in volumes}
    times = Counter(stem.values())
    for file in volumes:
        path = file.relative_to(root).as_posix()
        patient = stem[file] if times[stem[file]] == 1 else path
        rows.append((name(path), pseudonyms.patient(patient), [place[file]]))

    rejected = cohort.reject(findings, identifiers_of((*series, *findings)))
    if not rows:
        raise DataError(
            f"{root}: scans: found none{describe_rejected(rejected)}, allowed: at least 1 {settings.modality} series"
        )
    chosen = sorted(rows)[: settings.scans]
    index = pd.DataFrame(chosen, columns=["scan_id", "patient_id", "files"])
    index["batch"] = deal([len(files) for files in index.files], settings.batches)
    log.info(
        "%s: %d scans, %d taken; %d files rejected%s",
        root,
        len(rows),
        len(index),
        len(rejected),
        describe_rejected(rejected),
    )
    return index.assign(data=data, listing=cohort.listing), rejected


def deal(sizes: Sequence[int], batches: int) -> list[int]:
    """The batch of each item; the largest items go first, each to the batch that holds least."""
    load, dealt = [0] * batches, [0] * len(sizes)
    for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        dealt[item] = load.index(min(load))
        load[dealt[item]] += sizes[item]
    return dealt
