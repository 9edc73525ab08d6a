"""Routes of the history: conversations, search, export, documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ondevice.desktop import exporting, web
from ondevice.desktop.assistant import Assistant
from ondevice.desktop.files_in import take
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_MOST = {"title": 1000, "model": 200, "system": 20_000, "preset": 200}


def routes(assistant: Assistant) -> list[BaseRoute]:
    """The routes under /app/conversations and /app/search."""
    from starlette.routing import Route

    store, generations = assistant.store, assistant.generations

    async def listed(request: Request) -> Response:
        return web.reply({"conversations": await web.off_loop(store.conversations)})

    async def create(request: Request) -> Response:
        values = _values(await web.body(request, "model", "system", "preset"))
        if values.get("model"):
            assistant.host.package(values["model"])
        return web.reply(await web.off_loop(store.create, **values), 201)

    async def delete_all(request: Request) -> Response:
        if not web.yes(await web.body(request, "confirm"), "confirm", False):
            raise RequestError("deleting all conversations needs {confirm: true}")
        await web.off_loop(generations.close)
        await web.off_loop(store.delete_all)
        return web.nothing()

    async def one(request: Request) -> Response:
        return web.reply(await web.off_loop(_whole, assistant, request.path_params["id"]))

    async def change(request: Request) -> Response:
        values = _values(await web.body(request, "title", "model", "system", "preset"))
        if values.get("model"):
            assistant.host.package(values["model"])
        return web.reply(await web.off_loop(store.change, request.path_params["id"], **values))

    async def delete(request: Request) -> Response:
        id = request.path_params["id"]
        await web.off_loop(store.conversation, id)
        await web.off_loop(generations.stop_in, id)
        await web.off_loop(store.delete, id)
        return web.nothing()

    async def search(request: Request) -> Response:
        words = request.query_params.get("q", "")[:500]
        return web.reply({"results": await web.off_loop(store.search, words)})

    async def export(request: Request) -> Response:
        form = request.query_params.get("format", "md")
        conversation = await web.off_loop(_whole, assistant, request.path_params["id"])
        return exporting.response(conversation, form)

    async def add_document(request: Request) -> Response:
        document = await take(request, assistant.store, request.path_params["id"])
        return web.reply(document, 201)

    async def remove_document(request: Request) -> Response:
        path = request.path_params
        await web.off_loop(store.remove_document, path["id"], path["document"])
        return web.nothing()

    base = "/app/conversations"
    table = [
        (base, "GET", listed),
        (base, "POST", create),
        (base, "DELETE", delete_all),
        (base + "/{id}", "GET", one),
        (base + "/{id}", "PATCH", change),
        (base + "/{id}", "DELETE", delete),
        (base + "/{id}/export", "GET", export),
        (base + "/{id}/documents", "POST", add_document),
        (base + "/{id}/documents/{document}", "DELETE", remove_document),
        ("/app/search", "GET", search),
    ]
    return [Route(path, web.answering(do), methods=[method]) for path, method, do in table]


def _values(data: dict[str, Any]) -> dict[str, str]:
    return {name: web.text(data, name, most=_MOST[name]) for name in data}


def _whole(assistant: Assistant, id: str) -> dict[str, Any]:
    """A conversation with its messages and documents."""
    store = assistant.store
    return {
        **vars(store.conversation(id)),
        "messages": store.messages(id),
        "documents": store.documents(id),
    }
