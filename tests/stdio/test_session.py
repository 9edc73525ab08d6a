from __future__ import annotations

import time
from typing import Any

import pytest

from ondevice import __version__
from ondevice.errors import EngineError, OndeviceError, PackageError, RequestError
from ondevice.host import Host
from ondevice.package import Package
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.stdio import wire
from ondevice.stdio.framing import frame
from tests.runtime.fallback.fakes import FakeCalibration, FakeCloud, fallback
from tests.stdio.connection import Connect, Connection
from tests.stdio.scripted_host import LONG, Scripted, named
from tests.stdio.stdio_client import Client, question

STORY = question("Tell a long story.", options={"max_tokens": 4000})


def test_initialize_tells_who_is_there_and_with_what(
    connection: Connection, tiny_package: Package
) -> None:
    told = connection.client.initialize()
    assert told["server"] == {"name": "ondevice", "version": __version__}
    assert [model["name"] for model in told["models"]] == ["one", "two"]
    assert told["default"] == "one"
    assert told["models"][0]["bytes"] == tiny_package.total_bytes
    assert connection.client.call("models") == {"models": told["models"]}


@pytest.mark.parametrize("method", ["chat", "ping", "models", "load", "shutdown", "no-such"])
def test_nothing_comes_before_initialize(connection: Connection, method: str) -> None:
    error = connection.client.error(method, {})
    assert (error["code"], error["message"]) == (-32600, "initialize comes first")
    connection.client.initialize()


def test_initialize_comes_once(client: Client) -> None:
    assert client.error("initialize", {"protocol": 1})["code"] == -32600


@pytest.mark.parametrize(
    "params", [{}, {"protocol": 2}, {"protocol": "1"}, {"protocol": True}, {"protocol": 1.0},
               {"protocol": 1, "capabilities": {"consent": 1}}, {"protocol": 1, "client": "me"}]
)  # fmt: skip
def test_a_protocol_we_do_not_speak_is_refused_and_another_try_is_taken(
    connection: Connection, params: Any
) -> None:
    assert connection.client.error("initialize", params)["code"] == -32602
    connection.client.initialize()


def test_what_later_clients_announce_is_passed_over(connection: Connection) -> None:
    params = {"protocol": 1, "capabilities": {"colour": True}, "locale": "de"}
    assert connection.client.call("initialize", params, "init")["protocol"] == 1


def test_an_answer_streams_and_its_result_is_the_whole_of_it(client: Client) -> None:
    answer = client.call("chat", question(), 7)
    assert answer["text"] == client.tokens(7) == "I am one."
    assert (answer["finish_reason"], answer["model"], answer["source"]) == ("stop", "one", "device")
    assert answer["usage"]["output_tokens"] > 0
    assert client.stages(7) == ["loading", "ready"]


def test_every_message_about_a_request_comes_before_its_answer(client: Client) -> None:
    for id in range(3):
        client.call("chat", question(), id)
    about = [m["params"]["id"] if "params" in m else m["id"] for m in client.seen]
    assert about == sorted(about, key=["init", 0, 1, 2].index)


def test_a_model_is_chosen_by_name(client: Client, scripted: Scripted) -> None:
    assert client.call("chat", question(model="two"))["text"] == "I am two."
    assert scripted.opened == ["two"]


def test_options_reach_the_model(client: Client) -> None:
    answer = client.call("chat", question(options={"max_tokens": 2}))
    assert (answer["finish_reason"], answer["usage"]["output_tokens"]) == ("length", 2)
    assert client.call("chat", question(options={"stop": [" one"]}))["text"] == "I am"


def test_loading_ahead_takes_the_wait_out_of_the_first_answer(client: Client) -> None:
    assert client.call("load", {"model": "two"}, 1)["model"] == "two"
    assert client.stages(1) == ["loading", "ready"]
    assert client.call("load", {"model": "two"}, 2) == {"model": "two", "load_ms": 0}
    client.call("chat", question(model="two"), 3)
    assert client.stages(2) == client.stages(3) == ["ready"]


def test_a_long_load_is_told_of_again_and_again(client: Client, scripted: Scripted) -> None:
    scripted.may_load.clear()
    client.send("load", {}, 1)
    stages = [client.next_of("$/stage")["params"] for _ in range(3)]
    assert client.call("ping") == {}
    scripted.may_load.set()
    assert client.answer(1)["result"]["load_ms"] > 100
    assert [stage["stage"] for stage in stages] == ["loading"] * 3
    times = [stage["elapsed_ms"] for stage in stages]
    assert times == sorted(set(times))


