"""Everything that the window asks over HTTP, as routes to mount beside the server's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ondevice.desktop import (
    page_files,
    routes_answers,
    routes_history,
    routes_models,
    routes_settings,
    web,
)
from ondevice.desktop.assistant import Assistant

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


def routes(
    assistant: Assistant,
    *,
    show: Callable[[], bool] = lambda: False,
    quit: Callable[[], None] = lambda: None,
) -> list[BaseRoute]:
    """The page and its API; see docs/desktop.md. Access is the server's business."""
    return [
        *page_routes(),
        *routes_history.routes(assistant),
        *routes_answers.routes(assistant),
        *routes_models.routes(assistant),
        *routes_settings.routes(assistant, show, quit),
    ]


def page_routes() -> list[BaseRoute]:
    """The page's own files."""
    from starlette.routing import Route

    async def index(request: Request) -> Response:
        return page_files.response("index.html")

    async def file(request: Request) -> Response:
        return page_files.response(request.path_params["name"])

    return [
        Route("/", web.answering(index), methods=["GET"]),
        Route("/page/{name:path}", web.answering(file), methods=["GET"]),
    ]
