"""What a run shows, told from the events that Snakemake sends."""

import logging
import sys
import types

import pytest
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_scangan import LONGEST, LogHandler

SENTENCE = "It cannot be told whether synthetic images help: AUC is +0.025; a difference of 0.17 could have been shown."


@pytest.fixture
def handler(tmp_path, capsys):
    made = LogHandler(OutputSettings(), None)
    made.setFormatter(logging.Formatter("%(message)s"))
    made.results = tmp_path
    yield made
    made.closing.set()


def record(event=None, level=logging.INFO, message="", **fields):
    told = {"levelno": level, "levelname": logging.getLevelName(level), "msg": message, "event": event}
    return logging.makeLogRecord(told | fields)


def begin(handler, jobid, rule, log="", **wildcards):
    event = {"jobid": jobid, "rule_name": rule, "wildcards": wildcards, "log": [str(log)] if log else []}
    handler.emit(record(LogEvent.JOB_INFO, **event))


def said(capsys):
    return [line[9:] for line in capsys.readouterr().err.splitlines()]


def test_a_run_from_its_first_job_to_its_verdict(handler, tmp_path, capsys):
    (tmp_path / "head_ct").mkdir()
    (tmp_path / "head_ct/verdict.json").write_text(f'{{"outcome": "cannot be told", "sentence": "{SENTENCE}"}}')
    page = tmp_path / "index.html"
    page.write_text("")
    log = tmp_path / "job.log"
    handler.expect({"head_ct": 1, "simple_ct_gan": 1}, 4, [str(page)])
    begin(handler, 1, "train_gan", log, study="head_ct", gan="dcgan32", gan_seed="0")
    begin(handler, 2, "render_phantom", log, study="simple_ct_gan/external")
    begin(handler, 3, "survey_lidc", log)
    begin(handler, 4, "all")
    for jobid in (1, 3, 2, 4):
        handler.emit(record(LogEvent.JOB_FINISHED, job_id=jobid))
    handler.emit(record(LogEvent.PROGRESS, done=4, total=4))
    handler.close()
    handler.close()  # as Python does after Snakemake
    assert said(capsys) == [
        "4 jobs: head_ct 1, simple_ct_gan 1",
        "head_ct train_gan dcgan32 0: done in 0:00 (1 of 4)",
        "head_ct finished, 1 of 2: cannot be told",
        "all studies survey_lidc: done in 0:00 (2 of 4)",
        "simple_ct_gan/external render_phantom: done in 0:00 (3 of 4)",
        "simple_ct_gan finished, 2 of 2: no verdict, for it has no classifier",
        "4 of 4 steps (100%) done",
        "head_ct: It cannot be told whether synthetic images help: AUC is +0.025",
        "simple_ct_gan: no verdict, for it has no classifier",
        f"All of it on one page: {page}",
    ]


def test_a_failed_job_is_named_once_more_at_the_end_and_there_is_no_verdict(handler, tmp_path, capsys):
    log = tmp_path / "job.log"
    log.write_text("12:00:00 step 1\n12:00:01 error: labels.csv: id: found 7, allowed: 0 to 5\n")
    handler.expect({"head_ct": 1}, 1, [str(tmp_path / "index.html")])
    begin(handler, 1, "ingest_images", log, study="head_ct")
    for _ in range(2):  # Snakemake tells it when it happens, and again at the end
        handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, jobid=1))
    handler.close()
    assert said(capsys)[1:] == [
        "head_ct ingest_images: failed after 0:00; the others go on",
        f"failed: head_ct ingest_images: labels.csv: id: found 7, allowed: 0 to 5; all of it: {log}",
    ]


def test_what_is_of_no_use_is_left_to_snakemakes_log_and_errors_are_not(handler, capsys):
    handler.emit(record(message="Building DAG of jobs..."))
    handler.emit(record(LogEvent.RESOURCES_INFO, message="Provided cores: 8"))
    handler.emit(record(LogEvent.SHELLCMD, message="Shell command: None"))
    handler.emit(record(message=f"Removing output files of failed job: {'x' * 200}"))
    handler.emit(record(level=logging.ERROR, message="config: studies: found nothing"))
    lines = capsys.readouterr().err.splitlines()
    assert [len(lines), len(lines[0]), lines[1]] == [2, LONGEST, "config: studies: found nothing"]


def test_when_all_is_there_the_page_is_named(handler, tmp_path, capsys):
    (tmp_path / "index.html").write_text("")
    handler.emit(record(message="Nothing to be done (all requested files are present and up to date)."))
    handler.close()
    assert said(capsys)[-1] == f"All of it on one page: {tmp_path / 'index.html'}"


def test_a_terminal_has_one_live_line_a_running_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: types.SimpleNamespace(columns=61))
    handler = LogHandler(OutputSettings(), None)
    log = tmp_path / "job.log"
    log.write_text("12:00:00 haemorrhage GAN: step 10/450, 7.43 steps/s, 01:00 left, loss_d 1.13\n")
    handler.expect({"head_ct": 2}, 2, [])
    capsys.readouterr()
    begin(handler, 1, "train_gan", log, study="head_ct", gan="dcgan32")
    assert capsys.readouterr().err == "head_ct train_gan dcgan32  0:00  haemorrhage GAN: step 10...\n"
    begin(handler, 2, "score", tmp_path / "none.log", study="head_ct")
    assert capsys.readouterr().err.split("\x1b[1A\x1b[J")[1].count("\n") == 2
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=2))
    assert capsys.readouterr().err.split("\x1b[2A\x1b[J")[1].count("\n") == 1
    handler.close()
    assert capsys.readouterr().err.endswith("\x1b[1A\x1b[J")


def test_a_dry_run_is_shown_as_ever(capsys):
    handler = LogHandler(OutputSettings(dryrun=True), None)
    handler.setFormatter(logging.Formatter("as ever: %(message)s"))
    handler.emit(record(LogEvent.JOB_INFO, message="rule train_gan"))
    assert "as ever: rule train_gan" in capsys.readouterr().err
    handler.close()


SAID_OF_A_FOLDER = """InputFunctionException in rule list_data in file "/here/workflow/rules/data.smk", line 20:
Error:
  WorkflowError:
    mine: /data/ill: classes.ill: found no such folder, allowed: one of those there: sick, well
Wildcards:
  root=mine
Traceback:
  File "/here/workflow/rules/common.smk", line 184, in data_state_of (rule list_data, line 42, /here/data.smk)
"""
SAID_OF_A_KEY = """WorkflowError in file "/here/workflow/rules/common.smk", line 33:
config: studis: unknown key, allowed: studies
config: results: found 3, allowed: a folder
  File "/here/workflow/rules/common.smk", line 33, in <module>"""
SAID_OF_CODE = SAID_OF_A_FOLDER.replace("WorkflowError", "KeyError")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (SAID_OF_A_FOLDER, f"error: {SAID_OF_A_FOLDER.splitlines()[3].strip()}"),
        (SAID_OF_A_KEY, "error: " + "\n".join(SAID_OF_A_KEY.splitlines()[1:3])),
        ("WorkflowError:\nAt least one job did not end well.", "error: At least one job did not end well."),
        (SAID_OF_CODE, SAID_OF_CODE.strip()),
    ],
)
def test_what_the_user_can_mend_stands_alone(handler, capsys, message, shown):
    handler.emit(record(LogEvent.ERROR, logging.ERROR, message))
    assert capsys.readouterr().err.strip() == shown
