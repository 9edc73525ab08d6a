"""The cost examples of the text this kit follows, worked out again with dated prices.

Each finding says what the text claims, what comes out here, and by how much they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ondevice.advise.assumptions import Assumptions
from ondevice.advise.cost import DAYS_A_MONTH, ApiPrice, BreakEven, Line, break_even, gpu_line

Holds = Literal["yes", "no", "under conditions"]
Range = tuple[Fraction, Fraction]

TOKENS_A_DAY = 10_000_000
API_USD: Range = (Fraction(200), Fraction(800))  # for those tokens; the text names no period
REQUESTS_A_DAY = 1_000_000
API_USD_A_MONTH: Range = (Fraction(5_000), Fraction(25_000))  # for those requests
GPU_USD_AN_HOUR = Fraction(1)
GPU_USD_A_DAY = Fraction(24)
CROSSOVERS: tuple[tuple[int, int], ...] = ((10_000, 50_000), (100_000, 500_000))

OLD_PRICES: tuple[ApiPrice, ...] = (
    ApiPrice(
        "gpt-4 (2023)", Fraction(30), Fraction(60), "list price as noted by ora.it.com", "2023-03"
    ),
    ApiPrice(
        "gpt-4-turbo", Fraction(10), Fraction(30), "list price as noted by burncloud.com", "2024-04"
    ),
)


@dataclass(frozen=True)
class Finding:
    """One claim of the text against what comes out here."""

    claim: str
    holds: Holds
    found: tuple[str, ...]


@dataclass(frozen=True)
class ModelCost:
    """What TOKENS_A_DAY cost with one model at the workload's mix of input and output, USD."""

    price: ApiPrice
    per_million: Fraction

    @property
    def a_day(self) -> Fraction:
        """USD a day."""
        return self.per_million * TOKENS_A_DAY / 1_000_000

    @property
    def a_month(self) -> Fraction:
        """USD in an average month."""
        return self.a_day * DAYS_A_MONTH


def findings(assumptions: Assumptions, prices: tuple[ApiPrice, ...]) -> tuple[Finding, ...]:
    """All examples, with list prices of today and the assumptions about GPU and workload."""
    return (
        _tokens(assumptions, prices),
        _same_price(),
        _gpu(assumptions),
        *(_crossover(band, assumptions, prices) for band in CROSSOVERS),
        _own_crossover(assumptions),
    )


def implied_per_million(usd: Range, days: Fraction) -> Range:
    """USD per million tokens when `usd` pay for TOKENS_A_DAY over so many days."""
    millions = Fraction(TOKENS_A_DAY, 1_000_000) * days
    return usd[0] / millions, usd[1] / millions


def implied_tokens_a_request(days: Fraction) -> Range:
    """Tokens a request at which both API examples have the same price, if 200-800 USD are for
    so many days. Lower end with lower end, upper with upper."""
    per_million = implied_per_million(API_USD, days)
    low, high = (
        usd / (DAYS_A_MONTH * REQUESTS_A_DAY) / price * 1_000_000
        for usd, price in zip(API_USD_A_MONTH, per_million, strict=True)
    )
    return min(low, high), max(low, high)


def model_costs(assumptions: Assumptions, prices: tuple[ApiPrice, ...]) -> tuple[ModelCost, ...]:
    """What the tokens cost with each model, cheapest first."""
    given = assumptions["workload.input_tokens"], assumptions["workload.output_tokens"]
    costs = [ModelCost(price, price.of(*given) / sum(given) * 1_000_000) for price in prices]
    return tuple(sorted(costs, key=lambda found: found.per_million))


def gpus_needed(assumptions: Assumptions, utilisation: Fraction) -> int:
    """GPUs for REQUESTS_A_DAY at a share of the full load."""
    tokens = _tokens_a_request(assumptions)
    a_day = assumptions["gpu.tokens_per_s"] * 86_400 * utilisation
    return math.ceil(REQUESTS_A_DAY * tokens / a_day)