def test_pings_and_questions_are_taken_while_an_answer_is_made(
    client: Client, scripted: Scripted
) -> None:
    scripted.may_go_on.clear()
    client.send("chat", question(), 1)
    client.next_of("$/token")
    assert client.call("ping") == {}
    client.send("chat", question(), 2)
    queued = client.wait_for(lambda m: m.get("params", {}).get("stage") == "queued")["params"]
    assert (queued["id"], queued["ahead"], queued["model"]) == (2, 1, "one")
    scripted.may_go_on.set()
    assert client.answer(1)["result"]["text"] == client.answer(2)["result"]["text"] == "I am one."
    assert client.stages(2) == ["queued", "ready"]


def test_a_running_answer_that_is_cancelled_is_what_there_is_of_it(client: Client) -> None:
    client.send("chat", STORY, 1)
    client.next_of("$/token")
    client.send("$/cancel", {"id": 1})
    answer = client.answer(1)["result"]
    assert answer["finish_reason"] == "cancelled"
    assert answer["text"] == client.tokens(1)
    assert LONG.startswith(answer["text"]) and len(answer["text"]) < len(LONG)
    assert client.call("chat", question(), 2)["text"] == "I am one."


def test_a_queued_question_that_is_cancelled_is_an_error(
    client: Client, scripted: Scripted
) -> None:
    scripted.may_go_on.clear()
    client.send("chat", STORY, 1)
    client.send("chat", question(), 2)
    client.next_of("$/token")
    client.send("$/cancel", {"id": 2})
    assert client.error_of(2)["code"] == wire.CANCELLED
    client.send("$/cancel", {"id": 1})
    scripted.may_go_on.set()
    assert client.answer(1)["result"]["finish_reason"] == "cancelled"


def test_a_question_cancelled_while_its_model_loads_is_cancelled_with_no_text(
    client: Client, scripted: Scripted
) -> None:
    scripted.may_load.clear()
    client.send("chat", STORY, 1)
    client.next_of("$/stage")
    client.send("$/cancel", {"id": 1})
    client.call("ping")
    scripted.may_load.set()
    answer = client.answer(1)["result"]
    assert (answer["finish_reason"], answer["text"]) == ("cancelled", "")


def test_a_load_that_waits_can_be_cancelled(client: Client, scripted: Scripted) -> None:
    scripted.may_go_on.clear()
    client.send("chat", question(), 1)
    client.next_of("$/token")
    client.send("load", {"model": "two"}, 2)
    client.wait_for(lambda m: m.get("params", {}).get("stage") == "queued")
    client.send("$/cancel", {"id": 2})
    assert client.error_of(2)["code"] == wire.CANCELLED
    scripted.may_go_on.set()
    client.answer(1)
    assert scripted.opened == ["one"]


@pytest.mark.parametrize("params", [{"id": "unknown"}, {"id": None}, {"id": [1]}, {}, {"id": 1.5}])
def test_a_cancel_of_nothing_is_nothing(client: Client, params: Any) -> None:
    client.send("$/cancel", params)
    assert client.call("ping") == {}


def test_a_cancel_after_the_answer_is_nothing(client: Client) -> None:
    client.call("chat", question(), 1)
    client.send("$/cancel", {"id": 1})
    assert client.call("chat", question(), 1)["finish_reason"] == "stop"


def test_a_full_line_is_busy_and_says_for_how_long(client: Client, scripted: Scripted) -> None:
    scripted.may_go_on.clear()
    for id in range(3):
        client.send("chat", question(), id)
    for method, params in (("chat", question()), ("load", {})):
        error = client.error(method, params)
        assert error["code"] == wire.BUSY
        assert error["data"]["retry_after_s"] >= 1
    scripted.may_go_on.set()
    assert [client.answer(id)["result"]["text"] for id in range(3)] == ["I am one."] * 3


def test_an_id_in_use_is_refused(client: Client, scripted: Scripted) -> None:
    scripted.may_go_on.clear()
    client.send("chat", question(), 1)
    client.next_of("$/token")
    client.send("chat", question(), 1)
    assert client.error_of(1)["code"] == wire.INVALID_REQUEST
    scripted.may_go_on.set()
    assert client.answer(1)["result"]["text"] == "I am one."


