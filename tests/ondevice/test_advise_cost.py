"""Costs and break-even volumes: exact, against counting them out."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ondevice.advise import assumptions as figures
from ondevice.advise import cost
from ondevice.advise.cost import ApiPrice, BreakEven, Line, break_even

HORIZON = 300
AMOUNT = st.integers(0, 20).map(Fraction)
RATE = st.integers(0, 5).map(Fraction)
LINEAR = st.builds(Line, AMOUNT, RATE)
STEPPED = st.builds(Line, AMOUNT, RATE, AMOUNT, st.integers(1, 6))
PRICE = ApiPrice("m", Fraction(1), Fraction(4), "", "")


def counted(way: Line, than: Line) -> BreakEven:
    """The same by looking at every volume up to the horizon, which all these lines settle in."""
    cheaper = [way.a_day(n) <= than.a_day(n) for n in range(1, HORIZON + 1)]
    first = cheaper.index(True) + 1 if True in cheaper else None
    last_dear = max((n for n, holds in enumerate(cheaper, 1) if not holds), default=0)
    return BreakEven(first, last_dear + 1 if last_dear < HORIZON - 10 else None)


@given(st.one_of(LINEAR, STEPPED), LINEAR)
@example(Line(Fraction(0), Fraction(0), Fraction(6), 3), Line(Fraction(0), Fraction(2)))
@example(Line(Fraction(5), Fraction(1)), Line(Fraction(0), Fraction(1)))
def test_break_even_is_where_counting_finds_it(way: Line, than: Line) -> None:
    assert break_even(way, than) == counted(way, than)
    assert break_even(than, way) == counted(than, way)


@given(
    st.fractions(0, 1000, max_denominator=1000),
    st.fractions("1/100000", 1, max_denominator=100_000),
)
def test_break_even_is_exact_to_one_request(fixed: Fraction, price: Fraction) -> None:
    way, than = Line(fixed, Fraction(0)), Line(Fraction(0), price)
    first = break_even(way, than).first
    assert first is not None
    assert way.a_day(first) <= than.a_day(first)
    assert first == 1 or way.a_day(first - 1) > than.a_day(first - 1)


def test_a_gpu_that_is_dearer_than_the_api_even_at_full_load_never_pays_off() -> None:
    gpu = Line(Fraction(0), Fraction(0), Fraction(30), 100)
    assert break_even(gpu, Line(Fraction(0), Fraction(1, 10))) == BreakEven(None, None)


def test_a_second_gpu_can_turn_the_balance_for_a_while() -> None:
    gpu = Line(Fraction(0), Fraction(0), Fraction(30), 100)
    found = break_even(gpu, Line(Fraction(0), Fraction(2, 5)))
    assert found == BreakEven(75, 225)
    assert gpu.a_day(101) == 60 > Fraction(2, 5) * 101
    assert gpu.a_day(224) > Fraction(2, 5) * 224
    assert gpu.a_day(301) < Fraction(2, 5) * 301


def test_two_ways_with_units_are_not_compared() -> None:
    gpu = Line(Fraction(0), Fraction(0), Fraction(30), 100)
    with pytest.raises(ValueError, match="only one"):
        break_even(gpu, gpu)


def test_units_are_whole_and_at_least_one() -> None:
    gpu = Line(Fraction(1), Fraction(0), Fraction(24), 10)
    assert [gpu.units(n) for n in (1, 10, 11, 100)] == [1, 1, 2, 10]
    assert gpu.a_day(11) == 49
    assert Line(Fraction(1), Fraction(0)).units(5) == 0


def test_the_lines_are_the_sums_they_say() -> None:
    given_ = figures.defaults()
    settings = [
        "workload.input_tokens=1000", "workload.output_tokens=100", "api.engineering_hours=1",
        "engineering.usd_per_hour=73", "api.overhead=0.1", "gpu.usd_per_hour=2",
        "gpu.tokens_per_s=1100", "gpu.utilisation=0.5", "device.prefill_tokens_per_s=100",
        "device.decode_tokens_per_s=10", "device.watts=36", "device.usd_per_kwh=0.5",
        "device.engineering_hours=0",
    ]  # fmt: skip
    given_ = figures.apply_settings(settings, given_)
    api = cost.api_line(PRICE, given_)
    assert api == Line(73 / cost.DAYS_A_MONTH, Fraction(1400, 1_000_000) * Fraction(11, 10))
    gpu = cost.gpu_line(given_, Fraction(1, 2))
    assert gpu == Line(Fraction(0), Fraction(0), Fraction(72), 43_200)
    assert cost.seconds_on_device(given_) == 20
    device = cost.device_line(given_, Fraction(0))
    assert device == Line(Fraction(0), Fraction(36 * 20, 3_600_000) / 2)
    hybrid = cost.hybrid_line(device, api, Fraction(3, 4))
    assert hybrid.per_request == device.per_request + api.per_request / 4
    assert hybrid.fixed == api.fixed


@given(st.integers(1, 10**7), st.fractions(0, 1, max_denominator=100))
def test_a_hybrid_costs_between_the_device_and_both_together(n: int, share: Fraction) -> None:
    given_ = figures.defaults()
    device, api = cost.device_line(given_, Fraction(2, 5)), cost.api_line(PRICE, given_)
    hybrid = cost.hybrid_line(device, api, share).a_day(n)
    assert device.a_day(n) <= hybrid <= device.a_day(n) + api.a_day(n)
