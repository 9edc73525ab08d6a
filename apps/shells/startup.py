"""Measures the time from a shell's start to the first token on its screen, and writes a table.

    python apps/shells/startup.py [MODEL] [--runs N]

"none" is this script reading the sidecar itself: what is left is the shell's own cost. Runs of all
shells take turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from building import SHELLS, BuildFailed, NotHere
from cases import chat
from driver import Talk, environment

QUESTION = chat("Say hello.", max_tokens=2)


def through(shell: list[str], sidecar: list[str]) -> tuple[float, float]:
    """Seconds until the first token, and the shell's own memory then in MiB."""
    begin = time.perf_counter()
    with Talk(shell, sidecar) as talk:
        talk.request("a", "chat", QUESTION)
        talk.wait("a")
        talk.until("token", "a")
        seconds = time.perf_counter() - begin
        memory = psutil.Process(talk.pid).memory_info().rss / 2**20
        talk.over("a")
        talk.finish()
    return seconds, memory


def directly(sidecar: list[str]) -> tuple[float, float]:
    """The same without a shell; no memory."""
    initialize = {"protocol": 1, "client": {"name": "startup.py", "version": "1"}}
    begin = time.perf_counter()
    with subprocess.Popen(
        sidecar, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(_frame(1, "initialize", initialize) + _frame(2, "chat", QUESTION))
        process.stdin.flush()
        while b"$/token" not in (line := process.stdout.readline()):
            if not line:
                raise SystemExit("the sidecar ended before its first token")
        seconds = time.perf_counter() - begin
        process.kill()
    return seconds, 0.0


def _frame(id: int, method: str, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a pulled model or a package folder")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args(arguments)
    sidecar = [sys.executable, "-m", "ondevice", "stdio", *([given.model] if given.model else [])]
    with tempfile.TemporaryDirectory() as build:
        ways: dict[str, Callable[[], tuple[float, float]]] = {"none": partial(directly, sidecar)}
        for shell in SHELLS:
            try:
                command = shell.build(Path(build) / shell.name)
            except (NotHere, BuildFailed) as reason:
                print(f"{shell.name}: {reason}", file=sys.stderr)
                continue
            ways[shell.name] = partial(through, command, sidecar)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for run in range(given.runs + 1):
            for name, way in ways.items():
                once = way()
                if run:  # the first warms the disk's cache
                    measured[name].append(once)
    print(_table(measured))
    return 0


def _table(measured: dict[str, list[tuple[float, float]]]) -> str:
    lines = ["| shell | first token: fastest (s) | median (s) | memory of the shell (MiB) |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, runs in measured.items():
        seconds = [s for s, _ in runs]
        memory = statistics.median(m for _, m in runs)
        lines.append(
            f"| {name} | {min(seconds):.2f} | {statistics.median(seconds):.2f} | {memory:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
