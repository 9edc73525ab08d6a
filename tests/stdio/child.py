"""A server as a child, and the client at its other end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.stdio.stdio_client import WAIT, Client

COMMAND = [sys.executable, "-P", "-m", "ondevice", "stdio"]
SCRIPTED = [sys.executable, "-P", str(Path(__file__).with_name("scripted_server.py"))]


class Process:
    """One of them; what it says on stderr is kept."""

    def __init__(self, command: list[str], home: Path, read: bool = True) -> None:
        to_server, from_server = os.pipe(), os.pipe()
        self.stderr = home / "stderr.txt"
        with self.stderr.open("wb") as stderr:
            self.child = subprocess.Popen(
                command,
                stdin=to_server[0],
                stdout=from_server[1],
                stderr=stderr,
                env=os.environ | {"ONDEVICE_HOME": str(home)},
            )
        os.close(to_server[0])
        os.close(from_server[1])
        self.client = Client(to_server[1], from_server[0], read)

    def ended(self, timeout: float = WAIT) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        code = self.child.wait(timeout)
        return code, self.stderr.read_text(encoding="utf-8").strip()

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self.client.close()


Start = Callable[..., Process]
