"""The licence texts of everything in a bundle, in one folder. Judges no licence."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ondevice.bundle.parts import Part

FOLDER = "licences"
INDEX = "index.txt"


def write_licences(parts: Sequence[Part], folder: Path) -> list[str]:
    """Copy each part's texts to `folder/LABEL/` and write `index.txt`.

    A part under Apache-2.0 that brings no text gets the licence's standard text. Returns the
    labels of parts without any text, which the index says too.
    """
    folder.mkdir(parents=True)
    missing = []
    lines = []
    for part in parts:
        texts = part.texts or _standard(part.licence)
        if texts:
            _copy(texts, folder / part.label)
        else:
            missing.append(part.label)
        where = f"{part.label}/" if texts else "NO TEXT FOUND"
        words = part.licence or ("see its text" if texts else "unknown")
        lines.append(f"{part.name} {part.version}".strip() + f"\t{words}\t{where}")
    (folder / INDEX).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return missing


def _copy(texts: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for path in texts:
        target = folder / path.name
        if target.exists():  # the same name from another folder of the distribution
            target = folder / f"{path.parent.name}-{path.name}"
        shutil.copyfile(path, target)
        target.chmod(0o644)


def _standard(licence: str) -> tuple[Path, ...]:
    """Our own licence's text, which is that of every work under Apache-2.0."""
    if licence.lower() not in ("apache-2.0", "apache 2.0"):
        return ()
    own = metadata.distribution("ondevice")
    found = [own.locate_file(file) for file in own.files or () if file.name == "LICENSE"]
    return tuple(Path(str(path)) for path in found if Path(str(path)).is_file())[:1]
