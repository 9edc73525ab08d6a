"""Who may speak with the server: this machine's own programs that know the token, and no web page.

Pure ASGI, around everything that is served. The Host header stops DNS rebinding; Origin and
Sec-Fetch-Site stop pages of other origins (the same host on another port included, which cookies
do not tell apart); the token stops everybody else on this machine.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ondevice.serve.errors import error_response

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST_BODY = 16 << 20  # bytes
LARGEST_UPLOAD = 64 << 20  # bytes; a document for the desktop
BODY_S = 60  # seconds in which a body has to be here
OPEN = ("/health",)  # paths that need no token


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused."""

    status: int
    message: str
    kind: str


class Guard:
    """ASGI middleware that lets through what may pass.

    `port` is the one listened on. A browser shows the token once, as `GET /?token=...`, and has a
    cookie from then on.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"ondevice-{port}"
        self._hosts = {f"{host}:{port}" for host in LOOPBACK}
        if port == 80:
            self._hosts |= set(LOOPBACK)
        self._addresses = f"this server answers as 127.0.0.1:{port} and localhost:{port} alone"
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._refused(scope) or self._welcomed(scope)
        if answer is not None:
            await answer(scope, receive, send)
            return
        await self._app(scope, _limited(scope, receive), send)

    def _refused(self, scope: Scope) -> Response | None:
        refusal = self._wrong_place(scope) or self._too_large(scope)
        if refusal is None and scope["path"] not in OPEN and not self._shows_token(scope):
            refusal = self._no_token(scope)
        if refusal is None:
            return None
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
        return error_response(refusal.status, refusal.message, kind=refusal.kind, headers=headers)

    def _wrong_place(self, scope: Scope) -> Refusal | None:
        hosts = _header(scope, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Refusal(421, self._addresses, "wrong_host")
        for origin in _header(scope, b"origin"):
            if origin.lower() not in self._origins:
                return Refusal(403, "another web page cannot use this server", "wrong_origin")
        for site in _header(scope, b"sec-fetch-site"):
            if site not in ("same-origin", "none"):
                return Refusal(403, "another web page cannot use this server", "wrong_origin")
        return None

    def _too_large(self, scope: Scope) -> Refusal | None:
        for length in _header(scope, b"content-length"):
            if length.isdecimal() and int(length[:19]) > limit_of(scope["path"]):
                return Refusal(413, _too_large(scope["path"]), "too_large")
        return None

    def _no_token(self, scope: Scope) -> Refusal | None:
        given = [*self._bearers(scope), *self._cookies(scope)]
        if any(self._is_token(one) for one in given):
            return None
        why = "the token is wrong" if given else "a token is needed"
        hint = "send `Authorization: Bearer TOKEN` with the one shown at the start"
        return Refusal(401, f"{why}: {hint}", "invalid_api_key")

    def _bearers(self, scope: Scope) -> Sequence[str]:
        values = (value.partition(" ") for value in _header(scope, b"authorization"))
        return [rest.strip() for scheme, _, rest in values if scheme.lower() == "bearer"]

    def _cookies(self, scope: Scope) -> Sequence[str]:
        # By hand, forgivingly: every server on this host has its cookies in the same header.
        parts = (part for header in _header(scope, b"cookie") for part in header.split(";"))
        pairs = (part.strip().partition("=") for part in parts)
        return [value.strip('"') for name, _, value in pairs if name == self._cookie]

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _shows_token(self, scope: Scope) -> bool:
        if scope["path"] != "/" or scope["method"] != "GET":
            return False
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        return any(name == "token" and self._is_token(value) for name, value in query)

    def _welcomed(self, scope: Scope) -> Response | None:
        """A redirect that takes the token out of the address and leaves it in a cookie."""
        if not self._shows_token(scope):
            return None
        from starlette.responses import RedirectResponse

        response = RedirectResponse("/", status_code=303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def limit_of(path: str) -> int:
    """The largest body that a path takes, bytes."""
    return LARGEST_UPLOAD if path.endswith("/documents") else LARGEST_BODY


def _too_large(path: str) -> str:
    return f"the request is larger than {limit_of(path) >> 20} MiB; send less"


def _limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that ends a body above the limit, whatever its length was said to be, and one
    that takes too long to come."""
    from starlette.exceptions import HTTPException

    room = limit_of(scope["path"])
    until: float | None = asyncio.get_running_loop().time() + BODY_S

    async def limited() -> Message:
        nonlocal room, until
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the request took more than {BODY_S} s to come") from None
        if message["type"] == "http.request":
            room -= len(message.get("body", b""))
            if room < 0:
                raise HTTPException(413, _too_large(scope["path"]))
            until = until if message.get("more_body") else None
        return message

    return limited


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
