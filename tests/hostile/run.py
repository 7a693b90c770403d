"""Every hostile input: `python -m tests.hostile.run` prints each fault, and a table of the counts by family.

Ends with 1 if there is a fault. A single input: `--only ID`, which may be the beginning of several ids.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.hostile import fuzz
from tests.hostile.catalogue import CASES
from tests.hostile.harness import Verdict, run_all

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/robustness.md"
BEGIN, END = "<!-- counts of hostile input: written by `make hostile` -->", "<!-- end of the counts -->"
KINDS = ("read right", "one clear line", "fault")
CAPTIONS = ("read right", "one clear line", "faults")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="ids, or what they begin with")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--verbose", action="store_true", help="also what was said of each input that was refused")
    parser.add_argument("--no-fuzz", action="store_true", help="without the fuzzed readers")
    parser.add_argument("--write-docs", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    chosen = [case for case in CASES.values() if not options.only or case.id.startswith(tuple(options.only))]
    if not chosen:
        parser.error(f"--only: found no id that begins so; families: {', '.join(families(CASES))}")
    started = time.monotonic()
    verdicts = []
    for verdict in run_all(chosen, options.jobs):
        verdicts.append(verdict)
        show(verdict, options.verbose)
    fuzzed = {} if options.only or options.no_fuzz else fuzz_readers(ROOT / "results-hostile")
    table = tabulate(verdicts, fuzzed)
    print(f"\n{table}\n\n{time.monotonic() - started:.0f} s")
    if options.write_docs:
        write_docs(PAGE, table)
    return int(any(verdict.kind == "fault" for verdict in verdicts) or any(fuzzed.values()))


def families(ids: Sequence[str] | dict) -> list[str]:
    return list(dict.fromkeys(each.split("/")[0] for each in ids))


def show(verdict: Verdict, verbose: bool) -> None:
    """Print a fault, and how to see it again; the others only if asked for."""
    if verdict.kind == "fault" or verbose:
        cost = f"{verdict.seconds:.1f} s, {verdict.megabytes} MB"
        print(f"{verdict.kind}: {verdict.id}: {verdict.said} [{cost}]".encode(errors="replace").decode(), flush=True)
    if verdict.kind == "fault":
        print(f"    again: python -m tests.hostile.run --verbose --only {verdict.id}", flush=True)


def fuzz_readers(crashes: Path) -> dict[str, str]:
    """Reader -> what went wrong with it, or nothing; without atheris no reader."""
    if not fuzz.is_installed():
        print("fuzzing: left out, for atheris is not installed (it is there for Linux and Python up to 3.13)")
        return {}
    found = {}
    for name in fuzz.TARGETS:
        found[name] = fuzz.run_target(name, crashes)
        print(f"fuzzing: {name}: {fuzz.TARGETS[name].runs} files: {found[name] or 'no fault'}", flush=True)
    return found


def tabulate(verdicts: Sequence[Verdict], fuzzed: dict[str, str]) -> str:
    """Counts by family, in Markdown."""
    rows = [("family", "inputs", *CAPTIONS)]
    counts = Counter((verdict.id.split("/")[0], verdict.kind) for verdict in verdicts)
    for family in families([verdict.id for verdict in verdicts]):
        of_family = [counts[family, kind] for kind in KINDS]
        rows.append((family, *map(str, (sum(of_family), *of_family))))
    totals = [sum(verdict.kind == kind for verdict in verdicts) for kind in KINDS]
    rows.append(("all", *map(str, (len(verdicts), *totals))))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    if fuzzed:
        runs = ", ".join(f"{name} {fuzz.TARGETS[name].runs:,}" for name in fuzzed)
        lines += ["", f"Mutated by atheris: {runs} files; readers with a fault: {sum(map(bool, fuzzed.values()))}."]
    return "\n".join(lines)


def write_docs(page: Path, table: str) -> None:
    """Put the table between the markers of a page."""
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text, found = between.subn(lambda _: f"{BEGIN}\n{table}\n{END}", page.read_text())
    if found != 1:
        raise ValueError(f"{page}: found {found} pairs of markers, allowed: 1")
    page.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
