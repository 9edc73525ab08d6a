"""Reads a saved .mlpackage: the protobuf description of its ML program, and the weight file.

Made for packages of any origin, so nothing in one is trusted: sizes are checked, and no path
leaves the folder. Formats: coremltools' MIL.proto and MILBlob (storage format 2).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import MIL_pb2, Model_pb2
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ondevice import files, json_file
from ondevice.errors import ExportError

_TYPE = MIL_pb2.DataType
_NUMPY: dict[int, type[np.generic]] = {
    _TYPE.FLOAT16: np.float16,
    _TYPE.FLOAT32: np.float32,
    _TYPE.FLOAT64: np.float64,
    _TYPE.INT8: np.int8,
    _TYPE.INT16: np.int16,
    _TYPE.INT32: np.int32,
    _TYPE.INT64: np.int64,
    _TYPE.UINT8: np.uint8,
    _TYPE.UINT16: np.uint16,
    _TYPE.UINT32: np.uint32,
    _TYPE.UINT64: np.uint64,
    _TYPE.BOOL: np.bool_,
}
# Bits and sign of integers that are packed, the lowest bit of the first in a byte first.
_PACKED: dict[int, tuple[int, bool]] = {
    _TYPE.INT4: (4, True),
    _TYPE.UINT4: (4, False),
    _TYPE.UINT1: (1, False),
    _TYPE.UINT2: (2, False),
    _TYPE.UINT3: (3, False),
    _TYPE.UINT6: (6, False),
}
_RECORD = struct.Struct("<IIQQQ")  # sentinel, type, bytes, offset of the data, bits of padding
_SENTINEL = 0xDEADBEEF
_WEIGHTS = "@model_path/"  # how a program names a file beside its description

Array = NDArray[Any]


@dataclass(frozen=True)
class StateShape:
    """A state of a function: its name and shape."""

    name: str
    shape: tuple[int, ...]


class MLPackage:
    """An opened package.

    Raises `ExportError` for what is no ML program, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        model = self._model_file()
        self._folder = model.parent
        self.spec = Model_pb2.Model()
        try:
            self.spec.ParseFromString(model.read_bytes())
        except (OSError, DecodeError) as error:
            raise ExportError(f"{model} cannot be read as a Core ML model: {error}") from error
        if self.spec.WhichOneof("Type") != "mlProgram":
            raise ExportError(
                f"{path} holds no ML program; only .mlpackage folders of one are read"
            )
        self._files: dict[str, NDArray[np.uint8]] = {}
        # Functions share their weights; who evaluates several keeps each constant once.
        self.constants: dict[object, Any] = {}

    @property
    def functions(self) -> tuple[str, ...]:
        """Names, the default one first."""
        names = sorted(self.spec.mlProgram.functions)
        default = self.spec.description.defaultFunctionName or "main"
        return tuple(sorted(names, key=lambda name: (name != default, name)))

    def block(self, function: str) -> tuple[Any, tuple[str, ...]]:
        """The operations of a function, and the names of its inputs."""
        if function not in self.spec.mlProgram.functions:
            known = ", ".join(self.functions)
            raise ExportError(f"{self.path} has no function {function!r}; it has {known}")
        found = self.spec.mlProgram.functions[function]
        if found.opset not in found.block_specializations:
            raise ExportError(f"{self.path}: function {function} has no block for {found.opset!r}")
        return found.block_specializations[found.opset], tuple(i.name for i in found.inputs)

    def states(self, function: str) -> tuple[StateShape, ...]:
        """The states that the description declares for a function."""
        description = self.spec.description
        found = [f for f in description.functions if f.name == function]
        declared = found[0].state if found else description.state
        return tuple(StateShape(s.name, tuple(s.type.stateType.arrayType.shape)) for s in declared)

    def value(self, value: Any) -> Any:
        """An array of a constant, or a string; raises `ExportError` for a damaged one."""
        kind = value.type.tensorType
        shape = tuple(int(dimension.constant.size) for dimension in kind.dimensions)
        count = math.prod(shape)
        if value.WhichOneof("value") == "blobFileValue":
            raw = self._blob(value.blobFileValue.fileName, value.blobFileValue.offset)
            return self._array(raw, kind.dataType, shape)
        tensor = value.immediateValue.tensor
        which = tensor.WhichOneof("value")
        if which == "bytes":
            raw = np.frombuffer(tensor.bytes.values, np.uint8)
            return self._array(raw, kind.dataType, shape)
        values = list(getattr(tensor, which).values) if which else []
        if kind.dataType == _TYPE.STRING:
            return values[0] if values and not shape else values
        if len(values) != count or kind.dataType not in _NUMPY:
            raise ExportError(f"{self.path}: a constant does not hold the {count} values it should")
        return np.array(values, _NUMPY[kind.dataType]).reshape(shape)

    def dtype(self, data_type: int) -> type[np.generic] | None:
        """The numpy type of a MIL type, None for those without."""
        return _NUMPY.get(data_type)

    def _array(self, raw: NDArray[np.uint8], data_type: int, shape: tuple[int, ...]) -> Array:
        count = math.prod(shape)
        packed = _PACKED.get(data_type)
        if packed is None and data_type not in _NUMPY:
            raise ExportError(f"{self.path}: constants of MIL type {data_type} are not known")
        bits = packed[0] if packed else 8 * np.dtype(_NUMPY[data_type]).itemsize
        needed = -(-count * bits // 8)
        if len(raw) < needed:
            raise ExportError(
                f"{self.path}: a constant of {needed} bytes has only {len(raw)}; it is damaged"
            )
        if packed:
            return _unpack(raw[:needed], *packed, count).reshape(shape)
        return raw[:needed].view(_NUMPY[data_type]).reshape(shape)

    def _blob(self, name: str, offset: int) -> NDArray[np.uint8]:
        """The bytes of a record of a weight file."""
        data = self._file(name)
        record = data[offset : offset + _RECORD.size]
        if len(record) == _RECORD.size:
            sentinel, _, size, start, _ = _RECORD.unpack(record.tobytes())
            if sentinel == _SENTINEL and start + size <= len(data):
                return data[start : start + size]
        raise ExportError(f"{self.path}: no weights at byte {offset} of {name}; it is damaged")

    def _file(self, name: str) -> NDArray[np.uint8]:
        if name not in self._files:
            path = files.inside(self._folder, name.removeprefix(_WEIGHTS), ExportError)
            try:
                self._files[name] = np.memmap(path, np.uint8, "r")
            except (OSError, ValueError) as error:
                raise ExportError(f"{path} cannot be read: {error}") from error
        return self._files[name]

    def _model_file(self) -> Path:
        manifest = self.path / "Manifest.json"
        try:
            content: Any = json_file.loads(manifest.read_text(encoding="utf-8"))
            root = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
            return files.inside(self.path / "Data", root, ExportError)
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise ExportError(
                f"{self.path} is no Core ML package: {manifest.name} cannot be read ({error})"
            ) from error


def _unpack(raw: NDArray[np.uint8], bits: int, signed: bool, count: int) -> Array:
    if bits == 4:  # most weights, and large
        values = np.empty(2 * len(raw), np.uint8)
        values[0::2], values[1::2] = raw & 15, raw >> 4
        values = values[:count]
    else:
        single = np.unpackbits(raw, bitorder="little")[: count * bits].reshape(count, bits)
        values = (single << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if not signed:
        return values
    middle = np.uint8(1 << (bits - 1))
    return ((values ^ middle).astype(np.int8) - middle.astype(np.int8)).astype(np.int8)
