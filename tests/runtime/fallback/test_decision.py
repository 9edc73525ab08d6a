"""The whole table of consent, class, state and calibration, and the order of the reasons."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from types import MappingProxyType
from typing import cast

import pytest

from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.rival import Rival
from ondevice.runtime.fallback import agreement
from ondevice.runtime.fallback.decision import (
    Belief,
    Decision,
    Drafted,
    Facts,
    Standing,
    decide,
    threshold_of,
)
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy, Rule, Task
from tests.runtime.fallback.fakes import (
    ENDPOINT,
    FakeCalibration,
    FakeCloud,
    Person,
    fallback,
    options,
    scripted_model,
)

CONSENTS = ("never", "ask", "session", "always")
CLASSES = ("public", "personal", "Restricted ", "unheard-of", "")
STATES = ("disabled", "no-route", "unknown", "up", "down")
CALIBRATIONS = ("fits", "other", "none", "uncertified")
WISHES = ("none", "cloud", "device")
PEOPLE = (None, False, True)  # nobody to ask, one who refuses, one who agrees


@pytest.fixture(autouse=True)
def _no_agreement() -> Iterator[None]:
    agreement.withdraw()
    yield
    agreement.withdraw()


def calibration(kind: str) -> FakeCalibration | None:
    if kind == "none":
        return None
    threshold = None if kind == "uncertified" else 0.7
    return FakeCalibration(0.3, threshold, key="another" if kind == "other" else "fits")


def expected(
    consent: str, data_class: str, state: str, kind: str, wish: str, agrees: bool | None
) -> bool:
    """Whether a doubtful answer may make bytes leave: the rule, said another way."""
    if wish == "device" or consent == "never" or state in ("disabled", "no-route"):
        return False
    if data_class not in ("public", ""):  # the default class, general, may leave
        return False
    wanted = wish == "cloud" or kind == "fits" or (kind == "other" and consent == "ask")
    return wanted and (consent == "always" or agrees is True)


@pytest.mark.parametrize("consent", CONSENTS)
@pytest.mark.parametrize("kind", CALIBRATIONS)
@pytest.mark.parametrize("wish", WISHES)
def test_bytes_leave_exactly_where_the_policy_allows(consent: str, kind: str, wish: str) -> None:
    seen = set()
    model, _ = scripted_model()
    for data_class, state, agrees in itertools.product(CLASSES, STATES, PEOPLE):
        agreement.withdraw()
        policy = Policy(consent=consent, endpoint=ENDPOINT)  # type: ignore[arg-type]
        cloud = FakeCloud(state=state)  # type: ignore[arg-type]
        made = Fallback(
            model,
            policy,
            cloud=cloud,
            calibration=cast(Calibration, calibration(kind)),
            key=lambda options: "fits",
        )
        reply = made.answer(
            "Where?",
            options(),
            data_class=data_class,
            wish=wish,  # type: ignore[arg-type]
            consent=None if agrees is None else Person(agrees),
        )
        leaves = expected(consent, data_class, state, kind, wish, agrees)
        where = (consent, data_class, state, kind, wish, agrees)
        assert (cloud.bytes_sent > 0) is leaves, where
        assert reply.source == ("cloud" if leaves else "device"), where
        assert reply.text == ("The cloud says Paris." if leaves else "Paris."), where
        assert (reply.escalation == "answered") is leaves, where
        assert reply.reason, where
        assert reply.calibrated is (kind in ("fits", "uncertified")), where
        seen.add(reply.escalation)
    assert "answered" in seen or consent == "never" or wish == "device" or wish == "none"


@pytest.mark.parametrize("consent", CONSENTS)
@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_a_confident_answer_stays(consent: str, kind: str) -> None:
    policy = Policy(consent=consent, endpoint=ENDPOINT)  # type: ignore[arg-type]
    sure = calibration(kind)
    if sure is not None:
        sure._probability = 0.9
    cloud, person = FakeCloud(), Person()
    made, _ = fallback(policy, cloud, sure)
    reply = made.answer("Where?", options(), consent=person)
    assert (reply.source, reply.escalation) == ("device", "not-needed")
    assert (cloud.asked, person.shown) == ([], [])
    assert reply.confidence == (None if kind == "none" else 0.9)


ALWAYS = Policy(consent="always", endpoint=ENDPOINT)
UP = Standing("up", can_ask=True)
CALIBRATED = Belief("calibrated", 0.7)


def steps(decision: Decision) -> list[str]:
    return [reason.step for reason in decision.reasons]


def test_every_reason_is_told_in_order_even_after_one_that_settles_it() -> None:
    facts = Facts("What is new?", data_class="restricted")
    decision = decide(Policy(), facts, Belief(), Standing("no-route"))
    assert steps(decision) == [
        "request", "consent", "endpoint", "class", "network", "rule", "router",
    ]  # fmt: skip
    assert [r.step for r in decision.reasons if r.bars] == [
        "consent", "endpoint", "class", "network",
    ]  # fmt: skip
    assert decision.where == "device"


def test_after_a_draft_the_check_comes_before_the_probability() -> None:
    sure_but_wrong = Drafted("the answer is no JSON", 0.99)
    decision = decide(ALWAYS, Facts("x"), CALIBRATED, UP, sure_but_wrong)
    assert steps(decision)[-2:] == ["check", "confidence"]
    assert (decision.where, decision.why) == ("cloud", "the answer is no JSON")


def test_a_failed_check_needs_no_calibration() -> None:
    decision = decide(ALWAYS, Facts("x"), Belief(), UP, Drafted("the answer is empty"))
    assert decision.where == "cloud"


def test_the_threshold_is_the_tasks_then_the_policys_then_the_certified_one() -> None:
    task = Task("t", threshold=0.2)
    both = Policy(
        consent="always", endpoint=ENDPOINT, threshold=0.5, tasks=MappingProxyType({"t": task})
    )
    draft = Drafted(probability=0.4)
    assert decide(both, Facts("x", "t"), CALIBRATED, UP, draft).where == "device"
    assert decide(both, Facts("x", "u"), CALIBRATED, UP, draft).where == "cloud"
    assert decide(ALWAYS, Facts("x"), Belief("calibrated", 0.3), UP, draft).where == "device"
    # At the threshold itself the answer is accepted, as it was when the threshold was certified.
    assert decide(both, Facts("x"), CALIBRATED, UP, Drafted(probability=0.5)).where == "device"


def test_without_a_certified_threshold_nothing_is_passed_on_and_the_reason_says_why() -> None:
    belief = Belief("calibrated", None, note="cannot certify: too few examples")
    decision = decide(ALWAYS, Facts("x"), belief, UP, Drafted(probability=0.01))
    assert decision.where == "device"
    assert "cannot certify" in decision.why


def test_the_router_needs_calibration_and_the_policys_line() -> None:
    routed = Policy(consent="always", endpoint=ENDPOINT, route_below=0.2)
    low = Belief("calibrated", 0.7, prior=0.1)
    assert decide(routed, Facts("x"), low, UP).where == "cloud"
    assert decide(routed, Facts("x"), Belief("calibrated", 0.7, prior=0.2), UP).where == "device"
    assert decide(ALWAYS, Facts("x"), low, UP).where == "device"
    assert decide(routed, Facts("x"), Belief("other-settings", prior=0.1), UP).where == "device"


def rule(send: str, **conditions: object) -> Rule:
    return Rule(f"to the {send}", send, **conditions)  # type: ignore[arg-type]


def test_the_first_rule_that_applies_counts_and_a_tasks_own_come_first() -> None:
    keep = rule("device", matches=re.compile("(?i)diary"))
    news = rule("cloud", needs=("current-events",))
    long = rule("cloud", longer_than=20)
    policy = Policy(
        consent="always",
        endpoint=ENDPOINT,
        rules=(keep, news),
        tasks=MappingProxyType({"long": Task("long", rules=(long,))}),
    )

    def where(prompt: str, task: str = "") -> str:
        return decide(policy, Facts(prompt, task), Belief(), UP).where

    assert where("What is the latest news?") == "cloud"
    assert where("The latest from my diary") == "device"
    assert where("The latest from my diary, all of it", "long") == "cloud"
    assert where("What is a lock file?") == "device"


def test_a_rule_keeps_a_doubtful_answer_and_the_persons_wish_overrides_it() -> None:
    policy = Policy(consent="always", endpoint=ENDPOINT, rules=(rule("device", shorter_than=99),))
    doubtful = Drafted(probability=0.1)
    assert decide(policy, Facts("x"), CALIBRATED, UP, doubtful).where == "device"
    assert decide(policy, Facts("x", wish="cloud"), CALIBRATED, UP).where == "cloud"


def test_a_stopped_answer_is_not_passed_on() -> None:
    decision = decide(ALWAYS, Facts("x"), CALIBRATED, UP, Drafted("broken", 0.1, stopped=True))
    assert (decision.where, decision.wanted) == ("device", False)


def test_why_names_what_wanted_the_cloud_and_what_kept_it_here() -> None:
    doubtful = Drafted(probability=0.41)
    decision = decide(Policy(endpoint=ENDPOINT), Facts("x"), CALIBRATED, UP, doubtful)
    assert decision.why == (
        "confidence 0.41, below the threshold 0.70; the policy lets nothing leave (consent never)"
    )
    assert (decision.wanted, decision.allowed) == (True, False)


def test_an_unknown_class_is_told_with_the_nearest_known_one() -> None:
    decision = decide(ALWAYS, Facts("x", data_class="publick"), Belief(), UP)
    assert not decision.allowed
    assert "did you mean 'public'?" in decision.why


def test_restricted_stays_even_if_a_policy_made_by_hand_lets_it_go() -> None:
    open_ = Policy(consent="always", endpoint=ENDPOINT, classes={"restricted": True})
    assert not open_.may_leave("restricted")
    facts = Facts("x", data_class=" RESTRICTED", wish="cloud")
    assert decide(open_, facts, Belief(), UP).where == "device"


def test_a_decision_changes_nothing_and_is_the_same_twice() -> None:
    facts, draft = Facts("What is the latest?"), Drafted(probability=0.5)
    assert decide(ALWAYS, facts, CALIBRATED, UP, draft) == decide(
        ALWAYS, facts, CALIBRATED, UP, draft
    )


def test_decisions_are_timed() -> None:
    made, _ = fallback(ALWAYS, FakeCloud(), FakeCalibration())
    made.clock = time.perf_counter
    reply = made.answer("Where?", options())
    assert 0 < reply.decision_s < 1


AGAINST = Belief("calibrated", 0.7, advantage=0.1, rival="large")


def compared(own: float, cloud: float | None, belief: Belief = AGAINST, **more: object) -> Decision:
    draft = Drafted(probability=own, cloud=cloud, **more)  # type: ignore[arg-type]
    return decide(ALWAYS, Facts("x"), belief, UP, draft)


def test_the_cloud_is_asked_where_it_is_more_likely_right_by_the_advantage() -> None:
    gone = compared(0.35, 0.81)
    assert (gone.where, gone.wanted) == ("cloud", True)
    assert gone.why == "the cloud is more likely right: 0.81 against 0.35 (passed on above +0.10)"
    assert gone.reasons[-1].data["cloud"] == 0.81
    assert gone.reasons[-1].data["advantage"] == 0.1
    assert gone.reasons[-1].data["threshold"] is None  # it decided nothing
    # Both are likely wrong: P(right) is far below the threshold, and asking would be a waste.
    stays = compared(0.1, 0.15)
    assert (stays.where, stays.wanted) == ("device", False)
    assert "hardly more likely right: 0.15 against 0.10" in stays.why


@pytest.mark.parametrize(
    ("advantage", "own", "cloud", "where"),
    [
        (0.25, 0.5, 0.75, "device"),  # at the advantage itself it stays, as when it was chosen
        (0.25, 0.5, 0.76, "cloud"),
        (-0.25, 0.75, 0.5, "device"),
        (-0.25, 0.75, 0.51, "cloud"),
        (-1.0, 0.99, 0.01, "cloud"),
        (1.0, 0.01, 0.99, "device"),
    ],
)
def test_the_advantage_is_a_limit_of_the_difference(
    advantage: float, own: float, cloud: float, where: str
) -> None:
    belief = Belief("calibrated", 0.7, advantage=advantage, rival="large")
    decision = compared(own, cloud, belief)
    assert decision.where == where
    assert ("less likely right" in decision.why) is (where == "device" and cloud < own)
    assert ("likely enough right" in decision.why) is (where == "cloud" and cloud < own)


def test_a_failed_check_is_passed_on_whatever_the_advantage() -> None:
    decision = decide(ALWAYS, Facts("x"), AGAINST, UP, Drafted("it is no JSON", 0.9, cloud=0.1))
    assert (decision.where, decision.why) == ("cloud", "it is no JSON")
    cut = compared(0.0, None, note="the answer was cut off at its longest length")
    assert cut.where == "cloud" and "cut off" in cut.why
    assert compared(0.0, None).where == "device"  # not known is no reason


def test_a_threshold_of_the_policy_comes_before_the_advantage() -> None:
    own = Policy(consent="always", endpoint=ENDPOINT, threshold=0.3)
    draft = Drafted(probability=0.4, cloud=0.99)
    assert decide(own, Facts("x"), AGAINST, UP, draft).where == "device"
    tasks = MappingProxyType({"t": Task("t", threshold=0.3)})
    own = Policy(consent="always", endpoint=ENDPOINT, tasks=tasks)
    assert decide(own, Facts("x", "t"), AGAINST, UP, draft).where == "device"
    assert decide(own, Facts("x"), AGAINST, UP, draft).where == "cloud"
    assert threshold_of(own, "t", AGAINST) == 0.3
    assert threshold_of(own, "", AGAINST) is None


def test_the_advantage_over_another_model_than_the_endpoints_is_not_used_and_said_so() -> None:
    other = Belief("calibrated", 0.7, advantage=0.1, rival="larger")
    stays = compared(0.75, 0.99, other)
    assert stays.where == "device"
    assert stays.why == (
        "confidence 0.75, at least the threshold 0.70 (whether the cloud would be right was "
        "learned of larger, not of large)"
    )
    assert compared(0.6, 0.0, other).where == "cloud"
    assert threshold_of(ALWAYS, "", other) == 0.7
    unsure = compared(0.1, 0.9, Belief("calibrated", None, advantage=0.1, rival="larger"))
    assert unsure.where == "device" and "learned of larger, not of large" in unsure.why


def test_an_advantage_of_other_settings_passes_nothing_on() -> None:
    rival = Rival("cloud:loop", "large", 0.0, (), (), None, 1.0, 0.0, 0.1, 0.025)
    for key, source in (("fits", "cloud"), ("another", "device")):
        cloud = FakeCloud()
        made, _ = fallback(
            ALWAYS, cloud, FakeCalibration(0.35, None, key=key, rival=rival, cloud=0.81)
        )
        reply = made.answer("Where?", options())
        assert reply.source == source
        assert ("more likely right: 0.81 against 0.35" in reply.reason) is (source == "cloud")
