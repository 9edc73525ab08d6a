"""`ondevice serve` where it cannot start: one line that says why and what to do."""

from __future__ import annotations

import sys

import pytest

from ondevice import cli
from ondevice.package import Package
from ondevice.serve.listening import bind

Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *arguments: str) -> str:
    assert cli.run(["serve", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.0.2", "example.org", ""])
def test_other_addresses_than_loopback_are_refused_with_the_reason(
    capsys: Captured, address: str
) -> None:
    assert "other machines" in refused(capsys, "--host", address)


@pytest.mark.parametrize(
    "token", ["short", "with a space", 'quote"quote', "semi;colon", "ümläutüü"]
)
def test_a_token_that_no_header_or_cookie_can_carry_is_refused(
    capsys: Captured, token: str
) -> None:
    assert "at least 8 characters" in refused(capsys, "--token", token)


def test_a_port_in_use_is_named(capsys: Captured, tiny_package: Package) -> None:
    with bind(0) as taken:
        port = str(taken.getsockname()[1])
        said = refused(capsys, str(tiny_package.folder), "--port", port)
    assert f"port {port} is in use" in said
    assert "--port" in said


def test_a_missing_extra_is_named_with_the_command_that_adds_it(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tiny_package: Package
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert 'pip install "ondevice[serve]"' in refused(capsys, str(tiny_package.folder))


def test_two_packages_of_one_name_are_refused(capsys: Captured, tiny_package: Package) -> None:
    folder = str(tiny_package.folder)
    assert "two packages are called" in refused(capsys, folder, folder)


def test_a_model_that_is_not_here_is_named(capsys: Captured) -> None:
    assert "nonsense" in refused(capsys, "nonsense")
