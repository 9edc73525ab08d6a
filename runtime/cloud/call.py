"""One question to an endpoint, from its reservation to its entry in the log.

Permit, breaker, budget, log, attempts, settlement: in this order, and undone in the reverse one
whatever happens. Knows no policy. Made and run by `CloudClient`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from time import sleep
from typing import Any, cast
from uuid import uuid4

from ondevice.errors import CloudError
from ondevice.runtime.clock import Clock
from ondevice.runtime.cloud import failures
from ondevice.runtime.cloud.audit import AuditLog, Event
from ondevice.runtime.cloud.books import Books
from ondevice.runtime.cloud.breaker import Breaker, Turn
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.exchange import Exchange
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.ledger import NANO, Ledger
from ondevice.runtime.cloud.loading import Loading
from ondevice.runtime.cloud.pace import Pace
from ondevice.runtime.cloud.pieces import Pieces
from ondevice.runtime.cloud.prices import Price, Prices
from ondevice.runtime.cloud.reachability import Reachability
from ondevice.runtime.cloud.request import Request
from ondevice.runtime.cloud.switch import Switch

RETRY_S = 0.5  # the first pause before a retry is drawn from 0 to this
ANSWER_BYTES = 64 << 10  # of an answer's stream beside its tokens
TOKEN_BYTES = 4 << 10  # of one token's event
MOST_BYTES = 64 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Purpose:
    """Why something is sent; goes to the audit log."""

    reason: str
    confidence: float | None = None
    threshold: float | None = None
    task: str = ""
    data_class: str = ""


@dataclass(frozen=True)
class CloudAnswer:
    """A whole answer of an endpoint.

    `cost_usd` counts every attempt; `usage_reported` false: tokens and cost are the worst case.
    Times in seconds from the call. `finish_reason` is "stop", or "length" at the token limit.
    """

    text: str
    model: str
    prompt_tokens: int
    output_tokens: int
    usage_reported: bool
    cost_usd: float
    ttft_s: float
    latency_s: float
    attempts: int
    request_id: str
    finish_reason: str


@dataclass(frozen=True)
class Parts:
    """What all calls to one endpoint share."""

    endpoint: Endpoint
    switch: Switch
    ledger: Ledger
    prices: Prices
    audit: AuditLog
    keys: Keys
    breaker: Breaker
    reachability: Reachability
    clock: Clock
    ready: Callable[[], Loading]

    def price(self) -> Price:
        """The price in force. Raises `UnknownPriceError` where a budget cannot be kept."""
        endpoint = self.endpoint
        return self.prices.find(
            endpoint.model, loopback=endpoint.is_loopback, capped=self.ledger.caps.any
        )


@dataclass(frozen=True)
class Wanted:
    """A request that is ready to be sent, and how its answer is turned back."""

    request: Request
    redactions: Mapping[str, int] = field(default_factory=dict)
    restore: Callable[[Iterator[str]], Iterator[str]] = iter


_END = object()
_NOTHING = Wanted(Request({}, 0, 0))


class Call:
    """One call. `run` gives the text in pieces; afterwards `answer` is set.

    `prepare` makes the request; it is asked only when the call may go out at all.
    """

    def __init__(
        self,
        parts: Parts,
        prepare: Callable[[], Wanted],
        purpose: Purpose,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.id = uuid4().hex
        self.answer: CloudAnswer | None = None
        self._parts = parts
        self._prepare = prepare
        self._wanted = _NOTHING
        self._purpose = purpose
        self._should_stop = should_stop
        self._books = Books(self.id, parts.endpoint, parts.ledger)
        self._exchange = Exchange()  # of the present attempt
        self._sent = self._exchange  # of the last attempt that sent anything
        self._rest_s = 0.0
        self._pieces = Pieces(parts.endpoint)
        self._text: list[str] = []
        self._attempts = 0
        self._key = ""
        self._announced = False
        self._ttft_s = 0.0

    def run(self) -> Generator[str, None, None]:
        """Ask. Raises `CloudError` with the text so far; books and log are closed in any case."""
        self._pace = Pace(self._parts.endpoint.deadlines, self._should_stop, self._parts.clock)
        outcome = "cancelled"  # what it is when the reader goes away
        try:
            with self._admitted() as turn:
                yield from self._asked(turn)
            outcome = cast(str, self._pieces.finish_reason)
        except CloudError as error:
            outcome = error.kind
            raise CloudError(str(error), error.kind, "".join(self._text)) from error
        except Exception:
            outcome = "internal"
            raise
        finally:
            self._settle(outcome)
            self._record(outcome)
        self.answer = self._finished()

    @contextmanager
    def _admitted(self) -> Iterator[Turn]:
        """Everything that has to be allowed and reserved before anything is sent."""
        parts, endpoint = self._parts, self._parts.endpoint
        with ExitStack() as stack:
            stack.enter_context(parts.switch.permit(self.id, self._purpose.data_class))
            turn = stack.enter_context(parts.breaker.turn(endpoint.name))
            asked = parts.clock()
            self._key = parts.keys.get(endpoint.key) if endpoint.key else ""
            self._pace.excuse(parts.clock() - asked)  # a keychain may ask a person
            self._wanted = self._prepare()
            self._books.open(self._wanted.request, parts.price())
            yield turn

    def _asked(self, turn: Turn) -> Generator[str, None, None]:
        """All attempts; the breaker and the reachability learn from how they end."""
        try:
            yield from self._restored()
        except CloudError as error:
            self._learn(turn, error.kind)
            raise
        turn.succeeded()
        self._parts.reachability.learn("up")

    def _restored(self) -> Generator[str, None, None]:
        with closing(self._attempted()) as raw:
            for text in self._wanted.restore(raw):
                if not text:
                    continue
                if not self._text:
                    self._ttft_s = self._parts.clock() - self._pace.start
                self._text.append(text)
                shown = self._parts.clock()
                yield text
                self._pace.excuse(self._parts.clock() - shown)

    def _attempted(self) -> Generator[str, None, None]:
        """The text as it comes, from the first attempt that gets as far as an answer."""
        endpoint = self._parts.endpoint
        while True:
            self._attempts += 1
            try:
                yield from self._attempt()
                return
            except Exception as error:
                failure = failures.judge(error, self._exchange, endpoint)
                self._rest_s = failure.rest_s
                pause = self._pause(failure)
                if pause is None or not self._renew(failure.error.kind):
                    raise failure.error from error
            self._sleep(pause)

    def _attempt(self) -> Generator[str, None, None]:
        context = self._parts.ready().context(self._pace.slice)
        import httpx2
        import openai

        from ondevice.runtime.cloud.transport import Transport

        parts, endpoint = self._parts, self._parts.endpoint
        transport = Transport(
            endpoint,
            parts.switch,
            self.id,
            self._pace,
            key=self._key,
            context=context,
            most_bytes=min(
                ANSWER_BYTES + TOKEN_BYTES * self._wanted.request.max_tokens, MOST_BYTES
            ),
            announce=self._announce,
        )
        self._exchange = transport.exchange
        client = openai.OpenAI(
            api_key="none",  # the transport adds the real one, so that nothing above can log it
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=None,
            http_client=httpx2.Client(
                transport=transport, follow_redirects=False, trust_env=False, timeout=None
            ),
        )
        with closing(client):
            events: Any = client.chat.completions.create(
                **self._wanted.request.body, extra_headers={"Idempotency-Key": self.id}
            )
            with closing(events):
                yield from self._read(events)

    def _read(self, events: Iterator[object]) -> Generator[str, None, None]:
        pieces = self._pieces
        while (event := self._next(events)) is not _END:
            text = pieces.add(event)
            if pieces.moved:
                self._pace.progress()
            if text:
                yield text
        pieces.end(done=self._exchange.done)

    def _next(self, events: Iterator[object]) -> object:
        try:
            return next(events, _END)
        except Exception:
            # What breaks after the answer has said that it is complete makes it no less so.
            if self._pieces.finish_reason is None:
                raise
            return _END

    def _pause(self, failure: failures.Failure) -> float | None:
        """Seconds until the next attempt; None when there is to be none."""
        retries = self._parts.endpoint.deadlines.retries
        if not failure.retry or self._attempts > retries or self._pieces.begun:
            return None
        drawn = random.uniform(0, RETRY_S * 2 ** (self._attempts - 1))  # full jitter
        pause = max(failure.rest_s, drawn)
        with suppress(CloudError):
            return pause if pause < self._pace.left() else None
        return None

    def _sleep(self, seconds: float) -> None:
        until = self._pace.moment(seconds)
        while (left := until - self._parts.clock()) > 0:
            sleep(min(self._pace.slice(), left))

    def _renew(self, kind: str) -> bool:
        """Make ready for another attempt: one that may have been counted is paid for first."""
        if failures.billable(self._exchange, kind):
            self._settle(kind)
            try:
                self._books.reserve(self._attempts + 1)
            except CloudError:
                return False
        self._keep_sent()
        self._exchange = Exchange()
        return True

    def _keep_sent(self) -> None:
        if self._exchange.wire.sent:
            self._sent = self._exchange

    def _settle(self, outcome: str) -> None:
        usage = self._pieces.usage if outcome in ("stop", "length", "empty") else None
        self._books.close(usage, billable=failures.billable(self._exchange, outcome))

    def _learn(self, turn: Turn, kind: str) -> None:
        reachability = self._parts.reachability
        if kind in failures.BROKEN:
            told = kind == "rate" and math.isfinite(self._rest_s)
            turn.failed(self._rest_s if told else 0.0)
        elif kind in failures.PRESENT:
            turn.succeeded()
        if kind in failures.PRESENT or kind == "rate":
            reachability.learn("up")
        elif kind in failures.BROKEN:
            reachability.learn("down")
        elif kind == "no-route":
            reachability.learn("no-route")

    def _announce(self, body: bytes) -> None:
        """Write down what is about to leave. Raises `AuditError`, and then nothing leaves."""
        if not self._announced:
            self._parts.audit.write(self._event("sending", ""), body)
            self._announced = True

    def _record(self, outcome: str) -> None:
        """Write down how it ended. The answer is not lost to a log that cannot be written."""
        self._keep_sent()
        good = outcome in ("stop", "length")
        what = "answered" if good else "failed" if self._attempts else "refused"
        try:
            self._parts.audit.write(self._event(what, outcome))
        except CloudError as error:
            _log.warning("the end of call %s is not in the log: %s", self.id, error)

    def _event(self, what: str, outcome: str) -> Event:
        purpose, books, sent = self._purpose, self._books, self._sent
        return Event(
            event=what,
            request_id=self.id,
            endpoint=self._parts.endpoint.name,
            model=self._parts.endpoint.model,
            reason=purpose.reason,
            confidence=purpose.confidence,
            threshold=purpose.threshold,
            task=purpose.task,
            data_class=purpose.data_class,
            bytes_sent=sent.bytes_sent,
            sha256=sent.sha256,
            redactions=self._wanted.redactions,
            prompt_tokens=books.prompt_tokens,
            output_tokens=books.output_tokens,
            estimated=books.estimated,
            cost_nano=books.nano,
            attempts=self._attempts,
            outcome=outcome,
        )

    def _finished(self) -> CloudAnswer:
        books = self._books
        return CloudAnswer(
            text="".join(self._text),
            model=self._pieces.model,
            prompt_tokens=books.prompt_tokens,
            output_tokens=books.output_tokens,
            usage_reported=not books.estimated,
            cost_usd=books.nano / NANO,
            ttft_s=self._ttft_s,
            latency_s=self._parts.clock() - self._pace.start,
            attempts=self._attempts,
            request_id=self.id,
            finish_reason=cast(str, self._pieces.finish_reason),
        )
