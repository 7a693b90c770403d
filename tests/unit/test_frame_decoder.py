"""The process that decodes frames: right values, and a life of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless

from scangan.ingest import frame_decoder
from scangan.ingest.frame_decoder import DecoderError, _Decoder, decode_frames
from tests.unit.dicom_files import INTERCEPT, compress, random_hounsfield, write_enhanced, write_series

HOUNSFIELD = random_hounsfield(3, 32, 40)


@pytest.fixture
def files(tmp_path):
    files = write_series(tmp_path, HOUNSFIELD)
    for file in files:
        compress(file, JPEGLSLossless)
    return files


def test_frames_of_one_file_in_any_order(tmp_path):
    write_enhanced(tmp_path / "a", HOUNSFIELD, heights=[1, 2, 3], series_uid="1.2")
    compress(tmp_path / "a", JPEGLSLossless)
    frames = list(decode_frames(tmp_path / "a", JPEGLSLossless, [2, 0]))
    np.testing.assert_array_equal(frames, HOUNSFIELD[[2, 0]] - INTERCEPT)


def test_a_process_serves_many_files_until_it_dies(files):
    decoder = _Decoder()

    def decode(file):
        [frame] = decoder.decode(file, JPEGLSLossless, [0])
        return frame

    np.testing.assert_array_equal(decode(files[0]), HOUNSFIELD[0] - INTERCEPT)
    first = decoder._process
    np.testing.assert_array_equal(decode(files[1]), HOUNSFIELD[1] - INTERCEPT)
    assert decoder._process is first
    os.kill(first.pid, 9)
    first.wait()
    np.testing.assert_array_equal(decode(files[2]), HOUNSFIELD[2] - INTERCEPT)


def test_what_fails_is_named_and_leaves_nothing_behind(files):
    content = files[0].read_bytes()
    files[0].write_bytes(content[: len(content) // 2])
    decoder = _Decoder()
    with pytest.raises(DecoderError, match=r"Error$"):
        list(decoder.decode(files[0], JPEGLSLossless, [0]))
    [frame] = decoder.decode(files[1], JPEGLSLossless, [0])
    np.testing.assert_array_equal(frame, HOUNSFIELD[1] - INTERCEPT)


def test_a_frame_that_never_ends(files, monkeypatch):
    """The limit passes before the process has even begun."""
    monkeypatch.setattr(frame_decoder, "FRAME_SECONDS", 0.01)
    with pytest.raises(DecoderError, match=r"no end after 0\.01 s"):
        list(_Decoder().decode(files[0], JPEGLSLossless, [0]))


def test_a_process_that_crashes(files, monkeypatch, tmp_path):
    crashing = tmp_path / "crash.py"
    crashing.write_text("import os, sys\nsys.stdin.readline()\nos.abort()\n")
    monkeypatch.setattr(frame_decoder, "__file__", str(crashing))
    with pytest.raises(DecoderError, match="a crash"):
        list(_Decoder().decode(files[0], JPEGLSLossless, [0]))


@pytest.mark.parametrize(("limit", "ends_with"), [(2**26, "MemoryError"), (2**30, "")])
def test_memory_is_bounded(limit, ends_with):
    code = f"import runpy; runpy.run_path({frame_decoder.__file__!r})['_limit_memory']({limit}); bytearray(2**28)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.strip().endswith(ends_with)
    assert (run.returncode != 0) == bool(ends_with)
