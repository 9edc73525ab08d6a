"""Where an answer is made, and every reason for it: a pure function of what is known.

Decides twice: before the model answers (`draft` None) and after. Opens nothing, asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ondevice.nearest import nearest
from ondevice.runtime.fallback.policy import RESTRICTED, Policy, Where, rule_for

CloudState = Literal["disabled", "no-route", "unknown", "up", "down"]
Fit = Literal["calibrated", "other-settings", "none"]
Step = Literal[
    "request", "consent", "endpoint", "off-switch", "class", "network",
    "rule", "router", "check", "early-abort", "confidence",
]  # fmt: skip
Value = str | int | float | bool | None
Wish = Literal["none", "cloud", "device"]


@dataclass(frozen=True)
class Facts:
    """What is asked: the person's last message, and what was said about it.

    `wish` is an explicit request for this one question: --cloud or --no-cloud.
    """

    prompt: str
    task: str = ""
    data_class: str = ""
    wish: Wish = "none"


@dataclass(frozen=True)
class Belief:
    """What the calibration says of the model with these settings.

    `fit` "other-settings": it was made for other weights or decoding, so it counts as
    uncalibrated. `prior` is P(right) before inference; `note` says why there is no threshold.
    `advantage` is what P(cloud right) - P(right) has to exceed for a draft to be passed on; it
    was learned against the model `rival`, and holds for no other.
    """

    fit: Fit = "none"
    threshold: float | None = None
    prior: float | None = None
    note: str = ""
    advantage: float | None = None
    rival: str = ""


@dataclass(frozen=True)
class Standing:
    """How things stand: the endpoint's state (None: none is configured), whether the person
    agreed for this session, and whether there is anybody to ask."""

    cloud: CloudState | None = None
    agreed: bool = False
    can_ask: bool = False


@dataclass(frozen=True)
class Drafted:
    """What is known of a local answer: the check that failed ("" for none), P(right), the
    lowest mean log-probability if it is given up early, and whether the person stopped it.

    `note` says why the probability is what it is, or why there is none. `cloud` is P(the cloud's
    answer is right), None where that is not known or a check has failed.
    """

    problem: str = ""
    probability: float | None = None
    gave_up_at: float | None = None
    stopped: bool = False
    note: str = ""
    cloud: float | None = None


@dataclass(frozen=True)
class Reason:
    """One consideration. `speaks_for` None: it is said and weighs nothing.

    `bars` marks one that keeps the question here whatever speaks for the cloud.
    """

    step: Step
    text: str
    speaks_for: Where | None = None
    bars: bool = False
    data: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Where to go and why. `wanted`: something spoke for the cloud, allowed or not.

    `ask`: the person has to agree before anything leaves.
    """

    where: Where
    reasons: tuple[Reason, ...]
    wanted: bool = False
    allowed: bool = False
    ask: bool = False

    @property
    def unreachable(self) -> bool:
        """Whether the missing network alone keeps the question here."""
        return {reason.step for reason in self.reasons if reason.bars} == {"network"}

    @property
    def why(self) -> str:
        """The reasons that settled it, in a line."""
        bars = [reason.text for reason in self.reasons if reason.bars]
        if self.wanted:
            grounds = [r.text for r in self.reasons if r.speaks_for == "cloud"]
            return "; ".join([*grounds[:1], *bars[:1]])
        stays = [r.text for r in self.reasons if r.speaks_for == "device" and not r.bars]
        said = [r.text for r in self.reasons if r.speaks_for is None]
        return (stays[:1] or bars[:1] or said[-1:] or ["nothing speaks for the cloud"])[0]


def decide(
    policy: Policy,
    facts: Facts,
    belief: Belief,
    standing: Standing,
    draft: Drafted | None = None,
) -> Decision:
    """The decision before inference, or after it when there is a draft."""
    bars = _bars(policy, facts, standing)
    allowed = not any(reason.bars for reason in bars)
    if draft is None:
        grounds = _before(policy, facts, belief)
    else:
        grounds = _after(policy, facts, belief, draft)
    reasons = (*bars, *grounds)
    spoken = [r.speaks_for for r in reasons if r.speaks_for is not None and not r.bars]
    # The first to speak counts: the person's wish, then rules, checks, and probabilities.
    wanted = spoken[:1] == ["cloud"] and not (draft is not None and draft.stopped)
    ask = policy.consent == "ask" or (policy.consent == "session" and not standing.agreed)
    return Decision(
        where="cloud" if wanted and allowed else "device",
        reasons=reasons,
        wanted=wanted,
        allowed=allowed,
        ask=ask,
    )


