"""Symbols that nobody debugs with taken out of the bundle's libraries, where that is safe."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ELF = b"\x7fELF"
_LIMIT_S = 120.0


def strip(folder: Path) -> int:
    """Strip the libraries under `folder`; the bytes saved. Does nothing where there is no `strip`.

    Linux only: elsewhere it would break signatures. Wheels' own `*.libs` folders are left alone,
    since their files were patched in a way that `strip` can spoil; so is the program itself,
    which carries an archive behind its code.
    """
    tool = shutil.which("strip")
    if tool is None or sys.platform != "linux":
        return 0
    return sum(_strip(tool, path) for path in _libraries(folder))


def _libraries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.so*")):
        if path.is_symlink() or not path.is_file() or path.parent.name.endswith(".libs"):
            continue
        with path.open("rb") as file:
            if file.read(4) == _ELF:
                yield path


def _strip(tool: str, path: Path) -> int:
    before = path.stat().st_size
    small = path.with_name(f".{path.name}.stripped")
    command = [tool, "--strip-unneeded", "-o", str(small), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
        if done.returncode != 0 or not small.is_file() or small.stat().st_size >= before:
            return 0
        small.chmod(path.stat().st_mode)
        small.replace(path)
    finally:
        small.unlink(missing_ok=True)
    return before - path.stat().st_size
