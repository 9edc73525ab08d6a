"""Routes of answers: ask, ask again, stop, and the person's consent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ondevice.desktop import web
from ondevice.desktop.assistant import Assistant
from ondevice.desktop.generations import LONGEST_QUESTION
from ondevice.desktop.store import NotFound
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ondevice.runtime.fallback.decision import Wish


def routes(assistant: Assistant) -> list[BaseRoute]:
    """The routes that begin and end answers."""
    from starlette.routing import Route

    generations = assistant.generations

    async def ask(request: Request) -> Response:
        data = await web.body(request, "content", "cloud")
        content = web.text(data, "content", most=LONGEST_QUESTION)
        id = request.path_params["id"]
        made = await web.off_loop(generations.ask, id, content, _wish(data))
        return web.events(made.feed, made.leave)

    async def again(request: Request) -> Response:
        data = await web.body(request, "cloud")
        made = await web.off_loop(generations.regenerate, request.path_params["id"], _wish(data))
        return web.events(made.feed, made.leave)

    async def cancel(request: Request) -> Response:
        generations.cancel(request.path_params["id"])
        return web.nothing()

    async def consent(request: Request) -> Response:
        data = await web.body(request, "allow", "remember")
        allow, remember = web.yes(data, "allow"), web.yes(data, "remember", False)
        id = request.path_params["id"]
        if not await web.off_loop(assistant.answer_consent, id, allow, remember):
            raise NotFound("this question has been answered, or its time is over")
        return web.nothing()

    table = [
        ("/app/conversations/{id}/messages", ask),
        ("/app/conversations/{id}/regenerate", again),
        ("/app/generations/{id}/cancel", cancel),
        ("/app/consent/{id}", consent),
    ]
    return [Route(path, web.answering(do), methods=["POST"]) for path, do in table]


def _wish(data: dict[str, Any]) -> Wish:
    wish = data.get("cloud", "none")
    if wish == "none":
        return "none"
    if wish == "cloud":
        return "cloud"
    if wish == "device":
        return "device"
    raise RequestError("cloud must be none, cloud or device")
