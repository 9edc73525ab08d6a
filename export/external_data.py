"""The external data file of a graph, written tensor by tensor.

Knows nothing about models; the graph refers to what was written by offset and length.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ondevice.closing import Closing

_PAGE = 4096  # runtimes map the file into memory, and do so by pages
_DTYPES = {
    np.dtype(np.float32): ir.DataType.FLOAT,
    np.dtype(np.uint8): ir.DataType.UINT8,
}


class ExternalData(Closing):
    """Appends arrays to a file and hands out the tensors that point into it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")

    def close(self) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[np.generic]) -> ir.ExternalTensor:
        """Write an array (float32 or uint8) at the next page."""
        self._file.write(b"\0" * (-self._file.tell() % _PAGE))
        offset = self._file.tell()
        self._file.write(np.ascontiguousarray(array).data)
        return self._tensor(name, offset, array.nbytes, _DTYPES[array.dtype], array.shape)

    def view(
        self, name: str, tensor: ir.ExternalTensor, shape: tuple[int, ...]
    ) -> ir.ExternalTensor:
        """The same bytes under another name and shape."""
        assert tensor.offset is not None and tensor.length is not None
        return self._tensor(name, tensor.offset, tensor.length, tensor.dtype, shape)

    def _tensor(
        self, name: str, offset: int, length: int, dtype: ir.DataType, shape: tuple[int, ...]
    ) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            self._path.name,
            offset,
            length,
            dtype,
            shape=ir.Shape(shape),
            name=name,
            base_dir=self._path.parent,
        )
