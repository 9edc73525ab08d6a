"""50 clients at once: memory stays flat, answers stay apart, a full line is told.

Clients ask in streams and whole, some read slowly, some leave in mid-answer or while they wait.
Every client has a question of its own, whose answer is known from the runtime in this process.
From the repository's root, on a machine with a model:

    python -m benchmarks.soak smollm2-135m-instruct --json soak.json

Ends with 1 when something is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import ondevice
from benchmarks.common import print_json
from benchmarks.sidecar import serving
from benchmarks.soak_clients import Client, Counts, Target
from benchmarks.soak_figures import Memory, Plan, Sample, Soak
from ondevice import files, store
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.device import fingerprint

QUEUE = 8
WORDS = (
    "Apple Bread City Dog Energy Fire Gold House Ice Jump King Light Moon Night Ocean Paper Queen "
    "River Stone Train Unit Village Water Year Zero Art Book Cat Day Earth Friend Game Home Idea "
    "Job Key Life Music Name Order Plan Question Road School Time User Value World Young Zone Air "
    "Body Car Door East Food Green Hand Island Journey Land Money North Office Power Red South "
    "Table Under Voice West"
)
_EVERY_S = 0.5  # between two looks at the server's memory


def run(target: Target, pid: int, plan: Plan) -> Soak:
    """Let the clients loose on a server and watch its process."""
    return asyncio.run(_run(target, pid, plan))


async def _run(target: Target, pid: int, plan: Plan) -> Soak:
    counts = Counts()
    end = time.monotonic() + plan.warm_up_s + plan.seconds
    clients = [Client(target, number, plan.seed, counts) for number in range(plan.clients)]
    working = [asyncio.create_task(client.work(until=end)) for client in clients]
    samples = await _watch(pid, plan)
    await asyncio.gather(*working)
    answered_after = await Client(target, 0, plan.seed, Counts()).answers()
    return Soak(plan, counts, Memory.of(samples, plan.warm_up_s), answered_after)


async def _watch(pid: int, plan: Plan) -> list[Sample]:
    """Memory, threads and open files of the server, from the start of the soak to its end."""
    import psutil

    process = psutil.Process(pid)
    start = time.monotonic()
    samples = []
    while (now := time.monotonic() - start) < plan.warm_up_s + plan.seconds:
        with process.oneshot():
            rss, threads = process.memory_info().rss, process.num_threads()
            samples.append(Sample(now, rss, threads, _open_files(process)))
        await asyncio.sleep(min(_EVERY_S, plan.seconds / 20))
    return samples


def _open_files(process: object) -> int:
    count = getattr(process, "num_fds", None) or getattr(process, "num_handles", None)
    return int(count()) if count is not None else 0


def expected_answers(
    package: Path, prompts: Sequence[str], max_tokens: int
) -> dict[str, tuple[str, str]]:
    """What the runtime in this process says to each of two or more prompts: after another one,
    and after itself.

    These can differ: a prompt that is in the KV cache already is computed in other pieces, which
    rounds otherwise.
    """
    options = Options(max_tokens=max_tokens)
    with ondevice.load(package) as model:

        def answer(prompt: str, most: Options = options) -> str:
            return model.generate([Message("user", prompt)], most).text

        answer(prompts[-1], Options(max_tokens=1))
        return {prompt: (answer(prompt), answer(prompt)) for prompt in prompts}


def distinct_prompts(package: Path, count: int) -> list[str]:
    """A question for each client, with a mark of its own.

    No two share more of their tokens than all do, so that the KV cache helps each one as much
    whichever came before.
    """
    from ondevice.runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer.read(package / "tokenizer.json")
    by_token = {tokenizer.encode(word)[0]: word for word in reversed(WORDS.split())}
    words = list(reversed(by_token.values()))[:count]
    if len(words) < count:
        raise SystemExit(f"at most {len(words)} clients can be told apart with this tokenizer")
    return [f"{word}. Write one sentence about this word." for word in words]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("package", help="name or folder")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--warm-up", type=float, default=30, help="seconds before memory counts")
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result here too")
    options = parser.parse_args(arguments)
    plan = Plan(options.clients, options.seconds, options.warm_up, options.seed)
    folder = store.find(options.package).folder
    print("asking every question in this process first", file=sys.stderr)
    known = expected_answers(folder, distinct_prompts(folder, plan.clients), options.max_tokens)
    with serving(folder, ["--queue", str(QUEUE)]) as server:
        target = Target(server.port, server.token, "", known, options.max_tokens)
        soak = run(target, server.pid, plan)
    result = soak.as_json() | {"device": asdict(fingerprint())}
    print_json(result)
    print(soak.table())
    if options.json is not None:
        files.write_text(options.json, json.dumps(result, indent=2) + "\n")
    return 1 if soak.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
