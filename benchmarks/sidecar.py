"""`ondevice serve` as a process of its own, for the measurements of the server."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
END_S = 15.0


@dataclass(frozen=True)
class Sidecar:
    """A server that runs on loopback."""

    port: int
    token: str
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}


@contextmanager
def serving(package: Path, options: Sequence[str] = ()) -> Iterator[Sidecar]:
    """A server of one package on a free port, ended afterwards."""
    token = secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "ondevice", "serve", str(package), "--port", "0", *options]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            env=os.environ | {"ONDEVICE_TOKEN": token, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            yield Sidecar(_port(process, said.fileno()), token, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: subprocess.Popen[bytes], said: int) -> int:
    """The port, as soon as the server has told it."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        text = os.pread(said, 1 << 20, 0).decode("utf-8", "replace")
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", text)
        if found is not None:
            return int(found.group(1))
        if process.poll() is not None:
            raise SystemExit(f"the server ended at once: {text}")
        time.sleep(0.05)
    raise SystemExit("the server did not say where it listens")
