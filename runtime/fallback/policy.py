"""What may leave the device, when, to whom and at what cost: the person's own rules.

Data only. `policy_file` reads them from TOML, `decision` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ondevice.runtime.fallback.needs import needs_of

if TYPE_CHECKING:
    from ondevice.runtime.cloud.endpoint import Endpoint
    from ondevice.runtime.cloud.ledger import Caps

Consent = Literal["never", "ask", "session", "always"]
DraftPassing = Literal["none", "draft", "draft+reason"]
Mode = Literal["hold", "peek", "revise"]
Where = Literal["device", "cloud"]

RESTRICTED = "restricted"  # the class of data that never leaves, whatever a policy says
REDACTIONS = ("email", "phone", "iban", "card", "key")


@dataclass(frozen=True)
class Rule:
    """Where prompts go for which every condition that is given holds.

    Lengths are characters of the person's last message; `needs` are names of `needs.NEEDS`,
    of which one must be there.
    """

    name: str
    send: Where
    matches: re.Pattern[str] | None = None
    longer_than: int | None = None
    shorter_than: int | None = None
    needs: tuple[str, ...] = ()

    def applies(self, prompt: str) -> bool:
        """Whether this rule decides where `prompt` goes."""
        if self.longer_than is not None and len(prompt) <= self.longer_than:
            return False
        if self.shorter_than is not None and len(prompt) >= self.shorter_than:
            return False
        if self.matches is not None and not self.matches.search(prompt):
            return False
        return not self.needs or bool(set(self.needs) & needs_of(prompt))


@dataclass(frozen=True)
class Task:
    """What differs for one kind of request. None and "" mean: as for the others.

    `answer_matches` is a pattern that must be found in the local answer; where it is not, the
    answer has failed its check.
    """

    name: str = ""
    draft: DraftPassing = "none"
    mode: Mode | None = None
    threshold: float | None = None
    data_class: str = ""
    answer_matches: re.Pattern[str] | None = None
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class EarlyAbort:
    """When a draft is given up before its end.

    That is when the mean log-probability (nats) of any `window` tokens in a row, among the first
    `tokens`, is below `minimum`.
    """

    minimum: float
    tokens: int = 32
    window: int = 4


@dataclass(frozen=True)
class TokenPrice:
    """What the endpoint of a policy asks for a million tokens, USD."""

    input_per_million: float
    output_per_million: float


_CLASSES = MappingProxyType({"public": True, "general": True, "personal": False, RESTRICTED: False})


@dataclass(frozen=True)
class Policy:
    """All of it. The default lets nothing leave.

    `threshold` None takes what `ondevice calibrate` found: the advantage of the endpoint's model
    where it was calibrated against that one, else the certified threshold. `route_below` None
    sends no question straight on by the router's guess.
    """

    consent: Consent = "never"
    mode: Mode = "hold"
    peek_tokens: int = 16
    threshold: float | None = None
    route_below: float | None = None
    default_class: str = "general"
    endpoint: Endpoint | None = None
    price: TokenPrice | None = None
    budget: Caps | None = None
    classes: Mapping[str, bool] = field(default_factory=lambda: _CLASSES)
    rules: tuple[Rule, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=lambda: MappingProxyType({}))
    redaction: tuple[str, ...] = REDACTIONS
    audit_content: bool = False
    early_abort: EarlyAbort | None = None
    path: Path | None = None  # the file it was read from

    def task(self, name: str) -> Task:
        """The settings of a task; those of every request for a name that has none."""
        return self.tasks.get(name, Task(name))

    def class_of(self, task: str, data_class: str) -> str:
        """The class of a request's data: as given, else the task's, else the default."""
        given = data_class.strip() or self.task(task).data_class or self.default_class
        return given.casefold()

    def may_leave(self, data_class: str) -> bool:
        """Whether data of a class may leave. A class the policy does not name may not."""
        return data_class != RESTRICTED and self.classes.get(data_class, False)


def rule_for(policy: Policy, task: str, prompt: str) -> Rule | None:
    """The first rule that applies: the task's own first, then everyone's."""
    for rule in (*policy.task(task).rules, *policy.rules):
        if rule.applies(prompt):
            return rule
    return None
