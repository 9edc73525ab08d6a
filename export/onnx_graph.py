"""The ONNX graph of a decoder: one page from token ids to logits, around the grid's integers.

Contrib operators of onnxruntime do the work: GroupQueryAttention with rotary inside,
SkipSimplifiedLayerNormalization, MatMulNBits, GatherBlockQuantized. Input and output names are
those that onnxruntime-genai expects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import tape

from ondevice.errors import ExportError
from ondevice.export import rotary
from ondevice.export.architecture import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    Architecture,
    layer_tensor,
)
from ondevice.export.external_data import ExternalData
from ondevice.export.journal import Journal
from ondevice.export.matrices import Matrices, StoredMatrix
from ondevice.export.recipe import Quantizer
from ondevice.progress import Progress

CONTRIB = "com.microsoft"
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
# int8 activations inside the kernel: 60 to 100 times faster for 8-bit weights than level 0,
# and the only level at which decoding is bound by memory (docs/LOG.md).
_ACCURACY_LEVEL = 4
_HEAD_DIM_STEP = 16
_INT64_MAX = int(np.iinfo(np.int64).max)


def write_graph(
    quantizer: Quantizer, folder: Path, journal: Journal, progress: Progress | None = None
) -> None:
    """Write `model.onnx` and `model.onnx.data`, quantizing some rows at a time.

    Matrices that `journal` holds are taken from the data file that is there; those written are
    noted in it. Raises `ExportError` for a shape that an operator cannot hold.
    """
    head_dim = quantizer.source.architecture.head_dim
    if head_dim % _HEAD_DIM_STEP:
        raise ExportError(
            f"attention heads of {head_dim} dimensions cannot be exported: onnxruntime's "
            f"GroupQueryAttention wants a multiple of {_HEAD_DIM_STEP}"
        )
    with ExternalData(folder / DATA_FILE) as weights:
        matrices = Matrices(quantizer, weights)
        ir.save(_Emitter(quantizer, weights, matrices).model(), folder / MODEL_FILE)
        matrices.fill(journal, progress)


@dataclass(frozen=True)
class _Stored:
    """A written matrix: its values (N, K), or integers, scales and perhaps zero points."""

    values: list[ir.Value]
    rows: int = 0
    columns: int = 0
    bits: int = 32
    block: int = 0


class _Emitter:
    """Records the nodes of one graph."""

    def __init__(self, quantizer: Quantizer, weights: ExternalData, matrices: Matrices) -> None:
        self._source = quantizer.source
        self._arch: Architecture = quantizer.source.architecture
        self._weights = weights
        self._matrices = matrices
        self._shapes = self._arch.tensor_shapes()
        self._tape = tape.Tape()
        self._fine_head = quantizer.target.fine_head
        self._fine_attention = quantizer.target.fine_attention
        self._constants: dict[str, ir.Value] = {}
        self._split: dict[tuple[ir.Value, int], ir.Value] = {}
        self._outputs: list[ir.Value] = []

    def model(self) -> ir.Model:
        arch = self._arch
        input_ids = _input("input_ids", ir.DataType.INT64, "batch", "sequence")
        mask = _input("attention_mask", ir.DataType.INT64, "batch", "total_sequence")
        num_logits = self._constant("num_logits", 1)
        past = [self._past(layer) for layer in range(arch.layers)]

        self._positions = [*self._lengths(mask), *self._rotary_tables()]
        last = self._op("Neg", num_logits)
        hidden = self._embed(input_ids)
        normed = self._op(
            "SimplifiedLayerNormalization",
            hidden,
            self._float(layer_tensor(0, "input_layernorm.weight")),
            axis=-1,
            epsilon=arch.norm_eps,
            stash_type=1,
        )
        for layer in range(arch.layers):
            attention = self._attention(layer, normed, past[layer])
            if layer == arch.layers - 1:
                # Only these positions reach the logits: skip the last MLP of all others.
                attention, hidden = self._from(last, attention), self._from(last, hidden)
            output = layer_tensor(layer, "self_attn.o_proj")
            projected = self._linear(output, attention, fine=self._fine_attention)
            name = layer_tensor(layer, "post_attention_layernorm.weight")
            normed, hidden = self._add_norm(projected, hidden, name)
            following = (
                FINAL_NORM
                if layer == arch.layers - 1
                else layer_tensor(layer + 1, "input_layernorm.weight")
            )
            normed, hidden = self._add_norm(self._mlp(layer, normed), hidden, following)
        logits = self._head(normed)
        self._output(logits, "logits", "batch", 1, arch.vocab_size)
        self._output(normed, "hidden_states", "batch", "num_logits", arch.hidden_size)
        inputs = [input_ids, mask, *(value for pair in past for value in pair), num_logits]
        return self._finish(inputs)

    def _finish(self, inputs: list[ir.Value]) -> ir.Model:
        logits_first = sorted(self._outputs, key=lambda value: value.name != "logits")
        graph = ir.Graph(
            inputs,
            logits_first,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": 21, CONTRIB: 1},
            name=self._arch.name,
        )
        return ir.Model(graph, ir_version=10, producer_name="ondevice")

    def _past(self, layer: int) -> tuple[ir.Value, ir.Value]:
        shape = ("batch", self._arch.kv_heads, "past_sequence", self._arch.head_dim)
        key, value = (
            _input(f"past_key_values.{layer}.{part}", ir.DataType.FLOAT, *shape)
            for part in ("key", "value")
        )
        return key, value

    def _lengths(self, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Total length of each sequence less one, and of the batch, as the attention wants."""
        axis = self._constant("axis_1", 1)
        summed = self._op("ReduceSum", mask, axis, keepdims=0)
        less_one = self._op("Sub", summed, self._constant("one", 1))
        total = self._op("Squeeze", self._op("Shape", mask, start=1, end=2))
        return (
            self._op("Cast", less_one, to=ir.DataType.INT32),
            self._op("Cast", total, to=ir.DataType.INT32),
        )

    def _rotary_tables(self) -> tuple[ir.Value, ir.Value]:
        cos, sin = rotary.tables(self._arch.rope, self._arch.context_length)
        return (
            self._tape.initializer(self._weights.add("rotary.cos", cos)),
            self._tape.initializer(self._weights.add("rotary.sin", sin)),
        )

    def _embed(self, input_ids: ir.Value) -> ir.Value:
        matrix = self._matrices.reserve(EMBEDDING, lookup=True)
        self._embedding = self._initializers(matrix)
        layout = matrix.layout
        if layout.is_float:
            return self._op("Gather", self._embedding.values[0], input_ids)
        shape = (layout.rows, layout.columns * layout.bits // 8)
        # An output matrix tied to this one shares the bytes, where no row is padded.
        place = matrix.lookup or matrix.integers
        tensor = self._weights.view(f"{EMBEDDING}.rows", place, shape)
        return self._op(
            "GatherBlockQuantized",
            self._tape.initializer(tensor),
            input_ids,
            *self._embedding.values[1:],
            domain=CONTRIB,
            bits=layout.bits,
            block_size=layout.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def _head(self, hidden: ir.Value) -> ir.Value:
        if self._arch.tied_embeddings:
            return self._matmul(self._embedding, hidden, fine=self._fine_head)
        return self._linear(HEAD.removesuffix(".weight"), hidden, fine=self._fine_head)

    def _attention(self, layer: int, normed: ir.Value, past: tuple[ir.Value, ir.Value]) -> ir.Value:
        arch = self._arch
        query, key, value = (
            self._linear(
                layer_tensor(layer, f"self_attn.{part}_proj"), normed, fine=self._fine_attention
            )
            for part in "qkv"
        )
        attention, present_key, present_value = self._tape.op_multi_out(
            "GroupQueryAttention",
            [query, key, value, *past, *self._positions],
            {
                "num_heads": arch.heads,
                "kv_num_heads": arch.kv_heads,
                "scale": arch.head_dim**-0.5,
                "do_rotary": 1,
                "rotary_interleaved": 0,
                "local_window_size": -1,
            },
            num_outputs=3,
            domain=CONTRIB,
        )
        shape = ("batch", arch.kv_heads, "total_sequence", arch.head_dim)
        self._output(present_key, f"present.{layer}.key", *shape)
        self._output(present_value, f"present.{layer}.value", *shape)
        return attention

    def _mlp(self, layer: int, normed: ir.Value) -> ir.Value:
        gate = self._linear(layer_tensor(layer, "mlp.gate_proj"), normed)
        up = self._linear(layer_tensor(layer, "mlp.up_proj"), normed)
        silu = self._op("Mul", gate, self._op("Sigmoid", gate))
        return self._linear(layer_tensor(layer, "mlp.down_proj"), self._op("Mul", silu, up))

    def _linear(self, name: str, hidden: ir.Value, fine: bool = False) -> ir.Value:
        """x W^T + b for the weights `name.weight` (out, in) and `name.bias`, if there is one."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        stored = self._initializers(self._matrices.reserve(weight))
        added = self._float(bias) if bias in self._shapes else None
        return self._matmul(stored, hidden, added, fine)

    def _matmul(
        self,
        matrix: _Stored,
        hidden: ir.Value,
        bias: ir.Value | None = None,
        fine: bool = False,
    ) -> ir.Value:
        if matrix.bits == 32:
            product = self._op("FusedMatMul", hidden, *matrix.values, domain=CONTRIB, transB=1)
        elif fine and matrix.columns % matrix.block == 0:
            product = self._fine_matmul(matrix, hidden)
        else:
            return self._matmul_nbits(matrix, hidden, bias)
        return product if bias is None else self._op("Add", product, bias)

    def _fine_matmul(self, matrix: _Stored, hidden: ir.Value) -> ir.Value:
        """The product with activations of about 16 bits, in one pass over the weights.

        The kernel rounds each block of activations to 8 bits. What it would keep and what it
        would lose go through it as a batch of two, and the products are added.
        """
        both = self._matmul_nbits(matrix, self._kept_and_lost(hidden, matrix), None)
        parts = self._tape.op_multi_out(
            "Split", [both], {"axis": 0, "num_outputs": 2}, num_outputs=2
        )
        return self._op("Add", *parts)

    def _kept_and_lost(self, hidden: ir.Value, matrix: _Stored) -> ir.Value:
        """(batch, sequence, width) rounded to the kernel's steps, and the rest, as one batch."""
        key = (hidden, matrix.block)
        if key not in self._split:
            shape = self._constant(f"blocks_of_{matrix.block}", 0, 0, -1, matrix.block)
            blocks = self._op("Reshape", hidden, shape)
            last = self._constant("last_axis", -1)
            largest = self._op("ReduceMax", self._op("Abs", blocks), last, keepdims=1)
            step = self._op("Mul", largest, self._scalar("kernel_step", 1 / 127))
            step = self._op("Max", step, self._scalar("least_step", 1e-30))
            kept = self._op("Mul", self._op("Round", self._op("Div", blocks, step)), step)
            both = self._op("Concat", kept, self._op("Sub", blocks, kept), axis=0)
            whole = self._constant(f"rows_of_{matrix.columns}", 0, 0, matrix.columns)
            self._split[key] = self._op("Reshape", both, whole)
        return self._split[key]

    def _matmul_nbits(self, matrix: _Stored, hidden: ir.Value, bias: ir.Value | None) -> ir.Value:
        inputs: list[ir.Value | None] = [hidden, *matrix.values]
        if bias is not None:
            inputs += [None] * (5 - len(inputs)) + [bias]
        return self._op(
            "MatMulNBits",
            *inputs,
            domain=CONTRIB,
            N=matrix.rows,
            K=matrix.columns,
            bits=matrix.bits,
            block_size=matrix.block,
            accuracy_level=_ACCURACY_LEVEL,
        )

    def _initializers(self, matrix: StoredMatrix) -> _Stored:
        layout = matrix.layout
        values = [
            self._tape.initializer(self._weights.tensor(region)) for region in matrix.operands
        ]
        return _Stored(values, layout.rows, layout.columns, layout.bits, layout.block)

    def _add_norm(
        self, update: ir.Value, hidden: ir.Value, weight: str
    ) -> tuple[ir.Value, ir.Value]:
        """The residual sum's norm, and the sum itself."""
        outputs = self._tape.op_multi_out(
            "SkipSimplifiedLayerNormalization",
            [update, hidden, self._float(weight)],
            {"epsilon": self._arch.norm_eps},
            num_outputs=4,
            domain=CONTRIB,
        )
        outputs[1].name = outputs[2].name = ""
        return outputs[0], outputs[3]

    def _from(self, start: ir.Value, values: ir.Value) -> ir.Value:
        """The last positions of (batch, sequence, width)."""
        end, axis = self._constant("int64_max", _INT64_MAX), self._constant("axis_1", 1)
        return self._op("Slice", values, start, end, axis)

    def _float(self, name: str) -> ir.Value:
        return self._tape.initializer(ir.tensor(self._source.read(name), name=name))

    def _constant(self, name: str, *values: int) -> ir.Value:
        """An int64 vector, written once."""
        return self._once(name, np.array(values, np.int64))

    def _scalar(self, name: str, value: float) -> ir.Value:
        return self._once(name, np.array(value, np.float32))

    def _once(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        if name not in self._constants:
            self._constants[name] = self._tape.initializer(ir.tensor(array, name=name))
        return self._constants[name]

    def _op(
        self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: float
    ) -> ir.Value:
        return self._tape.op(kind, inputs, attributes, domain=domain)

    def _output(self, value: ir.Value, name: str, *shape: int | str) -> None:
        value.name = name
        value.dtype = ir.DataType.FLOAT
        value.shape = ir.Shape(shape)
        self._outputs.append(value)


def _input(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
