"""Writes docs/cli.md from the commands' own help; `--check` only says whether it is up to date."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
COMMANDS = (
    "", "ask", "chat", "pull", "list", "remove", "info", "export", "verify",
    "compare", "bench", "bench run", "bench compare", "bench import", "eval", "calibrate", "advise",
    "route", "route explain", "route init", "cloud", "cloud key", "cloud key set",
    "cloud key delete", "cloud budget", "cloud log", "cloud check", "cloud off", "cloud on",
    "lock", "lock add", "doctor", "desktop", "serve", "stdio", "package",
)  # fmt: skip
INTRODUCTION = """\
# The command line

This page is the commands' own `--help`, written by `python scripts/write_cli_docs.py`; a test
fails when it is not up to date.

Results go to stdout; remarks, progress and errors to stderr. In a pipe there is no progress and no
colour. Every command has `--json`. Exit codes: 0 done; 1 a bug, or a check (`doctor`,
`lock --check`) that found something; 2 something you can mend, said in one line (`--debug` shows
where it came from); 130 stopped with Ctrl-C.

`ask --json` prints one line that `ondevice/schemas/ask.schema.json` describes.
"""


def page() -> str:
    """The whole of docs/cli.md."""
    return INTRODUCTION + "".join(map(_section, COMMANDS))


def _section(command: str) -> str:
    name = f"ondevice {command}".strip()
    return f"\n## {name}\n\n```text\n{_help(command)}```\n"


def _help(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ondevice", *command.split(), "--help"],
        env=os.environ | {"COLUMNS": "100", "PYTHONUTF8": "1"},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is not up to date")
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
