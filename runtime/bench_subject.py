"""What the benchmark drives: an engine on a model, in this process or in one of its own.

A process of its own for each engine keeps peak memory, threads that spin while they wait, and
native libraries apart. The two sides exchange one JSON line at a time; times are taken in the
process that runs the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ondevice import errors
from ondevice.errors import EngineError, RequestError
from ondevice.runtime import measure
from ondevice.runtime.bench_result import ModelInfo
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.engine import Engine, Limits
from ondevice.runtime.measure import ChatSample, PeakMemory

WORKER = ("-m", "ondevice.runtime.bench_worker")
CLOSE_S = 10.0  # s a worker has to end by itself


@dataclass(frozen=True)
class SubjectInfo:
    """What is measured: an engine and a model, under a label that no other subject has."""

    label: str
    engine: str
    engine_version: str | None
    model: ModelInfo
    threads: int | None
    context_length: int | None


@dataclass(frozen=True)
class Loading:
    """Seconds to make an engine ready, and, the first time in a process, to import its library
    before that (None afterwards)."""

    load: float
    imported: float | None = None


class Subject(Protocol):
    """An engine on a model that can be measured."""

    @property
    def info(self) -> SubjectInfo: ...

    def load(self) -> Loading:
        """Open the engine; one that is open is closed first, outside the time."""

    def limits(self) -> Limits: ...

    def prefill(self, tokens: Sequence[int]) -> float:
        """Seconds for a prompt from an empty KV cache."""

    def decode(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Seconds for each token, one at a time."""

    def chat(self, count: int, continuation: Sequence[int] | None) -> ChatSample | None:
        """The chat-shaped workload; None where there is no tokenizer."""

    def text_tokens(self) -> tuple[int, ...]:
        """A page of prose as token ids; empty where there is no tokenizer."""

    def top1(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The most probable next id after each token."""

    def peak_memory(self) -> PeakMemory | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Texts:
    """The benchmark's texts as ids: the conversation, encoded anew at each call, and a page."""

    conversation: Callable[[], Sequence[int]]
    prose: Callable[[], Sequence[int]]


class LocalSubject:
    """An engine in this process. `peak_memory` is then that of the whole process.

    `start` imports the engine's library and is timed apart from `open`.
    """

    def __init__(
        self,
        info: SubjectInfo,
        open: Callable[[], Engine],
        *,
        texts: Texts | None = None,
        start: Callable[[], None] | None = None,
        now: Clock = system_clock,
        memory: Callable[[], PeakMemory | None] = measure.peak_memory,
    ) -> None:
        self.info = info
        self._open, self._texts, self._start, self._now = open, texts, start, now
        self._memory = memory
        self._engine: Engine | None = None

    def load(self) -> Loading:
        """Open the engine; one that is open is closed first, outside the time."""
        self.close()
        imported = None
        if self._start is not None:
            start, self._start = self._start, None
            before = self._now()
            start()
            imported = self._now() - before
        before = self._now()
        self._engine = self._open()
        return Loading(self._now() - before, imported)

    def limits(self) -> Limits:
        """The open engine's limits."""
        return self._opened().limits

    def prefill(self, tokens: Sequence[int]) -> float:
        """Seconds for a prompt from an empty KV cache."""
        return measure.prefill_time(self._opened(), tokens, self._now)

    def decode(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Seconds for each token, one at a time."""
        return measure.decode_times(self._opened(), tokens, self._now)

    def chat(self, count: int, continuation: Sequence[int] | None) -> ChatSample | None:
        """The chat-shaped workload; None where there is no tokenizer."""
        if self._texts is None:
            return None
        encode = self._texts.conversation
        return measure.chat_sample(self._opened(), encode, count, self._now, continuation)

    def text_tokens(self) -> tuple[int, ...]:
        """A page of prose as token ids; empty where there is no tokenizer."""
        return () if self._texts is None else tuple(self._texts.prose())

    def top1(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The most probable next id after each token."""
        return measure.top1(self._opened(), tokens)

    def peak_memory(self) -> PeakMemory | None:
        """High-water mark of this process."""
        return self._memory()

    def close(self) -> None:
        """Close the engine; it can be loaded again."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def _opened(self) -> Engine:
        if self._engine is None:
            raise RequestError("the engine is not loaded; load it before measuring")
        return self._engine


@dataclass(frozen=True)
class Spec:
    """All that another process needs to open an engine. Paths as text."""

    engine: str
    package: str
    gguf: str | None
    threads: int
    context_length: int


class WorkerSubject:
    """An engine in a process of its own, started by the first `load`.

    Raises the worker's `OndeviceError` here, and `EngineError` when the worker dies.
    """

    def __init__(self, info: SubjectInfo, spec: Spec) -> None:
        self.info = info
        self._spec = spec
        self._process: subprocess.Popen[str] | None = None

    def load(self) -> Loading:
        """Open the engine; one that is open is closed first, outside the time."""
        if self._process is None:
            self._process = _start_worker(self._spec)
        return Loading(**self._ask("load"))

    def limits(self) -> Limits:
        """The open engine's limits."""
        return Limits(**self._ask("limits"))

    def prefill(self, tokens: Sequence[int]) -> float:
        """Seconds for a prompt from an empty KV cache."""
        return float(self._ask("prefill", tokens))

    def decode(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Seconds for each token, one at a time."""
        return tuple(self._ask("decode", tokens))

    def chat(self, count: int, continuation: Sequence[int] | None) -> ChatSample | None:
        """The chat-shaped workload; None where there is no tokenizer."""
        reply = self._ask("chat", count, continuation)
        if reply is None:
            return None
        lists = {"gaps": tuple(reply["gaps"]), "tokens": tuple(reply["tokens"])}
        return ChatSample(**(reply | lists))

    def text_tokens(self) -> tuple[int, ...]:
        """A page of prose as token ids."""
        return tuple(self._ask("text_tokens"))

    def top1(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The most probable next id after each token."""
        return tuple(self._ask("top1", tokens))

    def peak_memory(self) -> PeakMemory | None:
        """High-water mark of the worker: interpreter, engine, weights, KV cache and tokenizer."""
        reply = self._ask("peak_memory")
        return None if reply is None else PeakMemory(**reply)

    def close(self) -> None:
        """End the worker; it is killed when it does not end by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(timeout=CLOSE_S)  # closes its input, which ends it
        if process.poll() is None:
            process.kill()
            process.wait()

    def _ask(self, method: str, *arguments: object) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RequestError("the engine is not loaded; load it before measuring")
        line = ""
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps([method, *arguments]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            code = process.wait()
            raise EngineError(
                f"the process that ran {self.info.label} ended unexpectedly (exit code {code}); "
                "is there enough memory for the model?"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise _error(reply["error"], reply["message"])
        return reply["value"]


def _error(name: str, message: str) -> Exception:
    kind = getattr(errors, name, None)
    known = isinstance(kind, type) and issubclass(kind, errors.OndeviceError)
    return kind(message) if known and kind is not None else RuntimeError(f"{name}: {message}")


def _start_worker(spec: Spec) -> subprocess.Popen[str]:
    # -P keeps the current folder, where anything may lie, off the import path.
    command = [sys.executable, "-P", *WORKER, json.dumps(dataclasses.asdict(spec))]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
        )
    except OSError as error:
        raise EngineError(f"cannot start a process for {spec.engine}: {error}") from error
