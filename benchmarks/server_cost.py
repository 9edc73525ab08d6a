"""What the server adds to an answer: TTFT and decode beside the runtime in this process.

Both have the same package, threads and prompts and take turns (A B B A) in one run; the server is
a process of its own. Times are those of the reader: until the first text, and from there to the
end by token. Every prompt begins with a number of its own, so that no KV cache helps.
From the repository's root, on a quiet machine:

    python -m benchmarks.server_cost smollm2-135m-instruct --json server_cost.json

Ends with 1 when the server costs more than 5 ms of TTFT or 3% of decode.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import ondevice
from benchmarks.common import print_json
from benchmarks.sidecar import Sidecar, serving
from benchmarks.speed import wait_until_quiet
from ondevice import files, store
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.device import fingerprint
from ondevice.runtime.load import check_load
from ondevice.runtime.model import Model

MOST_TTFT_MS = 5.0
MOST_DECODE = 0.03
WARM_UPS = 3
PAUSE_S = 0.3  # onnxruntime's threads spin on after an answer, at the cost of who comes next
_TEXT = "Tell me a long story about a lighthouse, its keeper, and the ships that pass by it. "


@dataclass(frozen=True)
class Times:
    """One answer as its reader sees it: ms to the first text, then ms by token; and the text."""

    ttft_ms: float
    token_ms: float
    tokens: int
    text: str


Ask = Callable[[str], Times]


@dataclass(frozen=True)
class Spread:
    """Median with the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, digits: int = 2, unit: str = "") -> str:
        """For a table."""
        low, median, high = (f"{v:.{digits}f}" for v in (self.low, self.median, self.high))
        return f"{median}{unit} ({low} to {high})"


@dataclass(frozen=True)
class Cost:
    """The figures; `added_*` are of pairs that ran one after the other on the same prompt."""

    rounds: int
    prompt_tokens: int
    output_tokens: int
    threads: int
    runtime_ttft_ms: Spread
    server_ttft_ms: Spread
    added_ttft_ms: Spread
    runtime_token_ms: Spread
    server_token_ms: Spread
    added_decode: Spread
    same_text: bool

    def problems(self) -> list[str]:
        """What is not as it must be."""
        ttft, decode = self.added_ttft_ms.median, self.added_decode.median
        found = {
            f"TTFT: {ttft:.2f} ms more, above {MOST_TTFT_MS:.0f} ms": ttft > MOST_TTFT_MS,
            f"decode: {decode:.1%} more, above {MOST_DECODE:.0%}": decode > MOST_DECODE,
            "the server's text differs": not self.same_text,
        }
        return [what for what, is_so in found.items() if is_so]

    def table(self) -> str:
        """For a page, in Markdown."""
        percent = Spread(*(value * 100 for value in asdict(self.added_decode).values()))
        rows = [
            "| median (quartiles) | runtime | server | added |",
            "|---|---|---|---|",
            f"| TTFT, ms | {self.runtime_ttft_ms.text()} | {self.server_ttft_ms.text()} "
            f"| {self.added_ttft_ms.text()} |",
            f"| decode, ms by token | {self.runtime_token_ms.text()} "
            f"| {self.server_token_ms.text()} | {percent.text(2, '%')} |",
        ]
        return "\n".join([*rows, "", *(f"Problem: {one}" for one in self.problems())])


def measure(runtime: Ask, server: Ask, prompts: Sequence[str]) -> list[tuple[Times, Times]]:
    """Both on every prompt, each first in every other pair; the first `WARM_UPS` are not kept."""
    pairs = []
    for number, prompt in enumerate(prompts):
        print(f"{number + 1}/{len(prompts)}", file=sys.stderr, end="\r")
        first, second = (server, runtime) if number % 2 else (runtime, server)
        one, other = (_after_pause(ask, prompt) for ask in (first, second))
        pairs.append((other, one) if number % 2 else (one, other))
    return pairs[WARM_UPS:]


