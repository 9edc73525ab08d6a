"""A server in a thread of this process, and the client at its other end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ondevice.host import Host
from ondevice.stdio.process import End, Pipes, serve
from tests.stdio.stdio_client import WAIT, Client

Connect = Callable[[Host], "Connection"]


class Connection:
    """A server in a thread of this process, and the client at its other end."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.end: End | None = None
        to_server, from_server = os.pipe(), os.pipe()
        self._pipes = Pipes(to_server[0], from_server[1], os.getppid())
        self.client = Client(to_server[1], from_server[0])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait(self) -> End:
        """Why it ended."""
        self._thread.join(WAIT)
        assert self.end is not None, "the server goes on"
        return self.end

    def close(self) -> None:
        self.client.close_input()
        self._thread.join(WAIT)
        self.client.close()
        self.host.close()

    def _serve(self) -> None:
        self.end = serve(self.host, self._pipes)
        os.close(self._pipes.outgoing)
        os.close(self._pipes.incoming)
