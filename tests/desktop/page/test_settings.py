"""Settings, theme, instructions."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from browser import Person

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_the_theme_is_the_systems_or_the_persons(start: Callable[..., Person]) -> None:
    me = start(window={"color_scheme": "dark"}).open()
    theme = "document.documentElement.dataset.theme"
    assert me.page.evaluate(theme) == "dark"
    me.page.keyboard.press("Control+,")
    me.look("settings")
    me.dialog.get_by_label("Theme").select_option("light")
    assert me.page.evaluate(theme) == "light"
    me.button("Cancel").click()
    expect(me.page.locator("html")).to_have_attribute("data-theme", "dark")
    me.page.keyboard.press("Control+,")
    me.dialog.get_by_label("Theme").select_option("light")
    me.button("Save").click()
    expect(me.dialog).to_have_count(0)
    me.reload()
    assert me.page.evaluate(theme) == "light"
    assert me.desk.assistant.settings.theme == "light"


def test_the_settings_are_kept_and_a_key_is_never_shown(me: Person) -> None:
    me.button("Settings").click()
    me.dialog.get_by_label("Longest answer").fill("77")
    me.dialog.get_by_label("May a question leave this device?").select_option("ask")
    me.button("Save").click()
    expect(me.dialog.get_by_role("alert")).to_contain_text("needs an address")
    me.dialog.get_by_label("Address").fill("https://cloud.example/v1")
    me.dialog.get_by_label("Model", exact=True).fill("large")
    me.dialog.get_by_label("Key").fill("sk-very-secret-key-123456")
    me.dialog.get_by_label("Limit a day").fill("0.5")
    me.button("Save").click()
    expect(me.dialog).to_have_count(0)
    now = me.desk.assistant.settings
    assert (now.max_tokens, now.consent, now.day_limit_usd) == (77, "ask", 0.5)
    assert me.desk.assistant.ring.where(me.desk.assistant.key_name()) == "memory"
    me.button("Settings").click()
    expect(me.dialog).to_contain_text("A key is kept until the assistant is closed.")
    assert "very-secret" not in me.page.content()
    assert "very-secret" not in json.dumps(
        me.page.evaluate("fetch('/app/state').then((a) => a.json())")
    )
    me.page.keyboard.press("Escape")
    me.page.click("#cloud")
    me.page.get_by_role("switch").check()
    expect(me.button("Offline: nothing leaves this device")).to_be_visible()
    me.page.get_by_role("switch").uncheck()
    expect(me.button("Offline: nothing leaves this device")).to_have_count(0)


def test_instructions_and_presets_reach_the_model(me: Person) -> None:
    me.button("Instructions").click()
    me.look("instructions")
    me.dialog.get_by_label("Preset", exact=True).select_option("Translator")
    me.button("Use").click()
    expect(me.dialog).to_have_count(0)
    me.answered("What is the capital?")
    assert "Translate what the user writes" in me.desk.script.prompts[-1]
    me.button("Instructions").click()
    me.dialog.get_by_label("Instructions", exact=True).fill("Speak like a pirate.")
    me.dialog.get_by_label("Keep these words as a preset").fill("Pirate")
    me.button("Keep", exact=True).click()
    expect(me.dialog.get_by_label("Preset", exact=True)).to_have_value("Pirate")
    me.button("Use").click()
    expect(me.dialog).to_have_count(0)
    me.answered("And the capital of Spain?")
    assert "Speak like a pirate." in me.desk.script.prompts[-1]
