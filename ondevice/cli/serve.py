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
    from ondevice.runtime.fallback.policy import Policy

TOKEN = "ONDEVICE_TOKEN"
LEAST_TOKEN = 8  # characters
LOOPBACK = ("127.0.0.1", "localhost")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PKG",
            help="Names or folders; the first is the default.",
            show_default="all that are installed",
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Loopback alone: 127.0.0.1 or localhost."),
    ] = "127.0.0.1",
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
    from ondevice import store
    from ondevice.host import Host, Load

    _require_extra()
    _require_loopback(address)
    _require_good(token)
    rules = replies.policy_for(policy, None)
    load = Load(engine, threads, context)
    packages = store.select(models or ())
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
        _tell(host, port, token if shown else "")
        while not end.wait(0.2):  # in pieces, so that Ctrl-C is heard on every system
            continue
        _say("ending" + ("; the answer that is being made is cut off" if host.turns.busy else ""))
        host.turns.close()


def _tell(host: Host, port: int, token: str) -> None:
    """What a person needs to use it, to be pasted into a shell; a token given is not repeated."""
    _say(f"serving {', '.join(package.manifest.name for package in host.packages)}")
    _say(f"  OPENAI_BASE_URL=http://127.0.0.1:{port}/v1")
    _say(f"  OPENAI_API_KEY={token or '(the token that you gave)'}")
    _say("OpenAI's clients read both from the environment; the token is asked of every request.")
    _say(f"Only programs on this machine can reach it. {_leaving(host.policy)} Ctrl-C ends it.")


def _leaving(policy: Policy | None) -> str:
    """Whether a question may go to the cloud from here."""
    if policy is None or policy.endpoint is None or policy.consent == "never":
        return "Nothing leaves it."
    if policy.consent != "always":
        return f"Nothing leaves it: consent is {policy.consent!r}, and a server has nobody to ask."
    where = f"{policy.endpoint.name} ({policy.endpoint.base_url})"
    return f"Your policy may send questions to {where}."


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _require_loopback(address: str) -> None:
    if address not in LOOPBACK:
        raise OndeviceError(
            f"--host {address} would open the models to other machines, over plain HTTP; the "
            "server listens on 127.0.0.1 alone: put a proxy with TLS in front, or an SSH tunnel"
        )


def _require_good(token: str | None) -> None:
    """A token that a header and a cookie can carry."""
    if token is None:
        return
    fine = all(33 <= ord(char) <= 126 and char not in '";,\\' for char in token)
    if len(token) < LEAST_TOKEN or not fine:
        raise OndeviceError(
            f"the token needs at least {LEAST_TOKEN} characters of ASCII, without spaces, quotes, "
            "commas, semicolons and backslashes"
        )


def _require_extra() -> None:
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise OndeviceError(
            f'the server needs {error.name}; pip install "ondevice[serve]"'
        ) from error
