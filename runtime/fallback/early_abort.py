"""Notice a draft that goes wrong while it is being made, from its tokens' log-probabilities.

Knows nothing about what happens then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ondevice.runtime.fallback.policy import EarlyAbort


class Watch:
    """Sees one draft's log-probabilities (nats) in order.

    The statistic is the smallest mean of `window` tokens in a row, the group confidence of Fu et
    al. 2025 (DeepConf); before a window is full it is not judged.
    """

    def __init__(self, settings: EarlyAbort) -> None:
        self._settings = settings
        self._window: deque[float] = deque(maxlen=settings.window)
        self._seen = 0
        self.lowest: float | None = None  # nats; None before the first full window

    def push(self, logprob: float) -> bool:
        """Add a token; whether the draft is to be given up here."""
        if self._seen >= self._settings.tokens:
            return False
        self._seen += 1
        self._window.append(logprob)
        if len(self._window) < self._settings.window:
            return False
        mean = sum(self._window) / len(self._window)
        self.lowest = mean if self.lowest is None else min(self.lowest, mean)
        return mean < self._settings.minimum


def aborted_at(logprobs: Sequence[float], settings: EarlyAbort) -> int | None:
    """How many tokens a draft with these log-probabilities has when it is given up; None: never.

    `len(logprobs)` less that is what the abort saves.
    """
    watch = Watch(settings)
    for number, logprob in enumerate(logprobs, 1):
        if watch.push(logprob):
            return number
    return None
