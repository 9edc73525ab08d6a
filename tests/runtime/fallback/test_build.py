"""From files to a fallback: what is read, what is permitted, what a damaged part does."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ondevice.errors import PolicyError
from ondevice.package import Package
from ondevice.runtime.cloud.client import CloudClient
from ondevice.runtime.cloud.ledger import Caps
from ondevice.runtime.fallback import off_switch
from ondevice.runtime.fallback.build import build, client_for, judge_for, load_fallback
from ondevice.runtime.fallback.policy import Policy, TokenPrice
from ondevice.runtime.model import Model
from tests.runtime.fallback.fakes import ENDPOINT, options, scripted_model

QUESTION = "Where?"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def open_policy(**values: object) -> Policy:
    return Policy(consent="always", endpoint=ENDPOINT, **values)  # type: ignore[arg-type]


def test_the_default_policy_gets_no_client_and_leaves_no_file(home: Path) -> None:
    made = build(scripted_model()[0], Policy())
    assert made.cloud is None
    assert made.answer(QUESTION, options()).source == "device"
    assert build(scripted_model()[0], Policy(endpoint=ENDPOINT)).cloud is None
    assert not home.exists()


def test_the_policy_of_the_kits_folder_is_taken_and_a_bad_one_stops_before_loading(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []

    def load(package: object = None, **settings: object) -> Model:
        loaded.append(package)
        return scripted_model()[0]

    monkeypatch.setattr("ondevice.runtime.model.load", load)
    home.mkdir()
    (home / "policy.toml").write_text("peek_tokens = 3")
    assert load_fallback("some").policy.peek_tokens == 3
    assert load_fallback("some", Policy(peek_tokens=4)).policy.peek_tokens == 4
    assert loaded == ["some", "some"]
    (home / "policy.toml").write_text("peek_token = 3")
    with pytest.raises(PolicyError, match="line 1"):
        load_fallback("some")
    assert len(loaded) == 2


def test_the_switch_follows_policy_and_off_file_at_once() -> None:
    client = client_for(open_policy())
    assert client.state() == "unknown"
    off_switch.set_off()
    assert client.state() == "disabled"
    off_switch.set_on()
    assert client.state() == "unknown"
    assert client_for(Policy(endpoint=ENDPOINT)).state() == "disabled"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may look anywhere")
def test_a_switch_that_cannot_be_looked_at_is_off(home: Path) -> None:
    home.mkdir(mode=0o000)
    assert off_switch.is_off()


def test_a_folder_that_is_none_counts_as_off(home: Path) -> None:
    home.write_text("not a folder")
    assert off_switch.is_off()


def preview(client: CloudClient) -> tuple[float, bool]:
    from ondevice.runtime.answer import Message

    found = client.preview([Message("user", QUESTION)], max_tokens=1000)
    return found.worst_cost_usd, found.price_known


def test_the_declared_price_counts_for_the_endpoints_model() -> None:
    free = preview(client_for(open_policy()))
    assert free == (0.0, True)  # on this machine
    cost, known = preview(client_for(open_policy(price=TokenPrice(0.0, 2.5))))
    assert (cost, known) == (float(Decimal("2.5") * 1000 / 10**6), True)


def test_the_budget_of_the_policy_is_the_ledgers() -> None:
    client = client_for(open_policy(budget=Caps(per_day_usd=0.5)))
    assert client._parts.ledger.caps == Caps(per_day_usd=0.5)


def test_a_damaged_calibration_counts_as_none_and_every_reply_says_so(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{")
    model, _ = scripted_model()
    model.package = cast(Package, SimpleNamespace(folder=tmp_path))
    reply = build(model, open_policy()).answer(QUESTION, options())
    assert (reply.source, reply.confidence, reply.calibrated) == ("device", None, False)
    assert "the calibration cannot be used: " in reply.reason
    assert str(tmp_path) in reply.reason


def test_decisions_need_no_model() -> None:
    from ondevice.runtime.fallback.decision import Facts

    judge = judge_for(open_policy(), None)
    belief = judge.believe(options(), QUESTION)
    assert belief.fit == "none"
    assert judge.decide(Facts(QUESTION, wish="cloud"), belief, can_ask=False).where == "cloud"


def test_deciding_loads_no_http_library_and_no_training_library(home: Path) -> None:
    code = (
        "import sys\n"
        "from ondevice.runtime.cloud.endpoint import Endpoint\n"
        "from ondevice.runtime.fallback.build import judge_for\n"
        "from ondevice.runtime.fallback.decision import Facts\n"
        "from ondevice.runtime.fallback.policy import Policy\n"
        "from ondevice.runtime.answer import Options\n"
        "policy = Policy(consent='always', endpoint=Endpoint('x', 'https://x.example/v1', 'm'))\n"
        "judge = judge_for(policy, None)\n"
        "judge.decide(Facts('Where?'), judge.believe(Options(), 'Where?'), can_ask=False)\n"
        "print(*(n for n in sys.modules if '.' not in n))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {"openai", "httpx2", "httpcore2", "sklearn", "matplotlib", "dask", "onnxruntime"}
    assert not set(done.stdout.split()) & {*heavy, "torch", "keyring", "rich"}
