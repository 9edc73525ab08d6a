"""A SentencePiece BPE model from GGUF's pieces and scores, with bytes for what has no piece.

SentencePiece joins the neighbours whose joined piece scores best; `tokenizers` wants that as a
ranked list of merges. Knows nothing about SentencePiece's unigram models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ondevice.errors import SourceError
from ondevice.export.vocabulary import Kind, Vocabulary, to_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "▁"
# A damaged file could hold one endless piece, and the work grows with the square of its length.
_LONGEST_PIECE = 512


def build(vocabulary: Vocabulary, space_prefix: bool, bos: int | None, where: str) -> str:
    """The `tokenizers` JSON; raises `SourceError` when there are no scores."""
    if vocabulary.scores is None:
        raise SourceError(f"{where} has no tokenizer.ggml.scores; the file is incomplete")
    return to_json(lambda: _tokenizer(vocabulary, space_prefix), vocabulary, bos, where)


def merges_by_score(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a third, best-scored first.

    Pairs for one piece are ordered by the length of their parts, which SentencePiece leaves to
    the position in the text.
    """
    assert vocabulary.scores is not None
    pieces = {
        token: score
        for token, kind, score in zip(
            vocabulary.tokens, vocabulary.kinds, vocabulary.scores, strict=True
        )
        if kind in (Kind.NORMAL, Kind.UNUSED, Kind.USER_DEFINED) and len(token) <= _LONGEST_PIECE
    }
    pairs = [
        (-score, -cut, token[:cut], token[cut:])
        for token, score in pieces.items()
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    pairs.sort()
    return [(left, right) for _, _, left, right in pairs]


def _tokenizer(vocabulary: Vocabulary, space_prefix: bool) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    unknown = next(iter(vocabulary.of_kind(Kind.UNKNOWN)), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary.ids(),
            merges_by_score(vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = [normalizers.Prepend(SPACE)] if space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if space_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer
