"""Logistic regression with its penalty chosen by grouped cross-validation, and Platt scaling.

Knows matrices, outcomes and folds; nothing about models or answers. Fitting needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import CalibrationError

Floats = NDArray[np.float64]

FOLDS = 5
DIGITS = 6  # significant digits that are kept of a coefficient


@dataclass(frozen=True, eq=False)
class Stage:
    """A linear model and its logits (n,) for examples of templates it was not fitted on."""

    out_of_fold: Floats
    weights: Floats
    intercept: float


def linear_stage(
    matrix: Floats, right: Floats, folds: NDArray[np.intp], grid: Sequence[float]
) -> Stage:
    """Logistic regression, its penalty chosen by the log loss for left-out folds.

    With more columns than rows the regression is done in the space of the rows, which gives the
    same coefficients.
    """
    mean = matrix.mean(axis=0)
    centred = matrix - mean
    reduced, back = in_rows(centred) if matrix.shape[1] > matrix.shape[0] else (centred, None)
    logits = {c: _left_out(reduced, right, folds, c) for c in grid}
    best = min(grid, key=lambda c: log_loss(logits[c], right))
    weights, intercept = regression(reduced, right, best)
    if back is not None:
        weights = back @ weights
    weights = np.where(np.abs(weights) < 1e-12, 0.0, weights)
    return Stage(logits[best], weights, intercept - float(weights @ mean))


def in_rows(centred: Floats) -> tuple[Floats, Floats]:
    """The rows (n, rank) in a basis of their own space, and the way back (columns, rank)."""
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = values > values[-1] * 1e-10
    kept[-1] = True  # rows that are all alike have one direction, of no length
    lengths = np.sqrt(np.maximum(values[kept], 1e-12))
    return vectors[:, kept] * lengths, centred.T @ (vectors[:, kept] / lengths)


def _left_out(matrix: Floats, right: Floats, folds: NDArray[np.intp], c: float) -> Floats:
    logits = np.zeros(len(right))
    for fold in np.unique(folds):
        out = folds == fold
        weights, intercept = regression(matrix[~out], right[~out], c)
        logits[out] = matrix[out] @ weights + intercept
    return logits


def regression(matrix: Floats, right: Floats, c: float) -> tuple[Floats, float]:
    """Weights and intercept of a logistic regression with inverse L2 strength `c`."""
    from sklearn.linear_model import LogisticRegression

    if right.min() == right.max():  # a fold without one of the classes: its base rate
        share = (right.sum() + 0.5) / (len(right) + 1)
        return np.zeros(matrix.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=c, max_iter=1000, tol=1e-5).fit(matrix, right)
    return model.coef_[0], float(model.intercept_[0])


def grouped_folds(right: Floats, groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """The fold (n,) of each example: whole groups, right answers spread evenly.

    With one group alone the examples are spread, whatever their group.
    """
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        codes = np.arange(len(right))
    count = min(FOLDS, len(np.unique(codes)))
    rng = np.random.default_rng(seed)
    sizes = np.bincount(codes)
    good = np.bincount(codes, weights=right)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    place = np.zeros(len(sizes), dtype=np.intp)
    held = np.zeros((count, 2))
    for group in order:
        # The fold whose load of right and of wrong answers this group raises least.
        load = np.array([good[group], sizes[group] - good[group]])
        cost = ((held + load) ** 2).sum(axis=1) - (held**2).sum(axis=1)
        cost += 1e-6 * held.sum(axis=1)  # of equals the emptiest
        place[group] = int(np.argmin(cost))
        held[place[group]] += load
    return place[codes]


def platt(logits: Floats, right: Floats, strength: float = 1.0) -> tuple[float, float]:
    """Slope and offset of P = sigmoid(slope * logit + offset) (Platt 1999).

    Newton's method; a normal prior of variance 1 / `strength` around 1 and 0 keeps few examples
    from moving them far. The slope stays above 0.05, so that the ranking stays.
    """
    found = np.array([1.0, 0.0])
    prior = np.array([1.0, 0.0])
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ found, -40, 40)))
        gradient = design.T @ (p - right) + strength * (found - prior)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + strength * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        found = found - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return rounded(max(float(found[0]), 0.05)), rounded(float(found[1]))


def standard(matrix: Floats) -> tuple[Floats, Floats]:
    """Mean and scale (columns,); a column that never changes has scale 1."""
    scale = matrix.std(axis=0)
    return matrix.mean(axis=0), np.where(scale < 1e-9, 1.0, scale)


def log_loss(logits: Floats, right: Floats) -> float:
    """Mean of -ln P(what was so), nats."""
    signed = np.where(right == 1, logits, -logits)
    return float(np.mean(np.logaddexp(0, -signed)))


def require_sklearn() -> None:
    """Raise `CalibrationError` when scikit-learn is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise CalibrationError(
            "calibrating needs scikit-learn: install it with `pip install 'ondevice[calibrate]'`"
        ) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Small matrices are slower on many threads, above all where others compute too."""
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    with threadpool_limits(1):
        yield


def rounded(value: float, digits: int = DIGITS) -> float:
    """To significant digits, so that what is used is what is stored."""
    return float(f"{value:.{digits}g}")


def rounded_all(values: Floats, digits: int = DIGITS) -> tuple[float, ...]:
    """Each value to significant digits."""
    return tuple(rounded(float(value), digits) for value in values)
