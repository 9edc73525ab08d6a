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
from ondevice.serve.partial import AnswerText
from ondevice.serve.schema_refs import moved
from ondevice.serve.strict_json import finite
from ondevice.serve.wire import Body, checked_schema, flag, unicode

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
        named = {f"tool{at}": _parameters(tool, at) for at, tool in enumerate(self.tools)}
        calls = [_call_schema(tool, at) for at, tool in enumerate(self.tools)]
        call = calls[0] if len(calls) == 1 else {"anyOf": calls}
        if self.several:
            call = _object(calls={"type": "array", "items": call, "minItems": 1,
                                  "maxItems": MOST_CALLS})  # fmt: skip
        if not self.must:
            call = {"anyOf": [call, _object(answer={"type": "string"})]}
        return call | {"$defs": named}

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

        An answer that was cut short has no call: it is the text so far, or what there is of the
        JSON of a call.
        """
        try:
            value = json.loads(text, parse_float=finite)
        except (ValueError, RecursionError):
            partial = AnswerText()
            return Told(partial.feed(text) or text)
        if isinstance(value, dict) and isinstance(value.get("answer"), str) and len(value) == 1:
            return Told(value["answer"])
        calls = value.get("calls", [value]) if isinstance(value, dict) else []
        return Told(None, tuple(_call(one) for one in calls)) if calls else Told(text)

    def _instructions(self) -> str:
        lines = ["You can call these tools:"]
        for tool in self.tools:
            described = f": {tool.description.rstrip('.')}" if tool.description else ""
            lines.append(f"- {tool.name}{described}. Arguments: {_shown(tool.parameters)}")
        call = '{"tool": NAME, "arguments": {...}}'
        if self.several:
            call = f'{{"calls": [{call}, ...]}}'
        if self.must:
            lines.append(f"Call what fits the question: {call}.")
        else:
            lines.append(f"Only if one of them fits the question, call it: {call}.")
            lines.append('Otherwise answer the question yourself: {"answer": "your answer"}.')
        return "\n".join(lines)


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
    description = inside.get("description")
    description = "" if description is None else description
    if not isinstance(description, str):
        raise FieldError(f"tool {name}: description must be a string", "tools")
    parameters = inside.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise FieldError(f"tool {name}: parameters must be a schema of an object", "tools")
    if not isinstance(parameters.get("properties", {}), Mapping):
        raise FieldError(f"tool {name}: properties must be an object", "tools")
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


def _shown(parameters: Mapping[str, Any]) -> str:
    """The arguments as the model is told of them: short, because it reads all of it."""
    shown = parameters.get("properties", {})
    defined = {name: parameters[name] for name in ("$defs", "definitions") if name in parameters}
    return json.dumps(shown | defined, ensure_ascii=False)


def _parameters(tool: Tool, at: int) -> dict[str, Any]:
    """The schema of a tool's arguments, to stand at `#/$defs/tool<at>`."""
    parameters = {"type": "object", **tool.parameters}
    parameters.setdefault("additionalProperties", False)
    return moved(parameters, f"#/$defs/tool{at}")


def _call_schema(tool: Tool, at: int) -> dict[str, Any]:
    return _object(tool={"const": tool.name}, arguments={"$ref": f"#/$defs/tool{at}"})


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
