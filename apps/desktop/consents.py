"""Questions to the person in the window: a working thread asks, the page answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ondevice.desktop.records import new_id
from ondevice.runtime.clock import Clock, system_clock

if TYPE_CHECKING:
    from ondevice.runtime.fallback.reply import Proposal

PATIENCE_S = 300.0  # after which silence means no
_LOOK_S = 0.1


class Consents:
    """The questions that are open. Usable from any thread."""

    def __init__(self, patience_s: float = PATIENCE_S, clock: Clock = system_clock) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Future[bool]] = {}

    def ask(self, show: Callable[[str], None], gone: Callable[[], bool]) -> bool:
        """Show a question under an id and wait; False when it was refused, late, or `gone`."""
        id, future = new_id(), Future[bool]()
        with self._lock:
            self._open[id] = future
        try:
            show(id)
            end = self._clock() + self._patience_s
            while self._clock() < end and not gone():
                try:
                    return future.result(_LOOK_S)
                except Late:
                    continue
            return False
        finally:
            with self._lock:
                del self._open[id]

    def answer(self, id: str, allow: bool) -> bool:
        """Answer a question; whether it was still open. The first answer holds."""
        with self._lock:
            future = self._open.get(id)
            if future is None or future.done():
                return False
            future.set_result(allow)
            return True


def shown(proposal: Proposal) -> dict[str, Any]:
    """What would leave, as JSON."""
    return asdict(replace(proposal, redactions=dict(proposal.redactions)))
