from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from desktop_fakes import CLOUD, SAYS, Desk, of

from ondevice.desktop.fitting import title_of, turns
from ondevice.desktop.records import Message
from ondevice.errors import CloudError, EngineError


def until(true: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)
    return found


def held(desk: Desk, says: str = "one two three four five six") -> str:
    """A conversation in which the next answer stops in its middle."""
    desk.models.says = says
    desk.models.gate.clear()
    return desk.conversation()


def running(desk: Desk) -> Any:
    found = list(desk.assistant.generations._running.values())
    return found[0][0] if found and found[0][0].text else None


def test_a_question_gets_its_tokens_and_a_final_message_that_is_kept(desk: Desk) -> None:
    id = desk.conversation()
    found = desk.ask(id, "Where is it?")
    names = [name for name, _ in found]
    assert names[:3] == ["started", "stage", "stage"] and names[-1] == "final"
    assert "".join(data["text"] for data in of(found, "token")) == SAYS
    (final,) = of(found, "final")
    assert final["message"]["content"] == SAYS and final["message"]["state"] == "complete"
    assert final["message"]["details"]["source"] == "device"
    assert final["message"]["details"]["load_ms"] == 500
    assert not final["replaces"] and final["problem"] == ""
    assert final["conversation"]["title"] == "Where is it?"
    question, answer = desk.messages(id)
    assert question["content"] == "Where is it?"
    assert answer == final["message"]


def test_the_conversation_so_far_and_its_system_prompt_are_asked(desk: Desk) -> None:
    id = desk.conversation(system="Be brief.")
    desk.ask(id, "First?")
    desk.ask(id, "Second?")
    prompt = desk.models.prompts[-1]
    for part in ("Be brief.", "First?", SAYS, "Second?"):
        assert part in prompt


def test_stop_keeps_the_text_so_far(desk: Desk) -> None:
    id = held(desk)
    asking = desk.in_background(id)
    made = until(lambda: running(desk))
    assert desk.client.post(f"/app/generations/{made.id}/cancel").status_code == 204
    desk.models.gate.set()
    (final,) = of(asking.events(), "final")
    assert final["message"]["state"] == "cancelled"
    assert 0 < len(final["message"]["content"]) < len(desk.models.says)
    assert desk.messages(id)[-1]["state"] == "cancelled"


def test_when_the_window_leaves_the_text_so_far_is_kept_as_interrupted(desk: Desk) -> None:
    id = held(desk)
    asking = desk.in_background(id)
    until(lambda: running(desk)).leave()
    desk.models.gate.set()
    asking.events()
    assert desk.messages(id)[-1]["state"] == "interrupted"
    assert desk.messages(id)[-1]["content"]


