"""The engine of static graphs: a prefill graph of many tokens, a decode graph of one.

Runs them on the first NPU provider that onnxruntime has here, else on the CPU. Knows the graphs'
inputs and outputs (docs/npu.md), nothing about text or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import EngineError, RequestError
from ondevice.package import Package
from ondevice.runtime.engine import CacheEngine, Logits, limits_of
from ondevice.runtime.ort import open_session, token_ids

PREFILL_FILE = "prefill.onnx"
# Not run on an NPU: the options are those of the providers' own pages.
PROVIDERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("QNNExecutionProvider", {"backend_type": "htp"}),
    ("OpenVINOExecutionProvider", {"device_type": "NPU"}),
    ("VitisAIExecutionProvider", {}),
)
_HIDDEN = np.float32(-3e4)  # in the mask; fp16 still holds it

_Floats = NDArray[np.float32]


class NpuEngine(CacheEngine):
    """Two sessions on one KV cache of a fixed length."""

    def __init__(self, package: Package, threads: int, context_length: int | None = None) -> None:
        shape = package.manifest.shape
        self._limits = limits_of(package.manifest, context_length)
        self._capacity = shape.context_length
        self._providers = available_providers()
        self._decode = open_session(package.model_file, threads, self._providers)
        self._prefill = open_session(package.folder / PREFILL_FILE, threads, self._providers)
        self._chunk = _tokens_of(self._prefill, package)
        if _tokens_of(self._decode, package) != 1:
            raise _unfit(package, "its decode graph takes more than one token")
        size = (shape.kv_heads, self._capacity, shape.head_dim)
        names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
        self._cache = {name: np.zeros(size, np.float32) for name in names}
        self._outputs = ["logits", *(f"present.{name}" for name in names)]
        self._check(package)
        self._position = 0

    @property
    def name(self) -> str:
        return "npu"

    @property
    def provider(self) -> str:
        """The execution provider that was asked for."""
        return self._providers[0] if isinstance(self._providers[0], str) else self._providers[0][0]

    def prefill(self, tokens: Sequence[int]) -> Logits:
        last: Logits = self._run(tokens)[-1][-1]
        return last

    def verify(self, tokens: Sequence[int]) -> Logits:
        return np.concatenate(self._run(tokens))

    def snapshot(self) -> bytes:
        used = [buffer[:, : self._position] for buffer in self._cache.values()]
        return np.stack(used).tobytes() if self._position else b""

    def restore(self, snapshot: bytes) -> None:
        stored = np.frombuffer(snapshot, np.float32)
        heads, _, width = next(iter(self._cache.values())).shape
        if stored.size % (len(self._cache) * heads * width):
            raise RequestError("the snapshot was not made by this package")
        values = stored.reshape(len(self._cache), heads, -1, width)
        count = values.shape[2]
        if count > self._limits.context_length:
            raise RequestError(f"the snapshot holds {count} positions, this KV cache fewer")
        for buffer, part in zip(self._cache.values(), values, strict=True):
            buffer[:, :count] = part
        self._position = count

    def close(self) -> None:
        self._decode = self._prefill = None
        self._cache = {}

    def _run(self, tokens: Sequence[int]) -> list[Logits]:
        """Logits (tokens, vocab) of each part that went through a graph together."""
        self._require_room(len(tokens))
        ids = token_ids(tokens, self._limits.vocab_size)
        size = 1 if len(ids) == 1 else self._chunk
        return [self._step(ids[start : start + size], size) for start in range(0, len(ids), size)]

    def _step(self, ids: NDArray[np.int64], size: int) -> Logits:
        """Run some tokens, filled up to the size of a graph; keep their keys and values."""
        count, start = len(ids), self._position
        filled = np.zeros(size, np.int32)
        filled[:count] = ids
        positions = np.minimum(np.arange(start, start + size, dtype=np.int32), start + count - 1)
        feeds: dict[str, Any] = {
            "input_ids": filled,
            "position_ids": positions,
            "attention_mask": _mask(start, size, self._capacity),
        }
        feeds |= {f"past_key_values.{name}": buffer for name, buffer in self._cache.items()}
        session = self._decode if size == 1 else self._prefill
        try:
            logits, *new = session.run(self._outputs, feeds)
        except Exception as error:  # onnxruntime raises classes of its own
            message = " ".join(str(error).split())[:300] or type(error).__name__
            raise EngineError(f"{self.provider} cannot run the static graph: {message}") from error
        for buffer, part in zip(self._cache.values(), new, strict=True):
            buffer[:, start : start + count] = part[:, :count]
        self._position += count
        rows: Logits = logits[:count]
        return rows

    def _check(self, package: Package) -> None:
        for session in (self._decode, self._prefill):
            inputs = {value.name: value.shape for value in session.get_inputs()}
            outputs = {value.name: value.shape for value in session.get_outputs()}
            for name, buffer in self._cache.items():
                if inputs.get(f"past_key_values.{name}") != list(buffer.shape):
                    raise _unfit(package, f"past_key_values.{name} has another shape")
            if set(self._outputs) - set(outputs):
                raise _unfit(package, "it lacks outputs")
            if outputs["logits"][-1] != self._limits.vocab_size:
                raise _unfit(package, f"logits has shape {outputs['logits']}")


def available_providers() -> list[Any]:
    """The first NPU provider that this onnxruntime has, with its options, and the CPU's."""
    import onnxruntime

    here = set(onnxruntime.get_available_providers())
    found = [(name, options) for name, options in PROVIDERS if name in here]
    return [*found[:1], "CPUExecutionProvider"]


def _mask(start: int, tokens: int, capacity: int) -> _Floats:
    """(tokens, capacity + tokens): 0 where a position is seen, a very negative number elsewhere."""
    mask = np.full((tokens, capacity + tokens), _HIDDEN, np.float32)
    mask[:, :start] = 0
    mask[:, capacity:][np.tri(tokens, dtype=bool)] = 0
    return mask


def _tokens_of(session: Any, package: Package) -> int:
    shape = next((v.shape for v in session.get_inputs() if v.name == "input_ids"), None)
    if not shape or not isinstance(shape[0], int) or shape[0] < 1:
        raise _unfit(package, f"input_ids has shape {shape}")
    return shape[0]


def _unfit(package: Package, why: str) -> EngineError:
    return EngineError(
        f"{package.folder} does not hold the static graphs that its ondevice.json says: {why}; "
        "export the package again"
    )
