"""The folder beside an output in which an export works, and which outlives a kill.

`.NAME.export` holds the journal and the package in the making. The package gets its final name
when all is done; nothing is left then. Knows nothing about what is exported.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice import files
from ondevice.errors import ExportError
from ondevice.export.journal import Journal, finished_matrices

_JOURNAL = "journal.jsonl"
_PACKAGE = "package"
_LOCK = "lock"


@dataclass(frozen=True)
class Workspace:
    """The work folder of one export, held by this process alone."""

    folder: Path

    @property
    def package(self) -> Path:
        """The package in the making."""
        return self.folder / _PACKAGE

    def journal(self, identity: dict[str, Any], data: str) -> Journal:
        """The journal of the work that is there; work of another identity is removed.

        Of the package nothing stays but the file `data` that the journal speaks of.
        """
        journal = Journal(self.folder / _JOURNAL, identity)
        self.package.mkdir(exist_ok=True)
        for path in self.package.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != data or not journal.resumed:
                path.unlink()
        return journal


@contextlib.contextmanager
def workspace(final: Path, *, replace: bool = False, fresh: bool = False) -> Iterator[Workspace]:
    """Hold the work folder of `final`; its package takes that name when the block succeeds.

    A Ctrl-C leaves what another call can go on from; any other failure leaves nothing. What was
    at `final` stays as it was until then. With `fresh`, earlier work is removed first.
    Raises `OndeviceError` when `final` exists and `replace` is false, or cannot be written, and
    `ExportError` while another process exports there.
    """
    work = Workspace(_folder(final))
    with files.writing(final), _alone(work.folder, final):
        files.recover(final)
        if final.exists() and not replace:
            raise ExportError(f"{final} exists already; remove it or choose another --out")
        if fresh:
            _clear(work.folder)
        keep = False
        try:
            yield work
            files.publish(work.package, final)
        except KeyboardInterrupt:
            keep = kept_work(final) is not None
            raise
        finally:
            if not keep:
                _clear(work.folder)


def kept_work(final: Path) -> Path | None:
    """The folder of an unfinished export to `final` that can be gone on with, if there is one."""
    folder = _folder(final)
    return folder if finished_matrices(folder / _JOURNAL) else None


def _folder(final: Path) -> Path:
    return final.with_name(f".{final.name}.export")


@contextlib.contextmanager
def _alone(folder: Path, final: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ExportError(
                f"another export to {final} is running; wait for its end or choose another --out"
            ) from None
        if not (folder / _LOCK).exists():  # its last holder removed it just now
            lock.release()
    try:
        yield
    finally:
        _remove_empty(folder)
        lock.release()
        _remove_empty(folder)  # Windows removes no open file


def _clear(folder: Path) -> None:
    """Remove the work but not the lock, which is held."""
    (folder / _JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(folder / _PACKAGE, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but a lock."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {_LOCK}:
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()
