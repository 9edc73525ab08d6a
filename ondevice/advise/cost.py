"""What a volume of requests costs each way, and from which volume one way is cheaper: exactly.

Costs are USD a day as fractions; a month is 365/12 days. Knows nothing about where figures
come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ondevice.advise.assumptions import Assumptions

DAYS_A_MONTH = Fraction(365, 12)
_MILLION = 1_000_000
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Line:
    """Cost of N requests a day: fixed + per_request * N + unit * ceil(N / capacity), USD a day.

    `capacity` is how many requests a day one unit (a GPU) answers; 0 where there are no units.
    """

    fixed: Fraction
    per_request: Fraction
    unit: Fraction = Fraction(0)
    capacity: int = 0

    def units(self, requests: int) -> int:
        """Units needed for so many requests a day; at least one while any are there to pay."""
        return max(1, -(-requests // self.capacity)) if self.capacity else 0

    def a_day(self, requests: int) -> Fraction:
        """USD a day."""
        return self.fixed + self.per_request * requests + self.unit * self.units(requests)

    def a_month(self, requests: int) -> Fraction:
        """USD in an average month."""
        return self.a_day(requests) * DAYS_A_MONTH


@dataclass(frozen=True)
class ApiPrice:
    """A list price, USD per million tokens."""

    model: str
    input_per_million: Fraction
    output_per_million: Fraction
    source: str
    date: str

    def of(self, input_tokens: Fraction, output_tokens: Fraction) -> Fraction:
        """USD for so many tokens."""
        spent = self.input_per_million * input_tokens + self.output_per_million * output_tokens
        return spent / _MILLION


@dataclass(frozen=True)
class BreakEven:
    """From which number of requests a day one way costs no more than the other.

    `first`: the smallest such number, None when there is none. `for_good`: from here on it never
    costs more again, None when another unit always turns the balance. They differ only where
    units are added.
    """

    first: int | None
    for_good: int | None


def api_line(price: ApiPrice, assumptions: Assumptions) -> Line:
    """Every request at the API's list price, with the API's own overhead."""
    request = price.of(assumptions["workload.input_tokens"], assumptions["workload.output_tokens"])
    fixed = _engineering(assumptions, "api")
    return Line(fixed, request * (1 + assumptions["api.overhead"]))


def gpu_line(assumptions: Assumptions, overhead: Fraction) -> Line:
    """Rented GPUs that run day and night, as many as the volume needs."""
    tokens = assumptions["workload.input_tokens"] + assumptions["workload.output_tokens"]
    capacity = requests_a_day(
        assumptions["gpu.tokens_per_s"], tokens, assumptions["gpu.utilisation"]
    )
    a_day = assumptions["gpu.usd_per_hour"] * 24 * (1 + overhead)
    return Line(_engineering(assumptions, "gpu"), Fraction(0), a_day, capacity)


def device_line(assumptions: Assumptions, overhead: Fraction) -> Line:
    """The users' own machines: electricity by the request, the rest by the month."""
    kwh = assumptions["device.watts"] * seconds_on_device(assumptions) / 3600 / 1000
    fixed = (
        _engineering(assumptions, "device")
        + assumptions["device.hardware_usd_per_month"] / DAYS_A_MONTH
    )
    return Line(fixed, kwh * assumptions["device.usd_per_kwh"] * (1 + overhead))


def hybrid_line(device: Line, api: Line, local_share: Fraction) -> Line:
    """Every request tried on the device, those it cannot answer sent on to the API."""
    return Line(device.fixed + api.fixed, device.per_request + (1 - local_share) * api.per_request)


def seconds_on_device(assumptions: Assumptions) -> Fraction:
    """Seconds one request keeps a device busy: prefill, then decode."""
    return (
        assumptions["workload.input_tokens"] / assumptions["device.prefill_tokens_per_s"]
        + assumptions["workload.output_tokens"] / assumptions["device.decode_tokens_per_s"]
    )


def requests_a_day(tokens_per_s: Fraction, tokens: Fraction, utilisation: Fraction) -> int:
    """Whole requests one GPU answers in a day at a share of its full load; at least 1."""
    return max(1, math.floor(tokens_per_s * _SECONDS_A_DAY * utilisation / tokens))


def break_even(way: Line, than: Line) -> BreakEven:
    """From which N `way.a_day(N) <= than.a_day(N)`, exactly, for N of at least 1.

    At most one of the two may have units. The difference is linear within the zone of k units,
    ((k-1)C, kC], and its values at the beginnings of the zones, and at their ends, are arithmetic
    progressions in k: so both answers come from a division and no search is needed.
    """
    if way.capacity and than.capacity:
        raise ValueError("only one of the two may have units")
    zones = _Difference(
        way.fixed - than.fixed,
        way.per_request - than.per_request,
        way.unit - than.unit,
        way.capacity or than.capacity,
    )
    return BreakEven(zones.first(), zones.for_good())


@dataclass(frozen=True)
class _Difference:
    """g(N) = fixed + rate * N + unit * ceil(N / capacity); we want g <= 0."""

    fixed: Fraction
    rate: Fraction
    unit: Fraction
    capacity: int

    def at(self, n: int) -> Fraction:
        steps = -(-n // self.capacity) if self.capacity else 0
        return self.fixed + self.rate * n + self.unit * steps

    def first(self) -> int | None:
        """The smallest N of at least 1 with g(N) <= 0."""
        if not self.capacity:
            return self._first_in(1, None)
        lowest = self._begin if self.rate > 0 else self._end  # where g is least within a zone
        zone = _first_below(self.at(lowest(1)), self.rate * self.capacity + self.unit)
        return None if zone is None else self._first_in(self._begin(zone), self._end(zone))

    def for_good(self) -> int | None:
        """The smallest N with g(M) <= 0 for every M >= N."""
        if not self.capacity:
            return self._first_in(1, None) if self.rate <= 0 else None
        highest = self._end if self.rate > 0 else self._begin
        slope = self.rate * self.capacity + self.unit
        if slope > 0 or (slope == 0 and self.at(highest(1)) > 0):
            return None
        zone = _first_below(self.at(highest(1)), slope)
        if zone is None or zone == 1:
            return 1
        if self.rate > 0:  # falls back within a zone: the whole zone before has an N above 0
            return self._begin(zone)
        before = self._first_in(self._begin(zone - 1), self._end(zone - 1))
        return self._begin(zone) if before is None else before

    def _begin(self, zone: int) -> int:
        return (zone - 1) * self.capacity + 1

    def _end(self, zone: int) -> int:
        return zone * self.capacity

    def _first_in(self, begin: int, end: int | None) -> int | None:
        """The smallest N from begin to end with g(N) <= 0, where g is linear there."""
        here = self.at(begin)
        if here <= 0:
            return begin
        if self.rate >= 0:
            return None
        n = begin + math.ceil(here / -self.rate)
        return n if end is None or n <= end else None


def _first_below(first: Fraction, step: Fraction) -> int | None:
    """The smallest k of at least 1 with first + (k - 1) * step <= 0."""
    if first <= 0:
        return 1
    return None if step >= 0 else 1 + math.ceil(first / -step)


def _engineering(assumptions: Assumptions, way: str) -> Fraction:
    hours = assumptions[f"{way}.engineering_hours"]
    return hours * assumptions["engineering.usd_per_hour"] / DAYS_A_MONTH
