"""Coefficients from answered examples: what is tried, and what cross-validation chooses.

Needs scikit-learn (the extra `calibrate`). Sees the train split only; knows no thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import features as signals
from ondevice.runtime.confidence.calibration import NAMES, Linear
from ondevice.runtime.confidence.kernel import Block, Kernel, Probe, distances
from ondevice.runtime.confidence.metrics import auroc
from ondevice.runtime.confidence.ngrams import BUCKETS, ngrams
from ondevice.runtime.confidence.regression import (
    Floats,
    Stage,
    grouped_folds,
    in_rows,
    linear_stage,
    log_loss,
    one_thread,
    require_sklearn,
    rounded,
    rounded_all,
    standard,
)
from ondevice.runtime.confidence.router import Router
from ondevice.runtime.confidence.samples import Samples

Folds = NDArray[np.intp]
Embed = Callable[[str], Floats]

# Inverse strengths of the L2 penalty that cross-validation chooses from.
FEATURE_GRID = (0.01, 0.03, 0.1, 0.3, 1.0)
KERNEL_GRID = (0.3, 1.0, 3.0, 10.0)
ROUTER_GRID = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
EMBEDDING_GRID = (1e-4, 1e-3, 1e-2, 1e-1)
FEWEST = 10  # right answers, and wrong ones, without which nothing is learned
FEWEST_PROMPTS = 3  # a bucket that fewer prompts have is left out
LANDMARKS = 500  # answers that others are compared with, at most
COMPONENTS = 32  # of the hidden states
PROBE_SHARE = 0.5  # of a likeness in hidden states, against 1 for one in signals or text
POINT_DIGITS = 4  # decimals of a standardized feature or a component: the file is a megabyte


@dataclass(frozen=True)
class Variant:
    """One way to build the confidence, as cross-validation on the train split saw it.

    `auroc` and `log_loss` (nats an example) of predictions for templates that were left out.
    """

    name: str
    auroc: float
    log_loss: float


@dataclass(frozen=True)
class Fit:
    """The coefficients, the `variants` that were tried, and which was `chosen`.

    `out_of_fold` has the chosen one's logits for the answers that pass their checks (open,),
    each from the templates of the other folds.
    """

    linear: Linear
    intercept: float
    kernel: Kernel | None
    router: Router | None
    variants: tuple[Variant, ...]
    chosen: str
    out_of_fold: Floats = field(compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Tried:
    """Coefficients of one variant, and its logits (n,) for templates that were left out."""

    variant: Variant
    out_of_fold: Floats
    weights: Floats  # of the standardized features
    intercept: float
    router_weight: float = 0.0
    kernel: Kernel | None = None


def fit(
    train: Samples,
    *,
    probe: bool | None = None,
    router: bool = True,
    embed: Embed | None = None,
    encoder: str = "",
    seed: int = 0,
) -> Fit:
    """Fit P(right) to the train split.

    `probe` None: used when cross-validation says it helps; True: used; False: not. A router is
    always kept for the prior; its logit is a feature when that helps. `embed` gives a prompt's
    embedding (dimensions,) where an encoder of identity `encoder` takes the n-grams' place.
    Raises `CalibrationError` for data that nothing can be learned from, and when scikit-learn
    is missing.
    """
    require_sklearn()
    require_both(train.right)
    require_both(train.right[train.open], "the answers that pass their checks")
    if probe and not train.has_hidden:
        raise CalibrationError(
            "the answers have no hidden states, which a probe needs: use a package whose graph "
            "gives them and let the answers be made again, or calibrate with --no-probe"
        )
    with one_thread():
        return _fit(train, probe, router, embed, encoder, seed)


def _fit(
    train: Samples,
    probe: bool | None,
    router: bool,
    embed: Embed | None,
    encoder: str,
    seed: int,
) -> Fit:
    folds = grouped_folds(train.right, train.groups, seed)
    routing = router_stage(train, folds, embed) if router else None
    usable, inner = train.take(train.open), folds[train.open]
    mean, scale = (np.array(rounded_all(part)) for part in standard(usable.values))
    features = (usable.values - mean) / scale
    tried: list[Tried] = []
    if not probe:
        routed = None if routing is None else routing.out_of_fold[train.open]
        tried += linear_variants(features, routed, usable.right, inner)
        tried.append(_kernel_variant("kernel", features, None, usable.right, inner, seed))
    if probe is not False and usable.has_hidden:
        states = usable.states
        tried.append(_kernel_variant("kernel + probe", features, states, usable.right, inner, seed))
    best = min(tried, key=lambda one: one.variant.log_loss)
    return Fit(
        Linear(NAMES, tuple(mean.tolist()), tuple(scale.tolist()), rounded_all(best.weights)),
        rounded(best.intercept),
        best.kernel,
        None if routing is None else router_of(routing, best.router_weight, encoder),
        tuple(one.variant for one in tried),
        best.variant.name,
        best.out_of_fold,
    )


def linear_variants(
    features: Floats, routed: Floats | None, right: Floats, folds: Folds
) -> list[Tried]:
    """Logistic regression on the features, and on the features with the router's logit."""
    stage = linear_stage(features, right, folds, FEATURE_GRID)
    tried = [_tried("features", stage, right)]
    if routed is None:
        return tried
    centre, spread = (float(part[0]) for part in standard(routed[:, None]))
    with_router = np.column_stack([features, (routed - centre) / spread])
    stage = linear_stage(with_router, right, folds, FEATURE_GRID)
    weight = rounded(float(stage.weights[-1]) / spread)
    both = _tried("features + router", stage, right)
    intercept = stage.intercept - weight * centre
    both = replace(both, weights=stage.weights[:-1], intercept=intercept, router_weight=weight)
    return [*tried, both]


