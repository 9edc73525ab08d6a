"""Every fault once against a real socket: does the caller still get a usable, labelled answer?

The caller here keeps a local answer, asks, and shows either that one or the endpoint's, whole.
Measured are the time that asking added where it failed, and the ledger against what the endpoint
would bill. Run as `python -m benchmarks.faults`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # after the installed package

from benchmarks.common import print_json
from benchmarks.fault_cases import CASES, Case
from benchmarks.fault_places import Place
from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.cloud.audit import AuditLog
from ondevice.runtime.cloud.breaker import Breaker
from ondevice.runtime.cloud.client import CloudAnswer, CloudClient, Purpose
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.ledger import Caps, Ledger
from ondevice.runtime.cloud.prices import Prices
from ondevice.runtime.cloud.switch import Switch

LOCAL = "the answer of the device"
QUESTION = [Message("user", "A long question. " * 40)]
MOST_TOKENS = 32
INPUT_USD, OUTPUT_USD = 1, 4  # per million tokens of the model "faulty"
SLACK_S = 0.1
TRIES = 3  # of the time only: the machine may be busy with something else


@dataclass(frozen=True)
class Shown:
    """What the caller shows: a text, whose it is, and why not the endpoint's."""

    text: str
    source: str
    failure: str


@dataclass(frozen=True)
class Result:
    """One fault: `outcome` is "answered" or the kind of failure; times in seconds."""

    name: str
    outcome: str
    survived: bool
    delay_s: float
    bound_s: float
    problem: str = ""


class EmptyKeychain:
    """A keychain without a key; the machine's own is none of a benchmark's business."""

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        """Forgets it."""

    def delete_password(self, service: str, username: str) -> None:
        """There is none."""


class Setup:
    """A client with a ledger, prices and a log of its own in a folder."""

    def __init__(self, folder: Path, caps: Caps = Caps(per_day_usd=1.0)) -> None:
        self.folder = folder
        self.switched_on = True
        prices = folder / "prices.toml"
        prices.write_text(
            f'[models.faulty]\ninput = {INPUT_USD}\noutput = {OUTPUT_USD}\nsource = "made up"\n',
            encoding="utf-8",
        )
        self.prices = Prices(prices)
        self.ledger = Ledger(folder / "ledger.sqlite", caps)
        self.audit = AuditLog(folder / "audit.jsonl")

    def client(self, base_url: str, deadlines: Deadlines = Deadlines(), **more: Any) -> CloudClient:
        """A client of an endpoint at this address."""
        breaker: Breaker | None = more.pop("breaker", None)
        endpoint = Endpoint("faulty", base_url, "faulty", deadlines=deadlines, **more)
        return CloudClient(
            endpoint,
            switch=Switch(lambda: self.switched_on),
            ledger=self.ledger,
            prices=self.prices,
            audit=self.audit,
            keys=Keys(environ={}, keychain=EmptyKeychain),
            breaker=breaker,
        )

    def spent_nano(self) -> int:
        """What the ledger counts in all, open reservations too."""
        return sum(entry.counted_nano for entry in self.ledger.entries())

    def open(self) -> int:
        """Reservations that nobody has closed."""
        return sum(entry.state == "open" for entry in self.ledger.entries())


def show(
    client: CloudClient, local: str = LOCAL, purpose: Purpose = Purpose("faults"), **more: Any
) -> Shown:
    """The endpoint's answer, or the local one with the reason; as a fallback does it."""
    try:
        answer: CloudAnswer = client.ask(QUESTION, max_tokens=MOST_TOKENS, purpose=purpose, **more)
    except CloudError as error:
        return Shown(local, "device", error.kind)
    label = "" if answer.finish_reason == "stop" else answer.finish_reason
    return Shown(answer.text, "cloud", label)


def try_case(case: Case, slack_s: float = SLACK_S) -> Result:
    """One case; where only the time was too long, it is tried again."""
    result = _once(case, slack_s)
    for _ in range(TRIES - 1):
        if result.survived or result.problem != _LATE:
            break
        result = _once(case, slack_s)
    return result


_LATE = "it took longer than its deadline allows"


def _once(case: Case, slack_s: float) -> Result:
    with tempfile.TemporaryDirectory() as name, case.open(Path(name)) as place:
        setup = Setup(Path(name))
        client = setup.client(place.base_url, case.deadlines, **case.more, **place.more)
        warm(client)
        start = time.perf_counter()
        shown = show(client)
        delay = time.perf_counter() - start
        problems = _problems(case, shown, setup, place)
    if shown.source == "device" and delay > case.bound + slack_s:
        problems.append(_LATE)
    outcome = shown.failure or "answered"
    return Result(case.name, outcome, not problems, delay, case.bound, "; ".join(problems))


def warm(client: CloudClient) -> None:
    """The HTTP library is loaded once in a process, and not what is measured here."""
    client.warm()
    client._ready().context(lambda: 30.0)


def _problems(case: Case, shown: Shown, setup: Setup, place: Place) -> list[str]:
    """What is wrong with an outcome; empty when it is as it should be."""
    found = []
    if case.kinds and shown.failure not in case.kinds:
        found.append(f"ended in {shown.failure or 'an answer'}, not in {' or '.join(case.kinds)}")
    if not case.kinds and shown.source != "cloud":
        found.append(f"was not answered but ended in {shown.failure}")
    if shown.text != (case.text if shown.source == "cloud" else LOCAL):
        found.append(f"shows {shown.text[:60]!r}, which is nobody's whole answer")
    if setup.open():
        found.append("a reservation stays open")
    if any(seen.bytes or seen.connections for seen in place.untouched):
        found.append("another machine got something")
    if place.seen is not None:
        billed = place.seen.prompt_tokens * INPUT_USD + place.seen.output_tokens * OUTPUT_USD
        if setup.spent_nano() < billed * 1000:
            found.append("the ledger has less than the endpoint bills")
        if len(place.seen.requests) > 1 + case.deadlines.retries:
            found.append(f"{len(place.seen.requests)} requests were sent")
    last = setup.audit.read().events[-1:]
    if not last or last[0].event not in ("answered", "failed"):
        found.append("the log does not say how it ended")
    return found


def run(
    cases: Sequence[Case] = CASES, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """All faults, those of the endpoint and those on this machine."""
    from benchmarks.fault_local import LOCAL_CASES

    results = []
    tries = [lambda case=case: try_case(case) for case in cases]
    for attempt in [*tries, *LOCAL_CASES]:
        result = attempt()
        results.append(replace(result, delay_s=round(result.delay_s, 4)))
        mark = "ok  " if result.survived else "FAIL"
        progress(f"{mark} {result.name}: {result.outcome}, {result.delay_s:.3f} s {result.problem}")
    failed = [one for one in results if one.outcome != "answered"]
    return {
        "faults_survived": sum(one.survived for one in results),
        "faults_tried": len(results),
        "worst_excess_s": round(max(one.delay_s - one.bound_s for one in failed), 4),
        "faults": [asdict(one) for one in results],
    }


def main() -> None:
    """Run all and print the result as JSON."""
    print_json(run(progress=lambda line: print(line, file=sys.stderr)))


if __name__ == "__main__":
    main()
