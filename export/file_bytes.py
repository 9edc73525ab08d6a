"""Parts of large files, read and not mapped: pages of a mapped file would count as our memory.

Several threads may read at once. Knows nothing about formats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError


def read_bytes(path: Path, offset: int, count: int) -> NDArray[np.uint8]:
    """`count` bytes from `offset` on, uint8 (count,); raises `SourceError` if they are missing."""
    try:
        data: NDArray[np.uint8] = np.fromfile(path, np.uint8, count, offset=offset)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if data.size != count:
        raise SourceError(
            f"{path} ended before byte {offset + count:,} while it was read; fetch it again"
        )
    return data
