"""A local log of what left this machine: when, why, at what cost, and what came of it.

JSON lines, one write per event, readable by the owner only. What was sent is kept as its size
and SHA-256; its text only when asked for. Knows nothing about networks or policies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from ondevice import files, store
from ondevice.errors import CloudError

FILE = "audit.jsonl"


class AuditError(CloudError):
    """A log that cannot be written; nothing may be sent that it would not show."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "audit")


@dataclass(frozen=True)
class Event:
    """One line of the log.

    `event` says what happened: "sending" before the first byte leaves, then "answered",
    "failed" or "refused"; `outcome` is the finish reason or the kind of failure. `bytes_sent`
    and `sha256` are of the request's body. `time` (UTC, ISO 8601) is set when it is written.
    Of `reason`, nothing from a prompt or an answer.
    """

    event: str
    request_id: str
    endpoint: str
    model: str
    reason: str = ""
    confidence: float | None = None
    threshold: float | None = None
    task: str = ""
    data_class: str = ""
    bytes_sent: int = 0
    sha256: str = ""
    redactions: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    cost_nano: int = 0
    attempts: int = 0
    outcome: str = ""
    content: str | None = None
    time: str = ""


@dataclass(frozen=True)
class Log:
    """What `AuditLog.read` found: the events, and how many lines could not be read."""

    events: tuple[Event, ...]
    damaged: int


class AuditLog:
    """Appends events to `path`, `audit.jsonl` in the kit's folder by default.

    `keep_content`: also keep the text that was sent. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        keep_content: bool = False,
        clock: Callable[[], float] = time,
    ) -> None:
        self.path = store.home() / FILE if path is None else path
        self.keep_content = keep_content
        self._clock = clock

    def write(self, event: Event, sent: bytes | None = None) -> None:
        """Append one event; it is on the disk when this returns.

        `sent` is the body of the request: its size and hash are filled in, and its text when
        `keep_content`. Raises `AuditError` when the log cannot be written.
        """
        if sent is not None:
            event = replace(event, bytes_sent=len(sent), sha256=hashlib.sha256(sent).hexdigest())
        content = event.content
        if sent is not None and content is None:
            content = sent.decode("utf-8", "replace")
        moment = datetime.fromtimestamp(self._clock(), UTC)
        event = replace(
            event,
            time=moment.isoformat(timespec="milliseconds"),
            content=content if self.keep_content else None,
        )
        try:
            self._append(_line(event))
        except OSError as error:
            raise AuditError(f"{files.write_error(self.path, error)} (the audit log)") from error

    def read(self) -> Log:
        """All events, oldest first; lines that a killed process left half are counted.

        Raises `AuditError` when the file is there and cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Log((), 0)
        except OSError as error:
            raise AuditError(f"cannot read {self.path}: {error.strerror or error}") from error
        lines = [line for line in data.split(b"\n") if line.strip()]
        events = [event for line in lines if (event := _event(line)) is not None]
        return Log(tuple(events), len(lines) - len(events))

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, flags, 0o600)
        try:
            with contextlib.suppress(OSError, AttributeError):
                os.fchmod(handle, 0o600)  # also where an older file was more open
            if self._cut_off(handle):
                line = b"\n" + line
            if os.write(handle, line) != len(line):
                raise OSError("only a part of the line was written")
            os.fsync(handle)
        finally:
            os.close(handle)

    @staticmethod
    def _cut_off(handle: int) -> bool:
        """Whether the file ends within a line that was never finished."""
        size = os.lseek(handle, 0, os.SEEK_END)
        if size == 0:
            return False
        os.lseek(handle, size - 1, os.SEEK_SET)
        return os.read(handle, 1) != b"\n"


def _line(event: Event) -> bytes:
    values = asdict(event)
    for name in ("confidence", "threshold"):
        if values[name] is not None and not math.isfinite(values[name]):
            values[name] = None  # JSON has no NaN
    kept = {name: value for name, value in values.items() if value is not None}
    text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
    # A lone surrogate has no UTF-8; the log must still be written.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _event(line: bytes) -> Event | None:
    """The event of a line, None when the line is damaged; keys of a newer version are dropped."""
    try:
        values: Any = json.loads(line)
        known = {f.name: values[f.name] for f in fields(Event) if f.name in values}
        return Event(**known)
    except (ValueError, TypeError, RecursionError):
        return None