def _tried(name: str, stage: Stage, right: Floats) -> Tried:
    return Tried(variant_of(name, stage, right), stage.out_of_fold, stage.weights, stage.intercept)


def variant_of(name: str, stage: Stage, right: Floats) -> Variant:
    """A variant with what cross-validation saw of it."""
    return Variant(name, auroc(stage.out_of_fold, right), log_loss(stage.out_of_fold, right))


def _kernel_variant(
    name: str,
    features: Floats,
    states: Floats | None,
    right: Floats,
    folds: Folds,
    seed: int,
) -> Tried:
    """Kernel logistic regression; from many examples some are drawn as landmarks (Nyström)."""
    rows = _landmarks(len(right), seed)
    at = len(signals.NAMES)
    kernel = Kernel(
        _block(features[rows, :at]),
        _block(features[rows, at:]),
        (0.0,) * len(rows),
        None if states is None else _probe(states, rows),
    )
    similar = kernel.similarity(features, states)
    stage = kernel_stage(similar, similar[rows], right, folds)
    kernel = replace(kernel, weights=rounded_all(stage.weights))
    zeros = np.zeros(features.shape[1])
    return replace(_tried(name, stage, right), weights=zeros, kernel=kernel)


def kernel_stage(similar: Floats, landmarks: Floats, right: Floats, folds: Folds) -> Stage:
    """Kernel logistic regression, its weights those of the landmarks (m,).

    `similar` (n, m) is the kernel of the examples, `landmarks` (m, m) that of the landmarks.
    """
    # Coordinates in which the L2 penalty is the kernel's own norm.
    values, vectors = np.linalg.eigh(landmarks)
    kept = values > values[-1] * 1e-6
    basis = vectors[:, kept] / np.sqrt(values[kept])
    stage = linear_stage(similar @ basis, right, folds, KERNEL_GRID)
    return replace(stage, weights=basis @ stage.weights)


def _landmarks(count: int, seed: int) -> NDArray[np.intp]:
    """Which answers others are compared with."""
    rows = np.arange(count)
    if count <= LANDMARKS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, LANDMARKS, replace=False))


def _probe(states: Floats, rows: NDArray[np.intp]) -> Probe:
    """Principal components of the hidden states, and the landmarks in them."""
    centre = np.array(rounded_all(states.mean(axis=0), POINT_DIGITS))
    centred = states - centre
    _, basis = in_rows(centred)
    projection = basis[:, ::-1][:, :COMPONENTS].T
    # The sign of a component is arbitrary: fixed, so that equal data give equal files.
    largest = np.abs(projection).argmax(axis=1)
    projection = projection * np.sign(projection[np.arange(len(projection)), largest])[:, None]
    projection = np.round(projection, POINT_DIGITS)
    block = _block(centred[rows] @ projection.T, PROBE_SHARE)
    return Probe(_rows(projection), tuple(centre.tolist()), block)


def _block(points: Floats, share: float = 1.0) -> Block:
    """A block whose reach is the median distance between different points."""
    points = np.round(points, POINT_DIGITS)
    found = distances(points, points)[np.triu_indices(len(points), 1)]
    middle = float(np.median(found)) if len(found) else 0.0
    return Block(_rows(points), rounded(1 / middle) if middle > 1e-9 else 1.0, share)


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def router_of(stage: Stage, weight: float, encoder: str = "") -> Router:
    """The classifier of prompts, not scaled; `weight` is its part in P(right)."""
    kept = np.arange(len(stage.weights)) if encoder else np.flatnonzero(stage.weights)
    return Router(
        weights=rounded_all(stage.weights[kept]),
        intercept=rounded(stage.intercept),
        slope=1.0,
        offset=0.0,
        weight=weight,
        index=() if encoder else tuple(kept.tolist()),
        encoder=encoder,
    )


def router_stage(train: Samples, folds: Folds, embed: Embed | None) -> Stage:
    """A linear classifier over the prompts alone."""
    if embed is None:
        return linear_stage(prompt_matrix(train.prompts), train.right, folds, ROUTER_GRID)
    matrix = np.array([embed(prompt) for prompt in train.prompts])
    mean, scale = standard(matrix)
    stage = linear_stage((matrix - mean) / scale, train.right, folds, EMBEDDING_GRID)
    weights = stage.weights / scale
    return Stage(stage.out_of_fold, weights, stage.intercept - float(weights @ mean))


def prompt_matrix(prompts: Sequence[str]) -> Floats:
    """Hashed n-grams (n, BUCKETS), each row of length 1; rare buckets are 0."""
    present = np.zeros((len(prompts), BUCKETS), dtype=np.bool_)
    for row, prompt in enumerate(prompts):
        present[row, ngrams(prompt)] = True
    lengths = np.sqrt(np.maximum(present.sum(axis=1, keepdims=True), 1))
    rare = present.sum(axis=0) < FEWEST_PROMPTS
    matrix: Floats = np.where(rare, 0.0, present / lengths)
    return matrix


def require_both(right: Floats, of: str = "the answers") -> None:
    """Raise `CalibrationError` unless some are right and some are wrong, enough of both."""
    good = int(right.sum())
    bad = len(right) - good
    for count, word in ((good, "right"), (bad, "wrong")):
        if count < FEWEST:
            raise CalibrationError(
                f"of {of} in the train split ({len(right)}) {count or 'none'} "
                f"{'is' if count < 2 else 'are'} {word}; at least {FEWEST} right and {FEWEST} "
                "wrong ones are needed to learn which is which: give more or other examples"
            )
