"""Nothing leaves where nothing may: no name is resolved, no socket made, no byte sent."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai  # noqa: F401 - takes long, and is not what a deadline is tried with
import pytest

sys.path.append(str(Path(__file__).parents[3]))  # after the installed package

from benchmarks.faults import Setup, warm
from benchmarks.faulty import Faulty
from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.cloud.audit import AuditLog, Event
from ondevice.runtime.cloud.client import CloudClient, Purpose
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.ledger import Caps
from ondevice.runtime.cloud.pace import Pace
from ondevice.runtime.cloud.switch import Switch
from ondevice.runtime.cloud.transport import Transport

HELLO = [Message("user", "Hello")]
URL = "https://cloud.invalid/v1"


class Spy:
    """Notes every use of the network by this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("getaddrinfo", "create_connection", "gethostbyname"):
            monkeypatch.setattr(socket, name, self._note(name))
        self._wrap(monkeypatch)

    def _note(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.calls.append(name)
            raise OSError(f"{name} was called")

        return call

    def _wrap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.calls

        class Watched(socket.socket):
            def __init__(self, *args: Any, **more: Any) -> None:
                calls.append("socket")
                super().__init__(*args, **more)

        monkeypatch.setattr(socket, "socket", Watched)


def ask(client: CloudClient, data_class: str = "") -> str:
    with pytest.raises(CloudError) as caught:
        client.ask(HELLO, max_tokens=9, purpose=Purpose("test", data_class=data_class))
    return caught.value.kind


@pytest.mark.parametrize(
    ("kind", "data_class"),
    [
        ("disabled", ""),
        ("restricted", "restricted"),
        ("restricted", " Restricted "),
        ("budget", ""),
        ("unknown-price", ""),
        ("auth", ""),
        ("ledger", ""),
    ],
)
def test_a_call_that_may_not_be_made_touches_no_network(
    kind: str, data_class: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path)
    setup.switched_on = kind != "disabled"
    if kind == "budget":
        setup.ledger.caps = Caps(per_request_usd=0.0)
    if kind == "unknown-price":
        setup.prices._table.clear()
    if kind == "ledger":
        (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    client = setup.client(URL, key="NO_SUCH_KEY" if kind == "auth" else "")
    warm(client)
    spy = Spy(monkeypatch)
    assert ask(client, data_class) == kind
    assert spy.calls == []
    (event,) = setup.audit.read().events
    assert (event.event, event.outcome, event.bytes_sent) == ("refused", kind, 0)


def test_the_spy_sees_a_call_that_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Setup(tmp_path).client(URL, Deadlines(1, 1, 1, 1, 0))
    warm(client)
    spy = Spy(monkeypatch)
    assert ask(client) == "dns"
    assert spy.calls == ["getaddrinfo"]


def test_making_a_client_looking_at_it_and_previewing_touch_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr(psutil, "net_if_stats", dict)  # it opens a socket to ask the system
    spy = Spy(monkeypatch)
    setup = Setup(tmp_path)
    client = setup.client(URL)
    warm(client)
    client.state()
    client.preview(HELLO, max_tokens=9)
    setup.switched_on = False
    assert (client.state(), client.probe()) == ("disabled", "disabled")
    assert spy.calls == []


def send(switch: Switch, base_url: str, request_id: str = "one") -> httpx2.Response:
    """Use the transport directly, past everything that decides."""
    endpoint = Endpoint("faulty", base_url, "faulty")
    transport = Transport(
        endpoint,
        switch,
        request_id,
        Pace(endpoint.deadlines),
        key="",
        context=None,
        most_bytes=1 << 20,
        announce=lambda body: None,
    )
    with httpx2.Client(transport=transport, trust_env=False) as client:
        return client.post(f"{base_url}/chat/completions", content=b"{}")


@pytest.mark.parametrize("permitted", ["", "other"])
def test_the_transport_refuses_a_request_without_its_own_permit(permitted: str) -> None:
    switch = Switch(lambda: True)
    with Faulty() as server:
        with pytest.raises(CloudError, match="permit"):
            if permitted:
                with switch.permit(permitted):
                    send(switch, server.base_url)
            else:
                send(switch, server.base_url)
        assert (server.seen.connections, server.seen.bytes) == (0, 0)
        with switch.permit("one"):
            assert send(switch, server.base_url).status_code == 200


def test_a_permit_ends_with_its_block_and_when_the_switch_is_turned_off() -> None:
    on = [True]
    switch = Switch(lambda: on[0])
    with switch.permit("one"):
        switch.require("one")
        on[0] = False
        with pytest.raises(CloudError) as caught:
            switch.require("one")
        assert caught.value.kind == "disabled"
        on[0] = True
        switch.require("one")
    with pytest.raises(CloudError):
        switch.require("one")


def test_a_switch_is_off_by_default_and_when_it_cannot_be_asked() -> None:
    def broken() -> bool:
        raise OSError("no file")

    for switch in (Switch(), Switch(broken), Switch(lambda: 1)):  # type: ignore[arg-type, return-value]
        assert not switch.allowed
        with pytest.raises(CloudError), switch.permit("one"):
            pass


def test_a_switch_turned_off_after_the_connection_lets_no_request_out(tmp_path: Path) -> None:
    setup = Setup(tmp_path)

    class TurningOff(AuditLog):
        def write(self, event: Event, sent: bytes | None = None) -> None:
            super().write(event, sent)
            setup.switched_on = False

    setup.audit = TurningOff(tmp_path / "audit.jsonl")
    with Faulty() as server:
        assert ask(setup.client(server.base_url)) == "disabled"
        assert server.seen.connections == 1
        assert server.seen.bytes == 0
    assert setup.audit.read().events[-1].bytes_sent == 0
    assert setup.ledger.entries()[0].state == "released"
