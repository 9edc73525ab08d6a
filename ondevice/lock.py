"""`models.lock`: finding, reading, checking and adding to it.

Knows nothing about how files are fetched; only `add` opens a connection, through `hub`.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice import files, package, store
from ondevice._locktoml import (
    FORMAT,
    Lock,
    LockedFile,
    LockedModel,
    Mirror,
    MirrorWheel,
    Recorded,
    parse,
)
from ondevice.errors import LockError, PackageError
from ondevice.package import Package

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = [
    "Finding",
    "Lock",
    "LockedFile",
    "LockedModel",
    "Mirror",
    "MirrorWheel",
    "Recorded",
    "add",
    "check",
    "own_path",
    "parse",
    "read",
    "record",
    "shipped_path",
    "write",
]

FILE = "models.lock"


@dataclass(frozen=True)
class Finding:
    """One line of `lock --check`: a model, whether all is well, and what was found."""

    model: str
    ok: bool
    message: str


def own_path() -> Path:
    """The user's own lock, which `add` and `record` write unless told otherwise."""
    return store.home() / FILE


def shipped_path() -> Path:
    """The lock that came with this ondevice: inside the wheel, or the checkout's top."""
    here = Path(__file__).parent
    return here / FILE if (here / FILE).is_file() else here.parent / FILE


def read(path: Path | None = None) -> Lock:
    """Read a lock; without a path, the user's own laid over the shipped one.

    Raises `LockError` naming the file and the key.
    """
    if path is not None:
        return _read(path)
    shipped = _read(shipped_path())
    if not own_path().is_file():
        return shipped
    own = _read(own_path(), also=shipped)
    return Lock(own_path(), own.default or shipped.default, shipped.models | own.models)


def check(lock: Lock) -> list[Finding]:
    """Hash every installed package and compare it with what the lock records. No network.

    That the entries are well formed was `read`'s business. One finding for each installed
    package, and one for each model that is not installed.
    """
    findings = []
    for model in lock.models.values():
        targets = [t for t in _targets(model) if store.package_folder(_name(model, t)).is_dir()]
        findings += [_check_installed(model, target) for target in targets]
        if not targets:
            findings.append(_check_absent(model))
    return findings


def add(
    repo_id: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    file: str | None = None,
    target: str = "cpu-as-is",
    path: Path | None = None,
    replace: bool = False,
) -> LockedModel:
    """Ask the hub for a model's files, sizes and hashes and write them into a lock.

    `revision` (branch, tag or commit) becomes the commit it stands for now. `file` names one
    of several GGUF files. Raises `FetchError` when the hub cannot answer, `LockError` when the
    name is taken and `replace` is false.
    """
    from ondevice import hub

    model = hub.describe(repo_id, name=name, revision=revision, file=file, target=target)
    write(model, path, replace=replace)
    return model


def write(model: LockedModel, path: Path | None = None, *, replace: bool = False) -> None:
    """Write one entry into a lock (the user's own by default), keeping all else as it stands."""
    path = path or own_path()
    document = _document(path)
    models = document["models"]
    if model.name in models and not replace:
        raise LockError(f"{path} has a model {model.name!r} already; choose another --name")
    if model.name in models:
        models.remove(model.name)
    models.append(_key(model.name), _model_table(model))
    _save(document, path)


def record(name: str, exported: Package, path: Path | None = None) -> None:
    """Write what an export gave (hashes, tools, proof) into a model's entry of a lock.

    Into the user's own lock by default, with the model's entry where it has none yet. Raises
    `LockError` when no lock knows the model or the package was made from other files.
    """
    path = path or own_path()
    model = (_read(path) if path.is_file() and path != own_path() else read()).find(name)
    manifest = exported.manifest
    if not model.made_of(manifest.source.files):
        raise LockError(f"{exported.folder} was not made from the files of {name} in {path}")
    document = _document(path)
    if name not in document["models"]:
        document["models"].append(_key(name), _model_table(model))
    entry = document["models"][name]
    if "packages" not in entry:
        entry["packages"] = _super_table()
    outcome = Recorded(
        exported.total_bytes, manifest.content_hashes(), dict(manifest.tools), manifest.proof
    )
    target = manifest.recipe.target
    if target in entry["packages"]:
        entry["packages"].remove(target)
    entry["packages"].append(target, _recorded_table(outcome))
    _save(document, path)


