from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.routing import Outcomes, figures, oracle, result, simulated_large, threshold


def outcomes(small: list[int], large: list[int]) -> Outcomes:
    n = len(small)
    return Outcomes(
        np.array(small, float),
        np.array(large, float),
        np.full(n, 2.0),
        np.full(n, 0.5),
        tuple(f"t{i // 2}" for i in range(n)),
    )


PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


def test_figures_are_as_computed_by_hand() -> None:
    of = outcomes([1, 0, 1, 0], [1, 1, 0, 1])
    share, accuracy, loss, cut = figures(of, np.array([1.0, 0, 1, 0]), drafted=True)
    assert (share, accuracy, loss) == (0.5, 1.0, -0.25)
    assert cut == 1 - (2 * 2 + 4 * 0.5) / 8
    assert figures(of, np.array([1.0, 0, 1, 0]), drafted=False)[3] == 1 - (4 + 1) / 8


@given(PAIRS, st.lists(st.integers(0, 5), min_size=30, max_size=30))
def test_the_chosen_threshold_keeps_the_loss_and_no_other_keeps_more(
    pairs: list[tuple[int, int]], levels: list[int]
) -> None:
    of = outcomes(*map(list, zip(*pairs, strict=True)))
    scores = np.array(levels[: len(pairs)], float)
    level = threshold(scores, of, 0.025)
    kept, _, loss, _ = figures(of, (scores >= level).astype(float), True)
    assert loss <= 0.025
    for other in np.unique(scores):
        share, _, its_loss, _ = figures(of, (scores >= other).astype(float), True)
        assert share <= kept or its_loss > 0.025


@given(PAIRS)
def test_nothing_keeps_more_local_than_the_oracle_at_its_loss(
    pairs: list[tuple[int, int]],
) -> None:
    of = outcomes(*map(list, zip(*pairs, strict=True)))
    share, _, loss, _ = figures(of, oracle(of, 0.025), True)
    assert loss <= 0.025 + 1e-9
    scores = of.small - of.large
    kept = figures(of, (scores >= threshold(scores, of, 0.025)).astype(float), True)[0]
    assert share >= kept - 1e-9


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_simulated_model_has_the_accuracy_and_correlation_asked_for(correlation: float) -> None:
    small = (np.random.default_rng(1).random(200_000) < 0.9).astype(float)
    large = simulated_large(small, 0.9, correlation, 2)
    assert large.mean() == pytest.approx(0.9, abs=0.005)
    assert np.corrcoef(small, large)[0, 1] == pytest.approx(correlation, abs=0.02)


def test_a_result_lies_inside_its_interval() -> None:
    of = outcomes([1, 0] * 20, [1, 1] * 20)
    found = result("x", of, of.small)
    for interval in (found.local_share, found.accuracy, found.loss, found.cost_cut):
        assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9
