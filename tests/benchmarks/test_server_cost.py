"""What the server adds, measured against a server whose models say what they are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from echoing import TOKEN, Echo, named, serving

from benchmarks.server_cost import WARM_UPS, Spread, Times, cost, in_process, measure, over_http
from benchmarks.sidecar import Sidecar
from ondevice.package import Package

FINE = Times(ttft_ms=100.0, token_ms=10.0, tokens=5, text="same")


def test_both_are_asked_in_turns_and_say_the_same(tiny_package: Package) -> None:
    model = Echo(step_s=0.002).open(named(tiny_package, "one")).model
    prompts = [f"{n} say «one two three four»" for n in range(WARM_UPS + 4)]
    with serving(tiny_package, step_s=0.002) as server:
        sidecar = Sidecar(server.port, TOKEN, 0)
        pairs = measure(in_process(model, 50), over_http(sidecar, 50), prompts)
    found = cost(pairs, 9, 1)
    assert (found.rounds, found.same_text) == (4, True)
    assert [a.tokens for a, _ in pairs] == [b.tokens for _, b in pairs]
    assert found.output_tokens > 4
    assert all(one.token_ms >= 1.5 and one.ttft_ms > 1.5 for pair in pairs for one in pair)
    assert "| decode, ms by token |" in found.table()


def test_what_is_added_is_that_of_pairs() -> None:
    slow = replace(FINE, ttft_ms=500.0, token_ms=50.0)
    pairs = [
        (FINE, replace(FINE, ttft_ms=101, token_ms=10.1)),
        (slow, replace(slow, ttft_ms=502, token_ms=50.5)),
        (FINE, replace(FINE, ttft_ms=103, token_ms=10.1)),
    ]
    found = cost(pairs, 9, 2)
    assert found.added_ttft_ms == Spread(2.0, 1.5, 2.5)
    assert found.added_decode.median == pytest.approx(0.01)
    assert found.problems() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"ttft_ms": 105.1}, "TTFT: 5.10 ms more"),
        ({"token_ms": 10.31}, "decode: 3.1% more"),
        ({"text": "other"}, "text differs"),
    ],
)
def test_every_thing_that_must_hold_is_looked_at(change: dict[str, object], problem: str) -> None:
    (found,) = cost([(FINE, replace(FINE, **change))] * 2, 9, 2).problems()  # type: ignore[arg-type]
    assert problem in found
