from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import CloudError, OndeviceError
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.cloud import ledger as ledger_module
from ondevice.runtime.cloud.ledger import BudgetError, Caps, Ledger, LedgerError, usd

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
CENT = 10**7  # nano-USD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.sqlite"


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_a_settled_call_counts_what_it_cost_and_frees_the_rest(path: Path) -> None:
    book = Ledger(path, Caps(per_day_usd=0.05))
    book.reserve("a", "openai", "gpt", 4 * CENT)
    with pytest.raises(BudgetError, match=r"cap is 0.05 USD per day"):
        book.reserve("b", "openai", "gpt", 2 * CENT)
    book.settle("a", CENT, 100, 20, estimated=False)
    book.reserve("b", "openai", "gpt", 2 * CENT)
    spending = book.today()
    assert (spending.spent_nano, spending.reserved_nano) == (CENT, 2 * CENT)
    assert (spending.prompt_tokens, spending.output_tokens, spending.calls) == (100, 20, 2)


def test_a_released_call_counts_nothing(path: Path) -> None:
    book = Ledger(path, Caps(per_day_usd=0.01))
    book.reserve("a", "e", "m", CENT)
    book.release("a")
    assert book.today().counted_nano == 0
    book.reserve("b", "e", "m", CENT)


def test_the_cap_itself_may_be_spent_and_not_one_nano_more(path: Path) -> None:
    book = Ledger(path, Caps(per_request_usd=0.01))
    with pytest.raises(BudgetError) as caught:
        book.reserve("a", "e", "m", CENT + 1)
    assert caught.value.kind == "budget"
    assert book.entries() == []
    book.reserve("a", "e", "m", CENT)


def test_a_cap_of_zero_lets_only_free_calls_pass(path: Path) -> None:
    book = Ledger(path, Caps(per_day_usd=0))
    book.reserve("free", "e", "m", 0)
    with pytest.raises(BudgetError):
        book.reserve("paid", "e", "m", 1)


def test_a_call_that_cost_more_than_reserved_is_written_down_in_full(path: Path) -> None:
    book = Ledger(path, Caps(per_day_usd=0.05))
    book.reserve("a", "e", "m", CENT)
    book.settle("a", 9 * CENT, 1, 1, estimated=True)
    assert book.today().spent_nano == 9 * CENT
    assert book.entries()[0].estimated


def test_days_and_months_are_utc_and_start_anew(path: Path) -> None:
    clock = ScriptedClock(NOON)
    book = Ledger(path, Caps(per_day_usd=0.01, per_month_usd=0.02), clock)
    book.reserve("a", "e", "m", CENT)
    clock.now += 12 * 3600
    book.reserve("b", "e", "m", CENT)
    clock.now += 86_400
    with pytest.raises(BudgetError, match="per month"):
        book.reserve("c", "e", "m", CENT)
    clock.now = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    book.reserve("c", "e", "m", CENT)
    assert [entry.day for entry in book.entries()] == ["2026-11-24", "2026-11-25", "2026-12-01"]


def test_a_clock_set_back_frees_no_budget(path: Path) -> None:
    clock = ScriptedClock(NOON)
    book = Ledger(path, Caps(per_day_usd=0.01), clock)
    book.reserve("a", "e", "m", CENT)
    clock.now -= 40 * 86_400
    with pytest.raises(BudgetError, match="counts for 2026-11-24"):
        book.reserve("b", "e", "m", 1)
    assert book.today().counted_nano == CENT
    book.accept_clock()
    book.reserve("b", "e", "m", 1)


def test_spending_since_a_time_is_summed(path: Path) -> None:
    clock = ScriptedClock(NOON)
    book = Ledger(path, clock=clock)
    for name in "abc":
        book.reserve(name, "e", "m", CENT)
        book.settle(name, CENT, 10, 5, estimated=False)
        clock.advance(3600)
    since = datetime.fromtimestamp(NOON, UTC) + timedelta(minutes=30)
    assert book.spent(since).calls == 2
    assert book.spent(since.replace(tzinfo=None)).spent_nano == 2 * CENT


