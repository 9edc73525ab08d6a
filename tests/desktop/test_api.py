from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from desktop_fakes import SAYS, Desk, of

from ondevice.desktop import page_files
from ondevice.package import Package
from ondevice.runtime.engine import Limits

TEXT = b"Bees live in hives.\n\nThe key lies under the third stone.\n"


def put(desk: Desk, id: str, name: str = "a.txt", data: bytes = TEXT) -> Any:
    return desk.client.post(f"/app/conversations/{id}/documents", files={"file": (name, data)})


def test_the_state_has_all_that_the_contract_names(desk: Desk) -> None:
    state = desk.state()
    assert set(state) >= {
        "version", "models", "offered", "settings", "cloud", "notices", "device", "pull", "busy",
    }  # fmt: skip
    (model,) = state["models"]
    assert (model["name"], model["default"], model["speed"]) == ("tiny", True, None)
    assert {one["name"] for one in state["offered"]} >= {"smollm2-135m-instruct"}
    assert all(one["expected_tps"] > 0 and not one["installed"] for one in state["offered"])
    assert state["cloud"]["state"] == "no-endpoint"
    assert state["device"]["cores"] >= 1 and state["device"]["memory_bytes"] > 0
    assert state["pull"] is None and state["busy"] is False


def test_a_conversation_is_made_named_and_deleted(desk: Desk) -> None:
    id = desk.conversation(system="Be brief.", preset="P")
    url = f"/app/conversations/{id}"
    assert desk.client.patch(url, json={"title": "Mine"}).json()["title"] == "Mine"
    found = desk.client.get(url).json()
    assert (found["system"], found["messages"], found["documents"]) == ("Be brief.", [], [])
    assert [one["id"] for one in desk.client.get("/app/conversations").json()["conversations"]] == [
        id
    ]
    assert desk.client.delete(url).status_code == 204
    assert desk.client.get(url).status_code == 404


def test_deleting_all_needs_a_confirmation(desk: Desk) -> None:
    desk.conversation()
    url = "/app/conversations"
    assert desk.client.request("DELETE", url).status_code == 400
    assert desk.client.request("DELETE", url, json={"confirm": True}).status_code == 204
    assert desk.client.get(url).json() == {"conversations": []}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/app/conversations", {"model": "none"}),
        ("POST", "/app/conversations", {"colour": "red"}),
        ("POST", "/app/conversations", [1]),
        ("POST", "/app/conversations", {"system": 7}),
        ("POST", "/app/conversations", {"system": "x" * 30_000}),
        ("PUT", "/app/settings", {"theme": 1}),
        ("POST", "/app/offline", {"offline": "yes"}),
        ("POST", "/app/pull", {"name": "no-such-model"}),
        ("POST", "/app/pull", {}),
        ("POST", "/app/benchmark", {"model": "none"}),
    ],
)
def test_a_wrong_request_is_one_line_in_the_usual_shape(
    desk: Desk, method: str, path: str, body: Any
) -> None:
    answer = desk.client.request(method, path, json=body)
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert error["message"] and "\n" not in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b'{"a":' * 100_000, b"nul"])
def test_a_body_that_is_no_json_is_refused(desk: Desk, data: bytes) -> None:
    assert desk.client.post("/app/conversations", content=data).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/app/conversations/none"),
        ("DELETE", "/app/conversations/none"),
        ("POST", "/app/conversations/none/messages"),
        ("GET", "/app/conversations/none/export"),
        ("DELETE", "/app/conversations/none/documents/none"),
        ("POST", "/app/consent/none"),
    ],
)
def test_what_is_not_there_is_404(desk: Desk, method: str, path: str) -> None:
    body = {"content": "x"} if path.endswith("messages") else {}
    body = {"allow": True} if "consent" in path else body
    assert desk.client.request(method, path, json=body).status_code == 404


def test_an_empty_question_is_refused(desk: Desk) -> None:
    id = desk.conversation()
    answer = desk.client.post(f"/app/conversations/{id}/messages", json={"content": " \n"})
    assert answer.status_code == 400 and desk.messages(id) == []


def test_a_search_finds_answers(desk: Desk) -> None:
    id = desk.conversation()
    desk.ask(id, "Where is it?")
    (found,) = desk.client.get("/app/search", params={"q": "paris"}).json()["results"]
    assert found["role"] == "assistant" and found["conversation"] == id
    assert {"text": "Paris", "match": True} in found["snippet"]


def test_a_document_is_read_asked_about_and_shown_with_the_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.runtime.engine.limits_of", lambda *_: Limits(4096, 700))
    id = desk.conversation()
    document = put(desk, id).json()
    assert (document["name"], document["pages"], document["bytes"]) == ("a.txt", 1, len(TEXT))
    found = desk.ask(id, "Where does the key lie?")
    (shown,) = of(found, "passages")
    assert "third stone" in shown["passages"][0]["text"]
    assert shown["passages"][0]["document"] == document["id"]
    assert "third stone" in desk.models.prompts[-1]
    assert desk.messages(id)[-1]["passages"] == shown["passages"]
    url = f"/app/conversations/{id}/documents/{document['id']}"
    assert desk.client.delete(url).status_code == 204
    assert of(desk.ask(id, "And now?"), "passages") == []


def test_two_documents_of_one_name_are_told_apart(desk: Desk) -> None:
    id = desk.conversation()
    names = [put(desk, id).json()["name"] for _ in range(3)]
    assert names == ["a.txt", "a.txt (2)", "a.txt (3)"]


