"""What calibration found about the input of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Activations that went into a matrix (N, K), summed up.

    mean_square: float32 (K,), of each column. error_factor: float32 (K, K), GPTQ's, where it is
    asked for.
    """

    mean_square: NDArray[np.float32]
    error_factor: NDArray[np.float32] | None = None


def row_squares(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of the squares of each row of (N, K), float64 (N,)."""
    sums: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return sums
