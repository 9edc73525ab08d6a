"""Which operators NPU providers publish as supported, and whether a graph keeps to them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import onnx_ir as ir

from ondevice.errors import ExportError


@cache
def published() -> dict[str, frozenset[str]]:
    """Operators of ai.onnx by provider; their sources and date are in `operators.toml`."""
    text = (resources.files("ondevice.export.npu") / "operators.toml").read_text(encoding="utf-8")
    lists = tomllib.loads(text).values()
    return {entry["provider"]: frozenset(entry["operators"].split()) for entry in lists}


def outside(model: ir.Model) -> dict[str, list[str]]:
    """By provider, the operators of a graph that its list does not have; empty where none."""
    used = {node.op_type if not node.domain else str(node.op_identifier()) for node in model.graph}
    found = {name: sorted(used - operators) for name, operators in published().items()}
    return {name: missing for name, missing in found.items() if missing}


def check_operators(model: ir.Model) -> None:
    """Raise `ExportError` for a graph that leaves a provider's list."""
    for provider, missing in outside(model).items():
        raise ExportError(
            f"the graph uses {', '.join(missing)}, which the published list of {provider} does "
            "not have; choose a cpu target for this model"
        )