def _read(path: Path, also: Lock | None = None) -> Lock:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise LockError(f"cannot read the lock {path}: {reason}") from error
    return parse(text, path, also.models if also else {})


def _targets(model: LockedModel) -> list[str]:
    return sorted({model.target, *model.packages})


def _name(model: LockedModel, target: str) -> str:
    return model.package_name(target)


def _check_installed(model: LockedModel, target: str) -> Finding:
    name = _name(model, target)
    try:
        installed = package.open_package(store.package_folder(name))
        package.verify_hashes(installed)
    except PackageError as error:
        return Finding(name, False, str(error))
    if not model.made_of(installed.manifest.source.files):
        return Finding(
            name, False, f'made from other files; "ondevice pull {model.name}" renews it'
        )
    recorded = model.packages.get(target)
    if recorded is None:
        return Finding(name, True, "sound; the lock records no outcome to compare with")
    found = installed.manifest.content_hashes()
    differing = sorted(f for f in found | recorded.files if found.get(f) != recorded.files.get(f))
    if differing:
        return Finding(name, False, f"sound, but {', '.join(differing)} not as the lock records")
    return Finding(name, True, f"{len(found)} files as the lock records")


def _check_absent(model: LockedModel) -> Finding:
    if model.revision is None and not model.mirrored:
        return Finding(model.name, False, "neither a hub revision nor a mirror for every file")
    return Finding(model.name, True, "well formed, not installed")


def _document(path: Path) -> TOMLDocument:
    import tomlkit

    if path.is_file():
        _read(path, also=None if path != own_path() else _read(shipped_path()))
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    document = tomlkit.document()
    document["format"] = FORMAT
    document["models"] = _super_table()
    return document


def _save(document: TOMLDocument, path: Path) -> None:
    import tomlkit

    text = _spaced(tomlkit.dumps(document))
    parse(text, path, _read(shipped_path()).models)
    files.write_text(path, text)


def _spaced(text: str) -> str:
    """One empty line before each table, where that changes nothing else."""
    spaced = re.sub(r"\n{3,}", "\n\n", text)
    spaced = re.sub(r"(?m)^((?!#|\[).+\n)(\[)", r"\1\n\2", spaced)
    return spaced if tomllib.loads(spaced) == tomllib.loads(text) else text


def _key(name: str) -> Any:
    """A key that keeps its dots: tomlkit would read `a.b` as a table inside a table."""
    import tomlkit
    from tomlkit.items import KeyType, SingleKey

    return SingleKey(name, KeyType.Basic) if "." in name else tomlkit.key(name)


def _super_table() -> Any:
    import tomlkit

    return tomlkit.table(is_super_table=True)


def _model_table(model: LockedModel) -> Any:
    import tomlkit

    table = tomlkit.table()
    table["description"] = model.description
    table["licence"] = model.licence
    table["target"] = model.target
    source = {"id": model.source_id}
    if model.revision is not None:
        source["revision"] = model.revision
    table["source"] = _inline(source)
    table["files"] = _array([dataclasses.asdict(file) for file in model.files])
    if model.mirrors:
        mirrors = tomlkit.aot()
        for mirror in model.mirrors:
            item = tomlkit.table()
            item["file"] = mirror.file
            item["wheels"] = _array([dataclasses.asdict(wheel) for wheel in mirror.wheels])
            mirrors.append(item)
        table["mirrors"] = mirrors
    if model.packages:
        table["packages"] = _super_table()
        for target, recorded in model.packages.items():
            table["packages"].append(target, _recorded_table(recorded))
    return table


def _recorded_table(recorded: Recorded) -> Any:
    import tomlkit

    table = tomlkit.table()
    table["bytes"] = recorded.bytes
    table["tools"] = _inline(dict(sorted(recorded.tools.items())))
    table["files"] = tomlkit.table()
    for name, sha256 in sorted(recorded.files.items()):
        table["files"].append(_key(name), sha256)
    if recorded.proof is not None:
        table["proof"] = tomlkit.table()
        for key, value in dataclasses.asdict(recorded.proof).items():
            table["proof"][key] = list(value) if isinstance(value, tuple) else value
    return table


def _array(rows: list[dict[str, Any]]) -> Any:
    import tomlkit

    array = tomlkit.array()
    array.multiline(True)
    for row in rows:
        array.append(_inline(row))
    return array


def _inline(row: dict[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    for key, value in row.items():
        table.append(_key(key), value)
    return table
