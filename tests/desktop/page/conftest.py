"""A browser, an assistant with a script, and a person at its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from assistant import Script, running
from browser import LIMIT_MS, Person, chromium, person, shots_folder
from page_says import says

from ondevice.package import Package
from ondevice.runtime.engine import Limits


@pytest.fixture(scope="module")  # not longer: while it runs no other test can have an event loop
def browser() -> Iterator[Any]:
    """Headless Chromium; without one the tests are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not chromium():
        pytest.skip("there is no Chromium on this machine")
    sync_api.expect.set_options(timeout=LIMIT_MS)
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
    """A person at the page of an assistant with one model."""
    return start().open()
