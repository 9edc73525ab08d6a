"""Bodies in, data classes out, strictly: what cannot be done is a clear error, never ignored.

Fields that only tell about the caller (`user`, `metadata`, `store`, ...) are let pass.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ondevice.errors import RequestError
from ondevice.host import Ask
from ondevice.runtime.answer import Message, Options
from ondevice.serve import strict_json
from ondevice.serve.errors import FieldError

if TYPE_CHECKING:
    from starlette.requests import Request

    from ondevice.runtime.fallback.decision import Wish

Body = Mapping[str, Any]

MAX_TOKENS = 1024  # where a request says nothing
MOST_STOPS = 16
MOST_MESSAGES = 2048
_NOT_DONE = (
    "audio",
    "echo",
    "function_call",
    "functions",
    "logit_bias",
    "modalities",
    "prediction",
    "suffix",
    "web_search_options",
)
_LARGE = 1 << 18  # bytes of a body that is read in a thread of its own
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True)
class About:
    """The field `ondevice` of a request: names of the policy, and what the caller wishes."""

    task: str = ""
    data_class: str = ""
    wish: Wish = "none"


@dataclass(frozen=True)
class Shape:
    """How the answer is to come back."""

    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True)
class Common:
    """What chat and text completions share."""

    model: str
    options: Options
    shape: Shape
    about: About
    schema: dict[str, Any] | None = None

    def ask(self, messages: Sequence[Message], schema: dict[str, Any] | None) -> Ask:
        """What the host is asked."""
        return Ask(
            tuple(messages),
            self.options,
            model=self.model,
            task=self.about.task,
            data_class=self.about.data_class,
            wish=self.about.wish,
            schema=schema,
        )


async def read_body(request: Request) -> Body:
    """The JSON object of a request. Raises `FieldError`; a body too large is an HTTP error."""
    from starlette.requests import ClientDisconnect

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of another page can send anything else
        raise FieldError("the request must have Content-Type: application/json")
    try:
        data = await request.body()
        large = len(data) > _LARGE
        value = await asyncio.to_thread(strict_json.read, data) if large else strict_json.read(data)
    except ClientDisconnect as error:
        raise FieldError("the request ended in its middle") from error
    except ValueError as error:
        raise FieldError("the request is not JSON, or not in UTF-8") from error
    if not isinstance(value, dict):
        raise FieldError("the request must be a JSON object")
    return value


def common(body: Body, *, max_tokens: Sequence[str] = ("max_tokens",)) -> Common:
    """Model, options and shape of a request. Raises `FieldError`."""
    _refuse(body)
    schema = schema_of(body.get("response_format"))
    return Common(
        text(body, "model", ""),
        options(body, max_tokens),
        Shape(
            stream=flag(body, "stream"),
            include_usage=flag(mapping(body, "stream_options"), "include_usage"),
        ),
        about(body),
        schema,
    )


def options(body: Body, max_tokens: Sequence[str]) -> Options:
    """How to decode. Raises `FieldError`."""
    given: dict[str, Any] = {"max_tokens": MAX_TOKENS}
    for name in max_tokens:
        if body.get(name) is not None:
            given["max_tokens"] = body[name]
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        if body.get(name) is not None:
            given[name] = body[name]
    if body.get("seed") is not None:
        given["seed"] = _seed(body["seed"])
    if body.get("truncate") is not None:
        given["truncate"] = flag(body, "truncate")
    given["stop"] = _stops(body.get("stop"))
    try:
        return Options(**given)
    except RequestError as error:
        name = str(error).partition(" ")[0]
        raise FieldError(str(error), name if name in given else None) from error


def about(body: Body) -> About:
    """The field `ondevice`. Raises `FieldError`."""
    given = mapping(body, "ondevice")
    unknown = set(given) - {"task", "data_class", "wish"}
    if unknown:
        raise FieldError(
            f"ondevice has no field {sorted(unknown)[0]!r}; known: task, data_class, wish",
            "ondevice",
        )
    wish = text(given, "wish", "none")
    if wish not in ("none", "cloud", "device"):
        raise FieldError("ondevice.wish must be 'none', 'cloud' or 'device'", "ondevice")
    return About(text(given, "task", ""), text(given, "data_class", ""), cast("Wish", wish))


def messages(body: Body) -> tuple[Message, ...]:
    """The conversation of a chat request. Raises `FieldError`."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise FieldError("messages must be a list with at least one message", "messages")
    if len(given) > MOST_MESSAGES:
        raise FieldError(f"messages has more than {MOST_MESSAGES} entries", "messages")
    return tuple(_message(one, f"messages[{at}]") for at, one in enumerate(given))


