"""The page's libraries as parts: by the table beside them, and the hash of what is really there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ondevice import files
from ondevice.bundle.parts import Part

_ROW = re.compile(r"^\| `([^`]+)` \| ([^ |]+)[^|]* \| ([^ |]+) \| ([^|]+?) \|$", re.MULTILINE)


def script_parts(vendor: Path) -> list[Part]:
    """One part for each script or style sheet in `vendor`, by file name.

    README.md has a table of file, package, version and licence; NAME.LICENSE.txt is the text. A
    file that is not in the table is a part of unknown version and licence.
    """
    if not vendor.is_dir():
        return []
    return list(_parts(vendor))


def _parts(vendor: Path) -> Iterator[Part]:
    readme = vendor / "README.md"
    table = _ROW.findall(readme.read_text(encoding="utf-8")) if readme.is_file() else []
    rows = {file: (package, version, licence) for file, package, version, licence in table}
    for path in sorted(vendor.iterdir()):
        if path.suffix not in (".js", ".mjs", ".css", ".woff2"):
            continue
        package, version, licence = rows.get(path.name, (path.name, "", ""))
        text = vendor / f"{path.name.split('.')[0]}.LICENSE.txt"
        yield Part(
            name=package,
            version=version,
            kind="script",
            licence=licence.replace(" or ", " OR ").replace(" and ", " AND "),
            texts=(text,) if text.is_file() else (),
            purl=f"pkg:npm/{package.replace('@', '%40')}@{version}" if version else "",
            sha256=((path.name, files.sha256(path)),),
        )
