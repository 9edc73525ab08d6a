from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.runtime.cloud.prices import Price, PriceError, Prices, UnknownPriceError, cost

MINI = Price("mini", Decimal("0.40"), Decimal("1.60"), Decimal("0.10"), "2026-06-21", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prices.toml"


def test_every_shipped_price_has_a_date_and_a_source() -> None:
    models = Prices(Path("nowhere.toml")).models()
    assert len(models) >= 10
    for price in models.values():
        assert date(2026, 1, 1) <= date.fromisoformat(price.date)
        assert len(price.source) > 10
        assert 0 < price.input_per_million < price.output_per_million
        assert price.cached_input_per_million is not None
        assert price.cached_input_per_million < price.input_per_million


def test_a_call_costs_its_tokens_at_the_listed_price() -> None:
    assert cost(MINI, 1_000_000, 1_000_000) == 2_000_000_000
    assert cost(MINI, 1_000_000, 0, 1_000_000) == 100_000_000
    assert cost(MINI, 300, 150) == 300 * 400 + 150 * 1600


def test_a_fraction_of_a_nano_is_rounded_up() -> None:
    tiny = Price("t", Decimal("0.0001"), Decimal(0), None, "", "")
    assert cost(tiny, 1, 0) == 1
    assert cost(tiny, 0, 0) == 0


def test_cached_tokens_without_a_price_of_their_own_cost_as_much_as_others() -> None:
    plain = Price("p", Decimal(1), Decimal(2), None, "", "")
    assert cost(plain, 10, 0, 10) == cost(plain, 10, 0)


counts = st.integers(0, 10**9)
prices = st.decimals(0, 1000, places=6)


@given(prices, prices, counts, counts)
def test_costs_are_exact_and_never_rounded_down(inp: Decimal, out: Decimal, p: int, o: int) -> None:
    price = Price("m", inp, out, None, "", "")
    exact = (int(inp * 10**6) * p + int(out * 10**6) * o) * 10**9
    assert cost(price, p, o) == -(-exact // 10**12)


@pytest.mark.parametrize("tokens", [(-1, 0, 0), (0, -1, 0), (5, 0, 6), (5, 5, -1)])
def test_counts_that_cannot_be_are_refused(tokens: tuple[int, int, int]) -> None:
    with pytest.raises(UnknownPriceError, match="cannot be priced"):
        cost(MINI, *tokens)


def test_the_users_table_replaces_and_adds_single_models(path: Path) -> None:
    path.write_text(
        '[models."gpt-4.1-mini"]\ninput = 1\noutput = 2.5\ndate = 2026-11-01\n'
        '[models."my-model"]\ninput = 0.1\noutput = 0.2\ncached_input = 0.01\nsource = "invoice"\n'
    )
    prices = Prices(path)
    assert prices.find("gpt-4.1-mini").output_per_million == Decimal("2.5")
    assert prices.find("gpt-4.1-mini").date == "2026-11-01"
    assert prices.find("my-model").input_per_million == Decimal("0.1")  # not the nearest binary
    assert prices.find("my-model").source == "invoice"
    assert prices.find("gpt-4.1").input_per_million == 2


def test_the_users_table_lies_in_the_kits_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path))
    (tmp_path / "prices.toml").write_text("[models.mine]\ninput = 1\noutput = 1\n")
    assert "mine" in Prices().models()


def test_an_unknown_price_names_the_model_the_file_and_the_nearest_name(path: Path) -> None:
    with pytest.raises(UnknownPriceError) as caught:
        Prices(path).find("gpt-4.1-mni")
    message = str(caught.value)
    assert caught.value.kind == "unknown-price"
    assert "'gpt-4.1-mni'" in message and str(path) in message and "'gpt-4.1-mini'" in message


def test_without_caps_an_unknown_price_is_a_zero_marked_as_unknown(path: Path) -> None:
    price = Prices(path).find("mystery", capped=False)
    assert not price.known
    assert cost(price, 1000, 1000) == 0


def test_a_model_on_loopback_is_free_unless_it_has_a_price(path: Path) -> None:
    path.write_text("[models.declared]\ninput = 1\noutput = 1\n")
    prices = Prices(path)
    free = prices.find("qwen", loopback=True)
    assert free.known and cost(free, 1000, 1000) == 0
    assert cost(prices.find("declared", loopback=True), 1000, 0) == 10**6
    # Behind a proxy on this machine a paid model stays a paid model.
    assert cost(prices.find("gpt-4.1", loopback=True), 1000, 0) > 0


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[models.a]\ninput = 1\noutptu = 2\n", 3, "did you mean 'output'"),
        (
            "# a b\n[models.a]\ninput = 1\noutput = 1\n[models.b]\ninput = 1\nnote = 3\n",
            7,
            "unknown key 'note'",
        ),
        ("[model.a]\ninput = 1\noutput = 2\n", 1, "did you mean 'models'"),
        ("[models.a]\ninput = 1\n", 1, "has no 'output'"),
        ("[models.a]\ninput = -1\noutput = 2\n", 2, "no price in USD"),
        ("[models.a]\ninput = nan\noutput = 2\n", 2, "no price in USD"),
        ("[models.a]\ninput = 1\noutput = inf\n", 3, "no price in USD"),
        ('[models.a]\ninput = 1\noutput = "2"\n', 3, "no price in USD"),
        ("[models.a]\ninput = 1\noutput = true\n", 3, "no price in USD"),
        ("[models.a]\ninput = 1\noutput = 1_000_001\n", 3, "no price in USD"),
        ('[models.a]\ninput = 1\noutput = 1\ndate = "soon"\n', 4, "no date"),
        ("[models.a]\ninput = 1\noutput = 1\nsource = 3\n", 4, "no text"),
        ("[models]\n\na = 3\n", 3, "must be a table"),
        ("models = 3\n", 1, "must be a table"),
    ],
)
def test_a_wrong_entry_is_named_with_its_line(path: Path, text: str, line: int, words: str) -> None:
    path.write_text(text)
    with pytest.raises(PriceError) as caught:
        Prices(path)
    assert f"line {line}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", [b"[models", b"\xff\xfe", b"x = " + b"[" * 5000])
def test_a_file_that_is_no_toml_is_one_line(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(PriceError, match="cannot read the prices"):
        Prices(path)


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match="cannot read the prices"):
        Prices(tmp_path)
