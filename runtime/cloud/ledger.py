"""The budget: what every cloud call may cost at worst, and what it did cost, in one SQLite file.

Atomic across processes. Knows nothing about prices, endpoints or networks: amounts come in as
whole nano-USD (1e-9 USD). What cannot be written down is not allowed: every failure to read or
write the file is an error, so that no call is made without a reservation.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from ondevice import store
from ondevice.errors import CloudError

NANO = 10**9
FORMAT = 1
FILE = "ledger.sqlite"
WAIT_S = 5.0  # how long to wait for another process's transaction
_LARGEST = 2**62  # nano-USD; SQLite holds 64 bits, and sums are taken
_RECOVERED = "the process ended before it settled; counted at the worst case"

_SCHEMA = """
CREATE TABLE entries (
  request_id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'released', 'recovered')),
  reserved_nano INTEGER NOT NULL CHECK (reserved_nano >= 0),
  spent_nano INTEGER NOT NULL CHECK (spent_nano >= 0),
  prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL,
  note TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT NOT NULL,
  day TEXT NOT NULL, time REAL NOT NULL
);
CREATE INDEX entries_by_day ON entries (day);
CREATE TABLE seen (time REAL NOT NULL);
INSERT INTO seen VALUES (0);
"""


class BudgetError(CloudError):
    """A call that could pass a cap; nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "budget")


