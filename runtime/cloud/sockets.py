"""Connections whose every wait is bounded: name resolution, TCP, TLS, each read and write.

The network backend below the HTTP library. Knows no HTTP; asks a guard before every connection and
every write whether bytes may leave.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar

import httpcore2

from ondevice.errors import CloudError
from ondevice.runtime.cloud.exchange import Wire
from ondevice.runtime.cloud.pace import Pace

T = TypeVar("T")
Address = tuple[socket.AddressFamily, Any]

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", -1)}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


class Backend(httpcore2.NetworkBackend):
    """Opens the connections of one call.

    `guard` raises when no byte may leave; it is asked before the name is resolved, before the
    socket is made and before every write. `announce` is called when there is a connection,
    before the first byte of a request. `wire` counts what was written and read.
    """

    def __init__(
        self,
        pace: Pace,
        guard: Callable[[], None],
        announce: Callable[[], None] = lambda: None,
        wire: Wire | None = None,
    ) -> None:
        self.wire = wire or Wire()
        self._pace = pace
        self._guard = guard
        self._announce = announce

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first address that takes one. Raises `CloudError`."""
        self._guard()
        until = self._pace.connection()
        addresses = resolve(host, port, self._pace, until)
        last: OSError | CloudError | None = None
        for number, address in enumerate(addresses):
            self._guard()
            # Each address has its share, so that a dead one leaves time for the others.
            share = self._pace.left(until) / (len(addresses) - number)
            try:
                return Stream(connect(address, self._pace, until, share), self, until)
            except OSError as error:
                last = error
            except CloudError as error:
                if error.kind != "timeout":
                    raise
                last = error
        if isinstance(last, CloudError):
            raise last
        raise _no_connection(host, port, last) from last

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        """There is no endpoint behind a path."""
        raise CloudError("endpoints are reached by TCP only", "configuration")

    def sleep(self, seconds: float) -> None:
        """The HTTP library retries nothing here."""
        raise CloudError("the HTTP library may not retry by itself", "configuration")

    def wait(self, sock: socket.socket, action: Callable[[], T], until: float | None = None) -> T:
        """Carry out a socket's action, as often as its short timeouts want."""
        while True:
            sock.settimeout(self._pace.slice(until))
            try:
                return action()
            except TimeoutError as error:
                if error.errno:  # the system gave up, not our short wait
                    raise

    def may_write(self, request: bool = False) -> None:
        """Raises when no byte may leave (any more)."""
        self._guard()
        if request and not self.wire.sent:
            self._announce()
            self._guard()  # writing that down takes time


class Stream(httpcore2.NetworkStream):
    """A connected socket, plain or TLS; `until` bounds the handshake."""

    def __init__(self, sock: socket.socket, backend: Backend, until: float) -> None:
        self._sock = sock
        self._backend = backend
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come; empty at the end. Raises `CloudError` "timeout" or "reset"."""
        try:
            data = self._backend.wait(self._sock, lambda: self._sock.recv(max_bytes))
        except OSError as error:
            raise CloudError("the connection broke off", "reset") from error
        self._backend.wire.received += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything. A broken connection is an error of the HTTP library, which then still
        reads what the endpoint had to say."""
        rest = memoryview(buffer)
        while rest:
            self._backend.may_write(request=True)
            try:
                count = self._backend.wait(self._sock, partial(self._sock.send, rest))
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error
            self._backend.wire.sent += count
            rest = rest[count:]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """The same connection, encrypted. Raises `CloudError` "tls" or "timeout"."""
        self._backend.may_write()
        sock: socket.socket = self._sock
        try:
            wrapped = ssl_context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            sock = wrapped
            self._backend.wait(wrapped, wrapped.do_handshake, self._until)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            sock.close()
            raise _no_tls(server_hostname or "", error) from error
        except BaseException:
            sock.close()
            raise
        return Stream(wrapped, self._backend, self._until)

    def get_extra_info(self, info: str) -> Any:
        """What the HTTP library asks of a stream: the TLS object, addresses, the socket."""
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        known: dict[str, Callable[[], Any]] = {
            "client_addr": self._sock.getsockname,
            "server_addr": self._sock.getpeername,
            "socket": lambda: self._sock,
            "is_readable": lambda: False,
        }
        return known[info]() if info in known else None


def connect(address: Address, pace: Pace, until: float, share: float) -> socket.socket:
    """A TCP connection within `share` seconds. Raises `OSError`, or `CloudError` "timeout"."""
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(place)
        if code in _IN_PROGRESS:
            code = _await_connection(sock, pace, until, share)
        if code:
            raise OSError(code, os.strerror(code))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _await_connection(sock: socket.socket, pace: Pace, until: float, share: float) -> int:
    limit = min(until, pace.moment(share))
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while not selector.select(pace.slice(limit)):
            pass
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class _Lookup:
    """One name being resolved by a thread of its own, for all who wait for it."""

    def __init__(self, host: str, port: int) -> None:
        self.done = threading.Event()
        self.found: list[Address] = []
        self.error: OSError | UnicodeError | None = None
        self._place = (host, port)
        threading.Thread(target=self._run, daemon=True, name="resolve").start()

    def _run(self) -> None:
        try:
            for family, _, _, _, place in socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM):
                self.found.append((family, place))
        except (OSError, UnicodeError) as error:
            self.error = error
        finally:
            with _lookups_lock:
                _lookups.pop(self._place, None)
            self.done.set()


_lookups: dict[tuple[str, int], _Lookup] = {}
_lookups_lock = threading.Lock()


def resolve(host: str, port: int, pace: Pace, until: float) -> list[Address]:
    """The addresses of a name. Raises `CloudError` "dns", or "timeout" for a silent resolver.

    The system's resolver cannot be interrupted: a lookup that takes too long is left to end by
    itself, and whoever asks for the same name meanwhile waits for that one.
    """
    literal = _literal(host, port)
    if literal is not None:
        return [literal]
    with _lookups_lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = _Lookup(host, port)
    while not lookup.done.wait(pace.slice(until)):
        pass
    if lookup.error is not None or not lookup.found:
        raise CloudError(
            f"the name {host} cannot be resolved; check the address or the connection", "dns"
        ) from lookup.error
    return lookup.found


def _literal(host: str, port: int) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, 0)


def _no_connection(host: str, port: int, error: OSError | None) -> CloudError:
    code = error.errno if error is not None else None
    if code in _NO_ROUTE:
        return CloudError(f"there is no route to {host}; check the connection", "no-route")
    if isinstance(error, ConnectionRefusedError):
        return CloudError(f"{host} refuses connections on port {port}", "refused")
    return CloudError(f"no connection to {host} port {port}: {error}", "reset")


def _no_tls(host: str, error: Exception) -> CloudError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CloudError(
            f"the certificate of {host} cannot be trusted ({error.verify_message}); a portal "
            "may stand in between, or give its authority as ca_file",
            "tls",
        )
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return CloudError(f"{host} does not speak TLS as it should", "tls")
    return CloudError(f"{host} broke the connection off during the TLS handshake", "reset")
