"""The whole way with two real models: 0.5B here, 1.5B behind an endpoint on loopback.

Asks part of the test split through the fallback with the calibration of `benchmarks/fallback.py`,
and compares with the recorded answers, and the ledger with what the endpoint counted. Both models
run on this machine at once, so times are those of a busy machine. From the repository's root:

    python -m benchmarks.pair --items 100 --json pair.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import ondevice
from benchmarks.common import print_json
from benchmarks.endpoint import Endpoint as Server
from benchmarks.endpoint import serve
from benchmarks.fallback_data import LARGE, PRICED_AS, REAL, SET, SMALL, Answers, load
from benchmarks.fallback_figures import PROBE, calibrations, thresholds
from ondevice import files
from ondevice.runtime.answer import Options
from ondevice.runtime.cloud.audit import AuditLog
from ondevice.runtime.cloud.client import CloudClient
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.ledger import Ledger
from ondevice.runtime.cloud.prices import Prices, cost
from ondevice.runtime.cloud.redact import Redactor
from ondevice.runtime.cloud.switch import Switch
from ondevice.runtime.confidence.calibration import calibration_key
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.checkers import judge
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.fallback.reply import Reply

PATIENT = Deadlines(connect_s=10, first_token_s=120, between_tokens_s=60, total_s=300)


@dataclass(frozen=True)
class Pair:
    """What came of `items` questions; money in nano-USD, times in seconds."""

    items: int
    threshold: float
    local_share: float
    right: float
    recorded_right: float
    same_text_device: float
    same_text_cloud: float
    failed: int
    ledger_nano: int
    endpoint_nano: int
    median_local_s: float
    median_cloud_s: float
    median_decision_ms: float


def chosen(examples: Sequence[Example], items: int) -> list[Example]:
    """Evenly from the whole split, so that families and tiers are all there."""
    places = np.linspace(0, len(examples) - 1, min(items, len(examples))).round().astype(int)
    return [examples[place] for place in dict.fromkeys(places.tolist())]


def client_of(server: Server, ledger: Ledger, folder: Path) -> CloudClient:
    """A client with a log and prices of its own."""
    price = Prices().find(PRICED_AS)
    table = folder / "prices.toml"
    table.write_text(
        f'[models."{LARGE}"]\ninput = {price.input_per_million}\n'
        f'output = {price.output_per_million}\nsource = "as {PRICED_AS}"\n',
        encoding="utf-8",
    )
    return CloudClient(
        Endpoint("pair", server.base_url, LARGE, deadlines=PATIENT),
        switch=Switch(lambda: True),
        ledger=ledger,
        prices=Prices(table),
        audit=AuditLog(folder / "audit.jsonl"),
        keys=Keys(environ={}, keychain=None),
        redactor=Redactor(),
    )


def run(answers: Answers, items: int, threads: int) -> Pair:
    """Ask, and compare."""
    made = calibrations(answers.small["train"], answers.small["threshold"])
    level = thresholds(made, answers, REAL)[PROBE]
    asked = chosen(answers.examples["test"], items)
    with (
        tempfile.TemporaryDirectory() as name,
        ondevice.load(SMALL, threads=threads, context_length=2048) as small,
        ondevice.load(LARGE, threads=threads, context_length=2048) as large,
        serve(large) as server,
    ):
        assert small.package is not None
        keyed = replace(made[PROBE], key=calibration_key(small.package, Options()))
        ledger = Ledger(Path(name) / "ledger.sqlite")
        client = client_of(server, ledger, Path(name))
        policy = Policy(consent="always", endpoint=client.endpoint, threshold=level)
        fallback = Fallback(small, policy, cloud=client, calibration=keyed)
        replies = [_ask(fallback, example) for example in asked]
        price = Prices(Path(name) / "prices.toml").find(LARGE)
        counted = cost(price, server.counts.prompt_tokens, server.counts.output_tokens)
        spent = sum(entry.counted_nano for entry in ledger.entries())
    return _summary(answers, asked, replies, level, spent, counted)


def _ask(fallback: Fallback, example: Example) -> Reply:
    options = Options(max_tokens=example.max_tokens)
    return fallback.answer(example.prompt, options, system=example.system)


def _summary(
    answers: Answers,
    asked: Sequence[Example],
    replies: Sequence[Reply],
    level: float,
    spent: int,
    counted: int,
) -> Pair:
    small = {record.id: record for record in answers.records["test"]}
    large = {record.id: record for record in records.read(SET / "answers" / "large.jsonl.gz")}
    local = [reply.source == "device" for reply in replies]
    pairs = list(zip(asked, replies, strict=True))
    recorded = [(small if r.source == "device" else large)[e.id].right for e, r in pairs]
    device = [r.text == small[e.id].text for e, r in pairs if r.source == "device"]
    cloud = [r.text == large[e.id].text for e, r in pairs if r.source == "cloud"]
    seconds = [r.cloud.latency_s for r in replies if r.cloud is not None]
    drafts = [r.local.timings.ttft + r.local.timings.decode for r in replies if r.local]
    return Pair(
        items=len(asked),
        threshold=level,
        local_share=_mean(local),
        right=_mean([judge(e.check, r.text).right for e, r in pairs]),
        recorded_right=_mean(recorded),
        same_text_device=_mean(device),
        same_text_cloud=_mean(cloud),
        failed=sum(r.escalation == "failed" for r in replies),
        ledger_nano=spent,
        endpoint_nano=counted,
        median_local_s=statistics.median(drafts),
        median_cloud_s=statistics.median(seconds) if seconds else 0.0,
        median_decision_ms=statistics.median(r.decision_s for r in replies) * 1e3,
    )


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    found = asdict(run(load(), options.items, options.threads))
    print_json(found)
    if options.json:
        files.write_text(options.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
