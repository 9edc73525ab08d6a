"""Stops asking an endpoint that keeps failing, and tries it again with one call at a time.

Counts on a monotonic clock, so that a changed wall clock neither opens nor closes it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ondevice.errors import CloudError
from ondevice.runtime.clock import Clock, system_clock

State = Literal["closed", "open", "half-open"]

LONGEST_REST_S = 600.0


class Turn:
    """One call that the breaker let through: say how it went, or nothing when it proves nothing."""

    def __init__(self) -> None:
        self.good: bool | None = None
        self.rest_s = 0.0

    def succeeded(self) -> None:
        """The endpoint did its work."""
        self.good = True

    def failed(self, rest_s: float = 0.0) -> None:
        """The endpoint did not; `rest_s` is how long it asked to be left alone (s)."""
        self.good = False
        self.rest_s = max(self.rest_s, rest_s)


class Breaker:
    """Opens after `failures` calls in a row that failed, for `rest_s` seconds, and for as long as
    the endpoint asked to be left alone (at most ten minutes).

    After that one call is let through as a trial; the others are refused until it has ended.
    A call that proves nothing (cancelled, or never sent) leaves things as they were.
    """

    def __init__(
        self, failures: int = 3, rest_s: float = 30.0, clock: Clock = system_clock
    ) -> None:
        self._most = failures
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._open_until: float | None = None
        self._trial = False

    @property
    def state(self) -> State:
        """Where it stands now."""
        with self._lock:
            if self._open_until is None:
                return "closed"
            return "open" if self._clock() < self._open_until else "half-open"

    @contextmanager
    def turn(self, name: str) -> Iterator[Turn]:
        """A call to the endpoint of this name. Raises `CloudError` "breaker-open" at once."""
        trial = self._enter(name)
        turn = Turn()
        try:
            yield turn
        finally:
            self._leave(turn, trial)

    def _enter(self, name: str) -> bool:
        with self._lock:
            if self._open_until is None:
                return False
            left = self._open_until - self._clock()
            if left <= 0 and not self._trial:
                self._trial = True
                return True
        wait = f"in {max(left, 0):.0f} s" if left > 0 else "when the present trial has ended"
        raise CloudError(f"{name} failed repeatedly; it is tried again {wait}", "breaker-open")

    def _leave(self, turn: Turn, trial: bool) -> None:
        with self._lock:
            if trial:
                self._trial = False
            if turn.good:
                self._failed, self._open_until = 0, None
            elif turn.good is False:
                self._failed += 1
                worn = trial or self._failed >= self._most
                rest = max(turn.rest_s, self._rest_s if worn else 0.0)
                if rest > 0:
                    self._open_until = self._clock() + min(rest, LONGEST_REST_S)
