"""`/v1/chat/completions`: a conversation answered, with tools and schemas if wanted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ondevice.errors import OndeviceError
from ondevice.host import Host
from ondevice.serve import tool_messages, tools, wire
from ondevice.serve.errors import FieldError, error_body
from ondevice.serve.partial import AnswerText
from ondevice.serve.respond import event, name_of, respond
from ondevice.serve.said import Done, Said
from ondevice.serve.usage import finish_reason, usage

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ondevice.runtime.answer import Piece
    from ondevice.serve.metrics import Metrics


async def create(request: Request, host: Host, metrics: Metrics) -> Response:
    """Answer one request."""
    body = await wire.read_body(request)
    asked = wire.common(body, max_tokens=("max_tokens", "max_completion_tokens"))
    use = tools.ToolUse.of(body)
    messages = use.told(wire.messages(tool_messages.without_calls(body)))
    logprobs = _logprobs(body)
    if use.schema is not None and asked.schema is not None:
        raise FieldError("tools and response_format cannot be used together", "response_format")
    ask = asked.ask(messages, use.schema or asked.schema)
    encoder = ChatCompletion(name_of(host, asked.model), use, logprobs, asked.shape.include_usage)
    return await respond(
        request, host, ask, encoder, metrics, stream=asked.shape.stream, pieces=logprobs
    )


@dataclass
class ChatCompletion:
    """The shapes `chat.completion` and `chat.completion.chunk`.

    Where tools are offered, the answer is JSON: a stream gives the text in it as it comes, and a
    call whole at the end. The log-probabilities are those of the JSON's tokens, all at the end.
    """

    model: str
    use: tools.ToolUse
    logprobs: bool = False
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _answer: AnswerText = field(default_factory=AnswerText)

    def start(self) -> Iterable[bytes]:
        """The role."""
        yield self._chunk({"role": "assistant", "content": ""})

    def said(self, said: Said) -> Iterable[bytes]:
        """A part of the answer."""
        if self.use.schema is None:
            yield self._chunk({"content": said.text}, pieces=said.pieces)
        elif text := self._answer.feed(said.text):
            yield self._chunk({"content": text})

    def done(self, done: Done) -> Iterable[bytes]:
        """Tool calls, the end, the usage where it is wanted, and the end of events."""
        end = finish_reason(done.figures)
        if self.use.schema is not None:
            told = self.use.read(done.text)
            if told.calls:
                calls = [call | {"index": at} for at, call in enumerate(told.calls)]
                yield self._chunk({"tool_calls": calls}, pieces=done.pieces)
                end = "tool_calls"
            else:
                rest = (told.content or "").removeprefix(self._answer.text)
                if rest or self.logprobs:
                    yield self._chunk({"content": rest}, pieces=done.pieces)
        yield self._chunk({}, end, extra=done.extra)
        if self.include_usage:
            head = self._head("chat.completion.chunk")
            yield event(head | {"choices": [], "usage": usage(done.figures)})
        yield b"data: [DONE]\n\n"

    def broken(self, error: OndeviceError) -> Iterable[bytes]:
        """An error as an event."""
        yield event(error_body(str(error), kind="server_error"))

    def whole(self, done: Done) -> dict[str, Any]:
        """The message and its usage."""
        end = finish_reason(done.figures)
        message: dict[str, Any] = {"role": "assistant", "content": done.text, "refusal": None}
        if self.use.schema is not None:
            told = self.use.read(done.text)
            message["content"] = told.content
            if told.calls:
                message |= {"content": None, "tool_calls": list(told.calls)}
                end = "tool_calls"
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _content_logprobs(done.pieces) if self.logprobs else None,
            "finish_reason": end,
        }
        return self._head("chat.completion") | {
            "choices": [choice],
            "usage": usage(done.figures),
            "ondevice": done.extra,
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(
        self,
        delta: dict[str, Any],
        end: str | None = None,
        *,
        pieces: tuple[Piece, ...] = (),
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": _content_logprobs(pieces) if self.logprobs and pieces else None,
            "finish_reason": end,
        }
        body = self._head("chat.completion.chunk") | {"choices": [choice]}
        return event(body if extra is None else body | {"ondevice": extra})


def _content_logprobs(pieces: tuple[Piece, ...]) -> dict[str, Any]:
    """ln p of each token, with the whole characters it completes."""
    content = [
        {
            "token": piece.text,
            "logprob": piece.logprob,
            "bytes": list(piece.text.encode()),
            "top_logprobs": [],
        }
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _logprobs(body: wire.Body) -> bool:
    if body.get("top_logprobs") not in (None, 0):
        raise FieldError(
            "top_logprobs must be 0: the chosen tokens' alone are given", "top_logprobs"
        )
    return wire.flag(body, "logprobs")
