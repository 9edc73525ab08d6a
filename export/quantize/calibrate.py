"""Calibration: what goes into each matrix of the unquantized model on a text.

The model runs layer by layer, once for all matrices. Knows sources and the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export import reference
from ondevice.export.architecture import HEAD, layer_tensor
from ondevice.export.quantize.gptq import error_factor
from ondevice.export.quantize.statistics import Statistics
from ondevice.export.source import Source

_Floats = NDArray[np.float32]
_WINDOW = 512  # tokens that share a context
_WINDOWS = 8
# Which input another matrix shares.
_SAME_INPUT = {
    "self_attn.k_proj": "self_attn.q_proj",
    "self_attn.v_proj": "self_attn.q_proj",
    "mlp.up_proj": "mlp.gate_proj",
}


def calibration_text() -> str:
    """The text that activations are taken from unless another is given."""
    path = resources.files("ondevice.export.quantize") / "calibration_text.txt"
    return path.read_text(encoding="utf-8")


def calibration_windows(source: Source, text: str | None = None) -> list[list[int]]:
    """The first 4,096 tokens of a text (default: the built-in one), cut into windows of 512.

    Raises `ExportError` for a text without tokens.
    """
    text = calibration_text() if text is None else text
    tokens = source.tokenizer.encode(text)[: _WINDOW * _WINDOWS]
    if not tokens:
        raise ExportError("the calibration text gives no tokens; give --calibration another file")
    size = min(_WINDOW, source.architecture.context_length)
    return [tokens[start : start + size] for start in range(0, len(tokens), size)]


class Activations:
    """Statistics of matrices, computed when they are asked for, in the order of the layers.

    hessians: whether GPTQ's factors are wanted.
    """

    def __init__(
        self, source: Source, windows: Sequence[Sequence[int]], *, hessians: bool = False
    ) -> None:
        self._source = source
        self._windows = windows
        self._hessians = hessians
        self._states: list[_Floats] | None = None
        self._layers = 0  # that have run
        self._found: dict[str, Statistics] = {}

    def statistics(self, name: str) -> Statistics | None:
        """What went into a matrix; None for the embedding."""
        if name == HEAD:
            return self._head()
        _, kind, *rest = name.split(".")
        if kind != "layers":
            return None
        layer, stem = int(rest[0]), ".".join(rest[1:3])
        self._run(layer + 1)
        return self._found[layer_tensor(layer, f"{_SAME_INPUT.get(stem, stem)}.weight")]

    def _run(self, layers: int) -> None:
        """Run the model up to a number of layers; the last one's statistics are kept."""
        if self._states is None:
            self._states = reference.embed(self._source, self._windows)
        while self._layers < layers:
            wanted = self._layers == layers - 1
            sums = _Sums(self._hessians and wanted)
            layer = reference.Layer(self._source, self._layers)
            self._states = layer.apply(self._states, sums.observe if wanted else None)
            self._layers += 1
            self._found = sums.statistics()

    def _head(self) -> Statistics:
        self._run(self._source.architecture.layers)
        assert self._states is not None
        sums = _Sums(self._hessians)
        for state in reference.final_norm(self._source, self._states):
            sums.observe(HEAD, state)
        return sums.statistics()[HEAD]


class _Sums:
    """Sums of squares, and of products, over the inputs of matrices."""

    def __init__(self, hessians: bool) -> None:
        self._hessians = hessians
        self._tokens: dict[str, int] = {}
        self._squares: dict[str, NDArray[np.float64]] = {}
        self._products: dict[str, _Floats] = {}

    def observe(self, name: str, inputs: _Floats) -> None:
        if any(f"{stem}.weight" in name for stem in _SAME_INPUT):
            return
        if name not in self._tokens:
            self._tokens[name] = 0
            self._squares[name] = np.zeros(inputs.shape[1])
        self._tokens[name] += len(inputs)
        self._squares[name] += np.sum(np.square(inputs), axis=0, dtype=np.float64)
        if self._hessians:
            product = inputs.T @ inputs
            if name in self._products:
                self._products[name] += product
            else:
                self._products[name] = product

    def statistics(self) -> dict[str, Statistics]:
        return {name: self._of(name) for name in self._tokens}

    def _of(self, name: str) -> Statistics:
        tokens = self._tokens[name]
        mean = (self._squares[name] / tokens).astype(np.float32)
        product = self._products.pop(name, None)
        factor = None if product is None else error_factor(product / np.float32(tokens))
        return Statistics(mean, factor)
