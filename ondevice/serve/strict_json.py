"""JSON that can be written again as it was read: finite numbers, whole characters, flat enough."""

from __future__ import annotations

import json
import math
import re

DEEPEST = 100  # lists and objects inside each other

_SURROGATE = re.compile(r"\\u[dD]")


def read(data: bytes) -> object:
    """The value of a JSON text in UTF-8. Raises `ValueError`."""
    text = data.decode()
    try:
        value: object = json.loads(text, parse_constant=_no_constant, parse_float=finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_depth(value)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeError is a ValueError
    return value


def finite(number: str) -> float:
    """A number that is not too large for a float, as 1e999 is. Raises `ValueError`."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is too large")
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict | list):
                inner.extend(one.values() if isinstance(one, dict) else one)
        level = inner
        if not level:
            return
    raise ValueError(f"more than {DEEPEST} lists and objects inside each other")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