@settings(max_examples=10, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("rsx"), st.integers(0, 5), st.integers(0, 4)), max_size=12
    )
)
def test_no_order_of_calls_takes_reservations_past_the_cap(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    book = Ledger(tmp_path_factory.mktemp("l") / "l.sqlite", Caps(per_day_usd=10e-9))
    expected: dict[str, int] = {}
    started: set[str] = set()
    for action, number, amount in steps:
        name = str(number)
        with contextlib.suppress(CloudError):
            if action == "r":
                book.reserve(name, "e", "m", amount)
                assert name not in started
                started.add(name)
                expected[name] = amount
            elif action == "s":
                spent = min(amount, expected.get(name, 0))
                book.settle(name, spent, 0, 0, estimated=False)
                expected[name] = spent
            else:
                book.release(name)
                expected[name] = 0
        assert book.today().counted_nano == sum(expected.values()) <= 10


RACE = """
import sys
from pathlib import Path
from ondevice.runtime.cloud.ledger import BudgetError, Caps, Ledger
book = Ledger(Path(sys.argv[1]), Caps(per_day_usd=0.01), wait_s=60)
sys.stdin.readline()
made = refused = 0
for number in range(6):
    name = f"{sys.argv[2]}-{number}"
    try:
        book.reserve(name, "e", "m", 10**6)
    except BudgetError:
        refused += 1
        continue
    book.settle(name, 5 * 10**5, 7, 3, estimated=False)
    made += 1
print(made, refused)
"""


def test_eight_processes_on_one_budget_never_pass_the_cap(path: Path) -> None:
    racers = [run(RACE, path, index) for index in range(8)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    made = refused = 0
    for racer in racers:
        out, _ = racer.communicate(timeout=120)
        made += int(out.split()[0])
        refused += int(out.split()[1])
    spending = Ledger(path).today()
    assert made + refused == 48
    assert refused > 0
    assert spending.spent_nano == made * 5 * 10**5 <= CENT
    assert (spending.prompt_tokens, spending.output_tokens) == (7 * made, 3 * made)
    # The last half cent is too little for another worst case.
    assert spending.spent_nano > CENT - 10**6


HOLD = """
import sys, time
from pathlib import Path
from ondevice.runtime.cloud.ledger import Ledger
Ledger(Path(sys.argv[1])).reserve("held", "e", "m", 10**7)
print("reserved", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_reserved_is_settled_at_the_worst_case(path: Path) -> None:
    holder = run(HOLD, path)
    assert holder.stdout is not None and holder.stdout.readline() == "reserved\n"
    book = Ledger(path, Caps(per_day_usd=0.01))
    book.reserve("own", "e", "m", 0)
    assert book.recover() == 0  # both processes are alive
    with pytest.raises(BudgetError):
        book.reserve("other", "e", "m", 1)
    holder.kill()
    holder.wait()
    assert book.recover() == 1
    held = next(entry for entry in book.entries() if entry.request_id == "held")
    assert (held.state, held.spent_nano, held.estimated) == ("recovered", CENT, True)
    assert "worst case" in held.note
    assert book.recover() == 0


def test_a_process_number_used_again_is_another_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Ledger(path)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "process_identity", lambda pid=None: "an earlier start")
        book.reserve("old", "e", "m", CENT)
    assert book.entries()[0].pid == os.getpid()
    assert book.recover() == 1


def test_a_call_recovered_by_mistake_is_put_right_when_it_settles(path: Path) -> None:
    book = Ledger(path)
    book.reserve("a", "e", "m", CENT)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries SET process = 'seen from another machine'")
    assert book.recover() == 1
    book.settle("a", 5, 1, 1, estimated=False)
    entry = book.entries()[0]
    assert (entry.state, entry.spent_nano, entry.note) == ("settled", 5, "")


BUSY = """
import sys, itertools
from pathlib import Path
from ondevice.runtime.cloud.ledger import Ledger
book = Ledger(Path(sys.argv[1]))
print("started", flush=True)
for number in itertools.count():
    name = f"{sys.argv[2]}-{number}"
    book.reserve(name, "e", "m", 1000)
    book.settle(name, 10, 1, 1, estimated=False)
"""


def test_a_process_killed_in_the_middle_leaves_a_readable_ledger(path: Path) -> None:
    for attempt in range(4):
        worker = run(BUSY, path, attempt)
        assert worker.stdout is not None and worker.stdout.readline() == "started\n"
        time.sleep(0.05 + 0.037 * attempt)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        book = Ledger(path)
        book.recover()
        entries = book.entries()
        assert {entry.state for entry in entries} <= {"settled", "recovered"}
        spent = sum(10 if e.state == "settled" else 1000 for e in entries)
        assert book.today().counted_nano == spent


def test_a_damaged_file_allows_no_call(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, and long enough to be read as a header. " * 50)
    with pytest.raises(LedgerError, match=r"damaged.*no cloud call"):
        Ledger(path).reserve("a", "e", "m", 0)


def test_a_ledger_with_a_torn_page_allows_no_call(path: Path) -> None:
    book = Ledger(path)
    for number in range(12):
        book.reserve("x" * 3000 + str(number), "e", "m", 1)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LedgerError) as caught:
        book.reserve("a", "e", "m", 0)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, OndeviceError)


def test_a_locked_file_allows_no_call(path: Path) -> None:
    Ledger(path).entries()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError, match="locked by another process"):
        Ledger(path, wait_s=0.05).reserve("a", "e", "m", 0)
    other.execute("ROLLBACK")
    other.close()
    Ledger(path).reserve("a", "e", "m", 0)


FULL = """
import resource, signal, sys
from pathlib import Path
from ondevice.runtime.cloud.ledger import Ledger, LedgerError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
book = Ledger(Path(sys.argv[1]))
book.reserve("before", "e", "m", 5)
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
for number in range(1000):
    try:
        book.reserve(f"number-{number}-" + "x" * 500, "e", "m", 1)
    except LedgerError as error:
        print(number, error)
        break
"""


@pytest.mark.skipif(os.name == "nt", reason="needs limits on file size")
def test_a_full_disk_allows_no_call_and_keeps_what_was_written(path: Path) -> None:
    out, _ = run(FULL, path).communicate(timeout=60)
    number, _, message = out.strip().partition(" ")
    assert "no cloud call is made without it" in message
    assert "\n" not in message
    assert len(Ledger(path).entries()) == 1 + int(number)


def test_a_full_disk_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Ledger(path)
    book.entries()
    connect = book._connect

    def small() -> sqlite3.Connection:
        database = connect()
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    monkeypatch.setattr(book, "_connect", small)
    with pytest.raises(LedgerError, match=r"disk .* is full"):
        book.reserve("x" * 100_000, "e", "m", 1)
    monkeypatch.undo()
    assert book.entries() == []


def test_a_folder_that_cannot_be_made_allows_no_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot use the ledger"):
        Ledger(tmp_path / "file" / "ledger.sqlite").reserve("a", "e", "m", 0)


def test_a_ledger_of_a_newer_version_is_left_alone(path: Path) -> None:
    Ledger(path).entries()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match="format 7"):
        Ledger(path).reserve("a", "e", "m", 0)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LedgerError, match="another program's file"):
        Ledger(path).reserve("a", "e", "m", 0)


@pytest.mark.parametrize("act", ["settle", "release"])
def test_only_an_open_reservation_can_be_closed(path: Path, act: str) -> None:
    book = Ledger(path)
    book.reserve("a", "e", "m", 1)
    book.settle("a", 1, 1, 1, estimated=False)
    for name in ("a", "never reserved"):
        with pytest.raises(LedgerError, match="no open reservation"):
            if act == "settle":
                book.settle(name, 1, 1, 1, estimated=False)
            else:
                book.release(name)


def test_a_request_is_reserved_once(path: Path) -> None:
    book = Ledger(path)
    book.reserve("a", "e", "m", 1)
    with pytest.raises(LedgerError, match="already"):
        book.reserve("a", "e", "m", 1)


@pytest.mark.parametrize("amount", [-1, 2**63])
def test_an_amount_that_cannot_be_is_refused(path: Path, amount: int) -> None:
    with pytest.raises(BudgetError):
        Ledger(path).reserve("a", "e", "m", amount)


@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf")])
def test_a_cap_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(BudgetError, match="per_day_usd"):
        Caps(per_day_usd=value)


def test_caps_are_taken_as_the_decimal_that_was_written(path: Path) -> None:
    book = Ledger(path, Caps(per_request_usd=0.29))
    book.reserve("a", "e", "m", 290_000_000)  # 0.29 * 1e9 in binary is 289999999.99999994


def test_only_the_owner_can_read_the_ledger(path: Path) -> None:
    Ledger(path).entries()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00 USD"), (1, "0.000000001 USD"), (1_500_000_000, "1.50 USD"), (12 * CENT, "0.12 USD")],
)
def test_amounts_are_shown_exactly(nano: int, text: str) -> None:
    assert usd(nano) == text
