"""The campaign: `python -m tests.faults.run`, a line a fault, and an exit status that says whether all ended right.

After each fault the same command has to end, with tables that are those of an undisturbed run to the byte; then nothing
is left to do, and nothing left behind.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults.bench import ROOT, Bench, copy_of, lines, make_reference
from tests.faults.faults import FAULTS, RULE_FAILED, Fault

DOCS = ROOT / "docs/robustness.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
SAID = f"error: |{RULE_FAILED}|changed since|damaged|ending process|cannot be locked|Read-only|No space|Will exit"
SAID += "|Terminat"


@dataclass(frozen=True)
class Outcome:
    """What came of a fault. wrong: everything that is not as it should be."""

    fault: Fault
    said: str
    wrong: list[str]
    seconds: float

    @property
    def row(self) -> str:
        same = "yes" if not self.wrong else f"no: {'; '.join(self.wrong)}"
        return (
            f"{self.fault.name} | {self.fault.kind} | {self.fault.where} | {self.said} | {same} | {self.seconds:.0f} s"
        )


def examine(fault: Fault, reference: Bench) -> Outcome:
    """Do it, run again, and compare."""
    started = time.monotonic()
    with copy_of(reference, fault.targets, fault.mounted_mb) as bench:
        bench.forget(fault.start)
        status, said = fault.during(bench)
        wrong = []
        if fault.ends_at_once != (status == 0):
            wrong.append(f"the first run ended with {status}: {last_line(said)}")
        if not re.search(fault.says, said):
            wrong.append(f"nothing said of {fault.says!r}: {last_line(said)}")
        if re.search(r'File "\S*/(scangan|scripts)/', said):  # Snakemake has some of its own on a read-only disk
            wrong.append(f"a traceback: {last_line(said)}")
        again, said_again = bench.run()
        if again != 0:
            wrong.append(f"the same command again ended with {again}: {'; '.join(lines(said_again, SAID))[:300]}")
        before, after = reference.results(), bench.results()
        wrong += [f"{name} differs" for name in sorted(after) if name in before and before[name] != after[name]]
        wrong += [f"{name} is not there" for name in fault.targets if name not in after]
        left = bench.run(options=["--dry-run"])[1]
        if "Nothing to be done" not in left:
            wrong.append(f"there is still something to do: {'; '.join(lines(left, 'reason: '))[:300]}")
        wrong += [f"{name} is left behind" for name in bench.left_behind()]
        noticed = lines(said, fault.says if fault.says not in ("", RULE_FAILED) else SAID)
        noticed = noticed or lines(said_again, SAID)
        return Outcome(fault, shown(noticed), wrong, time.monotonic() - started)


def last_line(said: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.strip()), "nothing said").strip()[:200]


def shown(found: list[str]) -> str:
    """The first line of those found, without its time and this machine's paths."""
    if not found:
        return "nothing: it goes on"
    return re.sub(r"^\d\d:\d\d:\d\d ", "", re.sub(r"/\S*/(?=results|study)", "", found[0]))[:140]


def can_mount() -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


def in_own_namespace() -> None:
    """Begin anew where mounts are allowed, and seen by nobody else, if this system has such places."""
    if os.environ.get("FAULTS_NAMESPACE") is None:
        os.environ["FAULTS_NAMESPACE"] = "yes"
        apart = ["unshare", "--user", "--map-root-user", "--mount"]
        if shutil.which("unshare") and subprocess.run([*apart, "true"], capture_output=True).returncode == 0:
            os.execvp("unshare", [*apart, sys.executable, "-m", "tests.faults.run", *sys.argv[1:]])


def campaign(faults: Iterable[Fault], at_once: int) -> list[Outcome]:
    """All faults, each in a copy of one undisturbed run; a line is printed as each is done."""
    with tempfile.TemporaryDirectory(prefix="scangan-faults-") as folder:
        reference = make_reference(Path(folder) / "reference")

        def one(fault: Fault) -> Outcome:
            outcome = examine(fault, reference)
            print(outcome.row, flush=True)
            return outcome

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, faults))


def document(outcomes: list[Outcome]) -> None:
    """Write the counts into the docs."""
    rows = ["| fault | points | ended in the same tables |", "|---|---|---|"]
    same = Counter(each.fault.kind for each in outcomes if not each.wrong)
    rows += [
        f"| {kind} | {count} | {same[kind]} |" for kind, count in Counter(each.fault.kind for each in outcomes).items()
    ]
    rows += [f"| all | {len(outcomes)} | {same.total()} |"]
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{rest.partition(END)[2]}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults in a small study; each has to end in the same tables.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these faults")
    parser.add_argument("--at-once", type=int, default=2, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="their names, and no more")
    parser.add_argument("--write-docs", action="store_true", help="write the counts into docs/robustness.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - {fault.name for fault in FAULTS}:
        parser.error(f"--only: found {', '.join(sorted(unknown))}, allowed: names of --list")
    wanted = [fault for fault in FAULTS if fault.name in arguments.only or not arguments.only]
    if arguments.list:
        print(*(f"{fault.name}: {fault.kind}: {fault.where}" for fault in wanted), sep="\n")
        return 0
    in_own_namespace()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background would be deaf to it
    possible = [fault for fault in wanted if can_mount() or not fault.needs_mount]
    started = time.monotonic()
    outcomes = campaign(possible, arguments.at_once)
    for fault in wanted:
        if fault not in possible:
            print(f"{fault.name} | {fault.kind} | {fault.where} | not possible here: nothing can be mounted")
    failed = [each.fault.name for each in outcomes if each.wrong]
    minutes = (time.monotonic() - started) / 60
    print(f"{len(outcomes)} faults in {minutes:.0f} minutes, {len(outcomes) - len(failed)} ended in the same tables")
    if failed:
        print("not:", *failed)
    if arguments.write_docs:
        document(outcomes)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
