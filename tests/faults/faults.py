"""The faults: what goes wrong, at which place of which process, and what the run has to say about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.bench import COHORT, FIDELITY, PAPERS, PATIENCE, STAGES, STUDY, Bench, mount, unmount
from tests.faults.sitecustomize import damage

GAN_STEP = "call scangan.training.adversarial:AdversarialTraining.step"
CLASSIFIER_STEP = "call scangan.training.supervised:_PhaseTraining.advance"
RULE_FAILED = ": failed after"
CHANGED_AT_PLAN = "changed since it was written; it is made anew"
CHANGED_AT_READING = "error: .*: content: found changed since it was written"


@dataclass(frozen=True)
class Fault:
    """One fault.

    start: the first stage whose results are not there yet; None: all are. during: what happens to the first run;
    returns its exit status and what it said. says: a pattern that this must match. ends_at_once: whether the first run
    has to end right in spite of the fault. needs_mount: whether file systems have to be mounted; mounted_mb: the size
    of a disk. short: whether it stands for its kind in the tests.
    """

    name: str
    kind: str
    where: str
    start: str | None
    during: Callable[[Bench], tuple[int, str]]
    says: str = ""
    ends_at_once: bool = False
    needs_mount: bool = False
    mounted_mb: int = 0
    short: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The tables that are asked for: those that come next after its stage, and for the last stages all."""
        stage = list(STAGES).index(self.start) if self.start else len(STAGES)
        if stage <= list(STAGES).index("split_cohort"):
            return (COHORT,)
        return (FIDELITY,) if stage <= list(STAGES).index("measure_fidelity") else (COHORT, PAPERS)


def injection(script: str, at: str, *action: Any, count: int = 1) -> dict[str, Any]:
    """`script`: the rule's, or `snakemake` for the process of the run itself."""
    program = r"\0-m\0snakemake\0" if script == "snakemake" else rf"\.{script}\.py$"
    return {"program": program, "at": at, "action": list(action), "count": count}


def injected(*injections: dict[str, Any]) -> Callable[[Bench], tuple[int, str]]:
    """A run with faults; it fails the test if one of them does not come about."""

    def during(bench: Bench) -> tuple[int, str]:
        run = bench.start(injections)
        for number, each in enumerate(injections):
            bench.wait_for_fault(run, number)
            match each["action"]:
                case ["signal", "SIGSTOP"]:
                    wait_until_stopped(bench)
                    os.killpg(run.process.pid, 18)  # SIGCONT
                case ["signal run", "SIGKILL"]:
                    run.process.wait()  # and the job lives on, until the next run
                case ["signal run", _]:
                    bench.go_on(number)
        return run.wait() if all(map(bench.has_fired, range(len(injections)))) else (0, "the fault did not come about")

    return during


def wait_until_stopped(bench: Bench) -> None:
    """Until the job of this run has stopped."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = status.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if text[0] == "T" and int(text[3]) == bench.runs[-1].process.pid:
                return
        time.sleep(0.02)


def damaged(name: str, how: str) -> Callable[[Bench], tuple[int, str]]:
    """A run after a file has changed under its hands, size and times as before where possible."""

    def during(bench: Bench) -> tuple[int, str]:
        damage(bench.path(name), how)
        return bench.run()

    return during


def kill(name: str, stage: str, script: str, at: str, where: str, count: int = 1, **more: Any) -> Fault:
    during = injected(injection(script, at, "signal", "SIGKILL", count=count))
    return Fault(name, "SIGKILL of a job", f"{script}: {where}", stage, during, RULE_FAILED, **more)


def of_run(name: str, signal: str, stage: str, script: str, at: str, where: str, count: int = 1, **more: Any) -> Fault:
    during = injected(injection(script, at, "signal run", signal, count=count))
    return Fault(name, f"{signal} of Snakemake", f"{script}: {where}", stage, during, **more)


def changed(name: str, file: str, how: str, stage: str | None, says: str = CHANGED_AT_PLAN, **more: Any) -> Fault:
    words = {"flip": "one bit flipped", "truncate": "cut to half", "empty": "emptied"}
    during = damaged(file, how)
    return Fault(name, "file changed", f"{file}: {words[how]}", stage, during, says, ends_at_once=True, **more)


# Kinds that need more than an injection.


def second_run(bench: Bench) -> tuple[int, str]:
    """A second run of the same in the middle of the first: it has to stop, and the first to end right."""
    first = bench.start([injection("train_classifier", "read .*images.zarr.zip", "wait")])
    bench.wait_for_fault(first)
    status, said = bench.run()
    if status == 0:
        return 0, "the second run did not stop"
    bench.go_on()
    return first.wait()[0], said


ELSEWHERE = {"options": ["--config", "results=elsewhere"], "targets": ["elsewhere/head_ct/cohort/manifest.parquet"]}


def disjoint_run(bench: Bench) -> tuple[int, str]:
    """Another call, of other files in the same folder, in the middle of the first: both end right."""
    first = bench.start([injection("train_classifier", "read .*images.zarr.zip", "wait")])
    bench.wait_for_fault(first)
    status, said = bench.run(**ELSEWHERE)
    bench.go_on()
    return first.wait()[0] or status, said


def killed_beside_another(bench: Bench) -> tuple[int, str]:
    """A run is killed while another one lives: its lock stays until that has ended, for it might be the other's."""
    first = bench.start([injection("train_classifier", "read .*images.zarr.zip", "wait")])
    bench.wait_for_fault(first)
    first_locks = sorted(bench.folder.glob(".snakemake/locks/*"))
    bench.run(options=[*ELSEWHERE["options"], "--dry-run"], targets=ELSEWHERE["targets"])
    kept = sorted(bench.folder.glob(".snakemake/locks/*")) == first_locks
    bench.go_on()
    status, said = first.wait()
    return (status, said) if kept and first_locks else (1, "the lock of a living run was removed")


