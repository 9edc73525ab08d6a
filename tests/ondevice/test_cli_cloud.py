"""`cloud`: keys, budget, log, check and the off-switch."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from ondevice import cli
from ondevice.runtime.cloud.audit import AuditLog, Event
from ondevice.runtime.cloud.ledger import Ledger

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("ONDEVICE_HOME", str(folder))
    return folder


class Keychain:
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def keychain(monkeypatch: pytest.MonkeyPatch) -> Keychain:
    made = Keychain()
    monkeypatch.setattr("ondevice.runtime.cloud.keys.open_keychain", lambda: made)
    return made


def pipe_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def policy(home: Path, text: str) -> None:
    (home / "policy.toml").write_text(text, encoding="utf-8")


def endpoint(url: str) -> str:
    return f'[endpoint]\nname = "loop"\nbase_url = "{url}"\nmodel = "large"\n'


def test_a_key_comes_from_stdin_and_is_never_shown(
    keychain: Keychain, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in(monkeypatch, "  s3cret-value\n")
    assert cli.run(["cloud", "key", "set", "MY_KEY"]) == 0
    assert list(keychain.kept.values()) == ["s3cret-value"]
    out, err = capsys.readouterr()
    assert "s3cret" not in out + err
    assert list(home.iterdir()) == []
    assert cli.run(["cloud", "key", "delete", "MY_KEY"]) == 0
    assert keychain.kept == {}
    assert cli.run(["cloud", "key", "delete", "MY_KEY"]) == 2
    assert "MY_KEY" in capsys.readouterr().err


def test_a_key_is_no_argument(keychain: Keychain, capsys: Captured) -> None:
    assert cli.run(["cloud", "key", "set", "MY_KEY", "s3cret-value"]) == 2
    assert keychain.kept == {}


def test_at_a_terminal_a_key_is_asked_for_without_echo(
    keychain: Keychain, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in(monkeypatch, "")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: "typed-1")
    assert cli.run(["cloud", "key", "set", "MY_KEY"]) == 0
    assert list(keychain.kept.values()) == ["typed-1"]


@pytest.mark.parametrize("given", ["", "  \n"])
def test_no_key_is_an_error(
    given: str, keychain: Keychain, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in(monkeypatch, given)
    assert cli.run(["cloud", "key", "set", "MY_KEY"]) == 2
    assert "no key was given for MY_KEY" in capsys.readouterr().err
    assert keychain.kept == {}


def test_the_budget_of_a_machine_that_never_asked_is_empty(home: Path, capsys: Captured) -> None:
    assert cli.run(["cloud", "budget", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["today"] == {"calls": 0, "spent_usd": 0.0, "reserved_usd": 0.0}
    assert found["limits"] == {
        "per_request_usd": None,
        "per_day_usd": None,
        "per_month_usd": None,
    }
    assert list(home.iterdir()) == []


def test_the_budget_shows_what_was_spent_what_is_open_and_the_limits(
    home: Path, capsys: Captured
) -> None:
    policy(home, "[budget]\nper_day_usd = 0.5\n")
    ledger = Ledger()
    ledger.reserve("r1", "loop", "large", 30_000_000)
    ledger.settle("r1", 20_000_000, 10, 5, estimated=False)
    ledger.reserve("r2", "loop", "large", 1_000_000)
    assert cli.run(["cloud", "budget", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["today"] == {"calls": 2, "spent_usd": 0.02, "reserved_usd": 0.001}
    assert found["month"] == found["today"]
    assert found["limits"]["per_day_usd"] == 0.5
    assert found["open"] == [{"request_id": "r2", "model": "large", "reserved_usd": 0.001}]
    assert cli.run(["cloud", "budget"]) == 0
    out = capsys.readouterr().out
    assert "$0.02" in out and "$0.50" in out and "limit for one call: none" in out
    assert "1 call is open" in out


def test_recover_settles_what_a_process_that_is_gone_left_open(
    home: Path, capsys: Captured
) -> None:
    assert cli.run(["cloud", "budget", "recover"]) == 0
    assert capsys.readouterr().out.startswith("0 reservations settled")
    code = (
        "from ondevice.runtime.cloud.ledger import Ledger\n"
        "Ledger().reserve('gone', 'loop', 'large', 5_000_000)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], env=os.environ, check=True, timeout=60)
    Ledger().reserve("here", "loop", "large", 7_000_000)
    assert cli.run(["cloud", "budget", "recover"]) == 0
    assert capsys.readouterr().out.startswith("1 reservation settled")
    assert {e.request_id: e.state for e in Ledger().entries()} == {
        "gone": "recovered",
        "here": "open",
    }


def test_the_log_shows_the_last_events(home: Path, capsys: Captured) -> None:
    assert cli.run(["cloud", "log"]) == 0
    assert capsys.readouterr().out == ""
    log = AuditLog()
    for number in range(5):
        log.write(
            Event(
                event="answered",
                request_id=f"r{number}",
                endpoint="loop",
                model="large",
                reason="confidence 0.41, below the threshold 0.70",
                data_class="general",
                bytes_sent=100 + number,
                cost_nano=2_000_000,
                outcome="stop",
                redactions={"email": 1},
            )
        )
    assert cli.run(["cloud", "log", "--last", "2", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["request_id"] for line in lines] == ["r3", "r4"]
    assert lines[0]["redactions"] == {"email": 1}
    assert "content" not in lines[0]
    with log.path.open("ab") as file:
        file.write(b'{"event": "half')
    assert cli.run(["cloud", "log"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6 and "$0.002" in out and "104" in out
    assert "1 damaged line" in err


def test_check_says_whether_the_endpoint_is_there(
    home: Path, httpserver: HTTPServer, capsys: Captured
) -> None:
    import openai  # noqa: F401  # a busy machine takes longer for it than a connection may take

    policy(home, 'consent = "ask"\n' + endpoint(httpserver.url_for("/v1")))
    assert cli.run(["cloud", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "up"
    assert httpserver.log == []  # connected, and nothing asked
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        policy(home, 'consent = "ask"\n' + endpoint(f"http://127.0.0.1:{free.getsockname()[1]}/v1"))
        assert cli.run(["cloud", "check"]) == 1
    assert "state     down" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["never", "off"])
def test_check_connects_to_nothing_that_is_not_allowed(
    how: str, home: Path, httpserver: HTTPServer, capsys: Captured
) -> None:
    consent = "never" if how == "never" else "always"
    policy(home, f'consent = "{consent}"\n' + endpoint(httpserver.url_for("/v1")))
    if how == "off":
        assert cli.run(["cloud", "off"]) == 0
        capsys.readouterr()
    assert cli.run(["cloud", "check", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "disabled"
    assert ("consent never" if how == "never" else "off-switch") in found["why"]


def test_check_without_an_endpoint_says_what_to_add(capsys: Captured) -> None:
    assert cli.run(["cloud", "check"]) == 2
    assert "[endpoint]" in capsys.readouterr().err


def test_off_and_on_may_be_said_twice(home: Path, capsys: Captured) -> None:
    for _ in range(2):
        assert cli.run(["cloud", "off"]) == 0
        assert (home / "cloud.off").exists()
    for _ in range(2):
        assert cli.run(["cloud", "on"]) == 0
        assert not (home / "cloud.off").exists()
    assert "consent never" in capsys.readouterr().out
