"""What a model's tokens cost: the dated table shipped with the kit, and the user's over it.

Knows nothing about calls or budgets. Amounts are exact: decimal numbers in, whole nano-USD out.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ondevice import store
from ondevice.errors import CloudError, OndeviceError
from ondevice.nearest import closest, nearest
from ondevice.toml_lines import key_lines

FILE = "prices.toml"
_SHIPPED = Path(__file__).with_name(FILE)
_KEYS = ("input", "output", "cached_input", "date", "source")
_LARGEST = Decimal(10**6)  # USD per million tokens; anything above is a slip
_MILLION = 10**6
_NANO = 10**9


class UnknownPriceError(CloudError):
    """A model without a price, where a budget is to be kept; nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "unknown-price")


class PriceError(OndeviceError):
    """A price table with a wrong or unknown entry."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens, when that was seen (ISO date) and where.

    `cached_input_per_million` None: cached tokens are counted as ordinary input. `known` is
    false only for the zero that stands for an unknown price where nothing is capped.
    """

    model: str
    input_per_million: Decimal
    output_per_million: Decimal
    cached_input_per_million: Decimal | None
    date: str
    source: str
    known: bool = True


def cost(price: Price, prompt_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
    """Nano-USD of a call, rounded up to a whole one. `cached_tokens` are part of the prompt.

    Raises `UnknownPriceError` for counts that no endpoint can mean.
    """
    if min(prompt_tokens, output_tokens, cached_tokens) < 0 or cached_tokens > prompt_tokens:
        raise UnknownPriceError(
            f"{prompt_tokens} prompt, {cached_tokens} cached and {output_tokens} output tokens "
            f"cannot be priced; check what the endpoint of {price.model} reports"
        )
    cached = price.cached_input_per_million
    amount = (
        (prompt_tokens - cached_tokens) * price.input_per_million
        + cached_tokens * (price.input_per_million if cached is None else cached)
        + output_tokens * price.output_per_million
    )
    numerator, denominator = (amount * _NANO / _MILLION).as_integer_ratio()
    return -(-numerator // denominator)


class Prices:
    """The prices in force: the user's file entry by entry over the shipped table.

    `path` is the user's file, `prices.toml` in the kit's folder by default; it need not exist.
    Raises `PriceError` when it cannot be read.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = store.home() / FILE if path is None else path
        self._table = read(_SHIPPED)
        self._table.update(read(self.path) if self.path.exists() else {})

    def models(self) -> dict[str, Price]:
        """All known prices by model."""
        return dict(sorted(self._table.items()))

    def find(self, model: str, *, loopback: bool = False, capped: bool = True) -> Price:
        """The price of a model, by its exact name.

        An unknown model on a loopback address costs nothing, unless the user declares a price.
        Elsewhere it raises `UnknownPriceError` when `capped`; without caps the price is an
        unknown zero (`known` false), to be shown as such.
        """
        if model in self._table:
            return self._table[model]
        if loopback or not capped:
            source = "on this machine" if loopback else "unknown"
            zero = Decimal(0)
            return Price(model, zero, zero, zero, "", source, known=loopback)
        raise UnknownPriceError(self._unknown(model))

    def _unknown(self, model: str) -> str:
        near = closest(model, self._table)
        hint = f"; the nearest known name is {near!r}" if near else ""
        return (
            f"the price of {model!r} is not known, so no budget can be kept: add "
            f'[models."{model}"] with input and output to {self.path}{hint}'
        )


def read(path: Path) -> dict[str, Price]:
    """The prices of one table by model. Raises `PriceError` naming the line."""
    try:
        text = path.read_text(encoding="utf-8")
        # Decimal: 0.1 in the file is a tenth, not the nearest binary number.
        data = tomllib.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PriceError(
            f"cannot read the prices in {path}: {reason}; mend or remove it"
        ) from error
    reader = _Reader(path, text)
    for key in data:
        if key != "models":
            raise reader.unknown(key, key, ("models",))
    models = data.get("models", {})
    if not isinstance(models, dict):
        raise reader.error("models", '"models" must be a table by model name')
    return {name: reader.price(name, entry) for name, entry in models.items()}


class _Reader:
    """Entries of one file to prices, with errors that name the line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def price(self, model: str, entry: Any) -> Price:
        if not isinstance(entry, dict):
            raise self.error(model, f"{model!r} must be a table with input and output")
        for key in entry:
            if key not in _KEYS:
                raise self.unknown(key, model, _KEYS)
        for key in ("input", "output"):
            if key not in entry:
                raise self.error(model, f"{model!r} has no {key!r} (USD per million tokens)")
        cached = self._usd(model, entry, "cached_input") if "cached_input" in entry else None
        return Price(
            model,
            self._usd(model, entry, "input"),
            self._usd(model, entry, "output"),
            cached,
            self._date(model, entry.get("date", "")),
            self._source(model, entry.get("source", "your own table")),
        )

    def _usd(self, model: str, entry: dict[str, Any], key: str) -> Decimal:
        value = entry[key]
        right = isinstance(value, int | Decimal) and not isinstance(value, bool)
        # A NaN compares with nothing, so that the order of the comparisons matters.
        if not right or not Decimal(value).is_finite() or not 0 <= value <= _LARGEST:
            raise self.error(model, f"{key} = {value!s} of {model!r} is no price in USD", key)
        return Decimal(value)

    def _date(self, model: str, value: object) -> str:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, str):
            try:
                return date.fromisoformat(value).isoformat() if value else ""
            except ValueError:
                pass
        raise self.error(
            model, f"date = {value} of {model!r} is no date such as 2026-11-24", "date"
        )

    def _source(self, model: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.error(model, f"source = {value} of {model!r} is no text", "source")
        return value

    def unknown(self, key: str, model: str, valid: tuple[str, ...]) -> PriceError:
        return self.error(model, f"unknown key {key!r}; {nearest(key, valid)}", key)

    def error(self, model: str, message: str, key: str = "") -> PriceError:
        """The error at the line of a key of a model, or else of the model, or of the top key."""
        lines = key_lines(self._text)
        places = (("models", model, key), ("models", model), (model,), (key,))
        line = next((lines[place] for place in places if place in lines), 1)
        return PriceError(f"{self._path}, line {line}: {message}")
