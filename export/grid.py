"""The quantization grid: each weight becomes integers and scales once, for every target.

A row of K weights is cut into quantization blocks; weight = scale * (integer - zero point).
Knows nothing about files and graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZES = (16, 32, 64, 128, 256)
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """A quantized matrix of N rows and K columns.

    integers: uint8 (N, K) in 0 .. 2**bits - 1, one per byte.
    scales: float32 (N, blocks), blocks = ceil(K / block); those that a quantizer chose are
    numbers of half precision.
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
        blocks = blocked(self.integers.astype(np.float32), self.block)
        return ((blocks - zero) * self.scales[..., None]).reshape(rows, -1)[:, :columns]

    def packed(self) -> NDArray[np.uint8]:
        """Bytes as MatMulNBits wants them: (N, blocks, block * bits / 8), low nibble first."""
        blocks = blocked(self.integers, self.block, 2 ** (self.bits - 1))
        return blocks if self.bits == 8 else _pack_nibbles(blocks)

    def packed_zero_points(self) -> NDArray[np.uint8] | None:
        """Zero points (N, ceil(blocks * bits / 8)), low nibble first; None when symmetric."""
        if self.zero_points is None or self.bits == 8:
            return self.zero_points
        odd = self.zero_points.shape[1] % 2
        return _pack_nibbles(np.pad(self.zero_points, ((0, 0), (0, odd))))


def blocked(values: NDArray[_T], block: int, fill: float = 0) -> NDArray[_T]:
    """(N, K) as (N, blocks, block), the last block filled up."""
    rows, columns = values.shape
    missing = -columns % block
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)), constant_values=fill)
    return values.reshape(rows, -1, block)


def _pack_nibbles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    low, high = values[..., 0::2], values[..., 1::2]
    return np.bitwise_or(low, np.left_shift(high, np.uint8(4))).astype(np.uint8)
