"""One static graph of a decoder in operators of ai.onnx alone: T tokens after up to L before.

Arithmetic outside the matrices stays float (fp16 on an NPU that has it): single activations of
the residual stream are thousands of times the others and would leave 16 bits nothing for them.
Tanh, Sqrt, Sub and Transpose are spelled in operators that all providers list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ondevice.errors import ExportError
from ondevice.export import rotary
from ondevice.export.architecture import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    Architecture,
    Rope,
    layer_tensor,
)
from ondevice.export.external_data import Region
from ondevice.export.nodes import Nodes, graph_input
from ondevice.export.npu.stored import Weights

_INTEGERS: dict[int, type[np.generic]] = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class Shape:
    """tokens: run at a time. context: tokens before them that the KV cache holds."""

    tokens: int
    context: int


def check_architecture(arch: Architecture, context: int) -> None:
    """Raise `ExportError` for what static graphs cannot say."""
    windows = [arch.window_of(layer) for layer in range(arch.layers)]
    narrow = [window for window in windows if 0 < window < context]
    if narrow:
        raise ExportError(
            f"a sliding window of {narrow[0]} tokens is narrower than the context of {context}; "
            f"choose --context {narrow[0]} or less"
        )


def static_model(weights: Weights, shape: Shape) -> ir.Model:
    """The graph; matrices are written into the data file when they are not there yet."""
    return _Decoder(weights, shape).model()


class _Decoder:
    def __init__(self, weights: Weights, shape: Shape) -> None:
        self._weights = weights
        self._arch = weights.source.architecture
        self._shape = shape
        self._nodes = Nodes()
        self._rounded: dict[tuple[ir.Value, str], ir.Value] = {}
        self._gathered: dict[str, list[ir.Value]] = {}

    def model(self) -> ir.Model:
        arch, nodes, tokens = self._arch, self._nodes, self._shape.tokens
        ids = graph_input("input_ids", ir.DataType.INT32, tokens)
        self._positions = graph_input("position_ids", ir.DataType.INT32, tokens)
        seen = self._shape.context + tokens
        self._mask = graph_input("attention_mask", ir.DataType.FLOAT, tokens, seen)
        size = (arch.kv_heads, self._shape.context, arch.head_dim)
        past = [
            tuple(
                graph_input(f"past_key_values.{layer}.{part}", ir.DataType.FLOAT, *size)
                for part in ("key", "value")
            )
            for layer in range(arch.layers)
        ]
        hidden = self._embed(ids)
        for layer in range(arch.layers):
            hidden = self._layer(layer, hidden, past[layer][0], past[layer][1])
        normed = self._norm(hidden, FINAL_NORM)
        logits = self._capped(self._head(normed), arch.logit_softcap)
        nodes.output(logits, "logits", tokens, arch.vocab_size)
        inputs = [ids, self._positions, self._mask, *(value for pair in past for value in pair)]
        return nodes.model(inputs, arch.name)

    def _embed(self, ids: ir.Value) -> ir.Value:
        stored = self._weights.matrix(EMBEDDING)
        rows = self._nodes.op("Gather", self._tensor(stored.values), ids, axis=0)
        if stored.scales is not None:
            scales = self._nodes.op("Gather", self._tensor(stored.scales), ids, axis=0)
            rows = self._nodes.op("Cast", rows, to=ir.DataType.FLOAT)
            rows = self._nodes.op("Mul", rows, self._reshape(scales, -1, 1))
        return self._scaled(rows, self._arch.embedding_scale)

    def _layer(self, layer: int, hidden: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value:
        arch = self._arch
        attention = self._attend(
            layer, self._norm(hidden, layer_tensor(layer, "input_layernorm.weight")), key, value
        )
        update = self._linear(layer, "self_attn.o_proj", attention)
        update = self._post(layer, "post_attention_layernorm", update)
        hidden = self._nodes.op("Add", hidden, update)
        normed = self._norm(hidden, layer_tensor(layer, f"{arch.mlp_norm}.weight"))
        gate = self._activated(self._linear(layer, "mlp.gate_proj", normed))
        up = self._linear(layer, "mlp.up_proj", normed)
        update = self._linear(layer, "mlp.down_proj", self._nodes.op("Mul", gate, up))
        update = self._post(layer, "post_feedforward_layernorm", update)
        return self._nodes.op("Add", hidden, update)

    def _attend(self, layer: int, normed: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value:
        """Attention (tokens, heads * head_dim); query heads of a KV head are a group (Ainslie)."""
        arch, nodes = self._arch, self._nodes
        kv_heads, width = arch.kv_heads, arch.head_dim
        query, new_key, new_value = (
            self._linear(layer, f"self_attn.{part}_proj", normed) for part in "qkv"
        )
        query = self._reshape(query, -1, kv_heads, arch.heads // kv_heads, width)
        new_key = self._reshape(new_key, -1, kv_heads, width)
        new_value = self._reshape(new_value, -1, kv_heads, width)
        if arch.qk_norm:
            query = self._norm(query, layer_tensor(layer, "self_attn.q_norm.weight"))
            new_key = self._norm(new_key, layer_tensor(layer, "self_attn.k_norm.weight"))
        query, new_key = self._rotate(layer, query, 2), self._rotate(layer, new_key, 1)
        new_key = nodes.op("Einsum", new_key, equation="tkd->ktd")
        new_value = nodes.op("Einsum", new_value, equation="tkd->ktd")
        nodes.output(new_key, f"present.{layer}.key", kv_heads, self._shape.tokens, width)
        nodes.output(new_value, f"present.{layer}.value", kv_heads, self._shape.tokens, width)
        keys = nodes.op("Concat", key, new_key, axis=1)
        values = nodes.op("Concat", value, new_value, axis=1)
        scores = nodes.op("Einsum", query, keys, equation="tkgd,ksd->kgts")
        scores = self._scaled(scores, arch.score_scale)
        scores = nodes.op("Add", self._capped(scores, arch.attention_softcap), self._mask)
        shares = nodes.op("Softmax", scores, axis=-1)
        context = nodes.op("Einsum", shares, values, equation="kgts,ksd->tkgd")
        return self._reshape(context, -1, arch.heads * width)

    def _rotate(self, layer: int, values: ir.Value, middle: int) -> ir.Value:
        """Rotate (tokens, ..., head_dim), with `middle` axes of heads between."""
        rope = self._arch.rope_of(layer)
        if rope is None:
            return values
        nodes, half = self._nodes, rope.dim // 2
        name = "rotary" if rope == self._arch.rope else "local_rotary"
        cos, sin, negative = (
            self._reshape(part, -1, *(1,) * middle, half) for part in self._angles(name, rope)
        )
        low, high = self._slice(values, 0, half), self._slice(values, half, rope.dim)
        turned = [
            nodes.op("Add", nodes.op("Mul", low, cos), nodes.op("Mul", high, negative)),
            nodes.op("Add", nodes.op("Mul", high, cos), nodes.op("Mul", low, sin)),
        ]
        if rope.dim < self._arch.head_dim:
            turned.append(self._slice(values, rope.dim, self._arch.head_dim))
        return nodes.op("Concat", *turned, axis=-1)

    def _angles(self, name: str, rope: Rope) -> list[ir.Value]:
        """Cosines, sines and negative sines (tokens, dim / 2) of the positions."""
        if name not in self._gathered:
            cos, sin = rotary.tables(rope, self._shape.context + self._shape.tokens)
            self._gathered[name] = [
                self._nodes.op(
                    "Gather", self._nodes.array(f"{name}.{part}", table), self._positions, axis=0
                )
                for part, table in (("cos", cos), ("sin", sin), ("negative_sin", -sin))
            ]
        return self._gathered[name]

    def _linear(self, layer: int, name: str, hidden: ir.Value) -> ir.Value:
        return self._product(layer_tensor(layer, name), hidden)

    def _head(self, normed: ir.Value) -> ir.Value:
        if self._arch.tied_embeddings:
            return self._product(EMBEDDING.removesuffix(".weight"), normed, HEAD)
        return self._product(HEAD.removesuffix(".weight"), normed)

    def _product(self, stem: str, hidden: ir.Value, input_of: str | None = None) -> ir.Value:
        """x W^T + b; `input_of` is the matrix whose calibrated range the input has."""
        nodes, name, bias = self._nodes, f"{stem}.weight", f"{stem}.bias"
        stored = self._weights.matrix(name)
        weight = self._tensor(stored.values)
        if stored.scales is not None:
            weight = nodes.op("DequantizeLinear", weight, self._tensor(stored.scales), axis=0)
            hidden = self._round(hidden, input_of or name)
        inputs = [hidden, weight]
        if bias in self._arch.tensor_shapes():
            inputs.append(nodes.array(bias, self._weights.source.read(bias)))
        return nodes.op("Gemm", *inputs, transB=1)

    def _round(self, hidden: ir.Value, name: str) -> ir.Value:
        """Through integers and back, by the calibrated range of a matrix's input."""
        how = self._weights.activation(name)
        assert how is not None
        key = (hidden, f"{how.scale}/{how.zero_point}")
        if key not in self._rounded:
            nodes = self._nodes
            scale = nodes.array(f"{name}.input_scale", np.array(how.scale, np.float32))
            kind = _INTEGERS[how.bits]
            zero = nodes.array(f"{name}.input_zero_point", np.array(how.zero_point, kind))
            integers = nodes.op("QuantizeLinear", hidden, scale, zero)
            self._rounded[key] = nodes.op("DequantizeLinear", integers, scale, zero)
        return self._rounded[key]

    def _norm(self, hidden: ir.Value, name: str) -> ir.Value:
        nodes = self._nodes
        square = nodes.op("Mul", hidden, hidden)
        mean = nodes.op("ReduceMean", square, nodes.integers("last_axis", -1), keepdims=1)
        shifted = nodes.op("Add", mean, nodes.scalar("epsilon", self._arch.norm_eps))
        inverse = nodes.op("Pow", shifted, nodes.scalar("minus_half", -0.5))
        normed = nodes.op("Mul", hidden, inverse)
        return nodes.op("Mul", normed, nodes.array(name, self._weights.norm(name)))

    def _post(self, layer: int, name: str, update: ir.Value) -> ir.Value:
        if not self._arch.post_norms:
            return update
        return self._norm(update, layer_tensor(layer, f"{name}.weight"))

    def _activated(self, gate: ir.Value) -> ir.Value:
        """SiLU, or GELU's tanh form: x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
        nodes = self._nodes
        inner = gate
        if self._arch.activation == "gelu_tanh":
            square = nodes.op("Mul", gate, gate)
            cubic = nodes.op("Mul", square, nodes.scalar("gelu_cubic", 0.044715))
            inner = nodes.op("Mul", gate, nodes.op("Add", cubic, nodes.scalar("one_float", 1.0)))
            inner = self._scaled(inner, 2 * math.sqrt(2 / math.pi))
        return nodes.op("Mul", gate, nodes.op("Sigmoid", inner))

    def _capped(self, values: ir.Value, cap: float) -> ir.Value:
        """c tanh(x / c), tanh(u) being 2 sigmoid(2 u) - 1."""
        if not cap:
            return values
        nodes = self._nodes
        share = nodes.op("Sigmoid", self._scaled(values, 2 / cap))
        return nodes.op("Add", self._scaled(share, 2 * cap), nodes.scalar(f"minus_{cap:g}", -cap))

    def _scaled(self, values: ir.Value, factor: float) -> ir.Value:
        if factor == 1:
            return values
        return self._nodes.op("Mul", values, self._nodes.scalar(f"factor_{factor:.9g}", factor))

    def _reshape(self, values: ir.Value, *shape: int) -> ir.Value:
        name = "shape_" + "_".join(map(str, shape))
        return self._nodes.op("Reshape", values, self._nodes.integers(name, *shape))

    def _slice(self, values: ir.Value, start: int, stop: int) -> ir.Value:
        """Some of the last axis."""
        ends = [self._nodes.integers(f"at_{place}", place) for place in (start, stop)]
        return self._nodes.op("Slice", values, *ends, self._nodes.integers("last_axis", -1))

    def _tensor(self, region: Region) -> ir.Value:
        return self._nodes.external(self._weights.data.tensor(region))
