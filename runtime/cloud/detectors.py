"""Structured personal data in text, found by form and check digit: where, and of which class.

A filter and no guarantee: names, addresses and what is written in an unusual form stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ondevice.runtime.cloud.credentials import find_secrets
from ondevice.runtime.cloud.phones import find_phones

Span = tuple[int, int]


class Match(NamedTuple):
    """Characters `start` to `end` of a text, and the class of what stands there."""

    start: int
    end: int
    kind: str


_LETTER = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_BLANK = " \u00a0\u202f"

_AT = re.compile(r"@|\uff20| ?[\[(]\s?(?:at|AT|arroba|chiocciola)\s?[\])] ?")
_LOCAL = re.compile(rf"[{_LETTER}_.%+'’~-]{{1,64}}$")
_DOT = r"(?:\.| ?[\[(]\s?(?:dot|DOT|punkt|point)\s?[\])] ?)"
_DOMAIN = re.compile(
    rf"(?:[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?{_DOT})+"
    rf"(?:xn--[a-z0-9-]{{2,59}}|[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff]{{2,24}})(?![{_LETTER}])"
)
_IMAGE = re.compile(r"\dx\.(?:png|jpe?g|webp|gif|svg|avif)", re.IGNORECASE)

_IBAN = re.compile(
    rf"(?:(?<![A-Za-z0-9])|(?<=IBAN))[A-Za-z]{{2}}[{_BLANK}]?\d\d(?=[{_BLANK}-]?[A-Za-z0-9])"
)
# Characters of an IBAN by country (ISO 13616 registry).
_IBAN_LENGTHS = {
    country: int(length)
    for line in (
        "15 NO", "16 BE", "18 DK FI FO GL NL SD", "19 MK SI", "20 AT BA EE KZ LT LU MN XK",
        "21 CH CR HR LI LV", "22 BG BH DE GB GE IE ME RS VA", "23 AE GI IL IQ OM SO TL",
        "24 AD CZ ES MD PK RO SA SE SK TN VG", "25 LY PT ST", "26 IS TR",
        "27 BI DJ FR GR IT MC MR SM", "28 AL AZ BY CY DO GT HU LB NI PL SV", "29 BR EG PS QA UA",
        "30 JO KW MU YE", "31 MT SC", "33 RU",
    )
    for length, *countries in (line.split(),)
    for country in countries
}  # fmt: skip

_RUN = re.compile(
    rf"(?<![A-Za-z0-9_+])\d(?:[{_BLANK}.\u2010\u2011\u2013-]?\d){{11,60}}(?![A-Za-z0-9_])"
)
# First digits, from and to, and the lengths in use (ISO/IEC 7812 as the networks publish it).
_NETWORKS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("4", "4", (16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16,)),
    ("644", "659", (16,)),
    ("300", "305", (14,)),
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("3528", "3589", (16,)),
    ("62", "62", (16, 17, 18, 19)),
    ("2200", "2204", (16,)),
    ("5018", "5018", (16, 18, 19)),
    ("5020", "5020", (16, 18, 19)),
    ("5038", "5038", (16, 18, 19)),
    ("6304", "6304", (16, 18, 19)),
    ("6759", "6763", (16, 18, 19)),
)


def _emails(text: str) -> Iterator[Span]:
    for at in _AT.finditer(text):
        local = _LOCAL.search(text, max(0, at.start() - 64), at.start())
        domain = _DOMAIN.match(text, at.end())
        if local is None or domain is None:
            continue
        # What opens a quotation or a link is no part of the name.
        name = local[0].lstrip("'’.%~-")
        rest = text[domain.end() : domain.end() + 1]
        repository = name == "git" and rest in (":", "/")
        if name and rest != "(" and not repository and not _IMAGE.fullmatch(domain[0]):
            yield at.start() - len(name), domain.end()


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper())
        end = _taken(text, match.start(), length) if length else None
        if end is None or text[end : end + 1].isalnum():
            continue
        number = re.sub(r"[^A-Za-z0-9]", "", text[match.start() : end])
        rotated = number[4:] + number[:4]
        if int("".join(str(int(c, 36)) for c in rotated)) % 97 == 1:  # ISO 7064, MOD 97-10
            yield match.start(), end


def _taken(text: str, start: int, length: int) -> int | None:
    """Where `length` letters and digits end, single gaps between them; None if they do not."""
    place = start
    for count in range(length):
        if count and text[place : place + 1] in (*_BLANK, "-"):
            place += 1
        if not re.match(r"[A-Za-z0-9]", text[place : place + 1]):
            return None
        place += 1
    return place


def _cards(text: str) -> Iterator[Span]:
    for run in _RUN.finditer(text):
        groups = [match.span() for match in re.finditer(r"\d+", text[run.start() : run.end()])]
        after = 0  # the group after the last card
        for first in range(len(groups)):
            last = _card_from(run[0], groups, first, after) if first >= after else None
            if last is not None:
                yield run.start() + groups[first][0], run.start() + groups[last][1]
                after = last + 1


def _card_from(run: str, groups: list[Span], first: int, after: int) -> int | None:
    """The last group of the card number that begins with the group `first`, if one does."""
    for last in reversed(range(first, min(first + 5, len(groups)))):
        if not _is_card(run, groups, first, last):
            continue
        # In a longer row of fours a part that passes the check does so by chance; cards in a
        # row are no chance.
        left = first > 0 and first != after and _is_four(groups[first - 1])
        right = last + 1 < len(groups) and _is_four(groups[last + 1])
        if not left and (not right or _is_card(run, groups, last + 1, last + 4)):
            return last
    return None


def _is_four(group: Span) -> bool:
    return group[1] - group[0] == 4


def _is_card(run: str, groups: list[Span], first: int, last: int) -> bool:
    sizes = [end - start for start, end in groups[first : last + 1]]
    fours = all(size == 4 for size in sizes[:-1]) and 0 < sizes[-1] <= 4
    if len(sizes) > 1 and not fours and sizes not in ([4, 6, 5], [4, 6, 4]):
        return False
    if not 14 <= sum(sizes) <= 19:
        return False
    number = "".join(run[start:end] for start, end in groups[first : last + 1])
    return luhn(number) and any(
        low <= number[: len(low)] <= high and len(number) in lengths
        for low, high, lengths in _NETWORKS
    )


def luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


_TAKEN = "\x00"  # stands for each character that a class of higher priority has taken
# In the order of priority.
DETECTORS: dict[str, Callable[[str], Iterator[Span]]] = {
    "key": find_secrets,
    "iban": _ibans,
    "card": _cards,
    "email": _emails,
    "phone": find_phones,
}
CLASSES = tuple(DETECTORS)


def find(text: str, classes: tuple[str, ...] = CLASSES) -> list[Match]:
    """What is found of the classes, in order, nothing overlapping.

    A class sees nothing of what one of higher priority has found; finds of one class that
    overlap become one.
    """
    found: list[Match] = []
    rest = text
    for kind in CLASSES:
        if kind in classes:
            spans = _merged(DETECTORS[kind](rest))
            found += [Match(start, end, kind) for start, end in spans]
            for start, end in spans:
                rest = rest[:start] + _TAKEN * (end - start) + rest[end:]
    return sorted(found)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
