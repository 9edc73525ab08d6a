"""What every source does with its tensors: find a weight's rows, check them, put them in order.

Knows nothing about file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture
from ondevice.export.architectures.layout import Stored

CHUNK = 1 << 20  # values converted at a time


@dataclass(frozen=True)
class Chunk:
    """Some rows of a weight: the rows `first` to `stop` of the stored tensor, of which `pick`.

    target: the rows of the result that they are.
    """

    target: slice
    first: int
    stop: int
    pick: slice | NDArray[np.intp]


@dataclass(frozen=True)
class Weight:
    """A weight of the decoder, shape (out, in) or (out,), and where it lies."""

    shape: tuple[int, ...]
    stored: Stored

    @property
    def width(self) -> int:
        """Values per row."""
        return prod(self.shape[1:])

    def chunks(self, rows: slice | None) -> Iterator[Chunk]:
        """Some rows of the weight, or all, a part at a time."""
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        step = max(1, CHUNK // self.width)
        for low in range(start, stop, step):
            high = min(low + step, stop)
            yield self._chunk(slice(low - start, high - start), low, high)

    def _chunk(self, target: slice, low: int, high: int) -> Chunk:
        base = 0 if self.stored.rows is None else self.stored.rows.start
        if self.stored.order is None:
            return Chunk(target, base + low, base + high, slice(None))
        order = self.stored.order[low:high]
        first = int(order.min())
        return Chunk(target, base + first, base + int(order.max()) + 1, order - first)

    def count(self, rows: slice | None) -> int:
        return len(range(*(rows or slice(None)).indices(self.shape[0])))


def weights_of(
    architecture: Architecture, place: Callable[[Architecture, str], Stored]
) -> dict[str, Weight]:
    """Every weight the decoder needs, by name."""
    return {
        name: Weight(shape, place(architecture, name))
        for name, shape in architecture.tensor_shapes().items()
    }


def stored_shapes(weights: Mapping[str, Weight]) -> dict[str, tuple[int, ...]]:
    """The shapes that the stored tensors must have; fused ones have the rows of all parts."""
    shapes: dict[str, tuple[int, ...]] = {}
    for weight in weights.values():
        rows = weight.shape[0] if weight.stored.rows is None else weight.stored.rows.stop
        before = shapes.get(weight.stored.name, (0,))[0]
        shapes[weight.stored.name] = (max(rows, before), *weight.shape[1:])
    return shapes


def assemble(
    weight: Weight,
    rows: slice | None,
    read: Callable[[int, int], NDArray[np.float32]],
    name: str,
    where: str,
) -> NDArray[np.float32]:
    """Some rows of a weight, or all, in fp32, (rows, in) or (rows,).

    `read` gives stored rows from one to another. Raises `SourceError` for NaN or infinity.
    """
    values = np.empty((weight.count(rows), *weight.shape[1:]), np.float32)
    for chunk in weight.chunks(rows):
        part = read(chunk.first, chunk.stop)
        require_finite(part, name, where)
        values[chunk.target] = part.reshape(-1, *weight.shape[1:])[chunk.pick]
    if weight.stored.plus:
        values += np.float32(weight.stored.plus)
    return values


def require_finite(values: NDArray[np.float32], name: str, where: str) -> None:
    """Raise `SourceError` when a tensor, or a part of it, holds NaN or infinity."""
    if not np.isfinite(values).all():
        raise SourceError(
            f"{name} in {where} holds NaN or infinity; fetch the checkpoint again, it is damaged"
        )


def require_shapes(
    needed: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    ignored: Iterable[str],
    where: str,
) -> None:
    """Raise `SourceError` when a weight is missing, misshapen, or would not be used.

    A weight the decoder has no place for means another computation than the one exported.
    """
    for name, shape in needed.items():
        if name not in found:
            raise SourceError(f"{where} has no tensor {name}; the checkpoint is incomplete")
        if found[name] != shape:
            raise SourceError(
                f"{name} in {where} has the shape {found[name]}, its description says {shape}; "
                "they are not of one checkpoint"
            )
    unused = sorted(set(found) - set(needed) - set(ignored))
    if unused:
        raise SourceError(
            f"{where} holds {unused[0][:80]!r}, which its architecture has no place for; "
            "exporting without it would give another model"
        )
