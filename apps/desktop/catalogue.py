"""The models that are here and those that can be fetched, as the page lists them.

Packages come from the store, and from a read-only folder beside the program where there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ondevice import lock, store
from ondevice.desktop.pulls import partial_bytes
from ondevice.desktop.speeds import Speed, Speeds
from ondevice.errors import LockError, PackageError
from ondevice.lock import LockedModel
from ondevice.package import MANIFEST, Package, open_package
from ondevice.runtime.clock import Clock, system_clock

_FRESH_S = 5.0  # seconds for which a look at the disk is believed


@dataclass(frozen=True)
class Installed:
    """A model that is here; `problem` says why it cannot be used."""

    name: str
    target: str
    bytes: int
    licence: str
    context_length: int
    quantized_from: str
    loaded: bool
    default: bool
    speed: Speed | None
    problem: str = ""


@dataclass(frozen=True)
class Offered:
    """A model of the lock; `expected_tps` is an estimate for this device, tokens/s."""

    name: str
    summary: str
    download_bytes: int
    licence: str
    expected_tps: float | None
    installed: bool
    partial_bytes: int


class Catalogue:
    """What is here. `changed` is told the sound packages when they are others than before."""

    def __init__(
        self,
        bundled: Path | None,
        chosen: tuple[Package, ...] = (),
        *,
        clock: Clock = system_clock,
    ) -> None:
        self._bundled = bundled
        self._chosen = chosen
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_at: float | None = None
        self._packages: tuple[Package, ...] = ()
        self._broken: tuple[store.Broken, ...] = ()
        self.changed: Callable[[tuple[Package, ...]], None] = lambda packages: None

    def packages(self, *, fresh: bool = False) -> tuple[Package, ...]:
        """The sound packages, those named at the start first; looks at the disk now and then."""
        with self._lock:
            late = self._seen_at is None or self._clock() - self._seen_at > _FRESH_S
            if not (late or fresh):
                return self._packages
            before = self._packages
            self._look()
            if self._packages != before:
                self.changed(self._packages)
            return self._packages

    @property
    def broken(self) -> tuple[store.Broken, ...]:
        """Folders that hold no sound package, as last seen."""
        return self._broken

    def _look(self) -> None:
        found: dict[str, Package] = {}
        broken: list[store.Broken] = []
        installed = [store.package_folder(name) for name in store.names()]
        chosen = [package.folder for package in self._chosen]
        for folder in (*chosen, *_folders(self._bundled), *installed):
            try:
                package = open_package(folder)
                found.setdefault(package.manifest.name, package)
            except PackageError as error:
                broken.append(store.Broken(folder.name, str(error)))
        broken = [one for one in broken if one.name not in found]
        self._packages, self._broken = tuple(found.values()), tuple(broken)
        self._seen_at = self._clock()


def installed(
    catalogue: Catalogue, speeds: Speeds, loaded: tuple[str, ...], default: str
) -> list[Installed]:
    """All models that are here, the broken ones last."""
    sound = [
        Installed(
            name=package.manifest.name,
            target=package.manifest.recipe.target,
            bytes=package.total_bytes,
            licence=package.manifest.source.licence or "unknown",
            context_length=package.manifest.shape.context_length,
            quantized_from=package.manifest.source.id,
            loaded=package.manifest.name in loaded,
            default=package.manifest.name == default,
            speed=speeds.of(package),
        )
        for package in catalogue.packages()
    ]
    broken = [
        Installed(one.name, "", 0, "", 0, "", False, False, None, one.problem)
        for one in catalogue.broken
    ]
    return [*sound, *broken]


def default_name(packages: tuple[Package, ...], wanted: str) -> str:
    """The model that answers where none is named: the wanted one, else the lock's, else any."""
    names = [package.manifest.name for package in packages]
    if wanted in names:
        return wanted
    try:
        locked = lock.read().default
    except LockError:
        locked = None
    if locked in names and locked is not None:
        return locked
    return names[0] if names else ""


def offered(speeds: Speeds, here: tuple[Package, ...]) -> list[Offered]:
    """The models of the lock, the default first, then by size. Raises `LockError`."""
    locked = lock.read()
    names = {package.manifest.name for package in here}
    models = sorted(locked.models.values(), key=lambda m: (m.name != locked.default, m.bytes))
    return [
        Offered(
            name=model.name,
            summary=model.description,
            download_bytes=model.bytes,
            licence=model.licence,
            expected_tps=speeds.expected_tps(_size(model)),
            installed=model.name in names,
            partial_bytes=partial_bytes(model.name),
        )
        for model in models
    ]


def _size(model: LockedModel) -> int:
    recorded = model.packages.get(model.target)
    return recorded.bytes if recorded is not None else model.bytes


def _folders(bundled: Path | None) -> list[Path]:
    """Package folders in a folder, or the folder itself where it is one."""
    if bundled is None or not bundled.is_dir():
        return []
    if (bundled / MANIFEST).is_file():
        return [bundled]
    return sorted(path.parent for path in bundled.glob(f"*/{MANIFEST}"))
