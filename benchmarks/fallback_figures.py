"""Does it know when it does not know, and what is that worth? The figures of docs/fallback.md.

Reads the committed answers of both models to the evaluation set (recipes/evalset/answers), fits
the calibration on the train split, chooses thresholds on the threshold and certify splits, and
judges on test and OOD. From the repository's root:

    python benchmarks/fallback.py --json fallback.json

`--rerun` makes the answers again first, from the two models (hours; stopped, it goes on).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import fallback_data, fallback_table, faults, leaks, overhead, redaction
from benchmarks.fallback_data import Answers
from benchmarks.routing import Result, oracle, result, threshold, together
from ondevice import files
from ondevice.runtime.confidence import against, certificate, metrics
from ondevice.runtime.confidence.calibrate import from_fit, probabilities, scaled
from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.features import NAMES
from ondevice.runtime.confidence.fit import fit
from ondevice.runtime.confidence.metrics import Interval
from ondevice.runtime.confidence.samples import Samples

Floats = NDArray[np.float64]

MAX_LOSS = 0.025
CHOSEN_ON = ("threshold", "certify")
RESPLITS = 200
MAX_ERRORS = (0.05, 0.10, 0.20)  # of certificates
OURS, PROBE, LOGPROB = "ours", "ours + probe", "mean log-probability"
GAIN = "ours + gain"


@dataclass(frozen=True)
class Ranking:
    """How well a score tells right answers from wrong ones on a split."""

    name: str
    split: str
    auroc: Interval
    augrc: float
    against_logprob: Interval | None


@dataclass(frozen=True)
class Trust:
    """How far stated probabilities are from the truth on a split, 15 bins of equal mass.

    `ece_by_chance` is what perfectly calibrated probabilities would show there.
    """

    name: str
    split: str
    ece: Interval
    ece_by_chance: float
    brier: float


def calibrations(train: Samples, choose: Samples) -> dict[str, Calibration]:
    """Ours without and with the probe on hidden states, fitted on train, scaled on threshold."""
    return {
        name: scaled(from_fit(fit(train, probe=probe)), choose)
        for name, probe in ((OURS, False), (PROBE, True))
    }


def rivals(answers: Answers) -> dict[str, Calibration]:
    """For each large model `ours + probe` with what its train outcomes teach about it."""
    train, choose, prove = (answers.small[split] for split in ("train", *CHOSEN_ON))
    fitted = fit(train, probe=True)
    made = scaled(from_fit(fitted), choose)
    found = {}
    for large in answers.larges:
        right = [answers.large[large, split][0] for split in ("train", *CHOSEN_ON)]
        answered = against.Answered(large, large, *right)
        parts = (train, choose, prove)
        found[large] = against.learn(made, fitted, answered, parts, MAX_LOSS)[0]
    return found


def scores(made: dict[str, Calibration], of: Samples) -> dict[str, Floats]:
    """Every rule's score (n,) of answered requests; higher is safer to keep."""
    mean = of.values[:, NAMES.index("logprob_mean")]
    found = {
        "shorter prompts stay": -np.array([len(prompt) for prompt in of.prompts], np.float64),
        LOGPROB: np.where(of.open, mean, -np.inf),
    }
    return found | {name: probabilities(calibration, of) for name, calibration in made.items()}


def with_gain(found: dict[str, Floats], gain: Calibration | None, of: Samples) -> dict[str, Floats]:
    """The scores, and P(small right) - P(large right) where that was learned."""
    return found if gain is None else found | {GAIN: against.local_scores(gain, of)}


def rankings(made: dict[str, Calibration], answers: Answers) -> list[Ranking]:
    """AUROC and AUGRC of every score on test and OOD, and the paired gain over LOGPROB."""
    found = []
    for split in ("test", "ood"):
        of = answers.small[split]
        by_name = scores(made, of)
        for name, score in by_name.items():
            gain = None
            if name in made:
                gain = metrics.paired_difference(
                    metrics.auroc, score, by_name[LOGPROB], of.right, of.groups
                )
            area = metrics.bootstrap(metrics.auroc, score, of.right, of.groups)
            found.append(Ranking(name, split, area, metrics.augrc(score, of.right), gain))
    return found


def trust(made: dict[str, Calibration], answers: Answers) -> list[Trust]:
    """Calibration error and Brier score of both calibrations on test and OOD."""
    found = []
    for split in ("test", "ood"):
        of = answers.small[split]
        for name, calibration in made.items():
            p = probabilities(calibration, of)
            error = metrics.ece_interval(p, of.right, of.groups)
            by_chance = metrics.ece_by_chance(p)
            found.append(Trust(name, split, error, by_chance, metrics.brier(p, of.right)))
    return found


def thresholds(
    made: dict[str, Calibration], answers: Answers, large: str, gain: Calibration | None = None
) -> dict[str, float]:
    """For each rule the threshold that keeps most local at a loss of 2.5 points, chosen on the
    threshold and certify splits."""
    choose = together(*(answers.outcomes(large, split) for split in CHOSEN_ON))
    parts = [answers.small[split] for split in CHOSEN_ON]
    given = [with_gain(scores(made, part), gain, part) for part in parts]
    return {
        name: threshold(np.concatenate([part[name] for part in given]), choose, MAX_LOSS)
        for name in given[0]
    }


