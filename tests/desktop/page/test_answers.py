"""Questions and answers in headless Chromium: asked, streamed, stopped, made again, broken off."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from browser import Person
from page_says import MARKDOWN

from ondevice.errors import PackageError
from ondevice.package import Package

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_an_answer_is_shown_as_markdown_with_what_is_known_of_it(me: Person) -> None:
    me.look("welcome")
    answer = me.answered("How is honey made?")
    expect(answer.locator("strong")).to_have_text("nectar")
    expect(answer.locator("ol > li")).to_have_count(2)
    expect(answer.locator("td").first).to_have_text("Nectar")
    expect(answer.locator(".hljs-keyword").first).to_have_text("def")
    expect(answer.locator(".code-head")).to_contain_text("python")
    line = answer.locator(".how summary")
    expect(line).to_contain_text(re.compile(r"On device.*to first token.*tokens/s.*tokens"))
    line.click()
    expect(answer.locator(".how")).to_contain_text("the policy lets nothing leave")
    me.look("answer")
    for menu in ("#model", "#cloud"):
        me.page.click(menu)
        me.look(f"menu-{menu[1:]}")
        me.page.keyboard.press("Escape")
        expect(me.page.locator(menu)).to_be_focused()
    assert me.names() == ["How is honey made?"]
    assert me.page.title().startswith("How is honey made?")


def test_code_and_answers_are_copied(start: Callable[..., Person]) -> None:
    rights = ["clipboard-read", "clipboard-write"]
    me = start(window={"permissions": rights}).open()
    answer = me.answered("How is honey made?")
    answer.get_by_role("button", name="Copy the code").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert me.page.evaluate("navigator.clipboard.readText()").startswith("def ripen")
    expect(answer.get_by_role("button", name="Copy the code")).to_be_visible()
    answer.get_by_role("button", name="Copy the answer").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert me.page.evaluate("navigator.clipboard.readText()").strip() == MARKDOWN.strip()


def test_an_answer_is_stopped_kept_and_made_again(me: Person) -> None:
    me.desk.script.gate.clear()
    me.ask("Something long")
    expect(me.answers.last.locator(".text")).to_contain_text("word")
    expect(me.button("Stop the answer")).to_be_visible()
    me.look("streaming")
    me.page.locator("#question").press("Escape")
    expect(me.answers.last).to_contain_text("Stopping")
    me.desk.script.gate.set()
    expect(me.answers.last).to_contain_text("Stopped.")
    kept = me.answers.last.locator(".text").inner_text()
    assert kept.startswith("word0") and "end." not in kept
    me.look("stopped")
    me.reload()
    expect(me.answers.last.locator(".text")).to_have_text(kept)
    me.button("Answer again").click()
    expect(me.answers.last).to_contain_text("end.")
    expect(me.answers).to_have_count(1)
    expect(me.page.get_by_role("article", name="You")).to_have_count(1)


def test_the_markup_of_a_model_does_nothing(me: Person) -> None:
    answer = me.answered("Be hostile.")
    assert me.page.evaluate("window.hurt") is None
    assert answer.locator(".text img, .text script, .text b, .text i").count() == 0
    links = answer.locator(".text a").evaluate_all("(all) => all.map((one) => one.href)")
    assert links[-1] == "https://example.org/"
    assert all(link.startswith(("http:", "https:")) for link in links)
    handlers = """(all) => all.flatMap((one) => one.getAttributeNames())
      .filter((name) => name.startsWith("on"))"""
    assert answer.locator(".text *").evaluate_all(handlers) == []


def test_what_was_written_is_kept_when_nobody_answers(me: Person) -> None:
    me.answered("What is the capital?")
    me.page.context.set_offline(True)
    me.ask("A question that must not be lost")
    expect(me.page.locator("#notices")).to_contain_text("The assistant does not answer")
    expect(me.page.locator("#question")).to_have_value("A question that must not be lost")
    me.look("nobody-answers")
    me.page.context.set_offline(False)
    me.page.keyboard.press("Enter")
    expect(me.page.locator(".how")).to_have_count(2)
    expect(me.page.locator("#question")).to_have_value("")
    expect(me.page.locator("#notices .notice")).to_have_count(0)


def test_a_model_that_cannot_be_loaded_is_said_and_tried_again(
    me: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(package: Package) -> Any:
        raise PackageError("tiny/model.onnx is damaged; pull it again")

    with monkeypatch.context() as patch:
        patch.setattr(me.desk.assistant, "_load", fails)
        me.ask("What is the capital?")
        expect(me.answers.last).to_contain_text("tiny/model.onnx is damaged")
        me.look("failed")
    me.button("Try again").click()
    expect(me.answers.last).to_contain_text("Paris")
    expect(me.answers).to_have_count(1)


def test_what_there_is_of_an_answer_stays_when_the_assistant_ends(
    start: Callable[..., Person],
) -> None:
    me = start().open()
    me.desk.script.gate.clear()
    me.ask("Something long")
    expect(me.answers.last.locator(".text")).to_contain_text("word")
    me.desk.end()
    expect(me.page.locator("#notices")).to_contain_text("The assistant does not answer")
    expect(me.answers.last).to_contain_text("word")
    expect(me.answers.last).to_contain_text("Interrupted")
    me.ask("Is anybody there?")
    expect(me.page.locator("#question")).to_have_value("Is anybody there?")
