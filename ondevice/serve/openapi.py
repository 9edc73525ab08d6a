"""The server's description of itself, kept as data in `openapi.json`."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from ondevice import __version__

FILE = "openapi.json"


def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document of what `ondevice.serve.app` answers."""
    text = (resources.files(__package__) / FILE).read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    document["info"]["version"] = __version__
    return document
