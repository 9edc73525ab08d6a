"""What a call sends, what it gives back, and what it leaves in the books."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai  # noqa: F401 - takes long, and is not what a deadline is tried with
import pytest

sys.path.append(str(Path(__file__).parents[3]))  # after the installed package

from benchmarks.fault_behaviours import data, sent
from benchmarks.fault_cases import PLENTY
from benchmarks.faults import EmptyKeychain, Setup
from benchmarks.faulty import TEXT, Faulty, Peer, chunk
from ondevice.errors import CloudError
from ondevice.runtime.answer import Message
from ondevice.runtime.cloud.client import CloudClient, Purpose
from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
from ondevice.runtime.cloud.keys import Keys
from ondevice.runtime.cloud.redact import Redactor
from ondevice.runtime.cloud.switch import Switch

HELLO = [Message("system", "Be brief."), Message("user", "Hello")]
WHY = Purpose("low confidence", 0.4, 0.7, "chat", "public")


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def hidden(setup: Setup, base_url: str, **more: Any) -> CloudClient:
    """A client that hides personal data."""
    return CloudClient(
        Endpoint("faulty", base_url, "faulty", deadlines=PLENTY, **more),
        switch=Switch(lambda: True),
        ledger=setup.ledger,
        prices=setup.prices,
        audit=setup.audit,
        keys=Keys(environ={"MY_KEY": "sk-secret"}, keychain=EmptyKeychain),
        redactor=Redactor(),
    )


def headers(server: Faulty, number: int = 0) -> dict[str, str]:
    lines = server.seen.requests[number][0].split("\r\n")[1:]
    return {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


def body(server: Faulty, number: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(server.seen.requests[number][1])
    return value


def test_an_answer_comes_whole_with_usage_cost_and_times(setup: Setup) -> None:
    with Faulty() as server:
        answer = setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
    assert (answer.text, answer.finish_reason, answer.model) == (TEXT, "stop", "faulty")
    assert (answer.prompt_tokens, answer.output_tokens, answer.usage_reported) == (7, 4, True)
    assert answer.cost_usd == pytest.approx((7 * 1 + 4 * 4) / 1e6)
    assert 0 < answer.ttft_s <= answer.latency_s
    assert answer.attempts == 1


def test_ledger_and_log_say_what_was_sent_and_what_it_cost(setup: Setup) -> None:
    with Faulty() as server:
        answer = setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
        raw = server.seen.requests[0][1]
    (entry,) = setup.ledger.entries()
    assert (entry.state, entry.spent_nano, entry.estimated) == ("settled", 23_000, False)
    assert entry.reserved_nano > entry.spent_nano
    first, last = setup.audit.read().events
    assert (first.event, last.event, last.outcome) == ("sending", "answered", "stop")
    for event in (first, last):
        assert event.request_id == answer.request_id == entry.request_id
        assert event.bytes_sent == len(raw)
        assert event.sha256 == hashlib.sha256(raw).hexdigest()
        assert (event.reason, event.confidence, event.threshold) == ("low confidence", 0.4, 0.7)
        assert (event.task, event.data_class) == ("chat", "public")
    assert (last.prompt_tokens, last.output_tokens, last.cost_nano) == (7, 4, 23_000)


def test_no_header_tells_of_the_machine_or_of_its_environment(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "found-on-the-machine")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Faulty() as server:
        setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
        got = headers(server)
        assert "found-on-the-machine" not in server.seen.requests[0][0]
    assert set(got) <= {
        *("host", "content-type", "content-length", "accept", "idempotency-key"),
        *("connection", "user-agent", "accept-encoding"),
    }
    assert got["user-agent"] == "ondevice"


def test_the_declared_key_is_sent_and_kept_nowhere(setup: Setup) -> None:
    with Faulty() as server:
        hidden(setup, server.base_url, key="MY_KEY").ask(HELLO, max_tokens=20, purpose=WHY)
        assert headers(server)["authorization"] == "Bearer sk-secret"
    for file in setup.folder.iterdir():
        assert b"sk-secret" not in file.read_bytes()


def test_a_retry_carries_the_same_idempotency_key_and_the_same_body(setup: Setup) -> None:
    with Faulty(lambda peer: peer.error(503), Peer.good) as server:
        answer = setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
        assert answer.attempts == len(server.seen.requests) == 2
        assert headers(server, 0)["idempotency-key"] == headers(server, 1)["idempotency-key"]
        assert body(server, 0) == body(server, 1)
    (entry,) = setup.ledger.entries()  # the first was refused, so that it cost nothing
    assert entry.spent_nano == 23_000


def test_an_attempt_that_may_have_been_billed_is_paid_for_beside_its_retry(setup: Setup) -> None:
    with Faulty(Peer.reset, Peer.good) as server:
        answer = setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
    first, second = setup.ledger.entries()
    assert (first.spent_nano, first.estimated) == (first.reserved_nano, True)
    assert (second.spent_nano, second.estimated) == (23_000, False)
    assert answer.cost_usd == pytest.approx((first.spent_nano + 23_000) / 1e9)
    assert not answer.usage_reported


def test_a_retry_that_the_budget_does_not_hold_is_not_made(tmp_path: Path) -> None:
    from ondevice.runtime.cloud.ledger import Caps

    setup = Setup(tmp_path)
    with Faulty(Peer.reset, Peer.good) as server:
        client = setup.client(server.base_url, PLENTY)
        worst = client.preview(HELLO, max_tokens=20).worst_cost_usd
        setup.ledger.caps = Caps(per_day_usd=worst * 1.5)
        with pytest.raises(CloudError) as caught:
            client.ask(HELLO, max_tokens=20, purpose=WHY)
        assert caught.value.kind == "reset"
        assert len(server.seen.requests) == 1


def test_what_leaves_is_what_was_asked_for(setup: Setup) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with Faulty() as server:
        client = setup.client(server.base_url, PLENTY)
        client.ask(HELLO, max_tokens=20, temperature=0.5, schema=schema, purpose=WHY)
        got = body(server)
    assert got["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert (got["model"], got["max_tokens"], got["temperature"]) == ("faulty", 20, 0.5)
    assert got["stream"] is True
    assert got["response_format"]["json_schema"]["schema"] == schema


def test_an_endpoint_gets_only_what_it_takes(setup: Setup) -> None:
    with Faulty(lambda peer: (peer.begin(TEXT), peer.end(usage={}))) as server:
        client = setup.client(
            server.base_url,
            PLENTY,
            json_schema=False,
            usage_option=False,
            takes_temperature=False,
            limit_field="max_completion_tokens",
        )
        answer = client.ask(HELLO, max_tokens=20, schema={"type": "object"}, purpose=WHY)
        got = body(server)
    assert set(got) == {"messages", "model", "max_completion_tokens", "stream"}
    assert not answer.usage_reported


def test_a_preview_gives_the_very_size_and_sends_nothing(setup: Setup) -> None:
    messages = [Message("user", 'Grüße 🙂 "quoted" \\ and\nlines')]
    schema = {"type": "string", "description": "ä"}
    with Faulty() as server:
        client = setup.client(server.base_url, PLENTY)
        preview = client.preview(messages, max_tokens=20, schema=schema)
        assert server.seen.connections == 0
        client.ask(messages, max_tokens=20, schema=schema, purpose=WHY)
        assert preview.sent_bytes == len(server.seen.requests[0][1])
        assert json.loads(preview.sent_text) == body(server)
        assert len(preview.sent_text.encode()) == preview.sent_bytes
    assert preview.worst_cost_usd * 1e9 == pytest.approx(setup.ledger.entries()[0].reserved_nano)


def test_personal_data_stays_here_and_comes_back_in_the_answer(setup: Setup) -> None:
    def echo(peer: Peer) -> None:
        said = json.loads(server.seen.requests[-1][1])["messages"][-1]["content"]
        peer.begin(*said)  # letter by letter, so that every placeholder is split
        peer.end()

    text = "Write to jane.doe@example.com or max@example.org, then jane.doe@example.com again."
    with Faulty(echo) as server:
        client = hidden(setup, server.base_url)
        pieces = client.stream([Message("user", text)], max_tokens=200, purpose=WHY)
        assert "".join(pieces) == pieces.answer.text == text
        assert b"example.com" not in server.seen.requests[0][1]
    assert setup.audit.read().events[-1].redactions == {"email": 3}


def test_personal_data_in_a_schema_is_hidden_too_and_restored_as_json(setup: Setup) -> None:
    def pick(peer: Peer) -> None:
        sent = json.loads(server.seen.requests[-1][1])
        schema = sent["response_format"]["json_schema"]["schema"]
        peer.begin(json.dumps({"to": schema["properties"]["to"]["enum"][0]}))
        peer.end()

    schema = {"properties": {"to": {"enum": ["jane.doe@example.com"]}}, "type": "object"}
    with Faulty(pick) as server:
        client = hidden(setup, server.base_url)
        answer = client.ask(HELLO, max_tokens=50, schema=schema, purpose=WHY)
        assert b"example.com" not in server.seen.requests[0][1]
    assert json.loads(answer.text) == {"to": "jane.doe@example.com"}
    assert schema["properties"] == {"to": {"enum": ["jane.doe@example.com"]}}


def test_the_text_so_far_is_in_the_error_and_nowhere_else(setup: Setup) -> None:
    with Faulty(lambda peer: (peer.begin("Grüße ", "aus "), peer.reset())) as server:
        stream = setup.client(server.base_url, PLENTY).stream(HELLO, max_tokens=20, purpose=WHY)
        with pytest.raises(CloudError) as caught:
            list(stream)
    assert caught.value.partial in ("", "Grüße ", "Grüße aus ")  # a reset may drop what was sent
    with pytest.raises(RuntimeError, match="to its end"):
        _ = stream.answer
    (entry,) = setup.ledger.entries()
    assert (entry.spent_nano, entry.estimated) == (entry.reserved_nano, True)


def test_hanging_up_in_the_middle_closes_the_connection_and_counts_in_full(setup: Setup) -> None:
    ended = threading.Event()

    def talk(peer: Peer) -> None:
        peer.begin("Grüße ")
        peer.silence()
        ended.set()

    with Faulty(talk) as server:
        stream = setup.client(server.base_url, PLENTY).stream(HELLO, max_tokens=20, purpose=WHY)
        assert next(stream) == "Grüße "
        stream.close()
        assert ended.wait(5)
    (entry,) = setup.ledger.entries()
    assert (entry.state, entry.spent_nano) == ("settled", entry.reserved_nano)
    assert setup.audit.read().events[-1].outcome == "cancelled"


def test_a_stream_that_nobody_reads_sends_nothing(setup: Setup) -> None:
    with Faulty() as server:
        stream = setup.client(server.base_url, PLENTY).stream(HELLO, max_tokens=20, purpose=WHY)
        with pytest.raises(RuntimeError):
            _ = stream.answer
        stream.close()
        assert server.seen.connections == 0
    assert setup.ledger.entries() == []


def test_the_time_a_reader_takes_counts_for_no_deadline(setup: Setup) -> None:
    deadlines = Deadlines(1.0, 2.0, between_tokens_s=0.6, total_s=2.0)
    with Faulty() as server:
        stream = setup.client(server.base_url, deadlines).stream(HELLO, max_tokens=9, purpose=WHY)
        text = next(stream)
        time.sleep(2.1)
        text += "".join(stream)
    assert text == stream.answer.text == TEXT


def test_wrong_usage_counts_at_the_worst_case_and_high_usage_as_reported(setup: Setup) -> None:
    usages: Iterator[dict[str, int]] = iter(
        [
            {"prompt_tokens": -5, "completion_tokens": 4},
            {"prompt_tokens": 10**15, "completion_tokens": 4},
            {"prompt_tokens": 7, "completion_tokens": 0},
            {"prompt_tokens": 50_000, "completion_tokens": 4},
        ]
    )
    with Faulty(lambda peer: (peer.begin(TEXT), peer.end(usage=next(usages)))) as server:
        client = setup.client(server.base_url, PLENTY)
        for _ in range(4):
            client.ask(HELLO, max_tokens=20, purpose=WHY)
    *wrong, high = setup.ledger.entries()
    for entry in wrong:
        assert (entry.spent_nano, entry.estimated) == (entry.reserved_nano, True)
    assert (high.spent_nano, high.estimated) == (50_016_000, False)


def test_cached_tokens_of_the_prompt_are_counted_once(setup: Setup) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 5}}
    usage = {"prompt_tokens": 7, "completion_tokens": 4, **details}
    with Faulty(lambda peer: (peer.begin(TEXT), peer.end(usage=usage))) as server:
        setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=20, purpose=WHY)
    assert setup.ledger.entries()[0].spent_nano == 23_000  # no price of its own for them


def test_many_threads_share_a_client_and_the_books_are_right(setup: Setup) -> None:
    def good(peer: Peer) -> None:
        peer.begin(TEXT)
        peer.end(usage={"prompt_tokens": 7, "completion_tokens": 4})

    with Faulty(good) as server:
        client = setup.client(server.base_url, Deadlines(5, 30, 30, 60))
        texts: list[str] = []

        def work() -> None:
            texts.append(client.ask(HELLO, max_tokens=20, purpose=WHY).text)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == [TEXT] * 8
    assert [entry.spent_nano for entry in setup.ledger.entries()] == [23_000] * 8


def test_a_thought_is_progress_and_no_text(setup: Setup) -> None:
    deadlines = Deadlines(1.0, first_token_s=1.0, between_tokens_s=1.0, total_s=20.0)

    def think(peer: Peer) -> None:
        peer.begin()
        for _ in range(4):
            time.sleep(0.3)
            peer.data(chunk({"reasoning_content": "hm"}))
        peer.text(TEXT)
        peer.end()

    with Faulty(think) as server:
        answer = setup.client(server.base_url, deadlines).ask(HELLO, max_tokens=20, purpose=WHY)
    assert answer.text == TEXT


def test_a_proxy_is_used_only_where_it_is_declared(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Faulty() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        url = "http://cloud.invalid/v1"
        client = setup.client(url, PLENTY, plain_http=True, trust_env=True)
        assert client.ask(HELLO, max_tokens=20, purpose=WHY).text == TEXT
        assert proxy.seen.requests[0][0].startswith(f"POST {url}/chat/completions ")
        assert client.probe() in ("up", "no-route")


def test_a_stream_may_say_its_content_type_with_parameters(setup: Setup) -> None:
    def answer(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream;charset=utf-8\r\n\r\n")
        peer.send(data({"content": TEXT}).replace(b"\n\n", b"\r\n\r\n"))

    with Faulty(answer) as server:
        text = setup.client(server.base_url, PLENTY).ask(HELLO, max_tokens=9, purpose=WHY).text
    assert text == TEXT


@pytest.mark.parametrize("bad", ["max_tokens", "messages", "surrogate", "schema"])
def test_a_request_that_cannot_be_sent_is_rejected_here(setup: Setup, bad: str) -> None:
    messages = {"messages": [], "surrogate": [Message("user", "\ud800")]}.get(bad, HELLO)
    schema = {"default": float("nan")} if bad == "schema" else None
    with Faulty() as server:
        client = setup.client(server.base_url, PLENTY)
        with pytest.raises(CloudError) as caught:
            client.ask(
                messages, max_tokens=0 if bad == "max_tokens" else 9, schema=schema, purpose=WHY
            )
        assert server.seen.connections == 0
    assert caught.value.kind == "rejected"
    assert setup.ledger.entries() == []


def test_an_error_within_a_handler_of_another_call_is_its_own(setup: Setup) -> None:
    with Faulty(Peer.reset) as one, Faulty(sent(b"data: {\n\n")) as two:
        once = Deadlines(1.0, 4.0, 4.0, 4.0, retries=0)
        first, second = setup.client(one.base_url, once), setup.client(two.base_url, once)
        with pytest.raises(CloudError) as caught:
            try:
                first.ask(HELLO, max_tokens=9, purpose=WHY)
            except CloudError:
                second.ask(HELLO, max_tokens=9, purpose=WHY)
    assert caught.value.kind == "malformed"


def test_no_call_leaves_a_socket_open_however_it_ends(setup: Setup) -> None:
    import psutil

    process = psutil.Process()
    brief = Deadlines(1.0, 0.2, 0.2, 0.4, retries=0)

    def calls() -> None:
        for behaviour in (Peer.good, Peer.reset, Peer.silence, lambda peer: peer.error(500)):
            with Faulty(behaviour) as server:
                client = setup.client(server.base_url, brief)
                with contextlib.suppress(CloudError):
                    client.ask(HELLO, max_tokens=9, purpose=WHY)
            with contextlib.suppress(CloudError):  # nobody there any more
                client.ask(HELLO, max_tokens=9, purpose=WHY)

    calls()
    gc.collect()
    before = len(process.net_connections())
    calls()
    assert len([c for c in process.net_connections() if c.status != "NONE"]) <= before


def test_importing_the_client_imports_no_http_library() -> None:
    code = (
        "import sys, ondevice.runtime.cloud.client, ondevice.runtime.cloud.switch\n"
        "print([m for m in ('openai', 'httpx2', 'httpcore2', 'keyring') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_endpoints_own_count_equals_the_ledgers(setup: Setup) -> None:
    import tiny_tokenizers as tiny

    from benchmarks.endpoint import serve
    from ondevice.runtime.clock import ScriptedClock
    from ondevice.runtime.model import Model
    from ondevice.runtime.scripted import ScriptedEngine

    tokenizer, clock = tiny.byte_level(), ScriptedClock()
    engine = ScriptedEngine([*tokenizer.encode(TEXT), 2], vocab_size=700, clock=clock)
    model = Model(engine, tokenizer, name="faulty", eos_ids=(2,), clock=clock)
    with serve(model) as endpoint:
        client = setup.client(endpoint.base_url, Deadlines(5, 30, 30, 60))
        for number in range(5):
            question = [Message("user", "Hello " * (number + 1))]
            assert client.ask(question, max_tokens=50, purpose=WHY).text == TEXT
        counts = endpoint.counts
    entries = setup.ledger.entries()
    assert sum(entry.prompt_tokens for entry in entries) == counts.prompt_tokens
    assert sum(entry.output_tokens for entry in entries) == counts.output_tokens
    assert len(entries) == counts.requests == 5
