"""docs/stdio.md says what the server does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ondevice.package import Package
from ondevice.stdio import framing, outlet, wire
from tests.stdio.connection import Connect
from tests.stdio.scripted_host import Scripted, named
from tests.stdio.stdio_client import SCHEMA, require

PAGE = (Path(__file__).parents[2] / "docs" / "stdio.md").read_text(encoding="utf-8")
TRANSCRIPT = PAGE.partition("```json-rpc\n")[2].partition("```")[0].splitlines()


def messages(arrow: str) -> list[Any]:
    return [json.loads(line[3:]) for line in TRANSCRIPT if line.startswith(arrow)]


def test_the_transcript_is_as_the_schema_says() -> None:
    methods = {m["id"]: m["method"] for m in messages("->") if "id" in m}
    # One message has a slip on purpose, and its answer says so.
    for sent in messages("->"):
        if "max_token" not in sent.get("params", {}).get("options", {}):
            require("fromClient", sent)
    for came in messages("<-"):
        require("fromServer", came)
        if "result" in came:
            require(f"{methods[came['id']]}Result", came["result"])
    assert sorted(methods) == sorted({m["id"] for m in messages("<-") if "method" not in m})


def test_what_the_transcript_sends_is_answered_as_it_shows(
    tiny_package: Package, connect: Connect
) -> None:
    shown = {m["id"]: m for m in messages("<-") if "method" not in m}
    client = connect(Scripted().host([named(tiny_package, "scripted")])).client
    for sent in messages("->")[:-1]:
        client.send(sent["method"], sent.get("params"), sent.get("id"))
        if "id" not in sent:
            continue
        answer = client.answer(sent["id"])
        if "error" in answer:
            assert answer == shown[sent["id"]]
        elif answer["result"] is not None:
            assert answer["result"].keys() == shown[sent["id"]]["result"].keys()


def test_the_frame_that_the_page_shows_is_one() -> None:
    shown = PAGE.partition("## Frames")[2].partition("```\n")[2].partition("\n```")[0]
    header, body = shown.split("\\r\n\\r\n")[0], shown.splitlines()[-1]
    length = int(re.findall(r"\d+", header)[0])
    assert length == len(body.encode())
    data = f"{header.splitlines()[0].removesuffix(chr(92) + 'r' + chr(92) + 'n')}\r\n\r\n{body}"
    assert list(framing.Frames().feed(data.encode())) == [body.encode()]
    assert wire.decode(body.encode()) == wire.Request(1, "ping")


def test_the_limits_that_the_page_names_are_the_ones() -> None:
    assert f"{framing.MOST_BYTES:,}" in PAGE
    assert f"{framing.MOST_HEADER_BYTES:,} bytes" in PAGE.replace("\n", " ")
    assert f"{outlet.MOST_UNREAD >> 20} MiB of output" in PAGE


@pytest.mark.parametrize(
    "part",
    ["chatResult", "chatParams", "options", "stageParams", "tokenParams", "initializeResult"],
)
def test_every_field_is_on_the_page(part: str) -> None:
    fields = [*SCHEMA["$defs"][part]["properties"]]
    assert [f for f in fields if not re.search(rf"`[^`]*\b{f}\b[^`]*`", PAGE)] == []


def test_every_field_of_a_proposal_is_on_the_page() -> None:
    proposal = SCHEMA["$defs"]["consentParams"]["properties"]["proposal"]
    assert [f for f in proposal["properties"] if f"`{f}`" not in PAGE] == []


def test_every_error_code_is_on_the_page() -> None:
    codes = [v for k, v in vars(wire).items() if k.isupper() and isinstance(v, int) and v < 0]
    assert len(codes) == 8
    assert [code for code in codes if f"| {code} |" not in PAGE] == []
