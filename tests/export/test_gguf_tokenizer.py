"""Tokenizers built from GGUF keys: the ids of llama.cpp and of sentencepiece."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from checkpoints import BOS, EOS, gguf_keys, tiny, tokens
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ondevice.errors import SourceError
from ondevice.export.architectures.fields import Fields
from ondevice.export.gguf_reader import read_gguf
from ondevice.export.source import TokenizerFiles
from ondevice.export.tokenizer import tokenizer_from_gguf
from ondevice.export.tokenizer_bpe import PRE_TOKENIZERS

# Written by: python -m benchmarks.tokenizer_parity SmolLM2.gguf --lines 72 --seed 11 --fixture ...
PRES = ("default", "gpt-2", "llama-bpe", "qwen2", "smollm")
# From the tokenizers of Mistral Nemo (mistral_common 1.13.1, tekken_240718.json) and of GPT-4o
# (tiktoken 0.14.0, o200k_base).
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?"
ORIGINAL = {
    "tekken": rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}|{_REST}",
    "gpt-4o": rf"{_WORD}{_UPPER}*{_LOWER}+{_SHORT}|{_WORD}{_UPPER}+{_LOWER}*{_SHORT}"
    rf"|\p{{N}}{{1,3}}|{_REST}",
}
FIXTURE = Path(__file__).parent / "data" / "smollm2_llamacpp_ids.json"


def files(**changes: Any) -> TokenizerFiles:
    """The tokenizer of the tiny checkpoints with some keys changed; `...` removes one."""
    keys = gguf_keys(tiny())
    for name, value in changes.items():
        keys[name if name == "tokenizer.chat_template" else f"tokenizer.ggml.{name}"] = value
    keys = {name: value for name, value in keys.items() if value is not ...}
    return tokenizer_from_gguf(Fields(keys, "m.gguf"), len(tokens()))


def tokenizer(**changes: Any) -> Tokenizer:
    return Tokenizer.from_str(files(**changes).tokenizer_json)


def ids(built: Tokenizer, text: str) -> list[int]:
    return list(built.encode(text, add_special_tokens=False).ids)


@pytest.mark.real_model
@pytest.mark.parametrize("pre", PRES)
def test_ids_are_those_of_llama_cpp_for_each_pre_tokenizer(smollm2_gguf: Path, pre: str) -> None:
    stored = json.loads(FIXTURE.read_text(encoding="utf-8"))
    keys = read_gguf(smollm2_gguf).keys | {"tokenizer.ggml.pre": pre}
    numbers = [merge.replace(" ", "") for merge in stored["number_merges"]]
    keys["tokenizer.ggml.merges"] += stored["number_merges"]
    keys["tokenizer.ggml.tokens"] += numbers
    keys["tokenizer.ggml.token_type"] += [1] * len(numbers)
    built = tokenizer_from_gguf(Fields(keys, "SmolLM2"), 60000)
    ours = Tokenizer.from_str(built.tokenizer_json)
    for text, expected in zip(stored["texts"], stored["ids"][pre], strict=True):
        assert ids(ours, text) == expected
        assert ours.decode(expected, skip_special_tokens=False) == text


def test_the_stored_ids_tell_every_pre_tokenizer_from_the_others() -> None:
    stored = json.loads(FIXTURE.read_text(encoding="utf-8"))["ids"]
    assert len({json.dumps(stored[pre]) for pre in PRES}) == len(PRES)
    assert {PRE_TOKENIZERS[pre] for pre in (*PRES, *ORIGINAL)} == set(PRE_TOKENIZERS.values())


@pytest.mark.parametrize("pre", ORIGINAL)
@given(text=st.text(st.sampled_from("aAbBéÉßΣσЖжاب日ǅʰ'sSTLl01½ \t\n\r/.,!_\u0301\u200d🎉\u00a0")))
def test_words_are_cut_as_the_models_own_pattern_cuts_them(pre: str, text: str) -> None:
    regex = pytest.importorskip("regex")
    built = tokenizer(pre=pre, add_bos_token=False)
    assert built.pre_tokenizer is not None
    pieces = [text[start:end] for _, (start, end) in built.pre_tokenizer.pre_tokenize_str(text)]
    assert pieces == regex.findall(ORIGINAL[pre], text)


@given(st.text())
def test_any_text_comes_back_from_byte_level_bpe(text: str) -> None:
    built = tokenizer()
    assert built.decode(ids(built, text), skip_special_tokens=False) == text


def test_merges_and_special_tokens_are_applied() -> None:
    words = tokens()
    shown = [words[index] for index in ids(tokenizer(), f"{BOS}and the {EOS}thin<|im_")]
    assert shown == [BOS, "and", "Ġthe", "Ġ", EOS, "th", "in", *"<|im_"]


def test_control_tokens_are_dropped_from_a_decoded_answer_and_user_defined_ones_kept() -> None:
    kinds = [1] * len(tokens())
    kinds[-2:] = 4, 3
    built = tokenizer(token_type=kinds)
    assert built.decode(ids(built, f"{BOS}a{EOS}")) == f"{BOS}a"


def test_a_token_that_llama_cpp_takes_for_control_is_control() -> None:
    words = [*tokens()[:-2], "</s>", EOS]
    built = tokenizer(tokens=words, token_type=[1] * len(words), bos_token_id=...)
    assert ids(built, "</s>") == [len(words) - 2] and built.decode([len(words) - 2]) == ""


def test_a_first_token_is_put_before_texts_where_the_file_or_its_kind_says_so() -> None:
    bos = tokens().index(BOS)
    for changes in ({"add_bos_token": True}, {"add_bos_token": ..., "pre": "llama-bpe"}):
        found = files(**changes)
        assert found.bos_id == bos
        assert Tokenizer.from_str(found.tokenizer_json).encode("a").ids[0] == bos
    found = files(add_bos_token=...)
    assert found.bos_id is None
    assert bos not in Tokenizer.from_str(found.tokenizer_json).encode("a").ids


def test_a_template_that_spells_the_first_token_gets_it() -> None:
    found = files(**{"tokenizer.chat_template": "{{ bos_token }}{{ messages }}"})
    assert found.bos_id == tokens().index(BOS)
    assert Tokenizer.from_str(found.tokenizer_json).encode("a").ids == [tokens().index("a")]


def test_all_tokens_that_end_an_answer_are_listed_once_the_named_one_first() -> None:
    words = [*tokens()[:-3], "<|endoftext|>", BOS, EOS]
    found = files(tokens=words, token_type=[1] * len(words), eot_token_id=5, merges=[])
    assert found.eos_ids == (len(words) - 1, 5, len(words) - 3)
    assert files(padding_token_id=2**32 - 1).pad_id is None
    assert files(padding_token_id=7).pad_id == 7


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"pre": "dbrx"}, "'dbrx'; known are default, gpt-2, llama-bpe"),
        ({"model": "bert"}, "only gpt2 .* and llama"),
        ({"model": "llama"}, "no tokenizer.ggml.scores"),
        ({"model": ...}, "has no tokenizer.ggml.model"),
        ({"tokens": ...}, "has no tokenizer.ggml.tokens"),
        ({"tokens": [1, 2]}, "not a list of texts"),
        ({"tokens": []}, "0 tokens for"),
        ({"tokens": tokens() * 2}, "tokens for 264 rows"),
        ({"token_type": [1]}, "a list of 264 numbers"),
        ({"merges": ["ab"]}, "'ab' .* is not two parts"),
        ({"merges": ["no such"]}, "does not fit together"),
        ({"eos_token_id": 264}, "eos_token_id .* from 0 to 263"),
        ({"eos_token_id": -1}, "eos_token_id"),
        ({"tokens": [f"t{i}" for i in range(264)], "merges": [], "eos_token_id": ...}, "ends"),
        ({"tokenizer.chat_template": 3}, "chat_template .* a text"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(changes: dict[str, Any], pattern: str) -> None:
    with pytest.raises(SourceError, match=pattern) as caught:
        files(**changes)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=[True, False], ids=["space prefix", "no prefix"])
def trained(request: pytest.FixtureRequest) -> tuple[Any, Tokenizer]:
    """A small SentencePiece BPE model and our tokenizer made of its pieces and scores."""
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(spoken(400, seed=1)),
        model_writer=written,
        vocab_size=600,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=request.param,
        user_defined_symbols=["<tool>"],
        character_coverage=0.995,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return theirs, spm_tokenizer(theirs, request.param, ["<tool>"])


def spm_tokenizer(model: Any, prefix: bool, defined: list[str]) -> Tokenizer:
    """Ours, from keys as llama.cpp's converter writes them; `defined` pieces are user-defined."""
    size = model.get_piece_size()
    kinds = [
        2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
        for i in range(size)
    ]
    tokens = [model.id_to_piece(i) for i in range(size)]
    for piece in defined:
        at = model.piece_to_id(piece)
        kinds[at], tokens[at] = 4, piece.replace("▁", " ")
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [model.get_score(i) for i in range(size)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    found = tokenizer_from_gguf(Fields(keys, "m.gguf"), size)
    assert (found.bos_id, found.eos_ids) == (model.bos_id(), (model.eos_id(),))
    return Tokenizer.from_str(found.tokenizer_json)


def spoken(count: int, seed: int) -> list[str]:
    """Sentences of made-up words, with runs of spaces, digits and rare characters."""
    chance = random.Random(seed)
    syllables = [
        "ba",
        "bi",
        "the",
        "ing",
        "an",
        "er",
        "qu",
        "ö",
        "é",
        "ст",
        "ра",
        "日",
        "本",
        "1",
        "20",
    ]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(150)]
    gaps = [" ", " ", " ", "  ", "   ", ", ", ".\n", "\t", "(", "-"]
    return [
        "".join(chance.choice(words) + chance.choice(gaps) for _ in range(12)) for _ in range(count)
    ]


