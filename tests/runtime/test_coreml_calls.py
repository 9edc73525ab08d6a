"""Which runs tokens are cut into, here and in the Swift package, which has the same cases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ondevice import json_file
from ondevice.runtime.bench_text import CONVERSATION
from ondevice.runtime.coreml import STATIC_TOKENS, Calls

SWIFT = Path(__file__).parents[2] / "apps/shells/swift/coreml"
WRITTEN = ("device", "protocol", "load", "model", "metric", "inter_token", "engine")
CASES = json.loads((SWIFT / "Tests/OndeviceCoreMLTests/calls.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c['static']}-{c['position']}-{c['tokens']}"
)
def test_calls_are_those_of_the_file(case: dict[str, object]) -> None:
    tokens, position = int(str(case["tokens"])), int(str(case["position"]))
    calls = Calls(bool(case["static"]), int(str(case["context"])))
    found = [
        {
            "function": call.function,
            "tokens": call.tokens,
            "position": int(call.feeds["position"][0]) if calls.static else None,
            "mask": list(call.feeds["causalMask"].shape[2:]),
        }
        for call in calls.run(np.arange(tokens), position)
    ]
    at = position
    for call in found:
        assert call["position"] in (at, None)
        call["position"] = at
        at += int(str(call["tokens"]))
    assert found == case["calls"]
    assert at == position + tokens


def test_the_last_run_gives_logits_and_filling_never_leaves_the_cache() -> None:
    calls = Calls(True, 160)
    for before in range(0, 160, 7):
        for count in range(1, 160 - before + 1):
            found = list(calls.run(np.arange(count), before))
            assert found[-1].function == "decode"
            for call in found:
                rows = len(call.feeds["inputIds"][0])
                assert rows == (1 if call.function == "decode" else STATIC_TOKENS)
                assert int(call.feeds["position"][0]) + rows <= 160


def test_the_swift_package_measures_the_same_conversation() -> None:
    stored = json.loads((SWIFT / "Sources/OndeviceCoreML/conversation.json").read_text("utf-8"))
    assert stored == [{"role": m.role, "content": m.content} for m in CONVERSATION]


def test_the_swift_package_masks_with_the_same_number() -> None:
    text = (SWIFT / "Sources/OndeviceCoreML/Call.swift").read_text("utf-8")
    assert f"0x{np.float16(-1e4).view(np.uint16):X}" in text
    assert f"let staticTokens = {STATIC_TOKENS}\n" in text


def test_the_swift_package_writes_every_field_of_a_bench_result() -> None:
    """By name, since nothing here runs Swift."""
    text = (SWIFT / "Sources/OndeviceCoreML/Bench.swift").read_text("utf-8")
    written = set(re.findall(r'"(\w+)":', text))
    schema = json_file.schema("bench")
    objects = [schema, *(schema["$defs"][name] for name in WRITTEN)]
    required = {name for part in objects for name in part["required"]}
    assert required <= written
    known = {name for part in schema["$defs"].values() for name in part["properties"]}
    gaps = schema["$defs"]["inter_token"]["properties"]["gaps"]["properties"]
    memory = {"bytes", "kind"}
    assert written <= known | set(schema["properties"]) | set(gaps) | memory
