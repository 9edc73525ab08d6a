"""A cloud that counts what it is sent, a calibration with known answers, a model with a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import tiny_tokenizers as tiny

from ondevice.errors import CloudError
from ondevice.runtime.answer import Answer, Message, Options
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.cloud.client import CloudAnswer, Preview, Purpose
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.confidence.calibration import Assessment, Calibration
from ondevice.runtime.confidence.rival import Rival
from ondevice.runtime.engine import Logits
from ondevice.runtime.fallback.decision import CloudState
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.fallback.reply import Proposal
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine, one_hot

END = 2
VOCAB = 700
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ENDPOINT = Endpoint("loop", "http://127.0.0.1:9/v1", "large")


def scripted_model(
    says: str = "Paris.", sure: Callable[[int], float] = lambda step: 20.0
) -> tuple[Model, ScriptedEngine]:
    """A model that says something; `sure(step)` is the height of each token's logit."""
    tokenizer = tiny.byte_level()
    tokens = [*tokenizer.encode(says), END]
    prompts: list[int] = []

    def logits(cache: Sequence[int]) -> Logits:
        step = len(cache) - prompts[-1]
        return one_hot(tokens[min(step, len(tokens) - 1)], VOCAB, sure(step))

    clock = ScriptedClock()
    engine = ScriptedEngine(logits, vocab_size=VOCAB, clock=clock)
    prefill = engine.prefill

    def noticing(ids: Sequence[int]) -> Logits:
        prompts.append(len(engine.cache) + len(ids))
        return prefill(ids)

    engine.prefill = noticing  # type: ignore[method-assign]
    model = Model(
        engine,
        tokenizer,
        name="small",
        template=ChatTemplate(CHATML),
        eos_ids=(END,),
        clock=clock,
        load_s=2.5,
    )
    return model, engine


class FakeCloud:
    """Counts the bytes that reach it: those of the messages of every `ask`."""

    def __init__(
        self,
        says: str = "The cloud says Paris.",
        state: CloudState = "unknown",
        fails: Exception | None = None,
        price_known: bool = True,
    ) -> None:
        self.endpoint = ENDPOINT
        self.says, self._state, self.fails = says, state, fails
        self.price_known = price_known
        self.asked: list[list[Message]] = []
        self.purposes: list[Purpose] = []
        self.settings: list[tuple[int, float, dict[str, Any] | None]] = []
        self.before: Callable[[], None] = lambda: None  # runs in the middle of a call

    @property
    def bytes_sent(self) -> int:
        return sum(len(m.content.encode()) for messages in self.asked for m in messages)

    def state(self) -> CloudState:
        return self._state

    def warm(self) -> None:
        """There is nothing to load."""

    def preview(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
    ) -> Preview:
        size = sum(len(m.content.encode()) for m in messages)
        return Preview(size, {"email": 2, "iban": 0}, 0.0123, self.price_known)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
        purpose: Purpose,
        should_stop: Callable[[], bool] | None,
    ) -> CloudAnswer:
        self.asked.append(list(messages))
        self.purposes.append(purpose)
        self.settings.append((max_tokens, temperature, schema))
        self.before()
        if self.fails is not None:
            raise self.fails
        return CloudAnswer(
            text=self.says,
            model="large-2026",
            prompt_tokens=11,
            output_tokens=5,
            usage_reported=True,
            cost_usd=0.0021,
            ttft_s=0.2,
            latency_s=0.6,
            attempts=1,
            request_id="r1",
            finish_reason="stop",
        )


def timeout(partial: str = "The cloud sa") -> CloudError:
    return CloudError("no answer began within 8 s", "timeout", partial)


class FakeCalibration:
    """Thinks what it was told."""

    def __init__(
        self,
        probability: float = 0.3,
        threshold: float | None = 0.7,
        prior: float | None = None,
        key: str = "fits",
        error: Exception | None = None,
        rival: Rival | None = None,
        cloud: float | None = None,
    ) -> None:
        self.rival, self._cloud = rival, cloud
        self.key, self.threshold, self._prior = key, threshold, prior
        self.reason = "" if threshold is not None else "cannot certify: 10 examples are too few"
        self._probability, self._error = probability, error

    def prior(self, prompt: str) -> float | None:
        return self._prior

    def assess(self, answer: Answer, prompt: str, schema: str | None = None) -> Assessment:
        if self._error is not None:
            raise self._error
        return Assessment(self._probability, cloud=self._cloud)


def fallback(
    policy: Policy,
    cloud: FakeCloud | None = None,
    calibration: FakeCalibration | None = None,
    says: str = "Paris.",
    sure: Callable[[int], float] = lambda step: 20.0,
) -> tuple[Fallback, ScriptedEngine]:
    """A fallback whose model's calibration key is "fits"."""
    model, engine = scripted_model(says, sure)
    made = Fallback(
        model,
        policy,
        cloud=cloud,
        calibration=cast(Calibration, calibration),
        key=lambda options: "fits",
    )
    return made, engine


class Person:
    """Agrees or not, and remembers what was shown."""

    def __init__(self, agrees: bool = True) -> None:
        self.agrees = agrees
        self.shown: list[Proposal] = []

    def __call__(self, proposal: Proposal) -> bool:
        self.shown.append(proposal)
        return self.agrees


def options(**values: Any) -> Options:
    return Options(max_tokens=64, **values)


def logprob(height: float) -> float:
    """The log-probability of a token whose logit is `height` above all others."""
    return float(height - np.log(np.exp(height) + VOCAB - 1))
