"""From a blocking answer in a thread to the event loop, and back: who leaves ends the answer.

Knows nothing of HTTP beyond "the client has gone".
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ondevice.host import Turn

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def stream_turn(
    start: Callable[[threading.Event], Turn[T]], cancelled: threading.Event
) -> AsyncIterator[T]:
    """The events of a turn, which one thread of its own reads from its beginning to its end.

    `start` takes the place in the line; what it raises is raised here. What is not read yet waits
    in memory, bounded by the context, so that a slow reader does not hold the model. Closing the
    iterator sets `cancelled`, and the thread ends with the token in the making.
    """
    turn = start(cancelled)
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[T | _End] = asyncio.Queue()

    def put(item: T | _End) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def read() -> None:
        end = _End()
        try:
            with turn:
                for event in turn:
                    put(event)
        except BaseException as error:
            end = _End(error)
        put(end)

    threading.Thread(target=read, name="answer", daemon=True).start()
    return _events(queue, cancelled)


async def _events(queue: asyncio.Queue[T | _End], cancelled: threading.Event) -> AsyncIterator[T]:
    try:
        while True:
            item = await queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        cancelled.set()
