"""The server's routes under one guard. Knows nothing of sockets; see `ondevice.serve.listening`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ondevice.errors import OndeviceError
from ondevice.host import Host
from ondevice.serve import chat, completions, models, openapi, responses
from ondevice.serve.errors import error_response, failed
from ondevice.serve.metrics import Metrics
from ondevice.serve.security import Guard

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

Create = Callable[["Request", Host, Metrics], Awaitable["Response"]]
Handler = Callable[["Request"], Awaitable["Response"]]

_log = logging.getLogger(__name__)


def create_app(
    host: Host, *, token: str, port: int, extra_routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """The OpenAI-compatible API of a host's models.

    `token` is asked of every request but /health, `port` is the one listened on: requests whose
    Host or Origin names another are refused. `extra_routes` are guarded too.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware

    return Starlette(
        routes=[*_routes(host, Metrics(host)), *extra_routes],
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={
            HTTPException: _http_error,
            OndeviceError: _mendable,
            Exception: _bug,
        },
    )


def _routes(host: Host, metrics: Metrics) -> list[BaseRoute]:
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def list_models(request: Request) -> Response:
        return JSONResponse(models.listed(host))

    async def one_model(request: Request) -> Response:
        return JSONResponse(models.one(host, request.path_params["name"]))

    async def embeddings(request: Request) -> Response:
        why = "these models generate text and give no embeddings; use an embedding model elsewhere"
        return error_response(501, why, code="not_supported")

    async def measured(request: Request) -> Response:
        page, kind = metrics.page()
        return Response(page, headers={"Content-Type": kind})

    async def described(request: Request) -> Response:
        return JSONResponse(openapi.description())

    def create(handler: Create) -> Handler:
        async def endpoint(request: Request) -> Response:
            try:
                response = await handler(request, host, metrics)
            except OndeviceError as error:
                response = failed(error)
            metrics.requested(request.url.path, response.status_code)
            return response

        return endpoint

    return [
        Route("/health", health, methods=["GET"]),
        Route("/metrics", measured, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{name:path}", one_model, methods=["GET"]),
        Route("/v1/chat/completions", create(chat.create), methods=["POST"]),
        Route("/v1/completions", create(completions.create), methods=["POST"]),
        Route("/v1/responses", create(responses.create), methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
    ]


async def _http_error(request: Request, error: Exception) -> Response:
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    message = {
        404: f"there is no {request.url.path} here; the API begins with /v1, see /openapi.json",
        405: f"{request.url.path} does not take {request.method}",
    }.get(error.status_code, error.detail)
    return error_response(error.status_code, message, headers=error.headers)


async def _mendable(request: Request, error: Exception) -> Response:
    assert isinstance(error, OndeviceError)
    return failed(error)


async def _bug(request: Request, error: Exception) -> Response:
    _log.error("a request failed", exc_info=error)
    name = type(error).__name__
    return error_response(500, f"a bug in ondevice ({name}); please report it", kind="server_error")
