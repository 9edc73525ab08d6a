"""The commands by name. Each command's module imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ondevice.cli import ask, bench, chat, export, lock, models

app = typer.Typer(
    name="ondevice",
    help="Small language models on your own machine: exported, proved, measured, offline.",
    epilog="Only `pull` and `lock add` open a network connection.",
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
app.add_typer(bench.app, name="bench", short_help="Measure a model; compare measurements.")
app.add_typer(lock.app, name="lock", short_help="Show, check and extend models.lock.")
app.command(short_help="Say what is here, what is missing, what to do.")(models.doctor)
