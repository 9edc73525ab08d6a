"""Two benchmark results side by side: ratios of medians, and whether they mean anything.

Compares; measures nothing. Results of llama-bench are read as well as our own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ondevice import json_file
from ondevice.errors import RequestError
from ondevice.runtime import bench_result, llama_bench
from ondevice.runtime.bench_result import EngineResult, Metric, ModelInfo, Result
from ondevice.runtime.device import Device

MIN_SAMPLES = 4
"""With 4 samples on each side, ranges of equal speed lie apart by chance in 2 of 70 cases (2.9%);
with 5 in 2 of 252 (0.8%). With fewer than 4 nothing is claimed."""

_VERSIONS = ("system_version", "python", "onnxruntime")


@dataclass(frozen=True)
class Row:
    """One quantity in both results. `ratio` is b over a, None where a is 0.

    `b_better` is None where both are equal. `exceeds_spread`: the ranges of the samples (least
    to most) do not overlap; None where there are too few samples to say.
    """

    label_a: str
    label_b: str
    metric: str
    unit: str
    a: float
    b: float
    ratio: float | None
    b_better: bool | None
    exceeds_spread: bool | None


@dataclass(frozen=True)
class Comparison:
    """Rows for each engine in both results.

    `differences` make a comparison doubtful (another device or model); `remarks` are what else
    differs, such as versions and threads, and may be what is being compared.
    """

    rows: tuple[Row, ...]
    differences: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> str:
        """The comparison as JSON text."""
        return json_file.dumps(dataclasses.asdict(self))


def read(path: Path) -> Result:
    """A result of `ondevice bench --json` or of `llama-bench -o json`.

    Raises `RequestError` when it is neither.
    """
    data = json_file.read(path)
    if isinstance(data, list):
        return llama_bench.from_data(data, path)
    return bench_result.from_data(data, path)


def compare(a: Result, b: Result, *, allow_different: bool = False) -> Comparison:
    """Ratios b over a of every metric that both have.

    Engines are paired by label; two results of one engine each are always paired. Raises
    `RequestError` when nothing pairs, or when device or model differ and `allow_different` is
    false; with it, the differences are in the answer.
    """
    pairs = _pairs(a, b)
    differences = list(device_differences(a.device, b.device))
    remarks = list(_fields(a.device, b.device, _VERSIONS))
    for x, y in pairs:
        if not _same_model(x.model, y.model):
            differences.append(f"model: {x.model.name} and {y.model.name}")
        remarks.extend(_engine_remarks(x, y))
    if differences and not allow_different:
        raise RequestError(
            f"the results are not of the same device and model ({'; '.join(differences)}); "
            "allow differences to compare them nevertheless"
        )
    rows = tuple(row for x, y in pairs for row in _rows(x, y))
    if not rows:
        raise RequestError("the two results have no metric in common; measure the same workloads")
    return Comparison(rows, tuple(dict.fromkeys(differences)), tuple(dict.fromkeys(remarks)))


def device_differences(a: Device, b: Device) -> Iterator[str]:
    """What both devices tell and tell differently, versions of software left out."""
    names = [f.name for f in dataclasses.fields(Device) if f.name not in _VERSIONS]
    return _fields(a, b, names)


def _fields(a: Device, b: Device, names: tuple[str, ...] | list[str]) -> Iterator[str]:
    for name in names:
        x, y = getattr(a, name), getattr(b, name)
        if x not in (None, ()) and y not in (None, ()) and x != y:
            yield f"{name.replace('_', ' ')}: {_words(x)} and {_words(y)}"


def _words(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _same_model(a: ModelInfo, b: ModelInfo) -> bool:
    if a.same_source(b):
        return True
    return (a.sha256 is None or b.sha256 is None) and a.name == b.name


def _engine_remarks(a: EngineResult, b: EngineResult) -> Iterator[str]:
    for name, x, y in (
        ("engine", a.engine, b.engine),
        (f"version of {a.engine}", a.engine_version, b.engine_version),
        ("target", a.model.target, b.model.target),
        ("threads", a.threads, b.threads),
        ("context length", a.context_length, b.context_length),
    ):
        if x is not None and y is not None and x != y:
            yield f"{name}: {x} and {y}"


def _pairs(a: Result, b: Result) -> list[tuple[EngineResult, EngineResult]]:
    if len(a.engines) == len(b.engines) == 1:
        return [(a.engines[0], b.engines[0])]
    others = {engine.label: engine for engine in b.engines}
    pairs = [(e, others[e.label]) for e in a.engines if e.label in others]
    if not pairs:
        raise RequestError(
            "the two results have no engine in common: "
            f"{', '.join(e.label for e in a.engines)} and {', '.join(others)}"
        )
    return pairs


def _rows(a: EngineResult, b: EngineResult) -> Iterator[Row]:
    for metric in a.metrics:
        other = b.metric(metric.name)
        if other is not None and (other.unit, other.higher_is_better) == (
            metric.unit,
            metric.higher_is_better,
        ):
            medians = (metric.statistics.median, other.statistics.median)
            yield _row(
                a, b, metric.name, metric.unit, medians, metric.higher_is_better,
                exceeds_spread(metric, other),
            )  # fmt: skip
    gaps = {entry.workload: entry.gaps for entry in b.inter_token}
    for entry in a.inter_token:
        if entry.workload in gaps:
            for name in ("p50", "p95", "p99"):
                values = (getattr(entry.gaps, name), getattr(gaps[entry.workload], name))
                yield _row(a, b, f"{entry.workload} between tokens, {name}", "ms", values)
    if a.peak_memory is not None and b.peak_memory is not None:
        yield _row(a, b, "peak memory", "bytes", (a.peak_memory.bytes, b.peak_memory.bytes))
    if a.model.bytes and b.model.bytes:
        yield _row(a, b, "model size", "bytes", (a.model.bytes, b.model.bytes))


def exceeds_spread(a: Metric, b: Metric) -> bool | None:
    """Whether the ranges of two sets of samples lie apart; None with fewer than `MIN_SAMPLES`."""
    if min(len(a.samples), len(b.samples)) < MIN_SAMPLES:
        return None
    return max(a.samples) < min(b.samples) or max(b.samples) < min(a.samples)


def _row(
    a: EngineResult,
    b: EngineResult,
    metric: str,
    unit: str,
    values: tuple[float, float],
    higher_is_better: bool = False,
    exceeds: bool | None = None,
) -> Row:
    x, y = values
    return Row(
        label_a=a.label,
        label_b=b.label,
        metric=metric,
        unit=unit,
        a=x,
        b=y,
        ratio=y / x if x else None,
        b_better=None if x == y else (y > x) == higher_is_better,
        exceeds_spread=exceeds,
    )
