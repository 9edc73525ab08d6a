"""Files that are either whole or absent: atomic writers, hashes, safe paths, free space.

Knows nothing about models.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ondevice.errors import OndeviceError

CHUNK = 1 << 20


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hex SHA-256 of a file; `progress` is called with the bytes of each chunk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if progress is not None:
                progress(len(chunk))
    return digest.hexdigest()


def inside(folder: Path, name: str, error: type[OndeviceError] = OndeviceError) -> Path:
    """`folder / name` for a plain relative name.

    Raises `error` when the name is absolute, climbs out with `..`, or leads outside
    through a link.
    """
    parts = PurePosixPath(name).parts
    bad = (
        not name
        or "\\" in name
        or "\0" in name
        or name.startswith("/")
        or ".." in parts
        or PureWindowsPath(name).drive
    )
    path = folder / name
    if bad or not path.resolve().is_relative_to(folder.resolve()):
        raise error(f"{name!r} points outside {folder}; a package may only name its own files")
    return path


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `OndeviceError` when the disk of `folder` has less than `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise OndeviceError(
            f"{what} needs {needed / 1e6:,.0f} MB on the disk of {existing}, "
            f"{free / 1e6:,.0f} MB are free; free some space or choose another folder"
        )


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically (UTF-8, `\\n` line ends)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(final: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its name when the block succeeds.

    On any failure, Ctrl-C included, the temporary folder is removed and what was at `final`
    stays as it was. Raises `OndeviceError` when `final` exists and `replace` is false.
    """
    if final.exists() and not replace:
        raise OndeviceError(f"{final} exists already; remove it or choose another --out")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=final.parent))
    except OSError as error:
        raise OndeviceError(f"cannot write to {final.parent}: {error.strerror}") from error
    try:
        yield work
        work.chmod(0o755)
        old = final.with_name(f".{final.name}.old-{os.getpid()}")
        if final.exists():
            final.rename(old)
        work.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OndeviceError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
