"""`ondevice lock`: what models.lock knows, whether it holds, and adding to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ondevice.cli import options, output

app = typer.Typer(invoke_without_command=True)

File = Annotated[
    Path | None,
    typer.Option(
        "--path", metavar="FILE", help="The lock file.", show_default="yours over the shipped one"
    ),
]


@app.callback()
def lock(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Hash what is installed and compare; no network.")
    ] = False,
    path: File = None,
    json: options.Json = False,
) -> None:
    """Show models.lock; `--check` compares what is installed with it (exit code 1 if it differs).

    \b
    ondevice lock
    ondevice lock --check
    ondevice lock add Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF --file q4_k_m
    """
    if context.invoked_subcommand is not None:
        return
    if check:
        _check(path, json)
    else:
        _show(path, json)


@app.command(short_help="Add a model of the hub.")
def add(
    repository: Annotated[
        str, typer.Argument(metavar="ID", help="A model's id at the hub, OWNER/NAME.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Its name here.", show_default="from ID"),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="REV", help="Branch, tag or commit.", show_default="the newest"
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Which of several GGUF files."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="TARGET", help=options.TARGETS_HELP)
    ] = "cpu-as-is",
    path: File = None,
    replace: Annotated[bool, typer.Option("--replace", help="Renew an entry.")] = False,
    json: options.Json = False,
) -> None:
    """Ask the hub for a model's files and hashes and write them into your models.lock."""
    from ondevice.lock import add as add_model

    model = add_model(
        repository,
        name=name,
        revision=revision,
        file=file,
        target=target,
        path=path,
        replace=replace,
    )
    if json:
        output.print_json({"name": model.name, **dataclasses.asdict(model)})
    else:
        print(f"added {model.summary}; `ondevice pull {model.name}` fetches it")


def _check(path: Path | None, json: bool) -> None:
    from ondevice.lock import check as check_lock
    from ondevice.lock import read

    findings = check_lock(read(path))
    if json:
        output.print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [[f.model, "ok" if f.ok else "WRONG", f.message] for f in findings]
        output.print_table(["MODEL", "STATE", "FOUND"], rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _show(path: Path | None, json: bool) -> None:
    from ondevice.lock import read

    known = read(path)
    if json:
        output.print_json(
            {
                "path": str(known.path),
                "default": known.default,
                "models": {n: dataclasses.asdict(m) for n, m in known.models.items()},
            }
        )
        return
    rows = [
        [
            f"{model.name} (default)" if model.name == known.default else model.name,
            output.megabytes(model.bytes),
            model.licence,
            model.description,
        ]
        for model in known.models.values()
    ]
    output.print_table(["NAME", "DOWNLOAD", "LICENCE", "WHAT IT IS"], rows)
