from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ondevice.desktop import launch
from ondevice.desktop.instance import Address, Instance, bring_forward
from ondevice.desktop.window import Window, open_browser
from ondevice.errors import OndeviceError
from ondevice.package import Package
from ondevice.serve.listening import bind

LIMIT_S = 60.0


class Running:
    """An assistant in a process of its own."""

    def __init__(self, *arguments: str, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ondevice.desktop", "--no-window", *arguments],
            env=os.environ | {"ONDEVICE_HOME": str(home)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.line = self.process.stderr.readline()

    @property
    def url(self) -> str:
        return self.line.split()[-1]

    @property
    def address(self) -> Address:
        base, _, token = self.url.partition("/?token=")
        return Address(int(base.rpartition(":")[2]), token, self.process.pid)

    def call(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.address.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.address.token}", **headers},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            text = answer.read().decode()
            return json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    def end(self) -> int:
        return self.process.wait(LIMIT_S)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def make(*arguments: str, at: Path = home) -> Running:
        started.append(Running(*arguments, home=at))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert one.process.stderr is not None
        one.process.stderr.close()


def test_it_answers_only_those_who_know_the_token_and_ends_when_told(
    start: Callable[..., Running], tiny_package: Package, home: Path
) -> None:
    one = start("--bundled", str(tiny_package.folder))
    assert "the assistant is at http://127.0.0.1:" in one.line
    assert [model["name"] for model in one.call("/app/state")["models"]] == ["tiny"]
    for headers in (
        {"Authorization": "Bearer wrong"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            one.call("/app/state", **headers)
        assert refused.value.code in (401, 403, 421)
    assert one.call("/v1/models")["data"][0]["id"] == "tiny"
    if sys.platform != "win32":
        assert (home / "desktop" / "instance.json").stat().st_mode & 0o077 == 0
    one.call("/app/quit", {})
    assert one.end() == 0
    assert not (home / "desktop" / "instance.json").exists()


def test_a_second_start_points_to_the_first(start: Callable[..., Running]) -> None:
    first = start()
    second = start()
    assert second.end() == 0
    assert "running already" in second.line and first.url in second.line
    assert first.call("/app/state")["busy"] is False


def test_a_port_in_use_is_one_clear_line(start: Callable[..., Running], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one = start("--port", str(port))
        assert one.end() == 2
    assert f"port {port} is in use" in one.line and "--port" in one.line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_signal_ends_it_cleanly(start: Callable[..., Running], home: Path) -> None:
    one = start()
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0
    assert not (home / "desktop" / "instance.json").exists()


def test_after_a_kill_in_mid_answer_the_conversation_is_there_and_the_next_one_starts(
    start: Callable[..., Running], tiny_package: Package
) -> None:
    one = start("--bundled", str(tiny_package.folder))
    id = one.call("/app/conversations", {})["id"]
    one.call(f"/app/conversations/{id}/messages", {"content": "first"})
    one.call("/app/settings", {"max_tokens": 60}, method="PUT")
    with _asked(one, id) as answer:
        while b"token" not in answer.readline():
            continue
        one.process.kill()
    one.end()
    again = start("--bundled", str(tiny_package.folder))
    assert again.call("/app/settings")["max_tokens"] == 60
    messages = again.call(f"/app/conversations/{id}")["messages"]
    assert [one["content"] for one in messages if one["role"] == "user"] == ["first", "second"]
    assert messages[1]["state"] in ("complete", "failed")
    assert again.call("/app/state")["notices"] == []


def _asked(one: Running, id: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{one.address.port}/app/conversations/{id}/messages",
        data=json.dumps({"content": "second"}).encode(),
        headers={"Authorization": f"Bearer {one.address.token}"},
    )
    return urllib.request.urlopen(request, timeout=LIMIT_S)


def test_only_one_process_has_the_folder(tmp_path: Path) -> None:
    with Instance(tmp_path) as one:
        assert one.take()
        one.announce(Address(1, "t", 2))
        with Instance(tmp_path) as two:
            assert not two.take()
            assert two.other() == Address(1, "t", 2)
    with Instance(tmp_path) as three:
        assert three.take() and three.other() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": "x"}'])
def test_a_spoilt_address_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "instance.json").write_text(text)
    assert Instance(tmp_path).other() is None


def test_one_that_does_not_answer_is_told_from_one_without_a_window(tmp_path: Path) -> None:
    with bind(0) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    assert bring_forward(Address(port, "t", 1)) is None
    assert time.monotonic() - start < 10


def test_a_silent_other_is_a_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Instance(home / "desktop") as one:
        assert one.take()
        with pytest.raises(OndeviceError, match="another assistant of yours"):
            launch.run(launch.Options(window=False))


def test_no_window_without_a_display_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("the other systems always have a display")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    window = Window("http://127.0.0.1:9/")
    assert window.run() == "there is no display"
    assert window.show() is False
    window.close()


def test_a_browser_that_fails_is_no_traceback() -> None:
    import webbrowser

    def fails(url: str) -> bool:
        raise webbrowser.Error("none")

    assert open_browser("http://127.0.0.1:9/", fails) is False
    assert open_browser("http://127.0.0.1:9/", lambda url: True) is True


def test_a_wrong_policy_file_is_one_clear_line(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("consent = 'perhaps'")
    one = start("--policy", str(policy))
    assert one.end() == 2
    assert "policy.toml, line 1" in one.line


def test_help_and_the_runtime_import_no_server_or_window() -> None:
    code = (
        "import sys, ondevice, ondevice.runtime, ondevice.cli.desktop, ondevice.desktop.launch\n"
        "wrong = {'starlette', 'uvicorn', 'webview', 'pypdf', 'onnxruntime', 'ondevice.export'}\n"
        "print(sorted(wrong & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
