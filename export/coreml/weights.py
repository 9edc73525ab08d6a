"""Weights of a decoder as constants of a MIL program: floats of half precision, a grid, tables.

The integers are the quantizer's own, so they are those of an ONNX package of the same recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.grid import Grid
from ondevice.export.matrices import relative_error, row_chunks
from ondevice.export.quantize.scales import HALF_TOP
from ondevice.export.quantize.tables import Tables
from ondevice.export.recipe import Quantizer
from ondevice.progress import Progress
from ondevice.runtime.device import usable_cores

_Matrix = Grid | Tables | NDArray[np.float16]
_TYPES = {(4, True): types.int4, (4, False): types.uint4}
_TYPES |= {(8, True): types.int8, (8, False): types.uint8}


class Weights:
    """Reads the weights of one decoder, and says them in MIL.

    What was quantized is kept, so that several functions of a package get the same values.
    """

    def __init__(self, quantizer: Quantizer, progress: Progress | None = None) -> None:
        self._quantizer = quantizer
        self._progress = progress
        self.shapes = quantizer.source.architecture.tensor_shapes()
        self._matrices = sum(len(shape) == 2 for shape in self.shapes.values())
        self._values: dict[str, _Matrix] = {}

    def matrix(self, name: str) -> Any:
        """A new constant of the function in the making: a matrix (out, in)."""
        values = self._matrix(name)
        if isinstance(values, Grid):
            return _grid(name, values)
        return _tables(name, values) if isinstance(values, Tables) else constant(values, name)

    def convolutions(self, name: str, most: int) -> list[Any]:
        """New constants: a matrix of tables as 1x1 convolutions (rows, in, 1, 1), `most` rows each.

        `most` is a multiple of the rows that share a table.
        """
        whole = self._matrix(name)
        assert isinstance(whole, Tables), name
        parts = [slice(start, start + most) for start in range(0, len(whole.indices), most)]
        return [
            _tables(name if len(parts) == 1 else f"{name}.{index}", _of_rows(whole, rows), 2)
            for index, rows in enumerate(parts)
        ]

    def vector(self, name: str, shape: tuple[int, ...] = (-1,)) -> Any:
        """A new constant: a bias or the weight of a norm."""
        return constant(half(self._quantizer.source.read(name), name).reshape(shape), name)

    def _matrix(self, name: str) -> _Matrix:
        if name not in self._values:
            if self._progress is not None:
                self._progress("quantizing", len(self._values), self._matrices)
            self._values[name] = self._read(name)
        return self._values[name]

    def _read(self, name: str) -> _Matrix:
        layout = self._quantizer.layout(name)
        if layout.is_float:
            parts = row_chunks(layout)
            source = self._quantizer.source
            return np.concatenate([half(source.read(name, rows), name) for rows in parts])
        if not layout.table_rows:
            check_block(name, layout.columns, layout.block)
        return self._quantized(name, row_chunks(layout))

    def _quantized(self, name: str, chunks: Sequence[slice]) -> Grid | Tables:
        quantizer = self._quantizer
        statistics = quantizer.statistics(name)
        with ThreadPoolExecutor(usable_cores(), "quantizing") as pool:
            parts = list(pool.map(lambda rows: quantizer.rows(name, rows, statistics), chunks))
        quantizer.finish(name, relative_error(parts))
        tables = [part.values for part in parts if isinstance(part.values, Tables)]
        if tables:
            return replace(
                tables[0],
                indices=np.concatenate([part.indices for part in tables]),
                entries=np.concatenate([part.entries for part in tables]),
            )
        grids = [part.values for part in parts if isinstance(part.values, Grid)]
        first = grids[0]
        zeros = [grid.zero_points for grid in grids if grid.zero_points is not None]
        return replace(
            first,
            integers=np.concatenate([grid.integers for grid in grids]),
            scales=np.concatenate([grid.scales for grid in grids]),
            zero_points=np.concatenate(zeros) if zeros else None,
        )


def check_block(name: str, columns: int, block: int) -> None:
    """Raise `ExportError` for a matrix whose rows are no whole number of blocks."""
    if columns % block:
        fitting = next((size for size in (128, 64, 32, 16) if not columns % size), None)
        advice = f"choose --block {fitting}" if fitting else "choose --target coreml-fp16"
        raise ExportError(
            f"{name} has {columns} columns, no multiple of the block of {block}, which Core ML "
            f"needs; {advice}"
        )


def half(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """Rounded to half precision; raises `ExportError` for a value beyond its range."""
    largest = float(np.abs(values).max(initial=0))
    if not largest <= HALF_TOP:
        raise ExportError(
            f"{name} holds {largest:g}, beyond half precision's {HALF_TOP:g}, which Core ML "
            "computes in; export it for onnxruntime (--target cpu-int4)"
        )
    return values.astype(np.float16)


def constant(values: NDArray[Any], name: str) -> Any:
    return mb.const(val=values, name=mil_name(name))


def mil_name(name: str) -> str:
    """A tensor's name as MIL allows it: letters, digits and underscores."""
    return name.replace(".", "_")


def _of_rows(tables: Tables, rows: slice) -> Tables:
    groups = slice(rows.start // tables.rows, -(-rows.stop // tables.rows))
    return replace(tables, indices=tables.indices[rows], entries=tables.entries[groups])


def _tables(name: str, tables: Tables, trailing: int = 0) -> Any:
    """Indices (out, in) and `trailing` axes of one, and tables of values, looked up by Core ML."""
    dtype = types.nptype_from_builtin(_TYPES[tables.bits, False])
    ones = (1,) * trailing
    entries = half(tables.entries, name)
    return mb.constexpr_lut_to_dense(
        indices=tables.indices.astype(dtype).reshape(*tables.indices.shape, *ones),
        lut=entries.reshape(len(entries), 1, *ones, -1, 1),
        name=mil_name(name),
    )


def _grid(name: str, grid: Grid) -> Any:
    """integers (out, in) and scales (out, blocks), dequantized by Core ML."""
    middle = 2 ** (grid.bits - 1)
    symmetric = grid.zero_points is None
    dtype = types.nptype_from_builtin(_TYPES[grid.bits, symmetric])
    given: dict[str, Any] = {}
    if grid.zero_points is None:
        integers = grid.integers.astype(np.int16) - middle
        data = integers.astype(np.int8).astype(dtype)
    else:
        data = grid.integers.astype(dtype)
        given["offset"] = grid.zero_points.astype(dtype)
    return mb.constexpr_blockwise_shift_scale(
        data=data, scale=half(grid.scales, name), name=mil_name(name), **given
    )
