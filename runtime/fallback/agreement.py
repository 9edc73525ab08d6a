"""What the person has agreed to in this process. Nothing of it is kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ondevice.runtime.cloud.endpoint import Endpoint

_agreed: set[tuple[str, str]] = set()  # base URL and model
_lock = threading.Lock()


def has_agreed(endpoint: Endpoint) -> bool:
    """Whether the person lets questions go to this endpoint for the rest of the session."""
    with _lock:
        return (endpoint.base_url, endpoint.model) in _agreed


def agree(endpoint: Endpoint) -> None:
    """Remember an agreement until the process ends, or `withdraw`."""
    with _lock:
        _agreed.add((endpoint.base_url, endpoint.model))


def withdraw() -> None:
    """Take every agreement back; the next escalation asks again."""
    with _lock:
        _agreed.clear()
