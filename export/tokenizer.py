"""The tokenizer inside a GGUF file, as a `tokenizers` JSON that gives the ids llama.cpp gives.

Reads the keys and chooses the kind; `tokenizer_bpe` and `tokenizer_spm` build it.
"""

from __future__ import annotations

from ondevice.errors import SourceError
from ondevice.export import tokenizer_bpe, tokenizer_spm
from ondevice.export.architectures.fields import Fields
from ondevice.export.source import TokenizerFiles
from ondevice.export.vocabulary import Kind, Vocabulary

_PREFIX = "tokenizer.ggml."
# Tokens that end an answer whatever the file's eos_token_id says; files often name one of the
# two that a chat model uses.
_ENDINGS = frozenset(
    (
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|end|>",
        "<end_of_turn>",
    )
)
# Texts that are control tokens to llama.cpp even where the file calls them ordinary, found by
# giving them to it one by one. Qwen's files hold an ordinary `</s>`.
_LOOKS_CONTROL = _ENDINGS | {
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOS]",
    "[EOT]",
    "<|return|>",
    "<|call|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|file_sep|>",
}


def tokenizer_from_gguf(keys: Fields, vocab_size: int) -> TokenizerFiles:
    """Build the tokenizer of a GGUF file; `vocab_size` is the rows of the token embedding.

    Text is not normalized (Unicode NFC) even where the model's first tokenizer did, since
    llama.cpp does not. Raises `SourceError` for an unknown kind, an unknown pre-tokenizer or a
    vocabulary that does not fit together.
    """
    vocabulary = _vocabulary(keys, vocab_size)
    named = _token_id(keys, "bos", vocabulary)
    adds_bos = keys.flag(_PREFIX + "add_bos_token", default=_adds_bos_by_default(keys))
    bos = named if adds_bos else None
    template = _chat_template(keys)
    return TokenizerFiles(
        tokenizer_json=_built(keys, vocabulary, bos),
        chat_template=template,
        eos_ids=_eos_ids(keys, vocabulary),
        # A template may spell the token out even where plain text goes without.
        bos_id=named if adds_bos or "bos_token" in (template or "") else None,
        pad_id=_token_id(keys, "padding", vocabulary),
    )


def _adds_bos_by_default(keys: Fields) -> bool:
    if keys.text(_PREFIX + "model") == "gpt2":
        return tokenizer_bpe.adds_bos(_pre_tokenizer(keys))
    return True


def _built(keys: Fields, vocabulary: Vocabulary, bos: int | None) -> str:
    model = keys.text(_PREFIX + "model")
    if model == "gpt2":
        pre = _pre_tokenizer(keys)
        return tokenizer_bpe.build(vocabulary, _merges(keys), pre, bos, keys.where)
    if model == "llama":
        prefix = keys.flag(_PREFIX + "add_space_prefix", default=True)
        return tokenizer_spm.build(vocabulary, prefix, bos, keys.where)
    raise keys.refuse(_PREFIX + "model", "only gpt2 (byte-level BPE) and llama can be read")


def _vocabulary(keys: Fields, vocab_size: int) -> Vocabulary:
    tokens = keys.texts(_PREFIX + "tokens")
    if not 0 < len(tokens) <= vocab_size:
        raise SourceError(
            f"{keys.where} has {len(tokens)} tokens for {vocab_size} rows of the token embedding; "
            "the file is damaged"
        )
    return Vocabulary(tokens, _kinds(keys, tokens), keys.numbers(_PREFIX + "scores", len(tokens)))


def _kinds(keys: Fields, tokens: list[str]) -> list[Kind]:
    numbers = keys.numbers(_PREFIX + "token_type", len(tokens))
    known = {kind.value: kind for kind in Kind}
    kinds = [known.get(int(number), Kind.NORMAL) for number in numbers or [1] * len(tokens)]
    return [
        Kind.CONTROL if token in _LOOKS_CONTROL else kind
        for token, kind in zip(tokens, kinds, strict=True)
    ]


def _merges(keys: Fields) -> list[tuple[str, str]]:
    merges = []
    for line in keys.texts(_PREFIX + "merges"):
        left, space, right = line.partition(" ")
        if not (left and space and right):
            raise SourceError(
                f"the merge {line[:40]!r} of {keys.where} is not two parts; the file is damaged"
            )
        merges.append((left, right))
    return merges


def _pre_tokenizer(keys: Fields) -> str:
    return keys.text(_PREFIX + "pre", default="default")


def _chat_template(keys: Fields) -> str | None:
    name = "tokenizer.chat_template"
    return keys.text(name) if keys.present(name) else None


def _token_id(keys: Fields, role: str, vocabulary: Vocabulary) -> int | None:
    name = f"{_PREFIX}{role}_token_id"
    if not keys.present(name):
        return None
    # Some converters write 2**32 - 1 for "none".
    found = keys.integer(name, low=0, high=2**32 - 1)
    if found == 2**32 - 1:
        return None
    return keys.integer(name, low=0, high=len(vocabulary.tokens) - 1)


def _eos_ids(keys: Fields, vocabulary: Vocabulary) -> tuple[int, ...]:
    named = [_token_id(keys, role, vocabulary) for role in ("eos", "eot", "eom")]
    endings = [index for index, token in enumerate(vocabulary.tokens) if token in _ENDINGS]
    found = tuple(dict.fromkeys([index for index in named if index is not None] + endings))
    if not found:
        raise SourceError(f"{keys.where} names no token that ends an answer (eos_token_id)")
    return found
