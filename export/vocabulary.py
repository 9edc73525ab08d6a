"""The tokens of a GGUF file with their kinds and scores, and how a built tokenizer is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ondevice.errors import SourceError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Kind(IntEnum):
    """GGUF's `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Token texts by id, with the kind of each; scores only where the file has them."""

    tokens: list[str]
    kinds: list[Kind]
    scores: list[float] | None = None

    def ids(self) -> dict[str, int]:
        """The id of each text; the last one counts where a text stands twice."""
        return {token: index for index, token in enumerate(self.tokens)}

    def of_kind(self, *kinds: Kind) -> list[str]:
        return [t for t, kind in zip(self.tokens, self.kinds, strict=True) if kind in kinds and t]


def to_json(
    build: Callable[[], Tokenizer], vocabulary: Vocabulary, bos: int | None, where: str
) -> str:
    """Run `build`, add the special tokens and write the JSON.

    Control and unknown tokens are special (dropped by a decoder that is asked to); user-defined
    ones are found in text as well but stay in it. `bos` is put before every whole text.
    Raises `SourceError` when the parts do not fit together.
    """
    from tokenizers import AddedToken

    def added(kinds: tuple[Kind, ...], special: bool) -> list[AddedToken]:
        texts = vocabulary.of_kind(*kinds)
        return [AddedToken(text, normalized=False, special=special) for text in texts]

    try:
        tokenizer = build()
        tokenizer.add_special_tokens(added((Kind.CONTROL, Kind.UNKNOWN), special=True))
        tokenizer.add_tokens(added((Kind.USER_DEFINED,), special=False))
        if bos is not None:
            put_before_texts(tokenizer, bos)
        return str(tokenizer.to_str())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the Rust library is no Exception
        reason = " ".join(str(error).split())[:120]
        raise SourceError(
            f"the tokenizer in {where} does not fit together ({reason}); the file is damaged"
        ) from error


def put_before_texts(tokenizer: Tokenizer, token: int) -> None:
    """Make the tokenizer put a token before every whole text, after what it did so far."""
    from tokenizers import processors

    text = tokenizer.id_to_token(token)
    template = processors.TemplateProcessing(
        single=["bos", "$A"], special_tokens=[{"id": "bos", "ids": [token], "tokens": [text]}]
    )
    before = tokenizer.post_processor
    tokenizer.post_processor = (
        template if before is None else processors.Sequence([before, template])
    )
