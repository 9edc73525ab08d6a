"""Structured personal data out of a text before it leaves, and back into the answer.

Each find is replaced by a placeholder such as [EMAIL_1] and kept in memory only. A declared
filter and no guarantee: what `detectors` does not find, leaves.
"""

from __future__ import annotations

import json as json_text
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ondevice.errors import OndeviceError
from ondevice.runtime.cloud.detectors import CLASSES, Match, find

# A value this short is not looked for elsewhere in the text: it would be found in other words.
_SHORTEST_REPEAT = 4
_LONG = 8  # from here on it is also looked for within words
_NAMED = re.compile(rf"(?:{'|'.join(CLASSES)})\\?_(\d{{1,9}})(?!\d)", re.IGNORECASE)
# In brackets, also as Markdown escapes them; or bare, as a word of its own. `hide` makes only
# the first, and no number that the text has in any of these forms.
_PLACEHOLDER = re.compile(
    rf"\[((?:{'|'.join(CLASSES)})_\d+)\]"
    rf"|\\?\[((?:{'|'.join(CLASSES)})\\_\d+)\\?\]"
    rf"|(?<![A-Za-z0-9_\\])((?:{'|'.join(CLASSES)})_\d+)(?![A-Za-z0-9_])",
    re.IGNORECASE | re.ASCII,
)
_CHARACTERS = string.ascii_letters + string.digits + "_\\[]"


@dataclass(frozen=True)
class Redacted:
    """A text with placeholders, what each stands for, and how many were set by class.

    `found` maps placeholders to originals, also those of texts redacted together with this
    one. It is the only place where the originals are, and not shown.
    """

    text: str
    found: Mapping[str, str] = field(default_factory=dict, repr=False)
    counts: Mapping[str, int] = field(default_factory=dict)


class Redactor:
    """Hides the classes it was made with. Raises `OndeviceError` for an unknown class."""

    def __init__(self, classes: Sequence[str] = CLASSES) -> None:
        unknown = sorted(set(classes) - set(CLASSES))
        if unknown:
            raise OndeviceError(
                f"{unknown[0]!r} is no class of personal data; choose of {', '.join(CLASSES)}"
            )
        self.classes = tuple(kind for kind in CLASSES if kind in classes)

    def hide(self, text: str) -> Redacted:
        """The text with placeholders; equal values get equal ones."""
        return self.hide_all([text])[0]

    def hide_all(self, texts: Sequence[str]) -> list[Redacted]:
        """Several texts of one conversation, with the same placeholders for the same values."""
        finds = [find(text, self.classes) for text in texts]
        names = _names(texts, finds)
        found = {placeholder: original for original, placeholder in names.items()}
        hidden = []
        for text, matches in zip(texts, finds, strict=True):
            everything = _with_repeats(text, matches, names)
            hidden.append(Redacted(_replaced(text, everything, names), found, _counts(everything)))
        return hidden

    def restore(self, text: str, found: Mapping[str, str], *, json: bool = False) -> str:
        """The originals back in the place of their placeholders.

        Also where a model has changed the case, dropped both brackets or escaped the placeholder
        for Markdown; an unknown placeholder stays. `json`: the text is JSON and the placeholders
        stand in its strings, so that originals are escaped.
        """
        return _restored(text, found, json)


class StreamRestorer:
    """`restore` for a text that comes in pieces: what `push` and `finish` give, joined, is equal.

    The last word of a piece is held back while it could be part of a placeholder.
    """

    def __init__(self, found: Mapping[str, str], *, json: bool = False) -> None:
        self._found = found
        self._json = json
        self._held = ""

    def push(self, piece: str) -> str:
        """Take a piece; gives what is certain by now."""
        if not self._found:
            return piece
        text = self._held + piece
        # A placeholder lies within one run of these characters, and depends on nothing outside.
        cut = len(text.rstrip(_CHARACTERS))
        self._held = text[cut:]
        return _restored(text[:cut], self._found, self._json)

    def finish(self) -> str:
        """The rest, when the text has ended."""
        rest, self._held = self._held, ""
        return _restored(rest, self._found, self._json)


def _names(texts: Sequence[str], finds: Sequence[Sequence[Match]]) -> dict[str, str]:
    """A placeholder for each value found, with numbers that none of the texts contains."""
    taken = {int(match[1]) for text in texts for match in _NAMED.finditer(text)}
    numbers: Counter[str] = Counter()
    names: dict[str, str] = {}
    for text, matches in zip(texts, finds, strict=True):
        for start, end, kind in matches:
            original = text[start:end]
            if original in names:
                continue
            numbers[kind] += 1
            while numbers[kind] in taken:
                numbers[kind] += 1
            names[original] = f"[{kind.upper()}_{numbers[kind]}]"
    return names


def _with_repeats(text: str, matches: list[Match], names: Mapping[str, str]) -> list[Match]:
    """The finds, and the same values elsewhere in the text where nothing announces them."""
    values = sorted((v for v in names if len(v) >= _SHORTEST_REPEAT), key=len, reverse=True)
    if not values:
        return matches
    pattern = re.compile("|".join(map(_anywhere, values)))
    repeats: list[Match] = []
    place = 0
    for match in [*matches, Match(len(text), len(text), "")]:
        for again in pattern.finditer(text, place, match.start):
            kind = names[again[0]].strip("[]").rpartition("_")[0].lower()
            repeats.append(Match(again.start(), again.end(), kind))
        place = match.end
    return sorted([*matches, *repeats])


def _anywhere(value: str) -> str:
    """The pattern that finds a value again: a short one only as a word of its own."""
    escaped = re.escape(value)
    return escaped if len(value) >= _LONG else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _replaced(text: str, matches: Sequence[Match], names: Mapping[str, str]) -> str:
    parts: list[str] = []
    place = 0
    for start, end, _ in matches:
        parts += [text[place:start], names[text[start:end]]]
        place = end
    return "".join([*parts, text[place:]])


def _counts(matches: Sequence[Match]) -> dict[str, int]:
    counted = Counter(match.kind for match in matches)
    return {kind: counted[kind] for kind in CLASSES if counted[kind]}


def _restored(text: str, found: Mapping[str, str], json: bool) -> str:
    if not found:
        return text

    def original(match: re.Match[str]) -> str:
        name = (match[1] or match[2] or match[3]).replace("\\", "").upper()
        value = found.get(f"[{name}]")
        if value is None:
            return match[0]
        return json_text.dumps(value, ensure_ascii=False)[1:-1] if json else value

    return _PLACEHOLDER.sub(original, text)
