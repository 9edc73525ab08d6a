"""Tables of values in place of a grid: what the Neural Engine reads weights from.

Some rows of a matrix share a table, and each weight is an entry of it. The entries are those of
least squared error that Lloyd's iteration finds (Lloyd, "Least squares quantization in PCM",
1982), begun at those of a normal distribution (Panter and Dite, 1951: their density is the cube
root of the weights').
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_STEPS = 20  # of Lloyd's iteration; the error changes by less than 0.1% after them

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tables:
    """A matrix of N rows and K columns as entries of tables.

    indices: uint8 (N, K) in 0 .. 2**bits - 1. entries: float32 (N / rows, 2**bits), ascending,
    numbers of half precision; `rows` rows share a table.
    """

    bits: int
    rows: int
    indices: NDArray[np.uint8]
    entries: _Floats

    def dequantize(self) -> _Floats:
        """The matrix (N, K) the indices stand for."""
        tables = np.arange(len(self.indices)) // self.rows
        return self.entries[tables[:, None], self.indices]


def palettize(weight: _Floats, bits: int, rows: int, importance: _Floats | None = None) -> Tables:
    """Round a matrix (N, K) to tables of 2**bits entries, N being a multiple of `rows`.

    `importance` (K,) weighs the squared error of each column, as in `scales.quantize`.
    """
    groups = weight.reshape(-1, rows * weight.shape[1])
    mass = None if importance is None else np.tile(importance, rows)
    entries = np.stack([_entries(group, mass, 2**bits) for group in groups])
    indices = np.stack(
        [np.searchsorted(_middles(e), g) for e, g in zip(entries, groups, strict=True)]
    )
    return Tables(bits, rows, indices.astype(np.uint8).reshape(weight.shape), entries)


def _entries(values: _Floats, mass: _Floats | None, count: int) -> _Floats:
    if mass is None:
        ordered, weighed = np.sort(values).astype(np.float64), np.ones(len(values))
    else:
        order = np.argsort(values, kind="stable")
        ordered, weighed = values[order].astype(np.float64), mass[order].astype(np.float64)
    masses = np.concatenate([[0.0], np.cumsum(weighed)])
    moments = np.concatenate([[0.0], np.cumsum(weighed * ordered)])
    normal = NormalDist()
    shares = np.array([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    found = ordered.mean() + 3**0.5 * ordered.std() * shares
    for _ in range(_STEPS):
        edges = np.concatenate([[0], np.searchsorted(ordered, _middles(found)), [len(ordered)]])
        mass_of = np.diff(masses[edges])
        # An entry that no weight is nearest to stays where it is.
        found = np.where(mass_of > 0, np.diff(moments[edges]) / np.maximum(mass_of, 1e-30), found)
    entries: _Floats = found.astype(np.float16).astype(np.float32)
    return entries


def _middles(entries: NDArray[np.floating]) -> NDArray[np.floating]:
    middles: NDArray[np.floating] = (entries[1:] + entries[:-1]) / 2
    return middles
