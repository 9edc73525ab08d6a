"""What is known when a decision is made: calibration, state of the cloud, checks of the draft.

Gathers it for `decision`; makes no answer and opens no connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from ondevice.errors import CalibrationError
from ondevice.runtime.answer import Answer, Options
from ondevice.runtime.fallback import checks
from ondevice.runtime.fallback.agreement import has_agreed
from ondevice.runtime.fallback.decision import (
    Belief,
    CloudState,
    Decision,
    Drafted,
    Facts,
    Standing,
    decide,
)
from ondevice.runtime.fallback.policy import Policy

if TYPE_CHECKING:
    from ondevice.package import Package
    from ondevice.runtime.cloud.endpoint import Endpoint
    from ondevice.runtime.confidence.calibration import Calibration


class Reachable(Protocol):
    """An endpoint whose state is known without asking it."""

    @property
    def endpoint(self) -> Endpoint: ...

    def state(self) -> CloudState:
        """Opens no connection."""


class Judge:
    """Decides about questions to one model under one policy.

    `key` gives the calibration key of the model under given options. `note` says why there is
    no calibration, where that needs words.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        cloud: Reachable | None = None,
        calibration: Calibration | None = None,
        key: Callable[[Options], str] = lambda options: "",
        note: str = "",
    ) -> None:
        self.policy = policy
        self.cloud = cloud
        self.calibration = calibration
        self._key = lru_cache(maxsize=64)(key)
        self._note = note

    def believe(self, options: Options, prompt: str) -> Belief:
        """What the calibration says beforehand of the model with these options."""
        calibration = self.calibration
        if calibration is None:
            return Belief(note=self._note)
        threshold, note = calibration.threshold, calibration.reason
        if calibration.key != self._key(options):
            return Belief("other-settings", threshold, note=note)
        advantage, rival = None, ""
        if calibration.rival is not None:
            advantage, rival = calibration.rival.advantage, calibration.rival.model
        try:
            prior = calibration.prior(prompt)
            return Belief("calibrated", threshold, prior, note, advantage, rival)
        except CalibrationError as error:
            return Belief(note=str(error))

    def decide(
        self, facts: Facts, belief: Belief, draft: Drafted | None = None, *, can_ask: bool
    ) -> Decision:
        """The decision before inference, or after it when there is a draft."""
        return decide(self.policy, facts, belief, self.standing(can_ask), draft)

    def standing(self, can_ask: bool) -> Standing:
        """How things stand with the cloud now."""
        if self.cloud is None:
            return Standing(can_ask=can_ask)
        return Standing(self.cloud.state(), has_agreed(self.cloud.endpoint), can_ask)

    def drafted(
        self,
        facts: Facts,
        answer: Answer,
        schema: str | None = None,
        verify: checks.Verify | None = None,
    ) -> Drafted:
        """What is known of a finished local answer. `schema` is a JSON schema's text."""
        matches = self.policy.task(facts.task).answer_matches
        problem = checks.failed(answer.text, schema=schema, matches=matches, verify=verify)
        stopped = answer.finish_reason == "cancelled"
        if self.calibration is None:
            return Drafted(problem, stopped=stopped)
        try:
            thought = self.calibration.assess(answer, facts.prompt, schema)
        except CalibrationError as error:
            return Drafted(problem, stopped=stopped, note=str(error))
        return Drafted(
            problem,
            thought.probability,
            stopped=stopped,
            note=thought.failed,
            cloud=thought.cloud,
        )


def key_of(package: Package | None) -> Callable[[Options], str]:
    """The calibration key of a package by options; "" for no package, which fits none."""

    def key(options: Options) -> str:
        from ondevice.runtime.confidence.calibration import calibration_key

        return "" if package is None else calibration_key(package, options)

    return key
