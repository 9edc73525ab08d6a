"""What a larger model's answers to the same examples teach: whether it would be right instead.

Fits on the train split, scales on the threshold split, chooses on threshold and certify. Knows
records and coefficients; no policy, no endpoint, no models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import fit, metrics, regression
from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.fit import Fit, Tried, Variant
from ondevice.runtime.confidence.metrics import Interval
from ondevice.runtime.confidence.regression import Stage, rounded, rounded_all
from ondevice.runtime.confidence.rival import NEVER_LOCAL, Kept, Rival
from ondevice.runtime.confidence.router import Router
from ondevice.runtime.confidence.samples import Samples
from ondevice.runtime.confidence.splits import FEWEST, NAMES, Splits
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.collect import question_hash, rechecked
from ondevice.runtime.evaluate.dataset import Example

Floats = NDArray[np.float64]

DRAWS = 200
MAX_LOSS = 0.025  # of the rival's accuracy that may be lost, from 0 to 1


@dataclass(frozen=True, eq=False)
class Answered:
    """Whether a rival was right, by split: (n,) of 1, 0, and NaN where it gave no answer."""

    subject: str
    model: str
    train: Floats
    threshold: Floats
    certify: Floats


@dataclass(frozen=True)
class Against:
    """What was found against a rival, on the certify split, with 95% intervals by template.

    `examples` there were answered by both. `auroc` is how well P(the rival is right) ranks. The
    advantage was chosen on the threshold and the certify split, so `loss` is a little rosy.
    """

    subject: str
    model: str
    max_loss: float
    advantage: float
    examples: int
    auroc: Interval
    local_share: Interval
    accuracy: Interval
    rival_accuracy: Interval
    loss: Interval
    variants: tuple[Variant, ...]
    chosen: str


def check_max_loss(max_loss: float) -> None:
    """Raise `CalibrationError` for a loss that makes no sense."""
    if not 0 <= max_loss < 1:
        raise CalibrationError(
            f"max loss must be at least 0 and below 1, such as 0.025, not {max_loss}"
        )


def read(path: Path, parts: Splits, own: str) -> Answered:
    """The one rival in a file of records; `own` is the name of the subject that is calibrated.

    Failed calls and answers to other questions count as none. Raises `CalibrationError` when the
    file holds several subjects, or too few answers to any split, and `RequestError` when it
    cannot be read.
    """
    found = records.read(path)
    names = sorted({(record.subject, record.model) for record in found if not record.error})
    if len(names) != 1:
        given = ", ".join(dict.fromkeys(f"{name} {model}".strip() for name, model in names))
        raise CalibrationError(
            f"{path} has to hold the answers of one model and holds those of {given or 'none'}; "
            "`ondevice eval` keeps a file for each"
        )
    subject, model = names[0]
    if subject == own:
        raise CalibrationError(
            f"{path} has the answers of {own} itself; --against takes those of a larger model"
        )
    by_id = {record.id: record for record in found if not record.error}

    def right(examples: Sequence[Example]) -> Floats:
        return np.array([_right(example, by_id.get(example.id)) for example in examples])

    made = Answered(
        subject,
        model or subject.partition(":")[2],
        right(parts.train),
        right(parts.threshold),
        right(parts.certify),
    )
    for name, values in zip(NAMES, (made.train, made.threshold, made.certify), strict=True):
        count = int(np.isfinite(values).sum())
        if count < FEWEST:
            raise CalibrationError(
                f"{path} has answers of {subject} to {count} of {len(values)} examples of the "
                f"{name} split; at least {FEWEST} are needed: let `ondevice eval` make the others"
            )
    return made


def _right(example: Example, record: records.Record | None) -> float:
    if record is None or record.question != question_hash(example):
        return float("nan")
    return float(rechecked(example, record).right)


def learn(
    made: Calibration,
    fitted: Fit,
    answered: Answered,
    parts: tuple[Samples, Samples, Samples],
    max_loss: float = MAX_LOSS,
    seed: int = 0,
) -> tuple[Calibration, Against]:
    """The calibration with a rival, and what was found. `parts`: train, threshold, certify; `made`
    is `fitted` scaled."""
    train, choose, prove = parts
    best, variants, router = fit_rival(made, fitted, train, answered.train, seed)
    made = with_rival(made, best, router, answered, choose, prove, max_loss)
    return made, _report(made, answered, prove, variants, best.variant.name)


def fit_rival(
    made: Calibration, fitted: Fit, train: Samples, right: Floats, seed: int = 0
) -> tuple[Tried, tuple[Variant, ...], Router | None]:
    """P(rival right), fitted to the train split: the variant that was chosen, all of them, and
    the classifier of prompts that the chosen one needs.

    The features, landmarks and folds are those of `made`, fitted as `fitted`. `right` (n,) is the
    rival's, NaN where it is not known.
    """
    known = np.isfinite(right)
    usable = train.open & known
    _require_both(right[usable])
    truth, of = right[usable], train.take(usable)
    folds = regression.grouped_folds(train.right, train.groups, seed)[usable]
    with regression.one_thread():
        prompt = regression.linear_stage(
            fit.prompt_matrix(of.prompts), truth, folds, fit.ROUTER_GRID
        )
        tried = _variants(made, of, truth, folds, prompt)
    local = _scaled(fitted.out_of_fold[known[train.open]], of.right)
    scores = [local - _scaled(one.out_of_fold, truth) for one in tried]
    best = tried[_least_lost(scores, truth - of.right, of.groups, seed)]
    router = fit.router_of(prompt, best.router_weight) if best.router_weight else None
    return best, tuple(one.variant for one in tried), router


def _variants(
    made: Calibration, of: Samples, right: Floats, folds: NDArray[np.intp], prompt: Stage
) -> list[Tried]:
    """By the prompt alone, by the features, and by the landmarks where the calibration has them."""
    features = (of.values - np.array(made.linear.mean)) / np.array(made.linear.scale)
    nothing = np.zeros(features.shape[1])
    tried = [
        Tried(fit.variant_of("prompt", prompt, right), prompt.out_of_fold, nothing, 0.0, 1.0),
        *fit.linear_variants(features, prompt.out_of_fold, right, folds),
    ]
    if made.kernel is None:
        return tried
    probe = made.kernel.probe is not None
    similar = made.kernel.similarity(features, of.states if probe else None)
    stage = fit.kernel_stage(similar, made.kernel.among_landmarks(), right, folds)
    kernel = replace(made.kernel, weights=rounded_all(stage.weights))
    variant = fit.variant_of("kernel + probe" if probe else "kernel", stage, right)
    return [*tried, Tried(variant, stage.out_of_fold, nothing, stage.intercept, kernel=kernel)]


def _least_lost(scores: Sequence[Floats], gain: Floats, groups: Sequence[str], seed: int) -> int:
    """Which score loses least over all local shares. A later one has to be better by a standard
    error (bootstrap over templates).

    Not the least log loss: in nested cross-validation on recipes/evalset (train) that chose
    variants whose difference to P(right) kept less at the same loss than P(right) alone.
    """
    drawn = metrics.resamples(len(gain), groups, DRAWS, seed)
    best = 0
    for other in range(1, len(scores)):
        less = [
            spread_loss(scores[best][i], gain[i]) - spread_loss(scores[other][i], gain[i])
            for i in drawn
        ]
        better = spread_loss(scores[best], gain) - spread_loss(scores[other], gain)
        if better > np.std(less):
            best = other
    return best


def _require_both(right: Floats) -> None:
    good = int(right.sum())
    for count, word in ((good, "right"), (len(right) - good, "wrong")):
        if count < fit.FEWEST:
            raise CalibrationError(
                f"the larger model is {word} in {count or 'none'} of {len(right)} examples of the "
                f"train split, and at least {fit.FEWEST} are needed to learn when: give more "
                "examples, or calibrate without --against"
            )


def _scaled(logits: Floats, right: Floats) -> Floats:
    slope, offset = regression.platt(logits, right)
    found: Floats = 1 / (1 + np.exp(-np.clip(slope * logits + offset, -40, 40)))
    return found


def spread_loss(scores: Floats, gain: Floats) -> float:
    """The mean loss of accuracy over every local share, the highest scores kept first.

    `gain` (n,) is the rival's outcome less the local one: what keeping an answer loses.
    """
    order = np.argsort(-scores, kind="stable")
    return float(np.mean(np.cumsum(gain[order]))) / len(scores)


def with_rival(
    made: Calibration,
    best: Tried,
    router: Router | None,
    answered: Answered,
    choose: Samples,
    prove: Samples,
    max_loss: float,
) -> Calibration:
    """The calibration with its rival, scaled on the threshold split and with an advantage."""
    rival = Rival(
        subject=answered.subject,
        model=answered.model,
        intercept=rounded(best.intercept),
        weights=rounded_all(best.weights) if best.weights.any() else (),
        kernel_weights=() if best.kernel is None else best.kernel.weights,
        router=router,
        slope=1.0,
        offset=0.0,
        advantage=NEVER_LOCAL,
        max_loss=max_loss,
    )
    inside = choose.open & np.isfinite(answered.threshold)
    raw = rival_probabilities(replace(made, rival=rival), choose.take(inside))[1]
    logits = np.log(np.clip(raw, 1e-12, 1)) - np.log(np.clip(1 - raw, 1e-12, 1))
    slope, offset = regression.platt(logits, answered.threshold[inside])
    made = replace(made, rival=replace(rival, slope=slope, offset=offset))
    scores = np.concatenate([local_scores(made, part) for part in (choose, prove)])
    right = np.concatenate([answered.threshold, answered.certify])
    own = np.concatenate([choose.right, prove.right])
    known = np.isfinite(right)
    level = lowest_score(scores[known], (right - own)[known], max_loss)
    # + 0.0: no negative zero in the file
    advantage = NEVER_LOCAL if np.isinf(level) else -level + 0.0
    assert made.rival is not None
    chosen = replace(made.rival, advantage=advantage)
    made = replace(made, rival=chosen)
    share, accuracy, alone, loss = (part.mean() for part in outcomes(made, prove, answered.certify))
    count = int(np.isfinite(answered.certify).sum())
    kept = Kept(count, float(share), float(accuracy), float(alone), float(loss))
    return replace(made, rival=replace(chosen, kept=kept))


def lowest_score(scores: Floats, gain: Floats, max_loss: float) -> float:
    """The score from which on answers stay: most of them, at a loss of at most `max_loss`.

    Infinite when none may stay. Equal scores are decided alike; -inf never stays.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    lost = np.cumsum(gain[order])[ends] / len(ranked)
    fits = ends[(lost <= max_loss + 1e-12) & np.isfinite(ranked[ends])]
    return float(ranked[fits[-1]]) if len(fits) else float("inf")


