"""JSON files that are read back: parsed strictly, of a known version, as their schema says.

Knows no data classes. The schemas are `ondevice/schemas/NAME.schema.json`.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from ondevice.errors import OndeviceError, RequestError

_MAX_BYTES = 32 << 20


def dumps(data: dict[str, Any]) -> str:
    """The text of a result file, for people to read too."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str) -> object:
    """The JSON value of a text, all its numbers finite.

    Raises `ValueError`, or `RecursionError` for one that is nested too deeply.
    """
    value: object = json.loads(text, parse_constant=_no_number, parse_float=_number)
    return value


def read(path: Path) -> object:
    """The JSON value in a file; `RequestError` when it is missing, too big or not JSON."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; not a result")
        return loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RequestError(f"{path} is not valid JSON: {reason}") from error


def require_version(
    data: object,
    newest: int,
    path: Path,
    error: type[OndeviceError] = RequestError,
    remedy: str = "upgrade ondevice",
) -> None:
    """Raise `error` for data whose `format_version` is above the newest known."""
    version = data.get("format_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > newest:
        raise error(
            f"{path} has format version {version}; this ondevice reads up to {newest}: {remedy}"
        )


def problem(data: object, name: str) -> str:
    """Where data departs from the schema of that name, and how; "" where it does not."""
    try:
        found = next(iter(_validator(name).iter_errors(data)), None)
    except RecursionError:
        return "nested too deeply"
    if found is None:
        return ""
    where = "/".join(str(part)[:80] for part in found.absolute_path) or "top level"
    return f"{where}: {' '.join(found.message.split())[:200]}"


@cache
def schema(name: str) -> dict[str, Any]:
    """The JSON schema of that name."""
    path = resources.files("ondevice") / "schemas" / f"{name}.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@cache
def _validator(name: str) -> Any:
    """The schema's validator, to which 2.0 is no integer: a count is written without a point."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    whole = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict = extend(Draft202012Validator, type_checker=whole)  # type: ignore[no-untyped-call]
    return strict(schema(name))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
