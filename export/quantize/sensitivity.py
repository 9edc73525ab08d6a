"""What 4 bits cost, measured matrix by matrix, and which matrices get 8 under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ondevice.export import reference
from ondevice.export.architecture import layer_tensor
from ondevice.export.quantize.scales import Scheme, quantize
from ondevice.export.quantize.statistics import row_squares
from ondevice.export.source import Source
from ondevice.progress import Progress

_Floats = NDArray[np.float32]
LOW, HIGH = 4, 8


def sensitivities(
    source: Source,
    windows: Sequence[Sequence[int]],
    scheme: Scheme,
    progress: Progress | None = None,
) -> dict[str, float]:
    """For each matrix of the layers, the squared error that rounding it alone makes.

    It is measured on the residual stream after its layer, over the stream's own square: by then
    norms, attention and activation have had their say. The mean over tokens foretells what KL
    divergence a matrix costs (docs/quantizers.md); that of all tokens together is added for the
    few with large activations, which the others attend to.
    """
    arch = source.architecture
    shapes = arch.tensor_shapes()
    states = reference.embed(source, windows)
    found: dict[str, float] = {}
    for index in range(arch.layers):
        if progress is not None:
            progress("measuring sensitivity", index, arch.layers)
        layer = reference.Layer(source, index)
        after = layer.apply(states)
        prefix = layer_tensor(index, "")
        for name, shape in shapes.items():
            if name.startswith(prefix) and len(shape) == 2:
                rounded = quantize(layer.weight(name), scheme).dequantize()
                found[name] = _error(after, layer.replaced(name, rounded).apply(states))
        states = after
    return found


def _error(expected: Sequence[_Floats], found: Sequence[_Floats]) -> float:
    errors = np.concatenate([row_squares(f - e) for e, f in zip(expected, found, strict=True)])
    powers = np.concatenate([row_squares(e) for e in expected])
    by_token = np.divide(errors, powers, out=np.zeros_like(errors), where=powers > 0)
    return float(by_token.mean() + errors.sum() / max(powers.sum(), np.finfo(np.float64).tiny))


def allocate(
    weights: Mapping[str, int], errors: Mapping[str, float], mean_bits: float
) -> dict[str, int]:
    """Bits of each matrix: 8 where they take off most error per weight, within a mean.

    `weights` is the number of weights of each matrix. What 8 bits leave of an error is less than
    a hundredth, so all of it counts as taken off.
    """
    left = (mean_bits - LOW) * sum(weights.values())
    bits = dict.fromkeys(weights, LOW)
    for name in sorted(weights, key=lambda name: (-errors[name] / weights[name], name)):
        cost = (HIGH - LOW) * weights[name]
        if cost <= left:
            bits[name] = HIGH
            left -= cost
    return bits
