"""Laws of the quantization grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.grid import BLOCK_SIZES, Grid, quantize, relative_error

bits = st.sampled_from((4, 8))
blocks = st.sampled_from(BLOCK_SIZES)


@st.composite
def matrices(draw: st.DrawFn) -> NDArray[np.float32]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 300))
    chance = np.random.default_rng(draw(st.integers(0, 1000)))
    scale = 10.0 ** draw(st.integers(-6, 3))
    return (chance.standard_normal((rows, columns)) * scale).astype(np.float32)


def nearest_error(weight: NDArray[np.float32], bits: int, block: int) -> float:
    """Plain rounding with the scale that just reaches the largest weight."""
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block)))
    cut = padded.reshape(weight.shape[0], -1, block)
    scale = np.abs(cut).max(axis=2, keepdims=True) / (2 ** (bits - 1) - 1)
    rounded = np.rint(np.divide(cut, scale, where=scale > 0, out=np.zeros_like(cut))) * scale
    return float(np.square(rounded - cut).sum())


@given(matrices(), bits, blocks)
def test_the_scale_search_is_no_worse_than_plain_rounding(
    weight: NDArray[np.float32], bits: int, block: int
) -> None:
    found = np.square(quantize(weight, bits, block).dequantize() - weight).sum()
    # With 8 bits there is no search, only the asymmetric range -128..127.
    slack = 1.001 if bits == 4 else 1.35
    tiny = 1e-12 * float(np.square(weight).sum())  # float32's own rounding
    assert found <= nearest_error(weight, bits, block) * slack + tiny


@given(matrices(), bits, blocks, st.booleans())
def test_the_error_of_every_weight_is_below_its_step(
    weight: NDArray[np.float32], bits: int, block: int, symmetric: bool
) -> None:
    grid = quantize(weight, bits, block, symmetric)
    steps = np.repeat(np.abs(grid.scales), block, axis=1)[:, : weight.shape[1]]
    limit = 1.6 if symmetric else 2.8  # the search may clip the largest weights a little
    assert (np.abs(grid.dequantize() - weight) <= limit * steps + 1e-30).all()


@given(matrices(), bits, blocks, st.booleans())
def test_packing_keeps_every_integer(
    weight: NDArray[np.float32], bits: int, block: int, symmetric: bool
) -> None:
    grid = quantize(weight, bits, block, symmetric)
    rows, columns = weight.shape
    packed = grid.packed()
    assert packed.shape == (rows, -(-columns // block), block * bits // 8)
    flat = packed.reshape(rows, -1)
    if bits == 4:
        flat = np.stack([flat & 15, flat >> 4], axis=2).reshape(rows, -1)
    assert np.array_equal(flat[:, :columns], grid.integers)
    zeros = grid.packed_zero_points()
    if zeros is not None and bits == 4:
        zeros = np.stack([zeros & 15, zeros >> 4], axis=2).reshape(rows, -1)
    if zeros is not None:
        assert np.array_equal(zeros[:, : grid.scales.shape[1]], grid.zero_points)


def test_a_zero_matrix_stays_zero() -> None:
    for symmetric in (True, False):
        grid = quantize(np.zeros((3, 64), np.float32), 4, 32, symmetric)
        assert not grid.dequantize().any()


def test_the_relative_error_is_that_of_the_root_mean_squares() -> None:
    grid = Grid(8, 16, np.full((1, 16), 130, np.uint8), np.ones((1, 1), np.float32))
    assert relative_error(np.full((1, 16), 4, np.float32), grid) == pytest.approx(0.5)


@pytest.mark.parametrize(("bits", "block"), [(3, 32), (16, 32), (4, 8), (4, 48)])
def test_what_no_operator_holds_is_refused(bits: int, block: int) -> None:
    with pytest.raises(ExportError, match="cannot be stored"):
        quantize(np.ones((2, 64), np.float32), bits, block)
