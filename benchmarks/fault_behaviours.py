"""What a misbehaving endpoint does after it has read a request."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

from benchmarks.faulty import ID, TEXT, Behaviour, Peer, chunk

HTML = "<!DOCTYPE html><html><body>Please sign in</body></html>"


def error(status: int, code: str | None = None, **more: str) -> Behaviour:
    """An error status, as JSON."""
    return lambda peer: peer.error(status, code, **more)


def page(kind: str) -> Behaviour:
    """A sign-in page with status 200."""
    return lambda peer: peer.answer(200, HTML, kind)


def raw(data: bytes) -> Behaviour:
    """A stream of exactly these bytes."""

    def behave(peer: Peer) -> None:
        peer.head()
        peer.send(data)

    return behave


def after(*words: str, then: Behaviour) -> Behaviour:
    """A good beginning, then something else."""

    def behave(peer: Peer) -> None:
        peer.begin(*words)
        then(peer)

    return behave


def ending(reason: str | None = "stop", **more: Any) -> Behaviour:
    """A whole stream with an unusual end."""

    def behave(peer: Peer) -> None:
        peer.begin("Grüße ", "aus ", "Köln ", "🙂")
        peer.end(reason, **more)

    return behave


def sent(*bodies: bytes, **headers: str) -> Behaviour:
    """A stream with headers of one's own."""

    def behave(peer: Peer) -> None:
        peer.head(**headers)
        for body in bodies:
            peer.send(body)

    return behave


def data(*deltas: dict[str, Any], reason: str | None = "stop", **more: Any) -> bytes:
    """A whole stream of these deltas."""
    events: list[Any] = [chunk(delta) for delta in deltas]
    events.append(chunk({}, reason))
    count = len(deltas)
    usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
    events.append({**chunk({}), "choices": [], "usage": usage, **more})
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return b"".join(lines) + b"data: [DONE]\n\n"


WHOLE = data({"content": TEXT})


# Behaviours that need more than a line


def slow_headers(peer: Peer) -> None:
    peer.drip(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + b"X: y\r\n" * 99, 0.05)


def slow_body(peer: Peer) -> None:
    peer.head()
    peer.drip(WHOLE, 0.05)


def trickle(peer: Peer) -> None:
    peer.begin()
    while True:
        peer.text("a ")
        time.sleep(0.1)


def comments(peer: Peer) -> None:
    peer.head()
    while True:
        peer.send(b": still working\n\n")
        time.sleep(0.05)


def split_characters(peer: Peer) -> None:
    peer.head()
    events = data({"content": TEXT}).replace(
        json.dumps(TEXT).encode(), json.dumps(TEXT, ensure_ascii=False).encode()
    )
    for byte in events:
        peer.send(bytes([byte]))


def split_in_halves(peer: Peer) -> None:
    """The halves of a character above U+FFFF in two events, as some servers escape it."""
    peer.head()
    peer.send(data({"content": "Grüße aus Köln "}, {"content": "\ud83d"}, {"content": "\ude42"}))


def early_refusal(peer: Peer) -> None:
    peer.error(413)
    peer.reset()


def endless(peer: Peer) -> None:
    peer.head()
    event = b"data: " + json.dumps(chunk({"content": "x" * 60_000})).encode() + b"\n\n"
    while True:
        peer.send(event)


def twice(peer: Peer) -> None:
    peer.begin("Grüße ", "aus ")
    peer.data(chunk({"content": "aus "}))  # not generated again, only sent again
    peer.text("Köln ", "🙂")
    peer.end()


def two_answers(peer: Peer) -> None:
    peer.begin("Grüße ")
    peer.text("from ", identity=f"{ID}-other")
    peer.end()


def endless_headers(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.send(b"X-More: " + b"y" * 1000 + b"\r\n")


def chunked_and_cut(peer: Peer) -> None:
    peer.head(Transfer_Encoding="chunked")
    event = b"data: " + json.dumps(chunk({"content": "Grüße "})).encode() + b"\n\n"
    peer.send(f"{len(event):x}\r\n".encode() + event + b"\r\n")


BOMB = gzip.compress(bytes(10 << 20))
