"""What is sent to an endpoint, personal data hidden, and the most it can cost; sends nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.redact import Redactor, StreamRestorer

Schema = dict[str, Any]

# Beyond the text itself: the chat template's control tokens, and what it adds of its own.
MESSAGE_TOKENS = 16
TEMPLATE_TOKENS = 128
# Entries of a schema with texts of the user's own; the others are the schema's language.
_OWN_TEXT = frozenset({"title", "description", "default", "const", "enum", "examples", "$comment"})


@dataclass(frozen=True)
class Request:
    """The body of a call as the SDK's arguments, and a bound on its prompt's tokens."""

    body: dict[str, Any]
    max_tokens: int
    most_prompt_tokens: int

    @property
    def size(self) -> int:
        """Bytes of the body on the wire."""
        return len(_json(self.body))

    @property
    def text(self) -> str:
        """The body as JSON; the SDK may put its fields in another order."""
        return _json(self.body).decode()


def build(
    endpoint: Endpoint,
    messages: Sequence[Message],
    *,
    max_tokens: int,
    temperature: float,
    schema: Schema | None,
) -> Request:
    """A request for a streamed answer. Raises `CloudError` for one that cannot be sent."""
    if max_tokens < 1 or not messages:
        raise CloudError("a call needs a message and at least one token to answer", "rejected")
    body: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "model": endpoint.model,
        endpoint.limit_field: max_tokens,
        "stream": True,
    }
    if endpoint.takes_temperature:
        body["temperature"] = temperature
    if endpoint.usage_option:
        body["stream_options"] = {"include_usage": True}
    if schema is not None and endpoint.json_schema:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    try:
        tokens = _most_tokens(messages, body.get("response_format"))
    except (UnicodeEncodeError, TypeError, ValueError) as error:
        raise CloudError(f"the request cannot be written as JSON: {error}", "rejected") from error
    return Request(body, max_tokens, tokens)


def _most_tokens(messages: Sequence[Message], schema: object) -> int:
    """Never less than the endpoint counts: a token of text has at least one byte."""
    text = sum(len(message.content.encode()) for message in messages)
    if schema is not None:
        text += len(_json(schema))
    return text + MESSAGE_TOKENS * len(messages) + TEMPLATE_TOKENS


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


@dataclass(frozen=True)
class Hidden:
    """Messages and schema with placeholders; counts by class; how to turn the answer back."""

    messages: Sequence[Message]
    schema: Schema | None
    counts: Mapping[str, int] = field(default_factory=dict)
    restore: Callable[[Iterator[str]], Iterator[str]] = iter


def hide(redactor: Redactor | None, messages: Sequence[Message], schema: Schema | None) -> Hidden:
    """Replace personal data in all texts of a request, equal values by equal placeholders."""
    if redactor is None:
        return Hidden(messages, schema)
    texts = [message.content for message in messages]

    def note(text: str) -> str:
        texts.append(text)
        return text

    _own_texts(schema, note)
    redacted = redactor.hide_all(texts)
    hidden = iter([one.text for one in redacted])
    messages = [replace(message, content=next(hidden)) for message in messages]
    filled = _own_texts(schema, lambda _: next(hidden))
    counts: Counter[str] = Counter()
    for one in redacted:
        counts.update(one.counts)
    found = redacted[0].found if redacted else {}

    def restore(pieces: Iterator[str]) -> Iterator[str]:
        restorer = StreamRestorer(found, json=schema is not None)
        for piece in pieces:
            yield restorer.push(piece)
        yield restorer.finish()

    return Hidden(messages, filled, dict(counts), restore)


def _own_texts(value: Any, change: Callable[[str], str], own: bool = False) -> Any:
    """A schema with its own texts changed, in the order of the schema."""
    if isinstance(value, str):
        return change(value) if own else value
    if isinstance(value, list):
        return [_own_texts(one, change, own) for one in value]
    if isinstance(value, dict):
        return {k: _own_texts(v, change, own or k in _OWN_TEXT) for k, v in value.items()}
    return value
