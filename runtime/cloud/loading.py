"""Loads the HTTP library and the certificates in a thread, so that a deadline holds for it too."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from functools import cache

from ondevice.errors import CloudError
from ondevice.runtime.cloud.endpoint import Endpoint


class Loading:
    """Begins at once, in a thread of its own; opens no connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._done = threading.Event()
        self._context: ssl.SSLContext | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="load-cloud", daemon=True).start()

    def context(self, wait_s: Callable[[], float]) -> ssl.SSLContext | None:
        """What certificates are checked with; None for an endpoint without TLS.

        `wait_s` gives the next wait in seconds, and raises when there is no time left. Raises
        `CloudError` when the library is missing or the certificates cannot be read, and of kind
        "not-ready" when there was no time to load them, which says nothing of the endpoint.
        """
        try:
            while not self._done.is_set():
                self._done.wait(wait_s())
        except CloudError as error:
            if error.kind != "timeout":
                raise
            message = "the HTTP library was not loaded in time; ask again, or allow more time"
            raise CloudError(message, "not-ready") from error
        if isinstance(self._error, ImportError):
            raise CloudError(
                f"the cloud client needs {self._error.name}; install ondevice[cloud]",
                "configuration",
            ) from self._error
        if self._error is not None:
            raise self._error
        return self._context

    def _run(self) -> None:
        try:
            _rehearse()
            from ondevice.runtime.cloud.transport import tls_context

            self._context = tls_context(self._endpoint)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()


@cache
def _rehearse() -> None:
    """Once in a process, an exchange in memory: the SDK loads much of itself only when used."""
    import httpx2
    import openai
    import psutil  # noqa: F401 - for the ledger

    event = b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    reply = httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=event)
    transport = httpx2.MockTransport(lambda request: reply)
    with (
        httpx2.Client(transport=transport, trust_env=False) as http,
        openai.OpenAI(api_key="none", base_url="http://127.0.0.1/v1", http_client=http) as client,
    ):
        events = client.chat.completions.create(
            model="x", messages=[{"role": "user", "content": "x"}], stream=True
        )
        for _ in events:
            pass
