"""The server in a thread of its own: a socket that is bound before, a clean end.

Knows nothing about what is served.
"""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

from ondevice.closing import Closing
from ondevice.errors import OndeviceError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_START_S = 20.0
_END_S = 10.0
_KEEP_ALIVE_S = 75  # longer than clients keep a connection: none is closed as it is used again
_MOST_CONNECTIONS = 512  # half of the files that a process may have open on most systems


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises `OndeviceError`."""
    # Named as TCP, or asyncio would not switch Nagle's algorithm off: tokens would wait 40 ms.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise OndeviceError(
                f"port {port} is in use by another program; choose another --port, or 0 for a "
                "free one"
            ) from error
        raise OndeviceError(f"cannot listen on port {port}: {error}") from error
    return made


class Server(Closing):
    """An application on a socket, running until closed."""

    def __init__(self, app: ASGIApp, listening: socket.socket) -> None:
        import uvicorn

        from ondevice.serve.patience import PatientProtocol

        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,  # the page polls and its token is in an address: it would keep both
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._socket = listening
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._started = threading.Event()
        self._problem: BaseException | None = None

    def start(self) -> None:
        """Serve; returns when the first request can come."""
        self._thread.start()
        waited = 0.0
        while not self._server.started and self._thread.is_alive() and waited < _START_S:
            self._thread.join(0.01)
            waited += 0.01
        if not self._server.started:
            raise OndeviceError(f"the server did not start: {self._problem or 'no reason given'}")

    def close(self) -> None:
        """End the server; answers on their way are cut off after 2 s."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_END_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:
            self._problem = error
