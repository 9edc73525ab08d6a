from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import certificate
from ondevice.runtime.confidence.certificate import Outcome


@given(st.integers(1, 800), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_bound_is_that_of_clopper_and_pearson(
    n: int, data: st.DataObject, confidence: float
) -> None:
    from scipy.stats import beta

    errors = data.draw(st.integers(0, n))
    expected = 1.0 if errors == n else beta.ppf(confidence, errors + 1, n - errors)
    found = certificate.upper_bound(errors, n, confidence)
    assert found == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 800), st.data(), st.floats(0.001, 0.999))
def test_the_tail_is_that_of_the_binomial_distribution(
    n: int, data: st.DataObject, rate: float
) -> None:
    from scipy.stats import binom

    errors = data.draw(st.integers(0, n))
    assert certificate.binomial_tail(errors, n, rate) == pytest.approx(
        binom.cdf(errors, n, rate), abs=1e-9
    )


def test_the_bounds_of_the_research_page_come_out() -> None:
    found = [round(100 * certificate.upper_bound(e, 200), 1) for e in (0, 3, 5, 10)]
    assert found == [1.5, 3.8, 5.2, 8.3]
    found = [round(100 * certificate.upper_bound(e, 400), 1) for e in (0, 3, 5, 10)]
    assert found == [0.7, 1.9, 2.6, 4.2]


@given(st.integers(1, 600), st.sampled_from([0.02, 0.05, 0.1]), st.sampled_from([0.9, 0.95]))
def test_one_error_more_than_allowed_is_too_many(n: int, alpha: float, confidence: float) -> None:
    allowed = certificate.allowed_errors(n, alpha, confidence)
    if allowed >= 0:
        assert certificate.upper_bound(allowed, n, confidence) <= alpha + 1e-9
    assert certificate.upper_bound(allowed + 1, n, confidence) > alpha


@given(st.integers(0, 30), st.sampled_from([0.02, 0.05, 0.1]))
def test_needed_examples_are_the_fewest_that_prove_it(errors: int, alpha: float) -> None:
    n = certificate.needed_examples(alpha, 0.95, errors)
    assert certificate.upper_bound(errors, n) <= alpha + 1e-9
    assert certificate.upper_bound(errors, n - 1) > alpha


def test_a_bad_model_has_to_leave_much_to_others() -> None:
    assert certificate.needed_abstention(0.43, 0.05) == pytest.approx(0.4)
    assert certificate.needed_abstention(0.03, 0.05) == 0


def world(n: int, seed: int, ease: float = 1.5, spread: float = 3.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(ease, spread, n)))
    return p, (rng.random(n) < p).astype(float)


def certified(seed: int, alpha: float) -> tuple[Outcome, float]:
    """A certificate from 300 + 300 examples and the true error at its threshold."""
    p, right = world(600, seed)
    declared = certificate.declare(p[:300], right[:300], 300, alpha, 0.95)
    found = certificate.certify(declared, p[300:], right[300:], alpha, 0.95)
    everyone, _ = world(20_000, 10_000 + seed)
    if found.threshold is None:
        return found, 0.0
    return found, float(1 - everyone[everyone >= found.threshold].mean())


def test_a_certificate_is_broken_at_most_as_often_as_it_says() -> None:
    outcomes = [certified(seed, 0.1) for seed in range(150)]
    given_out = sum(found.certificate is not None for found, _ in outcomes)
    broken = sum(error > 0.1 for _, error in outcomes)
    assert given_out > 120  # it does certify where it can
    assert broken <= 14  # 5% of 150 are 7.5; 15 or more would be a 1% chance


def test_a_useless_confidence_is_certified_no_more_often_than_chance_allows() -> None:
    passed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p, right = rng.random(600), (rng.random(600) < 0.749).astype(float)
        declared = certificate.declare(p[:300], right[:300], 300, 0.25, 0.95)
        found = certificate.certify(declared, p[300:], right[300:], 0.25, 0.95)
        passed += found.certificate is not None
    assert 1 <= passed <= 18  # every threshold is just bad enough: 5% of 200 are 10


