"""Small or large for each request: rules compared on recorded answers of both.

A rule is a score for each request, higher is safer to keep on the device, and a threshold. Knows
arrays of outcomes and costs; no models, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.runtime.confidence.metrics import Interval, resamples

Floats = NDArray[np.float64]

DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What both models made of the same `n` requests.

    `small`, `large` (n,) of 0 and 1; `price` (n,) USD that the large one's answer costs,
    retries included; `local` (n,) USD of electricity for the small one's; `groups` templates.
    """

    small: Floats
    large: Floats
    price: Floats
    local: Floats
    groups: tuple[str, ...]

    def take(self, index: NDArray[np.intp]) -> Outcomes:
        """The outcomes at these indices."""
        return Outcomes(
            self.small[index],
            self.large[index],
            self.price[index],
            self.local[index],
            tuple(self.groups[i] for i in index),
        )


def together(*parts: Outcomes) -> Outcomes:
    """The outcomes of several splits as one."""
    return Outcomes(
        np.concatenate([part.small for part in parts]),
        np.concatenate([part.large for part in parts]),
        np.concatenate([part.price for part in parts]),
        np.concatenate([part.local for part in parts]),
        tuple(group for part in parts for group in part.groups),
    )


@dataclass(frozen=True)
class Result:
    """A rule on one set: shares from 0 to 1, `loss` in points of accuracy (0 to 1) below the
    large model alone, `cost_cut` against it with drafts and retries counted."""

    name: str
    local_share: Interval
    accuracy: Interval
    loss: Interval
    cost_cut: Interval


def figures(of: Outcomes, keep: Floats, drafted: bool) -> tuple[float, float, float, float]:
    """Local share, accuracy, loss and cost cut when request i stays local with probability
    `keep[i]`; `drafted`: the small model answered every request before it was decided."""
    away = 1 - keep
    accuracy = float(np.mean(keep * of.small + away * of.large))
    spent = float((away * of.price).sum() + (of.local * (1 if drafted else keep)).sum())
    alone = float(of.price.sum())
    return float(keep.mean()), accuracy, float(of.large.mean()) - accuracy, 1 - spent / alone


def result(name: str, of: Outcomes, keep: Floats, *, drafted: bool = True) -> Result:
    """The figures with 95% intervals, whole templates drawn."""
    values = np.array(figures(of, keep, drafted))
    drawn = np.array(
        [
            figures(of.take(index), keep[index], drafted)
            for index in resamples(len(keep), of.groups, DRAWS, 0)
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Result(
        name, *(Interval(*map(float, row)) for row in zip(values, low, high, strict=True))
    )


def threshold(scores: Floats, of: Outcomes, max_loss: float) -> float:
    """The threshold that keeps most requests local with a loss of at most `max_loss`; infinite
    when only the large model alone loses so little. Equal scores are decided alike."""
    best, share = np.inf, 0.0
    for level in np.unique(scores):
        keep = (scores >= level).astype(np.float64)
        kept, _, loss, _ = figures(of, keep, drafted=True)
        if loss <= max_loss and kept > share:
            best, share = float(level), kept
    return best


def simulated_large(small: Floats, accuracy: float, correlation: float, seed: int) -> Floats:
    """Outcomes (n,) of a simulated model of this accuracy, correlated (phi) with the small one's.

    The two conditional accuracies follow from the joint Bernoulli distribution with the given
    phi, cut to what is possible.
    """
    p, q = float(small.mean()), accuracy
    covariance = correlation * np.sqrt(p * (1 - p) * q * (1 - q))
    both = min(p * q + covariance, min(p, q))
    given_right = min(both / p, 1.0) if p else q
    given_wrong = min((q - both) / (1 - p), 1.0) if p < 1 else q
    chance = np.where(small == 1, given_right, given_wrong)
    drawn: Floats = (np.random.default_rng(seed).random(len(small)) < chance).astype(np.float64)
    return drawn


def oracle(of: Outcomes, max_loss: float) -> Floats:
    """Who should keep it, seen afterwards: local wherever that loses nothing, then, as far as
    `max_loss` allows, where it does."""
    keep = ((of.small == 1) | (of.large == 0)).astype(np.float64)
    gained = int(((of.small == 1) & (of.large == 0)).sum())
    allowed = gained + int(np.floor(max_loss * len(keep)))
    losing: Sequence[int] = np.flatnonzero(keep == 0)[:allowed].tolist()
    keep[losing] = 1
    return keep
