"""A file that is dropped into a conversation: received within limits, read, cut, kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ondevice.desktop.records import Document, Passage, new_id
from ondevice.desktop.store import Store
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_DOCUMENTS = 50  # in one conversation
_FORM_BYTES = 4096  # that the form adds to the file


async def take(request: Request, store: Store, conversation: str) -> Document:
    """Keep the file of a form's field `file`. Raises `RequestError`, `DocumentError`."""
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    from ondevice.desktop.documents import check_size

    await run_in_threadpool(_check_room, store, conversation)
    announced = request.headers.get("content-length", "")
    if announced.isdigit():  # refused before anything of it is received
        check_size("this file", int(announced) - _FORM_BYTES)
    try:
        import python_multipart  # noqa: F401 (what Starlette reads forms with)
    except ImportError as error:
        raise RequestError('files need pip install "ondevice[desktop]"') from error
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise RequestError("the form needs a file in its field `file`")
            check_size(file.filename or "file", file.size or 0)
            data = await file.read()
            name = file.filename or "file"
    except (HTTPException, ClientDisconnect) as error:
        raise RequestError("the file did not arrive whole; try again") from error
    return await run_in_threadpool(keep, store, conversation, name, data)


def keep(store: Store, conversation: str, name: str, data: bytes) -> Document:
    """Read a file, cut it and keep its passages. Raises `DocumentError`, `StoreError`."""
    from ondevice.desktop import documents, passages

    text = documents.read(_free_name(store, conversation, documents.shown(name)), data)
    cut = passages.cut(text)
    document = Document(new_id(), text.name, len(text.pages), len(data), text.characters, len(cut))
    kept = [Passage(document.id, text.name, p.page, p.number, p.text) for p in cut]
    store.add_document(conversation, document, kept)
    return document


def _check_room(store: Store, conversation: str) -> None:
    store.conversation(conversation)
    if len(store.documents(conversation)) >= MOST_DOCUMENTS:
        raise RequestError(f"a conversation holds {MOST_DOCUMENTS} documents; remove one first")


def _free_name(store: Store, conversation: str, name: str) -> str:
    """The name, with a number when the conversation has one of it: passages are told by it."""
    taken = {document.name for document in store.documents(conversation)}
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
