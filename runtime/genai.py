"""onnxruntime-genai on the same package folder, as a second opinion on graph and speed.

Cannot give logits for several positions at once, nor hand out its KV cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ondevice.errors import EngineError, PackageError, RequestError
from ondevice.package import Package
from ondevice.runtime.engine import CacheEngine, Logits, limits_of
from ondevice.runtime.ort import token_ids
from ondevice.runtime.rope_switch import RopeSwitch


class GenaiEngine(CacheEngine):
    """One onnxruntime-genai generator, driven token by token."""

    def __init__(self, package: Package, threads: int, context_length: int | None = None) -> None:
        self._limits = limits_of(package.manifest, context_length)
        self._position = 0
        self._rope = RopeSwitch(package.manifest.shape.rope_switch)
        self._generator = _open_generator(package, threads, self._limits.context_length)

    @property
    def name(self) -> str:
        return "genai"

    def prefill(self, tokens: Sequence[int]) -> Logits:
        total = self._position + len(tokens)
        # The generator itself refuses to fill its last position.
        if total >= self._limits.context_length:
            raise RequestError(
                f"{total} tokens do not fit into a context of {self._limits.context_length}"
            )
        ids = token_ids(tokens, self._limits.vocab_size).astype(np.int32)
        try:
            if self._rope.due(self._position, tokens):
                self._generator.rewind_to(0)
                before = np.array(self._rope.before(self._position), np.int32)
                ids = np.concatenate([before, ids])
            self._generator.append_tokens(ids)
            logits = np.asarray(self._generator.get_logits(), np.float32)
        except Exception as error:  # RuntimeError and classes of its own
            message = " ".join(str(error).split())[:300] or type(error).__name__
            raise EngineError(f"onnxruntime-genai cannot run the package: {message}") from error
        self._rope.ran(self._position, tokens)
        self._position = total
        last: Logits = logits.reshape(-1, logits.shape[-1])[-1].copy()
        return last

    def verify(self, tokens: Sequence[int]) -> Logits:
        return np.stack([self.decode(token) for token in tokens])

    def rewind(self, position: int) -> None:
        self._require_filled(position)
        if position != self._position:
            self._generator.rewind_to(position)
        self._position = position

    def snapshot(self) -> bytes:
        raise EngineError("the genai engine cannot hand out its KV cache; use the ort engine")

    def restore(self, snapshot: bytes) -> None:
        raise EngineError("the genai engine cannot take a KV cache; use the ort engine")

    def close(self) -> None:
        self._generator = None


def _open_generator(package: Package, threads: int, positions: int) -> Any:
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise EngineError(
            'the genai engine needs onnxruntime-genai; run pip install "ondevice[export]"'
        ) from error
    _require_plain(package)
    overlay = {
        "model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}},
        "search": {"max_length": positions},
    }
    try:
        config = onnxruntime_genai.Config(str(package.folder))
        config.overlay(json.dumps(overlay))
        model = onnxruntime_genai.Model(config)
        return onnxruntime_genai.Generator(model, onnxruntime_genai.GeneratorParams(model))
    except Exception as error:  # onnxruntime-genai raises RuntimeError and its own classes
        message = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise EngineError(f"onnxruntime-genai cannot load {package.folder}: {message}") from error


def _require_plain(package: Package) -> None:
    """Raise `PackageError` unless the configuration is as simple as our exporter writes it.

    It could otherwise name files outside the package: other models, libraries to load.
    """
    path = package.folder / "genai_config.json"
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        decoder = model["decoder"]
        nested = [key for key, value in model.items() if isinstance(value, dict)]
        plain = (
            decoder["filename"] == package.model_file.name
            and nested == ["decoder"]
            and decoder.get("session_options") in (None, {}, {"provider_options": []})
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        plain = False
    if not plain:
        raise PackageError(
            f"{path} is not the configuration of a single {package.model_file.name} on the CPU; "
            "export the package again"
        )