@pytest.mark.parametrize(
    ("method", "params", "code", "said"),
    [
        ("chta", {}, -32601, "did you mean 'chat'"),
        ("$/unknown", {}, -32601, "no method"),
        ("chat", question(model="onne"), -32602, "did you mean 'one'"),
        ("load", {"model": "onne"}, -32602, "did you mean 'one'"),
        ("chat", {}, -32602, "needs messages"),
        ("chat", question(" "), -32602, "prompt is empty"),
        ("chat", question("\ud800"), -32602, "Unicode"),
        ("chat", question("word " * 9000), -32602, "context"),
        ("chat", question(schema={"type": "citty"}), -32602, "no JSON schema"),
        ("chat", question(options={"max_tokens": 0}), -32602, "max_tokens"),
        ("ping", {"a": 1}, -32602, "ping has no 'a'"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(
    client: Client, method: str, params: Any, code: int, said: str
) -> None:
    error = client.error(method, params)
    assert error["code"] == code
    assert said in error["message"]
    assert client.call("chat", question())["text"] == "I am one."


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (PackageError("the folder is gone"), wire.UNUSABLE_MODEL),
        (EngineError("cannot load it"), wire.UNUSABLE_MODEL),
        (MemoryError(), wire.UNUSABLE_MODEL),
        (RequestError("no such context"), wire.BAD_PARAMS),
        (OndeviceError("something else"), wire.INTERNAL),
        (ZeroDivisionError("secret words"), wire.INTERNAL),
    ],
)
def test_a_model_that_cannot_be_opened_is_an_error_of_the_request(
    problem: Exception, code: int, tiny_package: Package, connect: Connect
) -> None:
    def fails(package: Package) -> Fallback:
        raise problem

    client = connect(Host([tiny_package], open_model=fails)).client
    client.initialize()
    for method, params in (("chat", question()), ("load", {})):
        error = client.error(method, params)
        assert error["code"] == code
        assert "secret words" not in error["message"]
    assert client.call("ping") == {}


def test_unknown_notifications_are_passed_over(client: Client) -> None:
    for method in ("$/whatever", "initialized", "chat"):
        client.send(method, {})
    assert client.call("ping") == {}
    assert client.seen[-1]["id"] == "call"


def test_responses_to_nothing_are_passed_over(client: Client) -> None:
    client.respond(12, {"allow": True})
    assert client.call("ping") == {}


def test_what_cannot_be_read_is_answered_and_the_next_message_taken(client: Client) -> None:
    for body, code in ((b"{", -32700), (b"[]", -32600), (b'{"jsonrpc": "2.0"}', -32600)):
        client.send_bytes(frame(body))
        assert client.error_of(None)["code"] == code
    assert client.call("ping") == {}


def test_a_broken_frame_is_answered_and_ends_the_conversation(connection: Connection) -> None:
    connection.client.initialize()
    connection.client.send_bytes(b"Content-Length: many\r\n\r\n{}")
    assert connection.client.error_of(None)["code"] == -32700
    end = connection.wait()
    assert end.code == 2 and "Content-Length is no count of bytes" in end.message


def test_shutdown_ends_the_answer_frees_the_models_and_then_refuses(
    client: Client, scripted: Scripted
) -> None:
    client.send("chat", STORY, 1)
    client.send("chat", question(), 2)
    client.next_of("$/token")
    assert client.call("shutdown") is None
    assert client.answer(1)["result"]["finish_reason"] == "cancelled"
    assert client.error_of(2)["code"] == wire.CANCELLED
    assert client.seen[-1]["id"] == "call"
    assert all(engine.closed for engine in scripted.engines)
    assert client.error("ping")["code"] == wire.INVALID_REQUEST


def test_exit_ends_the_conversation(connection: Connection) -> None:
    connection.client.initialize()
    connection.client.call("shutdown")
    connection.client.send("exit")
    assert connection.wait() == connection.end
    assert connection.wait().code == 0


def test_the_end_of_stdin_ends_the_conversation_in_the_middle_of_an_answer(
    connection: Connection,
) -> None:
    connection.client.initialize()
    connection.client.send("chat", STORY, 1)
    connection.client.next_of("$/token")
    connection.client.close_input()
    began = time.monotonic()
    assert connection.wait().code == 0
    assert time.monotonic() - began < 2


def test_an_answer_that_does_not_stop_does_not_hold_up_the_end(
    connection: Connection, scripted: Scripted
) -> None:
    connection.client.initialize()
    scripted.may_go_on.clear()
    connection.client.send("chat", STORY, 1)
    connection.client.next_of("$/token")
    connection.client.close_input()
    began = time.monotonic()
    assert connection.wait().code == 0
    assert time.monotonic() - began < 2
    scripted.may_go_on.set()


# The fallback: what comes from the cloud, and who is asked before.


def cloudy(
    connect: Connect, package: Package, consent: str = "ask", can_ask: bool = True
) -> tuple[Client, FakeCloud]:
    """A model that says Berlin and is not sure, a cloud that says Paris."""
    cloud = FakeCloud()
    policy = Policy(consent=consent, endpoint=cloud.endpoint)  # type: ignore[arg-type]

    def open_model(package: Package) -> Fallback:
        return fallback(policy, cloud, FakeCalibration(0.3), says="Berlin.")[0]

    client = connect(Host([package], policy, open_model=open_model)).client
    client.initialize(consent=can_ask)
    return client, cloud


def test_an_answer_of_the_clouds_takes_the_place_of_the_tokens(
    connect: Connect, tiny_package: Package
) -> None:
    client, cloud = cloudy(connect, tiny_package, consent="always")
    answer = client.call("chat", question(), 1)
    assert (answer["source"], answer["text"]) == ("cloud", cloud.says)
    assert (answer["escalation"], answer["cost_usd"]) == ("answered", 0.0021)
    assert answer["confidence"] == 0.3
    assert client.tokens(1) in ("", "Berlin.")


@pytest.mark.parametrize(("allow", "source"), [(True, "cloud"), (False, "device")])
def test_the_client_is_asked_for_consent_and_decides(
    allow: bool, source: str, connect: Connect, tiny_package: Package
) -> None:
    client, cloud = cloudy(connect, tiny_package)
    client.send("chat", question(), 1)
    asked = client.next_of("consent")
    assert asked["params"]["id"] == 1
    proposal = asked["params"]["proposal"]
    assert (proposal["model"], proposal["endpoint"]) == ("large", "loop")
    assert cloud.asked == []
    client.respond(asked["id"], {"allow": allow})
    answer = client.answer(1)["result"]
    assert answer["source"] == source
    assert bool(cloud.asked) == allow


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"allow": "yes"}},
        {"result": {"allow": 1}},
        {"result": {}},
        {"result": True},
        {"result": None},
        {"error": {"code": -32601, "message": "no method consent"}},
    ],
)
def test_anything_but_a_yes_is_a_no(answer: Any, connect: Connect, tiny_package: Package) -> None:
    client, cloud = cloudy(connect, tiny_package)
    client.send("chat", question(), 1)
    asked = client.next_of("consent")
    client.send_bytes(frame(wire.encode({"jsonrpc": "2.0", "id": asked["id"], **answer})))
    result = client.answer(1)["result"]
    assert (result["source"], result["escalation"], cloud.asked) == ("device", "declined", [])


