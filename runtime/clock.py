"""The clock that measurement reads: seconds that only move forward.

A seam: `time.perf_counter` in the world, `ScriptedClock` where delays must be known.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

Clock = Callable[[], float]

system_clock: Clock = perf_counter


class ScriptedClock:
    """A clock that moves when told to, and by `tick` seconds after each reading."""

    def __init__(self, now: float = 0.0, tick: float = 0.0) -> None:
        self.now = now
        self.tick = tick

    def __call__(self) -> float:
        reading = self.now
        self.now += self.tick
        return reading

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards ({seconds} s)")
        self.now += seconds
