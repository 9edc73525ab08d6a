"""The five factors: scores, means, hard constraints."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.advise.factors import FACTORS, NAMES, Constraints, Scores, from_mapping, recommend
from ondevice.errors import RequestError

SCORE = st.integers(1, 5)


def scores(total: int) -> Scores:
    """Five scores with this sum."""
    given_out = [1] * 5
    for at in range(total - 5):
        given_out[at % 5] += 1
    return Scores(*given_out)


@pytest.mark.parametrize(
    ("total", "choice"),
    [(5, "small"), (12, "small"), (13, "hybrid"), (17, "hybrid"), (18, "large"), (25, "large")],
)
def test_the_mean_decides(total: int, choice: str) -> None:
    verdict = recommend(scores(total))
    assert verdict.choice == verdict.by_scores == choice
    assert verdict.mean == Fraction(total, 5)
    assert not verdict.doubtful


@given(st.lists(SCORE, min_size=5, max_size=5))
def test_exactly_the_ranges_of_the_mean(values: list[int]) -> None:
    choice = recommend(Scores(*values)).choice
    mean = sum(values) / 5
    assert choice == ("small" if mean < 2.5 else "hybrid" if mean <= 3.5 else "large")


@given(st.lists(SCORE, min_size=5, max_size=5), st.integers(0, 4))
def test_a_higher_score_never_speaks_for_a_smaller_model(values: list[int], at: int) -> None:
    order = ["small", "hybrid", "large"]
    higher = [*values[:at], min(5, values[at] + 1), *values[at + 1 :]]
    before, after = recommend(Scores(*values)), recommend(Scores(*higher))
    assert order.index(after.choice) >= order.index(before.choice)


@pytest.mark.parametrize("limits", [Constraints(True, False), Constraints(False, True)])
def test_a_hard_constraint_leaves_a_small_model_or_none(limits: Constraints) -> None:
    verdict = recommend(scores(22), limits)
    assert (verdict.choice, verdict.by_scores, verdict.doubtful) == ("small", "large", True)
    assert limits.reasons in verdict.why
    assert "small model or none" in verdict.why
    agreed = recommend(scores(7), limits)
    assert (agreed.choice, agreed.doubtful) == ("small", False)


def test_constraints_rule_out_what_leaves_the_house() -> None:
    offline, private = Constraints(True, False), Constraints(False, True)
    ways = ("api", "gpu", "device", "hybrid")
    assert [way for way in ways if not offline.rules_out(way)] == ["device"]
    assert [way for way in ways if not private.rules_out(way)] == ["gpu", "device"]
    assert not any(Constraints().rules_out(way) for way in ways)


@pytest.mark.parametrize("value", [0, 6, -1, 99, True, 2.5])
def test_a_score_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(RequestError, match=r"knowledge: .* is no score"):
        Scores(1, value, 1, 1, 1)


def test_missing_scores_are_all_named() -> None:
    with pytest.raises(RequestError, match="no score for knowledge, quality"):
        from_mapping({"complexity": 1, "deployment": 1, "volume": 1})


def test_every_score_of_every_factor_has_its_own_sentence() -> None:
    sentences = [meaning for factor in FACTORS for meaning in factor.meanings]
    assert len(set(sentences)) == 25
    assert all(sentence.endswith(".") for sentence in sentences)
    assert NAMES == ("complexity", "knowledge", "deployment", "volume", "quality")
