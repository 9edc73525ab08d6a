"""The socket, and connections that ask for nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from echoing import TOKEN

from ondevice.errors import OndeviceError
from ondevice.host import Host
from ondevice.serve import patience, security
from ondevice.serve.app import create_app
from ondevice.serve.listening import Server, bind


@contextmanager
def listening_server() -> Iterator[int]:
    listening = bind(0)
    port: int = listening.getsockname()[1]
    with Server(create_app(Host([]), token=TOKEN, port=port), listening) as server:
        server.start()
        yield port


def request(port: int, path: str = "/health", *more: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *more, "", ""]
    return "\r\n".join(lines).encode()


def closed_after(connection: socket.socket) -> float:
    """Seconds until the server closes a connection without a word."""
    start = time.monotonic()
    assert connection.recv(1) == b""
    return time.monotonic() - start


def answer(connection: socket.socket) -> bytes:
    said = b""
    while b'{"status":"ok"}' not in said:
        part = connection.recv(4096)
        assert part, said
        said += part
    return said


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with bind(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OndeviceError, match=f"port {port} is in use.*--port"):
            bind(port)


def test_only_loopback_is_listened_on() -> None:
    with bind(0) as made:
        assert made.getsockname()[0] == "127.0.0.1"


def test_the_port_is_free_again_after_the_end() -> None:
    with listening_server() as port:
        pass
    bind(port).close()


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.3)
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 10) as silent:
        assert 0.1 < closed_after(silent) < 5


def test_a_head_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.3)
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 10) as slow:
        start = time.monotonic()
        with pytest.raises(OSError):
            for byte in request(port) * 100:
                slow.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - start < 5


def test_the_head_of_a_second_request_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.3)
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 10) as twice:
        twice.sendall(request(port))
        answer(twice)
        twice.sendall(request(port)[:10])
        assert closed_after(twice) < 5


def test_a_connection_is_kept_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.2)
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 10) as kept:
        for _ in range(3):
            kept.sendall(request(port))
            answer(kept)
            time.sleep(0.4)  # longer than a head may take: nothing has been begun
        kept.sendall(request(port) * 2)  # two at once
        assert answer(kept)


def test_a_body_that_does_not_come_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "BODY_S", 0.3)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer {TOKEN}"
    more = "\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 10) as slow:
        slow.sendall((head % port + more).encode())
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
