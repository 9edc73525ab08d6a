"""`calibrate`: answers to a person's own examples become a calibration inside the package.

Three splits: coefficients from the first, scaling and the sequence of thresholds from the second,
the certificate from the third. Knows no policy and no endpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice import files, store
from ondevice.errors import CalibrationError
from ondevice.package import Package
from ondevice.progress import Progress
from ondevice.runtime.answer import Options
from ondevice.runtime.confidence import against as rivals
from ondevice.runtime.confidence import calibration as stored
from ondevice.runtime.confidence import certificate, fit, metrics, regression, samples, splits
from ondevice.runtime.confidence.calibration import (
    ENCODER_FOLDER,
    NAMES,
    Calibration,
    Evidence,
    calibration_key,
)
from ondevice.runtime.confidence.report import Report, SureAndWrong
from ondevice.runtime.confidence.router import ENCODER_FILES, EncoderRouter
from ondevice.runtime.confidence.samples import Samples
from ondevice.runtime.confidence.splits import Splits
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.collect import DeviceSubject, collect, question_hash
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record
from ondevice.runtime.model import Model, load

Floats = NDArray[np.float64]

SHOWN = 5  # wrong answers that are shown


def calibrate(
    package: Package,
    data: Path | Sequence[Path],
    *,
    max_error: float = 0.05,
    confidence: float = 0.95,
    probe: bool | None = None,
    router: bool = True,
    encoder: Path | None = None,
    options: Options = Options(),
    answers: Path | None = None,
    against: Path | None = None,
    max_loss: float = rivals.MAX_LOSS,
    plots: Path | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Fit, certify and write `calibration.json` into the package.

    `data`: files of examples, or a folder with one for each split. `answers`: a file of records
    that is added to, so that a run that was stopped goes on; the default is one in the user's
    folder for this package and these options. `encoder`: a folder with an exported encoder for
    the router, copied into the package. `against`: a file of a larger model's records of the same
    examples, from which it is learned when that one would be right instead; at most `max_loss` of
    its accuracy is lost. Raises `CalibrationError` when nothing can be learned from the data or
    an extra is missing, `RequestError` when it cannot be read.
    """
    certificate.check_targets(max_error, confidence)
    rivals.check_max_loss(max_loss)
    regression.require_sklearn()
    if plots is not None:
        from ondevice.runtime.confidence import curves

        curves.require_matplotlib()
    parts = splits.split(splits.read(data), seed)
    own = f"device:{package.manifest.name}"
    answered = None if against is None else rivals.read(against, parts, own)
    opened = EncoderRouter(encoder) if encoder is not None and router else None
    key = calibration_key(package, options)
    out = answers or store.home() / "answers" / f"{package.manifest.name}-{key[:12]}.jsonl"
    found = _answered(package, parts.all, options, out, threads, probe is not False, progress)
    by_id = {record.id: record for record in found}
    train, choose, prove = (
        samples.from_records(part, [by_id[example.id] for example in part])
        for part in (parts.train, parts.threshold, parts.certify)
    )
    if progress is not None:
        progress("fitting", 0, 0)
    fitted = fit.fit(
        train,
        probe=probe,
        router=router,
        embed=None if opened is None else opened.embed,
        encoder="" if opened is None else opened.identity,
        seed=seed,
    )
    made = scaled(from_fit(fitted, key, opened), choose)
    made = certified(made, choose, prove, max_error, confidence)
    found_against = None
    if answered is not None:
        made, found_against = rivals.learn(
            made, fitted, answered, (train, choose, prove), max_loss, seed
        )
    made = replace(made, evidence=_evidence(made, parts, prove))
    report = _report(made, fitted, package, parts, choose, prove, max_error, confidence)
    report = replace(report, against=found_against)
    if plots is not None:
        report = replace(report, plots=_plot(plots, made, prove, report))
    if opened is not None:
        _keep_encoder(opened, package)
    stored.write(package, made)
    return report


def from_fit(fitted: fit.Fit, key: str = "", encoder: EncoderRouter | None = None) -> Calibration:
    """A calibration that is not scaled and has no threshold yet."""
    return Calibration(
        key=key,
        linear=fitted.linear,
        intercept=fitted.intercept,
        slope=1.0,
        offset=0.0,
        kernel=fitted.kernel,
        router=fitted.router,
        threshold=None,
        certificate=None,
        reason="no threshold was looked for",
        evidence=None,
        encoder=encoder,
    )


def scaled(made: Calibration, choose: Samples) -> Calibration:
    """The calibration with its logits, and those of the router, scaled on the threshold split.

    The order of answers stays; only how far the probabilities are from one half changes.
    """
    inside = choose.take(choose.open)
    if len(inside):
        slope, offset = regression.platt(_logits(probabilities(made, inside)), inside.right)
        made = replace(made, slope=slope, offset=offset)
    if made.router is None:
        return made
    logits = np.array([made.router_logit(prompt) for prompt in choose.prompts])
    slope, offset = regression.platt(logits, choose.right)
    return replace(made, router=replace(made.router, slope=slope, offset=offset))


