"""How long an engine takes: prefill, decode and a chat-shaped request, and what the samples say.

Knows engines, token ids and a clock; nothing about packages, files, processes or reports.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ondevice.errors import RequestError
from ondevice.runtime.clock import Clock
from ondevice.runtime.engine import Engine, Logits

VERIFY_CHUNK = 128  # rows of logits held at once


@dataclass(frozen=True)
class Statistics:
    """Samples of one quantity, in its own unit.

    `p95` is the value that 95% of the samples reach or better: the 95th percentile where lower
    is better, the 5th where higher is better. `relative_iqr` is the distance of the quartiles
    over the median (0 where the median is 0). Percentiles interpolate linearly between the
    order statistics (Hyndman and Fan's type 7, numpy's default).
    """

    n: int
    median: float
    p95: float
    minimum: float
    maximum: float
    relative_iqr: float


@dataclass(frozen=True)
class TokenGaps:
    """Time between tokens, ms: percentiles over the `n` gaps of all repetitions together."""

    n: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class ChatSample:
    """One chat-shaped request, seconds. TTFT = tokenize + prefill + first sample.

    `gaps` are the times from one generated token to the next; `tokens` are the most probable
    ones at each step, whether or not they were the ones run.
    """

    tokenize: float
    prefill: float
    first_sample: float
    gaps: tuple[float, ...]
    prompt_tokens: int
    tokens: tuple[int, ...]

    @property
    def ttft(self) -> float:
        """Time to first token, s."""
        return self.tokenize + self.prefill + self.first_sample


@dataclass(frozen=True)
class Agreement:
    """How often two engines find the same token most probable, teacher forced on one text."""

    tokens: int
    top1: float


def summarize(samples: Sequence[float], higher_is_better: bool) -> Statistics:
    """Statistics of at least one sample."""
    if not samples:
        raise RequestError("there is nothing to summarize; measure at least one repetition")
    values = np.asarray(samples, dtype=np.float64)
    low, median, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    return Statistics(
        n=len(samples),
        median=median,
        p95=float(np.percentile(values, 5 if higher_is_better else 95)),
        minimum=float(values.min()),
        maximum=float(values.max()),
        relative_iqr=(high - low) / abs(median) if median else 0.0,
    )


def token_gaps(gaps: Sequence[float]) -> TokenGaps:
    """Percentiles in ms of gaps in seconds, by the same method as `summarize`."""
    if not gaps:
        raise RequestError("there are no gaps between tokens; generate at least 2 tokens")
    p50, p95, p99 = (float(v) * 1e3 for v in np.percentile(np.asarray(gaps), (50, 95, 99)))
    return TokenGaps(len(gaps), p50, p95, p99)


def random_tokens(count: int, vocab_size: int, seed: int) -> tuple[int, ...]:
    """`count` ids drawn uniformly from the vocabulary, as llama-bench feeds its models."""
    return tuple(int(t) for t in np.random.default_rng(seed).integers(0, vocab_size, count))


def prefill_time(engine: Engine, tokens: Sequence[int], now: Clock) -> float:
    """Seconds to run a prompt from an empty KV cache (llama-bench's pp)."""
    engine.rewind(0)
    start = now()
    engine.prefill(tokens)
    return now() - start


def decode_times(engine: Engine, tokens: Sequence[int], now: Clock) -> tuple[float, ...]:
    """Seconds for each of `tokens`, decoded one at a time (llama-bench's tg).

    One token is put into the empty KV cache first, untimed: engines differ in whether the very
    first token is a prefill.
    """
    engine.rewind(0)
    engine.prefill(tokens[:1])
    times = []
    before = now()
    for token in tokens:
        engine.decode(token)
        after = now()
        times.append(after - before)
        before = after
    return tuple(times)


def most_probable(logits: Logits) -> int:
    """Greedy sampling: the id with the largest logit."""
    return int(np.argmax(logits))


def chat_sample(
    engine: Engine,
    encode: Callable[[], Sequence[int]],
    count: int,
    now: Clock,
    continuation: Sequence[int] | None = None,
    sample: Callable[[Logits], int] = most_probable,
) -> ChatSample:
    """One request from an empty KV cache: tokenize, prefill, then `count` tokens.

    `encode` turns the conversation into token ids, template included. With `continuation` the
    engine is fed those ids instead of its own choices (which are still sampled, and timed), so
    that two engines do exactly the same work. An end-of-text token does not end it.
    """
    engine.rewind(0)
    start = now()
    prompt = encode()
    tokenized = now()
    logits = engine.prefill(prompt)
    filled = now()
    chosen = [sample(logits)]
    first = before = now()
    gaps = []
    for step in range(count - 1):
        logits = engine.decode(continuation[step] if continuation else chosen[-1])
        chosen.append(sample(logits))
        after = now()
        gaps.append(after - before)
        before = after
    return ChatSample(
        tokenize=tokenized - start,
        prefill=filled - tokenized,
        first_sample=first - filled,
        gaps=tuple(gaps),
        prompt_tokens=len(prompt),
        tokens=tuple(chosen),
    )


def top1(engine: Engine, tokens: Sequence[int]) -> tuple[int, ...]:
    """The most probable next id after each of `tokens`, teacher forced from an empty cache."""
    engine.rewind(0)
    best: list[int] = []
    for start in range(0, len(tokens), VERIFY_CHUNK):
        rows = engine.verify(tokens[start : start + VERIFY_CHUNK])
        best.extend(int(i) for i in np.argmax(rows, axis=1))
    return tuple(best)


def agree(a: Sequence[int], b: Sequence[int]) -> Agreement:
    """Share of positions with the same most probable token, from two results of `top1`."""
    if len(a) != len(b) or not a:
        raise RequestError(f"{len(a)} and {len(b)} positions cannot be compared; run the same text")
    return Agreement(len(a), sum(x == y for x, y in zip(a, b, strict=True)) / len(a))


def agreement(engine_a: Engine, engine_b: Engine, tokens: Sequence[int]) -> Agreement:
    """Top-1 agreement of two engines on the same token ids."""
    return agree(top1(engine_a, tokens), top1(engine_b, tokens))


@dataclass(frozen=True)
class PeakMemory:
    """High-water mark of a process's resident set, bytes, and where the figure is from."""

    bytes: int
    kind: str


def peak_memory() -> PeakMemory | None:
    """The most resident memory this process ever had, memory-mapped weights included.

    It never falls, so it says something about an engine only in a process that holds nothing
    else. None where the system does not tell.
    """
    if sys.platform == "win32":
        return _peak_working_set()
    # Linux counts the memory of the parent, held for a moment between fork and exec, in
    # getrusage's figure; VmHWM belongs to this program alone.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return PeakMemory(int(line.split()[1]) * 1024, "peak resident set (VmHWM)")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return PeakMemory(peak * scale, "peak resident set (getrusage)")


def _peak_working_set() -> PeakMemory | None:
    import psutil

    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return None if peak is None else PeakMemory(int(peak), "peak working set (psutil)")
