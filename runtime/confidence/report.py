"""What a calibration run found, for people and programs.

Knows the figures, not how they are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.runtime.confidence.against import Against
from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.fit import Variant
from ondevice.runtime.confidence.metrics import Interval
from ondevice.runtime.confidence.stored import as_json


@dataclass(frozen=True)
class SureAndWrong:
    """A wrong answer that was thought right with this probability."""

    id: str
    probability: float
    prompt: str
    text: str


@dataclass(frozen=True)
class Report:
    """The calibration and its figures on the certify split, with 95% intervals by template.

    `right` is the share of right answers there. `ece_by_chance` is the calibration error that
    perfect probabilities would show on so few examples. `mean_logprob_auroc` is the simplest
    rival's. `local_share` is the share accepted at the certified threshold, None without one.
    `variants` and `chosen` tell what cross-validation on the train split saw. `against` is there
    where a larger model's answers were given.
    """

    calibration: Calibration
    package: str
    max_error: float
    confidence: float
    train: int
    threshold: int
    certify: int
    ignored: int
    right: float
    auroc: Interval
    mean_logprob_auroc: Interval
    ece: Interval
    ece_by_chance: float
    brier: float
    augrc: float
    local_share: float | None
    variants: tuple[Variant, ...]
    chosen: str
    sure_and_wrong: tuple[SureAndWrong, ...]
    plots: tuple[Path, ...] = ()
    against: Against | None = None

    def to_json(self) -> dict[str, Any]:
        """The report without the coefficients; figures that cannot be computed are null."""
        data = {
            name: as_json(value)
            for name, value in vars(self).items()
            if name not in ("calibration", "plots")
        }
        found = self.calibration
        data |= {
            "key": found.key,
            "threshold_value": found.threshold,
            "certificate": as_json(found.certificate),
            "reason": found.reason,
            "plots": [str(path) for path in self.plots],
        }
        return {name: _no_nan(value) for name, value in data.items()}


def _no_nan(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {name: _no_nan(one) for name, one in value.items()}
    return [_no_nan(one) for one in value] if isinstance(value, list) else value
