"""A decoder graph of another exporter, brought to the package's contract (docs/package.md).

Edits only the graph's rim: `num_logits` in front of the output matrix, positions computed from
the mask, KV buffers of a fixed length around a graph that lets its KV cache grow.
Knows operators and names, nothing about the tool that wrote the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ondevice.errors import ExportError
from ondevice.export.external_data import ExternalData
from ondevice.export.onnx_graph import DATA_FILE
from ondevice.package import ONNX_MODEL

_INT64_MAX = int(np.iinfo(np.int64).max)
_INLINE = 1024  # bytes of a tensor that stays in the graph's own file
_STORED = (ir.DataType.FLOAT, ir.DataType.UINT8)
_INTEGERS = ("input_ids", "attention_mask", "position_ids")
_SHARED_BUFFER = "GroupQueryAttention"  # writes into the past's buffer by itself
_HEADS = ("MatMul", "MatMulNBits", "FusedMatMul")
_ELEMENTWISE = ("Add", "Mul", "Div", "Sub", "Tanh", "Cast", "Where", "Identity")


@dataclass(frozen=True)
class CacheShape:
    """Sizes of the KV cache, the same in every layer."""

    layers: int
    kv_heads: int
    head_dim: int


def load_graph(path: Path) -> ir.Model:
    """Read a graph; weights stay in their files. Raises `ExportError` for what is none."""
    try:
        return ir.load(path)
    except Exception as error:  # protobuf's and onnx's classes have no common base
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(f"{path.name} of the other exporter cannot be read: {reason}") from error


def save_graph(model: ir.Model, folder: Path) -> None:
    """Write `model.onnx` and `model.onnx.data`, every large tensor at the start of a page."""
    with ExternalData(folder / DATA_FILE) as weights:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            assert tensor is not None
            if tensor.nbytes >= _INLINE and tensor.dtype in _STORED:
                value.const_value = weights.add(name, tensor.numpy())
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(np.array(tensor.numpy()), name=name)
        model.producer_name = "ondevice"
        ir.save(model, folder / ONNX_MODEL)


def to_contract(model: ir.Model, vocab_size: int, cache: CacheShape) -> None:
    """Edit a decoder's graph in place until the runtime can drive it.

    Raises `ExportError` for inputs or outputs that the runtime does not know, such as the
    states of a recurrent layer.
    """
    graph = model.graph
    _require_names(graph, cache)
    edit = _Edit(graph)
    edit.positions()
    for layer, part in product(range(cache.layers), ("key", "value")):
        edit.kv_buffer(f"{layer}.{part}", cache)
    edit.num_logits(vocab_size)
    graph.sort()


def cache_shape(model: ir.Model) -> CacheShape:
    """Sizes of the KV cache as the graph declares them; raises `ExportError` if it does not."""
    past = [value for value in model.graph.inputs if _name(value).startswith("past_key_values.")]
    shapes = {tuple(value.shape)[1::2] for value in past if value.shape is not None}
    sizes = next(iter(shapes), ())
    if len(shapes) != 1 or not all(isinstance(size, int) for size in sizes):
        raise ExportError(
            "the other exporter's graph does not say how many KV heads of which size all its "
            "layers have; this model cannot be packaged"
        )
    kv_heads, head_dim = (int(size) for size in sizes)  # type: ignore[arg-type]
    return CacheShape(len(past) // 2, kv_heads, head_dim)


def _require_names(graph: ir.Graph, cache: CacheShape) -> None:
    kinds = [f"{layer}.{part}" for layer in range(cache.layers) for part in ("key", "value")]
    inputs = {"input_ids", "attention_mask", *(f"past_key_values.{kind}" for kind in kinds)}
    outputs = {"logits", *(f"present.{kind}" for kind in kinds)}
    found_inputs = {_name(value) for value in graph.inputs}
    found_outputs = {_name(value) for value in graph.outputs}
    unknown = sorted((found_inputs - inputs - {"position_ids"}) | (found_outputs - outputs))
    missing = sorted((inputs - found_inputs) | (outputs - found_outputs))
    if unknown or missing:
        what = f"has {unknown[0]}" if unknown else f"lacks {missing[0]}"
        raise ExportError(
            f"the other exporter's graph {what}, so the runtime cannot drive it: it knows "
            "decoders with a KV cache in every layer"
        )
    floats = [value for value in (*graph.inputs, *graph.outputs) if _name(value) not in _INTEGERS]
    wrong = [value for value in floats if value.dtype is not ir.DataType.FLOAT]
    if wrong:
        raise ExportError(f"{_name(wrong[0])} of the other exporter's graph is not float32")


class _Edit:
    """Adds nodes and constants to one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._inputs = {_name(value): value for value in graph.inputs}
        self._constants: dict[int, ir.Value] = {}
        self._count = 0
        ids, mask = self._inputs["input_ids"], self._inputs["attention_mask"]
        self._new = self._op("Shape", ids, start=1, end=2)
        self._total = self._op("Shape", mask, start=1, end=2)

    def positions(self) -> None:
        """Replace an input `position_ids` by what the mask says: tokens before each one."""
        given = self._inputs.pop("position_ids", None)
        if given is None:
            return
        axis = self._constant(1)
        counted = self._op("CumSum", self._inputs["attention_mask"], axis)
        ordered = self._op("Sub", counted, axis)
        start = self._op("Neg", self._new)
        computed = self._op("Slice", ordered, start, self._constant(_INT64_MAX), axis)
        given.replace_all_uses_with(computed)
        self._graph.inputs.remove(given)

    def kv_buffer(self, kind: str, cache: CacheShape) -> None:
        """Let one past input be a buffer longer than what is in it, and present the same buffer.

        A graph that appends to its KV cache sees only the filled part; what it gives is laid
        over the buffer. That copies the buffer once a step.
        """
        past = self._inputs[f"past_key_values.{kind}"]
        position = self._output_index(f"present.{kind}")
        present = self._graph.outputs[position]
        past.shape = ir.Shape(("batch", cache.kv_heads, "past_sequence", cache.head_dim))
        shape = ir.Shape(("batch", cache.kv_heads, "total_sequence", cache.head_dim))
        producer = present.producer()
        if producer is not None and producer.op_type == _SHARED_BUFFER:
            present.shape = shape
            return
        axis = self._constant(2)
        before = self._op("Sub", self._total, self._new)
        filled = self._op("Slice", past, self._constant(0), before, axis)
        for node, index in tuple(past.uses()):
            if node is not filled.producer():
                node.replace_input_with(index, filled)
        rest = self._op("Slice", past, self._total, self._constant(_INT64_MAX), axis)
        name, present.name = _name(present), f"{_name(present)}.filled"
        whole = self._op("Concat", present, rest, axis=2)
        whole.name, whole.dtype, whole.shape = name, ir.DataType.FLOAT, shape
        self._graph.outputs[position] = whole

    def num_logits(self, vocab_size: int) -> None:
        """Compute logits only for the last `num_logits` positions, an input with a default."""
        default = ir.tensor(np.array([1], np.int64), name="num_logits")
        count = ir.Value(
            name="num_logits",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape((1,)),
            const_value=default,
        )
        self._graph.inputs.append(count)
        self._graph.register_initializer(count)
        start = self._op("Neg", count)
        rest = (start, self._constant(_INT64_MAX), self._constant(1))
        position = self._output_index("logits")
        logits = self._graph.outputs[position]
        head, between = _head(logits)
        if head is None:  # slower, and no hidden states to give
            logits.name = "logits.all"
            last = self._op("Slice", logits, *rest)
            last.name, last.dtype = "logits", ir.DataType.FLOAT
            self._graph.outputs[position] = logits = last
        else:
            seen = head.inputs[0]
            assert seen is not None
            hidden = self._op("Slice", seen, *rest)
            head.replace_input_with(0, hidden)
            for value in between:
                value.shape = None
            self._give_hidden(hidden, seen)
        logits.shape = ir.Shape(("batch", 1, vocab_size))

    def _give_hidden(self, hidden: ir.Value, seen: ir.Value) -> None:
        width = seen.shape[-1] if seen.shape is not None else "hidden_size"
        hidden.name, hidden.dtype = "hidden_states", ir.DataType.FLOAT
        hidden.shape = ir.Shape(("batch", "num_logits", width))
        self._graph.outputs.append(hidden)

    def _output_index(self, name: str) -> int:
        return next(i for i, value in enumerate(self._graph.outputs) if value.name == name)

    def _constant(self, value: int) -> ir.Value:
        """An int64 vector of one number, written once."""
        if value not in self._constants:
            name = f"ondevice.constant_{value}"
            tensor = ir.tensor(np.array([value], np.int64), name=name)
            made = ir.Value(name=name, const_value=tensor, shape=ir.Shape((1,)))
            made.dtype = ir.DataType.INT64
            self._graph.register_initializer(made)
            self._constants[value] = made
        return self._constants[value]

    def _op(self, kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        self._count += 1
        node = ir.node(kind, inputs, attributes=attributes, name=f"ondevice.{self._count}")
        self._graph.append(node)
        node.outputs[0].name = f"ondevice.{self._count}.{kind}"
        return node.outputs[0]


def _head(logits: ir.Value) -> tuple[ir.Node | None, Sequence[ir.Value]]:
    """The product with the output matrix, and the values from it to the logits.

    Between them may stand operators that treat every position alike: bias, scale, soft cap.
    """
    value, between = logits, [logits]
    while (node := value.producer()) is not None:
        moving = [v for v in node.inputs if v is not None and not _is_constant(v)]
        if len(moving) != 1:
            break
        if node.op_type in _HEADS and moving[0] is node.inputs[0]:
            return node, between
        if node.op_type not in _ELEMENTWISE:
            break
        value = moving[0]
        between.append(value)
    return None, ()


def _is_constant(value: ir.Value) -> bool:
    if value.is_initializer():
        return True
    node = value.producer()
    return node is not None and all(v is None or _is_constant(v) for v in node.inputs)


def _name(value: ir.Value) -> str:
    return value.name or ""
