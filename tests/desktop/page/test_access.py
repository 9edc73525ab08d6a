"""Keyboard, screen reader, motion, the smallest window."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import Person

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_the_whole_of_it_works_with_the_keyboard_alone(me: Person) -> None:
    press, page = me.page.keyboard.press, me.page
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("What is the")
    press("Shift+Enter")
    page.keyboard.type("capital?")
    press("Enter")
    expect(page.locator(".how")).to_have_count(1)
    press("Control+n")
    page.keyboard.type("How is honey made?")
    press("Enter")
    expect(page.locator(".how")).to_have_count(1)
    expect(page.locator("#conversations .name")).to_have_count(2)
    press("Control+k")
    expect(page.locator("#search")).to_be_focused()
    press("ArrowDown")
    press("ArrowDown")
    press("F2")
    page.keyboard.type("Geography")
    press("Enter")
    expect(page.locator("#conversations .name").nth(1)).to_have_text("Geography")
    expect(page.locator("#conversations .open").nth(1)).to_be_focused()
    press("Enter")
    expect(me.answers.last).to_contain_text("Paris")
    press("Control+Shift+R")
    expect(me.answers.last).to_contain_text("Paris")
    page.locator("#open-keys").focus()
    press("?")
    expect(me.dialog).to_contain_text("New conversation")
    me.look("keys")
    press("Escape")
    expect(me.page.locator("#open-keys")).to_be_focused()
    press("/")
    expect(page.locator("#question")).to_be_focused()
    press("Control+k")
    press("ArrowDown")
    press("Delete")
    expect(page.locator("#conversations .name")).to_have_count(1)


def test_who_wants_no_motion_gets_none(start: Callable[..., Person]) -> None:
    me = start(window={"reduced_motion": "reduce"}).open()
    me.desk.script.gate.clear()
    me.ask("Something long")
    pulse = me.page.locator(".stage-line .pulse")
    assert pulse.evaluate("(one) => getComputedStyle(one).animationName") == "none"
    me.desk.script.gate.set()
    expect(me.answers.last).to_contain_text("end.")


def test_a_screen_reader_is_told_the_answer_once(me: Person) -> None:
    counting = """() => {
      window.told = [];
      new MutationObserver(() => window.told.push(document.getElementById("announce").textContent))
        .observe(document.getElementById("announce"), { childList: true });
    }"""
    me.page.evaluate(counting)
    me.answered("Something long")
    told = [text for text in me.page.evaluate("window.told") if text]
    assert len(told) == 1 and told[0].startswith("word0")
    assert me.page.locator("#announce").get_attribute("aria-live") == "polite"


def test_the_smallest_window_holds_everything(start: Callable[..., Person]) -> None:
    me = start(window={"has_touch": True}).open()
    me.page.set_viewport_size({"width": 360, "height": 640})
    me.answered("How is honey made?")
    for place in ("#model", "#cloud"):
        me.page.click(place)
        assert me.page.evaluate("document.scrollingElement.scrollWidth") <= 360
        me.page.keyboard.press("Escape")
    me.button("Show the conversations").click()
    expect(me.page.locator("#sidebar")).to_be_visible()
    me.page.keyboard.press("Escape")
    expect(me.page.locator("#sidebar")).to_be_hidden()
    expect(me.button("Show the conversations")).to_be_focused()
