"""What a benchmark found, as data: one result type for our own runs and imported ones.

Reads and writes the JSON that `ondevice/schemas/bench.schema.json` describes; measures nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice import files, json_file
from ondevice.errors import RequestError
from ondevice.runtime.device import Device
from ondevice.runtime.measure import PeakMemory, Statistics, TokenGaps, summarize

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelInfo:
    """The file or folder an engine ran: its size in bytes and what identifies its content.

    `sha256` is of the file, or for a package of its list of file hashes. `source_sha256` are
    the files a package was made from, so that a GGUF can be recognized as the same model.
    """

    name: str
    format: str
    target: str | None
    bytes: int
    sha256: str | None
    source_sha256: tuple[str, ...] = ()

    def same_source(self, other: ModelInfo) -> bool:
        """Whether both are known to hold the same weights: equal files, made from equal files,
        or one made from the other."""
        if self.sha256 is not None and self.sha256 == other.sha256:
            return True
        if self.source_sha256 and set(self.source_sha256) == set(other.source_sha256):
            return True
        return self.sha256 in other.source_sha256 or other.sha256 in self.source_sha256


@dataclass(frozen=True)
class Metric:
    """One measured quantity with a sample for each repetition, in `unit`."""

    name: str
    unit: str
    higher_is_better: bool
    samples: tuple[float, ...]

    @property
    def statistics(self) -> Statistics:
        """Median, p95 and spread of the samples."""
        return summarize(self.samples, self.higher_is_better)


@dataclass(frozen=True)
class InterToken:
    """Time between generated tokens in one workload."""

    workload: str
    gaps: TokenGaps


@dataclass(frozen=True)
class EngineResult:
    """Everything measured of one engine on one model."""

    label: str
    engine: str
    engine_version: str | None
    model: ModelInfo
    threads: int | None
    context_length: int | None
    peak_memory: PeakMemory | None
    metrics: tuple[Metric, ...]
    inter_token: tuple[InterToken, ...] = ()

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, None where it was not measured."""
        return next((m for m in self.metrics if m.name == name), None)


@dataclass(frozen=True)
class Ratio:
    """`numerator` over `denominator` (labels) for one metric: median, least and most of the
    ratios taken round by round, so that what slows both at once cancels out."""

    metric: str
    numerator: str
    denominator: str
    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class LabelledAgreement:
    """Top-1 agreement of two engines (labels) on the same tokens."""

    a: str
    b: str
    tokens: int
    top1: float


@dataclass(frozen=True)
class LoadCheck:
    """How busy the machine was: the load average of the last minute and the share of all
    processors' time in use before anything ran, and the share that other programs used while it
    was measured, in percent. `busy`: the figures are not to be trusted."""

    load_average_before: float | None
    cpu_percent_before: float | None
    busy: bool
    other_cpu_percent_during: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How it was measured. None where an imported result does not say."""

    prompt_tokens: int | None
    generated_tokens: int | None
    chat_tokens: int | None
    warmups: int | None
    repetitions: int
    seed: int | None
    interleaved: bool


@dataclass(frozen=True)
class Result:
    """One benchmark run. `created` is the moment in UTC, ISO 8601, None where not told."""

    tool: str
    created: str | None
    device: Device
    protocol: Protocol
    load: LoadCheck
    engines: tuple[EngineResult, ...]
    ratios: tuple[Ratio, ...] = ()
    agreement: tuple[LabelledAgreement, ...] = ()
    notes: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The JSON text of the schema, with each metric's statistics beside its samples."""
        data = dataclasses.asdict(self)
        for engine, written in zip(self.engines, data["engines"], strict=True):
            for metric, entry in zip(engine.metrics, written["metrics"], strict=True):
                entry["statistics"] = dataclasses.asdict(metric.statistics)
        return json_file.dumps(data)

    def write(self, path: Path) -> None:
        """Write the JSON atomically. Raises `OndeviceError` where the place cannot be written."""
        files.write_text(path, self.to_json())


def read(path: Path) -> Result:
    """Read a result file; its statistics are computed again from the samples.

    Raises `RequestError` naming the file and what is wrong in it.
    """
    return from_data(json_file.read(path), path)


def from_data(data: object, path: Path) -> Result:
    """A result from parsed JSON; `path` is named in the `RequestError` when it does not fit."""
    json_file.require_version(data, FORMAT_VERSION, path)
    if problem := json_file.problem(data, "bench"):
        raise RequestError(f"{path} is not a bench result: {problem}")
    assert isinstance(data, dict)
    return _result(data)


def _result(data: dict[str, Any]) -> Result:
    device = data["device"]
    return Result(
        tool=data["tool"],
        created=data["created"],
        device=Device(**(device | {"instruction_sets": tuple(device["instruction_sets"])})),
        protocol=Protocol(**data["protocol"]),
        load=LoadCheck(**data["load"]),
        engines=tuple(_engine(engine) for engine in data["engines"]),
        ratios=tuple(Ratio(**ratio) for ratio in data["ratios"]),
        agreement=tuple(LabelledAgreement(**entry) for entry in data["agreement"]),
        notes=tuple(data["notes"]),
        format_version=data["format_version"],
    )


def _engine(data: dict[str, Any]) -> EngineResult:
    model, memory = data["model"], data["peak_memory"]
    return EngineResult(
        label=data["label"],
        engine=data["engine"],
        engine_version=data["engine_version"],
        model=ModelInfo(**(model | {"source_sha256": tuple(model["source_sha256"])})),
        threads=data["threads"],
        context_length=data["context_length"],
        peak_memory=None if memory is None else PeakMemory(**memory),
        metrics=tuple(_metric(metric) for metric in data["metrics"]),
        inter_token=tuple(
            InterToken(entry["workload"], TokenGaps(**entry["gaps"]))
            for entry in data["inter_token"]
        ),
    )


def _metric(data: dict[str, Any]) -> Metric:
    samples = tuple(float(sample) for sample in data["samples"])
    return Metric(data["name"], data["unit"], data["higher_is_better"], samples)