def _after_pause(ask: Ask, prompt: str) -> Times:
    time.sleep(PAUSE_S)
    return ask(prompt)


def cost(pairs: Sequence[tuple[Times, Times]], prompt_tokens: int, threads: int) -> Cost:
    """The figures of all pairs."""
    ours, theirs = zip(*pairs, strict=True)
    return Cost(
        len(pairs),
        prompt_tokens,
        round(statistics.median(one.tokens for one in ours)),
        threads,
        Spread.of([one.ttft_ms for one in ours]),
        Spread.of([one.ttft_ms for one in theirs]),
        Spread.of([b.ttft_ms - a.ttft_ms for a, b in pairs]),
        Spread.of([one.token_ms for one in ours]),
        Spread.of([one.token_ms for one in theirs]),
        Spread.of([b.token_ms / a.token_ms - 1 for a, b in pairs]),
        all(a.text == b.text for a, b in pairs),
    )


def in_process(model: Model, max_tokens: int) -> Ask:
    """Answers of a model in this process."""

    def ask(prompt: str) -> Times:
        start = time.perf_counter()
        with model.stream([Message("user", prompt)], Options(max_tokens=max_tokens)) as stream:
            first = 0.0
            for piece in stream:
                if piece.text and not first:
                    first = time.perf_counter()
        end = time.perf_counter()
        return _times(start, first, end, len(stream.answer.tokens), stream.answer.text)

    return ask


def over_http(server: Sidecar, max_tokens: int) -> Ask:
    """Answers of a server, streamed over one connection that stays open."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=300)

    def ask(prompt: str) -> Times:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        start = time.perf_counter()
        data = json.dumps(body)
        connection.request("POST", "/v1/chat/completions", data, server.headers)
        text, first, end, tokens = "", 0.0, 0.0, 0
        for event in _events(connection):
            for choice in event["choices"]:
                said = choice["delta"].get("content") or ""
                if said and not first:
                    first = time.perf_counter()
                if choice["finish_reason"]:
                    end = time.perf_counter()
                text += said
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
        return _times(start, first, end, tokens, text)

    return ask


def _events(connection: HTTPConnection) -> Iterator[dict[str, Any]]:
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"the server answered {answer.status}: {answer.read()[:300]!r}")
    for line in answer:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def _times(start: float, first: float, end: float, tokens: int, text: str) -> Times:
    token_ms = (end - first) * 1e3 / max(1, tokens - 1)
    return Times((first - start) * 1e3, token_ms, tokens, text)


def _prompt(number: int, repeats: int) -> str:
    """Different from its first word on."""
    return f"{number}{number + 7}{number * 3} times: {_TEXT * repeats}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("package", help="name or folder")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3, help="how often the prompt's text stands")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result here too")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args(arguments)
    wait_until_quiet(options.busy)
    load = check_load()
    folder = store.find(options.package).folder
    prompts = [_prompt(n, options.repeats) for n in range(options.rounds + WARM_UPS)]
    threads = str(options.threads)
    with (
        ondevice.load(folder, threads=options.threads) as model,
        serving(folder, ["--threads", threads]) as server,
    ):
        runtime = in_process(model, options.max_tokens)
        pairs = measure(runtime, over_http(server, options.max_tokens), prompts)
        tokens = len(model.prepare([Message("user", prompts[-1])]).tokens)
    result = cost(pairs, tokens, options.threads)
    device = fingerprint()
    whole = asdict(result) | {
        "package": folder.name,
        "problems": result.problems(),
        "device": asdict(device),
        "load": asdict(load),
    }
    print_json(whole)
    print(f"\n{device.cpu}, {', '.join(device.instruction_sets)}; {folder.name}\n")
    print(result.table())
    if options.json is not None:
        files.write_text(options.json, json.dumps(whole, indent=2) + "\n")
    return 1 if result.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