def outlived(bench: Bench) -> tuple[int, str]:
    """Snakemake is killed, its job lives on and ends by itself while the next run is under way."""
    first = bench.start([injection("train_gan", GAN_STEP, "signal run", "SIGKILL", count=3)])
    bench.wait_for_fault(first)
    first.process.wait()
    bench.go_on()
    return bench.run()


def read_only(bench: Bench) -> tuple[int, str]:
    """The folder of results is mounted read-only, as systems do when a disk fails."""
    results = str(bench.folder / "results")
    mount("--bind", results, results)
    mount("-o", "remount,bind,ro", results)
    try:
        return bench.run()
    finally:
        unmount(results)


def read_only_in_the_middle(bench: Bench) -> tuple[int, str]:
    """A folder of results that a job has yet to write to, in the middle of its run."""
    gans = str(bench.path("gan"))
    run = bench.start([injection("train_gan", GAN_STEP, "wait", count=3)])
    bench.wait_for_fault(run)
    mount("--bind", gans, gans)
    mount("-o", "remount,bind,ro", gans)
    bench.go_on()
    try:
        return run.wait()
    finally:
        unmount(gans)


def full_disk(script: str, at: str, left: int, count: int = 1) -> Callable[[Bench], tuple[int, str]]:
    def during(bench: Bench) -> tuple[int, str]:
        found = injected(injection(script, at, "fill disk", left, count=count))(bench)
        Path(f"{bench.fault_file}.0.ballast").unlink(missing_ok=True)  # room is made
        return found

    return during


def clock(seconds: float, *names: str) -> Callable[[Bench], tuple[int, str]]:
    """A run after the clock was set back: what was written before is dated later than now, by so many seconds."""

    def during(bench: Bench) -> tuple[int, str]:
        for name in names or (".",):
            for path in [bench.path(name), *bench.path(name).rglob("*")]:
                status = path.stat()
                os.utime(path, (status.st_atime + seconds, status.st_mtime + seconds))
        return bench.run()

    return during


def unknown_from_the_future(bench: Bench) -> tuple[int, str]:
    """Files that no job of ours has sealed, such as a user's own, are dated in the future; then touched, as it says."""
    for file in bench.folder.glob(".snakemake/scangan/seals/*"):
        file.unlink()
    status, said = clock(3600)(bench)
    now = time.time()
    for path in bench.folder.glob("results/**/*"):
        os.utime(path, (now, now))
    return status, said


def interrupted_before(seconds: float) -> Callable[[Bench], tuple[int, str]]:
    """A run is stopped; then the clock is set back."""

    def during(bench: Bench) -> tuple[int, str]:
        injected(injection("train_classifier", CLASSIFIER_STEP, "kill both", count=2))(bench)
        return clock(seconds)(bench)

    return during


def torn_checkpoint(bench: Bench) -> tuple[int, str]:
    """A training with one checkpoint is killed in the middle of writing the next one."""
    injected(injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=3))(bench)
    for file in bench.folder.glob("fault.json*"):
        file.unlink()
    return injected(
        injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=3),
        injection("train_gan", "write .*checkpoint.partial", "stop writing", 50_000, "kill"),
    )(bench)


