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
from ondevice.export.architectures import family
from ondevice.export.architectures.family import Fields, gguf_name
from ondevice.export.gguf_reader import GGUFFile, StoredTensor, read_gguf
from ondevice.export.grid import Grid
from ondevice.export.source import TokenizerFiles
from ondevice.export.tokenizer import tokenizer_from_gguf
from ondevice.export.weights import require_finite, require_shapes
from ondevice.files import sha256
from ondevice.package import SourceInfo

_ROPE_FACTORS = "rope_freqs.weight"
_CHUNK = 1 << 22  # values dequantized at a time
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
        self._family = family(self._keys.text("general.architecture"), self._where)
        tensors = self._file.tensors
        self.architecture: Architecture = self._family.from_gguf(
            self._keys, tensors.keys(), self._embedding_rows(), self._rope_factors()
        )
        needed = self.architecture.tensor_shapes()
        self._names = {name: gguf_name(name) for name in needed}
        require_shapes(
            {self._names[name]: shape for name, shape in needed.items()},
            {name: tensor.shape for name, tensor in tensors.items()},
            [_ROPE_FACTORS, *(name for name in tensors if name.endswith("attn_rot_embd.weight"))],
            self._where,
        )

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return tokenizer_from_gguf(self._keys, self.architecture.vocab_size)

    def stored_type(self, name: str) -> str:
        return str(self._tensor(name).type.name)

    def read(self, name: str) -> NDArray[np.float32]:
        tensor = self._tensor(name)
        values = _dequantized(tensor, name, self._where)
        order = self._family.gguf_row_order(self.architecture, name)
        return values if order is None else values[order]

    def stored_grid(self, name: str) -> Grid | None:
        tensor = self._tensor(name)
        layout = _EXACT.get(tensor.type.name)
        if layout is None or len(tensor.shape) != 2:
            return None
        integers, scales = _exact_integers(tensor, layout)
        require_finite(scales, name, self._where)
        order = self._family.gguf_row_order(self.architecture, name)
        if order is not None:
            integers, scales = integers[order], scales[order]
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
        """Let go of the mapped file; reading afterwards raises `SourceError`."""
        self._file.tensors.clear()

    def _tensor(self, name: str) -> StoredTensor:
        stored = self._file.tensors.get(self._names.get(name, ""))
        if stored is None:
            raise SourceError(f"{self._where} has no tensor {name}")
        return stored

    def _embedding_rows(self) -> int:
        tensor = self._file.tensors.get("token_embd.weight")
        if tensor is None:
            raise SourceError(f"{self._where} has no tensor token_embd.weight; it is incomplete")
        return tensor.shape[0]

    def _rope_factors(self) -> tuple[float, ...]:
        tensor = self._file.tensors.get(_ROPE_FACTORS)
        if tensor is None:
            return ()
        if len(tensor.shape) != 1 or tensor.shape[0] > 1024:
            raise SourceError(f"{_ROPE_FACTORS} in {self._where} has the shape {tensor.shape}")
        return tuple(_dequantized(tensor, _ROPE_FACTORS, self._where).tolist())


def _dequantized(tensor: StoredTensor, name: str, where: str) -> NDArray[np.float32]:
    rows, columns = tensor.data.shape[0], tensor.shape[-1]
    values = np.empty((rows, columns), np.float32)
    for part in _row_chunks(rows, columns):
        with np.errstate(all="ignore"):  # damaged scales are found just below
            values[part] = dequantize(tensor.data[part], tensor.type)
        require_finite(values[part], name, where)
    return values.reshape(tensor.shape)


def _exact_integers(
    tensor: StoredTensor, layout: _BlockFormat
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A block whose scale is made 1 dequantizes to its integers: no second unpacking to keep."""
    rows, columns = tensor.shape
    integers = np.empty((rows, columns), np.uint8)
    scales = np.empty((rows, columns // layout.block), np.float32)
    middle = np.float32(2 ** (layout.bits - 1))
    for part in _row_chunks(rows, columns):
        blocks = np.array(tensor.data[part]).reshape(-1, layout.block_bytes)
        with np.errstate(all="ignore"):
            scales[part] = _scales(blocks, layout).reshape(-1, scales.shape[1])
        blocks[:, layout.scale_at : layout.scale_at + 2] = _ONE
        blocks[:, slice(*layout.sub_scales)] = 1
        whole_rows = blocks.reshape(-1, tensor.data.shape[1])  # short rows are slow
        integers[part] = dequantize(whole_rows, tensor.type) + middle
    return integers, scales


def _scales(blocks: NDArray[np.uint8], layout: _BlockFormat) -> NDArray[np.float32]:
    whole = np.ascontiguousarray(blocks[:, layout.scale_at : layout.scale_at + 2])
    scale: NDArray[Any] = whole.view("<f2").astype(np.float32)
    factors = blocks[:, slice(*layout.sub_scales)].view(np.int8)
    return scale * factors.astype(np.float32) if factors.size else scale


def _row_chunks(rows: int, columns: int) -> list[slice]:
    step = max(1, _CHUNK // columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
