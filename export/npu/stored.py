"""Weights of the static graphs: 8-bit integers with a scale per row, or float32; stored once.

Knows the data file and rounding, not the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.export.external_data import ExternalData, Region
from ondevice.export.npu.ranges import Range
from ondevice.export.quantize.rows import quantize_rows
from ondevice.export.source import Source

_Floats = NDArray[np.float32]
_CHUNK = 1 << 24  # weights in memory at a time


@dataclass(frozen=True)
class Activation:
    """How what goes into a matrix is rounded: one scale and zero point for all of it."""

    bits: int
    scale: np.float32
    zero_point: int


@dataclass(frozen=True)
class Settings:
    """activation_bits: 16 or 8, or None for float32 graphs (which tests compare with).

    ranges: of what goes into matrices. factors: SmoothQuant's, by norm, applied to the norms and
    the columns of the matrices behind them.
    """

    activation_bits: int | None
    ranges: Mapping[str, Range]
    factors: Mapping[str, _Floats]
    behind: Mapping[str, str]  # the norm of each matrix whose columns are multiplied


@dataclass(frozen=True)
class StoredRows:
    """A matrix (N, K) in the data file: int8 with scales (N,), or float32 without."""

    values: Region
    scales: Region | None


class Weights:
    """Writes weights into the data file when a graph first asks for them."""

    def __init__(self, source: Source, data: ExternalData, settings: Settings) -> None:
        self.source = source
        self.data = data
        self.settings = settings
        self._stored: dict[str, StoredRows] = {}
        self.errors: dict[str, float] = {}
        self.bits = 0
        self.weights = 0

    def matrix(self, name: str) -> StoredRows:
        """The places of a matrix."""
        if name not in self._stored:
            self._stored[name] = self._write(name)
        return self._stored[name]

    @property
    def matrices(self) -> int:
        return len(self._stored)

    def _write(self, name: str) -> StoredRows:
        rows, columns = self.source.architecture.tensor_shapes()[name]
        quantized = self.settings.activation_bits is not None
        kind = np.int8 if quantized else np.float32
        values = self.data.reserve(name, kind, (rows, columns))
        scales = self.data.reserve(f"{name}.scales", np.float32, (rows,)) if quantized else None
        step = max(1, _CHUNK // columns)
        error = power = 0.0
        for start in range(0, rows, step):
            weight = self._read(name, slice(start, min(start + step, rows)))
            if scales is None:
                self.data.write(values, start, weight)
                continue
            integers, row_scales = quantize_rows(weight, self._importance(name))
            self.data.write(values, start, integers)
            self.data.write(scales, start, row_scales)
            change = integers * row_scales[:, None] - weight
            error += float(np.sum(np.square(change), dtype=np.float64))
            power += float(np.sum(np.square(weight), dtype=np.float64))
        if scales is not None:
            self.errors[name] = float(f"{(error / power) ** 0.5:.3g}") if power else 0.0
        self.weights += rows * columns
        self.bits += rows * columns * (8 if quantized else 32) + (32 * rows if quantized else 0)
        return StoredRows(values, scales)

    def _read(self, name: str, rows: slice) -> _Floats:
        weight = self.source.read(name, rows)
        factors = self.settings.factors.get(self.settings.behind.get(name, ""))
        return weight if factors is None else weight * factors

    def _importance(self, name: str) -> _Floats | None:
        found = self.settings.ranges.get(name)
        return None if found is None else found.mean_square

    def norm(self, name: str) -> _Floats:
        """The weight of a norm, divided by SmoothQuant's factors."""
        weight = self.source.read(name)
        factors = self.settings.factors.get(name)
        return weight if factors is None else weight / factors

    def activation(self, name: str) -> Activation | None:
        """How the input of a matrix is rounded; None in float32 graphs."""
        bits = self.settings.activation_bits
        if bits is None:
            return None
        found = self.settings.ranges[name]
        low, high = min(float(found.low.min()), 0.0), max(float(found.high.max()), 0.0)
        top = 2**bits - 1
        scale = np.float32(max(high - low, 1e-8) / top)
        return Activation(bits, scale, min(top, max(0, round(-low / float(scale)))))
