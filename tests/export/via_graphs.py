"""Decoder graphs as other exporters write them, small enough to compute by hand in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
VOCABULARY = 264  # of the tiny tokenizer
CONTEXT = 64
_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64


class Weights:
    """Random weights of a one-layer toy: embedding, positions, output matrix and its bias."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed).standard_normal
        self.embedding = draw((VOCABULARY, WIDTH)).astype(np.float32)
        self.places = draw((CONTEXT, WIDTH)).astype(np.float32)
        self.head = draw((WIDTH, VOCABULARY)).astype(np.float32)
        self.bias = draw(VOCABULARY).astype(np.float32)


def growing(weights: Weights, head: str = "MatMul") -> onnx.ModelProto:
    """As optimum writes it: the KV cache grows by Concat, positions are an input.

    The logits of a token: head(embedding + place + sum of the embeddings in the KV cache).
    With `head` "Gemm" the output matrix stands behind a Reshape, where no edit can reach it.
    """
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["tokens"]),
        helper.make_node("Gather", ["places", "position_ids"], ["where"]),
        helper.make_node("Unsqueeze", ["tokens", "one"], ["new"]),
        *(
            helper.make_node(
                "Concat", [f"past_key_values.0.{part}", "new"], [f"present.0.{part}"], axis=2
            )
            for part in ("key", "value")
        ),
        helper.make_node("ReduceSum", ["present.0.value", "two"], ["summed"], keepdims=0),
        helper.make_node("Add", ["tokens", "where"], ["placed"]),
        helper.make_node("Add", ["placed", "summed"], ["hidden"]),
        *_head(head),
    ]
    cache = ["batch", 1, "past", WIDTH]
    inputs = [
        _value("input_ids", _INT, ["batch", "sequence"]),
        _value("attention_mask", _INT, ["batch", "total"]),
        _value("position_ids", _INT, ["batch", "sequence"]),
        *(_value(f"past_key_values.0.{part}", _FLOAT, cache) for part in ("key", "value")),
    ]
    arrays = {
        "embedding": weights.embedding,
        "places": weights.places,
        "head": weights.head,
        "bias": weights.bias,
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "flat": np.array([-1, WIDTH], np.int64),
        "deep": np.array([1, -1, VOCABULARY], np.int64),
    }
    return _model(nodes, inputs, arrays)


def sharing(weights: Weights) -> onnx.ModelProto:
    """As the model builder writes it: GroupQueryAttention writes into the KV buffer itself."""
    attention = ["tokens", "tokens", "tokens"]
    past = [f"past_key_values.0.{part}" for part in ("key", "value")]
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["tokens"]),
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["counted"], keepdims=0),
        helper.make_node("Sub", ["counted", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["seqlens"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["mask_shape"]),
        helper.make_node("Gather", ["mask_shape", "first"], ["total_long"]),
        helper.make_node("Cast", ["total_long"], ["total_length"], to=TensorProto.INT32),
        helper.make_node(
            "GroupQueryAttention",
            [*attention, *past, "seqlens", "total_length"],
            ["hidden", "present.0.key", "present.0.value"],
            domain="com.microsoft",
            num_heads=1,
            kv_num_heads=1,
        ),
        *_head("MatMul"),
    ]
    cache = ["batch", 1, "past", "size"]
    inputs = [
        _value("input_ids", _INT, ["batch", "sequence"]),
        _value("attention_mask", _INT, ["batch", "total"]),
        *(_value(name, _FLOAT, cache) for name in past),
    ]
    arrays = {
        "embedding": weights.embedding,
        "head": weights.head,
        "bias": weights.bias,
        "one": np.array([1], np.int64),
        "first": np.array(1, np.int64),
    }
    return _model(nodes, inputs, arrays)


def growing_logits(weights: Weights, chunks: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """What `growing` gives for the last chunk after the others, (tokens, vocab)."""
    before = [token for chunk in chunks for token in chunk]
    last = chunks[-1]
    places = weights.places[len(before) - len(last) : len(before)]
    hidden = weights.embedding[list(last)] + places + weights.embedding[before].sum(axis=0)
    logits: NDArray[np.float32] = hidden @ weights.head + weights.bias
    return logits


def sharing_logits(weights: Weights, tokens: Sequence[int]) -> NDArray[np.float32]:
    """What `sharing` gives for each token of a text, (tokens, vocab)."""
    values = weights.embedding[list(tokens)]
    scores = values @ values.T / np.sqrt(WIDTH)
    scores = np.where(np.tri(len(tokens), dtype=bool), scores, -np.inf)
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    hidden = chances / chances.sum(axis=1, keepdims=True) @ values
    logits: NDArray[np.float32] = hidden @ weights.head + weights.bias
    return logits


def _head(kind: str) -> list[onnx.NodeProto]:
    if kind == "MatMul":
        return [
            helper.make_node("MatMul", ["hidden", "head"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ]
    return [
        helper.make_node("Reshape", ["hidden", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "head", "bias"], ["flat_logits"]),
        helper.make_node("Reshape", ["flat_logits", "deep"], ["logits"]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    arrays: dict[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    cache = ["batch", 1, "total", WIDTH]
    outputs = [
        _value("logits", _FLOAT, ["batch", "sequence", VOCABULARY]),
        *(_value(f"present.0.{part}", _FLOAT, cache) for part in ("key", "value")),
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(a, name) for name, a in arrays.items() if name in used]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
