"""Calibration of activations: the range of what goes into each matrix, and SmoothQuant.

The unquantized model runs layer by layer in numpy. Knows sources and the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.export import reference
from ondevice.export.architecture import HEAD, layer_tensor
from ondevice.export.source import Source
from ondevice.progress import Progress

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Range:
    """What went into a matrix: least and largest value and mean square of each column (K,)."""

    low: _Floats
    high: _Floats
    mean_square: _Floats
    tokens: int

    @classmethod
    def of(cls, values: _Floats) -> Range:
        """Of activations (tokens, K)."""
        mean: _Floats = np.square(values).mean(axis=0)
        return cls(values.min(axis=0), values.max(axis=0), mean, len(values))

    def joined(self, other: Range) -> Range:
        """Of the activations of both."""
        tokens = self.tokens + other.tokens
        squares = self.mean_square * self.tokens + other.mean_square * other.tokens
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Range(low, high, (squares / tokens).astype(np.float32), tokens)

    @property
    def magnitude(self) -> _Floats:
        """The largest magnitude of each column."""
        return np.maximum(-self.low, self.high)

    def over(self, factors: _Floats) -> Range:
        """Of the activations divided by positive factors (K,)."""
        square = self.mean_square / (factors * factors)
        return Range(self.low / factors, self.high / factors, square, self.tokens)


def activation_ranges(
    source: Source, windows: Sequence[Sequence[int]], progress: Progress | None = None
) -> dict[str, Range]:
    """The range of what goes into each matrix of the layers and the output matrix, by name."""
    found: dict[str, Range] = {}

    def observe(name: str, inputs: _Floats) -> None:
        new = Range.of(inputs)
        found[name] = found[name].joined(new) if name in found else new

    states = reference.embed(source, windows)
    layers = source.architecture.layers
    for layer in range(layers):
        if progress is not None:
            progress("calibrating", layer, layers)
        states = reference.Layer(source, layer).apply(states, observe)
    for state in reference.final_norm(source, states):
        observe(HEAD, state)
    return found


def smoothing(source: Source, ranges: dict[str, Range], strength: float) -> dict[str, _Floats]:
    """Factors (hidden,) of each norm before matrices, by its name: SmoothQuant (Xiao et al., 2022).

    s_j = max|x_j|^a / max|w_j|^(1-a), a being the strength: activations are divided by it, the
    columns of the matrices that they go into are multiplied by it.
    """
    arch = source.architecture
    factors: dict[str, _Floats] = {}
    for layer in range(arch.layers):
        for norm, names in smoothed(arch.mlp_norm):
            matrices = [layer_tensor(layer, f"{name}.weight") for name in names]
            columns = [np.abs(source.read(name)).max(axis=0) for name in matrices]
            weights = np.maximum(np.maximum.reduce(columns), np.float32(1e-5))
            inputs = np.maximum(ranges[matrices[0]].magnitude, np.float32(1e-5))
            found = inputs**strength / weights ** (1 - strength)
            factors[layer_tensor(layer, f"{norm}.weight")] = found.astype(np.float32)
    return factors


def smoothed(mlp_norm: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Norms of a layer whose output goes into matrices alone, and those matrices."""
    return (
        ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (mlp_norm, ("mlp.gate_proj", "mlp.up_proj")),
    )