def test_thresholds_are_tested_from_strict_to_lax_until_one_fails() -> None:
    p = np.repeat([0.9, 0.6, 0.3], 100)
    right = np.ones(300)
    right[150:200] = 0  # the middle level fails, the last one would pass again at 20%
    found = certificate.certify([0.9, 0.6, 0.3], p, right, 0.2, 0.95)
    assert found.threshold == 0.9
    assert found.certificate is not None
    assert (found.certificate.accepted, found.certificate.errors) == (100, 0)
    assert found.certificate.local_share == pytest.approx(1 / 3)
    assert found.certificate.upper_bound == pytest.approx(0.0295, abs=1e-4)
    assert found.reason == ""


def test_declared_thresholds_come_from_the_threshold_split_and_go_down() -> None:
    p, right = world(300, 3)
    declared = certificate.declare(p, right, 300, 0.1, 0.95)
    assert declared == sorted(declared, reverse=True)
    assert len(declared) <= certificate.STEPS
    assert (p >= declared[0]).sum() >= certificate.needed_examples(0.1, 0.95)


def test_too_few_accepted_answers_are_named_with_how_many_are_needed() -> None:
    p, right = np.array([0.99] * 20 + [0.1] * 80), np.array([1.0] * 20 + [0.0] * 80)
    found = certificate.certify([0.99], p, right, 0.05, 0.95)
    assert found.certificate is None and found.threshold is None
    assert "only 20 of 100 answers are accepted," in found.reason
    assert "59 are needed" in found.reason
    assert "at least 79% would have to go elsewhere" in found.reason  # 80% are wrong


def test_too_many_errors_are_named_with_the_share_that_has_to_go_elsewhere() -> None:
    rng = np.random.default_rng(0)
    p, right = rng.random(300), (rng.random(300) < 0.5).astype(float)  # p says nothing
    found = certificate.certify([0.2], p, right, 0.05, 0.95)
    assert found.certificate is None
    share = certificate.needed_abstention(1 - right.mean(), 0.05)
    assert f"at least {share:.0%} would have to go elsewhere" in found.reason
    assert "allow more errors" in found.reason


def test_an_error_that_is_low_but_not_proved_asks_for_more_examples() -> None:
    p, right = np.full(100, 0.9), np.ones(100)
    right[:3] = 0
    found = certificate.certify([0.9], p, right, 0.05, 0.95)
    assert found.certificate is None
    assert "153 accepted answers would prove it" in found.reason


def test_a_model_that_is_never_right_cannot_be_certified() -> None:
    declared = certificate.declare(np.linspace(0, 1, 50), np.zeros(50), 50, 0.05, 0.95)
    found = certificate.certify(declared, np.linspace(0, 1, 50), np.zeros(50), 0.05, 0.95)
    assert "no answer of the threshold split was right" in found.reason


@pytest.mark.parametrize(("alpha", "confidence"), [(0, 0.95), (1, 0.95), (0.05, 1), (0.05, 0.2)])
def test_targets_that_make_no_sense_are_refused(alpha: float, confidence: float) -> None:
    with pytest.raises(CalibrationError, match="such as"):
        certificate.check_targets(alpha, confidence)


def test_resplits_count_how_often_the_promise_was_kept() -> None:
    p, right = world(1200, 5)
    found = certificate.resplits(p, right, n=100, max_error=0.1)
    assert found.n == 100 and found.certified > 50
    assert found.kept_share >= 0.9
    assert 0.2 < found.local_share < 0.9
    assert found.error < 0.1
    assert found == certificate.resplits(p, right, n=100, max_error=0.1)


def test_resplits_by_group_move_whole_groups() -> None:
    p, right = world(600, 6)
    groups = [f"t{i // 30}" for i in range(600)]
    split = certificate._splitter(600, groups, (0.25, 0.25), np.random.default_rng(0))
    for _ in range(20):
        sets = split()
        assert sorted(np.concatenate(sets).tolist()) == list(range(600))
        names = [{groups[i] for i in indices} for indices in sets]
        assert not names[0] & names[1] and not names[1] & names[2] and not names[0] & names[2]
        assert all(100 < len(indices) < 340 for indices in sets)
    assert certificate.resplits(p, right, groups, n=20, max_error=0.1).n == 20
