"""Results kept line by line, so that an interrupted run can go on where it was.

Knows nothing of what a line means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def append(path: Path, value: dict[str, Any]) -> None:
    """Add one line of JSON; it is with the operating system when this returns."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        # The line end comes first: what an interruption cut off then stays a line of its own.
        file.write("\n" + json.dumps(value, ensure_ascii=False))


def whole(text: str) -> Iterator[Any]:
    """The values of all lines that are JSON; an empty one, or one cut off, is left out."""
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        yield value
