"""The soak test, short and against a server whose answers are known; and that it can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from echoing import TOKEN

from benchmarks.soak import distinct_prompts, run
from benchmarks.soak_clients import Counts, Target
from benchmarks.soak_figures import Memory, Plan, Sample, Soak
from ondevice.package import Package
from ondevice.runtime.tokenizer import Tokenizer

TESTS = Path(__file__).parents[1]
PLAN = Plan(clients=12, seconds=3, warm_up_s=0.5)
FINE = Soak(
    PLAN,
    Counts(answered=5, left=5, refused=5),
    Memory(100e6, 101e6, 102e6, 9, 9, 9, 9),
    answered_after=True,
)


@contextmanager
def echo_server(package: Package) -> Iterator[tuple[int, int]]:
    """Port and process id of a server that says what is asked of it."""
    path = os.pathsep.join(str(TESTS / part) for part in ("serve", "runtime"))
    command = [sys.executable, str(TESTS / "serve" / "echoing.py"), str(package.folder)]
    process = subprocess.Popen(
        [*command, "0.002", "2"],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(15)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def answers(count: int) -> dict[str, tuple[str]]:
    texts = {n: f"client {n} alone hears of number {n * 7}" for n in range(count)}
    return {f"say «{text}»": (text,) for text in texts.values()}


def test_crowded_clients_get_their_own_answers_or_are_told_to_wait(tiny_package: Package) -> None:
    with echo_server(tiny_package) as (port, pid):
        soak = run(Target(port, TOKEN, "one", answers(PLAN.clients), 100), pid, PLAN)
    growth = [one for one in soak.problems() if one.startswith("memory grew")]
    assert soak.problems() == growth  # 3 s are too short to judge memory
    assert soak.counts.answered > 5 and soak.counts.left > 0 and soak.counts.refused > 0
    assert "answers that were another's or wrong | 0 |" in soak.table()


def test_another_clients_answer_is_noticed(tiny_package: Package) -> None:
    wrong = {prompt: ("client 99",) for prompt in answers(2)}
    with echo_server(tiny_package) as (port, pid):
        soak = run(Target(port, TOKEN, "one", wrong, 100), pid, replace(PLAN, clients=2, seconds=1))
    assert soak.counts.answered == 0 and soak.counts.wrong_count > 0
    assert not soak.answered_after


def test_the_first_and_the_last_tenth_of_the_memory_are_compared() -> None:
    samples = [Sample(at, 50 if at < 10 else 100 + at // 10, 5, 7) for at in range(110)]
    memory = Memory.of(samples, 10)
    assert (memory.first_rss, memory.last_rss, memory.largest_rss) == (101, 110, 110)
    assert memory.growth == pytest.approx(110 / 101 - 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"memory": replace(FINE.memory, last_rss=106e6)}, "memory grew by 6.0%"),
        ({"counts": replace(FINE.counts, wrong_count=1)}, "another's or wrong"),
        ({"counts": replace(FINE.counts, failed_count=1)}, "1 requests failed"),
        ({"counts": replace(FINE.counts, refused_without_wait=1)}, "without the time to wait"),
        ({"counts": replace(FINE.counts, refused=0)}, "never full"),
        ({"counts": replace(FINE.counts, answered=0)}, "nothing was answered"),
        ({"counts": replace(FINE.counts, left=0)}, "nobody left"),
        ({"answered_after": False}, "does not answer afterwards"),
    ],
)
def test_every_thing_that_must_hold_is_looked_at(change: dict[str, object], problem: str) -> None:
    assert FINE.problems() == []
    (found,) = replace(FINE, **change).problems()  # type: ignore[arg-type]
    assert problem in found


def test_no_two_questions_begin_with_the_same_token(tiny_package: Package) -> None:
    tokenizer = Tokenizer.read(tiny_package.folder / "tokenizer.json")
    prompts = distinct_prompts(tiny_package.folder, 3)
    assert len({tokenizer.encode(prompt)[0] for prompt in prompts}) == 3
    with pytest.raises(SystemExit, match="can be told apart"):
        distinct_prompts(tiny_package.folder, 1000)
