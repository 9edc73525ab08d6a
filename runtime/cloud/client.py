"""Asks one cloud model, with care: permitted, within a budget and a time, on record.

The face of `runtime.cloud`. Decides nothing about when to ask, and imports no HTTP library before
it does.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from ondevice.closing import Closing
from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.cloud.audit import AuditLog
from ondevice.runtime.cloud.breaker import Breaker
from ondevice.runtime.cloud.call import Call, CloudAnswer, Parts, Purpose, Wanted
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.ledger import NANO, Ledger
from ondevice.runtime.cloud.loading import Loading
from ondevice.runtime.cloud.prices import Prices, cost
from ondevice.runtime.cloud.reachability import Reachability, State, has_interface
from ondevice.runtime.cloud.redact import Redactor
from ondevice.runtime.cloud.request import build, hide
from ondevice.runtime.cloud.switch import Switch

__all__ = ["CloudAnswer", "CloudClient", "CloudStream", "Preview", "Purpose"]


@dataclass(frozen=True)
class Preview:
    """What a call would send: bytes of its body, redactions by class, and its cost at worst.

    `worst_cost_usd` is for one attempt; `price_known` false: the price is not known and the cost
    shown as 0. `sent_text` is that body, whole: JSON with placeholders in place of what is hidden.
    """

    sent_bytes: int
    redactions: Mapping[str, int]
    worst_cost_usd: float
    price_known: bool = True
    sent_text: str = ""


class CloudClient:
    """One endpoint and everything that watches over it. Safe to use from several threads.

    Nothing touches the network before `ask`, a stream's first piece, or `probe`. `clock` must
    never go back: no deadline depends on the time of day.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        switch: Switch,
        ledger: Ledger,
        prices: Prices,
        audit: AuditLog,
        keys: Keys,
        redactor: Redactor | None = None,
        breaker: Breaker | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.endpoint = endpoint
        self._redactor = redactor
        self._lock = threading.Lock()
        self._loading: Loading | None = None
        self._recovered = False
        self._parts = Parts(
            endpoint=endpoint,
            switch=switch,
            ledger=ledger,
            prices=prices,
            audit=audit,
            keys=keys,
            breaker=breaker or Breaker(clock=clock),
            reachability=Reachability(clock=clock),
            clock=clock,
            ready=self._ready,
        )

    def warm(self) -> None:
        """Load the HTTP library and the certificates in a thread; opens no connection.

        Worth it as soon as an escalation is likely: it takes longer than a connection.
        """
        self._ready()

    def state(self) -> State:
        """Whether the endpoint can be asked, as far as it is known; opens no connection.

        "no-route" is what the system says of its interfaces, or the last call; "up" and "down"
        are what the last calls have shown, "unknown" when they are too long ago.
        """
        parts = self._parts
        if not parts.switch.allowed:
            return "disabled"
        if not self.endpoint.is_loopback and not has_interface():
            return "no-route"
        if parts.breaker.state == "open":
            return "down"
        return parts.reachability.state

    def probe(self) -> State:
        """`state`, and where that is "unknown" a short connect to the endpoint, nothing sent.

        Only for when an escalation is wanted. A connection that is taken is a good sign and no
        proof: a portal takes connections too. Bounded by `connect_s`.
        """
        known = self.state()
        if known != "unknown":
            return known
        from ondevice.runtime.cloud import probe

        if probe.proxy_of(self.endpoint):
            return known  # a connection to the proxy would say nothing of the endpoint
        parts, name = self._parts, f"probe-{uuid4().hex}"
        state: State = "up"
        try:
            with parts.switch.permit(name):
                probe.connect(
                    self.endpoint, lambda: parts.switch.require(name), self._ready(), parts.clock
                )
        except CloudError as error:
            if error.kind == "disabled":
                return "disabled"
            if error.kind in ("not-ready", "configuration"):
                return known
            state = "no-route" if error.kind == "no-route" else "down"
        parts.reachability.learn(state)
        return state

    def preview(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
    ) -> Preview:
        """What `ask` would send, and its cost at worst; sends nothing.

        Raises `CloudError` for a request that cannot be sent or has no price to keep a budget by.
        """
        wanted = self._wanted(messages, max_tokens, temperature, schema)
        price = self._parts.price()
        worst = cost(price, wanted.request.most_prompt_tokens, max_tokens)
        request = wanted.request
        return Preview(request.size, wanted.redactions, worst / NANO, price.known, request.text)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        purpose: Purpose,
        should_stop: Callable[[], bool] | None = None,
    ) -> CloudAnswer:
        """The whole answer. Streams underneath, so that every deadline holds.

        `should_stop` is asked at least every 50 ms while waiting. Raises `CloudError`, whose
        `kind` names the failure and whose `partial` is the text that had come.
        """
        with self.stream(
            messages,
            max_tokens=max_tokens,
            temperature=temperature,
            schema=schema,
            purpose=purpose,
            should_stop=should_stop,
        ) as stream:
            for _ in stream:
                pass
        return stream.answer

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        purpose: Purpose,
        should_stop: Callable[[], bool] | None = None,
    ) -> CloudStream:
        """The answer as it comes: iterate for text, afterwards read `.answer`.

        Nothing happens before the first piece is wanted. Time the reader spends with a piece
        counts for no deadline. Raises `CloudError` at the failure, as `ask` does: what was
        shown before is then no answer.
        """

        def prepare() -> Wanted:
            self._recover()
            return self._wanted(messages, max_tokens, temperature, schema)

        return CloudStream(Call(self._parts, prepare, purpose, should_stop))

    def _wanted(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
    ) -> Wanted:
        hidden = hide(self._redactor, messages, schema)
        request = build(
            self.endpoint,
            hidden.messages,
            max_tokens=max_tokens,
            temperature=temperature,
            schema=hidden.schema,
        )
        return Wanted(request, hidden.counts, hidden.restore)

    def _recover(self) -> None:
        """Once: count the reservations of processes that ended before they settled."""
        with self._lock:
            if self._recovered:
                return
            self._parts.ledger.recover()
            self._recovered = True

    def _ready(self) -> Loading:
        with self._lock:
            if self._loading is None:
                self._loading = Loading(self.endpoint)
            return self._loading


class CloudStream(Closing, Iterator[str]):
    """The pieces of one answer; made by `CloudClient.stream`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pieces = call.run()

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Hang up. What was used so far is settled as if the whole answer had been made."""
        self._pieces.close()

    @property
    def answer(self) -> CloudAnswer:
        """The whole answer. Raises `RuntimeError` for a stream that did not come to its end."""
        answer = self._call.answer
        if inspect.getgeneratorstate(self._pieces) != inspect.GEN_CLOSED or answer is None:
            raise RuntimeError("iterate the stream to its end to have its answer")
        return answer
