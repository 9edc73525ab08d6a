"""Examples and records made by hand, and a scripted subject, for the tests of evaluation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ondevice.runtime.confidence.features import NAMES
from ondevice.runtime.evaluate.check import Exact
from ondevice.runtime.evaluate.collect import Subject, checked
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record


def example(number: int, **changes: object) -> Example:
    made = Example(f"e{number}", f"say {number}", Exact((str(number),)))
    return replace(made, **changes)  # type: ignore[arg-type]


def record(
    number: int,
    right: bool,
    *,
    subject: str = "device:small",
    logprob: float | None = None,
    **changes: object,
) -> Record:
    """A record of `example(number)`; with `logprob`, its mean log-probability."""
    features = () if logprob is None else (logprob, *[0.0] * (len(NAMES) - 1))
    made = Record(
        f"e{number}", subject, str(number if right else -1), right, float(right), True,
        10, 2, "stop", 0.25, 0.5, 0.0, features,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class ScriptedSource:
    """A source whose `says` gives the text to an example; counts what it was asked."""

    says: Callable[[Example], str]
    name: str = "device:scripted"
    identity: str = "a" * 64
    pause_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    opened: int = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[Subject]:
        self.opened += 1
        yield self

    def answer(self, asked: Example) -> Record:
        self.asked.append(asked.id)
        time.sleep(self.pause_s)
        made = checked(asked, self.name, self.says(asked))
        return replace(made, prompt_tokens=7, output_tokens=3, ttft_s=0.25, latency_s=0.5)


def third_wrong(asked: Example) -> str:
    """Right but for every third example."""
    number = int(asked.id[1:])
    return str(-1 if number % 3 == 0 else number)