def price_band(band: tuple[int, int], assumptions: Assumptions) -> Range:
    """USD per million tokens between which one GPU at the text's price, overhead included,
    breaks even with an API inside the band."""
    tokens = _tokens_a_request(assumptions)
    low = GPU_USD_A_DAY * (1 + assumptions["overhead.low"]) / band[1]
    high = GPU_USD_A_DAY * (1 + assumptions["overhead.high"]) / band[0]
    return low / tokens * 1_000_000, high / tokens * 1_000_000


def own_crossover(overhead: Range) -> tuple[BreakEven, BreakEven]:
    """Where one GPU breaks even with the text's own API price, 5,000-25,000 USD a month for
    1 M requests a day: at the dear price with the low overhead, at the cheap one with the high."""
    cheap, dear = (usd / DAYS_A_MONTH / REQUESTS_A_DAY for usd in API_USD_A_MONTH)
    low, high = (Line(GPU_USD_A_DAY * (1 + share), Fraction(0)) for share in overhead)
    zero = Fraction(0)
    return break_even(low, Line(zero, dear)), break_even(high, Line(zero, cheap))


def _tokens(assumptions: Assumptions, prices: tuple[ApiPrice, ...]) -> Finding:
    day = implied_per_million(API_USD, Fraction(1))
    month = implied_per_million(API_USD, DAYS_A_MONTH)
    costs = model_costs(assumptions, prices + OLD_PRICES)
    by_day = [c for c in costs if API_USD[0] <= c.a_day <= API_USD[1]]
    by_month = [c for c in costs if API_USD[0] <= c.a_month <= API_USD[1]]
    today = max(model_costs(assumptions, prices), key=lambda found: found.a_day)
    return Finding(
        "10 M tokens a day through an API cost $200-800",
        "under conditions",
        (
            f"read as a day it needs {_usd(day[0])}-{_usd(day[1])} per million tokens: "
            f"{_listed(by_day)}",
            f"read as a month it needs {_usd(month[0])}-{_usd(month[1])} per million: "
            f"{_listed(by_month)}",
            f"the dearest of today's table, {today.price.model}, costs {_usd(today.a_day)} a day, "
            f"{float(API_USD[0] / today.a_day):.1f} times less than the lower end of a day",
            "so with today's small models it is a month, with the first GPT-4 it was a day",
        ),
    )


def _same_price() -> Finding:
    month = implied_tokens_a_request(DAYS_A_MONTH)
    day = implied_tokens_a_request(Fraction(1))
    return Finding(
        "10 M tokens a day cost $200-800, and 1 M requests a day $5,000-25,000 a month",
        "under conditions",
        (
            f"if $200-800 are a month, both have one price at {_span(month)} tokens a request, "
            "which is plausible",
            f"if they are a day, a request would have only {_span(day)} tokens: the two examples "
            f"contradict each other by a factor of {float(DAYS_A_MONTH):.1f}",
        ),
    )


