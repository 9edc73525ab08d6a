"""The page's files as they lie in the package, with headers that let nothing in from elsewhere."""

from __future__ import annotations

import mimetypes
import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from ondevice.desktop.store import NotFound

if TYPE_CHECKING:
    from starlette.responses import Response

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; connect-src 'self'; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
# Of our own: the system's table may say anything, Windows' registry for one.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def response(name: str) -> Response:
    """A file of the page. Raises `NotFound`."""
    from starlette.responses import Response

    file = _file(name)
    ending = name[name.rfind(".") :].lower()
    kind = _TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(file.read_bytes(), headers=HEADERS, media_type=kind)


def _file(name: str) -> Traversable:
    folder = resources.files("ondevice.desktop") / "page"
    if not _NAME.fullmatch(name) or ".." in name:
        raise NotFound("the page has no such file")
    file = folder.joinpath(*name.split("/"))
    if not file.is_file():
        raise NotFound("the page has no such file")
    return file
