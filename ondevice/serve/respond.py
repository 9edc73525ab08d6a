"""One answer to one request, whole or as server-sent events, in the shape an encoder gives it.

Waits for the first token before it answers, so that what goes wrong has its own status.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ondevice.errors import OndeviceError
from ondevice.host import Ask, Host
from ondevice.serve.errors import EndingError, UnknownModel, failed
from ondevice.serve.said import Done, Said, answered

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ondevice.serve.metrics import Metrics

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Encoder(Protocol):
    """An answer in one of the shapes that clients know; the parts are lines of events."""

    def start(self) -> Iterable[bytes]:
        """Before the first token."""

    def said(self, said: Said) -> Iterable[bytes]:
        """A part of the answer."""

    def done(self, done: Done) -> Iterable[bytes]:
        """The end."""

    def broken(self, error: OndeviceError) -> Iterable[bytes]:
        """What is said when it goes wrong after its beginning."""

    def whole(self, done: Done) -> dict[str, Any]:
        """The answer in one piece. Raises `FieldError` for one that cannot be read."""


async def respond(
    request: Request,
    host: Host,
    ask: Ask,
    encoder: Encoder,
    metrics: Metrics,
    *,
    stream: bool,
    pieces: bool = False,
) -> Response:
    """Ask the host and answer; a client that goes ends the answer with the token in the making.

    The request's body must have been read.
    """
    from starlette.responses import JSONResponse, StreamingResponse

    gone = threading.Event()
    watching = asyncio.create_task(_watch(request, gone))
    streaming = False
    try:
        events = answered(host, ask, pieces=pieces, cancelled=gone)
        first = await anext(events)
        if stream:
            streaming = True
            lines = _lines(first, events, encoder, host, metrics, gone, watching)
            return StreamingResponse(lines, headers=HEADERS, media_type="text/event-stream")
        done = _finished(await _last(first, events), host)
        metrics.answered(done)
        return JSONResponse(encoder.whole(done), headers=HEADERS)
    except OndeviceError as error:
        told = _told(error, host)
        metrics.failed(told)
        return failed(told)
    finally:
        if not streaming:
            watching.cancel()


def name_of(host: Host, model: str) -> str:
    """The name of a model, "" for the first. Raises `UnknownModel` for one that is not here."""
    try:
        return host.package(model).manifest.name
    except OndeviceError as error:
        raise UnknownModel(str(error)) from error


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


async def _watch(request: Request, gone: threading.Event) -> None:
    """Set `gone` when the client has gone: after the body nothing else is received."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    gone.set()


async def _lines(
    first: Said | Done,
    events: AsyncIterator[Said | Done],
    encoder: Encoder,
    host: Host,
    metrics: Metrics,
    gone: threading.Event,
    watching: asyncio.Task[None],
) -> AsyncIterator[bytes]:
    counted = False
    try:
        for line in encoder.start():
            yield line
        async for said in _from(first, events):
            if isinstance(said, Said):
                made = encoder.said(said)
            else:
                made = encoder.done(_finished(said, host))
                metrics.answered(said)
                counted = True
            for line in made:
                yield line
    except OndeviceError as error:
        told = _told(error, host)
        metrics.failed(told)
        counted = True
        for line in encoder.broken(told):
            yield line
    finally:
        gone.set()
        watching.cancel()
        if not counted:
            metrics.left()


def _finished(done: Done, host: Host) -> Done:
    """The same answer. Raises `EndingError` for one that the server's end cut off."""
    if done.figures.finish_reason == "cancelled" and host.turns.closed:
        raise EndingError
    return done


def _told(error: OndeviceError, host: Host) -> OndeviceError:
    """What a client is told: where the server ends, that is the reason of all else."""
    return EndingError() if host.turns.closed else error


async def _last(first: Said | Done, events: AsyncIterator[Said | Done]) -> Done:
    last = first
    async for said in events:
        last = said
    assert isinstance(last, Done)  # an answer ends so, or with an error
    return last


async def _from(
    first: Said | Done, events: AsyncIterator[Said | Done]
) -> AsyncIterator[Said | Done]:
    yield first
    async for said in events:
        yield said
