"""What leaves the device where nothing may, and what is spent where nothing may be: counted.

A socket that counts connections and bytes stands in for the endpoint; every case wants the cloud
as strongly as it can. Two cases are allowed to send, so that the count is known to work.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from benchmarks.faults import INPUT_USD, OUTPUT_USD, Setup, show
from benchmarks.faulty import Faulty, Peer
from ondevice.runtime.cloud.ledger import Caps
from ondevice.runtime.fallback.fallback import Fallback, Wish
from ondevice.runtime.fallback.policy import Consent, Policy
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine
from ondevice.runtime.tokenizer import Tokenizer

WORDS = 12  # of a bought answer


@dataclass(frozen=True)
class Case:
    """One way to ask for the cloud, and what stands against it."""

    name: str
    consent: Consent = "always"
    data_class: str = ""
    switched_on: bool = True
    agree: bool | None = None  # what the person says when asked; None: nobody can be asked
    wish: Wish = "cloud"
    may_send: bool = False


CASES = (
    Case("consent never", consent="never"),
    Case("consent ask, declined", consent="ask", agree=False),
    Case("consent ask, nobody to ask", consent="ask"),
    Case("consent session, declined", consent="session", agree=False),
    Case("restricted data", data_class="restricted"),
    Case("restricted data, agreed to", consent="ask", agree=True, data_class="restricted"),
    Case("off-switch", switched_on=False),
    Case("off-switch, agreed to", consent="ask", agree=True, switched_on=False),
    Case("uncalibrated, not asked for", wish="none"),
    Case("told to stay on the device", wish="device"),
    Case("allowed", may_send=True),
    Case("agreed to", consent="ask", agree=True, may_send=True),
)


@dataclass(frozen=True)
class Outcome:
    """What reached the socket, and who answered."""

    name: str
    connections: int
    bytes: int
    source: str
    escalation: str
    may_send: bool


def try_case(case: Case) -> Outcome:
    """One question asked under one case."""
    with tempfile.TemporaryDirectory() as folder, Faulty(Peer.good) as server:
        setup = Setup(Path(folder))
        setup.switched_on = case.switched_on
        client = setup.client(server.base_url)
        policy = Policy(consent=case.consent, endpoint=client.endpoint)
        fallback = Fallback(_small(), policy, cloud=client)
        agree = case.agree
        consent = None if agree is None else (lambda _: agree)
        reply = fallback.answer(
            "What is it?", data_class=case.data_class, wish=case.wish, consent=consent
        )
        seen = server.seen
        return Outcome(
            case.name, seen.connections, seen.bytes, reply.source, reply.escalation, case.may_send
        )


@dataclass(frozen=True)
class Spending:
    """Calls under a cap: nano-USD, and what the endpoint itself counted."""

    cap_nano: int
    spent_nano: int
    endpoint_nano: int
    answered: int
    refused: int


def spend(calls: int = 60, cap_usd: float = 2e-3) -> Spending:
    """Buy answers until long after the cap is reached."""

    def answer(peer: Peer) -> None:
        peer.begin()
        peer.text(*["x "] * WORDS)
        peer.end(usage={"prompt_tokens": 7, "completion_tokens": WORDS})

    with tempfile.TemporaryDirectory() as folder, Faulty(answer) as server:
        setup = Setup(Path(folder), Caps(per_day_usd=cap_usd))
        client = setup.client(server.base_url)
        shown = [show(client) for _ in range(calls)]
        seen = server.seen
        billed = seen.prompt_tokens * INPUT_USD * 1000 + seen.output_tokens * OUTPUT_USD * 1000
        answered = sum(one.source == "cloud" for one in shown)
        refused = sum(one.failure == "budget" for one in shown)
        spent = setup.spent_nano()
    return Spending(round(cap_usd * 1e9), spent, billed, answered, refused)


def run() -> dict[str, Any]:
    """All cases; `bytes_out` is the sum over those in which nothing may leave."""
    outcomes = [try_case(case) for case in CASES]
    spending = spend()
    return {
        "bytes_out": sum(one.bytes + one.connections for one in outcomes if not one.may_send),
        "counter_works": all(one.bytes > 0 for one in outcomes if one.may_send),
        "spent_past_cap_nano": max(0, spending.spent_nano - spending.cap_nano),
        "ledger_equals_endpoint": spending.spent_nano == spending.endpoint_nano,
        "spending": asdict(spending),
        "cases": [asdict(one) for one in outcomes],
    }


def _small() -> Model:
    """A model without weights that always says the same."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Inner(models.BPE({letter: id for id, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(inner)
    end = len(alphabet)
    engine = ScriptedEngine([*tokenizer.encode("Local."), end], vocab_size=end + 1)
    return Model(engine, tokenizer, name="small", eos_ids=(end,))
