"""One question on its way to its answer: decide, draft, decide again, ask the cloud at most once.

Whatever happens on the way there is an answer at its end, whole, and labelled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ondevice.errors import CloudError, OndeviceError
from ondevice.runtime.answer import Answer, Message, Options
from ondevice.runtime.clock import Clock
from ondevice.runtime.fallback.agreement import agree
from ondevice.runtime.fallback.checks import Verify
from ondevice.runtime.fallback.decision import Belief, Decision, Drafted, Facts, threshold_of
from ondevice.runtime.fallback.drafts import draft_bytes, with_draft
from ondevice.runtime.fallback.early_abort import Watch
from ondevice.runtime.fallback.judge import Judge, Reachable
from ondevice.runtime.fallback.policy import Mode
from ondevice.runtime.fallback.reply import Draft, Escalation, Event, Final, Proposal, Reply
from ondevice.runtime.model import Model, Stream

if TYPE_CHECKING:
    from ondevice.runtime.cloud.client import CloudAnswer, Preview, Purpose

Ask = Callable[[Proposal], bool]
Stop = Callable[[], bool]

_log = logging.getLogger(__name__)


class Cloud(Reachable, Protocol):
    """What is used of a cloud client."""

    def warm(self) -> None:
        """Load what a call will need, in a thread; opens no connection."""

    def preview(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
    ) -> Preview:
        """What `ask` would send; sends nothing. Raises `CloudError` for what cannot be sent."""

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
        purpose: Purpose,
        should_stop: Stop | None,
    ) -> CloudAnswer:
        """The cloud's answer, whole. Raises `CloudError`."""


