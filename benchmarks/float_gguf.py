"""The float32 GGUF file of a quantized one, so that two quantizers begin with the same floats.

Weights that were quantized once lie on a grid, and whoever rounds to that grid again finds them
without error. `dithered` moves each weight by chance within its step, as far as rounding may have
moved it: floats like those the file was made of, which no quantizer knows already.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT32 = 0  # GGML_TYPE_F32
_ALIGNMENT = 32  # GGUF's default
# Steps over the range of a block, and the weights of a block that share a scale.
_STEPS = {
    "Q4_0": (15, 32),
    "Q4_1": (15, 32),
    "Q4_K": (15, 32),
    "Q5_0": (31, 32),
    "Q5_1": (31, 32),
    "Q5_K": (31, 32),
    "Q6_K": (63, 16),
    "Q8_0": (255, 32),
}


def write_floats(gguf: Path, out: Path, *, dithered: bool = False) -> Path:
    """Write a GGUF file with every tensor of another as float32; kept when it is there.

    Its fields are copied as they are. Raises `ValueError` for a tensor type whose step is not
    known, where that matters, and for another alignment than GGUF's own.
    """
    from gguf import GGUFReader

    if out.is_file():
        return out
    reader = GGUFReader(gguf)
    if reader.alignment != _ALIGNMENT:
        raise ValueError(f"{gguf} is aligned to {reader.alignment} bytes, not {_ALIGNMENT}")
    tensors = sorted(reader.tensors, key=lambda tensor: tensor.field.offset)
    partial = out.with_suffix(".partial")
    with gguf.open("rb") as old, partial.open("wb") as file:
        file.write(old.read(tensors[0].field.offset))
        file.write(_infos(tensors))
        file.write(bytes(-file.tell() % _ALIGNMENT))
        for tensor in tensors:
            file.write(_floats(tensor, dithered).tobytes())
            file.write(bytes(-file.tell() % _ALIGNMENT))
    partial.replace(out)
    return out


def _infos(tensors: list[Any]) -> bytes:
    """Name, shape, type and place of each tensor, as GGUF writes them."""
    parts, offset = [], 0
    for tensor in tensors:
        name = tensor.name.encode()
        shape = [int(size) for size in tensor.shape]
        parts.append(struct.pack("<Q", len(name)) + name)
        parts.append(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _FLOAT32, offset))
        size = 4 * math.prod(shape)
        offset += size + -size % _ALIGNMENT
    return b"".join(parts)


def _floats(tensor: Any, dithered: bool) -> NDArray[np.float32]:
    """The values of a tensor; matrices moved within their step when `dithered`."""
    from gguf.quants import dequantize

    values: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    name = tensor.tensor_type.name
    if not dithered or len(tensor.shape) != 2 or name in ("F32", "F16", "BF16"):
        return values
    if name not in _STEPS:
        raise ValueError(f"the step of {name} is not known")
    steps, block = _STEPS[name]
    chance = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    blocks = values.reshape(-1, block)
    step = (blocks.max(axis=1, keepdims=True) - blocks.min(axis=1, keepdims=True)) / steps
    moves = chance.random(blocks.shape, np.float32) - np.float32(0.5)
    return (blocks + moves * step).astype(np.float32)
