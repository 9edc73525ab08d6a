"""A package's graph run layer by layer, so that no more than one layer is in memory.

The graph is cut behind the norm at each layer's end; what crosses a cut goes on as arrays.
Knows the names in our graphs (`export/onnx_graph.py`), nothing of proofs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ondevice.export.architecture import FINAL_NORM, layer_tensor
from ondevice.package import Package
from ondevice.runtime.device import usable_cores
from ondevice.runtime.ort import open_graph

_Floats = NDArray[np.float32]
_Values = dict[str, NDArray[Any]]
_SUM = 3  # the output of SkipSimplifiedLayerNormalization that is the residual sum


@dataclass(frozen=True)
class _Part:
    """Some nodes of a graph, what they take and what is taken of them.

    residual: the name of the residual stream after them, "" where there is none.
    """

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    residual: str


class LayeredPackage:
    """Sequences of tokens on their way through a package, all of them one layer at a time.

    Each starts from an empty KV cache. Raises `ValueError` for a graph that is not one of ours.
    """

    def __init__(self, package: Package, windows: Sequence[Sequence[int]]) -> None:
        self._package = package
        self._model = onnx.load(str(package.model_file), load_external_data=False)
        first, *self._layers, self._head = _cut(self._model.graph, package.manifest.shape.layers)
        self._values = [_inputs(package, window) for window in windows]
        self._advance(first)
        self._head_session: Any = None

    def next_layer(self) -> list[_Floats]:
        """The residual stream (tokens, hidden) of each window after the next layer."""
        part = self._layers.pop(0)
        self._advance(part)
        return [values[part.residual][0] for values in self._values]

    def logits(self, window: int, rows: slice) -> _Floats:
        """Logits (rows, vocab) of some positions of a window, after the last layer."""
        if self._head_session is None:
            self._head_session = self._open(self._head)
        feeds = {name: self._values[window][name][:, rows] for name in self._head.inputs}
        found: _Floats = self._head_session.run(["logits"], feeds)[0][0]
        return found

    def _advance(self, part: _Part) -> None:
        """Run some nodes on every window; keep what is needed later."""
        session = self._open(part)
        later = {name for rest in (*self._layers, self._head) for name in rest.inputs}
        for index, values in enumerate(self._values):
            found = session.run(part.outputs, {name: values[name] for name in part.inputs})
            values |= dict(zip(part.outputs, found, strict=True))
            kept = later | {part.residual}
            self._values[index] = {name: values[name] for name in values if name in kept}

    def _open(self, part: _Part) -> Any:
        """A session of some nodes; element types are those of the arrays that they get."""
        used = {name for node in part.nodes for name in node.input}
        weights = [tensor for tensor in self._model.graph.initializer if tensor.name in used]
        graph = onnx.GraphProto(name=self._model.graph.name, node=part.nodes)
        graph.initializer.extend(t for t in weights if t.name not in part.inputs)
        for name in part.inputs:
            kind = onnx.helper.np_dtype_to_tensor_dtype(self._values[0][name].dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in part.outputs)
        model = onnx.ModelProto(
            ir_version=self._model.ir_version, opset_import=self._model.opset_import, graph=graph
        )
        return open_graph(model.SerializeToString(), self._package.folder, usable_cores())


def _cut(graph: onnx.GraphProto, layers: int) -> list[_Part]:
    """Embedding, each layer, output matrix."""
    given = {value.name for value in graph.input}
    stored = {tensor.name for tensor in graph.initializer} - given
    folded = {node.output[0]: node for node in graph.node if stored.issuperset(node.input)}
    nodes = [node for node in graph.node if node.output[0] not in folded]
    norms = [layer_tensor(layer, "input_layernorm.weight") for layer in range(layers)]
    ends = [_index(nodes, name) + 1 for name in (*norms, FINAL_NORM)]
    bounds = [0, *ends, len(nodes)]
    return [_part(nodes, start, stop, stored, folded) for start, stop in itertools.pairwise(bounds)]


def _index(nodes: Sequence[onnx.NodeProto], weight: str) -> int:
    for index, node in enumerate(nodes):
        if weight in node.input:
            return index
    raise ValueError(weight)


def _part(
    nodes: Sequence[onnx.NodeProto],
    start: int,
    stop: int,
    stored: set[str],
    folded: Mapping[str, onnx.NodeProto],
) -> _Part:
    """Nodes from `start` to `stop`, and those that only look at weights where they are used."""
    inside = nodes[start:stop]
    wanted = dict.fromkeys(name for node in inside for name in node.input if name in folded)
    inside = [*(folded[name] for name in wanted), *inside]
    made = {name for node in inside for name in node.output if name}
    used = {name for node in inside for name in node.input if name}
    later = {name for node in nodes[stop:] for name in node.input if name}
    end = inside[-1]
    residual = ""
    if end.op_type == "SkipSimplifiedLayerNormalization":
        residual = end.output[_SUM]
    outputs = (later & made) | ({residual} if residual else set())
    if stop == len(nodes):
        outputs = {"logits"}
    inputs = used - made - stored
    return _Part(tuple(inside), tuple(sorted(inputs)), tuple(sorted(outputs)), residual)


def _inputs(package: Package, window: Sequence[int]) -> _Values:
    """What the whole graph takes for one sequence of tokens."""
    shape = package.manifest.shape
    past = np.zeros((1, shape.kv_heads, 0, shape.head_dim), np.float32)
    values: _Values = {
        "input_ids": np.asarray([window], np.int64),
        "attention_mask": np.ones((1, len(window)), np.int64),
        "num_logits": np.array([len(window)], np.int64),
    }
    for layer in range(shape.layers):
        values |= {f"past_key_values.{layer}.{part}": past for part in ("key", "value")}
    return values
