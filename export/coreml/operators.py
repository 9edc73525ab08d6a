"""MIL's operators in numpy, by name: what each does to arrays, as coremltools documents it.

Floats come and go in float32; what rounds them to half precision is not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Operator = Callable[..., Any]
_INTEGERS = {"int8", "int16", "int32", "uint8", "uint16", "bool"}


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale (data - offset), each value of scale and offset for a block of the data."""
    values = data.astype(np.float32)
    if offset is not None:
        values -= _spread(offset.astype(np.float32), data.shape)
    values *= _spread(scale.astype(np.float32), data.shape)
    return values


def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """scale (data - zero point), along an axis or for the whole."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    zero, by = (
        part.astype(np.float32).reshape(shape if part.ndim else ()) for part in (zero_point, scale)
    )
    return (quantized_data.astype(np.float32) - zero) * by


def lut_to_dense(indices: Array, lut: Array, vector_axis: Array | None = None) -> Array:
    """Values of a table for each index; the last axes of `lut` are entries and vector."""
    if lut.shape[-1] != 1:
        raise NotImplementedError("tables of vectors")
    table = lut.reshape(lut.shape[:-1]).astype(np.float32)
    groups: tuple[int, ...] = table.shape[:-1]
    places = [
        np.arange(size) // (size // count)
        for size, count in zip(indices.shape, groups, strict=True)
    ]
    found: Array = table[(*np.ix_(*places), indices.astype(np.intp))]
    return found


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        if have != want:
            if want % have:
                raise ValueError(f"blocks {values.shape} of {shape}")
            values = np.repeat(values, want // have, axis=axis)
    return values


def _window(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> tuple[int | slice, ...]:
    """Where a slice lies. Masked ends are the array's own."""
    found: list[int | slice] = []
    for axis, size in enumerate(x.shape):
        first, last = int(begin[axis]), int(end[axis])
        if squeeze_mask is not None and squeeze_mask[axis]:
            found.append(first if first >= 0 else first + size)
            continue
        step = 1 if stride is None else int(stride[axis])
        start = None if begin_mask is not None and begin_mask[axis] else first
        stop = None if end_mask is not None and end_mask[axis] else last
        found.append(slice(start, stop, step))
    return tuple(found)


def slice_by_index(x: Array, **bounds: Array) -> Array:
    """A copy: a state may be updated in place later."""
    return np.array(x[_window(x, **bounds)])


def slice_update(x: Array, update: Array, *, in_place: bool = False, **bounds: Array) -> Array:
    """`x` with a slice replaced; in place where nothing else reads `x`."""
    where = _window(x, **bounds)
    if x[where].shape != update.shape:
        raise ValueError(f"a slice of {x[where].shape} gets {update.shape}")
    updated = x if in_place else x.copy()
    updated[where] = update
    return updated


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    ends = [None if s == -1 else int(b + s) for b, s in zip(begin, size, strict=True)]
    return x[tuple(slice(int(b), e) for b, e in zip(begin, ends, strict=True))]


