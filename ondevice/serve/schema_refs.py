"""A JSON schema moved to another place in a document, with its own references going along."""

from __future__ import annotations

from typing import Any

_DATA = ("const", "enum", "default", "examples")  # what stands there is no schema
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def moved(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """The schema as it has to read at `place`, a JSON pointer such as "#/$defs/one".

    References within it ("#", "#/$defs/...") are relative to the document's top, so that they
    would miss; others are left alone. Raises `RecursionError` for one nested too deeply.
    """
    return {key: _moved(key, value, place) for key, value in schema.items()}


def _moved(key: str, value: Any, place: str) -> Any:
    if key == "$ref" and isinstance(value, str):
        return place + value[1:] if value == "#" or value.startswith("#/") else value
    if key in _DATA:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _moved("", one, place) for name, one in value.items()}
    if isinstance(value, dict):
        return moved(value, place)
    if isinstance(value, list):
        return [moved(one, place) if isinstance(one, dict) else one for one in value]
    return value
