"""`python -m scangan plan ...` and `python -m scangan check FOLDER ...`, each of which says more with `--help`."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {"plan": "scangan.forecast.__main__", "check": "scangan.check.__main__"}


def main() -> None:
    command, *arguments = sys.argv[1:] or [""]
    if command not in COMMANDS:
        sys.exit(f"scangan: found {command!r}, allowed: {' | '.join(COMMANDS)}")
    sys.argv = [f"scangan {command}", *arguments]
    import_module(COMMANDS[command]).main()


if __name__ == "__main__":
    main()
