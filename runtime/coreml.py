"""The engine of Core ML packages, on a Mac, through coremltools. Not run on a Mac yet.

Knows the inputs, states and output of our programs (docs/coreml.md), nothing about text.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
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
_CHUNK = 512  # tokens of a prompt run at a time: scores grow with their square


class CoremlEngine(CacheEngine):
    """One function of a package and its state; a KV cache of a fixed length.

    Raises `EngineError` elsewhere than on macOS 15, without coremltools, and for a package that
    Core ML cannot load.
    """

    def __init__(
        self, package: Package, context_length: int | None = None, units: str = UNITS[0]
    ) -> None:
        self._limits = limits_of(package.manifest, context_length)
        self._model = _load(package, units)
        self._state = self._model.make_state()
        self._position = 0

    @property
    def name(self) -> str:
        return "coreml"

    def prefill(self, tokens: Sequence[int]) -> Logits:
        ids = token_ids(tokens, self._limits.vocab_size)
        self._require_room(len(ids))
        logits = np.empty(0, np.float32)
        for start in range(0, len(ids), _CHUNK):
            logits = self._run(ids[start : start + _CHUNK])
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
        self._model = self._state = None

    def _run(self, ids: NDArray[np.int64]) -> Logits:
        feeds = {
            "inputIds": ids[None].astype(np.int32),
            "causalMask": causal_mask(self._position, len(ids)),
        }
        try:
            found = self._model.predict(feeds, state=self._state)["logits"]
        except RuntimeError as error:
            raise EngineError(f"Core ML cannot run the package: {error}") from error
        self._position += len(ids)
        logits: Logits = np.asarray(found, np.float32).reshape(-1)
        return logits


def causal_mask(before: int, tokens: int) -> NDArray[np.float16]:
    """The mask of `tokens` tokens after `before` others, float16 (1, 1, tokens, total)."""
    seen = np.tri(tokens, before + tokens, k=before, dtype=bool)
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


def _load(package: Package, units: str) -> Any:
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
            function_name="main",
        )
    except Exception as error:  # Core ML's own errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"Core ML cannot load {package.model_file}: {reason}") from error
