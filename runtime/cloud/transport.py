"""One HTTP exchange with an endpoint: permitted, bounded in time and size, believed only in part.

Below the official SDK. It sends nothing but what the call needs, follows no redirect, and takes
nothing for an answer that is not an event stream. Knows nothing of what the events mean.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore2
import httpx2

from ondevice.errors import CloudError
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.exchange import Exchange
from ondevice.runtime.cloud.pace import Pace
from ondevice.runtime.cloud.probe import proxy_of
from ondevice.runtime.cloud.sockets import Backend
from ondevice.runtime.cloud.switch import Switch

__all__ = ["Exchange", "Switch", "Transport", "tls_context"]

# What leaves: no header that tells of the machine, and none that the environment added.
SENT_HEADERS = {"host", "content-type", "content-length", "accept", "idempotency-key", "connection"}
MOST_ERROR_BYTES = 64 << 10
DONE = (b"\ndata: [DONE]", b"\ndata:[DONE]")  # a JSON text holds no line end, so no text is one


class Transport(httpx2.BaseTransport):
    """The transport of one attempt, over one connection of its own.

    `most_bytes` bounds the body of an answer. `announce` is given the request's body when
    there is a connection and before the first byte of the request; what it raises stops it.
    Every failure here is a `CloudError`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        switch: Switch,
        request_id: str,
        pace: Pace,
        *,
        key: str,
        context: ssl.SSLContext | None,
        most_bytes: int,
        announce: Callable[[bytes], None],
    ) -> None:
        self.exchange = exchange = Exchange()
        self._endpoint = endpoint
        self._switch = switch
        self._request_id = request_id
        self._key = key
        self._most_bytes = most_bytes
        backend = Backend(pace, self._guard, lambda: announce(exchange.body), exchange.wire)
        self._pool = _pool(endpoint, backend, context)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request; an answer is a 2xx event stream or an error status."""
        self._guard()
        self.exchange.body = request.read()
        with self._spoken("head"):
            response = self._pool.handle_request(self._outgoing(request))
        self.exchange.status = response.status
        headers = httpx2.Headers(response.headers)
        self.exchange.retry_after = headers.get("retry-after")
        body = _Body(response, self)
        try:
            kept = self._judge(response.status, headers, body)
        except BaseException:
            body.close()
            raise
        return httpx2.Response(response.status, headers=kept, stream=body)

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def _guard(self) -> None:
        self._switch.require(self._request_id)

    def _outgoing(self, request: httpx2.Request) -> httpcore2.Request:
        headers = [(n, v) for n, v in request.headers.raw if n.lower().decode() in SENT_HEADERS]
        # No compression: a small body that unpacks to a huge one is then no matter.
        headers += [(b"User-Agent", b"ondevice"), (b"Accept-Encoding", b"identity")]
        if self._key:
            headers.append((b"Authorization", b"Bearer " + self._key.encode()))
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        return httpcore2.Request(request.method, url, headers=headers, content=self.exchange.body)

    def _judge(self, status: int, headers: httpx2.Headers, body: _Body) -> list[tuple[str, str]]:
        """The headers that the SDK may see. Raises `CloudError` for what is no answer."""
        name = self._endpoint.name
        encoded = headers.get("content-encoding", "identity").strip().lower() != "identity"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= status < 400:
            raise CloudError(
                f"{name} redirects to another address ({status}); nothing was sent there: "
                "give the right base_url",
                "redirect",
            )
        if status >= 400:
            body.silent = encoded
            return [("Content-Type", kind or "text/plain")]
        if encoded:
            raise CloudError(f"{name} compressed its answer though not asked to", "malformed")
        if kind in ("text/html", "application/xhtml+xml") or body.starts_with(b"<"):
            raise CloudError(
                f"a web page came instead of an answer of {name}; sign in to this network, or "
                "check base_url",
                "portal",
            )
        if kind != "text/event-stream":
            raise CloudError(
                f"{name} answers {kind or 'without a content type'} instead of an event stream; "
                "check base_url",
                "malformed",
            )
        return [("Content-Type", "text/event-stream")]

    @contextmanager
    def _spoken(self, part: str) -> Iterator[None]:
        """Turn the HTTP library's errors into ours."""
        try:
            yield
        except httpcore2.RemoteProtocolError as error:
            raise self._unheard(part, error) from error
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
            raise CloudError("the connection broke off", "reset") from error
        except (httpcore2.ProtocolError, httpcore2.ProxyError) as error:
            raise CloudError(
                f"{self._endpoint.name} cannot be asked: {error}", "malformed"
            ) from error

    def _unheard(self, part: str, error: Exception) -> CloudError:
        name = self._endpoint.name
        if part == "body":
            return CloudError(f"{name} ended the connection before its answer", "truncated")
        if not self.exchange.wire.received:
            return CloudError(f"{name} closed the connection without an answer", "reset")
        return CloudError(f"{name} does not speak HTTP ({error}); check base_url", "malformed")


