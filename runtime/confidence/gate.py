"""What makes an answer unfit whatever the model thinks of it: checks without a doubt in them.

The first gate before any probability. Knows no model and no coefficients.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any


def failed_check(text: str, finish_reason: str, schema: str | None = None) -> str:
    """Why an answer cannot be right, in words; empty when nothing speaks against it.

    `schema` is the text of the JSON schema that was asked for.
    """
    if not text.strip():
        return "the answer is empty"
    if finish_reason == "length":
        return "the answer was cut off at its longest length"
    if finish_reason == "cancelled":
        return "the answer was cancelled before its end"
    return _not_as_asked(text, schema) if schema is not None else ""


def _not_as_asked(text: str, schema: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "the answer is no JSON"
    problem = next(iter(_validator(schema).iter_errors(value)), None)
    return "" if problem is None else "the answer does not follow the JSON schema"


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema.validators import validator_for

    parsed = json.loads(schema)
    return validator_for(parsed)(parsed)
