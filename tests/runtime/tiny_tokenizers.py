"""Small real tokenizers, made on the spot: one of each kind that packages hold."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

from ondevice.runtime.tokenizer import Tokenizer

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "[INST]")
CORPUS = (
    "The quick brown fox jumps over the lazy dog. def main(): return 0\n" * 3
    + "Grüße aus Köln, naïve café; 你好世界 こんにちは 🙂🙃 👩‍🔬 приве́т\n" * 3
    + "user assistant system question answer Paris is the capital of France. im_end im_start\n" * 5
)


@cache
def byte_level_json() -> str:
    """A byte-level BPE as in GPT-2, SmolLM2 and Qwen, with control tokens."""
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(CONTROLS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([CORPUS], trainer)
    inner.add_tokens([AddedToken("<think>", special=False)])
    return str(inner.to_str())


@cache
def byte_fallback_json() -> str:
    """A vocabulary with `▁` for spaces and bytes for the rest, as in Llama 2 and Gemma."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *"abcdefghijklmnopqrstuvwxyz.,!?é你", "▁a", "▁th", "th", "▁the", "he"]
    merges = [("t", "h"), ("h", "e"), ("▁", "a"), ("▁", "th"), ("▁th", "e")]
    vocab = {token: id for id, token in enumerate(tokens)}
    inner = Inner(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return str(inner.to_str())


@cache
def byte_level() -> Tokenizer:
    return Tokenizer(Inner.from_str(byte_level_json()))


@cache
def byte_fallback() -> Tokenizer:
    return Tokenizer(Inner.from_str(byte_fallback_json()))


def inner(json: str) -> Any:
    """The library's own tokenizer, untouched, to compare with."""
    return Inner.from_str(json)
