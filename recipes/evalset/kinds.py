"""What a kind of task is, and the pen that fills its slots from a seeded random source.

Knows nothing about splits, wordings' frames or twists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any, TypeVar

from ondevice.runtime.evaluate.checkers import (
    Check,
    Choice,
    Contains,
    CsvEquals,
    Exact,
    JsonEquals,
    Numeric,
)
from recipes.evalset import pools

T = TypeVar("T")


@dataclass
class Pen:
    """Random slots. `hard` asks for the longer variant; `unicode` for names beyond ASCII."""

    rng: Random
    hard: bool = False
    unicode: bool = False

    def pick(self, pool: Sequence[T]) -> T:
        return self.rng.choice(pool)

    def some(self, pool: Sequence[T], count: int) -> list[T]:
        return self.rng.sample(list(pool), count)

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def first(self) -> str:
        return self.pick(pools.UNICODE_FIRST if self.unicode else pools.FIRST)

    def firsts(self, count: int) -> list[str]:
        return self.some(pools.UNICODE_FIRST if self.unicode else pools.FIRST, count)

    def name(self) -> str:
        return f"{self.first()} {self.pick(pools.UNICODE_LAST if self.unicode else pools.LAST)}"

    def cities(self, count: int) -> list[str]:
        return self.some(pools.UNICODE_CITIES if self.unicode else pools.CITIES, count)

    def city(self) -> str:
        return self.cities(1)[0]

    def street(self) -> str:
        return f"{self.whole(1, 199)} {self.pick(pools.STREETS)}"

    def email(self) -> str:
        first, last = self.pick(pools.FIRST).lower(), self.pick(pools.LAST).lower()
        return f"{first}.{last}@{self.pick(pools.DOMAINS)}"

    def phone(self) -> str:
        return f"0{self.whole(20, 99)} {self.whole(100, 999)} {self.whole(1000, 9999)}"

    def clock(self) -> str:
        return (
            f"{self.whole(7, 20):02}:{self.pick(('00', '15', '30', '45', '10', '20', '40', '50'))}"
        )

    def clocks(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            found.append(self.clock())
            found = list(dict.fromkeys(found))
        return found

    def day(self, low: int = 2015, high: int = 2029) -> date:
        start = date(low, 1, 1)
        return start + timedelta(days=self.whole(0, (date(high, 12, 31) - start).days))

    def cents(self, low: int, high: int) -> int:
        """A price in cents between `low` and `high` units."""
        return self.whole(low, high) * 100 + self.pick((0, 50, 20, 90, 95, 25, 40, 75))


@dataclass(frozen=True)
class Case:
    """The content of one item: what goes into a wording's slots, and what is right.

    `lure` is a sentence with a look-alike that may stand beside the text without changing the
    answer.
    """

    text: str
    check: Check
    reference: str
    fields: dict[str, str] = field(default_factory=dict)
    lure: str = ""
    schema: dict[str, Any] | None = None


Make = Callable[[Pen], Case]


@dataclass(frozen=True)
class Kind:
    """A kind of task. Each of the four `asks` goes to one split.

    `levels` holds "easy", "hard" or both; `bar` names the twists that would make its answer
    ill-defined; `form` is the form of answer demanded.
    """

    family: str
    name: str
    form: str
    asks: tuple[str, str, str, str]
    make: Make
    levels: tuple[str, ...] = ("easy", "hard")
    bar: frozenset[str] = frozenset()
    ood: bool = False

    @property
    def id(self) -> str:
        return f"{self.family}.{self.name}"


def month(day: date) -> str:
    return pools.MONTHS[day.month - 1]


def spoken(day: date) -> str:
    """ "3 March 2024"."""
    return f"{day.day} {month(day)} {day.year}"


def money(cents: int) -> str:
    return f"${cents // 100}" if cents % 100 == 0 else f"${cents / 100:.2f}"


def amount(cents: int) -> str:
    return money(cents).removeprefix("$")


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def phrase(text: str, *answers: str, none: Sequence[str] = (), **more: Any) -> Case:
    """One of the answers, whatever is said around it, but none of the others in question."""
    longest = max(len(answer.split()) for answer in answers)
    check = Contains(any=answers, none=tuple(none), words=longest + 2)
    return Case(text, check, answers[0], **more)


def sentence(text: str, *answers: str, **more: Any) -> Case:
    return Case(text, Exact(answers), answers[0], **more)


def cased(text: str, *answers: str, **more: Any) -> Case:
    """Exact, and capitals count."""
    return Case(text, Exact(answers, case=True), answers[0], **more)


def number(
    text: str, value: float, units: tuple[str, ...] = (), shown: str = "", **more: Any
) -> Case:
    return Case(text, Numeric(value, 1e-6, units), shown or f"{value:g}", **more)


def dollars(text: str, cents: int, **more: Any) -> Case:
    units = ("dollars", "usd")
    return Case(text, Numeric(cents / 100, 0.001, units), amount(cents), **more)


def choice(text: str, answer: str, labels: Sequence[str], **more: Any) -> Case:
    fields = {"labels": ", ".join(labels), **more.pop("fields", {})}
    return Case(text, Choice(answer, tuple(labels)), answer, fields, **more)


def table(text: str, expected: str, **more: Any) -> Case:
    return Case(text, CsvEquals(expected), expected, **more)


def record(text: str, expected: dict[str, Any], lure: str = "", **fields: str) -> Case:
    """A JSON object; the prompt names its keys in the slot `keys`."""
    types = {str: "string", int: "integer", float: "number", bool: "boolean"}
    properties = {key: {"type": types[type(value)]} for key, value in expected.items()}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(expected),
        "additionalProperties": False,
    }
    keys = ", ".join(
        f"{key} (number)" if isinstance(value, int | float) else key
        for key, value in expected.items()
    )
    reference = json.dumps(expected, ensure_ascii=False)
    return Case(text, JsonEquals(expected), reference, {"keys": keys, **fields}, lure, schema)
