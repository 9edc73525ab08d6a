"""Tables of the rotary position embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ondevice.export.architecture import Rope


def inverse_frequencies(rope: Rope) -> NDArray[np.float64]:
    """Radians per position of each pair of dimensions, shape (dim / 2,).

    theta ** (-2 i / dim) (Su et al., 2021), stretched as Llama 3.1 does where the model asks.
    """
    frequencies = rope.theta ** (-np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    if rope.frequency_factors:
        return frequencies / np.asarray(rope.frequency_factors, dtype=np.float64)
    scaling = rope.scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_context_length * frequencies / (2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    keep = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies


def tables(rope: Rope, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, each (positions, dim / 2)."""
    # transformers computes frequencies and angles in float32; so did training.
    frequencies = inverse_frequencies(rope).astype(np.float32)
    angles = np.outer(np.arange(positions, dtype=np.float32), frequencies).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
