from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny_tokenizers as tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ondevice.runtime.detokenize import REPLACEMENT, Detokenizer, StopStrings
from ondevice.runtime.tokenizer import Tokenizer

TOKENIZERS = {"byte level": tiny.byte_level, "byte fallback": tiny.byte_fallback}


def stream(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(id) for id in ids), detokenizer.finish()]


@settings(max_examples=400)
@given(st.lists(st.integers(0, 620), max_size=60))
@example([5 + 0xE4] * 40)
def test_pieces_of_any_byte_level_ids_join_to_the_text_of_all(ids: list[int]) -> None:
    assert "".join(stream(tiny.byte_level(), ids)) == tiny.byte_level().decode(ids)


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_pieces_of_any_bytes_one_token_each_join_to_the_text_of_all(data: bytes) -> None:
    tokenizer = tiny.byte_level()
    ids = [single_byte_ids()[byte] for byte in data]
    assert "".join(stream(tokenizer, ids)) == data.decode("utf-8", "replace")


@settings(max_examples=200)
@given(st.text(), st.sampled_from(sorted(TOKENIZERS)))
def test_pieces_of_encoded_text_join_to_the_text(text: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = tokenizer.encode(tokenizer.guard(text))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@given(st.lists(st.sampled_from(["a", "é", "你", "🙂", " "]), min_size=1, max_size=30))
def test_byte_fallback_characters_come_out_whole_as_soon_as_they_are(letters: list[str]) -> None:
    tokenizer = tiny.byte_fallback()
    ids = [3 + byte for byte in "".join(letters).encode()]
    pieces = stream(tokenizer, ids)
    assert REPLACEMENT not in "".join(pieces)
    assert "".join(pieces).lstrip() == "".join(letters).lstrip()
    assert len([piece for piece in pieces if piece]) >= len("".join(letters).lstrip()) - 1


@given(st.text(alphabet="aé你🙂👩‍🔬", max_size=40))
def test_no_piece_shows_half_a_character(text: str) -> None:
    tokenizer = tiny.byte_level()
    assert not any(REPLACEMENT in piece for piece in stream(tokenizer, tokenizer.encode(text)))


def test_the_first_leading_space_goes_and_later_ones_stay() -> None:
    tokenizer = tiny.byte_fallback()
    assert "".join(stream(tokenizer, tokenizer.encode("the the a"))) == "the the a"


def test_control_tokens_and_unknown_ids_have_no_text() -> None:
    tokenizer = tiny.byte_level()
    ids = tokenizer.encode("a<|im_end|>b")
    assert stream(tokenizer, [*ids, 10**6]) == ["a", "", "b", "", ""]


def test_an_unfinished_character_at_the_end_is_shown_as_a_replacement() -> None:
    ids = [single_byte_ids()[byte] for byte in "a🙂".encode()[:-1]]
    assert stream(tiny.byte_level(), ids) == ["a", "", "", "", REPLACEMENT]


@pytest.mark.parametrize(
    "garbage", [b"a", b"\xe4", b"\xe4\xbd", b"\xf0\x9f\x98a", b"\x80", b"\xff"]
)
def test_the_cost_of_a_token_does_not_grow_with_the_answer(garbage: bytes) -> None:
    counting = Counting(tiny.byte_level())
    detokenizer = Detokenizer(counting)
    ids = [single_byte_ids()[byte] for byte in garbage] * (2000 // len(garbage))
    for id in ids:
        detokenizer.push(id)
    assert counting.longest <= 20
    assert counting.decoded <= 60 * len(ids)


class Counting:
    """A tokenizer that counts the ids it decodes."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner, self.decoded, self.longest = inner, 0, 0

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        self.longest = max(self.longest, len(ids))
        return self.inner.decode(ids)

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def is_text(self, id: int) -> bool:
        return self.inner.is_text(id)


def single_byte_ids() -> dict[int, int]:
    """Byte to the id of its token, in the byte-level tokenizer."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + at) for at, byte in enumerate(others)}
    vocab = tiny.inner(tiny.byte_level_json()).get_vocab()
    return {byte: vocab[letter] for byte, letter in letters.items()}


def before_first_complete_stop(text: str, stops: list[str]) -> str:
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)
PIECES = st.lists(st.text(alphabet="ab\n", max_size=3), max_size=20)


@settings(max_examples=500)
@given(PIECES, STOPS)
def test_text_ends_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    text = "".join(pieces)
    expected = before_first_complete_stop(text, stops)
    stopper = StopStrings(stops)
    out = ""
    for piece in pieces:
        part, stopped = stopper.push(piece)
        out += part
        assert expected.startswith(out)
        if stopped:
            assert out == expected != text
            return
    assert out + stopper.finish() == expected == text


@given(PIECES, STOPS)
def test_held_back_text_is_never_longer_than_a_stop_string_may_need(
    pieces: list[str], stops: list[str]
) -> None:
    stopper, seen, out = StopStrings(stops), "", ""
    for piece in pieces:
        part, stopped = stopper.push(piece)
        seen, out = seen + piece, out + part
        if stopped:
            return
        held = seen[len(out) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)
