"""What may leave: the consent dialog, the cloud that answers, the cloud that fails."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from browser import Person

from benchmarks.faulty import Peer

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_nothing_leaves_when_the_person_refuses(start: Callable[..., Person]) -> None:
    me = start(sure=0.3)
    me.desk.use_cloud()
    me.open()
    expect(me.button("Cloud: asks you first")).to_be_visible()
    me.ask("What is the capital? Write to ada@example.org")
    expect(me.dialog).to_contain_text("Send this question to the cloud?")
    expect(me.dialog).to_contain_text(me.desk.provider.server.base_url)
    expect(me.dialog).to_contain_text("1 e-mail address, replaced by placeholders")
    sent = me.dialog.locator(".sent").inner_text()
    assert "What is the capital?" in sent and "ada@example.org" not in sent
    me.look("consent")
    me.button("Keep the local answer").click()
    expect(me.answers.last).to_contain_text("Paris is the capital of France.")
    expect(me.answers.last.locator(".how summary")).to_contain_text("Local answer kept")
    expect(me.answers.last.locator(".how summary")).to_contain_text("30% sure")
    me.ask("And the capital of Spain?")
    expect(me.dialog).to_be_visible()
    me.page.keyboard.press("Escape")
    expect(me.page.locator(".how")).to_have_count(2)
    assert me.desk.provider.server.seen.connections == 0


def test_what_was_shown_is_what_is_sent_when_the_person_agrees(
    start: Callable[..., Person],
) -> None:
    me = start(sure=0.3)
    me.desk.use_cloud()
    me.desk.provider.does = lambda peer: peer.good("The cloud ", "says so.")
    me.open()
    me.ask("What is the capital? Write to ada@example.org")
    sent = me.dialog.locator(".sent").text_content()
    me.button("Send", exact=True).click()
    expect(me.answers.last.locator(".text")).to_have_text("The cloud says so.")
    expect(me.answers.last.locator(".how summary")).to_contain_text("Cloud")
    ((_, body),) = me.desk.provider.server.seen.requests
    assert json.loads(body) == json.loads(sent or "")
    assert len(body) == len((sent or "").encode())
    me.look("cloud-answer")
    me.ask("And the capital of Spain?")
    me.dialog.get_by_label("Don’t ask again").check()
    me.button("Send", exact=True).click()
    expect(me.page.locator(".how")).to_have_count(2)
    me.answered("And the capital of Italy?")
    assert me.dialog.count() == 0
    assert len(me.desk.provider.bodies) == 3


def test_a_cloud_that_fails_in_the_middle_leaves_the_local_answer(
    start: Callable[..., Person],
) -> None:
    def breaks(peer: Peer) -> None:
        peer.begin("The cloud ", "says ")
        peer.reset()

    me = start(sure=0.3)
    me.desk.use_cloud("always")
    me.desk.provider.does = breaks
    me.open()
    answer = me.answered("What is the capital?")
    expect(answer.locator(".text")).to_have_text("Paris is the capital of France.")
    expect(answer.locator(".how summary")).to_contain_text("Cloud failed: local answer")
    answer.locator(".how summary").click()
    expect(answer.locator(".how")).to_contain_text("What failed")
    me.look("cloud-failed")
