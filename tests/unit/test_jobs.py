"""How a job ends: one line for what the user can mend, a traceback for what we must."""

import os
import subprocess
import sys

import pytest

from scangan.jobs import has_gpu, import_from_here

SCRIPT = """
import os, sys
from scangan.errors import DataError
from scangan.jobs import job, import_from_here

with job(sys.argv[1], threads=1) as log:
    log.info("step 1; OMP_NUM_THREADS=%s", os.environ["OMP_NUM_THREADS"])
    {body}
"""


def run(tmp_path, body):
    log = tmp_path / "logs" / "job.log"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), log], capture_output=True, text=True, env=environment
    )
    assert done.stdout == ""
    assert done.stderr == log.read_text()
    return done.returncode, [line.split(" ", 1)[-1] for line in log.read_text().splitlines()]


def test_a_job_that_succeeds_logs_to_the_terminal_and_to_its_file(tmp_path):
    assert run(tmp_path, "pass") == (0, ["step 1; OMP_NUM_THREADS=1"])


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
    run(tmp_path, "log.info('first')")
    assert run(tmp_path, "log.info('second')")[1][1:] == ["second"]


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
