"""The server's end, whatever it is in the middle of: clients are told, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import pytest
from echoing import TOKEN, Served, serving

from ondevice.package import Package

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
LONG = {"messages": [{"role": "user", "content": f"«{'so on, ' * 700}»"}], "max_tokens": 5000}
WITHIN_S = 8.0


def ask(url: str, said: list[httpx2.Response]) -> threading.Thread:
    def run() -> None:
        said.append(httpx2.post(f"{url}/chat/completions", json=LONG, headers=AUTHORIZED))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(so: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_ending(answer: httpx2.Response) -> bool:
    return answer.status_code == 503 and answer.json()["error"]["code"] == "server_ending"


@pytest.fixture
def server(tiny_package: Package) -> Iterator[Served]:
    with serving(tiny_package, step_s=0.01) as served:
        yield served


def test_an_answer_in_the_making_and_one_in_the_line_are_told(server: Served) -> None:
    said: list[httpx2.Response] = []
    first = ask(server.url, said)
    wait_for(lambda: server.host.turns.busy)
    second = ask(server.url, said)
    wait_for(lambda: server.host.turns.waiting == 1)
    server.host.turns.close()
    for thread in (first, second):
        thread.join(WITHIN_S)
    assert len(said) == 2
    assert all(map(is_ending, said))


def test_a_request_after_the_end_has_begun_is_refused(server: Served) -> None:
    server.host.turns.close()
    answer = httpx2.post(f"{server.url}/chat/completions", json=LONG, headers=AUTHORIZED)
    assert is_ending(answer)


def test_a_stream_ends_with_an_error_and_not_as_if_it_were_whole(server: Served) -> None:
    body = LONG | {"stream": True}
    url = f"{server.url}/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=AUTHORIZED) as answer:
        lines = (line for line in answer.iter_lines() if line)
        for _ in range(3):
            next(lines)
        server.host.turns.close()
        *_, last = lines
    assert "the server is ending" in json.loads(last.removeprefix("data: "))["error"]["message"]


@dataclass
class Command:
    """`ondevice serve`, running."""

    process: subprocess.Popen[str]
    url: str
    token: str
    banner: str


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[Command]:
    made = subprocess.Popen(
        [sys.executable, "-m", "ondevice", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    assert made.stderr is not None
    try:
        banner = ""
        for line in made.stderr:
            banner += line
            if "Ctrl-C" in line:
                break
        url = re.search(r"OPENAI_BASE_URL=(\S+)", banner)
        token = re.search(r"OPENAI_API_KEY=(\S+)", banner)
        assert url and token, banner
        yield Command(made, url[1], token[1], banner)
    finally:
        made.kill()
        made.wait(10)
        made.stderr.close()


def test_the_banner_is_all_that_a_client_needs(tiny_package: Package) -> None:
    with command(str(tiny_package.folder), ONDEVICE_TOKEN="") as served:
        assert tiny_package.manifest.name in served.banner
        assert "Nothing leaves it" in served.banner
        headers = {"Authorization": f"Bearer {served.token}"}
        listed = httpx2.get(f"{served.url}/models", headers=headers).json()
        assert [one["id"] for one in listed["data"]] == [tiny_package.manifest.name]


def test_a_token_that_was_given_is_asked_for_and_not_shown(tiny_package: Package) -> None:
    with command(str(tiny_package.folder), ONDEVICE_TOKEN=TOKEN) as served:
        assert TOKEN not in served.banner
        assert httpx2.get(f"{served.url}/models", headers=AUTHORIZED).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be caught")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_in_time(tiny_package: Package, number: signal.Signals) -> None:
    with command(str(tiny_package.folder), ONDEVICE_TOKEN=TOKEN) as served:
        body = {"prompt": "a", "max_tokens": 1_000_000, "stream": True}
        url = f"{served.url}/completions"
        with httpx2.stream("POST", url, json=body, headers=AUTHORIZED) as answer:
            next(answer.iter_lines())
            served.process.send_signal(number)
            assert served.process.wait(WITHIN_S) == 0
