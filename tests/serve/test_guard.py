"""The guard around every route: cookies for the page, limits by path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from echoing import TOKEN
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ondevice.host import Host
from ondevice.serve import security
from ondevice.serve.app import create_app
from ondevice.serve.listening import Server, bind


async def page(request: Request) -> Response:
    return JSONResponse({"page": True})


async def upload(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def broken(request: Request) -> Response:
    raise KeyError("secret")


ROUTES = [
    Route("/", page),
    Route("/app/conversations/1/documents", upload, methods=["POST"]),
    Route("/app/other", upload, methods=["POST"]),
    Route("/app/broken", broken),
]


@contextmanager
def guarded() -> Iterator[tuple[httpx2.Client, int]]:
    listening = bind(0)
    port = listening.getsockname()[1]
    app = create_app(Host([]), token=TOKEN, port=port, extra_routes=ROUTES)
    with Server(app, listening) as server:
        server.start()
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client, port


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[httpx2.Client, int]]:
    with guarded() as pair:
        yield pair


@pytest.fixture
def client(served: tuple[httpx2.Client, int]) -> httpx2.Client:
    served[0].cookies.clear()
    return served[0]


@pytest.fixture
def port(served: tuple[httpx2.Client, int]) -> int:
    return served[1]


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def test_routes_of_the_desktop_are_guarded_too(client: httpx2.Client) -> None:
    assert client.get("/").status_code == 401
    assert client.post("/app/other").status_code == 401
    assert client.get("/", headers=AUTHORIZED).json() == {"page": True}


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_cannot_read(
    client: httpx2.Client, port: int
) -> None:
    welcome = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert welcome.status_code == 303
    assert welcome.headers["location"] == "/"
    assert welcome.headers["referrer-policy"] == "no-referrer"
    cookie = welcome.headers["set-cookie"].lower()
    assert f"ondevice-{port}={TOKEN}" in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "domain" not in cookie
    assert client.get("/").json() == {"page": True}


def test_a_wrong_token_in_the_address_gets_no_cookie(client: httpx2.Client) -> None:
    for query in ("token=wrong", "token=", f"Token={TOKEN}", f"x={TOKEN}"):
        answer = client.get(f"/?{query}", follow_redirects=False)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_cookies_of_other_servers_on_this_machine_are_no_hindrance(
    client: httpx2.Client, port: int
) -> None:
    others = ['a={"b":1,"c":[2]}', "novalue", 'q="x;y"', "=", "über=1", f"ondevice-{port + 1}=z"]
    jar = "; ".join([*others, f"ondevice-{port}={TOKEN}", "last={"]).encode("latin-1")
    assert client.get("/", headers=[(b"cookie", jar)]).json() == {"page": True}


def test_a_cookie_does_not_help_another_origin(client: httpx2.Client, port: int) -> None:
    cookie = {"Cookie": f"ondevice-{port}={TOKEN}"}
    near = {"Origin": f"http://127.0.0.1:{port + 1}"}
    assert client.post("/app/other", headers=cookie).status_code == 200
    assert client.post("/app/other", headers=cookie | near).status_code == 403
    site = {"Sec-Fetch-Site": "same-site"}
    assert client.post("/app/other", headers=cookie | site).status_code == 403


def test_documents_may_be_larger_than_requests(client: httpx2.Client) -> None:
    body = b"x" * (security.LARGEST_BODY + 1)
    path = "/app/conversations/1/documents"
    assert client.post(path, content=body, headers=AUTHORIZED).json() == {"bytes": len(body)}
    refused = client.post("/app/other", content=body, headers=AUTHORIZED)
    assert refused.status_code == 413
    assert "16 MiB" in refused.json()["error"]["message"]


def test_a_bug_is_told_without_its_details(client: httpx2.Client) -> None:
    answer = client.get("/app/broken", headers=AUTHORIZED)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "KeyError" in answer.json()["error"]["message"]
    assert "secret" not in answer.text
