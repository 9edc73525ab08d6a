"""One safetensors file: where its tensors lie, and their values.

The format (safetensors documentation, "Format"): eight bytes of header length,
little-endian; a JSON object of name to dtype, shape and byte span; the data. Read here and not
by the `safetensors` library, whose numpy side has no bfloat16 without further packages.
Knows nothing about checkpoints of several files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.file_bytes import read_bytes

READABLE = {"F32": 4, "F16": 2, "BF16": 2}  # bytes per value
_LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000
_MAX_DIMS = 4


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in its file, from byte `offset` on; shape (out, in) or (out,)."""

    type: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    def values(self, start: int, stop: int) -> NDArray[np.float32]:
        """The values `start` to `stop`, counted along the flattened tensor, in fp32."""
        size = READABLE[self.type]
        raw = read_bytes(self.path, self.offset + start * size, (stop - start) * size)
        if self.type == "BF16":
            # The upper half of an fp32.
            return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw.view("<f4" if self.type == "F32" else "<f2").astype(np.float32)


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file; raises `SourceError` when it is truncated or its header not sound.

    Tensors of types that cannot be read keep their type's name.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if size < _LENGTH_BYTES:
        raise _truncated(path, size, _LENGTH_BYTES)
    length = int(read_bytes(path, 0, _LENGTH_BYTES).view("<u8")[0])
    start = _LENGTH_BYTES + length
    if length > _MAX_HEADER:
        raise SourceError(
            f"{path} is not a safetensors file: its header would be {length:,} bytes long"
        )
    if start > size:
        raise _truncated(path, size, start)
    header = _header(read_bytes(path, _LENGTH_BYTES, length).tobytes(), path)
    return {name: _tensor(name, entry, path, start, size) for name, entry in header.items()}


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} has a header that is not JSON; fetch it again") from error
    if not isinstance(header, dict):
        raise SourceError(f"{path} has a header that is not a JSON object; fetch it again")
    header.pop("__metadata__", None)
    return header


def _tensor(name: str, entry: Any, path: Path, start: int, size: int) -> StoredTensor:
    kind, shape, span = _entry(name, entry, path)
    begin, end = span
    if kind not in READABLE:
        return StoredTensor(kind[:20], shape, path, start)
    if start + end > size:
        raise _truncated(path, size, start + end)
    if end - begin != prod(shape) * READABLE[kind]:
        raise SourceError(
            f"{name[:80]!r} in {path} is {kind} of shape {shape} in {end - begin:,} bytes, which "
            "does not fit; fetch it again"
        )
    return StoredTensor(kind, shape, path, start + begin)


def _entry(name: str, entry: Any, path: Path) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    wrong = SourceError(
        f"the entry of {name[:80]!r} in the header of {path} is not sound; fetch it again"
    )
    if not isinstance(entry, dict):
        raise wrong
    kind, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or not _counts(shape) or not _counts(span):
        raise wrong
    if len(span) != 2 or span[0] > span[1] or len(shape) > _MAX_DIMS:
        raise wrong
    return kind, tuple(shape), (span[0], span[1])


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _truncated(path: Path, size: int, needed: int) -> SourceError:
    return SourceError(
        f"{path} is truncated or damaged: it has {size:,} bytes, its header asks for {needed:,}; "
        "fetch it again"
    )
