"""`ondevice package`: the assistant as a program. Parses and prints; `ondevice.bundle` packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, output
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from ondevice.bundle.build import Bundle


def package(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[PKG]",
            help="The model to put inside: a pulled model or a package folder.",
            show_default="the default model",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The program's name.")] = (
        "Assistant"
    ),
    icon: Annotated[
        Path | None,
        typer.Option(
            "--icon",
            metavar="ICON",
            help="A square PNG of 128, 256, 512 or 1024 pixels.",
            show_default="a plain one",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The new folder for it.")
    ] = Path("dist"),
    onefile: Annotated[
        bool, typer.Option("--onefile", help="One file, which unpacks itself at every start.")
    ] = False,
    deb: Annotated[bool, typer.Option("--deb", help="A Debian package too.")] = False,
    appimage_folder: Annotated[
        bool, typer.Option("--appimage-folder", help="A folder for appimagetool too.")
    ] = False,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="V", help="The program's version.", show_default="ondevice's"
        ),
    ] = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Put none inside; the first run offers to fetch one.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is in DIR when all has gone well.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Pack the assistant and a model into a program that needs no Python and no network.

    The licences, the bill of materials (CycloneDX), checksums and models.lock are inside. DIR
    appears whole or not at all.

    \b
    ondevice package smollm2-135m-instruct --name "My Assistant" --out dist --deb
    """
    from ondevice import store
    from ondevice.bundle.build import build
    from ondevice.bundle.plan import make_plan

    if no_model and model is not None:
        raise RequestError(f"--no-model and {model!r} are given; leave one of them out")
    plan = make_plan(
        name,
        model=None if no_model else store.find(model),
        icon=icon,
        version=version,
        onefile=onefile,
        deb=deb,
        appdir=appimage_folder,
    )
    with output.progress_bar(quiet=json) as progress:
        bundle = build(plan, out, force=force, progress=progress)
    _print(bundle, json)


def _print(bundle: Bundle, json: bool) -> None:
    if json:
        output.print_json(
            {
                "program": str(bundle.program),
                "bytes": bundle.bytes,
                "own_bytes": bundle.own_bytes,
                "deb": str(bundle.deb) if bundle.deb else None,
                "appimage_folder": str(bundle.appdir) if bundle.appdir else None,
                "missing_licence_texts": list(bundle.missing),
            }
        )
        return
    own = f", {output.megabytes(bundle.own_bytes)} of it beside the model"
    whole = bundle.own_bytes == bundle.bytes
    print(f"{bundle.program} is ready: {output.megabytes(bundle.bytes)}{'' if whole else own}")
    for path in (bundle.deb, bundle.appdir):
        if path is not None:
            print(f"{path} is ready")
    if bundle.missing:
        print(f"no licence text was found for {', '.join(bundle.missing)}; add them by hand")
