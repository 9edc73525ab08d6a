"""What went out and came back, counted; data only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass
class Wire:
    """Bytes of one exchange, headers included, TLS excluded."""

    sent: int = 0
    received: int = 0


class Exchange:
    """What went out and came back in one attempt."""

    def __init__(self) -> None:
        self.body = b""  # of the request
        self.wire = Wire()
        self.status: int | None = None
        self.retry_after: str | None = None
        self.received = 0  # bytes of the answer's body
        self.done = False  # whether the stream's end mark came

    @property
    def sha256(self) -> str:
        """Of the request's body; empty when nothing was sent."""
        return hashlib.sha256(self.body).hexdigest() if self.wire.sent else ""

    @property
    def bytes_sent(self) -> int:
        """Length of the request's body; 0 when nothing was sent."""
        return len(self.body) if self.wire.sent else 0
