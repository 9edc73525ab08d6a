"""`ondevice desktop`: the assistant in a window. Parses; `launch` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ondevice.cli import options, replies


def desktop(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PKG",
            help="Pulled models or package folders to offer first.",
            show_default="all that are installed",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="Use the browser instead of a window of its own.")
    ] = False,
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Only serve; the address is printed on stderr.")
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port on loopback; 0 takes a free one."
        ),
    ] = 0,
    policy: replies.PolicyFile = None,
    bundled: Annotated[
        Path | None,
        typer.Option(
            "--bundled",
            metavar="FOLDER",
            help="A folder of packages to offer beside those that are installed.",
        ),
    ] = None,
    threads: options.Threads = None,
    context: options.Context = None,
    engine: options.Engine = "ort",
) -> None:
    """Open the assistant: conversations, documents, settings, all on this machine.

    A second start brings the first one's window to the front.

    \b
    ondevice desktop
    ondevice desktop --browser
    """
    from ondevice.desktop import launch
    from ondevice.host import Load

    folder, token = launch.environment()
    code = launch.run(
        launch.Options(
            models=tuple(models or ()),
            browser=browser,
            window=not no_window,
            port=port,
            policy=policy,
            bundled=bundled or folder,
            token=token,
            load=Load(engine, threads, context),
        )
    )
    if code:
        raise typer.Exit(code)
