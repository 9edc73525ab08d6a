"""Files that are either whole or absent: atomic writers, hashes, safe paths, free space.

Knows nothing about models.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
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


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into an `OndeviceError`."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> OndeviceError:
    """The one-line error for a file or folder that could not be written."""
    if errno.errorcode.get(error.errno or 0) in ("ENOSPC", "EDQUOT"):
        return OndeviceError(f"the disk of {path.parent} is full; free some space and try again")
    return OndeviceError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically (UTF-8, `\\n` line ends)."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a small file atomically."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def new_folder(final: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its name when the block succeeds.

    On any failure, Ctrl-C included, the temporary folder is removed and what was at `final`
    stays as it was; what a killed run left beside it is cleared first. Raises `OndeviceError`
    when `final` exists and `replace` is false, or when it cannot be written.
    """
    if final.exists() and not replace:
        raise OndeviceError(f"{final} exists already; remove it or choose another --out")
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        recover(final)
        prefix = f".{final.name}.partial-{os.getpid()}-"
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        with writing(final):
            yield work
            publish(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, final: Path) -> None:
    """Give a finished folder its final name on the same disk, in place of what is there.

    Everything in it is on the disk before the name appears.
    """
    work.chmod(0o755)
    for path in (*work.rglob("*"), work):
        sync(path)
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    replaced = final.exists()
    if replaced:
        final.rename(old)
    try:
        work.rename(final)
    except BaseException:
        if replaced:
            old.rename(final)
        raise
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(final: Path) -> None:
    """Clear what killed runs left beside `final`; put a set-aside old folder back if need be."""
    import psutil

    pattern = re.compile(re.escape(f".{final.name}.") + r"(partial|old)-(\d+)(?:-.*)?")
    for path in list(final.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or psutil.pid_exists(int(match[2])):
            continue
        if match[1] == "old" and not final.exists():
            path.rename(final)
        else:
            shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file or, where the system can, a folder's entries survive a power cut."""
    if path.is_dir() and os.name == "nt":
        return
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
