"""`ondevice eval`: models on one's own questions. Parses, asks for consent and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, output
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ondevice.runtime.evaluate.eval_result import EvalResult
    from ondevice.runtime.evaluate.subjects import CloudUse
    from ondevice.runtime.page import Table


def evaluate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Questions: .jsonl, .jsonl.gz or .csv.")
    ],
    models: Annotated[
        str,
        typer.Option(
            "--models",
            "-m",
            metavar="LIST",
            help="Pulled models, package folders and cloud:NAME of the policy, with commas.",
        ),
    ],
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Only examples of this split.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N examples.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result as JSON.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write a self-contained HTML page."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="FOLDER",
            help="Where answers are kept; a run that was stopped goes on there.",
            show_default="the data set's name with .answers, in this folder",
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option("--judge", metavar="MODEL", help="Who judges free answers; or cloud:NAME."),
    ] = "",
    dask: Annotated[
        str,
        typer.Option("--dask", metavar="ADDRESS", help="Spread packages over this Dask cluster."),
    ] = "",
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="The policy that has the endpoint."),
    ] = None,
    threads: options.Threads = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again where a call gave no answer.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Send to the cloud without asking first.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Ask models your own questions: accuracy, form, time, cost, and what to leave to the cloud.

    Stopped with Ctrl-C or killed, the same command goes on where it was. Only cloud:NAME opens a
    connection beyond this machine, after asking.

    \b
    ondevice eval questions.jsonl --models my-model
    ondevice eval questions.jsonl --models small,large,cloud:mine --report eval.html
    ondevice eval questions.csv --models my-model --dask 192.0.2.7:8786
    """
    from ondevice.runtime.evaluate.evaluate import Settings, prepare

    settings = Settings(
        dataset=dataset,
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        answers=answers or Path(f"{_stem(dataset)}.answers"),
        split=split,
        limit=limit,
        judge=judge,
        dask=dask,
        policy=policy,
        threads=threads,
        retry_errors=retry_errors,
    )
    prepared = prepare(settings)
    _require_consent(prepared.cloud_use(), yes)
    try:
        with output.progress_bar(quiet=json) as progress:
            result = prepared.run(progress)
    except KeyboardInterrupt:
        output.note(f"answers so far are kept in {settings.answers}; the same command goes on")
        raise
    _deliver(result, out, report, json)


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem


def _require_consent(uses: Sequence[CloudUse], yes: bool) -> None:
    """Show what would leave and its highest cost, and ask. Raises when the answer is no."""
    if not uses:
        return
    for use in uses:
        print(_told(use), file=sys.stderr)
    if yes or not any(use.requests for use in uses):
        return
    if not sys.stdin.isatty():
        raise RequestError("nobody is here to agree to that; add --yes to send it")
    typer.confirm("Send it?", abort=True, err=True)


def _told(use: CloudUse) -> str:
    """Such as `cloud:mine: at most 500 requests for at most $0.2310`."""
    cost = "at a price that is not known"
    if use.worst_usd is not None:
        cost = f"for at most ${use.worst_usd:,.4f}"
    text = f"{use.name}: at most {use.requests} request{_s(use.requests)} {cost}"
    if use.refused == 1:
        text += "; 1 example stays here because of its data class"
    elif use.refused:
        text += f"; {use.refused} examples stay here because of their data class"
    return text


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _deliver(result: EvalResult, out: Path | None, report: Path | None, json: bool) -> None:
    if out is not None:
        result.write(out)
    if report is not None:
        from ondevice.runtime.evaluate.eval_report import write

        write(result, report)
    if json:
        print(result.to_json(), end="")
    else:
        _print_result(result)


def _print_result(result: EvalResult) -> None:
    from ondevice.runtime.evaluate import tables

    data = result.dataset
    chosen = f", split {data.split}" if data.split else ""
    print(f"{data.examples} examples of {data.name}{chosen}")
    _print_table(tables.overall_table(result.subjects))
    for part in tables.part_tables(result.subjects, formats=False):
        _print_table(part)
    _print_table(tables.comparison_table(result.comparisons))
    for part in tables.family_tables(result.comparisons):
        print(f"\n{part.caption}")
        _print_table(part)
    _print_table(tables.judge_table(result.judge))
    for frontier in result.frontiers:
        print(f"\n{frontier.small} first, {frontier.large} below a {frontier.confidence}")
        _print_table(tables.frontier_table(frontier))
        for remark in tables.remarks(frontier):
            print("note:", remark)
    for note in result.notes:
        print("note:", note)


def _print_table(table: Table) -> None:
    if table.rows:
        print()
        output.print_table([_heading(cell) for cell in table.head], [list(r) for r in table.rows])


def _heading(cell: str) -> str:
    """Capitals, but for the name of a model."""
    return cell if ":" in cell else cell.upper()
