"""Tables of the rotary position embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ondevice.export.architecture import LinearScaling, Llama3Scaling, LongRope, Rope

_Floats = NDArray[np.float32]
Tables = tuple[_Floats, _Floats]


def tables(rope: Rope, positions: int) -> Tables:
    """Cosines and sines, each (positions, dim / 2), for a sequence of that many tokens.

    With LongRoPE they are the short ones up to the original context length, else the long ones.
    """
    scaling = rope.scaling
    if isinstance(scaling, LongRope):
        is_long = positions > scaling.original_context_length
        return _long_rope_tables(rope, scaling, is_long, positions)
    return _tables(_inverse_frequencies(rope), positions)


def stacked_tables(rope: Rope, positions: int) -> Tables:
    """The tables of every sequence length up to `positions`, one set after the other.

    With LongRoPE: `original_context_length` rows with short factors, then `positions` rows with
    long ones. Otherwise those of `tables`.
    """
    scaling = rope.scaling
    if not isinstance(scaling, LongRope) or positions <= scaling.original_context_length:
        return tables(rope, positions)
    short = _long_rope_tables(rope, scaling, False, scaling.original_context_length)
    long = _long_rope_tables(rope, scaling, True, positions)
    cos, sin = (np.concatenate(pair) for pair in zip(short, long, strict=True))
    return cos, sin


def _long_rope_tables(rope: Rope, scaling: LongRope, is_long: bool, positions: int) -> Tables:
    factors = scaling.long_factors if is_long else scaling.short_factors
    frequencies = _plain_frequencies(rope) / np.asarray(factors, np.float64)
    cos, sin = _tables(frequencies, positions)
    factor = np.float32(scaling.attention_factor)
    return cos * factor, sin * factor


def _inverse_frequencies(rope: Rope) -> NDArray[np.float64]:
    """Radians per position of each pair of dimensions, shape (dim / 2,), scaled as asked."""
    frequencies = _plain_frequencies(rope)
    if rope.frequency_factors:
        return frequencies / np.asarray(rope.frequency_factors, np.float64)
    scaling = rope.scaling
    if isinstance(scaling, LinearScaling):
        return frequencies / scaling.factor
    if isinstance(scaling, Llama3Scaling):
        turns = scaling.original_context_length * frequencies / (2 * np.pi)
        span = scaling.high_freq_factor - scaling.low_freq_factor
        keep = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
        return (1 - keep) * frequencies / scaling.factor + keep * frequencies
    return frequencies


def _plain_frequencies(rope: Rope) -> NDArray[np.float64]:
    """theta ** (-2 i / dim) (Su et al., 2021)."""
    frequencies: NDArray[np.float64] = rope.theta ** (
        -np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim
    )
    return frequencies


def _tables(frequencies: NDArray[np.float64], positions: int) -> Tables:
    # transformers computes frequencies and angles in float32; so did training.
    rounded = frequencies.astype(np.float32)
    angles = np.outer(np.arange(positions, dtype=np.float32), rounded).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
