"""The client's parts by themselves: breaker, reachability, endpoint, pace, pieces, sockets."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai  # noqa: F401 - takes long, and is not what a deadline is tried with
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[3]))  # after the installed package

from benchmarks.fault_places import black_hole, certified
from benchmarks.faults import Setup, warm
from benchmarks.faulty import Faulty, Peer
from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.cloud import client as client_module
from ondevice.runtime.cloud import loading, sockets
from ondevice.runtime.cloud.breaker import LONGEST_REST_S, Breaker
from ondevice.runtime.cloud.client import Purpose
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.pace import Pace
from ondevice.runtime.cloud.pieces import Pieces
from ondevice.runtime.cloud.reachability import FRESH_S, Reachability
from ondevice.runtime.cloud.request import build

ENDPOINT = Endpoint("faulty", "https://cloud.invalid/v1", "model")
HELLO = [Message("user", "Hello")]


def fail(breaker: Breaker, rest_s: float = 0.0) -> None:
    with breaker.turn("faulty") as turn:
        turn.failed(rest_s)


def is_refused(breaker: Breaker) -> bool:
    try:
        with breaker.turn("faulty"):
            return False
    except CloudError as error:
        assert error.kind == "breaker-open"
        return True


def wait_for(what: Callable[[], bool]) -> None:
    """Give another thread the time it takes."""
    end = time.monotonic() + 5
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    assert what()


# Breaker


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_trial_through() -> None:
    clock = ScriptedClock()
    breaker = Breaker(3, 30.0, clock)
    fail(breaker)
    fail(breaker)
    with breaker.turn("faulty") as turn:
        turn.succeeded()
    for _ in range(3):
        assert not is_refused(breaker)
        fail(breaker)
    assert breaker.state == "open"
    assert is_refused(breaker)
    clock.advance(30)
    assert breaker.state == "half-open"
    with breaker.turn("faulty") as turn:
        assert is_refused(breaker)
        turn.succeeded()
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_it_again_and_one_that_proves_nothing_does_not() -> None:
    clock = ScriptedClock()
    breaker = Breaker(1, 30.0, clock)
    fail(breaker)
    clock.advance(30)
    fail(breaker)
    assert is_refused(breaker)
    clock.advance(30)
    with pytest.raises(KeyboardInterrupt), breaker.turn("faulty"):
        raise KeyboardInterrupt
    assert breaker.state == "half-open"


@pytest.mark.parametrize(("asked", "rest"), [(5.0, 5.0), (1e9, LONGEST_REST_S)])
def test_an_endpoint_that_asks_to_be_left_alone_is_left_alone(asked: float, rest: float) -> None:
    clock = ScriptedClock()
    breaker = Breaker(3, 30.0, clock)
    fail(breaker, asked)
    assert is_refused(breaker)
    clock.advance(rest - 0.1)
    assert is_refused(breaker)
    clock.advance(0.1)
    assert not is_refused(breaker)


def test_a_breaker_lets_one_of_many_threads_try() -> None:
    clock = ScriptedClock()
    breaker = Breaker(1, 1.0, clock)
    fail(breaker)
    clock.advance(1)
    entered, over = [], threading.Event()

    def work() -> None:
        try:
            with breaker.turn("faulty"):
                entered.append(1)
                over.wait(5)
        except CloudError:
            pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert len(entered) == 1


# Reachability


def test_what_a_call_has_shown_is_forgotten_after_a_while() -> None:
    clock = ScriptedClock()
    reachability = Reachability(clock=clock)
    assert reachability.state == "unknown"
    reachability.learn("up")
    clock.advance(FRESH_S)
    assert reachability.state == "up"
    clock.advance(0.1)
    assert reachability.state == "unknown"


def test_state_follows_the_last_call_and_a_probe_connects_without_a_word(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    with Faulty(lambda peer: peer.error(401)) as server:
        client = setup.client(server.base_url)
        assert client.state() == "unknown"
        assert server.seen.connections == 0
        assert client.probe() == "up"
        wait_for(lambda: server.seen.connections == 1)
        assert server.seen.bytes == 0
        assert client.probe() == "up"  # known by now
        assert server.seen.connections == 1
    with Faulty(Peer.reset) as server:
        client = setup.client(server.base_url)
        with pytest.raises(CloudError):
            client.ask(HELLO, max_tokens=9, purpose=Purpose("test"))
        assert client.state() == "down"
    assert setup.client(server.base_url).probe() == "down"  # nobody there any more
    setup.switched_on = False
    assert client.state() == "disabled"


def test_an_endpoint_that_refuses_a_key_is_up(tmp_path: Path) -> None:
    with Faulty(lambda peer: peer.error(401)) as server:
        client = Setup(tmp_path).client(server.base_url)
        with pytest.raises(CloudError):
            client.ask(HELLO, max_tokens=9, purpose=Purpose("test"))
        assert client.state() == "up"


def test_a_probe_is_bounded_by_the_deadline_of_a_connection(tmp_path: Path) -> None:
    with black_hole(tmp_path) as place:
        client = Setup(tmp_path).client(place.base_url, Deadlines(connect_s=0.2))
        warm(client)
        assert client.probe() == "down"


def test_a_probe_checks_the_certificate(tmp_path: Path) -> None:
    for trusted, state in ((True, "up"), (False, "down")):
        with certified(trusted, "127.0.0.1")(tmp_path) as place:
            client = Setup(tmp_path).client(place.base_url, **place.more)
            assert client.probe() == state


def test_without_an_interface_there_is_no_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path)
    monkeypatch.setattr(client_module, "has_interface", lambda: False)
    assert setup.client("https://cloud.invalid/v1").state() == "no-route"
    assert setup.client("http://127.0.0.1:1/v1").state() == "unknown"


def test_a_library_that_is_not_loaded_in_time_says_nothing_of_the_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(loading.Loading, "_run", lambda self: go.wait(5) and self._done.set())
    setup = Setup(tmp_path)
    with Faulty() as server:
        client = setup.client(server.base_url, Deadlines(0.1, 0.1, 0.1, 0.1))
        assert client.probe() == "unknown"
        with pytest.raises(CloudError) as caught:
            client.ask(HELLO, max_tokens=9, purpose=Purpose("test"))
        assert caught.value.kind == "not-ready"
        assert (client.state(), server.seen.connections) == ("unknown", 0)
        assert setup.ledger.entries()[0].state == "released"
        go.set()


# Endpoint


@pytest.mark.parametrize(
    "base_url",
    [
        "cloud.invalid/v1",
        "ftp://cloud.invalid/v1",
        "https:///v1",
        "https://cloud.invalid:99999/v1",
        "https://cloud.invalid:0/v1",
        "https://user:secret@cloud.invalid/v1",
        "https://cloud.invalid/v1?key=secret",
        "http://cloud.invalid/v1",
        "http://192.168.1.5/v1",
        "http://localhost.cloud.invalid/v1",
        "https://[::1/v1",
        "",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_when_it_is_declared(base_url: str) -> None:
    with pytest.raises(CloudError) as caught:
        Endpoint("faulty", base_url, "model")
    assert caught.value.kind == "configuration"
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:1/v1"]
)
def test_loopback_needs_no_encryption(base_url: str) -> None:
    assert Endpoint("local", base_url, "model").is_loopback


@pytest.mark.parametrize(
    "more",
    [
        {"connect_s": 0},
        {"first_token_s": -1},
        {"total_s": float("nan")},
        {"between_tokens_s": float("inf")},
        {"connect_s": "3"},
        {"retries": 4},
        {"retries": 0.5},
        {"retries": True},
    ],
)
def test_deadlines_that_make_no_sense_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(CloudError):
        Deadlines(**more)


# Pace


def test_each_deadline_ends_the_wait_that_it_is_for() -> None:
    clock = ScriptedClock()
    pace = Pace(Deadlines(3, 8, 5, 12), clock=clock)
    assert pace.left(pace.connection()) == 3
    clock.advance(7)
    assert pace.left() == 1
    pace.progress()
    assert pace.left() == 5  # to the next token, and to the end
    clock.advance(1)
    assert pace.left() == 4
    pace.progress()
    clock.advance(3.5)
    assert pace.left() == 0.5
    clock.advance(0.5)
    with pytest.raises(CloudError, match="not complete within 12 s"):
        pace.left()


def test_a_wish_to_stop_comes_before_every_deadline() -> None:
    stop = [False]
    clock = ScriptedClock()
    pace = Pace(Deadlines(), lambda: stop[0], clock)
    assert 0 < pace.slice() <= 0.05
    stop[0] = True
    clock.advance(100)
    with pytest.raises(CloudError) as caught:
        pace.left()
    assert caught.value.kind == "cancelled"


# Pieces


def event(text: str | None, reason: str | None = None, **more: Any) -> SimpleNamespace:
    delta = SimpleNamespace(content=text)
    choice = SimpleNamespace(index=0, delta=delta, finish_reason=reason)
    return SimpleNamespace(id="one", model="model", choices=[choice], **more)


@given(st.text(min_size=1), st.data())
def test_a_text_cut_anywhere_even_within_characters_comes_out_whole(
    text: str, data: st.DataObject
) -> None:
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [
        units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(halves)))) | {len(halves)})
    parts = ["".join(halves[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
    pieces = Pieces(ENDPOINT)
    out = [pieces.add(event(part)) for part in parts]
    pieces.add(event(None, "stop"))
    pieces.end(done=True)
    assert "".join(out) == text
    for piece in out:
        piece.encode()  # whole characters only


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_in_an_event_raises_anything_but_a_cloud_error(value: Any) -> None:
    for made in (
        value,
        SimpleNamespace(choices=value),
        SimpleNamespace(choices=[value], id=value, model=value, usage=value),
        event(value, value, usage=SimpleNamespace(prompt_tokens=value, completion_tokens=value)),
    ):
        pieces = Pieces(ENDPOINT)
        try:
            pieces.add(made)
            pieces.end(done=True)
        except CloudError as error:
            assert error.kind in ("malformed", "truncated", "filtered", "empty")


def test_a_loose_endpoint_may_change_ids_and_cut_tokens() -> None:
    loose = Endpoint("faulty", "https://cloud.invalid/v1", "model", strict_stream=False)
    pieces = Pieces(loose)
    usage = SimpleNamespace(prompt_tokens=1, completion_tokens=1)
    first, second = event("a"), event("b", "stop", usage=usage)
    second.id = "two"
    assert pieces.add(first) + pieces.add(second) == "ab"
    pieces.end(done=True)


# Sockets


def test_a_dead_address_leaves_time_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with black_hole(tmp_path) as dead, Faulty() as server:
        port = int(dead.base_url.split(":")[2].split("/")[0])
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]
        monkeypatch.setattr(sockets.socket, "getaddrinfo", lambda *args, **more: found)
        client = Setup(tmp_path).client(
            "http://cloud.invalid/v1", Deadlines(connect_s=1.0), plain_http=True
        )
        assert client.ask(HELLO, max_tokens=20, purpose=Purpose("test")).text


def test_whoever_asks_for_a_name_that_is_being_resolved_waits_for_that_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, go = [], threading.Event()

    def slow(*args: Any, **more: Any) -> Any:
        asked.append(args)
        go.wait(5)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    monkeypatch.setattr(sockets.socket, "getaddrinfo", slow)
    pace = Pace(Deadlines(0.1, 0.1, 0.1, 0.1))
    for _ in range(3):
        with pytest.raises(CloudError) as caught:
            sockets.resolve("cloud.invalid", 443, pace, pace.moment(0.1))
        assert caught.value.kind == "timeout"
    assert len(asked) == 1
    go.set()
    pace = Pace(Deadlines())
    assert sockets.resolve("cloud.invalid", 443, pace, pace.connection())


def test_a_slow_tls_handshake_goes_on_over_many_short_waits(tmp_path: Path) -> None:
    with certified(True, "127.0.0.1", hesitates_s=0.4)(tmp_path) as place:
        client = Setup(tmp_path).client(place.base_url, Deadlines(5, 10, 10, 20), **place.more)
        assert client.ask(HELLO, max_tokens=20, purpose=Purpose("test")).text


# Request


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_the_bound_on_a_prompts_tokens_is_above_any_byte_level_count(texts: list[str]) -> None:
    messages = [Message("user", text) for text in texts]
    request = build(ENDPOINT, messages, max_tokens=1, temperature=0.0, schema=None)
    assert request.most_prompt_tokens >= sum(len(text.encode()) for text in texts) + 128