def test_pieces_are_those_of_sentencepiece(trained: tuple[Any, Tokenizer]) -> None:
    theirs, ours = trained
    rare = [
        "🎉 the\u200d日",
        "مرحبا ban",
        "  the  ",
        "",
        " ",
        "▁the▁",
        "\x00a\r\n",
        "<unk",
    ]
    for text in [*spoken(300, seed=2), *rare]:
        assert ids(ours, text) == theirs.encode(text), text


def test_sentencepiece_text_comes_back(trained: tuple[Any, Tokenizer]) -> None:
    theirs, ours = trained
    for text in [*spoken(50, seed=3), "🎉 the\u200d日", "  the  ", "a\nb"]:
        assert ours.decode(ids(ours, text), skip_special_tokens=False) == text
        assert ours.encode(text).ids == [theirs.bos_id(), *ids(ours, text)]


def test_user_defined_pieces_are_found_in_text(trained: tuple[Any, Tokenizer]) -> None:
    theirs, ours = trained
    assert theirs.piece_to_id("<tool>") in ids(ours, "the<tool>ban")
    assert ids(ours, "the<tool>")[-1] == theirs.piece_to_id("<tool>")


def test_gemmas_runs_of_spaces_and_lines_are_those_of_sentencepiece() -> None:
    """Gemma's pieces of several spaces stand in GGUF files as user-defined tokens of spaces."""
    sentencepiece = pytest.importorskip("sentencepiece")
    runs = [*("▁" * count for count in range(2, 8)), *("\n" * count for count in range(1, 5))]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(spoken(400, seed=1)),
        model_writer=written,
        vocab_size=600,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        user_defined_symbols=[*runs, "<b>"],
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    ours = spm_tokenizer(model, False, [*runs, "<b>"])
    chance = random.Random(4)
    parts = [" ", "  ", "   ", "         ", "\n", "\n\n\n\n\n", "<b>", "the", "ban", "日本", "1"]
    for _ in range(300):
        text = "".join(chance.choices(parts, k=8))
        assert ids(ours, text) == model.encode(text), text
        assert ours.decode(ids(ours, text), skip_special_tokens=False) == text
