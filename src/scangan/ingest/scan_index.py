"""Which scans a folder holds: found by their headers, named by pseudonyms, dealt to batches.

Nothing written here holds a path, name, id, uid or date: see `scangan.ingest.pseudonyms`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path, PurePath

import pandas as pd
import pydicom

from scangan import config
from scangan.errors import DataError
from scangan.ingest.data_files import list_files
from scangan.ingest.dicom import Series, find_series, identifiers_of
from scangan.ingest.listing import readable_name
from scangan.ingest.negatives import patients_with_nodules
from scangan.ingest.patients import no_patient, patient_in_path
from scangan.ingest.pseudonyms import Pseudonyms, hide, hide_text, open_key, write_lookup
from scangan.ingest.volume_headers import DATA_SUFFIXES, SUFFIXES
from scangan.rejected import Rejection, describe_rejected, rejected_table

log = logging.getLogger(__name__)

PHANTOM_ANNOTATIONS = "annotations.sqlite"  # in the phantom's folder


@dataclass(frozen=True)
class ScanFolder:
    """A data folder, its files in order, what cannot be opened there, and what hides them."""

    root: Path
    files: list[Path]
    rejected: list[Rejection]
    pseudonyms: Pseudonyms
    private: Path  # the key's folder

    @property
    def listing(self) -> str:
        """Digest of the names of all files."""
        names = "\n".join(file.relative_to(self.root).as_posix() for file in self.files)
        return self.pseudonyms.digest("listing", names)

    @cached_property
    def names(self) -> dict[str, str]:
        """The names of all files, by the form in which a sentence quotes them."""
        return {readable_name(file.name): file.name for file in self.files}

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
        for name in sorted({span.strip("(),;:'") for span in spans} & self.names.keys(), key=len, reverse=True):
            found = found.replace(name, hide(PurePath(self.names[name]), identifiers, self.pseudonyms))
        return found


def open_scan_folder(root: Path) -> ScanFolder:
    """The files of a data folder as they are now, and its key, see `open_key`.

    Raises DataError if the folder is missing or the key unusable.
    """
    # Series are known by their headers, whatever their files are called; those who read names refuse them.
    files, rejected = list_files(root, any_name=True)
    files = [file for file in files if file != Path(root, PHANTOM_ANNOTATIONS)]
    key, private = open_key(root)
    return ScanFolder(Path(root), files, rejected, Pseudonyms(key), private)


def index_scans(root: Path, settings: config.Indexing, data: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the scans of a folder and deal them to batches.

    root: folder of DICOM series and volume files in any order. data: `real` or `phantom`.
    Returns the index, one row a scan (`scan_id, patient_id, data, batch, files, listing`), and the files that belong to
    no scan (`REJECTED_TYPES`). A file is its place in the sorted listing of the folder, whose digest is `listing`: the
    index holds neither paths nor uids. A volume file is a scan of its own; its patient is what `settings.patient_from`
    finds, or else its name, or its path where several share the name. The patient of a series is its PatientID, or its
    study; where these tell no patients apart, what `settings.patient_from` finds. At most `settings.scans` are taken,
    the first in the order of their pseudonyms, which with the identity `public` are the same at every site.
    Scans of patients with a nodule in `settings.negatives` are left out.
    Raises DataError if the folder is missing or holds no scan, and for a list that cannot be read.
    """
    cohort = open_scan_folder(root)
    place = {file: number for number, file in enumerate(cohort.files)}
    volumes = [file for file in cohort.files if file.name.lower().endswith(SUFFIXES)]
    # A MetaImage header may keep its voxels in a file beside it.
    parts = {file.with_suffix(suffix) for file in volumes for suffix in DATA_SUFFIXES} | set(volumes)
    series, findings = find_series([file for file in cohort.files if file not in parts], cohort.root, settings.modality)

    patients, without = _patients_of(series, volumes, cohort.root, settings.patient_from)
    if settings.negatives is not None:
        without += _leave_out(patients, patients_with_nodules(settings.negatives), series, cohort.root)
    pseudonyms = replace(cohort.pseudonyms, is_public=settings.identity == "public")
    rows = [
        (pseudonyms.scan(scan), pseudonyms.patient(patients[scan]), [place[file] for file in files])
        for scan, files in [
            *((each.series_uid, each.files) for each in series),
            *((file.relative_to(root).as_posix(), [file]) for file in volumes),
        ]
        if scan in patients
    ]
    findings += cohort.rejected + without
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


def _patients_of(
    series: Sequence[Series], volumes: Sequence[Path], root: Path, patient_from: str | None
) -> tuple[dict[str, str], list[Rejection]]:
    """The patient of each scan, by a series' uid or a volume file's path, and the scans of which none is found."""
    tells_apart = _headers_tell_apart(series)
    stems = Counter(file.name.split(".")[0] for file in volumes)
    patients, without = {}, []
    for each in series:
        if tells_apart or patient_from is None:
            patients[each.series_uid] = each.patient_id
        elif patient := patient_in_path(each.files[0].relative_to(root), patient_from):
            patients[each.series_uid] = patient
        else:
            source = Path(os.path.commonpath([file.parent for file in each.files])).relative_to(root)
            without.append(no_patient(each.files[0].name).of(source.as_posix(), each.identifiers))
    for file in volumes:
        path = file.relative_to(root)
        stem = file.name.split(".")[0]
        if patient := patient_in_path(path, patient_from):
            patients[path.as_posix()] = patient
        elif patient_from is None:
            patients[path.as_posix()] = stem if stems[stem] == 1 else path.as_posix()
        else:
            without.append(no_patient(readable_name(file.name)).of(path.as_posix()))
    return patients, without


def _leave_out(
    patients: dict[str, str], with_nodules: frozenset[str], series: Sequence[Series], root: Path
) -> list[Rejection]:
    """Take the scans of these patients from `patients`, see `_patients_of`; none counts as an error."""
    of_series = {each.series_uid: each for each in series}
    without = []
    for scan in [scan for scan, patient in patients.items() if patient in with_nodules]:
        del patients[scan]
        source, identifiers = scan, frozenset({scan})
        if each := of_series.get(scan):
            folder = os.path.commonpath([file.parent for file in each.files])
            source, identifiers = Path(folder).relative_to(root).as_posix(), each.identifiers
        why_not = ("nodule known", "in the list of abnormalities", "none is needed: negatives are clear of nodules")
        without.append(Rejection(source, *why_not, counted=False, identifiers=identifiers))
    return without


def _headers_tell_apart(series: Sequence[Series]) -> bool:
    """Whether the headers name patients; warns if all series have one PatientID, or some have none."""
    if len(series) < 2:
        return True
    ids = [_patient_id(each.files[0]) for each in series]
    if not all(ids):
        said = f"{ids.count('')} of {len(ids)} series have no PatientID, so each of their studies is a patient"
    elif len(set(ids)) == 1:
        said = f"all {len(ids)} series have one PatientID, so they are one patient's"
    else:
        return True
    log.warning("%s; set patient_from, if their paths say whose they are", said)
    return False


def _patient_id(file: Path) -> str:
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"], force=True)
    return str(header.get("PatientID") or "").strip()


def deal(sizes: Sequence[int], batches: int) -> list[int]:
    """The batch of each item; the largest items go first, each to the batch that holds least."""
    load, dealt = [0] * batches, [0] * len(sizes)
    for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        dealt[item] = load.index(min(load))
        load[dealt[item]] += sizes[item]
    return dealt
