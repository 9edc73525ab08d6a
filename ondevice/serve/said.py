"""What an answer says as it is made, the same whether a policy stands over it or not."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ondevice import labels
from ondevice.host import Ask, Host
from ondevice.labels import Figures
from ondevice.runtime.answer import Answer, Piece
from ondevice.runtime.fallback.reply import Draft, Final
from ondevice.serve.bridge import stream_turn

if TYPE_CHECKING:
    from ondevice.runtime.fallback.policy import Mode
    from ondevice.runtime.fallback.reply import Event


@dataclass(frozen=True)
class Said:
    """A part of the answer, and its tokens where log-probabilities are wanted."""

    text: str
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class Done:
    """The whole answer. `label` tells where it came from, as `ondevice.labels.label` does."""

    text: str
    figures: Figures
    label: dict[str, Any]
    pieces: tuple[Piece, ...] = field(default=(), repr=False)

    @property
    def extra(self) -> dict[str, Any]:
        """The field `ondevice` of every answer."""
        figures = self.figures
        return {
            "model": figures.model,
            **self.label,
            "ttft_ms": figures.ttft_ms,
            "prefill_tps": figures.prefill_tps,
            "decode_tps": figures.decode_tps,
            "load_ms": figures.load_ms,
            "cached_tokens": figures.cached_tokens,
        }


def answered(
    host: Host, ask: Ask, *, pieces: bool, cancelled: threading.Event
) -> AsyncIterator[Said | Done]:
    """The answer under the policy, or, with `pieces`, the local model's own, token by token.

    What was said is never taken back: a draft that the cloud may replace is held until it is
    decided. Raises as `Host.stream`, at once or while it is read.
    """
    if pieces:
        return _pieces(host, ask, cancelled)
    return _events(host, ask, cancelled)


async def _events(host: Host, ask: Ask, cancelled: threading.Event) -> AsyncIterator[Said | Done]:
    mode: Mode = "peek" if host.policy is not None and host.policy.mode == "peek" else "hold"
    events: AsyncIterator[Event] = stream_turn(
        lambda gone: host.stream(ask, cancelled=gone, mode=mode), cancelled
    )
    shown = ""
    async for event in events:
        if isinstance(event, Draft):
            shown += event.text
            yield Said(event.text)
        else:
            for said in _rest(event, shown):
                yield said


def _rest(final: Final, shown: str) -> Iterator[Said | Done]:
    reply = final.reply
    rest = reply.text.removeprefix(shown)
    if rest and reply.text.startswith(shown):
        yield Said(rest)
    yield Done(reply.text, labels.figures(reply), labels.label(reply))


async def _pieces(host: Host, ask: Ask, cancelled: threading.Event) -> AsyncIterator[Said | Done]:
    if ask.schema is not None:
        ask = replace(ask, options=replace(ask.options, schema=json.dumps(ask.schema)))
    events: AsyncIterator[Piece | Answer] = stream_turn(
        lambda gone: host.pieces(ask, cancelled=gone), cancelled
    )
    said: list[Piece] = []
    async for event in events:
        if isinstance(event, Piece):
            said.append(event)
            yield Said(event.text, (event,))
        else:
            label = labels.label_of_local("asked for the local model alone")
            yield Done(event.text, labels.figures_of_local(event), label, tuple(said))
