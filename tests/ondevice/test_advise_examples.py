"""The examples of the text this kit follows: what holds, what does not, and by how much."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ondevice.advise import assumptions as figures
from ondevice.advise import cost, examples
from ondevice.advise.cost import ApiPrice, Line

DEFAULTS = figures.defaults()
TODAY = (
    ApiPrice("nano", Fraction("0.20"), Fraction("1.25"), "list", "2026-11-24"),
    ApiPrice("mini", Fraction("0.75"), Fraction("4.50"), "list", "2026-11-24"),
    ApiPrice("haiku", Fraction(1), Fraction(5), "list", "2026-11-24"),
    ApiPrice("sonnet", Fraction(2), Fraction(10), "list", "2026-10-24"),
    ApiPrice("opus", Fraction(4), Fraction(20), "list", "2026-11-24"),
)


def holding(low: Fraction, high: Fraction, *, month: bool) -> list[str]:
    costs = examples.model_costs(DEFAULTS, TODAY + examples.OLD_PRICES)
    return [c.price.model for c in costs if low <= (c.a_month if month else c.a_day) <= high]


def test_ten_million_tokens_a_day_need_20_to_80_dollars_a_million_if_it_is_a_day() -> None:
    assert examples.implied_per_million(examples.API_USD, Fraction(1)) == (20, 80)
    assert holding(*examples.API_USD, month=False) == ["gpt-4 (2023)"]


def test_ten_million_tokens_a_day_cost_200_to_800_a_month_with_the_small_models_of_today() -> None:
    low, high = examples.implied_per_million(examples.API_USD, cost.DAYS_A_MONTH)
    assert (round(float(low), 2), round(float(high), 2)) == (0.66, 2.63)
    assert holding(*examples.API_USD, month=True) == ["mini", "haiku"]


def test_both_api_examples_have_one_price_only_if_the_first_is_a_month() -> None:
    assert examples.implied_tokens_a_request(cost.DAYS_A_MONTH) == (250, Fraction(625, 2))
    low, high = examples.implied_tokens_a_request(Fraction(1))
    assert (round(float(low), 1), round(float(high), 1)) == (8.2, 10.3)
    at = Fraction("0.6575"), Fraction("2.6302")  # USD per million: the first example's month
    for tokens, price, usd in ((250, at[0], 5_000), (312.5, at[1], 25_000)):
        million_requests = Fraction(tokens) * price * cost.DAYS_A_MONTH
        assert float(million_requests) == pytest.approx(usd, rel=1e-3)


def test_one_a10g_for_24_hours_is_24_dollars_and_730_a_month() -> None:
    gpu = Line(Fraction(0), Fraction(0), examples.GPU_USD_AN_HOUR * 24, 10**6)
    assert gpu.a_day(examples.REQUESTS_A_DAY) == examples.GPU_USD_A_DAY == 24
    assert gpu.a_month(examples.REQUESTS_A_DAY) == 730
    ratios = [float(usd / 730) for usd in examples.API_USD_A_MONTH]
    assert ratios == pytest.approx([6.8, 34.2], abs=0.1)


def test_one_a10g_does_not_answer_a_million_requests_a_day_of_an_8b_model() -> None:
    wanted = examples.REQUESTS_A_DAY / 86_400
    measured = float(DEFAULTS["gpu.tokens_per_s"]) / 258
    assert wanted == pytest.approx(11.57, abs=0.01)
    assert measured == pytest.approx(5.12, abs=0.01)
    assert examples.gpus_needed(DEFAULTS, Fraction(1)) == 3
    assert examples.gpus_needed(DEFAULTS, Fraction(1, 2)) == 5
    faster = figures.apply_settings(["gpu.tokens_per_s=3000"], DEFAULTS)
    assert examples.gpus_needed(faster, Fraction(1)) == 1


@pytest.mark.parametrize(
    ("band", "prices", "models"),
    [
        ((10_000, 50_000), (2.42, 13.95), ["sonnet", "opus"]),
        ((100_000, 500_000), (0.24, 1.40), ["nano", "mini"]),
    ],
)
def test_each_crossover_holds_at_its_own_prices(
    band: tuple[int, int], prices: tuple[float, float], models: list[str]
) -> None:
    low, high = examples.price_band(band, DEFAULTS)
    assert (float(low), float(high)) == pytest.approx(prices, abs=0.01)
    costs = examples.model_costs(DEFAULTS, TODAY)
    assert [c.price.model for c in costs if low <= c.per_million <= high] == models
    for per_million, overhead, at in (
        (low, "overhead.low", band[1]),
        (high, "overhead.high", band[0]),
    ):
        gpu = Line(examples.GPU_USD_A_DAY * (1 + DEFAULTS[overhead]), Fraction(0))
        api = Line(Fraction(0), per_million * 258 / 1_000_000)
        assert cost.break_even(gpu, api).first == at


def test_the_texts_own_figures_cross_between_its_two_bands() -> None:
    raw = examples.own_crossover((Fraction(0), Fraction(0)))
    assert [point.first for point in raw] == [29_200, 146_000]
    full = examples.own_crossover((Fraction("0.3"), Fraction("0.5")))
    assert [point.first for point in full] == [37_960, 219_000]


def test_the_second_crossover_fails_for_the_cheapest_api_because_one_gpu_is_not_enough() -> None:
    gpu = cost.gpu_line(DEFAULTS, DEFAULTS["overhead.low"])
    assert gpu.capacity == 221_358
    nano = cost.api_line(TODAY[0], DEFAULTS)
    assert cost.break_even(gpu, nano) == cost.BreakEven(None, None)


def test_the_findings_say_where_and_by_how_much() -> None:
    found = examples.findings(DEFAULTS, TODAY)
    said = {finding.claim: (finding.holds, " ".join(finding.found)) for finding in found}
    assert len(said) == 6
    holds = [finding.holds for finding in found]
    assert holds.count("no") == 2
    assert "yes" not in holds
    text = " ".join(words for _, words in said.values())
    for figure in (
        "$20.00-$80.00", "$0.66-$2.63", "250 to 312.5", "8.2 to 10.3", "factor of 30.4", "$730 a",
        "6.8 to 34 times", "208 to 1,042 times", "$949-$1,095", "11.6 a second", "5.1 a second",
        "29,200-146,000", "37,960-219,000", "221,358", "442,716",
    ):  # fmt: skip
        assert figure in text, figure
