"""The matrices of a model on their way into the data file: reserved first, then written by rows.

Whole rows of a matrix are read, quantized and written at a time, on all cores: no matrix is ever
in memory as a whole. Knows the grid's storage, not the graph around it.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ondevice.export.external_data import ExternalData, Region
from ondevice.export.grid import Grid
from ondevice.export.journal import Finished, Journal
from ondevice.export.quantize.statistics import Statistics
from ondevice.export.quantize.tables import Tables
from ondevice.export.recipe import Layout, Quantizer, Rows
from ondevice.progress import Progress
from ondevice.runtime.device import usable_cores

CHUNK = 1 << 21  # weights read, quantized and written at a time by a thread


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix and its places in the data file.

    integers: its packed integers, or the float32 values. `lookup`: the integers once more as
    rows without padding, for lookups by row, where padding makes them other bytes.
    """

    name: str
    layout: Layout
    integers: Region
    scales: Region | None = None
    zero_points: Region | None = None
    lookup: Region | None = None

    @property
    def operands(self) -> list[Region]:
        """What a product with the matrix takes."""
        places = (self.integers, self.scales, self.zero_points)
        return [region for region in places if region is not None]

    @property
    def regions(self) -> list[Region]:
        """All places, in the order of the file."""
        return self.operands + ([] if self.lookup is None else [self.lookup])

    def arrays(self, rows: Grid | NDArray[np.float32]) -> list[NDArray[np.generic]]:
        """What these rows are in each of the regions."""
        if not isinstance(rows, Grid):
            return [rows]
        packed = rows.packed()
        arrays: list[NDArray[np.generic]] = [packed, rows.scales]
        if self.zero_points is not None:
            zero_points = rows.packed_zero_points()
            assert zero_points is not None
            arrays.append(zero_points)
        if self.lookup is not None:
            arrays.append(packed.reshape(len(packed), -1)[:, : self.lookup.row_bytes])
        return arrays


