"""What the benchmark scripts share: packages made when missing, and results kept line by line.

Knows nothing about what is measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from ondevice import json_lines
from ondevice.export.convert import convert
from ondevice.export.recipe import Options
from ondevice.package import Package, open_package

WORK = Path("build") / "benchmarks"


def package_for(
    gguf: Path, target: str, work: Path, options: Options | None = None, name: str = ""
) -> Package:
    """The package of a GGUF file at a target in `work`, exported when it is not there yet.

    `name` tells packages of one target apart.
    """
    folder = work / f"{gguf.stem}-{name or target}"
    if folder.is_dir():
        return open_package(folder)
    print(f"exporting {gguf.name} to {folder}", file=sys.stderr)
    return convert(gguf, target, folder, options=options, accept=True)


def package_hash(package: Package) -> str:
    """One hash over the hashes of all files of a package."""
    return key(package.manifest.content_hashes())


def key(value: object) -> str:
    """A short hash of anything that JSON can hold, to recognize work that is done."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class Lines:
    """Results appended to a file of JSON lines, so that an interrupted run can go on."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self._done = {line["key"]: line for line in json_lines.whole(text)}

    def get(self, name: str) -> dict[str, Any] | None:
        """The line with this key, None when it is still to be made."""
        return self._done.get(name)

    def add(self, name: str, **values: Any) -> dict[str, Any]:
        """Append a line with its key; it is on the disk when this returns."""
        line = {"key": name, **values}
        json_lines.append(self._path, line)
        self._done[name] = line
        return line


def print_json(value: object) -> None:
    """Print a result for people and programs alike."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
