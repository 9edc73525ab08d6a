"""`ondevice calibrate`: when to trust a model's answers. Parses and prints only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import options, output

if TYPE_CHECKING:
    from ondevice.runtime.confidence.against import Against
    from ondevice.runtime.confidence.metrics import Interval
    from ondevice.runtime.confidence.report import Report


def calibrate(
    model: options.ModelArgument = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Questions with their checks (.jsonl, .jsonl.gz, .csv), or a folder with one "
            "file for each split; may be repeated.",
        ),
    ] = None,
    max_error: Annotated[
        float,
        typer.Option("--max-error", metavar="E", help="Most wrong among accepted answers."),
    ] = 0.05,
    confidence: Annotated[
        float, typer.Option("--confidence", metavar="C", help="How sure the promise has to be.")
    ] = 0.95,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="FILE",
            help="Keep answers here (.jsonl); those it has are not made again.",
            show_default="in the user's data folder",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE",
            help="A larger model's answers to these questions, as `ondevice eval` keeps them: also "
            "learn when it would be right instead.",
        ),
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option(
            "--max-loss", metavar="L", help="With --against, most accuracy lost against it."
        ),
    ] = 0.025,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw reliability and risk-coverage here."),
    ] = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Also learn from hidden states.",
            show_default="when it helps",
        ),
    ] = None,
    router: Annotated[
        bool,
        typer.Option("--router/--no-router", help="Also learn what to expect from the prompt."),
    ] = True,
    encoder: Annotated[
        Path | None,
        typer.Option(
            "--encoder", metavar="DIR", help="An exported encoder for the router, not n-grams."
        ),
    ] = None,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 40,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.05,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    threads: options.Threads = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of the splits and the sampling.")
    ] = 0,
    json: options.Json = False,
) -> None:
    """Learn when a model's answers can be trusted, and prove it on examples of your own.

    Answers every example, learns from one part of them to tell right answers from wrong ones,
    chooses a threshold on the next, and certifies it on the last. The result is kept in the
    package. Needs the extra `calibrate`.

    \b
    ondevice calibrate --data questions.csv
    ondevice calibrate smollm2 --data questions.jsonl --max-error 0.1 --plots plots/
    ondevice calibrate --data questions.jsonl --against questions.answers/cloud-mine-0123.jsonl
    """
    from ondevice import store
    from ondevice.runtime.answer import Options
    from ondevice.runtime.confidence.calibrate import calibrate as run

    wanted = Options(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed if temperature else None,
    )
    package = store.find(model)
    with output.progress_bar(quiet=json) as progress:
        report = run(
            package,
            data or [],
            max_error=max_error,
            confidence=confidence,
            probe=probe,
            router=router,
            encoder=encoder,
            options=wanted,
            answers=answers,
            against=against,
            max_loss=max_loss,
            plots=plots,
            threads=threads,
            seed=seed,
            progress=progress,
        )
    if json:
        output.print_json(report.to_json())
    else:
        print_report(report)


def print_report(report: Report) -> None:
    """The share that stays local and its certificate first, then what they rest on."""
    output.print_fields(_fields(report))
    if report.sure_and_wrong:
        print("\nwrong, yet thought right with the highest probability:")
        rows = [
            [f"{one.probability:.2f}", one.id, _line(one.prompt, 40), _line(one.text, 30)]
            for one in report.sure_and_wrong
        ]
        output.print_table(["P", "id", "question", "answer"], rows)
    for path in report.plots:
        output.note(f"wrote {path}")


def _fields(report: Report) -> dict[str, str]:
    made = report.calibration
    examples = f"{report.train} to learn, {report.threshold} to choose, {report.certify} to certify"
    if report.ignored:
        examples += f"; {report.ignored} of other splits left alone"
    fields = {
        "model": report.package,
        "examples": examples,
        "right": f"{report.right:.1%} of all answers",
    }
    found = made.certificate
    if found is None or made.threshold is None:
        fields |= {"stays local": "unknown", "certificate": made.reason}
    else:
        fields |= {
            "stays local": f"{found.local_share:.1%} of answers (P at least {made.threshold:.3f})",
            "certificate": f"at most {found.max_error:.1%} of these are wrong, with "
            f"{found.confidence:.0%} confidence ({found.errors} of {found.accepted} were, upper "
            f"bound {found.upper_bound:.1%})",
        }
    if report.against is not None:
        fields |= _against(report.against)
    return fields | {
        "AUROC": f"{_interval(report.auroc)}; mean log-probability alone "
        f"{report.mean_logprob_auroc.value:.3f}",
        "ECE": f"{_interval(report.ece)}; {report.ece_by_chance:.3f} by chance alone",
        "learned from": report.chosen,
    }


def _against(found: Against) -> dict[str, str]:
    who = found.model if found.subject.endswith(found.model) else f"{found.subject} {found.model}"
    return {
        "against": f"{who}: {_percent(found.rival_accuracy)} right on {found.examples} examples to "
        f"certify; AUROC of its being right {_interval(found.auroc)}, by {found.chosen}",
        "stays local then": f"{_percent(found.local_share)} of answers, passed on where the "
        f"advantage is above {found.advantage:+.3f}",
        "right then": f"{_percent(found.accuracy)}, {_percent(found.loss, '+')} lost against it "
        f"alone (at most {found.max_loss:.1%} was asked for, of these and the examples to choose)",
    }


def _percent(of: Interval, sign: str = "") -> str:
    value, low, high = (f"{x:{sign}.1%}" for x in (of.value, of.low, of.high))
    return f"{value} ({low} to {high})"


def _interval(of: Interval) -> str:
    if of.value != of.value:
        return "unknown (all answers alike)"
    return f"{of.value:.3f} ({of.low:.3f} to {of.high:.3f})"


def _line(text: str, longest: int) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
