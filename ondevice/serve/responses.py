"""`/v1/responses`: OpenAI's newer shape. Nothing is stored: a request brings all it needs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ondevice.errors import OndeviceError
from ondevice.host import Host
from ondevice.serve import tool_messages, tools, wire
from ondevice.serve.errors import FieldError
from ondevice.serve.partial import AnswerText
from ondevice.serve.respond import event, name_of, respond
from ondevice.serve.said import Done, Said

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ondevice.labels import Figures
    from ondevice.serve.metrics import Metrics

_REFUSED = ("previous_response_id", "conversation", "background", "prompt")
_LOGPROBS = "message.output_text.logprobs"


async def create(request: Request, host: Host, metrics: Metrics) -> Response:
    """Answer one request."""
    body = await wire.read_body(request)
    _refuse(body)
    truncate = body.get("truncation") == "auto"
    asked = wire.common({**body, "truncate": truncate}, max_tokens=("max_output_tokens",))
    use = tools.ToolUse.of(body)
    schema = wire.schema_of(wire.mapping(body, "text").get("format"))
    if use.schema is not None and schema is not None:
        raise FieldError("tools and text.format cannot be used together", "text")
    ask = asked.ask(use.told(_messages(body)), use.schema or schema)
    encoder = ResponseEvents(body, name_of(host, asked.model), use)
    return await respond(request, host, ask, encoder, metrics, stream=asked.shape.stream)


@dataclass
class ResponseEvents:
    """The object `response`, and the events that build it up.

    Where tools are offered, the answer is JSON: a stream gives the text in it as it comes, and a
    call whole at the end.
    """

    asked: wire.Body
    model: str
    use: tools.ToolUse
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _item: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    _number: int = 0
    _begun: bool = False
    _shown: str = ""
    _answer: AnswerText = field(default_factory=AnswerText)

    def start(self) -> Iterable[bytes]:
        """The response without its output."""
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._body("in_progress", []))

    def said(self, said: Said) -> Iterable[bytes]:
        """A part of the text."""
        text = said.text if self.use.schema is None else self._answer.feed(said.text)
        if text:
            yield from self._delta(text)

    def done(self, done: Done) -> Iterable[bytes]:
        """The output's end, or its whole where tools are offered, and the response."""
        output = self._output(done)
        for at, item in enumerate(output):
            if item["type"] == "message":
                yield from self._end(item)
            else:
                yield from self._call(at, item)
        status = _status(done.figures)
        body = self._body(status, output, done)
        yield self._event(f"response.{status}", response=body)

    def broken(self, error: OndeviceError) -> Iterable[bytes]:
        """The response as failed."""
        failure = {"code": "server_error", "message": str(error)}
        body = self._body("failed", []) | {"error": failure}
        yield self._event("response.failed", response=body)

    def whole(self, done: Done) -> dict[str, Any]:
        """The response with its output."""
        return self._body(_status(done.figures), self._output(done), done)

    def _output(self, done: Done) -> list[dict[str, Any]]:
        told = tools.Told(done.text) if self.use.schema is None else self.use.read(done.text)
        if not told.calls:
            return [self._message(told.content or "", "completed")]
        return [
            {
                "type": "function_call",
                "id": f"fc_{uuid.uuid4().hex}",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
                "status": "completed",
            }
            for call in told.calls
        ]

    def _delta(self, text: str) -> Iterable[bytes]:
        if not self._begun:
            self._begun = True
            item = self._message("", "in_progress") | {"content": []}
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._text_event("response.content_part.added", part=_part(""))
        self._shown += text
        if text:
            yield self._text_event("response.output_text.delta", delta=text, logprobs=[])

    def _end(self, item: dict[str, Any]) -> Iterable[bytes]:
        text = item["content"][0]["text"]
        rest = text.removeprefix(self._shown)
        if rest or not self._begun:
            yield from self._delta(rest)
        yield self._text_event("response.output_text.done", text=text, logprobs=[])
        yield self._text_event("response.content_part.done", part=_part(text))
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _call(self, at: int, item: dict[str, Any]) -> Iterable[bytes]:
        begun = item | {"arguments": "", "status": "in_progress"}
        where = {"output_index": at, "item_id": item["id"]}
        arguments = item["arguments"]
        yield self._event("response.output_item.added", output_index=at, item=begun)
        name = "response.function_call_arguments"
        yield self._event(f"{name}.delta", **where, delta=arguments)
        yield self._event(f"{name}.done", **where, arguments=arguments, name=item["name"])
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _message(self, text: str, status: str) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self._item,
            "role": "assistant",
            "status": status,
            "content": [_part(text)],
        }

    def _text_event(self, kind: str, **more: Any) -> bytes:
        return self._event(kind, item_id=self._item, output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return event(body, kind)

    def _body(
        self, status: str, output: list[dict[str, Any]], done: Done | None = None
    ) -> dict[str, Any]:
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": self.asked.get("instructions"),
            "max_output_tokens": self.asked.get("max_output_tokens"),
            "metadata": self.asked.get("metadata") or {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": self.use.several,
            "previous_response_id": None,
            "store": False,
            "temperature": self.asked.get("temperature"),
            "text": self.asked.get("text") or {"format": {"type": "text"}},
            "tool_choice": self.asked.get("tool_choice") or "auto",
            "tools": self.asked.get("tools") or [],
            "top_p": self.asked.get("top_p"),
            "usage": None if done is None else _usage(done.figures),
            "ondevice": None if done is None else done.extra,
        }


def _refuse(body: wire.Body) -> None:
    """Refuse what would change the answer and is not done here."""
    for name in _REFUSED:
        if body.get(name):
            raise FieldError(f"{name} is not done here: nothing is stored; send the input", name)
    included = body.get("include") or []
    if body.get("top_logprobs") or (isinstance(included, list) and _LOGPROBS in included):
        raise FieldError(
            "log-probabilities are given by /v1/chat/completions, not here", "top_logprobs"
        )


def _messages(body: wire.Body) -> tuple[Any, ...]:
    """`instructions` and `input` as a conversation. Raises `FieldError`."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise FieldError("input must be a string or a list of items", "input")
    names = _names(items)
    said = [_said(item, names, f"input[{at}]") for at, item in enumerate(items)]
    messages = wire.messages({"messages": said})
    instructions = wire.text(body, "instructions", "")
    if not instructions:
        return messages
    if messages[0].role == "system":
        joined = f"{instructions}\n\n{messages[0].content}"
        return (replace(messages[0], content=joined), *messages[1:])
    return wire.messages({"messages": [{"role": "system", "content": instructions}, *said]})


def _names(items: list[Any]) -> dict[str, str]:
    """Which call, by its id, was of which tool."""
    calls = [one for one in items if isinstance(one, dict) and one.get("type") == "function_call"]
    return {
        call["call_id"]: call["name"]
        for call in calls
        if isinstance(call.get("call_id"), str) and isinstance(call.get("name"), str)
    }


def _said(item: object, names: dict[str, str], name: str) -> object:
    """An item of the input as a message of a chat."""
    if not isinstance(item, dict):
        raise FieldError(f"{name} must be an object", name)
    kind = item.get("type", "message")
    if kind == "message":
        return item
    if kind == "function_call":
        called = wire.text(item, "name"), wire.text(item, "arguments", "")
        return {"role": "assistant", "content": tool_messages.call_text(*called)}
    if kind == "function_call_output":
        said = wire.content(item.get("output"), f"{name}.output")
        tool = wire.unicode(names.get(str(item.get("call_id")), ""), name)
        return {"role": "user", "content": tool_messages.result_text(tool, said)}
    if kind == "reasoning":
        return {"role": "assistant", "content": ""}
    raise FieldError(f"{name} may be a message, a function_call or its output", name)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _status(figures: Figures) -> str:
    return "incomplete" if figures.finish_reason == "length" else "completed"


def _usage(figures: Figures) -> dict[str, Any]:
    return {
        "input_tokens": figures.prompt_tokens,
        "input_tokens_details": {"cached_tokens": figures.cached_tokens},
        "output_tokens": figures.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": figures.prompt_tokens + figures.output_tokens,
    }
