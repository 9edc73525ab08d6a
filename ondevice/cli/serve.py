"""`ondevice serve`: the OpenAI-compatible server. Parses and prints; `ondevice.serve` does it."""

from __future__ import annotations

import secrets
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, replies
from ondevice.errors import OndeviceError

if TYPE_CHECKING:
    from ondevice.host import Host
    from ondevice.package import Package

TOKEN = "ONDEVICE_TOKEN"
LEAST_TOKEN = 8  # characters


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PKG]...",
            help="Names or folders; the first is the default.",
            show_default="all that are installed",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")
    ] = 8642,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            envvar=TOKEN,
            show_envvar=True,
            help="What clients have to send.",
            show_default="a new one at each start",
        ),
    ] = None,
    policy: replies.PolicyFile = None,
    queue: Annotated[
        int,
        typer.Option("--queue", metavar="N", min=0, max=1000, help="Requests that may wait."),
    ] = 8,
    keep_open: Annotated[
        int,
        typer.Option("--keep-open", metavar="N", min=1, help="Models kept in memory."),
    ] = 1,
    engine: options.Engine = "ort",
    threads: options.Threads = None,
    context: options.Context = None,
) -> None:
    """Serve models to programs on this machine, in OpenAI's shape.

    Listens on loopback alone, answers one request at a time, and asks every program for the
    token. Web pages cannot use it. Nothing leaves this machine unless your policy says so.

    \b
    ondevice serve
    ondevice serve my-model other-model --port 0
    curl http://127.0.0.1:8642/v1/models -H "Authorization: Bearer $ONDEVICE_TOKEN"
    """  # fmt: skip
    from ondevice.host import Host, Load

    _require_extra()
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii()):
        raise OndeviceError(f"the token needs at least {LEAST_TOKEN} ASCII characters")
    packages = _packages(models)
    rules = replies.policy_for(policy, None)
    load = Load(engine, threads, context)
    with Host(packages, rules, load=load, queue=queue, keep_open=keep_open) as host:
        _run(host, port, token or secrets.token_urlsafe(24), shown=token is None)


def _run(host: Host, port: int, token: str, *, shown: bool) -> None:
    from ondevice.serve.app import create_app
    from ondevice.serve.listening import Server, bind

    listening = bind(port)
    port = listening.getsockname()[1]
    end = threading.Event()
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda *_: end.set())
    with Server(create_app(host, token=token, port=port), listening) as server:
        server.start()
        _tell(host, port, token if shown else f"the one of {TOKEN} or --token")
        while not end.wait(0.2):  # in pieces, so that Ctrl-C is heard on every system
            continue
        _say("ending; an answer that is being made is cut off")
        host.turns.close()


def _tell(host: Host, port: int, token: str) -> None:
    names = [package.manifest.name for package in host.packages]
    _say(f"serving {', '.join(names)}")
    _say(f"  base URL  http://127.0.0.1:{port}/v1")
    _say(f"  token     {token}")
    _say("Ctrl-C ends it. Nothing but this machine can reach it.")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _packages(models: list[str] | None) -> list[Package]:
    from ondevice import store

    if models:
        return [store.find(name) for name in models]
    default = store.find(None)  # raises where there is none, with the remedy
    others = [one for one in store.packages() if one.manifest.name != default.manifest.name]
    return [default, *others]


def _require_extra() -> None:
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise OndeviceError(
            f'the server needs {error.name}; pip install "ondevice[serve]"'
        ) from error
