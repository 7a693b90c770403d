"""Stored pixels of DICOM frames, decoded in a process of their own.

Native decoders meet damaged frames with crashes as well as exceptions, and may take any time and memory for them. Here
it is the other process that dies. This file is also what that process runs: it needs nothing of the package.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import UID

FRAME_SECONDS = 30  # what takes 0.01 s for a slice, and 1 s for the largest radiographs
FRAME_MEMORY = 2**30  # bytes beyond the file itself, of which two copies are held

LAYOUT = """
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated BitsStored
    HighBit PixelRepresentation PixelData ExtendedOffsetTable ExtendedOffsetTableLengths
""".split()


def decode_frames(file: Path, syntax: UID, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Stored values of frames of a DICOM file: [rows, columns], or RGB [rows, columns, 3] where the file has colours.

    syntax: the transfer syntax to decode by. Bits above those stored are left as they are.
    Raises DecoderError for a frame that cannot be decoded, or not within `FRAME_SECONDS` and `FRAME_MEMORY`.
    """
    return _decoder().decode(file, syntax, indices)


class DecoderError(Exception):
    """A frame that cannot be decoded; the message says how the decoder ended, never what the file says."""


class _Decoder:
    """The other process: started when it is first needed, and anew when it died; it ends with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def decode(self, file: Path, syntax: UID, indices: Sequence[int]) -> Iterator[np.ndarray]:
        with self._lock:
            process = self._running()
            is_whole = False
            try:
                request = json.dumps([str(file.absolute()), str(syntax), list(indices)])
                process.stdin.write(request.encode() + b"\n")
                process.stdin.flush()
                for _ in indices:
                    yield _receive(process)
                is_whole = True
            except OSError as error:
                raise DecoderError("a crash") from error
            finally:
                if not is_whole:  # nothing of this answer may be taken for the next
                    process.kill()
                    process.communicate()

    def _running(self) -> Any:
        # After a fork it is the other's.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            command = [sys.executable, "-P", __file__]
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)
            self._owner = os.getpid()
        return self._process


@cache
def _decoder() -> _Decoder:
    return _Decoder()


def _receive(process: Any) -> np.ndarray:
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(FRAME_SECONDS, stop)
    timer.start()
    try:
        answer = json.loads(process.stdout.readline() or b'{"error": "a crash"}')
        if "error" not in answer:
            pixels = np.empty(answer["shape"], answer["dtype"])
            if process.stdout.readinto(pixels.reshape(-1).view(np.uint8).data) == pixels.nbytes:
                return pixels
            answer = {"error": "a crash"}
    finally:
        timer.cancel()
    raise DecoderError(f"no end after {FRAME_SECONDS} s" if timed_out.is_set() else answer["error"])


# The other process


def _serve() -> None:
    # Decoders write what they like to the standard output.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for line in sys.stdin.buffer:
        file, syntax, indices = json.loads(line)
        try:
            _limit_memory(2 * os.path.getsize(file) + FRAME_MEMORY)
            for pixels in _decode(file, UID(syntax), indices):
                _answer(answers, {"shape": pixels.shape, "dtype": pixels.dtype.str})
                answers.write(pixels.data)
                answers.flush()
        except Exception as error:  # decoders meet damage with nearly any exception
            _answer(answers, {"error": type(error).__name__})


def _answer(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _decode(file: str, syntax: UID, indices: Sequence[int]) -> Iterator[np.ndarray]:
    dataset = pydicom.dcmread(file, force=True, specific_tags=LAYOUT)
    dataset.file_meta.TransferSyntaxUID = syntax
    for index in indices:
        options: Any = {"correct_unused_bits": False}
        pixels, _ = get_decoder(syntax).as_array(dataset, index=index, **options)
        yield np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("=")))


def _limit_memory(size: int) -> None:
    """No more than this many bytes beyond what the process began with."""
    with suppress(OSError, ValueError):  # systems that know neither
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_memory_at_start() + size, hard))


@cache
def _memory_at_start() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    _serve()
