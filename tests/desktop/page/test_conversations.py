"""Conversations beside each other, found again, renamed, deleted; files in them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from browser import NARROW, Person
from pdf_files import written

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_a_second_conversation_goes_on_beside_the_first(me: Person) -> None:
    me.desk.script.gate.clear()
    me.ask("Something long")
    expect(me.answers.last.locator(".text")).to_contain_text("word")
    me.button("New conversation", exact=True).first.click()
    me.ask("What is the capital?")
    expect(me.answers.last).to_contain_text("Waiting: 1 task before this one")
    me.desk.script.gate.set()
    expect(me.answers.last).to_contain_text("Paris is the capital of France.")
    assert "word" not in me.page.locator("#thread").inner_text()
    assert me.names() == ["What is the capital?", "Something long"]
    me.page.locator("#conversations .open").nth(1).click()
    expect(me.answers.last).to_contain_text("end.")
    assert "Paris" not in me.page.locator("#thread").inner_text()


def test_a_reload_shows_the_conversation_and_what_was_interrupted(me: Person) -> None:
    me.answered("What is the capital?")
    me.page.fill("#question", "a thought that is not fini")
    me.reload()
    expect(me.answers.last).to_contain_text("Paris")
    expect(me.page.locator("#question")).to_have_value("a thought that is not fini")
    me.desk.script.gate.clear()
    me.ask("Something long")
    expect(me.answers.last.locator(".text")).to_contain_text("word")
    me.page.reload()
    me.desk.script.gate.set()
    expect(me.page.locator(".turn.user")).to_have_count(2)
    deadline = time.monotonic() + 10
    while "Interrupted" not in me.page.locator("#thread").inner_text():
        assert time.monotonic() < deadline
        me.page.wait_for_timeout(100)
        me.reload()
    expect(me.button("Answer again")).to_be_visible()


def test_a_search_shows_where_and_leads_there(me: Person) -> None:
    me.answered("How is honey made?")
    me.button("New conversation", exact=True).first.click()
    me.answered("What is the capital?")
    me.page.fill("#search", "nectar")
    expect(me.page.locator("#conversations mark").first).to_have_text("nectar")
    me.look("search", beside=True)
    me.page.locator("#search").press("ArrowDown")
    me.page.keyboard.press("Enter")
    expect(me.answers.last).to_contain_text("They carry it home.")
    me.page.fill("#search", "zebra")
    expect(me.page.locator("#conversations")).to_contain_text("Nothing found")
    me.page.locator("#search").press("Escape")
    assert len(me.names()) == 2


def test_conversations_are_renamed_exported_deleted_and_brought_back(me: Person) -> None:
    me.answered("What is the capital?")
    me.button("Actions for What is the capital?").click()
    me.look("actions", beside=True)
    me.button("Rename").click()
    me.page.get_by_label("New title").fill("Geography")
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#title")).to_have_text("Geography")
    me.button("Actions for Geography").click()
    with me.page.expect_download() as download:
        me.button("Export as Markdown").click()
    assert download.value.suggested_filename == "Geography.md"
    assert "Paris is the capital" in Path(download.value.path()).read_text()
    me.button("Actions for Geography").click()
    me.button("Delete", exact=True).click()
    expect(me.page.locator("#conversations .name")).to_have_count(0)
    me.look("deleted")
    me.button("Undo").click()
    expect(me.answers.last).to_contain_text("Paris")
    me.page.fill("#question", "a secret that was begun")
    me.button("Actions for Geography").click()
    me.button("Delete", exact=True).click()
    expect(me.page.locator("#conversations .name")).to_have_count(0)
    me.reload()  # what could be taken back until now is deleted
    expect(me.page.locator("#conversations .name")).to_have_count(0)
    me.page.wait_for_timeout(300)
    assert me.desk.assistant.store.conversations() == []
    assert "secret" not in me.page.evaluate("JSON.stringify(localStorage)")


def test_a_file_is_asked_about_and_its_passages_are_shown(me: Person) -> None:
    talk = [f"Line {number} tells of bees, and of how they live in hives." for number in range(40)]
    pages = (talk, [*talk, "The key lies under the third stone."])
    files = [
        {"name": "garden.pdf", "mimeType": "application/pdf", "buffer": written(*pages)},
        {"name": "empty.txt", "mimeType": "text/plain", "buffer": b""},
    ]
    me.page.set_input_files("#file", files=files)  # type: ignore[arg-type]
    expect(me.page.locator("#documents")).to_contain_text("garden.pdf")
    expect(me.page.locator("#documents")).to_contain_text("2 pages")
    expect(me.page.locator("#notices")).to_contain_text("empty.txt")
    me.look("files")
    me.button("Dismiss").click()
    answer = me.answered("Under which stone does the key lie?")
    panel = me.page.get_by_role("complementary", name="Passages of your files")
    expect(panel).to_contain_text("garden.pdf, page 2")
    expect(panel).to_contain_text("under the third stone")
    expect(panel.get_by_role("region").first).to_contain_text("third stone")  # the best is first
    me.look("passages")
    assert "third stone" in me.desk.script.prompts[-1]
    me.page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    expect(panel).to_be_hidden()
    answer.get_by_role("button", name=re.compile("passage")).click()
    expect(answer.locator(".inline-passages")).to_contain_text("garden.pdf, page 2")
    me.page.set_viewport_size({"width": 1280, "height": 800})
    me.reload()
    expect(me.page.locator("#documents")).to_contain_text("garden.pdf")
    me.button("Remove garden.pdf").click()
    expect(me.page.locator("#documents li")).to_have_count(0)


def test_a_file_dropped_on_the_window_is_added(me: Person) -> None:
    drop = """() => {
      const data = new DataTransfer();
      data.items.add(new File(["The key lies under the third stone."], "note.txt"));
      for (const name of ["dragenter", "dragover", "drop"]) {
        const more = { dataTransfer: data, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent(name, more));
      }
    }"""
    me.page.evaluate(drop)
    expect(me.page.locator("#documents")).to_contain_text("note.txt")
    expect(me.page.locator("#drop")).to_be_hidden()


def test_a_file_that_is_too_large_is_said_at_once(me: Person) -> None:
    drop = """() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(2e8)], "film.bin"));
      const more = { dataTransfer: data, bubbles: true, cancelable: true };
      document.body.dispatchEvent(new DragEvent("drop", more));
    }"""
    me.page.evaluate(drop)
    expect(me.page.locator("#notices")).to_contain_text(
        "film.bin has 200 MB; a file may have 50.0 MB at most."
    )
