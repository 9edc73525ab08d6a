from __future__ import annotations

import pytest
from eval_fakes import example, record

from ondevice.errors import RequestError
from ondevice.runtime.evaluate import summary
from ondevice.runtime.evaluate.check import Choice

EXAMPLES = [
    example(0, family="maths", tier="easy"),
    example(1, family="maths", tier="hard"),
    example(2, family="words", check=Choice("a", ("a", "b"))),
    example(3, family="words", tier="hard"),
]


def test_shares_times_and_costs_are_those_of_the_records() -> None:
    records = [
        record(0, True, ttft_s=0.1, latency_s=1.0, cost_usd=0.5),
        record(1, False, compliant=False, score=0.5, ttft_s=0.3, latency_s=3.0, cost_usd=0.25),
        record(2, True, ttft_s=0.2, latency_s=2.0),
        record(3, False, error="timeout: slow", ttft_s=9.0, latency_s=9.0, compliant=False),
    ]
    found = summary.summarize("device:small", "id", EXAMPLES, records)
    every = found.overall
    assert (every.n, every.right, every.accuracy.value) == (4, 2, 0.5)
    assert (every.compliance.value, every.score.value) == (0.5, 0.625)
    assert (every.errors, every.refused) == (1, 0)
    assert every.ttft_s is not None and every.latency_s is not None
    assert (every.ttft_s.n, every.ttft_s.median, every.latency_s.median) == (3, 0.2, 2.0)
    assert every.latency_s.p95 == pytest.approx(2.9)
    assert (every.cost_usd, every.cost_per_1000_usd) == (0.75, 187.5)
    assert (every.prompt_tokens, every.output_tokens) == (40, 8)
    assert [(g.name, g.n, g.right) for g in found.by_check] == [("exact", 3, 1), ("choice", 1, 1)]
    assert [(g.name, g.right) for g in found.by_family] == [("maths", 1), ("words", 1)]
    assert [(g.name, g.n) for g in found.by_tier] == [("easy", 1), ("hard", 2)]


def test_what_was_not_sent_is_told_from_what_failed() -> None:
    records = [record(n, False, error="refused: data of class 'restricted'") for n in range(3)]
    records.append(record(3, False, error="timeout: refused later"))
    every = summary.summarize("cloud:x", "id", EXAMPLES, records).overall
    assert (every.errors, every.refused) == (4, 3)
    assert every.ttft_s is None and every.latency_s is None


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [record(n, n != 1) for n in range(4)]
    found = summary.summarize("s", "id", EXAMPLES, records)
    assert found == summary.summarize("s", "id", EXAMPLES, records[::-1])


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0, 1, 2), "1 have no answer .first 'e3'"),
        ((0, 1, 2, 3, 7), "1 answers are to others .first 'e7'"),
        ((0, 1, 2, 8), "1 have no answer .* 1 answers are to others"),
        ((0, 1, 2, 3, 3), "two answers to one example"),
    ],
)
def test_records_of_other_examples_are_refused(numbers: tuple[int, ...], said: str) -> None:
    records = [record(n, True) for n in numbers]
    with pytest.raises(RequestError, match=said):
        summary.summarize("s", "id", EXAMPLES, records)
    with pytest.raises(RequestError, match=said):
        summary.compare(EXAMPLES, records, [record(n, True) for n in range(4)], ("s", "t"))


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(RequestError, match="no examples"):
        summary.summarize("s", "id", [], [])


def test_two_models_are_compared_example_by_example() -> None:
    examples = [example(n) for n in range(20)]
    a = [record(n, n < 10) for n in range(20)]
    b = [record(n, n >= 2) for n in range(20)]
    found = summary.compare(examples, a, b, ("a", "b"))
    assert (found.both_right, found.only_a_right, found.only_b_right, found.both_wrong) == (
        8, 2, 10, 0,
    )  # fmt: skip
    assert found.difference.value == pytest.approx(0.4)
    assert 0 < found.difference.low < 0.4 < found.difference.high < 1
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)


def test_a_model_against_itself_does_not_differ() -> None:
    examples = [example(n) for n in range(20)]
    a = [record(n, n % 3 == 0) for n in range(20)]
    found = summary.compare(examples, a, a, ("a", "b"))
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.p_value == 1


def test_every_pair_is_compared_and_p_values_are_adjusted_for_their_number() -> None:
    examples = [example(n) for n in range(30)]
    answers = {
        name: [record(n, n >= wrong) for n in range(30)]
        for name, wrong in (("a", 12), ("b", 6), ("c", 0))
    }
    found = summary.compare_all(examples, answers)
    assert [(c.a, c.b) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(c.p_holm >= c.p_value for c in found)
    strongest = min(found, key=lambda c: c.p_value)
    assert strongest.p_holm == pytest.approx(3 * strongest.p_value)
