"""Routes of the settings: values, the key, the off-switch, notices, the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ondevice.desktop import web
from ondevice.desktop.assistant import Assistant
from ondevice.desktop.settings import as_json
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

LONGEST_KEY = 10_000


def routes(
    assistant: Assistant, show: Callable[[], bool], quit: Callable[[], None]
) -> list[BaseRoute]:
    """The routes of settings; `show` brings the window to the front, `quit` ends the program."""
    from starlette.routing import Route

    async def settings(request: Request) -> Response:
        return web.reply(as_json(assistant.settings))

    async def change(request: Request) -> Response:
        values = await web.body(request)
        return web.reply(as_json(await web.off_loop(assistant.change_settings, values)))

    async def set_key(request: Request) -> Response:
        _need_endpoint(assistant)
        value = web.text(await web.body(request, "key"), "key", most=LONGEST_KEY)
        return web.reply(_stored(await web.off_loop(assistant.set_key, value)))

    async def delete_key(request: Request) -> Response:
        _need_endpoint(assistant)
        return web.reply(_stored(await web.off_loop(assistant.delete_key)))

    async def offline(request: Request) -> Response:
        value = web.yes(await web.body(request, "offline"), "offline")
        await web.off_loop(assistant.set_offline, value)
        return web.nothing()

    async def dismiss(request: Request) -> Response:
        await web.off_loop(assistant.store.dismiss, request.path_params["id"])
        return web.nothing()

    async def front(request: Request) -> Response:
        return web.reply({"shown": await web.off_loop(show)})

    async def end(request: Request) -> Response:
        quit()
        return web.nothing()

    table = [
        ("/app/settings", "GET", settings),
        ("/app/settings", "PUT", change),
        ("/app/key", "PUT", set_key),
        ("/app/key", "DELETE", delete_key),
        ("/app/offline", "POST", offline),
        ("/app/notices/{id}", "DELETE", dismiss),
        ("/app/show", "POST", front),
        ("/app/quit", "POST", end),
    ]
    return [Route(path, web.answering(do), methods=[method]) for path, method, do in table]


def _need_endpoint(assistant: Assistant) -> None:
    if assistant.settings.endpoint is None:
        raise RequestError("a key belongs to an endpoint; give its address first")


def _stored(where: str) -> dict[str, Any]:
    return {"stored": bool(where), "where": where}
