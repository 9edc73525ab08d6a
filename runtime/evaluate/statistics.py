"""Intervals and tests for shares, means and pairs of answers to the same examples.

Knows numbers and groups of examples; nothing about models. All intervals are 95%.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["Wilson", "bootstrap by template", "bootstrap by example"]

Z = 1.959963984540054  # 97.5th percentile of the standard normal distribution
RESAMPLES = 2000
FEWEST_CLUSTERS = 5  # with fewer templates, resampling them says nothing
_BLOCK = 250  # resamples drawn at once: bounds the memory


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval, and how the interval was made."""

    value: float
    low: float
    high: float
    method: Method


@dataclass(frozen=True)
class Spread:
    """Median and 95th percentile of `n` measurements (linear interpolation)."""

    n: int
    median: float
    p95: float


def share(right: int, of: int) -> Estimate:
    """A share with its score interval (Wilson 1927, without continuity correction).

    It treats the examples as independent of each other. `of` is at least 1.
    """
    value = right / of
    middle = (value + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z * math.sqrt(value * (1 - value) / of + Z * Z / (4 * of * of)) / (1 + Z * Z / of)
    low = 0.0 if right == 0 else max(0.0, middle - half)
    high = 1.0 if right == of else min(1.0, middle + half)
    return Estimate(value, low, high, "Wilson")


def mean(values: Sequence[float], clusters: Sequence[str] = (), seed: int = 0) -> Estimate:
    """A mean with its percentile bootstrap interval; at least one value.

    `clusters` (one name for each value, "" for none) are resampled whole, because examples of one
    template resemble each other; with fewer than five names the examples are resampled. Equal
    arguments give equal intervals.
    """
    data = np.asarray(values, np.float64)
    groups, method = _groups(clusters, len(data))
    means = _resampled_means(data, groups, seed)
    low, high = (float(v) for v in np.percentile(means, (2.5, 97.5)))
    return Estimate(float(data.mean()), low, high, method)


def spread(values: Sequence[float]) -> Spread | None:
    """Median and p95; None without values."""
    if not values:
        return None
    median, p95 = (float(v) for v in np.percentile(np.asarray(values, np.float64), (50, 95)))
    return Spread(len(values), median, p95)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of McNemar's test: `only_a` and `only_b` count the examples that
    one of two models got right and the other wrong (binomial test of one half)."""
    discordant = only_a + only_b
    least = min(only_a, only_b)
    if discordant == 0:
        return 1.0
    # Whole numbers, so that no term underflows; the quotient alone is rounded.
    tail = sum(math.comb(discordant, k) for k in range(least + 1))
    return min(1.0, 2 * tail / 2**discordant) if 2 * tail < 2**discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def kappa(a: Sequence[bool], b: Sequence[bool]) -> float | None:
    """Cohen's kappa of two judges: agreement beyond chance; None where chance leaves no room."""
    n = len(a)
    if n == 0:
        return None
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    yes_a, yes_b = sum(a) / n, sum(b) / n
    chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def _groups(clusters: Sequence[str], n: int) -> tuple[NDArray[np.intp], Method]:
    """For each of `n` values the number of its cluster. An example without a name is its own."""
    names: list[Hashable] = [name or i for i, name in enumerate(clusters)]
    if len({name for name in clusters if name}) < FEWEST_CLUSTERS:
        return np.arange(n), "bootstrap by example"
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names]), "bootstrap by template"


def _resampled_means(
    data: NDArray[np.float64], groups: NDArray[np.intp], seed: int
) -> NDArray[np.float64]:
    """Means (RESAMPLES,) of samples that draw whole groups with replacement."""
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=data)
    chance = np.random.default_rng(seed)
    means = []
    for start in range(0, RESAMPLES, _BLOCK):
        rows = min(_BLOCK, RESAMPLES - start)
        drawn = chance.integers(0, len(sizes), (rows, len(sizes)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
