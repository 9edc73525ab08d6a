"""The commands by name. Each command's module imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ondevice.cli import (
    advise,
    ask,
    bench,
    calibrate,
    chat,
    cloud,
    compare,
    desktop,
    eval,
    export,
    lock,
    models,
    package,
    route,
    serve,
    stdio,
)

app = typer.Typer(
    name="ondevice",
    help="Small language models on your own machine: exported, proved, measured, offline.",
    epilog=(
        "Only `pull`, `lock add` and `cloud check` open a network connection of themselves; "
        "`ask`, `chat` and `eval` do where a policy or you said so."
    ),
    rich_markup_mode=None,  # plain help: the same in a pipe and in docs/cli.md, and no rich import
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ondevice import __version__

        print("ondevice", __version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show where an error came from; also works after the command."
        ),
    ] = False,
) -> None:
    """Options of all commands; `ondevice.cli.main` takes `--debug` out before typer sees it."""


app.command(short_help="Ask a question; the answer streams to stdout.")(ask.ask)
app.command(short_help="Talk with a model.")(chat.chat)
app.command(short_help="Fetch a model and make it ready to answer.")(models.pull)
app.command("list")(models.list_models)
app.command()(models.remove)
app.command(short_help="Show what a model was made from and its proof.")(models.info)
app.command(short_help="Make a package from a checkpoint, and prove it.")(export.export)
app.command(short_help="Check every byte of a package, and its figures.")(export.verify)
app.command(short_help="Set packages side by side: size, speed, fidelity.")(compare.compare)
app.add_typer(bench.app, name="bench", short_help="Measure a model; compare measurements.")
app.command(short_help="The assistant in a window, offline.")(desktop.desktop)
app.command(short_help="Pack the assistant and a model into a program.")(package.package)
app.command(short_help="Serve models to programs on this machine, in OpenAI's shape.")(serve.serve)
app.command(short_help="Serve models over stdin and stdout, for native programs.")(stdio.stdio)
app.command("eval", short_help="Compare models on your own questions.")(eval.evaluate)
app.command(short_help="Teach a package when its answers are to be trusted.")(calibrate.calibrate)
app.add_typer(
    route.app, name="route", short_help="When a question may leave this machine, and why."
)
app.add_typer(cloud.app, name="cloud", short_help="Keys, budget, log and off-switch of the cloud.")
app.command(short_help="Small, hybrid or large? Five factors and the cost of each way.")(
    advise.advise
)
app.add_typer(lock.app, name="lock", short_help="Show, check and extend models.lock.")
app.command(short_help="Say what is here, what is missing, what to do.")(models.doctor)
