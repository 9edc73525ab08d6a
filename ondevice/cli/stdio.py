"""`ondevice stdio`: the runtime for a program that starts it. Parses; `ondevice.stdio` talks."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from ondevice.cli import options, replies


def stdio(
    packages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PKG]...",
            help="Pulled models or package folders; the first is the default.",
            show_default="all that are pulled",
        ),
    ] = None,
    policy: replies.PolicyFile = None,
    threads: options.Threads = None,
    context: options.Context = None,
    engine: options.Engine = "ort",
) -> None:
    """Answer a program over stdin and stdout: JSON-RPC 2.0, no port.

    For programs that start it as a child, in any language: docs/stdio.md is the protocol. It ends
    when stdin is closed or the program dies. Nothing leaves this machine unless a policy says so.
    """
    from ondevice.stdio import process

    pipes = process.take_pipes()
    process.ignore_interrupts()
    from ondevice import store
    from ondevice.host import Host, Load
    from ondevice.runtime.fallback.policy_file import read_policy

    host = Host(
        store.select(packages or ()),
        read_policy(policy),
        load=Load(engine=engine, threads=threads, context_length=context),
    )
    end = process.serve(host, pipes, context)
    if end.message:
        with contextlib.suppress(OSError):
            print(f"ondevice: {end.message}", file=sys.stderr, flush=True)
    os._exit(end.code)  # threads may be in the middle of a token, or of writing to nobody
