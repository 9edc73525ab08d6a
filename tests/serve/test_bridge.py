"""One thread reads an answer, the event loop hands it on, and who leaves ends it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ondevice.errors import EngineError
from ondevice.host import BusyError, Turn, Turns
from ondevice.serve.bridge import stream_turn


class Answer:
    """Says numbers up to `most`; remembers in which threads it was used."""

    def __init__(self, most: int, said: Callable[[int], None] = lambda _: None) -> None:
        self.turns = Turns(0)
        self.threads: set[int] = set()
        self.last = -1
        self.closed = threading.Event()
        self._most, self._said = most, said

    def start(self, cancelled: threading.Event) -> Turn[int]:
        return Turn(self._events(cancelled), self.turns, self.turns.enter())

    def _events(self, cancelled: threading.Event) -> Iterator[int]:
        try:
            for number in range(self._most):
                self.last = number
                self.threads.add(threading.get_ident())
                if cancelled.is_set():
                    return
                self._said(self.last)
                yield self.last
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()


async def all_of(answer: Answer, cancelled: threading.Event | None = None) -> list[int]:
    events = stream_turn(answer.start, cancelled or threading.Event())
    return [event async for event in events]


def test_all_events_come_in_order_from_one_thread_that_is_not_the_loops() -> None:
    answer = Answer(100)
    assert asyncio.run(all_of(answer)) == list(range(100))
    assert answer.closed.wait(5)
    assert len(answer.threads) == 1
    assert threading.get_ident() not in answer.threads
    assert not answer.turns.busy


def test_an_error_reaches_the_reader_and_the_place_in_the_line_is_free() -> None:
    def fail(at: int) -> None:
        if at == 2:
            raise EngineError("it broke")

    answer = Answer(5, fail)
    with pytest.raises(EngineError, match="it broke"):
        asyncio.run(all_of(answer))
    assert not answer.turns.busy


def test_a_full_line_is_told_at_once_and_no_thread_is_started() -> None:
    answer = Answer(5)
    answer.turns.enter()
    before = threading.active_count()
    with pytest.raises(BusyError):
        asyncio.run(all_of(answer))
    assert threading.active_count() == before


def test_leaving_ends_the_answer_with_the_token_in_the_making() -> None:
    answer = Answer(10_000, lambda _: time.sleep(0.002))

    async def leave_early() -> int:
        events = stream_turn(answer.start, threading.Event())
        async for event in events:
            if event == 3:
                break
        await events.aclose()  # type: ignore[attr-defined]
        left_at = answer.last
        await asyncio.to_thread(answer.closed.wait, 5)
        return answer.last - left_at

    assert asyncio.run(leave_early()) <= 1
    assert not answer.turns.busy


def test_a_reader_that_is_cancelled_ends_the_answer() -> None:
    answer = Answer(10_000, lambda _: time.sleep(0.002))

    async def cancel() -> None:
        reading = asyncio.create_task(all_of(answer))
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.to_thread(answer.closed.wait, 5)

    asyncio.run(cancel())
    assert answer.last < 9_999


def test_a_slow_reader_does_not_hold_the_model() -> None:
    answer = Answer(500)

    async def slowly() -> list[int]:
        events = stream_turn(answer.start, threading.Event())
        first = await anext(events)
        assert await asyncio.to_thread(answer.closed.wait, 5)
        assert not answer.turns.busy
        return [first] + [event async for event in events]

    assert asyncio.run(slowly()) == list(range(500))


def test_the_loop_goes_on_while_the_answer_is_made() -> None:
    answer = Answer(5, lambda _: time.sleep(0.05))

    async def both() -> int:
        reading = asyncio.create_task(all_of(answer))
        ticks = 0
        while not reading.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(both()) > 10
