"""`ask` with a real model opens no connection, and answers where there is no network at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ondevice.package import Package

QUESTION = "What is the capital of Italy? Answer in one word."

WATCH = """
import socket, sys
def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] != getattr(socket, "AF_UNIX", None):
        raise SystemExit(f"a socket of family {arguments[1]} was opened")
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        raise SystemExit(f"{event} was called")
sys.addaudithook(watch)
"""


def ask(package: Package) -> list[str]:
    options = ["--max-tokens", "16", "--json", "--model", str(package.folder)]
    return ["ask", QUESTION, *options]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=300, check=False, stdin=None
    )


def namespace_prefix() -> list[str] | None:
    """The command that runs another without any network interface; None where none may."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and run([*prefix, "true"]).returncode == 0:
            return prefix
    return None


@pytest.mark.real_model
@pytest.mark.root
def test_ask_answers_in_a_network_namespace_without_interfaces(smollm2_package: Package) -> None:
    prefix = namespace_prefix()
    if prefix is None:
        pytest.skip("no right to make a network namespace here")
    links = run([*prefix, sys.executable, "-c", "import socket; print(socket.if_nameindex())"])
    assert "eth" not in links.stdout
    done = run([*prefix, sys.executable, "-P", "-m", "ondevice", *ask(smollm2_package)])
    assert done.returncode == 0, done.stderr
    assert "Rome" in json.loads(done.stdout)["text"]


@pytest.mark.real_model
def test_ask_opens_no_socket_but_unix_ones(smollm2_package: Package) -> None:
    code = WATCH + f"from ondevice import cli\nsys.exit(cli.run({ask(smollm2_package)!r}))"
    done = run([sys.executable, "-P", "-c", code])
    assert done.returncode == 0, done.stderr
    assert "Rome" in json.loads(done.stdout)["text"]


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.getaddrinfo('localhost', 80)",
    ],
)
def test_the_watch_for_sockets_sees_them(code: str) -> None:
    done = run([sys.executable, "-c", WATCH + code])
    assert done.returncode == 1
    assert "was" in done.stderr


@pytest.mark.real_model
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_not_even_native_code_opens_a_socket_but_unix_ones(
    smollm2_package: Package, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    prefix = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", str(trace)]
    if run([*prefix, "true"]).returncode != 0:
        pytest.skip("no right to trace a process here")
    watched = run([*prefix, sys.executable, "-c", "import socket; socket.socket()"])
    assert watched.returncode == 0
    assert "AF_INET" in trace.read_text()
    done = run([*prefix, sys.executable, "-P", "-m", "ondevice", *ask(smollm2_package)])
    assert done.returncode == 0, done.stderr
    opened = [line for line in trace.read_text().splitlines() if "socket(" in line]
    assert [line for line in opened if "AF_UNIX" not in line] == []
