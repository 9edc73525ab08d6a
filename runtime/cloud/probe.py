"""A short connect to an endpoint: TCP and, where it has one, TLS; nothing is sent over it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.request import getproxies, proxy_bypass

from ondevice.runtime.clock import Clock
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.loading import Loading
from ondevice.runtime.cloud.pace import Pace


def connect(endpoint: Endpoint, guard: Callable[[], None], loading: Loading, clock: Clock) -> None:
    """Connect and hang up within `connect_s`. Raises `CloudError` when that cannot be done."""
    longest = endpoint.deadlines.connect_s
    pace = Pace(Deadlines(longest, longest, longest, longest), clock=clock)
    context = loading.context(pace.slice)
    from ondevice.runtime.cloud.sockets import Backend

    stream = Backend(pace, guard).connect_tcp(endpoint.host, endpoint.port)
    try:
        if context is not None:
            stream = stream.start_tls(context, endpoint.host)
    finally:
        stream.close()


def proxy_of(endpoint: Endpoint) -> str:
    """The proxy that the environment declares for an endpoint that takes it; else ""."""
    if not endpoint.trust_env or proxy_bypass(endpoint.host):
        return ""
    return getproxies().get("https" if endpoint.encrypted else "http", "")
