"""A person walks through the page, in headless Chromium, with the real assistant behind it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from assistant import Script, running
from browser import NARROW, Person, chromium, person, shots_folder
from pdf_files import written

from benchmarks.faulty import Peer
from ondevice.package import Package
from ondevice.runtime.engine import Limits

sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
expect = sync_api.expect

pytestmark = pytest.mark.skipif(not chromium(), reason="there is no Chromium on this machine")

MARKDOWN = """Bees make it from **nectar**.

1. They carry it home.
2. They dry it.

| Step | Water |
|---|---|
| Nectar | 70% |

```python
def ripen(water: float) -> float:
    return water * 0.26  # percent
```
"""
LONG = " ".join(f"word{number}" for number in range(60)) + " end."
HOSTILE = """<img src="http://evil.example/a.png" onerror="window.hurt = 1"> <b>bold</b>
<script>window.hurt = 2</script> ![pixel](http://evil.example/b.png)
[a](javascript:window.hurt=3) [fine](https://example.org/) `<i>code</i>`

```html" onmouseover="window.hurt = 4
<script>window.hurt = 5</script>
```
"""


def says(prompt: str) -> str:
    """The answer to the last question of a prompt."""
    asked = prompt.rpartition("<|im_start|>user")[2]
    for word, answer in (
        ("honey", MARKDOWN),
        ("long", LONG),
        ("hostile", HOSTILE),
        ("stone", "It lies under the third stone."),
        ("capital", "Paris is the capital of France."),
    ):
        if word in asked:
            return answer
    return "Yes."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def start(
    browser: Any,
    home: Path,
    tiny_package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Person]]:
    """Starts an assistant and opens a window on it."""
    monkeypatch.setattr("ondevice.runtime.engine.limits_of", lambda *_: Limits(4096, 700))
    with ExitStack() as stack:

        def make(
            *, with_model: bool = True, window: dict[str, Any] | None = None, **script: Any
        ) -> Person:
            bundled = tiny_package.folder if with_model else None
            desk = stack.enter_context(running(Script(says, **script), bundled, tiny_package))
            shots = shots_folder(tmp_path)
            return stack.enter_context(person(browser, desk, shots, **(window or {})))

        yield make


@pytest.fixture
def me(start: Callable[..., Person]) -> Person:
    return start().open()


def test_the_first_run_fetches_a_model_stops_goes_on_and_measures_it(
    start: Callable[..., Person],
) -> None:
    me = start(with_model=False).open()
    expect(me.page.get_by_role("heading", name="An assistant that lives")).to_be_visible()
    offer = me.page.get_by_role("article", name="smollm2-135m-instruct")
    expect(offer).to_contain_text("98.4 MB")
    expect(offer).to_contain_text("Apache-2.0")
    expect(offer).to_contain_text(re.compile(r"tokens/s expected here"))
    expect(me.button("Start")).to_be_disabled()
    me.look("first-run")
    me.button("Get smollm2-135m-instruct").click()
    expect(offer.get_by_role("progressbar")).to_be_visible()
    expect(offer).to_contain_text("of 106 MB")
    me.button("Cancel the download").click()
    expect(offer).to_contain_text("what was fetched of smollm2-135m-instruct is kept")
    me.button("Resume smollm2-135m-instruct").click()
    expect(offer).to_contain_text(re.compile(r"Measured here: [\d.]+ tokens/s"))
    me.look("first-run-done")
    me.button("Start").click()
    expect(me.page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert me.answered("What is the capital?").locator(".text").inner_text().startswith("Paris")
    assert me.desk.assistant.settings.first_run_done
    expect(me.reload().page.locator("#first-run")).to_be_hidden()


def test_a_download_that_runs_is_watched_again_after_a_reload(
    start: Callable[..., Person],
) -> None:
    me = start(with_model=False).open()
    me.button("Get smollm2-135m-instruct").click()
    expect(me.page.get_by_role("progressbar")).to_be_visible()
    me.page.reload()
    expect(me.page.get_by_role("progressbar")).to_be_visible()
    expect(me.button("Start")).to_be_enabled()


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
    answer.get_by_role("button", name="Copy the answer").click()
    me.page.wait_for_function("navigator.clipboard.readText().then((t) => t.startsWith('Bees'))")
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


def test_a_second_conversation_goes_on_beside_the_first(me: Person) -> None:
    me.desk.script.gate.clear()
    me.ask("Something long")
    expect(me.answers.last.locator(".text")).to_contain_text("word")
    me.button("New conversation", exact=True).first.click()
    me.ask("What is the capital?")
    expect(me.answers.last).to_contain_text("Waiting: 1 answer before this one")
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
    me.look("search")
    me.page.keyboard.press("ArrowDown")
    me.page.keyboard.press("Enter")
    expect(me.answers.last).to_contain_text("They carry it home.")
    me.page.fill("#search", "zebra")
    expect(me.page.locator("#conversations")).to_contain_text("Nothing found")
    me.page.locator("#search").press("Escape")
    assert len(me.names()) == 2


def test_conversations_are_renamed_exported_deleted_and_brought_back(me: Person) -> None:
    me.answered("What is the capital?")
    me.button("Actions for What is the capital?").click()
    me.look("actions")
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
    me.button("Actions for Geography").click()
    me.button("Delete", exact=True).click()
    expect(me.page.locator("#conversations .name")).to_have_count(0)
    me.reload()  # what could be taken back until now is deleted
    expect(me.page.locator("#conversations .name")).to_have_count(0)
    me.page.wait_for_timeout(300)
    assert me.desk.assistant.store.conversations() == []


def test_a_file_is_asked_about_and_its_passages_are_shown(me: Person) -> None:
    pages = (["Bees live in hives of their own."] * 30, ["The key lies under the third stone."])
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
        document.body.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }"""
    me.page.evaluate(drop)
    expect(me.page.locator("#documents")).to_contain_text("note.txt")
    expect(me.page.locator("#drop")).to_be_hidden()


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
    assert body.decode() == sent
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


def test_the_theme_is_the_systems_or_the_persons(start: Callable[..., Person]) -> None:
    me = start(window={"color_scheme": "dark"}).open()
    theme = "document.documentElement.dataset.theme"
    assert me.page.evaluate(theme) == "dark"
    me.page.keyboard.press("Control+,")
    me.look("settings")
    me.dialog.get_by_label("Theme").select_option("light")
    assert me.page.evaluate(theme) == "light"
    me.button("Cancel").click()
    assert me.page.evaluate(theme) == "dark"
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
    me.answered("And the capital of Spain?")
    assert "Speak like a pirate." in me.desk.script.prompts[-1]


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


def test_the_markup_of_a_model_does_nothing(me: Person) -> None:
    answer = me.answered("Be hostile.")
    assert me.page.evaluate("window.hurt") is None
    assert answer.locator(".text img, .text script, .text b, .text i").count() == 0
    assert answer.locator(".text a").evaluate_all("(all) => all.map((one) => one.href)") == [
        "https://example.org/"
    ]
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
    from ondevice.errors import PackageError

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
