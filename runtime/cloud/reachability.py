"""Whether an endpoint can be reached, as far as that is known without asking anybody else.

Learned from the last real call. The operating system's list of interfaces is a hint only; no
third machine is ever contacted.
"""

from __future__ import annotations

import threading
from typing import Literal

from ondevice.runtime.clock import Clock, system_clock

State = Literal["disabled", "no-route", "unknown", "up", "down"]

FRESH_S = 30.0  # what a call has shown is believed for so long


class Reachability:
    """What the last contact with an endpoint has shown, forgotten after `fresh_s` seconds."""

    def __init__(self, fresh_s: float = FRESH_S, clock: Clock = system_clock) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[State, float] | None = None

    def learn(self, state: State) -> None:
        """Remember what a contact has shown."""
        with self._lock:
            self._seen = (state, self._clock())

    @property
    def state(self) -> State:
        """The last contact's result, "unknown" when there was none or it is too long ago."""
        with self._lock:
            if self._seen is None or self._clock() - self._seen[1] > self._fresh_s:
                return "unknown"
            return self._seen[0]


def has_interface() -> bool:
    """Whether any network interface but loopback is up, as the operating system says."""
    import psutil

    return any(
        state.isup and not name.lower().startswith("lo")
        for name, state in psutil.net_if_stats().items()
    )
