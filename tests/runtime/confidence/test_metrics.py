from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.runtime.confidence import metrics

SCORED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]), st.booleans()),
    min_size=1,
    max_size=40,
)


def arrays(scored: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in scored]), np.array([float(r) for _, r in scored])


@given(SCORED)
def test_auroc_is_the_share_of_pairs_in_the_right_order(scored: list[tuple[float, bool]]) -> None:
    scores, right = arrays(scored)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[right == 1] for b in scores[right == 0]]
    found = metrics.auroc(scores, right)
    assert math.isnan(found) if not pairs else found == pytest.approx(np.mean(pairs))


@given(SCORED)
def test_auroc_agrees_with_scikit_learn(scored: list[tuple[float, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, right = arrays(scored)
    if 0 < right.sum() < len(right):
        assert metrics.auroc(scores, right) == pytest.approx(roc_auc_score(right, scores))


def test_auroc_takes_answers_without_a_confidence_as_least_sure() -> None:
    assert metrics.auroc([-math.inf, 0.5, 0.9], [False, True, True]) == 1


def test_augrc_is_the_area_under_the_share_of_accepted_errors() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(50) / 50
    right = (rng.random(50) < scores).astype(float)
    order = np.argsort(-scores)
    wrong = np.append(0, np.cumsum(1 - right[order])) / 50  # accepted and wrong, share of all
    area = float(np.mean((wrong[1:] + wrong[:-1]) / 2))
    assert metrics.augrc(scores, right) == pytest.approx(area)


def test_augrc_knows_how_often_the_model_is_right() -> None:
    scores = np.arange(10.0)
    assert metrics.augrc(scores, np.ones(10)) == 0
    assert metrics.augrc(scores, np.zeros(10)) == 0.5
    few, many = np.array([0.0] + [1.0] * 9), np.array([0.0] * 5 + [1.0] * 5)
    assert metrics.auroc(scores, few) == metrics.auroc(scores, many) == 1
    assert metrics.augrc(scores, few) < metrics.augrc(scores, many)


def test_the_calibration_error_is_the_distance_between_stated_and_seen() -> None:
    p = np.array([0.2] * 10 + [0.9] * 10)
    right = np.array([1.0] * 4 + [0.0] * 6 + [1.0] * 8 + [0.0] * 2)
    assert metrics.ece(p, right) == pytest.approx((0.2 + 0.1) / 2)
    assert metrics.brier(p, right) == pytest.approx(np.mean((p - right) ** 2))


@given(SCORED, st.randoms())
def test_the_calibration_error_does_not_depend_on_the_order(
    scored: list[tuple[float, bool]], random: object
) -> None:
    p, right = arrays(scored)
    order = np.argsort([random.random() for _ in scored])  # type: ignore[attr-defined]
    assert metrics.ece(p, right) == pytest.approx(metrics.ece(p[order], right[order]))


@given(SCORED)
def test_bins_hold_every_answer_once_and_never_part_equal_probabilities(
    scored: list[tuple[float, bool]],
) -> None:
    p, right = arrays(scored)
    found = metrics.bins(p, right)
    assert sum(b.count for b in found) == len(p)
    assert sum(b.count * b.accuracy for b in found) == pytest.approx(right.sum())
    assert len(found) <= min(metrics.BINS, len(set(p)))


def test_perfect_probabilities_show_the_error_that_chance_predicts() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(300)
    seen = [metrics.ece(p, rng.random(300) < p) for _ in range(100)]
    assert metrics.ece_by_chance(p) == pytest.approx(np.mean(seen), abs=0.005)
    assert metrics.ece_by_chance(p) > 0.04


def test_risk_rises_to_the_base_rate_and_ties_are_accepted_together() -> None:
    coverage, risk = metrics.risk_coverage([0.9, 0.9, 0.5, 0.1], [1, 0, 1, 0])
    assert coverage.tolist() == [0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.5, 1 / 3, 0.5])


def test_the_bootstrap_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for draw in range(60):
        latent = rng.normal(size=200)
        right = (rng.random(200) < 0.5).astype(float)
        scores = latent + right  # AUROC of two normals one deviation apart: 0.7602
        found = metrics.bootstrap(metrics.auroc, scores, right, draws=200, seed=draw)
        held += found.low <= 0.7602 <= found.high
    assert 50 <= held <= 60


def test_whole_groups_give_wider_intervals_when_groups_resemble_each_other() -> None:
    rng = np.random.default_rng(3)
    groups = [f"g{i // 10}" for i in range(300)]
    right = (rng.random(300) < np.repeat(rng.random(30) < 0.5, 10) * 0.8 + 0.1).astype(float)
    scores = rng.normal(size=300) / 5 + np.repeat(rng.normal(size=30), 10)
    one = metrics.bootstrap(metrics.auroc, scores, right, draws=200)
    by_group = metrics.bootstrap(metrics.auroc, scores, right, groups, draws=200)
    assert by_group.high - by_group.low > 1.5 * (one.high - one.low)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(4)
    latent = rng.normal(size=300)
    right = (rng.random(300) < 1 / (1 + np.exp(-2 * latent))).astype(float)
    better, worse = latent, latent + rng.normal(0, 0.8, 300)
    found = metrics.paired_difference(metrics.auroc, better, worse, right, draws=300)
    alone = metrics.bootstrap(metrics.auroc, better, right, draws=300)
    assert found.value == pytest.approx(metrics.auroc(better, right) - metrics.auroc(worse, right))
    assert 0 < found.low < found.value < found.high
    assert found.high - found.low < 2 * (alone.high - alone.low)


def test_the_interval_of_the_calibration_error_is_around_its_value() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(400)
    right = (rng.random(400) < p).astype(float)
    found = metrics.ece_interval(p, right, draws=200)
    assert found.low < found.value < found.high


def test_equal_seeds_give_equal_intervals() -> None:
    scores, right = np.arange(20.0), np.arange(20) % 3 == 0
    one = metrics.bootstrap(metrics.auroc, scores, right, draws=50, seed=7)
    assert one == metrics.bootstrap(metrics.auroc, scores, right, draws=50, seed=7)
    assert one != metrics.bootstrap(metrics.auroc, scores, right, draws=50, seed=8)
