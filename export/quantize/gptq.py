"""GPTQ (Frantar et al., 2022): columns are rounded in turn, the rest makes up for the error.

The integers depend on the processor's linear algebra in last places, unlike those of `scales`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.export.grid import Grid
from ondevice.export.quantize.scales import Scheme, fit_block
from ondevice.export.quantize.tables import Tables, palettize

_Floats = NDArray[np.float32]
_DAMPING = 0.01  # of the Hessian's mean diagonal, the paper's
# How much products of different columns count. What columns have to do with each other on one
# text holds less on others than how large they are (docs/quantizers.md).
_SHARED = 0.7
_TRIANGLE = 128  # columns of a triangular matrix that is inverted as any other


def error_factor(hessian: _Floats) -> _Floats:
    """The upper triangular U, float32 (K, K), with U^T U the inverse of the damped Hessian.

    `hessian` is the mean of x x^T; it is shrunk towards its diagonal. Columns that no activation
    reached cost nothing.
    """
    damped = np.multiply(hessian, _SHARED, dtype=np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal /= _SHARED
    diagonal[diagonal == 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    inverse = np.linalg.cholesky(damped[::-1, ::-1])
    _invert(inverse)
    return inverse[::-1, ::-1].astype(np.float32)


def _invert(lower: NDArray[np.floating[Any]]) -> None:
    """Invert a lower triangular matrix in place, by products of its quarters.

    numpy only solves for matrices of any shape, at several times the time and memory.
    """
    if len(lower) <= _TRIANGLE:
        lower[:] = np.tril(np.linalg.inv(lower))
        return
    half = len(lower) // 2
    first, last, between = lower[:half, :half], lower[half:, half:], lower[half:, :half]
    _invert(first)
    _invert(last)
    between[:] = -(last @ (between @ first))


def quantize(weight: _Floats, scheme: Scheme, factor: _Floats, importance: _Floats) -> Grid:
    """Round a matrix (N, K), given `error_factor` of its input's Hessian.

    `importance` (K,), the mean squares of the input, weighs the search for scales. Rows do not
    depend on each other.
    """
    scheme.check()
    rows, width = weight.shape
    blocks = -(-width // scheme.block)
    integers = np.empty((rows, width), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    zeros = np.empty((rows, blocks), np.uint8)

    def kept(rest: _Floats, column: int) -> _Floats:
        block, place = divmod(column, scheme.block)
        if place == 0:
            end = min(column + scheme.block, width)
            found = fit_block(rest[column:end].T, scheme, importance[column:end])
            scales[:, block], zeros[:, block] = found
        integers[:, column] = _nearest(rest[column], scales[:, block], zeros[:, block], scheme)
        values: _Floats = integers[:, column].astype(np.float32) - zeros[:, block]
        return values * scales[:, block]

    _round_columns(weight, factor, kept)
    return Grid(scheme.bits, scheme.block, integers, scales, None if scheme.symmetric else zeros)


def quantize_to_tables(
    weight: _Floats, bits: int, rows: int, factor: _Floats, importance: _Floats
) -> Tables:
    """As `quantize`, to the tables that `palettize` finds for `rows` rows each."""
    tables = palettize(weight, bits, rows, importance)
    indices = np.empty_like(tables.indices)
    entries = np.repeat(tables.entries, rows, axis=0)
    middles = (entries[:, 1:] + entries[:, :-1]) / 2
    places = np.arange(len(weight))

    def kept(rest: _Floats, column: int) -> _Floats:
        indices[:, column] = np.sum(rest[column, :, None] > middles, axis=1)
        return entries[places, indices[:, column]]

    _round_columns(weight, factor, kept)
    return replace(tables, indices=indices)


def _round_columns(
    weight: _Floats, factor: _Floats, kept: Callable[[_Floats, int], _Floats]
) -> None:
    """Round the columns in turn: `kept` rounds one of what the errors left, and says its values.

    Columns are rows of what `kept` sees, (K, N). Halves of a power of two, recursively: the
    errors of one reach the other by one product, and a block, a power of two itself, has had
    all errors from before it when its first column is in turn.
    """
    rest = np.ascontiguousarray(weight.T)
    errors = np.empty_like(rest)
    width = len(rest)

    def round_span(start: int, size: int) -> None:
        if size == 1:
            error = rest[start] - kept(rest, start)
            np.divide(error, factor[start, start], out=errors[start])
            return
        middle, stop = start + size // 2, min(start + size, width)
        round_span(start, size // 2)
        if middle < width:
            rest[middle:stop] -= factor[start:middle, middle:stop].T @ errors[start:middle]
            round_span(middle, size // 2)

    round_span(0, 1 << (width - 1).bit_length())


def _nearest(values: _Floats, scales: _Floats, zeros: _Floats, scheme: Scheme) -> _Floats:
    """The integers, as floats, that values are nearest to."""
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    top = np.float32(2**scheme.bits - 1)
    nearest: _Floats = np.clip(np.rint(values * inverse) + zeros, 0, top)
    return nearest
