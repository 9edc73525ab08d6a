"""Another web page, another program: what a browser would send for them is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
from echoing import TOKEN, Served

BODY = {"model": "one", "messages": [{"role": "user", "content": "say «secret»"}]}
PATHS = ("/v1/models", "/v1/models/one", "/metrics", "/openapi.json", "/nothing", "/")
POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")


@pytest.fixture
def client(server: Served) -> Iterator[httpx2.Client]:
    url = f"http://127.0.0.1:{server.port}"
    with httpx2.Client(base_url=url, timeout=10) as made:
        yield made


def authorized(**more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"Authorization": f"Bearer {TOKEN}", **named}


def refused(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in answer.text
    not_for_pages(answer)


def not_for_pages(answer: httpx2.Response) -> None:
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Cookie": f"ondevice={TOKEN}"},
        {"Cookie": f"ondevice-1={TOKEN}"},
        {"X-Api-Key": TOKEN},
    ],
    ids=str,
)
def test_without_the_token_nothing_is_told(
    client: httpx2.Client, path: str, headers: dict[str, str]
) -> None:
    answer = client.get(path, headers=headers)
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", POSTS)
def test_without_the_token_nothing_is_answered(client: httpx2.Client, path: str) -> None:
    refused(client.post(path, json=BODY), 401)


def test_a_token_in_the_address_is_none(client: httpx2.Client) -> None:
    refused(client.get(f"/v1/models?token={TOKEN}"), 401)
    refused(client.post(f"/?token={TOKEN}", json=BODY), 401)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost:3000",
        "http://127.0.0.1:{port}.evil.example",
        "null",
        "",
        "file://",
        "chrome-extension://abc",
    ],
)
def test_a_page_of_another_origin_is_refused_even_with_the_token(
    client: httpx2.Client, server: Served, origin: str
) -> None:
    headers = authorized(Origin=origin.format(port=server.port))
    refused(client.get("/v1/models", headers=headers), 403)
    refused(client.post("/v1/chat/completions", json=BODY, headers=headers), 403)
    refused(client.get("/health", headers=headers), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_a_browser_made_for_another_site_is_refused(
    client: httpx2.Client, site: str
) -> None:
    refused(client.get("/v1/models", headers=authorized(Sec_Fetch_Site=site)), 403)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost:{port}.evil.example",
        "0.0.0.0:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "user@127.0.0.1:{port}",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(
    client: httpx2.Client, server: Served, host: str
) -> None:
    headers = authorized(Host=host.format(port=server.port))
    for path in ("/v1/models", "/health", f"/?token={TOKEN}"):
        refused(client.get(path, headers=headers), 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_our_own_names_are_answered(client: httpx2.Client, server: Served, host: str) -> None:
    answer = client.get("/v1/models", headers=authorized(Host=f"{host}:{server.port}"))
    assert answer.status_code == 200
    not_for_pages(answer)


def test_a_preflight_is_refused(client: httpx2.Client) -> None:
    asked = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    refused(client.options("/v1/chat/completions", headers=asked), 403)
    asked.pop("Origin")
    refused(client.options("/v1/chat/completions", headers=asked), 401)
    answer = client.options("/v1/chat/completions", headers=asked | authorized())
    refused(answer, 405)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_what_a_form_can_send_is_no_request(client: httpx2.Client, kind: str) -> None:
    data = json.dumps(BODY).encode()
    headers = authorized(Content_Type=kind)
    refused(client.post("/v1/chat/completions", content=data, headers=headers), 400)


def test_an_upgrade_to_a_socket_is_refused(client: httpx2.Client) -> None:
    headers = authorized(
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
    )
    assert client.get("/v1/models", headers=headers).status_code != 101


def test_health_needs_no_token_and_tells_nothing_else(client: httpx2.Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    not_for_pages(answer)