def rival_probabilities(made: Calibration, of: Samples) -> tuple[Floats, Floats]:
    """P(right) and P(rival right), (n,) each; 0 and 1 for answers that failed a check."""
    assert made.rival is not None
    found = np.tile([[0.0], [1.0]], len(of))
    for row in np.flatnonzero(of.open).tolist():
        found[:, row] = made.probabilities_of(
            of.values[row],
            made.router_logit(of.prompts[row]),
            of.hidden(row),
            made.rival.logit_of(of.prompts[row]),
        )
    return found[0], found[1]


def local_scores(made: Calibration, of: Samples) -> Floats:
    """P(right) - P(rival right) (n,): higher is safer to keep; -inf where a check failed."""
    own, rival = rival_probabilities(made, of)
    return np.where(of.open, own - rival, -np.inf)


def outcomes(
    made: Calibration, of: Samples, right: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """For each example that the rival answered: whether it stays, is right, is right by the
    rival alone, and what is lost; (m,) each."""
    assert made.rival is not None
    known = np.isfinite(right)
    kept = (local_scores(made, of) >= -made.rival.advantage).astype(np.float64)[known]
    own, theirs = of.right[known], right[known]
    accuracy = kept * own + (1 - kept) * theirs
    return kept, accuracy, theirs, theirs - accuracy


def _report(
    made: Calibration,
    answered: Answered,
    prove: Samples,
    variants: tuple[Variant, ...],
    chosen: str,
) -> Against:
    """The figures on the certify split."""
    assert made.rival is not None
    known = np.isfinite(answered.certify)
    groups = prove.take(known).groups
    rival = rival_probabilities(made, prove)[1]
    ranked = known & prove.open
    share, accuracy, alone, loss = (
        metrics.bootstrap(_mean, part, part, groups)
        for part in outcomes(made, prove, answered.certify)
    )
    return Against(
        subject=answered.subject,
        model=answered.model,
        max_loss=made.rival.max_loss,
        advantage=made.rival.advantage,
        examples=int(known.sum()),
        auroc=metrics.bootstrap(
            metrics.auroc, rival[ranked], answered.certify[ranked], prove.take(ranked).groups
        ),
        local_share=share,
        accuracy=accuracy,
        rival_accuracy=alone,
        loss=loss,
        variants=variants,
        chosen=chosen,
    )


def _mean(values: Floats, _: Floats) -> float:
    return float(values.mean())
