"""Products with stored matrices in an ONNX graph, and lookups in the embedding.

Knows how a matrix lies in the data file and which operator takes it; nothing about layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ondevice.export.architecture import EMBEDDING, HEAD
from ondevice.export.external_data import ExternalData, Region
from ondevice.export.matrices import Matrices, StoredMatrix
from ondevice.export.nodes import Nodes
from ondevice.export.recipe import Quantizer

# int8 activations inside the kernel: 60 to 100 times faster for 8-bit weights than level 0,
# and the only level at which decoding is bound by memory (docs/LOG.md).
_ACCURACY_LEVEL = 4


@dataclass(frozen=True)
class _Operands:
    """A matrix in the graph: its values (N, K), or integers, scales and perhaps zero points."""

    values: list[ir.Value]
    rows: int
    columns: int
    bits: int
    block: int


class Projections:
    """Emits the embedding, the linear layers and the output matrix of one decoder."""

    def __init__(
        self, nodes: Nodes, quantizer: Quantizer, weights: ExternalData, matrices: Matrices
    ) -> None:
        self._nodes = nodes
        self._source = quantizer.source
        self._shapes = quantizer.source.architecture.tensor_shapes()
        self._fine_head = quantizer.target.fine_head
        self._weights = weights
        self._matrices = matrices
        self._split: dict[tuple[ir.Value, int], ir.Value] = {}

    def embed(self, input_ids: ir.Value) -> ir.Value:
        """Rows of the embedding (batch, sequence, hidden), not scaled."""
        matrix = self._matrices.reserve(EMBEDDING, lookup=True)
        self._embedding = self._operands(matrix)
        layout = matrix.layout
        if layout.is_float:
            return self._nodes.op("Gather", self._embedding.values[0], input_ids)
        shape = (layout.rows, layout.columns * layout.bits // 8)
        # An output matrix tied to this one shares the bytes, where no row is padded.
        place = matrix.lookup or matrix.integers
        tensor = self._weights.view(f"{EMBEDDING}.rows", place, shape)
        return self._nodes.contrib(
            "GatherBlockQuantized",
            self._nodes.initializer(tensor),
            input_ids,
            *self._embedding.values[1:],
            bits=layout.bits,
            block_size=layout.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def head(self, hidden: ir.Value) -> ir.Value:
        """Logits (batch, positions, vocab), not capped; `embed` comes before."""
        if HEAD not in self._shapes:
            return self._matmul(self._embedding, hidden, fine=self._fine_head)
        return self.linear(HEAD.removesuffix(".weight"), hidden, fine=self._fine_head)

    def linear(self, name: str, hidden: ir.Value, fine: bool = False) -> ir.Value:
        """x W^T + b for the weights `name.weight` (out, in) and `name.bias`, if there is one."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        stored = self._operands(self._matrices.reserve(weight))
        added = self.vector(bias) if bias in self._shapes else None
        return self._matmul(stored, hidden, added, fine)

    def vector(self, name: str) -> ir.Value:
        """A bias or the weight of a norm, in float32."""
        return self._nodes.initializer(ir.tensor(self._source.read(name), name=name))

    def _operands(self, matrix: StoredMatrix) -> _Operands:
        layout = matrix.layout
        values = [self._operand(region) for region in matrix.operands]
        return _Operands(values, layout.rows, layout.columns, layout.bits, layout.block)

    def _operand(self, region: Region) -> ir.Value:
        """An array of the data file; the kernels take half-precision scales as float32.

        onnxruntime folds the cast when a session opens: the same logits, half the bytes.
        """
        value = self._nodes.initializer(self._weights.tensor(region))
        if region.dtype == np.float16:
            return self._nodes.op("Cast", value, to=int(ir.DataType.FLOAT))
        return value

    def _matmul(
        self,
        matrix: _Operands,
        hidden: ir.Value,
        bias: ir.Value | None = None,
        fine: bool = False,
    ) -> ir.Value:
        if matrix.bits == 32:
            product = self._nodes.contrib("FusedMatMul", hidden, *matrix.values, transB=1)
        elif fine and matrix.columns % matrix.block == 0:
            product = self._fine_matmul(matrix, hidden)
        else:
            return self._matmul_nbits(matrix, hidden, bias)
        return product if bias is None else self._nodes.op("Add", product, bias)

    def _fine_matmul(self, matrix: _Operands, hidden: ir.Value) -> ir.Value:
        """The product with activations of about 16 bits, in one pass over the weights.

        The kernel rounds each block of activations to 8 bits. What it would keep and what it
        would lose go through it as a batch of two, and the products are added.
        """
        both = self._matmul_nbits(matrix, self._kept_and_lost(hidden, matrix), None)
        parts = self._nodes.several("Split", [both], {"axis": 0, "num_outputs": 2}, 2)
        return self._nodes.op("Add", *parts)

    def _kept_and_lost(self, hidden: ir.Value, matrix: _Operands) -> ir.Value:
        """(batch, sequence, width) rounded to the kernel's steps, and the rest, as one batch."""
        key = (hidden, matrix.block)
        nodes = self._nodes
        if key not in self._split:
            shape = nodes.integers(f"blocks_of_{matrix.block}", 0, 0, -1, matrix.block)
            blocks = nodes.op("Reshape", hidden, shape)
            last = nodes.integers("last_axis", -1)
            largest = nodes.op("ReduceMax", nodes.op("Abs", blocks), last, keepdims=1)
            step = nodes.op("Mul", largest, nodes.scalar("kernel_step", 1 / 127))
            step = nodes.op("Max", step, nodes.scalar("least_step", 1e-30))
            kept = nodes.op("Mul", nodes.op("Round", nodes.op("Div", blocks, step)), step)
            both = nodes.op("Concat", kept, nodes.op("Sub", blocks, kept), axis=0)
            whole = nodes.integers(f"rows_of_{matrix.columns}", 0, 0, matrix.columns)
            self._split[key] = nodes.op("Reshape", both, whole)
        return self._split[key]

    def _matmul_nbits(self, matrix: _Operands, hidden: ir.Value, bias: ir.Value | None) -> ir.Value:
        inputs: list[ir.Value | None] = [hidden, *matrix.values]
        if bias is not None:
            inputs += [None] * (5 - len(inputs)) + [bias]
        return self._nodes.contrib(
            "MatMulNBits",
            *inputs,
            N=matrix.rows,
            K=matrix.columns,
            bits=matrix.bits,
            block_size=matrix.block,
            accuracy_level=_ACCURACY_LEVEL,
        )
