"""The local answer first, the cloud's where the policy wants and allows it, and one in any case.

Decides by `judge`, sends by a cloud client; knows no file, no key and no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ondevice.closing import Closing
from ondevice.errors import RequestError
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.fallback.checks import Verify
from ondevice.runtime.fallback.decision import Facts, Wish
from ondevice.runtime.fallback.judge import Judge, key_of
from ondevice.runtime.fallback.policy import Mode, Policy
from ondevice.runtime.fallback.reply import Event, Final, Reply
from ondevice.runtime.fallback.run import Ask, Cloud, Request, Run, Stop
from ondevice.runtime.model import Model, conversation

if TYPE_CHECKING:
    from ondevice.runtime.confidence.calibration import Calibration


@dataclass(frozen=True)
class About:
    """What is said about a question besides its words.

    `task` and `data_class` are names of the policy. `wish` "cloud" asks for the cloud, "device"
    forbids it, for this question alone. `verify` says what is wrong with an answer, "" for
    nothing; its words go to the audit log, so they should quote nothing. `schema` is a JSON
    schema that the answer has to follow.
    """

    task: str = ""
    data_class: str = ""
    wish: Wish = "none"
    schema: dict[str, Any] | None = None
    verify: Verify | None = None


class Fallback(Closing):
    """A model with a policy, and with a cloud client where the policy has an endpoint.

    `key` gives the calibration key of the model under given options, by default its package's;
    `note` says why there is no calibration. As safe to use from several threads as the model
    is: while the cloud is asked about a draft that goes wrong, the model waits with it.
    """

    def __init__(
        self,
        model: Model,
        policy: Policy = Policy(),
        *,
        cloud: Cloud | None = None,
        calibration: Calibration | None = None,
        key: Callable[[Options], str] | None = None,
        note: str = "",
        clock: Clock = system_clock,
    ) -> None:
        self.model = model
        self.policy = policy
        self.cloud = cloud
        self.clock = clock
        key = key or key_of(model.package)
        self.judge = Judge(policy, cloud=cloud, calibration=calibration, key=key, note=note)

    def answer(
        self,
        prompt: str | Sequence[Message],
        options: Options = Options(),
        *,
        system: str | None = None,
        task: str = "",
        data_class: str = "",
        schema: dict[str, Any] | None = None,
        consent: Ask | None = None,
        wish: Wish = "none",
        verify: Verify | None = None,
        should_stop: Stop | None = None,
    ) -> Reply:
        """The answer to a prompt or a conversation, labelled with where it was made and why.

        `consent` is asked with a `Proposal` before anything leaves, where the policy says so;
        without it nobody can agree. For the rest see `About`. Raises `RequestError` as
        `Model.generate` does; a cloud that fails raises nothing.
        """
        about = About(task, data_class, wish, schema, verify)
        request = self._request(prompt, options, system, about, consent, should_stop, "hold")
        events = Run(self.model, self.judge, self.cloud, request, self.clock).events()
        return next(event.reply for event in events if isinstance(event, Final))

    def stream(
        self,
        prompt: str | Sequence[Message],
        options: Options = Options(),
        *,
        system: str | None = None,
        task: str = "",
        data_class: str = "",
        schema: dict[str, Any] | None = None,
        consent: Ask | None = None,
        wish: Wish = "none",
        verify: Verify | None = None,
        should_stop: Stop | None = None,
        mode: Mode | None = None,
    ) -> Iterator[Event]:
        """The answer as it is made: some `Draft`s, or none, then exactly one `Final`.

        `mode` None is the task's or the policy's. Whatever was shown, the text of the `Final` is
        the answer, whole: it is never a draft's beginning with the cloud's end. Other arguments
        and errors as of `answer`.
        """
        about = About(task, data_class, wish, schema, verify)
        chosen = mode or self.policy.task(task).mode or self.policy.mode
        request = self._request(prompt, options, system, about, consent, should_stop, chosen)
        return Run(self.model, self.judge, self.cloud, request, self.clock).events()

    def close(self) -> None:
        """Free the model; see `Model.close`."""
        self.model.close()

    def _request(
        self,
        prompt: str | Sequence[Message],
        options: Options,
        system: str | None,
        about: About,
        consent: Ask | None,
        should_stop: Stop | None,
        mode: Mode,
    ) -> Request:
        if about.wish not in ("none", "cloud", "device"):
            raise RequestError(f"wish must be 'none', 'cloud' or 'device', not {about.wish!r}")
        messages = conversation(prompt, system)
        if about.schema is not None:
            options = _constrained(options, about.schema)
        facts = Facts(messages[-1].content, about.task, about.data_class, about.wish)
        return Request(tuple(messages), options, facts, mode, about.verify, consent, should_stop)


def _constrained(options: Options, schema: dict[str, Any]) -> Options:
    try:
        return replace(options, schema=json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the schema is not JSON: {error}") from error
