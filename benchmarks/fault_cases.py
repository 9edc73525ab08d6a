"""The faults of an endpoint or of the way to it: what happens, and what may come of it.

Each case is a server that misbehaves (`faulty`) or a place where none is. The expected kinds are
written down here, so that a fault that is survived by luck counts as one that is not.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fault_behaviours import (
    BOMB,
    HTML,
    WHOLE,
    after,
    chunked_and_cut,
    comments,
    data,
    early_refusal,
    ending,
    endless,
    endless_headers,
    error,
    page,
    raw,
    sent,
    slow_body,
    slow_headers,
    split_characters,
    split_in_halves,
    trickle,
    twice,
    two_answers,
)
from benchmarks.fault_places import (
    Place,
    black_hole,
    certified,
    greeting,
    no_such_name,
    nobody,
    plain_port,
    redirect,
    resolver,
    silent_port,
    slow_name,
)
from benchmarks.faulty import EVENTS, TEXT, Behaviour, Faulty, Peer, chunk
from ondevice.runtime.cloud.endpoint import Deadlines

SHORT = Deadlines(0.25, 0.5, 0.3, 1.0, retries=1)
BRIEF = Deadlines(0.25, 0.5, 0.3, 1.0, retries=0)
PLENTY = Deadlines(2.0, 10.0, 5.0, 20.0, retries=1)
ONCE = Deadlines(2.0, 10.0, 5.0, 20.0, retries=0)


@dataclass(frozen=True)
class Case:
    """One fault. `kinds` are the failures it may end in; none: it has to be answered.

    `bound_s` is the deadline that ends it, the one for the first token by default. `text` is
    the endpoint's answer where there is one.
    """

    name: str
    kinds: tuple[str, ...]
    behaviours: tuple[Behaviour, ...] = ()
    deadlines: Deadlines = PLENTY
    bound_s: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    text: str = TEXT
    place: Callable[[Path], Any] | None = None  # gives a context manager of a Place

    @contextmanager
    def open(self, folder: Path) -> Iterator[Place]:
        """The place of this fault; `folder` is for files."""
        if self.place is not None:
            with self.place(folder) as place:
                yield place
            return
        with Faulty(*self.behaviours) as server:
            yield Place(server.base_url, server.seen)

    @property
    def bound(self) -> float:
        """The longest that the fault may take, s."""
        return self.deadlines.first_token_s if self.bound_s is None else self.bound_s


STALLED = SHORT.first_token_s + SHORT.between_tokens_s

CASES = (
    # The way there
    Case("DNS failure", ("dns",), deadlines=ONCE, place=resolver(no_such_name)),
    Case("DNS black hole", ("timeout",), place=resolver(slow_name), deadlines=SHORT),
    Case("connection refused", ("refused",), deadlines=ONCE, place=nobody),
    Case("black hole on connect", ("timeout",), place=black_hole, deadlines=SHORT),
    Case("accept, then silence", ("timeout",), (Peer.silence,), deadlines=SHORT),
    Case("TLS handshake without an answer", ("timeout",), place=silent_port, deadlines=SHORT),
    Case("TLS certificate of an unknown authority", ("tls",), place=certified(False, "127.0.0.1")),
    Case("TLS certificate for another name", ("tls",), place=certified(True, "example.org")),
    Case("TLS to a plain port", ("tls", "reset"), deadlines=ONCE, place=plain_port),
    Case(
        "plain HTTP to a TLS port",
        ("reset", "malformed"),
        deadlines=ONCE,
        place=certified(False, "127.0.0.1", "http"),
    ),
    Case(
        "an SSH server",
        ("malformed",),
        deadlines=ONCE,
        place=greeting(b"SSH-2.0-OpenSSH_9.9\r\n", ends=True),
    ),
    Case(
        "a mail server that waits",
        ("timeout",),
        place=greeting(b"220 mail.invalid ESMTP\r\n"),
        deadlines=SHORT,
    ),
    Case("closed without a word", ("reset",), (lambda peer: None,), ONCE),
    Case("reset without a word", ("reset",), (Peer.reset,), ONCE),
    Case("reset without a word, once", (), (Peer.reset, Peer.good)),
    # Something that is no model answers
    Case("sign-in page with 200", ("portal",), (page("text/html; charset=utf-8"),)),
    Case("sign-in page as JSON", ("portal",), (page("application/json"),)),
    Case("sign-in page as event stream", ("portal",), (page(EVENTS),)),
    Case("301 to another origin", ("redirect",), place=redirect(301)),
    Case("307 to another origin", ("redirect",), place=redirect(307)),
    Case(
        "whole JSON instead of a stream",
        ("malformed",),
        (lambda peer: peer.answer(200, '{"choices": []}'),),
    ),
    Case("204 without content", ("malformed",), (lambda peer: peer.answer(204, "", "text/plain"),)),
    Case("endless headers", ("malformed", "reset"), (endless_headers,)),
    # Error statuses
    Case("400 bad request", ("rejected",), (error(400),)),
    Case("401 expired key", ("auth",), (error(401, "invalid_api_key"),)),
    Case("402 payment required", ("quota",), (error(402),)),
    Case("403 forbidden", ("auth",), (error(403),)),
    Case("404 unknown model", ("not-found",), (error(404, "model_not_found"),)),
    Case("408 request timeout", ("timeout",), (error(408),)),
    Case("413 too large, connection cut", ("rejected",), (early_refusal,)),
    Case("422 unprocessable", ("rejected",), (error(422),)),
    Case("429 without Retry-After, once", (), (error(429), Peer.good)),
    Case("429 with Retry-After 1 s, once", (), (error(429, Retry_After="1"), Peer.good)),
    Case(
        "429 with Retry-After 1 s, too late",
        ("rate",),
        (error(429, Retry_After="1"), Peer.good),
        deadlines=SHORT,
    ),
    Case("429 with Retry-After 100 s", ("rate",), (error(429, Retry_After="100"),)),
    Case("429 insufficient quota", ("quota",), (error(429, "insufficient_quota"), Peer.good)),
    Case("500, once", (), (error(500), Peer.good)),
    Case("500, always", ("server",), (error(500),)),
    Case("502 as a web page", ("server",), (lambda peer: peer.answer(502, HTML, "text/html"),)),
    Case("503, once", (), (error(503), Peer.good)),
    Case("503, always", ("server",), (error(503),)),
    Case("529 overloaded", ("server",), (error(529),)),
    Case(
        "error with a body that never ends",
        ("server",),
        (lambda peer: (peer.head(500, Content_Length="999"), peer.silence()),),
        BRIEF,
    ),
    # Time
    Case("headers byte by byte", ("timeout",), (slow_headers,), deadlines=SHORT),
    Case("body byte by byte", ("timeout",), (slow_body,), deadlines=SHORT),
    Case(
        "headers, then silence",
        ("timeout",),
        (lambda peer: (peer.head(), peer.silence()),),
        deadlines=SHORT,
    ),
    Case("role only, then silence", ("timeout",), (after(then=Peer.silence),), deadlines=SHORT),
    Case("comments for ever", ("timeout",), (comments,), deadlines=SHORT),
    Case(
        "stall after two tokens",
        ("timeout",),
        (after("Grüße ", "aus ", then=Peer.silence),),
        bound_s=STALLED,
        deadlines=SHORT,
    ),
    Case(
        "a token every 0.1 s for ever",
        ("timeout",),
        (trickle,),
        bound_s=SHORT.total_s,
        deadlines=SHORT,
    ),
    # The stream breaks
    Case("reset after two tokens", ("reset",), (after("Grüße ", "aus ", then=Peer.reset),)),
    Case(
        "clean end without finish_reason",
        ("truncated",),
        (after("Grüße ", "aus ", then=lambda peer: None),),
    ),
    Case("end with finish_reason null", ("truncated",), (ending(None),)),
    Case("chunked stream cut off", ("truncated",), (chunked_and_cut,)),
    Case(
        "Content-Length too long",
        ("truncated",),
        (sent(data({"content": "Grüße "}, reason=None), Content_Length="99999"),),
    ),
    Case(
        "Content-Length too short", ("truncated", "malformed"), (sent(WHOLE, Content_Length="150"),)
    ),
    Case(
        "reset after finish_reason",
        (),
        (after(TEXT, then=lambda p: (p.data(chunk({}, "stop")), time.sleep(0.05), p.reset())),),
    ),
    # The stream lies
    Case(
        "error event within the stream",
        ("server",),
        (after("Grüße ", then=lambda p: p.data({"error": {"message": "overloaded"}})),),
    ),
    Case(
        "insufficient quota within the stream",
        ("quota",),
        (after("Grüße ", then=lambda p: p.data({"error": {"code": "insufficient_quota"}})),),
    ),
    Case(
        "malformed JSON",
        ("malformed",),
        (after("Grüße ", then=lambda p: p.send(b'data: {"id": "x", "cho\n\n')),),
    ),
    Case(
        "JSON that is no object",
        ("malformed",),
        (after("Grüße ", then=lambda p: p.send(b"data: [1, null]\n\ndata: null\n\n")),),
    ),
    Case(
        "JSON of wrong types",
        ("malformed",),
        (raw(b'data: {"id": 7, "choices": [{"index": 0, "delta": {"content": {"a": 1}}}]}\n\n'),),
    ),
    Case("JSON nested too deeply", ("malformed",), (raw(b"data: " + b"[" * 60_000 + b"\n\n"),)),
    Case("invalid UTF-8", ("malformed",), (raw(WHOLE.replace(rb"\u00fc", b"\xff\xfe")),)),
    Case("UTF-8 split between packets", (), (split_characters,)),
    Case("a character in two events", (), (split_in_halves,)),
    Case("half a character", ("malformed",), (raw(data({"content": "\ud83d"})),)),
    Case("huge chunk", ("too-large",), (raw(data({"content": "x" * (4 << 20)})),)),
    Case("endless stream", ("too-large",), (endless,)),
    Case("an event sent twice", ("malformed",), (twice,)),
    Case("two answers mixed", ("malformed",), (two_answers,)),
    Case(
        "text after the end",
        ("malformed",),
        (after("Grüße ", then=lambda p: (p.data(chunk({}, "stop")), p.text("more"), p.end())),),
    ),
    Case(
        "a second choice",
        ("malformed",),
        (raw(data({"content": "a"}).replace(b'"index": 0', b'"index": 1')),),
    ),
    Case("usage missing", (), (ending(usage={}),)),
    Case("usage negative", (), (ending(usage={"prompt_tokens": -5, "completion_tokens": -1}),)),
    Case(
        "usage absurd", (), (ending(usage={"prompt_tokens": 10**15, "completion_tokens": 10**15}),)
    ),
    Case(
        "usage of wrong types",
        (),
        (ending(usage={"prompt_tokens": "seven", "completion_tokens": None}),),
    ),
    Case("no choices at all", ("malformed",), (raw(data().replace(b'"choices": [{', b'"x": [{')),)),
    Case("choices always empty", ("truncated",), (raw(data(reason=None)),)),
    Case("empty answer", ("empty",), (raw(data({"content": ""})),)),
    Case("content filter", ("filtered",), (ending("content_filter"),)),
    Case("refusal", ("filtered",), (raw(data({"refusal": "I cannot help with that"})),)),
    Case("length limit", (), (ending("length"),)),
    Case("unknown finish reason", ("truncated",), (ending("aborted"),)),
    Case(
        "tool call that nobody asked for",
        ("filtered",),
        (raw(data({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})),),
    ),
    # Encodings
    Case(
        "gzip though not asked",
        ("malformed",),
        (sent(gzip.compress(WHOLE), Content_Encoding="gzip"),),
    ),
    Case("gzip bomb", ("malformed",), (sent(BOMB, Content_Encoding="gzip"),)),
    Case(
        "gzip bomb in an error",
        ("server",),
        (lambda peer: (peer.head(500, Content_Encoding="gzip"), peer.send(BOMB)),),
        ONCE,
    ),
    Case("wrong Content-Encoding", ("malformed",), (sent(WHOLE, Content_Encoding="br"),)),
    # Endpoints with ways of their own, declared as such
    Case(
        "no finish_reason, tolerated", (), (ending(None),), more={"finish_reason_required": False}
    ),
    Case(
        "no finish_reason and no end mark",
        ("truncated",),
        (ending(None, done=False),),
        more={"finish_reason_required": False},
    ),
)