def rows(
    made: dict[str, Calibration],
    answers: Answers,
    large: str,
    split: str,
    gain: Calibration | None = None,
) -> list[Result]:
    """The table: what every rule gives on a split that chose none of its thresholds."""
    of = answers.outcomes(large, split)
    levels = thresholds(made, answers, large, gain)
    now = with_gain(scores(made, answers.small[split]), gain, answers.small[split])
    n = len(of.small)
    found = [
        result("local only", of, np.ones(n)),
        result("large only", of, np.zeros(n), drafted=False),
    ]
    kept: dict[str, Floats] = {}
    for name, score in now.items():
        kept[name] = (score >= levels[name]).astype(np.float64)
    sure = np.exp(now[LOGPROB]) >= 0.7
    kept["fixed 0.7"] = sure.astype(np.float64)
    best = kept[PROBE].mean()
    found.append(result("random at the share of ours + probe", of, np.full(n, best), drafted=False))
    order = ("shorter prompts stay", "fixed 0.7", LOGPROB, OURS, PROBE)
    order += (GAIN,) if gain is not None else ()
    found += [result(name, of, kept[name], drafted=name != order[0]) for name in order]
    return [*found, result("oracle", of, oracle(of, MAX_LOSS))]


def certificates(made: Calibration, answers: Answers) -> list[dict[str, Any]]:
    """How 200 certificates, made on random parts of three splits, fared on the rest of these."""
    parts = [answers.small[split] for split in ("threshold", "certify", "test")]
    p = np.concatenate([probabilities(made, part) for part in parts])
    right = np.concatenate([part.right for part in parts])
    groups = [group for part in parts for group in part.groups]
    found = []
    for max_error in MAX_ERRORS:
        for drawn, names in (("items", None), ("templates", groups)):
            fared = certificate.resplits(p, right, names, RESPLITS, 0, max_error=max_error)
            kept = fared.kept_share
            found.append({"max_error": max_error, "drawn": drawn, **asdict(fared), "kept": kept})
    return found


def everything(answers: Answers, quick: bool) -> dict[str, Any]:
    """All figures, the parts that need no model first."""
    made = calibrations(answers.small["train"], answers.small["threshold"])
    ranked, trusted = rankings(made, answers), trust(made, answers)
    gains = rivals(answers)
    tables = {
        f"{large}, {split}": rows(made, answers, large, split, gains[large])
        for large in answers.larges
        for split in ("test", "ood")
    }
    fared = certificates(made[PROBE], answers)
    most = gains.get(fallback_data.REAL, made[PROBE])  # what takes longest to apply
    found: dict[str, Any] = {
        "parts": [asdict(part) for part in fallback_data.describe(answers)],
        "ranking": [asdict(one) for one in ranked],
        "calibration": [asdict(one) for one in trusted],
        "tables": {name: [asdict(row) for row in table] for name, table in tables.items()},
        "certificates": fared,
        "overhead": overhead.measure(most, answers.small["test"]),
    }
    if not quick:
        found |= {"faults": faults.run(), "leaks": leaks.run(), "redaction": redaction.run()}
    return headline(found) | found


def headline(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that are asked for first, all of `ours + probe`."""
    area = {one["split"]: one["auroc"]["value"] for one in found["ranking"] if one["name"] == PROBE}
    error = next(o for o in found["calibration"] if o["name"] == PROBE and o["split"] == "test")
    real = found["tables"].get(f"{fallback_data.REAL}, test", [])
    ours = next((row for row in real if row["name"] == PROBE), None)
    fared = next(c for c in found["certificates"] if c["drawn"] == "items")
    top: dict[str, Any] = {
        "auroc_test": area["test"],
        "auroc_ood": area["ood"],
        "ece": error["ece"]["value"],
        "local_share": ours["local_share"]["value"] if ours else None,
        "quality_loss": ours["loss"]["value"] if ours else None,
        "cost_cut": ours["cost_cut"]["value"] if ours else None,
        "certificate_held": fared["kept"],
    }
    if "faults" in found:
        top |= {name: found["faults"][name] for name in ("faults_survived", "faults_tried")}
    return top


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures here")
    parser.add_argument("--rerun", action="store_true", help="make the answers anew first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="leave out faults, leaks, redaction")
    parser.add_argument("--answers", type=Path, default=fallback_data.SET / "answers")
    options = parser.parse_args()
    if options.rerun:
        fallback_data.rerun(options.answers, options.threads, _show)
    found = everything(fallback_data.load(options.answers), options.quick)
    print(fallback_table.markdown(found))
    if options.json:
        files.write_text(options.json, json.dumps(found, indent=2) + "\n")


def _show(stage: str, done: int, total: int) -> None:
    print(f"{stage} {done}/{total}", file=sys.stderr, end="\r")
