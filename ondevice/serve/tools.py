"""Tool calls by constrained output: the model can only write a call that fits, or an answer.

Pure functions on requests and answers; no tool is ever run here. The model is told of the tools
in the system message, in words rather than by its chat template, so that every model is told
alike; its answer follows a JSON schema made from them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ondevice.runtime.answer import Message
from ondevice.serve.errors import FieldError
from ondevice.serve.wire import Body, checked_schema, content, flag, unicode

MOST_TOOLS = 64
MOST_CALLS = 8  # in one answer

Choice = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class Tool:
    """A function the model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """An answer read: calls in OpenAI's shape, or text."""

    content: str | None
    calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ToolUse:
    """The tools of a request. `must` call one; `several` calls may come in one answer."""

    tools: tuple[Tool, ...] = ()
    must: bool = False
    several: bool = False

    @classmethod
    def of(cls, body: Body) -> ToolUse:
        """The tools that a request offers and wants used. Raises `FieldError`."""
        tools = _tools(body.get("tools"))
        choice, only = _choice(body.get("tool_choice"), tools)
        if not tools or choice == "none":
            return cls()
        use = cls(only or tools, choice == "required", flag(body, "parallel_tool_calls"))
        checked_schema(use.schema or {}, "tools")
        return use

    @property
    def schema(self) -> dict[str, Any] | None:
        """What the answer has to follow; None without tools."""
        if not self.tools:
            return None
        calls = [_call_schema(tool) for tool in self.tools]
        call = calls[0] if len(calls) == 1 else {"anyOf": calls}
        if self.several:
            call = _object(calls={"type": "array", "items": call, "minItems": 1,
                                  "maxItems": MOST_CALLS})  # fmt: skip
        if self.must:
            return call
        return {"anyOf": [call, _object(answer={"type": "string"})]}

    def told(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation with the tools in its system message."""
        if not self.tools:
            return tuple(messages)
        text = self._instructions()
        for at, message in enumerate(messages):
            if message.role == "system":
                joined = replace(message, content=f"{message.content}\n\n{text}".strip())
                return (*messages[:at], joined, *messages[at + 1 :])
        return (Message("system", text), *messages)

    def read(self, text: str) -> Told:
        """The calls or the text of an answer that follows `schema`.

        An answer that was cut short has no call: its text comes back as it is.
        """
        try:
            value = json.loads(text)
        except ValueError:
            return Told(text)
        if isinstance(value, dict) and isinstance(value.get("answer"), str) and len(value) == 1:
            return Told(value["answer"])
        calls = value.get("calls", [value]) if isinstance(value, dict) else []
        return Told(None, tuple(_call(one) for one in calls)) if calls else Told(text)

    def _instructions(self) -> str:
        lines = ["You can call these tools:"]
        for tool in self.tools:
            parameters = json.dumps(tool.parameters.get("properties", {}), ensure_ascii=False)
            described = f": {tool.description}" if tool.description else ""
            lines.append(f"- {tool.name}{described}. Arguments: {parameters}")
        call = '{"tool": NAME, "arguments": {...}}'
        if self.several:
            call = f'{{"calls": [{call}, ...]}}'
        lines.append(f"To call a tool, write {call}.")
        if not self.must:
            lines.append('If no tool is needed, write {"answer": "your answer"}.')
        return "\n".join(lines)


def without_calls(body: Body) -> Body:
    """The request with calls and their results in its messages turned into text.

    Raises `FieldError`.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return {**body, "messages": [_as_text(one, f"messages[{n}]") for n, one in enumerate(messages)]}


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


def _as_text(message: object, name: str) -> object:
    if not isinstance(message, dict):
        return message
    if message.get("role") in ("tool", "function"):
        said = content(message.get("content"), f"{name}.content")
        tool = message.get("name")
        return {"role": "user", "content": result_text(tool if isinstance(tool, str) else "", said)}
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not calls:
        return message
    if not isinstance(calls, list):
        raise FieldError(f"{name}.tool_calls must be a list", name)
    texts = [content(message.get("content"), f"{name}.content")]
    texts += [_called(one, f"{name}.tool_calls") for one in calls]
    return {"role": "assistant", "content": "\n".join(text for text in texts if text)}


def _called(call: object, name: str) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise FieldError(f"{name} must hold calls with a function and its name", name)
    arguments = function.get("arguments")
    if not isinstance(arguments, str | None):
        raise FieldError(f"{name}: the arguments must be a string of JSON", name)
    return call_text(unicode(function["name"], name), unicode(arguments or "", name))


def _tools(value: object) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        raise FieldError(f"tools must be a list of at most {MOST_TOOLS}", "tools")
    tools = tuple(_tool(one) for one in value)
    if len({tool.name for tool in tools}) < len(tools):
        raise FieldError("two tools have the same name", "tools")
    return tools


def _tool(value: object) -> Tool:
    """A tool as chat completions write it (inside "function") or as responses do (flat)."""
    if not isinstance(value, dict) or value.get("type") != "function":
        raise FieldError("tools may hold functions only", "tools")
    inside = value.get("function", value)
    name = inside.get("name") if isinstance(inside, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise FieldError("a tool needs a name of at most 64 characters", "tools")
    description = inside.get("description") or ""
    parameters = inside.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise FieldError(f"tool {name[:64]}: description or parameters are wrong", "tools")
    if not isinstance(parameters.get("properties", {}), Mapping):
        raise FieldError(f"tool {name[:64]}: properties must be an object", "tools")
    return Tool(unicode(name, "tools"), unicode(description, "tools"), dict(parameters))


def _choice(value: object, tools: Sequence[Tool]) -> tuple[Choice, tuple[Tool, ...]]:
    """The choice, and the one tool that it names, if it does."""
    if value is None:
        return "auto", ()
    if value in ("none", "auto", "required"):
        if value == "required" and not tools:
            raise FieldError("tool_choice is 'required', and there are no tools", "tool_choice")
        return value, ()
    if isinstance(value, dict) and value.get("type") == "function":
        inside = value.get("function", value)
        name = inside.get("name") if isinstance(inside, dict) else None
        for tool in tools:
            if tool.name == name:
                return "required", (tool,)
        raise FieldError("tool_choice names a tool that is not among the tools", "tool_choice")
    raise FieldError(
        "tool_choice must be 'none', 'auto', 'required' or name a function", "tool_choice"
    )


def _call_schema(tool: Tool) -> dict[str, Any]:
    parameters = {"type": "object", **tool.parameters}
    parameters.setdefault("additionalProperties", False)
    return _object(tool={"const": tool.name}, arguments=parameters)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _call(value: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(value.get("arguments", {}), ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": value.get("tool", ""), "arguments": arguments},
    }
