"""`ondevice advise`: small, hybrid or large, and what each costs. Parses, asks and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, output

if TYPE_CHECKING:
    from ondevice.advise.advice import Advice, Crossing, Option
    from ondevice.advise.assumptions import Assumption, Assumptions
    from ondevice.advise.cost import BreakEven
    from ondevice.advise.factors import Constraints, Scores
    from ondevice.advise.measured import Measured

_SCORE = "1 (speaks for a small model) to 5 (for a large one)."
Score = Annotated[int | None, typer.Option(metavar="1-5", help=_SCORE, show_default=False)]
_FIRST_VOLUME = 10_000


def advise(
    complexity: Score = None,
    knowledge: Score = None,
    deployment: Score = None,
    volume: Score = None,
    quality: Score = None,
    offline: Annotated[
        bool, typer.Option("--must-work-offline", help="Hard: it must answer without a network.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--data-may-not-leave", help="Hard: no data goes to anybody else.")
    ] = False,
    requests: Annotated[
        int | None,
        typer.Option("--requests", metavar="N", help="Requests a day.", show_default=False),
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option("--input-tokens", metavar="N", help="Of a request, on average.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", metavar="N", help="Of an answer, on average.")
    ] = None,
    api_model: Annotated[
        str | None,
        typer.Option("--api", metavar="NAME", help="Model whose list price counts."),
    ] = None,
    gpu_hour: Annotated[
        str | None, typer.Option("--gpu-hour", metavar="USD", help="Price of one GPU.")
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", metavar="FILE", help="Speeds from `ondevice bench --save`."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="FILE", help="Accuracy, tokens, cost from `ondevice eval`."),
    ] = None,
    assumptions: Annotated[
        Path | None,
        typer.Option(
            "--assumptions",
            metavar="FILE",
            help="TOML with your own figures.",
            show_default="assumptions.toml in the folder of ondevice",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One assumption; may be repeated."),
    ] = None,
    examples: Annotated[
        bool,
        typer.Option("--examples", help="Check the arithmetic of the text this follows instead."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Say whether a small model, a large one or both fit, and what each costs.

    Asks for what is missing when it runs at a terminal. Every figure it assumes is printed.

    \b
    ondevice advise
    ondevice advise --complexity 2 --knowledge 1 --deployment 3 --volume 2 --quality 3 \\
        --requests 20000 --bench bench.json --eval eval.json
    """
    given = dict(
        complexity=complexity, knowledge=knowledge, deployment=deployment, volume=volume,
        quality=quality,
    )  # fmt: skip
    flags = [
        f"{key}={value}"
        for key, value in (
            ("workload.input_tokens", input_tokens),
            ("workload.output_tokens", output_tokens),
            ("gpu.usd_per_hour", gpu_hour),
        )
        if value is not None
    ]
    measured = _figures(assumptions, bench, evaluation, [*flags, *(settings or [])])
    if examples:
        _print_examples(measured.assumptions, json)
        return
    from ondevice.advise import advice
    from ondevice.advise.factors import Constraints

    scores, limits, count = _answers(given, Constraints(offline, private), requests)
    own_cost = None if api_model or input_tokens or output_tokens else measured.api_cost
    found = advice.advise(
        scores,
        limits,
        count,
        measured.assumptions,
        advice.api_price(api_model or advice.DEFAULT_API),
        api_cost=own_cost,
        quality=measured.quality,
        remarks=measured.remarks,
    )
    if json:
        from ondevice.advise.as_json import advice_data

        output.print_json(advice_data(found))
    else:
        _print_advice(found)


def _figures(
    path: Path | None, bench: Path | None, evaluation: Path | None, settings: list[str]
) -> Measured:
    """Defaults, then the user's file, then what was measured, then flags: later ones win."""
    from ondevice import store
    from ondevice.advise import assumptions, measured

    figures = assumptions.defaults()
    own = store.home() / assumptions.FILE
    if path is not None or own.exists():
        figures = assumptions.read(path or own, figures)
    found = measured.Measured(figures)
    remarks: tuple[str, ...] = ()
    if evaluation is not None:
        found = measured.from_eval(evaluation, found.assumptions)
        remarks = found.remarks
    if bench is not None:
        timed = measured.from_bench(bench, found.assumptions)
        remarks += timed.remarks
        found = measured.Measured(timed.assumptions, found.quality, found.api_cost)
    figures = assumptions.apply_settings(settings, found.assumptions).checked()
    return measured.Measured(figures, found.quality, found.api_cost, remarks)


def _answers(
    given: dict[str, int | None], limits: Constraints, requests: int | None
) -> tuple[Scores, Constraints, int]:
    """What the flags say; at a terminal the rest is asked for."""
    from ondevice.advise import factors
    from ondevice.errors import RequestError

    for name, score in given.items():
        if score is not None:
            factors.check_score(name, score)
    missing = [factor for factor in factors.FACTORS if given[factor.name] is None]
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if at_terminal and missing:
        for factor in missing:
            given[factor.name] = _ask_score(factor)
        if not limits.reasons:
            limits = factors.Constraints(
                typer.confirm("Must it work without a network?", default=False),
                typer.confirm("Is it forbidden that data leaves?", default=False),
            )
    scores = factors.from_mapping(given)
    if requests is None and at_terminal:
        requests = typer.prompt("Requests a day", type=int, default=_FIRST_VOLUME)
    if requests is None:
        raise RequestError("no volume; give --requests N, the requests of a day")
    return scores, limits, requests


