"""The quantization grid: each weight becomes integers and scales once, for every target.

A row of K weights is cut into quantization blocks; weight = scale * (integer - zero point).
Knows nothing about files and graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError

BLOCK_SIZES = (16, 32, 64, 128)
# Weights quantized at a time. They stay in the processor's cache; with fewer, threads wait for
# each other between the operations more than they work.
_CHUNK = 1 << 18
# Where to look for a scale, as steps on the integer that the block's largest weight falls on,
# and as shares of the block's range. With 8 bits there is nothing to gain from looking.
_NUDGES = {4: tuple(i * 0.1 for i in range(-9, 10)), 8: (0.0, -1.0)}
_SHRINKS = {4: tuple(1 - i * 0.04 for i in range(9)), 8: (1.0,)}

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """A quantized matrix of N rows and K columns.

    integers: uint8 (N, K) in 0 .. 2**bits - 1, one per byte.
    scales: float32 (N, blocks), blocks = ceil(K / block).
    zero_points: uint8 (N, blocks), or None for the symmetric 2**(bits - 1).
    """

    bits: int
    block: int
    integers: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8] | None = None

    def dequantize(self) -> NDArray[np.float32]:
        """The matrix (N, K) the integers stand for."""
        rows, columns = self.integers.shape
        zero: NDArray[np.float32] | np.float32 = np.float32(2 ** (self.bits - 1))
        if self.zero_points is not None:
            zero = self.zero_points[..., None].astype(np.float32)
        blocks = _blocked(self.integers.astype(np.float32), self.block)
        return ((blocks - zero) * self.scales[..., None]).reshape(rows, -1)[:, :columns]

    def packed(self) -> NDArray[np.uint8]:
        """Bytes as MatMulNBits wants them: (N, blocks, block * bits / 8), low nibble first."""
        blocks = _blocked(self.integers, self.block, 2 ** (self.bits - 1))
        return blocks if self.bits == 8 else _pack_nibbles(blocks)

    def packed_zero_points(self) -> NDArray[np.uint8] | None:
        """Zero points (N, ceil(blocks * bits / 8)), low nibble first; None when symmetric."""
        if self.zero_points is None or self.bits == 8:
            return self.zero_points
        odd = self.zero_points.shape[1] % 2
        return _pack_nibbles(np.pad(self.zero_points, ((0, 0), (0, odd))))


def quantize(weight: NDArray[np.float32], bits: int, block: int, symmetric: bool = True) -> Grid:
    """Round a matrix (N, K) to a grid, searching each block's scale for the least square error.

    Every operation is element-wise IEEE arithmetic in a fixed order, so that the result is the
    same on every processor. Raises `ExportError` for bits or a block size that no operator
    can hold.
    """
    if bits not in (4, 8):
        raise ExportError(f"{bits} bits cannot be stored; choose 4 or 8")
    if block not in BLOCK_SIZES:
        raise ExportError(f"block size {block} cannot be stored; choose one of {BLOCK_SIZES}")
    rows, width = weight.shape
    step = max(1, _CHUNK // width)
    search = _search_symmetric if symmetric else _search_asymmetric
    parts = [
        _quantize_rows(weight[start : start + step], bits, block, search)
        for start in range(0, rows, step)
    ]
    zero_points = None if symmetric else np.concatenate([part[2] for part in parts])
    return Grid(
        bits,
        block,
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        zero_points,
    )


def relative_error(weight: NDArray[np.float32], grid: Grid) -> float:
    """Root mean square of what quantization changed, over that of the weights."""
    power = float(np.mean(np.square(weight, dtype=np.float64)))
    error = float(np.mean(np.square(grid.dequantize() - weight, dtype=np.float64)))
    return (error / power) ** 0.5 if power > 0 else 0.0


_Floats = NDArray[np.float32]
_Found = tuple[_Floats, _Floats, _Floats]  # levels, scales, zero points
_Search = Callable[[_Floats, int], _Found]


def _quantize_rows(
    weight: _Floats, bits: int, block: int, search: _Search
) -> tuple[NDArray[np.uint8], _Floats, NDArray[np.uint8]]:
    rows, width = weight.shape
    # One row per position in the block: sums over a block are then additions of whole rows in
    # a fixed order, where a reduction along memory depends on the processor's vector width.
    columns = np.ascontiguousarray(_blocked(weight, block).reshape(-1, block).T)
    levels, scales, zeros = search(columns, bits)
    integers = levels.astype(np.uint8).T.reshape(rows, -1)[:, :width]
    shape = (rows, -1)
    return (
        np.ascontiguousarray(integers),
        scales.reshape(shape),
        zeros.astype(np.uint8).reshape(shape),
    )


def _search_symmetric(columns: _Floats, bits: int) -> _Found:
    """Try scales around the one that puts the largest weight on the lowest integer.

    Each try rounds, then solves the scale for these integers by least squares.
    """
    middle = np.float32(2 ** (bits - 1))
    largest = np.take_along_axis(columns, np.abs(columns).argmax(axis=0)[None], axis=0)[0]
    best_levels = np.full_like(columns, middle)
    best_scales = np.zeros_like(largest)
    best_gain = np.zeros_like(largest)
    for nudge in _NUDGES[bits]:
        inverse = _reciprocal(largest) * np.float32(-(float(middle) + nudge))
        levels = np.clip(np.rint(columns * inverse), -middle, middle - 1)
        product = np.add.reduce(columns * levels, axis=0)
        square = np.add.reduce(levels * levels, axis=0)
        scales = product * _reciprocal(square)
        gain = product * scales  # what the try takes off the squared error
        better = gain > best_gain
        best_levels[:, better] = levels[:, better] + middle
        best_scales[better] = scales[better]
        best_gain[better] = gain[better]
    return best_levels, best_scales, np.full_like(best_scales, middle)


def _search_asymmetric(columns: _Floats, bits: int) -> _Found:
    """Try ranges shrunk towards the block's middle; zero stays exactly representable."""
    top = np.float32(2**bits - 1)
    low = np.minimum(columns.min(axis=0), 0)
    high = np.maximum(columns.max(axis=0), 0)
    best_levels = np.zeros_like(columns)
    best_scales = np.zeros_like(low)
    best_zeros = np.zeros_like(low)
    best_error = np.full_like(low, np.inf)
    for shrink in _SHRINKS[bits]:
        scales = (high - low) * np.float32(shrink / float(top))
        inverse = _reciprocal(scales)
        zeros = np.clip(np.rint(-low * np.float32(shrink) * inverse), 0, top)
        levels = np.clip(np.rint(columns * inverse) + zeros, 0, top)
        difference = (levels - zeros) * scales - columns
        error = np.add.reduce(difference * difference, axis=0)
        better = error < best_error
        best_levels[:, better] = levels[:, better]
        for best, new in ((best_scales, scales), (best_zeros, zeros), (best_error, error)):
            best[better] = new[better]
    return best_levels, best_scales, best_zeros


def _reciprocal(values: _Floats) -> _Floats:
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)


def _blocked(values: NDArray[_T], block: int, fill: float = 0) -> NDArray[_T]:
    """(N, K) as (N, blocks, block), the last block filled up."""
    rows, columns = values.shape
    missing = -columns % block
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)), constant_values=fill)
    return values.reshape(rows, -1, block)


def _pack_nibbles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    low, high = values[..., 0::2], values[..., 1::2]
    return np.bitwise_or(low, np.left_shift(high, np.uint8(4))).astype(np.uint8)
