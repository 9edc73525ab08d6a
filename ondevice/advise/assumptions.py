"""Everything the cost figures take for granted: value, unit, source, date, and who said it.

Defaults come from assumptions.toml beside this module; a file, flags and measurements lie on top.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ondevice.errors import RequestError
from ondevice.nearest import nearest
from ondevice.toml_lines import key_lines

FILE = "assumptions.toml"
Origin = Literal["default", "file", "flag", "measured"]
_POSITIVE = (
    "gpu.tokens_per_s", "gpu.utilisation", "device.prefill_tokens_per_s",
    "device.decode_tokens_per_s",
)  # fmt: skip
_SHARES = ("gpu.utilisation", "hybrid.local_share")
_WHOLE = ("workload.input_tokens", "workload.output_tokens")
_LARGEST = Decimal(10**12)
_SMALLEST_EXPONENT = -30


@dataclass(frozen=True)
class Assumption:
    """One figure. `value` is exact: the decimal that was written, not the nearest float."""

    key: str
    value: Fraction
    unit: str
    source: str
    date: str
    origin: Origin = "default"


@dataclass(frozen=True)
class Assumptions:
    """All figures by key, in the order of assumptions.toml."""

    entries: Mapping[str, Assumption]

    def __iter__(self) -> Iterator[Assumption]:
        return iter(self.entries.values())

    def __getitem__(self, key: str) -> Fraction:
        """The value of a known key."""
        return self.entries[key].value

    def assumed(self, *keys: str) -> bool:
        """Whether none of the keys was measured."""
        return all(self.entries[key].origin != "measured" for key in keys)

    def with_value(
        self,
        key: str,
        value: object,
        origin: Origin,
        source: str = "",
        date: str = "",
        where: str = "",
    ) -> Assumptions:
        """A copy with another value. `where` begins the message of a `RequestError`."""
        place = f"{where}: " if where else ""
        if key not in self.entries:
            raise RequestError(f"{place}no assumption {key!r}; {nearest(key, self.entries)}")
        known = self.entries[key]
        number = _number(key, value, place)
        changed = Assumption(key, number, known.unit, source or _SAID[origin], date, origin)
        return Assumptions({**self.entries, key: changed})

    def checked(self) -> Assumptions:
        """Itself. Raises `RequestError` where two figures do not go together."""
        if self["overhead.low"] > self["overhead.high"]:
            raise RequestError(
                f"overhead.low ({float(self['overhead.low']):g}) is above overhead.high "
                f"({float(self['overhead.high']):g}); swap them"
            )
        if self["workload.input_tokens"] + self["workload.output_tokens"] == 0:
            raise RequestError("a request of 0 tokens costs nothing; give --input-tokens")
        return self


_SAID: dict[Origin, str] = {
    "default": "",
    "file": "your file, no source given",
    "flag": "said on the command line",
    "measured": "measured",
}


@cache
def defaults() -> Assumptions:
    """The figures that come with the package."""
    text = (resources.files(__package__) / FILE).read_text(encoding="utf-8")
    found: dict[str, Assumption] = {}
    for section, entries in tomllib.loads(text, parse_float=str).items():
        for name, entry in entries.items():
            key = f"{section}.{name}"
            value = Fraction(entry["value"])
            found[key] = Assumption(key, value, entry["unit"], entry["source"], entry["date"])
    return Assumptions(found)


def read(path: Path, below: Assumptions | None = None) -> Assumptions:
    """The figures of a TOML file over those `below` (the defaults).

    An entry is a number, or a table with `value` and perhaps `source` and `date`. Raises
    `RequestError` naming the file, the line and the nearest known key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text, parse_float=str)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not valid TOML: {error}") from error
    result = below or defaults()
    lines = key_lines(text)
    for names, entry in _entries(data):
        key, where = ".".join(names), f"{path}, line {lines[names]}"
        value, source, date = _parts(entry, f"{where}: {key}")
        result = result.with_value(key, value, "file", source, date, where)
    return result


def apply_settings(settings: Iterable[str], below: Assumptions) -> Assumptions:
    """Figures given as KEY=VALUE over others. Raises `RequestError`."""
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RequestError(f"{setting[:80]!r} is no KEY=VALUE, such as gpu.usd_per_hour=0.8")
        below = below.with_value(key.strip(), value.strip(), "flag")
    return below


def text_of(value: Fraction) -> str:
    """A value as a decimal, with at most six digits after the point."""
    text = f"{float(value):,.6f}".rstrip("0").rstrip(".")
    return text or "0"


def _entries(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for section, entries in data.items():
        if not isinstance(entries, dict):
            yield (section,), entries
            continue
        for name, entry in entries.items():
            yield (section, name), entry


def _parts(entry: Any, where: str) -> tuple[object, str, str]:
    if not isinstance(entry, dict):
        return entry, "", ""
    if "value" not in entry:
        raise RequestError(f"{where}: the table needs a `value`")
    for name in entry:
        if name not in ("value", "unit", "source", "date"):
            raise RequestError(
                f"{where}: unknown entry {name!r}; {nearest(name, ('value', 'source', 'date'))}"
            )
    return entry["value"], str(entry.get("source", "")), str(entry.get("date", ""))


def _number(key: str, value: object, place: str) -> Fraction:
    wrong = RequestError(f"{place}{key}: {str(value)[:40]!r} is not a number")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except ArithmeticError as error:
        raise wrong from error
    if not number.is_finite():
        raise wrong
    reason = _objection(key, number)
    if reason:
        raise RequestError(f"{place}{key}: {number} is not possible; {reason}")
    return Fraction(number)


def _objection(key: str, number: Decimal) -> str:
    if number < 0:
        return "give 0 or more"
    if number > _LARGEST:
        return f"give at most {_LARGEST:.0e}"
    if number and number.adjusted() < _SMALLEST_EXPONENT:  # its fraction would fill the memory
        return "it is as good as 0"
    if key in _POSITIVE and number == 0:
        return "give more than 0"
    if key in _SHARES and number > 1:
        return "a share is at most 1"
    if key in _WHOLE and number != int(number):
        return "give a whole number"
    return ""


def as_data(assumptions: Assumptions) -> list[dict[str, Any]]:
    """The entries as JSON data."""
    return [dataclasses.asdict(entry) | {"value": float(entry.value)} for entry in assumptions]