def damaged_checkpoint(how: str) -> Callable[[Bench], tuple[int, str]]:
    def during(bench: Bench) -> tuple[int, str]:
        injected(injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=3))(bench)
        for file in bench.folder.glob("results/**/.resume/*/*.ckpt"):
            damage(file, how)
        return bench.run()

    return during


def half_file(bench: Bench) -> tuple[int, str]:
    """Snakemake's own record of a job is damaged."""
    for file in bench.folder.glob(".snakemake/metadata/*"):
        if file.is_file():
            file.write_bytes(b"")
    return bench.run()


def damaged_seals(bench: Bench) -> tuple[int, str]:
    for file in bench.folder.glob(".snakemake/scangan/seals/*"):
        damage(file, "truncate")
    return bench.run()


TERM_AND_TEAR = (
    injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=3),
    injection("train_gan", "write .*checkpoint.partial", "stop writing", 50_000, "say"),
)
SPLIT, IMAGES, MANIFEST = "split/split.csv", "cohort/images.zarr.zip", "cohort/manifest.parquet"
GAN, SHARD = "gan/dcgan32/seed0/normal/generator", "synthetic/dcgan32/seed0/normal/shard0"
CLASSIFIER = "classifier/real/seed0"

FAULTS = [
    # Jobs that are killed: when they begin, in their middle, between two files, just before the last name.
    kill("kill-render-begin", "render_phantom", "render_phantom", "write .*000.png", "before its first image"),
    kill("kill-render-middle", "render_phantom", "render_phantom", "write .*020.png", "in the middle of its images"),
    kill("kill-ingest-begin", "ingest_images", "ingest_images", "read .*labels.csv", "before the first image is read"),
    kill("kill-ingest-middle", "ingest_images", "ingest_images", "read .*020.png", "between two images"),
    kill(
        "kill-ingest-between", "ingest_images", "ingest_images", "rename .*manifest.parquet$", "images there, no table"
    ),
    kill("kill-split-end", "split_cohort", "split_cohort", "rename .* to .*split.csv$", "before its file has its name"),
    kill("kill-gan-begin", "train_gan", "train_gan", "read .*images.zarr.zip", "before the first step"),
    kill("kill-gan-middle", "train_gan", "train_gan", GAN_STEP, "step 5", count=5, short=True),
    kill("kill-gan-end", "train_gan", "train_gan", "rename .* to .*generator.json$", "weights there, no description"),
    kill("kill-synthesize-end", "synthesize", "synthesize", "rename .*shard0.parquet$", "images there, no table"),
    kill("kill-features-end", "extract_features", "extract_features", "rename .*seed0", "before its file has its name"),
    kill("kill-fidelity-end", "measure_fidelity", "measure_fidelity", "rename .*seed0.csv", "first of two tables"),
    kill("kill-classifier-begin", "train_classifier", "train_classifier", "read .*images.zarr.zip", "before step 1"),
    kill("kill-classifier-middle", "train_classifier", "train_classifier", CLASSIFIER_STEP, "step 3", count=3),
    kill("kill-classifier-end", "train_classifier", "train_classifier", "rename .*predictions", "weights there only"),
    kill("kill-score-end", "score", "score", "rename .*scores.csv", "before its file has its name"),
    kill(
        "kill-tabulate-between", "tabulate", "tabulate_classification", "rename .*calibration.csv", "two of four files"
    ),
    kill("kill-papers-end", "tabulate", "compare_with_papers", "rename .*comparison.md", "one of two tables"),
    Fault(
        "torn-checkpoint",
        "SIGKILL of a job",
        "train_gan: inside its second checkpoint",
        "train_gan",
        torn_checkpoint,
        RULE_FAILED,
    ),
    Fault(
        "checkpoint-too-large",
        "full disk (EFBIG)",
        "train_gan: inside a checkpoint",
        "train_gan",
        injected(*TERM_AND_TEAR),
        "checkpoint of step .* cannot be written",
    ),
    # Signals that ask.
    Fault(
        "term-gan",
        "SIGTERM of a job",
        "train_gan: step 5",
        "train_gan",
        injected(injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=5)),
        "error: stopped by a signal at step",
    ),
    Fault(
        "int-gan",
        "SIGINT of a job",
        "train_gan: step 5",
        "train_gan",
        injected(injection("train_gan", GAN_STEP, "signal", "SIGINT", count=5)),
        "error: stopped by a signal at step",
    ),
    Fault(
        "term-classifier",
        "SIGTERM of a job",
        "train_classifier: step 3",
        "train_classifier",
        injected(injection("train_classifier", CLASSIFIER_STEP, "signal", "SIGTERM", count=3)),
        RULE_FAILED,
    ),
    Fault(
        "int-classifier",
        "SIGINT of a job",
        "train_classifier: step 3",
        "train_classifier",
        injected(injection("train_classifier", CLASSIFIER_STEP, "signal", "SIGINT", count=3)),
        "error: interrupted",
    ),
    Fault(
        "ctrl-c",
        "SIGINT of all",
        "train_gan: step 5",
        "train_gan",
        injected(injection("train_gan", GAN_STEP, "signal group", "SIGINT", count=5)),
    ),
    # The run itself; its jobs outlive it.
    of_run("kill-run-gan", "SIGKILL", "train_gan", "train_gan", GAN_STEP, "step 5; the job lives on", 5, short=True),
    of_run("kill-run-ingest", "SIGKILL", "ingest_images", "ingest_images", "read .*020.png", "between two images"),
    of_run("kill-run-classifier", "SIGKILL", "train_classifier", "train_classifier", CLASSIFIER_STEP, "step 3", 3),
    of_run("term-run-gan", "SIGTERM", "train_gan", "train_gan", GAN_STEP, "step 5", 5),
    of_run("int-run-classifier", "SIGINT", "train_classifier", "train_classifier", CLASSIFIER_STEP, "step 3", 3),
    Fault(
        "kill-run-outlived",
        "SIGKILL of Snakemake",
        "train_gan: step 3; the job goes on beside the next run",
        "train_gan",
        outlived,
        ends_at_once=True,
    ),
    Fault(
        "kill-both",
        "SIGKILL of all",
        "train_classifier: step 3",
        "train_classifier",
        injected(injection("train_classifier", CLASSIFIER_STEP, "kill both", count=3)),
    ),
    Fault(
        "kill-run-lock",
        "SIGKILL of Snakemake",
        "snakemake: as it writes its lock",
        "score",
        injected(injection("snakemake", "write .*output.lock", "signal", "SIGKILL")),
    ),
    Fault(
        "kill-run-record",
        "SIGKILL of Snakemake",
        "snakemake: as it writes what it knows of a finished job",
        "score",
        injected(injection("snakemake", "write .*/metadata/.*", "signal", "SIGKILL")),
    ),
    Fault(
        "kill-run-mark",
        "SIGKILL of Snakemake",
        "snakemake: as it marks a job as begun",
        "score",
        injected(injection("snakemake", "write .*/incomplete/.*", "signal", "SIGKILL")),
    ),
    # Files that change between two jobs, after their job has ended.
    changed("flip-phantom", "phantom/head_ct/007.png", "flip", "ingest_images"),
    changed("flip-images", IMAGES, "flip", "split_cohort"),
    changed("cut-images", IMAGES, "truncate", "split_cohort"),
    changed("flip-manifest", MANIFEST, "flip", "split_cohort"),
    changed("flip-split", SPLIT, "flip", "train_gan"),
    changed("cut-split", SPLIT, "truncate", "train_gan"),
    changed("flip-generator", f"{GAN}.safetensors", "flip", "synthesize"),
    changed("cut-generator", f"{GAN}.safetensors", "truncate", "synthesize"),
    changed("flip-description", f"{GAN}.json", "flip", "synthesize"),
    changed("flip-shard", f"{SHARD}.zarr.zip", "flip", "extract_features"),
    changed("cut-shard-table", f"{SHARD}.parquet", "truncate", "extract_features"),
    changed("flip-features", "features/dcgan32/seed0.safetensors", "flip", "measure_fidelity"),
    changed("flip-fidelity", "fidelity/dcgan32/seed0.csv", "flip", "tabulate"),
    changed("flip-predictions", f"{CLASSIFIER}/predictions.parquet", "flip", "score"),
    changed("flip-scores", "classifier/scores.csv", "flip", "tabulate", short=True),
    changed("flip-table", "tables/classification.csv", "flip", None),
    changed("empty-table", "tables/cohort.md", "empty", None),
    Fault(
        "flip-after-plan",
        "file changed",
        f"{SPLIT}: one bit flipped after its job has ended, in the same run",
        "split_cohort",
        injected(injection("snakemake", "write .*/metadata/.*", "damage", f"{STUDY}/{SPLIT}", "flip", count=1)),
        CHANGED_AT_READING,
    ),
    Fault(
        "flip-checkpoint",
        "file changed",
        "a checkpoint: one bit flipped",
        "train_gan",
        damaged_checkpoint("flip"),
        "damaged .truncated or altered.",
        ends_at_once=True,
    ),
    Fault(
        "cut-checkpoint",
        "file changed",
        "a checkpoint: cut to half",
        "train_gan",
        damaged_checkpoint("truncate"),
        "damaged .truncated or altered.",
        ends_at_once=True,
    ),
    Fault(
        "empty-records", "file changed", "all of Snakemake's records: emptied", "score", half_file, ends_at_once=True
    ),
    Fault("cut-seals", "file changed", "all seals: cut to half", "score", damaged_seals, ends_at_once=True),
    # Disks.
    Fault(
        "full-images",
        "full disk (ENOSPC)",
        "ingest_images: as it writes its images",
        "ingest_images",
        full_disk("ingest_images", "write .*images.zarr.zip", 8192),
        "No space left on device",
        needs_mount=True,
        mounted_mb=160,
    ),
    Fault(
        "full-checkpoint",
        "full disk (ENOSPC)",
        "train_gan: inside a checkpoint",
        "train_gan",
        lambda bench: full_checkpoint(bench),
        "No space left on device",
        needs_mount=True,
        mounted_mb=160,
    ),
    Fault(
        "full-weights",
        "full disk (ENOSPC)",
        "train_classifier: as it writes its weights",
        "train_classifier",
        full_disk("train_classifier", CLASSIFIER_STEP, 40960, count=2),
        "No space left on device",
        needs_mount=True,
        mounted_mb=160,
    ),
    Fault(
        "full-table",
        "full disk (ENOSPC)",
        "tabulate_classification: to the last byte",
        "tabulate",
        full_disk("tabulate_classification", "read .*scores.csv", 0),
        "No space left on device",
        needs_mount=True,
        mounted_mb=160,
    ),
    Fault(
        "read-only",
        "read-only results",
        "from the beginning",
        "train_classifier",
        read_only,
        "cannot be written to",
        needs_mount=True,
    ),
    Fault(
        "read-only-middle",
        "read-only results",
        "train_gan: step 3",
        "train_gan",
        read_only_in_the_middle,
        "Read-only file system",
        needs_mount=True,
    ),
    # Time, memory, and two at once.
    Fault(
        "clock-day", "clock set back", "a day; all results are of tomorrow", "score", clock(86400), ends_at_once=True
    ),
    Fault("clock-done", "clock set back", "an hour; nothing is to be done", None, clock(3600), ends_at_once=True),
    Fault(
        "clock-cohort",
        "clock set back",
        "an hour, after the cohort was written",
        "split_cohort",
        clock(3600, "cohort"),
        ends_at_once=True,
    ),
    Fault(
        "clock-interrupted",
        "clock set back",
        "ten minutes, after a run was killed",
        "train_classifier",
        interrupted_before(600),
        ends_at_once=True,
    ),
    Fault(
        "clock-unknown",
        "clock set back",
        "an hour; of files that are not sealed, which are then touched",
        "score",
        unknown_from_the_future,
        "modified: found a time in the future",
    ),
    Fault("clock-forward", "clock set forward", "results are of last year", "score", clock(-3e7), ends_at_once=True),
    Fault(
        "no-memory",
        "memory",
        "train_classifier: step 3, nothing more is given",
        "train_classifier",
        injected(injection("train_classifier", CLASSIFIER_STEP, "out of memory", count=3)),
        "error: .*memory",
    ),
    Fault(
        "suspended",
        "SIGSTOP and SIGCONT",
        "train_gan: step 5",
        "train_gan",
        injected(injection("train_gan", GAN_STEP, "signal", "SIGSTOP", count=5)),
        ends_at_once=True,
    ),
    Fault(
        "second-run",
        "two runs at once",
        "the same, while the first trains a classifier",
        "train_classifier",
        second_run,
        "cannot be locked",
        ends_at_once=True,
    ),
    Fault(
        "other-run",
        "two runs at once",
        "of another folder of results",
        "train_classifier",
        disjoint_run,
        ends_at_once=True,
    ),
    Fault(
        "lock-of-the-living",
        "two runs at once",
        "a plan beside a run leaves its lock alone",
        "train_classifier",
        killed_beside_another,
        ends_at_once=True,
    ),
]


def full_checkpoint(bench: Bench) -> tuple[int, str]:
    found = injected(
        injection("train_gan", GAN_STEP, "signal", "SIGTERM", count=3),
        injection("train_gan", "write .*checkpoint.partial", "fill disk", 40960),
    )(bench)
    Path(f"{bench.fault_file}.1.ballast").unlink(missing_ok=True)
    return found
