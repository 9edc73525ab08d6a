"""One answered example: what was said, whether it was right, and what it took.

Records are JSON lines, so that a run can stop anywhere and go on. Knows no models.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ondevice import files, json_lines
from ondevice.errors import RequestError


@dataclass(frozen=True)
class Record:
    """The answer of one subject to one example.

    `subject` is such as "device:smollm2" or "cloud:mine". Times in seconds, cost in USD (0 on the
    device). `features` are those of `confidence.features.NAMES`, empty for the cloud; the hidden
    states (hidden,) are kept only when asked for. `question` is the hash of what was asked, so
    that an answer to a changed question is not taken for one to the new. `model` is what an
    endpoint calls the model that it was asked for. `error` names a call that gave no answer: it is
    then not right.
    """

    id: str
    subject: str
    text: str
    right: bool
    score: float
    compliant: bool
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    ttft_s: float
    latency_s: float
    cost_usd: float = 0.0
    features: tuple[float, ...] = ()
    prompt_hidden: tuple[float, ...] = ()
    answer_hidden: tuple[float, ...] = ()
    question: str = ""
    model: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record without its empty parts; hidden states as base64 of little-endian float16."""
        data = {name: value for name, value in asdict(self).items() if value not in ((), "")}
        return data | {name: _packed(data[name]) for name in _HIDDEN if name in data}


_HIDDEN = ("prompt_hidden", "answer_hidden")
_REQUIRED = {"id", "subject", "right", "score", "compliant"}


def from_json(data: dict[str, Any]) -> Record:
    """A record from its JSON. Raises `RequestError` naming what is missing or unknown."""
    known = {field.name for field in fields(Record)}
    defaults = {"text": "", "finish_reason": ""}
    if not isinstance(data, dict) or not data.keys() >= _REQUIRED or data.keys() - known:
        raise RequestError(f"a record needs {', '.join(sorted(_REQUIRED))} and no unknown names")
    data = defaults | data | {"features": tuple(data.get("features", ()))}
    try:
        return Record(**data | {name: _unpacked(data[name]) for name in _HIDDEN if name in data})
    except (TypeError, ValueError) as error:
        raise RequestError(f"a record has missing or wrong values: {error}") from error


def _packed(values: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(values, "<f2").tobytes()).decode()


def _unpacked(text: str) -> tuple[float, ...]:
    return tuple(np.frombuffer(base64.b64decode(text), "<f2").astype(float).tolist())


def read(path: Path) -> list[Record]:
    """Records of a file of JSON lines, gzipped where its name ends with .gz.

    A line cut off by an interruption is left out, and of two with one id and subject the later
    holds. Raises `RequestError` when the file cannot be read.
    """
    found: dict[tuple[str, str], Record] = {}
    for record in _lines(path):
        found[record.id, record.subject] = record
    return list(found.values())


def _lines(path: Path) -> Iterator[Record]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise RequestError(f"cannot read the records in {path}: {error}") from error
    yield from map(from_json, json_lines.whole(text))


def write(path: Path, records: Sequence[Record]) -> None:
    """Write all records anew, gzipped where the name ends with .gz; the same ones give the same
    bytes."""
    lines = [json.dumps(record.to_json(), ensure_ascii=False) for record in records]
    data = ("\n".join(lines) + "\n").encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    files.write_bytes(path, data)


class Appender:
    """Adds records to a file; each is on the disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, record: Record) -> None:
        """Append one record."""
        json_lines.append(self._path, record.to_json())
