"""`/v1/completions`: a text continued as it stands, without a chat template."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ondevice.errors import OndeviceError
from ondevice.host import Ask, Host
from ondevice.serve import wire
from ondevice.serve.errors import FieldError, error_body
from ondevice.serve.respond import event, name_of, respond
from ondevice.serve.said import Done, Said
from ondevice.serve.usage import finish_reason, usage

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ondevice.runtime.answer import Piece
    from ondevice.serve.metrics import Metrics


async def create(request: Request, host: Host, metrics: Metrics) -> Response:
    """Answer one request. The local model's own text: the policy sends no raw text on."""
    body = await wire.read_body(request)
    asked = wire.common(body)
    logprobs = _logprobs(body)
    ask = Ask((), asked.options, model=asked.model, schema=asked.schema, raw=_prompt(body))
    encoder = TextCompletion(name_of(host, asked.model), logprobs, asked.shape.include_usage)
    return await respond(
        request, host, ask, encoder, metrics, stream=asked.shape.stream, pieces=True
    )


@dataclass
class TextCompletion:
    """The shape `text_completion`."""

    model: str
    logprobs: bool = False
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _offset: int = 0

    def start(self) -> Iterable[bytes]:
        """Nothing comes before the text."""
        return ()

    def said(self, said: Said) -> Iterable[bytes]:
        """A part of the text."""
        yield event(self._body(said.text, None, said.pieces))

    def done(self, done: Done) -> Iterable[bytes]:
        """The end, the usage where it is wanted, and the end of events."""
        last = self._body("", finish_reason(done.figures), ())
        yield event(last | {"ondevice": done.extra})
        if self.include_usage:
            yield event(self._head() | {"choices": [], "usage": usage(done.figures)})
        yield b"data: [DONE]\n\n"

    def broken(self, error: OndeviceError) -> Iterable[bytes]:
        """An error as an event."""
        yield event(error_body(str(error), kind="server_error"))

    def whole(self, done: Done) -> dict[str, Any]:
        """The text and its usage."""
        body = self._body(done.text, finish_reason(done.figures), done.pieces)
        return body | {"usage": usage(done.figures), "ondevice": done.extra}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
        }

    def _body(self, text: str, finish: str | None, pieces: tuple[Piece, ...]) -> dict[str, Any]:
        choice = {
            "index": 0,
            "text": text,
            "logprobs": self._logprobs(pieces) if self.logprobs else None,
            "finish_reason": finish,
        }
        return self._head() | {"choices": [choice]}

    def _logprobs(self, pieces: tuple[Piece, ...]) -> dict[str, Any]:
        offsets = []
        for piece in pieces:
            offsets.append(self._offset)
            self._offset += len(piece.text)
        return {
            "tokens": [piece.text for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": None,
            "text_offset": offsets,
        }


def _prompt(body: wire.Body) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise FieldError("prompt must be one string: one answer at a time is made here", "prompt")
    if not prompt:
        raise FieldError("prompt is empty; write the text to continue", "prompt")
    return wire.unicode(prompt, "prompt")


def _logprobs(body: wire.Body) -> bool:
    value = body.get("logprobs")
    if value is None or value is False:
        return False
    if value is True or value == 0:
        return True
    raise FieldError("logprobs must be 0: the chosen tokens' alone are given", "logprobs")
