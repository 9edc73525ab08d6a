"""Which grid each matrix gets: the targets by name, and the choice per tensor.

Knows sources and grids, not graphs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.architecture import EMBEDDING, HEAD
from ondevice.export.grid import Grid, quantize, relative_error
from ondevice.export.source import Source

_FLOAT_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Target:
    """How a package's matrices are stored.

    bits None keeps float32; `head_bits` is for the embedding and the output matrix.
    `as_is` follows the source: floats stay floats, exact integers are taken over. Source types
    with a real-valued minimum (Q4_1, Q4_K, ...) get 8 bits: a 4-bit zero point would shift a
    whole block by up to half a step, 8 bits round 16 times finer.
    `fine_head` and `fine_attention` let these matrices see activations at twice the kernel's
    8 bits (see `onnx_graph`), which is where most of the divergence comes from when the weights
    themselves are exact. The first costs nothing measurable, the second a tenth of the speed.
    """

    name: str
    bits: int | None
    head_bits: int | None
    block: int = 32
    symmetric: bool = True
    as_is: bool = False
    fine_head: bool = False
    fine_attention: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target("cpu-fp32", bits=None, head_bits=None),
        Target("cpu-int8", bits=8, head_bits=8, fine_head=True),
        Target("cpu-int4", bits=4, head_bits=8),
        Target("cpu-as-is", bits=8, head_bits=8, as_is=True, fine_head=True, fine_attention=True),
    )
}


def find_target(name: str) -> Target:
    """The target of that name; raises `ExportError` naming the known."""
    if name not in TARGETS:
        raise ExportError(f"unknown target {name!r}; known: {', '.join(TARGETS)}")
    return TARGETS[name]


@dataclass
class Quantizer:
    """Quantizes each matrix of a source once, and remembers what it did."""

    source: Source
    target: Target
    counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, float] = field(default_factory=dict)
    weights: int = 0
    weight_bits: int = 0

    def matrix(self, name: str) -> Grid | NDArray[np.float32]:
        """The grid of a matrix (N, K), or its float32 values where the target keeps those."""
        bits = self.target.head_bits if name in (EMBEDDING, HEAD) else self.target.bits
        if self.target.as_is and self.source.stored_type(name) in _FLOAT_TYPES:
            bits = None
        if bits is None:
            values = self.source.read(name)
            self._count("float32", values.size, 32 * values.size)
            return values
        grid = self.source.stored_grid(name)
        if grid is not None and (grid.bits == bits or self.target.as_is):
            self._count_grid(grid, "taken over exactly")
            return grid
        values = self.source.read(name)
        grid = quantize(values, bits, self.target.block, self.target.symmetric)
        self.errors[name] = float(f"{relative_error(values, grid):.3g}")
        self._count_grid(grid, f"requantized from {self.source.stored_type(name)}")
        return grid

    @property
    def bits_per_weight(self) -> float:
        """Mean over all matrices, scales and zero points included."""
        return round(self.weight_bits / self.weights, 3)

    def _count_grid(self, grid: Grid, how: str) -> None:
        zero_bits = grid.bits if grid.zero_points is not None else 0
        bits = grid.integers.size * grid.bits + grid.scales.size * (32 + zero_bits)
        self._count(f"int{grid.bits} block {grid.block}, {how}", grid.integers.size, bits)

    def _count(self, kind: str, weights: int, bits: int) -> None:
        self.counts[kind] += 1
        self.weights += weights
        self.weight_bits += bits