def _ask_score(factor: object) -> int:
    from ondevice.advise.factors import Factor

    assert isinstance(factor, Factor)
    print(f"\n{factor.question}")
    for score, meaning in enumerate(factor.meanings, 1):
        print(f"  {score}  {meaning}")
    while True:
        score = typer.prompt(f"{factor.name}, 1 to 5", type=int)
        if 1 <= score <= len(factor.meanings):
            return int(score)
        print("  1, 2, 3, 4 or 5")


def _print_advice(found: Advice) -> None:
    from ondevice.advise import factors

    doubt = " or none" if found.verdict.doubtful else ""
    print(f"{found.verdict.choice}{doubt}: {found.verdict.why}\n")
    rows = [
        [factor.name, str(getattr(found.scores, factor.name)), found.scores.meaning(factor)]
        for factor in factors.FACTORS
    ]
    output.print_table(["FACTOR", "SCORE", "MEANING"], rows)
    if found.quality:
        print()
        _print_quality(found)
    overheads = _overheads(found.assumptions)
    print(f"\n{found.requests_a_day:,} requests a day, USD, at {overheads} overhead:")
    _print_options(found)
    print("\nbreak-even, requests a day:")
    for crossing in found.crossings:
        print(f"  {_crossing(crossing, found)}")
    print("\nassumptions, change them with --set KEY=VALUE or --assumptions FILE:")
    _print_assumptions(found)
    for remark in found.remarks:
        print("note:", remark)
    print("note: `ondevice advise --examples` checks the arithmetic of the text this follows")


def _print_quality(found: Advice) -> None:
    rows = [
        [entry.subject, f"{entry.accuracy:.1%}", f"{entry.low:.1%}-{entry.high:.1%}", str(entry.n)]
        for entry in found.quality
    ]
    output.print_table(["MEASURED", "RIGHT", "95%", "EXAMPLES"], rows)


def _print_options(found: Advice) -> None:
    rows = [
        [
            option.name,
            _range(option, found.requests_a_day, "day"),
            _range(option, found.requests_a_day, "month"),
            _range(option, found.requests_a_day, "request"),
            "measured" if option.measured else "assumed",
            f"ruled out: {option.ruled_out}" if option.ruled_out else option.label,
        ]
        for option in found.options
    ]
    output.print_table(["WAY", "A DAY", "A MONTH", "A REQUEST", "FIGURES", "WHAT"], rows)
    price = found.price
    print(
        f"price of {price.model}: {float(price.input_per_million):g} in, "
        f"{float(price.output_per_million):g} out per million tokens; {price.source}, {price.date}"
    )


def _range(option: Option, requests: int, per: str) -> str:
    """The cost at the lower and at the higher overhead, one figure where they are equal."""
    figures = []
    for line in (option.low, option.high):
        value = line.a_month(requests) if per == "month" else line.a_day(requests)
        figures.append(_usd(float(value / requests if per == "request" else value)))
    return "-".join(dict.fromkeys(figures))


def _usd(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _overheads(assumptions: Assumptions) -> str:
    low, high = (float(assumptions[key]) for key in ("overhead.low", "overhead.high"))
    return f"{low:.0%} to {high:.0%}"


def _crossing(crossing: Crossing, found: Advice) -> str:
    forbidden = found.option(crossing.way).ruled_out or found.option(crossing.than).ruled_out
    said = [_words(crossing.low, crossing.dearer_again)]
    if crossing.high != crossing.low:
        said.append(_words(crossing.high, None))
    low, _, high = _overheads(found.assumptions).partition(" to ")
    text = said[0] if len(said) == 1 else f"{said[0]} at {low}; {said[1]} at {high}"
    end = f" (ruled out: {forbidden})" if forbidden else ""
    return f"{crossing.way} no dearer than {crossing.than}: {text}{end}"


def _words(point: BreakEven, dearer_again: int | None) -> str:
    if point.first is None:
        return "never"
    if point.first == point.for_good:
        return "always" if point.first == 1 else f"from {point.first:,}"
    if point.for_good is not None:
        return f"from {point.first:,}, and for good from {point.for_good:,} (units are added)"
    until = f"; dearer for good from {dearer_again:,}" if dearer_again else "; not for good"
    return f"from {point.first:,}{until}"


def _print_assumptions(found: Advice) -> None:
    rows = [_assumption(entry) for entry in found.assumptions]
    output.print_table(["KEY", "VALUE", "UNIT", "SAID BY", "SOURCE"], rows)


def _assumption(entry: Assumption) -> list[str]:
    from ondevice.advise.assumptions import text_of

    source = f"{entry.source} ({entry.date})" if entry.date else entry.source
    return [entry.key, text_of(entry.value), entry.unit, entry.origin, source]


def _print_examples(assumptions: Assumptions, json: bool) -> None:
    from ondevice.advise import examples
    from ondevice.advise.advice import api_price
    from ondevice.advise.as_json import examples_data
    from ondevice.runtime.cloud.prices import Prices

    prices = tuple(api_price(model) for model in Prices().models())
    findings = examples.findings(assumptions, prices)
    if json:
        output.print_json(examples_data(findings))
        return
    for finding in findings:
        print(f"{finding.claim}\n  holds: {finding.holds}")
        for line in finding.found:
            print(f"  - {line}")
        print()
