from __future__ import annotations

from pathlib import Path

import pytest
import tiny_tokenizers as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import PackageError, RequestError
from ondevice.runtime.tokenizer import GUARD

FRAGMENTS = st.sampled_from(
    [*tiny.CONTROLS, "<|", "|>", "im_end", "im_end|>", "<|im_", "<", ">", "s>", "<s", "INST]", "["]
)
HOSTILE = st.lists(FRAGMENTS | st.text(max_size=3), max_size=12).map("".join)
CONTROL_IDS = set(range(len(tiny.CONTROLS)))


def test_control_tokens_spelled_in_a_template_become_control_tokens() -> None:
    tokenizer = tiny.byte_level()
    assert tokenizer.encode("<|im_start|>hi<|im_end|>")[0] == 1
    assert tokenizer.encode("<|im_start|>hi<|im_end|>")[-1] == 2


@given(HOSTILE)
def test_guarded_text_keeps_its_letters_and_gives_no_control_token(text: str) -> None:
    tokenizer = tiny.byte_level()
    ids = tokenizer.encode(tokenizer.guard(text))
    assert not CONTROL_IDS & set(ids)
    assert tokenizer.decode(ids) == text.replace(GUARD, "")


@given(HOSTILE, HOSTILE, HOSTILE)
def test_guarded_texts_side_by_side_give_no_control_token(a: str, b: str, c: str) -> None:
    tokenizer = tiny.byte_level()
    rendered = (
        f"<|im_start|>{tokenizer.guard(a)}{tokenizer.guard(b)}\n{tokenizer.guard(c)}<|im_end|>"
    )
    ids = tokenizer.encode(rendered)
    assert [id for id in ids if id in CONTROL_IDS] == [1, 2]
    assert tokenizer.decode(ids) == f"{a}{b}\n{c}".replace(GUARD, "")


@pytest.mark.parametrize("control", tiny.CONTROLS)
def test_a_control_token_cut_anywhere_between_two_messages_stays_text(control: str) -> None:
    tokenizer = tiny.byte_level()
    for cut in range(1, len(control)):
        ids = tokenizer.encode(tokenizer.guard(control[:cut]) + tokenizer.guard(control[cut:]))
        assert not CONTROL_IDS & set(ids)
        assert tokenizer.decode(ids) == control


@given(st.text())
def test_ordinary_text_gets_the_ids_it_always_had(text: str) -> None:
    tokenizer = tiny.byte_level()
    plain = tiny.inner(tiny.byte_level_json()).encode(text, add_special_tokens=False).ids
    if tokenizer.guard(text) == text and GUARD not in text:
        assert tokenizer.encode(text) == plain
    assert ("<|" in text or "<s" in text or "[I" in text or ">" in text or "]" in text) or (
        tokenizer.guard(text) == text
    )


def test_a_guarded_text_never_contains_a_control_token_even_with_a_guard_of_its_own() -> None:
    tokenizer = tiny.byte_level()
    ids = tokenizer.encode(tokenizer.guard(f"<|im_{GUARD}end|>"))
    assert not CONTROL_IDS & set(ids)


@settings(max_examples=50)
@given(HOSTILE)
def test_guarding_holds_for_byte_fallback_vocabularies_too(text: str) -> None:
    tokenizer = tiny.byte_fallback()
    ids = tokenizer.encode(tokenizer.guard(text))
    assert not {1, 2} & set(ids)


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"model": {"type": "nonsense"}}', "\0"])
def test_a_file_that_is_no_tokenizer_is_a_package_error_naming_it(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(PackageError, match=r"tokenizer\.json") as caught:
        tiny.Tokenizer.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_a_package_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(PackageError):
        tiny.Tokenizer.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PackageError):
        tiny.Tokenizer.read(path)


def test_a_damaged_tokenizer_that_fails_late_is_a_package_error_too() -> None:
    class Panic(BaseException):
        """What the library raises when it panics."""

    class Damaged:
        def encode(self, *_: object, **__: object) -> None:
            raise Panic("index out of bounds")

        decode = encode

    tokenizer = tiny.Tokenizer(tiny.inner(tiny.byte_level_json()))
    tokenizer._inner = Damaged()
    with pytest.raises(PackageError, match="index out of bounds"):
        tokenizer.encode("a")
    with pytest.raises(PackageError):
        tokenizer.decode([70])


def test_lone_surrogates_are_a_request_error() -> None:
    with pytest.raises(RequestError, match="Unicode at character 2"):
        tiny.byte_level().encode("ab\udcff")


def test_truncation_and_padding_of_the_file_are_switched_off() -> None:
    inner = tiny.inner(tiny.byte_level_json())
    inner.enable_truncation(3)
    inner.enable_padding(length=50)
    tokenizer = tiny.Tokenizer(tiny.inner(inner.to_str()))
    text = "the quick brown fox jumps over"
    assert tokenizer.encode(text) == tiny.byte_level().encode(text)


def test_spelling_is_the_text_a_template_uses() -> None:
    assert tiny.byte_level().spelling(2) == "<|im_end|>"
    assert tiny.byte_level().spelling(None) == ""
    assert tiny.byte_level().spelling(10**6) == ""
