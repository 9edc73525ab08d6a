"""The one thing generation knows of a model: token ids in, logits out, and a way back.

Nothing about text, files, sampling or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import RequestError
from ondevice.package import Manifest

Logits = NDArray[np.float32]
Hidden = NDArray[np.float32]

_DEFAULT_CONTEXT = 8192  # positions, where the model has as many and nobody asks


@dataclass(frozen=True)
class Limits:
    """What an engine can hold: positions in its KV cache, and the width of its logits."""

    context_length: int
    vocab_size: int


def limits_of(manifest: Manifest, context_length: int | None) -> Limits:
    """Limits of a package at the asked context, by default the model's up to 8,192 positions.

    Raises `RequestError` for a context that the model does not have.
    """
    shape = manifest.shape
    positions = min(shape.context_length, _DEFAULT_CONTEXT)
    if context_length is not None:
        positions = context_length
    if not 1 <= positions <= shape.context_length:
        raise RequestError(
            f"context {positions} is not between 1 and the {shape.context_length} positions "
            f"of {manifest.name}"
        )
    return Limits(positions, shape.vocab_size)


class Engine(Protocol):
    """A model with a KV cache for one sequence."""

    @property
    def name(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def position(self) -> int:
        """Tokens in the KV cache."""

    @property
    def hidden(self) -> Hidden | None:
        """Final hidden state (hidden,) after the last token run, the one that the last logits
        come from; None from an engine that does not give it."""

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Append a prompt, or a part of one; logits (vocab,) after its last token.

        Raises `RequestError` when the KV cache cannot hold it; the cache is then unchanged.
        """

    def decode(self, token: int) -> Logits:
        """Append one token; logits (vocab,) for the next."""

    def verify(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits (len(tokens), vocab), one row after each."""

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on; 0 empties the KV cache."""

    def snapshot(self) -> bytes:
        """The KV cache up to `position`, for `restore` on the same package."""

    def restore(self, snapshot: bytes) -> None:
        """Put a snapshot back; `position` becomes the snapshot's."""

    def close(self) -> None: ...


class CacheEngine:
    """What engines share that count the tokens of one KV cache: they set limits and position."""

    _limits: Limits
    _position: int

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def position(self) -> int:
        return self._position

    @property
    def hidden(self) -> Hidden | None:
        return None

    def prefill(self, tokens: Sequence[int]) -> Logits:
        raise NotImplementedError

    def decode(self, token: int) -> Logits:
        return self.prefill((token,))

    def rewind(self, position: int) -> None:
        self._require_filled(position)
        self._position = position

    def _require_filled(self, position: int) -> None:
        """Raise `ValueError` for a position that the KV cache does not reach."""
        if not 0 <= position <= self._position:
            raise ValueError(f"cannot rewind to {position} from {self._position}")

    def _require_room(self, tokens: int) -> int:
        """The tokens in the KV cache with so many more; `RequestError` when it cannot hold them."""
        total = self._position + tokens
        if total > self._limits.context_length:
            raise RequestError(
                f"{total} tokens do not fit into a context of {self._limits.context_length}"
            )
        return total