class LedgerError(CloudError):
    """A ledger that cannot be read or written; no call is allowed until it can."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ledger")


@dataclass(frozen=True)
class Caps:
    """The most that may be spent, in USD; None is no cap. Raises `BudgetError` for nonsense."""

    per_request_usd: float | None = None
    per_day_usd: float | None = None
    per_month_usd: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value < _LARGEST / NANO:
                raise BudgetError(f"{name} = {value} is no cap; give USD from 0 upwards")

    @property
    def any(self) -> bool:
        """Whether anything is capped."""
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class Entry:
    """One call: `state` is "open", "settled", "released" or "recovered"; amounts in nano-USD.

    `day` is the UTC day that the call counts for, `time` seconds since 1970. An entry is
    "recovered" when its process ended without settling; `note` says so.
    """

    request_id: str
    endpoint: str
    model: str
    state: str
    reserved_nano: int
    spent_nano: int
    prompt_tokens: int
    output_tokens: int
    estimated: bool
    note: str
    pid: int
    day: str
    time: float

    @property
    def counted_nano(self) -> int:
        """What the caps count for it."""
        return self.reserved_nano if self.state == "open" else self.spent_nano


@dataclass(frozen=True)
class Spending:
    """A sum over entries: what was spent, and what open reservations hold (nano-USD)."""

    calls: int
    spent_nano: int
    reserved_nano: int
    prompt_tokens: int
    output_tokens: int

    @property
    def counted_nano(self) -> int:
        """What the caps count."""
        return self.spent_nano + self.reserved_nano


class Ledger:
    """Reserve before sending, settle after, release when nothing was sent.

    `clock` gives seconds since 1970. Days and months are UTC, of the latest time the file has
    ever seen: a clock set back frees no budget. Each method opens and closes the file, so one
    object may be used by many threads and survives a fork.
    """

    def __init__(
        self,
        path: Path | None = None,
        caps: Caps = Caps(),
        clock: Callable[[], float] = time.time,
        wait_s: float = WAIT_S,
    ) -> None:
        self.path = store.home() / FILE if path is None else path
        self.caps = caps
        self._clock = clock
        self._wait_s = wait_s

    def reserve(self, request_id: str, endpoint: str, model: str, worst_nano: int) -> None:
        """Set aside the worst case of a call.

        Raises `BudgetError` when a cap would be passed, open reservations counted, and
        `LedgerError` when the file cannot be used; nothing may be sent then.
        """
        _check_amount(worst_nano)
        with self._transaction() as database:
            now = self._see(database)
            self._allow(database, worst_nano, now)
            row = (
                request_id,
                endpoint,
                model,
                worst_nano,
                os.getpid(),
                process_identity(),
                _day(now),
                now,
            )
            try:
                database.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, 'open', ?, 0, 0, 0, 0, '', ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError as error:
                raise LedgerError(f"request {request_id} is in {self.path} already") from error

    def settle(
        self,
        request_id: str,
        spent_nano: int,
        prompt_tokens: int,
        output_tokens: int,
        *,
        estimated: bool,
        note: str = "",
    ) -> None:
        """Replace a reservation by what the call cost, even where that is more than reserved.

        `estimated`: the endpoint did not report its usage. An entry that another process had
        recovered meanwhile is put right. Raises `LedgerError`: no such reservation is open, or
        the file cannot be written; the reservation then stays, counted at its worst case.
        """
        _check_amount(spent_nano)
        values = (spent_nano, prompt_tokens, output_tokens, int(estimated), note, request_id)
        self._close(
            request_id,
            "UPDATE entries SET state = 'settled', spent_nano = ?, prompt_tokens = ?, "
            "output_tokens = ?, estimated = ?, note = ?",
            values,
        )

    def release(self, request_id: str) -> None:
        """Give a reservation back: nothing was sent. Raises `LedgerError` as `settle` does."""
        self._close(
            request_id,
            "UPDATE entries SET state = 'released', spent_nano = 0, estimated = 0, note = ''",
            (request_id,),
        )

    def recover(self) -> int:
        """Settle the reservations of processes that have ended, at their worst case; how many.

        Such an entry becomes "recovered", is marked as estimated, and says why.
        """
        with self._transaction() as database:
            rows = database.execute(
                "SELECT request_id, pid, process FROM entries WHERE state = 'open'"
            )
            dead = [row[0] for row in rows.fetchall() if process_identity(row[1]) != row[2]]
            for request_id in dead:
                database.execute(
                    "UPDATE entries SET state = 'recovered', spent_nano = reserved_nano, "
                    "estimated = 1, note = ? WHERE request_id = ?",
                    (_RECOVERED, request_id),
                )
        return len(dead)

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        names = [field.name for field in fields(Entry)]
        query = f"SELECT {', '.join(names)} FROM entries ORDER BY time, rowid"
        with self._transaction() as database:
            rows = database.execute(query).fetchall()
        found = [Entry(**dict(zip(names, row, strict=True))) for row in rows]
        return [replace(entry, estimated=bool(entry.estimated)) for entry in found]

    def spent(self, since: datetime) -> Spending:
        """The sum over all calls reserved at or after a time (of any zone; naive is UTC)."""
        if since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        with self._transaction() as database:
            return _sum(database, "time >= ?", since.timestamp())

    def today(self) -> Spending:
        """The sum that the cap per day counts."""
        with self._transaction() as database:
            return _sum(database, "day = ?", _day(self._see(database)))

    def this_month(self) -> Spending:
        """The sum that the cap per month counts."""
        with self._transaction() as database:
            return _sum(database, "day GLOB ?", _day(self._see(database))[:7] + "*")

    def accept_clock(self) -> None:
        """Take the clock's present time for right, after it once showed a later one by mistake.

        Entries of the mistaken days keep their day; only the user asks for this.
        """
        with self._transaction() as database:
            database.execute("UPDATE seen SET time = ?", (self._clock(),))

    def _close(self, request_id: str, update: str, values: tuple[object, ...]) -> None:
        with self._transaction() as database:
            self._see(database)
            done = database.execute(
                update + " WHERE request_id = ? AND state IN ('open', 'recovered')", values
            )
            if done.rowcount != 1:
                raise LedgerError(f"no open reservation {request_id} in {self.path}")

    def _see(self, database: sqlite3.Connection) -> float:
        """The latest time ever seen, now included."""
        now = self._clock()
        seen = database.execute("SELECT max(time) FROM seen").fetchone()[0] or 0.0
        if now > seen:
            database.execute("UPDATE seen SET time = ?", (now,))
        return float(max(now, seen))

    def _allow(self, database: sqlite3.Connection, worst_nano: int, now: float) -> None:
        day = _day(now)
        limits: list[tuple[str, float | None, str, str]] = [
            ("request", self.caps.per_request_usd, "0", ""),
            ("day", self.caps.per_day_usd, "day = ?", day),
            ("month", self.caps.per_month_usd, "day GLOB ?", day[:7] + "*"),
        ]
        for period, cap, where, value in limits:
            if cap is None:
                continue
            used = _sum(database, where, value).counted_nano if value else 0
            if used + worst_nano > _nano(cap):
                raise BudgetError(self._refusal(period, cap, used, worst_nano, now))

    def _refusal(self, period: str, cap: float, used: int, worst_nano: int, now: float) -> str:
        text = f"this call can cost {usd(worst_nano)} at worst"
        if period != "request":
            text += f", and {usd(used)} of this {period}'s budget is spent or reserved"
        text += f"; the cap is {usd(_nano(cap))} per {period}: raise it, or ask for fewer tokens"
        if now - self._clock() > 86_400:
            text += f" (the ledger counts for {_day(now)}, the latest date this clock has shown)"
        return text

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """An open file in a write transaction: committed when the block ends, else undone."""
        try:
            with contextlib.closing(self._connect()) as database:
                database.execute("BEGIN IMMEDIATE")
                try:
                    self._prepare(database)
                    yield database
                    database.execute("COMMIT")
                finally:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise LedgerError(self._explain(error)) from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self.path, timeout=self._wait_s, isolation_level=None)
        database.execute("PRAGMA synchronous = FULL")
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == FORMAT:
            return
        if version != 0 or database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LedgerError(
                f"{self.path} is a ledger of format {version}, or another program's file; "
                f"this ondevice reads format {FORMAT}: upgrade it, or move the file away"
            )
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT}")

    def _explain(self, error: Exception) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        stop = "no cloud call is made without it"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"the ledger {self.path} is locked by another process; {stop}: try again"
        if code == sqlite3.SQLITE_FULL:
            return f"the disk of the ledger {self.path} is full; {stop}: free some space"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return (
                f"the ledger {self.path} is damaged ({error}); {stop}: move it away or restore it"
            )
        return f"cannot use the ledger {self.path}: {error}; {stop}"


def usd(nano: int) -> str:
    """An amount for the eye: exact, at least two decimals."""
    whole, _, fraction = f"{Decimal(nano) / NANO:.9f}".rstrip("0").partition(".")
    return f"{whole}.{fraction:0<2} USD"


def process_identity(pid: int | None = None) -> str:
    """What tells a process from a later one of the same number; "" when there is none.

    On Linux the start in clock ticks since boot, which a changed wall clock does not touch.
    """
    import psutil

    pid = os.getpid() if pid is None else pid
    with contextlib.suppress(OSError, IndexError):
        # The name in parentheses may hold spaces; field 22 is the start, zombies have ended.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return ""


def _sum(database: sqlite3.Connection, where: str, value: str | float) -> Spending:
    row = database.execute(
        "SELECT count(*), coalesce(sum(CASE state WHEN 'open' THEN 0 ELSE spent_nano END), 0), "
        "coalesce(sum(CASE state WHEN 'open' THEN reserved_nano ELSE 0 END), 0), "
        "coalesce(sum(prompt_tokens), 0), coalesce(sum(output_tokens), 0) "
        f"FROM entries WHERE state != 'released' AND {where}",
        (value,),
    ).fetchone()
    return Spending(*row)


def _check_amount(nano: int) -> None:
    if not 0 <= nano < _LARGEST:
        raise BudgetError(f"{nano} nano-USD is no amount a call can cost; check the prices")


def _nano(usd_amount: float) -> int:
    """A cap in whole nano-USD, rounded down, of the decimal number that was written."""
    return int(Decimal(repr(usd_amount)) * NANO)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
