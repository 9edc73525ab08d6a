"""The faults on this machine: budget, log, off-switch, breaker, killed and competing processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from benchmarks.fault_cases import ONCE, PLENTY
from benchmarks.faults import LOCAL, MOST_TOKENS, QUESTION, Result, Setup, Shown, show, warm
from benchmarks.faulty import TEXT, Faulty, Peer, Seen
from ondevice.runtime.cloud.breaker import Breaker
from ondevice.runtime.cloud.client import Purpose
from ondevice.runtime.cloud.ledger import Caps

BREAKER_S = 0.01
CHILD_S = 60.0
Check = Callable[[Path], tuple[Shown, list[str], float, float]]


def local(name: str, check: Check) -> Callable[[], Result]:
    """A case of this file: `check` gives what is shown, problems, the delay and its bound (s)."""

    def attempt() -> Result:
        with tempfile.TemporaryDirectory() as folder:
            shown, problems, delay, bound = check(Path(folder))
        if shown.text != (TEXT if shown.source == "cloud" else LOCAL):
            problems.append(f"shows {shown.text[:60]!r}")
        outcome = shown.failure or "answered"
        return Result(name, outcome, not problems, delay, bound, "; ".join(problems))

    attempt.__name__ = name
    return attempt


def timed(action: Callable[[], Shown]) -> tuple[Shown, float]:
    """What is shown, and how long it took (s)."""
    start = time.perf_counter()
    shown = action()
    return shown, time.perf_counter() - start


def refused(kind: str, shown: Shown, seen: Seen) -> list[str]:
    """Problems of a call that must send nothing."""
    problems = [] if shown.failure == kind else [f"ended in {shown.failure!r}, not in {kind}"]
    if seen.connections or seen.bytes:
        problems.append(f"{seen.connections} connections, {seen.bytes} bytes left")
    return problems


def switched_off(folder: Path) -> tuple[Shown, list[str], float, float]:
    setup = Setup(folder)
    setup.switched_on = False
    with Faulty() as server:
        shown, delay = timed(lambda: show(setup.client(server.base_url)))
        return shown, refused("disabled", shown, server.seen), delay, 0.05


def restricted(folder: Path) -> tuple[Shown, list[str], float, float]:
    purpose = Purpose("faults", data_class="restricted")
    with Faulty() as server:
        client = Setup(folder).client(server.base_url)
        shown, delay = timed(lambda: show(client, purpose=purpose))
        return shown, refused("restricted", shown, server.seen), delay, 0.05


def over_budget(folder: Path) -> tuple[Shown, list[str], float, float]:
    setup = Setup(folder, Caps(per_day_usd=0.000001))
    with Faulty() as server:
        shown, delay = timed(lambda: show(setup.client(server.base_url)))
        return shown, refused("budget", shown, server.seen), delay, 0.25


def unpriced(folder: Path) -> tuple[Shown, list[str], float, float]:
    setup = Setup(folder)
    (folder / "prices.toml").write_text("", encoding="utf-8")
    with (
        Faulty() as server,
        patch("ondevice.runtime.cloud.endpoint.Endpoint.is_loopback", property(lambda self: False)),
    ):
        setup.prices = type(setup.prices)(folder / "prices.toml")
        client = setup.client(server.base_url, plain_http=True)
        shown, delay = timed(lambda: show(client))
        return shown, refused("unknown-price", shown, server.seen), delay, 0.25


def missing_key(folder: Path) -> tuple[Shown, list[str], float, float]:
    with Faulty() as server:
        client = Setup(folder).client(server.base_url, key="NO_SUCH_KEY")
        shown, delay = timed(lambda: show(client))
        return shown, refused("auth", shown, server.seen), delay, 0.5


def damaged_ledger(folder: Path) -> tuple[Shown, list[str], float, float]:
    (folder / "ledger.sqlite").write_bytes(b"no database at all" * 99)
    with Faulty() as server:
        shown, delay = timed(lambda: show(Setup(folder).client(server.base_url)))
        return shown, refused("ledger", shown, server.seen), delay, 0.25


def no_log(folder: Path) -> tuple[Shown, list[str], float, float]:
    """Nothing may leave that the log would not show; a connection says nothing."""
    setup = Setup(folder)
    (folder / "audit.jsonl").mkdir()
    with Faulty() as server:
        client = setup.client(server.base_url)
        warm(client)
        shown, delay = timed(lambda: show(client))
        problems = [] if shown.failure == "audit" else [f"ended in {shown.failure!r}"]
        problems += ["bytes left without a log"] if server.seen.bytes else []
        problems += ["money was counted"] if setup.spent_nano() else []
        return shown, problems, delay, 0.25


def breaker_open(folder: Path) -> tuple[Shown, list[str], float, float]:
    setup = Setup(folder)
    with Faulty(lambda peer: peer.error(500)) as server:
        client = setup.client(server.base_url, ONCE, breaker=Breaker(failures=2))
        for _ in range(2):
            show(client)
        before = server.seen.connections
        delays = []
        for _ in range(5):
            shown, delay = timed(lambda: show(client))
            delays.append(delay)
        problems = [] if shown.failure == "breaker-open" else [f"ended in {shown.failure!r}"]
        problems += ["it was asked" if server.seen.connections != before else ""]
        late = ["slower than 10 ms"] if min(delays) > BREAKER_S else []
        return shown, [p for p in problems + late if p], min(delays), BREAKER_S


def half_open(folder: Path) -> tuple[Shown, list[str], float, float]:
    """After its rest one call goes out, the others are refused, and a good one closes it."""
    setup = Setup(folder)

    def slow(peer: Peer) -> None:
        time.sleep(0.3)
        peer.good()

    with Faulty(lambda peer: peer.error(500), slow) as server:
        client = setup.client(server.base_url, PLENTY, breaker=Breaker(1, rest_s=0.2))
        endpoint = client.endpoint
        setup_once = setup.client(endpoint.base_url, ONCE, breaker=client._parts.breaker)
        show(setup_once)
        time.sleep(0.25)
        outcomes: list[Shown] = []
        threads = [threading.Thread(target=lambda: outcomes.append(show(client))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kinds = sorted(one.failure or "answered" for one in outcomes)
        right = kinds == ["answered"] + ["breaker-open"] * 3
        problems = [] if right else [f"outcomes {kinds}"]
        shown, delay = timed(lambda: show(client))
        return shown, problems, delay, PLENTY.first_token_s


def cancelled(folder: Path) -> tuple[Shown, list[str], float, float]:
    setup = Setup(folder)
    with Faulty(Peer.silence) as server:
        client = setup.client(server.base_url, PLENTY)
        warm(client)
        stop = time.perf_counter() + 0.2
        shown, delay = timed(lambda: show(client, should_stop=lambda: time.perf_counter() > stop))
        problems = [] if shown.failure == "cancelled" else [f"ended in {shown.failure!r}"]
        problems += ["a reservation stays open"] if setup.open() else []
        return shown, problems, delay, 0.3


def clock_jumps(folder: Path) -> tuple[Shown, list[str], float, float]:
    """The time of day goes a year forth and back while the answer comes."""
    setup = Setup(folder)
    real, jump = time.time, [0.0]

    def slow(peer: Peer) -> None:
        peer.begin("Grüße ", "aus ")
        jump[0] = 365 * 86_400.0
        time.sleep(0.1)
        peer.text("Köln ")
        jump[0] = -365 * 86_400.0
        time.sleep(0.1)
        peer.text("🙂")
        peer.end()

    with Faulty(slow) as server, patch("time.time", lambda: real() + jump[0]):
        client = setup.client(server.base_url, PLENTY)
        shown, delay = timed(lambda: show(client))
        problems = [] if shown.source == "cloud" else [f"ended in {shown.failure}"]
        problems += ["a reservation stays open"] if setup.open() else []
        return shown, problems, delay, PLENTY.total_s


_CHILD = """
import sys
from pathlib import Path
sys.path.append({root!r})
from benchmarks.fault_cases import PLENTY
from benchmarks.faults import Caps, Setup, show
from ondevice.runtime.cloud.endpoint import Deadlines
setup = Setup(Path({folder!r}), Caps(per_day_usd={cap!r}))
client = setup.client({url!r}, Deadlines(5, 50, 50, 50, 0))
for _ in range({count}):
    print(show(client).failure or "answered", flush=True)
