"""One job at a time, and locks of Snakemake's only as long as somebody lives who might hold them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scangan import locks
from scangan.locks import hold_job, hold_run

# A process that holds a job, or a run, and says so; its command line is that of a job's script.
HOLD = (
    "from scangan.locks import hold_{what} as hold; file = hold({name}); print('held', flush=True); import time; {then}"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def holder(what, then="time.sleep(600)", script=".snakemake/scripts/tmp.train_gan.py"):
    code = HOLD.format(what=what, name="'a.log'" if what == "job" else "", then=then)
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", code, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_job_that_nobody_runs_is_held_at_once():
    files = [hold_job("a.log"), hold_job("b.log")]
    files.pop(0).close()
    files.append(hold_job("a.log"))
    for file in files:
        file.close()


def test_the_same_job_of_a_killed_run_is_asked_to_end(caplog):
    with holder("job") as process:
        hold_job("a.log").close()
        assert process.wait() == -signal.SIGTERM
    assert [f"ending process {process.pid}: " in message for message in caplog.messages] == [True]


def test_a_stopped_job_is_ended_as_well():
    with holder("job") as process:
        process.send_signal(signal.SIGSTOP)
        hold_job("a.log").close()
        assert process.wait() == -signal.SIGTERM


def test_a_job_that_does_not_listen_is_ended_all_the_same():
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    with holder("job", then=deaf) as process:
        assert process.stdout.readline() == "deaf\n"
        hold_job("a.log", patience=0.2).close()
        assert process.wait() == -signal.SIGKILL


def test_no_other_process_is_ended_though_its_number_is_that_of_the_job():
    with holder("job", then="time.sleep(1)", script="another program") as process:
        hold_job("a.log").close()
        assert process.wait() == 0


def snakemakes_lock():
    locks.SNAKEMAKES.mkdir(parents=True)
    lock = locks.SNAKEMAKES / "0.output.lock"
    lock.write_text("results/a.csv\n")
    return lock


def killed_run():
    """A run that has left its lock behind."""
    with holder("run") as process:
        lock = snakemakes_lock()
        process.kill()
    return lock


def test_the_lock_of_a_killed_run_is_removed():
    lock = killed_run()
    hold_run().close()
    assert not lock.exists()


def test_the_lock_of_a_living_run_stays():
    with holder("run") as process:
        lock = snakemakes_lock()
        hold_run().close()
        assert lock.exists()
        process.kill()


def test_the_lock_stays_until_the_last_run_has_ended():
    with holder("run") as first:
        lock = killed_run()
        hold_run().close()
        assert lock.exists()
        first.kill()
    hold_run().close()
    assert not lock.exists()


def test_a_lock_of_unknown_origin_stays():
    lock = snakemakes_lock()
    hold_run().close()
    assert lock.exists()


def test_a_lock_that_may_be_another_machines_stays_until_it_is_removed_by_hand(monkeypatch):
    lock = killed_run()
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "elsewhere")
    hold_run().close()
    assert lock.exists()
    lock.unlink()
    hold_run().close()
    assert Path(".snakemake/scangan/runs").read_text() == "elsewhere"


def test_two_runs_live_at_once_and_neither_waits():
    one, other = hold_run(), hold_run()
    one.close()
    other.close()
