"""Files of questions with their checks: JSON lines (also gzipped) and CSV.

Knows what a question is; nothing about models or how answers are made.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.errors import RequestError
from ondevice.files import write_bytes
from ondevice.nearest import nearest
from ondevice.runtime.evaluate.checkers import Check, Exact, from_json, to_json


@dataclass(frozen=True)
class Example:
    """One question. `reference` is a right answer as a person would write it.

    `max_tokens` bounds the answer, in tokens. `schema` is a JSON schema that constrained output
    may use. `data_class` is a class of the routing policy, such as "restricted".
    """

    id: str
    prompt: str
    check: Check
    system: str | None = None
    family: str = ""
    template: str = ""
    split: str = ""
    tier: str = ""
    reference: str = ""
    max_tokens: int = 96
    schema: dict[str, Any] | None = None
    data_class: str = ""


_FIELDS = tuple(field.name for field in dataclasses.fields(Example))
_JSON_KEYS = (*_FIELDS, "answer")
_CSV_COLUMNS = (*_FIELDS, "answer")
_TEXT_FIELDS = ("id", "prompt", "family", "template", "split", "tier", "reference", "data_class")


def read(path: Path | str) -> list[Example]:
    """Read `.jsonl`, `.jsonl.gz` or `.csv`.

    A plain `answer` instead of `check` means: exactly this. Raises `RequestError` naming the
    file and the line for anything that cannot be read as questions.
    """
    path = Path(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = _json_lines(path)
    elif path.suffix == ".csv":
        rows = _csv_rows(path)
    else:
        raise RequestError(f"{path}: questions are .jsonl, .jsonl.gz or .csv files")
    examples: list[Example] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        try:
            example = _example(row)
        except RequestError as error:
            raise RequestError(f"{path} line {line}: {error}") from error
        if example.id in lines:
            first = lines[example.id]
            raise RequestError(f"{path} lines {first} and {line} have the same id {example.id!r}")
        lines[example.id] = line
        examples.append(example)
    if not examples:
        raise RequestError(f"{path} holds no questions; give one a line")
    return examples


def write(path: Path | str, examples: Sequence[Example]) -> None:
    """Replace a `.jsonl` or `.jsonl.gz` file atomically; equal examples give equal bytes."""
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise RequestError(f"{path}: questions are written as .jsonl or .jsonl.gz")
    data = "".join(_line(example) + "\n" for example in examples).encode()
    if path.suffix == ".gz":
        data = _gzipped(data)
    write_bytes(path, data)


def _gzipped(data: bytes) -> bytes:
    # Not gzip.compress: its header names the operating system.
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def _line(example: Example) -> str:
    data: dict[str, Any] = {}
    for field in dataclasses.fields(example):
        value = getattr(example, field.name)
        if field.name == "check":
            data["check"] = to_json(value)
        elif value != field.default:
            data[field.name] = value
    return json.dumps(data, ensure_ascii=False)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RequestError(f"{path} is no whole gzip file; write it again") from error
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{path} line {line} is not UTF-8; save the file as UTF-8") from error


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: JSON strings may hold U+2028 and its like.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or large"
            raise RequestError(f"{path} line {number} is no JSON: {reason}") from error
        if not isinstance(row, dict):
            raise RequestError(f"{path} line {number} has to be a JSON object, one question a line")
        for key in row:
            _known(f"{path} line {number}", "key", key, _JSON_KEYS)
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise RequestError(f"{path} is empty; its first line has to name the columns")
        for name in header:
            _known(f"{path} line 1", "column", name, _CSV_COLUMNS)
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise RequestError(f"{path} line 1 names the column {twice[0]!r} twice")
        _require_columns(path, header)
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, _cells(f"{path} line {line}", header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{path} line {reader.line_num} is no CSV: {error}") from error


def _require_columns(path: Path, header: list[str]) -> None:
    for name in ("id", "prompt"):
        if name not in header:
            raise RequestError(f"{path} line 1: the column {name!r} is missing")
    if "answer" not in header and "check" not in header:
        raise RequestError(f"{path} line 1: the column 'answer' (or 'check') is missing")


def _cells(where: str, header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise RequestError(f"{where} has {len(cells)} cells, the first line names {len(header)}")
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if cell == "" and name not in ("id", "prompt"):
            continue
        row[name] = cell
        if name in ("check", "schema"):
            try:
                row[name] = json.loads(cell)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"{where}: {name} is no JSON; quote it as CSV") from error
        elif name == "max_tokens" and cell.strip().isdecimal():
            row[name] = int(cell) if len(cell) < 10 else cell
    return row


def _known(where: str, what: str, name: str, valid: Sequence[str]) -> None:
    if name not in valid:
        raise RequestError(f"{where}: unknown {what} {name!r}; {nearest(name, valid)}")


def _example(row: dict[str, Any]) -> Example:
    """The question of one row whose keys are known. Raises `RequestError` without the place."""
    for name in ("id", "prompt"):
        if name not in row:
            raise RequestError(f"{name!r} is missing")
    if "check" in row and "answer" in row:
        raise RequestError("give 'check' or 'answer', not both")
    if "check" not in row and "answer" not in row:
        raise RequestError("'answer' (or 'check') is missing")
    for name in (*_TEXT_FIELDS, "answer", "system"):
        value = row.get(name, "")
        if not (isinstance(value, str) or (name == "system" and value is None)):
            raise RequestError(f"{name!r} has to be text, not {value!r:.60}")
    if not row["id"].strip() or not row["prompt"].strip():
        raise RequestError("'id' and 'prompt' must not be empty")
    limit = row.get("max_tokens", 96)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RequestError(f"'max_tokens' has to be a whole number above 0, not {limit!r:.60}")
    schema = row.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise RequestError(f"'schema' has to be a JSON object, not {schema!r:.60}")
    check = from_json(row["check"]) if "check" in row else Exact((row["answer"],))
    kept = {name: row[name] for name in _FIELDS if name in row and name != "check"}
    if "answer" in row:
        kept.setdefault("reference", row["answer"])
    return Example(check=check, **kept)
