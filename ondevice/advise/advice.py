"""From scores, constraints, volume and figures to one answer that says how it came about.

Parses nothing and prints nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ondevice.advise import cost, factors
from ondevice.advise.assumptions import Assumptions
from ondevice.advise.cost import ApiPrice, BreakEven, Line
from ondevice.advise.factors import Constraints, Scores, Verdict
from ondevice.advise.measured import ApiCost, Quality
from ondevice.errors import OndeviceError, RequestError

DEFAULT_API = "gpt-5.4-mini"
LARGEST_VOLUME = 10**12
_PAIRS = (("gpu", "api"), ("device", "api"), ("hybrid", "api"), ("device", "gpu"))


@dataclass(frozen=True)
class Option:
    """One way to answer. `low` and `high`: its cost at the lower and the higher overhead.

    `ruled_out` says which hard constraint forbids it, empty when none does.
    """

    name: str
    label: str
    low: Line
    high: Line
    ruled_out: str
    measured: bool


@dataclass(frozen=True)
class Crossing:
    """From how many requests a day `way` is no dearer than `than`, at either overhead.

    `dearer_again` is where it loses for good instead, at the lower overhead.
    """

    way: str
    than: str
    low: BreakEven
    high: BreakEven
    dearer_again: int | None


@dataclass(frozen=True)
class Advice:
    """Everything the command prints."""

    scores: Scores
    constraints: Constraints
    verdict: Verdict
    requests_a_day: int
    assumptions: Assumptions
    price: ApiPrice
    options: tuple[Option, ...]
    crossings: tuple[Crossing, ...]
    quality: tuple[Quality, ...]
    remarks: tuple[str, ...]

    def option(self, name: str) -> Option:
        """The option of that name: `api`, `gpu`, `device` or `hybrid`."""
        return next(option for option in self.options if option.name == name)

    @property
    def cheapest(self) -> Option:
        """The cheapest option that is not ruled out, at the higher overhead."""
        allowed = [option for option in self.options if not option.ruled_out]
        return min(allowed, key=lambda option: option.high.a_day(self.requests_a_day))


def api_price(model: str) -> ApiPrice:
    """The list price of a model from the kit's table and the user's prices.toml.

    Raises `RequestError` for a model without a price.
    """
    from ondevice.runtime.cloud.prices import Prices

    try:
        found = Prices().find(model)
    except OndeviceError as error:
        raise RequestError(str(error)) from error
    return ApiPrice(
        model,
        Fraction(found.input_per_million),
        Fraction(found.output_per_million),
        found.source,
        str(found.date),
    )


def advise(
    scores: Scores,
    constraints: Constraints,
    requests_a_day: int,
    assumptions: Assumptions,
    price: ApiPrice,
    *,
    api_cost: ApiCost | None = None,
    quality: tuple[Quality, ...] = (),
    remarks: tuple[str, ...] = (),
) -> Advice:
    """The recommendation and the cost of every way. Raises `RequestError` for a bad volume."""
    if not 1 <= requests_a_day <= LARGEST_VOLUME:
        raise RequestError(
            f"{requests_a_day} requests a day are no volume; give a whole number of at least 1"
        )
    assumptions.checked()
    options = _options(constraints, assumptions, price, api_cost)
    by_name = {option.name: option for option in options}
    crossings = tuple(_crossing(by_name[way], by_name[than]) for way, than in _PAIRS)
    found = Advice(
        scores, constraints, factors.recommend(scores, constraints), requests_a_day,
        assumptions, price, options, crossings, quality, (),
    )  # fmt: skip
    return Advice(**(vars(found) | {"remarks": remarks + _remarks(found)}))


def _options(
    constraints: Constraints,
    assumptions: Assumptions,
    price: ApiPrice,
    api_cost: ApiCost | None,
) -> tuple[Option, ...]:
    api = cost.api_line(price, assumptions)
    if api_cost is not None:
        overhead = 1 + assumptions["api.overhead"]
        api = Line(api.fixed, api_cost.usd_per_request * overhead)
    overheads = assumptions["overhead.low"], assumptions["overhead.high"]
    gpu_low, gpu_high = (cost.gpu_line(assumptions, overhead) for overhead in overheads)
    low, high = (cost.device_line(assumptions, overhead) for overhead in overheads)
    share = assumptions["hybrid.local_share"]
    hybrid_low, hybrid_high = (cost.hybrid_line(line, api, share) for line in (low, high))
    speeds = ("device.prefill_tokens_per_s", "device.decode_tokens_per_s")
    timed = not assumptions.assumed(*speeds)
    made: tuple[tuple[str, str, Line, Line, bool], ...] = (
        ("api", api_cost.subject if api_cost else price.model, api, api, api_cost is not None),
        (
            "gpu",
            "rented GPUs, day and night",
            gpu_low,
            gpu_high,
            not assumptions.assumed("gpu.tokens_per_s"),
        ),
        ("device", "the users' own machines", low, high, timed),
        (
            "hybrid",
            f"device, {float(1 - share):.0%} sent on to the api",
            hybrid_low,
            hybrid_high,
            timed and not assumptions.assumed("hybrid.local_share"),
        ),
    )
    return tuple(
        Option(name, label, least, most, constraints.rules_out(name), measured)
        for name, label, least, most, measured in made
    )


def _crossing(way: Option, than: Option) -> Crossing:
    low = cost.break_even(way.low, than.low)
    high = cost.break_even(way.high, than.high)
    again = None
    if low.for_good is None:
        again = cost.break_even(than.low, way.low).for_good
    return Crossing(way.name, than.name, low, high, again)


def _remarks(advice: Advice) -> tuple[str, ...]:
    found = [*_capacity(advice), *_agreement(advice), *_quality(advice)]
    if advice.scores.deployment == 1 and not advice.constraints.reasons:
        found.append(
            "deployment is 1, but counts only as one score of five; --must-work-offline and "
            "--data-may-not-leave make it binding"
        )
    if not advice.quality:
        found.append(
            "no accuracy was measured: `ondevice eval` on 200-500 of your own examples says "
            "whether the small model is good enough, and --eval FILE brings it in here"
        )
    return tuple(found)


def _capacity(advice: Advice) -> list[str]:
    assumptions, requests = advice.assumptions, advice.requests_a_day
    gpu = advice.option("gpu").low
    seconds = cost.seconds_on_device(assumptions)
    machines = -(-requests * seconds // 86_400)
    units = gpu.units(requests)
    return [
        f"one GPU answers {gpu.capacity:,} requests a day at "
        f"{float(assumptions['gpu.utilisation']):.0%} of its full load, so {units:,} "
        f"{'is' if units == 1 else 'are'} counted; a spare for when one fails is not",
        f"a request keeps a device busy for {float(seconds):.1f} s; all of them together are "
        f"{float(requests * seconds / 3600):,.1f} hours a day, at least {int(machines):,} "
        f"{'machine' if machines == 1 else 'machines'}; their owners pay the electricity",
    ]


def _agreement(advice: Advice) -> list[str]:
    """Whether what the scores recommend is also the cheapest of what is allowed."""
    ways = {"small": ("device", "gpu"), "hybrid": ("hybrid",), "large": ("api",)}
    cheapest = advice.cheapest
    if cheapest.name in ways[advice.verdict.choice]:
        return []
    return [
        f"cheapest at this volume is {cheapest.name}; the recommendation follows the scores, "
        "which weigh more than the price"
    ]


def _quality(advice: Advice) -> list[str]:
    small = next((q for q in advice.quality if q.subject.startswith("device:")), None)
    large = next((q for q in advice.quality if q.subject.startswith("cloud:")), None)
    if small is None or large is None:
        return []
    gap = (large.accuracy - small.accuracy) * 100
    said = f"on the evaluation {small.subject} is {gap:.1f} points below {large.subject}"
    if gap <= 0:
        said = f"on the evaluation {small.subject} is no worse than {large.subject}"
    return [said]
