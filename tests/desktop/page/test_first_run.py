"""The first start, models that are fetched, and models that are gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Person

from ondevice import store
from ondevice.package import Package

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


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


def test_a_model_that_vanished_is_said_and_the_history_is_still_read(
    start: Callable[..., Person], home: Path, tiny_package: Package
) -> None:
    folder = store.package_folder("tiny")
    shutil.copytree(tiny_package.folder, folder)
    me = start(with_model=False).open()
    me.answered("What is the capital?")
    me.desk.assistant.change_settings({"first_run_done": True})
    shutil.rmtree(folder)
    me.desk.assistant.catalogue.packages(fresh=True)
    me.page.reload()
    expect(me.page.locator("#first-run")).to_contain_text("is gone from this device")
    me.look("model-gone")
    me.button("Read my conversations").click()
    expect(me.answers.last).to_contain_text("Paris")
    me.ask("And now?")
    expect(me.page.locator("#notices")).to_contain_text("There is no model yet")
    expect(me.page.locator("#question")).to_have_value("And now?")
