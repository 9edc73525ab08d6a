"""Where packages live on this machine, and how one is found by name.

Knows nothing about how a package got there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ondevice import files
from ondevice.errors import PackageError, RequestError
from ondevice.nearest import closest
from ondevice.package import MANIFEST, Package, open_package

BUNDLED = "ONDEVICE_BUNDLED"  # a read-only folder of packages that came with the program

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*")


@dataclass(frozen=True)
class Broken:
    """A folder of the store that is no sound package, and what is wrong with it."""

    name: str
    problem: str


def home() -> Path:
    """The folder of everything `ondevice` keeps: ONDEVICE_HOME, else the user's data folder."""
    if chosen := os.environ.get("ONDEVICE_HOME"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("ondevice", appauthor=False)


def packages_folder() -> Path:
    """The folder with one package folder by name."""
    return home() / "packages"


def package_folder(name: str) -> Path:
    """The folder of the package `name`, there or not. Raises `PackageError` for a bad name."""
    if not _NAME.fullmatch(name):
        raise PackageError(f"{name!r} is not a package name; use letters, digits, '.', '-', '_'")
    return packages_folder() / name


def downloads_folder() -> Path:
    """The folder of unfinished and kept downloads, one folder by model."""
    return home() / "downloads"


def names() -> list[str]:
    """Names of all folders in the store, sound or not, in order."""
    folder = packages_folder()
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name))


def packages() -> list[Package]:
    """The sound packages of the store, by name, then those that came with the program and have
    other names; `broken` tells of the rest."""
    own = [entry for entry in _entries() if isinstance(entry, Package)]
    taken = {package.manifest.name for package in own}
    return own + [package for package in bundled() if package.manifest.name not in taken]


def bundled() -> list[Package]:
    """The packages in the folder that ONDEVICE_BUNDLED names, by name; none where it is not set.

    Raises `PackageError` for a damaged one: nobody but a new copy of the program mends it.
    """
    folder = os.environ.get(BUNDLED)
    if not folder:
        return []
    return [open_package(found.parent) for found in sorted(Path(folder).glob(f"*/{MANIFEST}"))]


def broken() -> list[Broken]:
    """The folders of the store that cannot be used, with the reason."""
    return [entry for entry in _entries() if isinstance(entry, Broken)]


def find(name: str | Path | None = None) -> Package:
    """The package of a name in the store or of a path; without one, the default.

    The default is the lock's if it is installed, else the one written last. Raises
    `PackageError`: nothing there, or the package is damaged.
    """
    if name is None:
        return _default()
    text = str(name)
    if isinstance(name, str) and _NAME.fullmatch(text) and package_folder(text).is_dir():
        return open_package(package_folder(text))
    for package in bundled():
        if package.manifest.name == text:
            return package
    path = Path(name).expanduser()
    if path.is_dir():
        return open_package(path)
    raise PackageError(_not_found(text))


def select(names: Sequence[str]) -> list[Package]:
    """The packages of these names or paths; without any, all of the store, the default first.

    Raises `PackageError` where one cannot be used or there is none, `RequestError` where two have
    the same name.
    """
    if not names:
        default = find(None)
        others = [p for p in packages() if p.manifest.name != default.manifest.name]
        return [default, *others]
    found = [find(name) for name in names]
    called = [package.manifest.name for package in found]
    if twice := next((name for name in called if called.count(name) > 1), None):
        raise RequestError(f"two packages are called {twice!r}; name one of them")
    return found


def remove(name: str) -> int:
    """Delete a package of the store and what was downloaded for it; returns the bytes freed.

    The folder loses its name first, so that an interrupted removal leaves no half package.
    Raises `PackageError` when the store has none of that name.
    """
    folder = package_folder(name)
    if not folder.is_dir():
        raise PackageError(_not_found(name))
    downloads = downloads_folder() / name
    freed = size(folder) + size(downloads)
    doomed = folder.with_name(f".{name}.removed-{os.getpid()}")
    with files.writing(folder):
        folder.rename(doomed)
        shutil.rmtree(doomed)
        shutil.rmtree(downloads, ignore_errors=True)
    return freed


def size(folder: Path) -> int:
    """Bytes of all files in a folder, 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _entries() -> list[Package | Broken]:
    entries: list[Package | Broken] = []
    for name in names():
        try:
            entries.append(open_package(package_folder(name)))
        except PackageError as error:
            entries.append(Broken(name, str(error)))
    return entries


def _default() -> Package:
    from ondevice import lock

    locked = lock.read()
    if locked.default is not None and package_folder(locked.default).is_dir():
        return open_package(package_folder(locked.default))
    found = packages()
    if found:
        return max(found, key=lambda package: (package.folder / MANIFEST).stat().st_mtime)
    if spoilt := broken():
        raise PackageError(spoilt[0].problem)
    if locked.default is None:
        raise PackageError('no model is installed; "ondevice pull NAME" fetches one')
    model = locked.find()
    raise PackageError(f'no model is installed; "ondevice pull" fetches {model.summary}')


def _not_found(name: str) -> str:
    from ondevice import lock

    installed = names()
    locked = lock.read()
    if name in locked.models:
        model = locked.models[name]
        return f'{name} is not installed; "ondevice pull {name}" fetches {model.summary}'
    if near := closest(name, [*installed, *locked.models]):
        return f"no package {name!r} here; did you mean {near!r}?"
    if installed:
        return f"no package {name!r} here; installed: {', '.join(installed)}"
    return f'no package {name!r} here, and none is installed; "ondevice pull" fetches one'
