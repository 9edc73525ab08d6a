"""A host whose models say what was written down, as slowly as a test needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import tiny_tokenizers as tiny

from ondevice.host import Host
from ondevice.package import Package
from ondevice.runtime.engine import Logits
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine, one_hot

END = 2
VOCAB = 700
LONG = "and so on, " * 400  # what "a long story" is answered with


class Scripted:
    """Opens models that say `I am NAME.`; asked for a long story, they go on and on.

    `may_go_on` is waited for before every token after the second one, `may_load` before opening;
    `before_token` is called before every token. `opened` are the names, in order.
    """

    def __init__(self, before_token: Callable[[], None] = lambda: None) -> None:
        self.may_go_on = threading.Event()
        self.may_load = threading.Event()
        self.may_go_on.set()
        self.may_load.set()
        self.before_token = before_token
        self.opened: list[str] = []
        self.engines: list[ScriptedEngine] = []

    def host(self, packages: Sequence[Package], queue: int = 8) -> Host:
        return Host(packages, open_model=self.open, queue=queue)

    def open(self, package: Package) -> Fallback:
        self.opened.append(package.manifest.name)
        self.may_load.wait(30)
        return Fallback(self.model(package))

    def model(self, package: Package) -> Model:
        tokenizer = tiny.byte_level()
        name = package.manifest.name
        short = [*tokenizer.encode(f"I am {name}."), END]
        long = [*tokenizer.encode(LONG), END]
        starts: list[int] = []

        def logits(cache: Sequence[int]) -> Logits:
            step = len(cache) - starts[-1]
            prompt = tokenizer.decode(list(cache[: starts[-1]]))
            script = long if "long story" in prompt else short
            self.before_token()
            if step > 1:
                self.may_go_on.wait(30)
            return one_hot(script[min(step, len(script) - 1)], VOCAB)

        engine = ScriptedEngine(logits, vocab_size=VOCAB, context_length=8192)
        prefill = engine.prefill

        def noticing(ids: Sequence[int]) -> Logits:
            starts.append(len(engine.cache) + len(ids))
            return prefill(ids)

        engine.prefill = noticing  # type: ignore[method-assign]
        self.engines.append(engine)
        return Model(engine, tokenizer, name=name, eos_ids=(END,), package=package)


def named(package: Package, name: str) -> Package:
    """The same package under another name."""
    return replace(package, manifest=replace(package.manifest, name=name))