def schema_of(response_format: object) -> dict[str, Any] | None:
    """The JSON schema that a `response_format` asks for. Raises `FieldError`."""
    if response_format is None:
        return None
    name = "response_format"
    if not isinstance(response_format, dict):
        raise FieldError(f"{name} must be an object", name)
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise FieldError(f"{name}.type must be 'text', 'json_object' or 'json_schema'", name)
    inside = response_format.get("json_schema", response_format)
    schema = inside.get("schema") if isinstance(inside, dict) else None
    if not isinstance(schema, dict):
        raise FieldError(f"{name}.json_schema.schema must be a JSON schema", name)
    return checked_schema(schema, name)


def checked_schema(schema: dict[str, Any], param: str) -> dict[str, Any]:
    """The schema, if it can be enforced. Raises `FieldError`."""
    from ondevice.runtime.constrain import check_schema

    try:
        check_schema(json.dumps(schema))
    except (RequestError, RecursionError) as error:
        raise FieldError(str(error), param) from error
    return schema


def text(body: Body, name: str, default: str | None = None, most: int = 4_000_000) -> str:
    """A text. Raises `FieldError` when it is missing, too long or not Unicode."""
    value = body.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise FieldError(f"{name} must be a string", name)
    return unicode(value, name, most)


def unicode(value: str, name: str, most: int = 4_000_000) -> str:
    """The same text. Raises `FieldError` for half surrogate pairs and for what is too long."""
    if len(value) > most:
        raise FieldError(f"{name} has more than {most:,} characters", name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FieldError(f"{name} is not valid Unicode", name) from error
    return value


def flag(body: Body, name: str, default: bool = False) -> bool:
    """True or false. Raises `FieldError`."""
    value = body.get(name)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise FieldError(f"{name} must be true or false", name)
    return value


def mapping(body: Body, name: str) -> Body:
    """An object, empty where there is none. Raises `FieldError`."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError(f"{name} must be an object", name)
    return value


def content(value: object, name: str) -> str:
    """The text of a message: a string, or a list of text parts. Raises `FieldError`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return unicode(value, name)
    if not isinstance(value, list):
        raise FieldError(f"{name} must be a string or a list of text parts", name)
    return "".join(_part(part, name) for part in value)


def _part(part: object, name: str) -> str:
    if isinstance(part, dict) and part.get("type") in ("text", "input_text", "output_text"):
        return unicode(part["text"], name) if isinstance(part.get("text"), str) else _no_text(name)
    if isinstance(part, dict) and part.get("type") == "refusal":
        return ""
    return _no_text(name)


def _no_text(name: str) -> str:
    raise FieldError(f"{name} may hold text parts only: these models read no images", name)


def _message(value: object, name: str) -> Message:
    if not isinstance(value, dict):
        raise FieldError(f"{name} must be an object", name)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise FieldError(f"{name}.role must be one of {', '.join(_ROLES)}, tool", name)
    said = content(value.get("content"), f"{name}.content")
    return Message(cast("Literal['system', 'user', 'assistant']", _ROLES[role]), said)


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError("seed must be a whole number", "seed")
    return value % (1 << 63)  # OpenAI's may be negative


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    fine = isinstance(stops, list) and all(isinstance(one, str) and one for one in stops)
    if not fine or len(cast("list[str]", stops)) > MOST_STOPS:
        raise FieldError(f"stop must be a string or up to {MOST_STOPS} strings, none empty", "stop")
    return tuple(unicode(one, "stop") for one in cast("list[str]", stops))


def _refuse(body: Body) -> None:
    """Refuse what would change the answer and is not done here."""
    if body.get("n") not in (None, 1) or isinstance(body.get("n"), bool):
        raise FieldError("n must be 1: one answer at a time is made here", "n")
    if body.get("best_of") not in (None, 1) or isinstance(body.get("best_of"), bool):
        raise FieldError("best_of must be 1: one answer at a time is made here", "best_of")
    for name in ("presence_penalty", "frequency_penalty"):
        if body.get(name) not in (None, 0):
            raise FieldError(f"{name} is not done here; use repetition_penalty", name)
    for name in _NOT_DONE:
        if body.get(name) and body[name] != ["text"]:
            raise FieldError(f"{name} is not done here; leave it out", name)
