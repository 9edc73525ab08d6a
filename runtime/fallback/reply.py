"""What comes back: an answer that says where it was made and why, and what may leave before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ondevice.runtime.fallback.decision import Reason
from ondevice.runtime.fallback.policy import Where

if TYPE_CHECKING:
    from ondevice.runtime.answer import Answer
    from ondevice.runtime.cloud.client import CloudAnswer

Escalation = Literal["not-needed", "not-allowed", "declined", "failed", "answered"]


@dataclass(frozen=True)
class Proposal:
    """What would leave if the person agrees.

    `sent_bytes` is the size of the request's body as it would go out, placeholders in place of
    what `redactions` counts by class; `worst_cost_usd` is what it can cost at most, None where
    the price is not known. `draft_bytes` of the body are the local answer (UTF-8). `sent_text`
    is that body itself (JSON; its fields may go out in another order).
    """

    endpoint: str
    base_url: str
    model: str
    sent_bytes: int
    redactions: Mapping[str, int]
    worst_cost_usd: float | None
    reason: str
    confidence: float | None
    calibrated: bool
    task: str
    data_class: str
    draft_bytes: int = 0
    sent_text: str = ""


@dataclass(frozen=True, eq=False)
class Reply:
    """An answer, labelled.

    `reason` says why `source` answered. `confidence` is P(the local answer is right), None where
    there is no calibration or no local answer; `calibrated` is false when it is for other
    weights or settings. `escalation` "failed" names the failure in `failure`, as a `CloudError`
    does: `text` is then the local answer. `local` is the local answer or draft, None when the
    question went straight to the cloud. `draft_tokens` were generated locally, `aborted` when
    that ended early. `cost_usd` is that of the cloud's answer; what a failed call may have cost
    is in the ledger. `decision_s` is the time all decisions took together, s.
    """

    text: str
    source: Where
    reason: str
    confidence: float | None
    calibrated: bool
    escalation: Escalation
    failure: str
    local: Answer | None
    cost_usd: float
    decision_s: float
    cloud: CloudAnswer | None = None
    draft_tokens: int = 0
    aborted: bool = False
    reasons: tuple[Reason, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Draft:
    """A piece of the local answer. A provisional one may still be replaced by the `Final`."""

    text: str
    provisional: bool


@dataclass(frozen=True)
class Final:
    """The end of a stream: the whole answer, in place of every `Draft` before it."""

    reply: Reply
    replaces: bool  # whether its text differs from what the drafts showed


Event = Draft | Final
