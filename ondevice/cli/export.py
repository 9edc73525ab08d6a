"""`ondevice export` and `ondevice verify`: a checkpoint becomes a package, a package is checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import models, options, output
from ondevice.errors import RequestError
from ondevice.progress import Progress

if TYPE_CHECKING:
    from ondevice.package import Package, Proof


def export(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A GGUF file or a safetensors folder.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The new package's folder.")
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="TARGET", help=options.TARGETS_HELP)
    ] = "cpu-as-is",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The model's name.", show_default="from DIR"),
    ] = None,
    source_id: Annotated[
        str | None,
        typer.Option(
            "--source-id", metavar="ID", help="Where the checkpoint is from, for the record."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="SPDX", help="The weights' licence.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the package even if its proof fails the gate.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what is in DIR when all has gone well.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Make a package from a checkpoint and prove it against the unquantized weights.

    Nothing appears in DIR unless everything went well.
    """
    from ondevice.export.convert import convert

    with output.progress_bar(quiet=json) as progress:
        package = convert(
            source,
            target,
            out,
            name=name,
            source_id=source_id,
            licence=licence,
            accept=accept,
            replace=replace,
            progress=progress,
        )
    models.print_package(package, json)


def verify(
    package: Annotated[
        str, typer.Argument(metavar="PKG", help="A package folder or a pulled model.")
    ],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="SOURCE", help="Prove it anew against this checkpoint."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Prove it on this text, not the built-in one."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check every byte of a package, and its figures where the checkpoint is given."""
    from ondevice import store

    if text is not None and against is None:
        raise RequestError("--text needs --against, the checkpoint to compare with")
    found = store.find(package)
    with output.progress_bar(quiet=json) as progress:
        _check_bytes(found, progress)
        proof = _prove(found, against, text, progress) if against else found.manifest.proof
    if json:
        proved = dataclasses.asdict(proof) if proof else None
        output.print_json(
            {
                "folder": str(found.folder),
                "files_ok": True,
                "proof": proved,
                "proved_now": bool(against),
            }
        )
    else:
        print(f"{len(found.manifest.files)} files hold what {found.folder}/ondevice.json says")
        print(f"{'proof' if against else 'recorded proof'}: {models.proof_line(proof)}")


def _check_bytes(found: Package, progress: Progress | None) -> None:
    from ondevice.package import verify_hashes

    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress("checking", done, found.total_bytes)

    verify_hashes(found, count)


def _prove(found: Package, against: Path, text: Path | None, progress: Progress | None) -> Proof:
    from ondevice.cli.ask import read_file
    from ondevice.export.proof import check_gate, prove
    from ondevice.export.source import open_source

    words = read_file(text) if text is not None else None
    proof = prove(found, open_source(against), words, progress)
    recorded = found.manifest.proof
    accepted = recorded is not None and recorded.accepted_below_gate
    return check_gate(proof, found.manifest.recipe.target, accepted)
