"""The text of an answer out of the JSON it is written in, in whatever parts that comes."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ondevice.serve.partial import AnswerText

CUTS = st.lists(st.integers(0, 400), max_size=30)
TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('\\"/ud8\n\t\U0001f642')))


def parts(raw: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges)]


@given(TEXTS, CUTS, st.booleans(), st.sampled_from(["", " ", "\n  "]))
def test_the_parts_add_up_to_the_answer(
    text: str, cuts: list[int], ascii_only: bool, space: str
) -> None:
    value = json.dumps(text, ensure_ascii=ascii_only)
    raw = f'{space}{{{space}"answer"{space}:{space}{value}{space}}}'
    reader = AnswerText()
    assert "".join(reader.feed(part) for part in parts(raw, cuts)) == text
    assert reader.text == text


@given(TEXTS, CUTS, st.integers(0, 400), st.booleans())
def test_what_was_given_once_is_never_taken_back(
    text: str, cuts: list[int], end: int, ascii_only: bool
) -> None:
    raw = json.dumps({"answer": text}, ensure_ascii=ascii_only)[:end]
    reader = AnswerText()
    said = "".join(reader.feed(part) for part in parts(raw, cuts))
    assert text.startswith(said)
    whole = AnswerText()
    assert whole.feed(raw) == said  # however it was cut


@given(CUTS)
def test_a_call_has_no_text(cuts: list[int]) -> None:
    reader = AnswerText()
    raw = '{"tool": "look", "arguments": {"answer": "not this one"}}'
    assert not any(reader.feed(part) for part in parts(raw, cuts))


def test_half_a_pair_of_escapes_is_shown_as_unreadable_and_breaks_nothing() -> None:
    reader = AnswerText()
    assert reader.feed('{"answer": "a\\ud83d') == "a"
    assert reader.feed("b") == "\ufffdb"
    assert reader.feed("\\udc00.") == "\ufffd."
    assert reader.feed('"}') == ""
