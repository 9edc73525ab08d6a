"""`ondevice compare`: packages of one model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, output
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from ondevice.package import Package, Proof
    from ondevice.progress import Progress
    from ondevice.runtime.bench_result import Result


def compare(
    packages: Annotated[
        list[str], typer.Argument(metavar="PKG...", help="Package folders or pulled models.")
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="SOURCE", help="Prove all of them anew against this checkpoint."
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Prove on this text, not the built-in one."),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure prefill and decode, in turns.")
    ] = True,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", metavar="N", help="Measured rounds.")
    ] = 5,
    threads: options.Threads = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write a self-contained HTML page."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Bytes and speed of packages against what quantization cost them.

    Figures of fidelity are the packages' own proofs, or made now with --against.

    \b
    ondevice compare int8 int4
    ondevice compare int4 int4-gptq --against ./Llama-3.2-3B --report compared.html
    """
    from ondevice import store
    from ondevice.runtime.trade_off import trade_off
    from ondevice.runtime.trade_off_page import HEAD, cells, write

    if text is not None and against is None:
        raise RequestError("--text needs --against, the checkpoint to compare with")
    found = [store.find(package) for package in packages]
    with output.progress_bar(quiet=json) as progress:
        proofs = _proofs(found, against, text, progress)
        measured = _measure(found, repetitions, threads, progress) if speed else None
    result = trade_off(found, proofs, measured)
    if report is not None:
        write(result, report)
    if json:
        print(result.to_json(), end="")
        return
    output.print_table([name.upper() for name in HEAD], [list(cells(row)) for row in result.rows])
    if result.instruction_sets:
        print(f"speeds: median (least to most), {', '.join(result.instruction_sets)}")
    for note in result.notes:
        print("note:", note)


def _proofs(
    packages: list[Package], against: Path | None, text: Path | None, progress: Progress | None
) -> list[Proof | None]:
    if against is None:
        return [package.manifest.proof for package in packages]
    from ondevice.cli.ask import read_file
    from ondevice.export.proof import prove
    from ondevice.export.source import open_source

    words = None if text is None else read_file(text)
    source = open_source(against)
    return [prove(package, source, words, progress) for package in packages]


def _measure(
    packages: list[Package], repetitions: int, threads: int | None, progress: Progress | None
) -> Result:
    from ondevice.runtime.bench import Settings
    from ondevice.runtime.bench_setup import bench_packages

    settings = Settings(
        prompt_tokens=256,
        generated_tokens=64,
        chat_tokens=0,
        repetitions=repetitions,
        threads=threads,
    )
    return bench_packages(packages, settings=settings, progress=progress)
