"""A conversation as a file for the person: Markdown or JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ondevice.desktop.feed import plain
from ondevice.desktop.records import Message
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from starlette.responses import Response

_ENDED = {
    "cancelled": "stopped here",
    "interrupted": "interrupted here",
    "failed": "no answer",
}


def response(conversation: dict[str, Any], form: str) -> Response:
    """An attachment. Raises `RequestError` for an unknown format."""
    from starlette.responses import Response

    if form == "md":
        text, kind = markdown(conversation), "text/markdown; charset=utf-8"
    elif form == "json":
        text = json.dumps(plain(conversation), indent=2, ensure_ascii=False) + "\n"
        kind = "application/json"
    else:
        raise RequestError(f"format must be md or json, not {form[:20]!r}")
    name = f"{_name(conversation['title'])}.{form}"
    plain_name = name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f"attachment; filename=\"{plain_name}\"; filename*=UTF-8''{quote(name)}"
    headers = {"Content-Disposition": disposition, "X-Content-Type-Options": "nosniff"}
    return Response(text.encode("utf-8", "replace"), headers=headers, media_type=kind)


def markdown(conversation: dict[str, Any]) -> str:
    """Title, system prompt and messages, each with who said it and where it was made."""
    parts = [f"# {conversation['title'] or 'Conversation'}"]
    if conversation["system"].strip():
        parts.append("> " + conversation["system"].strip().replace("\n", "\n> "))
    names = [document.name for document in conversation["documents"]]
    if names:
        parts.append("Documents: " + ", ".join(names))
    for message in conversation["messages"]:
        parts += [f"## {_heading(message)}", message.content.strip() or "(empty)"]
        if message.passages:
            places = [f"{shown.name}, page {shown.page}" for shown in message.passages]
            parts.append("Passages: " + "; ".join(places))
    return "\n\n".join(parts) + "\n"


def _heading(message: Message) -> str:
    if message.role == "user":
        return "You"
    where = message.details.source if message.details is not None else ""
    words = [message.model or "Assistant", where, _ENDED.get(message.state, "")]
    return ", ".join(word for word in words if word)


def _name(title: str) -> str:
    words = re.sub(r"[^\w .-]+", " ", title).split()
    return " ".join(words)[:60].strip(" .") or "conversation"
