"""What of an export is done, kept line by line, so that a killed one can go on.

A line is written only after the data it speaks of is on the disk. Knows names and hashes, no
tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ondevice import files, json_lines

# Finished matrices wait this long for their lines: a wait for the disk costs as much for one
# as for many. At the speed of two cores this is a few seconds of work.
BATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class Finished:
    """A matrix that is written: its name, a hash of its bytes, what quantizing it changed.

    `error` is the root mean square of the change over that of the weights; None where the
    matrix was taken over exactly or kept in float32.
    """

    matrix: str
    sha256: str
    error: float | None


class Journal:
    """The finished matrices of one export, in a file.

    `identity` is everything the bytes depend on: a journal of another identity is none.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path = path
        self._waiting: list[Finished] = []
        self._waiting_bytes = 0
        self.finished: dict[str, Finished] = {}
        identity = json.loads(json.dumps(identity))
        lines = list(json_lines.whole(_text(path)))
        self.resumed = bool(lines) and lines[0] == {"identity": identity}
        if self.resumed:
            self.finished = {line["matrix"]: Finished(**line) for line in lines[1:]}
        else:
            path.unlink(missing_ok=True)
            self._append({"identity": identity})
            files.sync(path.parent)

    def add(self, finished: Finished, size: int, sync_data: Callable[[], None]) -> None:
        """Note a matrix of `size` bytes; `sync_data` is called before its line is written."""
        self._waiting.append(finished)
        self._waiting_bytes += size
        if self._waiting_bytes >= BATCH_BYTES:
            self.flush(sync_data)

    def flush(self, sync_data: Callable[[], None]) -> None:
        """Write the lines that wait, after the data they speak of."""
        if not self._waiting:
            return
        sync_data()
        self._append(*(asdict(finished) for finished in self._waiting))
        self.finished |= {finished.matrix: finished for finished in self._waiting}
        self._waiting, self._waiting_bytes = [], 0

    def _append(self, *lines: dict[str, Any]) -> None:
        for line in lines:
            json_lines.append(self._path, line)
        files.sync(self._path)


def finished_matrices(path: Path) -> int:
    """How many matrices a journal says are done; 0 where there is none."""
    return sum("matrix" in line for line in json_lines.whole(_text(path)))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
