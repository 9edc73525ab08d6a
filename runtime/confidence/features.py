"""Numbers that say how sure a model was of an answer, from the signals of its tokens.

Knows no text, no model and no coefficients.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ondevice.runtime.answer import FinishReason, Signals

NAMES: tuple[str, ...] = (
    "logprob_mean",
    "logprob_min",
    "logprob_q10",
    "logprob_q25",
    "logprob_q50",
    "logprob_sum",
    "logprob_first",
    "entropy_mean",
    "entropy_max",
    "entropy_first",
    "margin_mean",
    "margin_min",
    "margin_first",
    "log_length",
    "cut",
)
_NO_TOKENS = {"cut": 1.0}


def features(signals: Signals, finish_reason: FinishReason) -> NDArray[np.float64]:
    """Features (len(NAMES),) of an answer: log-probabilities and entropies in nats.

    Quantiles of token log-probabilities: Gupta et al. 2024 (arXiv 2404.10136); mean and maximum
    entropy: arXiv 2605.28264; top-2 margin: arXiv 2605.18796. `log_length` is ln of the number of
    tokens, `cut` 1 for an answer that its end token did not end. An answer without tokens has
    zeros and `cut` 1.
    """
    if not signals.logprobs:
        return np.array([_NO_TOKENS.get(name, 0.0) for name in NAMES])
    logprobs = np.asarray(signals.logprobs, np.float64)
    entropies = np.asarray(signals.entropies, np.float64)
    # A forced token's rivals may be at -inf: beyond 20 nats a larger margin says nothing more.
    margins = np.minimum(np.asarray(signals.margins, np.float64), 20.0)
    low, quarter, median = np.quantile(logprobs, (0.1, 0.25, 0.5))
    return np.array(
        [
            logprobs.mean(),
            logprobs.min(),
            low,
            quarter,
            median,
            logprobs.sum(),
            logprobs[0],
            entropies.mean(),
            entropies.max(),
            entropies[0],
            margins.mean(),
            margins.min(),
            margins[0],
            math.log(len(logprobs)),
            float(finish_reason != "stop"),
        ]
    )
