from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ondevice.runtime.evaluate import statistics


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_wilsons(case: tuple[int, int]) -> None:
    right, of = case
    expected = binomtest(right, of).proportion_ci(0.95, method="wilson")
    found = statistics.share(right, of)
    assert found.value == right / of
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test_of_one_half(a: int, b: int) -> None:
    expected = binomtest(a, a + b).pvalue if a + b else 1.0
    assert statistics.mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_holds_for_counts_beyond_floating_point() -> None:
    assert statistics.mcnemar(3000, 3000) == 1.0
    assert 0 <= statistics.mcnemar(0, 5000) < 1e-300


def test_holm_adjusts_step_by_step() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_kappa_of_the_textbook_example() -> None:
    a = [True] * 25 + [False] * 25
    b = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert statistics.kappa(a, b) == pytest.approx(0.4)
    assert statistics.kappa([True], [True]) is None
    assert statistics.kappa([], []) is None


def test_templates_that_decide_everything_make_the_interval_wider() -> None:
    values = [float(i // 20 % 2) for i in range(1600)]
    templates = [f"t{i // 20}" for i in range(1600)]
    by_example = statistics.mean(values)
    by_template = statistics.mean(values, templates)
    assert (by_example.method, by_template.method) == (
        "bootstrap by example",
        "bootstrap by template",
    )
    assert by_template.value == by_example.value == 0.5
    wide, narrow = (e.high - e.low for e in (by_template, by_example))
    assert narrow == pytest.approx(2 * 1.96 * 0.0125, rel=0.1)
    assert wide == pytest.approx(narrow * 20**0.5, rel=0.15)


def test_few_templates_are_not_resampled() -> None:
    assert statistics.mean([1.0, 0.0] * 8, ["a", "b", "c", "d"] * 4).method.endswith("example")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 5))
def test_a_mean_lies_in_its_interval_and_repeats(values: list[float], seed: int) -> None:
    found = statistics.mean(values, seed=seed)
    assert found == statistics.mean(values, seed=seed)
    assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12


def test_percentiles_of_nothing_are_none() -> None:
    assert statistics.spread([]) is None
    assert statistics.spread([1.0, 2.0, 3.0]) == statistics.Spread(3, 2.0, pytest.approx(2.9))