def _bars(policy: Policy, facts: Facts, standing: Standing) -> list[Reason]:
    """What has to hold before anything may leave, all of it, in order."""
    data_class = policy.class_of(facts.task, facts.data_class)
    return [
        _wish(facts),
        _consent(policy, standing),
        _endpoint(policy, standing),
        _class(policy, data_class),
        _network(standing),
    ]


def _wish(facts: Facts) -> Reason:
    if facts.wish == "device":
        return Reason("request", "asked to stay on the device (--no-cloud)", "device", bars=True)
    if facts.wish == "cloud":
        return Reason("request", "the cloud was asked for (--cloud)", "cloud")
    return Reason("request", "no place was asked for")


def _consent(policy: Policy, standing: Standing) -> Reason:
    data: dict[str, Value] = {"consent": policy.consent}
    if policy.consent == "never":
        text = "the policy lets nothing leave (consent never)"
        return Reason("consent", text, "device", bars=True, data=data)
    if policy.consent == "always":
        return Reason("consent", "the policy lets questions leave (consent always)", data=data)
    if policy.consent == "session" and standing.agreed:
        return Reason("consent", "the person agreed for this session", data=data)
    if not standing.can_ask:
        text = f"there is nobody to ask for consent (consent {policy.consent})"
        return Reason("consent", text, "device", bars=True, data=data)
    text = f"the person is asked before anything leaves (consent {policy.consent})"
    return Reason("consent", text, data=data)


def _endpoint(policy: Policy, standing: Standing) -> Reason:
    if policy.endpoint is None:
        return Reason("endpoint", "the policy names no endpoint", "device", bars=True)
    if standing.cloud is None:
        return Reason("endpoint", "there is no client for the endpoint", "device", bars=True)
    data: dict[str, Value] = {
        "name": policy.endpoint.name,
        "model": policy.endpoint.model,
        "base_url": policy.endpoint.base_url,
    }
    if standing.cloud == "disabled":
        text = "the off-switch is on (`ondevice cloud on` allows calls again)"
        return Reason("off-switch", text, "device", bars=True, data=data)
    text = f"it would go to {policy.endpoint.model} at {policy.endpoint.name}"
    return Reason("endpoint", text, data=data)


def _class(policy: Policy, data_class: str) -> Reason:
    data: dict[str, Value] = {"class": data_class}
    if policy.may_leave(data_class):
        return Reason("class", f"data of class {data_class} may leave", data=data)
    if data_class == RESTRICTED:
        text = "restricted data never leaves"
    elif data_class in policy.classes:
        text = f"the policy keeps data of class {data_class} here"
    else:
        hint = nearest(data_class, policy.classes)
        text = f"the policy does not name the class {data_class!r}, so it stays; {hint}"
    return Reason("class", text, "device", bars=True, data=data)


def _network(standing: Standing) -> Reason:
    data: dict[str, Value] = {"state": standing.cloud}
    if standing.cloud == "no-route":
        text = "this machine has no network connection"
        return Reason("network", text, "device", bars=True, data=data)
    if standing.cloud == "down":
        return Reason("network", "the endpoint did not answer the last time", data=data)
    return Reason("network", f"the endpoint's state is {standing.cloud or 'not known'}", data=data)


def _before(policy: Policy, facts: Facts, belief: Belief) -> list[Reason]:
    """What speaks for one place or the other before the model has answered."""
    return [_rule(policy, facts), _router(policy, belief)]


def _rule(policy: Policy, facts: Facts) -> Reason:
    rule = rule_for(policy, facts.task, facts.prompt)
    if rule is None:
        return Reason("rule", "no rule of the policy applies")
    text = f"the rule {rule.name!r} sends it to the {rule.send}"
    return Reason("rule", text, rule.send, data={"rule": rule.name})


def _router(policy: Policy, belief: Belief) -> Reason:
    below = policy.route_below
    data: dict[str, Value] = {"prior": belief.prior, "route_below": below}
    if belief.fit != "calibrated":
        return Reason("router", f"{_uncalibrated(belief)}: no guess beforehand", data=data)
    if belief.prior is None:
        return Reason("router", "no router was calibrated: no guess beforehand", data=data)
    if below is None:
        text = f"the router's guess is {belief.prior:.2f}; the policy has no route_below"
        return Reason("router", text, data=data)
    guess = f"the model gets this right with {belief.prior:.2f} by the router's guess"
    if belief.prior < below:
        return Reason("router", f"{guess}, below {below:.2f}", "cloud", data=data)
    return Reason("router", f"{guess}, not below {below:.2f}: it may try", data=data)


