"""What to suggest in an error for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like a word, None where none is much like it."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)), None)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known name, or all of them."""
    names = list(known)
    close = closest(word, names)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(names) or 'none'}"