@dataclass(frozen=True)
class Request:
    """One question with everything that belongs to it."""

    messages: tuple[Message, ...]
    options: Options
    facts: Facts
    mode: Mode
    verify: Verify | None = None
    consent: Ask | None = None
    should_stop: Stop | None = None

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer has to follow."""
        text = self.options.schema
        schema = None if text is None else json.loads(text)
        return schema if isinstance(schema, dict) else None


class Run:
    """The way of one request; iterate `events` once."""

    def __init__(
        self, model: Model, judge: Judge, cloud: Cloud | None, request: Request, clock: Clock
    ) -> None:
        self._model = model
        self._judge = judge
        self._policy = judge.policy
        self._cloud = cloud
        self._request = request
        self._clock = clock
        self._belief = Belief()
        self._draft = Drafted()
        self._decision = Decision("device", ())
        self._decision_s = 0.0
        self._escalation: Escalation = "not-needed"
        self._failure = ""
        self._detail = ""  # why an escalation came to nothing
        self._answer: CloudAnswer | None = None
        self._aborted = False
        self._shown: list[str] = []

    def events(self) -> Iterator[Event]:
        """Pieces of the local answer as the mode allows, then the final event."""
        start = self._clock()
        self._belief = self._judge.believe(self._request.options, self._request.facts.prompt)
        self._decision_s += self._clock() - start
        self._decide(None)
        if self._decision.where == "cloud" and self._escalate(""):
            yield self._final(None)
            return
        stream = self._model.stream(
            self._request.messages,
            self._request.options,
            should_stop=self._request.should_stop,
        )
        try:
            yield from self._drafting(stream)
        finally:
            stream.close()
        answer = stream.answer
        if self._answer is None:
            self._judge_draft(answer)
        yield self._final(answer)

    def _drafting(self, stream: Stream) -> Iterator[Event]:
        """Make the local answer; ends early when the cloud has answered in its place.

        `open_`: the cloud may still answer, so that what is shown may not be the answer yet.
        """
        open_ = self._decision.allowed and self._escalation == "not-needed"
        watch = self._watch() if open_ else None
        held: list[str] = []
        for number, piece in enumerate(stream, 1):
            held.append(piece.text)
            if watch is not None and watch.push(piece.logprob):
                if self._give_up(watch):
                    return
                open_, watch = False, None
            if open_ and self._request.mode == "peek" and number > self._policy.peek_tokens:
                open_, watch = False, None
            if not open_ or self._request.mode == "revise":
                yield from self._show(held, provisional=open_)

    def _show(self, held: list[str], *, provisional: bool) -> Iterator[Draft]:
        text = "".join(held)
        held.clear()
        if text:
            self._shown.append(text)
            yield Draft(text, provisional)

    def _watch(self) -> Watch | None:
        """Giving up early is an escalation by itself, so it takes a calibrated model."""
        settings = self._policy.early_abort
        calibrated = self._belief.fit == "calibrated"
        return Watch(settings) if settings is not None and calibrated else None

    def _give_up(self, watch: Watch) -> bool:
        """Ask the cloud in the middle of a bad draft; whether it answered. Else it goes on."""
        self._decide(Drafted(gave_up_at=watch.lowest))
        self._aborted = self._decision.where == "cloud" and self._escalate("")
        return self._aborted

    def _judge_draft(self, answer: Answer) -> None:
        """Judge a finished draft, and ask the cloud about it unless that was done already."""
        start = self._clock()
        schema, verify = self._request.options.schema, self._request.verify
        self._draft = self._judge.drafted(self._request.facts, answer, schema, verify)
        self._decision_s += self._clock() - start
        if self._escalation != "not-needed":
            return
        self._decide(self._draft)
        if not self._decision.wanted:
            return
        if self._decision.unreachable:
            self._escalation, self._failure = "failed", "no-route"
        elif not self._decision.allowed:
            self._escalation = "not-allowed"
        elif self._request.mode == "peek" and self._shown:
            self._escalation = "not-allowed"
            self._detail = f"it was shown for good after {self._policy.peek_tokens} tokens"
        else:
            self._escalate(answer.text)

    def _decide(self, draft: Drafted | None) -> None:
        start = self._clock()
        can_ask = self._request.consent is not None
        facts = self._request.facts
        self._decision = self._judge.decide(facts, self._belief, draft, can_ask=can_ask)
        self._decision_s += self._clock() - start

    def _escalate(self, draft: str) -> bool:
        """Ask the person if need be, then the cloud; whether there is an answer from it.

        Whatever goes wrong is written down, and the local answer stays.
        """
        passing = self._policy.task(self._request.facts.task).draft
        sent = with_draft(self._request.messages, passing, draft, self._decision.why)
        try:
            assert self._cloud is not None  # else nothing is allowed
            if self._decision.ask and not self._agrees(self._cloud, sent):
                self._escalation, self._detail = "declined", "the person did not agree"
                return False
            self._answer = self._ask(self._cloud, sent)
        except OndeviceError as error:
            kind = error.kind if isinstance(error, CloudError) else "configuration"
            self._escalation, self._failure, self._detail = "failed", kind, str(error)
            return False
        except ImportError as error:
            self._escalation, self._failure = "failed", "configuration"
            self._detail = f"{error}; install ondevice[cloud]"
            return False
        except Exception as error:  # not even a bug of ours may cost the local answer
            _log.exception("asking the cloud failed")
            self._escalation, self._failure = "failed", "internal"
            self._detail = f"a bug in ondevice ({type(error).__name__}); please report it"
            return False
        self._escalation = "answered"
        return True

    def _agrees(self, cloud: Cloud, sent: Sequence[Message]) -> bool:
        consent = self._request.consent
        if consent is None:
            return False
        cloud.warm()  # while the person reads
        if not consent(self._proposal(cloud, sent)):
            return False
        if self._policy.consent == "session":
            agree(cloud.endpoint)
        return True

    def _proposal(self, cloud: Cloud, sent: Sequence[Message]) -> Proposal:
        facts, options = self._request.facts, self._request.options
        preview = cloud.preview(
            sent,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            schema=self._request.schema,
        )
        return Proposal(
            endpoint=cloud.endpoint.name,
            base_url=cloud.endpoint.base_url,
            model=cloud.endpoint.model,
            sent_bytes=preview.sent_bytes,
            redactions=preview.redactions,
            worst_cost_usd=preview.worst_cost_usd if preview.price_known else None,
            reason=self._decision.why,
            confidence=self._draft.probability,
            calibrated=self._belief.fit == "calibrated",
            task=facts.task,
            data_class=self._policy.class_of(facts.task, facts.data_class),
            draft_bytes=draft_bytes(self._request.messages, sent),
            sent_text=preview.sent_text,
        )

    def _ask(self, cloud: Cloud, sent: Sequence[Message]) -> CloudAnswer:
        from ondevice.runtime.cloud.client import Purpose

        facts, options = self._request.facts, self._request.options
        return cloud.ask(
            sent,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            schema=self._request.schema,
            purpose=Purpose(
                reason=self._decision.why,
                confidence=self._draft.probability,
                threshold=threshold_of(self._policy, facts.task, self._belief),
                task=facts.task,
                data_class=self._policy.class_of(facts.task, facts.data_class),
            ),
            should_stop=self._request.should_stop,
        )

    def _final(self, local: Answer | None) -> Final:
        cloud, why = self._answer, self._decision.why
        made = local if cloud is None else cloud
        assert made is not None
        reply = Reply(
            text=made.text,
            source="device" if cloud is None else "cloud",
            reason=f"{why}; {self._detail}" if self._detail else why,
            confidence=self._draft.probability,
            calibrated=self._belief.fit == "calibrated",
            escalation=self._escalation,
            failure=self._failure,
            local=local,
            cost_usd=0.0 if cloud is None else cloud.cost_usd,
            decision_s=self._decision_s,
            cloud=cloud,
            draft_tokens=0 if local is None else len(local.tokens),
            aborted=self._aborted,
            reasons=self._decision.reasons,
        )
        return Final(reply, replaces=bool(self._shown) and "".join(self._shown) != made.text)
