"""The text inside `{"answer": "..."}` while the JSON is still being written.

Knows nothing of tools or HTTP.
"""

from __future__ import annotations

import json
import re

_HEAD = re.compile(r'\s*\{\s*"answer"\s*:\s*"')
# Whole characters only: half an escape waits for its rest.
_WHOLE = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")


class AnswerText:
    """Fed with parts of the JSON, gives what each adds to the answer; "" for a call of a tool."""

    def __init__(self) -> None:
        self.text = ""
        self._raw = ""  # not decoded yet
        self._inside = False

    def feed(self, part: str) -> str:
        """The characters of the answer that are whole now and were not before."""
        self._raw += part
        if not self._inside:
            head = _HEAD.match(self._raw)
            if head is None:
                return ""
            self._inside = True
            self._raw = self._raw[head.end() :]
        added = self._whole()
        self.text += added
        return added

    def _whole(self) -> str:
        match = _WHOLE.match(self._raw)
        whole = match.group() if match else ""
        half = _HALF_PAIR.search(whole[-6:])
        if half is not None and not _escaped_backslash(whole):
            whole = whole[:-6]
        self._raw = self._raw[len(whole) :]  # from a closing quote on, nothing matches any more
        text: str = json.loads(f'"{whole}"', strict=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escaped_backslash(whole: str) -> bool:
    """Whether the six last characters only look like an escape: their backslash is escaped."""
    before = whole[:-6]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
