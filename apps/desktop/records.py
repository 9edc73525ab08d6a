"""What the assistant keeps and shows: conversations, messages, documents, notices. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

Role = Literal["user", "assistant"]
State = Literal["complete", "cancelled", "interrupted", "failed"]
Kind = Literal["error", "warning", "info"]
Source = Literal["device", "cloud"]


def now() -> str:
    """The present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A name that nothing else has."""
    return uuid4().hex


@dataclass(frozen=True)
class Conversation:
    """One conversation without its messages; `model` "" is the default one."""

    id: str
    title: str
    created: str
    updated: str
    model: str = ""
    system: str = ""
    preset: str = ""
    messages_count: int = 0


@dataclass(frozen=True)
class Details:
    """How an answer came about. Times in ms, rates in tokens/s; 0 where not measured."""

    ttft_ms: float = 0.0
    prefill_tps: float = 0.0
    decode_tps: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str = ""
    load_ms: float = 0.0
    dropped_messages: int = 0
    confidence: float | None = None
    calibrated: bool = False
    source: Source = "device"
    reason: str = ""
    escalation: str = ""
    failure: str = ""
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Shown:
    """A passage of a document as it was given to the model; `page` counts from 1."""

    document: str
    name: str
    page: int
    number: int
    text: str
    score: float


@dataclass(frozen=True)
class Message:
    """One turn. A "interrupted" one was being made when the window or the process ended."""

    id: str
    role: Role
    content: str
    created: str
    state: State = "complete"
    model: str = ""
    details: Details | None = None
    passages: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Document:
    """A file dropped into a conversation; `passages` is how many its text was cut into."""

    id: str
    name: str
    pages: int
    bytes: int
    characters: int
    passages: int


@dataclass(frozen=True)
class Passage:
    """A piece of a document's text as the store keeps it."""

    document: str
    name: str
    page: int
    number: int
    text: str


@dataclass(frozen=True)
class Snippet:
    """A piece of a text that was found; `match` marks what was searched for."""

    text: str
    match: bool


@dataclass(frozen=True)
class Found:
    """A message or, with `message` None and role "title", a conversation that was found."""

    conversation: str
    title: str
    message: str | None
    role: str
    snippet: tuple[Snippet, ...]


@dataclass(frozen=True)
class Notice:
    """Something the person should know; stays until it is dismissed."""

    kind: Kind
    text: str
    id: str = field(default_factory=new_id)
