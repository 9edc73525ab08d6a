"""Rounding to 8 bits with one scale per row, as NPUs take weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOP = 127
# Shares of the range where a row's scale is looked for.
_SHRINKS = tuple(1 - i * 0.04 for i in range(8))


def quantize_rows(
    weight: NDArray[np.float32], importance: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers int8 (N, K) in -127 .. 127 and scales float32 (N,) of a matrix (N, K).

    Of some ranges the one with the least squared error stays, weighed by `importance` (K,).
    """
    largest = np.maximum(np.abs(weight).max(axis=1), np.float32(1e-30))
    weights = np.float32(1) if importance is None else importance
    best: NDArray[np.float64] = np.full(len(weight), np.inf)
    scales = np.zeros(len(weight), np.float32)
    for shrink in _SHRINKS:
        tried = (largest * np.float32(shrink / _TOP)).astype(np.float32)
        change = _rounded(weight, tried) * tried[:, None] - weight
        error: NDArray[np.float64] = np.sum(np.square(change) * weights, axis=1, dtype=np.float64)
        better = error < best
        best[better], scales[better] = error[better], tried[better]
    return _rounded(weight, scales).astype(np.int8), scales


def _rounded(weight: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = np.clip(np.rint(weight / scales[:, None]), -_TOP, _TOP)
    return rounded
