"""This process as a sidecar: its pipes, and its end when the program that started it ends.

Knows nothing of messages but that a session takes and gives them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ondevice.errors import RequestError
from ondevice.stdio.framing import Frames, FramingError
from ondevice.stdio.outlet import Outlet
from ondevice.stdio.session import Session

if TYPE_CHECKING:
    from ondevice.host import Host

CHUNK = 1 << 16
_TICK = 0.25  # seconds between two looks at the parent, and two words about a model that loads
_GRACE = 0.5  # seconds that an answer has to end, and again that the last words have to be read


@dataclass(frozen=True)
class End:
    """Why the conversation is over. `code` is the exit code, `message` for stderr, or ""."""

    code: int
    message: str = ""


GONE = End(0)  # stdin is closed, `exit` came, or the parent died: nothing to complain about


@dataclass(frozen=True)
class Pipes:
    """Descriptors of the way in and the way out, and the process that was the parent then."""

    incoming: int
    outgoing: int
    parent: int


def take_pipes() -> Pipes:
    """Stdin and stdout as descriptors that only the caller knows.

    What libraries print goes to stderr from now on, and nobody else reads the client's messages.
    Raises `RequestError` when stdin is a terminal or one of them is closed.
    """
    closed = sys.stdin is None or sys.stdout is None
    sys.stdout = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for good
    if closed:
        raise RequestError("stdin and stdout must be open: they carry the messages")
    if os.isatty(0):
        raise RequestError(
            "`ondevice stdio` talks JSON-RPC with a program that starts it, not with a person; "
            'see docs/stdio.md, or ask with `ondevice ask "..."`'
        )
    nothing = os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:  # closed: else the next descriptor would become stderr
        os.dup2(nothing, 2)
    pipes = Pipes(os.dup(0), os.dup(1), os.getppid())
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    if nothing > 2:
        os.close(nothing)
    if sys.platform == "win32":
        import msvcrt

        for fd in (pipes.incoming, pipes.outgoing):
            msvcrt.setmode(fd, os.O_BINARY)  # else LF becomes CR LF within frames
    return pipes


def serve(host: Host, pipes: Pipes, context_length: int | None = None) -> End:
    """Talk with the client until one of the two is gone; see `GONE`.

    Returns within two seconds of that, whatever the threads that made answers or wrote them still
    do: leave the process by `os._exit`. Raises as `Session` does.
    """
    over = _Over()
    outlet = Outlet(pipes.outgoing, lambda why: over.set(End(1, why)))
    session = Session(host, outlet.send, lambda: over.set(GONE), context_length)
    reading = threading.Thread(
        target=_read, args=(pipes.incoming, session, over), name="reader", daemon=True
    )
    reading.start()
    while not over.event.wait(_TICK):
        if os.getppid() != pipes.parent:  # some other process may hold our pipes open
            over.set(GONE)
        session.tick()
    session.cancel_all(_GRACE)  # a call to the cloud writes down what it cost
    outlet.drain(_GRACE)
    outlet.close()
    assert over.end is not None
    return over.end


def ignore_interrupts() -> None:
    """Ctrl-C in the parent's terminal is the parent's to understand: stdin's end is our sign."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Over:
    """The first reason to stop."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.end: End | None = None
        self._lock = threading.Lock()

    def set(self, end: End) -> None:
        with self._lock:
            if self.end is None:
                self.end = end
                self.event.set()


def _read(fd: int, session: Session, over: _Over) -> None:
    frames = Frames()
    try:
        while chunk := _chunk(fd):
            for body in frames.feed(chunk):
                session.receive(body)
                if over.event.is_set():
                    return
        over.set(GONE)
    except FramingError as error:
        session.refuse(error)
        over.set(End(2, f"stdin cannot be read any further: {error}"))
    except BaseException:
        over.set(End(1, "a bug in ondevice ended the reading of stdin; please report it"))
        raise


def _chunk(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:  # a socket that was reset, for one
        return b""
