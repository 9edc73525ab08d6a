"""An endpoint that misbehaves on purpose: a raw socket server, one behaviour after another.

Knows nothing of the client that it is there to try. A behaviour is a function of a `Peer`, which is
one connection after its request was read; it may do to the connection whatever it likes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

ID = "chatcmpl-1"
EVENTS = "text/event-stream"
LONG_S = 20.0  # longer than any deadline that is tried


@dataclass
class Seen:
    """What reached the server."""

    connections: int = 0
    bytes: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # head and body
    prompt_tokens: int = 0  # what the server would bill
    output_tokens: int = 0


class Peer:
    """One connection. `number` counts the requests of the server, from 1."""

    def __init__(self, sock: socket.socket, server: Faulty, number: int) -> None:
        self.sock = sock
        self.number = number
        self._server = server

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self, status: int = 200, kind: str = EVENTS, **more: str) -> None:
        """The status line and headers; the body ends with the connection unless said otherwise."""
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def answer(self, status: int, body: str, kind: str = "application/json", **more: str) -> None:
        """A whole answer that is no stream."""
        self.head(status, kind, Content_Length=str(len(body.encode())), **more)
        self.send(body.encode())

    def error(self, status: int, code: str | None = None, **more: str) -> None:
        """An error as OpenAI-compatible endpoints send it."""
        error = {"message": f"error {status} on purpose", "type": code, "code": code}
        self.answer(status, json.dumps({"error": error}), **more)

    def data(self, value: object) -> None:
        """One event."""
        self.send(b"data: " + json.dumps(value).encode() + b"\n\n")

    def text(self, *words: str, identity: str = ID) -> None:
        """Events of text, one token each."""
        for word in words:
            self._server.seen.output_tokens += 1
            self.data(chunk({"content": word}, identity=identity))

    def begin(self, *words: str) -> None:
        """The head of a good stream and its first words."""
        self._server.seen.prompt_tokens += 7
        self.head()
        self.data(chunk({"role": "assistant", "content": ""}))
        self.text(*words)

    def end(
        self, reason: str | None = "stop", usage: dict[str, Any] | None = None, done: bool = True
    ) -> None:
        """The end of a stream: finish reason, usage (the true one by default), end mark."""
        self.data(chunk({}, reason))
        seen = self._server.seen
        if usage is None:
            usage = {"prompt_tokens": 7, "completion_tokens": seen.output_tokens}
        if usage:
            self.data({**chunk({}), "choices": [], "usage": usage})
        if done:
            self.send(b"data: [DONE]\n\n")

    def good(self, *words: str) -> None:
        """A faultless answer."""
        self._server.seen.output_tokens = 0
        self.begin(*(words or WORDS))
        self.end()

    def reset(self) -> None:
        """Break the connection off with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def silence(self) -> None:
        """Say nothing until the server ends or the client hangs up."""
        self.sock.settimeout(LONG_S)
        with contextlib.suppress(OSError):
            while self.sock.recv(4096):
                pass

    def drip(self, data: bytes, every_s: float) -> None:
        """Send byte after byte."""
        for byte in data:
            self.send(bytes([byte]))
            if self._server.ended.wait(every_s):
                return


Behaviour = Callable[[Peer], None]
WORDS = ("Grüße ", "aus ", "Köln ", "🙂")
TEXT = "".join(WORDS)


class Faulty:
    """The server: one behaviour for each request, the last one for all that follow.

    `greet` is called right after a connection was taken, before anything is read. With `context`
    it speaks TLS.
    """

    def __init__(
        self,
        *behaviours: Behaviour,
        context: ssl.SSLContext | None = None,
        greet: Behaviour | None = None,
    ) -> None:
        self.seen = Seen()
        self.ended = threading.Event()
        self._behaviours: Sequence[Behaviour] = behaviours or (Peer.good,)
        self._context = context
        self._greet = greet
        self._lock = threading.Lock()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sockets: set[socket.socket] = {self._sock}
        self.port = int(self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def base_url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(sock)
                self.seen.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # clients hang up, that is the point
            if self._greet is not None:
                self._greet(Peer(sock, self, 0))
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            request = self._read(sock)
            if request is not None:
                with self._lock:
                    self.seen.requests.append(request)
                    number = len(self.seen.requests)
                behaviour = self._behaviours[min(number, len(self._behaviours)) - 1]
                behaviour(Peer(sock, self, number))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.close()

    def _read(self, sock: socket.socket) -> tuple[str, bytes] | None:
        """Head and body of a request; None when the client went away before."""
        data = b""
        length = None
        while length is None or len(data) < length:
            part = sock.recv(65536)
            if not part:
                return None
            self.seen.bytes += len(part)
            data += part
            if length is None and b"\r\n\r\n" in data:
                start = data.index(b"\r\n\r\n") + 4
                length = start + _content_length(data[:start])
        head, _, body = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), body


def _content_length(head: bytes) -> int:
    for line in head.decode("latin-1").lower().split("\r\n"):
        name, _, value = line.partition(":")
        if name == "content-length":
            return int(value)
    return 0


def chunk(delta: dict[str, Any], reason: str | None = None, identity: str = ID) -> dict[str, Any]:
    """One event of a streamed chat completion."""
    return {
        "id": identity,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "faulty",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
