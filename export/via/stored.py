"""What another exporter stored the matrices as, read off its graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "Gather", "Transpose")
_QUANTIZED = ("MatMulNBits", "GatherBlockQuantized")


@dataclass(frozen=True)
class Stored:
    """Matrices by how they are stored, and their mean bits with scales and zero points."""

    bits_per_weight: float
    tensors: dict[str, int]


def describe_matrices(model: ir.Model, tool: str) -> Stored:
    """Count the graph's matrices; `tool` is who quantized them, with its version.

    Integers that two nodes share count once.
    """
    counts: Counter[str] = Counter()
    weights = bits = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        users = [node for node, _ in value.uses()]
        if tensor is None or not users:
            continue
        kind = next(
            (n for n in users if n.op_type in _QUANTIZED and n.inputs[_data(n)] is value), None
        )
        if kind is not None:
            width = _attribute(kind, "bits", 4)
            held = tensor.nbytes * 8 // width
            counts[f"int{width} block {_attribute(kind, 'block_size', 128)}, by {tool}"] += 1
            weights += held
            bits += held * width + _side_bits(kind)
        elif _is_matrix(tensor, users):
            counts["float32"] += 1
            weights += tensor.size
            bits += 32 * tensor.size
    return Stored(round(bits / weights, 3) if weights else 32.0, dict(counts))


def _data(node: ir.Node) -> int:
    return 1 if node.op_type == "MatMulNBits" else 0


def _side_bits(node: ir.Node) -> int:
    """Bits of scales and zero points."""
    sides = node.inputs[2:4]
    tensors = [value.const_value for value in sides if value is not None]
    return sum(tensor.nbytes * 8 for tensor in tensors if tensor is not None)


def _is_matrix(tensor: ir.TensorProtocol, users: list[ir.Node]) -> bool:
    return (
        tensor.dtype is ir.DataType.FLOAT
        and len(tensor.shape) == 2
        and all(node.op_type in _PRODUCTS for node in users)
    )


def _attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
