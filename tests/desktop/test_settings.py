from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from desktop_fakes import CLOUD, Desk, NoKeychain

from ondevice.desktop.rules import KeyRing, key_name, policy_of, start_of, status
from ondevice.desktop.settings import Settings, SettingsFile, as_json, merged
from ondevice.errors import OndeviceError, RequestError
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.ledger import Caps
from ondevice.runtime.fallback.policy import Policy, Rule, TokenPrice

THEIRS = Endpoint("work", "https://models.example/v1", "big", key="WORK_KEY", json_schema=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


def test_settings_come_back_as_they_were_written(path: Path) -> None:
    written = SettingsFile(path).change(
        {
            "theme": "dark",
            "presets": [{"name": "P", "system": "Answer in Latin."}],
            "endpoint": CLOUD,
            "consent": "ask",
            "day_limit_usd": 0.5,
        }
    )
    assert SettingsFile(path).now == written
    assert written.presets[0].system == "Answer in Latin."


def test_what_is_not_named_stays(path: Path) -> None:
    file = SettingsFile(path)
    file.change({"theme": "dark"})
    assert file.change({"max_tokens": 9}).theme == "dark"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"theme": "pink"}, "theme must be system or light or dark"),
        ({"max_tokens": 0}, "max_tokens must be a whole number"),
        ({"max_tokens": True}, "max_tokens must be a whole number"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"temperature": "1"}, "temperature must be a number"),
        ({"send_on_enter": 1}, "must be true or false"),
        ({"presets": [{"name": "x"}]}, "a preset needs exactly name, system"),
        ({"presets": [{"name": "x", "system": ""}] * 2}, "same name"),
        ({"consent": "ask"}, "needs an endpoint"),
        ({"endpoint": {**CLOUD, "base_url": "ftp://x"}}, "must be like https"),
        ({"endpoint": {**CLOUD, "base_url": "http://far.example/v1"}}, "unencrypted"),
        ({"endpoint": {**CLOUD, "base_url": "https://user:pw@far.example/v1"}}, "password"),
        ({"endpoint": "https://far.example"}, "endpoint needs exactly"),
        ({"threshold": 1.5}, "from 0 to 1"),
        ({"day_limit_usd": -1}, "from 0"),
        ({"themes": "dark"}, "did you mean 'theme'"),
        ({"model": "\ud800"}, "not valid Unicode"),
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(
    path: Path, values: dict[str, Any], words: str
) -> None:
    file = SettingsFile(path)
    with pytest.raises(RequestError, match=words):
        file.change({"send_on_enter": False, **values})
    assert file.now == Settings() and not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"theme": "pink"}', '{"format_version": 9}', ""])
def test_a_file_that_cannot_be_read_is_set_aside_with_a_note(path: Path, text: str) -> None:
    path.write_text(text)
    file = SettingsFile(path)
    assert file.now == Settings()
    (aside,) = path.parent.glob("settings.damaged-*.json")
    assert aside.read_text() == text
    assert "could not be read" in file.note and str(aside) in file.note


def test_a_setting_of_a_later_version_is_passed_over(path: Path) -> None:
    path.write_text('{"format_version": 1, "theme": "dark", "shade": 3}')
    assert SettingsFile(path).now.theme == "dark"


def test_where_nothing_can_be_written_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = SettingsFile(tmp_path / "file" / "settings.json")
    with pytest.raises(OndeviceError, match="cannot write"):
        file.change({"theme": "dark"})
    assert file.now.theme == "system"


WRITER = """
import sys
from pathlib import Path
from ondevice.desktop.settings import SettingsFile
file = SettingsFile(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(1, 100000):
    file.change({"max_tokens": number % 1000 + 1, "theme": "dark" if number % 2 else "light"})
"""


