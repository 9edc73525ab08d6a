"""The default engine: plain onnxruntime with KV buffers bound once.

Knows the graph's inputs and outputs (docs/package.md), nothing about text or sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import EngineError, RequestError
from ondevice.package import ModelShape, Package
from ondevice.runtime.engine import CacheEngine, Hidden, Logits, limits_of
from ondevice.runtime.rope_switch import RopeSwitch

_LOG_FATAL = 4


class OrtEngine(CacheEngine):
    """One onnxruntime session with one KV cache.

    threads: intra-op threads; onnxruntime's own default is not to be trusted.
    context_length: positions of the KV cache, at most the model's; memory is taken by the
    operating system only as positions are used.
    """

    def __init__(self, package: Package, threads: int, context_length: int | None = None) -> None:
        self._package = package
        self._limits = limits_of(package.manifest, context_length)
        self._position = 0
        self._rope = RopeSwitch(package.manifest.shape.rope_switch)
        self._session = open_session(package.model_file, threads)
        _check_graph(self._session, package)
        self._cache = _zeros(package.manifest.shape, self._limits.context_length)
        self._mask = np.ones((1, self._limits.context_length), np.int64)
        self._binding = self._session.io_binding()
        self._hidden: Hidden | None = None
        outputs = {value.name for value in self._session.get_outputs()}
        self._gives_hidden = "hidden_states" in outputs
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
    def hidden(self) -> Hidden | None:
        return self._hidden

    def prefill(self, tokens: Sequence[int]) -> Logits:
        return self._run(tokens, 1).reshape(-1)

    def verify(self, tokens: Sequence[int]) -> Logits:
        return self._run(tokens, len(tokens))

    def snapshot(self) -> bytes:
        if not self._position:
            return b""
        tokens = np.array(self._rope.before(self._position), np.int32)
        used = [buffer[:, :, : self._position] for buffer in self._cache.values()]
        return tokens.tobytes() + np.stack(used).tobytes()

    def restore(self, snapshot: bytes) -> None:
        shape = self._package.manifest.shape
        per_position = len(self._cache) * shape.kv_heads * shape.head_dim
        width = per_position + self._rope.is_kept  # 4 bytes each
        count, rest = divmod(len(snapshot), 4 * width)
        if rest:
            raise RequestError("the snapshot was not made by this package")
        if count > self._limits.context_length:
            raise RequestError(f"the snapshot holds {count} positions, this KV cache fewer")
        values = np.frombuffer(
            snapshot, np.float32, count * per_position, 4 * count * self._rope.is_kept
        )
        parts = values.reshape(len(self._cache), 1, shape.kv_heads, count, shape.head_dim)
        for buffer, part in zip(self._cache.values(), parts, strict=True):
            buffer[:, :, :count] = part
        self._rope.ran(0, np.frombuffer(snapshot, np.int32, count).tolist())
        self._position = count

    def close(self) -> None:
        self._binding = None
        self._session = None
        self._cache = {}

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _run(self, tokens: Sequence[int], num_logits: int) -> Logits:
        total = self._require_room(len(tokens))
        ids = token_ids(tokens, self._limits.vocab_size)[None]
        if self._rope.due(self._position, tokens):
            ids = np.concatenate([[self._rope.before(self._position)], ids], axis=1)
        mask = self._mask[:, :total]
        count = np.array([num_logits], np.int64)
        self._bind("input_ids", ids)
        self._bind("attention_mask", mask)
        self._bind("num_logits", count)
        # Not bound to memory of ours: the graph declares one position, which is the default of
        # num_logits and what onnxruntime-genai looks for; onnxruntime holds us to it if bound.
        self._binding.bind_output("logits", "cpu")
        if self._gives_hidden:
            self._binding.bind_output("hidden_states", "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # classes of its own, as when loading
            raise _failed(f"onnxruntime cannot run {self._package.model_file}", error) from error
        outputs = self._binding.get_outputs()
        logits: Logits = outputs[self._logits].numpy()
        if logits.shape != (1, num_logits, self._limits.vocab_size):
            raise EngineError(
                f"{self._package.model_file} gave logits of shape {logits.shape}; "
                "export the package again"
            )
        self._rope.ran(self._position, tokens)
        self._position = total
        if self._gives_hidden:
            self._hidden = outputs[self._logits + 1].numpy().reshape(num_logits, -1)[-1]
        rows: Logits = logits[0]
        return rows


def token_ids(tokens: Sequence[int], vocab_size: int) -> NDArray[np.int64]:
    """Tokens as an array; raises `RequestError` for none at all or one outside the vocabulary."""
    if not len(tokens):
        raise RequestError("no tokens to run")
    if not 0 <= min(tokens) <= max(tokens) < vocab_size:
        raise RequestError(f"token ids must lie in 0 .. {vocab_size - 1}")
    return np.asarray(tokens, np.int64)


def _zeros(shape: ModelShape, positions: int) -> dict[str, NDArray[np.float32]]:
    """The KV buffers by name; zeroed memory costs nothing until it is written."""
    size = (1, shape.kv_heads, positions, shape.head_dim)
    names = [f"{i}.{part}" for i in range(shape.layers) for part in ("key", "value")]
    try:
        return {name: np.zeros(size, np.float32) for name in names}
    except (MemoryError, ValueError) as error:
        megabytes = len(names) * math.prod(size) * 4 / 1e6
        raise EngineError(
            f"a KV cache of {positions} positions needs {megabytes:,.0f} MB, which this process "
            "cannot have; choose a smaller context"
        ) from error


def _check_graph(session: Any, package: Package) -> None:
    """Raise `EngineError` unless inputs and outputs are those that the manifest calls for."""
    shape = package.manifest.shape
    inputs = (*session.get_inputs(), *session.get_overridable_initializers())
    try:
        declared = {value.name: value.shape for value in (*inputs, *session.get_outputs())}
    except UnicodeDecodeError:
        raise _unfit(package, "names in it are not UTF-8") from None
    layers = sum(name.startswith("past_key_values.") for name in declared) / 2
    if layers != shape.layers:  # before anything is made for each layer
        raise _unfit(package, f"it has {layers:g} layers instead of {shape.layers}")
    expected: dict[str, dict[int, int]] = {  # dimension by axis; the others are free
        "input_ids": {},
        "attention_mask": {},
        "num_logits": {},
        "logits": {2: shape.vocab_size},
    }
    for layer, kind in product(range(shape.layers), ("key", "value")):
        for stem in ("past_key_values", "present"):
            expected[f"{stem}.{layer}.{kind}"] = {1: shape.kv_heads, 3: shape.head_dim}
    for name, sizes in expected.items():
        if name not in declared:
            raise _unfit(package, f"it has no {name}")
        found = declared[name]
        if any(axis >= len(found) or found[axis] != size for axis, size in sizes.items()):
            raise _unfit(package, f"{name} has shape {found}")


def _unfit(package: Package, why: str) -> EngineError:
    return EngineError(
        f"{package.model_file} does not fit its ondevice.json: {why}; export the package again"
    )


CPU = ("CPUExecutionProvider",)


def open_session(model_file: Path, threads: int, providers: Sequence[Any] = CPU) -> Any:
    """A session of one graph on the CPU, or on the first of some providers that takes it.

    Raises `EngineError` when it cannot be loaded.
    """
    return _open(model_file, _options(threads), str(model_file), providers)


def open_graph(model: bytes, folder: Path, threads: int) -> Any:
    """A session of a graph in memory whose weights lie in files of `folder`.

    Raises `EngineError` when it cannot be loaded.
    """
    options = _options(threads)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    return _open(model, options, f"a part of the graph in {folder}")


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    return options


def _open(model: Path | bytes, options: Any, what: str, providers: Sequence[Any] = CPU) -> Any:
    import onnxruntime

    try:
        # Falling back would try the same again, and print to stdout that it does.
        return onnxruntime.InferenceSession(
            model, options, providers=list(providers), enable_fallback=0
        )
    except Exception as error:  # onnxruntime raises classes of its own without a common base
        raise _failed(f"onnxruntime cannot load {what}", error) from error


def _failed(what: str, error: Exception) -> EngineError:
    message = " ".join(str(error).split())[:300] or type(error).__name__
    return EngineError(f"{what}: {message}")
