"""Token ids to text while they arrive: whole characters only, and no more work per token late in
an answer than early. Knows no model and no stop rule but strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
# A UTF-8 character has at most four bytes, so at most three are waiting for the last one; some
# decoders show each of them as a replacement character of its own.
UNFINISHED = 3
WINDOW = 8


class Decoder(Protocol):
    """The part of a tokenizer that detokenization needs."""

    def decode(self, ids: Sequence[int]) -> str: ...

    def encode(self, text: str) -> list[int]: ...

    def is_text(self, id: int) -> bool: ...


class Detokenizer:
    """Text of a growing list of tokens.

    The pieces that `push` and `finish` return, joined, are the text of all ids together, control
    tokens left out. Only the ids since the last whole character are decoded again. (One
    difference: where a byte-fallback vocabulary spells invalid UTF-8 right after valid
    characters, the characters, already given out, stay.)
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._anchor = _anchor(decoder)
        self._context: tuple[int, ...] = ()
        self._pending: list[int] = []
        self._given = 0  # characters of the pending ids' text that are out already
        self._silent = 0  # pending ids at the start of the answer that have made no text yet

    def push(self, id: int) -> str:
        """The characters that this token completes; may be empty."""
        if not self._decoder.is_text(id):
            return ""
        self._pending.append(id)
        text = self._text(self._pending)
        held = _held(text, UNFINISHED + self._silent)
        piece = text[self._given : len(text) - held]
        if held == 0 and (text or self._context):
            self._settle(len(self._pending))
        elif held == 0:
            self._silent = len(self._pending)
        else:
            self._given += len(piece)
            if len(self._pending) > WINDOW:
                self._shorten(text)
        return piece

    def finish(self) -> str:
        """What is left: an unfinished character as U+FFFD."""
        piece = self._text(self._pending)[self._given :]
        self._settle(len(self._pending))
        return piece

    def _settle(self, count: int) -> None:
        del self._pending[:count]
        self._given = self._silent = 0
        self._context = self._anchor

    def _text(self, ids: Sequence[int]) -> str:
        # Decoders treat the first token apart (a leading space goes), so later ones need
        # something before them.
        if not self._context:
            return self._decoder.decode(ids)
        before = len(self._decoder.decode(self._context))
        return self._decoder.decode([*self._context, *ids])[before:]

    def _shorten(self, text: str) -> None:
        """Drop ids whose text cannot change any more: where the two parts decode to the whole."""
        for cut in range(len(self._pending) - 1, len(self._pending) - 1 - WINDOW, -1):
            before = self._text(self._pending[:cut])
            after = self._decoder.decode([*self._anchor, *self._pending[cut:]])
            after = after[len(self._decoder.decode(self._anchor)) :]
            if before and before + after == text and len(before) <= self._given:
                given = self._given - len(before)
                self._settle(cut)
                self._given = given
                return


class StopStrings:
    """Ends a stream of text before the stop string that is complete first.

    Of two complete at once the longer one. However tokens break the text, the end is the same.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is certain not to begin a stop string, and whether one was met."""
        text = self._held + text
        found = [(text.find(stop), len(stop)) for stop in self._stops if stop in text]
        if found:
            self._held = ""
            at, _ = min(found, key=lambda place: (sum(place), place))
            return text[:at], True
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def finish(self) -> str:
        """The text held back, which began a stop string and did not become one."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


def _held(text: str, most: int) -> int:
    """How many characters at the end may be an unfinished one."""
    tail = text[-most:]
    return len(tail) - len(tail.rstrip(REPLACEMENT))


def _anchor(decoder: Decoder) -> tuple[int, ...]:
    """A token with plain text, to stand before others; empty where the vocabulary has none."""
    for id in reversed(decoder.encode("a")):
        if decoder.is_text(id) and decoder.decode([id]).strip(REPLACEMENT):
            return (id,)
    return ()
