"""What a policy decides about a question, with every reason, without sending anything.

Loads the model only to judge a draft.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ondevice.errors import PackageError
from ondevice.package import Package
from ondevice.runtime.answer import Answer, Options
from ondevice.runtime.fallback.decision import Decision, Facts
from ondevice.runtime.fallback.policy import Policy


@dataclass(frozen=True, eq=False)
class Explanation:
    """The decision before the model answers, and after it where there is a draft."""

    policy: Policy
    before: Decision
    after: Decision | None = None
    draft: Answer | None = None


def explain(
    policy: Policy,
    facts: Facts,
    model: str | Path | None = None,
    options: Options = Options(),
    *,
    draft: bool = False,
    can_ask: bool = False,
) -> Explanation:
    """Decide about a question and go no further.

    `model` is a package's name or path, None the default one; without `draft` it need not be
    there, and only its calibration is read. `can_ask`: whether there would be somebody to ask.
    Raises `PackageError` when `draft` wants a model that is not there.
    """
    from ondevice.runtime.fallback.build import judge_for
    from ondevice.runtime.model import load

    if not draft:
        judge = judge_for(policy, _package(model))
        belief = judge.believe(options, facts.prompt)
        return Explanation(policy, judge.decide(facts, belief, can_ask=can_ask))
    with load(model) as loaded:
        judge = judge_for(policy, loaded.package)
        belief = judge.believe(options, facts.prompt)
        before = judge.decide(facts, belief, can_ask=can_ask)
        answer = loaded.generate(facts.prompt, options)
    drafted = judge.drafted(facts, answer, options.schema)
    after = judge.decide(facts, belief, drafted, can_ask=can_ask)
    return Explanation(policy, before, after, answer)


def _package(model: str | Path | None) -> Package | None:
    """The package whose calibration counts; without a name, none is needed."""
    from ondevice import store

    try:
        return store.find(model)
    except PackageError:
        if model is not None:
            raise
        return None
