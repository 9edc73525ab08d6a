"""The default engine: plain onnxruntime with KV buffers bound once.

Knows the graph's inputs and outputs (docs/package.md), nothing about text or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import EngineError, RequestError
from ondevice.package import Package
from ondevice.runtime.engine import Limits, Logits

_DEFAULT_CONTEXT = 8192
_LOG_FATAL = 4


class OrtEngine:
    """One onnxruntime session with one KV cache.

    threads: intra-op threads; onnxruntime's own default is not to be trusted.
    context_length: positions of the KV cache, at most the model's; memory is taken by the
    operating system only as positions are used.
    """

    def __init__(self, package: Package, threads: int, context_length: int | None = None) -> None:
        shape = package.manifest.shape
        if context_length is not None and not 1 <= context_length <= shape.context_length:
            raise RequestError(
                f"context {context_length} is not between 1 and the {shape.context_length} "
                f"positions of {package.manifest.name}"
            )
        positions = context_length or min(shape.context_length, _DEFAULT_CONTEXT)
        self._package = package
        self._limits = Limits(positions, shape.vocab_size)
        self._position = 0
        self._session = _open_session(package, threads)
        cache = (1, shape.kv_heads, positions, shape.head_dim)
        names = [f"{i}.{part}" for i in range(shape.layers) for part in ("key", "value")]
        # Zeroed memory costs nothing until it is written.
        self._cache = {name: np.zeros(cache, np.float32) for name in names}
        self._mask = np.ones((1, positions), np.int64)
        self._binding = self._session.io_binding()
        self._logits = len(self._cache)  # outputs come in the order in which they are bound
        for name, buffer in self._cache.items():
            self._bind(f"past_key_values.{name}", buffer)
            self._binding.bind_output(
                f"present.{name}", "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data
            )

    @property
    def name(self) -> str:
        return "ort"

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def position(self) -> int:
        return self._position

    def prefill(self, tokens: Sequence[int]) -> Logits:
        return self._run(tokens, 1).reshape(-1)

    def decode(self, token: int) -> Logits:
        return self._run((token,), 1).reshape(-1)

    def verify(self, tokens: Sequence[int]) -> Logits:
        return self._run(tokens, len(tokens))

    def rewind(self, position: int) -> None:
        if not 0 <= position <= self._position:
            raise ValueError(f"cannot rewind to {position} from {self._position}")
        self._position = position

    def snapshot(self) -> bytes:
        used = [buffer[:, :, : self._position] for buffer in self._cache.values()]
        return np.stack(used).tobytes() if self._position else b""

    def restore(self, snapshot: bytes) -> None:
        shape = self._package.manifest.shape
        stored = np.frombuffer(snapshot, np.float32)
        values = stored.reshape(len(self._cache), 1, shape.kv_heads, -1, shape.head_dim)
        count = values.shape[3]
        if count > self._limits.context_length:
            raise RequestError(f"the snapshot holds {count} positions, this KV cache fewer")
        for buffer, part in zip(self._cache.values(), values, strict=True):
            buffer[:, :, :count] = part
        self._position = count

    def close(self) -> None:
        self._binding = None
        self._session = None
        self._cache = {}

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _run(self, tokens: Sequence[int], num_logits: int) -> Logits:
        ids = np.asarray(tokens, np.int64)[None]
        total = self._position + ids.shape[1]
        if ids.shape[1] == 0:
            raise RequestError("no tokens to run")
        if total > self._limits.context_length:
            raise RequestError(
                f"{total} tokens do not fit into a context of {self._limits.context_length}"
            )
        if ids.min() < 0 or ids.max() >= self._limits.vocab_size:
            raise RequestError(f"token ids must lie in 0 .. {self._limits.vocab_size - 1}")
        mask = self._mask[:, :total]
        count = np.array([num_logits], np.int64)
        self._bind("input_ids", ids)
        self._bind("attention_mask", mask)
        self._bind("num_logits", count)
        # Not bound to memory of ours: the graph declares one position, which is the default of
        # num_logits and what onnxruntime-genai looks for; onnxruntime holds us to it if bound.
        self._binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(self._binding)
        self._position = total
        logits: Logits = self._binding.get_outputs()[self._logits].numpy()
        return logits.reshape(num_logits, -1)


def _open_session(package: Package, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    try:
        return onnxruntime.InferenceSession(
            package.model_file, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises classes of its own without a common base
        message = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise EngineError(f"onnxruntime cannot load {package.model_file}: {message}") from error
