"""GGUF's header as keys and places of tensors: the `gguf` package's reader made safe and fast.

The package trusts the file: it reads past the end in silence, loops over any count, and makes
an array of each of a vocabulary's strings. Knows nothing about architectures.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.gguf_reader import GGUFReader, ReaderField
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.file_bytes import read_bytes

VERSIONS = (2, 3)
READABLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_MAX_DIMS = 4
_HEADER = struct.Struct("<4sI")
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in its file: shape (out, in) or (out,), which is one row.

    rows and row_bytes: how many rows of how many bytes there are from byte `offset` on.
    """

    type: GGMLQuantizationType
    shape: tuple[int, ...]
    path: Path
    offset: int
    rows: int
    row_bytes: int

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """The bytes of some rows, (rows, bytes per row); raises `SourceError`."""
        stop = self.rows if stop is None else stop
        data = read_bytes(
            self.path, self.offset + start * self.row_bytes, (stop - start) * self.row_bytes
        )
        return data.reshape(stop - start, self.row_bytes)


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF file holds: its keys, and where its tensors lie."""

    keys: dict[str, Any]
    tensors: dict[str, StoredTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read the header; raises `SourceError` for any file that is not sound."""
    try:
        _check_version(path)
        reader = _Reader(path)
        keys = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not name.startswith("GGUF.")
        }
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise SourceError(f"{path} is not a sound GGUF file ({reason}); fetch it again") from error
    return GGUFFile(keys, reader.stored)


def _check_version(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:4] != b"GGUF":
        raise SourceError(f"{path} is not a GGUF file: it does not begin with 'GGUF'")
    version = _HEADER.unpack(head)[1]
    if version in VERSIONS:
        return
    if version & 0xFFFF == 0:
        raise SourceError(f"{path} is a big-endian GGUF file; fetch the little-endian one")
    raise SourceError(f"{path} is a GGUF file of version {version}; versions 2 and 3 can be read")


class _Reader(GGUFReader):
    """The package's reader with every access checked and arrays read in one piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: dict[str, StoredTensor] = {}
        super().__init__(path)

    def _get(
        self, offset: int, dtype: Any, count: int = 1, override_order: Any = None
    ) -> NDArray[Any]:
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if end > self.data.size:
            raise self._truncated(end)
        return super()._get(int(offset), dtype, int(count), override_order)

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        item = GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        start = orig_offs + 12
        types = [GGUFValueType.ARRAY, item]
        if item == GGUFValueType.STRING:
            strings, end = self._strings(start, count)
            return end - orig_offs, strings, list(range(count)), types
        if item not in self.gguf_scalar_to_np:
            raise ValueError(f"array of {item.name} items")
        values = self._get(start, self.gguf_scalar_to_np[item], count)
        return start + values.nbytes - orig_offs, [values], [0], types

    def _strings(self, offset: int, count: int) -> tuple[list[memoryview], int]:
        data, size = self.data.data, self.data.size
        strings = []
        for _ in range(count):
            begin = offset + _LENGTH.size
            if begin > size:
                raise self._truncated(begin)
            offset = begin + _LENGTH.unpack_from(data, offset)[0]
            if offset > size:
                raise self._truncated(offset)
            strings.append(data[begin:offset])
        return strings, offset

    def _build_tensors(self, start_offs: int, fields: list[ReaderField]) -> None:
        for field in fields:
            _, _, _, dims, raw_type, offset = field.parts
            if field.name in self.stored:
                raise ValueError(f"two tensors called {field.name[:80]!r}")
            kind = self._type(field.name, int(raw_type[0]))
            shape = tuple(int(size) for size in reversed(dims))
            start = int(start_offs) + int(offset[0])
            self.stored[field.name] = self._tensor(start, shape, kind, field.name)

    def _type(self, name: str, raw: int) -> GGMLQuantizationType:
        known = raw in GGMLQuantizationType.__members__.values()
        kind = GGMLQuantizationType(raw) if known else None
        if kind is None or kind.name not in READABLE:
            shown = kind.name if kind else f"number {raw}"
            raise SourceError(
                f"{name[:80]!r} in {self.path} has the type {shown}, which cannot be read; "
                f"readable are {', '.join(READABLE)}"
            )
        return kind

    def _tensor(
        self, start: int, shape: tuple[int, ...], kind: GGMLQuantizationType, name: str
    ) -> StoredTensor:
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if not 1 <= len(shape) <= _MAX_DIMS or 0 in shape or shape[-1] % block:
            raise ValueError(f"{name[:80]!r} of shape {shape} cannot be of type {kind.name}")
        rows, row_bytes = prod(shape[:-1]), shape[-1] // block * block_bytes
        if start + rows * row_bytes > self.data.size:
            raise self._truncated(start + rows * row_bytes)
        return StoredTensor(kind, shape, self.path, start, rows, row_bytes)

    def _truncated(self, end: int) -> SourceError:
        return SourceError(
            f"{self.path} is truncated or damaged: it has {self.data.size:,} bytes and its header "
            f"asks for byte {end:,}; fetch it again"
        )