def _gpu(assumptions: Assumptions) -> Finding:
    month = GPU_USD_A_DAY * DAYS_A_MONTH
    with_overhead = [month * (1 + assumptions[key]) for key in ("overhead.low", "overhead.high")]
    full = gpus_needed(assumptions, Fraction(1))
    real = gpus_needed(assumptions, assumptions["gpu.utilisation"])
    tokens = _tokens_a_request(assumptions)
    served = assumptions["gpu.tokens_per_s"] / tokens
    gap = [usd / (real * with_overhead[1]) for usd in API_USD_A_MONTH]
    return Finding(
        "an A10G at $1 an hour answers 1 M requests a day for $24 a day, an API takes "
        "$5,000-25,000 a month",
        "no",
        (
            f"24 hours at $1 are {_usd(GPU_USD_A_DAY)}: right for one GPU",
            f"it sets a day beside a month: {_usd(GPU_USD_A_DAY)} a day is {_usd(month)} a month, "
            f"so an API is {float(API_USD_A_MONTH[0] / month):.1f} to "
            f"{float(API_USD_A_MONTH[1] / month):.0f} times dearer, not "
            f"{float(API_USD_A_MONTH[0] / GPU_USD_A_DAY):.0f} to "
            f"{float(API_USD_A_MONTH[1] / GPU_USD_A_DAY):,.0f} times",
            f"with its own overhead one GPU is {_usd(with_overhead[0])}-"
            f"{_usd(with_overhead[1])} a month",
            f"1 M requests a day are {REQUESTS_A_DAY / 86_400:.1f} a second; one A10G was "
            f"measured at {float(served):.1f} a second of {int(tokens)} tokens (8B model), so "
            f"{full} are needed if the load is even, {real} at "
            f"{float(assumptions['gpu.utilisation']):.0%} utilisation",
            f"{real} GPUs with {float(assumptions['overhead.high']):.0%} overhead are "
            f"{_usd(real * with_overhead[1])} a month: an API is {float(gap[0]):.1f} to "
            f"{float(gap[1]):.1f} times as dear; a smaller model may need fewer: set "
            "gpu.tokens_per_s to what yours does",
        ),
    )


def _crossover(
    band: tuple[int, int], assumptions: Assumptions, prices: tuple[ApiPrice, ...]
) -> Finding:
    low, high = price_band(band, assumptions)
    inside = [c for c in model_costs(assumptions, prices) if low <= c.per_million <= high]
    line = gpu_line(assumptions, assumptions["overhead.low"])
    full = math.floor(line.capacity / assumptions["gpu.utilisation"])
    said = [
        f"holds for one A10G at $1 an hour with {_overhead(assumptions)} overhead where the API "
        f"costs {_usd(low)}-{_usd(high)} per million tokens: {_listed(inside)}",
    ]
    if band[1] > line.capacity:
        a_day = GPU_USD_A_DAY * (1 + assumptions["overhead.low"])
        needed = a_day / line.capacity / _tokens_a_request(assumptions) * 1_000_000
        said.append(
            f"but that one GPU answers {line.capacity:,} requests a day ({full:,} if the load is "
            f"even), so above that volume more GPUs are paid, and with an API below "
            f"{_usd(needed)} per million they never pay off for good"
        )
    claim = f"self-hosting is cheaper from {band[0]:,}-{band[1]:,} requests a day on"
    return Finding(claim, "under conditions", tuple(said))


def _own_crossover(assumptions: Assumptions) -> Finding:
    overhead = assumptions["overhead.low"], assumptions["overhead.high"]
    raw = own_crossover((Fraction(0), Fraction(0)))
    full = own_crossover(overhead)
    return Finding(
        "the crossovers follow from $24 a day and $5,000-25,000 a month for 1 M requests a day",
        "no",
        (
            f"raw, they cross at {raw[0].first:,}-{raw[1].first:,} requests a day; with "
            f"{_overhead(assumptions)} overhead at {full[0].first:,}-{full[1].first:,}",
            "that is one range across the gap between 10,000-50,000 and 100,000-500,000, and "
            "reaches neither 10,000 nor 500,000: the bands belong to two prices, a large model's "
            "and a small model's",
        ),
    )


def _tokens_a_request(assumptions: Assumptions) -> Fraction:
    return assumptions["workload.input_tokens"] + assumptions["workload.output_tokens"]


def _overhead(assumptions: Assumptions) -> str:
    low, high = (float(assumptions[key]) for key in ("overhead.low", "overhead.high"))
    return f"{low * 100:g}-{high:.0%}"


def _usd(value: Fraction) -> str:
    return f"${float(value):,.2f}" if value < 100 else f"${float(value):,.0f}"


def _span(values: Range) -> str:
    low, high = (f"{float(value):.1f}".removesuffix(".0") for value in values)
    return f"{low} to {high}"


def _listed(costs: list[ModelCost]) -> str:
    names = [f"{cost.price.model} {_usd(cost.per_million)}" for cost in costs]
    return ", ".join(names) or "no model of the table"
