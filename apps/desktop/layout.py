"""The lines of printed pages to running text: no headers, no hyphenation, paragraphs in one line.

Knows nothing of PDF; goes by the length of lines, because a page says nothing else of itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_EDGE = 3  # lines at the top and at the bottom of a page that may be its header or footer
_FULL = 0.75  # of the longest lines of the page; a shorter line is the last of its paragraph
_SENTENCE_END = re.compile(r"[.!?…。！？:][\"')\]»”’]*$")
_HYPHENATED = re.compile(r"[^\W\d_](-|\u00ad|\u2010)$")


def running(pages: Sequence[str]) -> tuple[str, ...]:
    """The text of each page with an empty line between paragraphs.

    Headings and the cells of a table keep lines of their own.
    """
    split = [[line.strip() for line in page.splitlines()] for page in pages]
    return tuple(_joined(lines) for lines in _without_edges(split))


def _without_edges(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Pages without the lines that most of them have at an edge, whatever their numbers are."""
    seen = Counter(shape for lines in pages for shape in {_shape(lines[i]) for i in _edges(lines)})
    repeated = {shape for shape, count in seen.items() if shape and count > max(2, len(pages) / 2)}
    kept = []
    for lines in pages:
        gone = {i for i in _edges(lines) if _shape(lines[i]) in repeated}
        kept.append([line for i, line in enumerate(lines) if i not in gone])
    return kept


def _edges(lines: Sequence[str]) -> set[int]:
    count = len(lines)
    return {i for i in range(count) if i < _EDGE or i >= count - _EDGE}


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", line)


def _joined(lines: Sequence[str]) -> str:
    lengths = sorted(map(len, filter(None, lines)))
    full = _FULL * lengths[-1 - len(lengths) // 10] if lengths else 0.0
    text = ""
    for line, following in zip(lines, [*lines, ""][1:], strict=True):
        text += _ended(line, following, full)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _ended(line: str, following: str, full: float) -> str:
    """A line with what parts it from the following one."""
    ends = _SENTENCE_END.search(line) is not None
    before_heading = ends and len(following) < full and not _SENTENCE_END.search(following)
    hyphen = _HYPHENATED.search(line)
    if hyphen and following[:1].islower():
        is_compound = "-" in following.split(maxsplit=1)[0]  # as in state-of-the-art
        return line if is_compound else line[: hyphen.start(1)]
    if len(line) >= full and following and not before_heading:
        return f"{line} "
    return f"{line}\n\n" if ends or not following else f"{line}\n"
