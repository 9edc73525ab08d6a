"""Puts figures that `ondevice bench` and `ondevice eval` measured in the place of assumptions.

Measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.advise.assumptions import Assumptions
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from ondevice.runtime.bench_result import EngineResult
    from ondevice.runtime.evaluate.eval_result import EvalResult
    from ondevice.runtime.evaluate.frontier import Frontier
    from ondevice.runtime.evaluate.summary import SubjectSummary


@dataclass(frozen=True)
class Quality:
    """Accuracy of one subject of an evaluation on `n` examples, with its 95% interval."""

    subject: str
    n: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class ApiCost:
    """What a request to a subject of the evaluation cost on average, USD."""

    subject: str
    usd_per_request: Fraction
    source: str
    date: str


@dataclass(frozen=True)
class Measured:
    """The assumptions with what was measured in them, and what has no place there."""

    assumptions: Assumptions
    quality: tuple[Quality, ...] = ()
    api_cost: ApiCost | None = None
    remarks: tuple[str, ...] = ()


def from_bench(path: Path, below: Assumptions) -> Measured:
    """The device's speed from a bench result: the first engine with a prefill and a decode.

    Raises `RequestError` when the file cannot be read or holds neither.
    """
    from ondevice.runtime.bench_result import read

    result = read(path)
    keys = {"pp": "device.prefill_tokens_per_s", "tg": "device.decode_tokens_per_s"}
    for engine in result.engines:
        speeds = {key: _speed(engine, prefix) for prefix, key in keys.items()}
        if not any(speeds.values()):
            continue
        source = f"bench, {engine.label} on {result.device.cpu or 'unknown processor'} ({path})"
        date = (result.created or "")[:10]
        for key, speed in speeds.items():
            if speed:
                below = below.with_value(key, speed, "measured", source, date, str(path))
        missing = [key for key, speed in speeds.items() if not speed]
        remarks = tuple(f"{path} has no {key}; the assumption stands" for key in missing)
        if result.load.busy:
            remarks += (f"{path} was measured on a busy machine; its speeds may be too low",)
        return Measured(below, remarks=remarks)
    raise RequestError(
        f"{path} measures neither prefill nor decode; run `ondevice bench MODEL --save {path}`"
    )


def from_eval(path: Path, below: Assumptions) -> Measured:
    """Tokens, local share, accuracies and the API's cost from an evaluation.

    Raises `RequestError` when the file cannot be read.
    """
    from ondevice.runtime.evaluate.eval_result import read

    result = read(path)
    date = result.created[:10]
    device = _subject(result, "device:")
    cloud = _subject(result, "cloud:")
    counted = device or result.subjects[0]
    below = _tokens(counted, below, path, date)
    remarks: tuple[str, ...] = ()
    if result.frontiers:
        below, remarks = _share(result.frontiers[0], below, path, date)
    return Measured(below, _qualities(result), _api_cost(cloud, path, date), remarks)


def _speed(engine: EngineResult, prefix: str) -> float | None:
    for metric in engine.metrics:
        if metric.name.startswith(prefix) and metric.unit == "tokens/s" and metric.samples:
            return metric.statistics.median
    return None


def _subject(result: EvalResult, prefix: str) -> SubjectSummary | None:
    return next((s for s in result.subjects if s.name.startswith(prefix)), None)


def _tokens(subject: SubjectSummary, below: Assumptions, path: Path, date: str) -> Assumptions:
    group = subject.overall
    if group.prompt_tokens + group.output_tokens == 0:
        return below
    source = f"eval, mean of {group.n} examples by {subject.name} ({path})"
    for key, total in (
        ("workload.input_tokens", group.prompt_tokens),
        ("workload.output_tokens", group.output_tokens),
    ):
        below = below.with_value(key, round(total / group.n), "measured", source, date, str(path))
    return below


def _share(
    frontier: Frontier, below: Assumptions, path: Path, date: str
) -> tuple[Assumptions, tuple[str, ...]]:
    point = frontier.at_loss
    if point is None:
        lost = f"{path}: no threshold keeps the loss within {frontier.loss_points:g} points"
        return below, (f"{lost}; hybrid.local_share stays an assumption",)
    source = (
        f"eval, {frontier.small} with {frontier.large} at a loss of at most "
        f"{frontier.loss_points:g} points ({path})"
    )
    key = "hybrid.local_share"
    return below.with_value(key, point.local_share, "measured", source, date, str(path)), ()


def _qualities(result: EvalResult) -> tuple[Quality, ...]:
    return tuple(
        Quality(
            subject.name,
            subject.overall.n,
            subject.overall.accuracy.value,
            subject.overall.accuracy.low,
            subject.overall.accuracy.high,
        )
        for subject in result.subjects
    )


def _api_cost(subject: SubjectSummary | None, path: Path, date: str) -> ApiCost | None:
    if subject is None or subject.overall.cost_usd <= 0:
        return None
    group = subject.overall
    mean = Fraction(repr(group.cost_usd)) / group.n
    return ApiCost(subject.name, mean, f"eval, mean of {group.n} calls ({path})", date)