def test_a_client_that_cannot_ask_is_not_asked(connect: Connect, tiny_package: Package) -> None:
    client, cloud = cloudy(connect, tiny_package, can_ask=False)
    answer = client.call("chat", question(), 1)
    assert (answer["source"], answer["escalation"]) == ("device", "not-allowed")
    assert cloud.asked == []


def test_a_cancel_answers_an_open_question_with_no(connect: Connect, tiny_package: Package) -> None:
    client, cloud = cloudy(connect, tiny_package)
    client.send("chat", question(), 1)
    asked = client.next_of("consent")
    assert client.call("ping") == {}
    client.send("$/cancel", {"id": 1})
    answer = client.answer(1)["result"]
    assert (answer["text"], answer["escalation"]) == ("Berlin.", "declined")
    client.respond(asked["id"], {"allow": True})
    assert client.call("ping") == {}
    assert cloud.asked == []


def test_a_wish_decides_for_one_question(connect: Connect, tiny_package: Package) -> None:
    client, cloud = cloudy(connect, tiny_package, consent="always")
    answer = client.call("chat", question(wish="device"))
    assert (answer["source"], cloud.asked) == ("device", [])


def test_two_servers_in_one_process_do_not_mix(connect: Connect, tiny_package: Package) -> None:
    one, two = Scripted(), Scripted()
    first = connect(one.host([named(tiny_package, "first")])).client
    second = connect(two.host([named(tiny_package, "second")])).client
    for client in (first, second):
        client.initialize()
        client.send("chat", question(), 1)
    assert first.answer(1)["result"]["text"] == "I am first."
    assert second.answer(1)["result"]["text"] == "I am second."
