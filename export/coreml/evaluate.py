"""Runs a saved ML program in numpy, on any machine: the reference that packages are proved with.

It reads the package itself, not what the converter had in memory. This is our reading of MIL's
operators: stored weights are exact, activations on Apple's hardware differ by the order of sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.export.coreml.operators import CONSTANT, OPERATORS

Array = NDArray[Any]
State = dict[str, Array]
Observe = Callable[[str, Array], None]
Precision = Literal["fp32", "fp16"]
# Operators that give values which they were given.
_MOVING = {"concat", "expand_dims", "gather", "identity", "reshape", "slice_by_index"}
_MOVING |= {"slice_by_size", "slice_update", "split", "squeeze", "stack", "tile", "transpose"}
_OWN = ("const", "read_state", "write_state")


class Program:
    """One function of an .mlpackage.

    precision: of what is computed; `fp32` keeps it in float32 (are graph and weights right?),
    `fp16` rounds the output of each operator to the half precision that the program declares
    (what will a device make of it?). Weights are what the program declares in both.
    Raises `ExportError` for a damaged package, and for operators without a reference, by name.
    """

    def __init__(
        self,
        package: MLPackage | Path,
        function: str | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.package = package if isinstance(package, MLPackage) else MLPackage(package)
        self.function = function or self.package.functions[0]
        self._half = precision == "fp16"
        self._block, self.inputs = self.package.block(self.function)
        self.outputs = tuple(self._block.outputs)
        self.operators = Counter(op.type for op in self._block.operations)
        unknown = set(self.operators) - set(OPERATORS) - set(CONSTANT) - set(_OWN)
        if unknown:
            raise ExportError(
                f"{self.package.path}: no reference for the operators {', '.join(sorted(unknown))}"
            )
        self._producers = {out.name: op for op in self._block.operations for out in op.outputs}
        self._constants: dict[str, Any] = {}
        self._in_place = _in_place(self._block)
        self._last_uses = _last_uses(self._block)

    def make_state(self) -> State:
        """The states that the package declares, all zero."""
        return {
            state.name: np.zeros(state.shape, np.float32)
            for state in self.package.states(self.function)
        }

    def run(
        self,
        feeds: Mapping[str, Array],
        state: State | None = None,
        wanted: Sequence[str] = (),
        observe: Observe | None = None,
    ) -> dict[str, Array]:
        """Outputs by name, floats as float32; states change in place.

        `wanted` names values inside the program that are given too; `observe` sees what every
        operator gives.
        Raises `ExportError` for inputs that do not fit.
        """
        missing = [n for n in self.inputs if n not in feeds and n not in (state or {})]
        if missing:
            raise ExportError(f"{self.package.path} wants an input {missing[0]}")
        values: dict[str, Any] = {name: _wide(np.asarray(feeds[name])) for name in feeds}
        kept = {*self.outputs, *wanted}
        for index, op in enumerate(self._block.operations):
            if op.type == "const" or op.type in CONSTANT:
                continue
            if op.type == "read_state":
                values[op.outputs[0].name] = self._state(state, op)[_argument(op, "input")]
            elif op.type == "write_state":
                data = self._value(op.inputs["data"].arguments[0], values)
                self._state(state, op)[_argument(op, "input")] = data
            else:
                self._apply(op, values)
                if observe is not None:
                    for out in op.outputs:
                        observe(out.name, values[out.name])
            for name in self._last_uses.get(index, ()):
                if name not in kept:
                    values.pop(name, None)
        return {name: values[name] for name in kept}

    def run_from(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs that follow from some values inside the program and its constants alone."""
        known: dict[str, Any] = dict(values)
        for op in self._block.operations:
            names = [name for name in _reads(op) if not self._is_constant(name)]
            if names and all(name in known for name in names) and op.outputs[0].name not in known:
                self._apply(op, known)
        return {name: known[name] for name in self.outputs}

    def _is_constant(self, name: str) -> bool:
        op = self._producers.get(name)
        return op is not None and (op.type == "const" or op.type in CONSTANT)

    def constant(self, name: str) -> Any:
        """The value of a constant of the program, floats as float32."""
        if name not in self._constants:
            op = self._producers[name]
            said = self._said(op)
            parts = tuple((part, said[part].SerializeToString()) for part in sorted(said))
            key = (op.type, op.outputs[0].type.SerializeToString(), parts)
            shared = self.package.constants
            if key not in shared:
                shared[key] = self._computed(op, said)
            self._constants[name] = shared[key]
        return self._constants[name]

    def _computed(self, op: Any, said: Mapping[str, Any]) -> Any:
        given = {part: self.package.value(value) for part, value in said.items()}
        if op.type == "const":
            return _wide(given["val"])
        dtype = self.package.dtype(op.outputs[0].type.tensorType.dataType)
        return _wide(CONSTANT[op.type](**given).astype(dtype))

    def stored(self, name: str) -> dict[str, Any]:
        """What a compressed constant is made of: integers, scales, ... by the operator's names."""
        said = self._said(self._producers[name])
        return {key: self.package.value(value) for key, value in said.items()}

    def _said(self, op: Any) -> dict[str, Any]:
        """The values of a constant as the program says them: in place, or where in a file."""
        said = {key: op.attributes[key] for key in op.attributes if key != "name"}
        for key, argument in op.inputs.items():
            bound = argument.arguments[0]
            if bound.WhichOneof("binding") == "value":
                said[key] = bound.value
            else:
                said[key] = self._producers[bound.name].attributes["val"]
        return said

    def _apply(self, op: Any, values: dict[str, Any]) -> None:
        given: dict[str, Any] = {
            key: [self._value(part, values) for part in bound.arguments]
            if key == "values"
            else self._value(bound.arguments[0], values)
            for key, bound in op.inputs.items()
        }
        if op.outputs[0].name in self._in_place:
            given["in_place"] = True
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found = OPERATORS[op.type](**given)
        except (ValueError, IndexError, TypeError, NotImplementedError) as error:
            raise ExportError(
                f"{self.package.path}: {op.type} that gives {op.outputs[0].name}: {error}"
            ) from error
        several = found if isinstance(found, list) else [found]
        for out, value in zip(op.outputs, several, strict=True):
            data_type = out.type.tensorType.dataType
            values[out.name] = self._declared(value, data_type, op.type not in _MOVING)

    def _declared(self, value: Any, data_type: int, computed: bool) -> Array:
        """In the type that the program declares; half precision is float32 that was rounded.

        What was only moved has been rounded before: a KV cache is large.
        """
        array = np.asarray(value)
        dtype = self.package.dtype(data_type)
        if dtype is np.float16:
            if self._half and computed:
                with np.errstate(over="ignore"):  # what overflows is to be seen
                    array = array.astype(np.float16)
            return array.astype(np.float32, copy=False)
        return array if dtype is None else array.astype(dtype, copy=False)

    def _value(self, bound: Any, values: Mapping[str, Any]) -> Any:
        if bound.WhichOneof("binding") == "value":
            return _wide(self.package.value(bound.value))
        return values[bound.name] if bound.name in values else self.constant(bound.name)

    def _state(self, state: State | None, op: Any) -> State:
        if state is None or _argument(op, "input") not in state:
            raise ExportError(f"{self.package.path} wants a state {_argument(op, 'input')}")
        return state