def test_in_mid_answer_the_history_holds_the_question_and_a_beginning(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.desktop.generations.SAVE_EVERY_S", 0)
    id = held(desk)
    asking = desk.in_background(id, "Where?")
    until(lambda: running(desk))
    question, answer = until(lambda: _with_text(desk, id))
    assert question["content"] == "Where?"
    assert answer["state"] == "interrupted"
    desk.models.gate.set()
    asking.events()


def _with_text(desk: Desk, id: str) -> Any:
    found = desk.messages(id)
    return found if found and found[-1]["content"] and found[-1]["role"] == "assistant" else None


def test_two_answers_in_one_conversation_are_refused(desk: Desk) -> None:
    id = held(desk)
    asking = desk.in_background(id)
    until(lambda: running(desk))
    answer = desk.client.post(f"/app/conversations/{id}/messages", json={"content": "And?"})
    assert answer.status_code == 400
    assert "stop it first" in answer.json()["error"]["message"]
    desk.models.gate.set()
    asking.events()


def test_regenerate_replaces_the_last_answer(desk: Desk) -> None:
    id = desk.conversation()
    desk.ask(id, "Where?")
    first = desk.messages(id)[-1]
    desk.models.says = "Lyon."
    desk.client.post(f"/app/conversations/{id}/regenerate", json={})
    question, answer = desk.messages(id)
    assert question["content"] == "Where?"
    assert answer["content"] == "Lyon." and answer["id"] != first["id"]
    assert SAYS not in desk.models.prompts[-1]


def test_regenerate_that_fails_keeps_the_earlier_answer(
    desk: Desk, open_desk: Callable[..., Desk]
) -> None:
    id = desk.conversation()
    desk.ask(id)
    desk.close()
    again = open_desk()
    again.models.error = EngineError("the weights are gone")
    before = again.messages(id)
    found = again.client.post(f"/app/conversations/{id}/regenerate", json={}).text
    assert "the weights are gone" in found
    assert again.messages(id) == before


def test_regenerate_without_a_question_is_refused(desk: Desk) -> None:
    answer = desk.client.post(f"/app/conversations/{desk.conversation()}/regenerate", json={})
    assert answer.status_code == 400


def test_a_model_that_cannot_be_opened_is_told_and_the_question_kept(desk: Desk) -> None:
    desk.models.error = EngineError("model.onnx is missing; pull it again")
    id = desk.conversation()
    (error,) = of(desk.ask(id, "Where?"), "error")
    assert error == {"message": "model.onnx is missing; pull it again", "retry_after_s": None}
    question, answer = desk.messages(id)
    assert question["content"] == "Where?"
    assert answer["state"] == "failed"
    assert answer["details"]["failure"] == "model.onnx is missing; pull it again"
    desk.models.error = None
    desk.client.post(f"/app/conversations/{id}/regenerate", json={})
    assert desk.messages(id)[-1]["content"] == SAYS


def test_a_bug_is_told_and_ends_the_answer(desk: Desk) -> None:
    desk.models.error = ZeroDivisionError("no")
    (error,) = of(desk.ask(desk.conversation()), "error")
    assert "a bug in ondevice (ZeroDivisionError)" in error["message"]


def test_nothing_leaves_by_default_even_when_asked_for(desk: Desk) -> None:
    final = of(desk.ask(desk.conversation(), cloud="cloud"), "final")[0]
    assert final["message"]["details"]["source"] == "device"
    assert desk.clouds == []


def consented(desk: Desk, allow: bool, remember: bool = False, **wish: str) -> list[Any]:
    """Ask for the cloud, and answer the question that comes."""
    asking = desk.in_background(desk.conversation(), "Mail me at a@b.example", cloud="cloud")
    (id,) = until(lambda: list(desk.assistant.consents._open))
    answer = desk.client.post(f"/app/consent/{id}", json={"allow": allow, "remember": remember})
    assert answer.status_code == 204
    return asking.events()


def test_consent_shows_exactly_what_would_be_sent_and_refused_nothing_is(desk: Desk) -> None:
    desk.settings(consent="ask", endpoint=CLOUD)
    found = consented(desk, allow=False)
    (asked,) = of(found, "consent")
    proposal = asked["proposal"]
    assert proposal["sent_text"] == '["Mail me at a@b.example"]'
    assert proposal["sent_bytes"] == len(proposal["sent_text"])
    assert proposal["endpoint"] == "loop" and proposal["redactions"] == {"email": 1}
    assert desk.asked == []
    details = of(found, "final")[0]["message"]["details"]
    assert details["source"] == "device" and details["escalation"] == "declined"


def test_consent_granted_gives_the_clouds_answer_with_its_cost(desk: Desk) -> None:
    desk.settings(consent="ask", endpoint=CLOUD)
    final = of(consented(desk, allow=True), "final")[0]
    assert final["message"]["content"] == "The cloud says Lyon."
    assert final["message"]["model"] == "large-1"
    assert final["message"]["details"]["source"] == "cloud"
    assert final["message"]["details"]["cost_usd"] == 0.002
    assert len(desk.asked) == 1


def test_an_agreement_for_the_rest_of_the_run_is_not_asked_again_until_settings_change(
    desk: Desk,
) -> None:
    desk.settings(consent="ask", endpoint=CLOUD)
    consented(desk, allow=True, remember=True)
    found = desk.ask(desk.conversation(), cloud="cloud")
    assert of(found, "consent") == []
    assert of(found, "final")[0]["message"]["details"]["source"] == "cloud"
    desk.settings(endpoint={**CLOUD, "model": "other"})
    assert of(consented(desk, allow=False), "consent")


def test_silence_is_a_no(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(patience_s=0.1)
    desk.settings(consent="ask", endpoint=CLOUD)
    found = desk.ask(desk.conversation(), cloud="cloud")
    assert of(found, "consent")
    assert of(found, "final")[0]["message"]["details"]["escalation"] == "declined"
    assert desk.asked == []


def test_a_cloud_that_fails_leaves_the_local_answer(desk: Desk) -> None:
    desk.cloud_fails = CloudError("no answer began within 8 s", "timeout")
    desk.settings(consent="always", endpoint=CLOUD)
    final = of(desk.ask(desk.conversation(), cloud="cloud"), "final")[0]
    details = final["message"]["details"]
    assert final["message"]["content"] == SAYS
    assert (details["escalation"], details["failure"]) == ("failed", "timeout")


def test_settings_hold_for_the_next_question_of_an_open_model(desk: Desk) -> None:
    id = desk.conversation()
    desk.ask(id)
    desk.settings(consent="always", endpoint=CLOUD)
    assert of(desk.ask(id, cloud="cloud"), "final")[0]["message"]["details"]["source"] == "cloud"
    desk.settings(consent="never")
    assert of(desk.ask(id, cloud="cloud"), "final")[0]["message"]["details"]["source"] == "device"
    assert desk.models.loaded == ["tiny"]


def test_questions_without_an_answer_are_not_asked_again() -> None:
    def message(role: Any, content: str) -> Message:
        return Message("1", role, content, "")

    history = [
        message("user", "lost"),
        message("assistant", ""),
        message("user", "kept"),
        message("assistant", "yes"),
    ]
    assert [turn.content for turn in turns(history)] == ["kept", "yes"]


def test_a_title_is_the_beginning_of_the_first_question() -> None:
    assert title_of("Where\n is  it?") == "Where is it?"
    long = title_of("word " * 40)
    assert len(long) <= 61 and long.endswith("word…")
