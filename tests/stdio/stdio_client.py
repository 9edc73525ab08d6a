"""The other end of `ondevice stdio`: a client that checks every message against the schema."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator

from ondevice import json_file
from ondevice.stdio import wire
from ondevice.stdio.framing import Frames, frame
from ondevice.stdio.wire import Json

SCHEMA = json_file.schema("stdio")
WAIT = 20.0  # seconds; a machine shared by many


def require(part: str, value: object) -> None:
    """Fail where a value is not as the schema's `$defs` has it."""
    validator = Draft202012Validator({"$ref": f"#/$defs/{part}", "$defs": SCHEMA["$defs"]})
    problems = [f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(value)]
    assert problems == [], f"{part}: {value!r}"


class Client:
    """Talks over two descriptors, which it closes; reads all the time unless told not to."""

    def __init__(self, to_server: int, from_server: int, read: bool = True) -> None:
        self._to, self._from = to_server, from_server
        self._methods: dict[Any, str] = {}
        self._messages: queue.Queue[Json | None] = queue.Queue()
        self.seen: list[Json] = []
        self._kept: list[Json] = []
        self._strict = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        if read:
            self._reader.start()

    def send(self, method: str, params: Any = None, id: Any = None) -> None:
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if id is not None:
            message["id"] = id
            self._methods[id] = method
        self.send_bytes(frame(wire.encode(message)))

    def respond(self, id: Any, result: Any) -> None:
        self.send_bytes(frame(wire.encode(wire.result(id, result))))

    def send_bytes(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._to, rest) :]

    def call(self, method: str, params: Any = None, id: Any = "call") -> Any:
        """The result of a request. Fails where it is an error."""
        self.send(method, params, id)
        answer = self.answer(id)
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method: str, params: Any = None, id: Any = "call") -> Json:
        """The error of a request."""
        self.send(method, params, id)
        return self.error_of(id)

    def error_of(self, id: Any) -> Json:
        answer = self.answer(id)
        assert "error" in answer, answer
        error: Json = answer["error"]
        return error

    def answer(self, id: Any) -> Json:
        """The response to a request."""
        return self.wait_for(lambda m: "method" not in m and m["id"] == id)

    def next_of(self, method: str) -> Json:
        """The next notification or request of that name."""
        return self.wait_for(lambda m: m.get("method") == method)

    def wait_for(self, wanted: Callable[[Json], bool], timeout: float = WAIT) -> Json:
        """The first message not given out yet that is wanted."""
        for at, message in enumerate(self._kept):
            if wanted(message):
                return self._kept.pop(at)
        end = time.monotonic() + timeout
        while True:
            message_ = self._messages.get(timeout=max(0.0, end - time.monotonic()))
            assert message_ is not None, "the server ended"
            if wanted(message_):
                return message_
            self._kept.append(message_)

    def initialize(self, consent: bool = False) -> Json:
        params = {
            "protocol": 1,
            "client": {"name": "test", "version": "1"},
            "capabilities": {"consent": consent},
        }
        result: Json = self.call("initialize", params, "init")
        return result

    def accept_anything(self) -> None:
        """Expect results to requests that `send` did not send; each is still as the schema says."""
        self._strict = False

    def tokens(self, id: Any) -> str:
        """The tokens of a request so far, put together."""
        of = [m["params"] for m in self.seen if m.get("method") == "$/token"]
        return "".join(token["text"] for token in of if token["id"] == id)

    def stages(self, id: Any) -> list[str]:
        of = [m["params"] for m in self.seen if m.get("method") == "$/stage"]
        return [stage["stage"] for stage in of if stage["id"] == id]

    def close_input(self) -> None:
        if self._to >= 0:
            os.close(self._to)
            self._to = -1

    def close(self) -> None:
        self.close_input()
        if self._reader.is_alive():
            self._reader.join(WAIT)
        if self._from >= 0:
            os.close(self._from)
            self._from = -1

    def _read(self) -> None:
        try:
            for message in self._frames():
                self._check(message)
                self.seen.append(message)
                self._messages.put(message)
        finally:
            self._messages.put(None)

    def _frames(self) -> Iterator[Json]:
        frames = Frames()
        while chunk := os.read(self._from, 1 << 16):
            for body in frames.feed(chunk):
                message = json_file.loads(body.decode())
                assert isinstance(message, dict)
                yield message
        assert frames.empty

    def _check(self, message: Json) -> None:
        require("fromServer", message)
        if "result" in message and self._strict:
            require(f"{self._methods[message['id']]}Result", message["result"])


def question(text: str = "Where is it?", **more: Any) -> Json:
    """Parameters of `chat`."""
    return {"messages": [{"role": "user", "content": text}], **more}