def _after(policy: Policy, facts: Facts, belief: Belief, draft: Drafted) -> list[Reason]:
    """What speaks for one place or the other once there is a draft."""
    if draft.stopped:
        return [Reason("request", "the answer was stopped", "device")]
    grounds = [_rule(policy, facts)]
    if draft.gave_up_at is not None:
        text = f"the draft was given up early (mean log-probability {draft.gave_up_at:.2f})"
        data: dict[str, Value] = {"mean_logprob": draft.gave_up_at}
        return [*grounds, Reason("early-abort", text, "cloud", data=data)]
    if draft.problem:
        grounds.append(Reason("check", draft.problem, "cloud"))
    else:
        grounds.append(Reason("check", "no check of the answer failed"))
    grounds.append(_confidence(policy, facts, belief, draft))
    return grounds


def threshold_of(policy: Policy, task: str, belief: Belief) -> float | None:
    """The probability below which a draft is passed on: the task's, the policy's, the
    calibration's. None where there is none, or where the advantage decides."""
    own = _own_threshold(policy, task)
    if own is not None or _advantage(policy, task, belief) is not None:
        return own
    return belief.threshold


def _own_threshold(policy: Policy, task: str) -> float | None:
    given = policy.task(task).threshold
    return policy.threshold if given is None else given


def _advantage(policy: Policy, task: str, belief: Belief) -> float | None:
    """The calibration's advantage where it decides: for the model it was learned against, and
    where the policy sets no threshold of its own."""
    if belief.fit != "calibrated" or _own_threshold(policy, task) is not None:
        return None
    if policy.endpoint is None or policy.endpoint.model != belief.rival:
        return None
    return belief.advantage


def _confidence(policy: Policy, facts: Facts, belief: Belief, draft: Drafted) -> Reason:
    threshold = threshold_of(policy, facts.task, belief)
    calibrated = belief.fit == "calibrated"
    data: dict[str, Value] = {
        "confidence": draft.probability,
        "threshold": threshold,
        "calibrated": calibrated,
    }
    if draft.probability is None:
        note = draft.note or _uncalibrated(belief)
        return Reason("confidence", f"{note}: its confidence is not judged", data=data)
    advantage = _advantage(policy, facts.task, belief)
    if advantage is not None:
        return _compared(draft, draft.probability, advantage, belief.rival, data)
    other = _another_rival(policy, facts.task, belief)
    value = f"confidence {draft.probability:.2f}"
    if draft.note:
        value = f"{value} ({draft.note})"
    if threshold is None:
        note = belief.note or "no threshold was certified"
        return Reason("confidence", f"{value}, not judged: {note}{other}", data=data)
    if draft.probability >= threshold:
        text = f"{value}, at least the threshold {threshold:.2f}{other}"
        return Reason("confidence", text, "device" if calibrated else None, data=data)
    text = f"{value}, below the threshold {threshold:.2f}{other}"
    if calibrated:
        return Reason("confidence", text, "cloud", data=data)
    if policy.consent == "ask":  # a question to the person is no escalation by itself
        text = f"{text}, but {_uncalibrated(belief)}: the person decides"
        return Reason("confidence", text, "cloud", data=data)
    text = f"{text}, but {_uncalibrated(belief)}: not passed on by itself"
    return Reason("confidence", text, data=data)


def _compared(
    draft: Drafted, own: float, advantage: float, rival: str, data: dict[str, Value]
) -> Reason:
    """P(right) against the cloud's, which has to be more by above `advantage` (-1 to 1)."""
    data = data | {"cloud": draft.cloud, "advantage": advantage, "rival": rival}
    if draft.cloud is None:  # it failed a check of the calibration: nothing to compare
        text = f"confidence {own:.2f} ({draft.note or 'not compared with the cloud'})"
        return Reason("confidence", text, "cloud" if draft.note else None, data=data)
    passed_on = draft.cloud - own > advantage
    if draft.cloud > own:
        how = "more likely right" if passed_on else "hardly more likely right"
    else:
        how = "likely enough right" if passed_on else "less likely right"
    text = f"the cloud is {how}: {draft.cloud:.2f} against {own:.2f}"
    text = f"{text} (passed on above {advantage:+.2f})"
    return Reason("confidence", text, "cloud" if passed_on else "device", data=data)


def _another_rival(policy: Policy, task: str, belief: Belief) -> str:
    """Why a calibration's advantage is not used, where it belongs to another model."""
    if belief.advantage is None or policy.endpoint is None or belief.fit != "calibrated":
        return ""
    if _own_threshold(policy, task) is not None or policy.endpoint.model == belief.rival:
        return ""
    return (
        f" (whether the cloud would be right was learned of {belief.rival}, not of "
        f"{policy.endpoint.model})"
    )


def _uncalibrated(belief: Belief) -> str:
    if belief.fit == "other-settings":
        return "the calibration is for other weights or settings"
    return belief.note or "the model is not calibrated"
