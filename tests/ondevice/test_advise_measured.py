"""Measured figures in the place of assumptions."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from ondevice.advise import advice, measured
from ondevice.advise import assumptions as figures
from ondevice.advise.cost import ApiPrice
from ondevice.advise.factors import Constraints, Scores
from ondevice.errors import RequestError
from ondevice.runtime.bench_result import (
    EngineResult,
    LoadCheck,
    Metric,
    ModelInfo,
    Protocol,
    Result,
)
from ondevice.runtime.device import fingerprint
from ondevice.runtime.evaluate.eval_result import DataSet, EvalResult
from ondevice.runtime.evaluate.frontier import Frontier, Point
from ondevice.runtime.evaluate.statistics import Estimate, Spread
from ondevice.runtime.evaluate.summary import Group, SubjectSummary

DEFAULTS = figures.defaults()
PRICE = ApiPrice("m", Fraction(1), Fraction(4), "list", "2026-11-24")


def bench_file(folder: Path, speeds: dict[str, float], busy: bool = False) -> Path:
    metrics = tuple(
        Metric(name, "tokens/s", True, (speed - 1, speed, speed + 1))
        for name, speed in speeds.items()
    )
    model = ModelInfo("fake", "package", "cpu-int8", 1000, "0" * 64)
    engine = EngineResult("ort cpu-int8", "ort", "1.0", model, 2, 512, None, metrics)
    protocol = Protocol(512, 128, 0, 1, 3, 0, False)
    load = LoadCheck(0.0, 0.0, busy)
    when = "2026-11-25T01:00:00+00:00"
    path = folder / "bench.json"
    Result("ondevice", when, fingerprint(), protocol, load, (engine,)).write(path)
    return path


def group(right: int, prompt_tokens: int, output_tokens: int, cost_usd: float) -> Group:
    share = Estimate(right / 100, right / 100 - 0.05, right / 100 + 0.05, "Wilson")
    spread = Spread(100, 0.5, 1.0)
    return Group(
        "all", 100, right, share, share, share, 0, 0, spread, spread, prompt_tokens,
        output_tokens, cost_usd, cost_usd * 10,
    )  # fmt: skip


def eval_file(folder: Path, at_loss: float | None = 0.7, cost_usd: float = 0.05) -> Path:
    subjects = (
        SubjectSummary("cloud:big", "b", group(95, 30_000, 8_000, cost_usd), (), (), ()),
        SubjectSummary("device:small", "a", group(80, 31_049, 6_051, 0.0), (), (), ()),
    )
    points = tuple(
        Point(None, share, Estimate(0.9, 0.8, 1.0, "Wilson"), 0.0, 1.0, 0.9, 0.95)
        for share in (0.0, 0.7)
    )
    small, large = (entry.overall.accuracy for entry in reversed(subjects))
    chosen = None if at_loss is None else dataclasses.replace(points[1], local_share=at_loss)
    line = Frontier(
        "device:small", "cloud:big", "mean log-probability", 100, small, large, 0.0005, 1.0,
        0.8, 0, points, 2.5, chosen,
    )  # fmt: skip
    data = DataSet("set.jsonl", "0" * 64, "", 100, 10)
    path = folder / "eval.json"
    EvalResult("ondevice", "2026-11-24T10:00:00+00:00", data, subjects, (), (line,)).write(path)
    return path


def test_speeds_come_from_a_bench_result(tmp_path: Path) -> None:
    path = bench_file(tmp_path, {"pp512": 300.5, "tg128": 40.25})
    found = measured.from_bench(path, DEFAULTS)
    assert found.assumptions["device.prefill_tokens_per_s"] == Fraction("300.5")
    decode = found.assumptions.entries["device.decode_tokens_per_s"]
    assert (decode.value, decode.origin) == (Fraction("40.25"), "measured")
    assert decode.date == "2026-11-25"
    assert str(path) in decode.source and "ort cpu-int8" in decode.source
    assert found.remarks == ()


def test_what_a_bench_result_lacks_stays_an_assumption_and_is_said(tmp_path: Path) -> None:
    found = measured.from_bench(bench_file(tmp_path, {"tg128": 40}, busy=True), DEFAULTS)
    assert found.assumptions.entries["device.prefill_tokens_per_s"].origin == "default"
    assert "no device.prefill_tokens_per_s" in found.remarks[0]
    assert "busy machine" in found.remarks[1]
    with pytest.raises(RequestError, match="neither prefill nor decode"):
        measured.from_bench(bench_file(tmp_path, {"chat": 5}), DEFAULTS)


def test_tokens_share_cost_and_accuracy_come_from_an_evaluation(tmp_path: Path) -> None:
    found = measured.from_eval(eval_file(tmp_path), DEFAULTS)
    assert found.assumptions["workload.input_tokens"] == 310
    assert found.assumptions["workload.output_tokens"] == 61
    assert found.assumptions["hybrid.local_share"] == Fraction("0.7")
    assert found.assumptions.entries["hybrid.local_share"].date == "2026-11-24"
    assert found.api_cost is not None
    assert found.api_cost.usd_per_request == Fraction("0.0005")
    qualities = [(entry.subject, entry.accuracy, entry.n) for entry in found.quality]
    assert qualities == [("cloud:big", 0.95, 100), ("device:small", 0.8, 100)]


def test_an_evaluation_without_a_threshold_or_cost_says_so(tmp_path: Path) -> None:
    found = measured.from_eval(eval_file(tmp_path, at_loss=None, cost_usd=0.0), DEFAULTS)
    assert found.assumptions["hybrid.local_share"] == DEFAULTS["hybrid.local_share"]
    assert "no threshold keeps the loss within 2.5 points" in found.remarks[0]
    assert found.api_cost is None


def test_measured_figures_change_the_costs_and_are_marked(tmp_path: Path) -> None:
    found = measured.from_eval(eval_file(tmp_path), DEFAULTS)
    timed = measured.from_bench(
        bench_file(tmp_path, {"pp512": 310, "tg128": 61}), found.assumptions
    )
    answer = advice.advise(
        Scores(2, 2, 3, 3, 3), Constraints(), 1000, timed.assumptions, PRICE,
        api_cost=found.api_cost, quality=found.quality,
    )  # fmt: skip
    assert {option.name for option in answer.options if option.measured} == {
        "api", "device", "hybrid",
    }  # fmt: skip
    assert answer.option("api").low.a_day(1000) == Fraction("0.5")
    assert answer.option("api").label == "cloud:big"
    said = " ".join(answer.remarks)
    assert "busy for 2.0 s" in said
    assert "device:small is 15.0 points below cloud:big" in said
    assert "no accuracy was measured" not in said


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format_version": 99}', "\udcff"])
def test_files_that_are_no_result_are_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    for read in (measured.from_bench, measured.from_eval):
        with pytest.raises(RequestError, match=r"a\.json"):
            read(path, DEFAULTS)
        with pytest.raises(RequestError, match=r"none\.json"):
            read(tmp_path / "none.json", DEFAULTS)
