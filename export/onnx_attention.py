"""Grouped-query attention in an ONNX graph: rotary tables, positions, windows, the KV cache.

onnxruntime's GroupQueryAttention does the work, rotary embedding included.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ondevice.errors import ExportError
from ondevice.export import rotary
from ondevice.export.architecture import Architecture, LongRope, Rope
from ondevice.export.external_data import ExternalData
from ondevice.export.nodes import CONTRIB, Nodes, graph_input

_STEP = 16  # of the dimensions of a head, and of those that are rotated


def check_attention(arch: Architecture) -> None:
    """Raise `ExportError` for shapes that GroupQueryAttention does not take."""
    ropes = (arch.rope_of(layer) for layer in range(arch.layers))
    for dimensions in (arch.head_dim, *(rope.dim for rope in ropes if rope is not None)):
        if dimensions % _STEP:
            raise ExportError(
                f"attention heads of {dimensions} dimensions cannot be exported: onnxruntime's "
                f"GroupQueryAttention wants a multiple of {_STEP}"
            )


class Attention:
    """Emits the attention of each layer of one decoder."""

    def __init__(self, nodes: Nodes, arch: Architecture, weights: ExternalData) -> None:
        self._nodes = nodes
        self._arch = arch
        self._weights = weights
        self._tables: dict[Rope, tuple[ir.Value, ir.Value]] = {}

    def begin(self, mask: ir.Value, input_ids: ir.Value) -> None:
        """Emit what all layers share, from the graph's inputs."""
        self._lengths = self._sequence_lengths(mask)
        for layer in range(self._arch.layers):
            rope = self._arch.rope_of(layer)
            if rope is not None and rope not in self._tables:
                self._tables[rope] = self._rotary_tables(rope)
        self._position_ids = self._positions(mask, input_ids)

    def past(self, layer: int) -> tuple[ir.Value, ir.Value]:
        """The layer's KV cache as an input."""
        shape = ("batch", self._arch.kv_heads, "past_sequence", self._arch.head_dim)
        key, value = (
            graph_input(f"past_key_values.{layer}.{part}", ir.DataType.FLOAT, *shape)
            for part in ("key", "value")
        )
        return key, value

    def attend(
        self, layer: int, projected: list[ir.Value], past: tuple[ir.Value, ir.Value]
    ) -> ir.Value:
        """Attention (batch, sequence, heads * head_dim) of projected queries, keys, values."""
        arch = self._arch
        inputs: list[ir.Value | None] = [*projected, *past, *self._lengths]
        rope = arch.rope_of(layer)
        if rope is not None:
            inputs += self._tables[rope]
            if isinstance(rope.scaling, LongRope) and self._position_ids is not None:
                inputs.append(self._position_ids)
        attributes = {
            "num_heads": arch.heads,
            "kv_num_heads": arch.kv_heads,
            "scale": arch.score_scale,
            "do_rotary": int(rope is not None),
            "rotary_interleaved": 0,
            "local_window_size": arch.window_of(layer) or -1,
        }
        if arch.attention_softcap:
            attributes["softcap"] = arch.attention_softcap
        attention, key, value = self._nodes.several(
            "GroupQueryAttention", inputs, attributes, 3, CONTRIB
        )
        shape = ("batch", arch.kv_heads, "total_sequence", arch.head_dim)
        self._nodes.output(key, f"present.{layer}.key", *shape)
        self._nodes.output(value, f"present.{layer}.value", *shape)
        return attention

    def _sequence_lengths(self, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Total length of each sequence less one, and of the batch, as the attention wants."""
        nodes = self._nodes
        summed = nodes.op("ReduceSum", mask, nodes.integers("axis_1", 1), keepdims=0)
        less_one = nodes.op("Sub", summed, nodes.integers("one", 1))
        total = nodes.op("Squeeze", nodes.op("Shape", mask, start=1, end=2))
        return (
            nodes.op("Cast", less_one, to=ir.DataType.INT32),
            nodes.op("Cast", total, to=ir.DataType.INT32),
        )

    def _rotary_tables(self, rope: Rope) -> tuple[ir.Value, ir.Value]:
        cos, sin = rotary.stacked_tables(rope, self._arch.context_length)
        name = "rotary" if rope == self._arch.rope else "local_rotary"
        return (
            self._nodes.initializer(self._weights.add(f"{name}.cos", cos)),
            self._nodes.initializer(self._weights.add(f"{name}.sin", sin)),
        )

    def _positions(self, mask: ir.Value, input_ids: ir.Value) -> ir.Value | None:
        """Rows of LongRoPE's tables (batch, sequence): the long ones follow the short ones.

        None where one table does for every length: the attention counts by itself then.
        """
        switch = self._arch.rope_switch
        if switch is None:
            return None
        nodes = self._nodes
        one = nodes.integers("one", 1)
        counted = nodes.op("Sub", nodes.op("CumSum", mask, nodes.array("axis", np.array(1))), one)
        length = nodes.op("Shape", input_ids, start=1, end=2)
        positions = nodes.last(nodes.op("Neg", length), counted)
        longest = nodes.op("Shape", mask, start=1, end=2)
        first_long = nodes.integers("rope_switch", switch)
        is_long = nodes.op("Greater", longest, first_long)
        offset = nodes.op("Mul", nodes.op("Cast", is_long, to=ir.DataType.INT64), first_long)
        padding = nodes.op("Max", positions, nodes.integers("zero", 0))
        return nodes.op("Add", padding, offset)
