"""Connections that speak HTTP badly: they are refused or dropped, and nobody else notices."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator

import httpx2
import pytest
from echoing import TOKEN, Served

DATA = json.dumps({"model": "one", "messages": [{"role": "user", "content": "«hi»"}]}).encode()


@pytest.fixture(autouse=True)
def _still_answers(server: Served) -> Iterator[None]:
    yield
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    url = f"{server.url}/chat/completions"
    answer = httpx2.post(url, content=DATA, headers=headers, timeout=10)
    assert answer.json()["choices"][0]["message"]["content"] == "hi"
    assert server.idle()


def head(server: Served, *more: str, path: str = "/v1/chat/completions") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def send(server: Served, *parts: bytes) -> bytes:
    """What comes back for these parts; b"" where the connection is dropped without a word."""
    said = b""
    with connect(server) as made:
        try:
            for part in parts:
                made.sendall(part)
            made.shutdown(socket.SHUT_WR)
            while part := made.recv(65536):
                said += part
        except TimeoutError:
            raise
        except OSError:  # dropped while we wrote
            pass
    return said


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1]) if said else 0


def test_half_a_request_is_dropped(server: Served) -> None:
    assert status(send(server, b"POST /v1/chat/comple")) in (0, 400)
    assert status(send(server, head(server)[:-2])) in (0, 400)


def test_a_body_that_ends_too_early_is_not_answered(server: Served) -> None:
    said = send(server, head(server, f"Content-Length: {len(DATA) + 10}"), DATA)
    assert status(said) in (0, 400)
    assert not server.echo.prompts or b"choices" not in said


def test_what_comes_after_the_body_is_no_part_of_it(server: Served) -> None:
    said = send(server, head(server, f"Content-Length: {len(DATA)}"), DATA + b"GARBAGE\r\n\r\n")
    assert status(said) in (0, 200, 400)


@pytest.mark.parametrize(
    "length", ["-1", "+5", "1e3", "0x10", "five", "", "99999999999999999999999", "5, 6"]
)
def test_a_length_that_is_none_is_refused(server: Served, length: str) -> None:
    assert status(send(server, head(server, f"Content-Length: {length}"), DATA)) in (0, 400, 413)


def test_two_lengths_are_refused(server: Served) -> None:
    lengths = (f"Content-Length: {len(DATA)}", "Content-Length: 5")
    assert status(send(server, head(server, *lengths), DATA)) in (0, 400)


def test_a_length_and_chunks_together_are_refused(server: Served) -> None:
    said = send(server, head(server, "Content-Length: 5", "Transfer-Encoding: chunked"), DATA)
    assert status(said) in (0, 400)


def test_a_length_above_the_limit_is_refused_before_the_body(server: Served) -> None:
    with connect(server) as made:
        made.sendall(head(server, f"Content-Length: {1 << 40}"))
        assert status(made.recv(65536)) == 413


def test_huge_headers_are_refused(server: Served) -> None:
    assert status(send(server, head(server, "X-Long: " + "a" * (4 << 20)))) in (0, 400, 431)
    many = [f"X-{n}: {n}" for n in range(100_000)]
    assert status(send(server, head(server, *many))) in (0, 400, 431)


def test_an_endless_line_is_refused(server: Served) -> None:
    assert status(send(server, b"GET /" + b"a" * (4 << 20))) in (0, 400, 414, 431)


def test_chunks_without_end_meet_the_limit(server: Served) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    said = send(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * 400)
    assert status(said) in (0, 413)


def test_broken_chunks_are_refused(server: Served) -> None:
    said = send(server, head(server, "Transfer-Encoding: chunked"), b"zz\r\nhello\r\n")
    assert status(said) in (0, 400)


def test_other_protocols_are_refused(server: Served) -> None:
    for data in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x00" * 1000,
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ):
        assert status(send(server, data)) in (0, 400, 401, 403, 404, 421)


def test_line_breaks_in_headers_add_none(server: Served) -> None:
    said = send(server, head(server, "X-A: b\rAuthorization: Bearer x", "Content-Length: 2"), b"{}")
    assert status(said) in (0, 400)


def test_connections_that_say_nothing_hold_nobody_up(server: Served) -> None:
    idle = [connect(server) for _ in range(100)]
    slow = [connect(server) for _ in range(20)]
    for made in slow:
        made.sendall(head(server, f"Content-Length: {len(DATA)}") + DATA[:5])
    start = time.monotonic()
    answer = httpx2.get(f"http://127.0.0.1:{server.port}/health", timeout=10)
    assert answer.status_code == 200
    assert time.monotonic() - start < 5
    assert not server.host.turns.busy  # who has not asked yet is not in the line
    for made in idle + slow:
        made.close()


def test_a_client_that_resets_in_mid_answer_ends_the_answer(server: Served) -> None:
    long = {"model": "one", "stream": True, "max_tokens": 5000,
            "messages": [{"role": "user", "content": f"«{'so on, ' * 700}»"}]}  # fmt: skip
    data = json.dumps(long).encode()
    server.echo.step_s = 0.005  # 25 s in all, if it were not ended
    try:
        for _ in range(5):
            made = connect(server)
            made.sendall(head(server, f"Content-Length: {len(data)}") + data)
            assert made.recv(100)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()
        assert server.idle(5)
    finally:
        server.echo.step_s = 0.0