def test_settings_survive_a_kill_at_any_moment(path: Path) -> None:
    for delay in (0.0, 0.01, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        timer = threading.Timer(0.05 + delay, process.kill)
        timer.start()
        process.wait(60)
        process.stdout.close()
        data = json.loads(path.read_text())
        assert (data["max_tokens"] % 2 == 0) == (data["theme"] == "dark")
        assert SettingsFile(path).note == ""


def test_the_settings_lie_over_the_policy_file() -> None:
    rule = Rule("secret", "device", longer_than=10)
    base = Policy(
        consent="ask",
        endpoint=THEIRS,
        price=TokenPrice(1, 2),
        budget=Caps(per_request_usd=0.1, per_day_usd=1),
        threshold=0.4,
        rules=(rule,),
    )
    start = start_of(base)
    assert (start.consent, start.threshold, start.day_limit_usd) == ("ask", 0.4, 1)
    same = policy_of(start, base, agreed=False, with_key=False)
    assert same == base
    changed = merged(start, {"day_limit_usd": 2.0, "consent": "session"})
    policy = policy_of(changed, base, agreed=False, with_key=False)
    assert policy.budget == Caps(per_request_usd=0.1, per_day_usd=2.0)
    assert policy.consent == "session" and policy.rules == (rule,)
    assert policy.endpoint == THEIRS


def test_an_agreement_for_the_run_makes_ask_a_session_and_nothing_else() -> None:
    for consent, effect in (("never", "never"), ("ask", "session"), ("always", "always")):
        settings = merged(Settings(), {"endpoint": CLOUD, "consent": consent})
        assert policy_of(settings, Policy(), agreed=True, with_key=False).consent == effect


def test_a_key_belongs_to_one_address() -> None:
    def name(url: str) -> str:
        settings = merged(Settings(), {"endpoint": {**CLOUD, "base_url": url}})
        return key_name(settings, Policy(endpoint=THEIRS))

    assert name("https://models.example/v1") == "WORK_KEY"
    assert name("https://other.example/v1") == "desktop-other.example-443"
    assert name("https://other.example:8443/v1") == "desktop-other.example-8443"
    assert len(name(f"https://{'a.' * 50}example/v1")) <= 64


def test_a_loopback_endpoint_needs_no_key_but_sends_the_one_it_has() -> None:
    settings = merged(Settings(), {"endpoint": CLOUD})
    for with_key, key in ((False, ""), (True, "desktop-127.0.0.1-9")):
        policy = policy_of(settings, Policy(), agreed=False, with_key=with_key)
        assert policy.endpoint is not None and policy.endpoint.key == key


def test_a_key_is_kept_for_the_run_where_there_is_no_keychain_and_never_given_back(
    desk: Desk, home: Path
) -> None:
    desk.settings(endpoint={**CLOUD, "base_url": "https://far.example/v1"}, consent="ask")
    assert desk.state()["cloud"]["state"] == "no-key"
    answer = desk.client.put("/app/key", json={"key": "sk-very-secret"})
    assert answer.json() == {"stored": True, "where": "memory"}
    state = desk.client.get("/app/state")
    assert "very-secret" not in state.text
    assert state.json()["cloud"]["state"] in ("online", "offline")
    assert desk.client.delete("/app/key").json() == {"stored": False, "where": ""}
    assert desk.client.get("/app/key").status_code == 405
    for file in home.rglob("*"):
        assert not file.is_file() or b"very-secret" not in file.read_bytes()


def test_a_key_that_can_be_none_is_refused(desk: Desk) -> None:
    assert desk.client.put("/app/key", json={"key": "x"}).status_code == 400  # no endpoint yet
    desk.settings(endpoint=CLOUD)
    for key in ("", "two words", "ümlaut"):
        assert desk.client.put("/app/key", json={"key": key}).status_code == 400


def test_the_off_switch_of_the_command_line_is_the_windows_too(desk: Desk) -> None:
    from ondevice.runtime.fallback import off_switch

    desk.settings(endpoint=CLOUD, consent="always")
    assert desk.client.post("/app/offline", json={"offline": True}).status_code == 204
    assert off_switch.is_off()
    cloud = desk.state()["cloud"]
    assert (
        cloud["state"] == "off" and cloud["offline"] and "switched the cloud off" in cloud["reason"]
    )
    desk.client.post("/app/offline", json={"offline": False})
    assert not off_switch.is_off()
    assert desk.state()["cloud"]["state"] == "online"


def test_the_cloud_says_why_it_is_off() -> None:
    ring = KeyRing(Keys(environ={}, keychain=NoKeychain()))
    assert status(Policy(), ring, None).state == "no-endpoint"
    assert status(Policy(endpoint=THEIRS), ring, None).state == "off"
    assert status(Policy(endpoint=THEIRS, consent="ask"), ring, None).state == "no-key"


def test_settings_go_in_and_out_as_the_same_json(desk: Desk) -> None:
    before = desk.client.get("/app/settings").json()
    assert desk.settings(**before) == before == as_json(desk.assistant.settings)


def test_a_policy_file_gives_the_first_settings(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(base=Policy(endpoint=THEIRS, consent="ask"))
    found = desk.client.get("/app/settings").json()
    assert found["consent"] == "ask" and found["endpoint"]["name"] == "work"
