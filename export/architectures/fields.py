"""Values read from a description, each checked for its type. Knows nothing about decoders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ondevice.errors import SourceError

# Largest number that is believed; it keeps a damaged file from asking for the impossible.
MAX_WIDTH = 1 << 24


@dataclass(frozen=True)
class Fields:
    """Values of a config.json or of GGUF keys, read with the type they should have.

    `prefix` stands before every name asked for (GGUF: `llama.`).
    Every reader raises `SourceError` that names the value and `where` it stands.
    """

    values: Mapping[str, object]
    where: str
    prefix: str = ""

    def under(self, prefix: str) -> Fields:
        """The fields whose names begin with `prefix`, asked for without it."""
        return replace(self, prefix=self.prefix + prefix)

    def or_else(self, **defaults: object) -> Fields:
        """The same fields with a value for those that are missing; null is not missing."""
        return replace(self, values={**defaults, **self.values})

    def value(self, name: str) -> object:
        """As it stands, of any type; None where it is missing."""
        return self.values.get(self.prefix + name)

    def present(self, name: str) -> bool:
        return self.value(name) is not None

    def integer(
        self, name: str, default: int | None = None, low: int = 1, high: int = MAX_WIDTH
    ) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        if not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive finite number."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        if not 0 < value < 1e300 or not math.isfinite(value):
            raise self.wrong(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._value(name, None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts")
        return value

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        """A list of at least `count` flags, as true and false or 1 and 0; the first `count`."""
        value = self._value(name, None)
        listed = value[:count] if isinstance(value, list) else []
        if len(listed) < count or not all(isinstance(i, int) and i in (0, 1) for i in listed):
            raise self.wrong(name, f"a list of {count} flags")
        return tuple(bool(item) for item in listed)

    def factors(self, name: str, count: int) -> tuple[float, ...]:
        """A list of `count` positive numbers."""
        found = self.numbers(name, count)
        if found is None or not all(0 < number < 1e30 for number in found):
            raise self.wrong(name, f"a list of {count} positive numbers")
        return tuple(float(number) for number in found)

    def numbers(self, name: str, count: int) -> list[float] | None:
        """A list of `count` numbers, or None when there is none."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name, f"a list of {count} numbers")
        if not all(isinstance(item, int | float) and -1e300 < item < 1e300 for item in value):
            raise self.wrong(name, f"a list of {count} numbers")
        return value

    def section(self, name: str) -> Fields | None:
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{self.prefix}{name} of {self.where}")

    def wrong(self, name: str, wanted: str) -> SourceError:
        shown = repr(self.value(name))
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        return SourceError(
            f"{self.prefix}{name} of {self.where} is {shown}, not {wanted}; the checkpoint is "
            "damaged or not of a kind this version reads"
        )

    def refuse(self, name: str, reason: str) -> SourceError:
        shown = repr(self.value(name))[:60]
        return SourceError(
            f"{self.where} sets {self.prefix}{name} to {shown}: {reason}; choose another checkpoint"
        )

    def _value(self, name: str, default: object) -> object:
        value = self.value(name)
        if value is None:
            value = default
        if value is None:
            raise SourceError(
                f"{self.where} has no {self.prefix}{name}; the checkpoint is incomplete"
            )
        return value
