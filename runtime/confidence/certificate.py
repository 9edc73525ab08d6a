"""A promise about errors among accepted answers that holds with a stated confidence, or none.

Fixed-sequence testing (Bauer 1991; for thresholds: Angelopoulos et al., arXiv 2110.01052) with
the exact binomial bound of Clopper and Pearson. Knows probabilities and outcomes, no models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ondevice.errors import CalibrationError

STEPS = 40  # thresholds that are tried in turn, at most


@dataclass(frozen=True)
class Certificate:
    """Among answers at or above the threshold, at most `max_error` are wrong.

    Said with `confidence`, of new examples drawn like those of the certify split: there
    `accepted` of `examples` were accepted and `errors` of these were wrong, so that the one-sided
    upper bound of the error is `upper_bound`. `local_share` = accepted / examples.
    """

    max_error: float
    confidence: float
    accepted: int
    errors: int
    upper_bound: float
    local_share: float
    examples: int


@dataclass(frozen=True)
class Outcome:
    """A threshold with its certificate, or neither and the reason in words."""

    threshold: float | None
    certificate: Certificate | None
    reason: str = ""


def binomial_tail(errors: int, n: int, rate: float) -> float:
    """P(at most `errors` errors in `n` independent answers), each wrong with probability `rate`."""
    if errors >= n or rate <= 0:
        return 1.0
    if errors < 0 or rate >= 1:
        return 0.0
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    total = math.lgamma(n + 1)
    return math.fsum(
        math.exp(
            total - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_rate + (n - k) * log_rest
        )
        for k in range(errors + 1)
    )


def upper_bound(errors: int, n: int, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound of an error rate (Clopper and Pearson); 1 without answers."""
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_tail(errors, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def allowed_errors(n: int, max_error: float, confidence: float) -> int:
    """The most errors among `n` accepted answers that still pass; -1 when even none is too many."""
    term = (1 - max_error) ** n
    total, errors = term, -1
    while total <= 1 - confidence and errors < n:
        errors += 1
        term *= (n - errors) / (errors + 1) * max_error / (1 - max_error)
        total += term
    return errors


def needed_examples(max_error: float, confidence: float, errors: int = 0) -> int:
    """How many accepted answers, `errors` of them wrong, prove an error of at most `max_error`."""
    low, high = errors, errors + 1
    while binomial_tail(errors, high, max_error) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_tail(errors, middle, max_error) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def needed_abstention(base_risk: float, max_error: float) -> float:
    """The share that any method must not answer to have an error of `max_error` (2606.29054).

    Where nothing is known of the single answer. 0 when the model is good enough as it is.
    """
    return max(0.0, (base_risk - max_error) / (1 - max_error))


def check_targets(max_error: float, confidence: float) -> None:
    """Raise `CalibrationError` for a target that no certificate can have."""
    if not 0 < max_error < 1:
        raise CalibrationError(f"max error must be between 0 and 1, such as 0.05, not {max_error}")
    if not 0.5 <= confidence < 1:
        raise CalibrationError(
            f"confidence must be at least 0.5 and below 1, such as 0.95, not {confidence}"
        )


def declare(
    probabilities: ArrayLike,
    right: ArrayLike,
    size: int,
    max_error: float,
    confidence: float,
) -> list[float]:
    """The thresholds to test, strict to lax, from the threshold split alone.

    `size` is how many examples the certify split has. The first is the one most likely to pass
    there: a stricter one accepts too few answers to prove anything, and one failure ends the
    sequence. Empty when no threshold accepts a right answer.
    """
    p, truth = _arrays(probabilities, right)
    levels = np.unique(p[truth == 1])[::-1]
    if not len(levels):
        return []
    if len(levels) > STEPS:
        levels = levels[np.linspace(0, len(levels) - 1, STEPS).round().astype(int)]
    chances = [_chance(p, truth, level, size, max_error, confidence) for level in levels]
    first = int(np.argmax(chances))
    return [float(level) for level in levels[first:]]


def certify(
    thresholds: Sequence[float],
    probabilities: ArrayLike,
    right: ArrayLike,
    max_error: float,
    confidence: float,
) -> Outcome:
    """Test thresholds declared beforehand, in order, on the certify split.

    The last that passes before the first failure is taken: the chance that its error is above
    `max_error` is at most 1 - `confidence`, however many were tested.
    """
    check_targets(max_error, confidence)
    p, truth = _arrays(probabilities, right)
    passed: float | None = None
    for threshold in thresholds:
        accepted, errors = _accepted(p, truth, threshold)
        if not accepted or binomial_tail(errors, accepted, max_error) > 1 - confidence:
            break
        passed = threshold
    if passed is None:
        return Outcome(None, None, _why_not(thresholds, p, truth, max_error, confidence))
    accepted, errors = _accepted(p, truth, passed)
    bound = upper_bound(errors, accepted, confidence)
    share = accepted / len(p)
    found = Certificate(max_error, confidence, accepted, errors, bound, share, len(p))
    return Outcome(passed, found)


@dataclass(frozen=True)
class Resplits:
    """How certificates fared on examples they had not seen.

    Of `n` resplits `certified` gave a certificate; in `held` of these the error among accepted
    answers of the rest was at most `max_error`. Where nothing is certified nothing is promised,
    so that the promise was kept in `n - certified + held`. Shares are means over the certified.
    """

    n: int
    certified: int
    held: int
    local_share: float
    error: float

    @property
    def held_share(self) -> float:
        """Share of the certificates that held; NaN without any."""
        return self.held / self.certified if self.certified else float("nan")

    @property
    def kept_share(self) -> float:
        """Share of all resplits in which no promise was broken: the guarantee is about this one."""
        return (self.n - self.certified + self.held) / self.n


def resplits(
    probabilities: ArrayLike,
    right: ArrayLike,
    groups: Sequence[str] | None = None,
    n: int = 200,
    seed: int = 0,
    *,
    max_error: float = 0.05,
    confidence: float = 0.95,
    shares: tuple[float, float] = (0.25, 0.25),
) -> Resplits:
    """Make the certificate anew on `n` random splits and look at it on the rest.

    `shares` of the examples choose and certify the threshold. With `groups` whole groups (such
    as templates) are moved, which is harder than the guarantee promises: examples of a group
    resemble each other.
    """
    check_targets(max_error, confidence)
    p, truth = _arrays(probabilities, right)
    split = _splitter(len(p), groups, shares, np.random.default_rng(seed))
    outcomes: list[tuple[float, float]] = []
    for _ in range(n):
        choose, prove, rest = split()
        declared = declare(p[choose], truth[choose], len(prove), max_error, confidence)
        found = certify(declared, p[prove], truth[prove], max_error, confidence)
        if found.threshold is not None:
            accepted, errors = _accepted(p[rest], truth[rest], found.threshold)
            outcomes.append((accepted / max(len(rest), 1), errors / max(accepted, 1)))
    held = sum(error <= max_error for _, error in outcomes)
    local, error = np.mean(outcomes, axis=0) if outcomes else (float("nan"), float("nan"))
    return Resplits(n, len(outcomes), held, float(local), float(error))


Indices = NDArray[np.intp]


def _splitter(
    n: int, groups: Sequence[str] | None, shares: tuple[float, float], rng: np.random.Generator
) -> Callable[[], tuple[Indices, Indices, Indices]]:
    """Draws of three sets of indices: to choose, to prove, and the rest."""
    names = np.arange(n) if groups is None else np.asarray(groups, dtype=str)
    _, codes = np.unique(names, return_inverse=True)

    def draw() -> tuple[Indices, Indices, Indices]:
        order = rng.permutation(codes.max() + 1)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        items = np.argsort(place[codes], kind="stable")
        # A group belongs to the set in which its first item lies.
        starts = np.searchsorted(place[codes][items], place[codes][items])
        first, second = shares[0] * n, (shares[0] + shares[1]) * n
        sets = np.where(starts < first, 0, np.where(starts < second, 1, 2))
        return items[sets == 0], items[sets == 1], items[sets == 2]

    return draw


def _arrays(
    probabilities: ArrayLike, right: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(probabilities, np.float64), np.asarray(right, np.float64)


def _chance(
    p: NDArray[np.float64],
    truth: NDArray[np.float64],
    threshold: float,
    size: int,
    max_error: float,
    confidence: float,
) -> float:
    """The chance to pass with `size` examples, if the split at hand is like the one to come.

    The error is taken as half of what was counted, which is noisy, and half of what the
    probabilities say, which is smooth; half an error more, since none in few is no proof.
    """
    accepted, errors = _accepted(p, truth, threshold)
    expected = round(accepted / len(p) * size)
    stated = float((1 - p[p >= threshold]).sum())
    rate = ((errors + stated) / 2 + 0.5) / (accepted + 1)
    return binomial_tail(allowed_errors(expected, max_error, confidence), expected, rate)


def _accepted(
    p: NDArray[np.float64], truth: NDArray[np.float64], threshold: float
) -> tuple[int, int]:
    inside = p >= threshold
    accepted = int(inside.sum())
    return accepted, accepted - int(truth[inside].sum())


def _why_not(
    thresholds: Sequence[float],
    p: NDArray[np.float64],
    truth: NDArray[np.float64],
    max_error: float,
    confidence: float,
) -> str:
    """The reason in words why no threshold passed, and what would help."""
    promise = f"an error of at most {max_error:.1%} with {confidence:.0%} confidence"
    if not thresholds:
        return f"cannot certify {promise}: no answer of the threshold split was right"
    accepted, errors = _accepted(p, truth, thresholds[0])
    return (
        f"cannot certify {promise}: "
        + (
            _too_few(accepted, errors, len(p), needed_examples(max_error, confidence))
            if accepted < needed_examples(max_error, confidence)
            else _too_wrong(accepted, errors, max_error, confidence)
        )
        + _infeasible(1 - float(truth.mean()) if len(truth) else 1.0, max_error)
    )


def _too_few(accepted: int, errors: int, examples: int, least: int) -> str:
    wrong = f", {errors} of them wrong" if errors else ""
    return (
        f"only {accepted} of {examples} answers are accepted{wrong}, and even without an error "
        f"{least} are needed; give more examples to certify on, or allow more errors"
    )


def _too_wrong(accepted: int, errors: int, max_error: float, confidence: float) -> str:
    bound = upper_bound(errors, accepted, confidence)
    seen = f"{errors} of {accepted} accepted answers are wrong ({errors / accepted:.1%}, upper "
    seen += f"bound {bound:.1%})"
    if errors / accepted < max_error:
        more = needed_examples(max_error, confidence, errors)
        return f"{seen}; at this many errors {more} accepted answers would prove it: give more"
    return f"{seen}; the confidence does not tell these errors apart: allow more errors"


def _infeasible(risk: float, max_error: float) -> str:
    if risk <= max_error:
        return ""
    return (
        f" (the model is wrong on {risk:.0%} of all: at least "
        f"{needed_abstention(risk, max_error):.0%} would have to go elsewhere)"
    )
