from __future__ import annotations

import math
from dataclasses import replace

import pytest
from eval_fakes import example, record
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.runtime.evaluate.frontier import Frontier, frontier, has_confidence, mean_logprob

NAMES = ("device:small", "cloud:large")

Case = tuple[float, bool, bool]  # confidence, small right, large right


def made(cases: list[Case], failed: frozenset[int] = frozenset()) -> Frontier:
    small = [record(n, s, logprob=c, latency_s=1.0 + n) for n, (c, s, _) in enumerate(cases)]
    large = [
        record(
            n, right and n not in failed, subject=NAMES[1], latency_s=2.0, cost_usd=0.25 + n,
            error="timeout: slow" if n in failed else "",
        )
        for n, (_, _, right) in enumerate(cases)
    ]  # fmt: skip
    examples = [example(n) for n in range(len(cases))]
    confidences = [c for c, _, _ in cases]
    return frontier(examples, small, large, confidences, names=NAMES, confidence="test")


cases = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.7, 0.9]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(cases)
def test_every_point_is_what_routing_by_that_threshold_gives(found: list[Case]) -> None:
    result = made(found)
    n = len(found)
    assert [p.threshold for p in result.points] == [
        None,
        *sorted({c for c, _, _ in found}, reverse=True),
    ]
    for point in result.points:
        local = [point.threshold is not None and c >= point.threshold for c, _, _ in found]
        right = [s if keep else t for keep, (_, s, t) in zip(local, found, strict=True)]
        cost = sum(0.25 + i for i, keep in enumerate(local) if not keep)
        latency = sum(1.0 + i + (0 if keep else 2.0) for i, keep in enumerate(local))
        assert point.local_share == sum(local) / n
        assert point.accuracy.value == pytest.approx(sum(right) / n)
        assert point.cost_usd == pytest.approx(cost / n)
        assert point.latency_s == pytest.approx(latency / n)


@given(cases)
def test_the_oracle_is_never_beaten_and_is_the_best_choice_of_that_many(found: list[Case]) -> None:
    for point in made(found).points:
        kept = round(point.local_share * len(found))
        gains = sorted((s - t for _, s, t in found), reverse=True)
        best = (sum(t for _, _, t in found) + sum(gains[:kept])) / len(found)
        assert point.oracle_accuracy == pytest.approx(best)
        assert point.accuracy.value <= point.oracle_accuracy + 1e-12
        assert point.random_accuracy <= point.oracle_accuracy + 1e-12


def test_the_ends_are_the_two_models_alone() -> None:
    result = made([(0.9, True, True), (0.5, False, True), (0.1, False, True), (0.2, True, False)])
    first, last = result.points[0], result.points[-1]
    assert (first.local_share, first.accuracy.value) == (0, result.large_accuracy.value)
    assert (last.local_share, last.accuracy.value) == (1, result.small_accuracy.value)
    assert first.random_accuracy == first.accuracy.value == first.oracle_accuracy
    assert last.random_accuracy == last.accuracy.value == last.oracle_accuracy
    # The draft is paid for in time wherever the large model answers in the end.
    assert first.latency_s == result.large_latency_s + 2.5
    assert last.cost_usd == 0
    assert result.auroc == 0.75


def test_the_local_share_is_read_off_within_the_loss() -> None:
    many = [(0.9, True, True)] * 60 + [(0.5, False, True)] * 2 + [(0.1, False, True)] * 38
    result = made(many)
    assert result.at_loss is not None
    assert result.at_loss.local_share == 0.62
    assert result.at_loss.accuracy.value == pytest.approx(0.98)


def test_a_small_model_that_is_better_stays_local_altogether() -> None:
    result = made([(0.5, True, False)] * 4)
    assert result.at_loss is not None
    assert result.at_loss.local_share == 1
    assert result.auroc is None  # there is no wrong answer to rank below


def test_where_the_large_model_failed_the_local_answer_is_kept() -> None:
    result = made([(0.9, True, True), (0.1, True, True)], failed=frozenset({1}))
    assert result.large_accuracy.value == 0.5
    assert result.points[0].accuracy.value == 1.0
    assert result.kept_after_failure == 1


def test_an_answer_without_confidence_is_never_kept() -> None:
    result = made([(0.9, True, True), (-math.inf, False, True)])
    assert result.points[-1].local_share == 0.5
    assert all(p.threshold is None or math.isfinite(p.threshold) for p in result.points)


@pytest.mark.parametrize("confidences", [[0.5], [0.5, math.nan]])
def test_confidences_that_do_not_fit_are_an_error(confidences: list[float]) -> None:
    examples = [example(0), example(1)]
    records = [record(0, True), record(1, True)]
    with pytest.raises(RequestError, match="one confidence for each"):
        frontier(examples, records, records, confidences, names=NAMES, confidence="x")


def test_records_of_the_device_have_confidences_and_those_of_the_cloud_do_not() -> None:
    small, large = [record(0, True, logprob=-0.5)], [record(0, True, subject="cloud:x")]
    assert has_confidence(small) and not has_confidence(large) and not has_confidence([])
    assert mean_logprob(small[0]) == -0.5
    assert mean_logprob(replace(small[0], error="too long")) == -math.inf
