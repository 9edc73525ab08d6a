"""Exact checks of an answer: strict on the fact, tolerant of the words around it.

Each function returns a check that is told an answer and says whether it is right. Knows nothing
about models and prompts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ondevice.runtime.evaluate import comparison
from ondevice.runtime.evaluate.comparison import find_phrase, json_values, normalise, same

Check = Callable[[str], bool]


def says(*phrases: str, but_not: Sequence[str] = ()) -> Check:
    """One of the phrases occurs as whole words, and none of `but_not` does."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        found = any(find_phrase(phrase, text) >= 0 for phrase in phrases)
        return found and not any(find_phrase(phrase, text) >= 0 for phrase in but_not)

    return check


def says_all(*phrases: str) -> Check:
    """Every phrase occurs as whole words."""
    checks = [says(phrase) for phrase in phrases]
    return lambda answer: all(check(answer) for check in checks)


def in_order(*phrases: str) -> Check:
    """Every phrase occurs as whole words, for the first time in this order."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        places = [find_phrase(phrase, text) for phrase in phrases]
        return -1 not in places and places == sorted(places)

    return check


def label(right: str, labels: Sequence[str]) -> Check:
    """The first of the given labels that the answer names is the right one."""

    def check(answer: str) -> bool:
        return comparison.first_named(labels, answer) == right

    return check


def yes() -> Check:
    """The first yes or no in the answer is yes."""
    return label("yes", ("yes", "no"))


def no() -> Check:
    """The first yes or no in the answer is no."""
    return label("no", ("yes", "no"))


def number(right: float) -> Check:
    """The first or the last number of the answer is the right one: "6", "2 * 3 = 6"."""

    def check(answer: str) -> bool:
        found = comparison.numbers(answer)
        return bool(found) and right in (found[0], found[-1])

    return check


def matches(pattern: str) -> Check:
    """A regular expression is found in the answer as it stands (case ignored)."""
    compiled = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return lambda answer: compiled.search(answer) is not None


def exact_case(*phrases: str) -> Check:
    """One of the phrases occurs as whole words in exactly these capitals."""
    anyone = "|".join(re.escape(phrase) for phrase in phrases)
    compiled = re.compile(rf"(?<!\w)(?:{anyone})(?!\w)")
    return lambda answer: compiled.search(answer) is not None


def letter(right: str) -> Check:
    """The answer is, or begins with, this letter of a list of choices: "B", "B) ...", "(B)"."""
    return matches(rf"^\W*(?:(?:the )?answer(?: is|:)?\s*)?\W*{right}(?:\W*$|[).:])")


def json_object(**right: Any) -> Check:
    """The answer holds a JSON object with all these keys and values.

    Case and outer white space of strings are ignored, and a number may be written as a string;
    further keys do no harm.
    """

    def check(answer: str) -> bool:
        return any(
            isinstance(value, dict)
            and all(key in value and same(value[key], want) for key, want in right.items())
            for value in json_values(answer)
        )

    return check


def json_array(*right: Any) -> Check:
    """The answer holds a JSON array of exactly these values in this order."""

    def check(answer: str) -> bool:
        return any(same(value, list(right)) for value in json_values(answer))

    return check


def members(count: int, allowed: Sequence[str]) -> Check:
    """At least `count` different words of a set occur."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        return sum(find_phrase(word, text) >= 0 for word in allowed) >= count

    return check
