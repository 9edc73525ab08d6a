"""Text to token ids and back, by the package's `tokenizer.json`.

Knows which tokens steer the model, and how to keep a user's text from spelling one; nothing
about conversations or streaming.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ondevice.errors import PackageError, RequestError

# A Unicode noncharacter, reserved for a program's private use. It is known to the tokenizer as a
# token of its own, so it parts the text it stands in, and its id is removed after encoding.
GUARD = "\ufdd0"


class Tokenizer:
    """A `tokenizers.Tokenizer` that tells control tokens from text that looks like them."""

    def __init__(self, inner: Any) -> None:
        from tokenizers import AddedToken

        inner.no_truncation()
        inner.no_padding()
        added = inner.get_added_tokens_decoder()
        self._special = {id: token.content for id, token in added.items() if token.special}
        inner.add_special_tokens([AddedToken(GUARD, special=True, normalized=False)])
        self._guard_id = inner.token_to_id(GUARD)
        self._inner = inner
        self._spellings = _longest_first(self._special.values())
        self._pattern = re.compile(f"(?={'|'.join(map(re.escape, self._spellings))})")
        # Two characters at least: of any two parts of a longer spelling, one has as many.
        self._heads = {text[:size] for text in self._spellings for size in range(2, len(text))}
        self._tails = {text[cut:] for text in self._spellings for cut in range(1, len(text) - 1)}

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """Read `tokenizer.json`; raises `PackageError` when it is none."""
        from tokenizers import Tokenizer as Inner

        try:
            return cls(Inner.from_str(path.read_text(encoding="utf-8")))
        except BaseException as error:
            raise _broken(error, str(path)) from error

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """Ids of a text. Control tokens spelled out in it become control tokens, except where
        `guard` has been over it. `add_special` adds what the tokenizer puts around a whole
        text, such as BOS.

        Raises `RequestError` for text that is not valid Unicode, `PackageError` when
        the tokenizer turns out to be damaged.
        """
        require_unicode(text, "the prompt")
        try:
            ids = self._inner.encode(text, add_special_tokens=add_special).ids
        except BaseException as error:
            raise _broken(error) from error
        return [id for id in ids if id != self._guard_id]

    def guard(self, text: str) -> str:
        """The text with an invisible mark in everything that spells a control token.

        `encode` takes the mark out again: the ids decode to the same text, and none of them is a
        control token's. A beginning or an end that could be part of a control token together
        with the text around it is marked as well. Texts without such spellings come back
        unchanged, so they get exactly the ids they always had. A guard character that the text
        has itself is dropped by `encode`. Not covered: control tokens of one character,
        and tokenizers that look for control tokens only after normalizing the text.
        """
        if not self._spellings:
            return text
        marks = {match.start() + 1 for match in self._pattern.finditer(text)}
        head, tail = len(text) - len(text.lstrip()), len(text.rstrip())
        reach = range(2, len(self._spellings[0]))
        if any(text[head : head + size] in self._tails for size in reach):
            marks.add(head)
        if any(text[max(0, tail - size) : tail] in self._heads for size in reach):
            marks.add(tail)
        if not marks:
            return text
        cuts = [0, *sorted(marks), len(text)]
        return GUARD.join(text[a:b] for a, b in pairwise(cuts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, control tokens left out, invalid UTF-8 replaced by U+FFFD."""
        try:
            text: str = self._inner.decode(list(ids), skip_special_tokens=True)
        except BaseException as error:
            raise _broken(error) from error
        return text

    def is_text(self, id: int) -> bool:
        """Whether a token has text: control tokens and unknown ids have none."""
        return (
            id not in self._special
            and id != self._guard_id
            and self._inner.id_to_token(id) is not None
        )

    def to_json(self) -> str:
        """The text of its `tokenizer.json`, without our own mark."""
        data = json.loads(self._inner.to_str())
        data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] != GUARD]
        return json.dumps(data, ensure_ascii=False)

    def spelling(self, id: int | None) -> str:
        """How a token is written in a template; empty for None or an unknown id."""
        if id is None:
            return ""
        return self._special.get(id) or self._inner.id_to_token(id) or ""


def require_unicode(text: str, what: str) -> None:
    """Raise `RequestError` for a text with surrogates: bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{what} is not valid Unicode at character {error.start}; convert it to UTF-8"
        ) from None


def _longest_first(spellings: Iterable[str]) -> list[str]:
    return sorted({text for text in spellings if len(text) > 1}, key=len, reverse=True)


def _broken(error: BaseException, file: str = "the package's tokenizer.json") -> BaseException:
    """What to raise for an error of the library, whose panics are no `Exception`s."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return error
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return PackageError(
        f"{file} is not a usable tokenizer ({reason}); fetch or export the package again"
    )
