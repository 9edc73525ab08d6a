"""Where in a TOML text a key stands, so that an error can name its line.

Knows nothing about what the keys mean.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

KeyPath = tuple[str | int, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table and key of a valid TOML text, by its path.

    A path holds names, and for an array of tables the number of the entry from 0.
    """
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for first, statement in _statements(text):
        data = tomllib.loads(statement)
        if statement.lstrip().startswith("[["):
            names = tuple(_dotted(data))
            number = counts.get(names, 0)
            counts[names] = number + 1
            table = (*names, number)
            found.setdefault(names, first)
            found[table] = first
        elif statement.lstrip().startswith("["):
            # A table below an array of tables belongs to the array's last entry.
            table = _below(tuple(_dotted(data)), counts)
            found.setdefault(table, first)
        else:
            for path in _paths(data):
                found.setdefault((*table, *path), first)
    for path, first in list(found.items()):
        for end in range(1, len(path)):  # [a.b] makes the table a too
            found.setdefault(path[:end], first)
    return found


def _statements(text: str) -> list[tuple[int, str]]:
    """Every key with its value, and every table's header, with the line it begins on."""
    statements = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        first, statement = at, lines[at]
        at += 1
        while not _is_whole(statement) and at < len(lines):
            statement += "\n" + lines[at]
            at += 1
        if statement.strip() and not statement.lstrip().startswith("#"):
            statements.append((first + 1, statement))
    return statements


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _dotted(data: dict[str, Any]) -> list[str]:
    """The names of a header such as `[a.b]`, read as `{"a": {"b": {}}}`."""
    names = []
    inner: Any = data
    while inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        name = next(iter(inner))
        names.append(name)
        inner = inner[name]
    return names


def _below(names: tuple[str, ...], counts: dict[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    plain: tuple[str, ...] = ()
    for name in names:
        plain = (*plain, name)
        path = (*path, name)
        if plain in counts:
            path = (*path, counts[plain] - 1)
    return path


def _paths(data: Any) -> list[KeyPath]:
    """Paths of all keys within a value."""
    if isinstance(data, dict):
        pairs: Iterable[tuple[str | int, Any]] = data.items()
    elif isinstance(data, list):
        pairs = enumerate(data)
    else:
        return []
    paths: list[KeyPath] = []
    for key, value in pairs:
        paths.append((key,))
        paths.extend((key, *rest) for rest in _paths(value))
    return paths
