"""The quantization grid: each weight becomes integers and scales once, for every target.

A row of K weights is cut into quantization blocks; weight = scale * (integer - zero point).
Knows nothing about files and graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError

BLOCK_SIZES = (16, 32, 64, 128)
_SEARCH_STEPS = 12


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
        fill = np.uint8(2 ** (self.bits - 1))
        blocks = _blocked(self.integers, self.block, fill)
        return blocks if self.bits == 8 else _pack_nibbles(blocks)

    def packed_zero_points(self) -> NDArray[np.uint8] | None:
        """Zero points (N, ceil(blocks * bits / 8)), low nibble first; None when symmetric."""
        if self.zero_points is None or self.bits == 8:
            return self.zero_points
        odd = self.zero_points.shape[1] % 2
        return _pack_nibbles(np.pad(self.zero_points, ((0, 0), (0, odd))))


def quantize(
    weight: NDArray[np.float32], bits: int, block: int, symmetric: bool = True
) -> Grid:
    """Round a matrix (N, K) to a grid, searching each block's scale for the least square error.

    Rows are independent and every operation is element-wise IEEE arithmetic in a fixed order,
    so that the result is the same on every processor.
    Raises `ExportError` for a width or block size no operator can hold.
    """
    if bits not in (4, 8):
        raise ExportError(f"{bits} bits cannot be stored; choose 4 or 8")
    if block not in BLOCK_SIZES:
        raise ExportError(f"block size {block} cannot be stored; choose one of {BLOCK_SIZES}")
    blocks = _blocked(weight, block)
    # One array per position in the block: sums over the block then add whole arrays in a
    # fixed order instead of using a reduction whose order depends on the processor.
    columns = np.ascontiguousarray(np.moveaxis(blocks, 2, 0))
    find = _symmetric if symmetric else _asymmetric
    integers, scales, zero_points = find(columns, bits)
    rows, width = weight.shape
    whole = np.moveaxis(integers, 0, 2).reshape(rows, -1)[:, :width]
    return Grid(bits, block, np.ascontiguousarray(whole), scales, zero_points)


_Parts = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8] | None]
