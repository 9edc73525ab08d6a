"""What flows in and out of generation: options in, tokens and a measured answer out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import RequestError

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Options:
    """How to decode.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 switch a filter off.
    `stop` ends the answer before any of these strings. `schema` is the text of a JSON schema that
    the answer then follows, unless max_tokens or a stop string cuts it short. `truncate` drops
    the oldest messages of a conversation that is longer than the context (less some room for the
    answer) instead of raising `RequestError`. Values that make no sense raise `RequestError` at
    once.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    truncate: bool = False
    schema: str | None = None

    def __post_init__(self) -> None:
        _check_count("max_tokens", self.max_tokens, 1)
        _check_count("top_k", self.top_k, 0)
        if self.seed is not None:
            _check_count("seed", self.seed, 0)
        _check_number("temperature", self.temperature, 0, 100)
        _check_number("top_p", self.top_p, 0, 1)
        if self.top_p == 0:
            raise RequestError("top_p must be above 0; use temperature 0 for the best token only")
        _check_number("min_p", self.min_p, 0, 1)
        _check_number("repetition_penalty", self.repetition_penalty, 0.1, 10)
        stops = self.stop
        if not isinstance(stops, tuple) or not all(isinstance(s, str) and s for s in stops):
            raise RequestError(f"stop must be a tuple of strings that are not empty, not {stops!r}")
        if self.schema is not None:
            from ondevice.runtime.constrain import check_schema

            check_schema(self.schema)


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RequestError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _check_number(name: str, value: object, least: float, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator] # NaN is in no range
        raise RequestError(f"{name} must be a number from {least} to {most}, not {value!r}")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class RawText:
    """A text to continue as it stands, whatever chat template the model has."""

    content: str


@dataclass(frozen=True)
class Piece:
    """One generated token: its text (whole characters only, so it may be empty) and what the
    model's distribution was before any warping or masking.

    `logprob` is the natural logarithm of the token's probability, `entropy` that of the
    distribution in nats, `margin` ln of the most probable token's probability over the second's.
    """

    text: str
    token: int
    logprob: float
    entropy: float = 0.0
    margin: float = 0.0


@dataclass(frozen=True)
class Signals:
    """What the model let on about its certainty, one value for each generated token.

    Taken from the raw logits, before temperature, filters, penalty and any mask: `logprobs` ln p
    of the chosen token, `entropies` in nats, `margins` ln p of the best minus ln p of the second
    best. `prompt_hidden` (hidden,) is the final hidden state after the prompt's last token,
    `answer_hidden` (hidden,) the mean of it and of those after each generated token that was
    fed back; None from engines that do not give hidden states.
    """

    logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    prompt_hidden: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    answer_hidden: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Timings:
    """When things happened, in seconds on one monotonic clock.

    TTFT = tokenize + prefill + first sample. `token_times` are the moments at which each
    generated token was known, counted from the request; a wait for another generation of the same
    model to end is not counted, what the reader of a stream does between tokens is.
    """

    tokenize: float = 0.0
    prefill: float = 0.0
    first_sample: float = 0.0
    token_times: tuple[float, ...] = ()

    @property
    def ttft(self) -> float:
        """Time to first token, s."""
        return self.tokenize + self.prefill + self.first_sample

    @property
    def decode(self) -> float:
        """Time from the first to the last generated token, s."""
        return self.token_times[-1] - self.token_times[0] if self.token_times else 0.0


@dataclass(frozen=True)
class Answer:
    """A finished answer with what it knows of itself.

    `tokens` are all that were generated: the end token too, and those of a stop string, which
    `text` does not show. `cached_tokens` of the prompt were in the KV cache already.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    model: str
    timings: Timings = field(default_factory=Timings)
    load_s: float = 0.0
    dropped_messages: int = 0
    cached_tokens: int = 0
    source: Literal["device", "cloud"] = "device"
    signals: Signals = field(default_factory=Signals)

    @property
    def logprobs(self) -> tuple[float, ...]:
        """ln p of each generated token, before any warping or masking."""
        return self.signals.logprobs

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens computed (not those from the KV cache) per second of prefill."""
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.timings.prefill if self.timings.prefill > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens per second from the first generated token to the last."""
        seconds = self.timings.decode
        return (len(self.tokens) - 1) / seconds if seconds > 0 else 0.0

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the generated tokens before warping; None without tokens."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None
