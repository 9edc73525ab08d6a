"""A person at the page: headless Chromium on a running assistant, with eyes for every view."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import Desk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 800}
LIMIT_MS = 15_000
SHOTS = "ONDEVICE_SCREENSHOTS"  # names a folder for the screenshots
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
_FOUND = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations
    .filter((one) => one.impact === "serious" || one.impact === "critical")
    .map((one) => ({ id: one.id, help: one.help, where: one.nodes.map((node) => node.html) }));
}"""


def chromium() -> str:
    """The path of a Chromium; "" where there is none."""
    return next((path for path in CHROMIUM if Path(path).exists()), "")


class Person:
    """One window of a browser, on the page of a desk."""

    def __init__(self, desk: Desk, page: Page, shots: Path) -> None:
        self.desk = desk
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []  # addresses asked for that are not the assistant's own
        self._shots = shots
        own = desk.url.partition("?")[0]
        page.set_default_timeout(LIMIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("request", lambda asked: self._asked(asked.url, own))

    def _heard(self, kind: str, text: str) -> None:
        # A refused call is logged by the browser; what the page makes of it is what is tested.
        if kind == "error" and "Failed to load resource" not in text:
            self.errors.append(text)

    def _asked(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:")):
            self.elsewhere.append(url)

    def open(self) -> Person:
        self.page.goto(self.desk.url)
        return self.ready()

    def reload(self) -> Person:
        self.page.reload()
        return self.ready()

    def ready(self) -> Person:
        self.page.wait_for_selector("html[data-ready]")
        return self

    def ask(self, question: str) -> None:
        """Write a question and send it, without waiting for the answer."""
        self.page.fill("#question", question)
        self.page.keyboard.press("Enter")

    def answered(self, question: str) -> Locator:
        """Ask, wait for the end, and give the answer."""
        before = self.page.locator(".how").count()
        self.ask(question)
        self.page.locator(".how").nth(before).wait_for()
        return self.answers.last

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Assistant")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def button(self, name: str, **more: Any) -> Locator:
        return self.page.get_by_role("button", name=name, **more)

    def names(self) -> list[str]:
        """The titles in the list."""
        return self.page.locator("#conversations .name").all_inner_texts()

    def look(self, view: str, *, beside: bool = False) -> None:
        """Screenshots, wide and narrow, light and dark; nothing there may keep a person out.

        `beside`: the list is what is looked at, which a narrow window does not show by itself.
        """
        theme = self.page.evaluate("document.documentElement.dataset.theme")
        for size, viewport in (("wide", WIDE), ("narrow", NARROW)):
            self.page.set_viewport_size(viewport)  # type: ignore[arg-type]
            if beside and viewport is NARROW:
                self.page.locator("#sidebar").evaluate("(one) => one.classList.add('open')")
            for colours in ("light", "dark"):
                self.page.evaluate("(t) => (document.documentElement.dataset.theme = t)", colours)
                self.page.wait_for_timeout(200)  # for what slides or fades
                self.page.screenshot(path=self._shots / f"{view}-{size}-{colours}.png")
                if (size == "wide") == (colours == "light"):  # both layouts, both colours
                    self._accessible(f"{view}, {size}, {colours}")
                self._fits(view)
        self.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        self.page.evaluate("(t) => (document.documentElement.dataset.theme = t)", theme)

    def _accessible(self, where: str) -> None:
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE + "; undefined")
        found = self.page.evaluate(_FOUND)
        assert found == [], f"{where}: {json.dumps(found, indent=2)[:3000]}"

    def _fits(self, view: str) -> None:
        wide = self.page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view} is {wide} pixels wider than the window"


@contextmanager
def person(browser: Browser, desk: Desk, shots: Path, **more: Any) -> Iterator[Person]:
    """A window; at its end nothing has gone wrong in it, and nothing was asked elsewhere."""
    context = browser.new_context(viewport=WIDE, **more)  # type: ignore[arg-type]
    try:
        made = Person(desk, context.new_page(), shots)
        yield made
        assert made.errors == []
        assert made.elsewhere == []
    finally:
        context.close()


def shots_folder(tmp_path: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ[SHOTS]) if os.environ.get(SHOTS) else tmp_path / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
