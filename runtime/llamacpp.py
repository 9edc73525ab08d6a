"""llama.cpp as an engine, for measuring only: its low-level C interface behind our protocol.

Knows nothing about text: a GGUF file in, token ids in, logits out. Prefill asks for logits of
the last token only and runs in batches of 512, as llama-bench does.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from ondevice.errors import EngineError, RequestError
from ondevice.runtime.engine import CacheEngine, Limits, Logits

BATCH = 512
VERIFY_BATCH = 128  # bounds the buffer of logits: 128 rows of 152k floats are 78 MB
_POSITION_BYTES = 8

_log_callback: Any = None  # the C library keeps this pointer, so Python must not collect it


def library() -> Any:
    """The `llama_cpp` bindings, imported and silenced.

    Raises `EngineError` when they are not installed or their native library does not load.
    """
    global _log_callback
    try:
        lib = import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"the llamacpp engine needs llama-cpp-python ({error}); "
            "install it with: pip install 'ondevice[bench]'"
        ) from error
    if _log_callback is None:
        _log_callback = lib.llama_log_callback(lambda _level, _text, _data: None)
        lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
        lib.llama_backend_init()
    return lib


def version() -> str | None:
    """Version of llama-cpp-python, None where it is not installed."""
    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return None


class LlamaCppEngine(CacheEngine):
    """One GGUF model with a KV cache for one sequence, on the processor.

    `context_length` None takes the length the model was trained with. Raises `EngineError`
    when the bindings are missing or the file cannot be loaded.
    """

    name = "llamacpp"

    def __init__(self, gguf: Path, *, threads: int, context_length: int | None = None) -> None:
        self._lib = library()
        self._position = 0
        self._model = self._context = None
        if not gguf.is_file():
            raise EngineError(f"{gguf} does not exist; give the path of a GGUF file with --gguf")
        try:
            self._model = _load_model(self._lib, gguf)
            self._context = _new_context(self._lib, self._model, gguf, threads, context_length)
        except BaseException:
            self.close()
            raise
        self._memory = self._lib.llama_get_memory(self._context)
        self._batch = self._lib.llama_batch_init(BATCH, 0, 1)
        vocab = self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(self._model))
        self._limits = Limits(int(self._lib.llama_n_ctx(self._context)), int(vocab))

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Append a prompt; logits (vocab,) after its last token."""
        self._check(tokens)
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            self._run(part, every=False)
        rows = self._rows(1)
        return rows.reshape(-1)

    def verify(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits (len(tokens), vocab), one row after each."""
        self._check(tokens)
        rows = []
        for start in range(0, len(tokens), VERIFY_BATCH):
            part = tokens[start : start + VERIFY_BATCH]
            self._run(part, every=True)
            rows.append(self._rows(len(part)))
        return np.concatenate(rows)

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on."""
        if not 0 <= position <= self._position:
            raise RequestError(f"cannot rewind to {position}: {self._position} tokens are cached")
        if not self._lib.llama_memory_seq_rm(self._memory, 0, position, -1):
            raise EngineError("llama.cpp cannot forget a part of this model's state")
        self._position = position

    def snapshot(self) -> bytes:
        """The KV cache up to `position`, in llama.cpp's own format."""
        size = self._lib.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        written = self._lib.llama_state_seq_get_data(self._context, state, size, 0)
        return self._position.to_bytes(_POSITION_BYTES, "little") + bytes(state)[:written]

    def restore(self, snapshot: bytes) -> None:
        """Put a snapshot back; raises `RequestError` when it is not one of this model."""
        position, state = snapshot[:_POSITION_BYTES], snapshot[_POSITION_BYTES:]
        self.rewind(0)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not self._lib.llama_state_seq_set_data(self._context, buffer, len(state), 0):
            raise RequestError("the snapshot does not fit this model; start from the prompt again")
        self._position = int.from_bytes(position, "little")

    def close(self) -> None:
        """Free the native memory; a second call does nothing."""
        if self._context is not None:
            if hasattr(self, "_batch"):
                self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._context)
        if self._model is not None:
            self._lib.llama_model_free(self._model)
        self._context = self._model = None

    def _check(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise RequestError("there are no tokens to run; give a prompt")
        room = self._limits.context_length - self._position
        if len(tokens) > room:
            raise RequestError(
                f"{len(tokens)} tokens do not fit: {room} of {self._limits.context_length} "
                "positions are free; shorten the prompt or raise the context length"
            )
        wrong = next((t for t in tokens if not 0 <= t < self._limits.vocab_size), None)
        if wrong is not None:
            raise RequestError(f"token {wrong} is outside the vocabulary of this model")

    def _run(self, tokens: Sequence[int], every: bool) -> None:
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = self._position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = every or i == count - 1
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            raise EngineError(f"llama.cpp could not run {count} tokens (status {status})")
        self._position += count

    def _rows(self, count: int) -> Logits:
        # The library reuses this buffer at its next call, so the rows are copied out.
        pointer = self._lib.llama_get_logits(self._context)
        rows = np.ctypeslib.as_array(pointer, (count, self._limits.vocab_size))
        return np.array(rows, dtype=np.float32)


def _load_model(lib: Any, gguf: Path) -> Any:
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = None
    with contextlib.suppress(ValueError):  # some versions of the bindings raise instead
        model = lib.llama_model_load_from_file(str(gguf).encode(), params)
    if not model:
        raise EngineError(f"llama.cpp cannot load {gguf}; is it a whole GGUF file?")
    return model


def _new_context(lib: Any, model: Any, gguf: Path, threads: int, length: int | None) -> Any:
    if threads < 1:
        raise RequestError(f"{threads} threads are not possible; give at least 1")
    params = lib.llama_context_default_params()
    params.n_ctx = length or lib.llama_model_n_ctx_train(model)
    params.n_batch = params.n_ubatch = BATCH
    params.n_threads = params.n_threads_batch = threads
    params.n_seq_max = 1
    params.no_perf = True
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise EngineError(f"llama.cpp cannot make a context of {params.n_ctx} tokens for {gguf}")
    return context
