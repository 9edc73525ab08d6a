"""The judge of an answer: strict on the fact, tolerant of the words around it.

Knows nothing about models and prompts.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ondevice.runtime.evaluate.check import (
    F1,
    KINDS,
    Check,
    Choice,
    Contains,
    CsvEquals,
    Exact,
    JsonEquals,
    JsonSchema,
    Judged,
    Numeric,
    Regex,
    RougeL,
    from_json,
    to_json,
)
from ondevice.runtime.evaluate.comparison import (
    NUMBER,
    bare,
    find_phrase,
    first_named,
    json_values,
    normalise,
    same,
    unfence,
    value_of,
)

__all__ = [
    "F1",
    "KINDS",
    "Check",
    "Choice",
    "Contains",
    "CsvEquals",
    "Exact",
    "JsonEquals",
    "JsonSchema",
    "Judged",
    "Numeric",
    "Regex",
    "RougeL",
    "Verdict",
    "from_json",
    "judge",
    "to_json",
]

_UNITS = frozenset(
    re.findall(
        r"\S+",
        """
        % ° $ € £ c f celsius fahrenheit percent dollar dollars usd cent cents euro euros
        mm cm m km meter meters metre metres kilometer kilometers kilometre kilometres
        inch inches foot feet ft yard yards mile miles
        mg g kg t gram grams kilogram kilograms tonne tonnes lb lbs pound pounds ounce ounces
        s sec second seconds min minute minutes h hour hours day days night nights
        week weeks month months year years ml l liter liters litre litres
        """,
    )
)
_LONGEST_ANSWER = 2_000  # characters a pattern is tried on, words that are compared


@dataclass(frozen=True)
class Verdict:
    """`score` is 0..1; `compliant`: the answer has the asked form, apart from being right."""

    right: bool
    score: float
    compliant: bool


def judge(check: Check, answer: str) -> Verdict:
    """Judge an answer. Never raises, whatever the answer holds."""
    return _JUDGES[check.kind](check, answer)


def _verdict(right: bool, compliant: bool, score: float | None = None) -> Verdict:
    return Verdict(right, float(right) if score is None else score, compliant)


def _one_line(answer: str) -> bool:
    return bool(answer.strip()) and "\n" not in answer.strip()


def _judge_exact(check: Exact, answer: str) -> Verdict:
    wanted = {bare(one, check.case) for one in check.answers}
    first = next((line for line in answer.splitlines() if line.strip()), "")
    right = bare(answer, check.case) in wanted or bare(first, check.case) in wanted
    return _verdict(right, _one_line(unfence(answer)))


def _judge_contains(check: Contains, answer: str) -> Verdict:
    text = normalise(answer)
    held = [find_phrase(phrase, text) >= 0 for phrase in check.all]
    held += [find_phrase(phrase, text) < 0 for phrase in check.none]
    if check.any:
        held.append(any(find_phrase(phrase, text) >= 0 for phrase in check.any))
    brief = not check.words or (_one_line(answer) and len(text.split()) <= check.words)
    return _verdict(all(held), bool(text) and brief, sum(held) / len(held) if held else 1.0)


def _judge_regex(check: Regex, answer: str) -> Verdict:
    text = answer.strip()
    if len(text) > _LONGEST_ANSWER:
        return _verdict(False, False)
    match = re.fullmatch if check.full else re.search
    right = match(check.pattern, text) is not None
    return _verdict(right, right if check.full else bool(text))


def _judge_json_schema(check: JsonSchema, answer: str) -> Verdict:
    import jsonschema

    found = next(json_values(answer), None)
    right = found is not None and jsonschema.Draft202012Validator(check.schema).is_valid(found)
    return _verdict(right, _is_json(answer))


def _judge_json_equals(check: JsonEquals, answer: str) -> Verdict:
    found = next(json_values(answer), None)
    right = same(found, check.expected)
    return _verdict(right, _is_json(answer), 1.0 if right else _shared(found, check.expected))


def _shared(found: Any, right: Any) -> float:
    """The share of fields that agree, below 1."""
    if isinstance(found, dict) and isinstance(right, dict):
        keys = found.keys() | right.keys()
        agree = sum(key in found and key in right and same(found[key], right[key]) for key in keys)
    elif isinstance(found, list) and isinstance(right, list):
        keys = set(range(max(len(found), len(right))))
        agree = sum(same(one, other) for one, other in zip(found, right, strict=False))
    else:
        return 0.0
    return agree / len(keys) if keys else 0.0


def _is_json(answer: str) -> bool:
    """Whether the whole answer, fence aside, is one JSON object or array."""
    try:
        return isinstance(json.loads(unfence(answer)), dict | list)
    except (ValueError, RecursionError):
        return False


def _judge_numeric(check: Numeric, answer: str) -> Verdict:
    text = normalise(answer)
    matches = list(NUMBER.finditer(text))
    if not matches:
        return _verdict(False, False)
    last = matches[-1]
    off = abs(value_of(last.group()) - check.value)
    right = off <= check.tolerance + 1e-9 * max(1.0, abs(check.value))
    unit = re.match(r"\s*([^\W\d_]+|[%°$€£])", text[last.end() :])
    units = {normalise(name) for name in check.units}
    if units and unit and unit[1] in _UNITS - units:
        right = False
    around = (text[: last.start()] + text[last.end() :]).strip(" .$€£¥%=")
    plain = not around or around in units
    return _verdict(right, plain)


def _judge_choice(check: Choice, answer: str) -> Verdict:
    labels = {bare(label) for label in check.labels}
    return _verdict(first_named(check.labels, answer) == check.answer, bare(answer) in labels)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", normalise(text))


def _f1(shared: int, found: int, wanted: int) -> float:
    return 2 * shared / (found + wanted) if found + wanted else 0.0


def _judge_f1(check: F1, answer: str) -> Verdict:
    found = _words(answer)

    def score(wanted: list[str]) -> float:
        return _f1((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))

    best = max((score(_words(one)) for one in check.answers), default=0.0)
    return _verdict(best >= check.threshold, _one_line(answer), best)


def _judge_rouge_l(check: RougeL, answer: str) -> Verdict:
    found = _words(answer)[:_LONGEST_ANSWER]

    def score(wanted: list[str]) -> float:
        return _f1(_common_run(found, wanted), len(found), len(wanted))

    best = max((score(_words(one)) for one in check.answers), default=0.0)
    return _verdict(best >= check.threshold, _one_line(answer), best)


def _common_run(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence (dynamic programming, one row kept)."""
    row = [0] * (len(other) + 1)
    for word in one:
        left_above = 0
        for index, match in enumerate(other, start=1):
            above = row[index]
            row[index] = left_above + 1 if word == match else max(above, row[index - 1])
            left_above = above
    return row[-1]


def _judge_csv(check: CsvEquals, answer: str) -> Verdict:
    wanted, found = _cells(check.expected), _cells(unfence(answer))
    width = len(wanted[0]) if wanted else 0
    compliant = bool(found) and all(len(row) == width for row in found)
    pairs = zip(found, wanted, strict=False)
    score = sum(one == other for one, other in pairs) / max(len(found), len(wanted), 1)
    return _verdict(found == wanted, compliant, score)


def _judge_later(check: Judged, answer: str) -> Verdict:
    return _verdict(False, bool(answer.strip()))


def _cells(text: str) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True))
    except csv.Error:
        return []
    return [[bare(cell) for cell in row] for row in rows if row]


_JUDGES: dict[str, Callable[[Any, str], Verdict]] = {
    "exact": _judge_exact,
    "contains": _judge_contains,
    "regex": _judge_regex,
    "json_schema": _judge_json_schema,
    "json_equals": _judge_json_equals,
    "numeric": _judge_numeric,
    "choice": _judge_choice,
    "f1": _judge_f1,
    "rouge_l": _judge_rouge_l,
    "csv_equals": _judge_csv,
    "judge": _judge_later,
}
