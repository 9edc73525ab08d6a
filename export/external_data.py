"""The external data file of a graph: places reserved first, rows written into them in any order.

Knows nothing about models; the graph refers to what is written by offset and length.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from ondevice import files
from ondevice.closing import Closing

_PAGE = 4096  # runtimes map the file into memory, and do so by pages
_DISK_BLOCK = 512  # bytes in the `st_blocks` of a file's status
_DTYPES = {
    np.dtype(np.float32): ir.DataType.FLOAT,
    np.dtype(np.float16): ir.DataType.FLOAT16,
    np.dtype(np.uint8): ir.DataType.UINT8,
    np.dtype(np.int8): ir.DataType.INT8,
}


@dataclass(frozen=True)
class Region:
    """The place of an array (rows, ...) in the file, beginning at a page."""

    name: str
    offset: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes


class ExternalData(Closing):
    """Reserves places in a file, writes rows into them, hands out the tensors that point there.

    What is in the file already stays until it is written over. Safe for several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        self._lock = threading.Lock()
        self._end = 0

    def close(self) -> None:
        self._file.close()

    def reserve(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> Region:
        """A place for an array (float32, float16, uint8 or int8) at the next page."""
        region = Region(name, self._end + -self._end % _PAGE, np.dtype(dtype), shape)
        self._end = region.offset + region.bytes
        return region

    def allocate(self) -> None:
        """Give the file the length of all that is reserved; rows can be written from now on.

        Raises `OndeviceError` when the disk has no room for what is not there yet.
        """
        there = getattr(os.fstat(self._file.fileno()), "st_blocks", 0) * _DISK_BLOCK
        files.require_space(self._path.parent, self._end - there, "the package")
        self._file.truncate(self._end)

    def write(self, region: Region, row: int, rows: NDArray[np.generic]) -> None:
        """Write rows (n, ...) of a region, the first of them being its row `row`."""
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        with self._lock:
            self._file.seek(region.offset + row * region.row_bytes)
            while data:
                data = data[self._file.write(data) :]

    def read(self, region: Region, row: int, rows: int) -> bytes:
        """The bytes of `rows` rows of a region from `row`; fewer where the file ends."""
        with self._lock:
            self._file.seek(region.offset + row * region.row_bytes)
            return self._file.read(rows * region.row_bytes)

    def sync(self) -> None:
        """Wait until all that was written would survive a power cut."""
        os.fsync(self._file.fileno())

    def tensor(self, region: Region) -> ir.ExternalTensor:
        """The tensor that points to a region."""
        return self._tensor(region.name, region, region.shape)

    def view(self, name: str, region: Region, shape: tuple[int, ...]) -> ir.ExternalTensor:
        """The same bytes under another name and shape."""
        return self._tensor(name, region, shape)

    def add(self, name: str, array: NDArray[np.generic]) -> ir.ExternalTensor:
        """Reserve a place for a whole array and write it at once."""
        region = self.reserve(name, array.dtype, array.shape)
        self.write(region, 0, array)
        return self.tensor(region)

    def _tensor(self, name: str, region: Region, shape: tuple[int, ...]) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            self._path.name,
            region.offset,
            region.bytes,
            _DTYPES[region.dtype],
            shape=ir.Shape(shape),
            name=name,
            base_dir=self._path.parent,
        )