"""


def child(folder: Path, url: str, *, cap: float = 1.0, count: int = 1) -> subprocess.Popen[str]:
    """Another process that asks on the same ledger."""
    root = str(Path(__file__).parents[1])
    code = _CHILD.format(root=root, folder=str(folder), url=url, cap=cap, count=count)
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )


def killed(folder: Path) -> tuple[Shown, list[str], float, float]:
    """A process is killed between its reservation and its settlement."""
    setup = Setup(folder)
    with Faulty(Peer.silence, Peer.good) as server:
        process = child(folder, server.base_url)
        end = time.perf_counter() + CHILD_S
        while not server.seen.requests and time.perf_counter() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
        problems = [] if setup.open() == 1 else ["nothing was reserved before sending"]
        client = setup.client(server.base_url, PLENTY)
        warm(client)
        shown, delay = timed(lambda: show(client))
        states = [entry.state for entry in setup.ledger.entries()]
        if states != ["recovered", "settled"]:
            problems.append(f"the ledger has {states}")
        first = setup.ledger.entries()[0]
        if first.spent_nano != first.reserved_nano or not first.estimated:
            problems.append("the killed call is not counted at its worst case")
        return shown, problems, delay, PLENTY.first_token_s


def two_processes(folder: Path) -> tuple[Shown, list[str], float, float]:
    """Two processes and this one share a budget that holds a few calls only."""
    setup = Setup(folder)

    def full(peer: Peer) -> None:
        peer.begin(*["x "] * MOST_TOKENS)
        peer.end(usage={"prompt_tokens": 7, "completion_tokens": MOST_TOKENS})

    with Faulty(full) as server:
        client = setup.client(server.base_url)
        worst = client.preview(QUESTION, max_tokens=MOST_TOKENS).worst_cost_usd
        cap = worst * 2.2
        setup.ledger.caps = Caps(per_day_usd=cap)
        children = [child(folder, server.base_url, cap=cap, count=12) for _ in range(2)]
        said = [process.communicate()[0].split() for process in children]
        shown, delay = timed(lambda: show(setup.client(server.base_url)))
        while shown.source == "cloud":
            shown, delay = timed(lambda: show(setup.client(server.base_url)))
        outcomes = [word for words in said for word in words]
        problems = []
        if set(outcomes) - {"answered", "budget"} or shown.failure != "budget":
            problems.append(f"outcomes {sorted(set(outcomes))} and {shown.failure}")
        if setup.spent_nano() > cap * 1e9:
            problems.append("more was spent than the cap allows")
        billed = server.seen.prompt_tokens * 1000 + server.seen.output_tokens * 4000
        if setup.spent_nano() != billed:
            problems.append("the ledger does not equal what the endpoint bills")
        settled = sum(entry.state == "settled" for entry in setup.ledger.entries())
        if settled != len(server.seen.requests):
            problems.append(f"{settled} calls settled, {len(server.seen.requests)} sent")
        return shown, problems, delay, 0.25


LOCAL_CASES: tuple[Callable[[], Result], ...] = (
    local("switched off", switched_off),
    local("restricted data", restricted),
    local("budget used up", over_budget),
    local("model of unknown price", unpriced),
    local("key missing", missing_key),
    local("ledger damaged", damaged_ledger),
    local("log cannot be written", no_log),
    local("breaker open", breaker_open),
    local("breaker half open, four callers", half_open),
    local("cancelled by the caller", cancelled),
    local("the time of day jumps", clock_jumps),
    local("process killed before it settled", killed),
    local("three processes on one budget", two_processes),
)
