from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from ondevice.stdio.framing import Frames
from ondevice.stdio.outlet import Outlet

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # closed by the test


def test_messages_arrive_whole_and_in_order(pipe: Pipe) -> None:
    outlet = Outlet(pipe[1], pytest.fail)
    sent = [bytes([n % 256]) * (n * 97) for n in range(60)]  # more than a pipe holds
    received: list[bytes] = []

    def read() -> None:
        frames = Frames()
        while len(received) < len(sent):
            received.extend(frames.feed(os.read(pipe[0], 1000)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for body in sent:
        outlet.send(body)
    assert outlet.drain(20)
    reader.join(20)
    assert received == sent
    outlet.close()


def test_sending_never_waits_for_a_reader_and_draining_only_so_long(pipe: Pipe) -> None:
    outlet = Outlet(pipe[1], pytest.fail)
    for _ in range(20):
        outlet.send(bytes(100_000))
    assert not outlet.drain(0.05)
    outlet.close()
    assert outlet.drain(0)


def test_too_much_that_nobody_reads_is_told_once(pipe: Pipe) -> None:
    told: list[str] = []
    outlet = Outlet(pipe[1], told.append, most_unread=2 << 20)
    for _ in range(100):
        outlet.send(bytes(100_000))
    assert told == ["the client has left 2 MiB of output unread"]
    assert outlet.drain(0)


def test_a_reader_that_is_gone_is_told_once(pipe: Pipe) -> None:
    told: list[str] = []
    broken = threading.Event()

    def tell(why: str) -> None:
        told.append(why)
        broken.set()

    os.close(pipe[0])
    outlet = Outlet(pipe[1], tell)
    outlet.send(b"x")
    assert broken.wait(20)
    outlet.send(b"y")
    assert outlet.drain(1)
    assert len(told) == 1 and "no longer reads" in told[0]
