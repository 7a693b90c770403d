"""Read by every Python process of a run under test: does something to the run at one exact place of one of them.

What, where and in which process stands in the file that the environment's FAULT names, see `tests.faults.inject`.
Python itself tells of every file that is opened or renamed (audit events), and a method can be counted. So the place
does not depend on the machine's speed, and nothing of the product's code knows of it.
"""

import json
import os
import re
import resource
import signal
import sys
import time


def parent_run():
    """The process of Snakemake above this one."""
    process = os.getpid()
    while process > 1:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            if b"\0-m\0snakemake\0" in file.read():
                return process
        with open(f"/proc/{process}/stat", "rb") as file:
            process = int(file.read().rsplit(b")", 1)[1].split()[1])
    raise RuntimeError("no Snakemake above this process")


def wait_for(file):
    """Until the campaign has made the file; not for ever, for the campaign may have been ended itself."""
    end = time.monotonic() + 1800
    while not os.path.exists(file) and time.monotonic() < end:
        time.sleep(0.02)


class Injection:
    """One fault: in the process whose command line matches `program`, at the `count`-th time that `at` happens."""

    def __init__(self, file, program, at, action, count=1):
        self.file, self.at, self.left, self.action = file, re.compile(at), count, action
        self.busy = self.wrapped = False
        if not re.search(program, "\0".join(sys.orig_argv)):
            return
        self.method = at.removeprefix("call ") if at.startswith("call ") else None
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if self.busy or self.left <= 0:
            return
        self.busy = True
        try:
            if self.method:
                self.wrap()
            elif event == "open" and isinstance(arguments[0], str):
                writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                self.met(f"{'write' if writes else 'read'} {arguments[0]}")
            elif event == "os.rename":
                self.met(f"rename {os.fspath(arguments[0])} to {os.fspath(arguments[1])}")
        finally:
            self.busy = False

    def wrap(self):
        module, _, name = self.method.partition(":")
        owner = sys.modules.get(module)
        *owners, function = name.split(".")
        for each in owners:
            owner = getattr(owner, each, None)
        if self.wrapped or owner is None or not hasattr(owner, function):
            return
        self.wrapped = True
        original = getattr(owner, function)

        def counted(*arguments, **named):
            self.met(f"call {self.method}")
            return original(*arguments, **named)

        setattr(owner, function, counted)

    def met(self, what):
        if self.left <= 0 or not self.at.search(what):
            return
        self.left -= 1
        if self.left:
            return
        try:  # once in all processes
            os.close(os.open(f"{self.file}.fired", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
        self.act()

    def act(self):
        name, *values = self.action
        match name:
            case "signal":  # to this process; one that stops it ends when the run under test lets it go on
                os.kill(os.getpid(), signal.Signals[values[0]])
            case "signal run":
                os.kill(parent_run(), signal.Signals[values[0]])
                wait_for(f"{self.file}.go")
            case "signal group":  # as Ctrl-C in a terminal
                os.killpg(os.getpgid(0), signal.Signals[values[0]])
            case "kill both":
                os.kill(parent_run(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            case "wait":
                wait_for(f"{self.file}.go")
            case "stop writing":  # at this byte of a file; the system then kills the process, or says File too large
                if values[1] == "kill":
                    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (values[0], resource.RLIM_INFINITY))
            case "fill disk":  # but for so many bytes
                with open(f"{self.file}.ballast", "wb", buffering=0) as file:
                    for block in (2**20, 4096):
                        try:
                            while file.write(bytes(block)) == block:
                                pass
                        except OSError:
                            pass
                    file.truncate(max(0, file.tell() - values[0]))
            case "out of memory":  # less than it has already: whatever it asks for now is refused
                resource.setrlimit(resource.RLIMIT_AS, (2**20, resource.RLIM_INFINITY))
            case "damage":
                damage(*values)
            case _:
                raise ValueError(name)


def damage(path, how):
    """Change a file and keep its size and times, as a disk does (flip); or cut it (truncate), or empty it."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        if how == "flip":
            file.seek(status.st_size // 2)
            byte = file.read(1)[0]
            file.seek(status.st_size // 2)
            file.write(bytes([byte ^ 1]))
        else:
            file.truncate(status.st_size // 2 if how == "truncate" else 0)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


if fault := os.environ.get("FAULT"):
    with open(fault) as file:
        for number, each in enumerate(json.load(file)):
            Injection(f"{fault}.{number}", **each)
