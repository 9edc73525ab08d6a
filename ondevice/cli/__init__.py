"""The command `ondevice`: decides what the person sees when something goes wrong.

Knows nothing about what the commands do.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import NoReturn

from ondevice.errors import OndeviceError

EXIT_BUG = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit code."""
    _write_utf8()
    arguments, debug = _take_debug(sys.argv[1:])
    code = run(arguments, debug=debug)
    _flush_quietly()
    raise SystemExit(code)


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command; its exit code.

    0: done. 1: a bug (with its traceback), or a reader of our output that went away. 2: something
    the user can mend, told in one line on stderr. 130: stopped with Ctrl-C.
    """
    import typer

    from ondevice.cli.app import app

    # typer carries its own copy of click; this base class is the only public way to its errors.
    usage_error = typer.BadParameter.__mro__[2]
    try:
        code = app(arguments or ["--help"], prog_name="ondevice", standalone_mode=False)
    except OndeviceError as error:
        if debug:
            traceback.print_exc()
        return _say(str(error), EXIT_ERROR)
    except (KeyboardInterrupt, typer.Abort):
        return _say("stopped", EXIT_INTERRUPTED)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else EXIT_BUG
    except Exception as error:
        if isinstance(error, usage_error):
            return _say_usage(error)
        return _say_bug()
    if code == EXIT_INTERRUPTED:
        _say("stopped", EXIT_INTERRUPTED)
    return code or 0


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """`--debug` counts wherever it stands before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _say(message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print("ondevice:", " ".join(message.split()), file=sys.stderr)
    return code


def _say_usage(error: Exception) -> int:
    message = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    if not message:  # a group without a command has printed its help already
        return EXIT_ERROR
    command = context.command_path if context is not None else "ondevice"
    return _say(f"{message.rstrip('.')}; see {command} --help", EXIT_ERROR)


def _say_bug() -> int:
    with contextlib.suppress(OSError):
        traceback.print_exc()
    from ondevice import __version__

    return _say(
        f"this is a bug in ondevice {__version__}; please report it with the lines above", EXIT_BUG
    )


def _write_utf8() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def _flush_quietly() -> None:
    """A reader such as `head` may be gone: then Python must not complain at its exit."""
    if sys.stdout is None:  # it was closed before the start
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
