"""Events from a working thread to any number of readers in the event loop.

Knows nothing of what is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from ondevice.serve.respond import event as server_sent

_PING_S = 15.0  # seconds of silence after which a reader that has gone is noticed


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` goes out as JSON."""

    name: str
    data: dict[str, Any]


class Feed:
    """What a thread tells, in order. Nothing is lost for a slow reader, nothing waits for it.

    A reader that comes later begins with what is told next, or with all when `replay`.
    """

    def __init__(self, *, replay: bool = True) -> None:
        self._replay = replay
        self._lock = threading.Lock()
        self._told: list[Event] = []
        self._readers: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Event | None]]] = []
        self._ended = False

    def tell(self, event_name: str, /, **data: Any) -> None:
        """Tell all readers; from any thread. After the end nothing is told any more."""
        event = Event(event_name, data)
        with self._lock:
            if not self._ended:
                if self._replay:
                    self._told.append(event)
                self._put(event)

    def end(self) -> None:
        """Nothing more will come."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._put(None)

    async def read(self) -> AsyncIterator[Event | None]:
        """Events as they come, to the end; None now and then while there is none."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        reader = (asyncio.get_running_loop(), queue)
        with self._lock:
            for told in self._told:
                queue.put_nowait(told)
            if self._ended:
                queue.put_nowait(None)
            else:
                self._readers.append(reader)
        try:
            while True:
                try:
                    async with asyncio.timeout(_PING_S):
                        event = await queue.get()
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._readers.remove(reader)

    def _put(self, event: Event | None) -> None:
        for loop, queue in self._readers:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads there
                loop.call_soon_threadsafe(queue.put_nowait, event)


def plain(value: Any) -> Any:
    """Data classes to what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def sent(event: Event | None) -> bytes:
    """An event on the wire; a comment for None."""
    if event is None:
        return b": still here\n\n"
    return server_sent(plain(event.data), event.name)
