"""Checks that every source makes on its tensors. Knows nothing about file formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError


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
