"""Exact checks of an answer: strict on the fact, tolerant of the words around it.

Each function returns a check that is told an answer and says whether it is right. Knows nothing
about models and prompts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Check = Callable[[str], bool]

_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:[.,]\d+)*")


def normalise(text: str) -> str:
    """Lower case, plain quotes and dashes, no Markdown emphasis, single spaces."""
    text = unicodedata.normalize("NFKC", text).casefold()
    for fancy, plain in (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("–", "-"), ("—", "-")):
        text = text.replace(fancy, plain)
    return " ".join(re.sub(r"[*`]", "", text).split())


def _find(phrase: str, answer: str) -> int:
    """Where a whole word or phrase begins in a normalised answer, -1 when it does not occur."""
    match = re.search(rf"(?<!\w){re.escape(normalise(phrase))}(?!\w)", answer)
    return match.start() if match else -1


def says(*phrases: str, but_not: Sequence[str] = ()) -> Check:
    """One of the phrases occurs as whole words, and none of `but_not` does."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        found = any(_find(phrase, text) >= 0 for phrase in phrases)
        return found and not any(_find(phrase, text) >= 0 for phrase in but_not)

    return check


def says_all(*phrases: str) -> Check:
    """Every phrase occurs as whole words."""
    checks = [says(phrase) for phrase in phrases]
    return lambda answer: all(check(answer) for check in checks)


def in_order(*phrases: str) -> Check:
    """Every phrase occurs as whole words, for the first time in this order."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        places = [_find(phrase, text) for phrase in phrases]
        return -1 not in places and places == sorted(places)

    return check


def label(right: str, labels: Sequence[str]) -> Check:
    """The first of the given labels that the answer names is the right one."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        places = {name: _find(name, text) for name in labels}
        named = {name: place for name, place in places.items() if place >= 0}
        # On equal places the longer label was meant: "not urgent" against "not".
        first = min(named, key=lambda name: (named[name], -len(name)), default=None)
        return first == right

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
        found = [_value(match.group()) for match in _NUMBER.finditer(normalise(answer))]
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
            and all(key in value and _same(value[key], want) for key, want in right.items())
            for value in _json_values(answer)
        )

    return check


def json_array(*right: Any) -> Check:
    """The answer holds a JSON array of exactly these values in this order."""

    def check(answer: str) -> bool:
        return any(_same(value, list(right)) for value in _json_values(answer))

    return check


def members(count: int, allowed: Sequence[str]) -> Check:
    """At least `count` different words of a set occur."""

    def check(answer: str) -> bool:
        text = normalise(answer)
        return sum(_find(word, text) >= 0 for word in allowed) >= count

    return check


def _value(written: str) -> float:
    """A number as written in English: `1,200`, `3.5`; a lone decimal comma is accepted."""
    written = written.replace("−", "-")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", written):
        written = written.replace(",", "")
    written = written.replace(",", ".")
    try:
        return float(written)
    except ValueError:  # a date or version, such as 1.2.3
        return float("nan")


def _json_values(answer: str) -> Iterator[Any]:
    """Every JSON object or array in the text, outermost first."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[{\[]", answer):
        try:
            yield decoder.raw_decode(answer, match.start())[0]
        except ValueError:
            continue


def _same(found: Any, right: Any) -> bool:
    if isinstance(right, list):
        return (
            isinstance(found, list)
            and len(found) == len(right)
            and all(_same(one, other) for one, other in zip(found, right, strict=True))
        )
    if isinstance(right, str):
        return isinstance(found, str) and normalise(found) == normalise(right)
    if isinstance(right, bool) or isinstance(found, bool):
        return found is right
    try:
        return float(found) == float(right)
    except (TypeError, ValueError):
        return False
