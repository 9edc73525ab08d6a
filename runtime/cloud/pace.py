"""The time one call may still take, and the caller's wish to end it.

Everything that waits asks here how long; knows nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Callable

from ondevice.errors import CloudError
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.cloud.endpoint import Deadlines

SLICE_S = 0.05  # the longest wait between two questions whether to stop


class Pace:
    """The deadlines of one call, from now on.

    First the time to the first text runs, then with every text the time to the next one; the
    total bounds both.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        should_stop: Callable[[], bool] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._deadlines = deadlines
        self._should_stop = should_stop
        self._clock = clock
        self.start = clock()
        self._end = self.start + deadlines.total_s
        self._until = min(self.start + deadlines.first_token_s, self._end)
        self._begun = False

    def progress(self) -> None:
        """A text has come: from now on the next one is waited for."""
        self._begun = True
        self._until = min(self._clock() + self._deadlines.between_tokens_s, self._end)

    def excuse(self, seconds: float) -> None:
        """Do not count time that the caller has spent with a text."""
        self._end += seconds
        self._until += seconds

    def connection(self) -> float:
        """The moment until which a connection begun now may take."""
        return self._clock() + self._deadlines.connect_s

    def moment(self, seconds: float) -> float:
        """The moment that comes after so many seconds."""
        return self._clock() + seconds

    def left(self, until: float | None = None) -> float:
        """Seconds that may still be waited, never 0.

        Raises `CloudError`: "cancelled" when the caller wants to stop, "timeout" when nothing is
        left, of the call or until the moment given.
        """
        if self._should_stop is not None and self._should_stop():
            raise CloudError("the call was cancelled", "cancelled")
        now = self._clock()
        left = self._until - now
        if left <= 0:
            raise CloudError(self._late(now), "timeout")
        if until is not None and until - now < left:
            left = until - now
            if left <= 0:
                raise CloudError(f"no connection within {self._deadlines.connect_s:g} s", "timeout")
        return left

    def slice(self, until: float | None = None) -> float:
        """The next wait: `left`, but short enough to notice a wish to stop."""
        return min(SLICE_S, self.left(until))

    def _late(self, now: float) -> str:
        if now >= self._end:
            return f"the answer was not complete within {self._deadlines.total_s:g} s"
        if self._begun:
            return f"the answer stood still for {self._deadlines.between_tokens_s:g} s"
        return f"no answer began within {self._deadlines.first_token_s:g} s"
