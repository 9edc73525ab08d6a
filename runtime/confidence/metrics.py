"""Figures of a confidence: how well it ranks and how far it is from the truth, with intervals.

Pure numpy. Knows nothing about models, features or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], float]  # (scores, right) -> figure

BINS = 15


@dataclass(frozen=True)
class Interval:
    """A figure and its bootstrap interval; NaN where it cannot be computed."""

    value: float
    low: float
    high: float


def midranks(values: ArrayLike) -> Floats:
    """Ranks from 1; equal values share their mean rank."""
    values = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def auroc(scores: ArrayLike, right: ArrayLike) -> float:
    """P(a right answer scores above a wrong one), ties counted half; NaN when one class is absent.

    `scores` (n,), higher is surer; `right` (n,) of 0 and 1.
    """
    truth = np.asarray(right, dtype=np.float64)
    good = float(truth.sum())
    bad = len(truth) - good
    if good == 0 or bad == 0:
        return float("nan")
    total = float(midranks(scores)[truth == 1].sum())
    return (total - good * (good + 1) / 2) / (good * bad)


def brier(probabilities: ArrayLike, right: ArrayLike) -> float:
    """Mean squared distance of the probabilities from 0 and 1; 0 is perfect."""
    gap = np.asarray(probabilities, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    return float(np.mean(gap**2)) if len(gap) else float("nan")


@dataclass(frozen=True)
class Bin:
    """Answers of similar probability: how many, the mean probability, the share that is right."""

    count: int
    confidence: float
    accuracy: float


def bins(probabilities: ArrayLike, right: ArrayLike, wanted: int = BINS) -> list[Bin]:
    """Bins of equal mass, surest last; equal probabilities share a bin."""
    p = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(right, dtype=np.float64)
    place = _places(p, wanted)
    found = []
    for index in np.unique(place):
        inside = place == index
        found.append(Bin(int(inside.sum()), float(p[inside].mean()), float(truth[inside].mean())))
    return found


def ece(probabilities: ArrayLike, right: ArrayLike, wanted: int = BINS) -> float:
    """Expected calibration error over bins of equal mass."""
    found = bins(probabilities, right, wanted)
    total = sum(b.count for b in found)
    if not total:
        return float("nan")
    return sum(b.count * abs(b.confidence - b.accuracy) for b in found) / total


def ece_by_chance(
    probabilities: ArrayLike, wanted: int = BINS, *, draws: int = 500, seed: int = 0
) -> float:
    """The mean calibration error that perfectly calibrated probabilities would show here.

    Few examples in a bin differ from their probability by chance: a measured error has to be
    read against this one.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    rng = np.random.default_rng(seed)
    return float(np.mean([ece(p, rng.random(len(p)) < p, wanted) for _ in range(draws)]))


def risk_coverage(scores: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Coverage and error among the accepted, from the surest answer to all: two (levels,) arrays.

    One level for each distinct score: equal scores are accepted together.
    """
    s = np.asarray(scores, dtype=np.float64)
    wrong = 1 - np.asarray(right, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1) if len(s) else np.array([], int)
    accepted = ends + 1
    return accepted / max(len(s), 1), np.cumsum(wrong[order])[ends] / np.maximum(accepted, 1)


def augrc(scores: ArrayLike, right: ArrayLike) -> float:
    """Area under the generalized risk-coverage curve (arXiv 2407.01032): 0 is best, 0.5 worst.

    The mean share of all answers that are accepted and wrong, over every coverage. Unlike AUROC
    it knows how often the model is right. Ties count as their mean order.
    """
    truth = np.asarray(right, dtype=np.float64)
    n = len(truth)
    if not n:
        return float("nan")
    wrong = float(n - truth.sum())
    ranked = auroc(scores, truth)
    pairs = 0.0 if np.isnan(ranked) else (1 - ranked) * wrong * (n - wrong)
    return (pairs + wrong**2 / 2) / n**2


def bootstrap(
    statistic: Statistic,
    scores: ArrayLike,
    right: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """A figure with its percentile bootstrap interval; whole groups are drawn when given."""
    s = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(right, dtype=np.float64)
    values = [statistic(s[i], truth[i]) for i in resamples(len(s), groups, draws, seed)]
    return _interval(statistic(s, truth), values, level)


def ece_interval(
    probabilities: ArrayLike,
    right: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The calibration error with its 95% interval.

    A draw repeats examples and so always looks worse calibrated than the data it is drawn from:
    the draws are shifted by their mean excess.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(right, dtype=np.float64)
    value = ece(p, truth)
    values = [ece(p[i], truth[i]) for i in resamples(len(p), groups, draws, seed)]
    excess = float(np.mean(values)) - value if values else 0.0
    return _interval(value, [max(v - excess, 0.0) for v in values], 0.95)


def paired_difference(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    right: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """statistic(first) - statistic(second), both on the same examples in each draw."""
    a, b, truth = (np.asarray(x, dtype=np.float64) for x in (first, second, right))
    values = [
        statistic(a[i], truth[i]) - statistic(b[i], truth[i])
        for i in resamples(len(a), groups, draws, seed)
    ]
    return _interval(statistic(a, truth) - statistic(b, truth), values, level)


def resamples(
    n: int, groups: Sequence[str] | None, draws: int, seed: int
) -> list[NDArray[np.intp]]:
    """Indices of each bootstrap draw: of items, or of whole groups when these are given."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return [rng.integers(0, n, n) for _ in range(draws)] if n else []
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)] if n else []
    k = len(members)
    if not k:
        return []
    return [np.concatenate([members[g] for g in rng.integers(0, k, k)]) for _ in range(draws)]


def _places(p: Floats, wanted: int) -> NDArray[np.intp]:
    """The bin of each probability, by its mean rank: equal ones cannot be parted."""
    if not len(p):
        return np.zeros(0, dtype=np.intp)
    place: NDArray[np.intp] = ((midranks(p) - 0.5) / len(p) * wanted).astype(np.intp)
    return np.minimum(place, wanted - 1)


def _interval(value: float, values: list[float], level: float) -> Interval:
    kept = [v for v in values if not np.isnan(v)]
    if not kept:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
