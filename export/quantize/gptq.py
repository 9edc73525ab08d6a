"""GPTQ (Frantar et al., 2022): columns are rounded in turn, the rest makes up for the error.

The integers depend on the processor's linear algebra in last places, unlike those of `scales`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.export.grid import Grid
from ondevice.export.quantize.scales import Scheme, fit_block

_Floats = NDArray[np.float32]
_DAMPING = 0.01  # of the Hessian's mean diagonal, the paper's
# How much products of different columns count. What columns have to do with each other on one
# text holds less on others than how large they are (docs/quantizers.md).
_SHARED = 0.7
_COLUMNS = 128  # whose errors reach the columns behind them together; the paper's


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
    if len(lower) <= _COLUMNS:
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
    rest = weight.copy()
    rows, width = rest.shape
    blocks = -(-width // scheme.block)
    integers = np.empty((rows, width), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    zeros = np.empty((rows, blocks), np.uint8)
    step = max(_COLUMNS, scheme.block)
    for start in range(0, width, step):
        stop = min(start + step, width)
        errors = np.empty((rows, stop - start), np.float32)
        for column in range(start, stop):
            block, place = divmod(column, scheme.block)
            if place == 0:
                end = min(column + scheme.block, width)
                found = fit_block(rest[:, column:end], scheme, importance[column:end])
                scales[:, block], zeros[:, block] = found
            integers[:, column] = _nearest(
                rest[:, column], scales[:, block], zeros[:, block], scheme
            )
            kept = (integers[:, column].astype(np.float32) - zeros[:, block]) * scales[:, block]
            error = (rest[:, column] - kept) / factor[column, column]
            rest[:, column + 1 : stop] -= np.outer(error, factor[column, column + 1 : stop])
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return Grid(scheme.bits, scheme.block, integers, scales, None if scheme.symmetric else zeros)


def _nearest(values: _Floats, scales: _Floats, zeros: _Floats, scheme: Scheme) -> _Floats:
    """The integers, as floats, that values are nearest to."""
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    top = np.float32(2**scheme.bits - 1)
    nearest: _Floats = np.clip(np.rint(values * inverse) + zeros, 0, top)
    return nearest
