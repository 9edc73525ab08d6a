"""Rounding to a grid: the scale and the zero point that each block of a matrix gets.

Every operation is element-wise IEEE arithmetic in a fixed order, so that the result is the same
on every processor, and a row's does not depend on the rows that come with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.grid import BLOCK_SIZES, Grid, blocked

# Weights quantized at a time. They stay in the processor's cache; with fewer, threads wait for
# each other between the operations more than they work.
_CHUNK = 1 << 18
# Where to look for a scale, as steps on the integer that the block's largest weight falls on,
# and as shares of the block's range. Nineteen steps of 0.1 find errors 0.2% smaller; with 8 bits
# there is nothing to gain from looking.
_NUDGES = {4: (-1.7, -1.2, -0.7, -0.2, 0.3, 0.8, 1.3), 8: (0.0, -1.0)}
_SHRINKS = {4: tuple(1 - i * 0.05 for i in range(8)), 8: (1.0,)}
HALF_TOP = float(np.finfo(np.float16).max)

_Floats = NDArray[np.float32]
# Inverse scales and zero points, each of one block per value.
_Try = tuple[_Floats, _Floats]


@dataclass(frozen=True)
class Scheme:
    """What a matrix is rounded to: bits per integer, weights per scale, zero points or none.

    Scales are numbers of half precision.

    search: look for the scale of the least square error; otherwise the range decides.
    """

    bits: int
    block: int
    symmetric: bool = True
    search: bool = True

    def check(self) -> None:
        """Raise `ExportError` for bits or a block size that no operator can hold."""
        if self.bits not in (4, 8):
            raise ExportError(f"{self.bits} bits cannot be stored; choose 4 or 8")
        if self.block not in BLOCK_SIZES:
            raise ExportError(
                f"block size {self.block} cannot be stored; choose one of {BLOCK_SIZES}"
            )


def quantize(weight: _Floats, scheme: Scheme, importance: _Floats | None = None) -> Grid:
    """Round a matrix (N, K) to a grid.

    `importance` (K,) weighs the squared error of each column: with the mean square of the
    activations it is the expected error of the product. Raises `ExportError` for a scheme that
    cannot be stored.
    """
    scheme.check()
    rows, width = weight.shape
    step = max(1, _CHUNK // width)
    parts = [
        _quantize_rows(weight[start : start + step], scheme, importance)
        for start in range(0, rows, step)
    ]
    integers, scales, zeros = (np.concatenate(found) for found in zip(*parts, strict=True))
    return Grid(scheme.bits, scheme.block, integers, scales, None if scheme.symmetric else zeros)


def fit_block(
    weight: _Floats, scheme: Scheme, importance: _Floats
) -> tuple[_Floats, NDArray[np.uint8]]:
    """Scales (N,) and zero points (N,) of one block of columns (N, block or fewer)."""
    _, scales, zeros = _quantize_rows(weight, scheme, importance)
    return scales[:, 0], zeros[:, 0]


def _quantize_rows(
    weight: _Floats, scheme: Scheme, importance: _Floats | None
) -> tuple[NDArray[np.uint8], _Floats, NDArray[np.uint8]]:
    rows, width = weight.shape
    if rows == 1 and width <= scheme.block:
        # A single block would lie along memory: numpy sums such in another order.
        twice = _quantize_rows(np.repeat(weight, 2, axis=0), scheme, importance)
        return twice[0][:1], twice[1][:1], twice[2][:1]
    # One row per position in the block: sums over a block are then additions of whole rows in
    # a fixed order, where a reduction along memory depends on the processor's vector width.
    columns = _by_position(weight, scheme.block)
    weights = None
    if importance is not None and scheme.search:
        weights = np.tile(_by_position(importance[None], scheme.block), (1, rows))
    levels, scales, zeros = _round(columns, scheme, weights)
    integers = np.ascontiguousarray(levels.T).astype(np.uint8).reshape(rows, -1)[:, :width]
    return (
        np.ascontiguousarray(integers),
        _half(scales).reshape(rows, -1),
        np.broadcast_to(zeros, scales.shape).astype(np.uint8).reshape(rows, -1),
    )


def _half(scales: _Floats) -> _Floats:
    """The nearest numbers of half precision, in which scales are stored."""
    half = np.clip(scales, -HALF_TOP, HALF_TOP).astype(np.float16)
    return half.astype(np.float32)


def _by_position(weight: _Floats, block: int) -> _Floats:
    """(positions, blocks) of a matrix."""
    return np.ascontiguousarray(blocked(weight, block).reshape(-1, block).T)


def _round(
    columns: _Floats, scheme: Scheme, weights: _Floats | None
) -> tuple[_Floats, _Floats, _Floats]:
    """Integers, scales and zero points of blocks (positions, blocks).

    Symmetric blocks share one zero point, here and below.
    """
    tries = _symmetric_tries if scheme.symmetric else _asymmetric_tries
    top = np.float32(2**scheme.bits - 1)
    if not scheme.search:
        inverse, zeros = next(tries(columns, (0.0,) if scheme.symmetric else (1.0,), top))
        levels = np.clip(np.rint(columns * inverse), -zeros, top - zeros)
        return levels + zeros, _reciprocal(inverse), zeros
    where = (_NUDGES if scheme.symmetric else _SHRINKS)[scheme.bits]
    return _best(columns, tries(columns, where, top), top, weights)


def _best(
    columns: _Floats, tries: Iterator[_Try], top: np.float32, weights: _Floats | None
) -> tuple[_Floats, _Floats, _Floats]:
    """The try of the least squared error; each rounds, then solves for the scale."""
    fit = _Fit(columns, top, weights)
    best_inverse, best_zeros = next(tries)
    best_gain, _ = fit(best_inverse, best_zeros)
    for inverse, zeros in tries:
        gain, _ = fit(inverse, zeros)
        better = gain > best_gain
        np.copyto(best_gain, gain, where=better)
        np.copyto(best_inverse, inverse, where=better)
        if best_zeros.shape == better.shape:
            np.copyto(best_zeros, zeros, where=better)
    _, scales = fit(best_inverse, best_zeros)
    levels = fit.levels(best_inverse, best_zeros)
    levels += best_zeros
    return levels, scales, best_zeros


class _Fit:
    """Least-squares scales for rounded blocks, in buffers that are used again."""

    def __init__(self, columns: _Floats, top: np.float32, weights: _Floats | None) -> None:
        self._columns = columns
        self._weighted = columns if weights is None else columns * weights
        self._weights = weights
        self._top = top
        self._levels = np.empty_like(columns)
        self._products = np.empty_like(columns)

    def levels(self, inverse: _Floats, zeros: _Floats) -> _Floats:
        """Integers less the zero point, in a buffer."""
        levels = np.multiply(self._columns, inverse, out=self._levels)
        np.rint(levels, out=levels)
        return np.clip(levels, -zeros, self._top - zeros, out=levels)

    def __call__(self, inverse: _Floats, zeros: _Floats) -> _Try:
        """What rounding so takes off the squared error, and the scales (blocks,)."""
        levels = self.levels(inverse, zeros)
        products = np.multiply(self._weighted, levels, out=self._products)
        product = np.add.reduce(products, axis=0)
        np.multiply(levels, levels, out=products)
        if self._weights is not None:
            products *= self._weights
        scales = product * _reciprocal(np.add.reduce(products, axis=0))
        return product * scales, scales


def _symmetric_tries(columns: _Floats, where: tuple[float, ...], top: np.float32) -> Iterator[_Try]:
    """Scales around the one that puts the largest weight on the lowest integer."""
    middle = (float(top) + 1) / 2
    reciprocal = _reciprocal(_largest(columns))
    zeros = np.array([middle], np.float32)
    for nudge in where:
        yield reciprocal * np.float32(-(middle + nudge)), zeros


def _largest(columns: _Floats) -> _Floats:
    """The weight of the largest magnitude of each block, the first of several."""
    low, high = columns.min(axis=0), columns.max(axis=0)
    largest: _Floats = np.where(high > -low, high, low)
    ties = np.flatnonzero(high == -low)
    tied = columns[:, ties]
    largest[ties] = np.take_along_axis(tied, np.abs(tied).argmax(axis=0)[None], axis=0)[0]
    return largest


def _asymmetric_tries(
    columns: _Floats, where: tuple[float, ...], top: np.float32
) -> Iterator[_Try]:
    """Ranges shrunk towards the block's middle; zero stays exactly representable."""
    low = np.minimum(columns.min(axis=0), 0)
    high = np.maximum(columns.max(axis=0), 0)
    for shrink in where:
        inverse = _reciprocal((high - low) * np.float32(shrink / float(top)))
        yield inverse, np.clip(np.rint(-low * np.float32(shrink) * inverse), 0, top)


def _reciprocal(values: _Floats) -> _Floats:
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)
