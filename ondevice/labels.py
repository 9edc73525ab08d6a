"""An answer of any source as the JSON that programs get: what it is, where from, how fast.

One place for the command line, the HTTP server (`ondevice.serve`), JSON-RPC (`ondevice.stdio`)
and the desktop (`ondevice.desktop`), so that a field means the same everywhere. Knows no protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ondevice.runtime.answer import Answer
    from ondevice.runtime.cloud.client import CloudAnswer
    from ondevice.runtime.fallback.reply import Proposal, Reply


@dataclass(frozen=True)
class Figures:
    """What is counted of an answer, of the model that made it; times in ms, rates in tokens/s.

    `load_ms` is what opening the local model took, in this request or an earlier one; 0 where the
    question went straight to the cloud, which has no `prefill_tps` and no `cached_tokens` either.
    `finish_reason` is "stop", "length" or "cancelled".
    """

    model: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    ttft_ms: float
    prefill_tps: float
    decode_tps: float
    load_ms: float


def figures(reply: Reply) -> Figures:
    """The figures of the answer that a reply gives."""
    if reply.cloud is not None:
        return _of_cloud(reply.cloud, reply.local)
    assert reply.local is not None  # an answer of neither does not occur
    return figures_of_local(reply.local)


def figures_of_local(answer: Answer) -> Figures:
    """The figures of an answer made here."""
    return Figures(
        model=answer.model,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=len(answer.tokens),
        cached_tokens=answer.cached_tokens,
        ttft_ms=ms(answer.timings.ttft),
        prefill_tps=round(answer.prefill_tps, 3),
        decode_tps=round(answer.decode_tps, 3),
        load_ms=ms(answer.load_s),
    )


def label(reply: Reply) -> dict[str, Any]:
    """The fields that tell where an answer came from, as of `Reply`."""
    return {
        "source": reply.source,
        "reason": reply.reason,
        "confidence": reply.confidence,
        "calibrated": reply.calibrated,
        "escalation": reply.escalation,
        "failure": reply.failure,
        "cost_usd": reply.cost_usd,
    }


def label_of_local(reason: str) -> dict[str, Any]:
    """The same fields for an answer that no policy stood over; `reason` says why it is local."""
    return {
        "source": "device",
        "reason": reason,
        "confidence": None,
        "calibrated": False,
        "escalation": "not-needed",
        "failure": "",
        "cost_usd": 0.0,
    }


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    """What a person is shown before anything leaves, as of `Proposal`."""
    return {
        "endpoint": proposal.endpoint,
        "base_url": proposal.base_url,
        "model": proposal.model,
        "sent_bytes": proposal.sent_bytes,
        "sent_text": proposal.sent_text,
        "redactions": dict(proposal.redactions),
        "worst_cost_usd": proposal.worst_cost_usd,
        "reason": proposal.reason,
        "confidence": proposal.confidence,
        "calibrated": proposal.calibrated,
        "data_class": proposal.data_class,
        "draft_bytes": proposal.draft_bytes,
    }


def ms(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def _of_cloud(cloud: CloudAnswer, local: Answer | None) -> Figures:
    seconds = cloud.latency_s - cloud.ttft_s
    rate = (cloud.output_tokens - 1) / seconds if seconds > 0 and cloud.output_tokens > 1 else 0.0
    return Figures(
        model=cloud.model,
        finish_reason=cloud.finish_reason,
        prompt_tokens=cloud.prompt_tokens,
        output_tokens=cloud.output_tokens,
        cached_tokens=0,
        ttft_ms=ms(cloud.ttft_s),
        prefill_tps=0.0,
        decode_tps=round(rate, 3),
        load_ms=ms(local.load_s) if local is not None else 0.0,
    )
