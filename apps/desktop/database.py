"""One SQLite file that is opened with care: checked, set aside when damaged, errors in words.

Knows nothing about conversations.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ondevice.desktop.schema import APPLICATION_ID, FORMAT, TABLES
from ondevice.errors import OndeviceError

WAIT_S = 5.0  # for another process that reads the file
_BESIDE = ("-journal", "-wal", "-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class StoreError(OndeviceError):
    """A history that cannot be read or written; what is in memory is still there."""


class Database:
    """The history's file, or memory where there can be none; `notes` say what was wrong.

    A damaged file is renamed, never deleted, and a new one begun. A file of a later format, or a
    folder that cannot be written, is left alone: then this run's history is in memory only.
    Safe to use from several threads. A commit is on the disk when it returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._lock = threading.RLock()
        self._connection = self._open()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection for queries. Raises `StoreError`."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._error(error) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on the disk when the block has ended, else undone. Raises `StoreError`."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        try:
            return self._file()
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                return self._memory(str(error))
            problem = str(error)
        except OSError as error:
            return self._memory(error.strerror or str(error))
        except _ForeignError as error:
            return self._memory(str(error))
        try:
            aside = self._set_aside()
            self.notes.append(
                f"the history was damaged ({problem}) and is set aside as {aside}; a new one begins"
            )
            return self._file()
        except (sqlite3.Error, OSError) as error:
            return self._memory(f"it is damaged and cannot be moved away: {error}")

    def _file(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = _connect(str(self.path))
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _memory(self, reason: str) -> sqlite3.Connection:
        self.notes.append(
            f"conversations of this run are not kept: {self.path} cannot be used: {reason}"
        )
        connection = _connect(":memory:")
        _prepare(connection)
        return connection

    def _set_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.stem}.damaged-{stamp}{self.path.suffix}")
        number = 1
        while aside.exists():
            number += 1
            aside = aside.with_name(f"{self.path.stem}.damaged-{stamp}-{number}{self.path.suffix}")
        self.path.rename(aside)
        for ending in _BESIDE:
            beside = Path(f"{self.path}{ending}")
            if beside.exists():
                beside.rename(f"{aside}{ending}")
        return aside

    def _error(self, error: sqlite3.Error) -> StoreError:
        code = _code(error)
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreError(
                f"the history cannot be written: the disk of {self.path.parent} is full or "
                f"fails ({error}); free some space"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(f"the history {self.path} is locked by another program; try again")
        if code in _DAMAGED:
            return StoreError(
                f"the history {self.path} is damaged; start the assistant again, and it is set "
                "aside"
            )
        return StoreError(f"cannot use the history {self.path}: {error}")


class _ForeignError(Exception):
    """Why a sound file is not ours to use."""


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, timeout=WAIT_S, isolation_level=None, check_same_thread=False
    )
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Check an existing file, or make the tables of a new one."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {FORMAT}; {TABLES} COMMIT;"
        )
        return
    if owner != APPLICATION_ID:
        raise _ForeignError("it is another program's file; move it away")
    if version > FORMAT:
        raise _ForeignError(
            f"it has format {version}, this ondevice reads {FORMAT}: upgrade ondevice"
        )
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found.splitlines()[0])
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
