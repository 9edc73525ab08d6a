"""How likely a larger model's answer is right, by the same inputs as P(right), and when that is
enough to ask it.

Applying it needs numpy alone; `against` makes it. Knows no policy and no endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence.router import Router, sigmoid

Floats = NDArray[np.float64]

NEVER_LOCAL = -1.0  # an advantage that every answer of the rival has


@dataclass(frozen=True)
class Kept:
    """What the advantage gave on the certify split, which helped to choose it.

    `examples` were answered by both; `local_share` of them stayed, `accuracy` were right then,
    and `rival_accuracy` by the rival alone. `loss` is the difference, from -1 to 1.
    """

    examples: int
    local_share: float
    accuracy: float
    rival_accuracy: float
    loss: float


@dataclass(frozen=True)
class Rival:
    """P(the rival's answer is right) = sigmoid(slope * (intercept + linear + kernel + router)
    + offset), over the features, the landmarks and the prompt of its calibration.

    `subject` gave the answers, `model` is what it is called at an endpoint. `weights` belong to
    the calibration's standardized features, `kernel_weights` to its landmarks; empty where the
    part is not used. An answer is worth passing on when P(rival right) - P(right) > `advantage`:
    the least that loses at most `max_loss` of the rival's accuracy.
    """

    subject: str
    model: str
    intercept: float
    weights: tuple[float, ...]
    kernel_weights: tuple[float, ...]
    router: Router | None
    slope: float
    offset: float
    advantage: float
    max_loss: float
    kept: Kept | None = None

    def __post_init__(self) -> None:
        if not -1 <= self.advantage <= 1:
            raise CalibrationError(f"rival.advantage has to be from -1 to 1, not {self.advantage}")
        if self.router is not None and self.router.encoder:
            raise CalibrationError("rival.router.encoder has to be empty: it reads n-grams")

    def logit_of(self, prompt: str) -> float:
        """The part of the prompt in the logit."""
        return 0.0 if self.router is None else self.router.weight * self.router.logit(prompt)

    def probability(self, prompt_logit: float, standardized: Floats, similar: Floats) -> float:
        """P(right) from `logit_of` the prompt, the standardized features (features,) and the
        likeness to the landmarks (landmarks,)."""
        logit = self.intercept + prompt_logit
        if self.weights:
            logit += float(self._weights @ standardized)
        if self.kernel_weights:
            logit += float(self._kernel_weights @ similar)
        return sigmoid(self.slope * logit + self.offset)

    @cached_property
    def _weights(self) -> Floats:
        return np.array(self.weights)

    @cached_property
    def _kernel_weights(self) -> Floats:
        return np.array(self.kernel_weights)
