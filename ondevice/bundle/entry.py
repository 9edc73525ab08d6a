"""The packaged program: the assistant, or a command where one is named.

Runs inside the bundle; knows where the bundle keeps its models.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from ondevice.store import BUNDLED

MODELS = "models"  # the folder of packages in the bundle

# Those that start Python again, or need what is left out of the bundle, are not among them.
COMMANDS = (
    "ask", "chat", "cloud", "doctor", "info", "list", "lock", "pull", "remove", "route", "serve",
    "stdio", "verify",
)  # fmt: skip


def main() -> NoReturn:
    """Run what this process was started for and leave with its exit code."""
    import multiprocessing

    multiprocessing.freeze_support()  # a child of ours ends in here
    use_bundled(bundle_folder())
    if is_command(sys.argv[1:]):
        from ondevice.cli import main as command

        command()
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"Opens the assistant; with a command it answers here: {', '.join(COMMANDS)}.\n")
    from ondevice.desktop.launch import main as assistant

    assistant(sys.argv[1:])


def is_command(arguments: list[str]) -> bool:
    """Whether a command is named, or the version asked for; else it is the assistant."""
    return bool(arguments) and (arguments[0] in COMMANDS or arguments[0] == "--version")


def bundle_folder() -> Path:
    """Where the bundle's files are: beside the program, or unpacked for this run of a onefile."""
    return Path(getattr(sys, "_MEIPASS", Path(sys.executable).parent))


def use_bundled(folder: Path) -> None:
    """Let the store and the assistant see the bundle's models, unless others were chosen."""
    if (folder / MODELS).is_dir():
        os.environ.setdefault(BUNDLED, str(folder / MODELS))
