"""The methods' parameters and results: JSON to data classes and back.

`docs/stdio.md` explains them, `ondevice/schemas/stdio.schema.json` is their schema. Does nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from ondevice import __version__, labels
from ondevice.errors import EngineError, OndeviceError, PackageError, RequestError
from ondevice.host import Ask, BusyError, GoneError, Stage
from ondevice.nearest import nearest
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.fallback.decision import Wish
from ondevice.stdio import wire
from ondevice.stdio.wire import Id, Json, WireError

if TYPE_CHECKING:
    from ondevice.package import Package
    from ondevice.runtime.fallback.reply import Proposal, Reply

PROTOCOL = 1
_OPTIONS = tuple(f.name for f in dataclasses.fields(Options) if f.name != "schema")
_CHAT = ("messages", "model", "options", "schema", "task", "data_class", "wish")


@dataclass(frozen=True)
class Client:
    """Who is at the other end, and whether a person there can be asked for consent."""

    name: str
    version: str
    consent: bool


def client_of(params: Json) -> Client:
    """The parameters of `initialize`; fields of later protocols are passed over."""
    if "protocol" not in params:
        raise RequestError(f"initialize needs the protocol's number: {PROTOCOL}")
    protocol = params["protocol"]
    if protocol != PROTOCOL or isinstance(protocol, bool) or not isinstance(protocol, int):
        raise RequestError(f"no protocol {_shown(protocol)}; this ondevice speaks {PROTOCOL}")
    client = _object(params, "client")
    name, version = _text(client, "name"), _text(client, "version")
    consent = _object(params, "capabilities").get("consent", False)
    if not isinstance(consent, bool):
        raise RequestError(f"capabilities.consent is true or false, not {_shown(consent)}")
    return Client(name, version, consent)


def ask_of(params: Json) -> Ask:
    """The parameters of `chat`. What depends on the model is checked when its turn comes."""
    _require_known(params, _CHAT, "chat")
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("chat needs messages: a list of {role, content}, not empty")
    schema = params.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise RequestError("schema is a JSON schema, an object")
    return Ask(
        messages=tuple(_message(message, at) for at, message in enumerate(messages)),
        options=_options(_object(params, "options")),
        model=_text(params, "model"),
        task=_text(params, "task"),
        data_class=_text(params, "data_class"),
        wish=_wish(params),
        schema=schema,
    )


def model_of(params: Json) -> str:
    """The parameters of `load`: a model's name, "" for the first."""
    _require_known(params, ("model",), "load")
    return _text(params, "model")


def no_params(params: Json, method: str) -> None:
    """Raise `RequestError` for parameters of a method that has none."""
    _require_known(params, (), method)


def cancelled_id(params: Json) -> Id | None:
    """The parameters of `$/cancel`; None where they are wrong: nobody is to be told."""
    id = params.get("id")
    return id if wire.is_id(id) else None


def allowed(result: object) -> bool:
    """Whether the client's answer to `consent` is a yes; anything else is a no."""
    return isinstance(result, dict) and result.get("allow") is True


def server_json(models: list[Json]) -> Json:
    """The result of `initialize`; the first model is the default."""
    return {
        "protocol": PROTOCOL,
        "server": {"name": "ondevice", "version": __version__},
        "models": models,
        "default": models[0]["name"] if models else None,
    }


def model_json(package: Package, context_length: int) -> Json:
    """A model that can be asked for; `context_length` in tokens, the answer among them."""
    return {
        "name": package.manifest.name,
        "context_length": context_length,
        "bytes": package.total_bytes,
        "licence": package.manifest.source.licence,
    }


def stage_json(id: Id, stage: Stage, elapsed_s: float) -> Json:
    """The parameters of `$/stage`."""
    return {
        "id": id,
        "stage": stage.name,
        "model": stage.model,
        "ahead": stage.ahead,
        "elapsed_ms": labels.ms(elapsed_s),
    }


def token_json(id: Id, text: str, provisional: bool) -> Json:
    """The parameters of `$/token`."""
    return {"id": id, "text": text, "provisional": provisional}


def consent_json(id: Id, proposal: Proposal) -> Json:
    """The parameters of our request `consent`."""
    return {"id": id, "proposal": labels.proposal_json(proposal)}


def loaded_json(model: str, load_s: float) -> Json:
    """The result of `load`."""
    return {"model": model, "load_ms": labels.ms(load_s)}


def answer_json(reply: Reply, total_s: float) -> Json:
    """The result of `chat`; `total_s` is the time since its request came."""
    made = labels.figures(reply)
    return {
        "text": reply.text,
        "finish_reason": made.finish_reason,
        "model": made.model,
        **labels.label(reply),
        "usage": {
            "prompt_tokens": made.prompt_tokens,
            "output_tokens": made.output_tokens,
            "cached_tokens": made.cached_tokens,
        },
        "timings": {
            "ttft_ms": made.ttft_ms,
            "prefill_tps": made.prefill_tps,
            "decode_tps": made.decode_tps,
            "load_ms": made.load_ms,
            "total_ms": labels.ms(total_s),
        },
    }


def error_of(error: OndeviceError) -> WireError:
    """What a request is told about something the user can mend."""
    text = str(error)
    if isinstance(error, BusyError):
        return WireError(wire.BUSY, text, {"retry_after_s": round(error.retry_after_s, 3)})
    if isinstance(error, GoneError):
        return WireError(wire.CANCELLED, text)
    if isinstance(error, RequestError):
        return WireError(wire.BAD_PARAMS, text)
    if isinstance(error, PackageError | EngineError):
        return WireError(wire.UNUSABLE_MODEL, text)
    return WireError(wire.INTERNAL, text)


def _message(value: object, at: int) -> Message:
    if not isinstance(value, dict):
        raise RequestError(f"message {at} is an object with role and content")
    _require_known(value, ("role", "content"), f"message {at}")
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise RequestError(f"message {at} needs a role and a content, both strings")
    if role not in ("system", "user", "assistant"):
        raise RequestError(f"message {at}: a role is system, user or assistant")
    return Message(role, content)  # type: ignore[arg-type]


def _options(given: Json) -> Options:
    _require_known(given, _OPTIONS, "options")
    values = {name: value for name, value in given.items() if value is not None}
    if "stop" in values:
        stop = values["stop"]
        if not isinstance(stop, list):
            raise RequestError("options.stop is a list of strings")
        values["stop"] = tuple(stop)
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > wire.LARGEST_INTEGER:
            raise RequestError(f"options.{name} is beyond 2^53")
    if not isinstance(values.get("truncate", False), bool):
        raise RequestError("options.truncate is true or false")
    return Options(**values)


def _wish(params: Json) -> Wish:
    wish = params.get("wish")
    if wish is None:
        return "none"
    if wish not in get_args(Wish):
        raise RequestError(f"wish is none, cloud or device, not {_shown(wish)}")
    return wish  # type: ignore[no-any-return]


def _text(params: Json, name: str) -> str:
    value = params.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"{name} is a string, not {_shown(value)}")
    return value


def _object(params: Json, name: str) -> Json:
    value = params.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(f"{name} is an object, not {_shown(value)}")
    return value


def _require_known(given: Json, known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise RequestError(f"{what} has no {name[:40]!r}; {nearest(name[:40], known)}")


def _shown(value: Any) -> str:
    """A value of the client's, short enough to quote."""
    return json.dumps(value)[:40]