def certified(
    made: Calibration, choose: Samples, prove: Samples, max_error: float, confidence: float
) -> Calibration:
    """The calibration with a threshold and its certificate, or the reason for none."""
    declared = certificate.declare(
        probabilities(made, choose), choose.right, len(prove), max_error, confidence
    )
    outcome = certificate.certify(
        declared, probabilities(made, prove), prove.right, max_error, confidence
    )
    return replace(
        made,
        threshold=outcome.threshold,
        certificate=outcome.certificate,
        reason=outcome.reason,
    )


def probabilities(made: Calibration, of: Samples) -> Floats:
    """P(right) (n,) of answered examples, 0 for those that failed a check."""
    found = np.zeros(len(of))
    for row in np.flatnonzero(of.open).tolist():
        found[row] = made.probability_of(
            of.values[row],
            made.router_logit(of.prompts[row]),
            of.hidden(row),
        )
    return found


def _logits(p: Floats) -> Floats:
    clipped = np.clip(p, 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


class _Lazy:
    """A package that is loaded when the first answer is missing, not before."""

    def __init__(
        self, package: Package, options: Options, threads: int | None, hidden: bool
    ) -> None:
        self.name = f"device:{package.manifest.name}"
        self._package, self._options = package, options
        self._threads, self._hidden = threads, hidden
        self._model: Model | None = None

    def answer(self, example: Example) -> Record:
        if self._model is None:
            self._model = load(self._package, threads=self._threads)
        return DeviceSubject(self._model, self._options, hidden=self._hidden).answer(example)

    def close(self) -> None:
        if self._model is not None:
            self._model.close()


def _answered(
    package: Package,
    examples: Sequence[Example],
    options: Options,
    out: Path,
    threads: int | None,
    hidden: bool,
    progress: Progress | None,
) -> list[Record]:
    subject = _Lazy(package, options, threads, hidden)
    if out.suffix == ".gz":
        kept = records.read(out)
        known = {(r.id, r.question) for r in kept if r.subject == subject.name}
        missing = [e for e in examples if (e.id, question_hash(e)) not in known]
        if missing:
            raise CalibrationError(
                f"{out} has no answer of {subject.name} to {len(missing)} of {len(examples)} "
                "examples, and a compressed file cannot be added to: give an --answers file "
                "that ends with .jsonl"
            )
    try:
        return collect(subject, examples, out, progress)
    finally:
        subject.close()


def _evidence(made: Calibration, parts: Splits, prove: Samples) -> Evidence:
    p = probabilities(made, prove)
    ranked = metrics.auroc(p, prove.right)
    return Evidence(
        train=len(parts.train),
        threshold=len(parts.threshold),
        certify=len(parts.certify),
        right_share=float(prove.right.mean()),
        auroc=None if np.isnan(ranked) else ranked,
        ece=metrics.ece(p, prove.right),
        brier=metrics.brier(p, prove.right),
    )


def _report(
    made: Calibration,
    fitted: fit.Fit,
    package: Package,
    parts: Splits,
    choose: Samples,
    prove: Samples,
    max_error: float,
    confidence: float,
) -> Report:
    p, groups = probabilities(made, prove), prove.groups
    mean_logprob = prove.values[:, NAMES.index("logprob_mean")]
    found = made.certificate
    return Report(
        calibration=made,
        package=package.manifest.name,
        max_error=max_error,
        confidence=confidence,
        train=len(parts.train),
        threshold=len(parts.threshold),
        certify=len(parts.certify),
        ignored=parts.ignored,
        right=float(prove.right.mean()),
        auroc=metrics.bootstrap(metrics.auroc, p, prove.right, groups),
        mean_logprob_auroc=metrics.bootstrap(metrics.auroc, mean_logprob, prove.right, groups),
        ece=metrics.ece_interval(p, prove.right, groups),
        ece_by_chance=metrics.ece_by_chance(p),
        brier=metrics.brier(p, prove.right),
        augrc=metrics.augrc(p, prove.right),
        local_share=None if found is None else found.local_share,
        variants=fitted.variants,
        chosen=fitted.chosen,
        sure_and_wrong=_sure_and_wrong(made, choose, prove),
    )


def _sure_and_wrong(made: Calibration, *of: Samples) -> tuple[SureAndWrong, ...]:
    wrong = [
        SureAndWrong(part.ids[row], float(p[row]), part.prompts[row], part.texts[row])
        for part in of
        for p in (probabilities(made, part),)
        for row in np.flatnonzero((part.right == 0) & (p > 0))
    ]
    return tuple(sorted(wrong, key=lambda one: (-one.probability, one.id))[:SHOWN])


def _plot(folder: Path, made: Calibration, prove: Samples, report: Report) -> tuple[Path, ...]:
    from ondevice.runtime.confidence import curves

    p = probabilities(made, prove)
    mean_logprob = prove.values[:, NAMES.index("logprob_mean")]
    return curves.plot(
        folder,
        p,
        prove.right,
        prove.groups,
        title=report.package,
        rival=("mean log-probability", mean_logprob),
        certificate=made.certificate,
    )


def _keep_encoder(encoder: EncoderRouter, package: Package) -> None:
    folder = package.folder / ENCODER_FOLDER
    if encoder.folder.resolve() == folder.resolve():
        return
    with files.new_folder(folder, replace=True) as work:
        for name in ENCODER_FILES:
            shutil.copyfile(encoder.folder / name, work / name)
