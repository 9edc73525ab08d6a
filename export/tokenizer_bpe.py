"""Byte-level BPE from GGUF's tokens and merges, with the pre-tokenizer its `pre` key names.

The ids are those of llama.cpp for the same file (benchmarks/tokenizer_parity.py), but for
`tekken` and `gpt-4o`: there llama.cpp approximates the pattern that the models were trained
with, which cuts words at capitals of every alphabet, and this module does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ondevice.errors import SourceError
from ondevice.export.vocabulary import Vocabulary, to_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class _Pre:
    """How text is cut before merging: each pattern cuts the pieces the one before left.

    `whole_words`: a piece that is a token as it stands is taken without merging.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_SMOLLM = _Pre((r"\p{N}", _GPT2))
_LLAMA3 = _Pre(
    (rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_SYMBOLS}",), whole_words=True, adds_bos=True
)
_QWEN2 = _Pre((rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_SYMBOLS}",))
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_SYMBOLS_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = _Pre(
    (rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}|{_SYMBOLS_SLASH}",),
    whole_words=True,
    adds_bos=True,
)
_GPT4O = _Pre(
    (
        rf"{_BEFORE}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}|{_SYMBOLS_SLASH}",
    )
)
_DEFAULT = _Pre((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))

PRE_TOKENIZERS = {
    "default": _DEFAULT,
    "gpt-2": _Pre((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "smollm": _SMOLLM,
    "tekken": _TEKKEN,
    "gpt-4o": _GPT4O,
    "llama4": _GPT4O,
    "starcoder": _SMOLLM,
}


def adds_bos(pre: str) -> bool:
    """Whether a prompt gets a first token when the file does not say."""
    return pre in PRE_TOKENIZERS and PRE_TOKENIZERS[pre].adds_bos


def build(
    vocabulary: Vocabulary,
    merges: list[tuple[str, str]],
    pre: str,
    bos: int | None,
    where: str,
) -> str:
    """The `tokenizers` JSON; raises `SourceError` for a `pre` that is not known."""
    if pre not in PRE_TOKENIZERS:
        raise SourceError(
            f"{where} names the pre-tokenizer {pre[:40]!r}; known are {', '.join(PRE_TOKENIZERS)}"
        )
    return to_json(
        lambda: _tokenizer(vocabulary, merges, PRE_TOKENIZERS[pre]), vocabulary, bos, where
    )


def _tokenizer(vocabulary: Vocabulary, merges: list[tuple[str, str]], pre: _Pre) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(vocabulary.ids(), merges, fuse_unk=False, ignore_merges=pre.whole_words)
    )
    splits: list[Any] = [_split(pattern) for pattern in pre.patterns]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _split(pattern: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")
