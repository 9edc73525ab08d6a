"""Tool calls of earlier answers and their results as text that any model can read.

Pure functions on the messages of requests.
"""

from __future__ import annotations

import json
from typing import Any

from ondevice.serve.errors import FieldError
from ondevice.serve.wire import Body, content, unicode


def without_calls(body: Body) -> Body:
    """A chat request with the calls and results in its messages turned into text.

    Raises `FieldError`.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    names = _names(messages)
    texts = [_as_text(one, names, f"messages[{at}]") for at, one in enumerate(messages)]
    return {**body, "messages": texts}


def call_text(name: str, arguments: str) -> str:
    """How a call of an earlier answer is shown to the model: as it wrote it."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = arguments
    return json.dumps({"tool": name, "arguments": value}, ensure_ascii=False)


def result_text(name: str, said: str) -> str:
    """How a tool's result is shown to the model, as a user's message."""
    return f"Result of the tool{f' {name}' if name else ''}:\n{said}"


def _names(messages: list[Any]) -> dict[str, str]:
    """Which call, by its id, was of which tool."""
    found: dict[str, str] = {}
    for message in messages:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            name = function.get("name") if isinstance(function, dict) else None
            if isinstance(name, str) and isinstance(call.get("id"), str):
                found[call["id"]] = name
    return found


def _as_text(message: object, names: dict[str, str], where: str) -> object:
    if not isinstance(message, dict):
        return message
    if message.get("role") in ("tool", "function"):
        said = content(message.get("content"), f"{where}.content")
        name = message.get("name") or names.get(str(message.get("tool_call_id")), "")
        if not isinstance(name, str):
            raise FieldError(f"{where}.name must be a string", where)
        return {"role": "user", "content": result_text(unicode(name, where), said)}
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not calls:
        return message
    if not isinstance(calls, list):
        raise FieldError(f"{where}.tool_calls must be a list", where)
    texts = [content(message.get("content"), f"{where}.content")]
    texts += [_called(one, f"{where}.tool_calls") for one in calls]
    return {"role": "assistant", "content": "\n".join(text for text in texts if text)}


def _called(call: object, where: str) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise FieldError(f"{where} must hold calls with a function and its name", where)
    arguments = function.get("arguments")
    if not isinstance(arguments, str | None):
        raise FieldError(f"{where}: the arguments must be a string of JSON", where)
    return call_text(unicode(function["name"], where), unicode(arguments or "", where))
