"""Routes of the models: what is here, fetching one, measuring one."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ondevice.desktop import web
from ondevice.desktop.assistant import Assistant
from ondevice.desktop.feed import Feed
from ondevice.errors import OndeviceError
from ondevice.package import Package

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_log = logging.getLogger(__name__)


def routes(assistant: Assistant) -> list[BaseRoute]:
    """The routes of state, pull and benchmark."""
    from starlette.routing import Route

    pulls = assistant.pulls

    async def state(request: Request) -> Response:
        return web.reply(await web.off_loop(assistant.state))

    async def pull(request: Request) -> Response:
        name = web.text(await web.body(request, "name"), "name", most=200)
        return web.events(await web.off_loop(pulls.start, name))

    async def watch(request: Request) -> Response:
        return web.events(pulls.watch())

    async def stop(request: Request) -> Response:
        pulls.cancel()
        return web.nothing()

    async def benchmark(request: Request) -> Response:
        name = web.text(await web.body(request, "model"), "model", "", most=200)
        package = assistant.host.package(name)
        feed = Feed()
        arguments = (assistant, package, feed)
        threading.Thread(target=_measure, args=arguments, name="benchmark", daemon=True).start()
        return web.events(feed)

    table = [
        ("/app/state", "GET", state),
        ("/app/pull", "POST", pull),
        ("/app/pull", "DELETE", stop),
        ("/app/pull/events", "GET", watch),
        ("/app/benchmark", "POST", benchmark),
    ]
    return [Route(path, web.answering(do), methods=[method]) for path, method, do in table]


def _measure(assistant: Assistant, package: Package, feed: Feed) -> None:
    def progress(done: int, total: int) -> None:
        feed.tell("progress", done=done, total=total)

    try:
        speed = assistant.speeds.measure(assistant.host, package, progress)
        feed.tell("done", speed=speed)
    except OndeviceError as error:
        feed.tell("error", message=str(error))
    except Exception as bug:
        _log.exception("a measurement failed")
        message = f"a bug in ondevice ({type(bug).__name__}); please report it"
        feed.tell("error", message=message)
    finally:
        feed.end()
