"""How an answer is read: its words, numbers and JSON, without what is only manner.

Knows no kinds of checks.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:[.,]\d+)*")
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_LEAD_IN = re.compile(
    r"(?:here(?: is|'s) )?(?:the )?(?:final |right |correct |corrected )?"
    r"(?:answer|output|result|label|sentence|text|word|date)(?: is)?\s*[:=]\s*",
    re.IGNORECASE,
)
_LONGEST_JSON = 10_000  # characters


def normalise(text: str) -> str:
    """Lower case, plain quotes and dashes, no Markdown emphasis, single spaces."""
    return _plain(text).casefold()


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    for fancy, plain in (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("–", "-"), ("—", "-")):
        text = text.replace(fancy, plain)
    return " ".join(re.sub(r"[*`]", "", text).split())


def find_phrase(phrase: str, answer: str) -> int:
    """Where a whole word or phrase begins in a normalised answer, -1 when it does not occur."""
    match = re.search(rf"(?<!\w){re.escape(normalise(phrase))}(?!\w)", answer)
    return match.start() if match else -1


def first_named(labels: Sequence[str], answer: str) -> str | None:
    """The label that the answer names first; on equal places the longest one."""
    text = normalise(answer)
    places = {label: find_phrase(label, text) for label in labels}
    named = {label: place for label, place in places.items() if place >= 0}
    # On equal places the longer label was meant: "not urgent" against "not".
    return min(named, key=lambda label: (named[label], -len(label)), default=None)


def numbers(answer: str) -> list[float]:
    """All numbers of the text as written in English: `1,200`, `3.5`; NaN for a date or version."""
    return [value_of(match.group()) for match in NUMBER.finditer(normalise(answer))]


def value_of(written: str) -> float:
    """The value of a match of `NUMBER`; NaN for a date or version."""
    written = written.replace("−", "-")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", written):
        written = written.replace(",", "")
    try:
        return float(written.replace(",", "."))  # a lone decimal comma is accepted
    except ValueError:  # a date or version, such as 1.2.3
        return math.nan


def json_values(answer: str) -> Iterator[Any]:
    """Every JSON object or array in the first 10,000 characters, outermost first."""
    answer = answer[:_LONGEST_JSON]
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[{\[]", answer):
        try:
            yield decoder.raw_decode(answer, match.start())[0]
        except RecursionError:
            return  # each bracket after this one would take as long to fail
        except ValueError:
            continue


def same(found: Any, right: Any) -> bool:
    """Whether two JSON values say the same: strings normalised, numbers by value."""
    if isinstance(right, dict):
        return (
            isinstance(found, dict)
            and found.keys() == right.keys()
            and all(same(found[key], right[key]) for key in right)
        )
    if isinstance(right, list):
        return (
            isinstance(found, list)
            and len(found) == len(right)
            and all(same(one, other) for one, other in zip(found, right, strict=True))
        )
    if isinstance(right, bool) or isinstance(found, bool) or right is None:
        return found is right
    if isinstance(right, str):
        return isinstance(found, str) and bare(found) == bare(right)
    try:
        return math.isclose(float(found), float(right), rel_tol=1e-9)
    except (TypeError, ValueError, OverflowError):
        return False


def bare(text: str, case: bool = False) -> str:
    """The text without fence, lead-in ("Answer:"), surrounding quotes and final period."""
    text = _plain(unfence(text))
    text = _LEAD_IN.sub("", text, count=1) if _LEAD_IN.match(text) else text
    text = text.strip(" \"'").rstrip(".").strip(" \"'")
    return text if case else text.casefold()


def unfence(text: str) -> str:
    """What stands in the first Markdown fence; the whole text when there is none."""
    match = _FENCE.search(text)
    return match[1].strip() if match and match[1].strip() else text.strip()
