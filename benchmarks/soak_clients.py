"""The clients of the soak test: patient, slow, and those that leave."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2

_PATIENCE_S = 120.0  # longer than any answer may take, the wait in the line included
_LONGEST_REST_S = 2.0

KINDS = {"stream": 30, "whole": 20, "slow": 15, "leaves": 20, "gives up": 15}  # by weight


@dataclass(frozen=True)
class Target:
    """The server, and what it may answer to each prompt; one prompt for each client."""

    port: int
    token: str
    model: str
    answers: Mapping[str, Sequence[str]]
    max_tokens: int


@dataclass
class Counts:
    """What came of all requests. `wrong` and `failed` keep the first few as they were."""

    answered: int = 0
    left: int = 0
    refused: int = 0
    refused_without_wait: int = 0
    wrong_count: int = 0
    failed_count: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add_wrong(self, what: str) -> None:
        """An answer that is not this client's."""
        self.wrong_count += 1
        self.wrong += [what] if len(self.wrong) < 5 else []

    def add_failed(self, what: str) -> None:
        """A request that ended as none should."""
        self.failed_count += 1
        self.failed += [what] if len(self.failed) < 5 else []


class Client:
    """One client, which asks the same question over and over in different ways."""

    def __init__(self, target: Target, number: int, seed: int, counts: Counts) -> None:
        self._target = target
        self._random = random.Random(f"{seed}-{number}")
        self._counts = counts
        prompts = list(target.answers)
        self._prompt = prompts[number % len(prompts)]
        self._expected = target.answers[self._prompt]

    async def work(self, until: float) -> None:
        """Ask until then, on the clock of `time.monotonic`."""
        kinds, weights = list(KINDS), list(KINDS.values())
        async with self._http() as http:
            while time.monotonic() < until:
                (kind,) = self._random.choices(kinds, weights)
                await self._once(http, kind)

    async def answers(self) -> bool:
        """Whether one plain question is answered as it must be."""
        async with self._http() as http:
            await self._once(http, "whole")
        return self._counts.answered == 1 and not self._counts.wrong_count

    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self._target.port}",
            headers={"Authorization": f"Bearer {self._target.token}"},
            timeout=_PATIENCE_S,
            trust_env=False,
        )

    async def _once(self, http: httpx2.AsyncClient, kind: str) -> None:
        patience = self._random.uniform(0.05, 1.0) if kind == "gives up" else _PATIENCE_S
        try:
            async with asyncio.timeout(patience):
                await self._ask(http, kind)
        except TimeoutError:
            if kind == "gives up":
                self._counts.left += 1
            else:
                self._counts.add_failed(f"{kind}: no end within {_PATIENCE_S} s")
        except httpx2.HTTPError as error:
            self._counts.add_failed(f"{kind}: {type(error).__name__}: {error}")

    async def _ask(self, http: httpx2.AsyncClient, kind: str) -> None:
        body = {
            "model": self._target.model,
            "messages": [{"role": "user", "content": self._prompt}],
            "max_tokens": self._target.max_tokens,
            "stream": kind != "whole",
        }
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(
                http.stream("POST", "/v1/chat/completions", json=body)
            )
            if answer.status_code == 429:
                await stack.aclose()
                await self._rest(answer)
            elif answer.status_code != 200:
                self._counts.add_failed(f"{kind}: status {answer.status_code}")
            elif kind == "whole":
                self._check_whole(json.loads(await answer.aread()))
            else:
                await self._read(answer, kind)

    async def _rest(self, answer: httpx2.Response) -> None:
        """The line is full: wait as told, but not for long, so that it stays full."""
        self._counts.refused += 1
        wait = answer.headers.get("retry-after", "")
        if not wait.isdecimal() or int(wait) < 1:
            self._counts.refused_without_wait += 1
        most = min(_LONGEST_REST_S, float(wait) if wait.isdecimal() else _LONGEST_REST_S)
        await asyncio.sleep(self._random.uniform(0.1, most))

    def _check_whole(self, body: dict[str, Any]) -> None:
        text = body["choices"][0]["message"]["content"]
        if text in self._expected:
            self._counts.answered += 1
        else:
            self._counts.add_wrong(f"{self._prompt!r} was answered with {text!r}")

    async def _read(self, answer: httpx2.Response, kind: str) -> None:
        parts = self._random.randint(1, 20) if kind == "leaves" else None
        text, ended, count = "", False, 0
        async for event in _events(answer):
            if event is None:
                ended = True
                break
            if "error" in event:
                self._counts.add_failed(f"{kind}: {event['error']}")
                return
            text += event["choices"][0]["delta"].get("content") or ""
            count += 1
            if count == parts:
                break
            if kind == "slow":
                await asyncio.sleep(self._random.uniform(0, 0.3))
        self._check(text, ended, left=count == parts, kind=kind)

    def _check(self, text: str, ended: bool, *, left: bool, kind: str) -> None:
        fits = any(one.startswith(text) if left else one == text for one in self._expected)
        if not left and not ended:
            self._counts.add_failed(f"{kind}: the stream broke off after {text!r}")
        elif not fits:
            self._counts.add_wrong(f"{self._prompt!r} was answered with {text!r}")
        elif left:
            self._counts.left += 1
        else:
            self._counts.answered += 1


async def _events(answer: httpx2.Response) -> AsyncIterator[dict[str, Any] | None]:
    """The chunks of a stream; None for its regular end."""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield None if data == "[DONE]" else json.loads(data)