def test_a_file_that_cannot_be_read_is_one_clear_line(desk: Desk) -> None:
    id = desk.conversation()
    for name, data in (("a.bin", bytes(range(256)) * 9), ("a.txt", b""), ("a.pdf", b"%PDF-1.4 x")):
        answer = put(desk, id, name, data)
        assert answer.status_code == 400
        assert name in answer.json()["error"]["message"]
    assert (
        desk.client.post(f"/app/conversations/{id}/documents", data={"x": "y"}).status_code == 400
    )


def test_a_file_that_is_too_large_is_refused_before_it_is_received(desk: Desk) -> None:
    id = desk.conversation()
    answer = desk.client.post(
        f"/app/conversations/{id}/documents",
        content=b"",
        headers={"Content-Length": "200000000", "Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 400 and "200 MB" in answer.json()["error"]["message"]


def test_a_conversation_is_exported_as_markdown_and_json(desk: Desk) -> None:
    id = desk.conversation(system="Be brief.")
    desk.ask(id, "Where is it? / ü")
    url = f"/app/conversations/{id}/export"
    markdown = desk.client.get(url)
    assert 'filename="Where is it _.md"' in markdown.headers["content-disposition"] or (
        "Where is it" in markdown.headers["content-disposition"]
    )
    for part in ("# Where is it? / ü", "> Be brief.", "## You", SAYS, "## tiny, device"):
        assert part in markdown.text
    data = json.loads(desk.client.get(url, params={"format": "json"}).text)
    assert [one["content"] for one in data["messages"]] == ["Where is it? / ü", SAYS]
    assert desk.client.get(url, params={"format": "exe"}).status_code == 400


def test_a_model_that_vanished_is_named_in_the_window(
    open_desk: Callable[..., Desk], tiny_package: Package, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "models"
    for name in ("one", "two"):
        shutil.copytree(tiny_package.folder, folder / name)
        manifest = folder / name / "ondevice.json"
        data = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(data | {"name": name}))
    desk = open_desk(bundled=folder)
    id = desk.conversation(model="two")
    shutil.rmtree(folder / "two")
    desk.assistant.catalogue.packages(fresh=True)
    (error,) = of(desk.ask(id), "error")
    assert error["message"] == "two is not on this device any more; choose another model"
    (folder / "one" / "model.onnx").unlink()
    desk.assistant.catalogue.packages(fresh=True)
    (model,) = desk.state()["models"]
    assert "model.onnx is missing" in model["problem"]


def test_the_chosen_model_is_the_default(
    open_desk: Callable[..., Desk], tiny_package: Package
) -> None:
    desk = open_desk()
    other = replace(tiny_package, manifest=replace(tiny_package.manifest, name="other"))
    desk.assistant.host.offer([*desk.assistant.host.packages, other])
    assert [one.manifest.name for one in desk.assistant.host.packages] == ["tiny", "other"]
    desk.assistant.catalogue._packages = (tiny_package, other)
    desk.settings(model="other")
    assert [one.manifest.name for one in desk.assistant.host.packages] == ["other", "tiny"]
    desk.ask(desk.conversation())
    assert desk.models.loaded == ["other"]


def test_without_a_model_everything_but_an_answer_works(
    open_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    desk = open_desk(bundled=tmp_path / "none")
    assert desk.state()["models"] == []
    (error,) = of(desk.ask(desk.conversation()), "error")
    assert "no model is installed" in error["message"]


def test_a_benchmark_is_measured_once_and_remembered(
    desk: Desk, open_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    from desktop_fakes import events

    desk.models.says = "word " * 40
    found = events(desk.client.post("/app/benchmark", json={"model": "tiny"}).text)
    assert [data["done"] for data in of(found, "progress")] == [0, 0, 1, 2, 3]
    (done,) = of(found, "done")
    assert set(done["speed"]) >= {"ttft_ms", "prefill_tps", "decode_tps", "when"}
    desk.close()
    assert open_desk().state()["models"][0]["speed"] == done["speed"]


def test_the_expected_speed_follows_what_was_measured(desk: Desk, tiny_package: Package) -> None:
    from ondevice.desktop.speeds import Speed

    speeds = desk.assistant.speeds
    speeds._remember(tiny_package, Speed(1.0, 1.0, 40.0, "", bytes=100))
    assert speeds.expected_tps(200) == 20
    assert speeds.expected_tps(0) is None


def test_the_page_has_headers_that_let_nothing_in_from_elsewhere(desk: Desk) -> None:
    policy = page_files.HEADERS["Content-Security-Policy"]
    for part in ("default-src 'self'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert part in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["../api.py", "..%2fapi.py", "a/b/c.js", "none.js", "", "%00"])
def test_no_file_but_the_pages_own_is_given(desk: Desk, name: str) -> None:
    assert desk.client.get(f"/page/{name}").status_code in (404, 405)


def test_the_window_can_end_the_program(desk: Desk) -> None:
    assert desk.client.post("/app/quit").status_code == 204
    assert desk.quit.is_set()


def test_a_notice_is_shown_until_it_is_dismissed(desk: Desk, home: Path) -> None:
    from ondevice.desktop.records import Notice

    desk.assistant.store.add_notice(Notice("warning", "look at this"))
    (notice,) = desk.state()["notices"]
    assert notice["kind"] == "warning" and notice["text"] == "look at this"
    assert desk.client.delete(f"/app/notices/{notice['id']}").status_code == 204
    assert desk.state()["notices"] == []


def test_a_full_disk_is_told_and_the_answer_shown(desk: Desk) -> None:
    id = desk.conversation()
    with desk.assistant.store._database.reading() as db:
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    final = of(desk.ask(id, "Where? " * 2000), "final")[0]
    assert final["message"]["content"] == SAYS and "full" in final["problem"]
    (notice,) = desk.state()["notices"]
    assert notice["kind"] == "error" and "kept in memory" in notice["text"]
    assert [one["role"] for one in desk.messages(id)] == ["user", "assistant"]
