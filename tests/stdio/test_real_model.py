"""`ondevice stdio` with SmolLM2, from start to end."""

from __future__ import annotations

import pytest

import ondevice
from ondevice.package import Package
from tests.stdio.child import COMMAND, Start
from tests.stdio.stdio_client import question

OPTIONS = {"max_tokens": 12}


@pytest.mark.real_model
def test_a_program_gets_what_python_gets_and_can_stop_it(
    start: Start, smollm2_package: Package
) -> None:
    server = start([*COMMAND, str(smollm2_package.folder), "--threads", "2"])
    client = server.client
    name = client.initialize()["default"]
    assert client.call("load", {}, "load")["load_ms"] > 0
    ask = "Name three colours."
    answer = client.call("chat", question(ask, options=OPTIONS), 1)
    assert answer["text"] == client.tokens(1)
    assert (answer["model"], answer["source"], answer["finish_reason"]) == (
        name,
        "device",
        "length",
    )

    client.send("chat", question("Tell me a long story.", options={"max_tokens": 400}), 2)
    client.next_of("$/token")
    client.send("chat", question(ask, options=OPTIONS), 3)
    client.send("$/cancel", {"id": 2})
    stopped = client.answer(2)["result"]
    assert stopped["finish_reason"] == "cancelled"
    assert stopped["text"] == client.tokens(2)
    assert client.answer(3)["result"]["text"] == answer["text"]
    assert client.call("shutdown") is None
    client.send("exit")
    assert server.ended() == (0, "")

    with ondevice.load(smollm2_package.folder, threads=2) as model:
        assert model.generate(ask, ondevice.Options(**OPTIONS)).text == answer["text"]
