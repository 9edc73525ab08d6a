"""Data classes from JSON, field by field, with errors that name the field.

Knows data classes of numbers, texts, tuples of these, and other such classes; no files.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from ondevice.errors import CalibrationError

T = TypeVar("T")

NOT_STORED = {"stored": False}
"""Metadata of a field that is no part of the JSON."""


def build(kind: type[T], data: object, where: str = "") -> T:
    """An instance of the data class `kind`. Raises `CalibrationError` naming the first wrong field.

    Fields with a default may be missing; unknown ones are errors.
    """
    name = where or "the top level"
    if not isinstance(data, dict):
        raise CalibrationError(f"{name} has to be a JSON object")
    fields = {f.name: f for f in dataclasses.fields(kind) if _is_stored(f)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise CalibrationError(f"{_path(where, str(key)[:60])} is not known")
    hints = typing.get_type_hints(kind)
    values = {}
    for field in fields.values():
        path = _path(where, field.name)
        if field.name in data:
            values[field.name] = _value(hints[field.name], data[field.name], path)
        elif field.default is dataclasses.MISSING:
            raise CalibrationError(f"{path} is missing")
    return kind(**values)


def as_json(value: Any) -> Any:
    """The data class as what `json` writes, without fields that are not stored."""
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if _is_stored(f)]
        return {name: as_json(getattr(value, name)) for name in fields}
    return [as_json(one) for one in value] if isinstance(value, tuple) else value


def _is_stored(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("stored", True))


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(part for part in hint.__args__ if part is not type(None))
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(Any, hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise CalibrationError(f"{where} has to be a list")
        part = typing.get_args(hint)[0]
        if part is float and all(type(one) is float for one in value) and _finite(value):
            return tuple(value)  # the long lists: no name is made for each number
        return tuple(_value(part, one, f"{where}[{i}]") for i, one in enumerate(value))
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    is_bool = isinstance(value, bool)
    if hint is float and isinstance(value, int | float) and not is_bool and math.isfinite(value):
        return float(value)
    if hint is int and isinstance(value, int) and not is_bool and abs(value) < 1 << 53:
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    words = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    raise CalibrationError(f"{where} has to be {words[hint]}")


def _finite(values: list[float]) -> bool:
    return all(map(math.isfinite, values))


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
