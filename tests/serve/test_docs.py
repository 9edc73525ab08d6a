"""docs/serve.md names what the server really has."""

from __future__ import annotations

import re
from pathlib import Path

from ondevice.host import Host
from ondevice.runtime.answer import Options
from ondevice.serve import security, wire
from ondevice.serve.metrics import Metrics
from ondevice.serve.openapi import description

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


def test_every_path_and_status_is_named() -> None:
    for path, methods in description()["paths"].items():
        assert path.replace("{name}", "NAME") in PAGE
        for operation in methods.values():
            for status in set(operation["responses"]) - {"200"}:
                assert status in PAGE


def test_every_counter_is_named_and_no_other() -> None:
    page, _ = Metrics(Host([])).page()
    held = set(re.findall(r"^# HELP (ondevice_\w+?)(?:_total)? ", page.decode(), re.MULTILINE))
    named = set(re.findall(r"`(ondevice_\w+)`", PAGE))
    assert named == {name for name in held if not name.endswith("_created")}


def test_every_field_of_a_request_is_named() -> None:
    schemas = description()["components"]["schemas"]
    names = {
        name for kind in ("Chat", "Completion") for name in schemas[f"{kind}Request"]["properties"]
    }
    penalties = {"presence_penalty", "frequency_penalty"}  # "penalties other than 0"
    for name in names - penalties - {"messages", "prompt", "best_of"}:
        assert f"`{name}" in PAGE, name


def test_the_figures_are_those_of_the_code() -> None:
    options = Options()
    defaults = (options.top_p, options.top_k, options.min_p, int(options.repetition_penalty))
    assert "{}, {}, {} and {} where nothing is said".format(*defaults) in PAGE
    assert options.temperature == 0
    assert f"{wire.MAX_TOKENS:,} where nothing is said" in PAGE
    assert f"up to {wire.MOST_STOPS}" in PAGE
    assert f"{security.LARGEST_BODY >> 20} MiB" in PAGE
    assert f"more than {security.BODY_S} s" in PAGE
