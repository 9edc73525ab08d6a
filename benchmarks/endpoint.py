"""A local model behind an OpenAI-compatible endpoint on loopback, for measuring the cloud client.

Only `/v1/chat/completions`, as a stream or whole, with usage; what it counts is exposed, so that a
ledger can be compared with it. No authentication: it is no server to put on a network.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from ondevice.errors import OndeviceError, RequestError
from ondevice.runtime.answer import Answer, Message, Options
from ondevice.runtime.model import Model

MOST_BODY = 16 << 20  # bytes of a request
OPTIONS = ("max_tokens", "temperature", "top_p", "seed")


@dataclass
class Counts:
    """What the endpoint has answered so far; tokens of answers cut off by the client too."""

    requests: int = 0
    refused: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


class Endpoint:
    """Where the endpoint listens and what it has counted."""

    def __init__(self, model: Model, port: int = 0) -> None:
        self.model = model
        self.counts = Counts()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.daemon_threads = True
        self._server.endpoint = self  # type: ignore[attr-defined]
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def count(self, answer: Answer | None, *, aborted: bool = False) -> None:
        """Add one request: with its answer, or refused."""
        with self._lock:
            self.counts.requests += 1
            self.counts.aborted += aborted
            if answer is None:
                self.counts.refused += 1
            else:
                self.counts.prompt_tokens += answer.prompt_tokens
                self.counts.output_tokens += len(answer.tokens)

    def run(self) -> None:
        """Serve until `close`."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve(model: Model, port: int = 0) -> Iterator[Endpoint]:
    """The endpoint of a model, served by other threads inside the block; port 0 is any free one."""
    endpoint = Endpoint(model, port)
    thread = threading.Thread(target=endpoint.run, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the counts say what happened."""

    def do_POST(self) -> None:
        try:
            if self.path != "/v1/chat/completions":
                self._json(404, _error(f"there is no {self.path} here; use /v1/chat/completions"))
                return
            body = self._body()
            messages, options = _request(body)
        except OndeviceError as error:
            self._refuse(error)
            return
        with suppress(ConnectionError):
            if body.get("stream"):
                self._stream(messages, options, _wants_usage(body))
            else:
                self._whole(messages, options)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            model = {"id": self._endpoint.model.name, "object": "model"}
            self._json(200, {"object": "list", "data": [model]})
        else:
            self._json(404, _error(f"there is no {self.path} here"))

    @property
    def _endpoint(self) -> Endpoint:
        return self.server.endpoint  # type: ignore[attr-defined, no-any-return]

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BODY:
            self.close_connection = True
            raise RequestError("give the length of the body, at most 16 MiB, as Content-Length")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RequestError("the body is not JSON") from error
        if not isinstance(body, dict):
            raise RequestError("the body is not a JSON object")
        return body

    def _whole(self, messages: list[Message], options: Options) -> None:
        try:
            answer = self._endpoint.model.generate(messages, options)
        except OndeviceError as error:
            self._refuse(error)
            return
        self._endpoint.count(answer)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text},
            "finish_reason": answer.finish_reason,
        }
        head = _head(self._endpoint.model.name, "chat.completion")
        self._json(200, {**head, "choices": [choice], "usage": _usage(answer)})

    def _stream(self, messages: list[Message], options: Options, with_usage: bool) -> None:
        head = _head(self._endpoint.model.name, "chat.completion.chunk")
        try:
            stream = self._endpoint.model.stream(messages, options)
        except OndeviceError as error:
            self._refuse(error)
            return
        self.close_connection = True
        complete = False
        try:
            self._begin_events()
            self._event({**head, "choices": [_choice({"role": "assistant", "content": ""})]})
            for piece in stream:
                if piece.text:
                    self._event({**head, "choices": [_choice({"content": piece.text})]})
            complete = True
        except OndeviceError as error:
            self._event(_error(str(error)))
        finally:
            stream.close()
            self._endpoint.count(stream.answer, aborted=not complete)
        if complete:
            answer = stream.answer
            self._event({**head, "choices": [_choice({}, answer.finish_reason)]})
            if with_usage:
                self._event({**head, "choices": [], "usage": _usage(answer)})
            self.wfile.write(b"data: [DONE]\n\n")

    def _begin_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()

    def _event(self, value: object) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _refuse(self, error: OndeviceError) -> None:
        self._endpoint.count(None)
        self._json(400, _error(str(error)))

    def _json(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def _request(body: dict[str, Any]) -> tuple[list[Message], Options]:
    """The conversation and the options of a request. Raises `RequestError`."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise RequestError("the body has no list of messages")
    values = {name: body[name] for name in OPTIONS if body.get(name) is not None}
    if (limit := body.get("max_completion_tokens")) is not None:
        values["max_tokens"] = limit
    if (stop := body.get("stop")) is not None:
        values["stop"] = tuple(stop) if isinstance(stop, list) else (stop,)
    schema = _schema(body.get("response_format"))
    if schema is not None and "schema" in {field.name for field in fields(Options)}:
        values["schema"] = json.dumps(schema)
    return [_message(value) for value in messages], Options(**values)


def _message(value: object) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise RequestError("a message is not an object with a text as its content")
    return Message(value.get("role", ""), value["content"])


def _schema(wanted: object) -> object | None:
    """The schema of a response format of type json_schema, None without one."""
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    inner = wanted.get("json_schema")
    return inner.get("schema") if isinstance(inner, dict) else None


def _wants_usage(body: dict[str, Any]) -> bool:
    wanted = body.get("stream_options")
    return isinstance(wanted, dict) and bool(wanted.get("include_usage"))


def _head(model: str, kind: str) -> dict[str, object]:
    identity = f"chatcmpl-{uuid4().hex}"
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, output = answer.prompt_tokens, len(answer.tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    }


def _error(message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}