class _Body(httpx2.SyncByteStream):
    """The body of an answer: counted, cut off at its limit, its end mark noticed."""

    def __init__(self, response: httpcore2.Response, transport: Transport) -> None:
        self.silent = False  # give none of it on
        self._response = response
        self._transport = transport
        self._chunks = iter(response.stream)  # type: ignore[arg-type]
        self._first: bytes | None = None
        self._tail = b"\n"

    def starts_with(self, mark: bytes) -> bool:
        """Whether the body's first visible byte is this one; reads on until there is one."""
        start = b""
        while not start.lstrip(b" \t\r\n\xef\xbb\xbf") and len(start) < 1024:
            chunk = self._read()
            if chunk is None:
                break
            start += chunk
        self._first = start
        return start.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(mark)

    def __iter__(self) -> Iterator[bytes]:
        if self.silent:
            return
        if self._first:
            yield self._first
        while (chunk := self._read()) is not None:
            yield chunk

    def close(self) -> None:
        """Give the connection up."""
        self._response.close()

    def _read(self) -> bytes | None:
        transport, exchange = self._transport, self._transport.exchange
        with transport._spoken("body"):
            chunk = next(self._chunks, None)
        if chunk is None:
            return None
        exchange.received += len(chunk)
        failed = (exchange.status or 0) >= 400
        most = MOST_ERROR_BYTES if failed else transport._most_bytes
        if exchange.received > most:
            raise CloudError(
                f"the answer has more than {most} bytes, far more than was asked for", "too-large"
            )
        seen = (self._tail + chunk).replace(b"\r", b"\n")
        exchange.done = exchange.done or any(mark in seen for mark in DONE)
        self._tail = seen[-max(map(len, DONE)) :]
        return chunk


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """What an endpoint's certificate is checked with; None for one without TLS.

    Raises `CloudError` for a `ca_file` that cannot be read.
    """
    if not endpoint.encrypted:
        return None
    context = httpx2.create_ssl_context(trust_env=endpoint.trust_env)
    if endpoint.ca_file:
        try:
            context.load_verify_locations(cafile=endpoint.ca_file)
        except (OSError, ValueError) as error:
            raise CloudError(
                f"the certificates in {endpoint.ca_file} cannot be read: {error}", "configuration"
            ) from error
    return context


def _pool(
    endpoint: Endpoint, backend: Backend, context: ssl.SSLContext | None
) -> httpcore2.ConnectionPool:
    proxy = proxy_of(endpoint)
    if not proxy:
        return httpcore2.ConnectionPool(
            ssl_context=context, max_connections=1, network_backend=backend
        )
    declared = httpx2.Proxy(proxy)
    return httpcore2.HTTPProxy(
        proxy_url=str(declared.url),
        proxy_auth=declared.raw_auth,
        ssl_context=context,
        max_connections=1,
        network_backend=backend,
    )
