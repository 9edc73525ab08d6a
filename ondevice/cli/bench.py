"""`ondevice bench`: measure models, compare two measurements, read llama-bench's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from ondevice.cli import options, output

if TYPE_CHECKING:
    from ondevice.package import Package
    from ondevice.runtime.bench_result import EngineResult, Result


class _RunByDefault(TyperGroup):
    """`bench MODEL` is `bench run MODEL`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Measure a model on this machine; `bench MODEL` is short for `bench run MODEL`.",
)

Save = Annotated[
    Path | None, typer.Option("--save", "-o", metavar="FILE", help="Write the result as JSON.")
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write a self-contained HTML page."),
]


@app.command(short_help="Measure prefill, decode and a chat.")
def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Pulled models or package folders, measured side by side.",
            show_default="the default model",
        ),
    ] = None,
    engines: Annotated[
        str, typer.Option("--engines", metavar="LIST", help="Of ort, genai, llamacpp.")
    ] = "ort",
    gguf: Annotated[
        Path | None, typer.Option("--gguf", metavar="FILE", help="The file llamacpp runs.")
    ] = None,
    prompt: Annotated[
        int, typer.Option("--prompt", "-p", metavar="N", help="Prefill N tokens; 0 leaves it out.")
    ] = 512,
    generate: Annotated[
        int, typer.Option("--generate", "-n", metavar="N", help="Decode N tokens.")
    ] = 128,
    chat: Annotated[
        int, typer.Option("--chat", metavar="N", help="Answer a fixed conversation with N tokens.")
    ] = 64,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", metavar="N", help="Measured rounds.")
    ] = 5,
    warmups: Annotated[
        int, typer.Option("--warmups", metavar="N", help="Rounds before, not counted.")
    ] = 1,
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the random tokens.")] = 0,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Also compare the engines' most probable tokens.")
    ] = False,
    save: Save = None,
    report: ReportFile = None,
    json: options.Json = False,
) -> None:
    """Measure prefill, decode and a chat on this machine; several engines take turns.

    \b
    ondevice bench
    ondevice bench my-model --engines ort,llamacpp --gguf model.gguf --agreement
    ondevice bench --save a.json --report a.html
    """
    from ondevice.runtime.bench import Settings
    from ondevice.runtime.bench_setup import bench_packages

    settings = Settings(
        prompt_tokens=prompt,
        generated_tokens=generate,
        chat_tokens=chat,
        warmups=warmups,
        repetitions=repetitions,
        threads=threads,
        seed=seed,
        agreement=agreement,
    )
    names = [name.strip() for name in engines.split(",") if name.strip()]
    with output.progress_bar(quiet=json) as progress:
        result = bench_packages(_packages(models), names, gguf, settings, progress)
    _deliver(result, save, report, json)


@app.command(short_help="Show how one result differs from another.")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result: ours, or llama-bench's.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Compare even other devices or models.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show how B differs from A, and where the difference exceeds the spread."""
    from ondevice.runtime.compare import compare as compare_results
    from ondevice.runtime.compare import read

    found = compare_results(read(a), read(b), allow_different=allow_different)
    if json:
        print(found.to_json(), end="")
        return
    rows = [
        [
            row.metric,
            row.label_a if row.label_a == row.label_b else f"{row.label_a} / {row.label_b}",
            _quantity(row.a, row.unit),
            _quantity(row.b, row.unit),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            _VERDICTS[row.b_better, row.exceeds_spread],
        ]
        for row in found.rows
    ]
    output.print_table(["METRIC", "ENGINE", "A", "B", "B/A", "B IS"], rows)
    for line in found.differences:
        print("different:", line)
    for line in found.remarks:
        print("note:", line)


@app.command("import", short_help="Read a result of llama-bench.")
def import_llama_bench(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `llama-bench -o json` printed.")
    ],
    save: Save = None,
    report: ReportFile = None,
    json: options.Json = False,
) -> None:
    """Read a result of llama-bench, to save, show or compare it like one of ours."""
    from ondevice.runtime.llama_bench import read

    _deliver(read(file), save, report, json)


_VERDICTS = {
    (None, True): "equal",
    (None, False): "equal",
    (None, None): "equal",
    (True, True): "better",
    (True, False): "better, within the spread",
    (True, None): "better, too few samples to be sure",
    (False, True): "worse",
    (False, False): "worse, within the spread",
    (False, None): "worse, too few samples to be sure",
}


def _packages(models: list[str] | None) -> list[Package]:
    from ondevice import store

    return [store.find(model) for model in models] if models else [store.find(None)]


def _deliver(result: Result, save: Path | None, report: Path | None, json: bool) -> None:
    if save is not None:
        result.write(save)
    if report is not None:
        from ondevice.runtime.report import write

        write(result, report)
    if json:
        print(result.to_json(), end="")
    else:
        _print_result(result)


def _print_result(result: Result) -> None:
    device = result.device
    print(f"{device.cpu or 'unknown processor'}: {', '.join(device.instruction_sets)}")
    names = list(dict.fromkeys(m.name for engine in result.engines for m in engine.metrics))
    rows = [[name, *(_cell(engine, name) for engine in result.engines)] for name in names]
    rows.append(["peak memory", *map(_memory, result.engines)])
    output.print_table(["MEDIAN (IQR)", *(engine.label for engine in result.engines)], rows)
    for ratio in result.ratios:
        print(
            f"{ratio.metric}: {ratio.numerator} / {ratio.denominator} = {ratio.median:.2f} "
            f"({ratio.minimum:.2f} to {ratio.maximum:.2f})"
        )
    for pair in result.agreement:
        print(f"top-1 agreement of {pair.a} and {pair.b}: {pair.top1:.2%} of {pair.tokens} tokens")
    for note in result.notes:
        print("note:", note)


def _cell(engine: EngineResult, name: str) -> str:
    metric = engine.metric(name)
    if metric is None:
        return "-"
    found = metric.statistics
    return f"{_quantity(found.median, metric.unit)} ({found.relative_iqr:.0%})"


def _quantity(value: float, unit: str) -> str:
    return output.megabytes(int(value)) if unit == "bytes" else f"{value:,.1f} {unit}"


def _memory(engine: EngineResult) -> str:
    return "-" if engine.peak_memory is None else output.megabytes(engine.peak_memory.bytes)
