"""An assistant over scripted models, and what reads its event streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tiny_tokenizers as tiny
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ondevice.desktop import api
from ondevice.desktop.assistant import Assistant, Parts
from ondevice.errors import CloudError
from ondevice.package import Package
from ondevice.runtime.answer import Message
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.cloud.client import CloudAnswer, Preview
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.keys import Keychain, Keys
from ondevice.runtime.engine import Logits
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine, one_hot

END = 2
VOCAB = 700
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CLOUD = {"name": "loop", "base_url": "http://127.0.0.1:9/v1", "model": "large"}
SAYS = "Paris is the capital."


class Models:
    """Loads models that say `says`; `gate` holds each token back until it is set."""

    def __init__(self, says: str = SAYS) -> None:
        self.says = says
        self.gate = threading.Event()
        self.gate.set()
        self.free_tokens = 3  # that come before the gate
        self.loaded: list[str] = []
        self.prompts: list[str] = []
        self.error: Exception | None = None

    def __call__(self, package: Package) -> Model:
        if self.error is not None:
            raise self.error
        name = package.manifest.name
        self.loaded.append(name)
        tokenizer = tiny.byte_level()
        engine = ScriptedEngine(self._script(tokenizer), vocab_size=VOCAB, context_length=65536)
        prefill = engine.prefill

        def noticing(ids: Sequence[int]) -> Logits:
            self.prompts.append(tokenizer.decode([*engine.cache, *ids]))
            self._step = 0
            return prefill(ids)

        engine.prefill = noticing  # type: ignore[method-assign]
        template = ChatTemplate(CHATML)
        return Model(
            engine,
            tokenizer,
            name=name,
            template=template,
            eos_ids=(END,),
            package=package,
            load_s=0.5,
        )

    def _script(self, tokenizer: Any) -> Callable[[Sequence[int]], Logits]:
        self._step = 0

        def logits(cache: Sequence[int]) -> Logits:
            tokens = [*tokenizer.encode(self.says), END]
            step, self._step = self._step, self._step + 1
            if step >= self.free_tokens:
                assert self.gate.wait(20)
            return one_hot(tokens[min(step, len(tokens) - 1)], VOCAB)

        return logits


class FakeCloud:
    """Counts what reaches it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.asked: list[list[Message]] = []
        self.fails: CloudError | None = None

    def state(self) -> Any:
        return "up"

    def warm(self) -> None:
        """There is nothing to load."""

    def preview(self, messages: Sequence[Message], **_: Any) -> Preview:
        text = json.dumps([message.content for message in messages])
        return Preview(len(text), {"email": 1}, 0.01, True, text)

    def ask(self, messages: Sequence[Message], **_: Any) -> CloudAnswer:
        self.asked.append(list(messages))
        if self.fails is not None:
            raise self.fails
        return CloudAnswer(
            "The cloud says Lyon.", "large-1", 9, 5, True, 0.002, 0.1, 0.2, 1, "r1", "stop"
        )


class NoKeychain:
    """A system without a keychain."""

    def __call__(self) -> Keychain:
        raise OSError("there is none")


class Desk:
    """An assistant with everything scripted, and a client of its routes."""

    def __init__(self, bundled: Path, **more: Any) -> None:
        self.models = Models()
        self.clouds: list[FakeCloud] = []
        self.cloud_fails: CloudError | None = None
        parts = Parts(
            load=self.models,
            build=self._build,
            keys=Keys(environ={}, keychain=NoKeychain()),
            patience_s=more.pop("patience_s", 20.0),
            fetch=more.pop("fetch", None),
        )
        self.assistant = Assistant(bundled=bundled, parts=parts, **more)
        self.quit = threading.Event()
        routes = api.routes(self.assistant, quit=self.quit.set)
        self.client = TestClient(Starlette(routes=routes))

    @property
    def asked(self) -> list[list[Message]]:
        """All that reached a cloud."""
        return [messages for cloud in self.clouds for messages in cloud.asked]

    def conversation(self, **values: str) -> str:
        id: str = self.client.post("/app/conversations", json=values).json()["id"]
        return id

    def ask(self, id: str, content: str = "Where?", **values: str) -> list[tuple[str, Any]]:
        """Ask and read all events."""
        url = f"/app/conversations/{id}/messages"
        return events(self.client.post(url, json={"content": content, **values}).text)

    def in_background(self, id: str, content: str = "Where?", **values: str) -> Asking:
        return Asking(lambda: self.ask(id, content, **values))

    def messages(self, id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/app/conversations/{id}").json()["messages"]
        return found

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/app/state").json()
        return found

    def settings(self, **values: Any) -> dict[str, Any]:
        answer = self.client.put("/app/settings", json=values)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def close(self) -> None:
        self.models.gate.set()
        self.assistant.close()

    def _build(self, model: Model, policy: Policy) -> Fallback:
        cloud = None
        if policy.endpoint is not None and policy.consent != "never":
            cloud = FakeCloud(policy.endpoint)
            cloud.fails = self.cloud_fails
            self.clouds.append(cloud)
        return Fallback(model, policy, cloud=cloud)


class Asking:
    """A question asked in a thread of its own."""

    def __init__(self, work: Callable[[], list[tuple[str, Any]]]) -> None:
        self._events: list[tuple[str, Any]] = []
        self._thread = threading.Thread(target=lambda: self._events.extend(work()), daemon=True)
        self._thread.start()

    def events(self) -> list[tuple[str, Any]]:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self._events


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each server-sent event."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name, data = lines
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def of(found: list[tuple[str, Any]], name: str) -> list[Any]:
    """The data of the events of a name."""
    return [data for one, data in found if one == name]
