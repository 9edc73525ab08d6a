"""Small helpers of the routes: bodies in, JSON and events out, errors in one shape.

Knows nothing of conversations.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ondevice.desktop.database import StoreError
from ondevice.desktop.feed import Feed, plain, sent
from ondevice.desktop.store import NotFound
from ondevice.errors import OndeviceError, RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse

T = TypeVar("T")
Handler = Callable[["Request"], Awaitable["Response"]]

LARGEST_BODY = 8 << 20  # bytes of a JSON body

_log = logging.getLogger(__name__)


def answering(handler: Handler) -> Handler:
    """A handler whose errors become answers: nothing that a client sends is a 500."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except OndeviceError as error:
            return failure(error)

    handle.__name__ = handler.__name__
    return handle


def failure(error: OndeviceError) -> Response:
    """The answer for an error, in OpenAI's shape."""
    from ondevice.serve import errors

    if isinstance(error, NotFound):
        return errors.error_response(404, str(error), kind="not_found")
    if isinstance(error, StoreError):
        return errors.error_response(507, str(error), kind="storage")
    return errors.failed(error)


def reply(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Data classes and plain values as JSON."""
    from starlette.responses import Response

    # Half a surrogate pair cannot be UTF-8: it goes out as the sign for an unreadable letter.
    text = json.dumps(plain(data), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(text, status, headers, media_type="application/json")


def nothing() -> Response:
    """204."""
    from starlette.responses import Response

    return Response(status_code=204)


async def off_loop(work: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Run what may wait for a disk or a lock outside the event loop."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work, *arguments, **named)


async def body(request: Request, *known: str) -> dict[str, Any]:
    """The JSON object of a request; an empty body is an empty one.

    Raises `RequestError` for anything else, and for a name that is not `known`.
    """
    from starlette.requests import ClientDisconnect

    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > LARGEST_BODY:
                raise RequestError(f"the request is larger than {LARGEST_BODY >> 20} MiB")
    except ClientDisconnect as error:
        raise RequestError("the request ended in its middle") from error
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise RequestError("the request is not JSON") from error
    if not isinstance(value, dict):
        raise RequestError("the request must be a JSON object")
    for name in value:
        if known and name not in known:
            raise RequestError(f"unknown field {name[:80]!r}; known: {', '.join(known)}")
    return value


def text(data: dict[str, Any], name: str, default: str | None = None, most: int = 20_000) -> str:
    """A text of a request. Raises `RequestError` when it is missing, too long or not Unicode."""
    value = data.get(name, default)
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a text")
    if len(value) > most:
        raise RequestError(f"{name} has more than {most:,} characters; shorten it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} is not valid Unicode") from error
    return value


def yes(data: dict[str, Any], name: str, default: bool | None = None) -> bool:
    """True or false of a request. Raises `RequestError`."""
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false")
    return value


def events(feed: Feed, left: Callable[[], None] = lambda: None) -> StreamingResponse:
    """A feed as server-sent events; `left` is called when the reader goes before the end."""
    from starlette.responses import StreamingResponse

    async def lines() -> AsyncIterator[bytes]:
        ended = False
        try:
            async for event in feed.read():
                yield sent(event)
            ended = True
        finally:
            if not ended:
                left()

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), headers=headers, media_type="text/event-stream")
