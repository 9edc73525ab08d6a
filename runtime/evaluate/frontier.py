"""What a small and a large subject would do together, at every threshold of confidence.

Computed from the records of both; nothing is asked anew. The small subject always answers first
and its answer is kept where its confidence reaches the threshold, so that its time and cost
count in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import RequestError
from ondevice.runtime.confidence.features import NAMES
from ondevice.runtime.confidence.metrics import auroc
from ondevice.runtime.evaluate import statistics
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record
from ondevice.runtime.evaluate.statistics import Estimate
from ondevice.runtime.evaluate.summary import aligned

LOSS_POINTS = 2.5
"""Points of accuracy below the large subject at which the local share is read off."""

_MEAN_LOGPROB = NAMES.index("logprob_mean")


@dataclass(frozen=True)
class Point:
    """All examples at one threshold; an answer stays local with a confidence of at least it.

    `threshold` None keeps nothing local. Cost and latency are means for one example, drafts that
    were given up included; `random_accuracy` and `oracle_accuracy` are of routing the same share
    by chance and with knowledge of the verdicts.
    """

    threshold: float | None
    local_share: float
    accuracy: Estimate
    cost_usd: float
    latency_s: float
    random_accuracy: float
    oracle_accuracy: float


@dataclass(frozen=True)
class Frontier:
    """Points from all large to all local.

    `confidence` says what the thresholds are of. `auroc` is how well it ranks the small
    subject's answers, None where all are right or wrong. `at_loss` is the point of the largest
    local share whose accuracy is at most `loss_points` below the large subject's: it is chosen
    and measured on the same examples, hence too hopeful. `kept_after_failure` counts examples to
    which the large subject had no answer: the local one is kept there.
    """

    small: str
    large: str
    confidence: str
    n: int
    small_accuracy: Estimate
    large_accuracy: Estimate
    large_cost_usd: float
    large_latency_s: float
    auroc: float | None
    kept_after_failure: int
    points: tuple[Point, ...]
    loss_points: float
    at_loss: Point | None


def mean_logprob(record: Record) -> float:
    """Mean log-probability of the answer's tokens, nats; minus infinity without an answer."""
    if record.error or len(record.features) != len(NAMES):
        return -math.inf
    return record.features[_MEAN_LOGPROB]


def has_confidence(records: Sequence[Record]) -> bool:
    """Whether the answers came with the features that confidence is made from."""
    answered = [record for record in records if not record.error]
    return bool(answered) and all(len(record.features) == len(NAMES) for record in answered)


def frontier(
    examples: Sequence[Example],
    small: Sequence[Record],
    large: Sequence[Record],
    confidences: Sequence[float],
    *,
    names: tuple[str, str],
    confidence: str,
) -> Frontier:
    """The frontier of two subjects' records; `confidences` belong to the examples in order.

    Minus infinity marks an answer that is never kept. Raises `RequestError` when the records are
    not of the examples or a confidence is no number.
    """
    mine, theirs = aligned(names[0], examples, small), aligned(names[1], examples, large)
    if len(confidences) != len(examples) or any(math.isnan(c) for c in confidences):
        raise RequestError(f"{names[0]} needs one confidence for each of {len(examples)} examples")
    data = _Arrays.of(mine, theirs, confidences)
    points = tuple(data.point(threshold) for threshold in data.thresholds())
    ranked = auroc(confidences, [r.right for r in mine])
    return Frontier(
        small=names[0],
        large=names[1],
        confidence=confidence,
        n=len(examples),
        small_accuracy=statistics.share(sum(r.right for r in mine), len(mine)),
        large_accuracy=statistics.share(sum(r.right for r in theirs), len(theirs)),
        large_cost_usd=float(data.large_cost.mean()),
        large_latency_s=float(data.large_latency.mean()),
        auroc=None if math.isnan(ranked) else ranked,
        kept_after_failure=sum(bool(r.error) for r in theirs),
        points=points,
        loss_points=LOSS_POINTS,
        at_loss=_at_loss(points, sum(r.right for r in theirs) / len(theirs)),
    )


def _at_loss(points: Sequence[Point], large_accuracy: float) -> Point | None:
    floor = large_accuracy - LOSS_POINTS / 100 - 1e-12
    held = [point for point in points if point.accuracy.value >= floor]
    return max(held, key=lambda point: point.local_share, default=None)


@dataclass(frozen=True)
class _Arrays:
    """Both subjects' figures by example (n,), floats; `large_right` after keeping local answers
    where the large subject had none."""

    confidence: NDArray[np.float64]
    small_right: NDArray[np.float64]
    large_right: NDArray[np.float64]
    small_cost: NDArray[np.float64]
    large_cost: NDArray[np.float64]
    small_latency: NDArray[np.float64]
    large_latency: NDArray[np.float64]

    @classmethod
    def of(
        cls, small: Sequence[Record], large: Sequence[Record], confidences: Sequence[float]
    ) -> _Arrays:
        pairs = list(zip(small, large, strict=True))
        return cls(
            confidence=np.asarray(confidences, np.float64),
            small_right=np.array([float(s.right) for s in small]),
            large_right=np.array([float(s.right if t.error else t.right) for s, t in pairs]),
            small_cost=np.array([s.cost_usd for s in small]),
            large_cost=np.array([t.cost_usd for t in large]),
            small_latency=np.array([s.latency_s for s in small]),
            large_latency=np.array([t.latency_s for t in large]),
        )

    def thresholds(self) -> list[float | None]:
        """None, then every confidence that occurs, from strict to lax."""
        distinct = np.unique(self.confidence[np.isfinite(self.confidence)])
        return [None, *(float(value) for value in distinct[::-1])]

    def point(self, threshold: float | None) -> Point:
        n = len(self.confidence)
        local = np.zeros(n, np.bool_) if threshold is None else self.confidence >= threshold
        right = int(np.where(local, self.small_right, self.large_right).sum())
        kept = int(local.sum())
        share = kept / n
        return Point(
            threshold=threshold,
            local_share=share,
            accuracy=statistics.share(right, n),
            cost_usd=float((self.small_cost + np.where(local, 0.0, self.large_cost)).mean()),
            latency_s=float((self.small_latency + np.where(local, 0.0, self.large_latency)).mean()),
            random_accuracy=float(
                share * self.small_right.mean() + (1 - share) * self.large_right.mean()
            ),
            oracle_accuracy=self._oracle(kept),
        )

    def _oracle(self, kept: int) -> float:
        """Accuracy when the `kept` answers that gain most by staying local stay."""
        gains = np.sort(self.small_right - self.large_right)[::-1]
        return float((self.large_right.sum() + gains[:kept].sum()) / len(gains))
