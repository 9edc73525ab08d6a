"""What an evaluation found, as data; reads and writes the JSON of `eval.schema.json`.

Evaluates nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice import files, json_file
from ondevice.errors import RequestError
from ondevice.runtime.evaluate.frontier import Frontier, Point
from ondevice.runtime.evaluate.statistics import Estimate, Spread
from ondevice.runtime.evaluate.summary import (
    Comparison,
    FamilyDifference,
    Group,
    SubjectSummary,
)

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DataSet:
    """What was asked: the file's name and SHA-256, and what was chosen of it.

    `left_out` counts examples that only a judge could decide, when there was none.
    """

    name: str
    sha256: str
    split: str
    examples: int
    templates: int
    left_out: int = 0


@dataclass(frozen=True)
class JudgeSummary:
    """A language model's verdicts on one subject's answers.

    `judged` free answers, of which `undecided` got no verdict in the asked form and count as
    wrong. On `checked` further examples, which have an exact check, it decided as the check did
    in the share `agreement`; `kappa` is Cohen's, None where all verdicts are the same. There it
    called `too_kind` wrong answers right and `too_strict` right ones wrong.
    """

    judge: str
    subject: str
    judged: int
    undecided: int
    checked: int
    agreement: Estimate | None
    kappa: float | None
    too_kind: int
    too_strict: int
    cost_usd: float


@dataclass(frozen=True)
class EvalResult:
    """One evaluation. `created` is the moment in UTC, ISO 8601."""

    tool: str
    created: str
    dataset: DataSet
    subjects: tuple[SubjectSummary, ...]
    comparisons: tuple[Comparison, ...] = ()
    frontiers: tuple[Frontier, ...] = ()
    judge: tuple[JudgeSummary, ...] = ()
    notes: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The JSON text of the schema."""
        return json_file.dumps(dataclasses.asdict(self))

    def write(self, path: Path) -> None:
        """Write the JSON atomically. Raises `OndeviceError` where the place cannot be written."""
        files.write_text(path, self.to_json())


def read(path: Path) -> EvalResult:
    """Read a result file. Raises `RequestError` naming the file and what is wrong in it."""
    data = json_file.read(path)
    json_file.require_version(data, FORMAT_VERSION, path)
    if problem := json_file.problem(data, "eval"):
        raise RequestError(f"{path} is not an evaluation result: {problem}")
    assert isinstance(data, dict)
    return _result(data)


def _result(data: dict[str, Any]) -> EvalResult:
    return EvalResult(
        tool=data["tool"],
        created=data["created"],
        dataset=DataSet(**data["dataset"]),
        subjects=tuple(_subject(entry) for entry in data["subjects"]),
        comparisons=tuple(_comparison(entry) for entry in data["comparisons"]),
        frontiers=tuple(_frontier(entry) for entry in data["frontiers"]),
        judge=tuple(
            JudgeSummary(**(entry | {"agreement": _estimate(entry["agreement"])}))
            for entry in data["judge"]
        ),
        notes=tuple(data["notes"]),
        format_version=data["format_version"],
    )


def _subject(data: dict[str, Any]) -> SubjectSummary:
    return SubjectSummary(
        name=data["name"],
        identity=data["identity"],
        overall=_group(data["overall"]),
        by_check=tuple(_group(entry) for entry in data["by_check"]),
        by_family=tuple(_group(entry) for entry in data["by_family"]),
        by_tier=tuple(_group(entry) for entry in data["by_tier"]),
    )


def _group(data: dict[str, Any]) -> Group:
    shares = {name: Estimate(**data[name]) for name in ("accuracy", "compliance", "score")}
    times = {
        name: None if data[name] is None else Spread(**data[name])
        for name in ("ttft_s", "latency_s")
    }
    return Group(**(data | shares | times))


def _comparison(data: dict[str, Any]) -> Comparison:
    families = tuple(
        FamilyDifference(**(entry | {"difference": Estimate(**entry["difference"])}))
        for entry in data.get("by_family", ())
    )
    difference = Estimate(**data["difference"])
    return Comparison(**(data | {"difference": difference, "by_family": families}))


def _frontier(data: dict[str, Any]) -> Frontier:
    shares = {name: Estimate(**data[name]) for name in ("small_accuracy", "large_accuracy")}
    points = tuple(_point(entry) for entry in data["points"])
    at_loss = None if data["at_loss"] is None else _point(data["at_loss"])
    return Frontier(**(data | shares | {"points": points, "at_loss": at_loss}))


def _point(data: dict[str, Any]) -> Point:
    return Point(**(data | {"accuracy": Estimate(**data["accuracy"])}))


def _estimate(data: dict[str, Any] | None) -> Estimate | None:
    return None if data is None else Estimate(**data)