def _reads(op: Any) -> list[str]:
    """The names of the values that an operation reads."""
    parts = (part for bound in op.inputs.values() for part in bound.arguments)
    return [part.name for part in parts if part.WhichOneof("binding") == "name"]


def _argument(op: Any, name: str) -> str:
    found: str = op.inputs[name].arguments[0].name
    return found


def _wide(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        return value.astype(np.float32)
    return value


def _last_uses(block: Any) -> dict[int, set[str]]:
    """Which values nothing reads after each operation."""
    last = {name: index for index, op in enumerate(block.operations) for name in _reads(op)}
    found: dict[int, set[str]] = {}
    for name, index in last.items():
        found.setdefault(index, set()).add(name)
    return found


def _in_place(block: Any) -> set[str]:
    """Updates that may overwrite the state they read, which spares a copy of the whole KV cache.

    What they give is written back to that state, nothing reads the old value after them, and all
    other readers are slices, which copy.
    """
    readers: dict[str, list[tuple[int, str]]] = {}
    for index, op in enumerate(block.operations):
        for name in _reads(op):
            readers.setdefault(name, []).append((index, op.type))
    states, written = (
        {_argument(op, key) if key == "data" else op.outputs[0].name: _argument(op, "input")
         for op in block.operations if op.type == kind}
        for kind, key in (("read_state", "input"), ("write_state", "data"))
    )  # fmt: skip
    found = set()
    for index, op in enumerate(block.operations):
        if op.type != "slice_update":
            continue
        old, new = _argument(op, "x"), op.outputs[0].name
        before = all(
            i < index and kind == "slice_by_index" for i, kind in readers[old] if i != index
        )
        after = all(kind in ("slice_by_index", "write_state") for _, kind in readers.get(new, []))
        if before and after and old in states and written.get(new) == states[old]:
            found.add(new)
    return found
