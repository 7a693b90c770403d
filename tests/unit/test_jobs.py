"""How a job ends: one line for what the user can mend, a traceback for what we must."""

import os
import subprocess
import sys

import pytest

from scangan.errors import DataError
from scangan.jobs import check_writable, choose_gpus, has_gpu, import_from_here

SCRIPT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from scangan.errors import DataError
from scangan.jobs import job

snakemake = SimpleNamespace(
    log=[sys.argv[1]], input=["input.csv"], output=["results/output.csv"], resources={{}},
    rule="train_gan", wildcards=SimpleNamespace(study="head_ct"),
)
with job(snakemake, threads=1) as log:
    log.info("step 1; OMP_NUM_THREADS=%s", os.environ["OMP_NUM_THREADS"])
    {body}
"""


WRITE = "Path('results').mkdir(exist_ok=True); Path('results/output.csv').write_text('1')"


def run(tmp_path, body):
    log = tmp_path / "logs" / "job.log"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), log],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.stdout == ""
    # The terminal has what is wrong, named with its study and rule; the log has all.
    wrong = done.stderr.replace(" head_ct train_gan: ", " ")
    assert log.read_text().endswith(wrong)
    assert (
        wrong.count("error: ") == log.read_text().count("error: ") == done.stderr.count(" head_ct train_gan: error: ")
    )
    return done.returncode, [line.split(" ", 1)[-1] for line in log.read_text().splitlines()]


def test_a_job_that_succeeds_logs_to_its_file(tmp_path):
    assert run(tmp_path, WRITE) == (0, ["step 1; OMP_NUM_THREADS=1"])


def test_an_error_of_the_users_is_one_line(tmp_path):
    status, lines = run(tmp_path, "raise DataError('labels.csv: id: found 7, allowed: 0 to 5')")
    assert status == 1
    assert lines[1:] == ["error: labels.csv: id: found 7, allowed: 0 to 5"]


def test_several_problems_are_a_line_each(tmp_path):
    status, lines = run(tmp_path, r"raise DataError('a: bad\nb: worse')")
    assert (status, lines[1:]) == (1, ["error: a: bad", "error: b: worse"])


@pytest.mark.parametrize("body", ["{}['missing']", "1 / 0"])
def test_an_error_of_ours_has_a_traceback(tmp_path, body):
    status, lines = run(tmp_path, body)
    assert status == 1
    assert lines[1] == "error: unexpected; please report it with this log"
    assert lines[2] == "(most recent call last):"
    assert lines[-1].startswith(("'missing'", "division by zero"))


def test_a_second_run_replaces_the_log(tmp_path):
    run(tmp_path, f"{WRITE}; log.info('first')")
    assert run(tmp_path, f"{WRITE}; log.info('second')")[1][1:] == ["second"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise OSError(28, os.strerror(28), 'results/a.csv')", "results/a.csv: No space left on device"),
        ("raise RuntimeError('wrapped: No space left on device')", "results: No space left on device"),
        ("raise PermissionError(13, os.strerror(13), 'a.csv')", "a.csv: Permission denied"),
        ("raise MemoryError", "results: Cannot allocate memory"),
    ],
)
def test_what_the_system_refuses_is_one_line(tmp_path, body, line):
    status, lines = run(tmp_path, body)
    assert (status, lines[1:]) == (1, [f"error: {line}; mend this, and run the same command again"])


def test_an_interruption_is_one_line(tmp_path):
    assert run(tmp_path, "raise KeyboardInterrupt") == (
        1,
        ["step 1; OMP_NUM_THREADS=1", "error: interrupted; run the same command to go on"],
    )


def test_a_changed_input_stops_a_job_and_is_named(tmp_path):
    (tmp_path / "input.csv").write_text("1")
    seal = "from scangan.seals import seal; seal(['input.csv'])"
    subprocess.run([sys.executable, "-c", seal], check=True, cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)})
    assert run(tmp_path, WRITE)[0] == 0
    (tmp_path / "input.csv").write_text("2")
    status, lines = run(tmp_path, WRITE)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: input.csv: content: found changed since it was written, allowed: ")


def test_what_a_killed_job_left_of_its_output_goes_with_the_next(tmp_path):
    (tmp_path / "results/.0123abcd.output.csv").mkdir(parents=True)
    (tmp_path / "results/.89abcdef.other.csv").touch()  # another job's
    assert run(tmp_path, WRITE)[0] == 0
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [".89abcdef.other.csv", "output.csv"]


def test_a_gpu_is_found_by_its_device_and_hidden_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()  # the driver is there, but no device
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not has_gpu(tmp_path)


@pytest.mark.parametrize(("before", "after"), [(None, "/here/src"), ("/there", f"/here/src{os.pathsep}/there")])
def test_scripts_of_jobs_import_from_here_first(monkeypatch, before, after):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    import_from_here("/here/src")
    assert os.environ["PYTHONPATH"] == after


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    check_writable(tmp_path / "not" / "there yet")
    monkeypatch.setattr(os, "access", lambda folder, how: not (folder == tmp_path and how == os.W_OK))
    with pytest.raises(DataError, match="results: folder: found one that cannot be written to"):
        check_writable(tmp_path / "results")


@pytest.fixture
def four_gpus(tmp_path, monkeypatch):
    """A machine's devices, and where they are held; CUDA_VISIBLE_DEVICES is put back afterwards."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "put back")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for number in range(4):
        (tmp_path / f"nvidia{number}").touch()
    return {"devices": tmp_path, "locks": tmp_path / "locks"}


def chosen_by_jobs(*wanted, **folders):
    """What each of several jobs at once sees."""
    seen, held = [], []
    for number in wanted:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        held += choose_gpus(number, **folders)
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    return seen, held


def test_jobs_at_once_take_gpus_of_their_own_and_share_when_there_are_no_more(four_gpus):
    assert chosen_by_jobs(1, 1, 2, 1, 3, **four_gpus)[0] == ["0", "1", "2,3", "0", "1,2,3"]


def test_a_gpu_is_free_again_when_its_job_ends(four_gpus):
    _, (first, _) = chosen_by_jobs(1, 1, **four_gpus)
    first.close()
    assert chosen_by_jobs(1, **four_gpus)[0] == ["0"]


def test_a_job_that_asks_for_no_gpu_sees_none(four_gpus):
    assert chosen_by_jobs(0, **four_gpus) == (["-1"], [])


def test_all_gpus_that_a_cluster_gave_are_seen_and_of_more_of_them_one(four_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert choose_gpus(1, **four_gpus) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a,GPU-7b")
    assert len(choose_gpus(1, **four_gpus)) == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-5a"


def test_a_machine_without_gpu_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert choose_gpus(1, tmp_path) == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_memory_that_was_freed_is_used_again():
    """512 MB, freed and asked for again: no page of it is new to the process."""
    script = """
import resource
from scangan.jobs import keep_freed_memory
keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    before = faults()
    bytearray(2**29)
    print(faults() - before)
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    first, again = map(int, done.stdout.split())
    assert first > 100 * (again + 1)