def gather(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    if int(batch_dims):
        raise NotImplementedError("gather with batch_dims")
    size = x.shape[int(axis)]
    places = np.asarray(indices).astype(np.int64)
    places = np.where(places < 0, places + size, places)
    if places.size and not (places.min() >= 0 and places.max() < size):
        raise ValueError(f"gather: an index is outside 0 to {size - 1}")
    return np.take(x, places, axis=int(axis))


def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """Vaswani et al., 2017; the mask is added, or false where a position is not seen."""
    scores = query @ np.swapaxes(key, -1, -2) * np.float32(query.shape[-1] ** -0.5)
    if attn_mask is not None:
        if attn_mask.dtype == np.bool_:
            scores = np.where(attn_mask, scores, np.float32(-np.inf))
        else:
            scores = scores + attn_mask
    context: Array = softmax(scores) @ value
    return context


def softmax(x: Array, axis: int = -1) -> Array:
    shares = np.exp(x - x.max(axis=int(axis), keepdims=True))
    normed: Array = shares / shares.sum(axis=int(axis), keepdims=True)
    return normed


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """Hendrycks and Gimpel, 2016: exact, by tanh, or by a sigmoid."""
    share: Array
    if mode == "EXACT":
        share = 0.5 * (1 + _erf(x * np.float32(0.5**0.5)))
        return x * share
    if mode == "TANH_APPROXIMATION":
        inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
        share = 0.5 * (1 + np.tanh(inner))
        return x * share
    return x * _sigmoid(np.float32(1.702) * x)


def _sigmoid(x: Array) -> Array:
    share: Array = 1 / (1 + np.exp(-x))  # exp of a very negative value overflows: 0
    return share


def _erf(x: Array) -> Array:
    found: Array = np.vectorize(math.erf, otypes=[np.float32])(x)
    return found


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """A convolution of size 1, which is a linear layer over the channels (axis 1)."""
    if any(size != 1 for size in weight.shape[2:]) or int(groups) != 1:
        raise NotImplementedError("convolutions other than of size 1 and one group")
    product: Array = np.einsum("oi,bi...->bo...", weight.reshape(weight.shape[:2]), x)
    if bias is not None:
        product += bias.reshape((1, -1) + (1,) * (x.ndim - 2))
    return product


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    product = x @ weight.T
    return product if bias is None else product + bias


def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    return x @ (np.swapaxes(y, -1, -2) if transpose_y else y)


def layer_norm(
    x: Array,
    axes: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Array:
    """Ba et al., 2016."""
    over = _axes(axes)
    centred = x - x.mean(over, keepdims=True)
    normed: Array = centred / np.sqrt(np.mean(centred * centred, over, keepdims=True) + epsilon)
    normed = normed if gamma is None else normed * gamma
    return normed if beta is None else normed + beta


def reshape(x: Array, shape: Array) -> Array:
    """A size of 0 is the one that is there, one of -1 what is left."""
    return x.reshape([x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(shape)])


def split(
    x: Array, axis: int, num_splits: int | None = None, split_sizes: Array | None = None
) -> list[Array]:
    if split_sizes is None:
        assert num_splits is not None
        return np.split(x, int(num_splits), int(axis))
    return np.split(x, np.cumsum(split_sizes)[:-1], int(axis))


def cast(x: Array, dtype: str) -> Array:
    return np.asarray(x).astype(dtype if dtype in _INTEGERS else np.float32)


def _axes(axes: Array | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))


def _reduction(reduce: Callable[..., Any]) -> Operator:
    def reduced(x: Array, axes: Array | None = None, keep_dims: bool = False) -> Array:
        found: Array = reduce(x, axis=_axes(axes), keepdims=bool(keep_dims))
        return found

    return reduced


def _argmax(x: Array, axis: int = -1, keep_dims: bool = True, output_dtype: str = "int32") -> Array:
    places: Array = np.argmax(x, int(axis), keepdims=bool(keep_dims))
    return places.astype(output_dtype)


def _concat(values: Sequence[Array], axis: int, interleave: bool = False) -> Array:
    if interleave:
        raise NotImplementedError("concat with interleave")
    return np.concatenate([np.atleast_1d(value) for value in values], int(axis))


# Folded once when a program is opened.
CONSTANT: dict[str, Operator] = {
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_lut_to_dense": lut_to_dense,
}

OPERATORS: dict[str, Operator] = {
    "abs": lambda x: np.abs(x),
    "add": lambda x, y: x + y,
    "cast": cast,
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "concat": _concat,
    "conv": conv,
    "cos": lambda x: np.cos(x),
    "equal": lambda x, y: x == y,
    "erf": _erf,
    "exp": lambda x: np.exp(x),
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(int(axis) for axis in axes)),
    "fill": lambda shape, value=0.0: np.full([int(size) for size in shape], value),
    "floor_div": lambda x, y: x // y,
    "gather": gather,
    "gelu": gelu,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "identity": lambda x: x,
    "inverse": lambda x, epsilon=1e-4: 1 / (x + np.float32(epsilon)),
    "layer_norm": layer_norm,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "linear": linear,
    "logical_and": lambda x, y: x & y,
    "logical_not": lambda x: ~x,
    "logical_or": lambda x, y: x | y,
    "matmul": matmul,
    "maximum": lambda x, y: np.maximum(x, y),
    "minimum": lambda x, y: np.minimum(x, y),
    "mod": lambda x, y: x % y,
    "mul": lambda x, y: x * y,
    "not_equal": lambda x, y: x != y,
    "pow": lambda x, y: x**y,
    "range_1d": lambda end, start, step: np.arange(start, end, step),
    "real_div": lambda x, y: x / y,
    "reduce_argmax": _argmax,
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_sum": _reduction(np.sum),
    "relu": lambda x: np.maximum(x, 0),
    "reshape": reshape,
    "rsqrt": lambda x, epsilon=1e-12: 1 / np.sqrt(x + np.float32(epsilon)),
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "select": lambda cond, a, b: np.where(cond, a, b),
    "shape": lambda x: np.array(x.shape, np.int32),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "sin": lambda x: np.sin(x),
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
    "softmax": softmax,
    "split": split,
    "sqrt": lambda x: np.sqrt(x),
    "square": lambda x: x * x,
    "squeeze": lambda x, axes=None: np.squeeze(x, _axes(axes)),
    "stack": lambda values, axis: np.stack(values, int(axis)),
    "sub": lambda x, y: x - y,
    "tanh": lambda x: np.tanh(x),
    "tile": lambda x, reps: np.tile(x, [int(count) for count in reps]),
    "transpose": lambda x, perm: x.transpose([int(axis) for axis in perm]),
}
