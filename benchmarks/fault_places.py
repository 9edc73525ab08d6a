"""Where a client may be sent that finds no good endpoint there, or a way that leads nowhere."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.faulty import Faulty, Peer, Seen


@dataclass
class Place:
    """Where the client is sent: an address, what it differs in, and who counts what arrives."""

    base_url: str
    seen: Seen | None = None
    more: dict[str, Any] = field(default_factory=dict)
    untouched: list[Seen] = field(default_factory=list)  # servers that must get no byte


@contextmanager
def nobody(folder: Path) -> Iterator[Place]:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    yield Place(f"http://127.0.0.1:{port}/v1")


@contextmanager
def black_hole(folder: Path) -> Iterator[Place]:
    """A port whose queue is full: what is sent there is dropped, as behind a silent firewall."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        place = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        yield Place(f"http://127.0.0.1:{place[1]}/v1")


@contextmanager
def silent_port(folder: Path) -> Iterator[Place]:
    """Takes connections and never says anything; TLS is expected."""
    with Faulty(greet=Peer.silence) as server:
        yield Place(f"https://127.0.0.1:{server.port}/v1", server.seen)


def resolver(answer: Callable[..., Any]) -> Callable[[Path], Any]:
    """A place whose name is resolved by `answer` instead of the system."""

    @contextmanager
    def place(folder: Path) -> Iterator[Place]:
        with patch("ondevice.runtime.cloud.sockets.socket.getaddrinfo", answer):
            yield Place("https://cloud.invalid/v1")

    return place


def no_such_name(*args: Any, **more: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def slow_name(*args: Any, **more: Any) -> Any:
    time.sleep(1.5)
    return no_such_name()


def certified(
    trusted: bool, name: str, scheme: str = "https", hesitates_s: float = 0.0
) -> Callable[[Path], Any]:
    """A server with a certificate for `name`, of an authority the client trusts or not.

    `hesitates_s`: how long it waits before it shakes hands, s.
    """

    @contextmanager
    def place(folder: Path) -> Iterator[Place]:
        import trustme

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        file = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(file))
        with Faulty(
            Peer.good, context=context, greet=lambda peer: time.sleep(hesitates_s)
        ) as server:
            more = {"ca_file": str(file)} if trusted else {}
            yield Place(f"{scheme}://127.0.0.1:{server.port}/v1", server.seen, more)

    return place


@contextmanager
def plain_port(folder: Path) -> Iterator[Place]:
    """An HTTP server without TLS where TLS is expected."""

    def complain(peer: Peer) -> None:
        peer.sock.recv(4096)
        peer.error(400)

    with Faulty(greet=complain) as server:
        yield Place(f"https://127.0.0.1:{server.port}/v1", server.seen)


def redirect(status: int) -> Callable[[Path], Any]:
    """A redirect to another origin, which must get nothing."""

    @contextmanager
    def place(folder: Path) -> Iterator[Place]:
        with Faulty(Peer.good) as other:
            target = f"{other.base_url}/chat/completions"
            with Faulty(lambda peer: peer.answer(status, "", Location=target)) as server:
                yield Place(server.base_url, server.seen, untouched=[other.seen])

    return place


def greeting(data: bytes, ends: bool = False) -> Callable[[Path], Any]:
    """A service that speaks first, and not HTTP; `ends`: it hangs up on what it is told."""

    def listen(peer: Peer) -> None:
        if not ends:
            peer.silence()

    @contextmanager
    def place(folder: Path) -> Iterator[Place]:
        with Faulty(listen, greet=lambda peer: peer.send(data)) as server:
            yield Place(server.base_url, server.seen)

    return place
