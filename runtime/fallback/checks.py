"""Checks of a local answer that leave no doubt, asked before any probability.

Knows nothing about confidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ondevice.runtime.confidence.gate import failed_check

Verify = Callable[[str], str]  # what is wrong with an answer, in words; "" for nothing


def failed(
    text: str,
    *,
    schema: str | None = None,
    matches: re.Pattern[str] | None = None,
    verify: Verify | None = None,
) -> str:
    """Why an answer cannot be right; "" when nothing speaks against it.

    `schema` is the text of a JSON schema, `matches` what a task's answers must hold. An answer
    that was cut off is no failure here: the cloud's would be cut at the same length.
    """
    if problem := failed_check(text, "stop", schema):
        return problem
    if matches is not None and not matches.search(text):
        return f"the answer does not match the task's pattern {matches.pattern!r}"
    return verify(text) if verify is not None else ""
