"""The way out: frames written by a thread of their own, so that nobody else waits for a reader.

Knows nothing of what the frames say.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from ondevice.stdio.framing import frame

MOST_UNREAD = 64 << 20  # bytes that may wait for a client that does not read


class Outlet:
    """Writes messages to a file descriptor, in order.

    `broken` is called once, from any thread, with what is wrong when the client no longer reads;
    whatever is sent after that goes nowhere.
    """

    def __init__(
        self, fd: int, broken: Callable[[str], None], most_unread: int = MOST_UNREAD
    ) -> None:
        self._fd = fd
        self._broken = broken
        self._most_unread = most_unread
        self._waiting: deque[bytes] = deque()
        self._unread = 0  # bytes, the frame being written among them
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write, name="outlet", daemon=True).start()

    def send(self, body: bytes) -> None:
        """Have a message written; returns at once."""
        data = frame(body)
        with self._changed:
            if self._closed:
                return
            self._unread += len(data)
            self._waiting.append(data)
            full = self._unread > self._most_unread
            self._changed.notify_all()
        if full:
            self._fail(f"the client has left {self._most_unread >> 20} MiB of output unread")

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is written, or cannot be; whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or not self._unread, timeout_s)

    def close(self) -> None:
        """Write nothing more; what is being written is let go."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _write(self) -> None:
        while (data := self._next()) is not None:
            try:
                _write_all(self._fd, data)
            except OSError as error:
                self._fail(f"the client no longer reads: {error.strerror or error}")
                return
            with self._changed:
                self._unread -= len(data)
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            return None if self._closed else self._waiting.popleft()

    def _fail(self, why: str) -> None:
        with self._changed:
            already, self._closed = self._closed, True
            self._waiting.clear()
            self._changed.notify_all()
        if not already:
            self._broken(why)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
