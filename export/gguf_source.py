"""A GGUF file as a source: dequantized tensors, and the file's own integers where they fit.

Knows the block formats and the key names; the architectures' files know the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture
from ondevice.export.architectures import gguf_family
from ondevice.export.architectures.family import GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import ROPE_VECTORS
from ondevice.export.gguf_reader import GGUFFile, StoredTensor, read_gguf
from ondevice.export.grid import Grid
from ondevice.export.source import TokenizerFiles
from ondevice.export.tokenizer import tokenizer_from_gguf
from ondevice.export.weights import (
    Weight,
    assemble,
    require_finite,
    require_shapes,
    stored_shapes,
    weights_of,
)
from ondevice.files import sha256
from ondevice.package import SourceInfo

_ONE = np.frombuffer(np.float16(1).tobytes(), np.uint8)


@dataclass(frozen=True)
class _BlockFormat:
    """Where a symmetric block format keeps its scale, and the grid that holds its integers.

    `scale_at`: byte of the fp16 scale in a stored block. `sub_scales`: first byte and end of
    the int8 factors, one for each grid block; equal where the fp16 scale is all.
    """

    bits: int
    block: int
    block_bytes: int
    scale_at: int
    sub_scales: tuple[int, int] = (0, 0)


_EXACT = {
    "Q4_0": _BlockFormat(bits=4, block=32, block_bytes=18, scale_at=0),
    "Q5_0": _BlockFormat(bits=8, block=32, block_bytes=22, scale_at=0),
    "Q8_0": _BlockFormat(bits=8, block=32, block_bytes=34, scale_at=0),
    "Q6_K": _BlockFormat(8, 16, block_bytes=210, scale_at=208, sub_scales=(192, 208)),
}


class GGUFSource:
    """A GGUF file opened for reading.

    Raises `SourceError` when the file is not sound, of an unknown architecture, or its tensors
    do not fit its description.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._where = str(path)
        self._file: GGUFFile = read_gguf(path)
        self._keys = Fields(self._file.keys, self._where)
        family = gguf_family(self._keys.text("general.architecture"), self._where)
        assert family.gguf is not None
        tensors = self._file.tensors
        header = GGUFHeader(self._keys, tensors.keys(), self._embedding_rows(), self._vectors())
        self.architecture: Architecture = family.gguf[1](header)
        self._weights = weights_of(self.architecture, family.in_gguf)
        require_shapes(
            stored_shapes(self._weights),
            {name: tensor.shape for name, tensor in tensors.items()},
            [*ROPE_VECTORS, *(name for name in tensors if name.endswith("attn_rot_embd.weight"))],
            self._where,
        )

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return tokenizer_from_gguf(self._keys, self.architecture.vocab_size)

    def stored_type(self, name: str) -> str:
        return str(self._tensor(name).type.name)

    def read(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        tensor = self._tensor(name)

        def stored(first: int, stop: int) -> NDArray[np.float32]:
            return _dequantized(tensor, first, stop)

        return assemble(self._weights[name], rows, stored, name, self._where)

    def stored_grid(self, name: str, rows: slice | None = None) -> Grid | None:
        tensor = self._tensor(name)
        layout = _EXACT.get(tensor.type.name)
        if layout is None or len(tensor.shape) != 2:
            return None
        integers, scales = _exact_integers(tensor, self._weights[name], rows, layout)
        require_finite(scales, name, self._where)
        return Grid(layout.bits, layout.block, integers, scales)

    def origin(self) -> SourceInfo:
        name = self._keys.text("general.name", default=self._path.stem)
        licence = self._keys.text("general.license", default="")
        return SourceInfo(
            id=name,
            revision=None,
            licence=licence or None,
            format="gguf",
            files={self._path.name: sha256(self._path)},
        )

    def close(self) -> None:
        """Reading afterwards raises `SourceError`."""
        self._file.tensors.clear()

    def _tensor(self, name: str) -> StoredTensor:
        stored = self._weights[name].stored.name if name in self._weights else name
        if stored not in self._file.tensors:
            raise SourceError(f"{self._where} has no tensor {name}")
        return self._file.tensors[stored]

    def _embedding_rows(self) -> int:
        tensor = self._file.tensors.get("token_embd.weight")
        if tensor is None:
            raise SourceError(f"{self._where} has no tensor token_embd.weight; it is incomplete")
        return tensor.shape[0]

    def _vectors(self) -> dict[str, tuple[float, ...]]:
        """The tensors that hold rotary factors."""
        vectors = {}
        for name in ROPE_VECTORS:
            tensor = self._file.tensors.get(name)
            if tensor is None:
                continue
            if len(tensor.shape) != 1 or tensor.shape[0] > 1024:
                raise SourceError(f"{name} in {self._where} has the shape {tensor.shape}")
            values = _dequantized(tensor, 0, tensor.shape[0])
            require_finite(values, name, self._where)
            vectors[name] = tuple(values.tolist())
        return vectors


def _dequantized(tensor: StoredTensor, first: int, stop: int) -> NDArray[np.float32]:
    """Some rows of a matrix, (rows, columns), or some values of a vector."""
    vector = len(tensor.shape) == 1
    stored = tensor.read() if vector else tensor.read(first, stop)
    with np.errstate(all="ignore"):  # damaged scales are found by their reader
        values: NDArray[np.float32] = dequantize(stored, tensor.type)
    return values.reshape(-1)[first:stop] if vector else values


def _exact_integers(
    tensor: StoredTensor, weight: Weight, rows: slice | None, layout: _BlockFormat
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A block whose scale is made 1 dequantizes to its integers: no second unpacking to keep."""
    count, columns = weight.count(rows), weight.width
    integers = np.empty((count, columns), np.uint8)
    scales = np.empty((count, columns // layout.block), np.float32)
    middle = np.float32(2 ** (layout.bits - 1))
    for chunk in weight.chunks(rows):
        whole_rows = tensor.read(chunk.first, chunk.stop)[chunk.pick]
        blocks = whole_rows.reshape(-1, layout.block_bytes)
        with np.errstate(all="ignore"):
            scales[chunk.target] = _scales(blocks, layout).reshape(-1, scales.shape[1])
        blocks[:, layout.scale_at : layout.scale_at + 2] = _ONE
        blocks[:, slice(*layout.sub_scales)] = 1
        integers[chunk.target] = dequantize(whole_rows, tensor.type) + middle
    return integers, scales


def _scales(blocks: NDArray[np.uint8], layout: _BlockFormat) -> NDArray[np.float32]:
    whole = np.ascontiguousarray(blocks[:, layout.scale_at : layout.scale_at + 2])
    scale: NDArray[Any] = whole.view("<f2").astype(np.float32)
    factors = blocks[:, slice(*layout.sub_scales)].view(np.int8)
    return scale * factors.astype(np.float32) if factors.size else scale
