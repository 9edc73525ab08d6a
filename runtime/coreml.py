"""The engine of Core ML packages, on a Mac, through coremltools. Not run on a Mac yet.

Knows the inputs, states and output of our programs (docs/coreml.md), nothing about text.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import EngineError, OndeviceError, RequestError
from ondevice.package import Package
from ondevice.runtime.engine import CacheEngine, Logits, limits_of
from ondevice.runtime.ort import token_ids

UNITS = ("CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY", "ALL")  # coremltools' names of compute units
STATES = ("keyCache", "valueCache")
# What a masked score gets: far below all others, and its sum with a window's own mask is still
# a number of half precision.
MASKED = -1e4
STATIC_TOKENS = 64  # that `main` of a program of fixed shapes takes
_STATIC = "coreml-ane"  # the target whose programs have fixed shapes
_CHUNK = 512  # tokens of a prompt run at a time: scores grow with their square


@dataclass(frozen=True)
class Call:
    """One run of a function on some tokens; what else it computes is to be ignored."""

    function: str
    feeds: dict[str, NDArray[Any]]
    tokens: int


@dataclass(frozen=True)
class Calls:
    """How tokens are run by the functions of a program.

    static: all its shapes are fixed. context: positions of its KV cache.
    """

    static: bool
    context: int

    @classmethod
    def of(cls, package: Package) -> Calls:
        manifest = package.manifest
        return cls(manifest.recipe.target == _STATIC, manifest.shape.context_length)

    @property
    def functions(self) -> tuple[str, ...]:
        """Those that are run."""
        return ("main", "decode") if self.static else ("main",)

    def run(self, tokens: NDArray[np.int64], before: int, *, logits: bool = True) -> Iterator[Call]:
        """Runs for tokens after `before` others; with `logits`, the last gives those of the last.

        Where shapes are fixed, `main` gives none and takes `STATIC_TOKENS`, filled up: what it
        writes into the KV cache for the filling is overwritten before a token sees it.
        """
        done = 0
        while done < len(tokens):
            left, position = len(tokens) - done, before + done
            count = min(_CHUNK, left)
            if self.static:
                count = min(STATIC_TOKENS, left - logits)
                if count < 2 or position + STATIC_TOKENS > self.context:
                    count = 1
            yield self._call(tokens[done : done + count], position)
            done += count

    def _call(self, tokens: NDArray[np.int64], position: int) -> Call:
        ids = tokens[None].astype(np.int32)
        count = len(tokens)
        if not self.static:
            mask = causal_mask(position, count, position + count)
            return Call("main", {"inputIds": ids, "causalMask": mask}, count)
        rows = 1 if count == 1 else STATIC_TOKENS
        feeds: dict[str, NDArray[Any]] = {
            "inputIds": np.pad(ids, ((0, 0), (0, rows - count))),
            "position": np.array([position], np.int32),
            "causalMask": causal_mask(position, rows, self.context),
        }
        return Call("decode" if count == 1 else "main", feeds, count)


class CoremlEngine(CacheEngine):
    """The functions of a package and their state; a KV cache of a fixed length.

    Raises `EngineError` elsewhere than on macOS 15, without coremltools, and for a package that
    Core ML cannot load.
    """

    def __init__(
        self, package: Package, context_length: int | None = None, units: str | None = None
    ) -> None:
        self._limits = limits_of(package.manifest, context_length)
        self._calls = Calls.of(package)
        units = units or UNITS[1 if self._calls.static else 0]
        self._models = {name: _load(package, units, name) for name in self._calls.functions}
        self._state = self._models["main"].make_state()
        self._position = 0

    @property
    def name(self) -> str:
        return "coreml"

    def prefill(self, tokens: Sequence[int]) -> Logits:
        ids = token_ids(tokens, self._limits.vocab_size)
        self._require_room(len(ids))
        found: dict[str, NDArray[Any]] = {}
        for call in self._calls.run(ids, self._position):
            found = self._run(call)
        logits: Logits = np.asarray(found["logits"], np.float32).reshape(-1)
        return logits

    def verify(self, tokens: Sequence[int]) -> Logits:
        """A token at a time: the program gives the logits of the last."""
        return np.stack([self.decode(token) for token in tokens])

    def snapshot(self) -> bytes:
        states = [self._state.read_state(name) for name in STATES]
        used = [np.asarray(state, np.float16)[:, :, : self._position] for state in states]
        return np.stack(used).tobytes() if self._position else b""

    def restore(self, snapshot: bytes) -> None:
        states = [np.array(self._state.read_state(name), np.float16) for name in STATES]
        layers, heads, _, width = states[0].shape
        stored = np.frombuffer(snapshot, np.float16)
        if stored.size % (len(STATES) * layers * heads * width):
            raise RequestError("the snapshot was not made by this package")
        parts = stored.reshape(len(STATES), layers, heads, -1, width)
        count = parts.shape[3]
        if count > self._limits.context_length:
            raise RequestError(f"the snapshot holds {count} positions, this KV cache fewer")
        for name, state, part in zip(STATES, states, parts, strict=True):
            state[:, :, :count] = part
            self._state.write_state(name, state)
        self._position = count

    def close(self) -> None:
        self._models.clear()
        self._state = None

    def _run(self, call: Call) -> dict[str, NDArray[Any]]:
        try:
            found: dict[str, NDArray[Any]] = self._models[call.function].predict(
                call.feeds, state=self._state
            )
        except RuntimeError as error:
            raise EngineError(f"Core ML cannot run the package: {error}") from error
        self._position += call.tokens
        return found


def causal_mask(before: int, tokens: int, total: int) -> NDArray[np.float16]:
    """The mask of `tokens` tokens after `before` others, float16 (1, 1, tokens, total)."""
    seen = np.tri(tokens, total, k=before, dtype=bool)
    return np.where(seen, np.float16(0), np.float16(MASKED))[None, None]


@contextlib.contextmanager
def needing_coremltools(what: str, error: type[OndeviceError]) -> Iterator[None]:
    """Around an import: without coremltools, raise `error` that says how `what` gets it."""
    try:
        yield
    except ImportError as missing:
        raise error(
            f"{what} needs coremltools ({missing}); install it with: pip install 'ondevice[coreml]'"
        ) from missing


def _load(package: Package, units: str, function: str) -> Any:
    name = package.manifest.name
    if units not in UNITS:
        raise EngineError(f"unknown compute units {units!r}; known: {', '.join(UNITS)}")
    if sys.platform != "darwin":
        raise EngineError(
            f"{name} is a Core ML package, which runs on a Mac; 'ondevice verify' checks it here, "
            "and --target cpu-int4 makes a package for this machine"
        )
    with needing_coremltools("a Core ML package", EngineError):
        import coremltools
    try:
        return coremltools.models.MLModel(
            str(package.model_file),
            compute_units=coremltools.ComputeUnit[units],
            function_name=function,
        )
    except Exception as error:  # Core ML's own errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"Core ML cannot load {package.model_file}: {reason}") from error
