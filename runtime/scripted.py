"""An engine whose answers and delays are written down beforehand.

For tests of generation and for proving the measurement; it knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from ondevice.errors import RequestError
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.engine import Limits, Logits

History = Callable[[Sequence[int]], Logits]


class ScriptedEngine:
    """An `Engine` with a known answer, on a clock that it moves itself.

    `script` is either the tokens of the answer, begun anew by every prefill (after its end the
    last one repeats), or a function from the tokens in the KV cache to logits (vocab,).
    `prefill_s` is the time of one prompt token; `decode_s` are the times of the decode
    steps after a prefill, in order and then from the first again; `fixed_prefill_s` is added to
    every call of `prefill`.
    """

    def __init__(
        self,
        script: Sequence[int] | History,
        *,
        vocab_size: int,
        context_length: int = 2048,
        clock: ScriptedClock | None = None,
        prefill_s: float = 0.0,
        fixed_prefill_s: float = 0.0,
        decode_s: Sequence[float] = (0.0,),
    ) -> None:
        self.name = "scripted"
        self.limits = Limits(context_length, vocab_size)
        self.cache: list[int] = []
        self.hidden = None
        self.prefilled: list[int] = []  # tokens of each call of prefill, for tests
        self.closed = False
        self._script = script
        self._clock = clock or ScriptedClock()
        self._prefill_s = prefill_s
        self._fixed_prefill_s = fixed_prefill_s
        self._decode_s = tuple(decode_s)
        self._step = 0

    @property
    def position(self) -> int:
        return len(self.cache)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        self._append(tokens)
        self.prefilled.append(len(tokens))
        self._step = 0
        self._clock.advance(self._fixed_prefill_s + self._prefill_s * len(tokens))
        return self._logits()

    def decode(self, token: int) -> Logits:
        self._append((token,))
        self._clock.advance(self._decode_s[self._step % len(self._decode_s)])
        self._step += 1
        return self._logits()

    def verify(self, tokens: Sequence[int]) -> Logits:
        return np.stack([self.decode(token) for token in tokens])

    def rewind(self, position: int) -> None:
        del self.cache[position:]

    def snapshot(self) -> bytes:
        return json.dumps(self.cache).encode()

    def restore(self, snapshot: bytes) -> None:
        self.cache = json.loads(snapshot)

    def close(self) -> None:
        self.closed = True

    def _append(self, tokens: Sequence[int]) -> None:
        if len(self.cache) + len(tokens) > self.limits.context_length:
            raise RequestError(
                f"{len(self.cache) + len(tokens)} tokens do not fit into a context of "
                f"{self.limits.context_length}; use a shorter prompt"
            )
        self.cache.extend(tokens)

    def _logits(self) -> Logits:
        if callable(self._script):
            return self._script(tuple(self.cache))
        token = self._script[min(self._step, len(self._script) - 1)]
        return one_hot(token, self.limits.vocab_size)


def one_hot(token: int, vocab_size: int, height: float = 20.0) -> Logits:
    """Logits (vocab,) that are `height` at one token and 0 elsewhere."""
    logits = np.zeros(vocab_size, np.float32)
    logits[token] = height
    return logits
