"""What /metrics counts, and that it never holds what was asked or said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from echoing import TOKEN, Served, serving
from prometheus_client.parser import text_string_to_metric_families

from ondevice.package import Package

Counts = dict[tuple[str, ...], float]


@pytest.fixture
def server(tiny_package: Package) -> Iterator[Served]:
    with serving(tiny_package, queue=0) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=20) as made:
        yield made


def counts(client: httpx2.Client) -> Counts:
    """Values by name and labels."""
    text = client.get("/../metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(client: httpx2.Client, text: str, **more: Any) -> httpx2.Response:
    body = {"messages": [{"role": "user", "content": text}], **more}
    return client.post("chat/completions", json=body)


def test_answers_are_counted_with_their_tokens_and_times(client: httpx2.Client) -> None:
    usage = ask(client, "«yes»").json()["usage"]
    ask(client, "«yes»", stream=True)
    ask(client, "«a longer one»", model="two", max_tokens=2)
    found = counts(client)
    assert found["ondevice_answers_total", "stop", "one", "device"] == 2
    assert found["ondevice_answers_total", "length", "two", "device"] == 1
    assert found["ondevice_requests_total", "/v1/chat/completions", "200"] == 3
    assert found["ondevice_prompt_tokens_total",] > 2 * usage["prompt_tokens"]
    assert found["ondevice_output_tokens_total",] == 2 * usage["completion_tokens"] + 2
    assert found["ondevice_ttft_seconds_count",] == 3
    assert found["ondevice_models_loaded",] == 1
    assert found["ondevice_cancelled_total",] == 0


def test_what_is_refused_is_counted_by_its_status(client: httpx2.Client) -> None:
    assert ask(client, "«yes»", n=2).status_code == 400
    assert ask(client, "«yes»", model="three").status_code == 404
    assert ask(client, "x" * 20_000).status_code == 400
    found = counts(client)
    assert found["ondevice_requests_total", "/v1/chat/completions", "400"] == 2
    assert found["ondevice_requests_total", "/v1/chat/completions", "404"] == 1
    assert found["ondevice_refused_total", "error"] == 1  # the one that came to the model


def test_a_full_line_is_counted_and_the_one_answer_in_the_making_shown(
    client: httpx2.Client, server: Served
) -> None:
    server.echo.may_go_on.clear()
    first = threading.Thread(target=lambda: ask(client, "«yes»"))
    first.start()
    while not server.host.turns.busy:
        first.join(0.01)
    assert ask(client, "«no»").status_code == 429
    found = counts(client)
    assert found["ondevice_busy",] == 1
    assert found["ondevice_refused_total", "queue_full"] == 1
    server.echo.may_go_on.set()
    first.join(20)
    assert server.idle()
    assert counts(client)["ondevice_busy",] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_counted_once(
    client: httpx2.Client, server: Served, stream: bool
) -> None:
    server.echo.step_s = 0.02
    body = {"messages": [{"role": "user", "content": f"«{'so on, ' * 700}»"}], "max_tokens": 5000}
    url = "chat/completions"
    if stream:
        with client.stream("POST", url, json=body | {"stream": True}) as answer:
            next(answer.iter_lines())
    else:
        with pytest.raises(httpx2.TimeoutException):
            client.post(url, json=body, timeout=0.3)
    assert server.idle()
    server.echo.step_s = 0.0
    ask(client, "«yes»")
    found = counts(client)
    assert found["ondevice_cancelled_total",] == 1
    assert found["ondevice_answers_total", "stop", "one", "device"] == 1


def test_nothing_of_what_was_said_is_in_it(client: httpx2.Client) -> None:
    ask(client, "a secret «another»")
    client.post("/../secret/path", json={"secret": 1})
    text = client.get("/../metrics").text
    assert "secret" not in text
    assert "another" not in text


def test_two_servers_count_for_themselves(tiny_package: Package, client: httpx2.Client) -> None:
    ask(client, "«yes»")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving(tiny_package) as other,
        httpx2.Client(base_url=other.url, headers=headers) as second,
    ):
        assert counts(second)["ondevice_output_tokens_total",] == 0
