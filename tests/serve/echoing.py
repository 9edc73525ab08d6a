"""A server whose models say what the question puts between « and », at a pace a test chooses."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import tiny_tokenizers as tiny

from ondevice.host import Host
from ondevice.package import Package, open_package
from ondevice.runtime.engine import Logits
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine, one_hot
from ondevice.serve.app import create_app
from ondevice.serve.listening import Server, bind

END = 2
VOCAB = 700
TOKEN = "the-token-of-the-tests"
DEFAULT = "Nothing was asked for."


@dataclass
class Echo:
    """Opens echoing models. `step_s` is the time of a token; `prompts` is what they were told."""

    step_s: float = 0.0

    def __post_init__(self) -> None:
        self.prompts: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def open(self, package: Package) -> Fallback:
        """A model of its own for every package."""
        tokenizer = tiny.byte_level()
        script: list[int] = []
        start = 0

        def logits(cache: Sequence[int]) -> Logits:
            step = len(cache) - start
            time.sleep(self.step_s)
            self.may_go_on.wait(30)
            return one_hot(script[min(step, len(script) - 1)], VOCAB)

        engine = ScriptedEngine(logits, vocab_size=VOCAB, context_length=16384)
        prefill = engine.prefill

        def noticing(ids: Sequence[int]) -> Logits:
            nonlocal start
            start = len(engine.cache) + len(ids)
            prompt = tokenizer.decode([*engine.cache, *ids])
            self.prompts.append(prompt)
            script[:] = [*tokenizer.encode(answer_to(prompt)), END]
            return prefill(ids)

        engine.prefill = noticing  # type: ignore[method-assign]
        name = package.manifest.name
        return Fallback(Model(engine, tokenizer, name=name, eos_ids=(END,), package=package))


def answer_to(prompt: str) -> str:
    """What an echoing model says to a prompt."""
    _, mark, rest = prompt.rpartition("«")
    return rest.partition("»")[0] if mark else DEFAULT


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int
    host: Host
    echo: Echo

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def idle(self, within_s: float = 10.0) -> bool:
        """Whether no answer is being made, soon."""
        end = time.monotonic() + within_s
        while self.host.turns.busy and time.monotonic() < end:
            time.sleep(0.01)
        return not self.host.turns.busy


@contextmanager
def serving(
    package: Package, *, step_s: float = 0.0, queue: int = 8, policy: Policy | None = None
) -> Iterator[Served]:
    """A server with the models `one` and `two`, on a free port."""
    echo = Echo(step_s)
    packages = [named(package, name) for name in ("one", "two")]
    host = Host(packages, policy, open_model=echo.open, queue=queue)
    listening = bind(0)
    port = listening.getsockname()[1]
    with host, Server(create_app(host, token=TOKEN, port=port), listening) as server:
        server.start()
        try:
            yield Served(port, host, echo)
        finally:
            echo.may_go_on.set()
            host.turns.close()


def named(package: Package, name: str) -> Package:
    """The same package under another name."""
    return replace(package, manifest=replace(package.manifest, name=name))


def main() -> None:
    """Serve until stdin ends: `python echoing.py PACKAGE STEP_S QUEUE`; prints the port."""
    package, step_s, queue = sys.argv[1:]
    with serving(open_package(Path(package)), step_s=float(step_s), queue=int(queue)) as served:
        print(served.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
