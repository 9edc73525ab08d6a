"""What servers say of an answer is what `ask --json` says of it."""

from __future__ import annotations

import pytest

from ondevice import labels
from ondevice.cli import ask
from ondevice.runtime.fallback.policy import Consent, Policy
from tests.runtime.fallback.fakes import FakeCalibration, FakeCloud, Person, fallback


@pytest.mark.parametrize("consent", ["never", "always"])
@pytest.mark.parametrize("wish", ["none", "cloud"])
def test_figures_and_labels_are_those_of_ask_json(consent: Consent, wish: str) -> None:
    cloud = FakeCloud()
    policy = Policy(consent=consent, endpoint=cloud.endpoint)
    made, _ = fallback(policy, cloud, FakeCalibration(0.3))
    reply = made.answer("Where is it?", wish=wish)  # type: ignore[arg-type]
    told = ask.reply_json(reply)
    assert {key: told[key] for key in labels.label(reply)} == labels.label(reply)
    figures = vars(labels.figures(reply))
    assert {key: figures[key] for key in told.keys() & figures.keys()} == {
        key: told[key] for key in told.keys() & figures.keys()
    }
    assert figures.keys() - told.keys() == {"cached_tokens"}


def test_a_proposal_tells_exactly_what_would_be_sent() -> None:
    cloud, person = FakeCloud(), Person(agrees=False)
    policy = Policy(consent="ask", endpoint=cloud.endpoint)
    made, _ = fallback(policy, cloud, FakeCalibration(0.3))
    made.answer("Where is it?", consent=person)
    told = labels.proposal_json(person.shown[0])
    assert told["sent_text"] == person.shown[0].sent_text
    assert told["redactions"] == {"email": 2, "iban": 0}
    assert told.keys() == vars(person.shown[0]).keys() - {"task"}
