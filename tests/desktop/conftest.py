"""An assistant in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop_fakes import Desk

from ondevice.package import Package
from ondevice.runtime.fallback import agreement


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that everything is kept in."""
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def open_desk(home: Path, tiny_package: Package) -> Iterator[Callable[..., Desk]]:
    """Opens assistants with one scripted model, and closes them."""
    opened: list[Desk] = []

    def make(**more: Any) -> Desk:
        more.setdefault("bundled", tiny_package.folder)
        opened.append(Desk(**more))
        return opened[-1]

    yield make
    for desk in opened:
        desk.close()
    agreement.withdraw()


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    return open_desk()
