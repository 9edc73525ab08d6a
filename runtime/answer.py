"""What flows out of generation: options in, tokens and a measured answer out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Options:
    """How to decode.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 switch a filter off.
    `stop` ends the answer before any of these strings. `truncate` drops the oldest messages
    of a conversation that is longer than the context instead of raising `RequestError`.
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


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Piece:
    """One generated token: its text (whole characters only, so it may be empty) and
    the natural logarithm of its probability before any warping."""

    text: str
    token: int
    logprob: float


@dataclass(frozen=True)
class Timings:
    """When things happened, in seconds on one monotonic clock.

    TTFT = tokenize + prefill + first sample. `token_times` are the moments at which each
    generated token was known, counted from the request.
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
    """A finished answer with what it knows of itself."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    model: str
    timings: Timings = field(default_factory=Timings)
    load_s: float = 0.0
    dropped_messages: int = 0
    source: Literal["device", "cloud"] = "device"

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens per second of prefill."""
        return self.prompt_tokens / self.timings.prefill if self.timings.prefill > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens per second from the first generated token to the last."""
        seconds = self.timings.decode
        return (len(self.tokens) - 1) / seconds if seconds > 0 else 0.0

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the generated tokens before warping; None without tokens."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None
