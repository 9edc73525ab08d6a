"""SHA256SUMS: the hash of every file of a folder, as `sha256sum --check` reads it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ondevice import files
from ondevice.errors import OndeviceError

FILE = "SHA256SUMS"


def write_checksums(folder: Path) -> Path:
    """Write `folder/SHA256SUMS`: one line for each file, by path; links are not followed."""
    lines = [f"{files.sha256(path)}  {name}" for name, path in _files(folder)]
    path = folder / FILE
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def check(folder: Path) -> None:
    """Compare a folder with its SHA256SUMS.

    Raises `OndeviceError` naming the first file that differs, is missing, or is not listed.
    """
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OndeviceError(f"{folder / FILE} cannot be read") from error
    listed: dict[str, str] = {}
    for line in text.splitlines():
        sha256, _, name = line.partition("  ")
        listed[name] = sha256
    here = dict(_files(folder))
    for name in sorted(listed.keys() ^ here.keys()):
        what = "is missing" if name in listed else "is not listed"
        raise OndeviceError(f"{folder}: {name} {what}; copy the folder again")
    for name, path in here.items():
        if files.sha256(path) != listed[name]:
            raise OndeviceError(f"{folder}: {name} has other content; copy the folder again")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path != folder / FILE
    }
    for name in sorted(found):
        yield name, found[name]


if __name__ == "__main__":  # after signing, which changes files: `python -m ...checksums FOLDER...`
    for argument in sys.argv[1:]:
        write_checksums(Path(argument))
