"""Records the nodes of one ONNX graph; constants are written once.

Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import tape

CONTRIB = "com.microsoft"
_OPSETS = {"": 21, CONTRIB: 1}
_IR_VERSION = 10
_INT64_MAX = int(np.iinfo(np.int64).max)


class Nodes:
    """The nodes, initializers and outputs of a graph in the making."""

    def __init__(self) -> None:
        self._tape = tape.Tape()
        self._constants: dict[str, ir.Value] = {}
        self._outputs: list[ir.Value] = []

    def op(
        self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: float | str
    ) -> ir.Value:
        """A node with one output."""
        return self._tape.op(kind, inputs, attributes, domain=domain)

    def contrib(self, kind: str, *inputs: ir.Value | None, **attributes: float | str) -> ir.Value:
        """A node of onnxruntime's own operators with one output."""
        return self.op(kind, *inputs, domain=CONTRIB, **attributes)

    def several(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, float | str],
        outputs: int,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """A node with several outputs."""
        return self._tape.op_multi_out(
            kind, inputs, dict(attributes), num_outputs=outputs, domain=domain
        )

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        return self._tape.initializer(tensor)

    def external(self, tensor: ir.ExternalTensor) -> ir.Value:
        """An initializer in the data file; the same name is the same value."""
        name = tensor.name or ""
        if name not in self._constants:
            self._constants[name] = self.initializer(tensor)
        return self._constants[name]

    def array(self, name: str, values: NDArray[np.generic]) -> ir.Value:
        """An initializer inside the graph's own file; the same name is the same value."""
        if name not in self._constants:
            self._constants[name] = self.initializer(ir.tensor(values, name=name))
        return self._constants[name]

    def integers(self, name: str, *values: int) -> ir.Value:
        """An int64 vector."""
        return self.array(name, np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> ir.Value:
        return self.array(name, np.array(value, np.float32))

    def last(self, start: ir.Value, values: ir.Value) -> ir.Value:
        """The positions of (batch, sequence, ...) from `start`, which is negative, to the end."""
        end, axis = self.integers("int64_max", _INT64_MAX), self.integers("axis_1", 1)
        return self.op("Slice", values, start, end, axis)

    def output(self, value: ir.Value, name: str, *shape: int | str) -> None:
        """Make a float value an output of the graph."""
        value.name = name
        value.dtype = ir.DataType.FLOAT
        value.shape = ir.Shape(shape)
        self._outputs.append(value)

    def model(self, inputs: Sequence[ir.Value], name: str) -> ir.Model:
        """What was recorded; the first output is `logits` where there is one."""
        graph = ir.Graph(
            inputs,
            sorted(self._outputs, key=lambda value: value.name != "logits"),
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports=_OPSETS,
            name=name,
        )
        return ir.Model(graph, ir_version=_IR_VERSION, producer_name="ondevice")


def graph_input(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
