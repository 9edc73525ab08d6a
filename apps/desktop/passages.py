"""Passages of documents: cut at sentences, ranked for a question, and as many as there is room.

Ranking is BM25, by bm25s. Knows nothing of files and models.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from ondevice.desktop.documents import Text
from ondevice.errors import OndeviceError

WORDS = 80  # of a passage, at most; docs/documents.md has what other sizes gave
OVERLAP = 25  # words of the last sentence of a passage, if the next one begins with it

ROOM = 2_000  # tokens of passages worth waiting for; a context may hold less, or far more

_GRAM = 4  # letters of the pieces of words that are compared
_LONG_WORD = 10  # characters
_PARAGRAPH_SHARE = 0.5  # of `WORDS`, from which a passage may end with a paragraph

# Scripts without spaces between words: counted and compared by pairs of letters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# Signs of vowels that Python does not count as letters, in Indic scripts, Hebrew and Arabic.
_SIGNS = r"\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(rf"([{_UNSPACED}]+)|(?:[^\W_{_UNSPACED}]|[{_SIGNS}])+")
_ACCENTS = re.compile(r"[\u0300-\u036f]")
_PARTED = "\n\n"
_GOES_ON = re.compile(r"[\w,;-]$")  # how a page ends in the middle of a sentence
_ENDS = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"[.!?…][\"')\]»”’]*\s+(?=[^\sa-z])|[。！？]+\s*"),
    re.compile(r"\n+"),
    re.compile(r"\s+|(?<=\S{80})"),
)


@dataclass(frozen=True)
class Wording:
    """What a prompt says before the passages, and between them and the question."""

    before: str
    after: str


WORDING = Wording(
    "Passages of the user's documents:\n\n",
    "Answer the question from these passages. If they do not answer it, say so.\n\nQuestion: ",
)


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `page` and `number` in the document count from 1.

    `score` is BM25's for the question it was ranked for, 0 where no word is shared.
    """

    document: str
    page: int
    number: int
    text: str
    score: float = 0.0


@dataclass(frozen=True)
class _Piece:
    """A sentence, or what else is not parted. `start` and `end` in the text."""

    start: int
    end: int
    words: int
    ends_paragraph: bool


def terms(text: str) -> list[str]:
    """What is compared: every four letters in a row of each word, without case and accents.

    Finds "observe" in "observing", and a word inside a compound, in any language that has an
    alphabet. Scripts without spaces give pairs of letters.
    """
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
    found = []
    for match in _WORD.finditer(plain):
        size = 2 if match[1] else _GRAM
        last = max(1, len(match[0]) - size + 1)
        found += [match[0][start : start + size] for start in range(last)]
    return found


def _size(text: str) -> int:
    """Words of a text; ten characters of anything are one at least, two letters without spaces."""
    runs = list(_WORD.finditer(text))
    unspaced = sum(len(run[0]) // 2 for run in runs if run[1])
    return max(len(runs) + unspaced, -(-len(text) // _LONG_WORD))


def cut(text: Text, most: int = WORDS, overlap: int = OVERLAP) -> tuple[Passage, ...]:
    """The passages of a document, in reading order, each of at most `most` words.

    A passage ends with a paragraph where it can, else with a sentence; the next one then repeats
    that sentence, if it has at most `overlap` words. `page` is where its new part begins.
    """
    parted = [f"{page}{' ' if _GOES_ON.search(page) else _PARTED}" for page in text.pages]
    whole = "".join(parted)
    pages = list(accumulate(map(len, parted), initial=0))
    pieces = list(_pieces(whole, 0, len(whole), most))
    made: list[Passage] = []
    for first, new, end in _runs(pieces, most, overlap):
        page = bisect_right(pages, pieces[new].start)
        shown = whole[pieces[first].start : pieces[end - 1].end].strip()
        made.append(Passage(text.name, page, len(made) + 1, shown))
    return tuple(made)


def _pieces(whole: str, start: int, end: int, most: int, level: int = 0) -> Iterator[_Piece]:
    """What is never parted: paragraphs, cut into sentences, lines and words as far as is needed."""
    cuts = [match.end() for match in _ENDS[level].finditer(whole, start, end)]
    for at, after in pairwise([start, *(c for c in cuts if start < c < end), end]):
        part = whole[at:after]
        if not part.strip():
            continue
        size = _size(part.strip())
        ends = level == 0
        if level == 0 or (size > most and level + 1 < len(_ENDS)):
            inner = list(_pieces(whole, at, after, most, level + 1))
            yield from inner[:-1]
            yield replace(inner[-1], ends_paragraph=ends)
        else:
            yield _Piece(at, after, size, ends)


def _runs(pieces: Sequence[_Piece], most: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """Passages as (first piece, first that is not repeated, piece after the last)."""
    new = 0
    while new < len(pieces):
        first = new
        if new and not pieces[new - 1].ends_paragraph and pieces[new - 1].words <= overlap:
            first = new - 1
        end = _end(pieces, first, new, most)
        yield first, new, end
        new = end


def _end(pieces: Sequence[_Piece], first: int, new: int, most: int) -> int:
    """The piece after the last one of a passage that begins with `first`."""
    size = sum(piece.words for piece in pieces[first:new])
    end, paragraph = new, 0
    while end < len(pieces) and (end == new or size + pieces[end].words <= most):
        size += pieces[end].words
        end += 1
        if pieces[end - 1].ends_paragraph and size >= _PARAGRAPH_SHARE * most:
            paragraph = end
    return end if end == len(pieces) or not paragraph else paragraph


class Index:
    """Passages of one or more documents that can be ranked for questions."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Raises `OndeviceError` when bm25s is missing."""
        try:
            import bm25s
        except ImportError as error:
            raise OndeviceError(
                'to ask about documents, pip install "ondevice[desktop]"'
            ) from error
        self._passages = tuple(passages)
        self._ranker = bm25s.BM25()
        found = [terms(passage.text) for passage in passages]
        self._known = {term for some in found for term in some}
        if self._known:
            self._ranker.index(found, show_progress=False)

    def rank(self, question: str, most: int) -> list[Passage]:
        """The `most` best passages, best first; those that score alike in reading order.

        Passages that share no word with the question come last, with score 0.
        """
        asked = [term for term in terms(question) if term in self._known]
        scores = self._ranker.get_scores(asked) if asked else [0.0] * len(self._passages)
        scored = [
            replace(passage, score=float(score))
            for passage, score in zip(self._passages, scores, strict=True)
        ]
        return sorted(scored, key=lambda passage: -passage.score)[:most]


def fit(
    ranked: Sequence[Passage], room_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[Passage, ...]:
    """The best passages that `room_tokens` of prompt hold beside a question, in reading order.

    Ends at the first that does not fit, so that a worse one never takes the place of a better.
    """
    chosen: list[Passage] = []
    room = room_tokens - count_tokens(prompt("", ()))
    for passage in ranked:
        room -= count_tokens(_shown(passage))
        if room < 0:
            break
        chosen.append(passage)
    return tuple(sorted(chosen, key=lambda passage: (passage.document, passage.number)))


def prompt(question: str, chosen: Sequence[Passage], wording: Wording = WORDING) -> str:
    """The question as the model gets it, after the passages."""
    shown = "".join(map(_shown, chosen))
    return f"{wording.before}{shown}{wording.after}{question}"


def _shown(passage: Passage) -> str:
    return f"[{passage.document}, page {passage.page}]\n{passage.text}\n\n"
