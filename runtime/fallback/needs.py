"""What a request seems to need that a small model does not have, told by its words.

Plain lists for English, for rules that the person writes; knows no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Marks:
    """What gives a need away: phrases of whole words in small letters, or any of the signs."""

    phrases: str  # separated by "|"
    signs: tuple[str, ...] = ()


NEEDS: dict[str, Marks] = {
    "current-events": Marks(
        "today|tonight|yesterday|this morning|this week|this month|this year|right now|currently|"
        "latest|newest|recent|recently|breaking|news|headline|headlines|weather|forecast|"
        "stock price|stock prices|share price|share prices|exchange rate|exchange rates|"
        "interest rate|interest rates|who won|who is winning|live score|up to date|as of now"
    ),
    "code": Marks(
        "python|javascript|typescript|rust|c++|sql|regex|regexp|stack trace|traceback|compile|"
        "compiler|compiled|unit test|unit tests|refactor|debug|function|algorithm",
        ("```",),
    ),
    "mathematics": Marks(
        "prove|proof|theorem|lemma|integral|derivative|differentiate|eigenvalue|eigenvalues|"
        "eigenvector|eigenvectors|matrix|matrices|probability that|solve for",
        ("∫", "∑", "√", "∂"),
    ),
    "sources": Marks(
        "cite|citation|citations|reference|references|source|sources|according to which|"
        "peer reviewed|scientific paper|scientific papers|scientific study|scientific studies|"
        "link to|links to"
    ),
}
_WORD = re.compile(r"[\w+]+")
_PHRASES = {name: frozenset(marks.phrases.split("|")) for name, marks in NEEDS.items()}
_LONGEST = max(phrase.count(" ") + 1 for phrases in _PHRASES.values() for phrase in phrases)


@lru_cache(maxsize=4)  # one question is decided about twice, and by several rules
def needs_of(prompt: str) -> frozenset[str]:
    """The needs whose phrases or signs occur in a prompt."""
    words = _WORD.findall(prompt.lower())
    runs = set(words)
    for length in range(2, _LONGEST + 1):
        runs.update(map(" ".join, zip(*(words[at:] for at in range(length)), strict=False)))
    return frozenset(
        name
        for name, marks in NEEDS.items()
        if not runs.isdisjoint(_PHRASES[name]) or any(sign in prompt for sign in marks.signs)
    )
