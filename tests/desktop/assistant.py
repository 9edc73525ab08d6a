"""The real assistant behind a real server on loopback, its models scripted, its cloud a stand-in.

What a browser test walks through; only the weights, the hub and the provider are not the real ones.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import tiny_tokenizers as tiny
from desktop_fakes import CHATML, END, VOCAB, NoKeychain

from benchmarks.faulty import Behaviour, Faulty, Peer
from ondevice import store
from ondevice.desktop.assistant import Assistant, Parts
from ondevice.desktop.instance import Address
from ondevice.desktop.launch import application
from ondevice.package import MANIFEST, Package, open_package
from ondevice.progress import Progress
from ondevice.runtime.answer import Answer
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.confidence.calibration import Assessment, Calibration
from ondevice.runtime.engine import Logits
from ondevice.runtime.fallback import agreement
from ondevice.runtime.fallback.build import client_for
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine, one_hot
from ondevice.serve.listening import Server, bind

CONTEXT = 65536
DOWNLOAD = 106_000_000  # bytes that the scripted download says it has
STEPS = 40

Says = Callable[[str], str]


@dataclass
class Script:
    """What the models say and how: an answer by its prompt, with a pause before each token.

    `gate`, while it is not set, holds answers back after `free_tokens`. `sure` is how likely the
    calibration thinks an answer right; None for a model that is not calibrated.
    """

    says: Says
    token_s: float = 0.0
    free_tokens: int = 40
    gate: threading.Event = field(default_factory=threading.Event)
    sure: float | None = None
    prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def load(self, package: Package) -> Model:
        """A model of the package's name that follows the script."""
        tokenizer = tiny.byte_level()
        answer: list[int] = []
        step = 0

        def logits(cache: Sequence[int]) -> Logits:
            nonlocal step
            at, step = step, step + 1
            if at >= self.free_tokens:
                self.gate.wait(30)
            time.sleep(self.token_s)
            return one_hot(answer[min(at, len(answer) - 1)], VOCAB)

        engine = ScriptedEngine(logits, vocab_size=VOCAB, context_length=CONTEXT)
        prefill = engine.prefill

        def noticing(tokens: Sequence[int]) -> Logits:
            nonlocal step, answer
            self.prompts.append(tokenizer.decode([*engine.cache, *tokens]))
            step, answer = 0, [*tokenizer.encode(self.says(self.prompts[-1])), END]
            return prefill(tokens)

        engine.prefill = noticing  # type: ignore[method-assign]
        return Model(
            engine,
            tokenizer,
            name=package.manifest.name,
            template=ChatTemplate(CHATML),
            eos_ids=(END,),
            package=package,
            load_s=0.4,
        )


class ScriptedCalibration:
    """Thinks what the script says; certified above 0.7."""

    key, threshold, reason, rival = "fits", 0.7, "", None

    def __init__(self, script: Script) -> None:
        self._script = script

    def prior(self, prompt: str) -> float | None:
        return None

    def assess(self, answer: Answer, prompt: str, schema: str | None = None) -> Assessment:
        return Assessment(self._script.sure or 0.0, cloud=None)


class Provider:
    """A cloud on loopback whose behaviour can be changed between questions."""

    def __init__(self) -> None:
        self.does: Behaviour = Peer.good
        self.server = Faulty(lambda peer: self.does(peer))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """All that was sent to it."""
        return [json.loads(body) for _, body in self.server.seen.requests]

    @property
    def endpoint(self) -> dict[str, str]:
        return {"name": "loop", "base_url": self.server.base_url, "model": "large"}


class Desk:
    """A running assistant: where it is, and the strings that a test pulls."""

    def __init__(
        self,
        url: str,
        assistant: Assistant,
        script: Script,
        provider: Provider,
        end: Callable[[], None],
    ) -> None:
        self.url = url
        self.end = end  # as when its process is killed
        self.assistant = assistant
        self.script = script
        self.provider = provider

    def use_cloud(self, consent: str = "ask", **more: Any) -> None:
        """Set the stand-in up as the cloud."""
        values = {"consent": consent, "endpoint": self.provider.endpoint, **more}
        self.assistant.change_settings(values)


@contextmanager
def running(script: Script, bundled: Path | None, template: Package) -> Iterator[Desk]:
    """An assistant on a free port; `template` is copied by a download. Needs ONDEVICE_HOME set."""
    parts = Parts(
        load=script.load,
        build=lambda model, policy: _under(script, model, policy),
        fetch=lambda name, progress, say: fetched(name, progress, template),
        keys=Keys(environ={}, keychain=NoKeychain()),
        patience_s=60.0,
    )
    provider = Provider()
    listening = bind(0)
    address = Address(listening.getsockname()[1], "token-of-the-test", 0)
    with provider.server, Assistant(bundled=bundled, parts=parts) as assistant:
        app = application(assistant, address, None, threading.Event())
        with Server(app, listening) as server:
            server.start()
            try:
                yield Desk(address.url, assistant, script, provider, server.close)
            finally:
                script.gate.set()
                agreement.withdraw()


def fetched(name: str, progress: Progress, template: Package) -> Package:
    """A download in steps that goes on where an earlier one was stopped."""
    part = store.downloads_folder() / name / "model.gguf.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    begin = int(part.with_suffix(".at").read_text()) if part.with_suffix(".at").exists() else 0
    for step in range(begin, STEPS + 1):
        part.write_bytes(bytes(1000 * step))
        part.with_suffix(".at").write_text(str(step))
        progress("fetching", DOWNLOAD * step // STEPS, DOWNLOAD)
        time.sleep(0.05)
    for step in range(4):
        progress("quantizing", step, 3)
    folder = store.package_folder(name)
    shutil.copytree(template.folder, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "name": name}))
    shutil.rmtree(part.parent)
    return open_package(folder)


def _under(script: Script, model: Model, policy: Policy) -> Fallback:
    cloud = client_for(policy) if policy.endpoint and policy.consent != "never" else None
    calibration = None if script.sure is None else cast(Calibration, ScriptedCalibration(script))
    return Fallback(model, policy, cloud=cloud, calibration=calibration, key=lambda options: "fits")
