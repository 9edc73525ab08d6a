"""Starts the assistant: one instance, its server on loopback, its window, and a clean end.

`main` is what the packaged program calls; `run` what `ondevice desktop` does.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ondevice.desktop import instance
from ondevice.desktop.instance import Address, Instance
from ondevice.errors import OndeviceError
from ondevice.host import Load

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ondevice.desktop.assistant import Assistant
    from ondevice.desktop.window import Window
    from ondevice.package import Package

BUNDLED = "ONDEVICE_BUNDLED"  # the folder of packages that came with the program
TOKEN = "ONDEVICE_TOKEN"

EXIT_ERROR = 2


@dataclass(frozen=True)
class Options:
    """How to start. `port` 0 is a free one, `token` "" a new one; `models` are names or paths,
    offered first. `bundled` is a read-only folder of packages."""

    models: tuple[str, ...] = ()
    browser: bool = False
    window: bool = True
    port: int = 0
    policy: Path | None = None
    bundled: Path | None = None
    token: str = ""
    load: Load = field(default_factory=Load)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Start the assistant from the arguments of a program, and leave with its exit code."""
    import multiprocessing

    multiprocessing.freeze_support()  # a PDF is read in a process of its own
    arguments = _parser().parse_args(argv)
    try:
        code = run(_options(arguments))
    except OndeviceError as error:
        _say(f"ondevice: {' '.join(str(error).split())}")
        code = EXIT_ERROR
    except KeyboardInterrupt:
        code = 130
    raise SystemExit(code)


def run(options: Options) -> int:
    """Run the assistant until its window is closed, or it is told to end; the exit code.

    When one is running already it is shown instead. Raises `OndeviceError` for a port in use, a
    package or a policy that cannot be used, and a folder that cannot be written.
    """
    from ondevice.desktop.assistant import home

    _require_extra()
    with Instance(home()) as one:
        if not one.take():
            return _second(one, options)
        return _first(one, options)


def _first(one: Instance, options: Options) -> int:
    from ondevice.desktop.window import Window
    from ondevice.serve.listening import Server, bind

    listening = bind(options.port)
    port = listening.getsockname()[1]
    token = options.token or secrets.token_urlsafe(24)
    address = Address(port, token, os.getpid())
    window = Window(address.url) if options.window and not options.browser else None
    end = threading.Event()
    _end_on_signals(end, window)
    with _assistant(options) as assistant:
        assistant.warm()
        app = application(assistant, address, window, end)
        with Server(app, listening) as server:
            server.start()
            one.announce(address)
            _say(f"ondevice: the assistant is at {address.url}")
            _show(address, options, window, end)
    return 0


def application(
    assistant: Assistant, address: Address, window: Window | None, end: threading.Event
) -> Starlette:
    """The server with the page and its API mounted; see `ondevice.serve.app`."""
    from ondevice.desktop import api
    from ondevice.serve.app import create_app

    def quit() -> None:
        end.set()
        if window is not None:
            window.close()

    routes = api.routes(
        assistant, show=window.show if window is not None else lambda: False, quit=quit
    )
    return create_app(assistant.host, token=address.token, port=address.port, extra_routes=routes)


def _show(address: Address, options: Options, window: Window | None, end: threading.Event) -> None:
    """Show the window until it is closed, or wait for the end beside a browser."""
    from ondevice.desktop.window import open_browser

    if window is not None and not end.is_set():
        problem = window.run()
        if not problem:
            return
        _say(f"ondevice: {problem}; the browser is used instead")
    if options.window and not end.is_set() and not open_browser(address.url):
        _say("ondevice: no browser could be opened; open the address above")
    while not end.wait(0.5):  # in pieces, so that Ctrl-C is heard on every system
        continue


def _end_on_signals(end: threading.Event, window: Window | None) -> None:
    def stop(number: int, frame: object) -> None:
        end.set()
        if window is not None:
            # Not in the signal's handler itself: a window system may be in the middle of work.
            threading.Thread(target=window.close, daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def _second(one: Instance, options: Options) -> int:
    """Show the assistant that runs already."""
    from ondevice.desktop.window import open_browser

    other = one.other()
    shown = None if other is None else instance.bring_forward(other)
    if other is None or shown is None:
        raise OndeviceError(
            "another assistant of yours is starting or ending, or does not answer; try again in "
            "a moment, or end that process"
        )
    if not shown and options.window:
        open_browser(other.url)
    where = "its window is in front now" if shown else f"it is at {other.url}"
    _say(f"ondevice: the assistant is running already (process {other.pid}); {where}")
    return 0


def _assistant(options: Options) -> Assistant:
    from ondevice import store
    from ondevice.desktop.assistant import Assistant
    from ondevice.runtime.fallback.policy_file import read_policy

    chosen: tuple[Package, ...] = tuple(store.find(name) for name in options.models)
    return Assistant(
        base=read_policy(options.policy),
        bundled=options.bundled,
        chosen=chosen,
        load=options.load,
    )


def _require_extra() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise OndeviceError(
            f'the assistant needs {error.name}; pip install "ondevice[desktop]"'
        ) from error


def environment() -> tuple[Path | None, str]:
    """The bundled folder and the token that the environment names."""
    bundled = os.environ.get(BUNDLED)
    return (Path(bundled) if bundled else None), os.environ.get(TOKEN, "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ondevice-desktop", description="A language model that answers on your own device."
    )
    parser.add_argument("models", nargs="*", metavar="PKG", help="A model's name or folder.")
    parser.add_argument("--browser", action="store_true", help="Use the browser, no window.")
    parser.add_argument("--no-window", action="store_true", help="Only serve.")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="0 takes a free one.")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="What may leave.")
    parser.add_argument(
        "--bundled", type=Path, metavar="FOLDER", help="A folder of packages to offer."
    )
    parser.add_argument("--debug", action="store_true", help="Log what happens to stderr.")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.debug:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    bundled, token = environment()
    return Options(
        models=tuple(arguments.models),
        browser=arguments.browser,
        window=not arguments.no_window,
        port=arguments.port,
        policy=arguments.policy,
        bundled=arguments.bundled or bundled,
        token=token,
    )


def _say(line: str) -> None:
    if sys.stderr is not None:  # a program without a console has none
        print(line, file=sys.stderr, flush=True)
