from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ondevice.host import Host
from ondevice.package import Package
from tests.stdio.child import SCRIPTED, Process, Start
from tests.stdio.connection import Connect, Connection
from tests.stdio.scripted_host import Scripted, named
from tests.stdio.stdio_client import Client


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects a client to a host."""
    connections: list[Connection] = []

    def made(host: Host) -> Connection:
        connections.append(Connection(host))
        return connections[-1]

    yield made
    for connection in connections:
        connection.close()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.may_go_on.set()
    made.may_load.set()


@pytest.fixture
def connection(tiny_package: Package, scripted: Scripted, connect: Connect) -> Connection:
    """A server with the models `one` and `two`, and room for two in the line."""
    packages = [named(tiny_package, name) for name in ("one", "two")]
    return connect(scripted.host(packages, queue=2))


@pytest.fixture
def client(connection: Connection) -> Client:
    """The client of `connection`, past its `initialize`."""
    connection.client.initialize()
    return connection.client


@pytest.fixture
def start(tiny_package: Package, tmp_path: Path) -> Iterator[Start]:
    """Starts a scripted server with a `Behaviour`, or another command."""
    started: list[Process] = []

    def made(command: list[str] | None = None, read: bool = True, **behaviour: Any) -> Process:
        scripted = [*SCRIPTED, str(tiny_package.folder), json.dumps(behaviour)]
        started.append(Process(command or scripted, tmp_path, read))
        return started[-1]

    yield made
    for process in started:
        process.close()
