"""Prompt ids in, pieces of text out: prefill, decode, stop, and how long each took.

Knows no files, conversations or packages; an engine, a tokenizer and a clock are all it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ondevice.errors import RequestError, TooLongError
from ondevice.runtime.answer import FinishReason, Options, Piece, Signals, Timings
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.constrain import Mask
from ondevice.runtime.detokenize import Decoder, Detokenizer, StopStrings
from ondevice.runtime.engine import Engine, Hidden, Logits
from ondevice.runtime.sampling import Sampler

CHUNK = 512  # prompt tokens between two looks at `should_stop`


class Context:
    """An engine and the ids of the tokens in its KV cache."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._ids: list[int] = []

    @property
    def full(self) -> bool:
        """Whether the KV cache has no room for one more token."""
        return self.engine.position >= self.engine.limits.context_length

    def reuse(self, prompt: Sequence[int]) -> int:
        """Rewind to what the KV cache has in common with a prompt; returns its length.

        At least the last token of the prompt is left to compute: its logits are needed.
        """
        known = min(len(self._ids), self.engine.position, len(prompt) - 1)
        common = 0
        while common < known and self._ids[common] == prompt[common]:
            common += 1
        del self._ids[common:]
        if self.engine.position != common:
            self.engine.rewind(common)
        return common

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits (vocab,) after the last."""
        logits = self.engine.prefill(tokens)
        self._ids.extend(tokens)
        return logits

    def decode(self, token: int) -> Logits:
        """Append one token; logits (vocab,) for the next."""
        logits = self.engine.decode(token)
        self._ids.append(token)
        return logits


class Generation:
    """One answer in the making. Iterate it once; then, or after a break, it knows what was.

    `tokenize_s` is what preparing the prompt took: times are counted from that long before the
    iteration begins. `finish_reason` is "stop" for an end token, a stop string, or a `mask` that
    is finished, "length" for `max_tokens` or the end of the context, "cancelled" when `should_stop`
    said so or the iteration was left. Leaving it at any point leaves the context usable.
    """

    def __init__(
        self,
        context: Context,
        tokenizer: Decoder,
        prompt: Sequence[int],
        options: Options,
        *,
        eos_ids: Sequence[int] = (),
        clock: Clock = system_clock,
        should_stop: Callable[[], bool] | None = None,
        tokenize_s: float = 0.0,
        mask: Mask | None = None,
    ) -> None:
        """Raises `RequestError` for a prompt that is empty or not shorter than the context."""
        require_fit(len(prompt), context.engine.limits.context_length)
        self.prompt = tuple(prompt)
        self.tokens: list[int] = []
        self.cached_tokens = 0
        self.finish_reason: FinishReason = "cancelled"
        self._texts: list[str] = []
        self._times: list[float] = []
        self._pieces: list[Piece] = []
        self._prompt_hidden: Hidden | None = None
        self._hidden_sum: Hidden | None = None
        self._hidden_count = 0
        self._prefill_s = 0.0
        self._first_sample_s = 0.0
        self._tokenize_s = tokenize_s
        self._began = 0.0
        self._context = context
        self._options = options
        self._eos_ids = frozenset(eos_ids)
        self._clock = clock
        self._should_stop = should_stop or (lambda: False)
        self._mask = mask
        self._sampler = Sampler(options, prompt, mask)
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(options.stop)

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._texts)

    @property
    def signals(self) -> Signals:
        """What the model let on about its certainty so far."""
        total = self._hidden_sum
        return Signals(
            tuple(piece.logprob for piece in self._pieces),
            tuple(piece.entropy for piece in self._pieces),
            tuple(piece.margin for piece in self._pieces),
            self._prompt_hidden,
            None if total is None else total / np.float32(self._hidden_count),
        )

    @property
    def timings(self) -> Timings:
        """What was measured so far."""
        return Timings(self._tokenize_s, self._prefill_s, self._first_sample_s, tuple(self._times))

    def __iter__(self) -> Iterator[Piece]:
        self._began = self._clock() - self._tokenize_s
        logits = self._prefill()
        while logits is not None:
            self._note_hidden()
            piece, reason = self._next(logits)
            if reason is not None:
                self.finish_reason = reason
                yield piece
                return
            yield piece
            logits = None if self._should_stop() else self._context.decode(piece.token)

    def _prefill(self) -> Logits | None:
        """Logits after the prompt; None when `should_stop` came before its end."""
        start = self._clock()
        logits = None
        self.cached_tokens = self._context.reuse(self.prompt)
        for at in range(self.cached_tokens, len(self.prompt), CHUNK):
            if self._should_stop():
                logits = None
                break
            logits = self._context.prefill(self.prompt[at : at + CHUNK])
        self._prefill_s = self._clock() - start
        return logits

    def _next(self, logits: Logits) -> tuple[Piece, FinishReason | None]:
        """Choose a token; its piece, and why the answer ends with it if it does."""
        start = self._clock()
        sample = self._sampler.sample(logits)
        now = self._clock()
        if not self.tokens:
            self._first_sample_s = now - start
        self.tokens.append(sample.token)
        self._times.append(now - self._began)
        text, reason = self._read(sample.token)
        self._texts.append(text)
        piece = Piece(text, *sample)
        self._pieces.append(piece)
        return piece, reason

    def _note_hidden(self) -> None:
        hidden = self._context.engine.hidden
        if hidden is None:
            return
        if self._hidden_sum is None:
            self._prompt_hidden = hidden.copy()
            self._hidden_sum = np.zeros_like(hidden)
        self._hidden_sum += hidden
        self._hidden_count += 1

    def _read(self, token: int) -> tuple[str, FinishReason | None]:
        """Text that is ready with this token, and whether the answer ends here."""
        said = token not in self._eos_ids
        ended = not said or (self._mask is not None and self._mask.finished)
        text, stopped = self._stops.push(self._detokenizer.push(token) if said else "")
        if stopped:
            return text, "stop"
        if not ended and len(self.tokens) < self._options.max_tokens and not self._context.full:
            return text, None
        rest, stopped = self._stops.push(self._detokenizer.finish())
        text += rest if stopped else rest + self._stops.finish()
        return text, "stop" if ended or stopped else "length"


def generate(
    context: Context | Engine,
    tokenizer: Decoder,
    prompt: Sequence[int],
    options: Options,
    *,
    eos_ids: Sequence[int] = (),
    clock: Clock = system_clock,
    should_stop: Callable[[], bool] | None = None,
) -> Generation:
    """An answer to prompt ids, made while it is iterated; see `Generation`."""
    if not isinstance(context, Context):
        context.rewind(0)
        context = Context(context)
    return Generation(
        context,
        tokenizer,
        prompt,
        options,
        eos_ids=eos_ids,
        clock=clock,
        should_stop=should_stop,
    )


def require_fit(prompt_tokens: int, context_length: int) -> None:
    """Raise `RequestError` for a prompt of no tokens or with no room for an answer."""
    if prompt_tokens == 0:
        raise RequestError("the prompt is empty; write a question or an instruction")
    if prompt_tokens >= context_length:
        raise TooLongError(
            f"the prompt has {prompt_tokens} tokens, the context holds {context_length} with the "
            "answer; shorten it, or drop the oldest turns of a conversation with --truncate"
        )
