"""HTTP/1.1 as uvicorn speaks it, but a connection that asks for nothing is closed after a while.

Knows nothing of bodies; `ondevice.serve.security` times those. Imports uvicorn.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0  # in which the head of a request has to be here, from its first byte on


class PatientProtocol(H11Protocol):
    """Ends connections whose request's head does not come in `HEAD_S`.

    uvicorn itself times only the silence between two requests, so that a client could keep any
    number of connections by sending a byte now and then, or none at all.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: its first request is awaited from now on."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """More of a request, or the beginning of the next."""
        if self._deadline is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()
        super().data_received(data)

    def handle_events(self) -> None:
        """Take what is whole; a new request ends the wait for its head."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._head_came()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._head_came()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
