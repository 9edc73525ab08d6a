"""The parts of ondevice that a program needs, copied into one tree as they lie in a wheel.

PyInstaller cannot follow an editable install; a plain tree works for every kind of install.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ondevice import lock

# Folders of the install that lie elsewhere in a checkout.
_PACKAGES = ("ondevice", "ondevice.export", "ondevice.runtime", "ondevice.desktop")
# What makes bundles is no part of one.
_KEPT_OF_BUNDLE = ("__init__.py", "entry.py")


@dataclass(frozen=True)
class Stage:
    """The tree; names of all its modules, and (file, folder in the bundle) for all other files."""

    root: Path
    modules: tuple[str, ...]
    data: tuple[tuple[str, str], ...]


def make_stage(root: Path) -> Stage:
    """Copy ondevice's modules and data to `root`, which must not exist yet."""
    for name in _PACKAGES:
        source = Path(next(iter(importlib.import_module(name).__path__)))
        target = root.joinpath(*name.split("."))
        shutil.copytree(source, target, ignore=_ignore, dirs_exist_ok=True)
    for path in (root / "ondevice" / "bundle").iterdir():
        if path.name not in _KEPT_OF_BUNDLE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copyfile(lock.shipped_path(), root / "ondevice" / lock.FILE)
    _write_metadata(root)
    return Stage(root, tuple(_modules(root)), tuple(_data(root)))


def _ignore(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.startswith(".")}


def _modules(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _data(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".py":
            yield str(path), str(path.parent.relative_to(root))


def _write_metadata(root: Path) -> None:
    """The metadata of ondevice and what it depends on: packages record these versions."""
    required = metadata.requires("ondevice") or []
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in required if "extra ==" not in line]
    for name in ("ondevice", *names):
        found = metadata.distribution(name)
        text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
        folder = root / f"{name.replace('-', '_')}-{found.version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(text, encoding="utf-8")