class Matrices:
    """Reserves the places of matrices, and fills them in that order."""

    def __init__(self, quantizer: Quantizer, data: ExternalData) -> None:
        self._quantizer = quantizer
        self._data = data
        self._stored: list[StoredMatrix] = []

    def reserve(self, name: str, lookup: bool = False) -> StoredMatrix:
        """Find places for a matrix; with `lookup` also one from which single rows are read."""
        layout = self._quantizer.layout(name)
        stored = self._places(name, layout, lookup)
        self._stored.append(stored)
        return stored

    def _places(self, name: str, layout: Layout, lookup: bool) -> StoredMatrix:
        reserve, rows = self._data.reserve, layout.rows
        if layout.is_float:
            return StoredMatrix(name, layout, reserve(name, np.float32, (rows, layout.columns)))
        blocks, bits = layout.blocks, layout.bits
        shape = (rows, blocks, layout.block * bits // 8)
        integers = reserve(f"{name}.integers", np.uint8, shape)
        scales = reserve(f"{name}.scales", layout.scale_dtype, (rows, blocks))
        zero_points = rows_alone = None
        if layout.zero_points:
            zero_points = reserve(f"{name}.zero_points", np.uint8, (rows, -(-blocks * bits // 8)))
        if lookup and layout.columns % layout.block:
            rows_alone = reserve(f"{name}.rows", np.uint8, (rows, layout.columns * bits // 8))
        return StoredMatrix(name, layout, integers, scales, zero_points, rows_alone)

    def fill(self, journal: Journal, progress: Progress | None = None) -> None:
        """Write every reserved matrix that the journal does not hold; note each in it.

        The bytes do not depend on the number of threads. Matrices of the journal are checked
        against their hashes first, and written again where they differ.
        """
        self._data.allocate()
        _Filling(self._quantizer, self._data, journal, progress).run(self._stored)


@dataclass
class _Open:
    """A matrix of which rows are under way."""

    stored: StoredMatrix
    missing: int
    parts: list[_Written] = field(default_factory=list)


@dataclass(frozen=True)
class _Written:
    """Rows that are in the file: a hash of their bytes, squared error and square of each row."""

    digest: bytes
    error: NDArray[np.float64] | None
    power: NDArray[np.float64] | None


class _Filling:
    """One pass over the matrices with a bounded number of parts under way."""

    def __init__(
        self,
        quantizer: Quantizer,
        data: ExternalData,
        journal: Journal,
        progress: Progress | None,
    ) -> None:
        self._quantizer = quantizer
        self._data = data
        self._journal = journal
        self._progress = progress
        self._done = 0
        self._total = 0

    def run(self, matrices: Sequence[StoredMatrix]) -> None:
        self._total = sum(stored.layout.weights for stored in matrices)
        threads = usable_cores()
        under_way: deque[tuple[_Open, int, Future[_Written]]] = deque()
        with ThreadPoolExecutor(threads, "quantizing") as pool:
            try:
                for stored in matrices:
                    if self._is_there(stored, pool):
                        continue
                    statistics = self._quantizer.statistics(stored.name)
                    parts = row_chunks(stored.layout)
                    matrix = _Open(stored, len(parts))
                    for rows in parts:
                        if len(under_way) >= 2 * threads:
                            self._take(*under_way.popleft())
                        task = pool.submit(self._write, stored, rows, statistics)
                        under_way.append((matrix, rows.stop - rows.start, task))
                while under_way:
                    self._take(*under_way.popleft())
            except BaseException as error:
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, KeyboardInterrupt):
                    self._journal.flush(self._data.sync)
                raise
        self._journal.flush(self._data.sync)

    def _take(self, matrix: _Open, rows: int, task: Future[_Written]) -> None:
        """Wait for rows; the last of a matrix finish it."""
        matrix.parts.append(task.result())
        matrix.missing -= 1
        stored = matrix.stored
        self._report(rows * stored.layout.columns)
        if not matrix.missing:
            digest = _joined(part.digest for part in matrix.parts)
            finished = Finished(stored.name, digest, relative_error(matrix.parts))
            self._quantizer.finish(stored.name, finished.error)
            size = sum(region.bytes for region in stored.regions)
            self._journal.add(finished, size, self._data.sync)

    def _write(self, stored: StoredMatrix, rows: slice, statistics: Statistics | None) -> _Written:
        made: Rows = self._quantizer.rows(stored.name, rows, statistics)
        assert not isinstance(made.values, Tables)  # no ONNX target has them
        arrays = stored.arrays(made.values)
        digest = hashlib.sha256()
        for region, array in zip(stored.regions, arrays, strict=True):
            assert array.shape[1:] == region.shape[1:], (region, array.shape)
            data = np.ascontiguousarray(array, region.dtype)
            digest.update(data.reshape(-1).view(np.uint8).data)
            self._data.write(region, rows.start, data)
        return _Written(digest.digest(), made.error, made.power)

    def _is_there(self, stored: StoredMatrix, pool: ThreadPoolExecutor) -> bool:
        """Whether the journal holds the matrix, and the file what the journal says."""
        finished = self._journal.finished.get(stored.name)
        if finished is None:
            return False
        digests = pool.map(lambda rows: self._digest(stored, rows), row_chunks(stored.layout))
        if _joined(digests) != finished.sha256:
            return False
        self._quantizer.finish(stored.name, finished.error)
        self._report(stored.layout.weights)
        return True

    def _digest(self, stored: StoredMatrix, rows: slice) -> bytes:
        digest = hashlib.sha256()
        for region in stored.regions:
            digest.update(self._data.read(region, rows.start, rows.stop - rows.start))
        return digest.digest()

    def _report(self, weights: int) -> None:
        self._done += weights
        if self._progress is not None:
            self._progress("quantizing", self._done, self._total)


def row_chunks(layout: Layout) -> list[slice]:
    """The rows that are made at a time: of about equal numbers, the same on every machine."""
    count = max(1, math.ceil(layout.weights / CHUNK))
    step = math.ceil(layout.rows / count)
    step += -step % max(1, layout.table_rows)
    return [slice(start, min(start + step, layout.rows)) for start in range(0, layout.rows, step)]


def _joined(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def relative_error(parts: Sequence[_Written | Rows]) -> float | None:
    """Root mean square of what quantization changed, over that of the weights."""
    error = [part.error for part in parts if part.error is not None]
    power = [part.power for part in parts if part.power is not None]
    if not error:
        return None
    total = float(np.concatenate(power).sum())
    ratio = (float(np.concatenate(error).sum()) / total) ** 0.5 if total > 0 else 0.0
    return float(f"{ratio:.3g}")
